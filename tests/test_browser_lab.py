"""JupyterLab in a real browser: the tour and its slider, and the loop of an exercise from stub to green, by clicks and keys."""

import json

import pytest
from browser.lab import notebook_of, quick

from microbert_course.paths import course_root

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(240)]

LESSON, NAME, ID = "01_text_as_data", "clean_text", "sources.clean_text"
STUB = "def clean_text"
WRONG = 'def clean_text(text: str) -> str:\n    return " ".join(re.sub(r"<[^<>]*>", " ", text).split())'
MISTAKE = "Whatever stands between brackets goes"
RIGHT = 'def clean_text(text: str) -> str:\n    return " ".join(re.sub(r"</?[A-Za-z][^<>]*>", " ", text).split())'




def test_an_exercise_goes_from_stub_to_green_through_a_wrong_answer_and_a_hint(lab, open_notebook):
    "Begun from the board, judged, helped, passed, on to the next, shown on the board, begun anew."
    (lab.room / "begin.ipynb").write_text(notebook_of("from microbert_course.practice import board\n\nboard()"), encoding="utf-8")
    notebook = open_notebook("begin.ipynb")
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
    assert "5 of 1020 points" in board.inner_text() and "✓ 1.1" in board.inner_text() and "Next: 1.2" in board.inner_text()
    notebook.watched.shot("board")
    board.get_by_role("button", name="Begin anew").click()
    board.get_by_text("begun anew").wait_for()
    notebook.command("docmanager:reload")
    page.get_by_role("button", name="Revert").or_(page.get_by_role("button", name="Reload")).click()
    notebook.wait_for(lambda: "NotImplementedError" in notebook.cells()[answer]["source"])
    assert len(list(copy.parent.glob(f"{LESSON}.*.ipynb"))) == 1
