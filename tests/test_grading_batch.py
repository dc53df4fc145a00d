"""A folder of submissions: one row each whatever happens, nothing graded twice, and results that tell no more than they should."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hostile import exam
from hostile.broken import FILES, notebook

from microbert_course.errors import CourseError
from microbert_course.grading import batch, doctor, isolation, room
from microbert_course.grading.batch import Batch
from microbert_course.grading.inside import wire
from microbert_course.grading.limits import Limits
from microbert_course.grading.reports import defused
from microbert_course.grading.scoring import OWN_ERROR, grade_task, known_error
from microbert_course.practice.plain import dump

KILLS = int(os.environ.get("MICROBERT_KILLS", "3"))
LIMITS = Limits(notebook_s=30, exercise_s=30)
TELLING = "def mix(scores, value): raise type(f'S{scores.sum().item()}', (Exception,), {})(str(value))\ndef mean(numbers): raise ValueError(str(numbers))"
MEMORY = "def mix(**inputs):\n    x = []\n    while True: x.append(bytearray(20_000_000))\nmean = mix"


@pytest.fixture(scope="module")
def level():
    return doctor.choose(require_isolation=False)


def code(*sources) -> bytes:
    return json.dumps(notebook([{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
                                for source in sources])).encode()


def fill(folder: Path, **files: bytes) -> Path:
    "A folder with one sub-folder a student."
    for name, content in files.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "01_exam.ipynb").write_bytes(content)
    return folder


def exam_batch(folder: Path, out: Path, level: str, **changes) -> Batch:
    return Batch(**({"paths": [folder], "out": out, "level": level, "limits": LIMITS, "jobs": 2, "known": [exam.LESSON],
                     "sheet_of": exam.sheet_of} | changes))


def rows(out: Path) -> list[dict]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def graded(tmp_path_factory, level):
    "A graded folder: honest, blank, wrong, cheating, broken, and a name that a spreadsheet would run."
    place = tmp_path_factory.mktemp("graded")
    folder = fill(place / "subs", anna=code(exam.HONEST), bert=code("def mix(scores, value):\n    raise NotImplementedError\nmean = None"),
                  carla=code("import torch\ndef mix(scores, value):\n    return scores.softmax(0) @ value\ndef mean(numbers):\n    return sum(numbers)"),
                  dora=code(TELLING), emil=FILES["cut short"][0],
                  **{"=cmd|' calc'!A1": code("def mean(numbers):\n    return sum(numbers) / len(numbers)")})
    before = {path: path.read_bytes() for path in folder.rglob("*.ipynb")}
    records = exam_batch(folder, place / "out", level, seed=11, nbgrader=True).run()
    assert before == {path: path.read_bytes() for path in folder.rglob("*.ipynb")}, "a submission was changed"
    return place, records


def test_every_submission_is_one_row_with_a_status_for_each_task(graded):
    place, _ = graded
    table = {row["id"]: (row["status"], row["points"], row["max"], row["exam.mix"], row["exam.mean"]) for row in rows(place / "out")}
    assert table == {
        "anna/01_exam.ipynb": ("graded", "15", "15", "passed", "passed"), "bert/01_exam.ipynb": ("graded", "0", "15", "failed", "failed"),
        "carla/01_exam.ipynb": ("graded", "0", "15", "failed", "failed"), "dora/01_exam.ipynb": ("graded", "0", "15", "error", "error"),
        "emil/01_exam.ipynb": ("error", "0", "15", "", ""), "'=cmd|' calc'!A1/01_exam.ipynb": ("graded", "5", "15", "error", "passed")}


def test_results_say_which_mistake_and_nothing_of_the_student(graded):
    _, records = graded
    said = {record.id.partition("/")[0]: [grade.says for grade in record.grades] for record in records}
    assert said["carla"] == ["The softmax runs over the wrong axis.", "You forgot to divide by how many there are."]
    assert said["bert"][1] == "not yet: the answer is still to be written" and said["bert"][0].startswith(said["bert"][1] + ", or it calls the library's")
    assert said["dora"] == ["mix raises Exception", "mean raises ValueError"]
    assert said["=cmd|' calc'!A1"] == ["no cell defines mix", "passed"]


def test_results_json_is_in_gradescopes_form(graded, level):
    place, _ = graded
    path, = (place / "out" / "submissions").glob("anna*/results.json")
    result = json.loads(path.read_text())
    assert result["score"] == 15 and result["visibility"] == "visible" and level in result["output"]
    assert result["tests"][0] == {"name": "1.1 Mix", "number": "1.1", "score": 10, "max_score": 10, "status": "passed", "output": "passed",
                                  "visibility": "visible"}
    assert {test["status"] for file in (place / "out").glob("submissions/*/results.json")
            for test in json.loads(file.read_text())["tests"]} == {"passed", "failed"}


def test_no_result_shows_an_input_or_for_students_the_seed(graded):
    place, _ = graded
    sheet = exam.sheet(11)
    inputs = {f"{abs(number):.5f}"[:6] for case in sheet.cases(1) for number in case["numbers"]}
    for path in (place / "out").rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not any(number in text for number in inputs), path
    assert all("seed" not in path.read_text() for path in (place / "out").glob("submissions/*/results.json"))


def test_the_page_counts_mistakes_and_escapes_names(graded, level):
    place, _ = graded
    page = (place / "out" / "report.html").read_text()
    assert f"isolation: <b>{level}</b>" in page and "The softmax runs over the wrong axis." in page and ">11<" in page
    assert "'!A1" not in page and "<script" not in page


def test_nbgraders_columns(graded):
    place, _ = graded
    with (place / "out" / "nbgrader.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 6 and next(row for row in table if row["student_id"].startswith("anna"))["score"] == "15"
    assert list(table[0]) == ["assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email", "raw_score",
                              "late_submission_penalty", "score", "max_score"]


def test_nothing_is_graded_twice_but_what_has_changed(graded, level, monkeypatch):
    place, records = graded
    tried = []
    monkeypatch.setattr(batch, "grade_cells", lambda cells, *rest: tried.append(cells) or [])
    assert exam_batch(place / "subs", place / "out", level).run() == records and tried == []
    path = place / "subs" / "anna" / "01_exam.ipynb"
    old = path.read_bytes()
    try:
        path.write_bytes(code("x = 1"))
        exam_batch(place / "subs", place / "out", level).run()
    finally:
        path.write_bytes(old)
    assert tried == [["x = 1"]]
    exam_batch(place / "subs", place / "out", level, limits=Limits(notebook_s=31, exercise_s=30)).run()
    assert len(tried) == 6, "one that ran out of time may not, with more"
    with pytest.raises(CourseError, match="was begun with --seed 11, not 12"):
        exam_batch(place / "subs", place / "out", level, seed=12).run()


def test_results_of_other_submissions_are_left_alone(tmp_path, level, monkeypatch):
    monkeypatch.setattr(batch, "grade_cells", lambda cells, *rest: [])
    ours, theirs = (fill(tmp_path / name, anna=code(exam.HONEST)) for name in ("ours", "theirs"))
    exam_batch(ours, tmp_path / "out", level).run()
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(CourseError, match="out holds the results of .*ours: give another --out"):
        exam_batch(theirs, tmp_path / "out", level).run()
    for damage in ("{", "{}", '{"seed": "x"}'):
        (tmp_path / "out" / "grading.json").write_text(damage)
        with pytest.raises(CourseError, match="grading.json is damaged, and the seed was in it: give another --out"):
            exam_batch(ours, tmp_path / "out", level).run()
    (tmp_path / "out" / "grading.json").write_bytes(before[tmp_path / "out" / "grading.json"])
    assert before == {path: path.read_bytes() for path in before}
    with pytest.raises(CourseError, match="--out .*grading.json cannot be made or used .Not a directory.: give a folder"):
        exam_batch(ours, tmp_path / "out" / "grading.json", level).run()


def test_two_graders_do_not_write_to_one_folder(tmp_path, level, monkeypatch):
    folder = fill(tmp_path / "subs", anna=code(exam.HONEST))
    begun, go = threading.Event(), threading.Event()

    def slowly(cells, sheet, *rest):
        begun.set()
        go.wait(20)
        return []

    monkeypatch.setattr(batch, "grade_cells", slowly)
    first = threading.Thread(target=exam_batch(folder, tmp_path / "out", level).run)
    first.start()
    assert begun.wait(20)
    with pytest.raises(CourseError, match="another grader is writing to"):
        exam_batch(folder, tmp_path / "out", level).run()
    go.set()
    first.join()


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from hostile import exam
from microbert_course.grading.batch import Batch
from microbert_course.grading.limits import Limits
records = Batch([Path(sys.argv[2])], Path(sys.argv[3]), sys.argv[4], Limits(notebook_s=30, exercise_s=30), 2, 5, known=[exam.LESSON],
                sheet_of=exam.sheet_of).run(lambda total, lines: print("begun", flush=True), lambda record: print(record.id, flush=True))
"""


def driver(folder, out, level):
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(Path(__file__).parent), str(folder), str(out), level],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_at_any_moment_and_run_again_gives_the_same_rows(tmp_path, level):
    "MICROBERT_KILLS=30 for as many moments as the course promises."
    folder = fill(tmp_path / "subs", anna=code(exam.HONEST), bert=code("x = 1"), emil=FILES["one brace"][0],
                  carla=code("def mean(numbers):\n    return sum(numbers) / len(numbers)"))
    expected, dice = None, random.Random(4)
    for kill in range(KILLS + 1):
        out = tmp_path / f"out{kill}"
        if kill:
            process = driver(folder, out, level)
            assert process.stdout.readline() == "begun\n", process.stderr.read()
            time.sleep(dice.uniform(0, 8))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        process = driver(folder, out, level)
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        table = [{key: value for key, value in row.items() if key != "file"} for row in rows(out)]
        expected = expected or table
        assert table == expected and len(table) == 4 and sum(int(row["points"]) for row in table) == 20
    assert not [path for path in Path(isolation.tempfile.gettempdir()).glob(f"{isolation.PREFIX}{process.pid}-*")]


def test_ctrl_c_ends_all_sandboxes_and_says_how_to_go_on(tmp_path, level):
    folder = fill(tmp_path / "subs", anna=code("import time\ntime.sleep(60)"), bert=code("import time\ntime.sleep(60)"))
    process = driver(folder, tmp_path / "out", level)
    assert process.stdout.readline() == "begun\n"
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert "0 of 2 submissions are graded, the same command goes on from here" in errors and time.monotonic() - start < 10
    assert not list(Path(isolation.tempfile.gettempdir()).glob(f"{isolation.PREFIX}{process.pid}-*"))


def test_a_memory_bomb_beside_honest_neighbours(tmp_path, level):
    folder = fill(tmp_path / "subs", anna=code(exam.HONEST), bomb=code(MEMORY), carla=code(exam.HONEST))
    exam_batch(folder, tmp_path / "out", level, limits=Limits(notebook_s=30, exercise_s=20, memory_mb=1024)).run()
    assert [(row["points"], row["exam.mix"]) for row in rows(tmp_path / "out")] == [("15", "passed"), ("0", "memory"), ("15", "passed")]


class Answering:
    "In a sandbox's place: gives back one message a case."

    def __init__(self, *messages):
        head = json.dumps({"failed": [], "answer": "present"}).encode()
        self.content = b"C" + b"".join(wire.packed(part) for part in (head, *(dump(message) for message in messages)))

    def run(self, job):
        return "ended", self.content


@pytest.mark.parametrize(("error", "status", "says"), [("NameError", "error", "mean raises NameError"), ("MemoryError", "memory", "mean raises MemoryError"),
                                                       (None, "failed", "the result should be a float and is a str")])
def test_a_status_says_whether_the_answer_raised(error, status, says):
    message = {"output": "1.0", "error": error, "changed": []}
    grade = grade_task([], exam.sheet(), 1, Answering(message, message, message))
    assert (grade.status, grade.says, grade.points) == (status, says, 0)


def test_a_check_that_is_broken_is_no_submissions_failure():
    sheet = exam.sheet()
    sheet.tasks = tuple(replace(task, check=replace(task.check, reference=lambda numbers: 1 / 0)) for task in sheet.tasks)
    with pytest.raises(CourseError, match="the check of exam.mean is broken"):
        grade_task([], sheet, 1, Answering(*[{"output": 1.0, "error": None, "changed": []}] * 3))


@pytest.mark.parametrize(("name", "told"), [("ValueError", "ValueError"), ("CourseError", "CourseError"), ("S0.123", OWN_ERROR), ("print", OWN_ERROR),
                                          ("", OWN_ERROR), ("a\ud800", OWN_ERROR)])
def test_only_a_known_exceptions_name_is_told(name, told):
    assert known_error(name) == told


def test_names_that_look_like_formulas_are_defused():
    assert [defused(text) for text in ("=1+1", "+1", "-1", "@x", "anna")] == ["'=1+1", "'+1", "'-1", "'@x", "anna"]


def test_the_sandboxs_course_knows_no_answer(tmp_path):
    "Neither checks nor commands nor the symbols to be built; everything else is there."
    room.build(tmp_path / "room", ["models.attention.scaled_dot_product_attention", "models.attention.MultiHeadAttention"])
    course = tmp_path / "room" / "microbert_course"
    names = {path.relative_to(course).as_posix() for path in course.rglob("*.py")}
    assert {"practice/plain.py", "practice/outcomes.py", "practice/uses/__init__.py", "models/bert.py"} <= names
    assert not [name for name in names if name.startswith(("practice/checks", "grading", "cli", "lessons")) or "checking" in name]
    text = (course / "models" / "attention.py").read_text()
    assert "softmax" not in text and text.count("is what this exercise asks you to build") >= 2


def test_limits_that_leave_nothing_are_refused():
    with pytest.raises(CourseError, match="--memory-mb 100 is less than torch itself needs"):
        Limits(memory_mb=100)
    with pytest.raises(CourseError, match="--exercise-s 0"):
        Limits(exercise_s=0)
    for value in (float("nan"), float("inf"), -1, 10**7):
        with pytest.raises(CourseError, match=f"--notebook-s {value} is no limit: give a number above 0, at most 1,000,000"):
            Limits(notebook_s=value)
