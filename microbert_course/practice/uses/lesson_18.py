"""How answers of lesson 18 are put to use."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from microbert_course.practice.uses import gradients


def attention(answer: Callable, query: Tensor, key: Tensor, value: Tensor, upstream: Tensor | None = None, **options: Any) -> Any:
    """The gathered vectors; with `upstream`, a gradient of them, the gradients too.

    With a single key that some queries drop, what can be said of every draw: a query has gathered nothing or a whole value, and both happen."""
    if 0 < options.get("dropout", 0) < 1:
        is_zero = answer(query, key, value, **options) == 0
        return {"nothing or a whole value": bool((is_zero.all(dim=-1) == is_zero.any(dim=-1)).all()), "some are dropped": bool(is_zero.any()),
                "some are kept": not bool(is_zero.all())}
    if upstream is None:
        return answer(query, key, value, **options)

    def called(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return answer(query, key, value, **options)

    return gradients(called, upstream, query=query, key=key, value=value)
