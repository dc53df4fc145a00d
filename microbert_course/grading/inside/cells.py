"""A notebook's code cells, run one after another in one namespace, without a kernel."""

import sys
import types

from microbert_course.practice.cells import IPYTHON, run_cell


def run(cells: list[str]) -> tuple[dict, list]:  # the namespace; [cell number, type of what it raised]
    "Run every cell; one that raises is noted, and the next one goes on."
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    module.__dict__.update(IPYTHON)
    failed = []
    for number, source in enumerate(cells, start=1):
        try:
            run_cell(source, f"<cell {number}>", module.__dict__)
        except BaseException as error:  # SystemExit and KeyboardInterrupt as well: they end a cell, not the grading
            failed.append([number, type(error).__name__])
    return module.__dict__, failed
