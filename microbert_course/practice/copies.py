"""A learner's copies of the exercise notebooks, in `work/`: begun, found, begun anew."""

import datetime
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.files import make_folder, write_whole
from microbert_course.paths import course_root, work_dir
from microbert_course.practice.exercises import find


def copy_of(lesson: str) -> Path:
    "Where the copy of a lesson's exercises is, or would be."
    return work_dir() / f"{lesson}.ipynb"


def begun_copy(lesson: str) -> Path:
    """The copy of a lesson's exercises.

    Raises: CourseError if there is none."""
    copy = copy_of(lesson)
    if not copy.exists():
        raise CourseError(f"{copy} does not exist: `microbert exercise start {lesson[:2]}` makes it")
    return copy


def start(name: str) -> Path:  # a lesson's number or name, or one of its exercises -> the copy
    """Copy a lesson's exercises for a learner to work on.

    Raises: CourseError if there are none, or a copy is there already."""
    lesson = find(name)[0].lesson
    copy = copy_of(lesson)
    if copy.exists():
        raise CourseError(f"{copy} is there already: go on with it, or `microbert exercise reset {lesson[:2]}` begins anew and keeps the old one")
    make_folder(copy.parent, "name another folder in MICROBERT_WORK")
    write_whole(copy, (course_root() / "exercises" / copy.name).read_bytes())
    return copy


def reset(name: str) -> tuple[Path, Path]:  # the new copy, and where the old one is kept
    """Begin a lesson's exercises anew; the old copy is kept under another name.

    Raises: CourseError if there is no copy."""
    copy = begun_copy(find(name)[0].lesson)
    when = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S-%f")
    kept = copy.with_name(f"{copy.stem}.{when}.ipynb")
    copy.rename(kept)
    return start(copy.stem), kept
