"""A submission read as bytes, its code cells as text. Nothing in it is run, unpickled or believed here."""

import errno
import json
import os
import stat
from pathlib import Path

MAX_BYTES = 20_000_000
MAX_CODE = 1_000_000
CONFLICT = ("<<<<<<< ", ">>>>>>> ")


class Unreadable(Exception):
    "Why a file cannot be graded; the text goes on after the file's name."


def read_bytes(path: Path) -> bytes:
    """A regular file's content, at most 20 MB; nothing else is opened for longer than it takes to see what it is.

    Raises: Unreadable with the reason."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise Unreadable("is a symbolic link, which is not followed" if error.errno == errno.ELOOP
                         else f"cannot be read ({error.strerror})") from None
    try:
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            raise Unreadable("is a folder" if stat.S_ISDIR(kind) else "is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise Unreadable(f"is larger than {MAX_BYTES // 1_000_000} MB")
    return content


def code_cells(content: bytes) -> list[str]:
    """The text of the code cells. What the metadata says is not looked at: another kernel's name breaks no answer.

    Raises: Unreadable with the reason."""
    if not content.strip():
        raise Unreadable("is empty")
    notebook = _parsed(_text(content))
    if not isinstance(notebook, dict):
        raise Unreadable("is JSON, but no notebook")
    if "worksheets" in notebook or notebook.get("nbformat") in (1, 2, 3):
        raise Unreadable("is in an old notebook format: open and save it in Jupyter")
    cells = notebook.get("cells")
    if notebook.get("nbformat") != 4 or not isinstance(cells, list):
        raise Unreadable("is JSON, but no notebook of format 4")
    sources = [_source(cell, number) for number, cell in enumerate(cells, start=1)]
    code = [source for source in sources if source is not None and source.strip()]
    if not code:
        raise Unreadable("holds no code")
    if sum(map(len, code)) > MAX_CODE:
        raise Unreadable(f"holds more than {MAX_CODE // 1_000_000} MB of code")
    return code


def _text(content: bytes) -> str:
    "UTF-8, or UTF-16 where a byte order mark says so, as some Windows programs write it."
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise Unreadable(f"is no valid {'UTF-16' if encoding == 'utf-16' else 'UTF-8'} text") from None


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    except ValueError as error:
        lines = text.splitlines()
        if any(line.startswith(CONFLICT) for line in lines):
            number = next(number for number, line in enumerate(lines, start=1) if line.startswith(CONFLICT))
            raise Unreadable(f"holds an unresolved merge conflict (line {number})") from None
        place = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Unreadable(f"is no JSON, or cut short{place}") from None


def _source(cell: object, number: int) -> str | None:  # None for a cell that is no code
    kind, source = (cell.get("cell_type"), cell.get("source")) if isinstance(cell, dict) else (None, None)
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(kind, str) or not isinstance(source, str):
        raise Unreadable(f"is damaged: cell {number} has no type or no text")
    return source if kind == "code" else None
