"""What every training run depends on, whatever it trains, as a value."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from microbert_course.errors import CourseError


@dataclass(frozen=True)
class TrainConfig:
    """What every run depends on; frozen, so a run can be named by it. Each kind of run adds its own fields.

    Raises: CourseError, naming the field, if a value makes no sense."""

    # what is learned from
    batch_size: int = 32  # rows an update, over all processes and micro-batches
    rows_per_process: int = 0  # above 0 it sets batch_size: this many rows an update and process
    gradient_accumulation_steps: int = 1  # micro-batches an update and process: less memory, same result
    num_steps: int = 1_000  # updates
    max_tokens: int = 0  # stop early once this many tokens are read; 0 = no limit
    max_seconds: float = 0.0  # stop early once the updates took this long, interrupted parts included; 0 = no limit
    patience: int = 0  # stop early after this many looks in a row without a new best; 0 = never
    # how it is learned
    learning_rate: float = 1e-3  # at its peak
    schedule: Literal["linear", "cosine"] = "linear"  # how the rate falls after warmup
    warmup_steps: int = 0  # updates until the rate peaks
    floor: float = 0.0  # share of the peak rate left at the end
    weight_decay: float = 0.01  # on matrices; biases and norms are spared
    beta1: float = 0.9  # AdamW's memory of the gradient
    beta2: float = 0.95  # AdamW's memory of its square
    max_grad_norm: float = 1.0  # longer gradients are shortened to this
    # how it is run
    seed: int = 0  # weights, order and every draw
    eval_every: int = 200  # updates between two looks at the validation texts; a checkpoint is saved after each
    save_every: int = 0  # updates between two further checkpoints; 0 = none
    keep_checkpoints: int = 2  # how many stay; older ones go once a new one is verified
    log_every: int = 0  # updates between two log lines; 0 = as eval_every
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = "no"  # number format of the large products
    attention: Literal["auto", "flash", "efficient", "math"] = "auto"  # kernel; one that cannot run here is replaced, and the log says why
    checkpointing: bool = False  # forget activations and compute them again: less memory, a third more time
    compile: bool = False  # let torch fuse the blocks: a minute more at the start, faster afterwards on a GPU
    cuda_graph: bool = False  # on a GPU, record an update once and replay it: no waiting for Python; what cannot be recorded runs as ever
    deterministic: bool = True  # sums in the same order every time, so that a resumed run is the same to the bit; on a GPU at some cost
    device: Literal["auto", "cpu"] = "auto"  # auto takes an accelerator where there is one
    num_threads: int = 1  # CPU threads; 0 = as torch decides, which pays from a few million parameters on

    def __post_init__(self):
        for field in fields(self):
            choices, value = get_args(field.type), getattr(self, field.name)
            if field.type is int and (isinstance(value, bool) or not isinstance(value, int)):
                raise CourseError(f"{field.name} is {value!r}: give a whole number")
            if choices and value not in choices:
                raise CourseError(f"{field.name} is {value!r}: choose one of {', '.join(map(repr, choices))}")
        self.check_least(batch_size=1, gradient_accumulation_steps=1, num_steps=1, num_threads=0, warmup_steps=0, eval_every=1, seed=0,
                         save_every=0, keep_checkpoints=1, log_every=0, max_tokens=0, rows_per_process=0, patience=0)
        self.check_above_zero("learning_rate", "max_grad_norm")
        for name in ("weight_decay", "max_seconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise CourseError(f"{name} is {getattr(self, name)}: give 0 or more")
        self.check_shares("floor", "beta1", "beta2")
        if self.warmup_steps > self.num_steps:
            raise CourseError(f"warmup_steps {self.warmup_steps} is longer than the run of {self.num_steps} steps: shorten it")
        if self.batch_size % self.gradient_accumulation_steps:
            raise CourseError(f"batch_size {self.batch_size} does not split into {self.gradient_accumulation_steps} "
                              f"micro-batches: choose a multiple of {self.gradient_accumulation_steps}")

    def check_least(self, **least: int) -> None:
        "Raises: CourseError that names the first field below its least value."
        for name, value in least.items():
            if getattr(self, name) < value:
                raise CourseError(f"{name} is {getattr(self, name)}: give {value} or more")

    def check_above_zero(self, *names: str) -> None:
        "Raises: CourseError that names the first field that is not above 0, or has no end."
        for name in names:
            if not 0 < getattr(self, name) < float("inf"):
                raise CourseError(f"{name} is {getattr(self, name)}: give a number above 0")

    def check_shares(self, *names: str) -> None:
        "Raises: CourseError that names the first field outside [0, 1)."
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                raise CourseError(f"{name} is {getattr(self, name)}: give a number from 0 up to, but not including, 1")


# what a run may change when it goes on: it decides how often something is looked at, when to stop and where, not what is computed
MAY_CHANGE = ("eval_every", "save_every", "keep_checkpoints", "log_every", "max_tokens", "max_seconds", "patience", "device", "num_threads")
# what only says where something is: a run that was moved together with it reads the same, and the checkpoint's hash of that counts
PLACES = ("data", "test", "model", "reference")
