"How answers to the exercises of lesson 12 are put to use."

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def packed(answer: Callable, documents: list[np.ndarray], max_seq_len: int, pad_id: int) -> np.ndarray:
    "The rows that the documents are packed into."
    return answer(documents, max_seq_len, pad_id)


def batches(answer: Callable, items: list[str], batch_size: int, start_step: int, num_steps: int, buffer_size: int, seed: int) -> dict[str, Any]:
    "The batches of some steps of a run."
    def texts() -> Iterator[str]:
        return iter(items)

    return {"the batches": [list(batch) for batch in answer(texts, batch_size, start_step, num_steps, buffer_size, seed)]}
