"""What a learner calls in an exercise notebook: check, hint, solution, adopt, progress. Each shows a short answer under its cell."""

import secrets
import sys
from dataclasses import dataclass
from typing import Any

from microbert_course.errors import CourseError
from microbert_course.practice.adoption import adopt_answer
from microbert_course.practice.checking import Verdict, examine
from microbert_course.practice.exercises import Exercise, exercises, find_one
from microbert_course.practice.record import next_hint, read_progress, record_attempt, record_solution_seen

MISSING = object()


@dataclass(frozen=True)
class Shown:
    "A short answer: text in a terminal, a rendered note in JupyterLab."

    title: str
    text: str = ""
    """Markdown, shown as it is in a terminal."""
    details: str = ""
    """Lines in the font of code."""
    hint_for: str | None = None
    """The exercise for which a button offers a hint."""
    passed: bool = False
    """Whether it says that an answer holds."""

    def __repr__(self) -> str:
        return "\n".join(filter(None, [self.title, self.text, self.details]))

    def _repr_markdown_(self) -> str:
        details = f"```text\n{self.details}\n```" if self.details else ""
        return "\n\n".join(filter(None, [f"**{self.title}**", self.text, details]))

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display({"text/plain": repr(self), "text/markdown": self._repr_markdown_()}, raw=True)
        if self.hint_for:
            _show_hint_button(self.hint_for)


def _show_hint_button(id: str) -> None:
    "A button that shows the next hint below it, where widgets are to be had."
    try:
        from ipywidgets import Button, Output, VBox
    except ImportError:
        return
    from IPython.display import display

    button, place = Button(description="Hint", tooltip=f"the next of three hints to {id}"), Output()

    def show(_) -> None:
        place.clear_output()
        with place:
            display(hint(id))

    button.on_click(show)
    display(VBox([button, place]))


def check(id: str, answer: Any = MISSING) -> Shown:
    """Whether your answer holds, on fresh inputs each time; if not, which mistake it is, or what differed.

    Without `answer`, the name that the exercise asks for is looked up where you call from.
    Raises: CourseError if no exercise has that id."""
    exercise = find_one(id)
    if answer is MISSING:
        answer = sys._getframe(1).f_globals.get(exercise.check.name, MISSING)
    return judged(exercise, answer)


def judged(exercise: Exercise, answer: Any) -> Shown:
    "The verdict on an answer (MISSING: there is none), recorded."
    name = exercise.check.name
    if answer is MISSING:
        return Shown(f"{exercise.number} {exercise.title}: not yet", f"There is no {name} so far: run the cell that defines it.", hint_for=exercise.id)
    verdict = examine(exercise.check, answer, secrets.randbits(63))
    if verdict.not_yet:
        return Shown(f"{exercise.number} {exercise.title}: not yet", f"Write {name} where the blank is, run that cell, then this one.", hint_for=exercise.id)
    record_attempt(exercise.id, verdict.passed)
    return shown_verdict(exercise, verdict)


def shown_verdict(exercise: Exercise, verdict: Verdict) -> Shown:
    "The verdict in words: the mistake first."
    if verdict.passed:
        stands_in = f"\n\n`adopt(\"{exercise.id}\")` puts your {exercise.check.name} in the library's place." if exercise.check.builds else ""
        return Shown(f"{exercise.number} {exercise.title}: passed, {exercise.points} points", exercise.afterwards + stands_in, passed=True)
    return Shown(f"{exercise.number} {exercise.title}: {verdict.headline}", "", verdict.details, hint_for=exercise.id)


def hint(id: str) -> Shown:
    """The next of the three hints.

    Raises: CourseError if no exercise has that id."""
    exercise = find_one(id)
    number = next_hint(exercise.id, len(exercise.hints))
    rest = f'That was the last. `solution("{id}")` shows the answer.' if number == len(exercise.hints) else ""
    return Shown(f"{exercise.number}, hint {number} of {len(exercise.hints)}", exercise.hints[number - 1] + ("\n\n" + rest if rest else ""))


def solution(id: str) -> Shown:
    """The solution. Looking is allowed; your own progress file remembers it, and nobody else.

    Raises: CourseError if no exercise has that id."""
    exercise = find_one(id)
    record_solution_seen(exercise.id)
    return Shown(f"{exercise.number} {exercise.title}: one solution", exercise.afterwards, exercise.solution)


def adopt(answer: Any) -> Shown:
    """Put your passing function (or the exercise's, by its id) in the library's place, for you alone.

    Raises: CourseError if it does not pass its check, or builds nothing of the library."""
    if isinstance(answer, str):
        exercise = find_one(answer)
        answer = sys._getframe(1).f_globals.get(exercise.check.name, MISSING)
        if answer is MISSING:
            raise CourseError(f"there is no {exercise.check.name} so far: run the cell that defines it")
    else:
        name = getattr(answer, "__name__", f"{answer!r:.60}")
        found = [exercise for exercise in exercises() if exercise.check.builds and exercise.check.name == name]
        if not found:
            raise CourseError(f"no exercise builds a {name}: give a function or class under the name that its exercise asks for")
        exercise = found[0]
    adopt_answer(exercise, answer)
    return Shown(f"{exercise.check.builds} is now yours", "Every lesson runs on it from the next start of its kernel. "
                 f"`microbert adopt --drop {exercise.id}` gives the library's own back.")


def progress() -> Shown:
    "All exercises: which are done, with how many attempts and hints, and the points so far."
    return Shown("Your progress", "", "\n".join(progress_lines(exercises())))


def progress_lines(known: list[Exercise]) -> list[str]:
    "One line an exercise, and the sum."
    entries, lines, points = read_progress(), [], 0
    width = max((len(exercise.id) for exercise in known), default=0)
    for exercise in known:
        entry = entries.get(exercise.id)
        state = "-" if not entry else "passed" if entry["passed"] else "tried" if entry["attempts"] else "looked at"
        points += exercise.points if state == "passed" else 0
        facts = [f"{entry['attempts']} attempts", f"{entry['hints']} hints"] + ["solution seen"] * entry["solution_seen"] if entry else []
        lines.append(f"{exercise.number:>5}  {exercise.id:{width}}  {exercise.kind:7}  {state:9}  {', '.join(facts)}".rstrip())
    return [*lines, f"{points} of {sum(exercise.points for exercise in known)} points"]
