"""Files that are called notebooks: how each is broken, and a word of the reason that the teacher reads."""

import json

CODE = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": "def mix(scores, value):\n    return value\n"}


def notebook(cells=(CODE,), **changes) -> dict:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)} | changes


def text(**changes) -> bytes:
    return json.dumps(notebook(**changes)).encode()


WHOLE = json.dumps(notebook(), indent=1).encode()
CONFLICT = WHOLE.replace(b' "cells"', b'<<<<<<< HEAD\n "cells"', 1)

FILES = {  # name: (bytes, a word of the reason)
    "empty": (b"", "is empty"),
    "white space": (b" \n\n", "is empty"),
    "a byte order mark alone": (b"\xef\xbb\xbf", "cut short"),
    "cut short": (WHOLE[:len(WHOLE) // 2], "cut short"),
    "cut in the last line": (WHOLE[:-2], "cut short"),
    "one brace": (b"{", "cut short"),
    "a merge conflict": (CONFLICT, "merge conflict (line "),
    "the end of a merge conflict": (WHOLE + b"\n>>>>>>> theirs\n", "merge conflict"),
    "not JSON": (b"import torch\n", "is no JSON"),
    "HTML of a login page": (b"<!doctype html><html>Sign in</html>", "is no JSON"),
    "a zip file": (b"PK\x03\x04" + bytes(range(256)), "UTF-8"),
    "a pickle": (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07notebook\x94.", "UTF-8"),
    "invalid UTF-8": (WHOLE[:40] + b"\xff\xfe\xfd" + WHOLE[40:], "UTF-8"),
    "UTF-16 cut in the middle of a sign": (WHOLE.decode().encode("utf-16")[:-1], "UTF-16"),
    "UTF-16 without its mark": (WHOLE.decode().encode("utf-16-le"), "is no JSON"),
    "Latin-1": (b'{"cells": ["\xe9"]}', "UTF-8"),
    "NUL bytes": (bytes(1000), "is no JSON"),
    "deep nesting": (b"[" * 200_000, "nested too deeply"),
    "deep nesting of objects": (b'{"cells":' * 100_000, "nested too deeply"),
    "two documents": (WHOLE + WHOLE, "is no JSON"),
    "single quotes": (str(notebook()).encode(), "is no JSON"),
    "a trailing comma": (b'{"nbformat": 4, "cells": [],}', "is no JSON"),
    "an integer of 5000 digits": (b'{"nbformat": ' + b"4" * 5000 + b"}", "is no JSON"),
    "a list": (b"[]", "no notebook"),
    "a number": (b"4", "no notebook"),
    "null": (b"null", "no notebook"),
    "a text": (b'"cells"', "no notebook"),
    "an empty object": (b"{}", "format 4"),
    "no cells": (b'{"nbformat": 4}', "format 4"),
    "cells that are an object": (json.dumps(notebook() | {"cells": {"0": CODE}}).encode(), "format 4"),
    "cells that are a text": (json.dumps(notebook() | {"cells": "code"}).encode(), "format 4"),
    "an empty list of cells": (text(cells=()), "holds no code"),
    "markdown alone": (text(cells=[CODE | {"cell_type": "markdown"}]), "holds no code"),
    "blank code": (text(cells=[CODE | {"source": " \n"}]), "holds no code"),
    "a cell that is null": (text(cells=[CODE, None]), "cell 2"),
    "a cell that is a list": (text(cells=[[CODE]]), "cell 1"),
    "a cell without a type": (text(cells=[{"source": "x"}]), "cell 1"),
    "a cell whose type is a number": (text(cells=[CODE | {"cell_type": 4}]), "cell 1"),
    "a cell without a text": (text(cells=[{"cell_type": "code"}]), "cell 1"),
    "a text that is a number": (text(cells=[CODE | {"source": 3}]), "cell 1"),
    "a text that is a list of numbers": (text(cells=[CODE | {"source": [1, 2]}]), "cell 1"),
    "format 3": (json.dumps({"nbformat": 3, "worksheets": [{"cells": []}]}).encode(), "old notebook format"),
    "format 3 without worksheets": (text(nbformat=3), "old notebook format"),
    "format 5": (text(nbformat=5), "format 4"),
    "a format that is a text": (text(nbformat="4"), "format 4"),
    "too much code": (text(cells=[CODE | {"source": "x = 1\n" * 200_000}]), "1 MB of code"),
    "larger than 20 MB": (b" " * 20_000_001, "larger than 20 MB"),
}

GRADABLE = {  # unusual, but every answer can be found
    "another kernel's metadata": text(metadata={"kernelspec": {"language": "R", "name": "ir", "display_name": "R"}, "language_info": {"name": "R"}}),
    "metadata of wrong types": text(metadata=[]),
    "no metadata": json.dumps({"nbformat": 4, "cells": [CODE]}).encode(),
    "forged metadata": text(metadata={"grade": 55, "microbert": {"passed": True}, "nbgrader": {"points": 99}}, score=99),
    "duplicate ids": text(cells=[CODE | {"id": "a"}, CODE | {"id": "a"}]),
    "outputs of wrong types": text(cells=[CODE | {"outputs": "passed"}]),
    "a text in lines": text(cells=[CODE | {"source": CODE["source"].splitlines(keepends=True)}]),
    "UTF-8 with a byte order mark": b"\xef\xbb\xbf" + WHOLE,
    "UTF-16 with a byte order mark": WHOLE.decode().encode("utf-16"),
    "a cell type of one's own": text(cells=[CODE, CODE | {"cell_type": "passed"}]),
    "surrogates in a text": text(cells=[CODE, CODE | {"source": "'\ud800'"}]),
    "duplicate keys": WHOLE.replace(b'"nbformat": 4', b'"nbformat": 3,\n "nbformat": 4'),
}
