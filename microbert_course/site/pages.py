"""Writes the pages that Sphinx builds the site from."""

import json
from pathlib import Path

from microbert_course.lessons.catalogue import lesson_paths
from microbert_course.lessons.cells import read_notebook
from microbert_course.site.links import page_of
from microbert_course.site.notebooks import ran_on, site_notebook


def write_pages(root: Path, source: Path) -> None:
    "Every page of the site, as notebooks and markdown."
    notebooks = {page_of(path.relative_to(root).as_posix()): path for path in [*lesson_paths(root), *sorted((root / "exercises").glob("*.ipynb"))]}
    pages = dict.fromkeys(notebooks, ".ipynb") | {"index": ".md"}
    for page, path in notebooks.items():
        head = ran_on(read_notebook(path), path.relative_to(root).as_posix())
        head = f":::{{container}} ran-on\n{head}\n:::" if head else ""
        _write(source / f"{page}.ipynb", json.dumps(site_notebook(path, root, page, pages, head), ensure_ascii=False))
    _write(source / "index.md", "# MicroBERT\n\n```{toctree}\n" + "\n".join(notebooks) + "\n```\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
