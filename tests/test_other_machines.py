"""What Windows and macOS would stumble over, found on Linux: encodings, file names, links, streams, modules that only Unix has."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from microbert_course.lessons.cells import is_code, read_notebook
from microbert_course.practice.cells import python_text

ROOT = Path(__file__).resolve().parent.parent
UNIX_ALONE = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "syslog"}
RESERVED = re.compile(r'[<>:"|?*\\]|[ .]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)
LONGEST = 180  # signs of a path: Windows allows 260, and the clone has a place as well


def tracked():
    "Mode and path of every file in git."
    listed = subprocess.run(["git", "ls-files", "-s", "-z"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    if listed.returncode:
        pytest.skip("this is no git checkout, so there is no list of its files")
    return [(line.split()[0], line.split("\t", 1)[1]) for line in listed.stdout.split("\0") if line]


def test_file_names_fit_everywhere_and_nothing_is_a_link():
    files = tracked()
    assert [path for mode, path in files if mode == "120000"] == []
    assert [path for _, path in files if any(RESERVED.search(part) for part in path.split("/")) or len(path) > LONGEST or not path.isascii()] == []
    lower = [path.lower() for _, path in files]
    assert sorted(lower) == sorted(set(lower)), "two names differ in capitals alone"


@pytest.mark.parametrize("name", ["a:b.txt", "nul.py", "what?.md", "end.", "a\\b"])
def test_a_name_that_windows_refuses_is_found(name):
    assert RESERVED.search(name)


def texts():
    "Every Python text that a learner may run: the package, the tools, and the code of lessons and exercises, cell by cell."
    for folder in ("microbert_course", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for folder in ("nbs", "solutions"):
        for path in sorted((ROOT / folder).rglob("*.ipynb")):
            if ".ipynb_checkpoints" not in path.parts:
                for number, cell in enumerate(read_notebook(path)["cells"], start=1):
                    if is_code(cell):
                        yield f"{path.relative_to(ROOT).as_posix()}, cell {number}", python_text(cell["source"])


def without_encoding(source):
    "The calls that read or write text in whatever encoding the machine prefers, one line each."
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg in ("encoding", None) for keyword in node.keywords):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = getattr(getattr(node.func, "value", None), "id", "")
        modes = [value.value for value in [*node.args[:2], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
                 if isinstance(value, ast.Constant) and isinstance(value.value, str)]
        is_open = called == "open" and (isinstance(node.func, ast.Name) or any(re.fullmatch(r"[rwax]t?\+?", mode) for mode in modes)) and owner != "archive"
        is_binary = any(re.fullmatch(r"[rwax]*b[rwax+]*|[rwax]\+?b", mode) for mode in modes)
        names_it = called == "read_text" and node.args or called == "write_text" and len(node.args) > 1
        if is_open and not is_binary or called in ("read_text", "write_text") and not names_it:
            yield f"line {node.lineno}: {ast.unparse(node)[:80]}"


def test_every_text_file_is_opened_in_a_named_encoding():
    "Windows reads and writes in its old alphabet unless it is told otherwise."
    found = [f"{place}, {line}" for place, source in texts() for line in without_encoding(source)
             if not place.startswith("microbert_course/grading/inside/")]  # it runs on Linux alone, in the sandbox
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line", ["open('a')", "open('a', 'w')", "path.open('w')", "path.read_text()", "path.write_text('x')"])
def test_a_text_without_encoding_is_found(line):
    assert list(without_encoding(line))


@pytest.mark.parametrize("line", ["open('a', 'rb')", "path.open('wb')", "path.read_text(encoding='utf-8')", "open('a', encoding='ascii')", "path.read_bytes()",
                                  "Image.open(file)", "path.read_text('utf-8')"])
def test_what_names_its_encoding_or_needs_none_is_left_alone(line):
    assert not list(without_encoding(line))


def test_no_module_imports_at_its_top_what_only_unix_has():
    found = [f"{place} imports {name}" for place, source in texts() for node in ast.parse(source).body
             for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else [])
             if name in UNIX_ALONE]
    assert not found, "\n".join(found)


def test_a_stream_of_an_old_alphabet_gets_a_question_mark_and_no_error(tmp_path):
    "On Windows `microbert … > file` writes cp1252, which has no √."
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "MICROBERT_WORK": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "microbert_course", "exercise", "list"], env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode("cp1252")
    script = "from microbert_course.cli import main as front; front.parse = lambda _: type('C', (), {'run': lambda self: print('√d ✓')})(); raise SystemExit(front.main([]))"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, b"?d ?"), done.stderr.decode("cp1252")


def test_the_public_hosts_tests_run_on_three_systems_under_three_pythons():
    import yaml

    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"] and matrix["python"] == ["3.11", "3.12", "3.13"]
    steps = [step["run"] for step in jobs["test"]["steps"] if step.get("if") == "runner.os != 'Linux'"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line for step in steps for line in step.splitlines() if not line.startswith("python -m pytest")]
    assert [line for line in lines if f"    {line}\n" not in readme] == [], "the README's plain lines are what Windows and macOS run"
