"""A real browser for the tests: chromium with its network closed but for this machine, and pages that fail a test over any error they log."""

import functools
import http.server
import os
import shutil
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
ARGUMENTS = ["--disable-background-networking", "--disable-component-update", "--disable-domain-reliability", "--disable-sync", "--no-first-run",
             "--no-default-browser-check", "--disable-dev-shm-usage", "--disable-features=OptimizationHints,MediaRouter,Translate",
             "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
SHOTS = Path(__file__).resolve().parents[2] / "shots"  # git ignores it
SIZES = {"wide": (1280, 900), "narrow": (400, 800)}


# what a page is asked: maths that was not set, pictures that did not load, text that hangs out at the side, how bright the paper is
LOOK = """async () => {
    if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise
    const pictures = Array.from(document.images)
    pictures.forEach(one => { one.loading = 'eager' })
    await Promise.all(pictures.map(one => one.decode().catch(() => null)))
    const maths = Array.from(document.querySelectorAll('.math'))
    const paper = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number)
    return {
        unset: maths.filter(one => !one.querySelector('mjx-container, svg, math')).map(one => one.textContent.slice(0, 60)),
        wrong: Array.from(document.querySelectorAll('mjx-merror, [data-mjx-error]')).map(one => one.textContent.slice(0, 60)),
        num_maths: maths.length, num_pictures: pictures.length,
        missing: pictures.filter(one => !one.naturalWidth).map(one => one.src.slice(0, 100)),
        overhang: document.documentElement.scrollWidth - window.innerWidth,
        brightness: (paper[0] + paper[1] + paper[2]) / 3, heading: document.querySelector('h1')?.textContent ?? '',
    }}"""


def executable() -> str | None:
    "The browser, found on the path; $CHROMIUM names another."
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def missing() -> str | None:
    "What is not there for tests in a browser, in a sentence; None if all is."
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "no playwright here: `pip install -e '.[dev]'` brings it"
    if executable() is None:
        return "no chromium here: install one (on Debian and Ubuntu: apt install chromium), or name it in CHROMIUM"
    return None


def require() -> None:
    "Skip the test with a sentence where there is no browser; fail it if REQUIRE_BROWSER=1."
    if says := missing():
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip)(says)


def launch(playwright):
    "One chromium for all tests; as root it has no sandbox, since it refuses to start with one."
    as_root = hasattr(os, "getuid") and os.getuid() == 0
    return playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS + ["--no-sandbox"] * as_root)


class Watched:
    """A page in a context of its own. What a learner must never meet is collected in `faults`: requests to another machine, errors on the console,
    errors that nobody caught, answers 4xx and 5xx."""

    def __init__(self, browser, size: str = "wide", scheme: str = "light", forgive: tuple[str, ...] = ()):
        width, height = SIZES[size]
        self.faults, self.forgive = [], forgive
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
        self.context.route("**/*", self._let_through)
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("console", lambda message: message.type == "error" and self._note(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self._note(f"error: {error}"))
        self.page.on("websocket", lambda socket: is_elsewhere(socket.url) and self._note(f"asked for {socket.url}"))
        self.page.on("response", lambda answer: answer.status >= 400 and self._note(f"{answer.status}: {answer.url}"))

    def _let_through(self, route) -> None:
        if is_elsewhere(route.request.url):
            self._note(f"asked for {route.request.url}")
            route.abort()
        else:
            route.continue_()

    def _note(self, fault: str) -> None:
        if not any(word in fault for word in self.forgive):
            self.faults.append(fault[:300])

    def shot(self, name: str, **more) -> Path:
        "A screenshot, kept in shots/."
        SHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", **more)
        return SHOTS / f"{name}.png"

    def narrow(self) -> None:
        "As on a telephone."
        self.page.set_viewport_size(dict(zip(("width", "height"), SIZES["narrow"], strict=True)))

    def look(self, url: str) -> dict:
        "Open a page and ask it what a reader would see: LOOK says what."
        self.page.goto(url, wait_until="load")
        return self.page.evaluate(LOOK)

    def close(self) -> None:
        "Close it; whatever it had to complain of fails the test."
        self.context.close()
        assert not self.faults, "\n".join(self.faults)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        "Nothing."

    def end_headers(self):
        self.send_header("Cache-Control", "max-age=600")
        super().end_headers()


@contextmanager
def serve(folder: Path) -> Iterator[str]:  # its address
    "A folder as a plain web server gives it."
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def is_elsewhere(url: str) -> bool:
    "Whether an address leaves this machine."
    parts = urllib.parse.urlsplit(url)
    return parts.scheme not in ("data", "blob", "file", "about", "devtools", "chrome-error") and parts.hostname not in ("127.0.0.1", "localhost")
