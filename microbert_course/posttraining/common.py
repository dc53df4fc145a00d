"""What several kinds of training after pretraining need: where a model comes from, and how long something took."""

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from microbert_course.data.weights import WEIGHTS, fetch_weights
from microbert_course.errors import CourseError
from microbert_course.models.lora import LoraConfig, add_lora, merge, remove_lora
from microbert_course.models.lora_folders import has_adapters, save_adapter
from microbert_course.pretrained import carried_models, pretrained_folder
from microbert_course.training.loop import seed_for
from microbert_course.training.settings import TrainConfig


def base_folder(model: str) -> Path:  # a name that `microbert fetch` or `microbert models list` knows, or a folder
    """Where the encoder is that a run begins with.

    Raises: CourseError if weights of that name are not on this machine, or damaged."""
    if model in carried_models():
        return pretrained_folder(model)
    return fetch_weights(model) if model in WEIGHTS else Path(model)


def with_lora(
    model: nn.Module,
    config: TrainConfig,  # with lora_rank, lora_alpha and lora_targets
    also_train: tuple[str, ...] = (),  # names of modules that are trained whole, such as a fresh "classifier"
) -> nn.Module:  # the same model
    """Freeze a model and put low-rank changes beside its linears (lesson 20), a function of the run's seed.

    Raises: CourseError if a target is no linear of the model."""
    targets = tuple(filter(None, config.lora_targets.split(","))) or None
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(config.seed, "lora"))
            add_lora(model, LoraConfig(config.lora_rank, config.lora_alpha, targets=targets, also_train=also_train))
    except ValueError as error:
        raise CourseError(str(error)) from None
    return model


def plain(model: nn.Module) -> nn.Module:
    "A model without adapters: the same one if it has none, else a copy with the one in use merged into its weights."
    if not any(map(has_adapters, model.modules())):
        return model
    model = copy.deepcopy(model)
    merge(model)
    return remove_lora(model)


def save_plain(model: nn.Module, folder: Path) -> None:
    "What transformers opens; and beside it, in `adapter`, what peft opens, if the model has an adapter."
    plain(model).save_pretrained(folder)
    if any(map(has_adapters, model.modules())):
        save_adapter(model, folder / "adapter")


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
