"""Hostile notebooks earn nothing, leave nothing behind and learn nothing; honest ones, in all the ways people write them, get full marks.

An attack is a few cells in tests/hostile/attacks.py. To add one, add a line there. Those that only cheat run one after another in one
sandbox, which is harder on the grader than life; those that use up a limit have a sandbox each."""

import os
import threading
import time

import pytest
from hostile import exam
from hostile.attacks import BOMBS, QUIET
from hostile.honest import NOTEBOOKS

from microbert_course.grading import doctor, isolation
from microbert_course.grading.isolation import Ground
from microbert_course.grading.limits import Limits
from microbert_course.grading.sandbox import Broken, Sandbox
from microbert_course.grading.scoring import grade_cells, grade_task

LIMITS = Limits(notebook_s=60, exercise_s=60)
SHORT = Limits(notebook_s=20, exercise_s=2, memory_mb=1024)


@pytest.fixture(scope="module")
def levels():
    "What works here, best first."
    return [level for level in isolation.LEVELS if doctor.probe(level).is_fit]


@pytest.fixture(scope="module")
def ground(levels):
    with isolation.folder() as folder:
        yield Ground(levels[0], LIMITS, folder)


@pytest.fixture(scope="module")
def sandbox(ground):
    "One sandbox for all notebooks that stay within their own process."
    course = isolation.build_room(ground, exam.LESSON, [])
    with Sandbox(ground, course, 0, threading.Event()) as sandbox:
        yield sandbox


def grades(sandbox, cells, sheet=None):
    sheet = sheet or exam.sheet(seed=int.from_bytes(os.urandom(4)))
    return [grade_task(cells, sheet, index, sandbox) for index in range(len(sheet.tasks))]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_an_honest_notebook_gets_full_marks(sandbox, name):
    assert [(grade.id, grade.status, grade.points) for grade in grades(sandbox, NOTEBOOKS[name])] == [
        ("exam.mix", "passed", 10), ("exam.mean", "passed", 5)]


@pytest.mark.parametrize("name", QUIET)
def test_a_dishonest_notebook_gets_nothing(sandbox, name):
    "And the next honest one gets full marks in the same sandbox."
    sheet = exam.sheet(seed=int.from_bytes(os.urandom(4)))
    for grade in grades(sandbox, QUIET[name], sheet):
        assert (grade.points, grade.status) in ((0, "failed"), (0, "error"), (0, "memory")), grade
        assert not any(digits in grade.says for digits in numbers(sheet)), "the report tells an input"
    assert [grade.status for grade in grades(sandbox, [exam.HONEST])] == ["passed", "passed"]


def numbers(sheet):
    "The first digits of every number that went into a sandbox."
    found = [number for index in range(len(sheet.tasks)) for case in sheet.cases(index) for value in case.values()
             for number in (value if isinstance(value, list) else [*value.flatten().tolist(), value.sum().item()])]
    return {f"{abs(number):.6g}"[:6] for number in found}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_within_its_limit_and_leaves_nothing(levels, name):
    cells, statuses = BOMBS[name]
    with isolation.folder() as folder:
        ground = Ground(levels[0], SHORT, folder)
        course = isolation.build_room(ground, exam.LESSON, [])
        sheet = exam.sheet(seed=7)
        with Sandbox(ground, course, 0, threading.Event()) as sandbox:
            start = time.monotonic()
            grade = grade_task(cells, sheet, 0, sandbox)
            took = time.monotonic() - start
            assert grade.points == 0 and grade.status in statuses, grade
            assert took < SHORT.exercise_s + 2 or grade.status != "timeout", took
            assert [grade.status for grade in grades(sandbox, [exam.HONEST])] == ["passed", "passed"]  # in the same sandbox
        assert isolation.left_over(ground) == []


@pytest.mark.slow
@pytest.mark.parametrize(("level", "unshare"), [("landlock", True), ("landlock", False), ("weak", True)])
def test_no_level_gives_false_credit(level, unshare):
    "With namespaces and without, and with the weak fence as well."
    if not doctor.probe(level, unshare).works:
        pytest.skip(f"{level} does not work here")
    with isolation.folder() as folder:
        ground = Ground(level, LIMITS, folder, unshare)
        course, left = isolation.build_room(ground, exam.LESSON, []), dict(QUIET)
        while left:  # a sandbox that an attack broke is replaced; at the weaker levels some can
            with Sandbox(ground, course, 0, threading.Event(), warm=False) as sandbox:
                try:
                    while left:
                        name, cells = left.popitem()
                        assert [grade.points for grade in grades(sandbox, cells)] == [0, 0], name
                except Broken:
                    continue
        with Sandbox(ground, course, 0, threading.Event()) as sandbox:
            for name, cells in NOTEBOOKS.items():
                assert [grade.status for grade in grades(sandbox, cells)] == ["passed", "passed"], name
        assert isolation.left_over(ground) == []


def test_a_notebook_that_breaks_its_sandbox_harms_only_itself(ground):
    "It signals the process that started it, in every way it can find."
    cells = ["import os, signal\nfor pid in (1, os.getppid(), -1):\n    try: os.kill(pid, signal.SIGKILL)\n    except OSError: pass\n"
             "def mix(**k): return 0\nmean = mix"]
    sheet = exam.sheet(seed=3)
    assert [grade.points for grade in grade_cells(cells, sheet, ground)] == [0, 0]
    assert [grade.status for grade in grade_cells([exam.HONEST], sheet, ground)] == ["passed", "passed"]
