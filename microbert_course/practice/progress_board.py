"""The progress board: every exercise with its state, as a cell in a notebook and as a page of its own."""

from html import escape
from itertools import groupby
from pathlib import Path

from microbert_course.files import make_folder, write_whole
from microbert_course.paths import work_dir
from microbert_course.practice.exercises import find
from microbert_course.practice.standing import SIGNS, Place, next_place, points, standing, sum_in_words

# Okabe and Ito's colours; each state has a sign and a border of its own as well
STYLE = """
.mb-board {--mb-ink: var(--jp-content-font-color1, #1b1b1b); --mb-paper: var(--jp-layout-color1, #ffffff); --mb-line: var(--jp-border-color1, #b5b5b5);
  color: var(--mb-ink); max-width: 62em; font-size: 14px; line-height: 1.5}
.mb-board ol {list-style: none; margin: .8em 0; padding: 0}
.mb-board ol > li {display: flex; flex-wrap: wrap; gap: .2em .8em; align-items: baseline; padding: .28em 0; margin: 0; border-top: 1px solid var(--mb-line)}
.mb-lesson {flex: 0 0 12.5em; font-weight: 600}
.mb-pills {flex: 1 1 18em; display: flex; flex-wrap: wrap; gap: .3em}
.mb-points {flex: 0 0 7.5em; font-variant-numeric: tabular-nums; text-align: right}
.mb-pill {border: 1px solid var(--mb-line); border-radius: .4em; padding: 0 .5em; white-space: nowrap; font-variant-numeric: tabular-nums}
.mb-pill b {display: inline-block; min-width: .9em}
.mb-passed {border: 2px solid #009e73; background: color-mix(in srgb, #009e73 22%, transparent)}
.mb-tried {border: 2px dashed #d08700}
.mb-looked {border: 2px dotted #3b8fc4}
.mb-bar {height: .7em; border: 1px solid var(--mb-line); border-radius: .4em; overflow: hidden; margin: .5em 0}
.mb-bar > span {display: block; height: 100%; background: #009e73}
.mb-board p {margin: .3em 0}
@media (max-width: 520px) {.mb-lesson {flex: 1 0 60%} .mb-points {flex: 0 0 auto; order: 1} .mb-pills {flex: 1 0 100%; order: 2}}
"""

PAGE_STYLE = """
:root {color-scheme: light dark; --jp-content-font-color1: #1b1b1b; --jp-layout-color1: #ffffff; --jp-border-color1: #b5b5b5}
@media (prefers-color-scheme: dark) {:root {--jp-content-font-color1: #e6e6e6; --jp-layout-color1: #16181c; --jp-border-color1: #5a5f66}}
body {margin: 0 auto; max-width: 62em; padding: 1em; background: var(--jp-layout-color1); color: var(--jp-content-font-color1); font-family: system-ui, sans-serif}
code {overflow-wrap: anywhere}
"""


class Board:
    "What you have done, as a picture in JupyterLab and as lines in a terminal."

    def __init__(self, places: list[Place], shown: list[Place]):
        self.places, self.shown = places, shown

    def __repr__(self) -> str:
        return "\n".join(progress_lines(self.shown))

    def _repr_html_(self) -> str:
        return f"<style>{STYLE}</style>{board_html(self.places, self.shown)}"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        from microbert_course.practice.buttons import board_controls

        lessons = {place.exercise.lesson for place in self.shown}
        following = next_place(self.places)
        chosen = self.shown[0].exercise.lesson if len(lessons) == 1 or following is None else following.exercise.lesson

        def picture() -> str:
            now = standing()
            return Board(now, [place for place in now if place.exercise.lesson in lessons])._repr_html_()

        controls = board_controls(picture, chosen)
        if controls is None:
            display({"text/plain": repr(self), "text/html": self._repr_html_()}, raw=True)
        else:
            display(controls)


def board(name: str | None = None) -> Board:  # a lesson's number, such as "03"; None = all lessons
    """Every exercise with its state, your points, and buttons to start a lesson's exercises, begin them anew, or go to the next.

    Raises: CourseError if the word names no lesson, or your progress file is damaged."""
    places = standing()
    wanted = {exercise.id for exercise in find(name)} if name is not None else None
    return Board(places, [place for place in places if wanted is None or place.exercise.id in wanted])


def board_html(places: list[Place], shown: list[Place]) -> str:  # all exercises for the sums, those to list
    "The board without its style."
    earned, total = points(places)
    following = next_place(places)
    todo = f"Next: {following.exercise.number} {following.exercise.title} ({following.exercise.minutes} minutes, {following.exercise.points} points)" if following else "All passed."
    rows = "".join(_row(lesson, list(own)) for lesson, own in groupby(shown, key=lambda place: place.exercise.lesson))
    legend = " · ".join(f"{sign} {'not begun' if state == 'open' else state}" for state, sign in SIGNS.items())
    return (f'<div class="mb-board"><p><strong>{sum_in_words(places)}</strong></p>'
            f'<div class="mb-bar" role="img" aria-label="{earned} of {total} points"><span style="width: {earned / max(1, total):.1%}"></span></div>'
            f'<p>{escape(todo)}</p><ol>{rows}</ol><p>{legend}</p></div>')


def _row(lesson: str, own: list[Place]) -> str:
    "One lesson's line."
    earned, total = points(own)
    pills = "".join(f'<span class="mb-pill mb-{place.state.split()[0]}" title="{escape(place.exercise.title)}: {escape(place.facts)}">'
                    f'<b aria-label="{place.state}">{SIGNS[place.state]}</b> {place.exercise.number}</span>' for place in own)
    return (f'<li><span class="mb-lesson">{escape(lesson.replace("_", " "))}</span><span class="mb-pills">{pills}</span>'
            f'<span class="mb-points">{earned} of {total}</span></li>')


def progress_page() -> str:
    "The board as a page of its own, which loads nothing."
    places = standing()
    return (f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{sum_in_words(places)}</title><style>{PAGE_STYLE}{STYLE}</style></head>\n<body>\n<h1>My exercises</h1>\n{board_html(places, places)}\n"
            "<p>Written by <code>microbert exercise progress --page</code>; the same command brings it up to date. "
            "Nobody but you has this page.</p>\n</body>\n</html>\n")


def write_page() -> Path:
    "Write the page into the work folder."
    path = work_dir() / "progress.html"
    make_folder(path.parent, "name another folder in MICROBERT_WORK")
    write_whole(path, progress_page())
    return path


def progress_lines(places: list[Place]) -> list[str]:
    "One line an exercise, and the sum."
    width = max((len(place.exercise.id) for place in places), default=0)
    lines = [f"{place.exercise.number:>5}  {place.exercise.id:{width}}  {place.exercise.kind:7}  {'-' if place.state == 'open' else place.facts}" for place in places]
    earned, total = points(places)
    return [*lines, f"{earned} of {total} points"]
