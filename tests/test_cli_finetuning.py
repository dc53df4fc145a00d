"""`microbert finetune` and `microbert classify`: what they say, what they leave behind, and one sentence for each mistake."""

import csv
import json

import pytest
import torch

from microbert_course.cli.main import main
from microbert_course.data.wordpiece import train_wordpiece
from microbert_course.models.bert import MicroBertConfig, MicroBertForMaskedLM

QUICK = ["--max-seq-len", "12", "--num-epochs", "2", "--learning-rate", "3e-3", "--batch-size", "8", "--device", "cpu", "--num-threads", "1"]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "An encoder, labelled reviews in two columns, and two reviews to be scored on, one of them a training text."
    folder = tmp_path_factory.mktemp("films")
    rows = [(f"film {i} is a {'fine' if i % 2 else 'dull'} film", "good" if i % 2 else "bad") for i in range(60)]
    with (folder / "reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("review", "sentiment"), *rows])
    (folder / "test.jsonl").write_text('{"text": "Film 3 is a fine film!", "label": "good"}\n{"text": "dull it is", "label": 0}\n')
    tokenizer = train_wordpiece([text for text, _ in rows], 60)
    torch.manual_seed(0)
    MicroBertForMaskedLM(MicroBertConfig(len(tokenizer), 16, 2, 2, 24, max_seq_len=12)).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return folder


@pytest.fixture(scope="module")
def tuned(films, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tuned"
    assert main(["finetune", "--model", str(films / "base"), "--data", str(films / "reviews.csv"), "--folder", str(folder), *QUICK]) == 0
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MICROBERT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def sentence_of(capsys, *arguments):
    "The one line that a failing command prints on standard error."
    capsys.readouterr()
    status = main(list(map(str, arguments)))
    lines = [line for line in capsys.readouterr().err.splitlines() if "\r" not in line and line.strip()]
    assert status == 1 and len(lines) == 1 and lines[0].startswith("microbert: "), (status, lines)
    return lines[0]


def test_finetune_says_what_it_reached_and_keeps_its_configuration(films, tmp_path, capsys):
    assert main(["finetune", "--model", str(films / "base"), "--data", str(films / "reviews.csv"), "--test", str(films / "test.jsonl"), "--layers", "classifier",
                 "--folder", str(tmp_path / "run"), *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "validation accuracy" in printed and "test accuracy" in printed and "(said)" in printed and str(tmp_path / "run") in printed
    saved = json.loads((tmp_path / "run" / "training.json").read_text())
    assert saved["layers"] == "classifier" and saved["num_epochs"] == 2 and saved["about"]["copies_left_out"] == 1 and saved["about"]["texts"] == 53
    assert "layers: classifier\n" in (tmp_path / "run" / "training.txt").read_text()


def test_prepared_rows_are_data(films, tmp_path, capsys):
    words = ["finetune", "--model", str(films / "base"), "--max-seq-len", "12", "--test", str(films / "test.jsonl")]
    assert main([*words, "--data", str(films / "reviews.csv"), "--prepare-only"]) == 0
    folder = capsys.readouterr().out.strip()
    assert main(["finetune", "--model", str(films / "base"), "--data", folder, "--folder", str(tmp_path / "run"), *QUICK[:2], "--num-epochs", "1", *QUICK[4:]]) == 0
    assert "test accuracy" in capsys.readouterr().out


def test_classify_prints_probabilities_and_writes_tables(tuned, tmp_path, capsys):
    assert main(["classify", "a fine film", "--model", str(tuned)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[1] for line in lines) == ["bad", "good"] and sum(float(line.split("%")[0]) for line in lines) == pytest.approx(100, abs=0.2)
    (tmp_path / "new.txt").write_text("a fine film\nquite dull, this one\n")
    assert main(["classify", "--file", str(tmp_path / "new.txt"), "--model", str(tuned), "--to", str(tmp_path / "out.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [row["text"] for row in rows] == ["a fine film", "quite dull, this one"] and set(rows[0]) == {"text", "label", "p(bad)", "p(good)"}
    assert all(row["label"] == max(("bad", "good"), key=lambda name, row=row: float(row[f"p({name})"])) for row in rows)


@pytest.mark.parametrize(("words", "said"), [
    (["finetune", "--data", "nowhere.csv"], ['no file "nowhere.csv"']),
    (["finetune", "--model", "nowhere"], ["nowhere is not a folder"]),
    (["finetune", "--num-steps", "7"], ["num_steps 7 and num_epochs 2 are both given"]),
    (["finetune", "--layers", "last_3"], ["'last_3' and the model has 2 blocks"]),
    (["finetune", "--text-column", "body"], ["no column of texts called 'body', only 'review', 'sentiment'"]),
    (["finetune", "--batch-size", "0"], ["batch_size is 0"]),
])
def test_a_mistake_is_one_sentence(films, tmp_path, capsys, words, said):
    usual = {"--model": films / "base", "--data": films / "reviews.csv", "--folder": tmp_path / "run", **dict(zip(QUICK[::2], QUICK[1::2], strict=True))}
    usual |= dict(zip(words[1::2], words[2::2], strict=True))
    sentence = sentence_of(capsys, words[0], *(word for pair in usual.items() for word in pair))
    assert all(word in sentence for word in said), sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "said"), [
    (["classify"], "give either a text"), (["classify", "fine", "--file", "a.txt"], "give either a text"),
    (["classify", "--file", "a.txt", "--to", "nowhere/a.csv"], "there is no folder nowhere: make it first"),
    (["classify", "fine", "--to", "a.csv"], "--to a.csv is for the texts of a --file"), (["classify", "fine", "--model", "nowhere"], "nowhere is not a folder"),
])
def test_a_question_that_cannot_be_answered_is_one_sentence(capsys, words, said):
    assert said in sentence_of(capsys, *words)


def test_an_encoder_without_labels_judges_nothing(films, capsys):
    assert "knows no labels: fine-tune it first" in sentence_of(capsys, "classify", "fine", "--model", films / "base")


def test_both_commands_explain_themselves(capsys):
    for command in ("finetune", "classify"):
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
    assert "--layers {classifier,last_2,last_3,all}" in capsys.readouterr().out.replace("\n", " ")
