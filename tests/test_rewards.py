"""Rewards: what is read as an answer and what is not, what a reward must give, and programs that are run where they can do no harm."""

import json
import socket
from fractions import Fraction

import pytest
import torch

from microbert_course.errors import CourseError
from microbert_course.grading import doctor
from microbert_course.posttraining.code_rewards import CodeReward, program_in, read_cases
from microbert_course.posttraining.rewards import (
    Term,
    format_reward,
    label_reward,
    model_reward,
    numeric_reward,
    parse_number,
    plain_word,
    scores_of,
    share_equal,
    total_reward,
)


@pytest.mark.parametrize(("text", "number"), [
    ("The answer is 42.", 42), ("12 + 30 = 42", 42), ("42", 42), ("-3", -3), ("\N{MINUS SIGN}5 degrees", -5), ("about .5", Fraction(1, 2)),
    ("it costs $1,234.50 in all", Fraction(2469, 2)), ("-$5", -5), ("3/4 of a cup", Fraction(3, 4)), ("1e3 m", 1000), ("50%", 50), ("12km", 12),
    ("7 birds\n#### 1,234", 1234), ("#### -7\nThat was 9 steps.", -7), (r"\boxed{\frac{3}{4}} so 12", Fraction(3, 4)), (r"\boxed{\text{is } 8} 9", 8),
    (r"first \boxed{1}, no: \boxed{2}", 2), ("10-7", 7), (r"\$18", 18), ("1{,}000", 1000), (r"\boxed{1\,000}", 1000),
    (r"\boxed{\dfrac{-1}{2}}", Fraction(-1, 2)), (r"\frac{\pi}{2} is no sum, 7 is", 7), ("of the 3\n1/2", Fraction(1, 2))])
def test_the_number_that_is_meant_is_found(text, number):
    "Marked places come first, then the last number; commas, signs, units and fractions are understood."
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["no idea", "", "forty-two", "x2 y3", "1/0", r"\boxed{unknown} but 42", "#### none\nor 42", "9" * 5_000,
                                  r"\boxed{\frac{\pi}{2}}", r"it is 5: \frac{\sqrt{2}}{2}", r"\frac{1.5}{2}", r"\frac12", r"3\frac{1}{2}", r"3 \frac{1}{2}", "3 1/2 days"])
def test_what_has_no_answer_has_no_number(text):
    "A marked place without a number hides no other one, a fraction that cannot be read is not its last part, and nothing here raises."
    assert parse_number(text) is None


def test_only_the_final_number_earns():
    "A completion that names many numbers has named the right one too: the last one counts. A tolerance is a share of the answer."
    completions = ["1 2 3 42 43", "so 42", "#### 42", "42.0", "41.9", "nothing"]
    assert numeric_reward([""] * 6, completions, ["#### 42"] * 6) == [0, 1, 1, 1, 0, 0]
    assert numeric_reward([""] * 2, ["41.9", "41"], ["42"] * 2, tolerance=0.01) == [1, 0]
    assert numeric_reward([""], ["0.1"], ["1/10"]) == [1]  # exact, where floats would have to guess


def test_an_answer_without_a_number_is_named():
    "The number of the answer and what it says stand in the sentence."
    with pytest.raises(CourseError, match="answer 1 is 'many' and has no number"):
        numeric_reward(["", ""], ["3", "4"], ["3", "many"])


def test_a_list_of_all_labels_earns_nothing():
    "Case, white space and a full stop do not matter; anything beside the label does."
    completions = ["positive", " Positive.\n", "positive negative", "not positive", ""]
    assert label_reward([""] * 5, completions, ["positive"] * 5) == [1, 1, 0, 0, 0] and plain_word(" Yes! ") == "yes"


def test_form_is_of_the_whole_completion():
    "A form that occurs somewhere within a text is not its form; lines are no limit."
    form = format_reward(r".*####\s*\d+")
    assert form(["q"] * 4, ["a\nb\n#### 4", "#### 4 \n", "#### four", "#### 4 and more"], [""] * 4) == [1, 1, 0, 0]


def test_terms_are_weighed_and_kept_apart():
    "The sum is weighed, the scores by name are not; a reward model sees prompts and completions alone."
    terms = (Term("exact", numeric_reward), Term("form", format_reward(r"\d+"), 0.1), Term("long", model_reward(lambda prompts, texts: torch.tensor([len(text) for text in texts])), 0.01))
    total, scores = total_reward(terms, ["", ""], ["7", "it is 7"], ["7", "8"])
    assert torch.allclose(total, torch.tensor([1.11, 0.07])) and scores["form"].tolist() == [1, 0] and scores["long"].tolist() == [1, 7]


@pytest.mark.parametrize(("given", "sentence"), [
    ([1.0, float("nan")], "the reward 'judge' is nan for completion 1, 'b'"), ([1.0, float("inf")], "is inf for completion 1"),
    ([1.0], r"gives \(1,\) scores for 2 completions"), (1.0, r"gives \(\) scores for 2"), (["good", "bad"], "no numbers"), ([[1.0], [2.0]], r"gives \(2, 1\) scores"),
    (None, "no numbers")])
def test_a_reward_that_is_no_reward_is_refused(given, sentence):
    "One finite number a completion, or a sentence that says what came instead."
    with pytest.raises(CourseError, match=sentence):
        scores_of("judge", lambda prompts, completions, answers: given, ["", ""], ["a", "b"], ["", ""])


def test_values_are_equal_only_in_kind():
    "True is not 1 and '1' is not 1; 0.1 + 0.2 is 0.3."
    assert share_equal([True, "1", 0.1 + 0.2, [1, 2], 2], [1, 1, 0.3, [1, 2], 2.0]) == 0.6
    assert share_equal([[0.1 + 0.2], {"a": 0.1 + 0.2}, (1, [2])], [[0.3], {"a": 0.3}, [1, [2]]]) == 1  # cases are JSON, which has no tuples
    assert share_equal([[True], [1], [1, 2], {"a": 1}], [[1], ["1"], [1], {"b": 1}]) == 0


ADD = json.dumps({"function": "add", "cases": [{"inputs": {"a": 2, "b": 3}, "output": 5}, {"inputs": {"a": -1, "b": 1}, "output": 0}]})


@pytest.mark.parametrize("answer", ["", "5", "{}", '{"function": "add", "cases": []}', '{"function": "a b", "cases": [{"inputs": {}, "output": 1}]}', "[1]"])
def test_cases_that_are_none_are_named(answer):
    "The sentence has the number of the answer and an example of what would do."
    with pytest.raises(CourseError, match="answer 3: the answer is .* no set of cases: give"):
        read_cases(answer, "answer 3")


def test_the_last_block_is_the_program():
    "A text without a block is a program itself."
    assert program_in("So:\n```python\nx = 1\n```\nno:\n```\nx = 2\n```\n") == "x = 2\n" and program_in("x = 3") == "x = 3"


def test_a_level_that_stops_nobody_is_refused():
    "A program that a model wrote is never run where it could reach the network."
    with pytest.raises(CourseError, match="level is 'weak', which stops no program"):
        CodeReward(level="weak")


def test_programs_earn_by_what_they_give_back(tmp_path):
    "Right ones earn 1. Wrong ones, those that crash, never end, leave, patch the comparison or read the machine's files earn 0, and harm nobody."
    try:
        level = doctor.choose(require_isolation=True)
    except CourseError as error:
        pytest.skip(str(error))
    secret = tmp_path / "secret"
    secret.write_text("5")
    secret.chmod(0o644)
    server = socket.create_server(("127.0.0.1", 0))
    programs = ["def add(a, b):\n    return a + b", "Sure!\n```python\ndef add(a, b):\n    return b + a\n```", "def add(a, b):\n    return a - b",
                "def add(a, b):\n    return 1 / 0", "import os; os._exit(0)", "class Same(int):\n    __eq__ = lambda *_: True\ndef add(a, b):\n    return Same()",
                f"def add(a, b):\n    return int(open({str(secret)!r}).read()) if a == 2 else 0", "not Python", "def other(a, b):\n    return a + b",
                f"import socket\ndef add(a, b):\n    socket.create_connection((\"127.0.0.1\", {server.getsockname()[1]}), timeout=1)\n    return a + b",
                "import socket\ndef add(a, b):\n    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b\"x\", (\"8.8.8.8\", 53))\n    return a + b",
                "import os\nwhile os.fork():\n    pass\ndef add(a, b):\n    return a + b", "x = bytearray(2**32)\ndef add(a, b):\n    return a + b",
                "def add(a, b):\n    while True:\n        pass", "def add(a, b):\n    return a + b"]
    with server, CodeReward(seconds=1.0, level=level) as reward:
        assert reward([""] * len(programs), programs, [ADD] * len(programs)) == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
