"""`explore("attention_heads", model=model, …)`: a picture, its words, and what a reader can move, bound to the live objects that are given.

In JupyterLab it is a box of ipywidgets. Where there are none (GitHub, the website, a terminal), the same output shows the picture and the
words of its starting state: the drawing functions know nothing of widgets."""

import base64
import difflib
import html
import io
import time
import warnings
from typing import Any

from microbert_course.errors import CourseError
from microbert_course.visual.controls import Control

AT_ONCE_S = 0.05  # a picture that takes longer is drawn when the slider is let go


def explore(
    name: str,  # as in `explorables()`
    **live,  # the explorable's live objects, and starting values of its controls
) -> "Explored":
    """A picture to play with; what is not given has a default, made on the spot.

    Raises: CourseError if there is no such explorable, object or setting."""
    from microbert_course.visual.catalogue import EXPLORABLES

    if name not in EXPLORABLES:
        near = difflib.get_close_matches(str(name), EXPLORABLES, n=1, cutoff=0.4)
        raise CourseError(f"no explorable {name!r}: " + (f"did you mean {near[0]}?" if near else "there are " + ", ".join(EXPLORABLES)))
    explorable = EXPLORABLES[name]
    known = {*explorable.live, *(control.name for control in explorable.controls)}
    for word in live:
        if word not in known:
            raise CourseError(f"{name} has nothing called {word!r}: it takes {', '.join(sorted(known))}")
    objects = explorable.make(**{word: value for word, value in live.items() if word in explorable.live})
    return Explored(explorable, objects, {word: value for word, value in live.items() if word not in explorable.live})


def explorables() -> list:  # of `catalogue.Explorable`
    "All explorables, in the order of their lessons."
    from microbert_course.visual.catalogue import EXPLORABLES

    return list(EXPLORABLES.values())


class Explored:
    "One explorable with its live objects: draw it with `figure()`, read it with `words()`, move it with `set(...)`, or look at it in JupyterLab."

    def __init__(self, explorable, live: dict[str, Any], settings: dict[str, Any]):
        self.explorable, self.live = explorable, live
        self.controls: dict[str, Control] = {control.name: control for control in explorable.controls}
        self.settings = {control.name: settings.get(control.name, control.start) for control in explorable.controls}
        self._fit(chosen=set(settings))
        for name, control in self.controls.items():
            self.settings[name] = control.check(settings.get(name, control.start))
        self._box = None

    def _fit(self, chosen: set[str]) -> None:
        "Set the controls to what the live objects and the other settings leave open; a setting that is gone moves to the nearest."
        for name, changes in self.explorable.fit(self.live, self.settings).items():
            control = self.controls[name].fitted(**changes)
            if name not in chosen and control._refusal(self.settings[name]) is not None:
                self.settings[name] = control.nearest(self.settings[name])
            self.controls[name] = control

    def set(self, **settings) -> "Explored":
        """Move controls; the picture in the notebook follows.

        Raises: CourseError if there is no such control, or it has no such value."""
        for name, value in settings.items():
            if name not in self.controls:
                raise CourseError(f"{self.explorable.name} has no control {name!r}: there are {', '.join(self.controls)}")
            if self.controls[name].kind == "text":
                self.controls[name].check(value)
        before = dict(self.settings), dict(self.controls)
        self.settings.update(settings)
        try:
            self._fit(chosen=set(settings))
            for name, value in settings.items():
                self.controls[name].check(value)
        except ValueError:
            self.settings, self.controls = before
            raise
        if self._box is not None:
            self._box.show()
        return self

    def figure(self):  # a matplotlib Figure
        "The picture of the present state."
        return self.explorable.draw(**self.live, **self.settings)

    def words(self) -> str:
        "The present state in words: what the picture says to those who do not see it."
        return self.explorable.tell(**self.live, **self.settings)

    def png(self) -> bytes:
        "The picture as a file."
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a reader may type what no font has: it is drawn as a box
            self.figure().savefig(file, format="png", metadata={"Software": None})
        return file.getvalue()

    def widget(self):  # an ipywidgets VBox
        "The box of controls, picture and words; the same one every time."
        if self._box is None:
            started = time.perf_counter()
            png = self.png()
            self._box = _Box(self, png, is_quick=time.perf_counter() - started < AT_ONCE_S)
        return self._box.whole

    def __repr__(self) -> str:
        return f"{self.explorable.title}. {self.words()}"

    def _repr_mimebundle_(self, include=None, exclude=None):
        "The widget for JupyterLab; a picture and words for everybody else."
        started = time.perf_counter()
        png = self.png()
        bundle = {"text/plain": repr(self), "image/png": base64.b64encode(png).decode("ascii")}
        try:
            if self._box is None:
                self._box = _Box(self, png, is_quick=time.perf_counter() - started < AT_ONCE_S)
        except ModuleNotFoundError:  # no ipywidgets: the picture will do
            return bundle
        return {**self._box.whole._repr_mimebundle_(), **bundle}


class _Box:
    "The widgets of one explorable, and what happens when one is moved."

    def __init__(self, explored: Explored, png: bytes, is_quick: bool):
        import ipywidgets

        self.explored, self.is_ours = explored, False
        self.picture = ipywidgets.HTML()
        self.picture.add_class("microbert-picture")
        self.draw(png)
        self.widgets = {name: _make(control, explored.settings[name], is_quick) for name, control in explored.controls.items()}
        for name, widget in self.widgets.items():
            widget.add_class(f"control-{name}")
            widget.observe(lambda change, name=name: self.moved(name, change["new"]), "value")
        row = ipywidgets.Layout(display="flex", flex_flow="row wrap", align_items="flex-start", grid_gap="2px 18px")
        self.whole = ipywidgets.VBox([ipywidgets.Box(list(self.widgets.values()), layout=row), self.picture])
        self.whole.add_class("microbert-explored").add_class(f"microbert-{explored.explorable.name}")

    def moved(self, name: str, value: Any) -> None:
        "A control has a new value."
        if self.is_ours:
            return
        try:
            self.explored.set(**{name: value})
        except ValueError as error:
            self.say(str(error))

    def show(self) -> None:
        "Put the present state on the screen."
        self.is_ours = True
        try:
            for name, widget in self.widgets.items():
                _adjust(widget, self.explored.controls[name], self.explored.settings[name])
        finally:
            self.is_ours = False
        try:
            self.draw()
        except ValueError as error:
            self.say(str(error))

    def draw(self, png: bytes | None = None) -> None:
        "A new picture, unless it is there already, and new words."
        explored = self.explored
        picture, words = base64.b64encode(png or explored.png()).decode("ascii"), html.escape(explored.words())
        hover = explored.explorable.hover(**explored.live, **explored.settings) if explored.explorable.hover else ""
        self.picture.value = (
            f'<img src="data:image/png;base64,{picture}" alt="{words}" style="max-width:100%;height:auto;background:#fff">'
            f'{hover}<p class="microbert-words" aria-live="polite" style="line-height:1.4;max-width:60em;margin:4px 0">{words}</p>')

    def say(self, sentence: str) -> None:
        "What is wrong with the last move, in the place of the picture."
        self.picture.value = (f'<p class="microbert-words" role="alert" style="line-height:1.4;border-left:4px solid #D55E00;padding-left:8px">'
                              f"Not drawn: {html.escape(sentence)}</p>")


def _make(control: Control, value: Any, is_quick: bool):
    "The widget of a control, with a label that a screen reader finds."
    import ipywidgets

    style, layout = {"description_width": "initial"}, ipywidgets.Layout(width=f"{270 + 6 * len(control.label)}px", max_width="100%")
    common = dict(description=control.label, value=value, style=style, layout=layout, tooltip=control.label)
    if control.kind in ("whole", "number"):
        make = ipywidgets.IntSlider if control.kind == "whole" else ipywidgets.FloatSlider
        return make(min=control.low, max=control.high, step=control.step, continuous_update=is_quick, **common)
    if control.kind == "steps":
        return ipywidgets.SelectionSlider(options=_options(control), continuous_update=is_quick, **common)
    if control.kind == "choice":
        return ipywidgets.Dropdown(options=_options(control), **common)
    if control.kind == "switch":
        return ipywidgets.Checkbox(indent=False, **common)
    if control.kind == "text":
        common["layout"] = ipywidgets.Layout(width="100%", max_width="640px")
        return ipywidgets.Text(continuous_update=control.as_you_type, **common)
    return _painting(control, value)


def _options(control: Control) -> list[tuple[str, Any]]:
    return list(zip(control.names(), control.choices, strict=True))


def _painting(control: Control, value: tuple):
    "A square of switches; its `value` is the tuple of those that are on."
    import ipywidgets
    import traitlets

    class Painting(ipywidgets.VBox):
        value = traitlets.Tuple()

    names = control.labels or tuple(map(str, range(control.high)))
    places = range(control.high)
    small, side = dict(flex="0 0 auto", width="32px", height="26px", margin="1px", padding="0"), dict(flex="0 0 auto", width="48px")
    switches = {(row, column): ipywidgets.ToggleButton(value=(row, column) in value, icon=_mark((row, column) in value), layout=small,
                                                       tooltip=f"{names[row]} looks at {names[column]}")  # with no text in it, this is its name
                for row in places for column in places}
    head = ipywidgets.HBox([ipywidgets.Label("", layout=side), *(ipywidgets.Label(names[column][:5], layout=small) for column in places)])
    rows = [ipywidgets.HBox([ipywidgets.Label(names[row], layout=side), *(switches[row, column] for column in places)]) for row in places]
    painting = Painting([ipywidgets.Label(control.label), head, *rows], value=value)
    painting.switches = switches

    def collect(_):
        for switch in switches.values():
            switch.icon = _mark(switch.value)
        painting.value = tuple(cell for cell, switch in switches.items() if switch.value)

    for switch in switches.values():
        switch.observe(collect, "value")
    return painting


def _mark(is_on: bool) -> str:
    return "pencil" if is_on else ""


def _adjust(widget, control: Control, value: Any) -> None:
    "Bring a widget to the state of its control."
    if control.kind in ("whole", "number") and (widget.min, widget.max) != (control.low, control.high):
        widget.min, widget.max = min(widget.min, control.low), max(widget.max, control.high)  # never the lower above the upper
        widget.value = value
        widget.min, widget.max = control.low, control.high
    if control.kind in ("steps", "choice") and tuple(widget.options) != tuple(_options(control)):
        widget.options = _options(control)
    if control.kind == "paint":
        for cell, switch in widget.switches.items():
            if switch.value != (cell in value):
                switch.value = cell in value
    if widget.value != value:
        widget.value = value
