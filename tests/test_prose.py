"""Numbers in prose: filled from results, and every way that a marker can be wrong is a sentence."""

import json

import pytest

from microbert_course.lessons.prose import all_results, fill_pages, filled, number_faults
from microbert_course.lessons.results import MIME

RESULTS = {"09": {"loss": 5.28607, "accuracy": 0.2055, "steps": 12_500, "rows": [{"loss": 4.5}], "name": "tour"},
           "benchmarks/v0": {"speedup": 11.34}}


@pytest.mark.parametrize(("marker", "text"), [
    ("loss:.2f", "5.29"), ("accuracy:.0%", "21%"), ("steps:,", "12,500"), ("name", "tour"), ("rows.0.loss:.1f", "4.5"),
    ("09/loss:.3f", "5.286"), ("benchmarks/v0/speedup:.1f", "11.3"),
])
def test_a_marker_is_filled_with_its_value(marker, text):
    assert filled(f"It reached <!--={marker}-->?<!--/--> nats.", "09", RESULTS) == (f"It reached <!--={marker}-->{text}<!--/--> nats.", [])


@pytest.mark.parametrize(("text", "own", "sentence"), [
    ("a <!--=los:.2f-->5<!--/-->", "09", "the number <!--=los:.2f--> cannot be filled: 09 has no 'los'; at 'los' there is loss, accuracy"),
    ("a <!--=loss.x-->5<!--/-->", "09", "at 'x' there is one value"),
    ("a <!--=rows.1.loss-->5<!--/-->", "09", "at '1' there is 1 items"),
    ("a <!--=08/loss:.2f-->5<!--/-->", "09", "there are no results of '08'; there are 09, benchmarks/v0"),
    ("a <!--=loss:.2f-->5<!--/-->", None, "this page has no results of its own; name the lesson, as in 09/loss"),
    ("a <!--=loss:.2q-->5<!--/-->", "09", "cannot be filled (Unknown format code 'q'"),
    ("a <!--=name:.2f-->5<!--/-->", "09", "cannot be filled (Unknown format code 'f' for object of type 'str'); correct its format"),
    ("a <!--=rows:.2f-->5<!--/-->", "09", "cannot be filled (unsupported format string"),
    ("a <!--=loss:.2f-->5 and <!--=steps-->12500<!--/-->", "09", "1 of the numbers <!--=NAME:FORMAT--> are not closed"),
    ("a line\n<!--=steps-->12500<!--/--> steps", "09", "a line begins with <!--="),
    ("# Title\n\n> In <!--=steps-->12500<!--/--> steps.", "09", "in the sentence under the title"),
    ("- <!--=steps-->12500<!--/--> steps", "09", "a line begins with <!--="),
])
def test_a_marker_that_cannot_be_filled_stays_and_is_named(text, own, sentence):
    unchanged, faults = filled(text, own, RESULTS)
    assert unchanged == text
    assert len(faults) == 1 and sentence in faults[0] and "; " in faults[0]


@pytest.fixture
def root(tmp_path):
    "A lesson that recorded a loss, another that quotes it, a front page and a benchmark."
    output = {"output_type": "display_data", "metadata": {}, "data": {MIME: {"loss": 5.28607}, "text/plain": ["loss  5.286"]}}
    write(tmp_path / "nbs/09_own.ipynb", "It reached <!--=loss:.2f-->9.99<!--/-->.", [output])
    write(tmp_path / "nbs/10_other.ipynb", "Lesson 09 reached <!--=09/loss:.1f-->5.3<!--/-->, in line.\nTwo lines.")
    write(tmp_path / "nbs/index.ipynb", "It is <!--=benchmarks/v0/speedup:.0f-->1<!--/-->× faster.")
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    (tmp_path / "benchmarks/results/v0.json").write_text('{"speedup": 11.34}')
    return tmp_path


def write(path, prose, outputs=()):
    path.parent.mkdir(exist_ok=True)
    cells = [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": prose.splitlines(keepends=True)},
             {"cell_type": "code", "id": "b", "metadata": {}, "execution_count": None, "outputs": list(outputs), "source": ["1"]}]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def test_pages_are_filled_and_the_ones_that_are_right_are_left_alone(root):
    assert number_faults(root / "nbs/09_own.ipynb", all_results(root)) == [
        "the text says '9.99' where loss:.2f is '5.29'; run `make export`"]
    right = root / "nbs/10_other.ipynb"
    before, kept = right.stat().st_mtime_ns, right.read_bytes()
    assert fill_pages(root) == []
    assert [number_faults(path, all_results(root)) for path in sorted((root / "nbs").iterdir())] == [[], [], []]
    assert (right.stat().st_mtime_ns, right.read_bytes()) == (before, kept)
    assert "It reached <!--=loss:.2f-->5.29<!--/-->." in (root / "nbs/09_own.ipynb").read_text()
    assert "-->11<!--/-->× faster" in (root / "nbs/index.ipynb").read_text()


def test_a_page_with_a_bad_marker_is_named_and_the_others_are_filled(root):
    write(root / "nbs/10_other.ipynb", "Lesson 09 reached <!--=09/perplexity:.1f-->5.3<!--/-->.")
    (fault,) = fill_pages(root)
    assert fault.startswith("nbs/10_other.ipynb: the number <!--=09/perplexity:.1f--> cannot be filled: 09 has no 'perplexity'")
    assert "-->5.29<!--/-->" in (root / "nbs/09_own.ipynb").read_text()
