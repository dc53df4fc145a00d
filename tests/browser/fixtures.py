"""What the browser tests share. The browser lives as long as a module: playwright keeps an event loop, which notebooks' own runs would trip over."""

import pytest

from browser import chromium
from browser.lab import Lab, Notebook


@pytest.fixture(scope="module")
def browser():
    "One chromium for the tests of a file; without one they are skipped with a sentence, or fail if REQUIRE_BROWSER=1."
    chromium.require()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = chromium.launch(playwright)
        yield made
        made.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    "One JupyterLab for all of them."
    chromium.require()
    made = Lab(tmp_path_factory.mktemp("room"))
    yield made
    made.close()


@pytest.fixture
def watch(browser):
    "Opens watched pages; each must have come through without a fault."
    opened = []

    def open(*arguments, **more) -> chromium.Watched:
        opened.append(chromium.Watched(browser, *arguments, **more))
        return opened[-1]

    yield open
    for watched in opened:
        watched.close()


@pytest.fixture
def open_notebook(lab, watch):
    "Opens a notebook of the room in JupyterLab."
    opened = []

    def open(path: str, *arguments, **more) -> Notebook:
        opened.append(Notebook(lab, watch(*arguments, **more), path))
        return opened[-1]

    yield open
    for notebook in opened:
        notebook.end()
