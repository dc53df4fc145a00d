"""Buttons under a note: the ladder of hints, the next exercise, the board's controls. Each does what a function of `notebook` or `places` does.

Where ipywidgets is missing there are none, and the functions are what one calls."""

from collections.abc import Callable

from microbert_course.errors import CourseError
from microbert_course.practice.exercises import exercises, find_one
from microbert_course.practice.notes import Shown
from microbert_course.practice.record import NOTHING, read_progress, record_hint

SMALL = {"width": "auto", "align_self": "flex-start"}
"""The layout of a button that is as wide as its words."""


def say(place, make: Callable[[], Shown]) -> bool:  # place: an Output widget; whether it went well
    "Add a note below the ones that are there; a mistake is a note as well, since nobody would see it raised."
    try:
        note, went_well = make(), True
    except (CourseError, OSError) as error:  # a folder that cannot be written, a full disk
        note, went_well = Shown("That did not work", str(error)), False
    place.outputs += ({"output_type": "display_data", "data": note.bundle(), "metadata": {}},)
    return went_well


def hint_ladder(id: str):  # a box; None where there are no widgets
    "The hints taken so far, and a button for the next rung: hint 1, 2, 3, then the solution."
    try:
        from ipywidgets import Button, Output, VBox
    except ImportError:
        return None
    from microbert_course.practice import notebook

    exercise = find_one(id)
    taken = read_progress().get(id, NOTHING)["hints"]
    place, button = Output(), Button(layout=SMALL)
    for number in range(1, taken + 1):
        say(place, lambda number=number: notebook.hint_note(exercise, number))

    def next_hint() -> Shown:
        record_hint(id, taken + 1)
        return notebook.hint_note(exercise, taken + 1)

    def rung() -> None:
        button.description = f"Hint {taken + 1} of {len(exercise.hints)}" if taken < len(exercise.hints) else "Show a solution"
        button.tooltip = f"{button.description}, for exercise {exercise.number}"

    def climb(_) -> None:
        nonlocal taken
        is_hint = taken < len(exercise.hints)
        if say(place, next_hint if is_hint else lambda: notebook.solution(id)):
            button.disabled, taken = not is_hint, taken + is_hint
            rung()

    rung()
    button.on_click(climb)
    return VBox([place, button])


def next_button(after: str):  # a box; None where there are no widgets
    "A button that shows the next exercise, with a link to it."
    try:
        from ipywidgets import Button, Output, VBox
    except ImportError:
        return None
    from microbert_course.practice.places import next_exercise

    place = Output()
    button = Button(description="Next exercise", tooltip="the next exercise that you have not passed", layout=SMALL)

    def show(_) -> None:
        button.disabled = say(place, lambda: next_exercise(after))

    button.on_click(show)
    return VBox([button, place])


def board_controls(picture: Callable[[], str], lesson: str):  # the board as HTML, drawn anew after each button; the lesson chosen at first
    "The board with a list of lessons and the buttons start, reset and next; None where there are no widgets."
    try:
        from ipywidgets import HTML, Button, Dropdown, HBox, Layout, Output, VBox
    except ImportError:
        return None
    from microbert_course.practice import places

    board, said = HTML(picture()), Output()
    lessons = list(dict.fromkeys(exercise.lesson for exercise in exercises()))
    choice = Dropdown(options=[(name.replace("_", " "), name) for name in lessons], value=lesson, description="Lesson", layout=Layout(width="260px"))
    doings = {"Start": ("copy this lesson's exercises into your work folder", lambda: places.start(choice.value)),
              "Begin anew": ("a fresh copy; the old one is kept under another name", lambda: places.reset(choice.value)),
              "Next exercise": ("the next exercise that you have not passed", places.next_exercise)}

    def button(name: str, tooltip: str, make: Callable[[], Shown]):
        made = Button(description=name, tooltip=tooltip, layout=SMALL)

        def press(_) -> None:
            said.outputs = ()
            say(said, make)
            board.value = picture()

        made.on_click(press)
        return made

    row = HBox([choice, *(button(name, *doing) for name, doing in doings.items())], layout=Layout(flex_flow="row wrap"))
    return VBox([row, said, board])
