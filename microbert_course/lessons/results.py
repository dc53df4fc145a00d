"""A lesson's headline numbers: a small table for the reader, the same values for the program that ran the lesson."""

import html
import json
import sys

from microbert_course.errors import CourseError

MIME = "application/vnd.microbert.results+json"


def show_results(**values) -> None:
    """Show the values as a table and record them for `microbert`, which reads them from the executed notebook.

    Outside a notebook the table is printed.
    Raises: CourseError if a value cannot be written as JSON (pass `float(loss)` for a tensor)."""
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CourseError(f"show_results cannot record {name}={value!r} ({error}): "
                              "pass finite numbers, strings, lists and dicts") from None
    rows = []
    for name, value in values.items():
        first, *more = _lines(value)
        rows += [(name.replace("_", " "), first), *(("", line) for line in more)]
    width = max((len(name) for name, _ in rows), default=0)
    text = "\n".join(f"{name:{width}}  {line}" for name, line in rows)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):
        print(text)
        return
    from IPython.display import display

    cells = "".join(f"<tr><th style='text-align:left'>{html.escape(name)}</th><td style='text-align:left'>"
                    f"{html.escape(line)}</td></tr>" for name, line in rows)
    display({"text/plain": text, "text/html": f"<table>{cells}</table>", MIME: values}, raw=True)


def recorded(cells: list[dict]) -> dict:
    "What the cells of an executed notebook gave to show_results, later values over earlier ones."
    found = {}
    for cell in cells:
        for output in cell.get("outputs", []):
            found.update(output.get("data", {}).get(MIME, {}))
    return found


def _lines(value: object) -> list[str]:
    "A value as one line of text, a list of dicts as one line each."
    if isinstance(value, list | tuple) and value and all(isinstance(item, dict) for item in value):
        return [_text(item) for item in value]
    return [_text(value)]


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "; ".join(_text(item) if isinstance(item, str | list | tuple) else f"{key} {_text(item)}"
                         for key, item in value.items())
    if isinstance(value, list | tuple):
        is_nested = any(isinstance(item, list | tuple) for item in value)
        return (", " if is_nested else " ").join(_text(item) for item in value)
    return str(value)
