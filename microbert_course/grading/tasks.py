"""What is graded: the tasks of a lesson, which lesson a file belongs to, and a fingerprint of all that decides a grade."""

import ast
import hashlib
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import microbert_course
from microbert_course.errors import CourseError
from microbert_course.lessons.cells import python_tree, read_notebook
from microbert_course.paths import course_root
from microbert_course.practice import uses
from microbert_course.practice.checking import Check
from microbert_course.practice.exercises import BEGIN, checks, exercises, names_lesson
from microbert_course.practice.outcomes import Case
from microbert_course.practice.plain import dump


@dataclass(frozen=True)
class Task:
    "One exercise, as the grader sees it."

    check: Check
    number: str
    title: str
    points: int
    key: tuple[int, ...]
    """What the random numbers of its inputs depend on, besides the seed."""

    @cached_property
    def use(self) -> str:
        """Where the sandbox finds how an answer is put to use.

        Raises: CourseError if that is not a function of `practice.uses`."""
        use = self.check.use
        if not use.__module__.startswith(uses.__name__) or not use.__qualname__.isidentifier():
            raise CourseError(f"{self.check.id} is put to use by {use.__module__}:{use.__qualname__}, which no sandbox has: "
                              "move it into microbert_course.practice.uses")
        return f"{use.__module__}:{use.__qualname__}"


@dataclass
class Sheet:
    "All tasks of one lesson, with the inputs of this grading: the same for every submission, drawn once."

    lesson: str
    tasks: tuple[Task, ...]
    seed: int
    fingerprint: str = ""
    preload: tuple[str, ...] = ()
    """Modules that every submission of this lesson imports: a sandbox imports them once, not once an exercise."""

    def __post_init__(self):
        self._lock, self._cases = threading.Lock(), {}

    @property
    def max_points(self) -> int:
        return sum(task.points for task in self.tasks)

    @property
    def builds(self) -> list[str]:
        "The names in the library that these tasks ask for."
        return [task.check.builds for task in self.tasks if task.check.builds]

    def cases(self, index: int) -> Sequence[Case]:
        with self._lock:
            if index not in self._cases:
                task = self.tasks[index]
                self._cases[index] = task.check.cases(np.random.default_rng([self.seed, *task.key]))
            return self._cases[index]

    def job(self, index: int, cells: Sequence[str]) -> bytes:
        "What the sandbox is told of a task: the notebook's code, the name, the use, the inputs; nothing of what is right."
        task = self.tasks[index]
        return dump({"cells": list(cells), "name": task.check.name, "use": task.use, "cases": list(self.cases(index))})


def course_sheet(lesson: str, seed: int) -> Sheet:
    """The tasks of a lesson of the course.

    Raises: CourseError if it has none."""
    chosen = [one for one in exercises() if one.lesson == lesson]
    known = checks(lesson)
    if lacking := [one.id for one in chosen if one.id not in known]:
        raise CourseError(f"exercise {lacking[0]} has no check, so it cannot be graded: add it to checks/lesson_{lesson[:2]}.py")
    tasks = tuple(Task(known[one.id], one.number, one.title, one.points, (int(lesson[:2]), place)) for place, one in enumerate(chosen))
    notebook = course_root() / "solutions" / f"{lesson}.ipynb"
    return Sheet(lesson, tasks, seed, fingerprint(notebook), imports_of(notebook))


def imports_of(path: Path) -> tuple[str, ...]:
    "The modules that a lesson's own cells import, answers left out."
    found = []
    for cell in read_notebook(path)["cells"]:
        tree = python_tree(cell["source"]) if cell["cell_type"] == "code" and BEGIN not in cell["source"] else None
        for node in tree.body if tree else ():
            found += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            found += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
    return tuple(dict.fromkeys(found))


def lessons() -> list[str]:
    "The lessons that have exercises."
    return list(dict.fromkeys(one.lesson for one in exercises()))


def lesson_named(word: str, known: Sequence[str]) -> str:
    """The lesson that `--exercise` names: 3, 03 or 03_attention.

    Raises: CourseError if there is none."""
    found = [lesson for lesson in known if names_lesson(word, lesson)]
    if not found:
        raise CourseError(f"--exercise {word} is no lesson with exercises: give one of {', '.join(known)}")
    return found[0]


def lesson_of(file_name: str, known: Sequence[str]) -> str | None:
    "The one lesson whose notebook's name occurs in a file's name; whatever a learning platform put around it may stay."
    plain = re.sub(r"[^a-z0-9]+", "_", file_name.lower())
    found = [lesson for lesson in known if re.search(rf"(?<![a-z0-9]){lesson}(?![a-z0-9])", plain)]
    return found[0] if len(found) == 1 else None


def fingerprint(notebook: Path) -> str:  # of the solutions, which say the points
    "A hash of the course's own code and of a lesson's exercises: a grade given by other checks is no grade of these."
    root = Path(microbert_course.__file__).parent
    files = [path for path in sorted(root.rglob("*.py")) if path.relative_to(root).parts[0] not in ("cli", "lessons", "visual")]
    found = hashlib.sha256(microbert_course.__version__.encode() + notebook.read_bytes())
    for path in files:
        found.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return found.hexdigest()

