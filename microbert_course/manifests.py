"""Folders that are whole or do not exist: sealed with a manifest of sizes, hashes and shapes, and renamed when complete."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from microbert_course.files import sync_folder

MANIFEST = "manifest.json"
PARTIAL = ".partial"  # how the name of a folder ends that is still being written


@contextmanager
def whole_folder(
    path: Path,  # must not exist yet
    about: Mapping[str, object] | None = None,  # what the manifest says besides
) -> Iterator[Path]:  # an empty folder beside it
    """Fill the folder that this answers; at the end of the block it is sealed, flushed to the disk and renamed to `path`.

    Raises: OSError as the system reports it (a full disk, say); nothing is left behind then. A killed process leaves its
    `.NAME.PID.partial`, which is no valid folder and which `remove_debris` takes away."""
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        seal(partial, about or {})
        partial.rename(path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def seal(folder: Path, about: Mapping[str, object]) -> None:
    "Flush every file to the disk and write down what they are, last of all."
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("r+b") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path), **_shapes_in(path)}
    with (folder / MANIFEST).open("wb") as file:
        file.write(_manifest_bytes({**about, "files": files}))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def _manifest_bytes(content: dict) -> bytes:
    "The manifest as it stands in the file: it holds its own hash, so that it vouches for itself as well."
    own = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return (json.dumps({**content, "sha256_of_this": own}, indent=1) + "\n").encode()


def _shapes_in(path: Path) -> dict[str, object]:
    "Shapes and dtypes of the arrays in a file, for people who read the manifest."
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r")
        return {"shape": list(array.shape), "dtype": str(array.dtype)}
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return {"shapes": {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}}
    return {}


def read_manifest(folder: Path) -> dict | None:  # None if it is missing or damaged
    "What the manifest of a sealed folder says."
    try:
        raw = (folder / MANIFEST).read_bytes()
        content = json.loads(raw)
        del content["sha256_of_this"]
        return content if _manifest_bytes(content) == raw else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sha256(path: Path) -> str:
    "The hash of a file's bytes, as hexadecimal digits."
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(
    folder: Path,  # one that `whole_folder` wrote
    check_hashes: bool = True,  # False compares sizes alone
) -> str | None:  # what is wrong, to be put into a sentence; None = every byte is as it was written
    "Compare the files of the folder with the manifest."
    manifest = read_manifest(folder)
    if manifest is None:
        return f"{MANIFEST} is {'damaged' if (folder / MANIFEST).exists() else 'missing'}"
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size:,} bytes instead of {expected['bytes']:,}"
        if check_hashes and sha256(path) != expected["sha256"]:
            return f"{name} holds other bytes than were written"
    return None


def debris(parent: Path, name: str = "*") -> list[Path]:
    "What is being written right now beside the folders of these names, or was left by writers that were killed."
    return sorted(parent.glob(f".{name}.*{PARTIAL}"))


def remove_debris(parent: Path, name: str = "*") -> None:
    "Take away what killed writers left; nobody must be writing there."
    for path in debris(parent, name):
        shutil.rmtree(path, ignore_errors=True)
