"""Where a learner stands and goes next: the board, its page, start, reset and next, as functions and as buttons."""

import json
import re
from html.parser import HTMLParser

import pytest

from microbert_course import practice
from microbert_course.cli.main import main
from microbert_course.errors import CourseError
from microbert_course.grading.room import STUB
from microbert_course.practice import buttons, notebook, places, progress_board, record, standing
from microbert_course.practice.exercises import exercises

KNOWN = exercises()
FIRST, SECOND = KNOWN[:2]
TOTAL = sum(exercise.points for exercise in KNOWN)


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROBERT_WORK", str(tmp_path / "work"))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "work"


def pass_exercise(id, when):
    with record.entry_of(id) as entry:
        entry.update(attempts=entry["attempts"] + 1, passed=when)


# --- what comes next

def test_next_is_the_first_that_is_not_passed_behind_the_one_passed_last(work):
    assert standing.next_place(standing.standing()).exercise == FIRST
    pass_exercise(KNOWN[4].id, "2026-01-02")
    assert standing.next_place(standing.standing()).exercise == KNOWN[5]
    pass_exercise(FIRST.id, "2026-01-03")
    assert standing.next_place(standing.standing()).exercise == SECOND
    assert standing.next_place(standing.standing(), KNOWN[3].id).exercise == KNOWN[5]
    assert standing.next_place(standing.standing(), KNOWN[-1].id).exercise == SECOND


def test_when_all_is_passed_there_is_no_next_and_the_points_are_all_there(work):
    work.mkdir()
    (work / "progress.json").write_text(json.dumps({"format": 1, "exercises": {one.id: {"attempts": 1, "passed": "2026-01-01"} for one in KNOWN}}))
    assert places.next_exercise().title == "All exercises are passed"
    assert standing.points(standing.standing()) == (TOTAL, TOTAL) and "All passed" in progress_board.progress_page()


def test_a_state_is_the_most_that_was_done(work):
    states = {FIRST.id: "looked at", SECOND.id: "tried", KNOWN[2].id: "passed"}
    notebook.hint(FIRST.id)
    record.record_attempt(SECOND.id, False)
    record.record_attempt(KNOWN[2].id, True)
    found = {place.exercise.id: place for place in standing.standing()}
    assert {id: found[id].state for id in states} == states and found[KNOWN[3].id].state == "open"
    assert found[FIRST.id].facts == "looked at, 1 hint" and found[SECOND.id].facts == "tried, 1 attempt"
    assert standing.sum_in_words(list(found.values())) == f"{KNOWN[2].points} of {TOTAL} points, 1 of {len(KNOWN)} exercises passed"


# --- start, reset, next, with links

def test_next_starts_the_lesson_and_leads_to_the_cell_of_the_exercise(work, tmp_path):
    shown = places.next_exercise()
    copy = work / f"{FIRST.lesson}.ipynb"
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(copy.read_text(encoding="utf-8"))["cells"]}
    path, id = re.search(r"\[.*\]\(<(.*)#cell-id=(.*)>\)", shown.text).groups()
    assert (tmp_path / path) == copy and cells[id].startswith(f"## {FIRST.number} ")
    copy.write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    assert "#" not in re.search(r"\(<.*>\)", places.next_exercise().text).group()


def test_a_link_is_seen_from_the_notebook_that_asks(work, tmp_path, monkeypatch):
    asking = tmp_path / "nbs" / "1_foundations"
    asking.mkdir(parents=True)
    monkeypatch.setenv("JPY_SESSION_NAME", str(asking / "01_text_as_data.ipynb"))
    assert places.link(work / "a b.ipynb") == "[work/a b.ipynb](<../../work/a%20b.ipynb>)"
    monkeypatch.setattr(places.os.path, "relpath", lambda *_: (_ for _ in ()).throw(ValueError("path is on mount 'D:'")))
    assert places.link(work / "a.ipynb") == "`work/a.ipynb`"


def test_start_keeps_what_is_there_and_reset_keeps_it_under_another_name(work):
    assert places.start("1").title.endswith("ready")
    copy = work / f"{FIRST.lesson}.ipynb"
    copy.write_text("mine", encoding="utf-8")
    assert places.start("1").title.endswith("there already") and copy.read_text(encoding="utf-8") == "mine"
    assert "Revert" in places.reset("1").text and copy.read_text(encoding="utf-8") != "mine"
    assert [path.read_text(encoding="utf-8") for path in work.glob("*.20*.ipynb")] == ["mine"]
    with pytest.raises(CourseError, match="exercise start 02"):
        places.reset("2")


def test_what_the_room_offers_is_a_function_whatever_was_imported_before():
    "A module of the name of a function would hide it."
    assert {name: callable(getattr(practice, name)) for name in practice.__all__} == dict.fromkeys(practice.__all__, True)


# --- the board and its page

class Page(HTMLParser):
    "Tags that are closed as they were opened; what the page would load."

    def __init__(self, text):
        super().__init__()
        self.open, self.loads = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_loads_nothing_and_holds_every_exercise(work, capsys):
    pass_exercise(FIRST.id, "2026-01-02")
    assert main(["exercise", "progress", "--page"]) == 0
    assert capsys.readouterr().out.strip().endswith("progress.html")
    text = (work / "progress.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == [] and page.loads == [] and "@import" not in text and "url(" not in text
    assert text.count('class="mb-pill ') == len(KNOWN) and text.count("mb-pill mb-passed") == 1
    assert f"{FIRST.points} of {TOTAL} points" in text and f"Next: {SECOND.number}" in text


def test_the_board_of_a_lesson_lists_that_lesson_and_sums_all(work):
    pass_exercise(FIRST.id, "2026-01-02")
    other = next(one for one in KNOWN if one.lesson != FIRST.lesson)
    board = progress_board.board(other.lesson[:2])
    assert f"{FIRST.points} of {TOTAL} points" in board._repr_html_() and FIRST.number not in repr(board)
    assert board._repr_html_().count('class="mb-pill ') == sum(one.lesson == other.lesson for one in KNOWN)
    with pytest.raises(CourseError, match="no exercise is called"):
        progress_board.board("99")


# --- buttons, pressed without a browser

def press(box, words):
    [button] = [one for one in every(box) if type(one).__name__ == "Button" and words in one.description]
    button.click()
    return button


def every(box):
    return [box, *(one for child in getattr(box, "children", ()) for one in every(child))]


def said(box):
    return [output["data"]["text/plain"] for one in every(box) if type(one).__name__ == "Output" for output in one.outputs]


def test_the_ladder_has_three_hints_and_a_solution_and_stands_where_it_was_left(work):
    ladder = buttons.hint_ladder(FIRST.id)
    for number in (1, 2, 3):
        press(ladder, f"Hint {number} of 3")
    assert [text.splitlines()[0] for text in said(ladder)] == [f"{FIRST.number}, hint {number} of 3" for number in (1, 2, 3)]
    again = buttons.hint_ladder(FIRST.id)
    assert said(again) == said(ladder) and record.read_progress()[FIRST.id]["hints"] == 3
    assert press(again, "Show a solution").disabled and FIRST.solution in said(again)[-1]
    assert record.read_progress()[FIRST.id]["solution_seen"]


def test_a_rung_that_failed_is_the_same_rung_again(work, monkeypatch):
    "And a hint that a cell showed meanwhile is no reason to skip one here."
    ladder = buttons.hint_ladder(FIRST.id)
    notebook.hint(FIRST.id)
    press(ladder, "Hint 1 of 3")
    write = record.write_json

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "write_json", full)
    press(ladder, "Hint 2 of 3")
    monkeypatch.setattr(record, "write_json", write)
    for number in (2, 3):
        press(ladder, f"Hint {number} of 3")
    assert [text.splitlines()[0].partition(", ")[2] for text in said(ladder)] == ["hint 1 of 3", "", "hint 2 of 3", "hint 3 of 3"]
    assert record.read_progress()[FIRST.id] == {**record.NOTHING, "hints": 3}


def test_a_copy_that_cannot_be_written_is_said_below_the_button(work, monkeypatch):
    work.write_text("a file where the folder should be")
    controls = buttons.board_controls(str, FIRST.lesson)
    press(controls, "Start")
    assert "That did not work" in said(controls)[0]


def test_a_mistake_behind_a_button_is_read_below_it(work):
    ladder = buttons.hint_ladder(FIRST.id)
    work.mkdir()
    (work / "progress.json").write_text("{")
    assert not press(ladder, "Hint 1").disabled
    assert "That did not work" in said(ladder)[0] and "mend it by hand" in said(ladder)[0]


def test_the_boards_buttons_do_what_they_say_and_the_board_follows(work):
    board = progress_board.board()
    drawn = []
    controls = buttons.board_controls(lambda: drawn.append(1) or board._repr_html_(), FIRST.lesson)
    press(controls, "Start")
    assert (work / f"{FIRST.lesson}.ipynb").is_file() and "ready" in said(controls)[0]
    press(controls, "Begin anew")
    assert len(list(work.glob("*.ipynb"))) == 2 and "begun anew" in said(controls)[0] and len(said(controls)) == 1
    press(controls, "Next exercise")
    assert f"Next: {FIRST.number}" in said(controls)[0] and len(drawn) == 4


def test_without_widgets_there_is_the_note_alone(work, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
    assert buttons.hint_ladder(FIRST.id) is None and buttons.next_button(FIRST.id) is None and buttons.board_controls(str, FIRST.lesson) is None


def test_in_the_graders_sandbox_each_of_them_is_there_and_does_nothing():
    "A submission asks for the board in its last cell."
    inside = {}
    exec(STUB, inside)
    assert {name: inside[name]() for name in practice.__all__} == dict.fromkeys(practice.__all__)
