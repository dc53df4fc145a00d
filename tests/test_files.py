"""Files that are whole or absent, and Ctrl-C while they are written."""

import os
import signal
import threading

import pytest

from microbert_course.files import interrupt_afterwards, write_whole


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_whole(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_whole(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_ctrl_c_waits_for_the_end_of_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupt_afterwards():
        signal.raise_signal(signal.SIGINT)
        done.append("the block")
    assert done == ["the block"]
    with pytest.raises(KeyboardInterrupt):  # and the key works as before
        signal.raise_signal(signal.SIGINT)


def test_where_ctrl_c_is_ignored_or_another_thread_asks_nothing_changes():
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt_afterwards():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, usual)
    seen = []

    def in_a_thread():
        with interrupt_afterwards():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert seen == [usual]
