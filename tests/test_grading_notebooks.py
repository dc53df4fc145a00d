"""A submission read as bytes: every way it can be broken is one reason, and what is only unusual is graded."""

import os
import socket

import pytest
from hostile.broken import CODE, FILES, GRADABLE

from microbert_course.grading.find import submissions
from microbert_course.grading.inside.cells import run
from microbert_course.grading.notebooks import Unreadable, code_cells, read_bytes
from microbert_course.grading.tasks import lesson_of
from microbert_course.practice.cells import python_text

KNOWN = ["01_text_as_data", "03_attention", "04_transformer_block"]


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_one_reason(tmp_path, name):
    content, word = FILES[name]
    path = tmp_path / "03_attention.ipynb"
    path.write_bytes(content)
    with pytest.raises(Unreadable) as reason:
        code_cells(read_bytes(path))
    assert word in str(reason.value) and "\n" not in str(reason.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", GRADABLE)
def test_an_unusual_file_is_graded(name):
    assert CODE["source"] in code_cells(GRADABLE[name])


def test_what_is_no_regular_file_is_named_and_not_waited_for(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name, word in (("folder", "is a folder"), ("pipe", "no regular file"), ("link", "symbolic link"), ("nowhere", "symbolic link"),
                           ("socket", "cannot be read"), ("missing", "cannot be read")):
            with pytest.raises(Unreadable, match=word):
                read_bytes(tmp_path / name)
    with pytest.raises(Unreadable, match="no regular file"):
        read_bytes("/dev/zero")


def test_every_notebook_of_a_folder_is_found_and_links_are_not_followed(tmp_path):
    folder, elsewhere = tmp_path / "subs", tmp_path / "elsewhere"
    for path in (folder / "anna" / "03_attention.ipynb", folder / "bert" / "late" / "04_transformer_block.IPYNB", folder / "anna" / "notes.txt",
                 folder / "anna" / ".ipynb_checkpoints" / "03_attention-checkpoint.ipynb", folder / "x.ipynb" / "03_attention.ipynb",
                 folder / "carla" / "03_attention.ipynb.txt", folder / "dora.zip", folder / "emil" / "hw 03_attention.py", folder / "__MACOSX" / "._03_attention.ipynb",
                 elsewhere / "03_attention.ipynb", folder / "grades" / "03_attention.ipynb"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "anna" / "link 03_attention.ipynb").symlink_to(elsewhere / "03_attention.ipynb")
    found, lines = submissions([folder], None, KNOWN, folder / "grades")
    assert [(one.id, one.lesson) for one in found] == [
        ("anna/03_attention.ipynb", "03_attention"), ("anna/link 03_attention.ipynb", "03_attention"),
        ("bert/late/04_transformer_block.IPYNB", "04_transformer_block"), ("x.ipynb", None), ("x.ipynb/03_attention.ipynb", "03_attention")]
    passed_over = {line.removeprefix(f"{folder.as_posix()}/").partition(":")[0]: line for line in lines}
    assert "is a symbolic link" in passed_over.pop("linked")
    assert set(passed_over) == {"carla/03_attention.ipynb.txt", "dora.zip", "emil/hw 03_attention.py"} and all("unpack or rename it" in line for line in passed_over.values())
    assert len({one.slug for one in found}) == len(found) and all("/" not in one.slug for one in found)


def test_two_folders_with_the_same_files_keep_two_rows(tmp_path):
    for group in ("a", "b"):
        (tmp_path / group).mkdir()
        (tmp_path / group / "03_attention.ipynb").write_text("{}")
    found, _ = submissions([tmp_path / "a", tmp_path / "b"], None, KNOWN, tmp_path / "out")
    assert [one.id for one in found] == ["a/03_attention.ipynb", "b/03_attention.ipynb"]


def test_a_file_that_is_named_twice_is_one_row_and_no_two_share_a_name(tmp_path):
    names = ["a/03_attention.ipynb", "a/\\n03_attention.ipynb", "a/\n03_attention.ipynb", "b/a/03_attention.ipynb"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    out = tmp_path / "out"
    found, _ = submissions([tmp_path / "a", tmp_path / "b" / ".." / "a", tmp_path / "a" / "03_attention.ipynb", tmp_path / "b" / "a"], None, KNOWN, out)
    assert sorted(one.path.resolve() for one in found) == sorted(tmp_path / name for name in names)
    ids = {one.path.resolve().relative_to(tmp_path).as_posix(): one.id for one in found}
    assert len(set(ids.values())) == 4 and all(id.isprintable() for id in ids.values())
    assert ids[names[0]] == names[0] and ids[names[3]] == str(tmp_path / names[3])


def test_our_own_results_are_no_submissions_however_their_folder_is_written(tmp_path):
    for folder in (tmp_path / "anna", tmp_path / "grades"):
        folder.mkdir()
        (folder / "03_attention.ipynb").write_text("{}")
    for out in (tmp_path / "grades", tmp_path / "anna" / ".." / "grades"):
        assert [one.id for one in submissions([tmp_path], None, KNOWN, out)[0]] == ["anna/03_attention.ipynb"]


@pytest.mark.parametrize(("name", "lesson"), [
    ("03_attention.ipynb", "03_attention"), ("anna_12345_998_03_attention-2.ipynb", "03_attention"), ("03-Attention (1).ipynb", "03_attention"),
    ("Müller_assignsubmission_file_04_transformer_block.ipynb", "04_transformer_block"), ("attention.ipynb", None),
    ("103_attention.ipynb", None), ("03_attention_04_transformer_block.ipynb", None), ("03_attentions.ipynb", None)])
def test_a_files_name_says_its_lesson(name, lesson):
    assert lesson_of(name, KNOWN) == lesson


def test_magic_is_left_out_only_where_a_cell_is_no_python():
    assert python_text("%%bash\nls") == ""
    for source in ("  x = 1\n  if x:\n    x = 1", "\n    !ls\n    x = 1", "try:\n    import absent_library\nexcept ImportError:\n    !pip install \\\n absent\nx = 1"):
        space = {}
        exec(python_text(source), space)
        assert space["x"] == 1, source
    for source in ("%matplotlib inline\nx = 1", "!ls\nx = 1", "files = !ls\nx = 1", "%%time\nx = 1", "x = 1\nx?", "x = (7\n% 6)",
                   "%time x = 1", "if True:\n    %time x = 3 - \\\n 2\n%timeit x = 2", "x = %time 1",
                   "%matplotlib inline\nx = 1  # enough?", "?len\nx = 1\n%time?\nos.path??",
                   '%matplotlib inline\ndef one():\n    """Is it one?\n\n    It is."""\n    return 1\nx = one()'):
        space, text = {}, python_text(source)
        exec(text, space)
        assert space["x"] == 1 and text.count("\n") == source.count("\n"), source


def test_a_cell_that_raises_is_noted_and_the_next_one_goes_on(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    space, failed = run(["1 / 0", "x = 1", "raise SystemExit", "def (", "x += 1"])
    assert space["x"] == 2 and failed == [[1, "ZeroDivisionError"], [3, "SystemExit"], [4, "SyntaxError"]]
