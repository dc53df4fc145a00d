"""The field on which hostile notebooks meet the grader: an exam of four exercises, two real exercises of the course, and gradings that tell
what they left behind.

`python field.py` reads the path of a plan from each line of its input, carries it out in a fork of its own, as root or as anybody, and says
when that has ended. A plan says what to grade and where to write what was found."""

import json
import os
import resource
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import torch

from microbert_course.grading import batch, isolation, room, scoring
from microbert_course.grading.inside import confine
from microbert_course.grading.limits import Limits
from microbert_course.grading.sandbox import Broken, Sandbox
from microbert_course.grading.tasks import Sheet, Task
from microbert_course.practice import uses
from microbert_course.practice.checking import Check, Verdict, Wrong, judge
from microbert_course.practice.exercises import checks

LESSONS = ("01_exam", "02_course")
REAL = (("03_attention", "attention.scaled_dot_product"), ("08_adamw", "optim.cosine_schedule"))
HIDDEN = "hidden-input-"


def numbers(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape)).float()


def mix_cases(rng: np.random.Generator) -> list[dict]:
    return [{"scores": numbers(rng, rows, keys), "value": numbers(rng, keys, width), "label": HIDDEN + rng.bytes(4).hex()}
            for rows, keys, width in ((2, 3, 4), (5, 2, 3), (1, 6, 2))]


def middle_cases(rng: np.random.Generator) -> list[dict]:
    return [{"numbers": rng.standard_normal(size).tolist()} for size in (1, 5, 8, 0)]


def middle(numbers: list) -> float:
    if not numbers:
        raise ValueError
    return float(np.sort(numbers)[len(numbers) // 2])


def scale_cases(rng: np.random.Generator) -> list[dict]:
    return [{"settings": {"size": size}, "state": {"weight": numbers(rng, size)}, "x": numbers(rng, rows, size), "upstream": upstream}
            for rows, size, upstream in ((2, 3, None), (4, 5, numbers(rng, 4, 5)))]


class Scale(torch.nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size))

    def forward(self, x):
        return x * self.weight


def exam(seed: int, word: str) -> Sheet:
    "A function of tensors, one of numbers that refuses an input, a word to be known, a class."
    rows = Wrong(lambda scores, value, label: torch.softmax(scores, 0) @ value, "The softmax runs over the wrong axis.")
    checks = (Check("exam.mix", "mix", mix_cases, lambda scores, value, label: torch.softmax(scores, -1) @ value, (rows,), ()),
              Check("exam.middle", "middle", middle_cases, middle, (Wrong(lambda numbers: max(numbers), "That is the largest."),), ()),
              Check("exam.word", "word", lambda rng: [{}], word, (Wrong("", "That is nothing."),), (), use=uses.value),
              Check("exam.scale", "Scale", scale_cases, Scale, (), (), use=uses.module))
    tasks = tuple(Task(check, f"1.{place}", check.name, points, (1, place)) for place, (check, points) in enumerate(zip(checks, (10, 5, 3, 7), strict=True), 1))
    return Sheet("01_exam", tasks, seed, "exam")


def course(seed: int) -> Sheet:
    "Two exercises of the course, whose targets are blank in the sandbox's library."
    found = [checks(lesson)[id] for lesson, id in REAL]
    return Sheet("02_course", tuple(Task(check, f"2.{place}", check.name, 10, (2, place)) for place, check in enumerate(found, 1)), seed, "course")


def digits(value) -> set[str]:
    "The first digits of every number among the inputs of a case."
    if isinstance(value, dict):
        return set().union(*map(digits, value.values()))
    if isinstance(value, torch.Tensor):
        return digits([*value.flatten().tolist(), value.sum().item()])
    found = [f"{abs(number):.6g}"[:6] for number in value] if isinstance(value, list) else []
    return {text for text in found if len(text) > 4}  # a 1 says nothing


class Grading:
    "One grading of a folder, watched. With `one_sandbox`, all submissions share one: quicker, and what one leaves behind meets the next."

    def __init__(self, plan: dict):
        self.plan, self.seconds, self.limits, self.sandbox = plan, {}, Limits(**plan["limits"]), None
        self.told, self.left, self.harmed, self.broken = [], [], [], []
        self.title, self.honest = "", plan["honest"]

    def run(self) -> dict:
        if sys.platform == "linux":
            confine.prctl(confine.PR_SET_CHILD_SUBREAPER, 1)  # whoever gets away from a sandbox comes to us
        tempfile.tempdir = self.plan["tmp"]
        plain_task, plain_folder = scoring.grade_task, isolation.folder
        scoring.grade_task = lambda *a: self.timed(plain_task, *a)
        if self.plan["one_sandbox"]:
            scoring.Sandbox, batch.grade_cells, isolation.folder = self.lend, self.grade_cells, lambda: self.folder(plain_folder)
        grading = batch.Batch([Path(self.plan["submissions"])], Path(self.plan["out"]), self.plan["level"], self.limits, self.plan["jobs"],
                              self.plan["seed"], known=LESSONS, sheet_of=self.sheet_of, unshare=self.plan["unshare"])
        start = time.monotonic()
        records = grading.run()
        took_s = time.monotonic() - start
        remaining = {*psutil.Process().children(recursive=True), *filter(self.is_ours, psutil.process_iter())}
        _, remaining = psutil.wait_procs(remaining, timeout=1)  # what is dead needs a moment to be gone
        self.left += map(described, remaining)
        for process in remaining:
            with suppress(psutil.Error):
                process.kill()
        return {"grades": {record.id: [[grade.id, grade.status, grade.points, grade.says] for grade in record.grades] for record in records},
                "reasons": {record.id: record.reason for record in records}, "seconds": self.seconds, "took_s": took_s, "told": self.told, "left": self.left,
                "harmed": self.harmed, "broken": self.broken, "grader_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}

    def sheet_of(self, lesson: str, seed: int) -> Sheet:
        return exam(seed, self.plan["word"]) if lesson == "01_exam" else course(seed)

    def timed(self, grade_task, cells, sheet, index, sandbox):
        "Grade one task; how long that took, and whether it tells an input, is written down."
        self.title, start = cells[0].partition("\n")[0].removeprefix("# "), time.monotonic()
        try:
            grade = grade_task(cells, sheet, index, sandbox)
        finally:
            self.seconds.setdefault(self.title, []).append(time.monotonic() - start)
        if any(told in grade.says for case in sheet.cases(index) for told in digits(case)):
            self.told.append(f"{self.title}: {grade.says}")
        return grade

    def grade_cells(self, cells, sheet, *where):
        "Grade one submission, then look after the sandbox it was lent: nobody may be left there, and an honest answer is still right."
        grades = scoring.grade_cells(cells, sheet, *where)
        if self.sandbox is not None:
            title, extra = self.title, self.below() - self.at_rest
            if extra:
                psutil.wait_procs(extra, timeout=0.5)  # what is dead needs a moment to be gone
                self.left += [f"{title}: {described(process)}" for process in self.below() - self.at_rest]
            self.harmed += self.harm_to_the_next(f"after {title}")
        return grades

    def harm_to_the_next(self, title: str) -> list[str]:
        "One honest answer, graded in the sandbox as it was left; which one changes from time to time."
        sheet = self.sheet_of("01_exam", 1)
        try:
            grade = scoring.grade_task([f"# {title}", *self.honest], sheet, len(self.seconds) // 2 % len(sheet.tasks), self.sandbox)
        except Broken as broken:
            self.end_sandbox()
            return [f"{title}: {broken}"]
        return [] if grade.status == "passed" else [f"{title}: {grade}"]

    @contextmanager
    def lend(self, ground, course, slot, stop, preload):
        "The sandbox of all submissions; one that breaks is replaced, as it would be in life."
        if self.sandbox is None:
            course = isolation.build_room(ground, "both", [name for lesson in LESSONS for name in self.sheet_of(lesson, 1).builds])
            self.sandbox = Sandbox(ground, course, slot, stop, self.plan["preload"], self.plan["warm"]).__enter__()
            self.at_rest = self.below()
        try:
            yield self.sandbox
        except Broken as broken:
            self.broken.append(f"{self.title}: {broken}")
            self.end_sandbox()
            raise

    def end_sandbox(self) -> None:
        if self.sandbox is not None:
            self.sandbox.__exit__()
            self.sandbox = None

    @contextmanager
    def folder(self, plain):
        "The grader's folder, and the sandbox goes before it does."
        with plain() as folder:
            try:
                yield folder
            finally:
                self.end_sandbox()

    def below(self) -> set[psutil.Process]:
        return set(psutil.Process(self.sandbox.process.pid).children(recursive=True))

    def is_ours(self, process: psutil.Process) -> bool:
        "Whether it has one of the users that this grading made, or was started by it."
        try:
            first = isolation.FIRST_USER + os.getpid() % 100_000 * 1000
            made = first <= process.uids().real < first + 1000
            return process.status() != psutil.STATUS_ZOMBIE and (made or any(f"{isolation.PREFIX}{os.getpid()}-" in word for word in process.cmdline()))
        except psutil.Error:
            return False


def described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {process.name()} {process.status()} {' '.join(process.cmdline())[:80]}"
    except psutil.Error:
        return ""


def plant(faults: list[str], secret: Path) -> None:
    "Break the grader in some ways, to see the suite fail."
    plain_paths = room.python_paths
    if "checks are in the room" in faults:
        room.KEPT_OF_PRACTICE = (*room.KEPT_OF_PRACTICE, "checks", "checking.py", "exercises.py")
    if "targets are not blanked" in faults:
        Sheet.builds = property(lambda sheet: [])
    if "an outcome is believed" in faults:
        scoring.judge = believing_judge
    if "the secret is in the sandbox" in faults:
        room.python_paths = lambda: [*plain_paths(), secret.parent]
    if "nobody is killed" in faults:
        Sandbox._kill = lambda sandbox: sandbox.process.poll() is None and sandbox.process.kill()
        isolation.START = isolation.START.replace("main()", "import inside.zygote as z; z.end_all = lambda facts: None; main()")


def believing_judge(check, cases, outcomes):
    "A judge that a forged record fools."
    return Verdict(True, "passed") if all(outcome.output is True for outcome in outcomes) else judge(check, cases, outcomes)


def carry_out(plan: dict) -> None:
    "Grade as the plan's user, in its folder, and write down what was found."
    os.chdir(plan["base"])
    os.environ["HOME"] = plan["base"]
    os.dup2(os.open("errors.txt", os.O_WRONLY | os.O_CREAT), 2)
    if plan["user"] != os.geteuid():
        os.setgroups([])
        os.setgid(plan["user"])
        os.setuid(plan["user"])
    plant(plan["faults"], Path(plan["secret"]))
    Path(plan["found"]).write_text(json.dumps(Grading(plan).run()))


def serve() -> None:
    "A fork for each plan, one after another: torch and the course are imported once."
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                carry_out(json.loads(Path(line.strip()).read_text()))
            except BaseException:
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    serve()
