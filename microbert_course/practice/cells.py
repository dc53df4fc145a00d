"""Code cells of a notebook without a kernel: what IPython would understand and Python does not."""

import linecache
import re
from typing import Any

HARMLESS = ("%%time", "%%capture", "%%timeit")
NOT_PYTHON = re.compile(r"\s*(?:[\w, ]+=\s*)?[%!]|.*\?\s*$")


def python_text(source: str) -> str:
    "A cell's Python, line for line; only if it does not compile as it stands are lines of magic left empty. '' for another language."
    if source.lstrip().startswith("%%"):
        if source.split()[0] not in HARMLESS:
            return ""
        source = re.sub(r"%%.*", "", source, count=1)
    try:
        compile(source, "<cell>", "exec", dont_inherit=True)
        return source
    except SyntaxError:
        return "\n".join("" if NOT_PYTHON.match(line) else line for line in source.split("\n"))


def run_cell(source: str, file: str, namespace: dict[str, Any]) -> None:
    "Run a cell as if it were the file of that name, so that tracebacks and `inspect` find its lines."
    text = python_text(source)
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    exec(compile(text, file, "exec", dont_inherit=True), namespace)


def get_ipython() -> None:
    "There is none."


def display(*_: Any, **__: Any) -> None:
    "Shows nothing: there is no page."


IPYTHON = {"get_ipython": get_ipython, "display": display}
"""What a cell finds defined."""
