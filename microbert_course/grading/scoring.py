"""From a notebook to a grade: the sandbox gives outcomes, this process judges them, and only a positive record earns points."""

import builtins
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from microbert_course.errors import CourseError
from microbert_course.grading.inside import wire
from microbert_course.grading.isolation import Ground, build_room
from microbert_course.grading.sandbox import Broken, NotStarted, Sandbox, refused
from microbert_course.grading.tasks import Sheet, Task
from microbert_course.practice.checking import NOT_YET, judge
from microbert_course.practice.outcomes import Case, Outcome
from microbert_course.practice.plain import NotPlain, load

STATUSES = ("passed", "failed", "error", "timeout", "memory")
OWN_ERROR = "an exception of its own"
BLANK = f"{NOT_YET}, or it calls the library's version of what this lesson builds, which the grader leaves out"
MAX_HEAD = 200_000  # bytes of JSON that say which cells failed
JUDGING = threading.Lock()  # references and the zoo draw from the one global generator

ENDED = {
    "timeout": ("timeout", "it did not come to an end within the time limit"),
    "memory": ("memory", "it used more memory than the limit allows"),
    "processes": ("error", "it started more processes than the limit allows"),
    "output": ("error", "it gave back more than the limit allows"),
    "ended": ("error", "its process ended before it gave an answer"),
}
ENDLESS = "the notebook's cells did not come to an end within the time limit"


class Forged(Exception):
    "Bytes that an honest sandbox does not send."


@dataclass(frozen=True)
class Grade:
    "What one task of one submission earned."

    id: str
    status: str
    points: int
    says: str
    """For the student: shows no input, no expected value and no text of the student's."""
    mistake: int | None = None
    """Which of the zoo's wrong answers it is."""


def grade_cells(cells: list[str], sheet: Sheet, ground: Ground, slot: int = 0, stop: threading.Event | None = None) -> list[Grade]:
    """The grades of a notebook's code, one a task.

    Raises: CourseError if no sandbox can be started."""
    stop = stop or threading.Event()
    course = build_room(ground, sheet.lesson, sheet.builds)
    grades: list[Grade] = []
    for _ in range(2):  # a sandbox that broke is replaced once
        try:
            with Sandbox(ground, course, slot, stop, sheet.preload) as sandbox:
                while len(grades) < len(sheet.tasks) and not stop.is_set() and not _endless(grades):
                    grades.append(grade_task(cells, sheet, len(grades), sandbox))
        except NotStarted as error:
            if not stop.is_set():
                raise refused(error, ground.level) from None
            break
        except Broken as broken:
            grades.append(_zero(sheet.tasks[len(grades)], *ENDED.get(str(broken), ENDED["ended"])))
        if len(grades) == len(sheet.tasks) or _endless(grades):
            break
    status, says = ("timeout", ENDLESS) if _endless(grades) else ("error", "the notebook broke its sandbox before this exercise")
    return grades + [_zero(task, status, says) for task in sheet.tasks[len(grades):]]


def _endless(grades: list[Grade]) -> bool:
    "Whether the cells themselves took too long: they would again, in every further exercise."
    return bool(grades) and grades[-1].says == ENDLESS


def grade_task(cells: Sequence[str], sheet: Sheet, index: int, sandbox: Sandbox) -> Grade:
    """Run one task in the sandbox and judge what came back.

    Raises: CourseError if the check itself is broken: no fault of a submission."""
    task = sheet.tasks[index]
    ending, content = sandbox.run(sheet.job(index, cells))
    if ending != "ended":
        status, says = ENDED.get(ending, ENDED["ended"])
        return _zero(task, status, ENDLESS if ending == "timeout" and not content else says)
    try:
        return judged(task, sheet.cases(index), content)
    except CourseError:
        raise
    except Exception:  # made of a stranger's bytes; whatever is wrong with them, they are no answer
        return _zero(task, *ENDED["ended"])


def judged(task: Task, cases: Sequence[Case], content: bytes) -> Grade:
    """The grade for what a task's process wrote: how the cells went, then one outcome a case.

    Raises: CourseError if the check itself is broken; Forged, NotPlain and whatever else unlikely bytes lead to."""
    if content[:1] != b"C":
        raise Forged
    head, *messages = wire.split(content[1:], len(cases) + 2) or [b"{}"]  # one too many is enough to know
    if len(head) > MAX_HEAD:
        raise Forged
    about = json.loads(head)
    if about.get("answer") == "blank":
        return _zero(task, "failed", NOT_YET)
    if about.get("answer") == "absent":
        return _zero(task, "error", f"no cell defines {task.check.name}{_first_failure(about.get('failed'))}")
    if len(messages) != len(cases):
        return _zero(task, *ENDED["ended"])
    outcomes = [_outcome(message, case, task) for message, case in zip(messages, cases, strict=True)]
    with JUDGING:
        verdict = judge(task.check, cases, outcomes)
    if verdict.passed:
        return Grade(task.check.id, "passed", task.points, "passed")
    status = {None: "failed", "MemoryError": "memory"}.get(verdict.raised, "error")
    return Grade(task.check.id, status, 0, BLANK if verdict.not_yet else verdict.headline, verdict.mistake)


def _outcome(message: bytes, case: Case, task: Task) -> Outcome:
    value = load(message)
    if not isinstance(value, dict) or set(value) != {"output", "error", "changed"}:
        raise Forged
    error, changed = value["error"], value["changed"]
    if not (error is None or isinstance(error, str)) or not isinstance(changed, list) or not all(name in case for name in changed):
        raise Forged
    return Outcome(value["output"] if error is None else None, error and known_error(error), "", tuple(changed))


def known_error(name: str) -> str:
    "The name of an exception that is built in or the course's; any other text might be anything."
    found = getattr(builtins, name, None)
    return name if name in (NotPlain.__name__, CourseError.__name__) or isinstance(found, type) and issubclass(found, BaseException) else OWN_ERROR


def _first_failure(failed: object) -> str:
    "The first cell that raised, from a list that may be anything."
    if isinstance(failed, list) and failed and isinstance(failed[0], list) and len(failed[0]) == 2:
        number, name = failed[0]
        if type(number) is int and 0 < number < 10_000 and isinstance(name, str):
            return f"; code cell {number} raises {known_error(name)}"
    return ""


def _zero(task: Task, status: str, says: str) -> Grade:
    return Grade(task.check.id, status, 0, says)

