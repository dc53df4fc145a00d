"""`configs/` and `microbert launch`: every file is one that accelerate and the command line take, and what can run on CPUs really runs."""

import importlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import psutil
import pytest
import yaml
from accelerate.commands import launch
from test_run import differences, outcome, workers_of

from microbert_course.cli.launch import launch_files
from microbert_course.cli.main import main, parse
from microbert_course.paths import course_root

CONFIGS = {name: path for name, path in launch_files().items() if path.suffix == ".yaml"}
SCRIPTS = {name: path for name, path in launch_files().items() if path.suffix == ".sh"}
SMALL = ("tour --vocab-size 60 --max-seq-len 12 --num-steps 60 --eval-every 30 --save-every 10 --warmup-steps 5 --batch-size 8 --hidden-size 16 "
         "--device cpu --learning-rate 1e-3")


def command_in(text: str) -> list[str]:
    "The words of the line that launches."
    line = next(line for line in text.splitlines() if "accelerate launch" in line)
    return shlex.split(line.lstrip("# "))


def accelerates_view(name: str) -> dict:
    "What the launcher will do with the file and the command in its comment."
    words = command_in(CONFIGS[name].read_text())
    args = launch.launch_command_parser().parse_args(words[words.index("launch") + 1 :])
    return vars(launch._validate_launch_command(args)[0])


def test_all_launch_files_are_there():
    assert set(CONFIGS) == {"cpu", "cpu-2proc", "gpu-1", "gpu-2", "gpu-4", "gpu-8", "fsdp-8", "two-nodes-rank0", "two-nodes-rank1", "elastic", "tpu"}
    assert set(SCRIPTS) == {"8gpu-standard", "8gpu-fast", "8gpu-quality", "24gb", "one-gpu"}


@pytest.mark.parametrize("name", CONFIGS)
def test_accelerate_does_what_the_file_says(name, monkeypatch):
    "It skips what it knows better from its own defaults, such as rdzv_backend or same_network: no such line may stand in a file."
    monkeypatch.chdir(course_root())
    written, seen = yaml.safe_load(CONFIGS[name].read_text()), accelerates_view(name)
    written.pop("compute_environment")
    kind = {"MULTI_GPU": "multi_gpu", "FSDP": "use_fsdp", "XLA": "tpu"}.get(written.pop("distributed_type"))
    assert [flag for flag in ("multi_gpu", "use_fsdp", "tpu") if seen[flag]] == ([kind] if kind else [])
    written |= written.pop("fsdp_config", {})
    assert {key: (seen[key], value) for key, value in written.items() if str(seen[key]).lower() != str(value).lower()} == {}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_command_in_the_file_names_it_and_is_one_that_the_command_line_takes(name):
    words = command_in(CONFIGS[name].read_text())
    assert f"configs/accelerate/{name}.yaml" in words
    module = words[words.index("-m") + 1]
    parse(words[words.index(module) + 1 :])
    assert importlib.import_module(module).__name__ == module
    if name == "tpu":  # its launcher imports the module and calls this
        assert callable(importlib.import_module(module).main)


def test_an_elastic_run_meets_anew_after_each_restart(monkeypatch):
    "With accelerate's own rendezvous the new processes read the dead ones' addresses, and some hang."
    monkeypatch.chdir(course_root())
    seen = accelerates_view("elastic")
    assert (seen["rdzv_backend"], seen["max_restarts"]) == ("c10d", 3)
    assert command_in(CONFIGS["elastic"].read_text())[0] == "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_scripts_command_is_one_that_the_command_line_takes(name):
    text = SCRIPTS[name].read_text()
    subprocess.run(["bash", "-n", str(SCRIPTS[name])], check=True)
    words = command_in(text)
    assert (course_root() / words[words.index("--config_file") + 1]).is_file()
    parse([word for word in words[words.index("microbert_course") + 1 :] if word != "$@"])


# --- what runs on CPUs: one small run through each file, all with the same outcome

@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(f"the {'good bad odd'.split()[n % 3]} film number {n} was {'good bad odd'.split()[n % 3]} and long ." for n in range(120)))
    return path


@contextmanager
def started(name, folder, texts, launcher="", before=(), **environment):
    "A launch as the file's comment has it, with more words for the launcher and in front; nothing of it is left afterwards."
    words = command_in(CONFIGS[name].read_text())
    settings = dict(word.split("=", 1) for word in words[: words.index("accelerate")])
    command = [*before, sys.executable, "-m", "accelerate.commands.launch", *words[words.index("launch") + 1 : words.index("-m")], *launcher.split(),
               "-m", "microbert_course", "pretrain", *SMALL.split(), "--data", str(texts), "--folder", str(folder), "--resume", "latest"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **settings, **environment}
    process = psutil.Popen(command, cwd=course_root(), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        for one in [*process.children(recursive=True), process] if process.is_running() else []:
            one.kill()
        process.communicate()


def said(process, limit_s=180) -> str:
    "What a launch that went well has said."
    text = process.communicate(timeout=limit_s)[0]
    assert process.returncode == 0, text[-3000:]
    return text


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, texts):
    "The outcome of two processes on one machine."
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    with started("cpu-2proc", folder, texts) as process:
        assert said(process).count("validation loss") == 1  # one process speaks
    return outcome(folder), yaml.safe_load((folder / "training.json").read_text())["about"]["processes"]


@pytest.mark.slow
def test_one_process_and_two_are_the_same_run(tmp_path, texts, undisturbed):
    "And really one and two: a run that silently has one process where two were asked for is the trap here."
    expected, processes = undisturbed
    with started("cpu", tmp_path / "run", texts) as process:
        assert said(process).count("validation loss") == 1
    assert (yaml.safe_load((tmp_path / "run" / "training.json").read_text())["about"]["processes"], processes) == (1, 2)
    for part in ("train", "validation"):
        ours, theirs = ([entry["loss"] for entry in history[part]] for history in (outcome(tmp_path / "run")["history"], expected["history"]))
        assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_an_elastic_run_survives_a_killed_worker_to_the_bit(tmp_path, texts, undisturbed):
    "The others are gone within 30 s, new ones go on from the newest checkpoint, and nobody is left over."
    with started("elastic", tmp_path / "run", texts, "--num_processes 2") as launcher:
        while not list((tmp_path / "run.partial" / "checkpoints").glob("step-*")):
            assert launcher.poll() is None, launcher.communicate()[0][-3000:]
            time.sleep(0.01)
        workers = launcher.children()
        assert len(workers) == 2
        workers[1].kill()
        assert psutil.wait_procs(workers, timeout=30)[1] == []
        assert (tmp_path / "run.partial").exists()  # it was in the middle
        said(launcher)
    assert workers_of(tmp_path / "run") == []
    assert differences(outcome(tmp_path / "run"), undisturbed[0]) == []


def in_network(name, *words):
    return ["ip", "netns", "exec", name, *words]


@contextmanager
def two_networks():
    "Two network namespaces with a cable between them: two machines, as far as sockets can tell. Skips where that is not to be had."
    if not shutil.which("ip") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("two network namespaces need iproute2 and the rights of root")
    names = [f"microbert{os.getpid()}{end}" for end in "ab"]
    cables = [f"mb{os.getpid()}{end}" for end in "ab"]
    with ExitStack() as undo:
        for name in names:
            if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
                pytest.skip("this system lets nobody make network namespaces")
            undo.callback(subprocess.run, ["ip", "netns", "del", name])
        made = subprocess.run(["ip", "link", "add", cables[0], "netns", names[0], "type", "veth", "peer", "name", cables[1], "netns", names[1]],
                              capture_output=True)
        if made.returncode:
            pytest.skip("this system has no veth devices")
        for number, (name, cable) in enumerate(zip(names, cables, strict=True), start=1):
            for words in (f"addr add 10.77.15.{number}/24 dev {cable}", f"link set {cable} up", "link set lo up"):
                subprocess.run(["ip", "-n", name, *words.split()], check=True)
        yield list(zip(names, cables, strict=True))


@pytest.mark.slow
def test_two_machines_are_the_same_run_to_the_bit(tmp_path, texts, undisturbed):
    "Through the two shipped files, with the address and the number of processes of here; only the first machine writes."
    launcher = "--main_process_ip 10.77.15.1 --num_processes 2"
    with two_networks() as machines, ExitStack() as both:
        nodes = [both.enter_context(started(f"two-nodes-rank{rank}", tmp_path / f"run{rank}", texts, launcher, in_network(name), GLOO_SOCKET_IFNAME=cable))
                 for rank, (name, cable) in enumerate(machines)]
        texts_said = [said(node) for node in nodes]
    assert ["validation loss" in text for text in texts_said] == [True, False]
    assert not (tmp_path / "run1").exists() and workers_of(tmp_path / "run0") + workers_of(tmp_path / "run1") == []
    assert differences(outcome(tmp_path / "run0"), undisturbed[0]) == []


# --- the command

def test_show_and_write(tmp_path, capsys):
    assert main(["launch", "show", "gpu-2"]) == 0
    assert capsys.readouterr().out == CONFIGS["gpu-2"].read_text()
    assert main(["launch", "write", "24gb", "--folder", str(tmp_path)]) == 0
    assert os.access(tmp_path / "24gb.sh", os.X_OK) and (tmp_path / "24gb.sh").read_text() == SCRIPTS["24gb"].read_text()
    assert main(["launch", "write", "24gb", "--folder", str(tmp_path)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["launch", "show", "gpu-3"]) == 1
    assert "no launch file 'gpu-3': choose one of" in capsys.readouterr().err
