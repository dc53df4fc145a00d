"""Code cells of a notebook without a kernel: what IPython would understand and Python does not."""

import re
import types

HARMLESS = ("%%time", "%%capture", "%%timeit")
NOT_PYTHON = re.compile(r"\s*(?:[\w, ]+=\s*)?[%!]|.*\?\s*$")


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
