"""The website in a real browser: every page without an error or a request elsewhere, its maths set, its pictures there, wide and narrow, light and dark."""

import functools
import http.server
import threading
from pathlib import Path

import pytest

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(240)]

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


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        "Nothing."


@pytest.fixture(scope="module")
def address(site_folder):
    "The site as a plain web server gives it."
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site_folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def pages(folder: Path) -> list[str]:
    "All pages, the front page first."
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    return sorted(found, key=lambda path: path != "index.html")


def look(watched, address: str, path: str) -> dict:
    "Open a page and ask it."
    watched.page.goto(f"{address}/{path}", wait_until="load")
    return watched.page.evaluate(LOOK)


def test_every_page_is_whole(site_folder, address, watch):
    "At 1280 pixels, in the light: maths, pictures, nothing beside the page; whatever is logged or asked of another machine fails it."
    watched, faults, num_maths, num_pictures = watch(), [], 0, 0
    for path in pages(site_folder):
        found = look(watched, address, path)
        num_maths, num_pictures = num_maths + found["num_maths"], num_pictures + found["num_pictures"]
        faults += [f"{path}: {name} {found[name]}" for name in ("unset", "wrong", "missing") if found[name]]
        faults += [f"{path}: {found['overhang']} pixels hang out"] * (found["overhang"] > 0)
        faults += [f"{path}: no heading"] * (not found["heading"] and path not in ("genindex.html", "search.html"))
    assert not faults, "\n".join(faults)
    assert num_maths > 0 and num_pictures > 0


def chosen(folder: Path) -> list[str]:
    "One page of each kind: front page, tour, a lesson of each part, and what stands beside the lessons."
    known = pages(folder)
    first_of = dict.fromkeys(path.rpartition("/")[0] for path in known)
    return [next(path for path in known if path.rpartition("/")[0] == room) for room in first_of] + [path for path in known if "00_tour" in path or "03_attention" in path]


@pytest.mark.parametrize(("size", "scheme"), [("narrow", "light"), ("narrow", "dark"), ("wide", "dark"), ("wide", "light")])
def test_a_page_of_each_kind_is_readable_at_every_width_and_by_night(site_folder, address, watch, size, scheme):
    watched, faults = watch(size, scheme), []
    for path in dict.fromkeys(chosen(site_folder)):
        found = look(watched, address, path)
        watched.shot(f"site_{path.removesuffix('.html').replace('/', '_')}_{size}_{scheme}")
        faults += [f"{path}: {found['overhang']} pixels hang out"] * (found["overhang"] > 0)
        faults += [f"{path}: paper of brightness {found['brightness']:.0f}"] * ((found["brightness"] > 128) != (scheme == "light"))
        faults += [f"{path}: {found['missing']} missing"] * bool(found["missing"])
    assert not faults, "\n".join(faults)


def test_the_search_finds_a_lesson(address, watch):
    page = watch().page
    page.goto(f"{address}/search.html?q=rotary")
    page.locator("#search-results a").first.wait_for()
    assert any("16_modern_encoder" in (link.get_attribute("href") or "") for link in page.locator("#search-results a").all())
