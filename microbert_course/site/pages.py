"""Writes the pages that Sphinx builds the site from: every text of the repository, where a reader looks for it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.lessons.catalogue import Lesson, lessons
from microbert_course.lessons.cells import read_notebook
from microbert_course.lessons.prose import MARKER
from microbert_course.lessons.public_names import exported_modules
from microbert_course.site.api import module_pages, write_api
from microbert_course.site.links import KEPT, page_of, relink
from microbert_course.site.notebooks import ran_on, site_notebook
from microbert_course.site.pictures import catalogued, pictures_page, saved_pictures
from microbert_course.site.tables import bands_page, benchmarks_page, exercises_page

PARTS = {"1_foundations": "Foundations", "2_scaling": "Scaling", "3_posttraining": "Post-training"}
INSTALL, LICENCE, USE = "install", "licence", "use"
# the sections of the front page that have a page of their own; those not named here stay on the front page
SECTIONS = {"Two commands": INSTALL, "The same without make": INSTALL, "Which torch: CPU or CUDA": INSTALL, "Exercises": "exercises/index",
            "Use the package": USE, "Working on the course": "contributing", "Data and licence": LICENCE}


def write_pages(root: Path, source: Path) -> None:
    """Every page of the site, as notebooks and markdown.

    Raises: CourseError if a notebook cannot be read."""
    found = lessons(root)
    notebooks = {page_of(lesson.path.relative_to(root).as_posix()): lesson.path for lesson in found}
    exercises = {f"exercises/{path.stem}": path for path in sorted((root / "exercises").glob("*.ipynb"))}
    explorables = catalogued()
    texts = [*(["pictures"] if explorables else []), INSTALL, USE, "exercises/index", "api/index", "bands", "benchmarks", "teachers", "tutor", "contributing", LICENCE, "index"]
    pages = dict.fromkeys([*notebooks, *exercises], ".ipynb") | dict.fromkeys([*texts, *module_pages(root)], ".md")
    titles = {lesson.path.stem: f"{lesson.number} · {lesson.title}" if lesson.number.isdigit() else lesson.title for lesson in found}
    built = {module.lesson: module.name.removeprefix("microbert_course.") for module in exported_modules(root, "microbert_course")}

    for page, path in (notebooks | exercises).items():
        head = _head(path, root, page, pages, built) if page in notebooks else ""
        _write(source / f"{page}.ipynb", json.dumps(site_notebook(path, root, page, pages, head), ensure_ascii=False))
    from_api = {built[lesson.number]: f"[lesson {lesson.number}](../{_below(lesson)})" for lesson in found if lesson.number in built}
    markdown = write_api(root, from_api) | _texts(root, pages, titles)
    markdown["index"] += _contents(found, titles, bool(explorables))
    if explorables:
        links = {lesson.number: f"[lesson {lesson.number}]({_below(lesson)})" for lesson in found}
        markdown["pictures"] = pictures_page(explorables, saved_pictures(found), links, source)
    for page, text in markdown.items():
        _write(source / f"{page}.md", text)
    for page in source.rglob("*.*"):
        if page.suffix in (".md", ".ipynb"):
            _keep_pictures(page.read_text(encoding="utf-8"), root, source)


def _keep_pictures(text: str, root: Path, source: Path) -> None:
    """Copy the pictures that a page shows from the repository.

    Raises: CourseError if one is missing."""
    for name in re.findall(rf"!\[[^\]]*\]\({KEPT}([^)\s]+)\)", text):
        if not (root / name).is_file():
            raise CourseError(f"{root / name} is missing, and a page shows it: restore it, or take it out of the page")
        target = source / KEPT.strip("/") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, target)


def _head(path: Path, root: Path, page: str, pages: dict[str, str], built: dict[str, str]) -> str:
    "What stands below a lesson's title: its last run, the module that it makes, its exercises."
    up = "../" * page.count("/")
    number = path.stem.partition("_")[0]
    links = [f"It makes [{built[number]}]({up}api/{built[number]}.md)."] if number in built else []
    links += [f"[Its exercises]({up}exercises/{path.stem}.ipynb) wait for you."] if f"exercises/{path.stem}" in pages else []
    facts = ran_on(read_notebook(path), path.relative_to(root).as_posix())
    return f":::{{container}} ran-on\n{' '.join(filter(None, [facts, *links]))}\n:::" if facts or links else ""


def _texts(root: Path, pages: dict[str, str], titles: dict[str, str]) -> dict[str, str]:
    "The pages that are not notebooks, the library's aside."
    sections = _front_page(root)

    def text(name: str, page: str) -> str:
        return relink(_read(root / name), name, page, pages)

    def section(page: str) -> str:
        return relink("\n\n".join(sections.get(page, [])), "nbs/index.ipynb", page, pages)

    licence = _read(root / "LICENSE")
    return {
        "index": section("index"),
        INSTALL: f"# Install\n\n{section(INSTALL)}",
        USE: f"# Use the package\n\n{_without_heading(section(USE))}",
        "exercises/index": exercises_page(root, titles, _without_heading(section("exercises/index"))),
        "bands": bands_page(root, titles),
        "benchmarks": benchmarks_page(root),
        "teachers": text("solutions/README.md", "teachers"),
        "tutor": text("TUTOR.md", "tutor"),
        "contributing": f"{text('CONTRIBUTING.md', 'contributing')}\n\n{section('contributing')}",
        LICENCE: f"# Data and licence\n\n{_without_heading(section(LICENCE))}\n\n## Apache License 2.0\n\n```text\n{licence}\n```",
    }


def _front_page(root: Path) -> dict[str, list[str]]:  # {"install": ["## Two commands\n...", ...]}
    "The sections of nbs/index.ipynb, by the page that they go to."
    cells = [cell["source"] for cell in read_notebook(root / "nbs" / "index.ipynb")["cells"] if cell["cell_type"] == "markdown"]
    text = MARKER.sub(lambda marker: marker.group(2), "\n\n".join(cells))
    found: dict[str, list[str]] = {}
    for part in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        title = re.match(r"## (.+)", part)
        found.setdefault(SECTIONS.get(title.group(1).strip(), "index") if title else "index", []).append(part.strip())
    return found


def _without_heading(text: str) -> str:
    return re.sub(r"\A## .*\n+", "", text)


def _read(path: Path) -> str:
    if not path.is_file():
        raise CourseError(f"{path} is missing: restore it from git")
    return path.read_text(encoding="utf-8")


def _contents(found: list[Lesson], titles: dict[str, str], with_pictures: bool) -> str:
    "The contents that the sidebar shows, as hidden lists below the front page."
    def of_folder(fits: Callable[[Lesson], bool]) -> list[str]:
        return [f"{titles[lesson.path.stem]} <{page_of(f'nbs/{_below(lesson)}')}>" for lesson in found if fits(lesson)]

    folders = list(dict.fromkeys(lesson.path.parent.name for lesson in found if lesson.path.parent.name != "nbs"))
    lists = {"Start": ["Install <install>", *of_folder(lambda lesson: lesson.path.parent.name == "nbs" and lesson.number.isdigit())]}
    for folder in folders:
        lists[PARTS.get(folder, folder)] = of_folder(lambda lesson, folder=folder: lesson.path.parent.name == folder)
    lists["Practise"] = ["Exercises <exercises/index>", *(["Pictures to play with <pictures>"] if with_pictures else [])]
    lists["Look it up"] = ["The library <api/index>", "Use the package <use>", *of_folder(lambda lesson: lesson.path.parent.name == "nbs" and not lesson.number.isdigit()),
                           "How far results stray <bands>", "Benchmarks <benchmarks>"]
    lists["Teach, take part"] = ["For teachers <teachers>", "For AI assistants <tutor>", "Contributing <contributing>", "Data and licence <licence>"]
    return "".join(f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(entries) + "\n```" for caption, entries in lists.items()) + "\n"


def _below(lesson: Lesson) -> str:
    "A lesson's file, as seen from nbs/."
    return lesson.path.name if lesson.path.parent.name == "nbs" else f"{lesson.path.parent.name}/{lesson.path.name}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
