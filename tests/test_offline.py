"""A short form of `make test-offline`: an exercise is begun, solved and checked where the only network is this machine's own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("offline", ROOT / "tools" / "offline.py")
offline = importlib.util.module_from_spec(spec)
spec.loader.exec_module(offline)

LOOP = """
import os, sys
sys.path.insert(0, sys.argv[2])
import offline
offline.prove()
import first_green
from pathlib import Path
from microbert_course.cli.main import main
from microbert_course.paths import course_root
assert main(["exercise", "start", "01"]) == 0
assert main(["exercise", "check", "1.1"]) == 1
first_green.fill_in(course_root(), Path(os.environ["MICROBERT_WORK"]) / "01_text_as_data.ipynb")
sys.exit(main(["exercise", "check", "1.1"]))
"""


def run_offline(*command, **environment):
    "What the command says with no network; skipped where the system has no namespaces for us."
    done = subprocess.run([sys.executable, ROOT / "tools" / "offline.py", *command], env=os.environ | environment, capture_output=True, text=True,
                          encoding="utf-8", timeout=120)
    if done.returncode == offline.NOT_ALLOWED:
        pytest.skip(done.stderr.strip())
    return done


def test_an_exercise_goes_green_without_a_network(tmp_path):
    done = run_offline(sys.executable, "-c", LOOP, "x", str(ROOT / "tools"), MICROBERT_WORK=str(tmp_path), PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not yet" in done.stdout and "passed, 5 points" in done.stdout
    assert json.loads((tmp_path / "progress.json").read_text(encoding="utf-8"))["exercises"]["sources.clean_text"]["passed"]


def test_the_network_is_gone_in_there_and_the_proof_would_notice_one(monkeypatch):
    import socket

    looks_up = "import socket; socket.getaddrinfo('example.org', 80)"
    assert "gaierror" in run_offline(sys.executable, "-c", looks_up).stderr
    with socket.create_server(("127.0.0.1", 0)) as reachable:  # stands for an address elsewhere that answers
        monkeypatch.setattr(offline, "ELSEWHERE", reachable.getsockname())
        with pytest.raises(AssertionError, match="this network is not closed"):
            offline.prove()


def test_where_it_is_not_allowed_nothing_is_run_and_one_sentence_says_so(monkeypatch, capsys):
    monkeypatch.setattr(offline.sys, "platform", "darwin")
    assert offline.main(["true"]) == offline.NOT_ALLOWED
    assert capsys.readouterr().err == "not run without a network: only Linux has network namespaces, and this is darwin.\n"
