"""Labelled files: the columns are found, the labels get their numbers, and every slip is one sentence with its row and its value."""

import gzip
import json
import lzma

import pytest
from shared_data import shared

from microbert_course.data.labelled import load_labelled, read_labelled, without_copies
from microbert_course.data.sources import DataError, load

ROWS = [{"text": "one fine film", "label": "pos"}, {"text": "two hours<br />lost", "label": "neg"}, {"text": "three cheers", "label": "pos"}]


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def complaint(call, *arguments, **settings):
    "The one sentence that reading ends with."
    with pytest.raises(DataError) as caught:
        call(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "content"), [
    ("a.jsonl", as_jsonl(ROWS)), ("a.json", json.dumps(ROWS)), ("a.csv", 'text,label\none fine film,pos\n"two hours<br />lost",neg\nthree cheers,pos\n'),
    ("a.jsonl.gz", gzip.compress(as_jsonl(ROWS).encode(), mtime=0)), ("a.jsonl.xz", lzma.compress(as_jsonl(ROWS).encode())),
    ("a.csv.gz", gzip.compress(b"text,label\none fine film,pos\ntwo hours lost,neg\nthree cheers,pos\n", mtime=0)),
])
def test_every_kind_of_file_holds_the_same_rows(tmp_path, name, content):
    rows = read_labelled(write(tmp_path / name, content))
    assert (rows.texts, rows.labels, rows.names) == (["one fine film", "two hours lost", "three cheers"], [1, 0, 1], ("neg", "pos"))
    assert rows.counts == {"neg": 1, "pos": 2}


def test_parquet_is_read_too(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist([{"Sentence": row["text"], "sentiment": row["label"]} for row in ROWS]), tmp_path / "a.parquet")
    assert read_labelled(tmp_path / "a.parquet").labels == [1, 0, 1]
    assert "is no parquet file" in complaint(read_labelled, write(tmp_path / "b.parquet", "no"))


@pytest.mark.parametrize(("row", "text", "label"), [
    ({"review": "fine", "sentiment": "pos"}, "fine", "pos"),
    ({"id": 7, "Sentence": "fine", "Label": "pos"}, "fine", "pos"),
    ({"label": 3, "label_name": "sports", "title": "t", "text": "fine"}, "fine", "sports"),  # the name says more than the number
])
def test_columns_are_found_by_name(tmp_path, row, text, label):
    other = {name: f"{value} x" for name, value in row.items()}
    rows = read_labelled(write(tmp_path / "a.jsonl", as_jsonl([row, other])))
    assert rows.texts[0] == text and rows.names[rows.labels[0]] == label


def test_columns_can_be_named_and_a_wrong_name_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "q,a,text\nfirst,x,other\nsecond,y,other\n")
    assert read_labelled(path, text_column="q", label_column="a").texts == ["first", "second"]
    assert "no column of texts called 'w', only 'q', 'a', 'text'" in complaint(read_labelled, path, text_column="w", label_column="a")


def test_whole_numbers_are_ordered_as_numbers(tmp_path):
    rows = read_labelled(write(tmp_path / "a.jsonl", as_jsonl([{"text": f"text {i}", "label": label} for i, label in enumerate((10, 9.0, "2", 10))])))
    assert rows.names == ("2", "9", "10") and rows.labels == [2, 1, 0, 2]


def test_known_labels_may_be_names_or_numbers(tmp_path):
    path = write(tmp_path / "a.jsonl", as_jsonl([{"text": "a", "label": 1}, {"text": "b", "label": "neg"}, {"text": "c", "label": "1"}]))
    assert read_labelled(path, names=("neg", "pos")).labels == [1, 0, 1]


def test_names_that_are_numbers_have_no_others(tmp_path):
    "Of stars 1 to 3, 0 is none: it would be the first name's place, and so would 1."
    path = write(tmp_path / "a.jsonl", as_jsonl([{"text": "a", "label": 1}, {"text": "b", "label": 3}]))
    assert read_labelled(path, names=("1", "2", "3")).labels == [0, 2]
    write(path, as_jsonl([{"text": "a", "label": 0}, {"text": "b", "label": 1}]))
    assert "line 1: the label '0' is none of 1, 2, 3" in complaint(read_labelled, path, names=("1", "2", "3"))


@pytest.mark.parametrize(("content", "names", "words"), [
    ('{"text": "a", "label": "pos"}\n{"text": "b", "label": "mixed"}\n', ("neg", "pos"), ["line 2", "'mixed'", "none of neg, pos"]),
    ('{"text": "a", "label": 0}\n{"text": "b", "label": 2}\n', ("neg", "pos"), ["line 2", "'2'", "none of neg, pos"]),
    ('{"text": "a", "label": "pos"}\n{"text": "b", "label": null}\n', None, ["line 2", "null", "'label'"]),
    ('{"text": "a", "label": "pos"}\n{"text": "b", "label": ""}\n', None, ["line 2", 'is ""', "'label'"]),
    ('{"text": "a", "label": 3.5}\n{"text": "b", "label": 1}\n', None, ["line 1", "3.5", "whole number"]),
    ('{"text": "a", "label": "pos"}\n{"text": " ", "label": "neg"}\n', None, ["line 2", "' '", "fill it in"]),
    ('{"text": "a", "label": "pos"}\n{"text": 7, "label": "neg"}\n', None, ["line 2", "is 7"]),
    ('{"text": "a", "label": "pos"}\n{"text": "b"}\n', None, ["line 2", "no column 'label', only 'text'"]),
    ('{"text": "a", "label": "pos"}\n["b", "neg"]\n', None, ["line 2", "a list"]),
    ('{"text": "a", "label": "pos"}\n{"text": "b", "label": "pos"}\n', None, ["all 2 rows", "'pos'", "takes two"]),
    ('{"text": "a"}\n', None, ["no column of labels", "label, sentiment, category or the like", "only 'text'", "--label-column"]),
    ('{"label": "x"}\n', None, ["no column of texts", "text, sentence, review"]),
    ("", None, ["is empty"]),
    ("\n\n", None, ["is empty"]),
    ("{", None, ["line 1", "not JSON"]),
    ("".join(f'{{"text": "t {i}", "label": {i}}}\n' for i in range(50)), None, ["50 different values in 50 rows", "are no labels"]),
])
def test_a_slip_is_one_sentence_with_row_and_value(tmp_path, content, names, words):
    sentence = complaint(read_labelled, write(tmp_path / "a.jsonl", content), names)
    assert all(word in sentence for word in ["a.jsonl", *words]), sentence


@pytest.mark.parametrize(("name", "content", "words"), [
    ("a.txt", "one line", ["no kind that holds labels", ".parquet"]),
    ("a.xlsx", "PK", ["no kind that holds labels"]),
    ("a.csv", "text,label\na,x,y\n", ["line 2", "more cells than the header"]),
    ("a.jsonl.gz", gzip.compress(b'{"text": "a", "label": 1}\n' * 99, mtime=0)[:-9], ["is not whole"]),
], ids=["text", "sheet", "cells", "cut"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, words):
    sentence = complaint(read_labelled, write(tmp_path / name, content))
    assert all(word in sentence for word in [name, *words]), sentence
    assert 'no file "nowhere.csv"' in complaint(load_labelled, "nowhere.csv")


def test_a_file_is_split_as_load_splits_it(tmp_path):
    "One in ten is held out, copies of a text on one side."
    path = write(tmp_path / "a.jsonl", as_jsonl([{"text": f"text {i % 30}", "label": "ab"[i % 2]} for i in range(60)]))
    train, validation = load_labelled(path)
    assert train.texts == list(load(path)["text"]) and validation.texts == list(load(path, "validation")["text"])
    assert len(validation) == 6 and not set(train.texts) & set(validation.texts)
    assert [train.names[label] for label in train.labels] == [load(path).features["label"].names[label] for label in load(path)["label"]]


def test_packages_have_their_labels_and_speeches_have_none():
    train, validation = load_labelled("rotten_tomatoes")
    assert (len(train), len(validation), train.names) == (7_677, 853, ("neg", "pos"))
    assert train.labels == list(load("rotten_tomatoes")["label"])
    assert '"sotu" has texts without labels' in complaint(load_labelled, "sotu")


def test_a_held_out_text_is_taken_out_of_the_training_texts(tmp_path):
    rows = read_labelled(write(tmp_path / "a.jsonl", as_jsonl(ROWS)))
    held_out = rows.part([0])
    held_out.texts[0] = "ONE fine, film!"  # case and marks make no other text
    train, num_copies = without_copies(rows, held_out)
    assert (train.texts, train.labels, num_copies) == (["two hours lost", "three cheers"], [0, 1], 1)


@pytest.mark.parametrize(("path", "num_rows", "names"), [
    ("imdb/imdb_test_dev5k.jsonl.xz", 5_000, ("0", "1")), ("finance/phrasebank.jsonl.gz", 3_901, ("negative", "neutral", "positive")),
    ("news/ag_news_test_dev.jsonl.gz", 6_057, ("Business", "Sci/Tech", "Sports", "World")), ("glue/sst2_dev.jsonl.gz", 693, ("0", "1")),
])
def test_published_sets_are_read_as_they_come(path, num_rows, names):
    rows = read_labelled(shared(path))
    assert (len(rows), rows.names) == (num_rows, names)


def test_the_imdb_test_reviews_are_no_training_reviews():
    test, (train, _) = read_labelled(shared("imdb/imdb_test_dev5k.jsonl.xz"), ("neg", "pos")), load_labelled("imdb")
    assert test.counts == {"neg": 2_500, "pos": 2_500}
    assert without_copies(train, test)[1] <= 5
