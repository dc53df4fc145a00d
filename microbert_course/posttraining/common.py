"""What several kinds of training after pretraining need: where a model comes from, and how long something took."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from microbert_course.data.weights import WEIGHTS, fetch_weights
from microbert_course.training.settings import TrainConfig


def base_folder(model: str) -> Path:  # a name that `microbert fetch` knows, or a folder
    """Where the encoder is that a run begins with.

    Raises: CourseError if weights of that name are not on this machine."""
    return fetch_weights(model) if model in WEIGHTS else Path(model)


class Stopwatch:
    "Seconds between its starts and its stops, added up: of the clock, and of all processors together."

    def __init__(self):
        self.total, self.begun = np.zeros(2), None

    def _now(self) -> np.ndarray:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # the work is done, not only asked for
        return np.array([time.perf_counter(), time.process_time()])

    def start(self) -> None:
        "From here on it counts; started twice, from the second time."
        self.begun = self._now()

    def stop(self) -> dict:  # empty, so that it can be a task's `figures`
        "Until here."
        self.total += self._now() - self.begun
        return {}

    @property
    def seconds(self) -> tuple[float, float]:  # of the clock, of the processors
        "What it has counted."
        return float(self.total[0]), float(self.total[1])


class TimedData:
    "What a run learns from, with a watch that starts whenever a batch is asked for: an update begins with that."

    def __init__(self, data: Any, watch: Stopwatch):
        self.data, self.watch, self.tokenizer = data, watch, data.tokenizer

    def batch(self, step: int, config: TrainConfig) -> Any:
        "As the data has it."
        self.watch.start()
        return self.data.batch(step, config)
