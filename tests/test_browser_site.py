"""The website in a real browser: every page without an error or a request elsewhere, its maths set, its pictures there, wide and narrow, light and dark."""

from pathlib import Path

import pytest
from browser.chromium import serve

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(240)]

@pytest.fixture(scope="module")
def address(site_folder):
    "The site as a plain web server gives it."
    with serve(site_folder) as url:
        yield url


def pages(folder: Path) -> list[str]:
    "All pages, the front page first."
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    return sorted(found, key=lambda path: path != "index.html")


API_SHARE = 8  # the pages of the library are made alike: one in so many is opened


def test_every_page_is_whole(site_folder, address, watch):
    "At 1280 pixels, in the light: maths, pictures, nothing beside the page; whatever is logged or asked of another machine fails it."
    watched, faults, num_maths, num_pictures = watch(), [], 0, 0
    library = [path for path in pages(site_folder) if path.startswith("api/")]
    for path in [path for path in pages(site_folder) if path not in library] + library[::API_SHARE]:
        found = watched.look(f"{address}/{path}")
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


@pytest.mark.parametrize(("size", "scheme"), [("narrow", "light"), ("narrow", "dark"), ("wide", "dark")])
def test_a_page_of_each_kind_is_readable_at_every_width_and_by_night(site_folder, address, watch, size, scheme):
    watched, faults = watch(size, scheme), []
    for path in dict.fromkeys(chosen(site_folder)):
        found = watched.look(f"{address}/{path}")
        name = f"site_{path.removesuffix('.html').replace('/', '_')}_{size}_{scheme}"
        watched.shot(name)
        if found["num_pictures"]:
            watched.page.locator("img").last.scroll_into_view_if_needed()
            watched.shot(f"{name}_picture")
        faults += [f"{path}: {found['overhang']} pixels hang out"] * (found["overhang"] > 0)
        faults += [f"{path}: paper of brightness {found['brightness']:.0f}"] * ((found["brightness"] > 128) != (scheme == "light"))
        faults += [f"{path}: {found['missing']} missing"] * bool(found["missing"])
    assert not faults, "\n".join(faults)


def test_the_search_finds_a_lesson(address, watch):
    page = watch().page
    page.goto(f"{address}/search.html?q=rotary")
    page.locator("#search-results a").first.wait_for()
    assert any("16_modern_encoder" in (link.get_attribute("href") or "") for link in page.locator("#search-results a").all())
