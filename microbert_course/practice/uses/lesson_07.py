"""The NumPy encoder's functions work in memory that they are given. These uses give it to them, and show what stands there afterwards."""

from collections.abc import Callable
from typing import Any

import numpy as np

STALE = 7.0  # what stands in memory that is to be filled: anything but zeros


def cross_entropy(answer: Callable, scores: np.ndarray, **inputs: Any) -> dict[str, Any]:
    "The loss, and what stands where the scores were."
    memory = scores.copy()
    return {"the loss": answer(memory, **inputs), "scores afterwards": memory}


def layer_norm_backward(answer: Callable, d_y: np.ndarray, **inputs: Any) -> dict[str, Any]:
    "What is returned, and what stands where the gradient of the output was."
    memory = d_y.copy()
    return {"the pair returned": answer(memory, **inputs, scratch=np.full_like(d_y, STALE)), "d_y afterwards": memory}


def attention_backward(answer: Callable, weights: np.ndarray, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    "The three gradients. As in the encoder, heads are views into arrays of (batch, seq, hidden)."
    views = {name: as_heads(array) for name, array in inputs.items()}
    filled = {name: as_heads(np.full_like(inputs["query"], STALE)) for name in ("d_query", "d_key", "d_value")}
    answer(weights=weights, **views, **filled, scratch=np.full_like(weights[0], STALE))
    for name, array in inputs.items():
        array[...] = views[name]  # so that whoever changed an input is seen
    return filled


def as_heads(array: np.ndarray) -> np.ndarray:  # (batch, num_heads, seq, head_dim), both
    "The same numbers as a view, tokens outside and heads inside."
    return np.ascontiguousarray(array.swapaxes(1, 2)).swapaxes(1, 2)
