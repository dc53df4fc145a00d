"""What is kept of a graded submission: one file each, in the form that Gradescope reads, complete enough to go on from."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.files import read_json, write_json
from microbert_course.grading.find import Submission
from microbert_course.grading.scoring import Grade
from microbert_course.grading.tasks import Sheet


@dataclass(frozen=True)
class Record:
    "The result of one submission."

    id: str
    file: str
    lesson: str | None
    content: str
    """sha256 of what could be read of the file."""
    checks: str
    """Fingerprint of the checks that judged it."""
    isolation: str
    limits: dict[str, float]
    grades: tuple[Grade, ...]
    max_points: int
    reason: str = ""
    """Why there was nothing to grade."""

    @property
    def points(self) -> int:
        return sum(grade.points for grade in self.grades)

    @property
    def status(self) -> str:
        return "error" if self.reason else "graded"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def record_path(out: Path, submission: Submission) -> Path:
    return out / "submissions" / submission.slug / "results.json"


def write_record(out: Path, submission: Submission, record: Record, sheet: Sheet | None) -> None:
    "Write one submission's results.json, whole or not at all."
    tasks = {task.check.id: task for task in sheet.tasks} if sheet else {}
    tests = [{"name": f"{tasks[grade.id].number} {tasks[grade.id].title}", "number": tasks[grade.id].number, "score": grade.points,
              "max_score": tasks[grade.id].points, "status": "passed" if grade.status == "passed" else "failed",
              "output": f"{grade.status}: {grade.says}" if grade.status != grade.says else grade.says, "visibility": "visible"}
             for grade in record.grades]
    path = record_path(out, submission)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {
        "score": record.points, "output": record.reason or f"{record.points} of {record.max_points} points; isolation: {record.isolation}",
        "visibility": "visible", "stdout_visibility": "hidden", "tests": tests,
        "extra_data": asdict(record)})


def read_record(out: Path, submission: Submission) -> Record | None:
    "A submission's record; None if there is none, or none that can be used."
    try:
        kept = read_json(record_path(out, submission))["extra_data"]
        return Record(**kept | {"grades": tuple(Grade(**grade) for grade in kept["grades"])})
    except (CourseError, KeyError, TypeError, OSError):
        return None
