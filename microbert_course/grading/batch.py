"""A folder of submissions, graded some at a time; whatever happens, what is finished is on disk and is not graded twice."""

import os
import secrets
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

import microbert_course
from microbert_course.errors import CourseError
from microbert_course.files import read_json, write_json
from microbert_course.grading import isolation, reports, tasks
from microbert_course.grading.find import Submission, submissions, text
from microbert_course.grading.isolation import Ground
from microbert_course.grading.limits import Limits
from microbert_course.grading.notebooks import Unreadable, code_cells, read_bytes
from microbert_course.grading.records import Record, digest, read_record, write_record
from microbert_course.grading.scoring import grade_cells
from microbert_course.grading.tasks import Sheet
from microbert_course.practice import swap

OnResult = Callable[[Record], None]


@dataclass
class Batch:
    "One grading: what is graded, by which checks, and where the results go."

    paths: Sequence[Path]
    out: Path
    level: str
    """One of isolation.LEVELS."""
    limits: Limits = field(default_factory=Limits)
    jobs: int = 1
    seed: int | None = None
    """None: the one this folder was begun with, else a fresh one."""
    exercise: str | None = None
    nbgrader: bool = False
    known: Sequence[str] | None = None
    """The lessons there are; None: the course's."""
    sheet_of: Callable[[str, int], Sheet] = tasks.course_sheet
    """The tasks of a lesson, for a seed."""
    unshare: bool = True

    def run(self, on_start: Callable[[int, list[str]], None] = lambda total, lines: None, on_result: OnResult = lambda record: None) -> list[Record]:
        """Grade everything that is not graded yet, write all results; the records in the order of their ids.

        Raises: CourseError for what cannot be begun; KeyboardInterrupt, after all sandboxes have ended, with how to go on."""
        from filelock import FileLock, Timeout

        swap.put_back()  # a teacher who adopted functions of their own still grades with the course's
        known = list(tasks.lessons() if self.known is None else self.known)
        lesson = tasks.lesson_named(self.exercise, known) if self.exercise else None
        found, lines = submissions(self.paths, lesson, known, self.out)
        try:
            (self.out / "submissions").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CourseError(f"--out {text(self.out)} cannot be made or used ({error.strerror}): give a folder that can be written") from None
        try:
            with FileLock(self.out / ".lock", timeout=0):
                seed = self._begin()
                on_start(len(found), lines)
                sheets = {lesson: self.sheet_of(lesson, seed) for lesson in dict.fromkeys(one.lesson for one in found) if lesson}
                records = self._grade_all(found, sheets, on_result)
                self._write(records, list(sheets.values()), seed, lines)
                return records
        except Timeout:
            raise CourseError(f"another grader is writing to {text(self.out)}: wait for it, or give another --out") from None

    def _begin(self) -> int:  # the seed
        "Write down what this grading is; one that was begun before must be the same."
        path, about, now = self.out / "grading.json", self._about(), _now()
        if path.exists():
            kept = self._begun(path)
            if kept["paths"] != about["paths"]:
                raise CourseError(f"{text(self.out)} holds the results of {', '.join(kept['paths'])}: give another --out")
            if self.seed not in (None, kept["seed"]):
                raise CourseError(f"{text(self.out)} was begun with --seed {kept['seed']}, not {self.seed}: leave --seed out to go on, or give another --out")
        else:
            kept = {"seed": secrets.randbits(63) if self.seed is None else self.seed, "begun": now}
        write_json(path, {"seed": kept["seed"], "begun": kept["begun"], "graded": now, **about})
        return kept["seed"]

    def _begun(self, path: Path) -> dict:
        try:
            kept = read_json(path)
            if type(kept["seed"]) is int and kept["begun"] and all(isinstance(one, str) for one in kept["paths"]):
                return kept
        except (CourseError, KeyError, TypeError):
            pass
        raise CourseError(f"{text(path)} is damaged, and the seed was in it: give another --out")

    def _about(self) -> dict:
        return {"isolation": self.level, "limits": asdict(self.limits), "exercise": self.exercise, "course": microbert_course.__version__,
                "python": sys.version.split()[0], "paths": sorted({text(os.path.abspath(path)) for path in self.paths})}

    def _grade_all(self, found: list[Submission], sheets: dict[str, Sheet], on_result: OnResult) -> list[Record]:
        records, stop, slots = {}, threading.Event(), SimpleQueue()
        for slot in range(self.jobs):
            slots.put(slot)
        with isolation.folder() as folder:
            ground = Ground(self.level, self.limits, folder, self.unshare)
            for sheet in sheets.values():
                isolation.build_room(ground, sheet.lesson, sheet.builds)

            def one(submission: Submission) -> Record | None:
                slot = slots.get()
                try:
                    return None if stop.is_set() else self._grade(submission, sheets.get(submission.lesson), ground, slot, stop)
                finally:
                    slots.put(slot)

            pool = ThreadPoolExecutor(self.jobs)
            try:
                for future in as_completed([pool.submit(one, submission) for submission in found]):
                    records[future.result().id] = future.result()
                    on_result(future.result())
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"{len(records)} of {len(found)} submissions are graded, the same command goes on from here") from None
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
        return [records[submission.id] for submission in found]

    def _grade(self, submission: Submission, sheet: Sheet | None, ground: Ground, slot: int, stop: threading.Event) -> Record | None:
        "The record of one submission: the one on disk if it still holds, else a new one."
        content, reason = b"", submission.problem
        try:
            content = read_bytes(submission.path)
            cells = [] if reason else code_cells(content)
        except Unreadable as error:
            reason = reason or str(error)
        record = Record(submission.id, text(submission.path), submission.lesson, digest(content), sheet.fingerprint if sheet else "", self.level,
                        asdict(self.limits), (), sheet.max_points if sheet else 0, reason)
        old = read_record(self.out, submission)
        if old and replace(old, file=record.file, grades=()) == record:
            return replace(record, grades=old.grades)
        if not reason:
            record = replace(record, grades=tuple(grade_cells(cells, sheet, ground, slot, stop)))
        if stop.is_set():
            return None
        write_record(self.out, submission, record, sheet)
        return record

    def _write(self, records: list[Record], sheets: list[Sheet], seed: int, lines: list[str]) -> None:
        reports.write_csv(self.out / "results.csv", records, sheets)
        reports.write_html(self.out / "report.html", records, sheets, {"seed": seed, "graded": _now(), **self._about()}, lines)
        if self.nbgrader:
            reports.write_nbgrader(self.out / "nbgrader.csv", records)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def cores() -> int:
    "The cores that this process may use."
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
