"""Which lessons there are, and the one that a name means."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.lessons.cells import read_notebook
from microbert_course.paths import course_root


@dataclass(frozen=True)
class Lesson:
    "One notebook under nbs/."

    number: str  # "03"; the file's name where it has no number
    path: Path
    title: str
    summary: str  # the `>` sentence under the title


def read_lesson(path: Path) -> Lesson:
    "Number, title and summary of a notebook, from its name and its title cell."
    markdown = [cell["source"] for cell in read_notebook(path)["cells"] if cell["cell_type"] == "markdown"]
    title_cell = next((source for source in markdown if source.startswith("# ")), f"# {path.stem}")
    summary = next((line[2:].strip() for line in title_cell.splitlines() if line.startswith("> ")), "")
    number = re.match(r"\d+(?=_)", path.name)
    return Lesson(number.group() if number else path.stem, path, title_cell.splitlines()[0][2:].strip(), summary)


def lesson_paths(root: Path | None = None) -> list[Path]:
    "The notebooks under nbs/ that are lessons, by number; not index.ipynb, nothing hidden or in a checkpoint folder."
    nbs = (root or course_root()) / "nbs"
    found = [path for path in nbs.rglob("*.ipynb") if path.name != "index.ipynb"
             and not any(part.startswith((".", "_")) for part in path.relative_to(nbs).parts)]
    return sorted(found, key=lambda path: (path.name, path))


def lessons(root: Path | None = None) -> list[Lesson]:
    """Every lesson, by number.

    Raises: CourseError if a notebook cannot be read, or two lessons have the same number."""
    found = [read_lesson(path) for path in lesson_paths(root)]
    for lesson, following in zip(found, found[1:], strict=False):
        if lesson.number == following.number:
            raise CourseError(f"{lesson.path.name} and {following.path.name} have the same number: rename one of them")
    return found


def find(name: str | Path, root: Path | None = None) -> Lesson:
    """The lesson with this number ("03"), file name ("03_attention", "attention") or path.

    Raises: CourseError naming the nearest lessons if there is none."""
    wanted = str(name)
    if wanted.endswith(".ipynb") and Path(wanted).is_file():
        return read_lesson(Path(wanted).resolve())
    found = lessons(root)
    stem = Path(wanted).name.removesuffix(".ipynb")
    for lesson in found:
        if stem in (lesson.number, lesson.path.stem, _bare(lesson)) or stem.zfill(2) == lesson.number:
            return lesson
    raise CourseError(f"no lesson {wanted!r}: {_nearest(stem, found)}")


def _bare(lesson: Lesson) -> str:
    return re.sub(r"^\d+_", "", lesson.path.stem)


def _nearest(wanted: str, found: list[Lesson]) -> str:
    names = {word.lower(): lesson for lesson in reversed(found)
             for word in (lesson.path.stem, lesson.number, lesson.title, _bare(lesson))}
    near = dict.fromkeys(names[word].path.stem for word in difflib.get_close_matches(wanted.lower(), names, n=5, cutoff=0.5))
    if near:
        return "did you mean " + " or ".join(list(near)[:3]) + "?"
    return "there are " + ", ".join(lesson.path.stem for lesson in found) if found else "nbs/ holds no lessons"
