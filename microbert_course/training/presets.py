"""What a pretraining run depends on, as a value, and the values that have a name."""

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from microbert_course.errors import CourseError


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that a pretraining run depends on; frozen, so a run can be named by it.

    Raises: CourseError, naming the field, if a value makes no sense."""

    # data
    data: str = "imdb"  # a name or a path that `data.sources.load` takes
    tokenizer: Literal["words", "wordpiece"] = "wordpiece"  # how text becomes ids
    vocab_size: int = 4_000  # pieces in all; for words: how many besides the five special ones
    max_seq_len: int = 24  # tokens read of each text
    max_texts: int = 0  # training texts used; 0 = all of them
    # shape
    hidden_size: int = 64  # numbers a token is described by
    num_layers: int = 2  # transformer blocks
    num_heads: int = 2  # attention heads; hidden_size must split into them
    intermediate_size: int = 128  # width of the feed-forward
    dropout: float = 0.0  # share dropped in training; more than one epoch makes it useful
    initializer_range: float = 0.02  # standard deviation of the weights at the start
    # what is learned from
    mlm_probability: float = 0.35  # share of tokens hidden in training; validation always hides 0.15
    batch_size: int = 96  # texts an update, over all processes and micro-batches
    gradient_accumulation_steps: int = 1  # micro-batches an update and process: less memory, same result
    num_steps: int = 600  # updates
    # how it is learned
    learning_rate: float = 8e-3  # at its peak
    schedule: Literal["linear", "cosine"] = "linear"  # how the rate falls after warmup
    warmup_steps: int = 50  # updates until the rate peaks
    floor: float = 0.0  # share of the peak rate left at the end
    weight_decay: float = 0.01  # on matrices; biases and norms are spared
    beta1: float = 0.9  # AdamW's memory of the gradient
    beta2: float = 0.95  # AdamW's memory of its square
    max_grad_norm: float = 1.0  # longer gradients are shortened to this
    # how it is run
    seed: int = 0  # weights, order and masks
    eval_every: int = 200  # updates between two looks at the validation texts, and between two saved states
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"  # number format of the large products
    device: Literal["auto", "cpu"] = "auto"  # auto takes an accelerator where there is one
    num_threads: int = 1  # CPU threads; 0 = as torch decides, which pays from a few million parameters on

    def __post_init__(self):
        at_least = {"vocab_size": 1, "max_seq_len": 3, "hidden_size": 1, "num_layers": 1, "num_heads": 1,
                    "intermediate_size": 1, "batch_size": 1, "gradient_accumulation_steps": 1, "num_steps": 1,
                    "max_texts": 0, "num_threads": 0, "warmup_steps": 0, "eval_every": 1, "seed": 0}
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise CourseError(f"{name} is {getattr(self, name)}: give {least} or more")
        for name in ("learning_rate", "initializer_range", "max_grad_norm"):
            if not 0 < getattr(self, name) < float("inf"):
                raise CourseError(f"{name} is {getattr(self, name)}: give a number above 0")
        if not 0 <= self.weight_decay < float("inf"):
            raise CourseError(f"weight_decay is {self.weight_decay}: give 0 or more")
        for name in ("dropout", "floor", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise CourseError(f"{name} is {getattr(self, name)}: give a number from 0 up to, but not including, 1")
        if not 0 < self.mlm_probability < 1:
            raise CourseError(f"mlm_probability is {self.mlm_probability}: give a number between 0 and 1; BERT uses 0.15")
        for field in fields(PretrainConfig):
            choices, value = get_args(field.type), getattr(self, field.name)
            if choices and value not in choices:
                raise CourseError(f"{field.name} is {value!r}: choose one of {', '.join(map(repr, choices))}")
        if self.hidden_size % self.num_heads:
            raise CourseError(f"hidden_size {self.hidden_size} does not split into {self.num_heads} heads: "
                              f"choose a multiple of {self.num_heads}, or other num_heads")
        if self.warmup_steps > self.num_steps:
            raise CourseError(f"warmup_steps {self.warmup_steps} is longer than the run of {self.num_steps} steps: shorten it")
        if self.batch_size % self.gradient_accumulation_steps:
            raise CourseError(f"batch_size {self.batch_size} does not split into {self.gradient_accumulation_steps} "
                              f"micro-batches: choose a multiple of {self.gradient_accumulation_steps}")


PRESETS = {
    "tour": PretrainConfig(),
    "v0": PretrainConfig(
        tokenizer="words", vocab_size=10_000, max_seq_len=128, hidden_size=4, intermediate_size=16,
        initializer_range=0.05, mlm_probability=0.15, batch_size=32, num_steps=1_500, learning_rate=4e-2, warmup_steps=200,
        weight_decay=0.0, beta2=0.999,
    ),
}


def preset(
    name: str,  # a key of PRESETS
    **changes,  # fields to replace
) -> PretrainConfig:
    """A preset, with changes.

    Raises: CourseError if there is no preset, or no field, of that name."""
    if name not in PRESETS:
        raise CourseError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}")
    known = {field.name for field in fields(PretrainConfig)}
    for change in changes:
        if change not in known:
            raise CourseError(f"a run has no setting {change!r}: choose from {', '.join(sorted(known))}")
    return replace(PRESETS[name], **changes)
