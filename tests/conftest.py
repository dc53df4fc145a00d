"""How long each lesson took, in the summary of a test run. Where MICROBERT_TIMED=1, as in CI, all together are within their limit or the run fails."""

import datetime
import importlib
import os
import re
import signal
import tempfile

import pytest
from browser.fixtures import browser, lab, open_notebook, watch  # noqa: F401 - fixtures of the tests in a browser

ALL_LESSONS_LIMIT_S = 480  # of CPU time, one after another
IS_TIMED = os.environ.get("MICROBERT_TIMED") == "1"  # as in CI: another machine may be slower, and nothing is wrong with it
TIMES = pytest.StashKey[dict]()


os.environ["MICROBERT_WORK"] = tempfile.mkdtemp(prefix="no-work-")  # what somebody adopted in this checkout is not tested here
os.environ.setdefault("MICROBERT_TODAY", str(datetime.date.today().toordinal()))  # one for all processes, also at midnight


@pytest.fixture(scope="session")
def site_folder(tmp_path_factory):
    "The website, built once for all processes of a test run; not to be changed."
    from filelock import FileLock

    from microbert_course.site.build import build

    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with FileLock(base / "site.lock"):
        return base / "site" if (base / "site" / "index.html").is_file() else build(base / "site")


@pytest.fixture(scope="session")
def is_timed():
    "Whether a limit in seconds is judged here."
    return IS_TIMED


@pytest.fixture(scope="module")
def import_kernels():
    "Imports a module of Triton kernels by its name; without a GPU, Triton interprets them."
    import torch

    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            patch.setenv("TRITON_INTERPRET", "1")  # before Triton is imported
        triton = pytest.importorskip("triton", reason="needs Triton, which torch brings along for GPUs")
        if not torch.cuda.is_available() and isinstance(triton.language.zeros, triton.JITFunction):
            pytest.skip("another module has imported Triton, which is then too late to be told to interpret: run this one alone")
        yield lambda name: importlib.import_module(f"microbert_course.{name}")


def pytest_make_parametrize_id(val, argname):
    "Bytes never name a test: a compressed file holds the time it was made at, and every process must collect the same names."
    return argname if isinstance(val, bytes) else None


def pytest_configure(config):
    config.stash[TIMES] = {}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C, and so would every child


def lesson_times(reports) -> dict[str, float]:  # {"03_attention": 12.5}
    "The seconds that tests recorded as `lesson_s`."
    return {re.search(r"\[(.*)\]$", report.nodeid).group(1): seconds
            for report in reports for name, seconds in report.user_properties if name == "lesson_s"}


def pytest_sessionfinish(session):
    "Under pytest-xdist only the process that collects the reports judges."
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    reports = [report for kind in ("passed", "failed") for report in reporter.stats.get(kind, []) if getattr(report, "when", "") == "call"]
    session.config.stash[TIMES] = times = lesson_times(reports)
    if IS_TIMED and sum(times.values()) > ALL_LESSONS_LIMIT_S and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    "One line a lesson, and their sum."
    times = config.stash[TIMES]
    if not times:
        return
    terminalreporter.section("seconds of each lesson at quick sizes (CPU time)")
    for lesson, seconds in sorted(times.items()):
        terminalreporter.write_line(f"{seconds:6.1f}  {lesson}")
    total = sum(times.values())
    terminalreporter.write_line(f"{total:6.1f}  together; the limit in CI is {ALL_LESSONS_LIMIT_S}", bold=True)
    if IS_TIMED and total > ALL_LESSONS_LIMIT_S:
        terminalreporter.write_line(f"FAILED all lessons together: {total:.0f} s, the limit is {ALL_LESSONS_LIMIT_S} s: "
                                    "make the quick values of the slowest smaller", red=True)
