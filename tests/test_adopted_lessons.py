"""A learner's answers in the library's place: every later lesson runs on them, with the numbers that it had.

Half of the lessons today and the others tomorrow; with MICROBERT_ADOPT_EACH=1 all of them, under each answer alone."""

import os
from functools import cache
from pathlib import Path

import pytest

from microbert_course.lessons.bands import outside, read_bands
from microbert_course.lessons.catalogue import lessons
from microbert_course.lessons.cells import is_code, read_notebook
from microbert_course.lessons.public_names import imports
from microbert_course.lessons.runner import run_lesson
from microbert_course.paths import course_root
from microbert_course.practice.adoption import adopt_answer
from microbert_course.practice.answers import run_answers
from microbert_course.practice.exercises import exercises
from microbert_course.practice.swap import adopted_files

BUILDS = [exercise for exercise in exercises() if exercise.check.builds]
WHOLE = bool(os.environ.get("MICROBERT_ADOPT_EACH"))  # each answer alone under every later lesson


def modules_in(source: str, module: str = "") -> set[str]:
    "What a text imports of the course; a name of a module looks like a module in it."
    names = {name for name in imports(source, module) if name.startswith("microbert_course.")}
    return names | {name.rpartition(".")[0] for name in names}


@cache
def imports_of_module(name: str) -> set[str]:
    path = course_root().joinpath(*name.split(".")).with_suffix(".py")
    return modules_in(path.read_text(encoding="utf-8"), name) if path.is_file() else set()


def reached(source: str) -> set[str]:
    "All that a text imports, directly or not."
    found, waiting = set(), modules_in(source)
    while waiting:
        found |= waiting
        waiting = set().union(*map(imports_of_module, waiting)) - found
    return found


@cache
def reached_by(notebook: Path) -> set[str]:
    "All that the code of a lesson imports, directly or not."
    return set().union(*(reached(cell["source"]) for cell in read_notebook(notebook)["cells"] if is_code(cell)))


def users(exercise) -> list:
    "The later lessons whose code can reach what the exercise builds; all others cannot notice the difference."
    module = f"microbert_course.{exercise.check.builds.rpartition('.')[0]}"
    return [lesson for lesson in lessons()
            if (not lesson.number.isdigit() or lesson.number > exercise.lesson[:2]) and module in reached_by(lesson.path)]


def adopt_solutions(chosen, work, monkeypatch):
    monkeypatch.setenv("MICROBERT_WORK", str(work))
    for exercise in chosen:
        namespace, _ = run_answers(course_root() / "solutions" / f"{exercise.lesson}.ipynb")
        adopt_answer(exercise, namespace[exercise.check.name])


def numbers_that_moved(lesson, folder, monkeypatch) -> list[str]:
    "Run a lesson to its end; a line for each of its numbers that is outside its band."
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    report = run_lesson(lesson.path, folder / lesson.path.name, cell_limit_s=180, notebook_limit_s=240)
    return outside(read_bands(course_root()), lesson.path.stem, report.profile, report.about, report.results)


def chosen_and_lesson() -> list[tuple]:  # (exercises, lesson)
    "Each answer alone under every later lesson that can reach it; by default, those together that a lesson is the first to reach."
    if WHOLE:
        return [([exercise], lesson) for exercise in BUILDS for lesson in users(exercise)]
    first = {}
    for exercise in BUILDS:
        for lesson in users(exercise)[:1]:
            first.setdefault(lesson.path.stem, ([], lesson))[0].append(exercise)
    return list(first.values())


def todays(cases: list) -> list:
    "Every second one: today's half."
    return cases if WHOLE else cases[int(os.environ["MICROBERT_TODAY"]) % 2 :: 2]


def under_all_answers() -> list:
    "Every lesson; by default, those that no answer alone is tried under."
    tried = [] if WHOLE else [lesson for _, lesson in chosen_and_lesson()]
    return [lesson for lesson in lessons() if lesson not in tried]


@pytest.mark.notebook
@pytest.mark.timeout(300)
@pytest.mark.parametrize("lesson", todays(under_all_answers()), ids=lambda lesson: lesson.path.stem)
def test_the_course_runs_on_all_answers_at_once(lesson, tmp_path, monkeypatch):
    adopt_solutions(BUILDS, tmp_path / "work", monkeypatch)
    assert set(adopted_files()) == {exercise.check.builds for exercise in BUILDS}
    assert numbers_that_moved(lesson, tmp_path, monkeypatch) == []


@pytest.mark.notebook
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("chosen", "lesson"), [
    pytest.param(chosen, lesson, id=f"{'+'.join(exercise.id for exercise in chosen)} under {lesson.path.stem}") for chosen, lesson in todays(chosen_and_lesson())
])
def test_a_later_lesson_runs_on_answers_without_the_others(chosen, lesson, tmp_path, monkeypatch):
    adopt_solutions(chosen, tmp_path / "work", monkeypatch)
    assert set(adopted_files()) == {exercise.check.builds for exercise in chosen}
    assert numbers_that_moved(lesson, tmp_path, monkeypatch) == []
