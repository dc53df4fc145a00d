"""One JupyterLab for all browser tests, in a folder of its own, and a notebook in it as a learner drives it: by clicks and keys."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from browser.chromium import Watched

WAIT_S = 60


class Lab:
    "A JupyterLab whose files are in `room`; nothing of the user's settings or of the checkout is read or written."

    def __init__(self, room: Path):
        self.room = room
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        own = {f"JUPYTER_{name}_DIR": str(room / ".jupyter" / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
        root = Path(__file__).resolve().parents[2]
        environment = os.environ | own | {
            "MICROBERT_WORK": str(room / "work"), "MICROBERT_RUNS": str(room / "runs"), "IPYTHONDIR": str(room / ".ipython"), "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
        (room / ".jupyter").mkdir()
        self.log = (room / ".jupyter" / "server.log").open("wb")
        self.server = subprocess.Popen([
            sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
            "--IdentityProvider.token=", f"--ServerApp.root_dir={room}", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly"],
            env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and self.server.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/api/status", timeout=2).close()
                return
            except OSError:
                time.sleep(0.1)
        self.close()
        raise AssertionError("JupyterLab did not start:\n" + (self.room / ".jupyter" / "server.log").read_text(encoding="utf-8", errors="replace")[-2000:])

    def close(self) -> None:
        self.server.terminate()
        try:
            self.server.wait(20)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        self.log.close()


class Notebook:
    "A notebook open in JupyterLab."

    def __init__(self, lab: Lab, watched: Watched, path: str):
        self.lab, self.watched, self.page = lab, watched, watched.page
        self.page.goto(f"{lab.url}/lab/tree/{path}?reset")
        self.ready()
        self.command("application:toggle-left-area")  # the list of files: more room for the notebook

    def ready(self) -> None:
        "Wait until the notebook in front has a kernel that answers."
        self.page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.isReady", timeout=WAIT_S * 1000)
        self.page.wait_for_function("() => window.jupyterapp.shell.currentWidget.context.isReady")

    @property
    def panel(self):
        "The notebook in front."
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def command(self, name: str) -> None:
        "A command of JupyterLab, begun and not waited for."
        self.page.evaluate(f"() => {{ window.jupyterapp.commands.execute({json.dumps(name)}) }}")

    def cells(self) -> list[dict]:
        "The cells as they are now: type, source, execution count, whether running, errors."
        return self.page.evaluate("""() => Array.from(window.jupyterapp.shell.currentWidget.content.model.cells).map(cell => ({
            type: cell.type, source: cell.sharedModel.getSource(), count: cell.executionCount ?? null, state: cell.executionState ?? null,
            errors: cell.type == 'code' ? Array.from({length: cell.outputs.length}, (_, i) => cell.outputs.get(i).toJSON())
                .filter(out => out.output_type == 'error').map(out => out.ename + ': ' + out.evalue) : []}))""")

    def number_of(self, beginning: str) -> int:
        "The place of the code cell whose source holds these words."
        return next(number for number, cell in enumerate(self.cells()) if cell["type"] == "code" and beginning in cell["source"])

    def cell(self, number: int):
        "A cell, brought into view: JupyterLab draws others only when one scrolls to them."
        self.page.evaluate("""async (number) => { const notebook = window.jupyterapp.shell.currentWidget.content;
            notebook.activeCellIndex = number; await notebook.scrollToItem(number, 'center') }""", number)
        return self.panel.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{number}"]')

    def output(self, number: int):
        return self.cell(number).locator(".jp-Cell-outputArea")

    def write(self, number: int, text: str) -> None:
        "Put the cursor into a cell and type over what is there, as a paste does: no key closes brackets of its own accord."
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(text)

    def run(self, number: int, limit_s: float = WAIT_S) -> None:
        "Shift-Enter in a cell, then wait for its end."
        before = self.cells()[number]["count"]
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        self.wait_for(lambda: (now := self.cells()[number])["count"] not in (None, before) and now["state"] != "running", limit_s)

    def run_all(self, limit_s: float) -> None:
        "Run every cell from the menu's command, and wait for the last one."
        code = [number for number, cell in enumerate(self.cells()) if cell["type"] == "code" and cell["source"].strip()]
        self.command("notebook:run-all-cells")
        self.wait_for(lambda: all(now["count"] is not None and now["state"] != "running" for now in map(self.cells().__getitem__, code))
                      or any(now["errors"] for now in self.cells()), limit_s)
        faults = [error for now in self.cells() for error in now["errors"]]
        assert not faults, faults

    def wait_for(self, holds, limit_s: float = WAIT_S) -> None:
        "Ask again and again, while the page's events are attended to."
        deadline = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < deadline, f"waited {limit_s} s in vain; the cells: {[(now['count'], now['state'], now['errors']) for now in self.cells()]}"
            self.page.wait_for_timeout(100)

    def end(self) -> None:
        "Save what is open, so that nothing asks, and end the kernels."
        self.page.evaluate("""async () => { for (const widget of Array.from(window.jupyterapp.shell.widgets('main'))) {
            if (widget.context) { await widget.context.save(); await widget.context.sessionContext.shutdown() } } }""")


def copy_lesson(source: Path, to: Path, is_full: bool = False) -> None:
    "A copy of a lesson without outputs, at the quick values of its parameters cell unless it is to be full."
    from microbert_course.lessons.cells import read_notebook
    from microbert_course.lessons.parameters import find_parameters, quick_values

    notebook = read_notebook(source)
    if not is_full and (index := find_parameters(notebook["cells"])) is not None:
        values = quick_values(notebook["cells"], index)
        notebook["cells"][index]["source"] += "\n" + "\n".join(f"{name} = {value!r}" for name, value in values.items())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")


def new_cell(text: str, id: str) -> dict:
    return {"cell_type": "code", "execution_count": None, "id": id, "metadata": {}, "outputs": [], "source": text}


def notebook_of(*cells: str) -> str:
    "A notebook of these code cells."
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    return json.dumps({"cells": [new_cell(text, f"cell{number}") for number, text in enumerate(cells)], "metadata": {"kernelspec": kernel}, "nbformat": 4,
                       "nbformat_minor": 5})
