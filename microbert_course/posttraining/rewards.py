"""Rewards that can be verified: they look at the answer, not at how it sounds. Each is called with prompts, completions and answers, and gives a score each.

A model finds every way to a high score, the unintended ones first (Krakovna et al. 2020): so a reward here reads the final answer alone, demands it in
one place, and gives nothing for what cannot be read."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from microbert_course.errors import CourseError

Reward = Callable[[Sequence[str], Sequence[str], Sequence[str]], Sequence[float] | Tensor]  # prompts, completions, answers: a score each

_NUMBER = re.compile(r"(?<![\w.])[-+]?[$€£]?\s?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:(?<=\d)\.\d+|\.\d+)?(?:[eE][-+]?\d{1,3}(?!\w))?(?:\s?/\s?\d+(?!\d))?")
_FRACTION = re.compile(r"(?<!\d)(?<!\d )\\[dt]?frac\{(-?\d+)\}\{(\d+)\}")
_UNREADABLE = re.compile(r"\\[dt]?frac\s*\d*(?:\{(?:[^{}]|\{[^{}]*\})*\})*|(?<=\d)[^\S\n]+\d+\s?/\s?\d+(?!\d)")  # \frac{\pi}{2}, and 3 1/2
_MINUS = str.maketrans({"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{NO-BREAK SPACE}": " "})


def parse_number(
    text: str,  # a completion, or a reference answer
) -> Fraction | None:  # exact; None = there is no number
    r"""The number that a text gives as its answer: in its last \boxed{…}, else after its last ####, else the last in the text.

    Thousands may have commas, amounts a currency sign, a unit may follow; 3/4, \frac{3}{4}, .5 and 1e3 are numbers. Where a place for the answer is
    marked and holds no number, there is none: what stands elsewhere does not count."""
    text = text.translate(_MINUS)
    marked = _boxed(text)
    if marked is None and "####" in text:
        marked = text.rpartition("####")[2].strip().partition("\n")[0]
    text = (text if marked is None else marked).replace(r"\$", "$").replace("{,}", ",").replace(r"\,", "")
    text = _UNREADABLE.sub(" 1/0 ", _FRACTION.sub(r"\1/\2", text))  # 1/0 is no number: what stands last and cannot be read is not passed over
    found = [match.group() for match in _NUMBER.finditer(text) if any(sign.isdigit() for sign in match.group())]
    if not found:
        return None
    try:
        return Fraction(re.sub(r"[$€£,\s+]", "", found[-1].replace("e+", "e").replace("E+", "e")))
    except (ValueError, ZeroDivisionError):
        return None


def _boxed(text: str) -> str | None:
    r"What the last \boxed{…} holds, braces within it balanced; None if there is none that is closed."
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len(r"\boxed")
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[begin + 1 : place]
    return None


def numeric_reward(
    prompts: Sequence[str],
    completions: Sequence[str],
    answers: Sequence[str],  # each with a number
    tolerance: float = 0.0,  # how far off may be right, as a share of the answer; 0 = exactly equal
) -> list[float]:  # 1.0 = the number is right, else 0.0
    """Whether the number that a completion ends with is the answer's (Cobbe et al. 2021, §2; the rule-based reward of DeepSeek-R1, §2.2.2).

    Raises: CourseError if an answer has no number."""
    wanted = [parse_number(answer) for answer in answers]
    if None in wanted:
        number = wanted.index(None)
        raise CourseError(f"answer {number} is {answers[number]!r} and has no number to compare with: correct it, or score it with label_reward")
    found = [parse_number(completion) for completion in completions]
    return [float(given is not None and abs(given - right) <= Fraction(tolerance) * abs(right)) for given, right in zip(found, wanted, strict=True)]


def plain_word(text: str) -> str:
    "A text as labels are compared: small letters, no white space around it, no mark at its end."
    return text.strip().rstrip(".!").strip().casefold()


def label_reward(prompts: Sequence[str], completions: Sequence[str], answers: Sequence[str]) -> list[float]:  # 1.0 = right, else 0.0
    "Whether a completion is the label and nothing else: one that lists all labels names the right one too, and earns nothing."
    return [float(plain_word(given) == plain_word(right)) for given, right in zip(completions, answers, strict=True)]


def format_reward(
    pattern: str,  # a regular expression for the whole completion, white space around it left out
) -> Reward:
    "A reward of 1 for completions of this form, whatever they say: to be a small term beside one that reads the answer."
    form = re.compile(pattern, re.DOTALL)
    return lambda prompts, completions, answers: [float(bool(form.fullmatch(completion.strip()))) for completion in completions]


def model_reward(
    score: Callable[[Sequence[str], Sequence[str]], Sequence[float] | Tensor],  # prompts and completions: a score each
) -> Reward:
    "A reward model, or any judge that needs no answer, as a reward. It is an opinion: what it overlooks will be found (Gao et al. 2023)."
    return lambda prompts, completions, answers: score(prompts, completions)


@dataclass(frozen=True)
class Term:
    "One reason for a reward, and what it counts."

    name: str  # what it is called in logs
    reward: Reward
    weight: float = 1.0


def scores_of(
    name: str,  # what the reward is called
    reward: Reward,
    prompts: Sequence[str],
    completions: Sequence[str],  # one for each prompt
    answers: Sequence[str],  # one for each prompt
) -> Tensor:  # (completions,) float32, on the CPU
    """What a reward answers, looked at before anything learns from it.

    Raises: CourseError if it is not one finite number a completion."""
    given = reward(prompts, completions, answers)
    try:
        scores = torch.as_tensor(given, dtype=torch.float32).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise CourseError(f"the reward {name!r} answers {str(given)[:60]}, which are no numbers ({error}): give one number for each completion") from None
    if scores.shape != (len(completions),):
        raise CourseError(f"the reward {name!r} gives {tuple(scores.shape)} scores for {len(completions)} completions: give one number for each")
    if not scores.isfinite().all():
        number = int((~scores.isfinite()).nonzero()[0])
        raise CourseError(f"the reward {name!r} is {scores[number].item()} for completion {number}, {completions[number][:60]!r}: give a finite number, "
                          f"0 for what cannot be scored")
    return scores


def total_reward(
    terms: Sequence[Term],  # the first is the goal; the others help
    prompts: Sequence[str],
    completions: Sequence[str],
    answers: Sequence[str],
) -> tuple[Tensor, dict[str, Tensor]]:  # (completions,), the weighted sum; each term's scores by name, as they are without weight
    """What each completion earns, and for what.

    Raises: CourseError if a term's scores are not one finite number a completion."""
    scores = {term.name: scores_of(term.name, term.reward, prompts, completions, answers) for term in terms}
    return sum(term.weight * scores[term.name] for term in terms), scores


def share_equal(values: Sequence[object], wanted: Sequence[object]) -> float:  # 1.0 = all, 0.0 = none
    "How many values are what they should be; numbers may differ in their last digits, a tuple is a list, and True is not 1, within lists and dicts too."
    same = [_is_same(value, right) for value, right in zip(values, wanted, strict=True)]
    return sum(same) / len(same)


def _is_same(value: object, right: object) -> bool:
    if isinstance(value, list | tuple) and isinstance(right, list | tuple):
        return len(value) == len(right) and all(map(_is_same, value, right))
    if isinstance(value, dict) and isinstance(right, dict):
        return value.keys() == right.keys() and all(_is_same(value[key], right[key]) for key in right)
    return type(value) is type(right) and value == right or _close(value, right)


def _close(value: object, right: object) -> bool:
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (value, right))
    return numbers and math.isclose(value, right, rel_tol=1e-9)
