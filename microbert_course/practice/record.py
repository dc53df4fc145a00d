"""What a learner has done, in one readable file on their own disk: `work/progress.json`. Nobody else hears of it."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.files import read_json, write_json
from microbert_course.paths import work_dir

FORMAT = 1
NOTHING = {"attempts": 0, "passed": None, "hints": 0, "solution_seen": False}


def progress_path() -> Path:
    return work_dir() / "progress.json"


def read_progress() -> dict[str, dict]:  # by exercise: attempts, passed (when first), hints taken, solution_seen
    """What has been done so far; {} before the first attempt.

    Raises: CourseError if the file is damaged."""
    path = progress_path()
    if not path.exists():
        return {}
    try:
        kept = read_json(path)
        entries = {id: {**NOTHING, **entry} for id, entry in kept["exercises"].items()}
    except (CourseError, KeyError, TypeError, AttributeError) as error:
        raise CourseError(f"{path} is damaged ({str(error).partition(':')[0]}): mend it by hand, or move it away to begin a new one") from None
    if kept.get("format") != FORMAT:
        raise CourseError(f"{path} has the format {kept.get('format')} and this version reads {FORMAT}: update the course")
    return entries


@contextmanager
def entry_of(id: str) -> Iterator[dict]:
    """One exercise's entry to change in place; the file is whole before and after, and two kernels take turns.

    Raises: CourseError if the file is damaged."""
    from filelock import FileLock

    work_dir().mkdir(parents=True, exist_ok=True)
    with FileLock(work_dir() / ".progress.lock", timeout=30):
        entries = read_progress()
        entry = entries.setdefault(id, dict(NOTHING))
        yield entry
        write_json(progress_path(), {"format": FORMAT, "exercises": entries})


def record_attempt(id: str, passed: bool) -> None:
    "One more attempt; the first success keeps its time."
    with entry_of(id) as entry:
        entry["attempts"] += 1
        if passed and not entry["passed"]:
            entry["passed"] = datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def next_hint(id: str, num_hints: int) -> int:  # which one to show, counted from 1
    "One hint further, the last one again when there is no further."
    with entry_of(id) as entry:
        entry["hints"] = min(entry["hints"] + 1, num_hints)
        return entry["hints"]


def record_solution_seen(id: str) -> None:
    "The solution was looked at, which is allowed."
    with entry_of(id) as entry:
        entry["solution_seen"] = True
