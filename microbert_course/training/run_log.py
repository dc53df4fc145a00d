"""What a run says while it goes on: its history, one line every so often, TensorBoard, and when it has to stop."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator

from microbert_course.errors import CourseError
from microbert_course.training.settings import TrainConfig
from microbert_course.training.speed import peak_flops

MAX_SKIPPED = 3  # updates in a row without a number, after which a run gives up
_LAG = 4  # updates that a GPU may be ahead of what is read: reading at once would make it wait
_MOST_IN_HISTORY = 10_000  # updates; a longer run writes down every second one, every third, …


class BrokenRun(CourseError):
    "A run that cannot go on: its loss or its gradients are no numbers any more."

    status = 3


class RunLog:
    "The history of a run, and everything that is said about it."

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        history: dict,  # train, validation, skipped; grows here
        metric: str = "loss",  # what the looks are judged by: of a loss the lowest is the best, of anything else the highest
        flops_per_token: float = 0.0,  # of an update; 0 = not known
        spent_s: float = 0.0,  # by the part of the run before it was interrupted
        tokens: int = 0,  # read by that part
        progress: bool = True,
        first_step: int = 0,
    ):
        from tqdm import tqdm

        self.config, self.accelerator, self.history = config, accelerator, history
        self.metric, self.flops_per_token = metric, flops_per_token
        self.tokens, self.spent_s, self.begun = tokens, spent_s, time.perf_counter()
        self.pending, self.lag = deque(), 0 if accelerator.device.type == "cpu" else _LAG
        self.num_skipped, self.log_every = 0, config.log_every or config.eval_every
        self.speaks = progress and accelerator.is_main_process
        self.every = 1 + (config.num_steps - 1) // _MOST_IN_HISTORY
        self.bar = tqdm(total=config.num_steps, initial=first_step, unit="step", desc="training", disable=not self.speaks)
        self.line_at, self.line_tokens = self.begun, 0  # when the last line was said; tokens read since
        self.peak = peak_flops(accelerator.device, config.mixed_precision) * accelerator.num_processes if self.speaks and flops_per_token else 0.0

    @property
    def elapsed_s(self) -> float:
        "Seconds of this run so far, interrupted parts included."
        return self.spent_s + time.perf_counter() - self.begun

    def add(self, update: dict) -> None:
        "Take what an update answered; it is read when the device has it."
        self.tokens += update["tokens"]
        self.line_tokens += update["tokens"]
        self.pending.append(update)
        while len(self.pending) > self.lag:
            self._read(self.pending.popleft())

    @contextmanager
    def paused(self) -> Iterator[None]:
        "What happens in this block does not count as training time in tokens/s."
        start = time.perf_counter()
        yield
        self.line_at += time.perf_counter() - start

    def flush(self) -> None:
        "Read all that is waiting: before something is saved, so that the history is as far as the weights."
        while self.pending:
            self._read(self.pending.popleft())

    def _read(self, update: dict) -> None:
        figures = {name: float(value) for name, value in update.items() if name not in ("step", "tokens", "is_finite")}
        step = update["step"]
        if not bool(update["is_finite"]):
            self._skipped(step, figures)
            return
        self.num_skipped = 0
        if step % self.every == 0:
            self.history["train"].append({"step": step, **figures})
        self.accelerator.log(figures, step=step)
        self.bar.update()
        self.bar.set_postfix(loss=f"{figures['loss']:.3f}", refresh=False)
        if (step + 1) % self.log_every == 0:
            self._line(step, figures)

    def _skipped(self, step: int, figures: dict[str, float]) -> None:
        "Raises: BrokenRun after several in a row; those by which fp16 finds its scale do not count."
        self.bar.update()
        scaler = self.accelerator.scaler
        is_search = scaler is not None and math.isfinite(figures["loss"]) and scaler.get_scale() >= 1
        self.num_skipped = 0 if is_search else self.num_skipped + 1
        shown = {name: repr(figures[name]) for name in ("loss", "grad_norm")}  # JSON has no nan
        self.history["skipped"].append({"step": step, **shown})
        text = f"update {step} is skipped: its loss is {shown['loss']} and its gradient norm {shown['grad_norm']}"
        if self.accelerator.is_main_process:
            self.bar.write(text)
        if self.num_skipped == MAX_SKIPPED:
            raise BrokenRun(f"{text}, as were the two before it: lower the learning rate (now {figures['learning_rate']:g}) "
                            f"or look at the texts of these steps")

    def _line(self, step: int, figures: dict[str, float]) -> None:
        now = time.perf_counter()
        seconds, tokens = max(now - self.line_at, 1e-9), self.line_tokens
        mfu = f", MFU {tokens * self.flops_per_token / seconds / self.peak:.1%}" if self.peak else ""
        if self.speaks:
            self.bar.write(f"update {step + 1:>6}  loss {figures['loss']:.3f}  accuracy {figures['accuracy']:.1%}  "
                           f"grad norm {figures['grad_norm']:.2f}  rate {figures['learning_rate']:.2e}  "
                           f"{tokens / seconds:,.0f} tokens/s{mfu}")
        self.accelerator.log({"tokens_per_s": tokens / seconds}, step=step)
        self.line_at, self.line_tokens = now, 0

    def evaluated(self, step: int, score: dict[str, float]) -> None:
        """Take the scores on the validation texts.

        Raises: BrokenRun if they are no numbers."""
        if not math.isfinite(score[self.metric]):
            raise BrokenRun(f"the validation {self.metric} is {score[self.metric]} at step {step}: lower the learning rate "
                            f"(now {self.config.learning_rate:g})")
        self.history["validation"].append({"step": step, **score})
        self.accelerator.log({f"validation_{name}": value for name, value in score.items()}, step=step)

    @property
    def is_out_of_patience(self) -> bool:
        "Whether the last looks, as many as the configuration allows, brought nothing better."
        return 0 < self.config.patience <= looks_since_best(self.history, self.metric)

    def budget_spent(self) -> str | None:  # which one
        "The budget that is used up, if any; all processes answer alike."
        from accelerate.utils import broadcast_object_list

        if self.config.max_tokens and self.tokens >= self.config.max_tokens:
            return f"the budget of {self.config.max_tokens:,} tokens is used up"
        if not self.config.max_seconds:
            return None
        is_over = [self.elapsed_s >= self.config.max_seconds]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(is_over)
        return f"the budget of {self.config.max_seconds:g} seconds is used up" if is_over[0] else None


def looks_since_best(
    history: dict,
    metric: str,  # of a loss the lowest is the best, of anything else the highest
) -> int:  # 0 = the newest is the best
    "How many looks at the validation texts there were since the best one; of equals the first is the best."
    scores = [-score[metric] if metric == "loss" else score[metric] for score in history["validation"]]
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0
