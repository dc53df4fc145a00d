"""Texts with labels, from a package, the hub or any file of rows: which columns they stand in, and a sentence for every row that is wrong."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from microbert_course.data.sources import (
    PACKAGES,
    READERS,
    DataError,
    _looks_like_a_path,
    clean_text,
    duplicate_key,
    load,
    split_indices,
)
from microbert_course.data.streams import _kind, file_rows

TEXT_COLUMNS = ("text", "sentence", "review", "content", "comment", "tweet", "headline", "document", "body", "title")
LABEL_COLUMNS = ("label_name", "label_text", "label", "labels", "sentiment", "class", "category", "target", "rating", "stars")
MAX_LABELS = 1_000  # more different values than this are no labels


@dataclass(frozen=True)
class LabelledTexts:
    "Texts, one label each, and what the labels are called."

    texts: list[str]
    labels: list[int]  # numbers of `names`
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def part(self, rows: Iterable[int]) -> "LabelledTexts":
        "These rows, in this order."
        rows = list(rows)
        return replace(self, texts=[self.texts[row] for row in rows], labels=[self.labels[row] for row in rows])

    @property
    def counts(self) -> dict[str, int]:  # how often each label occurs
        "The rows of each label, in the order of the names."
        found = Counter(self.labels)
        return {name: found[number] for number, name in enumerate(self.names)}


def load_labelled(
    name: str | Path,  # "imdb", "rotten_tomatoes", a .csv, .json, .jsonl (.gz, .xz) or .parquet file, or a name on the hub
    text_column: str = "",  # "" = found by its name
    label_column: str = "",  # "" = found by its name
    seed: int = 0,  # of the split
) -> tuple[LabelledTexts, LabelledTexts]:  # to train on, to look at; markup taken out of the texts
    """Labelled texts, one in ten held out; copies of a text are on the same side (`data.sources.split_indices`).

    Raises: DataError if there is no such data, a column is missing, a row has no text or no label, or all rows have the same label."""
    if Path(name).is_file() or (_looks_like_a_path(str(name)) and str(name) not in PACKAGES):
        rows = read_labelled(name, text_column=text_column, label_column=label_column)
        train, validation = split_indices(rows.texts, max(1, len(rows) // 10), seed)
        if not len(validation):
            raise DataError(f"{name} has no text to hold out: all its rows are one text; give at least two different texts")
        return rows.part(train), rows.part(validation)
    parts = [load(str(name), split, seed) for split in ("train", "validation")]
    for part in parts:
        if "label" not in part.column_names:
            raise DataError(f'"{name}" has texts without labels (only {", ".join(map(repr, part.column_names))}): '
                            f'choose "imdb" or "rotten_tomatoes", or give a file with a column of labels')
    names = getattr(parts[0].features["label"], "names", None) or _names({str(value) for part in parts for value in part["label"]})
    return tuple(_checked_classes(LabelledTexts([clean_text(text) for text in part["text"]], _numbers(part, names), tuple(names)), f'"{name}"')
                 for part in parts)


def _numbers(part, names: Sequence[str]) -> list[int]:
    "The labels of a `datasets.Dataset` as numbers; a ClassLabel's are numbers already."
    is_numbered = hasattr(part.features["label"], "names")
    return list(part["label"]) if is_numbered else [names.index(str(value)) for value in part["label"]]


def read_labelled(
    path: str | Path,  # .csv, .json, .jsonl (.gz, .xz) or .parquet
    names: Sequence[str] | None = None,  # the labels that there may be, in order; None = those that the file has
    text_column: str = "",  # "" = found by its name
    label_column: str = "",  # "" = found by its name
) -> LabelledTexts:  # all rows, in the order of the file
    """The labelled texts of a file. Where `names` are given, a label may be a name or, if no name is a number, its place.

    Raises: DataError, with the row and its value, if a column is missing, a row has no text or a label that is none, or there is but one label."""
    path = Path(path).expanduser()
    columns, texts, values, places = None, [], [], []
    for place, row in _rows(path):
        if not isinstance(row, dict):
            raise DataError(f"{path}, {place}: a {type(row).__name__} where a row with named columns is expected: "
                            f'write {{"text": "…", "label": "…"}}')
        columns = columns or _columns(path, list(row), text_column, label_column)
        text, value = (_cell(row, column, f"{path}, {place}") for column in columns)
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{path}, {place}: the text in {columns[0]!r} is {text!r}: fill it in or delete the row")
        texts.append(clean_text(text))
        values.append(_label(value, f"{path}, {place}", columns[1]))
        places.append(place)
    if not texts:
        raise DataError(f"{path} holds no rows: put labelled texts into it or give another file")
    if names is None:
        found = set(values)
        if len(found) > MAX_LABELS or (len(found) > 20 and len(found) > len(texts) / 2):
            raise DataError(f"{path}: column {columns[1]!r} has {len(found):,} different values in {len(texts):,} rows, so they are no labels: "
                            f"name the column that holds them")
        names = _names(found)
    return _checked_classes(LabelledTexts(texts, _as_numbers(values, places, names, path), tuple(names)), path)


def _rows(path: Path) -> Iterator[tuple[str, object]]:
    "The rows of a file with their places."
    if not path.is_file():
        raise DataError(f'no file "{path}" (looked from {Path.cwd()}): give the path of a .csv, .json, .jsonl or .parquet file with labels')
    if path.suffix.lower() == ".parquet":
        return _parquet_rows(path)
    if _kind(path) not in (".csv", ".json", ".jsonl"):
        raise DataError(f"{path} is of no kind that holds labels ({', '.join(sorted({*READERS} - {'.txt'}))}, .parquet): convert or rename it")
    return file_rows(path)


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict]]:
    import pyarrow  # comes with datasets
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is no parquet file that can be read ({str(error).partition(chr(10))[0]}): write it again") from None
    yield from ((f"row {number:,}", row) for number, row in enumerate(rows, 1))


def _columns(path: Path, found: list[str], text_column: str, label_column: str) -> tuple[str, str]:
    "The columns of text and label: those asked for, else the first known names that the file has."
    chosen = []
    for wanted, known, what, such in ((text_column, TEXT_COLUMNS, "text", "text, sentence, review"),
                                      (label_column, LABEL_COLUMNS, "label", "label, sentiment, category")):
        lower = {name.strip().lower(): name for name in reversed(found) if isinstance(name, str)}
        names = [lower[name] for name in ([wanted.lower()] if wanted else known) if name in lower]
        if not names:
            tried = repr(wanted) if wanted else f"{such} or the like"
            raise DataError(f"{path} has no column of {what}s called {tried}, only {', '.join(map(repr, found))}: "
                            f"rename one, or name it with --{what}-column")
        chosen.append(names[0])
    return chosen[0], chosen[1]


def _cell(row: dict, column: str, place: str) -> object:
    if None in row or column not in row:
        raise DataError(f"{place}: no column {column!r}, only {', '.join(map(repr, row))}: give every row the same columns")
    return row[column]


def _label(value: object, place: str, column: str) -> str:
    "A label as a string: words and whole numbers are labels, everything else is a slip."
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int) or not str(value).strip():
        raise DataError(f"{place}: the label in {column!r} is {json.dumps(value, default=str)}: give a word or a whole number, or delete the row")
    return str(value).strip()


def _names(values: Iterable[str]) -> list[str]:
    "The different labels in order: by number where all are numbers, else by the alphabet."
    values = list(values)
    are_numbers = all(value.removeprefix("-").isdecimal() for value in values)
    return sorted(values, key=int) if are_numbers else sorted(values)


def _as_numbers(values: list[str], places: list[str], names: Sequence[str], path: Path) -> list[int]:
    numbers = {name: number for number, name in enumerate(names)}
    if not any(name.removeprefix("-").isdecimal() for name in names):  # of names that are numbers, such as stars, 0 and 1 would both be the first
        numbers |= {str(number): number for number in range(len(names))}  # 1 for the second name
    for value, place in zip(values, places, strict=True):
        if value not in numbers:
            raise DataError(f"{path}, {place}: the label {value!r} is none of {', '.join(names)}: correct it or delete the row")
    return [numbers[value] for value in values]


def _checked_classes(rows: LabelledTexts, where: str | Path) -> LabelledTexts:
    present = [name for name, count in rows.counts.items() if count]
    if len(present) < 2:
        raise DataError(f"{where}: all {len(rows):,} rows have the label {present[0]!r}, and telling labels apart takes two: add rows with another")
    return rows


def without_copies(
    train: LabelledTexts,
    held_out: LabelledTexts,
) -> tuple[LabelledTexts, int]:  # the rows of `train` whose text is not held out; how many were left out
    "Training rows without the texts that a model is scored on (compared as `duplicate_key` does)."
    known = {duplicate_key(text) for text in held_out.texts}
    rows = [row for row, text in enumerate(train.texts) if duplicate_key(text) not in known]
    return train.part(rows), len(train) - len(rows)
