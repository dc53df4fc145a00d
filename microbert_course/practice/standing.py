"""Where a learner stands: every exercise with what the record says of it, the points, and which one comes next."""

from dataclasses import dataclass

from microbert_course.practice.exercises import Exercise, exercises
from microbert_course.practice.record import NOTHING, read_progress

SIGNS = {"passed": "✓", "tried": "~", "looked at": "?", "open": "○"}
"""A sign for each state, so that nothing depends on colours."""


@dataclass(frozen=True)
class Place:
    "One exercise and what has been done about it."

    exercise: Exercise
    entry: dict
    """As `record.read_progress` has it."""

    @property
    def state(self) -> str:
        "passed, tried, looked at (a hint or the solution, no attempt), or open."
        if self.entry["passed"]:
            return "passed"
        return "tried" if self.entry["attempts"] else "looked at" if self.entry["hints"] or self.entry["solution_seen"] else "open"

    @property
    def facts(self) -> str:
        "Such as `passed, 2 attempts, 1 hint`."
        counts = [f"{self.entry[name]} {name.removesuffix('s') if self.entry[name] == 1 else name}" for name in ("attempts", "hints") if self.entry[name]]
        return ", ".join([self.state, *counts, *["solution seen"] * self.entry["solution_seen"]])


def standing() -> list[Place]:
    """All exercises, in order.

    Raises: CourseError if the progress file is damaged."""
    entries = read_progress()
    return [Place(exercise, entries.get(exercise.id, NOTHING)) for exercise in exercises()]


def points(places: list[Place]) -> tuple[int, int]:  # earned, and all there are
    "The points of what is passed."
    return sum(place.exercise.points for place in places if place.state == "passed"), sum(place.exercise.points for place in places)


def sum_in_words(places: list[Place]) -> str:
    "Such as `35 of 1020 points, 4 of 94 exercises passed`."
    earned, total = points(places)
    return f"{earned} of {total} points, {sum(place.state == 'passed' for place in places)} of {len(places)} exercises passed"


def next_place(places: list[Place], after: str | None = None) -> Place | None:  # after: an exercise's id; None = the one passed last
    "The first exercise behind that one which is not passed, else the first before it; None if all are passed."
    passed = [(place.entry["passed"], number) for number, place in enumerate(places) if place.state == "passed"]
    if after is None and passed:
        after = places[max(passed)[1]].exercise.id
    start = next((number + 1 for number, place in enumerate(places) if place.exercise.id == after), 0)
    return next((place for place in places[start:] + places[:start] if place.state != "passed"), None)
