"How answers to the exercises of lesson 08 are put to use."

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR


def curve(schedule: Callable, steps: list[int], **settings: Any) -> dict[str, Any]:
    "The factor at each of the steps."
    factors = [schedule(step, **settings) for step in steps]
    return {"the factors": factors, "the factors are plain numbers": all(isinstance(factor, int | float) for factor in factors)}


def optimizer_walk(
    answer: type,
    groups: list[dict],  # each with its "weights", a list of tensors, and settings of its own
    gradients: list[list[Tensor | None]],  # one an update and weight, group after group; None = no gradient
    settings: dict,
    reload_before: int | None = None,  # the update before which a new optimizer takes over the old one's saved state
) -> dict[str, Any]:  # the weights after every update, whether all gradients are what they were, and the memory's dtype
    "Where an optimizer leads the weights, if the gradients are these."
    parameters = [[nn.Parameter(weight.clone()) for weight in group["weights"]] for group in groups]
    own = [{name: value for name, value in group.items() if name != "weights"} for group in groups]

    def fresh() -> torch.optim.Optimizer:
        return answer([{"params": mine, **theirs} for mine, theirs in zip(parameters, own, strict=True)], **settings)

    def is_like(parameter: nn.Parameter) -> bool:
        held = optimizer.state.get(parameter, {})
        tensors = [one for one in (held.values() if isinstance(held, dict) else held) if isinstance(one, Tensor)]
        return all(one.dtype == parameter.dtype for one in tensors if one.shape == parameter.shape)

    flat, path, kept, alike, optimizer = sum(parameters, []), [], True, True, fresh()
    for number, update in enumerate(gradients):
        if number == reload_before:  # as another process would: with parameters that are other objects
            saved, parameters = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(parameters)
            flat, optimizer = sum(parameters, []), fresh()
            optimizer.load_state_dict(saved)
        for parameter, gradient in zip(flat, update, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        optimizer.step()
        path.append([parameter.detach().clone() for parameter in flat])
        alike &= all(map(is_like, flat))
        kept &= all(parameter.grad is not None and torch.equal(parameter.grad, gradient)
                    for parameter, gradient in zip(flat, update, strict=True) if gradient is not None)
    return {"the weights": path, "the gradients are what they were": kept, "the memory has the parameters' dtype": alike}


def updates(
    update: Callable,
    weight: Tensor,  # (outputs, inputs)
    batches: list[list[tuple[Tensor, Tensor]]],  # one an update: its micro-batches
    learning_rate: float,
    loss_scale: float,
    max_grad_norm: float,
) -> list[dict[str, Any]]:  # one an update: what it told, the weight and the next rate
    "What becomes of a linear layer, trained by gradient descent with a rate that falls as 1, 1/2, 1/3 …"
    model = nn.Linear(weight.size(1), weight.size(0), bias=False, dtype=weight.dtype)
    model.weight.data.copy_(weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    schedule, record = LambdaLR(optimizer, lambda step: 1 / (1 + step)), []
    for parts in batches:
        with warnings.catch_warnings():  # torch warns of a schedule that moves too early; the verdict says it better
            warnings.simplefilter("ignore")
            grad_norm = update(model, optimizer, schedule, parts, loss_scale, max_grad_norm)
        record.append({"the length told": grad_norm, "the weight": model.weight.detach().clone(),
                       "the next rate": optimizer.param_groups[0]["lr"]})
    return record


def rule_walk(rule: Callable, position: Tensor, gradients: list[Tensor], **settings: Any) -> dict[str, Any]:
    "Where a rule leads, and whether its memory is no larger than the sum of the sides."
    memory, path, limit = {}, [], sum(position.shape)
    for gradient in gradients:
        position = rule(position, gradient, memory, **settings)
        path.append(position.clone())
    return {"the path": path, "the memory's size (at most rows + columns)": bool(_numbers_in(memory) <= limit)}


def _numbers_in(kept: Any) -> int:
    "How many numbers the tensors in there hold; a single number costs nothing."
    if isinstance(kept, dict | list | tuple):
        return sum(map(_numbers_in, kept.values() if isinstance(kept, dict) else kept))
    return kept.size if isinstance(kept, np.ndarray) and kept.ndim else kept.numel() if isinstance(kept, Tensor) and kept.ndim else 0
