"""`training.run`: a run that is interrupted anywhere goes on to the bit, and its folder is whole or absent."""

import dataclasses
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from small_run import small_config, small_data
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from microbert_course.errors import CourseError
from microbert_course.models.bert import MicroBertForMaskedLM
from microbert_course.training import loop
from microbert_course.training.run import RunResult, pretrain
from microbert_course.training.run_folder import RunFolder
from microbert_course.training.run_log import BrokenRun, RunLog

WHOLE = bool(os.environ.get("MICROBERT_TORTURE"))  # `make torture`: the matrices whole, instead of a small sample
SMALL_RUN = Path(__file__).with_name("small_run.py")
needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")


@pytest.fixture(scope="module")
def data():
    return small_data()


def program(folder, *words, processes=1, timeout=180):
    "Start tests/small_run.py, wait, and answer how it ended."
    launch = [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run([sys.executable, *launch, str(SMALL_RUN), str(folder), *words], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"})


def outcome(folder) -> dict:
    "What must be equal to the bit: weights, the optimizer's memories, the log."
    newest = max((folder / "checkpoints").iterdir())
    state = {name: load_file(newest / f"{name}.safetensors") for name in ("model", "optimizer")}
    return {"history": json.loads((folder / "history.json").read_text()), **state}


def differences(first: dict, second: dict) -> list[str]:
    "The parts of two outcomes that are not equal to the bit."
    found = [] if first["history"] == second["history"] else ["history"]
    for part in ("model", "optimizer"):
        assert first[part].keys() == second[part].keys()
        found += [f"{part} {name}" for name in first[part] if first[part][name].numpy().tobytes() != second[part][name].numpy().tobytes()]
    return found


# --- going on

def test_a_run_resumes_to_the_bit_from_every_step(data, tmp_path):
    "340 sentences in batches of 32 do not divide; a checkpoint after each of 60 updates, and a new run from each of them."
    config = small_config(num_steps=60, batch_size=32, eval_every=20, save_every=1, keep_checkpoints=60)
    whole = pretrain(config, tmp_path / "whole", data=data, progress=False)
    expected = outcome(whole.folder)
    seen = []

    class Watched(loop.PretrainData):
        def rows(self, step, batch_size, seed):
            seen.append(step)
            return super().rows(step, batch_size, seed)

    watched = Watched(data.tokenizer, data.train_ids, data.validation_ids)
    for done in range(1, 60) if WHOLE else (1, 11, 20, 59):
        seen.clear()
        again = pretrain(dataclasses.replace(config, save_every=60), tmp_path / f"from-{done}", data=watched, progress=False,
                         resume=whole.folder / "checkpoints" / f"step-{done:08}")
        assert differences(outcome(again.folder), expected) == []
        assert seen == list(range(done, 60))  # nothing is skipped, nothing seen twice
        shutil.rmtree(again.folder)


def kill_points() -> list[tuple[str, int, str]]:  # kind of event, its number, precision
    "Where a run of 200 updates, saved every 20, is killed: a small sample, or 50 of which 25 are inside a save."
    if not WHOLE:
        return [("update", 37, "no"), ("rename", 2, "bf16"), ("fsync", 26, "no")]
    draw = random.Random(0)
    limits = {"update": 200, "write": 20, "fsync": 90, "rename": 11, "rmtree": 30}
    kinds = ["update"] * 25 + ["write"] * 7 + ["fsync"] * 7 + ["rename"] * 6 + ["rmtree"] * 5
    return [(kind, draw.randint(2, limits[kind]), ("no", "bf16")[i % 2]) for i, kind in enumerate(kinds)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data):
    "The outcome of the 200 updates when nothing happens, for each precision and number of checkpoints kept."
    done = {}

    def of(precision, **changes):
        key = precision, *sorted(changes.items())
        if key not in done:
            folder = tmp_path_factory.mktemp("undisturbed") / "run"
            assert program(folder, *long_run(precision, **changes)).returncode == 0
            done[key] = outcome(folder)
        return done[key]

    return of


def long_run(precision, **changes):
    settings = {"num_steps": 200, "eval_every": 50, "save_every": 20, "mixed_precision": precision, **changes}
    return [f"{name}={value}" for name, value in settings.items()]


@needs_sigkill
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "number", "precision"), kill_points())
def test_a_killed_run_goes_on_to_the_bit(undisturbed, tmp_path, kind, number, precision):
    killed = program(tmp_path / "run", "--kill", kind, str(number), *long_run(precision))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert not (tmp_path / "run").exists()
    resumed = program(tmp_path / "run", *long_run(precision))
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert differences(outcome(tmp_path / "run"), undisturbed(precision)) == []
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))  # no debris


@needs_sigkill
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["no", "bf16"] if WHOLE else ["bf16"])
def test_five_kills_in_a_row_with_a_single_checkpoint(undisturbed, tmp_path, precision):
    "With keep-1 there must be a valid one at every moment after the first."
    settings = long_run(precision, keep_checkpoints=1)
    for kind, number in [("update", 30), ("fsync", 4), ("rmtree", 1), ("rename", 1), ("update", 55)][0 if WHOLE else 2 :]:
        killed = program(tmp_path / "run", "--kill", kind, str(number), *settings)
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
        if (tmp_path / "run.partial" / "checkpoints").exists():
            from microbert_course.training.checkpoints import CheckpointFolder
            folder = CheckpointFolder(tmp_path / "run.partial" / "checkpoints")
            assert not folder.all() or folder.newest() is not None
    assert program(tmp_path / "run", *settings).returncode == 0
    assert differences(outcome(tmp_path / "run"), undisturbed(precision, keep_checkpoints=1)) == []


def test_resume_latest_passes_over_a_damaged_checkpoint_with_one_line(data, tmp_path, capsys):
    config = small_config(num_steps=9)
    whole = outcome(pretrain(config, tmp_path / "whole", data=data, progress=False).folder)
    interrupt(config, tmp_path / "run", data, at=5)
    newest = max((tmp_path / "run.partial" / "checkpoints").iterdir())
    content = bytearray((newest / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (newest / "model.safetensors").write_bytes(content)
    capsys.readouterr()
    again = pretrain(config, tmp_path / "run", data=data, progress=False, resume="latest")
    assert capsys.readouterr().out == "the checkpoint step-00000006 is passed over: model.safetensors holds other bytes than were written\n"
    assert differences(outcome(again.folder), whole) == []


def test_resume_does_not_begin_anew_where_all_checkpoints_are_damaged(data, tmp_path):
    interrupt(small_config(), tmp_path / "run", data, at=2)
    (tmp_path / "run.partial" / "checkpoints" / "step-00000003" / "state.json").unlink()
    with pytest.raises(CourseError, match="no checkpoint in .* can be used: restore one, or begin anew with --overwrite"):
        pretrain(small_config(), tmp_path / "run", data=data, progress=False, resume="latest")


def test_an_interrupted_run_that_replaces_another_goes_on(data, tmp_path):
    "Until it is done, the finished one stays; then it is gone."
    whole = outcome(pretrain(small_config(seed=1), tmp_path / "whole", data=data, progress=False).folder)
    before = outcome(pretrain(small_config(), tmp_path / "run", data=data, progress=False).folder)
    interrupt(small_config(seed=1), tmp_path / "run", data, at=2, overwrite=True)
    assert differences(outcome(tmp_path / "run"), before) == []
    pretrain(small_config(seed=1), tmp_path / "run", data=data, progress=False, resume="latest")
    assert differences(outcome(tmp_path / "run"), whole) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "whole"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_run_killed_while_it_takes_its_name_goes_on(data, tmp_path, monkeypatch, number):
    "Between the first thing that `finish` does and the last there is always a whole run."
    pretrain(small_config(), tmp_path / "run", data=data, progress=False)
    left, rename, finish = itertools.count(number - 1, -1), Path.rename, RunFolder.finish

    def killed(*arguments):
        if next(left) == 0:
            raise SystemExit
        return rename(*arguments)

    def finish_killed(self):
        monkeypatch.setattr(Path, "rename", killed)
        finish(self)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(RunFolder, "finish", finish_killed)
        patched.setattr(RunFolder, "give_up", lambda self: None)  # as SIGKILL has it
        pretrain(small_config(seed=1), tmp_path / "run", data=data, progress=False, overwrite=True)
    monkeypatch.setattr(Path, "rename", rename)
    pretrain(small_config(seed=1), tmp_path / "run", data=data, progress=False, resume="latest")
    assert json.loads((tmp_path / "run" / "training.json").read_text())["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def interrupt(config, folder, data, at, overwrite=False):
    "Ctrl-C when all is written after the evaluation of step `at`."
    def stop(model, score):
        if score["step"] == at:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, folder, data=data, progress=False, on_evaluation=stop, overwrite=overwrite)


def test_a_run_killed_before_its_folder_got_its_name_is_finished(data, tmp_path):
    whole = outcome(pretrain(small_config(), tmp_path / "whole", data=data, progress=False).folder)
    interrupt(small_config(), tmp_path / "run", data, at=5)
    again = pretrain(small_config(), tmp_path / "run", data=data, progress=False, resume="latest")
    assert again.folder.exists() and differences(outcome(again.folder), whole) == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_has_threads_of_its_own_and_gives_the_programs_back(data, tmp_path, number):
    "Else a run with one thread would leave one to all that follows, runs that ask for as many as torch decides among it."
    usual, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        pretrain(small_config(num_threads=number), tmp_path / "run", data=data, progress=False, on_evaluation=lambda *_: seen.append(torch.get_num_threads()))
        assert seen == [number or 2] * 2 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(usual)


@pytest.mark.parametrize("kernel", ["math", "flash", "efficient"])
def test_any_kernel_can_be_asked_for(data, tmp_path, capfd, kernel):
    "One that does not run here is replaced, and the log says why."
    run = pretrain(small_config(attention=kernel, num_steps=3), tmp_path / "run", data=data, progress=False)
    ran = json.loads((run.folder / "training.json").read_text())["about"]["attention_kernel"]
    assert ran == kernel or f"attention {kernel} does not run here (" in capfd.readouterr().err


def test_resume_with_nothing_there_begins(data, tmp_path, capsys):
    "So that one command line serves the first start and every restart."
    run = pretrain(small_config(), tmp_path / "run", data=data, progress=False, resume="latest")
    assert "there is no checkpoint to resume" in capsys.readouterr().out
    assert len(run.history["train"]) == 6


@pytest.mark.parametrize(("changes", "message"), [
    ({"learning_rate": 2e-2}, "learning_rate is 0.02 and was 0.01 in the checkpoint"),
    ({"hidden_size": 32}, "hidden_size is 32 and was 16 in the checkpoint"),
    ({"batch_size": 16}, "batch_size is 16 and was 8 in the checkpoint"),
])
def test_a_checkpoint_of_other_settings_is_refused(data, tmp_path, changes, message):
    interrupt(small_config(), tmp_path / "run", data, at=2)
    with pytest.raises(CourseError, match=message):
        pretrain(small_config(**changes), tmp_path / "run", data=data, progress=False, resume="latest")
    assert list((tmp_path / "run.partial" / "checkpoints").glob("step-*"))  # still there


def test_a_checkpoint_of_other_texts_is_refused(data, tmp_path):
    interrupt(small_config(), tmp_path / "run", data, at=2)
    other = loop.PretrainData(data.tokenizer, data.train_ids[::-1].copy(), data.validation_ids)
    with pytest.raises(CourseError, match="the texts or the tokenizer are not those of the checkpoint"):
        pretrain(small_config(), tmp_path / "run", data=other, progress=False, resume="latest")


def test_a_checkpoint_of_another_version_is_refused(data, tmp_path):
    from microbert_course import manifests

    interrupt(small_config(), tmp_path / "run", data, at=2)
    newest = max((tmp_path / "run.partial" / "checkpoints").iterdir())
    state = json.loads((newest / "state.json").read_text())
    (newest / "state.json").write_text(json.dumps({**state, "format": 99}))
    (newest / "manifest.json").unlink()
    manifests.seal(newest, {})
    with pytest.raises(CourseError, match="has format 99 and this version of the course reads 1"):
        pretrain(small_config(), tmp_path / "run", data=data, progress=False, resume="latest")


def test_a_run_that_spent_its_budget_can_go_on(data, tmp_path):
    "Its folder has its name; with a larger budget it continues to the same end."
    whole = outcome(pretrain(small_config(num_steps=9), tmp_path / "whole", data=data, progress=False).folder)
    brief = pretrain(small_config(num_steps=9, max_tokens=300), tmp_path / "run", data=data, progress=False)
    assert 0 < len(brief.history["train"]) < 9 and brief.folder.name == "run"
    again = pretrain(small_config(num_steps=9), tmp_path / "run", data=data, progress=False, resume="latest")
    found = outcome(again.folder)
    assert [update["loss"] for update in found["history"]["train"]] == [update["loss"] for update in whole["history"]["train"]]
    assert differences({**found, "history": whole["history"]}, whole) == []


@pytest.mark.parametrize("budget", [{"max_tokens": 300}, {"max_seconds": 1e-9}])
def test_a_run_whose_budget_is_spent_makes_no_more_updates(data, tmp_path, budget):
    brief = outcome(pretrain(small_config(num_steps=9, **budget), tmp_path / "run", data=data, progress=False).folder)
    again = outcome(pretrain(small_config(num_steps=9, **budget), tmp_path / "run", data=data, progress=False, resume="latest").folder)
    assert differences(again, brief) == []


def test_a_run_ends_when_its_time_is_spent(data, tmp_path):
    run = pretrain(small_config(num_steps=5000, max_seconds=0.5, eval_every=5000), tmp_path / "run", data=data, progress=False)
    assert 0 < len(run.history["train"]) < 5000 and len(run.history["validation"]) == 1


def test_what_may_change_changes_nothing_but_how_often_one_looks(data, tmp_path):
    often = outcome(pretrain(small_config(eval_every=1, save_every=2, log_every=1), tmp_path / "often", data=data, progress=False).folder)
    seldom = outcome(pretrain(small_config(eval_every=6), tmp_path / "seldom", data=data, progress=False).folder)
    often["history"]["validation"] = often["history"]["validation"][-1:]
    assert differences(often, seldom) == []


# --- no numbers

def break_at(monkeypatch, *steps):
    "Make a gradient of these updates infinite."
    real = loop.Training.update

    def update(self, step):
        if step not in steps:
            return real(self, step)
        hook = self.accelerator.unwrap_model(self.objective).model.head.bias.register_hook(lambda gradient: gradient * math.inf)
        try:
            return real(self, step)
        finally:
            hook.remove()

    monkeypatch.setattr(loop.Training, "update", update)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_an_update_without_numbers_leaves_everything_as_it_was(data, tmp_path, monkeypatch, precision):
    "Weights and the optimizer's memories, to the bit; the step is written down, and the run goes on."
    break_at(monkeypatch, 3)
    states, real = {}, loop.Training.update

    def watched(self, step):
        answer = real(self, step)
        states[step] = [parameter.detach().clone() for parameter in self.objective.parameters()] + [
            value.clone() for memory in self.optimizer.state.values() for value in memory.values()]
        return answer

    monkeypatch.setattr(loop.Training, "update", watched)
    run = pretrain(small_config(mixed_precision=precision), tmp_path / "run", data=data, progress=False)
    assert all(torch.equal(before, after) for before, after in zip(states[2], states[3], strict=True))
    assert not all(torch.equal(before, after) for before, after in zip(states[3], states[4], strict=True))
    assert [skipped["step"] for skipped in run.history["skipped"]] == [3]
    assert [update["step"] for update in run.history["train"]] == [0, 1, 2, 4, 5]


def test_three_in_a_row_end_the_run_with_status_3(data, tmp_path, monkeypatch):
    break_at(monkeypatch, 0, 1, 2)
    with pytest.raises(BrokenRun, match="update 2 is skipped: .* as were the two before it: lower the learning rate") as caught:
        pretrain(small_config(), tmp_path / "run", data=data, progress=False)
    assert caught.value.status == 3 and os.listdir(tmp_path) == []


@pytest.mark.parametrize(("loss", "scale", "is_broken"), [(2.0, 1024.0, False), (2.0, 0.5, True), (math.nan, 1024.0, True)])
def test_updates_by_which_fp16_finds_its_scale_do_not_end_a_run(loss, scale, is_broken):
    "The loss is a number and the scale can still fall: as many as it takes."
    class Scaled:
        device, is_main_process, num_processes = torch.device("cpu"), False, 1
        scaler = type("Scaler", (), {"get_scale": lambda self: scale})()
        log = staticmethod(lambda *args, **kwargs: None)

    log = RunLog(small_config(), Scaled(), {"train": [], "validation": [], "skipped": []}, progress=False)
    update = {"loss": loss, "accuracy": 0.0, "grad_norm": math.inf, "learning_rate": 1e-3, "is_finite": False, "tokens": 8}
    def five():
        for step in range(5):
            log.add({"step": step, **update})
    if is_broken:
        with pytest.raises(BrokenRun):
            five()
    else:
        five()
    assert len(log.history["skipped"]) == (3 if is_broken else 5)


def test_two_in_a_row_do_not(data, tmp_path, monkeypatch):
    break_at(monkeypatch, 0, 1, 3, 4)
    run = pretrain(small_config(), tmp_path / "run", data=data, progress=False)
    assert len(run.history["skipped"]) == 4 and len(run.history["train"]) == 2


def test_no_checkpoint_holds_what_is_no_number(data, tmp_path, monkeypatch):
    "Should a weight become one in some other way, nothing is written."
    real = loop.Training.update

    def ruin(self, step):
        answer = real(self, step)
        if step == 5:
            next(self.objective.parameters()).data[7, 0] = math.nan
        return answer

    monkeypatch.setattr(loop.Training, "update", ruin)
    with pytest.raises(CourseError, match="no number|validation loss is nan"):
        pretrain(small_config(), tmp_path / "run", data=data, progress=False)
    found = list((tmp_path / "run.partial").rglob("*.safetensors"))
    assert found and all(tensor.isfinite().all() for path in found for tensor in load_file(path).values())


# --- several processes

def test_two_processes_are_one_large_batch(data, tmp_path, monkeypatch):
    "The same weights within 1e-6 after 20 updates, and one folder, from one process or two; where there is no GPU, they join on the CPU unasked."
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    device = "cpu" if torch.backends.mps.is_available() else "auto"
    settings = ["num_steps=20", "eval_every=10", "learning_rate=0.001", "dropout=0"]
    program(tmp_path / "one", *settings)
    together = program(tmp_path / "two", *settings, f"device={device}", processes=2)
    assert together.returncode == 0, together.stderr[-3000:]
    one, two = outcome(tmp_path / "one"), outcome(tmp_path / "two")
    for name, weight in one["model"].items():
        assert (weight - two["model"][name]).abs().max() <= 1e-6, name
    for part in ("train", "validation"):
        assert [u["loss"] for u in two["history"][part]] == pytest.approx([u["loss"] for u in one["history"][part]], abs=1e-5)


@needs_sigkill
@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4] if WHOLE else [4])  # sums of more than two depend on their order
def test_a_killed_worker_ends_the_others_and_the_run_goes_on_to_the_bit(tmp_path, processes):
    "Within 30 s, without an orphan; also with another number of processes, then within 1e-6."
    settings = ["num_steps=40", "eval_every=20", "save_every=10", "dropout=0"]
    begun = time.monotonic()
    assert program(tmp_path / "undisturbed", *settings, processes=processes).returncode == 0
    usual_s, expected = time.monotonic() - begun, outcome(tmp_path / "undisturbed")
    for number in (2, 7, 11, 15, 19, 21, 26, 31, 36, 40) if WHOLE else (26,):
        begun = time.monotonic()
        killed = program(tmp_path / "run", "--kill", "update", str(number), *settings, processes=processes)
        assert killed.returncode != 0 and time.monotonic() - begun < usual_s + 30
        assert workers_of(tmp_path / "run") == []
        resumed = program(tmp_path / "run", *settings, processes=processes)
        assert resumed.returncode == 0, resumed.stderr[-2000:]
        assert differences(outcome(tmp_path / "run"), expected) == []
        shutil.rmtree(tmp_path / "run")


def workers_of(folder) -> list[int]:
    "Processes that still work on this run."
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in (process.info["cmdline"] or []):
            found.append(process.pid)
    return found


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    "The batch is a function of the step, so only the order of sums differs."
    settings = ["num_steps=20", "eval_every=10", "learning_rate=0.001", "dropout=0"]
    program(tmp_path / "one", *settings)
    killed = program(tmp_path / "run", "--kill", "update", "15", *settings, processes=2)
    assert killed.returncode != 0
    assert program(tmp_path / "run", *settings).returncode == 0
    one, mixed = outcome(tmp_path / "one"), outcome(tmp_path / "run")
    assert all((weight - mixed["model"][name]).abs().max() <= 1e-6 for name, weight in one["model"].items())


# --- the folder

def test_the_same_seed_twice_is_the_same_run_to_the_bit(data, tmp_path):
    first = pretrain(small_config(), tmp_path / "first", data=data, progress=False)
    second = pretrain(small_config(), tmp_path / "second", data=data, progress=False)
    for name in ("history.json", "model.safetensors"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()
    other = pretrain(small_config(seed=1), tmp_path / "other", data=data, progress=False)
    assert (other.folder / "history.json").read_bytes() != (first.folder / "history.json").read_bytes()


def test_a_run_folder_opens_in_transformers_with_equal_logits(data, tmp_path):
    config = small_config()
    run = pretrain(config, tmp_path / "run", data=data, progress=False)
    theirs, tokenizer = AutoModelForMaskedLM.from_pretrained(run.folder), AutoTokenizer.from_pretrained(run.folder)
    ours = MicroBertForMaskedLM.from_pretrained(run.folder)
    inputs = tokenizer(["the good film was bad .", "the plot [MASK]"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = theirs(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).logits
        actual = ours(inputs.input_ids, inputs.attention_mask)
    assert (actual - expected)[inputs.attention_mask.bool()].abs().max() < 1e-5
    assert tokenizer.mask_token == "[MASK]"
    for folder in (run.folder, run.folder / "best"):
        assert len(pipeline("fill-mask", model=str(folder))("the [MASK] film")) == 5
    written = json.loads((run.folder / "training.json").read_text())
    assert {name: written[name] for name in dataclasses.asdict(config)} == dataclasses.asdict(config)
    assert (run.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((run.folder / "tensorboard").rglob("events.out.tfevents*"))


def test_a_run_says_what_it_is_made_of(data, tmp_path):
    "Parameters, the kernel that really ran, device, licence: in training.json and in TensorBoard."
    run = pretrain(small_config(), tmp_path / "run", data=data, progress=False)
    about = json.loads((run.folder / "training.json").read_text())["about"]
    assert about["parameters"] == run.model.num_parameters() and about["trainable_share"] == 1.0
    assert about["device"] == "cpu" and about["processes"] == 1 and "reviews" in about["licence"]
    assert about["attention_kernel"] in ("flash", "efficient", "math")
    assert "attention_kernel" in next((run.folder / "tensorboard").rglob("hparams.yml")).read_text()


def test_best_is_the_one_with_the_lowest_validation_loss(data, tmp_path, monkeypatch):
    from microbert_course.training import run as module

    scores = iter([3.0, 2.0, 2.5])
    monkeypatch.setattr(module, "evaluate", lambda *_: {"loss": next(scores), "accuracy": 0.0})
    kept = []
    result = pretrain(small_config(eval_every=2), tmp_path / "run", data=data, progress=False,
                      on_evaluation=lambda model, score: kept.append([p.detach().clone() for p in model.parameters()]))
    best = MicroBertForMaskedLM.from_pretrained(result.folder / "best")
    assert all(torch.equal(a, b) for a, b in zip(best.parameters(), kept[1], strict=True))


def test_a_finished_run_is_not_replaced_unasked(data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "training.json").touch()
    with pytest.raises(CourseError, match="holds a finished run: choose another folder"):
        pretrain(small_config(), tmp_path / "run", data=data, progress=False)
    assert (tmp_path / "run" / "training.json").exists()
    pretrain(small_config(), tmp_path / "run", overwrite=True, data=data, progress=False)
    assert (tmp_path / "run" / "training.json").stat().st_size > 0


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_is_no_run_is_never_replaced(data, tmp_path, is_folder):
    "`--overwrite --folder Documents` must not cost a thesis."
    thesis = tmp_path / "Documents" / "thesis.txt" if is_folder else tmp_path / "Documents"
    thesis.parent.mkdir(exist_ok=True)
    thesis.touch()
    with pytest.raises(CourseError, match="is no training run, so it is not replaced"):
        pretrain(small_config(), tmp_path / "Documents", overwrite=True, data=data, progress=False)
    assert thesis.exists()


def test_what_takes_the_name_while_a_run_goes_on_stays(data, tmp_path):
    def take(*_):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "thesis.txt").touch()
    with pytest.raises(CourseError, match="was not there when the run was begun, so it is not replaced: move it away"):
        pretrain(small_config(), tmp_path / "run", data=data, progress=False, on_evaluation=take)
    (tmp_path / "run").rename(tmp_path / "Documents")
    pretrain(small_config(), tmp_path / "run", data=data, progress=False, resume="latest")
    assert (tmp_path / "Documents" / "thesis.txt").exists() and (tmp_path / "run" / "training.json").exists()


def test_what_only_looks_like_an_unfinished_run_is_never_emptied(data, tmp_path):
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "thesis.txt").touch()
    for choice in ({}, {"overwrite": True}, {"resume": "latest"}):
        with pytest.raises(CourseError, match="run.partial is there and is no training run, so it is not replaced"):
            pretrain(small_config(), tmp_path / "run", data=data, progress=False, **choice)
    assert (tmp_path / "run.partial" / "thesis.txt").exists()


def test_a_finished_run_keeps_its_name_when_it_cannot_go_on(data, tmp_path):
    finished = pretrain(small_config(), tmp_path / "run", data=data, progress=False)
    before = sorted(path.name for path in finished.folder.rglob("*"))
    with pytest.raises(CourseError, match="learning_rate is 0.02 and was 0.01"):
        pretrain(small_config(learning_rate=2e-2), tmp_path / "run", data=data, progress=False, resume="latest")
    assert sorted(path.name for path in finished.folder.rglob("*")) == before and os.listdir(tmp_path) == ["run"]


def test_a_finished_run_goes_on_from_a_checkpoint_of_its_own(data, tmp_path):
    "Its folder is renamed when it is opened again, and the checkpoint with it."
    finished = pretrain(small_config(save_every=2), tmp_path / "run", data=data, progress=False)
    whole, first = outcome(finished.folder), min((finished.folder / "checkpoints").glob("step-*"))
    again = pretrain(small_config(save_every=2), tmp_path / "run", data=data, progress=False, resume=first)
    assert differences(outcome(again.folder), whole) == []


def test_an_interrupted_run_is_not_thrown_away_unasked(data, tmp_path):
    interrupt(small_config(num_steps=9), tmp_path / "run", data, at=5)
    with pytest.raises(CourseError, match="holds an interrupted run: pass --resume latest to go on, or --overwrite to start anew"):
        pretrain(small_config(num_steps=9), tmp_path / "run", data=data, progress=False)
    assert list((tmp_path / "run.partial" / "checkpoints").glob("step-*"))
    run = pretrain(small_config(num_steps=9), tmp_path / "run", data=data, progress=False, overwrite=True)
    assert run.folder.exists() and not (tmp_path / "run.partial").exists()


def test_resume_and_overwrite_contradict_each_other(data, tmp_path):
    with pytest.raises(CourseError, match="either resumed or overwritten"):
        pretrain(small_config(), tmp_path / "run", overwrite=True, data=data, progress=False, resume="latest")


def test_two_programs_do_not_write_one_run(data, tmp_path):
    "The second says so at once."
    def meanwhile(model, score):
        with pytest.raises(CourseError, match="is in use by another process"):
            pretrain(small_config(), tmp_path / "run", data=data, progress=False, overwrite=True)
        seen.append(score)
    seen = []
    pretrain(small_config(), tmp_path / "run", data=data, progress=False, on_evaluation=meanwhile)
    assert len(seen) == 2


def test_an_update_that_ruins_the_model_is_not_saved(data, tmp_path):
    "The loss of the last batch was still a number; what its update left behind is not."
    wild = small_config(num_steps=1, warmup_steps=0, learning_rate=1e38)
    with pytest.raises(BrokenRun, match="the validation loss is nan at step 0: lower the learning rate"):
        pretrain(wild, tmp_path / "run", data=data, progress=False)
    assert os.listdir(tmp_path) == []


def test_validation_rows_too_short_to_hide_anything(data, tmp_path):
    nothing = loop.PretrainData(data.tokenizer, data.train_ids, np.array([[2, 3] + [0] * 14]))
    with pytest.raises(CourseError, match="validation texts are too few or too short"):
        pretrain(small_config(), tmp_path / "run", data=nothing, progress=False)
    assert os.listdir(tmp_path) == []


def test_runs_of_different_precision_in_one_program(data, tmp_path):
    for precision in ("no", "bf16"):
        run = pretrain(small_config(mixed_precision=precision), tmp_path / precision, data=data, progress=False)
        assert math.isfinite(run.history["validation"][-1]["loss"])


@pytest.mark.parametrize(("stop_at", "states"), [(2, 0), (5, 1)])
def test_an_interrupted_run_keeps_its_last_complete_state(data, tmp_path, monkeypatch, stop_at, states):
    "Checkpoints come after updates 3 and 6: stopped before the third nothing is left, after it the third's state is."
    real = loop.Training.update

    def interrupted(self, step):
        if step == stop_at:
            raise KeyboardInterrupt
        return real(self, step)

    monkeypatch.setattr(loop.Training, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(small_config(), tmp_path / "run", data=data, progress=False)
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "run.partial").exists() == bool(states)
    if states:
        assert AutoModelForMaskedLM.from_pretrained(tmp_path / "run.partial").config.hidden_size == 16
        assert len(json.loads((tmp_path / "run.partial" / "history.json").read_text())["validation"]) == states


def test_a_run_answers_what_its_folder_holds(data, tmp_path):
    result = pretrain(small_config(), tmp_path / "run", data=data, progress=False)
    assert isinstance(result, RunResult) and result.folder == tmp_path / "run" and not result.model.training
    assert result.history == json.loads((result.folder / "history.json").read_text())
    assert AutoTokenizer.from_pretrained(result.folder).model_max_length == 16  # so that others cut texts where the model's reading ends
    saved = MicroBertForMaskedLM.from_pretrained(result.folder)
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), result.model.parameters(), strict=True))


def test_whoever_asks_sees_the_model_after_each_evaluation(data, tmp_path):
    "With the newest score, before the run goes on."
    seen = []
    result = pretrain(small_config(), tmp_path / "run", data=data, progress=False,
                      on_evaluation=lambda model, score: seen.append((type(model), dict(score))))
    assert seen == [(MicroBertForMaskedLM, score) for score in result.history["validation"]]


def test_a_long_run_writes_down_some_of_its_updates(data, tmp_path, monkeypatch):
    "So that its history stays readable: every third of 6 where only 2 may be kept."
    from microbert_course.training import run_log

    monkeypatch.setattr(run_log, "_MOST_IN_HISTORY", 2)
    run = pretrain(small_config(), tmp_path / "run", data=data, progress=False)
    assert [update["step"] for update in run.history["train"]] == [0, 3]


def test_log_lines_say_how_it_goes(data, tmp_path, capfd):
    pretrain(small_config(log_every=2), tmp_path / "run", data=data, progress=True)
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("update")]
    assert len(lines) == 3
    for part in ("loss", "accuracy", "grad norm", "rate", "tokens/s", "MFU"):
        assert part in lines[0]


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare, for a small disk of its own")
def test_a_full_disk_costs_no_checkpoint(tmp_path):
    "In a save: the old checkpoint loads, the sentence says what happened, and the next start leaves no debris."
    script = f"""
set -e
mount -t tmpfs -o size=600k tmpfs {tmp_path}
{sys.executable} {SMALL_RUN} {tmp_path}/run num_steps=40 save_every=1 eval_every=40 keep_checkpoints=30 >{tmp_path}/../said 2>&1 || true
ls -A {tmp_path}/run.partial/checkpoints > {tmp_path}/../left
rm -rf $(ls -d {tmp_path}/run.partial/checkpoints/step-* | head -n -2)
{sys.executable} {SMALL_RUN} {tmp_path}/run num_steps=40 save_every=40 eval_every=40 keep_checkpoints=1
ls -A {tmp_path}/run/checkpoints > {tmp_path}/../after
"""
    done = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", script], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120)
    if any(line.startswith(("unshare:", "mount:")) for line in done.stderr.splitlines()):
        pytest.skip("this system lets nobody mount a disk of one's own")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "No space left on device" in (tmp_path.parent / "said").read_text()
    left = (tmp_path.parent / "left").read_text().split()
    assert left and all(name.startswith("step-") for name in left)
    assert (tmp_path.parent / "after").read_text().split() == ["step-00000040"]
