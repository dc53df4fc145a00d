"""Folders that are whole or do not exist: sealed with a manifest of sizes and hashes, and renamed when complete."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microbert_course.files import sync_folder

MANIFEST = "manifest.json"
PARTIAL = ".partial"  # how the name of a folder ends that is still being written


@contextmanager
def whole_folder(
    path: Path,  # must not exist yet
) -> Iterator[Path]:  # an empty folder beside it
    """Fill the folder that this answers; at the end of the block it is sealed, flushed to the disk and renamed to `path`.

    Raises: OSError as the system reports it (a full disk, say); nothing is left behind then. A killed process leaves its
    `.NAME.PID.partial`, which is no valid folder and which `remove_debris` takes away."""
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        _seal(partial)
        partial.rename(path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _seal(folder: Path) -> None:
    "Flush every file to the disk and write down what they are, last of all."
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("r+b") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    with (folder / MANIFEST).open("w", encoding="utf-8", newline="\n") as file:
        file.write(_manifest_text(files))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def _manifest_text(files: dict[str, dict]) -> str:
    "The manifest as it stands in the file: it holds its own hash, so that it vouches for itself as well."
    own = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return json.dumps({"files": files, "sha256_of_files": own}, indent=1) + "\n"


def sha256(path: Path) -> str:
    "The hash of a file's bytes, as hexadecimal digits."
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(
    folder: Path,  # one that `whole_folder` wrote
) -> str | None:  # what is wrong, as the end of a sentence; None = every byte is as it was written
    "Read every file of the folder and compare it with the manifest."
    try:
        text = (folder / MANIFEST).read_bytes()
        files = json.loads(text)["files"]
        if text != _manifest_text(files).encode():
            return f"{MANIFEST} is damaged"
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (ValueError, KeyError, TypeError, OSError):
        return f"{MANIFEST} is damaged"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
        if sha256(path) != expected["sha256"]:
            return f"{name} holds other bytes than were written"
    return None


def remove_debris(parent: Path, name: str = "*") -> None:
    "Take away what killed writers left beside the folders of these names."
    for path in parent.glob(f".{name}.*{PARTIAL}"):
        shutil.rmtree(path, ignore_errors=True)
