"""Who checks the checks: every one is tried on its own right and wrong answers, and a page says what came of it."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from microbert_course.files import write_whole
from microbert_course.practice.checking import Check, examine
from microbert_course.practice.exercises import Exercise

SEEDS = 20       # draws of inputs for each right answer
SEEDS_WRONG = 5  # and for each wrong one, which is compared with all others every time


@dataclass(frozen=True)
class Trial:
    "What a check said to the answers it should know."

    refused_right: tuple[str, ...]
    """A line for each right answer that was refused."""
    credited_wrong: tuple[str, ...]
    """A line for each wrong answer that was not."""
    unnamed: tuple[str, ...]
    """A line for each wrong answer that was refused without being called what it is."""
    num_right: int
    """Right answers judged, each with every seed."""
    num_wrong: int
    """Wrong answers judged."""
    p95_s: float
    """CPU seconds of one check, 95th percentile."""


def try_check(
    check: Check,
    draws: int = SEEDS,  # of inputs for each right answer
) -> Trial:
    "Judge all of a check's own answers, with several seeds."
    answers = [(f"right answer {number}", answer, None, draws) for number, answer in enumerate(check.right)]
    answers += [(f"wrong answer {number}", wrong.answer, wrong.says, SEEDS_WRONG) for number, wrong in enumerate(check.wrong)]
    refused, credited, unnamed, seconds = [], [], [], []
    for name, answer, says, seeds in answers:
        for seed in range(seeds):
            start = time.process_time()
            verdict = examine(check, answer, seed)
            seconds.append(time.process_time() - start)
            line = f"{name}, seed {seed}: {verdict.headline}"
            if says is None and not verdict.passed:
                refused.append(f"{line}\n{verdict.details}")
            elif says is not None and verdict.passed:
                credited.append(f"{line}, though: {says}")
            elif says is not None and verdict.headline != says:
                unnamed.append(f"{line}, though: {says}")
    return Trial(tuple(refused), tuple(credited), tuple(unnamed), draws * len(check.right), SEEDS_WRONG * len(check.wrong),
                 statistics.quantiles(seconds, n=20)[-1])


def write_report(path: Path, known: Sequence[Exercise]) -> list[str]:  # a line for each answer that was judged wrongly
    "A table of all their checks in Markdown, with what each mistake is called."
    lines = ["# The checks, tried on answers that are known", "",
             f"Right answers must never be refused ({SEEDS} draws of inputs each), wrong ones always ({SEEDS_WRONG} draws).", "",
             "| exercise | right refused | wrong credited | wrong named | p95, CPU seconds |", "|---|---|---|---|---|"]
    zoo, faults = [], []
    for exercise in known:
        trial = try_check(exercise.check)
        faults += [f"{exercise.id}, {line}" for line in (*trial.refused_right, *trial.credited_wrong)]
        named = trial.num_wrong - len(trial.unnamed) - len(trial.credited_wrong)
        lines.append(f"| {exercise.number} {exercise.id} | {len(trial.refused_right)} of {trial.num_right} "
                     f"| {len(trial.credited_wrong)} of {trial.num_wrong} | {named / trial.num_wrong:.0%} | {trial.p95_s:.3f} |")
        zoo += ["", f"## {exercise.number} {exercise.title}", "", *(f"- {wrong.says}" for wrong in exercise.check.wrong)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "\n".join(lines + zoo) + "\n")
    return faults
