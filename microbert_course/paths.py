"""Where the lessons are, where runs and a learner's work are written, and where downloads are kept."""

import os
import sys
from pathlib import Path

from microbert_course.errors import CourseError


def course_root() -> Path:
    """The checkout that holds the lessons: the one this package was installed from, else the one around the current folder.

    Raises: CourseError if there is none."""
    here = Path(__file__).resolve().parent.parent
    if _holds_lessons(here):
        return here
    for folder in (Path.cwd(), *Path.cwd().parents):
        if _holds_lessons(folder):
            return folder
    raise CourseError(f"no lessons at {here} or above {Path.cwd()}: run this inside a clone of the course's repository")


def _holds_lessons(folder: Path) -> bool:
    return (folder / "settings.ini").is_file() and (folder / "nbs").is_dir()


def runs_dir() -> Path:
    "The folder for training runs: $MICROBERT_RUNS, else `runs/` in the checkout, else `runs/` in the current folder."
    return _own_folder("MICROBERT_RUNS", "runs")


def work_dir() -> Path:
    "The folder for a learner's own copies, progress and adopted code: $MICROBERT_WORK, else `work/` in the checkout or the current folder."
    return _own_folder("MICROBERT_WORK", "work")


def _own_folder(variable: str, name: str) -> Path:
    if os.environ.get(variable):
        return Path(os.environ[variable])
    try:
        return course_root() / name
    except CourseError:
        return Path.cwd() / name


def cache_dir() -> Path:
    "The folder for downloads that outlive a checkout: $MICROBERT_CACHE, else `microbert` where this platform keeps caches."
    if os.environ.get("MICROBERT_CACHE"):
        return Path(os.environ["MICROBERT_CACHE"]).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "microbert"
    if os.name == "nt":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "microbert" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "microbert"
