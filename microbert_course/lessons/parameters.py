"""The one `parameters` cell of a notebook: its quick values, and the faults that would leave them without effect."""

import ast
import io
import json
import re
import tokenize

from microbert_course.errors import CourseError
from microbert_course.lessons.cells import CellFault, global_names, is_code, is_skipped, python_tree, tags

QUICK = re.compile(r"#+\s*quick\b\s*(.*)", re.IGNORECASE | re.DOTALL)


def find_parameters(cells: list[dict]) -> int | None:
    """The index of the cell tagged `parameters`; None in a notebook without code.

    Raises: CellFault if there is none or more than one."""
    tagged = [index for index, cell in enumerate(cells) if cell["cell_type"] == "code" and "parameters" in tags(cell)]
    if len(tagged) > 1:
        raise CellFault(tagged[1], f"is a second cell tagged parameters (the first is cell {tagged[0] + 1}): "
                                   "keep one, or the values of the other run at full size")
    if not tagged and any(is_code(cell) for cell in cells):
        raise CellFault(None, "no cell is tagged parameters: tag the cell that sets the sizes (`seed = 0` if there are none)")
    return tagged[0] if tagged else None


def declared(cells: list[dict], index: int) -> dict[str, ast.stmt]:
    """The assignments of the parameters cell, by name.

    Raises: CellFault for anything but `name = value`, each name once, no value computed from another parameter."""
    tree = python_tree(cells[index]["source"])
    if tree is None:
        raise CellFault(index, "the parameters cell is not valid Python")
    found = {}
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        is_plain = isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None
        if not is_plain or len(targets) != 1 or not isinstance(targets[0], ast.Name):
            raise CellFault(index, f"line {statement.lineno} of the parameters cell (`{ast.unparse(statement).splitlines()[0]}`) "
                                   "is not a plain assignment `name = value`: move it to a cell of its own")
        name = targets[0].id
        if name in found:
            raise CellFault(index, f"the parameters cell sets {name} twice: keep one line")
        read = {node.id for node in ast.walk(statement.value) if isinstance(node, ast.Name)} & found.keys()
        if read:
            raise CellFault(index, f"{name} is computed from {sorted(read)[0]} in the parameters cell and would keep "
                                   "the default's value: compute it in the next cell")
        found[name] = statement
    return found


def quick_values(cells: list[dict], index: int) -> dict:
    """What the `# quick: VALUE` comments of the parameters cell say, by name; words may follow after a `;`.

    Raises: CellFault if a comment does not hold a literal or stands beside no assignment."""
    found = {}
    statements = declared(cells, index)
    for token in tokenize.generate_tokens(io.StringIO(cells[index]["source"]).readline):
        match = QUICK.match(token.string) if token.type == tokenize.COMMENT else None
        if not match:
            continue
        line, text = token.start[0], token.string.strip()
        name = next((name for name, node in statements.items() if node.lineno <= line <= node.end_lineno), None)
        if name is None:
            raise CellFault(index, f"`{text}` stands beside no assignment: put it on the line of its parameter")
        if name in found:
            raise CellFault(index, f"`{text}` is a second quick value for {name}: keep one")
        found[name] = _literal(match.group(1), index, name, text)
    return found


def _literal(text: str, index: int, name: str, comment: str):
    "The value after `quick:`, up to the first `;` that ends a literal."
    ends = [match.start() for match in re.finditer(";", text)] + [len(text)]
    for end in ends if text.startswith(":") else []:
        try:
            value = ast.literal_eval(text[1:end].strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if not survives_json(value):
            raise CellFault(index, f"the quick value {value!r} of {name} cannot be passed to a notebook: "
                                   "use None, a bool, a number, a string, a list or a dict with strings as keys")
        return value
    raise CellFault(index, f"the comment `{comment}` beside {name} is not `# quick: VALUE` with a Python literal "
                           "(words may follow after a `;`)")


def survives_json(value: object) -> bool:
    "Whether JSON gives the value back as it was (papermill would turn a tuple into a string, in silence)."
    try:
        return json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        return False


def given_values(cells: list[dict], index: int | None, given: dict) -> dict:
    """`given`, once every name in it is known to be a parameter of the notebook.

    Raises: CourseError for a name that the notebook does not declare, or a value that cannot be passed."""
    names = declared(cells, index) if index is not None else {}
    for name, value in given.items():
        if name not in names:
            raise CourseError(f"the notebook has no parameter {name!r}: it has {', '.join(names) or 'none'}")
        if not survives_json(value):
            raise CourseError(f"the value {value!r} of {name} cannot be passed to a notebook: use None, a bool, a number, "
                              "a string, a list or a dict with strings as keys")
    return given


def check_parameters(cells: list[dict], index: int, flags: tuple[str, ...]) -> None:
    """Every parameter is read by a later cell, and none is set again there: else a quick run is a full run, unseen.

    Raises: CellFault naming the parameter and the cell."""
    if is_skipped(cells[index], flags):
        raise CellFault(index, "the parameters cell is left out by its directive: take the directive away")
    names = declared(cells, index)
    read = set()
    for later in range(index + 1, len(cells)):
        cell = cells[later]
        if not is_code(cell) or is_skipped(cell, flags):
            continue
        reads, writes = global_names(cell["source"])
        read |= reads
        for name in names:
            if name in writes:
                raise CellFault(later, f"sets the parameter {name} again, so the injected value has no effect from here on: "
                                       "choose another name")
    for name in names:
        if name not in read:
            raise CellFault(index, f"the parameter {name} is read by no later cell: use it or remove it")
