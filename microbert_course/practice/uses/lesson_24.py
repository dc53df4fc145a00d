"""How answers of lesson 24 are put to use."""

from collections.abc import Callable
from typing import Any

import numpy as np

SCORES = {
    "mean": lambda values: values.mean(-1),
    "accuracy": lambda labels, predictions: (labels == predictions).mean(-1),
    "difference": lambda labels, this, that: (labels == this).mean(-1) - (labels == that).mean(-1),
    "per token": lambda nats, num_tokens: np.exp(nats.sum(-1) / num_tokens.sum(-1)),
}


def interval(answer: Callable, metric: str, columns: list[np.ndarray], **settings: Any) -> dict[str, Any]:
    "The score with its interval, and whether the numbers are plain floats."
    found = answer(SCORES[metric], *columns, **settings)
    numbers = {"value": found.value, "low": found.low, "high": found.high}
    return {**numbers, "plain floats": all(type(number) is float for number in numbers.values())}
