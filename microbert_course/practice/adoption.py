"""Adopting: a learner's passing function becomes the library's, for that learner, until it is dropped."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from microbert_course.errors import CourseError
from microbert_course.files import make_folder, write_whole
from microbert_course.paths import work_dir
from microbert_course.practice.answers import stand_alone
from microbert_course.practice.checking import examine
from microbert_course.practice.exercises import Exercise, find
from microbert_course.practice.swap import adopted_files, load_adopted


def adopt_answer(exercise: Exercise, answer: Any) -> Path:  # the file of adopted code
    """Take an answer into the library's place, from the next start of a kernel on. It is checked once more, standing alone.

    Raises: CourseError if the exercise builds nothing of the library, or the answer does not pass."""
    check = exercise.check
    if check.builds is None:
        raise CourseError(f"{exercise.id} builds nothing of the library: adopt one of kind build")
    header = f"# Adopted from exercise {exercise.number}, {exercise.id}. `microbert adopt --drop {exercise.id}` gives the library's own back.\n\n"
    with TemporaryDirectory() as room:
        trial = Path(room) / f"{check.builds}.py"
        trial.write_text(header + stand_alone(answer), encoding="utf-8")
        verdict = examine(check, load_adopted(trial), secrets.randbits(63))
        if not verdict.passed:
            raise CourseError(f"{check.name} does not pass its check, so it is not adopted: {verdict.headline}")
        path = work_dir() / "adopted" / trial.name
        make_folder(path.parent, "name another folder in MICROBERT_WORK")
        write_whole(path, trial.read_bytes())
    return path


def drop(names: Sequence[str]) -> list[str]:  # what is the library's own again
    """Forget adopted code, by its name in the library or by what `find` knows; without names, all of it.

    Raises: CourseError if nothing was adopted under one of the names."""
    here, chosen = adopted_files(), {}
    for name in names or here:
        found = {name} if name in here else {one.check.builds for one in find(name)} & here.keys()
        if not found:
            raise CourseError(f"{name} is not adopted: `microbert adopt --list` shows what is")
        chosen |= dict.fromkeys(sorted(found))
    for name in chosen:
        here[name].unlink()
    return list(chosen)
