"""Every check against its zoo: wrong answers are refused and named, right ones are never refused, and all of it in time."""

import pytest

from microbert_course.practice.exercises import exercises
from microbert_course.practice.zoo import try_check

LIMIT_S = 3.0  # of one check, 95th percentile
EXERCISES = exercises()


@pytest.mark.parametrize("exercise", EXERCISES, ids=[exercise.id for exercise in EXERCISES])
def test_a_check_knows_right_from_wrong(exercise):
    check = exercise.check
    trial = try_check(check)
    assert len(check.right) >= 2 and len(check.wrong) >= 4, "a zoo is two right answers and four wrong ones at least"
    assert not trial.refused_right, trial.refused_right[0]
    assert not trial.credited_wrong, trial.credited_wrong[0]
    assert len(trial.unnamed) <= 0.1 * trial.num_wrong, trial.unnamed[0]
    assert trial.p95_s < LIMIT_S
