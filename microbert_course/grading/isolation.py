"""The levels of isolation: how a sandbox is started at each of them. Which one works here is found out by trying, in `doctor`."""

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from microbert_course.errors import CourseError
from microbert_course.grading import room
from microbert_course.grading.limits import Limits

LEVELS = ("bubblewrap", "landlock", "weak")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
# the last line spares every sandbox the second in which Python takes torch down
START = "import os, sys; sys.path[:0] = sys.argv[2:]; from inside.zygote import main; main(); os._exit(0)"
ENVIRONMENT = {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
               "HF_DATASETS_OFFLINE": "1", "USER": "student", "LOGNAME": "student", "PYTHONHASHSEED": "0"}
FIRST_USER = 2_000_000_000  # users that own nothing; no system hands out numbers so high
PREFIX = "microbert-grade-"
COURSE, WORK = "/microbert-course", "/microbert-work"  # where bubblewrap puts them


@dataclass(frozen=True)
class Ground:
    "What all sandboxes of one grading share: the level, the limits, and a folder with the course as they see it."

    level: str
    limits: Limits
    folder: Path
    unshare: bool = True
    """Whether the landlock level may make namespaces; False plays a machine that forbids them."""


@dataclass(frozen=True)
class Start:
    "How one sandbox is started, and what its first message says."

    command: list[str]
    environment: dict[str, str]
    setup: dict
    work: Path | None
    """The folder to be removed afterwards; None where it goes with the sandbox."""


@contextmanager
def folder():
    "A folder for the rooms and work folders of one grading; what a killed grading left is swept away first."
    base = Path(tempfile.gettempdir())
    for old in base.glob(f"{PREFIX}*"):
        owner = re.fullmatch(rf"{PREFIX}(\d+)-\w+", old.name)
        if owner and not psutil.pid_exists(int(owner.group(1))) and old.is_dir() and not old.is_symlink() and old.stat().st_uid == _user():
            remove(old)
    made = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    made.chmod(0o711)  # the sandbox's user passes through
    try:
        yield made
    finally:
        remove(made)


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def remove(path: Path) -> None:
    "Remove a folder, whatever modes its owner gave to what is inside."

    def open_up(function, name, _):
        parent = os.path.dirname(name)
        for place in (parent, name):
            if not os.path.islink(place):
                os.chmod(place, 0o700)
        function(name)

    for _ in range(3):
        try:
            return shutil.rmtree(path, onerror=open_up)
        except FileNotFoundError:
            return None
        except OSError:
            continue
    return shutil.rmtree(path, ignore_errors=True)


def build_room(ground: Ground, name: str, builds) -> Path:
    "The course without the answers of one lesson, made once a grading."
    path = ground.folder / name
    if not path.exists():
        path.mkdir()
        room.build(path, builds)
        path.chmod(0o755)
    if ground.level != "bubblewrap" and not (ground.folder / "site").exists():
        room.link_packages(ground.folder / "site")
    return path


def start(
    ground: Ground, course: Path,
    slot: int,                    # a small number that no other running sandbox has
    preload: Sequence[str] = (),  # modules to import once
    warm: bool = True,            # whether to import as well what torch puts off
) -> Start:
    """How to start a sandbox at the ground's level.

    Raises: CourseError for a level that this system cannot have."""
    if not hasattr(os, "fork"):
        raise CourseError(f"the grader cannot run on {platform.system()}: run it on Linux, on macOS or in WSL")
    setup = {"level": ground.level, "preload": list(preload), "warm": warm, "limits": asdict(ground.limits), "unshare": ground.unshare,
             "count_processes": os.geteuid() == 0 or _kernel() >= (5, 14)}
    uid = FIRST_USER + os.getpid() % 100_000 * 1000 + slot if os.geteuid() == 0 else None
    if ground.level == "bubblewrap":
        sites = [str(path) for path in room.site_folders()]
        setup |= {"work": WORK, "uid": uid}
        command = [*bubblewrap(ground, course), *python(ground, slot, [COURSE, *sites])]
        return Start(command, ENVIRONMENT | _places(WORK), setup, None)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=ground.folder))
    site = ground.folder / "site"
    parts = [room.without_packages(path) for path in room.python_paths()]
    readable = [*(path for some, _ in parts for path in some), site, course, *sorted({path.resolve() for path in site.iterdir()})]
    listable = [path for _, some in parts for path in some]
    uid = uid if _is_open_to_all([room.executable(), Path(os.__file__), course, *room.site_folders()]) else None
    if uid is not None:
        os.chown(work, uid, uid)
    setup |= {"work": str(work), "uid": uid, "readable": list(map(str, readable)), "listable": list(map(str, listable)),
              "writable": [str(work), *DEVICES]}
    return Start(python(ground, slot, [str(course), str(site)]), ENVIRONMENT | _places(str(work)), setup, work)


def python(ground: Ground, slot: int, path: list[str]) -> list[str]:
    "The command; the token in it is how a left-over process would be found."
    return [str(room.executable()), "-I", "-S", "-B", "-c", START, token(ground, slot), *path]


def token(ground: Ground, slot: int) -> str:
    return f"{ground.folder.name}/{slot}"


def left_over(ground: Ground, slot: int = 0) -> list:
    "Processes of a sandbox, ended or not, that still live and have not disguised themselves."
    found = []
    for process in psutil.process_iter():
        try:
            if token(ground, slot) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _places(work: str) -> dict[str, str]:
    return {"HOME": work, "TMPDIR": work, "MPLCONFIGDIR": work, "HF_HOME": work, "XDG_CACHE_HOME": work}


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2]) if sys.platform == "linux" else (0, 0)


def _is_open_to_all(paths: list[Path]) -> bool:
    "Whether any user may pass through all folders on the way to these paths."
    return all(folder.stat().st_mode & 0o001 for path in paths for folder in path.resolve().parents)


def bubblewrap(ground: Ground, course: Path) -> list[str]:
    "The command line in front of Python's: what is seen inside, and what is not."
    size = str(int(ground.limits.file_mb * 2 * 2**20))
    program = shutil.which("bwrap")
    if program is None:
        raise CourseError("bubblewrap is not installed: apt install bubblewrap, or dnf install bubblewrap")
    if os.geteuid() == 0:  # no user namespace: inside one, nobody would still be root outside
        words = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"]
        words += [word for power in ("CAP_SETUID", "CAP_SETGID", "CAP_KILL") for word in ("--cap-add", power)]
    else:
        words = ["--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    words += ["--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "sandbox"]
    words += ["--perms", "0755", "--size", "65536", "--tmpfs", "/dev"]
    for device in DEVICES:
        words += ["--dev-bind", device, device]
    for place in ("/dev/shm", "/tmp", WORK):
        words += ["--perms", "1777", "--size", size, "--tmpfs", place]
    seen = [*room.python_paths(), *room.site_folders()]
    above = {folder for path in seen for folder in path.parents if folder != Path("/") and not _is_plain_link(folder)}
    for folder in sorted(above - {Path("/dev"), Path("/dev/shm"), Path("/tmp")}):
        words += ["--perms", "0755", "--dir", str(folder)]
    for path in room.python_paths():
        words += ["--symlink", os.readlink(path), str(path)] if _is_plain_link(path) else ["--ro-bind", str(path), str(path)]
    for site in room.site_folders():
        words += ["--ro-bind", str(site), str(site)]
    packages = {*room.site_folders(), *(folder for path in room.python_paths() if not path.is_symlink() for folder in room.package_folders(path))}
    for path in sorted(path for folder in packages for path in folder.glob(f"{room.PACKAGE}*") if path.is_dir()):
        words += ["--size", "4096", "--tmpfs", str(path), "--remount-ro", str(path)]
    return [program, *words, "--proc", "/proc", "--ro-bind", str(course), COURSE, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORK, "--"]


def _is_plain_link(path: Path) -> bool:
    "Whether a path such as /lib is a link to a neighbour that is bound as well."
    return path.is_symlink() and not os.path.isabs(os.readlink(path)) and path.parent == Path("/")
