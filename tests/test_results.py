"""show_results outside a notebook; tests/test_runner.py shows it inside one."""

import pytest

from microbert_course.errors import CourseError
from microbert_course.lessons.results import show_results


def test_plain_python_prints_a_readable_table(capsys):
    fills = [{"text": "this movie is [MASK] good", "guesses": [["very", 0.25], ["so", 0.125]]},
             {"text": "a [MASK] film", "guesses": [["great", 0.5]]}]
    show_results(validation_loss=5.98765, steps=1200, fills=fills)
    assert capsys.readouterr().out.splitlines() == [
        "validation loss  5.988",
        "steps            1200",
        "fills            this movie is [MASK] good; very 0.25, so 0.125",
        "                 a [MASK] film; great 0.5",
    ]


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), [float("inf")]])
def test_a_value_that_json_cannot_hold_is_refused_by_name(value):
    with pytest.raises(CourseError, match="show_results cannot record loss="):
        show_results(loss=value)
