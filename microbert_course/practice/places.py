"""Going from exercise to exercise inside JupyterLab: start, reset, next. Each answers with a link to the notebook it speaks of."""

import os
import urllib.parse
from pathlib import Path

from microbert_course.lessons.cells import read_notebook
from microbert_course.paths import work_dir
from microbert_course.practice import copies
from microbert_course.practice.exercises import Exercise, find, find_one
from microbert_course.practice.notes import Shown
from microbert_course.practice.standing import next_place, standing


def start(name: str) -> Shown:  # a lesson's number, such as "03", or one of its exercises
    """Copy a lesson's exercises into your work folder, and show where they are; a copy that is there already is left as it is.

    Raises: CourseError if there are none."""
    lesson = find(name)[0].lesson
    there = copies.copy_of(lesson).exists()
    copy = copies.copy_of(lesson) if there else copies.start(lesson)
    own = find(lesson)
    facts = f"{len(own)} exercises, {sum(exercise.points for exercise in own)} points. "
    return Shown(f"Exercises {lesson.replace('_', ' ')}: " + ("there already" if there else "ready"), facts + f"Open {link(copy)}.")


def reset(name: str) -> Shown:  # a lesson's number, such as "03", or one of its exercises
    """Begin a lesson's exercises anew; your old copy is kept under another name.

    Raises: CourseError if there is no copy."""
    copy, kept = copies.reset(name)
    return Shown(f"Exercises {copy.stem.replace('_', ' ')}: begun anew",
                 f"{link(copy)} is new, your old one is {link(kept)}. If it is open, choose *File → Reload Notebook from Disk*; "
                 "asked about a change on disk, choose *Revert*.")


def next_exercise(after: str | None = None) -> Shown:  # an id or a number; None = the exercise passed last
    """The next exercise that you have not passed, with a link to it; its lesson's exercises are copied if they are not yet.

    Raises: CourseError if no exercise has that id."""
    place = next_place(standing(), find_one(after).id if after is not None else None)
    if place is None:
        return Shown("All exercises are passed", "There is no next one. `board()` shows what you have done.")
    exercise = place.exercise
    copy = copies.copy_of(exercise.lesson)
    if not copy.exists():
        copies.start(exercise.lesson)
    return Shown(f"Next: {exercise.number} {exercise.title}",
                 f"{exercise.kind} · {exercise.difficulty} · {exercise.minutes} minutes · {exercise.points} points. Go to {link(copy, cell_of(copy, exercise))}.")


def cell_of(copy: Path, exercise: Exercise) -> str:  # "" if the learner took it out
    "The anchor of the cell with an exercise's header, as JupyterLab knows it."
    cells = read_notebook(copy, f"`microbert exercise reset {exercise.lesson[:2]}` begins anew and keeps it under another name")["cells"]
    return next((f"cell-id={cell['id']}" for cell in cells if cell["source"].startswith(f"## {exercise.number} ") and "id" in cell), "")


def link(path: Path, anchor: str = "") -> str:
    "A path as markdown: a link where the notebook that asks can reach it, in any case readable."
    name = path.relative_to(work_dir().parent).as_posix() if path.is_relative_to(work_dir().parent) else str(path)
    try:
        target = Path(os.path.relpath(path.resolve(), asking_folder())).as_posix()
    except ValueError:  # another drive
        return f"`{name}`"
    return f"[{name}](<{urllib.parse.quote(target)}{'#' + anchor if anchor else ''}>)"


def asking_folder() -> Path:
    "The folder of the notebook whose kernel this is, as Jupyter tells it; else the current one."
    told = Path(os.environ.get("JPY_SESSION_NAME", ""))
    return told.parent.resolve() if told.is_absolute() and told.parent.is_dir() else Path.cwd()
