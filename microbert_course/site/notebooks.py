"""A notebook as the site shows it: nbdev's directives obeyed and taken out, links led to pages, and a line about its last run."""

import html
import re
from pathlib import Path

from microbert_course.lessons.cells import DIRECTIVE, directives, read_notebook
from microbert_course.lessons.outputs import RAN_ON, WIDGET
from microbert_course.lessons.prose import MARKER
from microbert_course.lessons.results import MIME
from microbert_course.practice.exercises import HEADER
from microbert_course.site.links import relink

TAGS = {"hide": "hide-cell", "hide_input": "hide-input", "hide_output": "hide-output", "export": "exported", "exports": "exported"}
HEADING = re.compile(r"^#{1,4} +(.+?)\s*$", re.MULTILINE)
DEVICES = {"cpu": "the CPU", "cuda": "a CUDA GPU", "mps": "an Apple GPU"}


def site_notebook(
    path: Path,
    root: Path,
    page: str,  # where it goes, "1_foundations/03_attention"
    pages: dict[str, str],  # those that there are, and the endings of their sources
    head: str = "",  # markdown to stand below the title and its sentence
) -> dict:  # a notebook of format 4
    "The notebook as a page."
    notebook = read_notebook(path)
    source = path.relative_to(root).as_posix()
    cells, heading = [], path.stem
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = relink(_plain(cell["source"]), source, page, pages)
            heading = (HEADING.findall(text) or [heading])[-1]
            cells.append({**cell, "source": _with_anchor(_below_title(text, head) if not cells else text)})
        elif cell["cell_type"] == "code":
            cells += [shown] if (shown := _code_cell(cell, heading)) else []
    return {**notebook, "cells": cells, "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                                                     "language_info": {"name": "python"}}}


def _plain(text: str) -> str:
    "Markdown without the comments around numbers that were filled in."
    return MARKER.sub(lambda marker: marker.group(2), text)


def _below_title(text: str, head: str) -> str:
    "The title cell with `head` after the title and the sentence below it."
    match = re.match(r"# .*\n*(?:> .*\n?)*", text)
    return f"{match.group().rstrip()}\n\n{head}\n\n{text[match.end():].lstrip()}" if match and head else text


def _with_anchor(text: str) -> str:
    "An exercise's heading can be linked to by its id; its second line is set apart from the statement."
    match = HEADER.match(text)
    if not match:
        return text
    number, place, title, name, kind, difficulty, minutes, points = match.groups()
    facts = f"`{name}` · {kind} · {difficulty} · {minutes} minutes · {points} points"
    return f"(exercise:{name})=\n## {number}.{place} {title}\n\n:::{{container}} facts\n{facts}\n:::\n\n{text[match.end():]}"


def _code_cell(cell: dict, heading: str) -> dict | None:
    "The cell without directives, with tags in their place; None if nothing is left of it."
    found = directives(cell["source"])
    source = "\n".join(line for line in cell["source"].splitlines() if not DIRECTIVE.match(line)).strip("\n")
    if not source:
        return None
    tags = [*cell["metadata"].get("tags", []), *(TAGS[name] for name in found if name in TAGS)]
    outputs = [shown for output in cell.get("outputs", []) for shown in _output(output)]
    picture = next((words for output in cell.get("outputs", []) if (words := words_of(output))), f"Figure: {html.unescape(heading)}")
    metadata = {"tags": tags, "mystnb": {"image": {"alt": " ".join(picture.replace("`", "").replace("*", "").split())}}}
    return {**cell, "source": source, "metadata": metadata, "outputs": outputs, "execution_count": None}


def words_of(output: dict) -> str:
    "What a picture says in words, if it was made to be moved: beside a plain figure stands only its address, `<Figure ...>`. '' for all else."
    data = output.get("data", {})
    words = "".join(data.get("text/plain", "")).strip()
    return words if "image/png" in data and not words.startswith("<") else ""


def _output(output: dict) -> list[dict]:
    "What a page shows of an output. Something to be moved needs its kernel: here are its picture, and what it says in words."
    data = {kind: value for kind, value in output.get("data", {}).items() if kind not in (WIDGET, MIME)}
    words = words_of(output)
    if words:
        told = f"<details class='in-words'><summary>In words (it moves in JupyterLab)</summary><p>{html.escape(words)}</p></details>"
        return [{**output, "data": {"image/png": data["image/png"]}},
                {"output_type": "display_data", "metadata": {}, "data": {"text/html": told, "text/plain": words}}]
    if WIDGET in output.get("data", {}) and not data.keys() - {"text/plain"}:
        return []
    if "text/html" in data:  # the theme has a place for tables of pandas; others would stand on a light ground in the dark
        data["text/html"] = re.sub(r"<table(?![^>]*\bclass=)", '<table class="dataframe"', "".join(data["text/html"]))
    return [{**output, "data": data}] if "data" in output else [output]


def ran_on(notebook: dict, source: str) -> str:  # source: its file, below the repository's root
    "When, on what and with which versions a notebook last ran, in one line of markdown; '' if nobody noted it."
    facts = notebook["metadata"].get(RAN_ON)
    if not facts:
        return ""
    versions = f"Python {facts['python']}" + (f" and torch {facts['torch']}" if facts.get("torch") else "")
    seconds = f"{facts['seconds']:.0f} seconds" if facts["seconds"] < 100 else f"{facts['seconds'] / 60:.0f} minutes"
    return (f"Last run on {facts['date']}, in {seconds} of computing on {DEVICES.get(facts['device'], facts['device'])} ({facts['dtype']}), "
            f"with {versions}. The file is `{source}`.")
