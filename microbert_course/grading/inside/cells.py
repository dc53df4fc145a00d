"""A notebook's code cells, run one after another in one namespace, without a kernel."""

import sys
import types

from microbert_course.practice.cells import compiled


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


def _no_ipython():
    return None


def _display(*args, **kwargs):
    return None
