"""The registry: every set on rows of its own columns, real ones where they are at hand; and one sentence for everything that can be wrong."""

import json

import pytest
from data_schemas import SCHEMAS
from shared_data import shared

from microbert_course.data import registry
from microbert_course.data.registry import (
    REGISTRY,
    Entry,
    check_rows,
    described,
    detect_task,
    entry,
    fetch_set,
    load_set,
    read_rows,
    to_examples,
    where,
)
from microbert_course.data.registry_entries import KINDS
from microbert_course.data.sources import DataError

LINES = [  # the 22 lines of the list that the course promises, each with its entries
    ["imdb"], ["cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli", "stsb"], ["phrasebank"], ["twitter_financial_news"], ["fiqa_sentiment"],
    ["mmlu"], ["fiqa_qa"], ["finance_alpaca"], ["sec_reports"], ["financial_news"], ["sujet_finance_qa"], ["gsm8k"], ["finance_math"],
    ["deepmind_math"], ["bigcodebench"], ["mmlu_pro"], ["common_corpus"], ["bookcorpus"], ["finance_tasks", "finance_tasks_answers"],
    ["open_web_math"], ["wikitext"], ["wikipedia", "openwebtext", "c4", "pile_cc"],
]
REAL = {  # a file with the set's rows: how many, and what the first is answered with
    "cola": ("glue/cola_dev.jsonl.gz", 830, {"acceptable", "unacceptable"}), "sst2": ("glue/sst2_dev.jsonl.gz", 693, {"positive", "negative"}),
    "mrpc": ("glue/mrpc_dev.jsonl.gz", 333, {"equivalent", "not_equivalent"}), "rte": ("glue/rte_dev.jsonl.gz", 221, {"entailment", "not_entailment"}),
    "stsb": ("glue/stsb_dev.jsonl.gz", 1_199, None), "phrasebank": ("finance/phrasebank.jsonl.gz", 3_901, {"negative", "neutral", "positive"}),
    "mmlu": ("mmlu/mmlu_val.jsonl.gz", 1_531, set("ABCD")), "gsm8k": ("math/gsm8k_test_dev.jsonl.gz", 1_054, None),
}


def complaint(call, *arguments, **settings):
    "The one sentence that a call ends with."
    with pytest.raises(DataError) as caught:
        call(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_registry_has_the_22_lines_and_nothing_else():
    assert len(LINES) == 22
    assert sorted(name for line in LINES for name in line) == sorted(REGISTRY)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_entry_fits_rows_of_its_schema(name):
    "On fixtures: every row becomes an example with a prompt and an answer, and the task can be told from the columns alone."
    found, rows = entry(name), SCHEMAS[name]
    examples = to_examples(rows, found)
    assert found.kind in KINDS and found.licence and found.splits
    assert detect_task(list(rows[0]), rows) == found.kind
    assert len(examples) >= len([row for row in rows if any(row.values())])
    for example in examples:
        assert list(example) == ["prompt", "answer", "kind", "labels", "final"] and example["kind"] == found.kind
        assert example["answer"] and (example["prompt"] or found.kind == "text")
        assert "{" not in example["prompt"] and example["prompt"] == example["prompt"].strip()
        assert not example["labels"] or example["answer"] in example["labels"]
    assert {example["answer"] for example in examples} == set(found.labels) or found.kind not in ("classification", "pairs")


@pytest.mark.parametrize("name", REAL)
def test_every_entry_fits_real_rows(name):
    path, num_rows, answers = REAL[name]
    examples = load_set(name, path=shared(path))
    assert len(examples) == num_rows
    assert answers is None or {example["answer"] for example in examples} == answers
    rows = [row for _, row in read_rows(shared(path))]
    assert detect_task(list(rows[0]), rows) == entry(name).kind
    if name == "gsm8k":
        assert [example["final"] for example in examples] == [row["final"] for row in rows]
        assert not any("<<" in example["answer"] for example in examples)
    if name == "stsb":
        assert max(abs(float(example["answer"]) - row["score"]) for example, row in zip(examples, rows, strict=True)) < 0.0501


def test_reviews_come_from_the_installed_package():
    "Copies of a review are on one side: the package's own split is the registry's."
    examples = load_set("imdb", "validation")
    assert where(entry("imdb")) == "package" and len(examples) == 2_500
    assert {example["answer"] for example in examples} == {"negative", "positive"} and not any("<br" in example["prompt"] for example in examples)


# --- what a row turns into

def first(name, **changes):
    return to_examples([SCHEMAS[name][0] | changes], entry(name))[0]


def test_a_label_becomes_its_word():
    example = first("cola")
    assert example["prompt"] == "Is this sentence unacceptable or acceptable English?\n\nSentence: The cat sat.\n\nGrammar:"
    assert (example["answer"], example["labels"]) == ("acceptable", ["unacceptable", "acceptable"])
    assert first("rte", label="not_entailment")["answer"] == "not_entailment" != first("rte", label="0")["answer"]
    assert first("wnli", label=0)["answer"] == "not_entailment"  # GLUE numbers it the other way round


def test_choices_get_letters_and_the_answer_is_one():
    example = first("mmlu")
    assert example["prompt"] == ("The following is a multiple choice question about elementary mathematics.\n\nTwo and two?\n\n"
                                 "A. 3\nB. 4\nC. 5\nD. 22\n\nAnswer:")
    assert (example["answer"], example["labels"], example["final"]) == ("B", ["A", "B", "C", "D"], "B")
    assert first("mmlu", answer="D", choices='["1", "2", "3", "4"]')["answer"] == "D"
    assert to_examples(SCHEMAS["mmlu"], entry("mmlu"))[1]["prompt"].startswith("Which is a planet?")  # it has no subject
    assert (first("mmlu_pro")["answer"], first("mmlu_pro")["labels"][-1]) == ("F", "J")


def test_an_empty_input_leaves_its_paragraph_out():
    without, with_input = (example["prompt"] for example in to_examples(SCHEMAS["finance_alpaca"], entry("finance_alpaca")))
    assert "### Input" not in without and without.endswith("### Instruction:\nName a bond.\n\n### Response:")
    assert with_input.endswith("### Instruction:\nTranslate.\n\n### Input:\nGuten Tag\n\n### Response:")


def test_a_solution_keeps_its_steps_and_gives_its_final_number():
    example = first("gsm8k")
    assert (example["answer"], example["final"]) == ("She has 3*400=1,200.\n#### 1,200", "1200")
    assert first("finance_math")["final"] == "0.25" and "| 1 | 4 |" in first("finance_math")["prompt"]
    assert to_examples(SCHEMAS["finance_math"], entry("finance_math"))[1] == {
        "prompt": "Question: What is 3 % of 400?\n\nAnswer:", "answer": "12", "kind": "math", "labels": [], "final": "12"}
    assert first("deepmind_math") == {"prompt": "Question: Solve 2*x = 14 for x.\n\nAnswer:", "answer": "7", "kind": "math", "labels": [], "final": "7"}


def test_scores_become_text():
    assert first("stsb", label=3.8)["answer"] == "3.8" and first("stsb", label="3")["answer"] == "3.0"
    assert [example["answer"] for example in to_examples(SCHEMAS["fiqa_sentiment"], entry("fiqa_sentiment"))] == ["positive", "negative", "neutral"]
    assert first("fiqa_sentiment")["prompt"].startswith("Is this negative, neutral or positive for ABC?")


def test_a_program_is_answered_whole_and_checked_by_its_tests():
    example, names = first("bigcodebench"), {}
    exec(example["answer"] + example["final"], names)
    assert names["task_func"](9) == 3 and "TestCases" in names


def test_a_page_with_several_questions_is_several_examples():
    examples = to_examples(SCHEMAS["sujet_finance_qa"], entry("sujet_finance_qa"))
    assert [example["answer"] for example in examples] == ["4 million", "2020", "The board"]


def test_plain_text_has_no_prompt_and_empty_rows_are_passed_over():
    assert [example["answer"] for example in to_examples(SCHEMAS["wikitext"], entry("wikitext"))] == ["= Pump =", "A pump moves water ."]


# --- adding a set, and files of which nothing is known

def test_adding_a_set_is_one_entry(monkeypatch, tmp_path):
    monkeypatch.setitem(registry.REGISTRY, "ag_news", Entry(
        "ag_news", "fancyzhx/ag_news", "classification", {"text": "text", "label": "label"}, "Is this news about {labels}?\n\n{text}\n\nTopic:",
        ("world", "sports", "business", "technology"), splits=("train", "test"), licence="none stated"))
    (tmp_path / "news.jsonl").write_text(json.dumps({"text": "Pumps win the cup", "label": 1}))
    assert load_set("ag_news", path=tmp_path / "news.jsonl") == [{
        "prompt": "Is this news about world, sports, business or technology?\n\nPumps win the cup\n\nTopic:", "answer": "sports",
        "kind": "classification", "labels": ["world", "sports", "business", "technology"], "final": "sports"}]
    assert "did you mean ag_news or" in complaint(entry, "agnews")


@pytest.mark.parametrize(("row", "kind"), [
    ({"review": "fine", "sentiment": "pos"}, "classification"), ({"text1": "a", "text2": "b", "label": "same"}, "pairs"),
    ({"text": "fine", "score": 0.7}, "regression"), ({"text": "fine", "score": 3}, "text"), ({"problem": "1+1?", "solution": "2"}, "math"),
    ({"question": "Why?", "answer": "Because."}, "question answering"), ({"question": "Why?", "answer": None, "final": "4"}, "math"),
    ({"prompt": "Say hello.", "completion": "Hello."}, "instruction"), ({"query": "2?", "options": "['1', '2']", "answer_index": "1"}, "multiple choice"),
    ({"prompt": "def f():", "canonical_solution": "    return 1"}, "code"), ({"Text": "only this"}, "text"),
])
def test_the_task_is_told_from_columns_and_values(row, kind):
    assert detect_task(list(row), [row]) == kind


def test_a_faulty_row_does_not_change_what_the_others_are():
    rows = [{"question": "q", "answer": "so\n#### 4"}] * 3 + [{"question": "q", "answer": "I do not know\nreally"}]
    assert detect_task(list(rows[0]), rows) == "math"
    rows = [{"text": "t", "label": label} for label in [0, 1] * 6] + [{"text": "t", "label": 3.5}]
    assert detect_task(list(rows[0]), rows) == "classification"


def test_columns_of_no_task_are_named():
    assert "'a', 'b' hold no task known here" in complaint(detect_task, ["a", "b"], [{"a": 1, "b": 2}])
    rows = [{"text": f"t {i}", "label": f"free words {i}"} for i in range(30)]
    assert "'label' has 30 different values in 30 rows" in complaint(described, "x", list(rows[0]), rows)


def test_a_report_counts_labels_copies_and_faults():
    rows = [("line 1", {"text": "one", "label": "a"}), ("line 2", {"text": "One!", "label": "b"}), ("line 3", {"text": "two", "label": None}), ("line 4", "no")]
    report = check_rows(rows, described("x", ["text", "label"], [row for _, row in rows[:3]]))
    assert (report.num_rows, report.num_examples, report.counts, report.num_copies, report.num_contradictions) == (4, 2, {"a": 1, "b": 1}, 1, 1)
    assert len(report.faults) == 2 and report.faults[0].startswith("line 3") and report.faults[1].startswith("line 4: a str")
    assert "all 1 rows have the label 'a'" in check_rows(rows[:1], described("x", ["text", "label"], [rows[0][1]])).faults[0]


# --- one sentence each

@pytest.mark.parametrize(("name", "near"), [("gsm8", "gsm8k"), ("glue", "cola, sst2"), ("IMDB", "imdb"), ("finance_alpacca", "finance_alpaca")])
def test_an_unknown_set_is_told_the_nearest_names(name, near):
    assert f"there is no data set {name!r} here: did you mean {near}" in complaint(entry, name)


def test_an_unknown_set_without_near_names_is_told_all():
    assert complaint(entry, "qwzx").endswith("pile_cc") and "choose one of imdb" in complaint(entry, "")


@pytest.mark.parametrize(("name", "settings", "words"), [
    ("gsm8k", {"config": "mian"}, ['no config "mian"', "main or socratic"]), ("fiqa_qa", {"config": "x"}, ["leave it out"]),
    ("deepmind_math", {"config": "algebra__liner_1d"}, ["algebra__linear_1d"]), ("wikipedia", {"config": "2023.en"}, ["20231101.en"]),
    ("sst2", {"split": "test"}, ['no split "test"', "train, validation", "-1"]), ("imdb", {"split": "trian"}, ['no split "trian"', "train, validation, test"]),
])
def test_an_unknown_config_or_split_is_told_those_that_there_are(name, settings, words):
    sentence = complaint(load_set, name, **settings)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(("name", "changes", "words"), [
    ("cola", {"label": 2}, ["row 2, column 'label'", "label 2 is none of unacceptable or acceptable", "0 to 1"]),
    ("sst2", {"label": -1}, ["row 2", "-1", "kept back"]), ("rte", {"label": "maybe"}, ["row 2", "'maybe'", "entailment or not_entailment"]),
    ("rte", {"label": None}, ["row 2", "null"]), ("cola", {"sentence": " "}, ["row 2", "'sentence'", "fill it in"]),
    ("stsb", {"label": 5.5}, ["row 2", "5.5", "from 0 to 5"]), ("stsb", {"label": "high"}, ["row 2", "'high'"]), ("stsb", {"label": float("nan")}, ["row 2", "nan"]),
    ("mmlu", {"answer": 4}, ["row 2", "answer 4 is none of A, B, C or D"]), ("mmlu", {"answer": None}, ["row 2", "None"]),
    ("mmlu", {"choices": ["one"]}, ["row 2", "no list of 2"]), ("mmlu", {"choices": "one"}, ["row 2", "'one'"]),
    ("finance_alpaca", {"output": ""}, ["row 2, column 'output'", 'the answer is ""', "fill it in"]),
    ("finance_alpaca", {"output": None}, ["row 2", "null"]), ("gsm8k", {"answer": "I think\nit is 7"}, ["row 2", "#### 72"]),
    ("sujet_finance_qa", {"qa_pairs": "What?"}, ["row 2", "'What?'", "no list of questions"]),
    ("sujet_finance_qa", {"qa_pairs": "[{'question': 'q'}]"}, ["row 2", "no column 'answer'", "only 'question'"]),
])
def test_a_row_that_is_wrong_is_named_with_its_value(name, changes, words):
    rows = [SCHEMAS[name][0], SCHEMAS[name][1] | changes]
    sentence = complaint(to_examples, rows, entry(name))
    assert all(word in sentence for word in words), sentence


def test_a_missing_column_is_named_with_those_that_there_are():
    sentence = complaint(to_examples, [SCHEMAS["mrpc"][0], {"sentence1": "a", "label": 1}], entry("mrpc"))
    assert "row 2: no column 'sentence2', only 'sentence1', 'label'" in sentence
    assert "'label' or 'score'" in complaint(to_examples, [{"sentence1": "a", "sentence2": "b"}], entry("stsb"))
    assert "a list where a row" in complaint(to_examples, [["a"]], entry("mrpc"))


def test_a_line_of_a_file_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("sentence1,sentence2,label\na,b,equivalent\nc,d,3\n")
    sentence = complaint(load_set, "mrpc", path=tmp_path / "a.csv")
    assert "a.csv, line 3, column 'label'" in sentence and "'3'" in sentence
    assert len(load_set("mrpc", path=tmp_path / "a.csv", num_rows=1)) == 1  # what is not asked for is not read


@pytest.mark.parametrize("call", [load_set, fetch_set])
def test_offline_a_set_of_the_hub_fails_at_once_and_says_what_to_do(call, monkeypatch):
    monkeypatch.setattr(registry, "_hub_is_reachable", lambda: False)
    monkeypatch.setattr(registry, "_cached", lambda *found: [])
    sentence = complaint(call, "gsm8k", config="socratic")
    assert all(word in sentence for word in ["openai/gsm8k", "out of reach", "give a file", "microbert data fetch gsm8k --config socratic"])


def test_what_the_cache_holds_needs_no_network(tmp_path, monkeypatch):
    "A set as `datasets` leaves it behind after a download is found and read; another config of it is not there."
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(registry, "_hub_is_reachable", lambda: False)
    assert where(entry("gsm8k")) == "hub"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SCHEMAS["gsm8k"]))
    datasets.load_dataset("json", data_files={"test": str(tmp_path / "rows.jsonl")}, cache_dir=str(tmp_path))
    made = next(tmp_path.glob("json/*/*/*/dataset_info.json")).parent
    folder = tmp_path / "openai___gsm8k" / "main" / "0.0.0" / made.name
    folder.parent.mkdir(parents=True)
    made.rename(folder)
    (folder / "json-test.arrow").rename(folder / "gsm8k-test.arrow")
    about = json.loads((folder / "dataset_info.json").read_text()) | {"dataset_name": "gsm8k", "config_name": "main"}
    (folder / "dataset_info.json").write_text(json.dumps(about))
    assert where(entry("gsm8k")) == "cache" and fetch_set("gsm8k") == str(folder)
    assert load_set("gsm8k", "test") == to_examples(SCHEMAS["gsm8k"], entry("gsm8k"))
    assert "out of reach" in complaint(load_set, "gsm8k", "test", "socratic")


def test_what_the_hub_refuses_is_one_sentence(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def refuse(*arguments, **settings):
        raise RuntimeError("Dataset scripts are no longer supported\nTraceback")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setattr(registry, "_hub_is_reachable", lambda: True)
    monkeypatch.setattr(registry, "_cached", lambda *found: [])
    sentence = complaint(load_set, "phrasebank")
    assert "sentences_allagree" in sentence and "“Dataset scripts are no longer supported”" in sentence
