"""The course's own exercises, in the sandbox: every solution gets full marks there, and every blank nothing."""

import json
import threading

import pytest

from microbert_course.grading import doctor, isolation, tasks
from microbert_course.grading.isolation import Ground
from microbert_course.grading.limits import Limits
from microbert_course.grading.notebooks import code_cells
from microbert_course.grading.sandbox import Sandbox
from microbert_course.grading.scoring import grade_task
from microbert_course.practice.exercises import generate, solution_paths


@pytest.fixture(scope="module")
def level():
    return doctor.choose(require_isolation=False)


@pytest.mark.parametrize("path", solution_paths(), ids=lambda path: path.stem)
def test_solutions_get_full_marks_and_blanks_none(path, level):
    "One sandbox, so one import of torch, for both."
    sheet = tasks.course_sheet(path.stem, seed=int(path.stem[:2]))
    solved, blank = code_cells(path.read_bytes()), code_cells(generate(path).encode())
    with isolation.folder() as folder:
        ground = Ground(level, Limits(), folder)
        course = isolation.build_room(ground, sheet.lesson, sheet.builds)
        with Sandbox(ground, course, 0, threading.Event(), sheet.preload) as sandbox:
            for index, task in enumerate(sheet.tasks):
                grade = grade_task(solved, sheet, index, sandbox)
                assert (grade.status, grade.points) == ("passed", task.points), grade
                grade = grade_task(blank, sheet, index, sandbox)
                assert grade.points == 0 and "not yet" in grade.says, grade


def test_a_lesson_named_by_number_or_name():
    known = ["03_attention", "10_mixed_precision"]
    assert [tasks.lesson_named(word, known) for word in ("3", "03", "03_attention", "10")] == [known[0]] * 3 + [known[1]]


def test_the_fingerprint_changes_with_the_checks_and_the_points(tmp_path, monkeypatch):
    import microbert_course

    (tmp_path / "practice").mkdir()
    (tmp_path / "practice" / "checking.py").write_text("x = 1\n")
    monkeypatch.setattr(microbert_course, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "notebook").write_text("10 points")
    before = tasks.fingerprint(tmp_path / "notebook")
    (tmp_path / "practice" / "checking.py").write_text("x = 2\n")
    after = tasks.fingerprint(tmp_path / "notebook")
    (tmp_path / "notebook").write_text("20 points")
    assert len({before, after, tasks.fingerprint(tmp_path / "notebook")}) == 3


def test_imports_of_answers_are_not_loaded_ahead(tmp_path):
    cells = [{"cell_type": "code", "metadata": {}, "source": text} for text in (
        "import math, os.path\nfrom json import dumps", "### BEGIN SOLUTION\nimport secrets\n### END SOLUTION", "%magic\nimport math")]
    (tmp_path / "01_x.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}))
    assert tasks.imports_of(tmp_path / "01_x.ipynb") == ("math", "os.path", "json")
