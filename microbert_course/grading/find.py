"""Which files are graded, whose they are, and what cannot be graded for its name or kind."""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.grading.tasks import lesson_of


@dataclass(frozen=True)
class Submission:
    "One row of the results."

    id: str
    """Where it lies in the folder that was given; its name if it was given itself."""
    path: Path
    lesson: str | None
    problem: str = ""
    """Why it cannot be graded, if that is seen from outside."""

    @property
    def slug(self) -> str:
        "A folder's name that is safe everywhere and different for every id."
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", self.id.removesuffix(".ipynb")).strip("._-")[:60]
        return f"{plain or 'submission'}-{hashlib.sha256(self.id.encode()).hexdigest()[:10]}"


def submissions(paths: Iterable[Path], lesson: str | None, known: Sequence[str], out: Path) -> tuple[list[Submission], list[str]]:
    """All of them in the order of their ids, and a line for everything that was passed over.

    Raises: CourseError for a path that does not exist, or if there is none."""
    found: dict[str, Submission] = {}
    lines: list[str] = []
    paths = [Path(path) for path in paths]
    for given in paths:
        if not os.path.lexists(given):
            raise CourseError(f"{given} does not exist: give notebooks, or folders that hold them")
        inside = list(_walk(given, lines, out)) if given.is_dir() and not given.is_symlink() else [given]
        for path in inside:
            name = _text(path.name if path == given else path.relative_to(given))
            if name in found or (len(paths) > 1 and path != given):
                name = f"{_text(given.resolve().name)}/{name}"
            if name in found:
                name = _text(path.absolute())
            if name not in found:
                found[name] = _submission(name, path, lesson, known)
    if not found:
        raise CourseError(f"no notebooks (*.ipynb) in {', '.join(map(str, paths))}: give the folder that holds the submissions")
    return [found[name] for name in sorted(found)], lines


def _text(path: object) -> str:
    return os.fsencode(path).decode(errors="backslashreplace").replace(os.sep, "/")


def _submission(name: str, path: Path, lesson: str | None, known: Sequence[str]) -> Submission:
    lesson = lesson or lesson_of(path.name, known)
    problem = "" if lesson else f"its name says no exercise (such as {known[0]}): rename it, or give --exercise"
    return Submission(name, path, lesson, problem)


def _walk(folder: Path, lines: list[str], out: Path):
    "Every *.ipynb below a folder, hidden folders and our own results left out; links are not followed."
    def unreadable(error: OSError) -> None:
        lines.append(f"{_text(error.filename)}: cannot be read ({error.strerror})")

    for place, folders, files in os.walk(folder, onerror=unreadable):
        here = Path(place)
        for name in sorted(folders):
            if (here / name).is_symlink():
                lines.append(f"{_text(here / name)}: is a symbolic link, which is not followed")
                if name.lower().endswith(".ipynb"):
                    yield here / name
            elif name.lower().endswith(".ipynb"):
                yield here / name
        folders[:] = sorted(name for name in folders if not name.startswith(".") and (here / name).absolute() != out.absolute())
        for name in sorted(files):
            if name.lower().endswith(".ipynb"):
                yield here / name
            elif (here / name).is_symlink():
                lines.append(f"{_text(here / name)}: is a symbolic link, which is not followed")
