"""The learner's loop: check, hint, progress, copies, and code of one's own in the library's place."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from microbert_course import practice
from microbert_course.cli.main import main
from microbert_course.errors import CourseError
from microbert_course.paths import course_root
from microbert_course.practice import checking, notebook, record, uses
from microbert_course.practice.answers import run_answers, stand_alone
from microbert_course.practice.checking import Check, Verdict, Wrong, difference, examine
from microbert_course.practice.exercises import exercises
from microbert_course.practice.outcomes import Outcome
from microbert_course.practice.plain import MAGIC, NotPlain, dump, load
from microbert_course.practice.shown import shown

BUILD = next(exercise for exercise in exercises() if exercise.check.builds)


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROBERT_WORK", str(tmp_path))
    return tmp_path


# --- values as bytes

@pytest.mark.parametrize("value", [None, True, -3, 2**70, 1.5, float("inf"), "text", [1, (2.0, "x")], {"a": 1, 2: [None]}, torch.zeros(0, 3), torch.tensor(7),
                                   torch.randn(2, 3).to(torch.bfloat16), torch.tensor([True, False]), np.arange(6.0).reshape(2, 3).T], ids=range(14))
def test_plain_values_come_back_as_they_were(value):
    again = load(dump(value))
    assert type(again) is type(value)
    if isinstance(value, torch.Tensor | np.ndarray):
        assert again.dtype == value.dtype and again.shape == value.shape and (np.asarray(again == value)).all()
    else:
        assert again == value


def test_nothing_that_can_run_has_a_plain_form():
    for value in (len, object(), {1, 2}, torch.nn.Linear(1, 1), np.array([object()])):
        with pytest.raises(NotPlain):
            dump(value)


def test_bytes_that_are_no_plain_value_are_refused():
    good = dump([torch.arange(4), 1.0])
    tree = lambda text: MAGIC + len(text).to_bytes(4, "little") + text.encode()  # noqa: E731
    bad = [b"", b"pickle", good[:-1], good + b"x", good[:7], tree("[" * 5000), tree('{"x": 1}'), tree('{"i": "1", "f": "2"}'), tree('{"a": ["torch", "float32", [9]]}'),
           tree('{"a": ["torch", "float32", [-1]]}'), tree('{"a": ["torch", "object", [0]]}'), tree('{"a": ["os", "float32", [0]]}'), tree('{"i": "9" }x'), tree("3"),
           tree('{"d": [[{"l": []}, {"i": "1"}]]}'), tree('{"a": ["torch", "float32", [true]]}'), tree('{"i": "' + "9" * 5000 + '"}'), tree('{"f": "0x1p99999"}')]
    for content in bad:
        with pytest.raises(NotPlain):
            load(content)


def test_values_made_to_be_slow_are_refused():
    "A dict of keys with one hash is built in quadratic time: hours, for what a sandbox may give back."
    assert load(dump({-1: 0, -2: 1} | {number: number for number in range(1000)}))[-2] == 1
    with pytest.raises(NotPlain, match="share their hashes"):
        load(dump({number * (2**61 - 1): 0 for number in range(1, 20)}))
    with pytest.raises(NotPlain, match="more than 10000 arrays"):
        load(dump([np.ones(1)] * 10_001))


# --- comparing

def test_differences_are_named_without_values():
    expected = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    for one, other in ((expected, expected + 1e-6), (2.0, torch.tensor(2.0)), ([1], (1,)), ([1, 2], np.array([1, 2]))):
        assert difference(one, other) is None
    for got in (expected + 1e-4, expected.double(), expected.numpy(), expected[:1], expected.T, None, "1", [1.0], expected * torch.nan, float("nan")):
        assert re.fullmatch(r"[^\d]*(float\d\d[^\d]*)*", difference(expected, got)), difference(expected, got)
    assert difference(torch.tensor([1.0, torch.inf]), torch.tensor([1.0, 3e38])) and difference(torch.tensor([1, 2]), torch.tensor([1, 3]))


def test_an_array_is_a_list_of_its_rows():
    pair = (np.ones(3), np.zeros(3))
    assert difference(pair, np.stack(pair)) is None and difference([[1, 2], [3, 4]], torch.tensor([[1, 2], [3, 4]])) is None
    assert difference(pair, np.stack(pair)[::-1]) == "part 1 of the result has other values than expected"
    assert difference(pair, np.ones(3)) == "the result has another number of parts than expected"
    assert difference(pair, np.ones((2, 3), np.float32)) == "part 1 of the result is a NumPy array of float32, expected a NumPy array of float64"
    assert difference(np.ones((2, 3)), list(np.ones((2, 3)))) == "the result should be a NumPy array and is a list"


def test_a_number_that_stands_for_infinity_hides_no_other():
    expected = torch.tensor([torch.finfo(torch.float32).min, 1.0])
    assert difference(expected, expected.clone()) is None and difference(expected, torch.tensor([expected[0], 2.0]))
    half = torch.tensor([1.0, 2.0], dtype=torch.bfloat16)
    assert difference(half, half * 1.01) is None and difference(half, half * 1.2)
    assert difference(12, 12.000000000000002) is None and difference(12, 12.1) and difference(1.0, 2**70) and difference(2**70, 1)


# --- judging

def sums(rng):
    return [{"a": torch.from_numpy(rng.standard_normal(size)), "b": float(rng.standard_normal())} for size in (3, 1)]


ADD = Check("sums.add", "add", sums, lambda a, b: torch.add(a, b), wrong=(Wrong(lambda a, b: a - b, "You subtract."), Wrong(lambda a, b: a.add_(b), "You change a.")), right=())


def test_a_mistake_of_the_zoo_is_called_by_its_name():
    verdict = examine(ADD, lambda a, b: -(b - a), 0)
    assert (verdict.passed, verdict.headline, verdict.mistake) == (False, "You subtract.", 0)
    assert "input" in verdict.details and "expected" in verdict.details and "got" in verdict.details


def test_another_mistake_shows_the_smallest_input_and_what_differed():
    verdict = examine(ADD, lambda a, b: a + b + (len(a) == 3), 0)
    assert verdict.headline == "the result has other values than expected" and verdict.mistake is None


def test_inputs_changed_in_place_errors_and_foreign_objects_are_no_credit():
    assert examine(ADD, lambda a, b: a.add_(b), 0).headline == "You change a."
    assert "changes its input a in place" in examine(replace(ADD, wrong=()), lambda a, b: a.add_(b), 0).headline
    broken = examine(ADD, lambda a, b: a + c, 0)  # noqa: F821
    assert broken.headline == "add raises NameError" and "name 'c' is not defined (line " in broken.details
    here = sys._getframe().f_lineno + 1
    assert f"(line {here} of your cell)" in examine(ADD, lambda a, b: re.compile("["), 0).details  # not the line in re that raised

    class AlwaysEqual:
        def __eq__(self, other):
            return True

    assert not examine(ADD, lambda a, b: AlwaysEqual(), 0).passed and not examine(ADD, None, 0).passed


def test_a_wrong_result_is_named_before_a_missing_refusal():
    "Who forgets to refuse bad input and subtracts is told of the subtraction."
    def add(a, b):
        if b > 1e6:
            raise ValueError("too large")
        return a + b

    check = Check("sums.add", "add", lambda rng: [*sums(rng), {"a": torch.ones(1), "b": 1e9}], add,
                  wrong=(Wrong(lambda a, b: a - b if b < 1e6 else add(a, b), "You subtract."),), right=())
    assert examine(check, lambda a, b: a - b, 0).headline == "You subtract."
    assert examine(check, lambda a, b: a + b, 0).headline == "add should raise ValueError for one of the inputs and returns something"


def test_what_a_notebook_has_set_neither_helps_nor_hurts():
    "Gradients off, float64 by default, NumPy that raises: the answer and the reference run as usual, and all is as it was."
    def slope(a):
        return torch.autograd.grad((a.requires_grad_() ** 2).sum(), a)[0] + torch.zeros(1)

    check = Check("sums.slope", "slope", lambda rng: [{"a": torch.ones(3)}], slope, wrong=(), right=())
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    try:
        before = torch.get_rng_state()
        assert examine(check, slope, 0).passed
        assert not torch.is_grad_enabled() and torch.get_default_dtype() == torch.float64 and torch.equal(before, torch.get_rng_state())
    finally:
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)


def test_a_reference_that_fails_gives_nobody_credit():
    check = Check("sums.add", "add", sums, lambda a, b: a @ torch.ones(99), wrong=(), right=())
    with pytest.raises(CourseError, match="the check of sums.add is broken, its own reference fails .RuntimeError.*: mend it"):
        examine(check, lambda a, b: a @ torch.ones(99), 0)


def test_errors_of_ones_own_count_as_the_nearest_known_kind_and_leaving_is_an_error():
    class Mine(ValueError):
        pass

    def refuse(a, b):
        raise Mine("no")

    check = Check("sums.add", "add", sums, lambda a, b: int("x"), wrong=(), right=())
    assert examine(check, refuse, 0).passed
    assert examine(ADD, lambda a, b: sys.exit(0), 0).headline == "add raises SystemExit"
    assert not examine(ADD, lambda a, b: (a + b, a.resize_(0))[0], 0).passed


def test_a_judge_of_chance_works_on_the_references_form_alone():
    "Shapes that broadcast against the inputs would keep it busy for hours."
    seen = []
    check = replace(ADD, judge=lambda output, case: seen.append(output) or "other", wrong=(Wrong(None, "Seen.", lambda output, case: seen.append(output)),))
    for output in (torch.zeros(9, 1), [torch.zeros(3)], {"a": 1}, "text", None):
        assert checking.judge(check, [sums(np.random.default_rng(0))[0]], [Outcome(output)]).headline == "other"
    assert seen == [None] * 10
    assert checking.has_form({"a": [1, np.ones(2)]}, {"a": (torch.tensor(2.0), torch.zeros(2))}) and not checking.has_form({"a": 1}, {"a": 1, "b": 2})


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda mean: mean.detach(), "gradient of rows has other values than expected"), (lambda mean: mean[None], "output has another shape than expected"),
    (lambda mean: [], "output should be a tensor and is a list"), (lambda mean: (mean.sum(), mean), "output should be a tensor and is a tuple")])
def test_an_output_without_gradients_is_told_what_is_wrong_with_it_not_that_torch_raised(spoil, says):
    mean = Check("sums.mean", "mean", lambda rng: [{"rows": torch.ones(3, 2), "upstream": torch.ones(2)}], lambda rows: rows.mean(0), (), (), use=uses.gradients)
    assert examine(mean, lambda rows: rows.sum(0) / 3, 0).passed
    assert examine(mean, lambda rows: spoil(rows.mean(0)), 0).headline == says


def test_no_outcome_is_no_credit():
    cases = ADD.cases(np.random.default_rng(0))
    with pytest.raises(ValueError, match="give one each"):
        checking.judge(ADD, cases, [])


def test_a_blank_is_not_yet():
    def add(a, b):
        raise NotImplementedError("Exercise 1.1")

    assert examine(ADD, add, 0).not_yet
    number = Check("sums.guess", "guess", lambda rng: [{}], 12, (), (), use=uses.value)
    assert examine(number, None, 0).not_yet and examine(number, 12.0, 0).passed and not examine(number, 13, 0).passed


# --- in a notebook

def test_check_finds_the_answer_where_it_is_called_and_shows_the_mistake_first(work):
    space = {"check": notebook.check, BUILD.check.name: BUILD.check.wrong[0].answer}
    shown = eval(f"check({BUILD.id!r})", space)
    assert repr(shown).splitlines()[0].endswith(BUILD.check.wrong[0].says) and shown.hint_for == BUILD.id
    assert record.read_progress()[BUILD.id]["attempts"] == 1 and not record.read_progress()[BUILD.id]["passed"]
    space[BUILD.check.name] = BUILD.check.right[0]
    assert eval(f"check({BUILD.id!r})", space).title.endswith(f"passed, {BUILD.points} points")
    assert record.read_progress()[BUILD.id]["passed"]
    assert "not yet" in repr(eval(f"check({BUILD.id!r})", {"check": notebook.check}))


def test_a_note_in_the_notebook_is_markdown_with_the_details_as_code():
    shown = notebook.shown_verdict(BUILD, Verdict(False, "Wrong axis.", details="input     x = *1*"))
    assert shown._repr_markdown_() == f"**✗ {BUILD.number} {BUILD.title}: Wrong axis.**\n\n```text\ninput     x = *1*\n```"


def test_hints_come_in_order_and_the_solution_is_recorded(work):
    assert [notebook.hint(BUILD.id).text.startswith(hint) for hint in BUILD.hints] == [True] * 3
    assert "That was the last" in notebook.hint(BUILD.id).text
    assert BUILD.solution in notebook.solution(BUILD.id).details
    assert record.read_progress()[BUILD.id] == {"attempts": 0, "passed": None, "hints": 3, "solution_seen": True}
    for id, says in (("sums.nothing", "no exercise is called 'sums.nothing'"), ("", "no exercise is called ''"), (3.1, '3.1 is no text: .*"3.1"'),
                     (BUILD.lesson, f"{BUILD.lesson} names . exercises: give one")):
        with pytest.raises(CourseError, match=says):
            notebook.check(id)


def test_two_kernels_at_once_lose_nothing(work):
    code = "from microbert_course.practice.record import record_attempt\nfor _ in range(40): record_attempt('a.b', False)"
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert record.read_progress()["a.b"]["attempts"] == 80


@pytest.mark.parametrize("text", ["{", "[1]", '{"format": 1}', '{"format": 1, "exercises": {"a.b": 7}}', '{"format": 1, "exercises": {"a.b": {"attempts": "x"}}}'])
def test_a_damaged_progress_file_is_named_once_and_kept(work, text):
    (work / "progress.json").write_text(text)
    for ask in (notebook.progress, lambda: notebook.hint(BUILD.id)):
        with pytest.raises(CourseError, match="mend it by hand, or move it away") as error:
            ask()
        assert str(error.value).count("progress.json") == 1
    assert (work / "progress.json").read_text() == text


def test_a_work_folder_that_cannot_be_written_is_one_sentence(work, monkeypatch):
    (work / "file").touch()
    monkeypatch.setenv("MICROBERT_WORK", str(work / "file" / "work"))
    with pytest.raises(CourseError, match="progress.json cannot be written .Not a directory.: .* MICROBERT_WORK"):
        notebook.hint(BUILD.id)


# --- in the terminal

def test_start_reset_and_progress(work, capsys):
    lesson = BUILD.lesson[:2]
    copy = work / f"{BUILD.lesson}.ipynb"
    assert main(["exercise", "start", lesson]) == 0 and copy.read_bytes() == (course_root() / "exercises" / copy.name).read_bytes()
    copy.write_text(copy.read_text().replace("Exercise", "exercise"))
    mine = copy.read_text()
    assert main(["exercise", "start", lesson]) == 1 and copy.read_text() == mine
    assert main(["exercise", "reset", lesson]) == 0 and copy.read_text() != mine
    assert mine in [path.read_text() for path in work.glob("*.ipynb")]
    assert main(["exercise", "hint", BUILD.number]) == 0 and main(["exercise", "progress"]) == 0
    assert "looked at" in capsys.readouterr().out


def test_a_damaged_copy_is_one_sentence_and_is_begun_anew(work, capsys):
    lesson = BUILD.lesson[:2]
    (work / f"{BUILD.lesson}.ipynb").write_bytes(b"\xff{")
    for words in (["exercise", "check", lesson], ["adopt", BUILD.id]):
        assert main(words) == 1 and f"`microbert exercise reset {lesson}` begins anew" in capsys.readouterr().err
    assert main(["exercise", "reset", lesson]) == 0 and main(["exercise", "check", lesson]) == 1
    assert "not yet" in capsys.readouterr().out


def test_check_in_the_terminal_goes_from_not_yet_to_passed(work, capsys):
    assert main(["exercise", "check"]) == 1 and "started no exercises" in capsys.readouterr().err
    main(["exercise", "start", BUILD.lesson[:2]])
    assert main(["exercise", "check", BUILD.id]) == 1 and "not yet" in capsys.readouterr().out
    (work / f"{BUILD.lesson}.ipynb").write_bytes((course_root() / "solutions" / f"{BUILD.lesson}.ipynb").read_bytes())
    assert main(["exercise", "check", BUILD.id]) == 0 and "passed" in capsys.readouterr().out


# --- one's own code in the library's place

def library_source(name, work):
    "Where a fresh process finds a name of the library."
    module, _, last = name.rpartition(".")
    code = f"import microbert_course.{module} as m; thing = m.{last}; print(thing.__module__)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "MICROBERT_WORK": str(work)}, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_a_passing_answer_takes_the_librarys_place_until_it_is_dropped(work, capsys):
    builds = BUILD.check.builds
    (work / f"{BUILD.lesson}.ipynb").write_bytes((course_root() / "solutions" / f"{BUILD.lesson}.ipynb").read_bytes())
    assert main(["adopt", BUILD.id]) == 0
    assert library_source(builds, work) == f"adopted.{builds}"
    capsys.readouterr()
    assert main(["adopt", "--list"]) == 0 and capsys.readouterr().out.strip() == builds
    assert main(["adopt", BUILD.id, "--list"]) == 1 and "leave out" in capsys.readouterr().err
    assert main(["adopt", BUILD.id, BUILD.number, builds, "--drop"]) == 0
    assert library_source(builds, work) == f"microbert_course.{builds.rpartition('.')[0]}"
    assert main(["adopt", BUILD.id, "--drop"]) == 1


def test_an_answer_that_does_not_pass_is_not_taken(work, capsys):
    assert main(["adopt", BUILD.id]) == 1 and f"`microbert exercise start {BUILD.lesson[:2]}` makes it" in capsys.readouterr().err
    main(["exercise", "start", BUILD.lesson[:2]])
    assert main(["adopt", BUILD.id]) == 1 and "does not pass its check" in capsys.readouterr().err
    assert not list(work.glob("adopted/*"))
    other = next(exercise for exercise in exercises() if not exercise.check.builds)
    with pytest.raises(CourseError, match="builds nothing of the library"):
        notebook.adopt_answer(other, len)


@pytest.mark.parametrize("text", ["1 / 0\n", "raise SystemExit\n", "x = 1\n", "def ("])
def test_adopted_code_that_fails_says_how_to_be_rid_of_it(work, text):
    (work / "adopted").mkdir()
    (work / "adopted" / f"{BUILD.check.builds}.py").write_text(text)
    assert f"microbert adopt --drop {BUILD.check.builds}" in library_source(BUILD.check.builds, work)


NEEDY = '''import math
import re

import torch
from torch import Tensor, nn

SHARE = 0.5
TABLE = {"a": [1, 2], 3: (None,)}
LETTERS = re.compile("[a-z]+", re.IGNORECASE)


def helper(x: Tensor) -> Tensor:
    return x * SHARE * len(TABLE) * len(LETTERS.match("Abc").group()) if x.ndim else helper(x[None])


class Base(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return helper(x) + math.pi


class Mine(Base):
    "Needs all of the above."

    def forward(self, x):
        return super().forward(x) + torch.ones(1)
'''


def run_cells(path, *cells):
    "What a notebook of these cells defines."
    made = [{"cell_type": "code", "metadata": {}, "source": source} for source in cells]
    path.write_text(json.dumps({"cells": made, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}))
    space, failed = run_answers(path)
    assert not failed
    return space


def test_code_that_stands_alone_brings_its_helpers_imports_and_constants(tmp_path):
    space = run_cells(tmp_path / "a.ipynb", NEEDY, "def bad(x):\n    return x + table\ntable = torch.ones(2)", "def worse(x):\n    return y")
    alone = {}
    exec(stand_alone(space["Mine"]), alone)
    assert torch.equal(alone["Mine"]()(torch.zeros(2)), space["Mine"]()(torch.zeros(2)))
    for name, says in (("bad", "bad uses table, a Tensor of the notebook"), ("worse", "worse uses y, which is not defined")):
        with pytest.raises(CourseError, match=says):
            stand_alone(space[name])
    with pytest.raises(CourseError, match="3 is of type int: only a function or class"):
        stand_alone(3)


def test_classes_without_methods_and_infinities_stand_alone(tmp_path):
    space = run_cells(tmp_path / "a.ipynb", "from dataclasses import dataclass\nNEVER = float('-inf')\nclass Bad(ValueError): pass", "@dataclass\nclass Box:\n    inside: float = 0.0",
                      "def boxed(x):\n    if x is None:\n        raise Bad\n    return Box(x + NEVER)\nsoft = lambda x: x\ndef uses_soft(x):\n    return soft(x)")
    alone = {"__name__": "alone"}
    exec(stand_alone(space["boxed"]), alone)
    assert alone["boxed"](1.0).inside == -float("inf")
    with pytest.raises(ValueError, match="^$"):
        alone["boxed"](None)
    with pytest.raises(CourseError, match="uses_soft uses soft, a lambda: write it with def"):
        stand_alone(space["uses_soft"])


OWN_NAMES = '''%%time
%matplotlib inline
def own(x):
    import math
    def twice(y):
        return 2 * y
    try:
        weights = twice(x)
        raise ValueError
    except ValueError as error:
        return weights * math.pi if error else sum(part for part in [x])
'''


def test_names_of_its_own_are_none_of_the_notebook(tmp_path):
    "An import, a function, a variable or an error inside; the notebook's tensor of the same name is another thing. Magic is no Python."
    space = run_cells(tmp_path / "a.ipynb", "import torch\nweights = part = torch.ones(2)", OWN_NAMES)
    alone = {}
    exec(stand_alone(space["own"]), alone)
    assert alone["own"](1.0) == space["own"](1.0) and "ones" not in stand_alone(space["own"])


def test_what_a_notebook_asks_of_the_course_is_not_done_when_its_answers_are_looked_for(work):
    "Nothing is counted, shown or adopted; nor does a cell fail for want of a page to draw on."
    solution = (course_root() / "solutions" / f"{BUILD.lesson}.ipynb").read_text(encoding="utf-8")
    asks = f"""from microbert_course.practice import adopt, check, solution
import microbert_course.practice as practice
display(check("{BUILD.id}"), get_ipython())
practice.hint("{BUILD.id}"); solution("{BUILD.id}"); adopt({BUILD.check.name})"""
    cells = [*("".join(cell["source"]) for cell in json.loads(solution)["cells"] if cell["cell_type"] == "code"), asks]
    assert BUILD.check.name in run_cells(work / "a.ipynb", *cells)
    assert not record.read_progress() and not list(work.glob("adopted/*"))
    assert practice.check is notebook.check


@pytest.mark.parametrize(("value", "lines"), [
    (torch.arange(6.0).view(1, 1, 2, 3), ["(1, 1, 2, 3) float32 at [0, 0]:", "[[0., 1., 2.],", "[3., 4., 5.]]"]),
    (torch.ones(2, dtype=torch.bfloat16), ["[1., 1.]  bfloat16"]),
    (torch.empty(0, 2, 3), ["(0, 2, 3) float32 at [0]:", "[]"]),
    ((torch.tensor([7]), 3), ["[0] [7]  int64", "[1] 3"]),
    ({"a": torch.tensor(1.5)}, ["{a: 1.5  float32}"]),
])
def test_a_value_is_shown_in_a_few_lines(value, lines):
    assert [line.strip() for line in shown(value).split("\n")] == lines


def test_a_long_value_is_cut_and_says_so():
    assert shown("x" * 1000, room=10) == "'xxxxxxxxx …"
    assert len(shown(torch.randn(50, 50, 50)).split("\n")) < 8
