"""What differs between one kind of training run and another, as a value for the engine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from microbert_course.training.loop import MaskedLMLoss, plot_history


@dataclass
class Task:
    "What differs between one kind of run and another: a model, what it learns from, and how it is looked at."

    make_model: Callable[[], nn.Module]  # fresh, and the same each time; it has a `config` with hidden_size and num_heads
    data: Any  # `tokenizer`; `batch(step, config)`, which answers what `loop.Batch` does: slice, num_tokens, num_predicted, tensors
    fingerprint: str  # a hash of what the run reads: a run goes on with the same alone
    evaluate: Callable[[nn.Module, Accelerator], dict[str, float]]  # called by every process; has `metric` and what else is of interest
    objective: Callable[[nn.Module], nn.Module] = MaskedLMLoss  # the model with its loss inside: tensors in; summed loss and number of right answers out
    metric: str = "loss"  # what the best state is chosen by: of a loss the lowest, of anything else the highest
    baseline: dict = field(default_factory=dict)  # what the history starts with, such as {"unigram_loss": 6.5}
    about: dict = field(default_factory=dict)  # what the run is made of, for training.json
    figures: Callable[[int], dict[str, float]] = lambda step: {}  # what else the log should say of an update that was made
    plot: Callable = plot_history  # takes the history, answers an axis
    save: Callable[[nn.Module, Path], None] = lambda model, folder: model.save_pretrained(folder)
    flops_per_token: float = 0.0  # of an update, for the MFU; 0 = not known
