"""Runs a lesson from a clean kernel, alone and offline, and says in one sentence what is wrong with it.

Nothing outside `output_path` and `runs_folder` is written, nothing is left running, and this process's environment is untouched."""

import datetime
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.files import write_whole
from microbert_course.lessons.cells import CellFault, first_line, read_notebook, tags, test_flags
from microbert_course.lessons.outputs import tidy_streams
from microbert_course.lessons.parameters import check_parameters, find_parameters, given_values, quick_values
from microbert_course.lessons.results import recorded

OFFLINE = Path(__file__).parent / "offline"


@dataclass(frozen=True)
class LessonReport:
    "A lesson that ran from its first cell to its last."

    notebook: Path
    executed: Path  # the notebook with its outputs
    profile: str
    parameters: dict  # what was injected
    results: dict  # what the lesson gave to show_results
    seconds: float  # by the clock on the wall
    about: dict  # lessons.about of its kernel: python, torch, device, dtype, cpu_s

    @property
    def work_s(self) -> float:
        "Seconds on a quiet machine, nearly: CPU time, which other programs do not stretch; or the wall's, if threads made it less."
        return min(self.seconds, self.about["cpu_s"])

    def ran_on(self) -> dict:
        "For the notebook's metadata: when, on what and with which versions it ran, and how long it took."
        facts = {name: self.about[name] for name in ("device", "dtype", "python", "torch") if self.about[name]}
        return {"date": datetime.date.today().isoformat(), **facts, "seconds": round(self.work_s, 1)}


class LessonFailed(CourseError):
    "A lesson that did not: the message names notebook, cell, error and where the notebook up to there was saved."

    def __init__(self, notebook: Path, cell_number: int | None, line: str, fault: str, partial: Path | None):
        place = f", cell {cell_number} (`{line}`)" if cell_number else ""
        saved = f"; the notebook up to there: {partial}" if partial else ""
        super().__init__(f"{notebook}{place}: {fault}{saved}")
        self.notebook, self.cell_number, self.fault, self.partial = notebook, cell_number, fault, partial

    def __reduce__(self):  # pickled between the processes of a test run
        return CourseError, (str(self),)


def run_lesson(
    path: str | Path,
    output_path: str | Path,  # the executed notebook; a failed run writes NAME.failed.ipynb beside it
    *,
    profile: str = "quick",  # "quick": the values of the `# quick:` comments; "full": as a learner sees it
    parameters: dict | None = None,  # on top of the profile
    cell_limit_s: float = 300,
    notebook_limit_s: float = 600,
    runs_folder: str | Path | None = None,  # MICROBERT_RUNS for the kernel; None = a temporary one
    on_progress: Callable[[int, int, str], None] | None = None,  # (cell_index, num_cells, last line on stderr)
) -> LessonReport:
    """Execute the notebook with papermill in a fresh kernel of this Python.

    Raises: LessonFailed for a fault of the notebook, CourseError for bad arguments."""
    path, output_path = Path(path).resolve(), Path(output_path).resolve()
    if profile not in ("quick", "full"):
        raise CourseError(f'no profile {profile!r}: choose "quick" or "full"')
    for limit_s in (cell_limit_s, notebook_limit_s):
        if not limit_s > 0:  # nan neither; jupyter takes 0 and less for no limit at all
            raise CourseError(f"a limit of {limit_s:g} s is none: give seconds above 0")
    cells = read_notebook(path)["cells"]
    flags = test_flags(path.parent)
    try:
        index = find_parameters(cells)
        values = quick_values(cells, index) if index is not None else {}  # read for "full" too: a bad comment is a fault
        if index is not None:
            check_parameters(cells, index, flags)
    except CellFault as fault:
        raise _failed(path, cells, fault, None) from None
    values = {**(values if profile == "quick" else {}), **given_values(cells, index, parameters or {})}

    with tempfile.TemporaryDirectory(prefix="lesson-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        run = _new_run(folder, flags, cell_limit_s, notebook_limit_s, runs_folder, on_progress)
        if profile == "quick":
            run.env["MICROBERT_RARE_COLLECTIONS"] = "1"  # see offline/sitecustomize.py; a learner's sizes run, and are timed, as they do anywhere
        failed_path = output_path.with_name(f"{output_path.stem}.failed.ipynb")
        try:
            _execute(path, values, run)
        except CellFault as fault:
            partial = _save(run, failed_path) if run.executed else None
            executed = run.executed.cells if run.executed else cells
            raise _failed(path, executed, fault, partial) from None
        seconds = run.notebook_limit_s - run.time_left()
        _save(run, output_path)
        failed_path.unlink(missing_ok=True)
    return LessonReport(path, output_path, profile, values, recorded(run.executed.cells), seconds, run.about)


def _new_run(folder: Path, flags, cell_limit_s, notebook_limit_s, runs_folder, on_progress):
    "The kernel's folders and environment."
    try:
        from microbert_course.lessons.engine import Run
    except ModuleNotFoundError as error:
        raise CourseError(f"running lessons needs {error.name}, which is not installed: "
                          f"`{sys.executable} -m pip install -e '.[lessons]'` in the course's folder") from None
    for name in ("cwd", "tmp", "runs"):
        (folder / name).mkdir()
    network_log = folder / "network.log"
    package_home = str(Path(__file__).resolve().parents[2])
    python_path = [str(OFFLINE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), package_home]
    env = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "IPYTHONDIR": str(folder / "ipython"),  # no start-up files or history of the user
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder / "tmp")),
        "PYTHONPATH": os.pathsep.join(python_path),
        "MICROBERT_NETWORK_LOG": str(network_log),
        "MICROBERT_RUNS": str(Path(runs_folder).resolve() if runs_folder else folder / "runs"),
    }
    return Run(folder, env, network_log, flags, cell_limit_s, notebook_limit_s, on_progress)


def _execute(path: Path, values: dict, run) -> None:
    "Hand the notebook to papermill, as an object: it writes nothing, so a Ctrl-C leaves nothing half written."
    import nbformat
    import papermill

    from microbert_course.lessons.engine import NAME

    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises six kinds of error for a broken file
        raise CellFault(None, f"is not a valid notebook ({type(error).__name__}: {str(error).splitlines()[0]})") from None
    papermill.execute_notebook(notebook, None, parameters=values, engine_name=NAME, kernel_name="python3", language="python",
                               progress_bar=False, run=run)


def _save(run, path: Path) -> Path:
    "Write the executed notebook, whole."
    import nbformat

    for cell in run.executed.cells:
        if cell.cell_type == "code":
            cell.outputs = tidy_streams(cell.outputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, nbformat.writes(run.executed) + "\n")
    return path


def _failed(path: Path, cells: list, fault: CellFault, partial: Path | None) -> LessonFailed:
    "The fault with its cell numbered as in the source notebook, where nothing is injected."
    if fault.index is None:
        return LessonFailed(_short(path), None, "", fault.text, partial)
    number = sum("injected-parameters" not in tags(cell) for cell in cells[: fault.index + 1])
    return LessonFailed(_short(path), number, first_line(cells[fault.index]["source"]), fault.text, partial)


def _short(path: Path) -> Path:
    "The path as it reads from here."
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
