"How answers to the exercises of lesson 10 are put to use."

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def scaler_walk(
    answer: type,
    settings: dict,
    weights: list[Tensor],
    gradients: list[list[Tensor | None]],  # one an update and weight, as backward() would leave them; None = no gradient
    loss: Tensor,  # scalar, scaled once an update
    unscale_first: list[bool],  # one an update: whether somebody wants to see the gradients before the step
    reload_before: int | None = None,  # the update before which a new scaler takes over the old one's saved state
) -> list[dict[str, Any]]:  # one an update
    "What a scaler makes of these gradients, with plain gradient descent of rate 1; every weight is a group of its own."
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    optimizer, scaler, record = torch.optim.SGD([{"params": [p]} for p in parameters], lr=1.0), answer(**settings), []
    for number, (update, first) in enumerate(zip(gradients, unscale_first, strict=True)):
        if number == reload_before:
            saved, scaler = copy.deepcopy(scaler.state_dict()), answer()
            scaler.load_state_dict(saved)
        for parameter, gradient in zip(parameters, update, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        seen = {"the scaled loss": scaler.scale(loss.clone()).detach()}
        if first:
            seen["unscale_ says"] = bool(scaler.unscale_(optimizer))
            seen["the gradients"] = [None if p.grad is None else p.grad.clone() for p in parameters]
        seen["step says"] = bool(scaler.step(optimizer))
        record.append({**seen, "the scale": float(scaler.loss_scale), "the weights": [p.detach().clone() for p in parameters]})
    return record


def halves_walk(
    answer: Callable,
    weight: Tensor,  # (n,) bfloat16
    updates: Tensor,  # (updates, n) float32
) -> dict[str, Any]:
    "Where many updates lead a weight that is kept in two halves."
    rest = torch.zeros_like(weight)
    for update in updates:
        weight, rest = answer(weight, rest, update.clone())
    return {"the weight's dtype": str(weight.dtype), "the rest's dtype": str(rest.dtype), "the weight": weight.double(),
            "weight and rest together": weight.double() + rest.double()}
