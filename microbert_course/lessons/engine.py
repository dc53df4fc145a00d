"""The papermill engine that runs a lesson in a kernel of this very Python, and finds what papermill would let pass.

The one module of the package that imports papermill and Jupyter; `runner` imports it when a lesson is run."""

import ast
import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from microbert_course.lessons.cells import CellFault, is_code, is_skipped

NAME = "microbert"
ABOUT = "__import__('microbert_course.lessons.about', fromlist=['about']).about()"
log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())
logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of each `# quick:` comment; lessons.parameters reads those
log.propagate = False  # every fault reaches the caller as an exception; nbclient would tell it a second time


@dataclass
class Run:
    "What the engine is told about one run, and what it tells back."

    folder: Path  # a fresh temporary folder, for the kernel's files
    env: dict[str, str]
    network_log: Path
    flags: tuple[str, ...]
    cell_limit_s: float
    notebook_limit_s: float
    on_progress: Callable[[int, int, str], None] | None = None
    started: float = field(default_factory=time.monotonic)
    executed: NotebookNode | None = None
    about: dict = field(default_factory=dict)  # what lessons.about found in the kernel after the last cell
    cell_index: int | None = None  # None: no cell has started
    stderr_line: str = ""

    def time_left(self) -> float:
        "Seconds until the notebook's limit."
        return self.started + self.notebook_limit_s - time.monotonic()

    def report(self, text: str = "") -> None:
        "Tell the caller where the run is."
        if self.on_progress:
            self.on_progress(self.cell_index, len(self.executed.cells), text)

    def check_network(self) -> None:
        "Raises: CellFault if a cell reached for the network, even if it swallowed the error."
        with contextlib.suppress(FileNotFoundError):
            attempt = self.network_log.read_text(encoding="utf-8", errors="replace").splitlines()[0]
            event, _, target = attempt.partition(" ")
            raise CellFault(self.cell_index, f"reached for the network ({event}: {target}): lessons run offline, "
                                             "so take data from an installed package or a local file")


class LessonKernelManager(AsyncKernelManager):
    "Starts a kernel of this Python, whatever kernels the user has installed, and can end it with all it started."

    process: subprocess.Popen | None = None

    @property
    def kernel_spec(self) -> KernelSpec:
        "The kernel in the environment of this process."
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="python3", language="python")

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kw) -> None:
        await super()._async_launch_kernel(kernel_cmd, **kw)
        self.process = self.provisioner.process

    def end(self) -> None:
        "Kill what is left: the kernel has a process group of its own."
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)


class LessonClient(PapermillNotebookClient):
    "Runs the cells within their limits; every way to end early becomes a CellFault that names the cell."

    def __init__(self, nb_man, run: Run, **kw):
        super().__init__(nb_man, log=log, timeout_func=lambda cell: min(run.cell_limit_s, run.time_left()),
                         on_cell_execute=self.before_cell, on_cell_executed=self.after_cell, iopub_timeout=30,
                         shell_timeout_interval=1, force_raise_errors=True, **kw)
        self.run = run
        self.manager: LessonKernelManager | None = None

    def create_kernel_manager(self) -> LessonKernelManager:
        "A manager whose files are all in the run's folder; no ports where the system has sockets in files."
        self.manager = LessonKernelManager(kernel_name="python3", connection_file=str(self.run.folder / "kernel.json"))
        address = str(self.run.folder / "kernel")
        if os.name == "posix" and len(address) < 90:  # the system's limit for a socket's name is about 100
            self.manager.transport, self.manager.ip = "ipc", address
        self.km = self.manager
        return self.manager

    def execute(self, **kwargs) -> NotebookNode:
        "Run all cells; no process of the kernel is left afterwards, however it ends."
        kernel_log = self.run.folder / "kernel.log"
        try:
            with kernel_log.open("wb") as file:  # not the terminal: its width and our progress bar are none of the kernel's business
                return super().execute(env=self.run.env, cwd=str(self.run.folder / "cwd"), stdout=file, stderr=file, **kwargs)
        except DeadKernelError:
            raise CellFault(self.run.cell_index, self.how_it_died()) from None
        except RuntimeError as error:
            if self.run.cell_index is not None:
                raise
            last_line = (kernel_log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [str(error)])[-1]
            raise CellFault(None, f"the kernel did not start ({last_line}): is ipykernel installed in this environment?") from None
        finally:
            if self.manager is not None:
                self.manager.end()

    def papermill_execute_cells(self) -> None:
        "papermill's loop; after a fault the kernel gets no time to say goodbye."
        try:
            super().papermill_execute_cells()
            self.run.about = self.ask_about()
        except CellTimeoutError:
            self.shutdown_kernel = "immediate"
            raise CellFault(self.run.cell_index, self.what_took_too_long()) from None
        except BaseException:
            self.shutdown_kernel = "immediate"
            raise

    def ask_about(self) -> dict:
        "Versions, device and CPU time, from the kernel itself; the notebook keeps no trace of the question."
        reply = self.wait_for_reply(self.kc.execute("pass", silent=True, store_history=False, user_expressions={"about": ABOUT}))
        answer = reply["content"]["user_expressions"]["about"]
        if answer["status"] != "ok":
            raise CellFault(None, f"the kernel cannot say what it ran on ({answer['ename']}: {answer['evalue']}): "
                                  "does a cell change the import path or sys.modules?")
        return ast.literal_eval(answer["data"]["text/plain"])

    def what_took_too_long(self) -> str:
        "Which of the two limits ended the cell."
        if self.run.time_left() <= 0:
            return f"the notebook's limit of {self.run.notebook_limit_s:g} s ended here, and the kernel was killed"
        return f"ran longer than its limit of {self.run.cell_limit_s:g} s and was killed"

    def how_it_died(self) -> str:
        "The sentence for a kernel that is gone."
        status = self.manager.process.poll() if self.manager and self.manager.process else None
        if status is not None and status < 0:
            hint = " (out of memory?)" if -status == signal.SIGKILL else ""
            return f"the kernel was killed by signal {-status}{hint}"
        return f"the kernel ended with status {status}: a lesson must not end its own kernel"

    def before_cell(self, cell: NotebookNode, cell_index: int) -> None:
        "nbclient calls this before each code cell that will run."
        self.run.cell_index, self.run.stderr_line = cell_index, ""
        if self.run.time_left() <= 0:
            raise CellFault(cell_index, self.what_took_too_long())
        self.run.report()

    def after_cell(self, cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
        "nbclient calls this after each cell, before it looks for an error."
        self.run.check_network()
        reply = execute_reply["content"]
        asked_to_exit = any(item.get("source") == "ask_exit" for item in reply.get("payload", []))
        if asked_to_exit or reply.get("ename") == "SystemExit":
            raise CellFault(cell_index, "ends the kernel (sys.exit, exit or quit), which would count as success and leave out "
                                        "the rest: take the call away")
        if reply["status"] == "error":
            words = " ".join(f"{reply['ename']}: {reply['evalue']}".split()).rstrip(":")
            raise CellFault(cell_index, words if len(words) <= 300 else words[:299] + "…")
        if reply["status"] != "ok":
            raise CellFault(cell_index, f"was not run (status {reply['status']!r})")

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        "Passes on the line that a progress bar draws."
        content = msg["content"]
        if msg["msg_type"] == "stream" and content["name"] == "stderr":
            drawn = re.split(r"[\r\n]+", self.run.stderr_line + content["text"])
            self.run.stderr_line = drawn[-1] or next((line for line in reversed(drawn) if line.strip()), "")
            self.run.report(self.run.stderr_line.strip())
            self.run.stderr_line = drawn[-1]
        return super().process_message(msg, cell, cell_index)


class LessonEngine(NBClientEngine):
    "Obeys nbdev's directives: what nbdev would leave out is tagged skip-execution, in the executed copy."

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name: str, *, run: Run, start_timeout: int = 60, **_) -> None:
        "Called by papermill."
        run.executed = nb_man.nb
        for cell in nb_man.nb.cells:
            if cell.cell_type == "code" and is_skipped(cell, run.flags):
                cell.metadata.tags = [*cell.metadata.get("tags", []), "skip-execution"]
        LessonClient(nb_man, run, kernel_name=kernel_name, startup_timeout=start_timeout).execute()
        run.check_network()
        for index, cell in enumerate(nb_man.nb.cells):
            if is_code(cell) and "skip-execution" not in cell.metadata.get("tags", []) and cell.execution_count is None:
                raise CellFault(index, "was never run: an earlier cell ended the kernel")


papermill_engines.register(NAME, LessonEngine)
