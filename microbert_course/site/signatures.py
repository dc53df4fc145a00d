"""What a module offers, read from its source: names, parameters, and the comments beside them that say shapes and units."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from microbert_course.lessons.public_names import Function, Module, comment_lines

NO_COMMENT = re.compile(r"#\s*(?:noqa|type:|%%).*")


@dataclass(frozen=True)
class Part:
    "A parameter, a field, or what comes back."

    name: str  # "query", "*shape"; "" for what comes back
    type: str  # as written; "" if it is not
    default: str  # as written; "" if there is none
    note: str  # the comment beside it


@dataclass(frozen=True)
class Entry:
    "A function, a class, a method, or a value."

    name: str
    kind: str  # "function", "class", "method", "property", "classmethod", "staticmethod", "data"
    doc: str
    parts: tuple[Part, ...]  # parameters; fields of a dataclass
    returns: Part | None
    methods: tuple["Entry", ...]
    source: str

    def signature(self) -> str:
        "Names and defaults, without types: those are in the table below it."
        words = []
        for part in self.parts:
            words.append(f"{part.name}={_short(part.default)}" if part.default else part.name)
        return f"{self.name}({', '.join(words)})"


def read_module(path: Path, name: str) -> tuple[str, list[Entry]]:  # its docstring and its public names, in the order of the source
    "What a module offers: what its `__all__` names, else everything without an underscore."
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    public = Module(path, name, "", source, tree).exports()
    comments, lines = comment_lines(source), source.splitlines()
    entries = []
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and (node.name in public if public else not node.name.startswith("_")):
            entries.append(_class(node, comments, lines) if isinstance(node, ast.ClassDef) else _function(node, "function", comments, lines))
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            names = [name.id for name in ast.walk(target) if isinstance(name, ast.Name) and name.id in public]
            entries += [Entry(name, "data", _note(comments, node.end_lineno), (), None, (), _source(node, lines)) for name in names]
    return ast.get_docstring(tree) or "", entries


def _function(node: Function, kind: str, comments: dict[int, str], lines: list[str]) -> Entry:
    parts, returns = _parameters(node, comments, is_method=kind in ("method", "classmethod", "property"))
    return Entry(node.name, kind, ast.get_docstring(node) or "", parts, returns, (), _source(node, lines))


def _class(node: ast.ClassDef, comments: dict[int, str], lines: list[str]) -> Entry:
    functions = {item.name: item for item in node.body if isinstance(item, Function)}
    parts = _parameters(functions["__init__"], comments, True)[0] if "__init__" in functions else _fields(node, comments)
    methods = [_function(item, _kind(item), comments, lines) for name, item in functions.items()
               if not name.startswith("_") or name == "__call__"]
    return Entry(node.name, "class", ast.get_docstring(node) or "", parts, None, tuple(methods), _source(node, lines))


def _kind(node: Function) -> str:
    names = {ast.unparse(decorator) for decorator in node.decorator_list}
    return next((name for name in ("classmethod", "staticmethod", "property") if name in names), "method")


def _parameters(node: Function, comments: dict[int, str], is_method: bool) -> tuple[tuple[Part, ...], Part | None]:
    "The parameters and what comes back. A comment belongs to the last thing on its line."
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(plain) - len(given.defaults)) + list(given.defaults)
    found = [("", argument, default) for argument, default in zip(plain, defaults, strict=True)][1 if is_method else 0:]
    found += [("*", given.vararg, None)] if given.vararg else []
    found += [("", argument, default) for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    found += [("**", given.kwarg, None)] if given.kwarg else []
    last_on_line = {_last_line(argument, default): argument for _, argument, default in found}
    if node.returns is not None:
        last_on_line[node.returns.end_lineno] = node.returns
    parts = []
    for stars, argument, default in found:
        line = _last_line(argument, default)
        parts.append(Part(stars + argument.arg, _text(argument.annotation), _text(default), _note(comments, line) if last_on_line[line] is argument else ""))
    first_keyword = next((i for i, (_, argument, _) in enumerate(found) if argument in given.kwonlyargs), None)
    if first_keyword is not None and not given.vararg:
        parts.insert(first_keyword, Part("*", "", "", ""))
    note = _note(comments, node.returns.end_lineno) if node.returns is not None else _note(comments, _colon_line(node))
    returns = Part("", _text(node.returns), "", note) if node.returns is not None or note else None
    return tuple(parts), None if returns and returns.type == "None" and not note else returns


def _last_line(argument: ast.arg, default: ast.expr | None) -> int:
    return (default or argument).end_lineno


def _colon_line(node: Function) -> int:
    "The line that ends the head of a function whose answer has no annotation, if it stands alone: `):  # the Axes`."
    line = node.body[0].lineno - 1
    taken = max([node.lineno, *(argument.end_lineno for argument in ast.walk(node.args) if isinstance(argument, ast.arg))])
    return line if line > taken else 0


def _fields(node: ast.ClassDef, comments: dict[int, str]) -> tuple[Part, ...]:
    "The fields of a dataclass; their notes stand beside them, or in a text below."
    parts = []
    for item, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and not item.target.id.startswith("_"):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant) and isinstance(following.value.value, str)
            note = _note(comments, item.end_lineno) or (following.value.value if is_text else "")
            parts.append(Part(item.target.id, _text(item.annotation), _text(item.value), " ".join(note.split())))
    return tuple(parts)


def _note(comments: dict[int, str], line: int) -> str:
    text = comments.get(line, "")
    return "" if NO_COMMENT.match(text) else text.lstrip("#| ").strip()


def _text(node: ast.expr | None) -> str:
    return ast.unparse(node) if node is not None else ""


def _short(default: str) -> str:
    return default if len(default) <= 30 else "…"


def _source(node: ast.AST, lines: list[str]) -> str:
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    return "\n".join(lines[first - 1:node.end_lineno])
