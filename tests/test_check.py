"""`python -m microbert_course.lessons.check` names every planted fault and passes an honest course."""

import json
import shutil
import subprocess
import sys
import zlib

import pytest

from microbert_course.lessons.check import check, main
from microbert_course.lessons.readme import render_readme
from microbert_course.lessons.results import MIME
from microbert_course.practice.exercises import write_exercises

SETTINGS = """[DEFAULT]
repo = tiny-course
lib_name = tiny_course
version = 0.1.0
user = tiny
author = tiny
description = tiny
branch = main
nbs_path = nbs
lib_path = tiny_course
doc_host = https://example.org
tst_flags = slow
recursive = True
black_formatting = False
update_pyproject = False
allowed_cell_metadata_keys = tags
allowed_metadata_keys = microbert
"""


def cell(source, kind="code", outputs=(), **metadata):
    code = {"execution_count": None, "outputs": list(outputs)} if kind == "code" else {}
    return {"cell_type": kind, "id": f"{zlib.crc32(source.encode()):08x}", "metadata": metadata,
            "source": source.splitlines(keepends=True), **code}


def write_notebook(path, *cells, **metadata):
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def printed(text):
    return {"name": "stdout", "output_type": "stream", "text": [text]}


LESSON = (
    cell("# Adding\n\n> Adds.", "markdown"),
    cell("#| default_exp sums.adding"),
    cell("#| export\ndef add(a, b):\n    'The sum.'\n    return a + b"),
    cell("size = 3  # quick: 2", tags=["parameters"]),
    cell("print(add(size, 1))", outputs=[printed("4\n")]),
)

SOLUTION = (
    cell("## 1.1 Adding\n`sums.add` · build · easy · 5 minutes · 5 points\n\nAdd.", "markdown"),
    cell("def add(a, b):\n    ### BEGIN SOLUTION\n    return a + b\n    ### END SOLUTION"),
    cell('check("sums.add")'),
    cell("### Hints\n1. one\n2. two\n3. three", "markdown"),
    cell("### Afterwards\nRead.", "markdown"),
)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    "A course of one lesson, exported by nbdev itself."
    root = tmp_path_factory.mktemp("course").resolve()
    (root / "settings.ini").write_text(SETTINGS)
    write_notebook(root / "nbs/1_sums/01_adding.ipynb", *LESSON)
    write_notebook(root / "nbs/index.ipynb", cell("# Tiny\n\nStart with [adding](1_sums/01_adding.ipynb).", "markdown"))
    write_notebook(root / "solutions/01_adding.ipynb", *SOLUTION)
    write_exercises(root)
    (root / "tiny_course").mkdir()
    (root / "tests").mkdir()
    (root / "tests/test_adding.py").write_text("from tiny_course.sums.adding import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n")
    (root / "tiny_course/plain.py").write_text('"Written by hand."\n')
    export = "from nbdev.doclinks import nbdev_export; nbdev_export.__wrapped__()"
    subprocess.run([sys.executable, "-c", export], cwd=root, check=True)
    assert main(["--root", str(root), "--write-readme"]) == 0
    return root


@pytest.fixture
def root(honest, tmp_path):
    "A copy to plant a fault in."
    return shutil.copytree(honest, tmp_path / "course").resolve()


def test_an_honest_course_has_no_fault(honest, capsys):
    assert check(honest) == []
    assert main(["--root", str(honest)]) == 0
    assert capsys.readouterr().out.startswith("export, 4 notebooks and README agree")


def test_a_module_that_differs_from_its_notebook_is_refused(root, capsys):
    module = root / "tiny_course/sums/adding.py"
    module.write_text(module.read_text().replace("a + b", "a - b"))
    assert main(["--root", str(root)]) == 1
    assert capsys.readouterr().out == ("tiny_course/sums/adding.py: differs from nbs/1_sums/01_adding.ipynb; "
                                       "edit the notebook, not the module, then run `make export`\n")


def test_a_notebook_that_was_not_exported_is_refused(root):
    write_notebook(root / "nbs/1_sums/01_adding.ipynb", *LESSON[:2], cell("#| export\ndef plus(a, b):\n    return a + b"), LESSON[3],
                   cell("print(plus(size, 1))", outputs=[printed("4\n")]))
    faults = check(root)
    assert [fault.split(":")[0] for fault in faults] == ["tiny_course/_modidx.py", "tiny_course/sums/adding.py"]


def test_missing_and_stale_modules_are_refused(root):
    adding = root / "tiny_course/sums/adding.py"
    adding.rename(root / "tiny_course/sums/old.py")
    assert check(root)[:1] == ["tiny_course/sums/adding.py: is missing, nbs/1_sums/01_adding.ipynb exports it; run `make export`"]
    assert "tiny_course/sums/old.py: no notebook exports it any more; run `git rm tiny_course/sums/old.py`" in check(root)


def test_a_version_that_settings_ini_does_not_name_is_refused(root):
    (root / "tiny_course/__init__.py").write_text('__version__ = "9.9"\n')
    assert check(root)[0].startswith("tiny_course/__init__.py: differs from what nbs/ exports")


LESSON_FAULTS = {
    "is not clean": lambda cells: cells[4].update(execution_count=7),
    "has 500 KB, the limit is 400 KB": lambda cells: cells[4].update(outputs=[printed("x" * 499_000)]),
    "cell 5 (`print(add(size, 1))`) ended in an error": lambda cells: cells[4].update(
        outputs=[{"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}]),
    "has code but no outputs": lambda cells: cells[4].update(outputs=[]),
    "the parameter seed is read by no later cell": lambda cells: cells[3].update(source=["size = 3\n", "seed = 0"]),
    "no cell is tagged parameters": lambda cells: cells[3].update(metadata={}),
}


@pytest.mark.parametrize("sentence", LESSON_FAULTS)
def test_a_fault_of_a_lessons_file_is_refused(root, sentence):
    path = root / "nbs/1_sums/01_adding.ipynb"
    cells = json.loads(path.read_text())["cells"]
    LESSON_FAULTS[sentence](cells)
    write_notebook(path, *cells)
    (fault,) = check(root)
    assert fault.startswith("nbs/1_sums/01_adding.ipynb: ") and sentence in fault and "; " in fault


def test_a_folder_of_this_machine_in_an_output_is_refused(root):
    write_notebook(root / "nbs/1_sums/01_adding.ipynb", *LESSON[:4],
                   cell("print(add(size, 1))", outputs=[printed(f"{root}/somewhere\n")]))
    (fault,) = check(root)
    assert "names the folder" in fault


def test_an_exercise_with_outputs_is_refused(root):
    write_notebook(root / "exercises/01_adding.ipynb", cell("add(1, 2)", outputs=[printed("3\n")]))
    assert check(root) == ["exercises/01_adding.ipynb: is not what solutions/01_adding.ipynb generates; edit that one, then run `make exercises`"]


def test_a_damaged_notebook_is_one_line(root):
    (root / "nbs/1_sums/01_adding.ipynb").write_text('{"cells": [')
    faults = check(root)
    assert sum("01_adding.ipynb: is damaged" in fault for fault in faults) == 1
    assert all("\n" not in fault for fault in faults)


SHOWN = {"output_type": "display_data", "metadata": {}, "data": {MIME: {"total": 4}, "text/plain": ["total  4"]}}
RAN_ON = {"date": "2026-11-22", "device": "cpu", "dtype": "float32", "python": "3.12.1", "seconds": 1.5, "torch": "2.13.0"}


def write_numbers(root, total=4, prose="four", bands=4):
    "The lesson records a total, and its text quotes it; when and on what it ran is in its metadata, which nbdev_clean keeps."
    write_notebook(root / "nbs/1_sums/01_adding.ipynb", *LESSON[:4],
                   cell(f"In all <!--=total-->{prose}<!--/-->.", "markdown"),
                   cell("print(add(size, 1))", outputs=[{**SHOWN, "data": {**SHOWN["data"], MIME: {"total": total}}}]), microbert=RAN_ON)
    band = {"numbers": {"total": {"low": bands, "high": bands, "values": [bands] * 5}}}
    (root / "tests/bands.json").write_text(json.dumps({"01_adding": {"quick cpu float32": band, "full cpu float32": band}} if bands else {}))


def test_numbers_that_hold_have_no_fault(root):
    write_numbers(root, prose="4")
    assert check(root) == []


@pytest.mark.parametrize(("planted", "fault"), [
    ({"prose": "four"}, "nbs/1_sums/01_adding.ipynb: the text says 'four' where total is '4'; run `make export`"),
    ({"prose": "4", "bands": None}, "01_adding: no band (quick cpu float32) for total; run `microbert lessons bands 01 --quick`"),
    ({"prose": "4", "bands": 5}, "01_adding: total is 4, outside the one value 5 of its band (full cpu float32); "
                                 "find what changed it, or run `microbert lessons bands 01` if it was meant"),
])
def test_a_number_that_does_not_hold_is_refused(root, planted, fault):
    write_numbers(root, **planted)
    assert check(root) == [fault]


def test_writing_the_readme_fills_the_numbers_of_every_page(root, capsys):
    write_numbers(root)
    write_notebook(root / "nbs/index.ipynb", cell("It is <!--=01/total:.1f-->?<!--/-->.", "markdown"))
    assert main(["--root", str(root), "--write-readme"]) == 0
    assert check(root) == []
    assert "It is <!--=01/total:.1f-->4.0<!--/-->." in (root / "README.md").read_text()
    write_notebook(root / "nbs/index.ipynb", cell("It is <!--=01/sum-->?<!--/-->.", "markdown"))
    capsys.readouterr()
    assert main(["--root", str(root), "--write-readme"]) == 1
    assert capsys.readouterr().out == "nbs/index.ipynb: the number <!--=01/sum--> cannot be filled: 01 has no 'sum'; at 'sum' there is total\n"


def test_damaged_bands_are_one_line(root):
    (root / "tests/bands.json").write_text("{")
    (fault,) = check(root)
    assert fault.startswith("tests/bands.json is damaged (") and "; restore it" in fault


def test_an_exported_name_without_a_test_is_refused(root):
    "tests/test_public_names.py plants the other faults of names."
    (root / "tests/test_adding.py").unlink()
    assert check(root) == ["tiny_course/sums/adding.py: no test uses add; import and use it in a file under tests/"]


def test_a_readme_that_is_not_the_index_is_refused(root):
    (root / "README.md").write_text("# Something else\n")
    assert check(root) == ["README.md: is not what nbs/index.ipynb renders to; edit the notebook, then run `make export`"]


def test_a_link_to_nowhere_is_refused(root):
    write_notebook(root / "nbs/index.ipynb", cell("[gone](1_sums/02_gone.ipynb)", "markdown"))
    main(["--root", str(root), "--write-readme"])
    assert check(root) == ["nbs/index.ipynb: the link 1_sums/02_gone.ipynb leads to no file; correct it"]


def test_the_readme_fences_code_and_output_and_moves_links_to_the_root(tmp_path):
    index = tmp_path / "nbs/index.ipynb"
    (tmp_path / "nbs").mkdir()
    (tmp_path / "nbs/00_tour.ipynb").touch()
    write_notebook(index, cell("# Tiny\n\n[tour](00_tour.ipynb), [top](#tiny), [site](https://example.org/a)", "markdown"),
                   cell("#| hide\nimport os"), cell("#| echo: true\nprint(1)", outputs=[printed("1\n")]))
    assert render_readme(index).split("\n\n", 1)[1] == (
        "# Tiny\n\n[tour](nbs/00_tour.ipynb), [top](#tiny), [site](https://example.org/a)\n\n"
        "```python\nprint(1)\n```\n\n```text\n1\n```\n")
