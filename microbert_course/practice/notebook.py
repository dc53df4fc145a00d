"""What a learner calls in an exercise notebook: check, hint, solution, adopt, progress. Each shows a short answer under its cell."""

import secrets
import sys
from typing import Any

from microbert_course.errors import CourseError
from microbert_course.practice.adoption import adopt_answer
from microbert_course.practice.checking import Verdict, examine
from microbert_course.practice.exercises import Exercise, exercises, find_one
from microbert_course.practice.notes import Shown
from microbert_course.practice.progress_board import progress_lines
from microbert_course.practice.record import next_hint, record_attempt, record_solution_seen
from microbert_course.practice.standing import standing, sum_in_words

MISSING = object()


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
        return Shown(f"{exercise.number} {exercise.title}: passed, {exercise.points} points", f"{sum_in_words(standing())}.\n\n{exercise.afterwards}{stands_in}",
                     passed=True, next_after=exercise.id)
    return Shown(f"{exercise.number} {exercise.title}: {verdict.headline}", "", verdict.details, hint_for=exercise.id)


def hint(id: str) -> Shown:
    """The next of the three hints.

    Raises: CourseError if no exercise has that id."""
    exercise = find_one(id)
    return hint_note(exercise, next_hint(exercise.id, len(exercise.hints)))


def hint_note(exercise: Exercise, number: int) -> Shown:  # number: from 1
    "One of the three hints."
    rest = f'That was the last. `solution("{exercise.id}")` shows the answer.' if number == len(exercise.hints) else ""
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
    return Shown("Your progress", "", "\n".join(progress_lines(standing())))
