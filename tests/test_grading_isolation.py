"""The sandbox at each level: what the probe tries is stopped, a fence with a hole is noticed, and weak isolation is never silent."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hostile import exam

from microbert_course.cli.main import main
from microbert_course.errors import CourseError
from microbert_course.grading import doctor, isolation, room
from microbert_course.grading.batch import Batch
from microbert_course.grading.doctor import Finding
from microbert_course.grading.inside import confine
from microbert_course.grading.isolation import Ground
from microbert_course.grading.limits import Limits
from microbert_course.grading.sandbox import Sandbox
from microbert_course.grading.scoring import grade_cells

LIMITS = Limits(notebook_s=30, exercise_s=30)
needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and namespaces are Linux")


@pytest.mark.parametrize(("level", "unshare"), [
    pytest.param("bubblewrap", True, marks=needs_bubblewrap), pytest.param("landlock", True, marks=linux_only),
    pytest.param("landlock", False, marks=linux_only), ("weak", True)])
def test_a_level_stops_what_the_probe_tries(level, unshare):
    finding = doctor.probe(level, unshare)
    if level == "bubblewrap" and not finding.works:
        pytest.skip(f"bubblewrap is installed and may not be used here: {finding.why_not}")
    assert finding.works and finding.came_through == (), finding


@needs_bubblewrap
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="the planted holes are in root's command line")
@pytest.mark.parametrize(("hole", "bind"), [("secret file", "--ro-bind"), ("write outside", "--bind")])
def test_a_planted_hole_is_found_by_the_probe(hole, bind, monkeypatch):
    "A folder of the grader's own temporary files, seen in the sandbox; every user may pass through the folders above it."
    with tempfile.TemporaryDirectory(prefix="hole-") as place:
        Path(place).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", place)
        whole = isolation.bubblewrap
        monkeypatch.setattr(isolation, "bubblewrap", lambda ground, course: [*whole(ground, course)[:-1], bind, place, place, "--"])
        assert hole in doctor.probe("bubblewrap").came_through


@needs_bubblewrap
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="the planted hole is in root's command line")
def test_two_fences_keep_the_network_out(monkeypatch):
    "Without a network namespace, system calls for sockets are still refused."
    whole = isolation.bubblewrap
    monkeypatch.setattr(isolation, "bubblewrap", lambda ground, course: [word for word in whole(ground, course) if word != "--unshare-net"])
    assert doctor.probe("bubblewrap").came_through == ()


def test_a_machine_whose_system_calls_are_not_known_is_refused(monkeypatch):
    "It would be graded under the name of a level that has few of them."
    monkeypatch.setattr(confine.platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="the system calls of riscv64 are not known"):
        confine.refuse_system_calls(owns_others=False)


def test_a_level_that_let_something_through_is_not_chosen(monkeypatch):
    findings = {"bubblewrap": Finding("bubblewrap", True, ("network",)), "landlock": Finding("landlock", False, (), "no kernel"),
                "weak": Finding("weak", True, ("memory",))}
    monkeypatch.setattr(doctor, "probe", findings.get)
    assert doctor.choose(require_isolation=False) == "weak"
    with pytest.raises(CourseError, match="no isolation but the weak one works here .bubblewrap: did not stop network; landlock: no kernel"):
        doctor.choose(require_isolation=True)
    monkeypatch.setitem(findings, "weak", Finding("weak", False, (), "no fork"))
    with pytest.raises(CourseError, match="no sandbox can be started here"):
        doctor.choose(require_isolation=False)


def test_the_doctor_prints_a_table_and_what_grading_will_use(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "probe", lambda level: Finding(level, level != "bubblewrap", (), "" if level != "bubblewrap" else "not installed"))
    assert main(["grade", "doctor"]) == 0
    printed = capsys.readouterr().out
    assert "Grading here uses: landlock." in printed and "bubblewrap does not work here: not installed" in printed
    assert "connect to this machine" in printed


def test_weak_isolation_is_in_every_report(tmp_path):
    (tmp_path / "01_exam.ipynb").write_text(json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "source": exam.HONEST}]}))
    Batch([tmp_path / "01_exam.ipynb"], tmp_path / "out", "weak", LIMITS, 1, 3, known=[exam.LESSON], sheet_of=exam.sheet_of).run()
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        row, = csv.DictReader(file)
    assert (row["points"], row["isolation"]) == ("15", "weak")
    assert "isolation: <b>weak</b>" in (tmp_path / "out" / "report.html").read_text()
    path, = (tmp_path / "out").glob("submissions/*/results.json")
    assert json.loads(path.read_text())["output"] == "15 of 15 points; isolation: weak"
    assert json.loads((tmp_path / "out" / "grading.json").read_text())["isolation"] == "weak"


SEEN = """
import os
def mean(numbers):
    seen = {}
    for place in ("/", "/tmp", "/dev/shm", "/home", "/root", "/etc", "/proc", os.getcwd()):
        try: seen[place] = sorted(os.listdir(place))
        except OSError: seen[place] = None
    writable = []
    for place in ("/", "/etc", "/usr/lib", "/dev", "/proc/sys/kernel", os.path.dirname(os.__file__)):
        try:
            open(os.path.join(place, "planted"), "w").close()
            writable.append(place)
        except OSError: pass
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    return {"seen": seen, "writable": writable, "user": os.getuid(), "powers": int(status["CapEff"], 16) | int(status["CapPrm"], 16),
            "nnp": status["NoNewPrivs"].strip(), "environment": dict(os.environ), "groups": os.getgroups()}
def mix(**inputs): return mean(None)
"""


@needs_bubblewrap
def test_what_is_seen_from_inside_bubblewrap():
    "No submissions, no solutions, no home; no powers, nobody's user; an environment of our own."
    from microbert_course.grading.inside import wire
    from microbert_course.practice.plain import load

    if not doctor.probe("bubblewrap").works:
        pytest.skip("bubblewrap may not be used here")
    with isolation.folder() as folder:
        ground = Ground("bubblewrap", LIMITS, folder)
        with Sandbox(ground, isolation.build_room(ground, exam.LESSON, []), 0, threading.Event(), warm=False) as sandbox:
            _, content = sandbox.run(exam.sheet().job(0, [SEEN]))
    inside = load(wire.split(content[1:])[1])["output"]
    assert inside["writable"] == [] and inside["powers"] == 0 and inside["nnp"] == "1" and inside["user"] >= 65534
    assert inside["groups"] in ([], [65534]) and set(inside["environment"]) <= {*isolation.ENVIRONMENT, *isolation._places(""), "PWD", "LC_CTYPE"}
    assert inside["seen"]["/home"] is None or inside["seen"]["/home"] == []
    processes = [name for name in inside["seen"]["/proc"] if name.isdigit()]
    assert len(processes) <= 4
    everything = " ".join(name for names in inside["seen"].values() for name in names or ())
    assert "solutions" not in everything and isolation.PREFIX not in everything


@needs_bubblewrap
def test_an_installed_course_is_hidden_from_the_sandbox(tmp_path, monkeypatch):
    "Where the course lies among the packages, an empty folder lies over it: its checks hold references."
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    shutil.copytree(Path(room.__file__).parents[1], site / "microbert_course", ignore=shutil.ignore_patterns("__pycache__"))
    folders = room.site_folders()
    libraries = room.python_paths()
    monkeypatch.setattr(room, "site_folders", lambda: [*folders, site])
    monkeypatch.setattr(room, "python_paths", lambda: [*libraries, tmp_path / "lib"])
    for parent in (path for path in (tmp_path, *tmp_path.parents[:2]) if path.stat().st_uid == os.geteuid()):
        parent.chmod(0o755)  # nothing but the sandbox keeps it
    with isolation.folder() as folder:
        words = isolation.bubblewrap(Ground("bubblewrap", LIMITS, folder), tmp_path)
        assert words[words.index(str(site / "microbert_course")) - 1] == "--tmpfs"
        for level in ("bubblewrap", "landlock", "weak"):
            cells = [exam.HONEST, f"import sys\nsys.path.insert(0, {str(site)!r})\nfor name in [n for n in sys.modules if n.startswith('microbert')]: del sys.modules[name]\n"
                     "try:\n    import microbert_course.practice.checks\nexcept ImportError: pass\nelse: mix = mean = None"]
            if doctor.probe(level).works:
                (folder / level).mkdir()
                folder.chmod(0o711)
                grades = grade_cells(cells, exam.sheet(), Ground(level, LIMITS, folder / level))
                assert [grade.status for grade in grades] == ["passed", "passed"], (level, grades)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None, reason="plays a user, as root")
def test_grading_works_for_a_user_too(tmp_path):
    "With the same Python, if that user can reach it."
    if not isolation._is_open_to_all([room.executable(), Path(os.__file__), Path(room.__file__), *room.site_folders()]):
        pytest.skip("this Python lies in a folder that is closed to others")
    script = "from microbert_course.grading import doctor; print(doctor.choose(False))"
    answer = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, "-c", script], cwd="/",
                            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "MICROBERT_WORK": "/nonexistent"}, capture_output=True, text=True)
    assert answer.stdout.strip() in isolation.LEVELS, answer.stderr


def test_mistakes_on_the_command_line_are_one_sentence_each(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "choose", lambda require: "weak")
    for arguments, word in ((["grade", str(tmp_path / "nothing")], "does not exist"), (["grade", str(tmp_path)], "no notebooks"),
                            (["grade", str(tmp_path), "--exercise", "99"], "no lesson with exercises"),
                            (["grade", str(tmp_path), "--jobs", "-1"], "negative"), (["grade", str(tmp_path), "--seed", "-1"], "negative"),
                            (["grade", str(tmp_path), "--memory-mb", "5"], "at least 768")):
        capsys.readouterr()
        assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
        said = capsys.readouterr().err
        assert word in said and said.count("\n") == 1 and said.startswith("microbert: "), said
