"""The first minute: what tools/environment.py says where it cannot go on, and when it leaves an environment alone. No network."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import types
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools" / "environment.py"
THIS_PYTHON = "{}.{}.0".format(*sys.version_info)
posix_only = pytest.mark.skipif(os.name == "nt", reason="plays an environment's Python with a shell script")


@pytest.fixture
def environment():
    "tools/environment.py as a module."
    spec = importlib.util.spec_from_file_location("environment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path, environment, monkeypatch):
    "A folder with the files an environment depends on; the script believes that it lives there."
    root = tmp_path / "a checkout"
    root.mkdir()
    for name in environment.INPUTS:
        shutil.copy(ROOT / name, root / name)
    monkeypatch.setattr(environment, "ROOT", str(root))
    return root


def make_fake_venv(venv, python=sys.executable, made_by=THIS_PYTHON):
    "What a look at an environment sees: its pyvenv.cfg and its Python."
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {made_by}\ncommand = /usr/bin/python3 -m venv {venv}\n")
    (venv / "bin" / "python").symlink_to(python)
    return venv


def make_fake_pip(folder, pip):
    "A Python that answers like a good one, and whose pip is the shell lines `pip`; it logs every call of pip."
    script = folder / "fake-python"
    version = "{} {}".format(*sys.version_info)
    script.write_text(f'#!/bin/sh\ncase "$*" in\n*sys.prefix*) echo {version} /somewhere; exit;;\nesac\n'
                      f'echo "$*" >> "{folder}/calls"\n{pip}\n')
    script.chmod(0o755)
    return script


def one_sentence(text):
    "True for one line that ends in one full stop and holds no traceback."
    return text.count("\n") == 1 and text.endswith(".\n") and "Traceback" not in text


def test_the_script_parses_on_old_pythons():
    "Else a Python that is too old answers with a SyntaxError instead of the sentence."
    new = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Nonlocal, ast.AsyncFunctionDef, ast.Starred)
    for node in ast.walk(ast.parse(SCRIPT.read_text(encoding="ascii"))):
        if isinstance(node, ast.arguments):
            assert not node.kwonlyargs and not node.posonlyargs
        if isinstance(node, ast.arg):
            assert node.annotation is None, f"line {node.lineno}"
        if isinstance(node, ast.Raise):
            assert node.cause is None, f"line {node.lineno}"
        if isinstance(node, ast.Call):  # f(*values, more) and f(**more) after it are new as well
            assert all(not isinstance(value, ast.Starred) for value in node.args[:-1]), f"line {node.lineno}"
            continue
        assert not isinstance(node, new) or isinstance(node, ast.Starred), f"line {node.lineno}"


def test_an_old_python_is_told_so():
    "With whichever old ones this machine has; a name on PATH may be a shim of pyenv with nothing behind it."
    names = ["python2.7", *(f"python3.{minor}" for minor in range(4, 11))]
    old = [name for name in names if shutil.which(name) and not subprocess.run([name, "-c", ""], capture_output=True).returncode]
    for name in old:
        answer = subprocess.run([name, SCRIPT], capture_output=True, text=True)
        assert answer.returncode == 1 and answer.stdout == "", name
        assert one_sentence(answer.stderr) and "is too old" in answer.stderr and "apt install python3.11" in answer.stderr, name
    if not old:
        pytest.skip("no Python older than 3.11 on this machine")


def test_a_python_that_is_too_old_changes_nothing(environment, checkout, monkeypatch, capsys):
    monkeypatch.setattr(environment, "sys", types.SimpleNamespace(version_info=(3, 9, 2), executable="/usr/bin/python3", stderr=sys.stderr))
    assert environment.main([]) == 1
    said = capsys.readouterr().err
    assert one_sentence(said)
    assert said.startswith("Python 3.9.2 (/usr/bin/python3) is too old") and "`make course PYTHON=python3.11`" in said
    assert not (checkout / ".venv").exists()


def test_a_python_without_venv_is_answered_with_the_package_to_install(environment, checkout, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ensurepip", None)  # as on Debian without python3-venv
    assert environment.main([]) == 1
    said = capsys.readouterr().err
    assert one_sentence(said) and "`apt install python{}.{}-venv`".format(*sys.version_info) in said
    assert not (checkout / ".venv").exists()


def test_a_small_disk_is_refused_before_anything_is_written(environment, checkout, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=900 * 2**20))
    assert environment.main([]) == 1
    said = capsys.readouterr().err
    assert one_sentence(said) and f"needs about {environment.NEED_MB / 1000:.1f} GB in {checkout}, where 0.9 GB are free: make room" in said
    assert not (checkout / ".venv").exists()


def test_what_an_interrupted_install_left_counts_as_room(environment, checkout, monkeypatch, capsys):
    "Else the second try is refused for the space that the first one took."
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=900 * 2**20))
    monkeypatch.setattr(environment, "make_venv", lambda venv: None)
    monkeypatch.setattr(environment, "install", lambda *arguments: None)
    (checkout / ".venv").mkdir()
    monkeypatch.setattr(environment, "size_mb", lambda folder: 1500)
    assert environment.main([]) == 1 and f"needs about {(environment.NEED_MB - 1500) / 1000:.1f} GB" in capsys.readouterr().err
    monkeypatch.setattr(environment, "size_mb", lambda folder: environment.NEED_MB - 800)
    assert environment.main([]) == 0


def test_the_size_of_a_folder_is_that_of_its_files(environment, tmp_path):
    (tmp_path / "inner").mkdir()
    for path in (tmp_path / "a", tmp_path / "inner" / "b"):
        path.write_bytes(bytes(3 * 2**19))
    assert environment.size_mb(str(tmp_path)) == 3


@pytest.mark.parametrize("line, is_refused", [("Would install torch-2.13.0", True), ("Would install torch-2.13.0+cpu", False),
                                              ("Requirement already satisfied: torch", False)])
def test_the_cuda_build_needs_more_room(environment, monkeypatch, tmp_path, line, is_refused):
    "Which build it is was chosen by pip's settings, so pip is asked, before gigabytes move."
    monkeypatch.setattr(environment, "run_pip", lambda *arguments: [line])
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=5000 * 2**20))
    if not is_refused:
        return environment.check_torch_build(str(tmp_path), str(ROOT), None)
    with pytest.raises(environment.Problem, match=r"CUDA build.* needs about 11.0 GB .* 5.0 GB are free"):
        environment.check_torch_build(str(tmp_path), str(ROOT), None)


@posix_only
def test_a_stamp_holds_until_a_file_or_the_place_or_the_python_changes(environment, checkout):
    python = checkout.with_name("python3.11")
    python.touch()
    venv = make_fake_venv(checkout / ".venv", python)

    def is_ready(root=checkout):
        return environment.is_ready(os.path.realpath(root), os.path.realpath(root / ".venv"))

    assert not is_ready()  # no stamp: the install was interrupted, or never was
    environment.write_stamp(str(venv), "unfinished")
    assert not is_ready()
    environment.write_stamp(str(venv), environment.fingerprint(os.path.realpath(checkout), os.path.realpath(venv)))
    assert is_ready()
    for name in environment.INPUTS:
        content = (checkout / name).read_bytes()
        (checkout / name).write_bytes(content + b"\n")
        assert not is_ready(), name
        (checkout / name).write_bytes(content)
    assert is_ready()
    moved = checkout.rename(checkout.with_name("moved"))
    assert not is_ready(moved)
    checkout = moved.rename(checkout)
    assert is_ready()
    python.unlink()  # the system's Python was removed
    assert not is_ready()
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to(sys.executable)  # or replaced by another
    assert not is_ready()


@posix_only
def test_a_ready_environment_is_left_alone(environment, checkout, monkeypatch, capsys):
    "No process is started, so nothing can reach for the network, and nothing is printed."
    venv = make_fake_venv(checkout / ".venv")
    environment.write_stamp(str(venv), environment.fingerprint(os.path.realpath(checkout), os.path.realpath(venv)))
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **more: pytest.fail(f"started {arguments}"))
    assert environment.main([]) == 0
    assert capsys.readouterr() == ("", "")


@posix_only
def test_an_environment_is_made_anew_only_for_a_reason(environment, tmp_path):
    python = make_fake_pip(tmp_path, "")
    good = make_fake_venv(tmp_path / "good", python)
    assert environment.why_unusable(str(good)) is None
    assert environment.why_unusable(str(make_fake_venv(tmp_path / "gone", "/nowhere/python"))) == "its Python is gone"
    assert environment.why_unusable(str(make_fake_venv(tmp_path / "broken", "/bin/false"))) == "its Python or its pip does not work"
    changed = environment.why_unusable(str(make_fake_venv(tmp_path / "changed", python, made_by="3.9.2")))
    assert changed == "it was made by Python 3.9.2 and now finds {}.{}".format(*sys.version_info)
    moved = good.rename(tmp_path / "moved")
    assert environment.why_unusable(str(moved)) == f"it was made in {good}, and its scripts still point there"


def test_a_folder_that_is_no_environment_is_not_touched(environment, checkout, capsys):
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "thesis.txt").write_text("precious")
    assert environment.main([]) == 1
    assert one_sentence(said := capsys.readouterr().err) and "is no virtual environment: move it away" in said
    assert (checkout / ".venv" / "thesis.txt").read_text() == "precious"


@posix_only
def test_an_install_that_fails_leaves_no_stamp_and_the_next_run_takes_it_up(environment, checkout, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment, "check_disk", lambda *arguments: None)
    pip = 'case "$*" in\n*" -e "*) echo "WARNING: Location is ignored"; echo "ERROR: HTTP error 500"; exit 2;;\nesac'
    venv = make_fake_venv(checkout / ".venv", make_fake_pip(tmp_path, pip))
    assert environment.main([]) == 1
    said = capsys.readouterr()
    assert re.search(r"Installing about 2\d0 packages", said.out) and "Making" not in said.out
    shown, sentence = said.err.splitlines()
    assert shown == "ERROR: HTTP error 500" and sentence.startswith("pip ended with status 2")
    assert not (venv / environment.STAMP).exists()

    make_fake_pip(tmp_path, "")
    assert environment.main([]) == 0
    assert (venv / environment.STAMP).read_text().strip() == environment.fingerprint(os.path.realpath(checkout), os.path.realpath(venv))
    calls = (tmp_path / "calls").read_text().splitlines()
    assert "install --quiet pip==" in calls[0] and "setuptools==" in calls[0]
    assert calls[-3].endswith("--no-build-isolation -c constraints.txt -e .[dev]")
    assert calls[-2].endswith("microbert_course.cli.main fetch minilm") and calls[-1].endswith("fetch smollm2")
    assert environment.main([]) == 0
    assert (tmp_path / "calls").read_text().splitlines() == calls


@posix_only
def test_an_install_without_the_weights_is_whole_and_says_how_to_get_them(environment, checkout, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment, "check_disk", lambda *arguments: None)
    pip = ('case "$*" in\n*"fetch minilm"*) echo "downloading" >&2; '
           'echo "microbert: the weights are not to be had: run microbert fetch minilm" >&2; exit 1;;\nesac')
    make_fake_venv(checkout / ".venv", make_fake_pip(tmp_path, pip))
    assert environment.main([]) == 0
    said = capsys.readouterr()
    assert "All is installed but the weights for lessons 05 and 17, which wait for them: the weights are not to be had: run" in said.out
    assert said.err == "" and "Installed in" in said.out
    assert environment.is_ready(os.path.realpath(checkout), os.path.realpath(checkout / ".venv"))


@posix_only
def test_an_update_that_cannot_reach_the_index_says_what_still_works(environment, checkout, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment, "check_disk", lambda *arguments: None)
    pip = 'echo "WARNING: Retrying (Retry(total=0)) after connection broken by NewConnectionError"; echo "ERROR: No matching distribution"; exit 1'
    venv = make_fake_venv(checkout / ".venv", make_fake_pip(tmp_path, pip))
    environment.write_stamp(str(venv), "of an older version of the course")
    assert environment.main([]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("Bringing the packages in ")
    assert "The package index could not be reached" in said.err and "microbert tour`" in said.err
    assert not environment.is_ready(os.path.realpath(checkout), os.path.realpath(venv))


@pytest.mark.parametrize("line, sentence", [
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "The disk filled up"),
    ("ERROR: Could not find a version that satisfies the requirement numpy==2.4.6", "pip found no fitting package for Python"),
    ("ReadTimeoutError: HTTPSConnectionPool: Read timed out.", "The package index could not be reached"),
    ("something else", "pip ended with status 3"),
])
def test_a_failure_of_pip_has_its_sentence(environment, tmp_path, line, sentence, capsys):
    explained = environment.explain([line], 3, str(tmp_path))
    assert explained.startswith(sentence) and explained.endswith(".") and "same command again" in explained or "PYTHON=" in explained
    assert capsys.readouterr().err == line + "\n"


def test_pips_output_becomes_a_few_words(environment):
    said = environment.in_words("Collecting numpy>=2.0 (from microbert_course)", "")
    assert said == "collecting numpy>=2.0"
    said = environment.in_words("  Downloading numpy-2.4.6-cp311.whl (17 MB)", said)
    assert environment.in_words("Progress 500 of 2000", said) == "downloading numpy-2.4.6-cp311.whl, 25%"
    assert environment.in_words("Using cached six-1.17.0.whl", said) == said


def test_every_requirement_is_pinned_within_its_limits():
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    settings = config["DEFAULT"]
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}
    assert {"pip", "setuptools", "wheel"} <= set(pins)
    wanted = [settings[key].split() for key in ("requirements", "lessons_requirements", "site_requirements", "cloud_requirements", "dev_requirements")]
    for requirement in map(Requirement, sum(wanted, [])):
        assert pins[re.sub(r"[-_.]+", "-", requirement.name).lower()] in requirement.specifier, requirement


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_make_without_a_python_says_what_to_install():
    answer = subprocess.run(["make", "setup", "PYTHON=/nowhere/python3"], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode != 0
    assert answer.stderr.splitlines()[0].startswith("No Python here: install 3.11 or newer")


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_make_alone_lists_the_commands():
    answer = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True)
    listed = re.findall(r"^  make (\S+) +\S", answer.stdout, flags=re.MULTILINE)
    assert listed == ["help", "setup", "course", "lab", "test", "test-offline", "screenshots", "torture", "test-gpu", "bands", "cloud-servers", "export", "exercises", "site", "clean-notebooks", "check", "lint"]
