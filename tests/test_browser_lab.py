"""JupyterLab in a real browser: the tour and its slider, and the loop of an exercise from stub to green, by clicks and keys."""

import json
import os

import pytest
from browser.lab import copy_lesson, notebook_of
from browser.widgets import Box

from microbert_course.paths import course_root
from microbert_course.practice import progress_board, record
from microbert_course.practice.exercises import exercises

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(900 if os.environ.get("MICROBERT_FULL_TOUR") == "1" else 240)]

LESSON, ID = "01_text_as_data", "sources.clean_text"
STUB = "def clean_text"
WRONG = 'def clean_text(text: str) -> str:\n    return " ".join(re.sub(r"<[^<>]*>", " ", text).split())'
MISTAKE = "Whatever stands between brackets goes"
RIGHT = 'def clean_text(text: str) -> str:\n    return " ".join(re.sub(r"</?[A-Za-z][^<>]*>", " ", text).split())'


def test_the_tour_runs_from_top_to_bottom_and_a_slider_changes_its_picture(lab, open_notebook):
    "With the kernel that the learner gets; the picture is of the model that was trained in the cells above. MICROBERT_FULL_TOUR=1 trains it in full."
    tour = course_root() / "nbs" / "00_tour.ipynb"
    is_full = os.environ.get("MICROBERT_FULL_TOUR") == "1"
    copy_lesson(tour, lab.room / "nbs" / tour.name, is_full)
    notebook = open_notebook(f"nbs/{tour.name}")
    notebook.run_all(limit_s=600 if is_full else 150)
    place = notebook.number_of("explore(\"attention_heads\"")
    box = Box(notebook.output(place))
    before, words = box.picture(), box.words()
    box.move("head")
    notebook.wait_for(lambda: box.picture() != before and box.words() != words)
    assert "head 1" in box.words() and "head 0" in words
    notebook.cell(place).scroll_into_view_if_needed()
    notebook.watched.shot("tour")
    loss = notebook.output(notebook.number_of("plot_history(")).locator("img")
    assert loss.evaluate("async image => { await image.decode(); return image.naturalWidth }") > 100


def test_an_exercise_goes_from_stub_to_green_through_a_wrong_answer_and_a_hint(lab, open_notebook):
    "Begun from the board, judged, helped, passed, on to the next, shown on the board, begun anew."
    (lab.room / "board.ipynb").write_text(notebook_of("from microbert_course.practice import board\n\nboard()"), encoding="utf-8")
    notebook = open_notebook("board.ipynb")
    page, copy = notebook.page, lab.room / "work" / f"{LESSON}.ipynb"
    notebook.run(0)
    board = notebook.output(0)
    board.get_by_role("button", name="Start").click()
    board.get_by_role("link", name=f"work/{LESSON}.ipynb").click()
    page.wait_for_function("name => window.jupyterapp.shell.currentWidget?.context?.path.endsWith(name)", arg=copy.name)
    notebook.ready()

    answer, check = notebook.number_of(STUB), notebook.number_of(f'check("{ID}")')
    notebook.run(notebook.number_of("import check"))
    notebook.run(answer)
    notebook.run(check)
    assert "not yet" in notebook.output(check).inner_text()

    notebook.write(answer, WRONG)
    notebook.run(answer)
    notebook.run(check)
    verdict = notebook.output(check)
    assert MISTAKE in verdict.inner_text() and "expected" in verdict.inner_text()
    verdict.get_by_role("button", name="Hint 1 of 3").click()
    verdict.get_by_role("button", name="Hint 2 of 3").wait_for()
    assert "hint 1 of 3" in verdict.inner_text()
    notebook.watched.shot("exercise_wrong")

    notebook.write(answer, RIGHT)
    notebook.run(answer)
    notebook.run(check)
    verdict = notebook.output(check)
    assert "passed, 5 points" in verdict.inner_text() and "5 of" in verdict.inner_text()
    verdict.get_by_role("button", name="Next exercise").click()
    verdict.get_by_text("Next: 1.2").wait_for()
    notebook.watched.shot("exercise_passed")
    record = json.loads((lab.room / "work" / "progress.json").read_text(encoding="utf-8"))["exercises"][ID]
    assert (record["attempts"], record["hints"], bool(record["passed"])) == (2, 1, True)

    verdict.get_by_role("link", name=f"work/{LESSON}.ipynb").click()
    heading = notebook.panel.get_by_role("heading", name="1.2 How many will leak?")
    notebook.wait_for(lambda: 0 < (heading.bounding_box() or {"y": 9999})["y"] < 400)

    last = notebook.number_of("board()")
    notebook.run(last)
    board = notebook.output(last)
    assert "\n5 of " in board.inner_text() and "1 of " in board.inner_text() and "✓ 1.1" in board.inner_text() and "Next: 1.2" in board.inner_text()
    notebook.watched.shot("board")
    board.get_by_role("button", name="Begin anew").click()
    board.get_by_text("begun anew").wait_for()
    notebook.command("docmanager:reload")
    page.get_by_role("button", name="Revert").or_(page.get_by_role("button", name="Reload")).click()
    notebook.wait_for(lambda: "NotImplementedError" in notebook.cells()[answer]["source"])
    assert len(list(copy.parent.glob(f"{LESSON}.*.ipynb"))) == 1


@pytest.mark.parametrize(("size", "scheme"), [("wide", "light"), ("narrow", "light"), ("narrow", "dark")])
def test_the_progress_page_is_readable_from_the_disk(watch, tmp_path, monkeypatch, size, scheme):
    "Opened as a file, at both widths, by day and by night."
    monkeypatch.setenv("MICROBERT_WORK", str(tmp_path))
    for number, exercise in enumerate(exercises()[:12]):
        for _ in range(number % 4):
            record.record_attempt(exercise.id, number % 3 == 1)
        if number % 4 == 0:
            record.next_hint(exercise.id, 3)
    watched = watch(size, scheme)
    found = watched.look(progress_board.write_page().as_uri())
    watched.shot(f"progress_{size}_{scheme}")
    assert found["overhang"] <= 0 and (found["brightness"] > 128) == (scheme == "light") and found["heading"] == "My exercises"
