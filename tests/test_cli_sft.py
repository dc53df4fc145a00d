"`microbert sft`: a run from the command line that resumes and is opened by the others, and one sentence for each mistake."

import json

import pytest

from microbert_course.cli.main import main
from microbert_course.models.bert import MicroBert, MicroBertConfig
from microbert_course.models.gpt import GptConfig, GptForCausalLM
from microbert_course.posttraining.problems import sums_tokenizer

SMALL = ["--num-epochs", "1", "--batch-size", "8", "--max-seq-len", "16", "--max-new-tokens", "3", "--device", "cpu", "--num-threads", "1", "--learning-rate", "1e-2",
         "--prompt", "{prompt}="]


@pytest.fixture
def adder(tmp_path, monkeypatch):
    "A folder with a tiny decoder that has learned nothing, and a file of sums."
    monkeypatch.setenv("MICROBERT_RUNS", str(tmp_path / "runs"))
    GptForCausalLM(GptConfig(14, hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=16, max_seq_len=24, eos_token_id=13)).save_pretrained(tmp_path / "adder")
    sums_tokenizer().save_pretrained(tmp_path / "adder")
    rows = [{"prompt": f"{a}+{b}", "answer": str(a + b), "kind": "math", "labels": [], "final": str(a + b)} for a in range(6) for b in range(6)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_run_says_what_it_reached_and_the_other_commands_open_it(adder, capsys):
    "Its folder is named by what is in it; the settings are there as json and text; a finished run is not replaced unasked, and goes on if asked to."
    command = ["sft", "--model", str(adder / "adder"), "--data", str(adder / "sums.jsonl"), *SMALL]
    assert main([*command, "--test", str(adder / "sums.jsonl"), "--folder", str(adder / "none")]) == 1  # nothing is left that is not tested
    capsys.readouterr()
    assert main(command) == 0
    said, folder = capsys.readouterr().out, adder / "runs" / "sft" / "adder" / "sums"
    assert "before, on held-out examples: loss" in said and "after 5 updates: loss" in said and "right numbers" in said and str(folder) in said
    assert json.loads((folder / "training.json").read_text())["packing"] is True and "prompt: {prompt}=" in (folder / "training.txt").read_text()
    assert main(command) == 1 and "holds a finished run" in capsys.readouterr().err
    assert main([*command, "--resume", "latest"]) == 0
    assert main([*command, "--resume", "latest", "--learning-rate", "1e-3"]) == 1 and "learning_rate is 0.001 and was 0.01" in capsys.readouterr().err
    assert main(["generate", "2+3", "--model", str(folder), "--max-new-tokens", "2"]) == 0
    assert main(["grpo", "--model", str(folder), "--num-steps", "1", "--eval-every", "1", "--warmup-steps", "0", "--batch-size", "8", "--num-test", "10", "--device", "cpu",
                 "--folder", str(adder / "grpo")]) == 0


def test_a_test_that_nothing_can_check_is_answered_all_the_same(adder, capsys):
    "Free answers have no score: the command says so, and what was written is kept beside what was hoped for."
    rows = [{"prompt": f"{a}+9", "answer": "7", "kind": "instruction", "labels": [], "final": ""} for a in range(3)]
    (adder / "free.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["sft", "--model", str(adder / "adder"), "--data", str(adder / "sums.jsonl"), "--test", str(adder / "free.jsonl"), "--folder", str(adder / "run"), *SMALL]) == 0
    assert "on the test: nothing that can be checked" in capsys.readouterr().out
    kept = [json.loads(line) for line in (adder / "run" / "answers.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in kept] == ["0+9", "1+9", "2+9"] and all("written" in row for row in kept)


@pytest.mark.parametrize(("words", "sentence"), [
    (["--data", "sst3"], "did you mean sst2"), (["--data", "sst2=0.5,imdb=0.6"], "the rates sum to 1.1 and should sum to 1"),
    (["--data", "sst2=much"], "the rate of 'sst2' is 'much', no number"), (["--model", "minilm"], "is an encoder (bert), which reads text and writes none"),
    (["--prompt", "?"], "has no place for the task"), (["--max-seq-len", "64"], "max_seq_len is 64 and the model"),
    (["--max-seq-len", "4"], "33 of 33 examples"), (["--num-steps", "7"], "num_steps 7 and num_epochs 1 are both given")])
def test_a_mistake_is_one_sentence(adder, capsys, words, sentence):
    "Status 1, the value and the remedy; nothing is left behind."
    rates = [] if "--data" in words else ["--data", str(adder / "sums.jsonl")]
    if "=0.6" in " ".join(words):
        words = ["--data", f"{adder / 'sums.jsonl'}=0.5,{adder / 'copy.jsonl'}=0.6"]
        (adder / "copy.jsonl").write_text((adder / "sums.jsonl").read_text())
    assert main(["sft", "--model", str(adder / "adder"), "--folder", str(adder / "run"), *SMALL, *rates, *words]) == 1
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and not (adder / "run").exists()


def test_an_encoder_in_a_folder_is_sent_to_finetune(adder, capsys):
    MicroBert(MicroBertConfig(14, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, max_seq_len=16), with_pooler=True).save_pretrained(adder / "bert")
    assert main(["sft", "--model", str(adder / "bert"), "--data", str(adder / "sums.jsonl"), *SMALL]) == 1
    assert "`microbert finetune --model" in capsys.readouterr().err
