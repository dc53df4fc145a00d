"""Every lesson runs from its first cell to its last: clean kernel, alone, offline, at the quick sizes of its parameters cell."""

import os

import pytest

from microbert_course.lessons.bands import CI, conditions, outside, read_bands, without_band
from microbert_course.lessons.catalogue import lessons
from microbert_course.lessons.runner import run_lesson
from microbert_course.paths import course_root

LESSON_LIMIT_S = 60  # judged where tests/conftest.py says; it holds all of them together to 8 minutes


def in_one_of_two_groups(lesson) -> pytest.param:
    "Even and odd lessons: under `-n 2 --dist loadgroup` two run at a time, and the two that train longest are apart."
    half = int(lesson.number) % 2 if lesson.number.isdigit() else 0
    return pytest.param(lesson, id=lesson.path.stem, marks=pytest.mark.xdist_group(f"lessons-{half}"))


@pytest.mark.notebook
@pytest.mark.timeout(300)
@pytest.mark.parametrize("lesson", [in_one_of_two_groups(lesson) for lesson in lessons()])
def test_lesson_runs_from_a_clean_kernel(lesson, tmp_path, monkeypatch, record_property, is_timed):
    "Within its time, and with headline numbers that are within their bands."
    if "PYTEST_XDIST_WORKER" in os.environ and "OMP_NUM_THREADS" not in os.environ:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two kernels share the cores
    report = run_lesson(lesson.path, tmp_path / lesson.path.name, cell_limit_s=180, notebook_limit_s=240)
    assert report.executed.is_file()
    record_property("lesson_s", report.work_s)
    assert report.work_s <= LESSON_LIMIT_S or not is_timed, (f"{lesson.path.name} needs {report.work_s:.0f} s at quick sizes, the limit is {LESSON_LIMIT_S} s: "
                                                             "make the quick values of its parameters cell smaller")
    bands, name = read_bands(course_root()), lesson.path.stem
    faults = outside(bands, name, report.profile, report.about, report.results)
    if conditions(report.profile, report.about) == CI:
        faults += without_band(bands, name, report.results)
    assert not faults, "\n".join(faults)
