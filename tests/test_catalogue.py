"""Which lessons there are, and what a name means."""

import json

import pytest

from microbert_course.errors import CourseError
from microbert_course.lessons.catalogue import find, lessons


@pytest.fixture
def root(tmp_path):
    "A course of three lessons, and three notebooks that are none."
    for name in ("2_scaling/10_precision", "1_foundations/03_attention", "00_tour", "index",
                 "1_foundations/.ipynb_checkpoints/03_attention-checkpoint", "_drafts/99_draft"):
        path = tmp_path / "nbs" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        cells = [{"cell_type": "markdown", "metadata": {}, "source": [f"# Title of {path.stem}\n", "\n", "> One sentence."]}]
        path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return tmp_path


def test_lessons_come_by_number_from_all_folders_without_drafts_and_checkpoints(root):
    assert [lesson.number for lesson in lessons(root)] == ["00", "03", "10"]
    assert (lessons(root)[1].title, lessons(root)[1].summary) == ("Title of 03_attention", "One sentence.")


@pytest.mark.parametrize("name", ["03", "3", "03_attention", "attention", "nbs/1_foundations/03_attention.ipynb"])
def test_a_lesson_is_found_by_number_name_and_path(root, name, monkeypatch):
    monkeypatch.chdir(root)
    assert find(name, root).path == root / "nbs/1_foundations/03_attention.ipynb"


def test_a_path_outside_the_course_is_a_lesson_as_well(root, tmp_path):
    copy = tmp_path / "my_attention.ipynb"
    copy.write_bytes(find("03", root).path.read_bytes())
    assert find(copy, root).path == copy.resolve()


@pytest.mark.parametrize(("name", "sentence"), [
    ("attn", "no lesson 'attn': did you mean 03_attention?"),
    ("11", "no lesson '11': did you mean 10_precision?"),
    ("zzz", "no lesson 'zzz': there are 00_tour, 03_attention, 10_precision"),
])
def test_an_unknown_name_is_answered_with_near_ones(root, name, sentence):
    with pytest.raises(CourseError) as caught:
        find(name, root)
    assert str(caught.value) == sentence


def test_two_lessons_of_one_number_are_refused(root):
    find("03", root).path.with_name("03_again.ipynb").write_bytes(find("03", root).path.read_bytes())
    with pytest.raises(CourseError, match="03_again.ipynb and 03_attention.ipynb have the same number"):
        lessons(root)
