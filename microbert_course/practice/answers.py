"""A learner's answers: taken from a notebook's cells, and turned into code that stands alone, so that the library can adopt it."""

import ast
import builtins
import inspect
import linecache
import re
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from microbert_course import practice
from microbert_course.errors import CourseError
from microbert_course.lessons.cells import global_names, is_code, read_notebook
from microbert_course.practice.cells import IPYTHON, run_cell


def run_answers(path: Path) -> tuple[dict[str, Any], list[str]]:  # what the cells define, and a line for each cell that failed
    """Run a notebook's cells in this process; what they ask of `microbert_course.practice` (to check, to adopt) is not done.

    Raises: CourseError if the file is no notebook."""
    namespace: dict[str, Any] = {"__name__": "__main__", **IPYTHON}
    failed = []
    remedy = f"`microbert exercise reset {path.stem[:2]}` begins anew and keeps it under another name"
    for number, cell in enumerate(read_notebook(path, remedy)["cells"], start=1):
        if not is_code(cell):
            continue
        try:
            with _practice_asleep():
                run_cell(cell["source"], f"<cell {number} of {path.name}>", namespace)
        except (Exception, SystemExit) as error:  # it is a learner's code
            failed.append(f"cell {number}: {type(error).__name__}: {error}")
    return namespace, failed


@contextmanager
def _practice_asleep() -> Iterator[None]:
    "What a notebook imports from `microbert_course.practice` does nothing meanwhile."
    vars(practice).update(dict.fromkeys(practice.__all__, _nothing))
    try:
        yield
    finally:
        for name in practice.__all__:
            vars(practice).pop(name, None)


def _nothing(*_: Any, **__: Any) -> None:
    "In the place of check, hint and the like."


def stand_alone(answer: Any) -> str:  # the text of a module
    """The source of a function or class with all that it needs: imports, its notebook's other functions, plain constants.

    Raises: CourseError naming what cannot be written down."""
    if not isinstance(inspect.unwrap(answer), type | types.FunctionType):
        raise CourseError(f"{answer!r:.60} is of type {type(answer).__name__}: only a function or class of your own can be adopted")
    found: dict[str, str] = {}
    imports: dict[str, None] = {}
    _collect(answer, found, imports)
    return "\n".join(imports) + "\n\n\n" + "\n\n\n".join(found.values()) + "\n"


def _collect(thing: Any, found: dict[str, str], imports: dict[str, None], notebook: dict[str, Any] | None = None) -> None:  # notebook: the names around the one that needs it
    "Write down one definition, after those that it needs."
    name = thing.__name__
    if name in found:
        return
    source, surroundings = _definition(thing, notebook)
    found[name] = ""  # holds off a function that calls itself
    used, _ = global_names(source)
    for other in sorted(used - {name}):
        if other in surroundings:
            _write_down(other, surroundings, name, found, imports)
        elif not hasattr(builtins, other):
            raise CourseError(f"{name} uses {other}, which is not defined in the notebook: run the cell that defines it first")
    del found[name]
    found[name] = source  # behind what it needs


def _write_down(name: str, surroundings: dict[str, Any], user: str, found: dict[str, str], imports: dict[str, None]) -> None:
    "One name that a definition uses, as an import, a definition or a constant."
    value = surroundings[name]
    if isinstance(value, types.ModuleType):
        imports[f"import {value.__name__}" + (f" as {name}" if name != value.__name__ else "")] = None
    elif getattr(value, "__module__", None) == "__main__" and isinstance(inspect.unwrap(value), type | types.FunctionType):
        if value.__name__ == "<lambda>":
            raise CourseError(f"{user} uses {name}, a lambda: write it with def")
        if value.__name__ != name:
            raise CourseError(f"{user} uses {name}, another name for {value.__name__}: use {value.__name__} itself")
        _collect(value, found, imports, surroundings)
    elif hasattr(value, "__module__") and hasattr(value, "__qualname__") and value.__module__:
        own = value.__name__
        imports[f"from {value.__module__} import {own}" + (f" as {name}" if own != name else "")] = None
    elif isinstance(value, re.Pattern):
        imports["import re"] = None
        found.setdefault(name, f"{name} = re.compile({value.pattern!r}, {value.flags})")
    elif type(value) is float:  # inf has no literal
        found.setdefault(name, f"{name} = float({str(value)!r})")
    elif _is_literal(value):
        found.setdefault(name, f"{name} = {value!r}")
    else:
        raise CourseError(f"{user} uses {name}, a {type(value).__name__} of the notebook: give it as an argument, or make it inside")


def _is_literal(value: Any) -> bool:
    "Whether Python reads back what it writes: numbers, text, and lists, tuples, dicts or sets of those."
    try:
        return ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError, TypeError):
        return False


def _definition(thing: Any, notebook: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:  # its text, the names around it
    "Where a function or class was written, in a cell or a file."
    functions = [inspect.unwrap(item) for item in (vars(thing).values() if isinstance(thing, type) else [thing]) if callable(item)]
    for function in functions:
        if not isinstance(function, types.FunctionType):
            continue
        text = "".join(linecache.getlines(function.__code__.co_filename))  # "" for a method that a decorator made
        if source := _source_in(text, thing.__name__):
            return source, function.__globals__
    if isinstance(thing, type) and notebook is not None:  # a class without methods, such as an exception, knows no file: the last cell that has it
        cells = [entry[2] for entry in linecache.cache.values() if len(entry) == 4 and entry[1] is None]  # of files that are on no disk
        for lines in reversed(cells):
            if source := _source_in("".join(lines), thing.__name__, ast.ClassDef):
                return source, notebook
    raise CourseError(f"the source of {thing.__name__} is not to be found: define it at the top level of a cell")


def _source_in(text: str, name: str, kinds: Any = ast.FunctionDef | ast.ClassDef) -> str | None:
    "The last definition of a name at the top level of a cell, decorators included."
    try:
        body = ast.parse(text).body
    except SyntaxError:  # another cell, and no business of this one
        return None
    for node in reversed(body):
        if isinstance(node, kinds) and node.name == name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return "\n".join(text.splitlines()[first - 1:node.end_lineno])
    return None
