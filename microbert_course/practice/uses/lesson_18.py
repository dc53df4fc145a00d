"""How answers of lesson 18 are put to use."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from microbert_course.practice.uses import gradients


def attention(answer: Callable, query: Tensor, key: Tensor, value: Tensor, upstream: Tensor | None = None, **options: Any) -> Any:
    "The gathered vectors; with `upstream`, a gradient of them, the gradients too."
    if upstream is None:
        return answer(query, key, value, **options)

    def called(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return answer(query, key, value, **options)

    return gradients(called, upstream, query=query, key=key, value=value)
