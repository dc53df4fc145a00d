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
KINDS = {"attempts": int, "passed": str | None, "hints": int, "solution_seen": bool}
REMEDY = "mend it by hand, or move it away to begin a new one"


def progress_path() -> Path:
    return work_dir() / "progress.json"


def read_progress() -> dict[str, dict]:  # by exercise: attempts, passed (when first), hints taken, solution_seen
    """What has been done so far; {} before the first attempt.

    Raises: CourseError if the file is damaged."""
    path = progress_path()
    if not path.exists():
        return {}
    kept = read_json(path, REMEDY)
    if kept.get("format") != FORMAT:
        raise CourseError(f"{path} has the format {kept.get('format')} and this version reads {FORMAT}: update the course")
    entries = kept.get("exercises")
    if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
        raise CourseError(f"{path} is damaged (an exercise's entry is not like {NOTHING}): {REMEDY}")
    return {id: {**NOTHING, **entry} for id, entry in entries.items()}


def _is_entry(entry: object) -> bool:
    "Whether what is known of an exercise has the types that are counted on."
    return isinstance(entry, dict) and all(isinstance(entry.get(name, NOTHING[name]), kind) for name, kind in KINDS.items())


@contextmanager
def entry_of(id: str) -> Iterator[dict]:
    """One exercise's entry to change in place; the file is whole before and after, and two kernels take turns.

    Raises: CourseError if the file is damaged, or cannot be written."""
    from filelock import FileLock

    try:
        work_dir().mkdir(parents=True, exist_ok=True)
        with FileLock(work_dir() / ".progress.lock", timeout=30):
            entries = read_progress()
            entry = entries.setdefault(id, dict(NOTHING))
            yield entry
            write_json(progress_path(), {"format": FORMAT, "exercises": entries})
    except OSError as error:  # filelock's time-out is one
        raise CourseError(f"{progress_path()} cannot be written ({error.strerror or error}): mend that, or name another folder in "
                          "MICROBERT_WORK") from None


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


def record_hint(id: str, number: int) -> None:
    "The hints up to this one were taken."
    with entry_of(id) as entry:
        entry["hints"] = max(entry["hints"], number)


def record_solution_seen(id: str) -> None:
    "The solution was looked at, which is allowed."
    with entry_of(id) as entry:
        entry["solution_seen"] = True
