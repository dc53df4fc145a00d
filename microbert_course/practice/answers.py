"""A learner's answers: taken from a notebook's cells, and turned into code that stands alone, so that the library can adopt it."""

import ast
import builtins
import inspect
import linecache
import re
import types
from pathlib import Path
from typing import Any

from microbert_course.errors import CourseError
from microbert_course.lessons.cells import is_code, read_notebook
from microbert_course.practice.cells import compiled


def run_answers(path: Path) -> tuple[dict[str, Any], list[str]]:  # what the cells define, and a line for each cell that failed
    """Run a notebook's cells in this process, checks left out.

    Raises: CourseError if the file is no notebook."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    failed = []
    remedy = f"`microbert exercise reset {path.stem[:2]}` begins anew and keeps it under another name"
    for number, cell in enumerate(read_notebook(path, remedy)["cells"], start=1):
        source = cell["source"]
        if not is_code(cell) or source.lstrip().startswith(("check(", "hint(")):
            continue
        file = f"<cell {number} of {path.name}>"
        linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
        try:
            exec(compiled(source, file) or "", namespace)
        except (Exception, SystemExit) as error:  # it is a learner's code
            failed.append(f"cell {number}: {type(error).__name__}: {error}")
    return namespace, failed


def stand_alone(answer: Any) -> str:  # the text of a module
    """The source of a function or class with all that it needs: imports, its notebook's other functions, plain constants.

    Raises: CourseError naming what cannot be written down."""
    found: dict[str, str] = {}
    imports: dict[str, None] = {}
    _collect(answer, found, imports)
    return "\n".join(imports) + "\n\n\n" + "\n\n\n".join(found.values()) + "\n"


def _collect(thing: Any, found: dict[str, str], imports: dict[str, None]) -> None:
    "Write down one definition, after those that it needs."
    name = thing.__name__
    if name in found:
        return
    node, source, surroundings = _definition(thing)
    found[name] = ""  # holds off a function that calls itself
    bound = {child.id for child in ast.walk(node) if isinstance(child, ast.Name) and not isinstance(child.ctx, ast.Load)}
    bound |= {child.arg for child in ast.walk(node) if isinstance(child, ast.arg)}
    used = [child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load)]
    for other in dict.fromkeys(used):
        if other in surroundings:
            _write_down(other, surroundings[other], name, found, imports)
        elif other not in bound and not hasattr(builtins, other) and other != name:
            raise CourseError(f"{name} uses {other}, which is not defined in the notebook: run the cell that defines it first")
    del found[name]
    found[name] = source  # behind what it needs


def _write_down(name: str, value: Any, user: str, found: dict[str, str], imports: dict[str, None]) -> None:
    "One name that a definition uses, as an import, a definition or a constant."
    if isinstance(value, types.ModuleType):
        imports[f"import {value.__name__}" + (f" as {name}" if name != value.__name__ else "")] = None
    elif getattr(value, "__module__", None) == "__main__" and isinstance(inspect.unwrap(value), type | types.FunctionType):
        if value.__name__ != name:
            raise CourseError(f"{user} uses {name}, another name for {value.__name__}: use {value.__name__} itself")
        _collect(value, found, imports)
    elif hasattr(value, "__module__") and hasattr(value, "__qualname__") and value.__module__:
        own = value.__name__
        imports[f"from {value.__module__} import {own}" + (f" as {name}" if own != name else "")] = None
    elif isinstance(value, re.Pattern):
        imports["import re"] = None
        found.setdefault(name, f"{name} = re.compile({value.pattern!r}, {value.flags})")
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


def _definition(thing: Any) -> tuple[ast.AST, str, dict[str, Any]]:  # its node, its text, the names around it
    "Where a function or class was written, in a cell or a file."
    function = inspect.unwrap(thing)  # a decorated function
    if isinstance(thing, type):
        methods = [inspect.unwrap(item) for item in vars(thing).values() if isinstance(item, types.FunctionType)]
        function = next((item for item in methods if item.__code__.co_filename in linecache.cache or Path(item.__code__.co_filename).is_file()), None)
    if not isinstance(function, types.FunctionType):
        raise CourseError(f"{getattr(thing, '__name__', thing)} is a {type(thing).__name__}: only a function or class of your own can be adopted")
    text = "".join(linecache.getlines(function.__code__.co_filename))
    for node in reversed(ast.parse(text).body if text else []):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == thing.__name__:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return node, "\n".join(text.splitlines()[first - 1:node.end_lineno]), function.__globals__
    raise CourseError(f"the source of {thing.__name__} is not to be found: define it at the top level of a cell")
