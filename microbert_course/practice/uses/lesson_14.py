"How answers to the exercises of lesson 14 are put to use."

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def packed(
    buckets: Callable, sizes: list[int], dtypes: list[str], devices: list[str], trained: list[bool], **settings: Any,
) -> list[list[int]]:
    "Which of the parameters, numbered from 0, share a bucket. They come one by one, as a model gives them out."
    parameters = [nn.Parameter(torch.zeros(size, dtype=getattr(torch, dtype), device=device), requires_grad=is_trained)
                  for size, dtype, device, is_trained in zip(sizes, dtypes, devices, trained, strict=True)]
    numbers = {id(parameter): number for number, parameter in enumerate(parameters)}
    return [[numbers[id(parameter)] for parameter in bucket] for bucket in buckets(iter(parameters), **settings)]


def ring(answer: Callable, held: list[Tensor]) -> dict[str, Any]:
    "What every process holds in the end, and how much each has sent."
    tensors, sent = answer(held)
    return {"the sums": list(tensors), "the numbers sent": [int(number) for number in sent]}


def gradients(answer: Callable, weight: Tensor, bias: Tensor, parts: list[list[tuple[Tensor, Tensor]]]) -> dict[str, Any]:
    "Loss and gradients of a linear layer that answers the questions."
    model = nn.Linear(weight.size(1), weight.size(0), dtype=weight.dtype)
    model.weight.data.copy_(weight)
    model.bias.data.copy_(bias)
    loss, means = answer(model, parts)
    return {"the gradients": [gradient.detach() for gradient in means], "the loss": float(loss)}
