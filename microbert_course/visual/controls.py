"""What a reader can move: sliders, choices, switches, lines of text and squares to paint, as data."""

from dataclasses import dataclass, replace
from typing import Any

from microbert_course.errors import CourseError

KINDS = ("whole", "number", "steps", "choice", "switch", "text", "paint")


@dataclass(frozen=True)
class Control:
    "One setting of an explorable. What depends on the live objects (how many layers there are) is set by the explorable's `fit`."

    name: str  # the argument of the drawing function
    label: str  # what stands beside it, short
    kind: str  # one of KINDS: "steps" is a slider over `choices`, "paint" a square of switches whose value is a tuple of (row, column)
    start: Any
    low: float = 0  # of "whole" and "number"; rows and columns of "paint" are `high`
    high: float = 0
    step: float = 1
    choices: tuple = ()  # of "steps" and "choice"
    labels: tuple[str, ...] = ()  # what the choices, or the rows of "paint", are called; () = as they are
    as_you_type: bool = False  # of "text": follow every key, not only Enter
    given: tuple[tuple[str, Any], ...] = ()  # other settings under which this one matters; () = it always does

    @property
    def elsewhere(self) -> Any:
        "Another value than the start: what a test moves it to."
        if self.kind in ("whole", "number"):
            return self.high if self.high != self.start else self.low
        if self.kind in ("steps", "choice"):
            return next(choice for choice in reversed(self.choices) if choice != self.start)
        if self.kind == "switch":
            return not self.start
        if self.kind == "paint":
            return ((0, 0),) if not self.start else ()
        return f"{self.start} again and again"

    def names(self) -> tuple[str, ...]:
        "What the choices are called."
        return self.labels or tuple(f"{choice:,}" if isinstance(choice, int) else str(choice) for choice in self.choices)

    def check(self, value: Any) -> Any:
        """The value, if it is one of this control.

        Raises: CourseError with what would be right."""
        remedy = self._refusal(value)
        if remedy:
            raise CourseError(f"{self.name} is {value!r}: {remedy}")
        return value

    def _refusal(self, value: Any) -> str | None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind == "whole" and not (isinstance(value, int) and is_number and self.low <= value <= self.high):
            return f"choose a whole number from {self.low:g} to {self.high:g}"
        if self.kind == "number" and not (is_number and self.low <= value <= self.high):
            return f"choose a number from {self.low:g} to {self.high:g}"
        if self.kind in ("steps", "choice") and value not in self.choices:
            return "choose one of " + ", ".join(str(choice) for choice in self.choices)
        if self.kind == "switch" and not isinstance(value, bool):
            return "choose True or False"
        if self.kind == "text" and not (isinstance(value, str) and value.strip()):
            return "type a few words"
        if self.kind == "paint" and not all(isinstance(cell, tuple) and len(cell) == 2 and all(0 <= place < self.high for place in cell)
                                            for cell in (value if isinstance(value, tuple) else [None])):
            return f"give a tuple of (row, column), each from 0 to {self.high - 1:g}"
        return None

    def nearest(self, value: Any) -> Any:
        "The value of this control that is nearest to one it does not have; its start where nothing is near."
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind in ("whole", "number") and is_number:
            return type(self.start)(min(max(value, self.low), self.high))
        if self.kind in ("steps", "choice") and is_number and all(isinstance(choice, (int, float)) for choice in self.choices):
            return min(self.choices, key=lambda choice: abs(choice - value))
        return self.choices[0] if self.choices else ()

    def fitted(self, **changes) -> "Control":
        "The control for these live objects; a start that is no longer there becomes the nearest that is."
        control = replace(self, **changes)
        return control if control._refusal(control.start) is None else replace(control, start=control.nearest(control.start))
