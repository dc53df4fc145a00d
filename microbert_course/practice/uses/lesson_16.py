"""How answers of lesson 16 are put to use."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from microbert_course.practice.uses import gradients


def rotation(answer: Callable, vectors: Tensor, cos: Tensor, sin: Tensor, upstream: Tensor | None = None) -> Any:
    "The turned vectors; with `upstream`, a gradient of them, the gradients too."
    if upstream is not None:
        return gradients(answer, upstream, vectors=vectors, cos=cos, sin=sin)
    return answer(vectors, cos, sin)
