"""`configs/` and `microbert launch`: every file is one that accelerate and the command line take, and those for CPUs really run."""

import json
import os
import shlex
import subprocess
import sys

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from microbert_course.cli.launch import launch_files
from microbert_course.cli.main import main, parse
from microbert_course.paths import course_root

CONFIGS = {name: path for name, path in launch_files().items() if path.suffix == ".yaml"}
SCRIPTS = {name: path for name, path in launch_files().items() if path.suffix == ".sh"}


def command_in(text: str) -> list[str]:
    "The words of the line that launches."
    line = next(line for line in text.splitlines() if "accelerate launch" in line)
    return shlex.split(line.lstrip("# "))


def test_all_launch_files_are_there():
    assert set(CONFIGS) == {"cpu", "cpu-2proc", "gpu-1", "gpu-2", "gpu-4", "gpu-8", "fsdp-8", "two-nodes-rank0", "two-nodes-rank1", "elastic", "tpu"}
    assert set(SCRIPTS) == {"8gpu-standard", "8gpu-fast", "8gpu-quality", "24gb", "one-gpu"}


@pytest.mark.parametrize("name", CONFIGS)
def test_accelerate_reads_the_file_and_its_command_names_it(name):
    text = CONFIGS[name].read_text()
    assert load_config_from_file(str(CONFIGS[name])).num_processes == yaml.safe_load(text)["num_processes"]
    words = command_in(text)
    assert f"configs/accelerate/{name}.yaml" in words
    parse(words[words.index("microbert_course") + 1 :])


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_scripts_command_is_one_that_the_command_line_takes(name):
    text = SCRIPTS[name].read_text()
    subprocess.run(["bash", "-n", str(SCRIPTS[name])], check=True)
    words = command_in(text)
    assert (course_root() / words[words.index("--config_file") + 1]).is_file()
    parse([word for word in words[words.index("microbert_course") + 1 :] if word != "$@"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "processes"), [("cpu", 1), ("cpu-2proc", 2)])
def test_the_files_for_cpus_run_with_that_many_processes(tmp_path, name, processes):
    "A run that silently has one process where two were asked for is the trap here."
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(f"the good film number {number} was good and long ." for number in range(120)))
    small = f"--data {texts} --vocab-size 60 --num-steps 4 --eval-every 2 --warmup-steps 1 --batch-size 8 --hidden-size 8 --device cpu --folder {tmp_path}/run"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS[name]), "-m", "microbert_course", "pretrain", "tour",
              *shlex.split(small)]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=240, env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "training.json").read_text())["about"]["processes"] == processes
    assert done.stdout.count("validation loss") == 1  # one process speaks


def test_show_and_write(tmp_path, capsys):
    assert main(["launch", "show", "gpu-2"]) == 0
    assert capsys.readouterr().out == CONFIGS["gpu-2"].read_text()
    assert main(["launch", "write", "24gb", "--folder", str(tmp_path)]) == 0
    assert os.access(tmp_path / "24gb.sh", os.X_OK) and (tmp_path / "24gb.sh").read_text() == SCRIPTS["24gb"].read_text()
    assert main(["launch", "write", "24gb", "--folder", str(tmp_path)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["launch", "show", "gpu-3"]) == 1
    assert "no launch file 'gpu-3': choose one of" in capsys.readouterr().err
