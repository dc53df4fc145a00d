"""`microbert tour` and `microbert lessons`: what they print, and what a Ctrl-C leaves behind: nothing."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from microbert_course.cli.lessons import LessonsRun, Tour, what_it_learned
from microbert_course.errors import CourseError
from microbert_course.lessons import catalogue

RESULTS = {"validation_loss": 5.981, "unigram_loss": 6.585, "run_folder": "runs/tour",
           "fills": [{"text": "this movie is [MASK] fantastic", "guesses": [["really", 0.25], ["so", 0.125]]}]}


def write_lesson(folder, *cells, name="00_tour"):
    code = nbformat.v4.new_code_cell
    path = folder / f"{name}.ipynb"
    head = [nbformat.v4.new_markdown_cell("# A tour\n\n> One look."), code("size = 2  # quick: 1", metadata={"tags": ["parameters"]})]
    nbformat.write(nbformat.v4.new_notebook(cells=[*head, *map(code, cells)]), path)
    return path


def test_the_printout_sets_loss_against_baseline_and_shows_the_guesses():
    assert what_it_learned(RESULTS) == [
        "validation loss    5.981 nats, 0.60 better than the unigram baseline of 6.585",
        "fill in the blank",
        "  this movie is [MASK] fantastic  really 25.0%, so 12.5%",
    ]
    assert "0.10 WORSE than the unigram baseline" in what_it_learned({**RESULTS, "validation_loss": 6.685})[0]


def test_a_tour_that_recorded_too_little_is_refused():
    with pytest.raises(CourseError, match="the tour recorded no validation_loss and no fills"):
        what_it_learned({"unigram_loss": 6.585, "run_folder": "runs/tour"})


def test_the_tour_runs_at_full_size_in_the_runs_folder_and_prints_its_results(tmp_path, monkeypatch, capsys):
    "It stands in for nbs/00_tour.ipynb, which tests/test_notebooks.py runs."
    lesson = write_lesson(
        tmp_path, "assert size == 2\nfrom microbert_course.paths import runs_dir\nfolder = runs_dir() / 'tour'\n"
                  "folder.mkdir(parents=True)\n(folder / 'loss.png').touch()",
        f"from microbert_course.lessons.results import show_results\nshow_results(**{{**{RESULTS}, 'run_folder': str(folder)}})")
    monkeypatch.setattr(catalogue, "find", lambda name: catalogue.read_lesson(lesson))
    monkeypatch.setenv("MICROBERT_RUNS", str(tmp_path / "runs"))
    Tour().run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == what_it_learned(RESULTS)
    assert lines[4:6] == [f"executed notebook  {tmp_path / 'runs/lessons/00_tour.ipynb'}", f"loss plot          {tmp_path / 'runs/tour/loss.png'}"]
    assert [path.name for path in (tmp_path / "runs/tour").iterdir()] == ["loss.png"]


def test_every_lesson_gets_its_line_and_a_failed_one_the_status(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MICROBERT_RUNS", str(tmp_path / "runs"))
    bad, good = write_lesson(tmp_path, "size / 0", name="01_bad"), write_lesson(tmp_path, "size", name="02_good")
    with pytest.raises(CourseError, match="1 of 2 lessons failed: 01_bad"):
        LessonsRun((str(bad), str(good)), save=True).run()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("FAILED ") and "cell 3 (`size / 0`): ZeroDivisionError: division by zero" in first
    assert second.endswith(" s  02_good  saved")
    outputs = nbformat.read(good, as_version=4).cells[2].outputs
    assert outputs[0].data["text/plain"] == "2"
    assert not any(cell.get("outputs") for cell in nbformat.read(bad, as_version=4).cells)


def test_saving_quick_outputs_is_refused():
    with pytest.raises(CourseError, match="leave one of them out"):
        LessonsRun(quick=True, save=True).run()


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_the_kernel_and_leaves_no_file(tmp_path):
    source = write_lesson(tmp_path, "import pathlib, os, time\npathlib.Path(os.environ['STARTED']).touch()\ntime.sleep(size * 100)")
    before, started = source.read_bytes(), tmp_path / "started"
    environment = {**os.environ, "MICROBERT_RUNS": str(tmp_path / "runs"), "STARTED": str(started), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", "import sys; from microbert_course.cli.lessons import LessonsRun; "
                                     "LessonsRun((sys.argv[1],), save=True).run()", str(source)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if started.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    kernels = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=30)[1]
    assert kernels and not any(kernel.is_running() and kernel.status() != psutil.STATUS_ZOMBIE for kernel in kernels)
    assert source.read_bytes() == before
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"00_tour.ipynb", "started"}
