"How answers to the exercises of lesson 19 are put to use."

from collections.abc import Callable
from typing import Any

import numpy as np

from microbert_course.data.packing import Example


def packed(answer: Callable, ids: list[np.ndarray], labels: list[np.ndarray], max_seq_len: int, pad_id: int) -> dict[str, np.ndarray]:
    "The four tables of the rows that the examples are packed into."
    examples = [Example(*pair) for pair in zip(ids, labels, strict=True)]
    rows = answer(examples, max_seq_len, pad_id)
    return {name: np.asarray(getattr(rows, name)) for name in ("input_ids", "document_numbers", "position_ids", "labels")}


def draws(answer: Callable, sizes: dict[str, int], percent: dict[str, int], seed: int, start: int, stop: int) -> dict[str, Any]:
    "The sets and the rows that some draws of a mixture are."
    drawn = answer(sizes, {name: number / 100 for name, number in percent.items()}, seed, start, stop)
    return {"the sets": [str(name) for name, _ in drawn], "the rows": [int(row) for _, row in drawn]}
