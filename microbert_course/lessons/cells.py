"""Notebooks as the harness sees them: read, their nbdev directives, which cells are left out, and the fault of a cell."""

import ast
import json
import re
import symtable
from configparser import ConfigParser
from configparser import Error as ConfigError
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.practice.cells import python_text

DIRECTIVE = re.compile(r"\s*#\s*\|")
FLAGS = ("slow", "gpu", "multigpu")


class CellFault(Exception):
    "What is wrong with the cell at `index` (None: with the notebook as a whole)."

    def __init__(self, index: int | None, text: str):
        super().__init__(text)
        self.index, self.text = index, text


def read_notebook(path: str | Path, remedy: str = "") -> dict:  # remedy: for a file that is damaged; "" = to restore it from git
    """The notebook as plain dicts, every cell's source one string.

    Raises: CourseError if the file is missing, damaged or no notebook of format 4."""
    path = Path(path)
    remedy = remedy or f"restore it with `git restore {path.name}`"
    if not path.is_file():
        raise CourseError(f"{path} does not exist: `microbert lessons list` shows the lessons there are")
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CourseError(f"{path} is damaged ({error}): {remedy}") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) and notebook.get("nbformat") == 4 else None
    if not isinstance(cells, list) or not all(map(_is_cell, cells)):
        raise CourseError(f"{path} is not a Jupyter notebook of format 4: {remedy}")
    for cell in cells:
        cell["source"] = "".join(cell["source"])
        cell.setdefault("metadata", {})
    return notebook


def _is_cell(cell: object) -> bool:
    source = cell.get("source") if isinstance(cell, dict) and "cell_type" in cell else None
    return isinstance(source, str) or isinstance(source, list) and all(isinstance(line, str) for line in source)


def tags(cell: dict) -> list[str]:
    "The cell's tags, [] if it has none."
    return cell["metadata"].get("tags", [])


def is_code(cell: dict) -> bool:
    "A code cell with something in it."
    return cell["cell_type"] == "code" and bool(cell["source"].strip())


def directives(source: str) -> dict[str, str]:
    "nbdev's `#| name value` lines at the head of a cell, as {name: value}."
    found = {}
    for line in source.splitlines():
        if not line.strip() or line.startswith("%%"):
            continue
        match = DIRECTIVE.match(line)
        if not match:
            break
        name, _, value = line[match.end():].strip().replace(":", " ", 1).partition(" ")
        found[name] = value.strip()
    return found


def first_line(source: str) -> str:
    "The first line that is code, to recognise a cell by."
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    code = [line for line in lines if not DIRECTIVE.match(line)]
    line = (code or lines or [""])[0]
    return line if len(line) <= 70 else line[:69] + "…"


def python_tree(source: str) -> ast.Module | None:
    "The cell's syntax tree with lines of magic (`%`, `!`) taken out; None if what is left is not Python."
    try:
        return ast.parse(python_text(source))
    except (SyntaxError, ValueError):
        return None


def global_names(source: str) -> tuple[set[str], set[str]]:
    "The module-level names that a cell reads and those that it sets; a function's own variables are neither."
    tree = python_tree(source)
    if tree is None:
        return set(), set()
    top = symtable.symtable(ast.unparse(tree), "<cell>", "exec")
    reads = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    writes = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    tables = top.get_children()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        names = [symbol for symbol in table.get_symbols() if symbol.is_global()]
        reads |= {symbol.get_name() for symbol in names if symbol.is_referenced()}
        writes |= {symbol.get_name() for symbol in names if symbol.is_assigned()}
    return reads, writes


def calls_export(source: str) -> bool:
    "Whether the cell calls `nbdev_export()`."
    if "nbdev_export" not in source:
        return False
    calls = [node.func for node in ast.walk(python_tree(source) or ast.Module([], [])) if isinstance(node, ast.Call)]
    return any("nbdev_export" in (getattr(func, "id", ""), getattr(func, "attr", "")) for func in calls)


def is_skipped(cell: dict, flags: tuple[str, ...] = FLAGS) -> bool:
    "Whether nbdev would leave this code cell out: `#| eval: false`, a test flag, or a call of nbdev_export()."
    found = directives(cell["source"])
    return (found.get("eval", "").lower() == "false" or any(flag in found for flag in flags)
            or "skip-execution" in tags(cell) or calls_export(cell["source"]))


def test_flags(folder: Path) -> tuple[str, ...]:
    "`tst_flags` of the settings.ini in or above `folder`, else the course's own."
    for parent in (folder, *folder.parents):
        if (parent / "settings.ini").is_file():
            config = ConfigParser(delimiters=["="])
            try:
                config.read(parent / "settings.ini", encoding="utf-8")
                return tuple(config["DEFAULT"].get("tst_flags", "").split())
            except (ConfigError, UnicodeDecodeError) as error:
                raise CourseError(f"{parent / 'settings.ini'} is damaged ({error}): restore it from git") from None
    return FLAGS


test_flags.__test__ = False  # its name is nbdev's word; pytest must not take it for a test
