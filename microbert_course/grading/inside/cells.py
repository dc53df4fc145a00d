"""A notebook's code cells, run one after another in one namespace, without a kernel."""

import re
import sys
import types

HARMLESS = ("%%time", "%%capture", "%%timeit")
NOT_PYTHON = re.compile(r"\s*(?:[\w, ]+=\s*)?[%!]|.*\?\s*$")


def run(cells: list[str]) -> tuple[dict, list]:  # the namespace; [cell number, type of what it raised]
    "Run every cell; one that raises is noted, and the next one goes on."
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    module.__dict__.update(get_ipython=_no_ipython, display=_display)
    failed = []
    for number, source in enumerate(cells, start=1):
        try:
            code = compiled(source, f"<cell {number}>")
            if code is not None:
                exec(code, module.__dict__)
        except BaseException as error:  # SystemExit and KeyboardInterrupt as well: they end a cell, not the grading
            failed.append([number, type(error).__name__])
    return module.__dict__, failed


def compiled(source: str, name: str) -> types.CodeType | None:  # None for a cell of another language
    "A cell's code; only if it does not compile as it stands are the lines of magic taken out."
    first = source.lstrip().split("\n", 1)[0].split()
    if first and first[0].startswith("%%"):
        if first[0] not in HARMLESS:
            return None
        source = source.lstrip().partition("\n")[2]
    try:
        return compile(source, name, "exec", dont_inherit=True)
    except SyntaxError:
        kept = ["" if NOT_PYTHON.match(line) else line for line in source.split("\n")]
        return compile("\n".join(kept), name, "exec", dont_inherit=True)


def _no_ipython():
    return None


def _display(*args, **kwargs):
    return None
