"""Every explorable in JupyterLab: its picture comes at once, each control is reached by the Tab key and, moved by keys, changes picture and words."""

import pytest
from browser.lab import notebook_of
from browser.widgets import Box

from microbert_course.visual.explore import explorables

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(240)]

EXPLORABLES = explorables()


@pytest.fixture(scope="module")
def gallery(lab, browser):
    "A notebook with a cell for each explorable, run from top to bottom; the page is watched until the last test is done."
    from browser.chromium import Watched
    from browser.lab import Notebook

    cells = ["from microbert_course.visual.explore import explore", *(f'explore("{one.name}")' for one in EXPLORABLES)]
    (lab.room / "gallery.ipynb").write_text(notebook_of(*cells), encoding="utf-8")
    watched = Watched(browser)
    notebook = Notebook(lab, watched, "gallery.ipynb")
    notebook.run_all(limit_s=120)
    yield notebook
    notebook.end()
    watched.close()


@pytest.mark.parametrize("explorable", EXPLORABLES, ids=lambda one: one.name)
def test_an_explorable_answers_to_its_controls(gallery, explorable):
    "By keys alone; what a control changes is seen in the picture and read in the words."
    place = gallery.number_of(f'explore("{explorable.name}")')
    box = Box(gallery.output(place))
    gallery.watched.shot(f"explorable_{explorable.name}")
    controls = [control.name for control in explorable.controls]
    assert box.controls() == controls == box.reached_by_tab()
    assert [control for control in controls if not box.label(control)] == []
    dead = [control.name for control in explorable.controls if not control.given and not answers(gallery, box, control.name, 2)]
    for name in dead:  # what was moved before may have left them nothing to say: from the start, then
        gallery.run(place)
        assert answers(gallery, Box(gallery.output(place)), name, 10), f"{name} changes nothing"
    gallery.watched.shot(f"explorable_{explorable.name}_moved")


def answers(gallery, box, control, limit_s):
    "Whether moving a control changes the picture and the words."
    picture, words = box.picture(), box.words()
    box.move(control)
    try:
        gallery.wait_for(lambda: box.picture() not in ("", picture) and box.words() != words, limit_s)
    except AssertionError:
        return False
    return True


def test_a_picture_and_its_controls_fit_a_narrow_screen_by_night(gallery):
    "At 400 pixels and in JupyterLab's dark theme nothing of the box hangs out at its side."
    gallery.page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    gallery.page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
    gallery.watched.narrow()
    faults = []
    for explorable in EXPLORABLES:
        box = Box(gallery.output(gallery.number_of(f'explore("{explorable.name}")')))
        gallery.watched.shot(f"explorable_{explorable.name}_narrow_dark")
        overhang = box.whole.evaluate("""whole => Math.max(...Array.from(whole.querySelectorAll('img, input, select, .noUi-target'))
            .map(one => one.getBoundingClientRect().right)) - whole.closest('.jp-OutputArea-output').getBoundingClientRect().right""")
        faults += [f"{explorable.name}: {overhang:.0f} pixels hang out"] * (overhang > 1)
    assert not faults, "\n".join(faults)
