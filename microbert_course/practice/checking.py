"""A check is data: inputs, a reference, how to compare, and a zoo of wrong answers, each with the sentence that explains it.

The same check judges a learner's notebook and, with the answer in a sandbox, a stranger's submission: `outcome` runs beside the
answer, `judge` where the reference is, and only plain values pass between them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from microbert_course.errors import CourseError
from microbert_course.practice import blanks, uses
from microbert_course.practice.outcomes import Case, Outcome, outcome
from microbert_course.practice.plain import dump
from microbert_course.practice.shown import shown


@dataclass(frozen=True)
class Wrong:
    "A realistic wrong answer. Whoever's outcomes equal its outcomes made this mistake."

    answer: Any
    """The wrong function, class or number."""
    says: str
    """Which mistake it is and why it matters, spoken to the learner, in one or two sentences that give no code away."""
    seen: Callable[[Any, Case], bool] | None = None
    """For answers that draw by chance: whether one output, with its case, shows the mistake; an output that has not the form of the
    reference's is None to it. None: compare with `answer`'s outcomes."""


@dataclass(frozen=True)
class Check:
    "How an exercise is judged."

    id: str
    """Topic and name, such as attention.scaled_dot_product."""
    name: str
    """What the learner's cell defines: a function, a class or a variable."""
    cases: Callable[[np.random.Generator], Sequence[Case]]
    """Fresh inputs, several cases; every draw from the generator, sizes all different, edge cases among them."""
    reference: Any
    """An answer that is right, written or found independently of the lesson (torch's own, say)."""
    wrong: tuple[Wrong, ...]
    """The zoo: at least four."""
    right: tuple[Any, ...]
    """At least two answers that are right and differently written: none may be refused."""
    use: Callable = uses.call
    """How an answer is put to use, a function of `microbert_course.practice.uses`."""
    tolerance: float | None = None
    """Difference allowed, as a share of the largest expected value; None: 32 rounding steps of the dtype (float32's for a plain float, 4 of half types)."""
    judge: Callable[[Any, Case], str | None] | None = None
    """For answers that draw by chance: what is wrong with an output, in one sentence, or None. `reference` is then only an example."""
    may_change: tuple[str, ...] = ()
    """Inputs that the answer may change in place."""
    builds: str | None = None
    """The name in the library that this answer can stand in for, such as models.attention.scaled_dot_product_attention."""


@dataclass(frozen=True)
class Verdict:
    "What a check found."

    passed: bool
    headline: str
    """One or two sentences that show no input and no expected value: what a grader's report may say."""
    mistake: int | None = None
    """Which of the zoo's wrong answers it is."""
    case: int | None = None
    """The smallest case that failed."""
    raised: str | None = None
    """What the answer raised there instead of giving a result, where that is no named mistake."""
    details: str = ""
    """Input, expected and got of that case, for a learner's own screen."""
    not_yet: bool = False
    """The blank is still a blank."""


MAY_BE_ASKED_FOR = (None, "ValueError", "CourseError", "TypeError", "IndexError", "KeyError", "StopIteration")
"""What an exercise may ask an answer to raise; any other error of a reference is a fault of the check."""
NUMBERS = bool | int | float | torch.Tensor | np.ndarray
HUGE = 1e15  # numbers that stand for infinity say nothing of how large the others are
NOT_YET = "not yet: the answer is still to be written"


def examine(check: Check, answer: Any, seed: int) -> Verdict:
    "Judge an answer that runs in this process: a learner's own; None is the blank of a number."
    if answer is None:
        return Verdict(False, NOT_YET, not_yet=True)
    cases = check.cases(np.random.default_rng(seed))
    outcomes = [outcome(check.use, answer, case, number) for number, case in enumerate(cases)]
    verdict = judge(check, cases, outcomes)
    return verdict if verdict.case is None else replace(verdict, details=_details(check, verdict.case, cases[verdict.case], outcomes[verdict.case]))


def judge(check: Check, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Verdict:
    """The verdict on what came of all cases, however it came here, details left out. Trusts nothing: no outcome, no credit.

    Raises: ValueError if the outcomes are not one a case; CourseError if the reference itself fails."""
    if not cases or len(cases) != len(outcomes):
        raise ValueError(f"{len(outcomes)} outcomes for {len(cases)} cases: give one each")
    if any(result.error == blanks.ERROR for result in outcomes):
        return Verdict(False, NOT_YET, not_yet=True)
    expected = [outcome(check.use, check.reference, case, number) for number, case in enumerate(cases)]
    if broken := [result for result in expected if result.error not in MAY_BE_ASKED_FOR]:
        raise CourseError(f"the check of {check.id} is broken, its own reference fails ({broken[0].message}): mend it in practice/checks")
    faults = [_fault(check, case, *pair) for case, *pair in zip(cases, expected, outcomes, strict=True)]
    if not any(faults):
        return Verdict(True, "passed")
    failed = [number for number, fault in enumerate(faults) if fault and not expected[number].error]
    if failed:  # results first; whether bad input is refused can wait
        group = [number for number in range(len(cases)) if not expected[number].error]
    else:
        failed, group = [number for number, fault in enumerate(faults) if fault], list(range(len(cases)))
    smallest = min(failed, key=lambda number: len(dump(cases[number])))
    for index, wrong in enumerate(check.wrong):
        if _is_this(check, wrong, [(number, cases[number], expected[number], outcomes[number]) for number in group]):
            return Verdict(False, wrong.says, index, smallest)
    return Verdict(False, faults[smallest], None, smallest, None if expected[smallest].error else outcomes[smallest].error)


def _is_this(check: Check, wrong: Wrong, seen: Sequence[tuple[int, Case, Outcome, Outcome]]) -> bool:
    "Whether the outcomes are those of this wrong answer, in every case."
    if wrong.seen:
        return any(result.error is None and _safely(wrong.seen, expected, result, case) for _, case, expected, result in seen)
    for number, case, _, result in seen:
        theirs = outcome(check.use, wrong.answer, case, number)
        if theirs.error != result.error or theirs.changed != result.changed or (
                theirs.error is None and difference(theirs.output, result.output, check.tolerance)):
            return False
    return True


def _fault(check: Check, case: Case, expected: Outcome, got: Outcome) -> str | None:
    "What is wrong with one outcome, in a sentence without its values."
    if got.error != expected.error and (expected.error, got.error) != ("ValueError", "CourseError"):  # the latter is one
        if expected.error:
            return f"{check.name} should raise {expected.error} for one of the inputs and " + (
                f"raises {got.error}" if got.error else "returns something")
        return f"{check.name} raises {got.error}"
    if got.error:
        return None
    if changed := sorted(set(got.changed) - set(check.may_change)):
        return f"{check.name} changes its input {changed[0]} in place, and the caller still needs it: work on a copy"
    if check.judge:
        return _safely(check.judge, expected, got, case, otherwise="the result has another shape or type than the exercise states")
    return difference(expected.output, got.output, check.tolerance)


def _safely(function: Callable, expected: Outcome, got: Outcome, case: Case, otherwise: Any = False) -> Any:
    "A judge written for outputs of the reference's form, given any; no other form is worked on, which could take hours and all memory."
    try:
        return function(got.output if has_form(got.output, expected.output) else None, case)
    except Exception:  # whatever an output of another form leads to
        return otherwise


def has_form(value: Any, example: Any) -> bool:
    "Whether a plain value has the parts and the shapes of another one; a number and an array of no dimensions are the same thing."
    if isinstance(example, dict):
        return isinstance(value, dict) and value.keys() == example.keys() and all(has_form(value[key], example[key]) for key in example)
    if isinstance(example, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(example) and all(map(has_form, value, example))
    if isinstance(example, NUMBERS):
        return isinstance(value, NUMBERS) and np.shape(value) == np.shape(example)
    return type(value) is type(example)


def difference(expected: Any, got: Any, tolerance: float | None = None, place: str = "the result") -> str | None:
    "How two plain values differ, in a few words without the values; None if they agree. Numbers are compared in float64."
    if isinstance(expected, dict):
        if not isinstance(got, dict) or set(expected) != set(got):
            return f"{place} should be a dict with the keys {', '.join(map(str, expected))}"
        found = (difference(expected[key], got[key], tolerance, str(key)) for key in expected)
        return next(filter(None, found), None)
    if isinstance(expected, list | tuple):
        if isinstance(got, torch.Tensor | np.ndarray) and got.ndim:  # an array is a list of its numbers, or of its rows
            got = got.tolist() if got.ndim == 1 else list(got)
        if not isinstance(got, list | tuple):
            return f"{place} should have parts and has none"
        if len(expected) != len(got):
            return f"{place} has another number of parts than expected"
        found = (difference(*pair, tolerance, f"part {number} of {place}")
                 for number, pair in enumerate(zip(expected, got, strict=True), start=1))
        return next(filter(None, found), None)
    if expected is None or isinstance(expected, str):
        return None if type(expected) is type(got) and expected == got else f"{place} is not what was expected"
    return _number_difference(expected, got, tolerance, place)


def _number_difference(expected: Any, got: Any, tolerance: float | None, place: str) -> str | None:
    "How two numbers, tensors or arrays differ; a number and an array of no dimensions are the same thing."
    if not isinstance(got, NUMBERS):
        return f"{place} should be {_kind(expected)} and is {_kind(got)}"
    if np.shape(expected) != np.shape(got):
        return f"{place} has another shape than expected"
    ours, theirs = _array(expected), _array(got)
    if ours.ndim and (isinstance(expected, torch.Tensor) != isinstance(got, torch.Tensor) or str(expected.dtype) != str(got.dtype)):
        return f"{place} is {_kind(got)} of {got.dtype}, expected {_kind(expected)} of {expected.dtype}"
    other_values = f"{place} has other values than expected"
    if "float" not in str(getattr(expected, "dtype", "float" if isinstance(expected, float) else "int")):
        exact = ours.ndim or not isinstance(got, float)  # a count that was worked out in floats may be off by their last digit
        return None if (np.array_equal(ours, theirs) if exact else abs(ours - theirs) <= 1e-9 * max(1, abs(ours))) else other_values
    tolerance = max(_rounding(expected), min(_rounding(got), _rounding(0.0))) if tolerance is None else tolerance  # a coarser dtype buys no room
    finite = np.isfinite(ours)
    if not np.array_equal(ours[~finite], theirs[~finite], equal_nan=True):
        return other_values
    ours, theirs = ours[finite], theirs[finite]
    scale = max(np.abs(ours[np.abs(ours) < HUGE]).max(initial=0.0), 1e-3)
    within = np.abs(ours - theirs) <= tolerance * np.maximum(np.where(np.abs(ours) < HUGE, scale, np.abs(ours)), scale)  # False for NaN as well
    return None if within.all() else other_values


def _array(value: Any) -> np.ndarray:
    "The numbers in float64; integers that float64 cannot hold stay integers."
    if isinstance(value, int) and abs(value) >= 2**63:
        return np.asarray(float(value))
    array = value.double().numpy() if isinstance(value, torch.Tensor) and value.is_floating_point() else np.asarray(value)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _rounding(value: Any) -> float:
    "What rounding may add up to, as a share: 32 steps of the dtype, 4 of the coarse ones; a plain float counts as float32."
    if isinstance(value, torch.Tensor):
        eps = torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0
    elif isinstance(value, np.ndarray):
        eps = float(np.finfo(value.dtype).eps) if value.dtype.kind == "f" else 0.0
    else:
        eps = float(np.finfo(np.float32).eps)
    return (4 if eps > 1e-4 else 32) * eps


def _kind(value: Any) -> str:
    return {torch.Tensor: "a tensor", np.ndarray: "a NumPy array"}.get(type(value), f"a {type(value).__name__}")


def _details(check: Check, number: int, case: Case, got: Outcome) -> str:
    "One case, small enough to read."
    lines = [f"input     {name} = {shown(value)}" for name, value in case.items()]
    if check.judge is None:
        expected = outcome(check.use, check.reference, case, number)
        lines.append(f"expected  {expected.error or shown(expected.output)}")
    return "\n".join([*lines, f"got       {got.message or shown(got.output)}"])
