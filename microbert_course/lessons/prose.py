"""Numbers in prose that are filled from results: `<!--=NAME:FORMAT-->5.29<!--/-->` in a markdown cell.

GitHub, JupyterLab and the site show only what is between the comments. NAME is a name that the lesson itself gives to show_results
(`validation_loss`), another lesson's (`09/validation_loss`), or one in a file under benchmarks/results (`benchmarks/FILE/speedup`);
dots go into dicts and lists (`09/rows.0.loss`). FORMAT is a Python format (`.2f`, `,`, `.0%`); without it the value is as `str` has it.
`microbert lessons run NN --save` and `make export` fill the markers; lessons.check names those that are stale."""

import json
import re
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.files import read_json, write_whole
from microbert_course.lessons.catalogue import lesson_paths, read_lesson
from microbert_course.lessons.cells import read_notebook
from microbert_course.lessons.results import recorded

OPEN = "<!--="
MARKER = re.compile(r"<!--=((?:(?!-->).)*)-->((?:(?!<!--).)*)<!--/-->", re.DOTALL)
IN_SUMMARY = re.compile(r"\A# .*?^> [^\n]*<!--=", re.MULTILINE | re.DOTALL)
AT_LINE_START = re.compile(r"^[ \t]*(?:(?:[-*+>]|\d+[.)])[ \t]+)*<!--=", re.MULTILINE)


def all_results(root: Path) -> dict[str, dict]:  # {"09": {"validation_loss": 4.3}, "benchmarks/v0": {...}}
    "What the lessons' saved outputs and the files under benchmarks/results hold."
    found = {}
    for path in lesson_paths(root):
        found[read_lesson(path).number] = recorded(read_notebook(path)["cells"])
    for path in sorted((root / "benchmarks" / "results").glob("*.json")):
        found[f"benchmarks/{path.stem}"] = read_json(path)
    return found


def filled(source: str, own: str | None, results: dict[str, dict]) -> tuple[str, list[str]]:  # the text; what is wrong with its markers
    "The markdown with every marker's text as the results have it; a marker that cannot be filled stays as it is."
    faults = []

    def fill(match: re.Match) -> str:
        name, _, spec = match.group(1).strip().partition(":")
        try:
            return f"{OPEN}{match.group(1)}-->{format(look_up(name, own, results), spec)}<!--/-->"
        except CourseError as error:
            faults.append(f"the number <!--={match.group(1)}--> cannot be filled: {error}")
        except (ValueError, TypeError) as error:
            faults.append(f"the number <!--={match.group(1)}--> cannot be filled ({error}); correct its format")
        return match.group()

    text, count = MARKER.subn(fill, source)
    if source.count(OPEN) != count:
        faults.append(f"{source.count(OPEN) - count} of the numbers {OPEN}NAME:FORMAT--> are not closed; write <!--/--> after the digits")
    if AT_LINE_START.search(source):
        faults.append(f"a line begins with {OPEN}, which ends the paragraph for a markdown reader; put a word before it")
    if IN_SUMMARY.search(source):
        faults.append(f"{OPEN} in the sentence under the title, which becomes a docstring; say it in words there")
    return text, faults


def look_up(name: str, own: str | None, results: dict[str, dict]) -> object:
    """The value that a marker's NAME means, in the notebook of lesson `own` (None: not a lesson).

    Raises: CourseError, `what is wrong; what would be right`."""
    place, slash, key = name.rpartition("/")
    place = place if slash else own
    if place is None:
        raise CourseError(f"this page has no results of its own; name the lesson, as in 09/{name}")
    if place not in results:
        raise CourseError(f"there are no results of {place!r}; there are {', '.join(results)}")
    value = results[place]
    for part in key.split("."):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError, TypeError):
            there = ", ".join(value) if isinstance(value, dict) else f"{len(value)} items" if isinstance(value, list) else "one value"
            raise CourseError(f"{place} has no {key!r}; at {part!r} there is {there or 'nothing'}") from None
    return value


def pages(root: Path) -> list[Path]:
    "The notebooks whose prose is filled: the lessons and the front page."
    index = root / "nbs" / "index.ipynb"
    return [*lesson_paths(root), *([index] if index.is_file() else [])]


def fill_pages(root: Path) -> list[str]:  # what is wrong with markers, one sentence each
    "Fill the markers of every page; a page without a stale one is not written."
    results = all_results(root)
    faults = []
    for path in pages(root):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        changed = False
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] != "markdown" or OPEN not in source:
                continue
            text, wrong = filled(source, _number(path), results)
            faults += [f"{path.relative_to(root).as_posix()}: {fault}" for fault in wrong]
            if text != source:
                cell["source"], changed = text.splitlines(keepends=True), True
        if changed:
            write_whole(path, json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    return faults


def number_faults(path: Path, results: dict[str, dict]) -> list[str]:
    "What is wrong with the markers of one page; nothing is written."
    faults = []
    for cell in read_notebook(path)["cells"]:
        if cell["cell_type"] != "markdown" or OPEN not in cell["source"]:
            continue
        text, wrong = filled(cell["source"], _number(path), results)
        faults += wrong
        pairs = zip(MARKER.finditer(cell["source"]), MARKER.finditer(text), strict=True)
        faults += [f"the text says {old.group(2)!r} where {old.group(1)} is {new.group(2)!r}; run `make export`"
                   for old, new in pairs if old.group(2) != new.group(2)]
    return faults


def _number(path: Path) -> str | None:
    return None if path.name == "index.ipynb" else read_lesson(path).number
