"""Every check against its zoo: wrong answers are refused and named, right ones are never refused, and all of it in time."""

import os

import numpy as np
import pytest

from microbert_course.cli.main import main
from microbert_course.practice import exercises as all_exercises
from microbert_course.practice import uses
from microbert_course.practice.checking import Check, Wrong, judge
from microbert_course.practice.exercises import Exercise, exercises
from microbert_course.practice.outcomes import outcome
from microbert_course.practice.zoo import SEEDS, try_check

DRAWS = int(os.environ.get("MICROBERT_DRAWS", SEEDS))  # `make test` asks for fewer
LIMIT_S = 3.0  # of one check, 95th percentile
EXERCISES = exercises()


@pytest.mark.parametrize("exercise", EXERCISES, ids=[exercise.id for exercise in EXERCISES])
def test_a_check_knows_right_from_wrong(exercise):
    check = exercise.check
    trial = try_check(check, DRAWS)
    assert len(check.right) >= 2 and len(check.wrong) >= 4, "a zoo is two right answers and four wrong ones at least"
    assert not trial.refused_right, trial.refused_right[0]
    assert not trial.credited_wrong, trial.credited_wrong[0]
    assert len(trial.unnamed) <= 0.1 * trial.num_wrong, trial.unnamed[0]
    assert trial.p95_s < LIMIT_S


@pytest.mark.parametrize("exercise", EXERCISES, ids=[exercise.id for exercise in EXERCISES])
def test_the_outcomes_of_one_draw_are_not_those_of_another(exercise):
    "Or a submission that counts its calls would pass with results that somebody saw once."
    check = exercise.check
    if check.use is uses.value:
        pytest.skip("a number that was measured is the same for everybody")
    cases, others = (check.cases(np.random.default_rng(seed)) for seed in (1, 2))
    seen = [outcome(check.use, check.reference, case, number) for number, case in enumerate(others)]
    assert len(cases) != len(others) or not judge(check, cases, seen).passed


@pytest.mark.parametrize(("right", "wrong", "says"), [(abs, float, None), (float, float, "right answer 0"), (abs, abs, "wrong answer 0")])
def test_the_report_is_a_failure_if_an_answer_is_judged_wrongly(tmp_path, monkeypatch, capsys, right, wrong, says):
    check = Check("sums.abs", "abs", lambda rng: [{"number": -1.0}], abs, (Wrong(wrong, "You keep the sign."),), (right,), use=lambda answer, number: answer(number))
    exercise = Exercise("sums.abs", "01_sums", "1.1", "Sign", "build", "easy", 5, 5, "", ("", "", ""), "", "")
    monkeypatch.setattr(all_exercises, "exercises", lambda: [exercise])
    monkeypatch.setattr(all_exercises, "checks", lambda lesson: {check.id: check})
    monkeypatch.setenv("MICROBERT_RUNS", str(tmp_path))
    assert main(["exercise", "report"]) == (1 if says else 0)
    assert "| 1.1 sums.abs |" in (tmp_path / "checks.md").read_text()
    if says:
        assert f"sums.abs, {says}, seed 0" in capsys.readouterr().out
