"""The notebook harness: every planted fault is refused with its sentence, honest notebooks pass. A bare kernel starts in a second."""

import datetime
import gc
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest
import torch

from microbert_course.errors import CourseError
from microbert_course.lessons.outputs import save_outputs
from microbert_course.lessons.runner import LessonFailed, run_lesson

PARAMETERS = "size = 1000  # quick: 3; how many"


def write_lesson(folder: Path, *cells: str, parameters: str | None = PARAMETERS, name: str = "03_planted") -> Path:
    "A notebook: title, parameters cell (number 2), then the cells (number 3 and on)."
    markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    head = [code(parameters, metadata={"tags": ["parameters"]})] if parameters else []
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[markdown("# Planted\n\n> One fault."), *head, *map(code, cells)]), path)
    return path


def fault_of(path: Path, **options) -> LessonFailed:
    "The refusal of a notebook that must be refused; its sentence names the notebook."
    with pytest.raises(LessonFailed) as caught:
        run_lesson(path, path.parent / "out" / path.name, **options)
    assert path.name in str(caught.value)
    assert not (path.parent / "out" / path.name).exists()  # what did not run through is not called executed
    return caught.value


def surroundings() -> tuple[dict, Path]:
    "This process's environment and folder, less what pytest itself writes there."
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}, Path.cwd()


BEFORE = surroundings()


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    "No kernel outlives its run, and this process's environment and folder stay as they were."
    yield
    assert surroundings() == BEFORE
    alive = [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    assert not [child for child in alive if "ipykernel_launcher" in " ".join(child.cmdline())]


# --- honest notebooks

GOOD = [
    "from microbert_course.lessons.results import show_results\nsquares = [n * n for n in range(size)]\nsquares",
    "#| eval: false\nraise SystemError('never run')",
    "#| slow\nraise SystemError('only run by hand')",
    "from nbdev import nbdev_export\nnbdev_export()",
    "import sys\nprint('begun', flush=True)\nfor n in range(5):\n    print(f'\\r step {n}', end='', file=sys.stderr, flush=True)\nprint('done')",
    "import os\nprint(os.getcwd())\n(os.environ['HF_HUB_OFFLINE'], os.environ['TOKENIZERS_PARALLELISM'], sys.executable)",
    "show_results(loss=0.5, words=['a', 'b'])",
    "import socket\nserver = socket.create_server(('127.0.0.1', 0))\nsocket.create_connection(server.getsockname()).close()\nserver",
]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    "One run of an honest notebook, looked at by several tests."
    folder = tmp_path_factory.mktemp("good")
    path, seen = write_lesson(folder, *GOOD), []
    report = run_lesson(path, folder / "executed.ipynb", on_progress=lambda *told: seen.append(told))
    return report, seen, nbformat.read(report.executed, as_version=4)


def output_text(notebook, source_part: str) -> str:
    (cell,) = [cell for cell in notebook.cells if source_part in cell.source and cell.cell_type == "code"]
    return "".join(output.get("text", output.get("data", {}).get("text/plain", "")) for output in cell.outputs)


def test_quick_values_are_injected_and_used(good):
    report, _, notebook = good
    assert report.parameters == {"size": 3} and report.profile == "quick"
    assert output_text(notebook, "squares") == "[0, 1, 4]"


def test_cells_that_nbdev_leaves_out_are_left_out(good):
    "`#| eval: false`, a test flag of settings.ini, and a call of nbdev_export()."
    skipped = [cell.source for cell in good[2].cells if cell.cell_type == "code" and cell.execution_count is None]
    assert skipped == GOOD[1:4]


def test_the_kernel_is_this_python_offline_in_a_temporary_folder(good):
    text = output_text(good[2], "HF_HUB_OFFLINE")
    assert f"('1', 'false', '{sys.executable}')" in text
    assert str(Path.cwd()) not in text.splitlines()[0]


def test_results_come_back(good):
    assert good[0].results == {"loss": 0.5, "words": ["a", "b"]}
    assert "loss   0.5" in output_text(good[2], "show_results(")


def test_what_it_ran_on_comes_back_without_a_trace_in_the_notebook(good):
    "Asked of the kernel after the last cell: this one never imported torch."
    report, _, notebook = good
    assert {**report.about, "cpu_s": 0} == {"python": platform.python_version(), "torch": None, "device": "cpu", "dtype": "float32", "cpu_s": 0}
    assert 0 < report.work_s <= report.seconds
    assert report.ran_on() == {"date": datetime.date.today().isoformat(), "device": "cpu", "dtype": "float32",
                               "python": platform.python_version(), "seconds": round(report.work_s, 1)}
    assert "lessons.about" not in report.executed.read_text()
    assert max(cell.execution_count or 0 for cell in notebook.cells if cell.cell_type == "code") == 7


def test_a_lessons_torch_and_its_number_format_come_back(tmp_path):
    path = write_lesson(tmp_path, "import torch\ntorch.set_default_dtype(torch.float64)\nsize")
    about = run_lesson(path, tmp_path / "executed.ipynb").about
    assert (about["torch"], about["dtype"]) == (torch.__version__, "float64")


def test_progress_names_the_cell_and_the_line_that_a_bar_drew(good):
    cells = len(good[2].cells)
    assert (7, cells, "step 4") in good[1]  # cells 0 to 2 are title, parameters and the injected one
    assert [told[0] for told in good[1]] == sorted(told[0] for told in good[1])


def test_the_full_profile_keeps_the_learners_values_and_parameters_go_on_top(tmp_path):
    path = write_lesson(tmp_path, "size, seed", parameters=PARAMETERS + "\nseed = 0  # quick: 1")
    report = run_lesson(path, tmp_path / "executed.ipynb", profile="full", parameters={"seed": 7})
    assert report.parameters == {"seed": 7}
    assert output_text(nbformat.read(report.executed, as_version=4), "size, seed") == "(1000, 7)"


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_only_at_quick_sizes_garbage_is_collected_more_rarely_than_a_learners_kernel_does(tmp_path, profile):
    path = write_lesson(tmp_path, "import gc, subprocess, sys", "[gc.get_threshold(), size]",
                        "subprocess.run([sys.executable, '-c', 'import gc; print(gc.get_threshold())'], capture_output=True, text=True).stdout")
    executed = nbformat.read(run_lesson(path, tmp_path / "executed.ipynb", profile=profile).executed, as_version=4)
    expected = str((100_000, 20, 20) if profile == "quick" else gc.get_threshold())
    assert expected in output_text(executed, "get_threshold(), size") and expected in output_text(executed, "capture_output")


def test_saved_outputs_change_the_source_in_nothing_else_and_are_clean(good, tmp_path):
    "Injected cell, progress bar, counts and addresses stay out; a skipped cell keeps what it had; nbdev_clean changes nothing."
    source = write_lesson(tmp_path, *GOOD)
    notebook = json.loads(source.read_text())
    for cell, run_cell in zip(notebook["cells"], [c for c in good[2].cells if "injected" not in str(c.metadata)], strict=True):
        cell["id"] = run_cell["id"]
    kept = [{"name": "stdout", "output_type": "stream", "text": ["made by hand on a GPU\n"]}]
    notebook["cells"][4]["outputs"] = kept
    notebook["cells"][5]["execution_count"] = 9
    source.write_text(json.dumps(notebook))

    save_outputs(good[0].executed, source, {"date": "2026-11-22", "seconds": 1.5})
    saved = json.loads(source.read_text())
    assert [cell["source"] for cell in saved["cells"]] == [cell["source"] for cell in notebook["cells"]]
    assert saved["metadata"] == {**notebook["metadata"], "microbert": {"date": "2026-11-22", "seconds": 1.5}}
    outputs = [cell.get("outputs") for cell in saved["cells"]]
    assert outputs[2][0]["data"]["text/plain"] == ["[0, 1, 4]"] and outputs[2][0]["execution_count"] is None
    assert outputs[4] == kept
    assert {cell["execution_count"] for cell in saved["cells"] if cell["cell_type"] == "code"} == {None}
    assert outputs[6] == [{"name": "stdout", "output_type": "stream", "text": ["begun\n", "done\n"]}]  # as one, though a bar stood between
    assert " at 0x" not in source.read_text()
    before = source.read_bytes()
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = x\nuser = x\nauthor = x\ndescription = x\nbranch = main\nrepo = x\n"
                                           "allowed_cell_metadata_keys = tags\nallowed_metadata_keys = microbert\n")
    subprocess.run([sys.executable, "-c", f"from nbdev.clean import nbdev_clean; nbdev_clean.__wrapped__({str(source)!r})"],
                   cwd=tmp_path, check=True)
    assert source.read_bytes() == before

    notebook["cells"][2]["source"] = ["something else"]
    source.write_text(json.dumps(notebook))
    with pytest.raises(CourseError, match="cell 3 of .* changed since executed.ipynb was run"):
        save_outputs(good[0].executed, source)


# --- faults that end a run

def test_an_error_names_notebook_cell_and_the_saved_partial_notebook(tmp_path):
    fault = fault_of(write_lesson(tmp_path, "size", "#| hide\nratio = 1 / 0", "'never'"))
    assert "03_planted.ipynb, cell 4 (`ratio = 1 / 0`): ZeroDivisionError: division by zero; " in str(fault)
    partial = nbformat.read(fault.partial, as_version=4)
    assert str(fault).endswith(str(tmp_path / "out" / "03_planted.failed.ipynb")) and fault.cell_number == 4
    assert [bool(cell.outputs) for cell in partial.cells if cell.cell_type == "code"] == [False, False, True, True, False]


@pytest.mark.parametrize(("call", "later"), [("import sys; sys.exit(0)", []), ("quit()", []), ("raise SystemExit", ["assert False"])])
def test_a_cell_that_ends_the_kernel_is_refused(tmp_path, call, later):
    "sys.exit(0) would count as success and leave out the rest; in the last cell nothing else would notice it."
    fault = fault_of(write_lesson(tmp_path, "size", call, *later))
    assert f"cell 4 (`{call}`): ends the kernel (sys.exit, exit or quit)" in str(fault)


def test_a_killed_kernel_is_refused(tmp_path):
    fault = fault_of(write_lesson(tmp_path, "import os; size", "os.kill(os.getpid(), 9)"))
    assert "cell 4 (`os.kill(os.getpid(), 9)`): the kernel was killed by signal 9" in str(fault)
    assert fault.partial.is_file()


def test_an_endless_cell_that_ignores_signals_is_killed(tmp_path):
    "With what it printed so far, and the processes it started."
    endless = ("import signal, subprocess, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
               "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nchild = subprocess.Popen(['sleep', '1000'])\n"
               "print(child.pid, flush=True)\nwhile True:\n    time.sleep(0.1)")
    fault = fault_of(write_lesson(tmp_path, "size", endless), cell_limit_s=1)
    assert "cell 4 (`import signal, subprocess, time`): ran longer than its limit of 1 s and was killed" in str(fault)
    child = int(output_text(nbformat.read(fault.partial, as_version=4), "subprocess"))
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("cells", [["time.sleep(0.5)"] * 20, ["time.sleep(60)"]], ids=["many short cells", "one long cell"])
def test_no_cell_outruns_the_notebooks_limit(tmp_path, cells):
    fault = fault_of(write_lesson(tmp_path, "import time; size", *cells), notebook_limit_s=2.5)
    assert "the notebook's limit of 2.5 s ended here, and the kernel was killed" in str(fault)


@pytest.mark.parametrize(("reach", "target"), [
    ("import urllib.request\ntry:\n    urllib.request.urlopen('http://example.org')\nexcept OSError:\n    pass", "example.org"),
    ("import socket\ntry:\n    socket.socket().connect(('192.0.2.1', 80))\nexcept OSError:\n    pass", "192.0.2.1 port 80"),
    ("!wget -q http://example.org/data.csv", "wget -q http://example.org/data.csv"),
    ("import subprocess, sys\nask = \"import socket; socket.getaddrinfo('example.org', 80)\"\n"
     "_ = subprocess.run([sys.executable, '-c', ask], capture_output=True)", "example.org"),
], ids=["look-up", "address", "wget", "child process"])
def test_reaching_for_the_network_is_refused_even_if_the_error_is_swallowed(tmp_path, reach, target):
    fault = fault_of(write_lesson(tmp_path, "size", reach, "'never'"))
    assert "cell 4" in str(fault) and "reached for the network" in str(fault) and target in str(fault)


# --- faults that are found before a kernel starts

@pytest.mark.parametrize(("parameters", "cells", "sentence"), [
    (None, ["1 + 1"], "no cell is tagged parameters"),
    ("import os\nsize = 1", ["size"], "line 1 of the parameters cell (`import os`) is not a plain assignment"),
    ("size += 1", ["size"], "line 1 of the parameters cell (`size += 1`) is not a plain assignment"),
    ("a, b = 1, 2", ["a + b"], "is not a plain assignment"),
    ("size = 1\nsize = 2", ["size"], "the parameters cell sets size twice"),
    ("size = 9\nhalf = size // 2", ["size + half"], "half is computed from size in the parameters cell"),
    ("#| eval: false\nsize = 1", ["size"], "the parameters cell is left out by its directive"),
    ("size = 1  # quick 5", ["size"], "the comment `# quick 5` beside size is not `# quick: VALUE`"),
    ("size = 1  # quick: a few", ["size"], "the comment `# quick: a few` beside size is not `# quick: VALUE`"),
    ("size = 1\n# quick: 5", ["size"], "`# quick: 5` stands beside no assignment"),
    ("betas = (0.9, 0.99)  # quick: (0.5, 0.9)", ["betas"], "the quick value (0.5, 0.9) of betas cannot be passed"),
    ("size = 1\nseed = 0", ["size"], "cell 2 (`size = 1`): the parameter seed is read by no later cell"),
    ("seed = 0", ["def draw(seed):\n    return seed\ndraw(seed=1)"], "the parameter seed is read by no later cell"),
    ("seed = 0", ["seed", "seed = 1"], "cell 4 (`seed = 1`): sets the parameter seed again"),
    ("seed = 0", ["seed", "for seed in range(3):\n    pass"], "sets the parameter seed again"),
    ("seed = 0", ["seed", "def change():\n    global seed\n    seed = 2"], "sets the parameter seed again"),
])
def test_a_parameters_cell_without_effect_is_refused(tmp_path, parameters, cells, sentence):
    fault = fault_of(write_lesson(tmp_path, *cells, parameters=parameters))
    assert sentence in str(fault)
    assert fault.partial is None


def test_two_parameters_cells_are_refused(tmp_path):
    path = write_lesson(tmp_path, "size")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, path)
    assert "cell 3 (`size`): is a second cell tagged parameters (the first is cell 2)" in str(fault_of(path))


def test_reads_in_functions_comprehensions_and_f_strings_count(tmp_path):
    from microbert_course.lessons.cells import read_notebook
    from microbert_course.lessons.parameters import check_parameters, quick_values

    cells = ["def rows():\n    return a", "[b for _ in range(2)]", "%matplotlib inline\nprint(f'{c}')", "class Box:\n    side = d",
             "#| slow\nmissing"]
    path = write_lesson(tmp_path, *cells, parameters="a = 1  # quick: 'x; y'; words; more\nb = [\n    1,  # quick: [2]\n]\nc = d = 0")
    notebook = read_notebook(path)["cells"]
    notebook[1]["source"] = notebook[1]["source"].replace("c = d = 0", "c = 0\nd = None  # quick: {'k': None}")
    assert quick_values(notebook, 1) == {"a": "x; y", "b": [2], "d": {"k": None}}
    check_parameters(notebook, 1, ("slow",))


def test_bad_arguments_are_refused_with_a_sentence(tmp_path):
    path = write_lesson(tmp_path, "size")
    for options, sentence in [({"profile": "fast"}, 'no profile \'fast\': choose "quick" or "full"'),
                              ({"parameters": {"sise": 1}}, "no parameter 'sise': it has size"),
                              ({"parameters": {"size": (1, 2)}}, r"the value \(1, 2\) of size cannot be passed")]:
        with pytest.raises(CourseError, match=sentence):
            run_lesson(path, tmp_path / "executed.ipynb", **options)
    with pytest.raises(CourseError, match="does not exist"):
        run_lesson(tmp_path / "04_absent.ipynb", tmp_path / "executed.ipynb")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"nbformat": 4, "cells": [1]}', '{"nbformat": 3, "worksheets": []}', "\x00\xff"])
def test_a_file_that_is_no_notebook_is_refused(tmp_path, content):
    path = tmp_path / "05_broken.ipynb"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(CourseError, match="05_broken.ipynb is (damaged|not a Jupyter notebook)"):
        run_lesson(path, tmp_path / "executed.ipynb")


@pytest.mark.parametrize("limits", [{"cell_limit_s": 0}, {"cell_limit_s": -5}, {"notebook_limit_s": float("nan")}])
def test_a_limit_that_is_none_is_refused(tmp_path, limits):
    with pytest.raises(CourseError, match="is none: give seconds above 0"):
        run_lesson(tmp_path / "absent.ipynb", tmp_path / "out.ipynb", **limits)
