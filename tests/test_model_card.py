"""The card says what the run's files say, and `microbert evaluate` writes those files: scores, leaks, a second model, one sentence for each mistake."""

import json
import re

import numpy as np
import pytest
import torch

from microbert_course.cli.main import main
from microbert_course.data.wordpiece import train_wordpiece
from microbert_course.errors import CourseError
from microbert_course.models.bert import MicroBertConfig, MicroBertForMaskedLM
from microbert_course.posttraining.classification import (
    MicroBertForSequenceClassification,
    load_sft_model,
    save_sft_model,
)
from microbert_course.posttraining.model_card import write_model_card

WORDS = "river stone window garden letter winter candle basket mirror ladder thunder pepper".split()


def film(number, word):
    "A sentence of ten words: who has it in a training text has seen it."
    words = np.random.default_rng(number).choice(WORDS, 8)
    return " ".join([*words[:4], "film", word, *words[4:]])


def as_jsonl(rows):
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "An encoder, 80 labelled sentences to learn from, 30 others to be judged on."
    folder = tmp_path_factory.mktemp("films")
    rows = [(film(number, "fine" if number % 2 else "dull"), "good" if number % 2 else "bad") for number in range(110)]
    (folder / "train.jsonl").write_text(as_jsonl(rows[:80]))
    (folder / "new.jsonl").write_text(as_jsonl(rows[80:]))
    (folder / "mixed.jsonl").write_text(as_jsonl([*rows[80:], *rows[10:15]]))
    tokenizer = train_wordpiece([text for text, _ in rows], 90)
    torch.manual_seed(0)
    MicroBertForMaskedLM(MicroBertConfig(len(tokenizer), 16, 2, 2, 24, max_seq_len=24)).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MICROBERT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def run(films, tmp_path_factory):
    "A finished run that learned the word that tells."
    folder = tmp_path_factory.mktemp("runs") / "films"
    words = ["--max-seq-len", "24", "--num-epochs", "3", "--learning-rate", "1e-2", "--batch-size", "8", "--device", "cpu", "--num-threads", "1"]
    assert main(["finetune", "--model", str(films / "base"), "--data", str(films / "train.jsonl"), "--folder", str(folder), *words]) == 0
    return folder


def evaluate(capsys, *words, status=0):
    "What it prints; of a failure the one line."
    capsys.readouterr()
    assert main(["evaluate", *map(str, words), "--num-resamples", "100"]) == status
    shown = capsys.readouterr()
    return shown.out if status == 0 else [line for line in shown.err.splitlines() if line.strip()]


def test_evaluate_prints_and_writes_scores_with_intervals(run, films, capsys):
    said = evaluate(capsys, "--model", run, "--data", films / "new.jsonl")
    report = json.loads((run / "evaluation.json").read_text())
    assert report["texts"] == 30 and report["labels"] == ["bad", "good"] and report["data"] == "new.jsonl"
    assert set(report["scores"]) == {"accuracy", "macro_f1", "matthews", "calibration_error", "loss"}
    assert all(found["low"] <= found["high"] for found in report["scores"].values())
    found = report["scores"]["accuracy"]
    assert f"accuracy           {found['value']:.3f}  ({found['low']:.3f} to {found['high']:.3f})" in said and str(run / "evaluation.json") in said
    assert sum(map(sum, report["confusion"])) == 30 and found["value"] == (report["confusion"][0][0] + report["confusion"][1][1]) / 30


def test_evaluate_counts_the_texts_that_the_run_learned_from(run, films, capsys):
    "None of the new ones; of the mixed ones five, and the accuracy without them is that of the new ones."
    assert "0 of the texts are in the texts it learned from" in evaluate(capsys, "--model", run, "--data", films / "new.jsonl")
    clean = json.loads((run / "evaluation.json").read_text())
    said = evaluate(capsys, "--model", run, "--data", films / "mixed.jsonl")
    leaks = json.loads((run / "evaluation.json").read_text())["leaks"]
    held_out = 5 - leaks["texts"]  # one in ten of the training file was never learned from
    assert leaks["copies"] == leaks["texts"] and held_out <= 1 and f"{leaks['texts']} of the texts are in the texts" in said
    if not held_out:
        assert leaks["accuracy_without"]["value"] == clean["scores"]["accuracy"]["value"]


def test_copies_that_the_run_left_out_are_no_leaks(films, tmp_path, capsys):
    "Five test texts are in the training file, and --test took them out before anything was learned."
    words = ["--max-seq-len", "24", "--num-epochs", "1", "--batch-size", "8", "--device", "cpu", "--num-threads", "1"]
    assert main(["finetune", "--model", str(films / "base"), "--data", str(films / "train.jsonl"), "--test", str(films / "mixed.jsonl"),
                 "--folder", str(tmp_path / "run"), *words]) == 0
    assert "0 of the texts are in the texts it learned from" in evaluate(capsys, "--model", tmp_path / "run", "--data", films / "mixed.jsonl")


def test_evaluate_compares_in_pairs(run, films, tmp_path, capsys):
    "Against a head that was never trained: the difference is this minus that, and McNemar's counts add up to it."
    model, tokenizer = load_sft_model(run)
    torch.manual_seed(1)
    other = MicroBertForSequenceClassification(model.config, model.names)
    other.bert = model.bert
    save_sft_model(other.eval(), tokenizer, tmp_path / "other")
    said = evaluate(capsys, "--model", run, "--data", films / "new.jsonl", "--against", tmp_path / "other")
    against = json.loads((run / "evaluation.json").read_text())["against"]
    pairs = against["mcnemar"]
    assert against["difference"]["accuracy"]["value"] == pytest.approx((pairs["only_this"] - pairs["only_that"]) / 30)
    assert f"compared in pairs with {tmp_path / 'other'}" in said and f"right alone: {pairs['only_this']} and {pairs['only_that']} texts" in said


def test_the_card_says_what_the_files_say(run, films, capsys):
    assert str(run / "README.md") in evaluate(capsys, "--model", run, "--data", films / "new.jsonl", "--card")
    card = (run / "README.md").read_text()
    settings, report, history = (json.loads((run / name).read_text()) for name in ("training.json", "evaluation.json", "history.json"))
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-classification\n") and "\n# films\n" in card
    for name, title in (("accuracy", "accuracy"), ("matthews", "Matthews' coefficient")):
        found = report["scores"][name]
        assert f"| {title} | {found['value']:.3f} | {found['low']:.3f} to {found['high']:.3f} |" in card
    assert f"| learning_rate | {settings['learning_rate']} |" in card and f"| num_steps | {settings['num_steps']} |" in card
    assert f"{settings['about']['parameters']:,} parameters" in card and "It tells apart: bad, good." in card
    assert f"loss {history['validation'][-1]['loss']:.4g}" in card and "72 texts, 8 validation texts" in card
    assert "Terms: not known to the course" in card and "None of these texts is in the texts it learned from" in card
    assert 'AutoModelForSequenceClassification.from_pretrained("films/best")' in card


def test_the_card_follows_the_files(run, films, capsys):
    "Another evaluation, another card; without one it says so, and a leak is in bold."
    evaluate(capsys, "--model", run, "--data", films / "mixed.jsonl", "--card")
    assert re.search(r"\*\*[45] of these texts are, wholly or mostly, in the texts it learned from\*\*; without them the accuracy is", (run / "README.md").read_text())
    (run / "evaluation.json").unlink()
    assert "interval" not in write_model_card(run).read_text()


def test_a_pretraining_run_has_a_card_as_well(tmp_path):
    "From the files that such a run leaves: no labels, no evaluation, its licence and its loss."
    folder = tmp_path / "tour"
    folder.mkdir()
    (folder / "training.json").write_text(json.dumps({"data": "imdb", "batch_size": 32, "about": {"parameters": 12345, "licence": "for research"},
                                                      "environment": {"torch": "2.13.0"}}))
    (folder / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"], "hidden_size": 128}))
    (folder / "history.json").write_text(json.dumps({"validation": [{"step": 9, "loss": 6.25, "accuracy": 0.125}]}))
    card = write_model_card(folder).read_text()
    assert all(words in card for words in ("pipeline_tag: fill-mask", "12,345 parameters", "Terms: for research.", "| batch_size | 32 |",
                                           "after 10 updates: loss 6.25, accuracy 0.125.", 'AutoModelForMaskedLM.from_pretrained("tour")'))
    (folder / "scores.json").write_text(json.dumps({"validation": {"step": 4, "loss": 6.0, "accuracy": 0.25}}))
    assert "loss 6.25, accuracy 0.125. The state in `best` was better, after 5 updates: loss 6, accuracy 0.25." in write_model_card(folder).read_text()
    for name in ("history", "scores"):
        (folder / f"{name}.json").unlink()
    assert "Nobody has measured it yet." in write_model_card(folder).read_text()


def test_a_folder_that_is_no_run_has_no_card(tmp_path):
    with pytest.raises(CourseError, match="has no training.json, so it is no run's folder"):
        write_model_card(tmp_path)


def test_each_mistake_is_one_sentence(run, films, tmp_path, capsys):
    (tmp_path / "labels.jsonl").write_text(as_jsonl([("a film", "good"), ("b film", "superb")]))
    (tmp_path / "one.jsonl").write_text(as_jsonl([("a film", "good"), ("b film", "good")]))
    model, tokenizer = load_sft_model(run)
    other = MicroBertForSequenceClassification(model.config, ("no", "yes"))
    other.bert = model.bert
    save_sft_model(other, tokenizer, tmp_path / "other")
    for words, says in ((["--model", films / "base"], "has a BERT that knows no labels"), (["--model", tmp_path / "none"], "none"),
                        (["--model", run, "--data", tmp_path / "labels.jsonl"], "the label 'superb' is none of bad, good"),
                        (["--model", run, "--data", tmp_path / "one.jsonl"], "all 2 rows have the label 'good'"),
                        (["--model", run, "--data", tmp_path / "gone.jsonl"], "gone.jsonl"),
                        (["--model", run, "--data", films / "new.jsonl", "--against", tmp_path / "other"], "compare models of the same labels"),
                        (["--model", run, "--data", "rotten_tomatoes"], "the texts have the labels neg, pos and the model knows bad, good")):
        lines = evaluate(capsys, *words, status=1)
        assert len(lines) == 1 and lines[0].startswith("microbert: ") and says in lines[0], lines
    assert main(["evaluate", "--model", str(run), "--num-resamples", "0"]) == 1
