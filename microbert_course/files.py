"""Files that are whole or absent, and reading them with a sentence for every way they can be broken."""

import errno
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microbert_course.errors import CourseError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write beside the final name, flush to the disk, then rename: a reader finds the old file or the new one, never half.

    Raises: OSError as the system reports it (a full disk, say); nothing is left behind then. A killed process may leave its
    `.NAME.PID.partial`, which nobody reads."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    "Flush the names in a folder to the disk, where the system can: a rename is safe only then."
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, remedy: str = "choose another place") -> None:
    "Make a folder, and those above it, if it is not there. Raises: CourseError if that cannot be done."
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(f"{folder} cannot be used ({error.strerror}): {remedy}") from None


def system_error(error: Exception) -> OSError | None:
    "What the system reported, also where a library in Rust (safetensors, tokenizers) tells it by an error of its own; None if it is something else."
    if isinstance(error, OSError):
        return error
    code = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(code[1]), os.strerror(int(code[1]))) if code else None


@contextmanager
def interrupt_afterwards() -> Iterator[None]:
    """Ctrl-C inside the block takes effect when the block is done: what it writes is complete then.

    Nor is the key lost, as it is where a library calls Python from C and drops what that raises (matplotlib opening a font)."""
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):  # not ours to hear, or ignored
        yield
        return
    pressed = []
    signal.signal(signal.SIGINT, lambda *event: pressed.append(event))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if pressed:
        usual(*pressed[-1])


def write_json(path: str | Path, value: object) -> None:
    "Write `value` as readable JSON, whole or not at all."
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path, remedy: str = "restore it or train again") -> dict:  # remedy: for a file that is damaged
    """The object in a JSON file.

    Raises: CourseError if the file is missing, cut short or not an object."""
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CourseError(f"{path} does not exist: give a folder that a training run wrote") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CourseError(f"{path} is damaged ({error}): {remedy}") from None
    if not isinstance(value, dict):
        raise CourseError(f"{path} holds a {type(value).__name__} where an object is expected: {remedy}")
    return value
