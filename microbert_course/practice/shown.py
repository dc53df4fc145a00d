"""Values as text that fits a screen: the inputs and results that a check shows a learner."""

from typing import Any

import numpy as np
import torch

MARGIN = "\n" + " " * 10  # lines after the first stand under it


def shown(value: Any, room: int = 400) -> str:  # room: signs of text
    "A value as text, cut to what fits."
    if isinstance(value, torch.Tensor):
        text = _tensor(value)
    elif isinstance(value, dict):
        text = "{" + ", ".join(f"{key}: {shown(item, room // 2)}" for key, item in value.items()) + "}"
    elif isinstance(value, tuple | list) and any(isinstance(item, torch.Tensor) for item in value):
        text = "\n".join(f"[{number}] {shown(item, room // 2)}" for number, item in enumerate(value))
    else:
        text = repr(value)
    text = text if len(text) <= room else f"{text[:room]} …"
    return text.replace("\n", MARGIN)


def _tensor(value: torch.Tensor) -> str:
    "Shape, dtype and numbers; of a tensor with many axes its first matrix."
    first = value.float() if value.dtype == torch.bfloat16 else value
    while first.ndim > 2 and len(first):
        first = first[0]
    with np.printoptions(precision=4, threshold=40, edgeitems=2, suppress=True):
        numbers = np.array2string(first.numpy(), separator=", ")
    dtype = str(value.dtype).removeprefix("torch.")
    if value.ndim < 2:
        return f"{numbers}  {dtype}"
    place = f" at [{', '.join('0' * (value.ndim - 2))}]" if value.ndim > 2 else ""
    return f"{tuple(value.shape)} {dtype}{place}:\n{numbers}"
