"""`training.remote`: a run at an address is whole up there or absent, and goes on from there on another machine, to the bit.

memory:// and file:// are tested everywhere. s3:// runs against moto's server and az:// against Azurite, which the tests start on a free
port of this machine where `make cloud-servers` has put them. No such server was to be had for gs://: nothing here tests that."""

import base64
import contextlib
import email.utils
import hashlib
import hmac
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from importlib.util import find_spec
from pathlib import Path

import pytest
from small_run import small_config, small_data
from test_run import differences, interrupt, needs_sigkill, outcome, program
from transformers import AutoModelForMaskedLM

from microbert_course.errors import CourseError
from microbert_course.manifests import damage
from microbert_course.paths import course_root
from microbert_course.training.remote import RemoteRun, Store, checkpoints_in, run_folder
from microbert_course.training.run import pretrain
from microbert_course.training.run_folder import RunFolder

SERVERS = Path(os.environ.get("MICROBERT_CLOUD_SERVERS", course_root() / ".cloud"))
AZURITE_ACCOUNT = "devstoreaccount1"  # it and its key are in Azurite's documentation
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
IN_PROCESS, ALL = ["memory", "file"], ["memory", "file", "s3", "az"]


class Killed(BaseException):
    "The process ends here."


@pytest.fixture(scope="module")
def data():
    return small_data()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    "What nine updates come to when nothing happens, and the bytes of the best model."
    folder = pretrain(small_config(num_steps=9), tmp_path_factory.mktemp("whole") / "run", data=data, progress=False).folder
    return outcome(folder), (folder / "best" / "model.safetensors").read_bytes()


@contextlib.contextmanager
def server(program: str, *words: str):
    "A server on a free port of this machine; skips the test if it is not installed or does not come up."
    if find_spec("obstore") is None:
        pytest.skip('obstore is not installed: pip install -e ".[cloud]"')
    if not (SERVERS / program).exists():
        pytest.skip(f"no {Path(program).name} in {SERVERS}: `make cloud-servers` puts it there")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([SERVERS / program, *(word.format(port=port) for word in words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        else:
            pytest.skip(f"{program} did not come up in 30 seconds")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def s3():
    "moto's server with a bucket."
    with server("bin/moto_server", "-H", "127.0.0.1", "-p", "{port}") as url:
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"))
        yield {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def az():
    "Azurite with a container."
    with server("node_modules/.bin/azurite-blob", "--blobHost", "127.0.0.1", "--blobPort", "{port}", "--inMemoryPersistence",
                "--skipApiVersionCheck", "--silent", "--disableTelemetry") as url:
        date, version = email.utils.formatdate(usegmt=True), "2021-08-06"
        words = f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:{version}\n/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/bucket\nrestype:container"
        signed = base64.b64encode(hmac.digest(base64.b64decode(AZURITE_KEY), words.encode(), "sha256")).decode()
        urllib.request.urlopen(urllib.request.Request(f"{url}/{AZURITE_ACCOUNT}/bucket?restype=container", method="PUT", headers={
            "x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {AZURITE_ACCOUNT}:{signed}"}))
        yield {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": url}


@pytest.fixture
def address(request, tmp_path, monkeypatch):
    "A fresh address of the kind that the test was parametrised with."
    name = f"run-{uuid.uuid4().hex[:8]}"
    if request.param in ("s3", "az"):
        for variable, value in request.getfixturevalue(request.param).items():
            monkeypatch.setenv(variable, value)
        return f"{request.param}://bucket/runs/{name}"
    return f"memory://{name}" if request.param == "memory" else f"file://{tmp_path.as_posix()}/up/{name}"


def at(*kinds):
    return pytest.mark.parametrize("address", kinds, indirect=True)


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    "Sets the machine that the test is on: each has a cache of its own."
    def move(name):
        monkeypatch.setenv("MICROBERT_CACHE", str(tmp_path / name))
    move("first")
    return move


def run(address, data, resume=None, overwrite=False, **changes):
    return pretrain(small_config(**{"num_steps": 9, **changes}), address, data=data, progress=False, resume=resume, overwrite=overwrite)


def brought_here(address, folder) -> Path:
    "All that is up there, in a folder."
    store = Store(address)
    for name in store.sizes():
        store.fetch(name, folder / name)
    return folder


def checkpoints_at(address) -> list[str]:
    return checkpoints_in(Store(address).sizes())


def damage_newest(address, file="model.safetensors") -> str:
    "Flip a bit up there; answers the checkpoint's name."
    store, newest = Store(address), checkpoints_at(address)[0]
    content = bytearray(b"".join(store.parts(f"checkpoints/{newest}/{file}")))
    content[-5] ^= 1
    store.files.pipe_file(f"{store.root}/checkpoints/{newest}/{file}", bytes(content))
    return newest


def at_put(monkeypatch, part: str, deed):
    "Before a file whose name has this part is copied up, something happens."
    real = Store.put

    def put(self, path, name):
        if part in name:
            deed(self, name)
        return real(self, path, name)

    monkeypatch.setattr(Store, "put", put)


def fails(*words):
    raise OSError("the line is dead")


# --- a whole run

@at(*ALL)
def test_a_finished_run_is_complete_up_there(address, data, whole, tmp_path, monkeypatch, capsys):
    "Every file, byte for byte; training.json is written last, and nothing is there that a run in a folder does not have."
    order, real = [], Store.put
    monkeypatch.setattr(Store, "put", lambda self, path, name: (order.append(name), real(self, path, name)))
    result = run(address, data)
    there = brought_here(address, tmp_path / "there")
    assert differences(outcome(there), whole[0]) == []
    names = {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()}
    assert names == {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*") if path.is_file()}
    assert all((there / name).read_bytes() == (result.folder / name).read_bytes() for name in names)
    assert [path.name for path in sorted((there / "checkpoints").iterdir())] == ["step-00000006", "step-00000009"]
    assert all(damage(path) is None for path in (there / "checkpoints").iterdir())
    assert AutoModelForMaskedLM.from_pretrained(there).config.hidden_size == 16
    assert order[0] == "run.json" and order[-1] == "training.json" and order.count("training.json") == 1
    assert f"the finished run is in {address}\n" in capsys.readouterr().out


@at(*ALL)
def test_an_interrupted_run_goes_on_on_another_machine_to_the_bit(address, data, whole, machine, tmp_path):
    "The best model so far travels too: its bytes are those of the undisturbed run."
    interrupt(small_config(num_steps=9), address, data, at=5)
    assert "training.json" not in Store(address).sizes()
    machine("second")
    result = run(address, data, resume="latest")
    assert (result.folder / "best" / "model.safetensors").read_bytes() == whole[1]
    there = brought_here(address, tmp_path / "there")
    assert differences(outcome(there), whole[0]) == [] and (there / "best" / "model.safetensors").read_bytes() == whole[1]


def test_the_best_model_is_found_again_when_it_is_older_than_the_checkpoint(data, machine, monkeypatch):
    from microbert_course.training import run as module

    scores = iter([2.0, 2.5, 2.4])
    monkeypatch.setattr(module, "evaluate", lambda *_: {"loss": next(scores), "accuracy": 0.0})
    address, kept = "memory://best", []
    with pytest.raises(Killed):
        pretrain(small_config(num_steps=9), address, data=data, progress=False, on_evaluation=lambda model, score: kept.append(
            Store(address).files.cat_file("/best/best/model.safetensors")) if score["step"] < 5 else (_ for _ in ()).throw(Killed))
    machine("second")
    assert (run(address, data, resume="latest").folder / "best" / "model.safetensors").read_bytes() == kept[0]


# --- what is damaged or half

@at(*ALL)
def test_a_damaged_checkpoint_up_there_is_passed_over_with_one_line(address, data, whole, machine, tmp_path, capsys):
    interrupt(small_config(num_steps=9), address, data, at=5)
    newest = damage_newest(address)
    machine("second")
    capsys.readouterr()
    run(address, data, resume="latest")
    said = capsys.readouterr().out.splitlines()
    assert said == [f"the checkpoint {newest} in {address} is passed over: model.safetensors holds other bytes than were written",
                    f"the finished run is in {address}"]
    there = brought_here(address, tmp_path / "there")
    assert differences(outcome(there), whole[0]) == [] and damage(there / "checkpoints" / newest) is None  # written anew


@at(*IN_PROCESS)
def test_a_run_does_not_begin_anew_where_all_checkpoints_are_damaged(address, data, machine):
    interrupt(small_config(), address, data, at=2)
    damage_newest(address, "manifest.json")
    machine("second")
    with pytest.raises(CourseError, match=f"no checkpoint in {address} can be used: restore one, or begin anew with --overwrite"):
        run(address, data, resume="latest", num_steps=6)
    assert checkpoints_at(address) == ["step-00000003"] and not list((Path(os.environ["MICROBERT_CACHE"]) / "runs").iterdir())


@at(*ALL)
def test_a_checkpoint_without_its_manifest_does_not_exist(address, data, whole, machine, tmp_path, monkeypatch, capsys):
    "Killed when all its files are up there and the manifest is not."
    def killed(store, name):
        raise Killed
    with monkeypatch.context() as patched, pytest.raises(Killed):
        at_put(patched, "step-00000006/manifest.json", killed)
        run(address, data)
    names = Store(address).sizes()
    assert {"checkpoints/step-00000006/model.safetensors", "checkpoints/step-00000006/optimizer.safetensors"} <= names.keys()
    assert checkpoints_in(names) == ["step-00000003"]
    machine("second")
    run(address, data, resume="latest")
    assert "passed over" not in capsys.readouterr().out
    assert differences(outcome(brought_here(address, tmp_path / "there")), whole[0]) == []


def test_killed_before_its_first_manifest_a_run_begins_anew_unasked(data, tmp_path, monkeypatch):
    "There is nothing to lose; the remains of the first try are taken away."
    address = "memory://first-try"
    def killed(store, name):
        raise Killed
    with monkeypatch.context() as patched, pytest.raises(Killed):
        at_put(patched, "step-00000003/manifest.json", killed)
        run(address, data)
    shutil.rmtree(tmp_path / "first")
    run(address, data, num_steps=2, eval_every=2)
    assert checkpoints_at(address) == ["step-00000002"]
    assert not any("step-00000003" in name for name in Store(address).sizes())


@needs_sigkill
@pytest.mark.slow
@pytest.mark.parametrize("number", [17, 33])  # of 48 objects: in the first checkpoint, before the manifest of the second
def test_a_process_killed_while_it_copies_loses_nothing(data, whole, machine, tmp_path, number):
    address = f"file://{tmp_path.as_posix()}/up/run"
    killed = program(address, "--kill", "put", str(number), "num_steps=9")
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    machine("second")
    resumed = program(address, "num_steps=9")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert differences(outcome(tmp_path / "up" / "run"), whole[0]) == []


# --- rotation

@at(*IN_PROCESS, "s3")
def test_older_checkpoints_are_deleted_up_there_only_after_the_new_one_was_read_back(address, data, monkeypatch):
    events, put, remove = [], Store.put, Store.remove

    def watched(self, path, name):
        put(self, path, name)
        events.append(f"put {name}")

    def deleting(self, names):
        events.extend(f"removed {name}" for name in names)
        remove(self, names)

    monkeypatch.setattr(Store, "put", watched)
    monkeypatch.setattr(Store, "remove", deleting)
    run(address, data, keep_checkpoints=1)
    assert checkpoints_at(address) == ["step-00000009"]
    for old, new in (("step-00000003", "step-00000006"), ("step-00000006", "step-00000009")):
        gone = events.index(f"removed checkpoints/{old}/manifest.json", events.index(f"put checkpoints/{old}/manifest.json"))
        assert events.index(f"put checkpoints/{new}/manifest.json") < gone
        assert events[gone + 1] == f"removed checkpoints/{old}/model.safetensors"  # its manifest is the first to go


@pytest.mark.parametrize("machine_then", ["first", "second"])
def test_damaged_ones_of_later_updates_do_not_crowd_out_what_was_just_saved(data, whole, machine, machine_then):
    "Neither where they lie up there alone, nor where they lie here too."
    address = f"memory://crowded-{machine_then}"
    interrupt(small_config(num_steps=9, eval_every=6, save_every=2, keep_checkpoints=3), address, data, at=5)
    for name in ("step-00000006", "step-00000004"):
        Store(address).files.pipe_file(f"{Store(address).root}/checkpoints/{name}/state.json", b"{}")
        (run_folder(address).path / "checkpoints" / name / "state.json").write_text("{}")
    machine(machine_then)
    with pytest.raises(Killed):
        pretrain(small_config(num_steps=9, eval_every=3), address, data=data, progress=False, resume="latest",
                 on_evaluation=lambda model, score: (_ for _ in ()).throw(Killed))
    assert checkpoints_at(address) == ["step-00000006", "step-00000003"]
    machine("third")
    assert differences({**outcome(run(address, data, resume="latest").folder), "history": whole[0]["history"]}, whole[0]) == []


@at(*IN_PROCESS)
def test_a_copy_that_comes_back_as_other_bytes_replaces_nothing(address, data, monkeypatch, capsys):
    "The older one stays, one line says so, the run goes on, and the next checkpoint is copied."
    real, seen = Store.parts, []

    def broken(self, name):
        parts = list(real(self, name))
        return [b"other"] if name.startswith("checkpoints/step-00000006/model") else parts

    monkeypatch.setattr(Store, "parts", broken)
    pretrain(small_config(num_steps=9, keep_checkpoints=1), address, data=data, progress=False,
             on_evaluation=lambda model, score: seen.append(checkpoints_at(address)))
    assert seen == [["step-00000003"], ["step-00000003"], ["step-00000009"]]
    line = [line for line in capsys.readouterr().out.splitlines() if "is not in" in line]
    assert len(line) == 1 and line[0].startswith(f"the checkpoint step-00000006 is not in {address} (checkpoints/step-00000006/"
                                                 "model.safetensors came back as other bytes than were sent): it is in ")


# --- the line goes dead

@at(*IN_PROCESS)
def test_a_failure_on_the_way_costs_neither_the_run_nor_a_checkpoint(address, data, whole, tmp_path, monkeypatch, capsys):
    "Interrupted afterwards, the run goes on from the newer checkpoint that is here, and nothing older is fetched."
    config = small_config(num_steps=9, keep_checkpoints=1)
    with monkeypatch.context() as patched:
        at_put(patched, "step-00000006", fails)
        interrupt(config, address, data, at=5)
    assert "is not in" in capsys.readouterr().out and checkpoints_at(address) == ["step-00000003"]
    seen = []
    with monkeypatch.context() as patched:
        patched.setattr(Store, "fetch", fails)
        pretrain(config, address, data=data, progress=False, resume="latest", on_evaluation=lambda model, score: seen.append(score["step"]))
    assert seen == [8]
    assert differences(outcome(brought_here(address, tmp_path / "there")), whole[0]) == []


@at(*IN_PROCESS)
@pytest.mark.parametrize("part", ["step-00000009", "training.json"])
def test_a_failure_at_the_end_names_the_folder_and_can_be_mended(address, data, whole, tmp_path, monkeypatch, part):
    with monkeypatch.context() as patched:
        at_put(patched, part, fails)
        with pytest.raises(CourseError, match=r"the run is done and lies in (\S+), but could not be copied to .* \(the line is dead\)") as caught:
            run(address, data)
    folder = Path(str(caught.value).split(" lies in ")[1].split(",")[0])
    assert differences(outcome(folder), whole[0]) == [] and "training.json" not in Store(address).sizes()
    run(address, data, resume="latest")
    assert "training.json" in Store(address).sizes()
    assert differences(outcome(brought_here(address, tmp_path / "there")), whole[0]) == []


def test_a_server_that_dies_on_the_way(data, whole, monkeypatch, capsys):
    "The run goes on to its end and says where it is; when the server is back, --resume latest copies it."
    with contextlib.ExitStack() as alive:
        def moto():
            url = alive.enter_context(server("bin/moto_server", "-H", "127.0.0.1", "-p", "{port}"))
            urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"))
            for name, value in {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}.items():
                monkeypatch.setenv(name, value)

        moto()
        with pytest.raises(CourseError, match="the run is done and lies in .*, but could not be copied to s3://bucket/run"):
            pretrain(small_config(num_steps=9), "s3://bucket/run", data=data, progress=False, on_evaluation=lambda model, score: alive.close())
        assert capsys.readouterr().out.count("is not in s3://bucket/run") == 2
        moto()
        result = run("s3://bucket/run", data, resume="latest")
        assert "training.json" in Store("s3://bucket/run").sizes() and differences(outcome(result.folder), whole[0]) == []


@pytest.mark.slow
def test_of_several_processes_the_first_talks_to_the_store(whole, tmp_path):
    "All end alike where it is refused."
    address = f"file://{tmp_path.as_posix()}/up/run"
    done = program(address, "num_steps=9", processes=2)
    assert done.returncode == 0 and done.stdout.count("the finished run is in") == 1, done.stderr[-2000:]
    assert checkpoints_at(address) == ["step-00000009", "step-00000006"] and "training.json" in Store(address).sizes()
    (tmp_path / "up" / "other").mkdir()
    (tmp_path / "up" / "other" / "thesis.txt").touch()
    refused = program(f"file://{tmp_path.as_posix()}/up/other", processes=2, timeout=60)
    assert refused.returncode != 0 and refused.stderr.count("CourseError: file://") == 2


# --- whose the address is

@at(*IN_PROCESS, "s3")
@pytest.mark.parametrize("machine_then", ["first", "second"])
def test_a_finished_run_is_not_replaced_unasked(address, data, machine, machine_then):
    "Asked, the old one stays until the new one has its first checkpoint."
    old = run(address, data)
    before = Store(address).sizes()
    machine(machine_then)
    with pytest.raises(CourseError, match=f"{address} holds a finished run: choose another folder, or pass --overwrite to replace it"):
        run(address, data)
    def killed(step):
        raise Killed
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        patched.setattr("microbert_course.training.loop.Training.update", lambda self, step: killed(step))
        run(address, data, overwrite=True, seed=1)
    assert Store(address).sizes() == before
    new = run(address, data, overwrite=True, seed=1, num_steps=3)
    assert new.history != old.history and checkpoints_at(address) == ["step-00000003"]


def test_a_finished_run_can_go_on_elsewhere(data, whole, machine, tmp_path):
    "While it does, it is not finished up there."
    address, seen = "memory://longer", []
    run(address, data, max_tokens=300)
    machine("second")
    pretrain(small_config(num_steps=9), address, data=data, progress=False, resume="latest",
             on_evaluation=lambda model, score: seen.append("training.json" in Store(address).sizes()))
    found = outcome(brought_here(address, tmp_path / "there"))
    assert seen and not any(seen) and differences({**found, "history": whole[0]["history"]}, whole[0]) == []


@at(*IN_PROCESS, "az")
@pytest.mark.parametrize("machine_then", ["first", "second"])
def test_an_interrupted_run_is_not_thrown_away_unasked(address, data, machine, machine_then):
    interrupt(small_config(num_steps=9), address, data, at=5)
    machine(machine_then)
    with pytest.raises(CourseError, match=f"{address} holds an interrupted run: pass --resume latest to go on, or --overwrite to start anew"):
        run(address, data)
    assert checkpoints_at(address) == ["step-00000006", "step-00000003"]
    run(address, data, overwrite=True, num_steps=3)
    assert checkpoints_at(address) == ["step-00000003"]


@at(*ALL)
def test_what_is_no_run_is_never_replaced(address, data):
    store = Store(address)
    store.files.makedirs(store.root, exist_ok=True)
    store.files.pipe_file(f"{store.root}/thesis.txt", b"four years")
    with pytest.raises(CourseError, match=f"{address} is there and is no training run, so it is not replaced"):
        run(address, data, overwrite=True)
    assert store.sizes() == {"thesis.txt": 10}


def test_resume_and_overwrite_contradict_each_other(data):
    with pytest.raises(CourseError, match="either resumed or overwritten"):
        run("memory://contradiction", data, overwrite=True, resume="latest")


def test_a_run_that_another_machine_replaced_is_forgotten_here(data, machine, tmp_path):
    "The address says which run it holds; what this machine still has of an older one is not mixed into it."
    address = "memory://replaced"
    interrupt(small_config(num_steps=9), address, data, at=5)
    machine("second")
    with pytest.raises(KeyboardInterrupt):
        pretrain(small_config(num_steps=9, seed=1), address, overwrite=True, data=data, progress=False, on_evaluation=_stop)
    machine("first")
    run(address, data, resume="latest", seed=1)
    expected = pretrain(small_config(num_steps=9, seed=1), tmp_path / "seed1", data=data, progress=False)
    assert differences(outcome(brought_here(address, tmp_path / "there")), outcome(expected.folder)) == []


def _stop(model, score):
    raise KeyboardInterrupt


def test_a_run_begun_meanwhile_by_another_machine_is_left_alone(data, machine, tmp_path):
    "The slower one says so after its checkpoints and ends with an error; its own work is in its own folder."
    address = "memory://race"

    def other(model, score):
        if score["step"] == 2:
            machine("second")
            run(address, data, overwrite=True, seed=1, num_steps=3)
            machine("first")

    with pytest.raises(CourseError, match="could not be copied to memory://race .something else has been put there meanwhile"):
        pretrain(small_config(num_steps=9), address, data=data, progress=False, on_evaluation=other)
    assert checkpoints_at(address) == ["step-00000003"] and "training.json" in Store(address).sizes()


def test_of_two_machines_that_may_replace_a_run_only_the_first_does(data, machine, monkeypatch):
    "Both were told to overwrite the same old run, and one had its first checkpoint before the other."
    address, real = "memory://both", RemoteRun.copy_up
    run(address, data, num_steps=3)

    def late(self):
        monkeypatch.setattr(RemoteRun, "copy_up", real)
        machine("second")
        run(address, data, overwrite=True, seed=1, num_steps=3)
        machine("first")
        real(self)

    monkeypatch.setattr(RemoteRun, "copy_up", late)
    with pytest.raises(CourseError, match="something else has been put there meanwhile"):
        run(address, data, overwrite=True, seed=2, num_steps=6)
    assert checkpoints_at(address) == ["step-00000003"] and "training.json" in Store(address).sizes()


def test_the_address_of_a_checkpoint_can_be_resumed_from(data, whole, machine, tmp_path):
    address = "memory://named"
    interrupt(small_config(num_steps=9), address, data, at=5)
    machine("second")
    with pytest.raises(CourseError, match="is no checkpoint of this run: give one of memory://named/checkpoints/, or `latest`"):
        run(address, data, resume=f"{address}/checkpoints/step-00000004")
    run(address, data, resume=f"{address}/checkpoints/step-00000003")
    assert differences(outcome(brought_here(address, tmp_path / "there")), whole[0]) == []


def test_two_programs_on_one_machine_do_not_write_one_run(data, monkeypatch):
    "The second is refused before it fetches anything into the folder of the first."
    def meanwhile(model, score):
        shutil.rmtree(run_folder("memory://twice").path / "checkpoints")  # so that there is something to fetch
        with monkeypatch.context() as patched, pytest.raises(CourseError, match="is in use by another process"):
            patched.setattr(Store, "fetch", fails)
            run("memory://twice", data, resume="latest")
        seen.append(score)
    seen = []
    pretrain(small_config(), "memory://twice", data=data, progress=False, on_evaluation=meanwhile)
    assert len(seen) == 2


# --- what keeps a run from beginning

def refusal(address, data, within_s=15) -> str:
    "The sentence that a run at this address is refused with, before any training."
    begun = time.monotonic()
    with pytest.raises(CourseError) as caught:
        run(address, data)
    assert time.monotonic() - begun < within_s
    assert str(caught.value).startswith(address) and "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


@at("s3", "az")
def test_a_missing_bucket(address, data):
    assert "there is no such bucket or container: make it, or correct the address" in refusal(address.replace("bucket", "another"), data)


def test_wrong_credentials_for_azure(data, az, monkeypatch):
    for name, value in {**az, "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"wrong").decode()}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AZURE_STORAGE_USE_EMULATOR")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", AZURITE_ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{az['AZURITE_BLOB_STORAGE_URL']}/{AZURITE_ACCOUNT}")
    assert "the credentials are missing or refused: set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY" in refusal("az://bucket/run", data)


def test_wrong_credentials_for_s3(data, s3, monkeypatch):
    for name, value in s3.items():
        monkeypatch.setenv(name, value)

    def unchecked(requests: bytes):  # so many of them may come without valid credentials
        urllib.request.urlopen(urllib.request.Request(f"{s3['AWS_ENDPOINT_URL']}/moto-api/reset-auth", data=requests, method="POST",
                                                      headers={"Content-Type": "text/plain"}))

    unchecked(b"0")
    try:
        assert "the credentials are missing or refused: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in refusal("s3://bucket/run", data)
    finally:
        unchecked(b"inf")


@pytest.mark.parametrize("answers", [False, True], ids=["nobody listens", "nobody answers"])
def test_a_server_out_of_reach(data, monkeypatch, answers):
    pytest.importorskip("obstore", reason='obstore is not installed: pip install -e ".[cloud]"')
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if answers:
            silent.listen()
        for name, value in {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}", "AWS_ACCESS_KEY_ID": "a",
                            "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}.items():
            monkeypatch.setenv(name, value)
        assert "correct the address, or see to the network and the server" in refusal("s3://bucket/run", data, within_s=30)


def test_a_store_that_may_only_be_read(data, monkeypatch):
    def denied(*words):
        raise PermissionError("writing is denied")
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.pipe_file", denied)
    assert "(writing is denied): the credentials are missing or refused" in refusal("memory://readable", data)


def test_a_missing_extra(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.fsspec", None)
    assert refusal("s3://bucket/run", data).endswith('run `pip install -e ".[cloud]"`')
    assert "obstore" in refusal("s3://bucket/run", data)


def test_an_address_that_nobody_knows(data):
    assert "Protocol not known: nosuch" in refusal("nosuch://bucket/run", data)


def test_nothing_is_left_of_a_run_that_was_refused(data, tmp_path):
    refusal("nosuch://bucket/run", data)
    assert not (tmp_path / "first" / "runs").exists()


@pytest.mark.parametrize("folder", [Path("s3://bucket/run"), "s3:/bucket/run"])
def test_an_address_that_became_a_path_is_refused(folder):
    with pytest.raises(CourseError, match="was an address before it became a Path: pass it as text"):
        run_folder(folder)


@pytest.mark.parametrize("folder", ["s3://", "s3:///", "file://"])
def test_an_address_that_names_nothing_is_refused(folder):
    "As of `s3://$BUCKET` without a BUCKET: it must not become a folder `s3:` on this machine."
    with pytest.raises(CourseError, match=f"the address {folder} names no bucket"):
        run_folder(folder)


def test_a_folder_is_a_folder():
    assert type(run_folder("runs/tour")) is RunFolder and type(run_folder("C:/runs/tour")) is RunFolder
    assert type(run_folder("s3://bucket/tour")) is RemoteRun
    assert run_folder("s3://bucket/tour/").path == run_folder("s3://bucket/tour").path != run_folder("gs://bucket/tour").path


def test_the_folder_here_has_a_readable_name(tmp_path):
    digest = hashlib.sha256(b"s3://bucket/a b/tour").hexdigest()[:12]
    assert run_folder("s3://bucket/a b/tour").final == tmp_path / "first" / "runs" / f"tour-{digest}"
