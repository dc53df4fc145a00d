"""How answers of lesson 16 are put to use."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from microbert_course.practice.uses import gradients


def rotation(answer: Callable, vectors: Tensor, cos: Tensor, sin: Tensor, upstream: Tensor | None = None) -> Any:
    """The turned vectors; with `upstream`, a gradient of them, the gradients too.

    For bfloat16 vectors also whether each number is the one of bfloat16 that lies next to what comes out for the same vectors in float32."""
    if upstream is not None:
        return gradients(answer, upstream, vectors=vectors, cos=cos, sin=sin)
    turned = answer(vectors, cos, sin)
    if vectors.dtype != torch.bfloat16:
        return turned
    return {"the vectors": turned, "rounded once": is_next_to(turned, answer(vectors.float(), cos, sin))}


def is_next_to(coarse: Any, precise: Any) -> bool:
    "Whether two tensors differ by half a step of bfloat16 at most, wherever it is that the numbers lie."
    if not isinstance(coarse, Tensor) or not isinstance(precise, Tensor) or coarse.shape != precise.shape:
        return False
    half_step = torch.finfo(torch.bfloat16).eps / 2 * torch.exp2(precise.abs().log2().floor())
    return bool(((coarse - precise).abs() <= half_step + 1e-5).all())
