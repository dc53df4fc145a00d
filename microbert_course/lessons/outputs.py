"""What cells printed and drew: made small for the executed notebook, put back into the source notebook to be committed."""

import json
import re
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.files import write_whole
from microbert_course.lessons.cells import is_skipped, tags, test_flags
from microbert_course.lessons.pictures import slim_png

ADDRESS = re.compile(r"(<.*?)( at 0x[0-9a-fA-F]+)(>)")  # as nbdev_clean takes them out
RAN_ON = "microbert"
WIDGET = "application/vnd.jupyter.widget-view+json"


def join_streams(outputs: list[dict]) -> list[dict]:
    "The outputs with neighbouring pieces of one stream joined."
    joined = []
    for output in outputs:
        is_stream = output["output_type"] == "stream"
        if is_stream and joined and joined[-1]["output_type"] == "stream" and joined[-1]["name"] == output["name"]:
            joined[-1]["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def tidy_streams(outputs: list[dict]) -> list[dict]:
    "The outputs with pieces of one stream joined, and of a progress bar only its last state (it keeps its carriage return)."
    tidy = join_streams(outputs)
    for output in tidy:
        if output["output_type"] == "stream":
            output["text"] = re.sub(r"[^\n]*\r(?=[^\n\r])", "\r", output["text"])
    return tidy


def is_progress_bar(output: dict) -> bool:
    "Whether an output is a bar that redraws its line, or a widget that is dead without its kernel and shows nothing else."
    is_bar = output["output_type"] == "stream" and output["name"] == "stderr" and "\r" in "".join(output["text"])
    data = output.get("data", {})
    return is_bar or (WIDGET in data and "image/png" not in data)


def save_outputs(executed: str | Path, source: str | Path, ran_on: dict | None = None) -> None:
    """Put the outputs of an executed notebook back into its source, which changes in nothing else.

    Left out: the injected cell, progress bars, execution counts, memory addresses. A cell that was not run keeps its outputs.
    `ran_on` (date, device, versions, seconds) goes into the notebook's metadata, under RAN_ON; settings.ini lets nbdev_clean keep it.
    The file is laid out as nbdev_clean lays it out. Raises: CourseError if the source changed since it was run."""
    executed, source = Path(executed), Path(source)
    ran = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    notebook = json.loads(source.read_text(encoding="utf-8"))
    ran = {cell.get("id"): cell for cell in ran if "injected-parameters" not in tags(cell)}
    flags = test_flags(source.resolve().parent)
    for number, cell in enumerate(notebook["cells"], start=1):
        twin = ran.get(cell.get("id"))
        if twin is None or "".join(twin["source"]) != "".join(cell["source"]):
            raise CourseError(f"cell {number} of {source} changed since {executed.name} was run: run the lesson again")
        if cell["cell_type"] != "code":
            continue
        cell["execution_count"] = None
        if not is_skipped({**cell, "source": "".join(cell["source"])}, flags):
            cell["outputs"] = join_streams([clean_output(output) for output in twin["outputs"] if not is_progress_bar(output)])
    if ran_on is not None:
        notebook["metadata"][RAN_ON] = ran_on
    write_whole(source, json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def clean_output(output: dict) -> dict:
    """One output as nbdev_clean leaves it: no execution count, no memory addresses, images without a newline at the end.

    Of an explorable its picture and its words stay; its widget would be an error message without its kernel."""
    output.get("data", {}).pop(WIDGET, None)
    if "execution_count" in output:
        output["execution_count"] = None
    if "text" in output:
        output["text"] = _without_addresses(output["text"])
    for kind, value in output.get("data", {}).items():
        if kind.startswith("text"):
            output["data"][kind] = _without_addresses(value)
        if kind.startswith("image") and "svg" not in kind:
            output["data"][kind] = "".join(value).rstrip()
        if kind == "image/png":
            output["data"][kind] = slim_png(output["data"][kind])
    return output


def _without_addresses(text: str | list[str]) -> str | list[str]:
    return ADDRESS.sub(r"\1\3", text) if isinstance(text, str) else [ADDRESS.sub(r"\1\3", line) for line in text]
