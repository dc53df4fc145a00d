"""The exercises as solutions/ holds them, and the notebooks in exercises/ that are made from it.

A solution notebook is a lesson's exercises one after another. Each begins with a markdown cell `## 3.1 Title` whose second line is
`` `attention.scaled_dot_product` · build · easy · 15 minutes · 10 points ``; then come its code cells, the blank between
`### BEGIN SOLUTION` and `### END SOLUTION`, `check("…")`, and two markdown cells that learners see only when they ask or succeed:
`### Hints`, a list of three, and `### Afterwards`, alternatives and reading."""

import ast
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from microbert_course.errors import CourseError
from microbert_course.files import write_whole
from microbert_course.lessons.cells import read_notebook
from microbert_course.paths import course_root
from microbert_course.practice.blanks import blank

if TYPE_CHECKING:  # it brings torch, which `make exercises` can do without
    from microbert_course.practice.checking import Check

KINDS = ("build", "repair", "extend", "measure")
DIFFICULTIES = ("easy", "medium", "hard")
HEADER = re.compile(r"## (\d+)\.(\d+) (.+)\n\n?`([a-z0-9_]+\.[a-z0-9_]+)` · (\w+) · (\w+) · (\d+) minutes · (\d+) points\s*(?:\n|$)")
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
HIDDEN = ("### Hints", "### Afterwards")
BOARD = "from microbert_course.practice import board\n\nboard()  # what you have done so far, and where to go next"
"""The last cell of every exercise notebook."""


@dataclass(frozen=True)
class Exercise:
    "One exercise, as its solution notebook states it."

    id: str
    lesson: str
    """The notebook's name, such as 03_attention."""
    number: str
    """Such as 3.1."""
    title: str
    kind: str
    difficulty: str
    minutes: int
    points: int
    statement: str
    hints: tuple[str, ...]
    afterwards: str
    """Markdown: other ways to write it, and what to read."""
    solution: str
    """The code of the answer's cells, markers left out."""

    @property
    def check(self) -> "Check":
        "What judges it."
        return checks(self.lesson)[self.id]


def solution_paths(root: Path | None = None) -> list[Path]:
    "The solution notebooks, in the order of the lessons."
    return sorted(((root or course_root()) / "solutions").glob("[0-9][0-9]_*.ipynb"))


@cache
def checks(lesson: str) -> "dict[str, Check]":  # by id
    "The checks of one lesson, from `microbert_course.practice.checks`."
    name = f"microbert_course.practice.checks.lesson_{lesson[:2]}"
    return {check.id: check for check in import_module(name).CHECKS} if find_spec(name) else {}


def exercises(root: Path | None = None) -> list[Exercise]:
    """Every exercise, in order.

    Raises: CourseError for a notebook that is not built as it should be."""
    return [exercise for path in solution_paths(root) for exercise in read_solutions(path)]


def find(name: str) -> list[Exercise]:
    """The exercises that a word names: an id, a number such as 3.1, or a lesson (3, 03 or 03_attention).

    Raises: CourseError if there are none."""
    if not isinstance(name, str):
        raise CourseError(f'{name!r:.60} is no text: give an id or a number in quotes, such as "3.1"')
    found = [one for one in exercises() if name in (one.id, one.number) or names_lesson(name, one.lesson)]
    if not found:
        raise CourseError(f"no exercise is called {name!r}: `microbert exercise list` names them all")
    return found


def find_one(name: str) -> Exercise:
    """The exercise of an id or a number.

    Raises: CourseError if there is none, or the word names a whole lesson."""
    found = find(name)
    if len(found) > 1:
        raise CourseError(f"{name} names {len(found)} exercises: give one, such as {found[0].id}")
    return found[0]


def names_lesson(word: str, lesson: str) -> bool:
    "Whether a word is 3, 03 or 03_attention, for 03_attention."
    return word in (lesson, lesson[:2], lesson[:2].lstrip("0"))


def read_solutions(path: Path) -> list[Exercise]:
    """The exercises of one solution notebook.

    Raises: CourseError naming what an exercise lacks."""
    found = []
    for cells in _sections(read_notebook(path)["cells"])[1:]:
        header = HEADER.match(cells[0]["source"])
        if not header:
            raise CourseError(f"{path}: the header {cells[0]['source'].splitlines()[:3]} is not `## 3.1 Title` and "
                              "`` `topic.name` · kind · difficulty · 20 minutes · 10 points ``: write it so")
        chapter, place, title, id, kind, difficulty, minutes, points = header.groups()
        texts = {mark: "\n\n".join(cell["source"].removeprefix(mark).strip() for cell in cells
                                   if cell["cell_type"] == "markdown" and cell["source"].startswith(mark)) for mark in HIDDEN}
        hints = tuple(re.split(r"^\d\. ", texts["### Hints"], flags=re.MULTILINE)[1:])
        answers = [cell["source"] for cell in cells if cell["cell_type"] == "code" and BEGIN in cell["source"]]
        wants = {"one of " + ", ".join(KINDS): kind in KINDS, "one of " + ", ".join(DIFFICULTIES): difficulty in DIFFICULTIES,
                 f"a number that begins with {int(path.stem[:2])}": int(chapter) == int(path.stem[:2]),
                 "three hints": len(hints) == 3, "an `### Afterwards`": bool(texts["### Afterwards"]), "a blank": bool(answers),
                 f'a cell `check("{id}")`': any(cell["source"].strip().startswith(f'check("{id}"') for cell in cells)}
        if lacks := [want for want, there in wants.items() if not there]:
            raise CourseError(f"{path}: exercise {chapter}.{place} needs {lacks[0]}")
        statement = cells[0]["source"][header.end():].strip()
        found.append(Exercise(id, path.stem, f"{chapter}.{place}", title, kind, difficulty, int(minutes), int(points), statement,
                              tuple(hint.strip() for hint in hints), texts["### Afterwards"],
                              "\n\n".join(_without_markers(answer) for answer in answers)))
    return found


def _sections(cells: list[dict]) -> list[list[dict]]:
    "The cells before the first exercise, then those of each."
    sections = [[]]
    for cell in cells:
        if cell["cell_type"] == "markdown" and cell["source"].startswith("## "):
            sections.append([])
        sections[-1].append(cell)
    return sections


def _without_markers(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if line.strip() not in (BEGIN, END))


def generate(path: Path) -> str:  # the text of the exercise notebook
    """The exercise notebook made from a solution notebook: blanks for answers, nothing hidden, no outputs, the board as its last cell.

    Raises: CourseError for markers that do not pair up."""
    read_solutions(path)
    notebook, cells, number = read_notebook(path), [], ""
    for cell in notebook["cells"]:
        source = cell["source"]
        if cell["cell_type"] == "markdown":
            number = header.group(1) + "." + header.group(2) if (header := HEADER.match(source)) else number
            if source.startswith(HIDDEN):
                continue
        else:
            source = blanked(source, number, path)
            cell |= {"outputs": [], "execution_count": None}
        cells.append(cell | {"source": source.splitlines(keepends=True)})
    cells.append({"cell_type": "code", "execution_count": None, "id": "board", "metadata": {}, "outputs": [], "source": BOARD.splitlines(keepends=True)})
    metadata = {key: value for key, value in notebook["metadata"].items() if key != "microbert"}
    return json.dumps(notebook | {"cells": cells, "metadata": metadata}, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def blanked(source: str, number: str, path: Path) -> str:
    """A cell with each answer replaced: in a function by an error that names the exercise, at top level by `name = None`.

    Raises: CourseError for markers that do not pair up."""
    kept, answer, indent = [], None, ""
    for line in source.splitlines():
        if line.strip() == BEGIN and answer is None:
            answer, indent = [], line[:len(line) - len(line.lstrip())]
        elif line.strip() == END and answer is not None:
            kept += _blank(answer, indent, number)
            answer = None
        elif line.strip() in (BEGIN, END):
            raise CourseError(f"{path}: exercise {number} has a {line.strip()} without its partner: pair them")
        elif answer is not None:
            answer.append(line)
        else:
            kept.append(line)
    if answer is not None:
        raise CourseError(f"{path}: exercise {number} has a {BEGIN} without its partner: pair them")
    return "\n".join(kept)


def _blank(answer: list[str], indent: str, number: str) -> list[str]:
    "What stands where an answer was."
    if indent:
        return [indent + blank(f"Exercise {number}")]
    names = [target.id for node in ast.parse("\n".join(answer)).body if isinstance(node, ast.Assign)
             for target in node.targets if isinstance(target, ast.Name)]
    return [f"{name} = None  # Exercise {number}" for name in names]


def exercise_faults(root: Path) -> list[str]:
    "The exercise notebooks that are not what solutions/ generates, one line each."
    try:
        fresh = {f"exercises/{path.name}": generate(path) for path in solution_paths(root)}
    except CourseError as error:
        return [str(error).replace(f"{root}/", "")]
    here = {f"exercises/{path.name}": path.read_text(encoding="utf-8") for path in sorted((root / "exercises").glob("*.ipynb"))}
    return [*(f"{name}: is not what solutions/{Path(name).name} generates; edit that one, then run `make exercises`"
              for name in fresh if here.get(name) != fresh[name]),
            *(f"{name}: no solution generates it; run `git rm {name}`" for name in here if name not in fresh)]


def write_exercises(root: Path) -> list[Path]:
    "Write every exercise notebook anew; what was written."
    written = []
    for path in solution_paths(root):
        written.append(root / "exercises" / path.name)
        written[-1].parent.mkdir(exist_ok=True)
        write_whole(written[-1], generate(path))
    return written


if __name__ == "__main__":
    for written in write_exercises(course_root()):
        print(written.relative_to(course_root()))
