"""The watch on pages itself, on planted faults: each is noticed, and a page without one is let pass."""

import pytest
from browser.chromium import Watched, is_elsewhere, serve

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(60)]

PAGE = '<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">{}</head><body style="background: #fff"><h1>A page</h1>{}</body></html>'


def opened(browser, folder, text, **more):
    "A page with this text, after it was looked at: what the watch noted, what it saw."
    (folder / "index.html").write_text(text, encoding="utf-8")
    watched = Watched(browser, **more)
    with serve(folder) as address:
        found = watched.look(f"{address}/index.html")
    watched.context.close()
    return watched, found


def test_a_page_without_fault_passes(browser, tmp_path):
    watched, found = opened(browser, tmp_path, PAGE.format("", "<p>fine</p>"))
    assert watched.faults == [] and found["overhang"] <= 0 and found["brightness"] == 255 and found["heading"] == "A page"
    watched.close()


@pytest.mark.parametrize(("head", "body", "says"), [
    ("", '<img src="https://cdn.example.org/a.png">', "asked for https://cdn.example.org/a.png"),
    ('<link rel="stylesheet" href="//fonts.example.org/f.css">', "", "asked for http://fonts.example.org/f.css"),
    ("", "<script>fetch('https://example.org/ping').catch(() => {})</script>", "asked for https://example.org/ping"),
    ("", "<script>new WebSocket('wss://example.org/live')</script>", "asked for wss://example.org/live"),
    ("", '<img src="missing.png">', "404: "),
    ("", "<script>console.error('oh dear')</script>", "console: oh dear"),
    ("", "<script>undefinedName()</script>", "undefinedName is not defined"),
], ids=["picture", "style", "fetch", "socket", "missing", "console", "error"])
def test_a_fault_fails_the_page(browser, tmp_path, head, body, says):
    watched, _ = opened(browser, tmp_path, PAGE.format(head, body))
    watched.page.close() if not watched.page.is_closed() else None
    assert any(says in fault for fault in watched.faults), watched.faults
    with pytest.raises(AssertionError):
        watched.close()


def test_a_look_sees_maths_that_is_not_set_pictures_that_are_missing_and_what_hangs_out(browser, tmp_path):
    body = '<span class="math">\\(x^2\\)</span><span class="math"><mjx-container><mjx-merror>Undefined</mjx-merror></mjx-container></span><img src="no.png">'
    watched, found = opened(browser, tmp_path, PAGE.format("", body + '<div style="width: 900px">wide</div>'), size="narrow")
    assert found["unset"] == ["\\(x^2\\)"] and found["wrong"] == ["Undefined"] and len(found["missing"]) == 1 and found["overhang"] > 400


@pytest.mark.parametrize(("url", "leaves"), [
    ("http://127.0.0.1:8888/lab", False), ("ws://localhost:1/api", False), ("data:,", False), ("blob:http://127.0.0.1/x", False),
    ("https://example.org", True), ("//example.org/x", True), ("http://127.0.0.1.example.org/", True), ("http://10.0.0.1/", True)])
def test_what_leaves_this_machine(url, leaves):
    assert is_elsewhere(url) == leaves
