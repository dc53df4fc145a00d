"""README.md from nbs/index.ipynb: one text, read as a notebook or on the repository's front page."""

import posixpath
import re
from pathlib import Path

from microbert_course.lessons.cells import DIRECTIVE, directives, is_code, read_notebook

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/])[^)\s#]+")
NOTE = "<!-- Made from nbs/index.ipynb by `make export`: edit the notebook. -->\n"


def render_readme(index_path: str | Path) -> str:
    "The notebook as markdown: text as it is, code fenced with what it printed; links that worked from nbs/ work from the root."
    index_path = Path(index_path)
    parts = []
    for cell in read_notebook(index_path)["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(LINK.sub(lambda link: _from_root(index_path.parent, link.group()), cell["source"]))
        elif is_code(cell) and "hide" not in directives(cell["source"]):
            code = "\n".join(line for line in cell["source"].splitlines() if not DIRECTIVE.match(line))
            parts += [_fence("python", code), *filter(None, map(_printed, cell.get("outputs", [])))]
    return NOTE + "\n" + "\n\n".join(part.strip("\n") for part in parts) + "\n"


def broken_links(readme: str, root: Path) -> list[str]:
    "Relative links of the README that lead to no file."
    return [link for link in LINK.findall(readme) if not (root / link).exists()]


def _from_root(folder: Path, link: str) -> str:
    return posixpath.normpath(posixpath.join(folder.name, link)) if (folder / link).exists() else link


def _printed(output: dict) -> str:
    "An output as markdown; pictures and progress are left to the notebook."
    data = output.get("data", {})
    if "text/markdown" in data:
        return "".join(data["text/markdown"])
    if "image/png" in data or output.get("name") == "stderr":
        return ""
    text = "".join(output.get("text", data.get("text/plain", ""))).strip("\n")
    return _fence("text", text) if text else ""


def _fence(language: str, text: str) -> str:
    ticks = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", text))])
    return f"{ticks}{language}\n{text}\n{ticks}"
