"""The page of the pictures that move in JupyterLab: each as its lesson saved it, with its question, its words and what can be moved."""

import base64
import html
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from microbert_course.lessons.catalogue import Lesson
from microbert_course.lessons.cells import read_notebook
from microbert_course.site.notebooks import words_of

CATALOGUE = "microbert_course.visual.catalogue"
CALL = re.compile(r"""\bexplore\(\s*["'](\w+)["']""")


def catalogued() -> list:  # of visual.catalogue.Explorable
    "Every explorable, in the order of the lessons; [] where the course has none."
    return list(import_module(CATALOGUE).EXPLORABLES.values()) if find_spec(CATALOGUE) else []


def saved_pictures(found: list[Lesson]) -> dict[str, tuple[Lesson, bytes, str]]:  # {name: (its lesson, PNG, words)}
    "What the lessons' calls of explore() left in the notebooks; of several, the first."
    pictures = {}
    for lesson in found:
        for cell in read_notebook(lesson.path)["cells"]:
            call = CALL.search(cell["source"]) if cell["cell_type"] == "code" else None
            for output in cell.get("outputs", []) if call else []:
                if words := words_of(output):
                    pictures.setdefault(call.group(1), (lesson, base64.b64decode("".join(output["data"]["image/png"])), words))
    return pictures


def pictures_page(
    explorables: list,  # of visual.catalogue.Explorable
    pictures: dict[str, tuple[Lesson, bytes, str]],  # by name
    links: dict[str, str],  # a link to each lesson, {"03": "[lesson 03](1_foundations/03_attention.ipynb)"}
    folder: Path,  # where the pictures are written
) -> str:
    "The page, and its pictures as files beside it."
    parts = ["# Pictures to play with", "In JupyterLab each of these has sliders, and is bound to the tensors and functions of your own lesson: `explore(\"name\", …)` in a cell. Here they stand "
             "still, as the lessons left them."]
    for explorable in explorables:
        controls = ", ".join(control.label.lower() for control in explorable.controls)
        lesson = links.get(explorable.lesson, f"lesson {explorable.lesson}")
        parts += [f"## {explorable.title}", f"{explorable.question} ({lesson})"]
        if explorable.name in pictures:
            _, png, words = pictures[explorable.name]
            (folder / "pictures").mkdir(exist_ok=True)
            (folder / "pictures" / f"{explorable.name}.png").write_bytes(png)
            alt = re.sub(r"[\[\]\\*_`<>\n]", " ", words)
            parts += [f"![{alt}](pictures/{explorable.name}.png)", f"<details class='in-words'><summary>In words</summary><p>{html.escape(words)}</p></details>"]
        parts.append(f":::{{container}} facts\n`explore(\"{explorable.name}\")`, to be moved: {controls}\n:::")
    return "\n\n".join(parts) + "\n"
