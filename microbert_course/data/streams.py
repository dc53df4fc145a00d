"""Texts one after another, from files of any size: nothing is held that has been handed out, and a fault is named with file, line and byte.

The same kinds of file as `data.sources.load` reads, and their compressed forms; what is said about a fault is said in the same words."""

import csv
import glob
import gzip
import json
import lzma
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from microbert_course.data.corpus import is_held_out
from microbert_course.data.sources import (
    PACKAGES,
    READERS,
    DataError,
    _checked,
    _from_cache,
    _from_hub,
    _from_package,
    _hub_is_reachable,
    _is_hidden,
    _looks_like_a_path,
    _unpacked,
)

MAX_TEXT = 2**20  # characters; a longer text is handed out in pieces, cut at white space
MAX_ROW = 2**24   # bytes of a row of .csv or .jsonl, which cannot be read in pieces
MAX_JSON = 2**26  # bytes of a .json file, which cannot be read in parts
COMPRESSED = {".gz": gzip.open, ".xz": lzma.open}
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
BOM = b"\xef\xbb\xbf"


def stream_texts(
    source: str | Path | Iterable[str | Path],  # a name, a file, a folder, a pattern such as "shards/*.jsonl.gz"; or several of them
    split: str = "all",  # "train", "validation" (held out by the text's own hash), or both
    one_in: int = 10,  # one text in so many is held out
) -> Iterator[str]:  # the texts as they came, in the order of the files
    """The texts of a data set, each read when it is asked for.

    A name is one that `data.sources.load` knows: a package's, or the hub's, which is then streamed over the network. Files end in .txt,
    .csv, .jsonl, .json; all but the last may be compressed, as in .jsonl.gz or .csv.xz. A text of more than a million characters comes in pieces.

    Raises: DataError, in one sentence, at once if there is nothing of that name; while it reads, for what cannot be read."""
    if split not in ("all", "train", "validation"):
        raise DataError(f'split "{split}" does not exist: use "train", "validation" or "all"')
    if one_in < 2:
        raise DataError(f"one_in is {one_in}, which leaves nothing to train on: hold out one text in 2 or more")
    names = [source] if isinstance(source, str | Path) else list(source)
    if not names:
        raise DataError("the list of files is empty: give at least one")
    texts = _pieces(_all_texts([_opened(str(name)) for name in names]))
    return texts if split == "all" else (text for text in texts if is_held_out(text, one_in) == (split == "validation"))


def text_files(
    source: str | Path,  # a file, a folder, or a pattern
) -> list[Path]:  # by name
    """The files that `stream_texts` would read, for shuffling them first. Hidden ones are left out.

    Raises: DataError if there are none, or one is of a kind not read here."""
    path = Path(source).expanduser()
    if not str(source):
        found = []
    elif path.is_dir():
        found = [file for file in path.rglob("*") if _kind(file) and file.is_file() and not _is_hidden(file.relative_to(path))]
    elif path.exists():
        found = [path]
    else:
        names = sorted(glob.glob(str(path), recursive=True), key=len, reverse=True)  # a link to a folder above makes ** come by again and again
        found = list({os.path.realpath(name): Path(name) for name in names if os.path.isfile(name)}.values())
    if not found:
        kinds = f"{', '.join(READERS)} (or .gz, .xz) file"
        raise DataError(f"{source} has no {kinds} in it: give a folder of such files" if str(source) and path.is_dir() else
                        f'no file or folder "{source}" (looked from {Path.cwd()}): give the path of a {kinds}, a folder of them, or a pattern '
                        f'such as "shards/*.txt"')
    for file in found:
        if not _kind(file):
            raise DataError(f"{file} is of no kind read here ({', '.join(READERS)}, or .gz, .xz): convert or rename it")
    return sorted(found)


def _kind(path: Path) -> str:
    "The suffix that says how to read it; '' if nothing here can."
    unpacked = _unpacked(path)
    suffix = unpacked.suffix.lower()
    return suffix if suffix in READERS and not (suffix == ".json" and unpacked != path) else ""


def _opened(name: str) -> list[Path] | str:
    "The files that a name means, or the name of a package or of a data set on the hub."
    if name in PACKAGES:
        return name
    is_path = not name or _looks_like_a_path(name) or Path(name).expanduser().exists() or any(sign in name for sign in "*?[")
    return text_files(name) if is_path else name


def _all_texts(sources: list[list[Path] | str]) -> Iterator[str]:
    for source in sources:
        if isinstance(source, list):
            for file in source:
                yield from _file_texts(file)
        else:
            yield from _from_package(source)["text"] if source in PACKAGES else _hub_texts(source)


def _hub_texts(name: str) -> Iterator[str]:
    "The texts of the training split, from the cache or over the network, row by row."
    splits = _from_cache(name)
    if splits is None and _hub_is_reachable():
        import datasets

        try:
            splits = datasets.load_dataset(name, streaming=True)
        except Exception:  # whatever the network, the hub or its files lead to: `load` has the sentence for it
            splits = None
    splits = _from_hub(name) if splits is None else splits
    if "train" not in splits:
        raise DataError(f'"{name}" on the hub has no split "train", only {", ".join(splits)}: save the part you want as .jsonl and give that file')
    number = 0
    try:
        for number, row in enumerate(splits["train"], 1):
            yield _checked(row, f'"{name}" on the hub, row {number:,}')[0]
    except (OSError, ConnectionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f'"{name}" on the hub breaks off after row {number:,} ({reason}): run the same command again') from error


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    "Each text, in pieces of at most MAX_TEXT characters; a piece ends at white space where it has any."
    for text in texts:
        while len(text) > MAX_TEXT:
            cut = max(text.rfind(space, 0, MAX_TEXT) for space in " \n\t") + 1 or MAX_TEXT
            yield text[:cut]
            text = text[cut:]
        if text.strip():
            yield text


def _file_texts(path: Path) -> Iterator[str]:
    "The texts of one file; it must hold at least one."
    if _kind(path) == ".txt":
        return _whole(path, _txt_texts(path))
    return (_checked(row, f"{path}, {place}")[0] for place, row in file_rows(path, needed="text"))


def file_rows(
    path: Path,  # .csv, .jsonl or .json, the first two may be compressed
    needed: str | None = None,  # a column that the header of a .csv must have
) -> Iterator[tuple[str, object]]:  # where it stands, as in "line 7"; the row, which is a dict where the file is as it should be
    """The rows of one file, each read when it is asked for.

    Raises: DataError, in one sentence, for what cannot be read, and for a file without rows."""
    rows = {".csv": lambda: _csv_rows(path, needed), ".jsonl": lambda: _jsonl_rows(path), ".json": lambda: _json_rows(path)}
    return _whole(path, rows[_kind(path)]())


def _whole(path: Path, items: Iterable) -> Iterator:
    "Hand out what is read from a file, and say so where the file is empty or cut short."
    is_empty = True
    try:
        for item in items:
            is_empty = False
            yield item
    except (gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not whole, or no {'xz' if path.suffix == '.xz' else 'gzip'} file ({error}): fetch it again") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): mend that or give another file") from None
    if is_empty:
        raise DataError(f"{path} is empty: put text into it or give another file")


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    "Raises: DataError for a file that is binary, as far as its beginning tells; a zero further on is found when it is read."
    with COMPRESSED.get(path.suffix.lower(), open)(path, "rb") as file:
        head = file.peek(1)
        if b"\0" in head:
            raise DataError(_binary(path, head.index(0)))
        yield file


def _binary(path: Path, place: int) -> str:
    return f"{path} is a binary file (byte {place:,} is zero): give a text file in UTF-8"


def _decoded(raw: bytes, path: Path, line: int, start: int) -> str:  # start: where `raw` begins in the file
    "Raises: DataError naming line and byte for what is not text in UTF-8."
    if b"\0" in raw:
        raise DataError(_binary(path, start + raw.index(0)))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {line:,}: byte {start + error.start:,} of the file, 0x{raw[error.start]:02x}, is not UTF-8: "
                        f"if this is text, convert it, for example with `iconv -f latin1 -t utf-8`") from None


def _txt_texts(path: Path) -> Iterator[str]:
    "One text a line; of a line longer than MAX_TEXT bytes, never more than two such pieces are in memory."
    line, start, rest = 1, 0, b""  # of what is read next: its line, its first byte, what was read of it already
    with _open(path) as file:
        while read := file.readline(MAX_TEXT):
            raw = rest + read
            if start == 0 and raw.startswith(BOM):
                start, raw = len(BOM), raw.removeprefix(BOM)
            cut = len(raw) if read.endswith(b"\n") or len(read) < MAX_TEXT else _cut(raw)
            yield from (text for text in re.split("\r\n|\r|\n", _decoded(raw[:cut], path, line, start)) if text.strip())
            line, start, rest = line + read.endswith(b"\n"), start + cut, raw[cut:]
        if rest:
            yield from (text for text in re.split("\r", _decoded(rest, path, line, start)) if text.strip())


def _cut(raw: bytes) -> int:
    "Where the beginning of a giant line may end: after its last white space, else between two characters."
    after_space = max(raw.rfind(space) for space in (b" ", b"\t", b"\r")) + 1
    if after_space:
        return after_space
    cut = len(raw)
    while cut > len(raw) - 4 and raw[cut - 1] & 0xC0 == 0x80:  # the later bytes of a character
        cut -= 1
    return cut - 1 if raw[cut - 1] >= 0xC0 else len(raw)  # its first byte goes with them; and if that is wrong, decoding will say so


def _rows_of_bytes(path: Path) -> Iterator[tuple[int, str]]:  # its number, the line with its end
    "Lines of at most MAX_ROW bytes, decoded."
    number, start = 1, 0
    with _open(path) as file:
        while raw := file.readline(MAX_ROW + 1):
            if len(raw) > MAX_ROW:
                raise DataError(f"{path}, line {number:,}: longer than {MAX_ROW:,} bytes, too long for one row: cut it into several, or save it as .txt")
            text = _decoded(raw.removeprefix(BOM) if start == 0 else raw, path, number, start)
            yield number, text
            number, start = number + 1, start + len(raw)


def _jsonl_rows(path: Path) -> Iterator[tuple[str, object]]:
    for number, line in _rows_of_bytes(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f'{path}, line {number:,}: not JSON ({getattr(error, "msg", "nested too deeply")}): write one object a line, '
                            f'such as {{"text": "…"}}') from None
        yield f"line {number:,}", row


def _csv_rows(path: Path, needed: str | None) -> Iterator[tuple[str, dict]]:
    first_line, num_chars = 1, 0  # of the row that is being read

    def lines() -> Iterator[str]:
        nonlocal num_chars
        for _, text in _rows_of_bytes(path):
            for part in _LINE.findall(text):
                num_chars += len(part)
                if num_chars > MAX_ROW:
                    raise DataError(f"{path}, line {first_line:,}: the row that begins there is longer than {MAX_ROW:,} characters: close its quotes")
                yield part

    csv.field_size_limit(2**31 - 1)  # MAX_ROW is the limit here
    reader = csv.DictReader(lines(), strict=True)
    try:
        names = reader.fieldnames or []
        if names and needed and needed not in names:
            raise DataError(f'{path} has no column "{needed}", only {", ".join(map(repr, names))}: '
                            f'rename the column that holds the text to "{needed}" in its first line')
        first_line, num_chars = 2, 0
        for row in reader:
            if None in row:
                raise DataError(f"{path}, line {reader.line_num:,}: more cells than the header has columns: put \"…\" around a text with commas")
            yield f"line {reader.line_num:,}", row
            first_line, num_chars = reader.line_num + 1, 0
    except csv.Error as error:
        raise DataError(f"{path}, line {first_line:,}: not CSV ({error}): mend the quotes there") from None


def _json_rows(path: Path) -> Iterator[tuple[str, object]]:
    if path.stat().st_size > MAX_JSON:
        raise DataError(f"{path} is one JSON list of {path.stat().st_size:,} bytes, which cannot be read in parts: save it as .jsonl, one object a line")
    yield from READERS[".json"](path)
