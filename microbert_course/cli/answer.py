"""How a command of the course ends: quietly, or with one sentence for the user."""

import errno
import os
import sys
from collections.abc import Callable

from microbert_course.errors import CourseError
from microbert_course.files import DISK_FULL

OF_THE_PLACE = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)  # which have no exception of their own, unlike those below


def is_first_process() -> bool:
    "Whether this is the one process that speaks, of those that a launcher started."
    return int(os.environ.get("RANK", 0)) == 0


def answer(name: str, command: Callable[[], object]) -> int:  # the command's name in front of the sentence; the exit status
    "Run a command; a mistake that the user can mend is answered by its sentence and its status."
    if not is_first_process():
        name = f"{name}, process {os.environ['RANK']}"
    try:
        command()
    except CourseError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt as interrupt:
        print(f"\n{name}: interrupted{f'; {interrupt}' if str(interrupt) else ''}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has had enough, as in `microbert lessons list | head -3`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except RuntimeError as error:  # of pathlib, until Python 3.13
        if not str(error).startswith("Symlink loop"):
            raise
        print(f"{name}: a link leads to itself ({error}): choose another place", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno in DISK_FULL:
            sentence = f"the disk is full ({error}): free some space, or write elsewhere"
        elif isinstance(error, PermissionError | NotADirectoryError | FileExistsError | IsADirectoryError) or error.errno in OF_THE_PLACE:
            sentence = f"{error.filename} cannot be used ({error.strerror}): choose another place"
        else:
            raise
        print(f"{name}: {sentence}", file=sys.stderr)
        return 1
    return 0
