"""The data sets that the course knows: what each is, and its rows, from a file, a package, the cache or the hub.

What is known of each is in `registry_entries`, and adding a set is one entry there; `registry_rows` turns its rows into prompts with answers, and
`registry_tasks` looks at files of which nothing is known."""

import difflib
import fnmatch
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from microbert_course.data.labelled import _rows
from microbert_course.data.registry_entries import ENTRIES, Entry
from microbert_course.data.registry_rows import either, placed, placed_examples, to_examples
from microbert_course.data.registry_tasks import check_rows, described, detect_task
from microbert_course.data.sources import PACKAGES, DataError, _hub_is_reachable, load
from microbert_course.data.streams import _file_texts, _kind

__all__ = ["REGISTRY", "Entry", "check_rows", "chosen_config", "described", "detect_task", "entry", "fetch_set", "load_set", "nearest", "read_rows",
           "rows_of", "to_examples", "where"]

REGISTRY = {entry.name: entry for entry in ENTRIES}


def entry(name: str) -> Entry:
    """What is known of the data set of that name.

    Raises: DataError with the nearest names if there is none."""
    if name not in REGISTRY:
        near = nearest(name)
        raise DataError(f"there is no data set {name!r} here: " + (f"did you mean {either(near)}?" if near else f"choose one of {', '.join(REGISTRY)}"))
    return REGISTRY[name]


def nearest(name: str) -> list[str]:
    "Names that the word is part of, here or on the hub; else those that are spelled nearly so."
    word = name.lower().strip()
    within = [known for known, found in REGISTRY.items() if word and (word in known or word in found.hub.lower())]
    return within or difflib.get_close_matches(word, REGISTRY, n=5, cutoff=0.5)


def read_rows(path: str | Path) -> Iterator[tuple[str, object]]:  # where it stands, as in "line 7"; the row
    """The rows of a .csv, .json, .jsonl (.gz, .xz) or .parquet file, or the lines of a .txt file as rows with the column text.

    Raises: DataError, in one sentence, for what cannot be read."""
    path = Path(path).expanduser()
    if path.is_file() and _kind(path) == ".txt":
        return ((f"text {number:,}", {"text": text}) for number, text in enumerate(_file_texts(path), 1))
    return _rows(path)


def load_set(
    name: str,  # a key of REGISTRY
    split: str = "train",
    config: str | None = None,  # None = the entry's first
    path: str | Path | None = None,  # a file with rows of that set, instead of looking for them
    num_rows: int | None = None,  # no more examples than this; None = all
) -> list[dict]:  # as `to_examples` makes them
    """The examples of a set: from the file, else from an installed package, the cache or the hub.

    Raises: DataError, in one sentence, for an unknown set, config or split, for rows that are not as they should be, and at once, with what to do,
    if the set is on the hub alone and the hub is out of reach."""
    found = entry(name)
    return [example for _, example in islice(placed_examples(rows_of(found, split, config, path), found), num_rows)]


def rows_of(found: Entry, split: str = "train", config: str | None = None, path: str | Path | None = None) -> Iterator[tuple[str, object]]:
    "The rows as they come, each with its place; arguments and errors as for `load_set`."
    config = chosen_config(found, config)
    if path is not None:
        return ((f"{path}, {place}", row) for place, row in read_rows(path))
    if split not in found.splits:
        raise DataError(f'"{found.name}" has no split "{split}" to learn or score with, only {", ".join(found.splits)}'
                        + (f" ({found.note})" if found.note else ""))
    if found.package and split in ("train", "validation"):
        table = load(found.package if _is_installed(found) else found.hub, split)
    else:
        table = _on_hub(found, config, split)
    return ((f'"{found.name}", {place}', row) for place, row in placed(table))


def chosen_config(found: Entry, config: str | None) -> str | None:
    """The config asked for, or the entry's first.

    Raises: DataError if the set has none of that name."""
    if config is None:
        return found.configs[0] if found.configs else None
    if not any(fnmatch.fnmatchcase(config, known) for known in found.configs):
        near = difflib.get_close_matches(config, found.configs, n=5, cutoff=0.3) if len(found.configs) > 10 else found.configs
        raise DataError(f'"{found.name}" has no config "{config}": '
                        + (f"choose {either(near or found.configs[:5])}" if found.configs else "leave it out, there is but one"))
    return config


def _is_installed(found: Entry) -> bool:
    return bool(found.package) and importlib.util.find_spec(PACKAGES[found.package][0]) is not None


def where(found: Entry) -> str:  # "package", "cache" or "hub"
    "Where the rows would come from, by a look at this machine alone."
    if _is_installed(found):
        return "package"
    return "cache" if any(_cached(found, config) for config in found.configs or (None,)) else "hub"


def _cached(found: Entry, config: str | None) -> list[Path]:
    "Folders in which `datasets` keeps a config."
    import datasets
    from datasets.naming import camelcase_to_snakecase

    owner, _, name = found.hub.partition("/")
    folder = Path(datasets.config.HF_DATASETS_CACHE) / f"{owner}___{camelcase_to_snakecase(name)}"
    return [path for path in folder.glob(f"{config or 'default'}/*/*") if path.is_dir()]


@contextmanager
def _asking_nobody() -> Iterator[None]:
    import datasets

    before, datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _on_hub(found: Entry, config: str | None, split: str):
    "A split from the cache, else over the network: text to pretrain on is streamed, the rest kept."
    import datasets

    if _cached(found, config):
        with _asking_nobody():
            return _loaded(lambda: datasets.load_dataset(found.hub, config, split=split), found, config)
    _must_be_reachable(found, config)
    return _loaded(lambda: datasets.load_dataset(found.hub, config, split=split, revision=found.revision or None, streaming=found.kind == "text"),
                   found, config)


def _must_be_reachable(found: Entry, config: str | None) -> None:
    if not _hub_is_reachable():
        named = found.name + (f" --config {config}" if config not in (None, found.configs[0]) else "")
        raise DataError(f'"{found.name}" is on the hub ({found.hub}), which is out of reach, and not in the cache: give a file of its rows, or once '
                        f"connected run `HF_HUB_OFFLINE=0 microbert data fetch {named}`")


def _loaded(call: Callable, found: Entry, config: str | None):
    try:
        return call()
    except Exception as error:  # from the network, the hub or the files there: all of them end in one sentence
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f'"{found.name}" cannot be had from the hub ({found.hub}{f", config {config}" if config else ""}), which says “{reason}”: '
                        f"look at https://huggingface.co/datasets/{found.hub}, or give a file of its rows") from error


def fetch_set(name: str, config: str | None = None) -> str:  # where it is now, in words
    """Have a set on this machine: nothing to do for one that a package brings or the cache holds, else download a config with all its splits.

    Raises: DataError, at once, if the hub is out of reach."""
    found = entry(name)
    config = chosen_config(found, config)
    if _is_installed(found):
        return f"{name} comes with the installed package {PACKAGES[found.package][1]}"
    if not (folders := _cached(found, config)):
        import datasets

        _must_be_reachable(found, config)
        _loaded(lambda: datasets.load_dataset(found.hub, config, revision=found.revision or None), found, config)
        folders = _cached(found, config)
    return str(folders[0] if folders else "in the cache of datasets")
