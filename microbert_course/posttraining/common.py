"""What several kinds of training after pretraining need: where a model comes from, and how long something took."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from microbert_course.data.weights import WEIGHTS, fetch_weights


def base_folder(model: str) -> Path:  # a name that `microbert fetch` knows, or a folder
    """Where the encoder is that a run begins with.

    Raises: CourseError if weights of that name are not on this machine."""
    return fetch_weights(model) if model in WEIGHTS else Path(model)


class Stopwatch:
    "Seconds of a run without those spent on looking: of the clock, and of all processors together."

    def __init__(self):
        self.looking, self.begun = np.zeros(2), self._now()

    def _now(self) -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])

    def leaving_out(self, look: Callable) -> Callable:
        "The same function, its time not counted."
        def timed(*args):
            begun = self._now()
            try:
                return look(*args)
            finally:
                self.looking += self._now() - begun
        return timed

    def read(self) -> tuple[float, float]:  # of the clock, of the processors
        "The seconds until now."
        elapsed_s, cpu_s = self._now() - self.begun - self.looking
        return float(elapsed_s), float(cpu_s)
