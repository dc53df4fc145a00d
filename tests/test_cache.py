"""The cache of ids: one entry for one content, built by one process of many, whole or absent, and no damage unseen."""

import datetime
import errno
import json
import os
import random
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from microbert_course import manifests
from microbert_course.cli.main import main
from microbert_course.data import cache, corpus
from microbert_course.data.cache import (
    build_once,
    cached_rows,
    clear,
    code_version,
    entries,
    fault_in,
    hash_texts,
    open_rows,
    tokens_dir,
    verify,
    write_rows,
)
from microbert_course.data.corpus import encode_rows
from microbert_course.data.wordpiece import WordCacheEncoder, train_wordpiece
from microbert_course.errors import CourseError
from microbert_course.manifests import damage, debris

TEXTS = [f"review number {i} says the film was {'good' if i % 2 else 'bad'}" for i in range(300)]
NUM_DAMAGES = 200 if os.environ.get("MICROBERT_TORTURE") else 40


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROBERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_checked_here", {})


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TEXTS, 80)


def numbers(value=7, num_rows=50):
    "A build that writes one array."
    return lambda folder: write_rows(folder / "rows.npy", [np.full((num_rows, 4), value, dtype=np.uint16)])


def ages_ago(monkeypatch, days):
    "Entries that are built next are so old."
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    monkeypatch.setattr(cache.datetime, "datetime", type("Then", (datetime.datetime,), {"now": classmethod(lambda cls, zone: then)}))


# --- which entry

def test_the_second_time_nothing_is_built():
    built = []
    first = build_once("numbers", {"a": 1}, lambda folder: built.append(1) or numbers()(folder))
    assert build_once("numbers", {"a": 1}, lambda folder: built.append(2)) == first and built == [1]
    assert open_rows(first / "rows.npy").tolist() == [[7] * 4] * 50


def test_the_order_of_the_key_does_not_matter_and_each_part_does():
    folders = {build_once("x", key, numbers()) for key in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3}, {"a": 1, "c": 2})}
    assert len(folders) == 3


def test_texts_are_told_apart_by_content_and_order():
    assert hash_texts(["ab", "c"]) == hash_texts(iter(["ab", "c"]))
    assert len({hash_texts(texts) for texts in (["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab", "c", ""], ["abc"], [])}) == 6


def test_other_code_is_another_version(tmp_path, monkeypatch):
    "A change in the module's file, and a function that somebody put in its place."
    own = code_version(corpus)
    assert own == code_version(corpus) != code_version(corpus, cache)
    adopted = tmp_path / "mine.py"
    adopted.write_text("def pack(documents, max_seq_len, pad_id=0):\n    return documents\n")
    namespace = {}
    exec(compile(adopted.read_text(), str(adopted), "exec"), namespace)
    monkeypatch.setattr(corpus, "pack", namespace["pack"])
    assert code_version(corpus) != own


def test_cached_rows_are_the_encoded_ones_and_depend_on_everything(tokenizer):
    other = train_wordpiece(TEXTS[:7], 70)
    settings = [(TEXTS, tokenizer, 16, "first", 0), (TEXTS[:-1], tokenizer, 16, "first", 0), (TEXTS, other, 16, "first", 0),
                (TEXTS, tokenizer, 12, "first", 0), (TEXTS, tokenizer, 16, "packed", 0), (TEXTS, tokenizer, 16, "packed", 2)]
    for texts, by, max_seq_len, layout, stride in settings:
        rows = cached_rows("reviews", lambda texts=texts: iter(texts), by, max_seq_len, layout, stride)
        assert isinstance(rows, np.memmap) and rows.dtype == np.uint16 and not rows.flags.writeable
        assert np.array_equal(rows, encode_rows(texts, WordCacheEncoder(by), max_seq_len, layout, stride))
    assert len(entries()) == len(settings)
    cached_rows("reviews", lambda: TEXTS, tokenizer, 16)
    assert len(entries()) == len(settings)


def test_an_entry_brings_its_tokenizer_along(tokenizer):
    from transformers import AutoTokenizer

    cached_rows("reviews", lambda: TEXTS, tokenizer, 16)
    assert AutoTokenizer.from_pretrained(entries()[0].folder)(TEXTS[0])["input_ids"] == tokenizer(TEXTS[0])["input_ids"]


def test_texts_that_change_between_two_readings_are_noticed(tokenizer):
    readings = [TEXTS, TEXTS[:-1]]
    with pytest.raises(CourseError, match="the texts of reviews changed while they were read"):
        cached_rows("reviews", lambda: iter(readings.pop(0)), tokenizer, 16)
    with pytest.raises(CourseError, match="the texts are empty"):
        cached_rows("nothing", lambda: [], tokenizer, 16)
    assert not entries() and not debris(tokens_dir())


# --- arrays

def test_blocks_are_written_under_one_another(tmp_path):
    blocks = [np.arange(12, dtype=np.int32).reshape(3, 4), np.zeros((0, 4), np.int32), np.ones((5, 4), np.int32)]
    assert write_rows(tmp_path / "a.npy", iter(blocks)) == 8
    assert np.array_equal(open_rows(tmp_path / "a.npy"), np.concatenate(blocks))


def test_blocks_that_do_not_fit_are_refused(tmp_path):
    for second in (np.zeros((1, 5), np.int32), np.zeros((1, 4), np.uint16)):
        with pytest.raises(ValueError, match="give blocks that fit under one another"):
            write_rows(tmp_path / "a.npy", [np.zeros((1, 4), np.int32), second])


# --- whole or absent

def test_a_build_that_fails_leaves_nothing():
    def fails(folder):
        numbers()(folder)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        build_once("x", {"a": 1}, fails)
    with pytest.raises(CourseError, match="nothing was written for x"):
        build_once("x", {"a": 1}, lambda folder: None)
    assert not entries() and not debris(tokens_dir())
    assert build_once("x", {"a": 1}, numbers()).is_dir()


SLOW = """
import sys, time
import numpy as np
from microbert_course.data.cache import build_once, open_rows, write_rows

def blocks():
    print("builds", flush=True)
    for number in range(int(sys.argv[1])):
        time.sleep(0.01)
        yield np.full((10, 4), number, dtype=np.uint16)

folder = build_once("slow", {"a": "slow"}, lambda folder: write_rows(folder / "rows.npy", blocks()))
print(int(open_rows(folder / "rows.npy").sum()), flush=True)
"""


def start(num_blocks):
    return subprocess.Popen([sys.executable, "-c", SLOW, str(num_blocks)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_of_eight_processes_one_builds_and_all_read_the_same():
    processes = [start(100) for _ in range(8)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [errors for _, errors in said] == [""] * 8
    assert sum("builds" in output for output, _ in said) == 1
    assert {output.split()[-1] for output, _ in said} == {str(40 * sum(range(100)))}
    assert not debris(tokens_dir()) and len(entries()) == 1


def test_a_builder_that_is_killed_leaves_debris_that_the_next_one_clears_away():
    victim = start(10_000)
    assert victim.stdout.readline() == "builds\n"
    waiting = start(30)  # it waits for the lock, and gets it when the system sees that the victim is dead
    time.sleep(0.3)
    victim.kill()
    victim.wait()
    output, errors = waiting.communicate(timeout=60)
    assert "builds" in output and errors == "" and victim.stdout.read() == ""
    assert len(entries()) == 1 and not debris(tokens_dir()) and damage(entries()[0].folder) is None


def test_debris_is_never_taken_for_an_entry(capsys):
    (tokens_dir() / ".0123456789abcdef.12345678.partial").mkdir(parents=True)
    assert entries() == [] and len(debris(tokens_dir())) == 1
    assert main(["cache", "info"]) == 0 and "1 unfinished" in capsys.readouterr().out
    assert main(["cache", "clear", "--all"]) == 0 and not debris(tokens_dir())


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Exception("No space left on device (os error 28)")])
def test_a_full_disk_is_told_with_its_place_and_the_way_to_another(error):
    "Tokenizers reports it by an exception of no kind."
    def build(folder):
        raise error
    with pytest.raises(CourseError, match=f"the disk of the cache {re.escape(str(tokens_dir()))} is full .No space left on device.: .* set MICROBERT_CACHE to"):
        build_once("anything", {"texts": "a"}, build)
    assert not entries()


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MICROBERT_CACHE", str(tmp_path / "file"))
    with pytest.raises(CourseError, match="cannot be written .*: set MICROBERT_CACHE to a folder of yours"):
        build_once("x", {"a": 1}, numbers())


# --- damage

def damaged(content, rng):
    "The bytes with one of them changed, or cut short."
    place = rng.randrange(len(content))
    if rng.random() < 0.3:
        return content[:place]
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1:]


def test_every_random_damage_of_every_file_is_found(tokenizer):
    cached_rows("reviews", lambda: TEXTS, tokenizer, 16)
    folder, rng = entries()[0].folder, random.Random(0)
    files = sorted(path for path in folder.iterdir())
    assert len(files) >= 4
    found = 0
    for number in range(NUM_DAMAGES):
        path = files[number % len(files)]
        content = path.read_bytes()
        path.write_bytes(damaged(content, rng))
        cache._checked_here.clear()  # as in another process
        fault = fault_in(folder)
        found += fault is not None and (path.name in fault or manifests.MANIFEST in fault)
        path.write_bytes(content)
        assert damage(folder) is None
    assert found == NUM_DAMAGES


@pytest.mark.parametrize("name", ["rows.npy", "manifest.json"])
def test_a_missing_file_is_found(name):
    folder = build_once("x", {"a": 1}, numbers())
    (folder / name).unlink()
    assert name in damage(folder)


def test_a_damaged_entry_is_built_anew_and_it_is_said(capsys):
    folder = build_once("x", {"a": 1}, numbers(7))
    content = bytearray((folder / "rows.npy").read_bytes())
    content[-1] ^= 1
    (folder / "rows.npy").write_bytes(content)
    cache._checked_here.clear()
    assert build_once("x", {"a": 1}, numbers(7)) == folder
    said = capsys.readouterr().err
    assert said == "the cached ids of x are damaged (rows.npy holds other bytes than were written): they are made anew\n"
    assert open_rows(folder / "rows.npy").max() == 7 and not debris(tokens_dir())


def test_sizes_are_compared_every_time_and_hashes_once_a_process(monkeypatch):
    folder = build_once("x", {"a": 1}, numbers())
    cache._checked_here.clear()
    read = []
    plain = manifests.sha256
    monkeypatch.setattr(manifests, "sha256", lambda path: read.append(path.name) or plain(path))
    for _ in range(3):
        build_once("x", {"a": 1}, numbers())
    assert read == ["rows.npy"]
    with (folder / "rows.npy").open("ab") as file:
        file.write(b"x")
    assert fault_in(folder) == "rows.npy has 529 bytes instead of 528"


def test_an_entry_that_was_put_back_is_looked_at_again():
    "A restored copy has another seal time: what this process knew of the old one does not count."
    folder = build_once("x", {"a": 1}, numbers())
    content = bytearray((folder / "rows.npy").read_bytes())
    content[-1] ^= 1
    (folder / "rows.npy").write_bytes(content)
    os.utime(folder / manifests.MANIFEST, (1, 1))
    assert "rows.npy" in fault_in(folder)


# --- looking after it

def test_info_and_usage_say_what_there_is(capsys, monkeypatch):
    build_once("first, rows of 4", {"a": 1}, numbers(num_rows=1_234))
    ages_ago(monkeypatch, 40)
    build_once("an old one", {"a": 2}, numbers())
    assert main(["cache", "info"]) == 0
    said = capsys.readouterr().out
    assert str(tokens_dir()) in said and "2 entries, 0.0 MB" in said
    assert main(["cache", "usage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "rows", "MB", "age", "made", "from"]
    assert "40 days  an old one" in lines[1] and "1,234" in lines[2] and lines[2].endswith("just now  first, rows of 4")


def test_verify_names_the_damaged_and_ends_with_1(capsys):
    whole, broken = (build_once("x", {"a": number}, numbers()) for number in range(2))
    (broken / "rows.npy").write_bytes(b"short")
    assert {entry.folder: fault for entry, fault in verify()} == {whole: None, broken: "rows.npy has 5 bytes instead of 528"}
    assert main(["cache", "verify"]) == 1
    said = capsys.readouterr()
    assert f"{whole.name}  whole" in said.out and f"{broken.name}  DAMAGED: rows.npy has 5 bytes" in said.out
    assert f"1 damaged: the next run that needs it makes it anew, or remove it with `microbert cache clear {broken.name}`" in said.err
    clear(broken.name)
    assert main(["cache", "verify"]) == 0


def test_an_entry_whose_manifest_is_nonsense_is_listed_and_cleared(capsys):
    folder = build_once("x", {"a": 1}, numbers())
    for nonsense in (b"", b"[]", b"{}", b"\xff", json.dumps({"files": {"a": {"shape": []}}, "made_from": 1}).encode()):
        (folder / manifests.MANIFEST).write_bytes(nonsense)
        assert [entry.made_from for entry in entries()] == [""]
        assert main(["cache", "usage"]) == 0 and main(["cache", "verify"]) == 1
    assert "its manifest cannot be read" in capsys.readouterr().out
    assert main(["cache", "clear", "--all"]) == 0 and entries() == []


def test_clear_takes_one_the_old_ones_or_all(capsys, monkeypatch):
    for number in range(3):
        build_once("new", {"new": number}, numbers())
    with monkeypatch.context() as patch:
        ages_ago(patch, 40)
        build_once("old", {"old": 1}, numbers())
    assert main(["cache", "clear", "--older-than", "30"]) == 0 and "1 entry removed" in capsys.readouterr().out
    assert [entry.made_from for entry in entries()] == ["new"] * 3
    assert main(["cache", "clear", entries()[0].name[:9]]) == 0 and len(entries()) == 2
    assert main(["cache", "clear", "--all"]) == 0 and entries() == []


@pytest.mark.parametrize(("arguments", "sentence"), [
    ([], "say what to clear"), (["x", "--all"], "say what to clear"), (["nothing"], "no entry begins with 'nothing'"),
    (["--older-than", "-1"], "older than -1.0 days is no age"), (["--older-than", "nan"], "is no age"),
])
def test_clear_wants_to_know_what(arguments, sentence, capsys):
    assert main(["cache", "clear", *arguments]) == 1
    assert sentence in capsys.readouterr().err


def test_a_name_that_several_have_is_refused(monkeypatch):
    folder = build_once("x", {"a": 1}, numbers())
    folder.rename(folder.with_name("abc1"))
    build_once("x", {"a": 1}, numbers()).rename(folder.with_name("abc2"))
    with pytest.raises(CourseError, match="2 entries begin with 'abc'"):
        clear("abc")


def test_what_another_process_builds_is_not_cleared():
    builder = start(300)
    assert builder.stdout.readline() == "builds\n"
    clear(everything=True)
    assert len(debris(tokens_dir())) == 1
    output, errors = builder.communicate(timeout=60)
    assert errors == "" and output.split() == [str(40 * sum(range(300)))] and len(entries()) == 1


def test_the_module_loads_neither_torch_nor_transformers():
    "Eight processes that wait for a lock should not each take a gigabyte and five seconds for that."
    script = "import sys, microbert_course.data.cache; print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
