"""`microbert`: each mistake of the user gets one sentence and a status other than 0, and nothing half written."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from microbert_course.cli.main import main
from microbert_course.training.run_folder import RunFolder

TINY = ["--hidden-size", "8", "--intermediate-size", "8", "--max-seq-len", "16", "--vocab-size", "60", "--batch-size", "4",
        "--num-steps", "6", "--warmup-steps", "1", "--eval-every", "3", "--device", "cpu"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "reviews.txt"
    path.write_text("\n".join(f"review number {i} says the film was {'good' if i % 2 else 'bad'} ." for i in range(60)))
    return path


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    "A finished run, made by the command itself."
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["pretrain", "tour", "--data", str(corpus), "--folder", str(folder), *TINY]) == 0
    return folder


def sentence_of(capsys, arguments):
    "The one line that a failing command prints on standard error."
    capsys.readouterr()
    status = main(arguments)
    lines = [line for line in capsys.readouterr().err.splitlines() if "\r" not in line and line.strip()]
    assert status == 1 and len(lines) == 1, (status, lines)
    assert lines[0].startswith("microbert: ")
    return lines[0]


def test_pretrain_reports_what_it_reached(corpus, tmp_path, capsys):
    assert main(["pretrain", "tour", "--data", str(corpus), "--folder", str(tmp_path / "run"), *TINY, "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert "validation loss" in printed and "unigram baseline" in printed and str(tmp_path / "run") in printed
    assert json.loads((tmp_path / "run" / "training.json").read_text())["seed"] == 3


@pytest.mark.parametrize(("blocks", "asked"), [("bert", "hidden tokens"), ("gpt", "next tokens")])
def test_what_was_guessed_right_is_named(corpus, tmp_path, capsys, blocks, asked):
    assert main(["pretrain", "tour", "--data", str(corpus), "--folder", str(tmp_path / "run"), *TINY, "--blocks", blocks]) == 0
    assert f"% of the {asked} guessed right\n" in capsys.readouterr().out


def test_options_default_to_the_named_preset(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["pretrain", "v0", "--help"])
    printed = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "10000" in printed and "words" in printed


@pytest.mark.parametrize("command", ["", "tour", "lessons", "presets", "pretrain", "fill-mask", "finetune", "classify", "sft", "lora", "lora merge", "generate", "chat", "data", "data check", "fetch", "cache", "cache clear", "doctor", "exercise", "adopt", "grade"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    assert f"usage: microbert {command}".strip() in capsys.readouterr().out


def test_presets_lists_true_parameter_counts(capsys):
    "v0: 10,005 words, 128 positions and 2 segments of width 4, a norm, two blocks of 244 numbers."
    assert main(["presets"]) == 0
    v0 = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("v0"))
    encoder = (10_005 + 128 + 2) * 4 + 8 + 2 * (4 * 12 + 12 + 4 * 4 + 4 + 8 + 4 * 16 + 16 + 16 * 4 + 4 + 8)
    assert f"{encoder:,}" in v0 and f"{encoder + 4 * 4 + 4 + 8 + 10_005:,}" in v0


def test_fill_mask_prints_guesses_with_probabilities(run, capsys):
    assert main(["fill-mask", "the film was [MASK] .", "--model", str(run), "--top-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("%" in line for line in lines)


def test_fill_mask_without_a_blank(run, capsys):
    assert "[MASK]" in sentence_of(capsys, ["fill-mask", "the film was good", "--model", str(run)])


def test_fill_mask_before_any_run_exists_asks_the_carried_encoder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MICROBERT_RUNS", str(tmp_path))
    assert main(["fill-mask", "this movie is [MASK] fantastic", "--top-k", "2"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["absolutely", "truly"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_a_damaged_run_folder(run, tmp_path, capsys, name, damage):
    folder = shutil.copytree(run, tmp_path / "copy")
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage != "missing":
        (folder / name).write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    assert name in sentence_of(capsys, ["fill-mask", "the [MASK]", "--model", str(folder)])


def test_a_model_folder_that_does_not_exist(tmp_path, capsys):
    assert "nowhere" in sentence_of(capsys, ["fill-mask", "the [MASK]", "--model", str(tmp_path / "nowhere")])


def test_a_preset_that_does_not_exist(capsys):
    assert "there is no preset 'v9': choose one of tour, v0" in sentence_of(capsys, ["pretrain", "v9"])


@pytest.mark.parametrize("arguments", [["fill-mask", "caf\udce9 [MASK]"], ["pretrain", "tour", "--data", "caf\udce9.txt"]])
def test_words_that_are_not_utf_8(capsys, arguments):
    said = sentence_of(capsys, arguments)
    assert "'caf\\udce9" in said and "is not UTF-8" in said


def test_heads_of_odd_size_have_no_pairs_to_turn(corpus, capsys):
    said = sentence_of(capsys, ["pretrain", "tour", "--data", str(corpus), *TINY, "--blocks", "modern", "--num-heads", "8"])
    assert "gives heads of 1" in said and "choose a multiple of 16" in said


@pytest.mark.parametrize(("name", "content", "expected"), [
    ("empty.txt", b"", "empty.txt"),
    ("binary.txt", bytes(range(256)) * 20, "binary.txt"),
    ("no_text.csv", b"review,stars\ngood film,5\nbad film,1\n", "stars"),
    ("missing.txt", None, "missing.txt"),
])
def test_data_that_cannot_be_read(tmp_path, capsys, name, content, expected):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    said = sentence_of(capsys, ["pretrain", "tour", "--data", str(tmp_path / name), "--folder", str(tmp_path / "run"), *TINY])
    assert expected in said
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("run")]


def test_a_width_that_does_not_split_into_heads(tmp_path, corpus, capsys):
    said = sentence_of(capsys, ["pretrain", "tour", "--data", str(corpus), "--folder", str(tmp_path / "run"), "--num-heads", "3"])
    assert "hidden_size 64 does not split into 3 heads" in said and os.listdir(tmp_path) == []


def test_a_folder_that_is_taken(run, corpus, capsys):
    assert "holds a finished run" in sentence_of(capsys, ["pretrain", "tour", "--data", str(corpus), "--folder", str(run), *TINY])


def test_a_folder_that_cannot_be_made(tmp_path, corpus, capsys):
    (tmp_path / "file").touch()
    said = sentence_of(capsys, ["pretrain", "tour", "--data", str(corpus), "--folder", str(tmp_path / "file" / "run"), *TINY])
    assert "file" in said and "choose another place" in said


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a place where nobody can make a folder")
@pytest.mark.parametrize(("command", "remedy"), [
    (["pretrain", "tour", *TINY, "--folder", "/proc/none/run"], "choose another place"),
    (["launch", "write", "cpu", "--folder", "/proc/none/run"], "choose another place"),
    (["exercise", "start", "03"], "name another folder in MICROBERT_WORK"),
    (["exercise", "progress", "--page"], "name another folder in MICROBERT_WORK")])
def test_a_folder_in_a_place_where_none_can_be_made(capsys, monkeypatch, command, remedy):
    monkeypatch.setenv("MICROBERT_WORK", "/proc/none/work")
    said = sentence_of(capsys, command)
    assert "/proc/none" in said and remedy in said


def test_a_folder_with_a_name_that_is_too_long(tmp_path, corpus, capsys):
    said = sentence_of(capsys, ["pretrain", "tour", "--data", str(corpus), "--folder", str(tmp_path / ("a" * 300)), *TINY])
    assert "too long" in said and "choose another place" in said


@pytest.mark.skipif(sys.platform == "win32", reason="makes a symbolic link")
@pytest.mark.parametrize("option", ["--folder", "--resume"])
def test_a_link_that_leads_to_itself(tmp_path, corpus, capsys, option):
    (tmp_path / "loop").symlink_to("loop")
    said = sentence_of(capsys, ["pretrain", "tour", "--data", str(corpus), "--folder", str(tmp_path / "run"), *TINY, option, str(tmp_path / "loop")])
    assert "loop" in said and ("choose another place" in said or "is no checkpoint" in said)  # which of them, is up to the version of Python


def test_the_root_is_no_folder_for_a_run(corpus, capsys):
    assert "is no folder for a run: give one within it" in sentence_of(capsys, ["pretrain", "tour", "--data", str(corpus), "--folder", "/", *TINY])


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunFolder("~/runs/mine").final == tmp_path.resolve() / "runs" / "mine"


def test_a_preset_named_after_an_option_would_get_other_defaults(capsys):
    "Silently training the tour's shape under the name v0 would be worse than a refusal."
    assert "name the preset first" in sentence_of(capsys, ["pretrain", "--overwrite", "v0"])


FULL = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); " \
       "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); from microbert_course.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a Unix thing")
def test_a_full_disk(tmp_path, corpus):
    "A limit of 4,000 bytes a file stands in for a disk that fills up while the state is written."
    arguments = ["pretrain", "tour", "--data", str(corpus), "--folder", str(tmp_path / "run"), *TINY]
    done = subprocess.run([sys.executable, "-c", FULL, *arguments], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "microbert: the disk is full" in done.stderr and "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("how", [["--resume", "latest"], ["--overwrite"]])
def test_ctrl_c_before_a_finished_run_was_changed(tmp_path, run, corpus, capsys, monkeypatch, how):
    def pressed(config):
        raise KeyboardInterrupt

    folder = shutil.copytree(run, tmp_path / "run")
    monkeypatch.setattr("microbert_course.training.run.prepare_data", pressed)
    assert main(["pretrain", "tour", "--data", str(corpus), "--folder", str(folder), *TINY, *how]) == 130
    assert f"interrupted; the finished run in {folder} is as it was" in capsys.readouterr().err and os.listdir(tmp_path) == ["run"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends a Unix signal")
def test_ctrl_c_in_the_middle(tmp_path, corpus):
    "The last complete state stays readable, and the command says where it is."
    folder = tmp_path / "run"
    arguments = ["pretrain", "tour", "--data", str(corpus), "--folder", str(folder), *TINY, "--num-steps", "1000000"]
    process = subprocess.Popen([sys.executable, "-m", "microbert_course.cli.main", *arguments], stderr=subprocess.PIPE, text=True)
    partial, deadline = tmp_path / "run.partial", time.monotonic() + 120
    while not (partial / "model.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert "interrupted; its last complete state is in" in said and not folder.exists()
    assert main(["fill-mask", "the film was [MASK]", "--model", str(partial)]) == 0
