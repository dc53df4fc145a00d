"""Token ids on disk: made once, found again by what they were made from, and never half or damaged without somebody saying so.

An entry is a folder under `paths.cache_dir()/tokens`. Its name is a hash of everything that its content depends on: the text, the
tokenizer, the settings and the code. In it are arrays of ids (.npy, read by memory map), the tokenizer, and a manifest with the size and
hash of each file. It is filled beside its final name, flushed to the disk and renamed, while a lock keeps all other processes waiting.
So it is there whole or not at all: a builder that is killed leaves debris, which the next one clears away. Whoever opens an entry
compares sizes always and hashes once per process, which costs about a second for 1.5 GB."""

import datetime
import hashlib
import inspect
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from microbert_course.errors import CourseError
from microbert_course.files import DISK_FULL, system_error
from microbert_course.manifests import MANIFEST, PARTIAL, damage, debris, read_manifest, remove_debris, whole_folder
from microbert_course.paths import cache_dir

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NAME_LENGTH = 16   # hexadecimal digits of an entry's name; its manifest has all that went into it
_checked_here: dict[Path, int] = {}  # entries whose hashes this process has compared: folder, time of its manifest


# --- what an entry depends on

def hash_texts(texts: Iterable[str]) -> str:  # read once, never held
    "A hash of the texts and their order; ['ab', 'c'] and ['a', 'bc'] differ."
    digest = hashlib.sha256()
    for text in texts:
        _add(digest, text)
    return digest.hexdigest()


def _add(digest, text: str) -> None:
    raw = text.encode()
    digest.update(b"%d:" % len(raw) + raw)


def code_version(*modules: ModuleType) -> str:
    """A hash of the source of these modules, and of the releases of `tokenizers` and `numpy`, which do their work.

    Every public name counts from the file where it is written, so that a learner's function in the place of the library's is other code."""
    files = {Path(module.__file__) for module in modules}
    for module in modules:
        files |= {file for name in getattr(module, "__all__", ()) if (file := _source_file(getattr(module, name)))}
    digest = hashlib.sha256()
    for text in sorted(file.read_text(encoding="utf-8") for file in files):
        _add(digest, text)
    return f"{digest.hexdigest()[:NAME_LENGTH]}, tokenizers {version('tokenizers')}, numpy {np.__version__}"


def _source_file(thing: object) -> Path | None:
    "Where a function, or the first method of a class, was written."
    functions = [thing, *vars(thing).values()] if inspect.isclass(thing) else [thing]
    names = (function.__code__.co_filename for function in functions if inspect.isfunction(function))
    return next((Path(name) for name in names if os.path.isfile(name)), None)


# --- build once, read often

def tokens_dir() -> Path:
    "Where the entries are: $MICROBERT_CACHE/tokens, or the platform's place for caches."
    return cache_dir() / "tokens"


def build_once(
    made_from: str,  # a few words for `microbert cache usage`, such as "imdb, 4,000 pieces, rows of 128"
    key: Mapping[str, object],  # everything that the content depends on: texts and numbers, by name
    build: Callable[[Path], None],  # fills an empty folder; called only if there is no whole entry
) -> Path:  # the folder, whole and checked; only to be read
    """The folder that `build` fills, from the cache if it was ever filled for this key.

    Processes that ask at once wait for the one that builds. A damaged entry is built anew, which is said on standard error.

    Raises: CourseError if the cache cannot be written, or `build` leaves the folder empty; and whatever `build` raises, nothing left behind."""
    content = {name: str(value) for name, value in sorted(key.items())}
    folder = tokens_dir() / hashlib.sha256(json.dumps(content).encode()).hexdigest()[:NAME_LENGTH]
    if folder.is_dir() and fault_in(folder) is None:
        return folder
    with _locked(folder.name):
        fault = fault_in(folder) if folder.is_dir() else None
        if fault:
            print(f"the cached ids of {made_from} are damaged ({fault}): they are made anew", file=sys.stderr)
            _remove(folder)
        if not folder.is_dir():
            _build(folder, made_from, content, build)
    return folder


def _build(folder: Path, made_from: str, content: dict[str, str], build: Callable[[Path], None]) -> None:
    "Fill a folder beside the final one, seal it, rename it. The lock is held."
    remove_debris(folder.parent, folder.name)
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        with whole_folder(folder, {"made_from": made_from, "created": created, "key": content}) as partial:
            build(partial)
            if not any(partial.iterdir()):
                raise CourseError(f"nothing was written for {made_from}: `build` must put files into the folder that it is given")
    except Exception as error:
        if (found := system_error(error)) and found.errno in DISK_FULL:
            raise CourseError(f"the disk of the cache {tokens_dir()} is full ({found.strerror}): free some space there, or set MICROBERT_CACHE to a folder "
                              f"on another disk") from None
        raise
    _checked_here[folder] = _sealed_at(folder)  # the hashes are minutes old at most, and made from these files


def fault_in(folder: Path) -> str | None:  # None = nothing is wrong
    "What is damaged in an entry: sizes are compared always, every byte once per process."
    is_known = (folder / MANIFEST).exists() and _checked_here.get(folder) == _sealed_at(folder)
    fault = damage(folder, check_hashes=not is_known)
    if fault is None:
        _checked_here[folder] = _sealed_at(folder)
    return fault


def _sealed_at(folder: Path) -> int:
    return (folder / MANIFEST).stat().st_mtime_ns


@contextmanager
def _locked(name: str, timeout_s: float = -1) -> Iterator[None]:  # -1 = wait for as long as it takes
    """One process at a time for an entry; the system frees the lock of a process that dies.

    Raises: CourseError if nothing can be written there, filelock.Timeout if another one has it for longer than `timeout_s`."""
    from filelock import FileLock

    locks = tokens_dir() / ".locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        (locks / f"{name}.lock").touch()
    except OSError as error:
        raise CourseError(f"the cache {tokens_dir()} cannot be written ({error.strerror}): set MICROBERT_CACHE to a folder of yours") from None
    with FileLock(locks / f"{name}.lock", timeout=timeout_s):
        yield


def _remove(folder: Path) -> None:
    "An entry is gone at once, by its name; its files follow."
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{PARTIAL}")
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


# --- arrays in an entry

def write_rows(
    path: Path,  # ends in .npy
    blocks: Iterable[np.ndarray],  # each (rows, seq), of one dtype and one seq
) -> int:  # rows written
    """Write blocks of rows under one another as one array, in the memory of a single block.

    Raises: CourseError if there is no block, ValueError if they do not fit under one another."""
    num_rows, first = 0, None
    with Path(path).open("wb") as file:
        for block in blocks:
            if first is None:
                first = block
                _write_header(file, first, 0)
            if block.dtype != first.dtype or block.shape[1:] != first.shape[1:]:
                raise ValueError(f"a block is {block.dtype} of {block.shape[1:]} a row and the first is {first.dtype} of {first.shape[1:]}: "
                                 "give blocks that fit under one another")
            file.write(np.ascontiguousarray(block).data)
            num_rows += len(block)
        if first is None:
            raise CourseError(f"no rows for {Path(path).name}: the texts are empty, give at least one")
        file.seek(0)
        _write_header(file, first, num_rows)  # numpy leaves room in the header for a larger number
    return num_rows


def _write_header(file, first: np.ndarray, num_rows: int) -> None:
    description = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": (num_rows, *first.shape[1:])}
    np.lib.format.write_array_header_1_0(file, description)


def open_rows(path: str | Path) -> np.ndarray:  # (rows, seq), read-only, memory-mapped: a row is read from the disk when it is asked for
    "The array in a .npy file of an entry."
    return np.load(path, mmap_mode="r")


def cached_rows(
    made_from: str,  # a few words for `microbert cache usage`
    texts: Callable[[], Iterable[str]],  # a fresh iterator at every call: it is read for the key, and again to build
    tokenizer: "PreTrainedTokenizerFast",
    max_seq_len: int,
    layout: str = "first",  # as `corpus.encode_rows` knows them
    stride: int = 0,  # tokens that neighbouring windows share
) -> np.ndarray:  # (rows, max_seq_len) memory-mapped, uint16 where the vocabulary fits, else int32
    """The rows of ids of a corpus of any size, encoded once and then read from the cache.

    Raises: CourseError as `build_once` does, or if the texts were not the same when they were read again."""
    from microbert_course.data import corpus, sources, wordpiece

    read = hash_texts(texts())

    def build(folder: Path) -> None:
        encoder, digest = wordpiece.WordCacheEncoder(tokenizer), hashlib.sha256()

        def watched() -> Iterator[str]:
            for text in texts():
                _add(digest, text)
                yield text

        write_rows(folder / "rows.npy", (corpus.encode_rows(chunk, encoder, max_seq_len, layout, stride) for chunk in corpus.in_chunks(watched())))
        if digest.hexdigest() != read:
            raise CourseError(f"the texts of {made_from} changed while they were read: give the same ones, in the same order, at every call")
        tokenizer.save_pretrained(folder)

    key = {"texts": read, "tokenizer": hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(), "max_seq_len": max_seq_len,
           "layout": layout, "stride": stride, "code": code_version(corpus, sources, wordpiece)}
    return open_rows(build_once(made_from, key, build) / "rows.npy")


# --- looking after the cache

@dataclass(frozen=True)
class Entry:
    "One entry, as its manifest describes it; what cannot be read is left empty."

    folder: Path
    made_from: str
    num_rows: int
    num_bytes: int
    created: datetime.datetime | None

    @property
    def name(self) -> str:
        "What `clear` takes."
        return self.folder.name

    @property
    def age_days(self) -> float:
        "Days since it was built; since its folder was changed, if nothing else is known."
        created = self.created.timestamp() if self.created else self.folder.stat().st_mtime
        return max(0.0, (time.time() - created) / 86_400)


def entries() -> list[Entry]:
    "All entries, the oldest first."
    folders = [folder for folder in tokens_dir().glob("*") if folder.is_dir() and not folder.name.startswith(".")]
    return sorted(map(_entry, folders), key=lambda entry: -entry.age_days)


def _entry(folder: Path) -> Entry:
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    manifest = read_manifest(folder)
    if manifest is None:  # `verify` says how it is damaged
        return Entry(folder, "", 0, num_bytes, None)
    num_rows = sum(file.get("shape", [0])[0] for file in manifest["files"].values())
    return Entry(folder, manifest["made_from"], num_rows, num_bytes, datetime.datetime.fromisoformat(manifest["created"]))


def verify() -> Iterator[tuple[Entry, str | None]]:  # an entry and what is damaged in it, None if nothing is
    "Read every byte of every entry."
    for entry in entries():
        yield entry, damage(entry.folder)


def clear(
    name: str = "",  # an entry's name, or the beginning of it
    everything: bool = False,  # and what killed builders left
    older_than: float | None = None,  # days
) -> list[Entry]:  # what was removed; an entry that is being built or cleared elsewhere stays
    """Remove one entry, all, or the old ones.

    Raises: CourseError if it is not said which, or no entry or several have that name."""
    if (bool(name), everything, older_than is not None).count(True) != 1:
        raise CourseError("say what to clear: an entry by its name (`microbert cache usage` lists them), --all, or --older-than DAYS")
    if older_than is not None and not older_than >= 0:
        raise CourseError(f"older than {older_than} days is no age: give 0 or more")
    chosen = entries()
    if name:
        chosen = [entry for entry in chosen if entry.name.startswith(name)]
        if len(chosen) != 1:
            found = f"{len(chosen)} entries begin with" if chosen else "no entry begins with"
            raise CourseError(f"{found} {name!r}: `microbert cache usage` lists them")
    if older_than is not None:
        chosen = [entry for entry in chosen if entry.age_days > older_than]
    if everything:
        for partial in debris(tokens_dir()):
            _if_free(partial.name.split(".")[1], lambda partial=partial: shutil.rmtree(partial, ignore_errors=True))
    return [entry for entry in chosen if _if_free(entry.name, lambda entry=entry: _remove(entry.folder))]


def _if_free(name: str, remove: Callable[[], None]) -> bool:  # whether it was done
    "Call `remove` unless another process is at work on that entry."
    from filelock import Timeout

    try:
        with _locked(name, timeout_s=0):
            remove()
    except (Timeout, FileNotFoundError):  # FileNotFoundError: another one was faster
        return False
    except PermissionError as error:  # Windows, where a memory map holds the file
        raise CourseError(f"{error.filename} is in use ({error.strerror}): end the run that reads it, then try again") from None
    return True
