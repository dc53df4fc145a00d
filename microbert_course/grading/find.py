"""Which files are graded, whose they are, and what cannot be graded for its name or kind."""

import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.grading.tasks import lesson_of

ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")


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
    """All of them in the order of their ids, and a line for everything that looks handed in and is passed over.

    Raises: CourseError for a path that does not exist, or if there is none."""
    found: dict[str, Submission] = {}
    lines: list[str] = []
    places = set()
    paths = [Path(path) for path in paths]
    for given in paths:
        if not os.path.lexists(given):
            raise CourseError(f"{text(given)} does not exist: give notebooks, or folders that hold them")
        is_folder = given.is_dir() and not given.is_symlink()
        front = Path(os.path.abspath(given)).name if is_folder and len(paths) > 1 else ""
        for path in _walk(given, lines, out, known) if is_folder else [given]:
            place = os.path.join(os.path.realpath(path.parent), path.name)
            if place in places:
                continue
            places.add(place)
            names = [text(Path(front, path.relative_to(given) if is_folder else path.name)), text(place)]
            name = next(name for name in itertools.chain(names, (f"{names[1]} ({number})" for number in itertools.count(2))) if name not in found)
            found[name] = _submission(name, path, lesson, known)
    if not found:
        raise CourseError(f"no notebooks (*.ipynb) in {', '.join(map(text, paths))}: give the folder that holds the submissions")
    return [found[name] for name in sorted(found)], lines


def text(path: str | Path) -> str:
    "A path that can be printed and written anywhere: what is no text in it, or steers a terminal, is spelled out."
    plain = os.fsencode(path).decode(errors="backslashreplace").replace(os.sep, "/")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in plain)


def _submission(name: str, path: Path, lesson: str | None, known: Sequence[str]) -> Submission:
    lesson = lesson or lesson_of(path.name, known)
    if path.is_symlink():
        problem = "is a symbolic link, which is not followed" + (": give the folder itself" if path.is_dir() else "")
    else:
        problem = "" if lesson else f"its name says no exercise (such as {known[0]}): rename it, or give --exercise"
    return Submission(name, path, lesson, problem)


def _walk(folder: Path, lines: list[str], out: Path, known: Sequence[str]) -> Iterator[Path]:
    "Every *.ipynb below a folder, what is hidden and our own results left out; links are not followed."
    def unreadable(error: OSError) -> None:
        lines.append(f"{text(error.filename)}: cannot be read ({error.strerror})")

    for place, folders, files in os.walk(folder, onerror=unreadable):
        for path in (Path(place, name) for name in sorted([*folders, *files])):
            name = path.name.lower()
            if name.endswith(".ipynb") and not name.startswith("._"):  # those are macOS's notes beside a file, in every archive it makes
                yield path
            elif path.is_symlink():
                lines.append(f"{text(path)}: is a symbolic link, which is not followed")
            elif not name.startswith(".") and (name.endswith(ARCHIVES) or ".ipynb" in name or lesson_of(name, known)) and not path.is_dir():
                lines.append(f"{text(path)}: is no *.ipynb file, so it is not graded: unpack or rename it")
        folders[:] = sorted(name for name in folders if not name.startswith(".") and os.path.realpath(Path(place, name)) != os.path.realpath(out))
