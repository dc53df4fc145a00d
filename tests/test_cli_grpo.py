"`microbert grpo`: a run from the command line that resumes, and one sentence for each mistake."

import json

import pytest

from microbert_course.cli.main import main
from microbert_course.posttraining.problems import fresh_adder, sums_tokenizer

SMALL = ["--num-steps", "2", "--eval-every", "1", "--batch-size", "16", "--num-test", "30", "--device", "cpu", "--warmup-steps", "0"]


@pytest.fixture
def adder(tmp_path):
    "A folder with a tiny decoder that has learned nothing."
    fresh_adder(0).save_pretrained(tmp_path / "adder")
    sums_tokenizer().save_pretrained(tmp_path / "adder")
    return tmp_path / "adder"


def test_a_run_leaves_a_model_its_settings_and_what_it_reached(adder, tmp_path, capsys):
    "The settings are there as json and as text; a finished run is not replaced unasked, and goes on if it is asked to."
    command = ["grpo", "--model", str(adder), "--folder", str(tmp_path / "run"), *SMALL]
    assert main(command) == 0
    assert "right on 30 unseen problems: 0.0% before" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "training.json").read_text())["group_size"] == 8 and "group_size: 8" in (tmp_path / "run" / "training.txt").read_text()
    assert main(command) == 1 and "holds a finished run" in capsys.readouterr().err
    assert main([*command, "--resume", "latest"]) == 0
    assert main([*command, "--resume", "latest", "--group-size", "4"]) == 1 and "group_size is 4 and was 8" in capsys.readouterr().err


def test_questions_of_a_file_are_asked_as_the_prompt_says(adder, tmp_path, capsys):
    "Numbers are the goal there; a file without the columns is refused by a sentence."
    rows = [{"question": f"{a}+{b}", "final": str(a + b)} for a in range(6) for b in range(6)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["grpo", "--model", str(adder), "--data", str(tmp_path / "sums.jsonl"), "--folder", str(tmp_path / "run"), *SMALL]
    assert main([*command, "--prompt", "{question}="]) == 0
    assert json.loads((tmp_path / "run" / "training.json").read_text())["about"]["problems"] == 6
    (tmp_path / "unseen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:7]))
    capsys.readouterr()
    assert main([*command, "--prompt", "{question}=", "--test", str(tmp_path / "unseen.jsonl"), "--num-test", "0", "--overwrite"]) == 0
    about = json.loads((tmp_path / "run" / "training.json").read_text())["about"]
    assert (about["problems"], about["unseen_problems"]) == (29, 7) and "right on 7 unseen problems" in capsys.readouterr().out
    (tmp_path / "sums.jsonl").write_text('{"text": "one"}\n')
    assert main([*command, "--overwrite"]) == 1 and "holds plain text, which asks nothing" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "sentence"), [
    (["--group-size", "1"], "group_size is 1: give 2 or more"), (["--num-test", "2500"], "num_test is 2500 and there are 2500 different problems"),
    (["--max-new-tokens", "40"], "has 6 tokens, and with max_new_tokens 40"), (["--model", "nowhere"], "nowhere")])
def test_a_mistake_is_one_sentence(adder, tmp_path, capsys, words, sentence):
    "Status 1, the value and the remedy; nothing is left behind."
    assert main(["grpo", "--model", str(adder), "--folder", str(tmp_path / "run"), *SMALL, *words]) == 1
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_the_start_replaces_no_run_of_another_kind(tmp_path, capsys):
    (tmp_path / "sums-shown").mkdir()
    (tmp_path / "sums-shown" / "training.json").write_text('{"about": {}}')
    assert main(["grpo", "--folder", str(tmp_path / "sums"), "--device", "cpu"]) == 1
    assert "sums-shown holds another run" in capsys.readouterr().err and (tmp_path / "sums-shown" / "training.json").exists()


@pytest.mark.parametrize("how", [[], ["--resume", "latest"]])
def test_what_a_run_began_with_stays_as_long_as_the_run(tmp_path, capsys, how):
    "Another seed has another start: it is made for another run, or where this one is replaced."
    command = ["grpo", "--folder", str(tmp_path / "sums"), *SMALL]
    assert main(command) == 0
    first = (tmp_path / "sums-shown" / "model.safetensors").read_bytes()
    assert main([*command, "--seed", "1", *how]) == 1
    assert "sums began with" in (said := capsys.readouterr().err) and "made with seed 0, num_test 30 and device cpu: give the same" in said
    assert (tmp_path / "sums-shown" / "model.safetensors").read_bytes() == first
    assert main([*command, "--seed", "1", "--overwrite"]) == 0
    assert (tmp_path / "sums-shown" / "model.safetensors").read_bytes() != first
