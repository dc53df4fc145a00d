"""The field on which hostile notebooks meet the grader: a sheet of four exercises, two real ones of the course, and one grading in a
process of its own, as root or as anybody, which tells what it left behind.

`python field.py plan.json` grades; the plan says what, and where to write what was found."""

import json
import os
import resource
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import torch

from microbert_course.grading import batch, isolation, scoring
from microbert_course.grading.inside import confine
from microbert_course.grading.limits import Limits
from microbert_course.grading.sandbox import Broken, Sandbox
from microbert_course.grading.tasks import Sheet, Task
from microbert_course.practice import uses
from microbert_course.practice.checking import Check, Wrong
from microbert_course.practice.exercises import checks

LESSONS = ("01_exam", "03_attention", "08_adamw")
REAL = {"03_attention": "attention.scaled_dot_product", "08_adamw": "optim.cosine_schedule"}
HIDDEN = "hidden-input-"
ALONE = "this process's memory"  # this attack would find there what earlier notebooks of a shared sandbox said


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
    return Sheet("01_exam", tasks, seed, "exam", ("matplotlib.pyplot",))


def real(lesson: str, seed: int) -> Sheet:
    "One exercise of the course, whose target is blank in the sandbox's library."
    check = checks(lesson)[REAL[lesson]]
    return Sheet(lesson, (Task(check, "1", check.name, 10, (int(lesson[:2]), 0)),), seed, "real", ("torch.nn.functional",))


class Grading:
    "One grading of a folder, watched."

    def __init__(self, plan: dict):
        self.plan, self.seconds, self.left, self.shared = plan, {}, [], {}
        self.limits, self.sandbox_cpu_s = Limits(**plan["limits"]), 0.0

    def run(self) -> dict:
        confine.prctl(confine.PR_SET_CHILD_SUBREAPER, 1)  # whoever gets away from a sandbox comes to us
        tempfile.tempdir = self.plan["tmp"]
        plain_task = scoring.grade_task
        scoring.grade_task = lambda *a: self.timed(plain_task, *a)
        if self.plan["one_sandbox"]:
            batch.grade_cells, plain_folder = self.grade_in_one_sandbox, isolation.folder
            isolation.folder = lambda: self.folder(plain_folder)
        fault = self.plan.get("fault")  # planted, to see the suite fail
        if fault == "checks are in the room":
            from microbert_course.grading import room
            room.KEPT_OF_PRACTICE = (*room.KEPT_OF_PRACTICE, "checks", "checking.py", "exercises.py")
        if fault == "targets are not blanked":
            Sheet.builds = property(lambda sheet: [])
        if fault == "an outcome is believed":
            scoring.judge = lambda check, cases, outcomes: scoring_judge(check, cases, outcomes)
        if fault == "the secret is in the sandbox":
            plain = isolation.room.python_paths
            isolation.room.python_paths = lambda: [*plain(), Path(self.plan["secret"]).parent]
        if fault == "nobody is killed":
            Sandbox._kill = lambda sandbox: sandbox.process.poll() is None and sandbox.process.kill()
            isolation.START = isolation.START.replace("main()", "import inside.zygote as z; z.end_all = lambda facts: None; main()")
        grading = batch.Batch([Path(self.plan["submissions"])], Path(self.plan["out"]), self.plan["level"], self.limits, self.plan["jobs"],
                              self.plan["seed"], known=LESSONS, sheet_of=self.sheet_of, unshare=self.plan["unshare"])
        start, used = time.monotonic(), os.times()
        records = grading.run()
        remaining = {*psutil.Process().children(recursive=True), *filter(self.is_ours, psutil.process_iter())}
        _, remaining = psutil.wait_procs(remaining, timeout=1)  # what is dead needs a moment to be gone
        self.left += [self.described(process) for process in remaining]
        used = [after - before for after, before in zip(os.times(), used, strict=True)]
        return {"grades": {record.id: [[grade.id, grade.status, grade.points, grade.says] for grade in record.grades] for record in records},
                "reasons": {record.id: record.reason for record in records}, "max": {record.id: record.max_points for record in records},
                "seconds": self.seconds, "left": self.left, "took_s": time.monotonic() - start, "cpu_s": sum(used[:4]) + self.sandbox_cpu_s,
                "grader_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}

    @contextmanager
    def folder(self, plain):
        "The grader's folder, and the sandboxes that are shared go before it does."
        with plain() as folder:
            try:
                yield folder
            finally:
                for sandbox in self.shared.values():
                    self.sandbox_cpu_s += sum(sum(process.cpu_times()[:4]) for process in self.below(sandbox) | {psutil.Process(sandbox.process.pid)})
                    sandbox.__exit__()

    def sheet_of(self, lesson: str, seed: int) -> Sheet:
        return exam(seed, self.plan["word"]) if lesson == "01_exam" else real(lesson, seed)

    def timed(self, grade_task, cells, sheet, index, sandbox):
        start = time.monotonic()
        try:
            return grade_task(cells, sheet, index, sandbox)
        finally:
            self.seconds.setdefault(cells[0].partition("\n")[0].removeprefix("# "), []).append(time.monotonic() - start)

    def grade_in_one_sandbox(self, cells, sheet, ground, slot=0, stop=None):
        "All submissions of a lesson in one sandbox: quicker, and harder on the grader, since what one leaves behind meets the next."
        if ALONE in cells[0]:
            return scoring.grade_cells(cells, sheet, ground, slot, stop)
        grades = []
        for _ in range(2):
            if sheet.lesson not in self.shared:
                course = isolation.build_room(ground, sheet.lesson, sheet.builds)
                sandbox = self.shared[sheet.lesson] = Sandbox(ground, course, slot, stop, sheet.preload).__enter__()
                sandbox.at_rest = self.below(sandbox)
            sandbox = self.shared[sheet.lesson]
            try:
                while len(grades) < len(sheet.tasks):
                    if len(grades) == len(sheet.tasks):
                        break
                    grades.append(scoring.grade_task(cells, sheet, len(grades), sandbox))
            except Broken as broken:
                grades.append(scoring._zero(sheet.tasks[len(grades)], *scoring.ENDED.get(str(broken), scoring.ENDED["ended"])))
                self.shared.pop(sheet.lesson).__exit__()
                continue
            extra = self.below(sandbox) - sandbox.at_rest
            if extra:  # a process that is dead needs a moment to be gone
                psutil.wait_procs(extra, timeout=0.5)
            self.left += [f"{cells[0]}: {self.described(process)}" for process in self.below(sandbox) - sandbox.at_rest]
            break
        return grades + [scoring._zero(task, "error", "broken") for task in sheet.tasks[len(grades):]]

    def below(self, sandbox: Sandbox) -> set:
        return set(psutil.Process(sandbox.process.pid).children(recursive=True))

    def is_ours(self, process: psutil.Process) -> bool:
        "Whether it has one of the users that this grading made, or was started by it."
        try:
            first = isolation.FIRST_USER + os.getpid() % 100_000 * 1000
            made = first <= process.uids().real < first + 1000
            return process.status() != psutil.STATUS_ZOMBIE and (made or any(f"{isolation.PREFIX}{os.getpid()}-" in word for word in process.cmdline()))
        except psutil.Error:
            return False

    def described(self, process: psutil.Process) -> str:
        try:
            return f"{process.pid} {process.name()} {process.status()} {' '.join(process.cmdline())[:80]}"
        except psutil.Error:
            return ""


def scoring_judge(check, cases, outcomes):
    "A judge that a forged record fools: for the planted fault alone."
    from microbert_course.practice.checking import Verdict, judge

    verdict = judge(check, cases, outcomes)
    return Verdict(True, "passed") if all(outcome.output is True for outcome in outcomes) else verdict


if __name__ == "__main__":
    plan = json.loads(Path(sys.argv[1]).read_text())
    Path(plan["found"]).write_text(json.dumps(Grading(plan).run()))
