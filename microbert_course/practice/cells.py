"""Code cells of a notebook without a kernel: what IPython would understand and Python does not."""

import linecache
import re
from collections.abc import Iterator
from typing import Any

HARMLESS = ("%%time", "%%capture", "%%timeit")
MAGIC = re.compile(r"(\s*)(?:[\w, ]+=\s*)?[%!]")
TIMED = re.compile(r"^(\s*(?:[\w, ]+=\s*)?)%time +(?=\S)")  # runs what stands behind it, in the notebook's names; %timeit keeps none
HELP = re.compile(r"\s*(?:\?.*|[%\w.*]+\?+\s*)$")  # a name with a question mark; sentences in comments end in one, too


def python_text(source: str) -> str:
    """A cell's Python, line for line; '' for another language.

    Only if it does not compile as it stands is an indent that all of it has taken away, as IPython does, and magic replaced by `pass`;
    of `%time` the statement is left."""
    if source.lstrip().startswith("%%"):
        if source.split()[0] not in HARMLESS:
            return ""
        source = re.sub(r"%%.*", "", source, count=1)
    try:
        compile(source, "<cell>", "exec", dont_inherit=True)
        return source
    except SyntaxError:
        return "\n".join(_plain_lines(source))


def _plain_lines(source: str) -> Iterator[str]:
    indent, goes_on = re.match(r"\s*?([ \t]*)(?=\S|$)", source).group(1), False
    for line in source.split("\n"):
        line = TIMED.sub(r"\1", line.removeprefix(indent))
        magic = MAGIC.match(line)
        if goes_on or magic or HELP.match(line):
            yield "" if goes_on or not magic else f"{magic.group(1)}pass"
            goes_on = (goes_on or bool(magic)) and line.rstrip().endswith("\\")
        else:
            yield line


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
