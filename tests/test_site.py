"""The website: built once, then looked at as files. What a browser makes of it is tested beside JupyterLab."""

import html
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from microbert_course.errors import CourseError
from microbert_course.lessons.catalogue import lesson_paths, read_lesson
from microbert_course.lessons.cells import directives, is_code, read_notebook
from microbert_course.lessons.public_names import exported_modules
from microbert_course.practice.exercises import exercises
from microbert_course.site import build as building
from microbert_course.site.api import module_pages, write_api
from microbert_course.site.lighten import used_styles
from microbert_course.site.links import page_of, relink
from microbert_course.site.notebooks import ran_on, site_notebook
from microbert_course.site.pictures import pictures_page, saved_pictures
from microbert_course.site.signatures import read_module
from microbert_course.site.weight import loaded, page_bytes

ROOT = Path(__file__).resolve().parent.parent
MAX_PAGE_BYTES = 1_500_000
pytestmark = pytest.mark.xdist_group("site")


class Page(HTMLParser):
    "The links, names and texts of one page."

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.links, self.names, self.loads, self.words, self.skipped, self.styles = [], set(), [], [], 0, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names.update(filter(None, [given.get("id"), given.get("name") if tag == "a" else None]))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "form" and given.get("action"):
            self.links.append(given["action"])
        if tag == "link":
            to_go_to = given.get("rel") in ("index", "search", "next", "prev", "canonical", "copyright")
            (self.links if to_go_to else self.loads).append(given["href"])
        self.loads += [given[name] for name in ("src", "srcset", "poster", "data") if given.get(name)]
        self.styles.append(given.get("style") or "")
        self.skipped += tag in ("script", "style")

    def handle_endtag(self, tag):
        self.skipped -= tag in ("script", "style")

    def handle_data(self, data):
        (self.styles if self.skipped else self.words).append(data)

    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="session")
def pages(site_folder):
    "Every page of the site, read."
    return {path: Page(path) for path in sorted(site_folder.rglob("*.html"))}


def text_of(pages, site_folder, name):
    return pages[site_folder / f"{name}.html"].text()


def test_every_notebook_and_every_text_has_its_page(site_folder):
    wanted = {page_of(path.relative_to(ROOT).as_posix()) for path in [*lesson_paths(ROOT), *(ROOT / "exercises").glob("*.ipynb")]}
    wanted |= {"index", "install", "use", "bands", "benchmarks", "teachers", "tutor", "contributing", "licence", "search", "exercises/index", "api/index"}
    assert not [name for name in sorted(wanted) if not (site_folder / f"{name}.html").is_file()]
    assert len(wanted) > 60


def test_no_link_leads_nowhere(pages, site_folder):
    "Files and anchors, of every page."
    dead = []
    for path, page in pages.items():
        for link in page.links:
            address, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", address):
                continue
            target = (path.parent / unquote(address.partition("?")[0])).resolve() if address else path
            if target not in pages and not target.is_file() or anchor and target in pages and unquote(anchor) not in pages[target].names | {"top"}:
                dead.append(f"{path.relative_to(site_folder)}: {link}")
    assert not dead


def test_nothing_is_fetched_from_elsewhere(pages, site_folder):
    "No script, picture, style or font has another host's address, and all of them are there."
    faults = []
    for path, page in pages.items():
        for address in page.loads:
            if re.match(r"(https?:)?//", address):
                faults.append(f"{path.name}: {address}")
            elif not address.startswith("data:") and not (path.parent / unquote(re.split("[?#]", address)[0])).is_file():
                faults.append(f"{path.name}: {address} is missing")
        faults += [f"{path.name}: {style[:80]}" for style in page.styles if re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style)]
        faults += [f"{path.name}: {style[:80]}" for style in page.styles if re.search(r"import\(|from ['\"]https?:", style)]
    for style in site_folder.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        for address in re.findall(r"(?:@import\s+|url\()\s*[\"']?([^\"')]+)", text):
            if re.match(r"(https?:)?//", address) or not address.startswith("data:") and not (style.parent / re.split("[?#]", address)[0]).is_file():
                faults.append(f"{style.name}: {address}")
    assert not faults


def test_a_page_is_light(pages, site_folder):
    "With its pictures, styles, scripts and MathJax, as if nothing were kept from another page."
    weights = {path.relative_to(site_folder).as_posix(): page_bytes(path, site_folder) for path in pages}
    assert {name: weight for name, weight in weights.items() if weight > MAX_PAGE_BYTES} == {}
    assert max(weights.values()) > 1_000_000, "a lesson with formulas and pictures weighs more: is anything counted?"


def test_directives_are_obeyed_and_not_printed(pages, site_folder):
    "Hidden cells are folded away, exported ones are marked; no `#|` is left."
    for path in lesson_paths(ROOT):
        cells = [cell for cell in read_notebook(path)["cells"] if is_code(cell)]
        text = (site_folder / f"{page_of(path.relative_to(ROOT).as_posix())}.html").read_text(encoding="utf-8")
        assert text.count("tag_hide-cell") == sum("hide" in directives(cell["source"]) for cell in cells), path.name
        assert text.count("tag_exported") == sum("export" in directives(cell["source"]) for cell in cells), path.name
    printed = [path.name for path, page in pages.items() if re.search(r"#\s?\| ?(export|hide|default_exp|eval)\b", page.text()) and path.stem != "contributing"]
    assert not printed
    assert not [path.name for path in pages if "<!--=" in path.read_text(encoding="utf-8")]


def test_no_answer_is_told(pages, site_folder):
    """Neither answers nor hints nor what comes afterwards are on any page.

    What a *build* asks for is in the library, which lessons and its own pages show; so of those, only the pages of the exercises are searched."""
    def squeezed(text: str) -> str:
        return re.sub(r"\s+", "", text)

    everything = {path: squeezed(page.text()) for path, page in pages.items()}
    public = squeezed("".join([*(cell["source"] for path in lesson_paths(ROOT) for cell in read_notebook(path)["cells"]),
                               *(path.read_text(encoding="utf-8") for _, path in module_pages(ROOT).values())]))
    told = []
    for exercise in exercises(ROOT):
        source = read_notebook(ROOT / "solutions" / f"{exercise.lesson}.ipynb")["cells"]
        answers = [block for cell in source for block in re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", cell["source"], re.DOTALL)]
        secrets = [*answers, *(re.sub(r"[`*$]", "", hint) for hint in exercise.hints), re.sub(r"[`*$\[\]]", "", exercise.afterwards)[:80]]
        for secret in map(squeezed, secrets):
            found = [path for path, text in everything.items() if len(secret) > 25 and secret in text]
            told += [f"{path.relative_to(site_folder)}: {secret[:60]}" for path in found if path.parent.name == "exercises" or secret not in public]
    assert not told


def test_an_exercise_has_its_statement_its_blank_and_its_facts(pages, site_folder):
    text = text_of(pages, site_folder, "exercises/03_attention")
    assert "3.1 Scaled dot-product attention" in text and "attention.scaled_dot_product · build · easy · 20 minutes · 10 points" in text
    assert 'raise NotImplementedError("Exercise 3.1")' in text and "hidden keys out of the game" in text
    linked = {link for link in pages[site_folder / "exercises" / "index.html"].links if "#exercise-" in link}
    assert len(linked) == len(exercises(ROOT))


def test_a_lesson_says_when_on_what_and_with_which_versions_it_last_ran(pages, site_folder):
    for path in lesson_paths(ROOT):
        facts = read_notebook(path)["metadata"]["microbert"]
        text = text_of(pages, site_folder, page_of(path.relative_to(ROOT).as_posix()))
        assert f"Last run on {facts['date']}" in text and f"Python {facts['python']}" in text, path.name
        assert not facts.get("torch") or f"torch {facts['torch']}" in text, path.name
    assert ran_on({"metadata": {}}, "nbs/x.ipynb") == ""


def test_every_exported_name_has_a_place_with_its_shapes(pages, site_folder):
    for module in exported_modules(ROOT, "microbert_course"):
        page = pages[site_folder / "api" / f"{module.name.removeprefix('microbert_course.')}.html"]
        assert not [name for name in module.exports() if f"{module.name}.{name}" not in page.names], module.name
        source = (site_folder / "api" / f"{module.name.removeprefix('microbert_course.')}.html").read_text(encoding="utf-8")
        told = re.sub(r"<[^>]*>", "", re.sub(r'<details class="source">.*?</details>', "", source, flags=re.DOTALL))
        notes = [part.note for entry in read_module(module.path, module.name)[1] for one in (entry, *entry.methods) for part in (*one.parts, one.returns) if part]
        shapes = Counter(shape for note in notes for shape in re.findall(r"\([a-z_]+(?:, [a-z0-9_]+)+\)", note))
        assert not [shape for shape, count in shapes.items() if told.count(shape) < count], module.name
    text = text_of(pages, site_folder, "api/models.attention")
    assert "query Tensor (batch, num_heads, seq, head_dim)" in text
    assert "returns tuple[Tensor, Tensor] context like query; weights (batch, num_heads, seq, seq)" in text


def test_recorded_numbers_are_in_the_tables(pages, site_folder):
    bands = json.loads((ROOT / "tests" / "bands.json").read_text(encoding="utf-8"))
    text = text_of(pages, site_folder, "bands")
    names = {name for kinds in bands.values() for entry in kinds.values() for name in entry["numbers"]}
    assert not [name for name in names if name not in text]
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert path.stem in text_of(pages, site_folder, "benchmarks")
    scaling = json.loads((ROOT / "benchmarks" / "results" / "scaling.json").read_text(encoding="utf-8"))
    assert f"{scaling['rows'][0]['tokens_per_s']:,.0f}" in text_of(pages, site_folder, "benchmarks")
    assert "MultiHeadAttention" in text_of(pages, site_folder, "parity") and "largest difference" in text_of(pages, site_folder, "parity")


def test_the_install_page_has_both_ways_and_the_teachers_page_the_grader(pages, site_folder):
    text = text_of(pages, site_folder, "install")
    assert "make course" in text and "python -m venv .venv" in text and "Linux" in text
    assert "microbert grade submissions/ --out grades/" in text_of(pages, site_folder, "teachers")


def test_the_search_index_is_loaded_by_the_search_page_alone_and_knows_the_lessons(pages, site_folder):
    assert "searchindex" in " ".join(loaded(site_folder / "search.html"))
    assert not [path.name for path in pages if path.name != "search.html" and "searchindex" in " ".join(loaded(path))]
    index = (site_folder / "searchindex.js").read_text(encoding="utf-8")
    assert "1_foundations/03_attention" in index and "scaled_dot_product_attention" in index and "perplex" in index


def test_formulas_find_their_parts_of_mathjax(pages, site_folder):
    with_formulas = [path for path in pages if "mathjax/startup.js" in " ".join(loaded(path))]
    assert len(with_formulas) > 10
    for part in building.MATHJAX:
        assert (site_folder / "_static" / "mathjax" / part).is_file()
    assert (site_folder / "_static" / "mathjax" / "LICENSE").is_file()
    assert all("[tex]/ams" in path.read_text(encoding="utf-8") for path in with_formulas)


def test_every_picture_says_what_it_is(pages, site_folder):
    silent = [path.name for path in pages for picture in re.findall(r"<img\b[^>]*>", path.read_text(encoding="utf-8"))
              if not re.search(r'alt="(?!\.\./)[^"]{5,}"', picture)]
    assert not silent


# --- the parts, by hand

def notebook_of(tmp_path, *cells):
    path = tmp_path / "nbs" / "01_a.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return path


def code(source, *outputs):
    return {"cell_type": "code", "id": "a1", "metadata": {}, "source": source, "outputs": list(outputs), "execution_count": None}


def test_a_widget_becomes_its_picture_and_its_words(tmp_path):
    "It would be dead without a kernel; one without a picture is left out."
    view = "application/vnd.jupyter.widget-view+json"
    shown = {"output_type": "display_data", "metadata": {}, "data": {view: {"model_id": "1"}, "image/png": "AAAA", "text/plain": "Head 0 looks at <b>."}}
    bare = {"output_type": "display_data", "metadata": {}, "data": {view: {"model_id": "2"}, "text/plain": "IntSlider()"}}
    saved = {**shown, "data": {kind: value for kind, value in shown["data"].items() if kind != view}}  # as it is when a lesson was saved
    figure = {**saved, "data": {"image/png": "AAAA", "text/plain": "<Figure size 640x480>"}}
    path = notebook_of(tmp_path, code("explore('x')", shown), code("slider", bare), code("explore('x')", saved), code("plot()", figure))
    first, second, third, fourth = site_notebook(path, tmp_path, "01_a", {})["cells"]
    assert third["outputs"] == first["outputs"] and [list(output["data"]) for output in fourth["outputs"]] == [["image/png", "text/plain"]]
    assert [sorted(output["data"]) for output in first["outputs"]] == [["image/png"], ["text/html", "text/plain"]]
    assert html.escape("looks at <b>.") in first["outputs"][1]["data"]["text/html"]
    assert first["metadata"]["mystnb"]["image"]["alt"] == "Head 0 looks at <b>."
    assert second["outputs"] == []


def test_pictures_to_play_with_stand_on_a_page_with_question_words_and_controls(tmp_path):
    view = {"image/png": "iVBO", "text/plain": "Head [0] looks."}
    lesson = read_lesson(notebook_of(tmp_path, code("explore('heads', model=model)", {"output_type": "display_data", "metadata": {}, "data": view})))
    heads = SimpleNamespace(name="heads", title="Heads", question="Who looks?", lesson="01", controls=(SimpleNamespace(label="Layer"),))
    other = SimpleNamespace(name="other", title="Other", question="Why?", lesson="02", controls=())
    page = pictures_page([heads, other], saved_pictures([lesson]), {"01": "[lesson 01](01_a.ipynb)"}, tmp_path)
    assert "## Heads\n\nWho looks? ([lesson 01](01_a.ipynb))\n\n![Head  0  looks.](pictures/heads.png)" in page
    assert "<p>Head [0] looks.</p>" in page and "to be moved: layer" in page and page.count("![") == 1
    assert (tmp_path / "pictures" / "heads.png").read_bytes() == b"\x89PN"[:3]


def test_cells_that_are_directives_alone_vanish_and_numbers_lose_their_comments(tmp_path):
    prose = {"cell_type": "markdown", "id": "m1", "metadata": {}, "source": "# A\n\n> b.\n\nIt is <!--=loss:.2f-->5.29<!--/--> nats."}
    page = site_notebook(notebook_of(tmp_path, prose, code("#| default_exp models.a"), code("#| hide\nimport re")), tmp_path, "01_a", {}, "HEAD")
    assert page["cells"][0]["source"] == "# A\n\n> b.\n\nHEAD\n\nIt is 5.29 nats."
    assert [(cell["source"], cell["metadata"]["tags"]) for cell in page["cells"][1:]] == [("import re", ["hide-cell"])]


def test_links_to_files_become_links_to_pages_or_plain_words():
    pages = {"1_foundations/02_b": ".ipynb", "api/training.presets": ".md", "tutor": ".md"}
    def led(text):
        return relink(text, "nbs/1_foundations/01_a.ipynb", "1_foundations/01_a", pages)
    assert led("[b](02_b.ipynb#x)") == "[b](<02_b.ipynb#x>)"
    assert led("[`presets`](../../microbert_course/training/presets.py)") == "[`presets`](<../api/training.presets.md>)"
    assert led("[t](../../TUTOR.md), [gone](../../setup.py)") == "[t](<../tutor.md>), gone"
    assert led("[out](https://example.org/a) ![](https://example.org/b.png) `x[0](y)`") == "[out](https://example.org/a) ![](https://example.org/b.png) `x[0](y)`"
    assert led("![tour](../pictures/tour.png)") == "![tour](/files/nbs/pictures/tour.png)"


def test_a_comment_belongs_to_the_parameter_beside_it(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('''"""Doc."""
__all__ = ["f", "C", "SIZES"]
SIZES = {"a": 1}  # by name

def f(
    query: Tensor,  # (batch, seq)
    scale: float = 1.0,
    *rest: int,  # any
    name: str | None = None,  # of it
) -> Tensor:  # like `query`
    "What *f* does."

def _hidden(): ...

class C:
    "A class."
    def __init__(self, size: int):  # of it
        ...
    def run(self, x, y) -> int:  # how many
        "Run."
''', encoding="utf-8")
    doc, (sizes, f, c) = read_module(path, "a")
    assert doc == "Doc." and (sizes.kind, sizes.doc) == ("data", "by name")
    assert [(part.name, part.type, part.default, part.note) for part in f.parts] == [
        ("query", "Tensor", "", "(batch, seq)"), ("scale", "float", "1.0", ""), ("*rest", "int", "", "any"), ("name", "str | None", "None", "of it")]
    assert f.returns.note == "like `query`" and f.signature() == "f(query, scale=1.0, *rest, name=None)"
    assert c.signature() == "C(size)" and c.methods[0].returns.note == "how many" and not c.methods[0].parts[1].note


def test_the_library_leads_to_the_lesson_that_builds_it():
    page = write_api(ROOT, {"models.attention": "[lesson 03](../1_foundations/03_attention.ipynb)"})["api/models.attention"]
    assert "Built in [lesson 03](../1_foundations/03_attention.ipynb)" in page
    assert "{py:function} real_keys(attention_mask, key)" in page


def test_styles_that_no_page_asks_for_are_left_out():
    sheet = ".a{x:1}.b,.a .c{x:2}@media (x){.b{x:3}.a:not(.z){x:4}}p .d{x:5}@font-face{font-family:f}"
    assert used_styles(sheet, {"a"}) == ".a{x:1}@media (x){.a:not(.z){x:4}}@font-face{font-family:f}"


@pytest.mark.parametrize("name", ["thesis.txt", "index.html", ".git"])
def test_a_folder_with_something_else_is_not_overwritten(tmp_path, name):
    "Somebody's own web pages have an index.html too; and a repository may hold a site that was built here."
    (tmp_path / name).write_text("years", encoding="utf-8")
    if name == ".git":
        (tmp_path / building.MARK).touch()
    with pytest.raises(CourseError, match="something else than a site that was built here: name another folder"):
        building.build(tmp_path)
    assert (tmp_path / name).is_file()


def test_a_missing_part_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "NEEDS", ("a_package_that_is_not",))
    with pytest.raises(CourseError, match="needs a_package_that_is_not, which is not installed: .*pip install"):
        building.build(tmp_path / "site")


def test_a_warning_of_sphinx_is_a_fault_said_without_colours(tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # many a CI sets it
    source = tmp_path / "pages"
    shutil.copytree(building.CONFIG, source)
    (source / "index.md").write_text("# A\n\n[dead](nowhere.md)\n", encoding="utf-8")
    with pytest.raises(CourseError, match="(?s)Sphinx is not content: index.md:3.*nowhere.md"):
        building._run_sphinx(source, tmp_path / "html")
