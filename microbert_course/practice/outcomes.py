"""What comes of putting an answer to use: the half of a check that runs beside the answer, and knows nothing of what is right."""

import random
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from microbert_course.errors import CourseError
from microbert_course.practice.plain import NotPlain, dump, load

Case = dict[str, Any]   # the inputs of one use, by name: plain values only
LIBRARIES = ("microbert_course", "site-packages", "<frozen", sysconfig.get_path("stdlib"))  # in the names of files that no learner wrote


@dataclass(frozen=True)
class Outcome:
    "What came of one use."

    output: Any = None
    error: str | None = None
    """The type of what was raised, such as ValueError."""
    message: str = ""
    """Its text and place; for the learner's own screen only."""
    changed: tuple[str, ...] = ()
    """Inputs that are not what they were."""


def outcome(use: Callable, answer: Any, case: Case, number: int = 0) -> Outcome:
    "Put an answer to use on a copy of the inputs; whatever it raises becomes part of the outcome."
    inputs = load(dump(case))
    try:
        with usual_settings(number):
            output = load(dump(use(answer, **inputs)))
        return Outcome(output, changed=tuple(name for name in case if _bytes(inputs[name]) != dump(case[name])))
    except NotPlain as error:
        return Outcome(error="NotPlain", message=f"it returned {error}, which is no number, text, tensor, array or list of those")
    except (Exception, SystemExit) as error:  # a learner's code may raise anything
        return Outcome(error=well_known(error), message=_told(error))


@contextmanager
def usual_settings(seed: int) -> Iterator[None]:
    "Gradients on, float32, NumPy quiet, chance from `seed`, whatever a notebook has set; all as it was afterwards."
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    default_dtype = torch.get_default_dtype()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed also looks for devices, each time
    torch.set_default_dtype(torch.float32)
    try:
        with torch.enable_grad(), np.errstate(all="ignore"):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.set_default_dtype(default_dtype)


def well_known(error: BaseException) -> str:
    "The name of an error, or of the nearest kind of it that Python or the course defines."
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins" or kind is CourseError)


def _bytes(value: Any) -> bytes:
    "An input as it is after use; b'' if something without a plain form was put into it."
    try:
        return dump(value)
    except NotPlain:
        return b""


def _told(error: Exception) -> str:
    "The error's text and the line of the learner's that raised it."
    frame, line = error.__traceback__, None
    while frame:
        if not any(part in frame.tb_frame.f_code.co_filename for part in LIBRARIES):
            line = frame.tb_lineno
        frame = frame.tb_next
    return f"{type(error).__name__}: {error}" + (f" (line {line} of your cell)" if line else "")
