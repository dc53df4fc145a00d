"""Pages made of recorded numbers: the bands of the lessons, the benchmarks, the list of exercises."""

import ast
import json
import statistics
from pathlib import Path

from microbert_course.files import read_json
from microbert_course.lessons.bands import read_bands
from microbert_course.lessons.cells import read_notebook
from microbert_course.practice.exercises import HEADER

FACTS = ("date", "device", "machine", "python", "torch", "cpu_count")


def bands_page(root: Path, titles: dict[str, str]) -> str:  # titles: {"03_attention": "03 · Attention"}
    "The range of every headline number."
    parts = ["# How far results stray", "Each lesson records its headline numbers. It was run at its quick sizes with five seeds; every later run has to fall into the *band* around what came out, "
             "or the tests fail: the mean, and to both sides the largest of six standard deviations, one percent of the mean and 0.00001. A whole number on which all seeds agree must stay what it is."]
    for lesson, kinds in read_bands(root).items():
        parts.append(f"## {titles.get(lesson, lesson)}")
        for conditions, entry in kinds.items():
            rows = [[f"`{name}`", _number(band["low"]), _number(band["high"]), " ".join(map(_number, band["values"]))] for name, band in entry["numbers"].items()]
            versions = f"Python {entry['python']}" + (f", torch {entry['torch']}" if entry.get("torch") else "")
            parts += [f"{conditions}, {entry['date']}, {versions}.", _table(["number", "from", "to", f"with seeds {', '.join(map(str, entry['seeds']))}"], rows)]
    return "\n\n".join(parts) + "\n"


def benchmarks_page(root: Path) -> str:
    "Every file under benchmarks/results, with the first sentence of the program that wrote it."
    parts = ["# Benchmarks", "Measured by the programs in `benchmarks/`, and kept as they came out. Seconds are CPU-seconds where the name says so: other programs do not stretch those."]
    for path in sorted((root / "benchmarks" / "results").glob("*.json")):
        results = read_json(path)
        program = root / "benchmarks" / f"{path.stem}.py"
        doc = ast.get_docstring(ast.parse(program.read_text(encoding="utf-8"))) if program.is_file() else ""
        facts = ", ".join(f"{name} {results.pop(name)}" for name in FACTS if isinstance(results.get(name), str | int))
        parts += [f"## {path.stem}", _escaped((doc or "").split("\n\n")[0]), f":::{{container}} ran-on\n`benchmarks/{path.stem}.py`: {facts}.\n:::" if facts else "", *_tables(results, 3)]
    return "\n\n".join(filter(None, parts)) + "\n"


def exercises_page(root: Path, titles: dict[str, str], preface: str) -> str:  # preface: markdown
    "The list of all exercises, with links to their statements."
    parts, names = ["# Exercises", preface], []
    for path in sorted((root / "exercises").glob("*.ipynb")):
        title = titles.get(path.stem, path.stem)
        names.append(f"{title} <{path.stem}>")
        headers = [HEADER.match(cell["source"]) for cell in read_notebook(path)["cells"] if cell["cell_type"] == "markdown"]
        rows = [[f"[{chapter}.{place}](#exercise:{name})", f"[{name_of}](#exercise:{name})", kind, difficulty, minutes, points]
                for chapter, place, name_of, name, kind, difficulty, minutes, points in (header.groups() for header in headers if header)]
        parts += [f"## [{title}]({path.stem}.ipynb)", _table(["", "exercise", "kind", "difficulty", "minutes", "points"], rows)]
    parts.append("```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```")
    return "\n\n".join(parts) + "\n"


def _tables(value: dict | list, level: int) -> list[str]:
    "Nested results as headings and tables: things of one kind become the rows of one table."
    if isinstance(value, list):
        value = {str(i): row for i, row in enumerate(value, start=1)}
    plain = {name: item for name, item in value.items() if not isinstance(item, dict) and not _is_rows(item)}
    nested = {name: item for name, item in value.items() if name not in plain}
    parts = [_table(["what", "value"], [[_name(name), _short(item)] for name, item in plain.items()])] if plain else []
    if nested and all(isinstance(item, dict) and not _is_deep(item) for item in nested.values()):
        columns = list(dict.fromkeys(name for item in nested.values() for name in item))
        rows = [[_name(name), *(_short(item.get(column)) for column in columns)] for name, item in nested.items()]
        return parts + [_table(["", *map(_name, columns)], rows)]
    for name, item in nested.items():
        parts += [f"{'#' * min(level, 5)} {_name(name)}", *_tables(item, level + 1)]
    return parts


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _is_deep(value: dict) -> bool:
    return any(isinstance(item, dict) or _is_rows(item) for item in value.values())


def _short(value: object) -> str:
    "A value in a few digits; of many numbers, the median with the smallest and the largest."
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, list) and value and all(isinstance(item, int | float) for item in value):
        return f"{_number(statistics.median(value))} (of {len(value)}: {_number(min(value))} to {_number(max(value))})"
    return _escaped(value if isinstance(value, str) else json.dumps(value))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _name(name: str) -> str:
    return _escaped(name.replace("_", " ").replace("cpu s", "CPU-s").replace("mfu", "MFU"))


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\*_<>[]$#|{}~" else letter for letter in text)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])
