"""The exercises of this course: made from their solutions, blank where they should be, and each with a check that knows the answer."""

import json
import re

import pytest

from microbert_course.errors import CourseError
from microbert_course.paths import course_root
from microbert_course.practice.answers import run_answers
from microbert_course.practice.checking import examine
from microbert_course.practice.exercises import (
    HIDDEN,
    blanked,
    checks,
    exercise_faults,
    exercises,
    generate,
    read_solutions,
    solution_paths,
)

LEAST_IN_A_LESSON, LEAST_IN_FOUNDATIONS = 3, 36
PATHS = solution_paths()
STEMS = [path.stem for path in PATHS]
BLANK = re.compile(r'([ \t]*)raise NotImplementedError\("Exercise \d+\.\d+"\)|^\w+ = None  # Exercise \d+\.\d+(\n\w+ = None  # Exercise \d+\.\d+)*$', re.MULTILINE)
ANSWER = re.compile(r"[ \t]*### BEGIN SOLUTION\n.*?### END SOLUTION", re.DOTALL)


def sources(text, kind="code"):
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == kind]


def test_every_lesson_has_its_exercises():
    known = exercises()
    lessons = sorted(path.stem for path in course_root().glob("nbs/*_*/[0-9][0-9]_*.ipynb"))
    for lesson in lessons:
        assert sum(exercise.lesson == lesson for exercise in known) >= LEAST_IN_A_LESSON, lesson
    assert sum(exercise.lesson < "10" for exercise in known) >= LEAST_IN_FOUNDATIONS
    assert len({exercise.id for exercise in known}) == len(known) == len({exercise.number for exercise in known})


def test_every_check_belongs_to_an_exercise_and_every_exercise_has_one():
    assert {id for stem in STEMS for id in checks(stem)} == {exercise.id for exercise in exercises()}
    for exercise in exercises():
        assert (exercise.kind == "build") == (exercise.check.builds is not None), exercise.id
        if exercise.check.builds:
            assert exercise.check.name == exercise.check.builds.rpartition(".")[2], exercise.id


@pytest.mark.parametrize("path", PATHS, ids=STEMS)
def test_the_exercises_are_the_solutions_with_blanks(path):
    "Cell by cell, with another program than the one that made them; and the board in a last cell."
    solution, exercise = path.read_text(encoding="utf-8"), (course_root() / "exercises" / path.name).read_text(encoding="utf-8")
    *cells, board = sources(exercise)
    assert [ANSWER.sub("BLANK", source) for source in sources(solution)] == [BLANK.sub("BLANK", source) for source in cells]
    assert "\nboard()" in board
    assert [text for text in sources(solution, "markdown") if not text.startswith(HIDDEN)] == sources(exercise, "markdown")
    assert '"outputs": []' in exercise and not any(cell.get("outputs") for cell in json.loads(exercise)["cells"])
    assert "SOLUTION" not in exercise


@pytest.mark.parametrize("path", PATHS, ids=STEMS)
def test_nothing_hidden_is_left_anywhere_in_the_file(path):
    "Answers, hints and what comes afterwards: no line of theirs that the exercise does not show by itself."
    solution, exercise = path.read_text(encoding="utf-8"), (course_root() / "exercises" / path.name).read_text(encoding="utf-8")
    code, texts = sources(solution), sources(solution, "markdown")
    shown = "\n".join([*(ANSWER.sub("", cell) for cell in code), *(text for text in texts if not text.startswith(HIDDEN))])
    hidden = [*(answer for cell in code for answer in ANSWER.findall(cell)), *(text for text in texts if text.startswith(HIDDEN))]
    lines = {line.strip() for text in hidden for line in text.splitlines() if len(line.strip()) > 20}
    assert not [line for line in lines if line not in shown and (line in exercise or json.dumps(line, ensure_ascii=False)[1:-1] in exercise)]


@pytest.mark.parametrize("path", PATHS, ids=STEMS)
def test_every_solution_passes(path):
    namespace, failed = run_answers(path)
    assert not failed
    for exercise in read_solutions(path):
        verdict = examine(exercise.check, namespace[exercise.check.name], seed=1)
        assert verdict.passed, f"{exercise.id}: {verdict.headline}\n{verdict.details}"


@pytest.mark.parametrize("path", PATHS, ids=STEMS)
def test_every_stub_is_answered_by_not_yet(path):
    namespace, failed = run_answers(course_root() / "exercises" / path.name)
    assert not failed
    for exercise in read_solutions(path):
        verdict = examine(exercise.check, namespace[exercise.check.name], seed=1)
        assert verdict.not_yet and not verdict.passed and verdict.headline.startswith("not yet"), exercise.id


# --- the gates themselves, on planted faults

HEADER = "## 1.1 Adding\n`sums.add` · build · easy · 5 minutes · 5 points\n\nAdd."
CELLS = [("markdown", "# Exercises"), ("markdown", HEADER),
         ("code", "def add(a, b):\n    'The sum.'\n    ### BEGIN SOLUTION\n    return a + b\n    ### END SOLUTION"),
         ("code", 'check("sums.add")'), ("markdown", "### Hints\n1. one\n2. two\n3. three"), ("markdown", "### Afterwards\nRead.")]


def write(root, cells, name="01_sums"):
    path = root / "solutions" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [{"cell_type": kind, "id": str(number), "metadata": {}, "source": source.splitlines(keepends=True),
             **({"outputs": [{"output_type": "stream", "name": "stdout", "text": ["7"]}], "execution_count": 3} if kind == "code" else {})}
            for number, (kind, source) in enumerate(cells)]
    path.write_text(json.dumps({"cells": made, "metadata": {"microbert": {"date": "today"}}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_an_answer_becomes_a_blank_and_hidden_cells_go(tmp_path):
    text = generate(write(tmp_path, CELLS))
    assert sources(text)[:-1] == ["def add(a, b):\n    'The sum.'\n    raise NotImplementedError(\"Exercise 1.1\")", 'check("sums.add")']
    assert "three" not in text and "Read." not in text and '"7"' not in text and "today" not in text


def test_an_answer_at_top_level_becomes_none():
    assert blanked("### BEGIN SOLUTION\nguess = 3 * 4\n### END SOLUTION", "1.2", "x") == "guess = None  # Exercise 1.2"


@pytest.mark.parametrize(("cells", "says"), [
    ([(kind, source.replace("easy", "simple")) for kind, source in CELLS], "one of easy, medium, hard"),
    ([(kind, source.replace("· build ·", "· make ·")) for kind, source in CELLS], "one of build, repair, extend, measure"),
    ([(kind, source.replace("3. three", "")) for kind, source in CELLS], "three hints"),
    ([(kind, source) for kind, source in CELLS if "Afterwards" not in source], "`### Afterwards`"),
    ([(kind, source) for kind, source in CELLS if "check" not in source], 'a cell `check("sums.add")`'),
    ([(kind, source.replace("### BEGIN SOLUTION", "").replace("### END SOLUTION", "")) for kind, source in CELLS], "a blank"),
    ([(kind, source.replace("## 1.1", "## 2.1")) for kind, source in CELLS], "a number that begins with 1"),
    ([(kind, source.replace("· 5 points", "")) for kind, source in CELLS], "write it so"),
    ([(kind, source.replace("    ### END SOLUTION", "")) for kind, source in CELLS], "without its partner"),
], ids=["difficulty", "kind", "hints", "afterwards", "check", "blank", "number", "header", "markers"])
def test_a_solution_that_lacks_something_is_named(tmp_path, cells, says):
    with pytest.raises(CourseError, match=re.escape(says)):
        generate(write(tmp_path, cells))


def test_exercises_that_were_edited_or_left_behind_are_named(tmp_path):
    path = write(tmp_path, CELLS)
    (tmp_path / "exercises").mkdir()
    assert "run `make exercises`" in exercise_faults(tmp_path)[0]
    (tmp_path / "exercises" / path.name).write_text(generate(path), encoding="utf-8")
    assert exercise_faults(tmp_path) == []
    (tmp_path / "exercises" / path.name).write_text(generate(path).replace("Add.", "Add, by return a + b."), encoding="utf-8")
    (tmp_path / "exercises" / "02_gone.ipynb").write_text("{}")
    assert [fault.partition(":")[0] for fault in exercise_faults(tmp_path)] == ["exercises/01_sums.ipynb", "exercises/02_gone.ipynb"]
