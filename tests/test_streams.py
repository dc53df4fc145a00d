"""Texts from files of any size, one at a time: the same texts as `load`, the same sentences for what is broken, and a bound on memory."""

import gzip
import json
import lzma
import sys
import tracemalloc

import datasets
import pytest

from microbert_course.data import streams
from microbert_course.data.corpus import in_chunks, is_held_out
from microbert_course.data.sources import DataError, load
from microbert_course.data.streams import stream_texts, text_files


def complaint(source, **settings):
    "The one sentence that reading ends with."
    with pytest.raises(DataError) as caught:
        list(stream_texts(source, **settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


CONTENTS = {
    "a.txt": "one\n\n  two \r\nthree\rfour\n",
    "a.csv": 'text,label\none,x\n"  two ",y\n"three\nlines, and marks",x\r\nfour,y\n',
    "a.jsonl": '{"text": "one"}\n\n{"text": "  two "}\n{"text": "three\\nlines"}\n{"text": "what a movie\\u0085 four"}\n',
    "a.json": json.dumps([{"text": "one"}, {"text": "two"}, {"text": "three"}]),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_stream_holds_the_texts_of_load_in_the_order_of_the_file(tmp_path, name, mark):
    (tmp_path / name).write_bytes((mark + CONTENTS[name]).encode())
    texts = list(stream_texts(tmp_path / name))
    assert sorted(texts) == sorted([*load(tmp_path / name)["text"], *load(tmp_path / name, "validation")["text"]])
    assert texts[0] == "one" and texts[-1].endswith(("four", "three"))


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_compressed_files_hold_the_same(tmp_path, name):
    (tmp_path / name).write_bytes(CONTENTS[name].encode())
    (tmp_path / "z").mkdir()
    with gzip.open(tmp_path / "z" / f"{name}.gz", "wb") as file:
        file.write(CONTENTS[name].encode())
    assert list(stream_texts(tmp_path / "z")) == list(stream_texts(tmp_path / name))
    (tmp_path / f"{name}.xz").write_bytes(lzma.compress(CONTENTS[name].encode()))
    assert list(stream_texts(tmp_path / f"{name}.xz")) == list(stream_texts(tmp_path / name))


@pytest.mark.skipif(sys.platform == "win32", reason="makes symbolic links")
def test_a_link_to_a_folder_above_brings_no_file_twice(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.txt").write_text("once\n")
    (tmp_path / "inner" / "up").symlink_to("..")
    (tmp_path / "inner" / "loop.txt").symlink_to("loop.txt")
    assert text_files(tmp_path) == text_files(f"{tmp_path}/**/*.txt") == [tmp_path / "inner" / "a.txt"]


def test_folders_patterns_and_lists(tmp_path):
    for name in ("b.txt", "a.txt", "inner/c.txt", ".hidden.txt", ".git/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "notes.md").write_text("no data")
    assert list(stream_texts(tmp_path)) == ["a.txt", "b.txt", "inner/c.txt"]
    assert list(stream_texts(tmp_path / "*.txt")) == ["a.txt", "b.txt"]
    assert list(stream_texts(str(tmp_path / "**" / "*.txt"))) == ["a.txt", "b.txt", "inner/c.txt"]
    assert list(stream_texts(reversed(text_files(tmp_path)))) == ["inner/c.txt", "b.txt", "a.txt"]


def test_packages_are_streams_too():
    texts = list(stream_texts("imdb"))
    assert len(texts) == 25_000 and set(texts) == {*load("imdb")["text"], *load("imdb", "validation")["text"]}


def test_the_two_parts_are_those_of_the_hash(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"text {i}\n" for i in range(300)))
    train, validation = (list(stream_texts(path, split, one_in=5)) for split in ("train", "validation"))
    assert [text for text in stream_texts(path) if is_held_out(text, 5)] == validation
    assert len(train) + len(validation) == 300 and not set(train) & set(validation)
    assert '"test"' in complaint(path, split="test") and "one_in is 1" in complaint(path, split="train", one_in=1)


@pytest.mark.parametrize(("name", "content", "words"), [
    ("empty.txt", b"", ["is empty"]),
    ("blank.txt", b" \n\n", ["is empty"]),
    ("photo.txt", b"fine\n\x89PNG\r\n\0\0", ["byte 11 is zero", "binary file"]),
    ("late.txt", b"many fine lines\n" * 99_999 + b"\0\n", ["byte 1,599,984 is zero", "binary file"]),
    ("paper.pdf", b"%PDF", ["no kind read here", ".jsonl"]),
    ("old.txt", "fine\nd\u00e9j\u00e0 vu\n".encode("latin1"), ["line 2:", "byte 6 of the file", "0xe9", "UTF-8"]),
    ("mark.txt", "\ufefffine\n".encode() + b"\xff\n", ["line 2:", "byte 8 of the file", "0xff"]),
    ("end.txt", b"fine\nhalf a character \xc3", ["line 2:", "byte 22 of the file", "0xc3"]),
    ("old.jsonl", b'{"text": "fine"}\n{"text": "\xe9"}\n', ["line 2:", "byte 27 of the file"]),
    ("old.csv", b"text\nfine\n\xe9\n", ["line 3:", "byte 10 of the file"]),
    ("table.csv", b"review,stars\nfine,4\n", ['no column "text"', "'review', 'stars'"]),
    ("header.csv", b"text,label\n", ["is empty"]),
    ("empty.csv", b"", ["is empty"]),
    ("quote.csv", b'text\n"a"b\n', ["line 2", "not CSV"]),
    ("open.csv", b'text\nfine\n"never closed\n\n', ["line 3", "not CSV"]),
    ("comma.csv", b"text\nGood film.\nGood film, but long, really.\n", ["line 3", "more cells than the header", "commas"]),
    ("gap.csv", b"text,label\nfine,1\n ,0\n", ["line 3", "text is empty"]),
    ("rows.jsonl", b'{"text": "fine"}\n{"text": \n', ["line 2", "not JSON"]),
    ("deep.jsonl", b"[" * 200_000 + b"\n", ["line 1", "not JSON"]),
    ("keys.jsonl", b'{"text": "fine"}\n{"body": "x"}\n', ["line 2", "'body'"]),
    ("half.jsonl", b'{"text": "\\ud800"}\n', ["line 1", "half of a character"]),
    ("rows.json", b'[{"text": "fine"}, {"text": ""}]', ["row 2", "text is empty"]),
    ("plain.txt.gz", b"not gzip", ["no gzip file"]),
    ("cut.txt.xz", lzma.compress(b"one line of many words\n" * 99)[:-12], ["is not whole"]),
    ("plain.jsonl.xz", b"not xz", ["no xz file"]),
    ("cut.txt.gz", gzip.compress(b"one line of many words\n" * 99, mtime=0)[:-12], ["is not whole"]),
])
def test_a_broken_file_is_one_sentence_with_file_and_place(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    sentence = complaint(tmp_path / name)
    assert all(word in sentence for word in [name, *words]), sentence


def test_what_stands_before_a_fault_is_handed_out(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n\xff\n")
    stream = stream_texts(tmp_path)
    assert [next(stream), next(stream)] == ["one", "two"]
    with pytest.raises(DataError, match="line 3"):
        next(stream)


@pytest.mark.parametrize("name", ["no_such.csv", "./here", "a/b/c", "shards/*.txt", ""])
def test_nothing_there_is_told_at_once_and_not_at_the_first_text(name):
    with pytest.raises(DataError, match="no file or folder"):
        stream_texts(name)
    with pytest.raises(DataError, match="the list of files is empty"):
        stream_texts([])


def test_a_long_text_comes_in_pieces_cut_at_white_space(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "MAX_TEXT", 64)
    text = " ".join(f"word{i}é" for i in range(100))
    (tmp_path / "a.txt").write_text(f"short\n{text}\nlast", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": text}) + "\n")
    for name in ("a.txt", "b.jsonl"):
        pieces = [piece for piece in stream_texts(tmp_path / name) if piece not in ("short", "last")]
        assert "".join(pieces).split() == text.split() and max(map(len, pieces)) <= 64 and len(pieces) > 10
        assert all(piece.endswith(" ") for piece in pieces[:-1])


@pytest.mark.parametrize("end", ["", "\n", "\nlast\n", " "])
def test_a_line_may_end_where_a_piece_does(tmp_path, monkeypatch, end):
    monkeypatch.setattr(streams, "MAX_TEXT", 64)
    for num_chars in (63, 64, 65, 127, 128, 129, 192):
        line = ("some words " * 20)[:num_chars]
        (tmp_path / "a.txt").write_text(line + end)
        assert " ".join(stream_texts(tmp_path / "a.txt")).split() == (line + end).split(), num_chars


@pytest.mark.parametrize("letter", ["x", "é", "語", "𝄞"])
def test_a_line_without_any_white_space_is_cut_between_characters(tmp_path, monkeypatch, letter):
    for limit in (64, 65, 66, 67):
        monkeypatch.setattr(streams, "MAX_TEXT", limit)
        (tmp_path / "a.txt").write_text(letter * 1_000, encoding="utf-8")
        assert "".join(stream_texts(tmp_path / "a.txt")) == letter * 1_000


def test_a_fault_deep_in_a_giant_line_has_its_line_and_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "MAX_TEXT", 64)
    (tmp_path / "a.txt").write_bytes(b"one\n" + b"word " * 100 + b"\xe9 word\n")
    assert "line 2: byte 504 of the file, 0xe9" in complaint(tmp_path / "a.txt")


@pytest.mark.parametrize(("name", "content", "words"), [
    ("a.jsonl", b'{"text": "fine"}\n{"text": "' + b"x" * 200 + b'"}\n', "line 2: longer than 100 bytes"),
    ("a.csv", b'text\nfine\n"never closed\n' + b"more\n" * 40, "line 3: the row that begins there is longer than 100 characters: close its quotes"),
])
def test_a_row_that_cannot_be_read_in_pieces_is_refused(tmp_path, monkeypatch, name, content, words):
    monkeypatch.setattr(streams, "MAX_ROW", 100)
    (tmp_path / name).write_bytes(content)
    assert words in complaint(tmp_path / name)


def test_a_json_list_too_long_to_be_read_at_once_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "MAX_JSON", 10)
    (tmp_path / "a.json").write_text('[{"text": "fine"}]')
    assert "save it as .jsonl" in complaint(tmp_path / "a.json")


@pytest.mark.parametrize("word", ["word ", "語"])
@pytest.mark.parametrize("megabytes", [32, pytest.param(256, marks=pytest.mark.slow)])
def test_one_giant_line_is_read_in_bounded_memory(tmp_path, megabytes, word):
    "30 MB at the highest (a chunk has 4 million characters, of up to 4 bytes), whatever the length; read whole, 32 MB take more than 64."
    with (tmp_path / "giant.txt").open("w", encoding="utf-8") as file:
        block = word * (2**20 // len(word.encode()))
        for _ in range(megabytes):
            file.write(block)
    tracemalloc.start()
    num_chars = sum(len(text) for chunk in in_chunks(stream_texts(tmp_path / "giant.txt")) for text in chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_chars == megabytes * len(block)
    assert peak < 30e6


def test_a_hub_name_is_streamed(monkeypatch):
    asked = {}

    def load_dataset(name, **settings):
        asked.update(settings)
        return {"train": iter([{"text": "one"}, {"text": "two"}])}

    monkeypatch.setattr(streams, "_from_cache", lambda name: None)
    monkeypatch.setattr(streams, "_hub_is_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(stream_texts("owner/name")) == ["one", "two"] and asked == {"streaming": True}


def test_a_hub_name_without_a_network_has_the_sentence_of_load(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    sentence = complaint("nobody/nothing")
    assert "the hub is out of reach" in sentence and "use the name" in sentence


def test_a_hub_stream_that_breaks_off_says_where(monkeypatch):
    def rows():
        yield {"text": "one"}
        raise ConnectionError("reset by peer\nand more")

    monkeypatch.setattr(streams, "_from_cache", lambda name: {"train": rows()})
    stream = stream_texts("owner/name")
    assert next(stream) == "one"
    with pytest.raises(DataError, match=r"breaks off after row 1 \(reset by peer\): run the same command again"):
        next(stream)
    monkeypatch.setattr(streams, "_from_cache", lambda name: {"test": []})
    assert 'no split "train", only test' in complaint("owner/name")
    monkeypatch.setattr(streams, "_from_cache", lambda name: {"train": [{"sentence": "a"}]})
    assert "row 1: no text in" in complaint("owner/name")
