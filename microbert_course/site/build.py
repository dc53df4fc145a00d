"""Builds the site: `python -m microbert_course.site.build [--out _site]`. Needs what `pip install -e ".[dev]"` brings, and no network."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.paths import course_root
from microbert_course.site.lighten import lighten
from microbert_course.site.pages import write_pages
from microbert_course.site.weight import folder_bytes, page_bytes

CONFIG = Path(__file__).parent / "config"
NEEDS = ("sphinx", "myst_nb", "sphinx_book_theme", "mathjax", "tinycss2")
MATHJAX = ("startup.js", "core.js", "input/tex-base.js", "input/tex/extensions/ams.js", "input/tex/extensions/textmacros.js", "output/chtml.js",
           "output/chtml/fonts/tex.js")
DURATIONS = "sphinx-reading-durations.json"
MARK = ".microbert-site"  # in a folder that this module wrote, and may therefore delete


def build(folder: str | Path, root: Path | None = None) -> Path:  # the folder of the site; its index.html is the front page
    """Write the site into `folder`, which is made anew.

    Raises: CourseError if a part is missing, or Sphinx has anything to complain of."""
    folder = Path(folder).resolve()
    timed_build(folder, (root or course_root()).resolve())
    return folder


def timed_build(folder: Path, root: Path) -> dict[str, float]:  # seconds of each page, {"1_foundations/03_attention": 0.3}
    "As `build`; how long Sphinx read at each page."
    missing = [name for name in NEEDS if not find_spec(name)]
    if missing:
        raise CourseError(f"the site needs {missing[0]}, which is not installed: `{sys.executable} -m pip install -c constraints.txt -e '.[dev]'`")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir()) and not _is_ours(folder)):
        raise CourseError(f"{folder} holds something else than a site that was built here: name another folder, or empty this one")
    with tempfile.TemporaryDirectory(prefix="site-") as name:
        source, made = Path(name).resolve() / "pages", Path(name).resolve() / "html"
        shutil.copytree(CONFIG, source, ignore=shutil.ignore_patterns("__pycache__", "__init__.py"))
        _add_mathjax(source / "static" / "mathjax")
        write_pages(root, source)
        _run_sphinx(source, made)
        durations = json.loads((made / DURATIONS).read_text(encoding="utf-8"))
        (made / DURATIONS).unlink()
        lighten(made)
        (made / MARK).touch()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
    return durations


def _is_ours(folder: Path) -> bool:
    "Whether a build wrote this folder, and nobody made a repository of it since."
    return (folder / MARK).is_file() and not (folder / ".git").exists()


def _add_mathjax(target: Path) -> None:
    "The parts of MathJax that conf.py asks for, from the package that carries it."
    origin = Path(find_spec("mathjax").submodule_search_locations[0]) / "static" / "mathjax"
    for name in MATHJAX:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(origin / "es5" / name, target / name)
    shutil.copytree(origin / "es5" / "output" / "chtml" / "fonts" / "woff-v2", target / "output" / "chtml" / "fonts" / "woff-v2")
    shutil.copy(origin / "LICENSE", target / "LICENSE")


def _run_sphinx(source: Path, made: Path) -> None:
    "In a process of its own: Sphinx changes much that is global. A warning is a fault."
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "--no-color", "-j", "2", "-d", str(made.with_name("doctrees")), str(source), str(made)]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    said = [line.replace(str(source), "").lstrip("/\\") for line in ran.stderr.splitlines() if line.strip()]
    if ran.returncode or said:
        raise CourseError("Sphinx is not content: " + "\n".join(said[:20] or [ran.stdout[-500:]]))


def main(argv: list[str] | None = None) -> int:
    "The command line; the status for the shell comes back."
    parser = argparse.ArgumentParser(prog="python -m microbert_course.site.build", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the folder of the site (default: _site in the checkout)")
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    try:
        root = course_root()
        folder = (arguments.out or root / "_site").resolve()
        durations = timed_build(folder, root)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    pages = {page.relative_to(folder).as_posix(): page_bytes(page, folder) for page in folder.rglob("*.html")}
    slowest, heaviest = max(durations, key=durations.get), max(pages, key=pages.get)
    print(f"{folder / 'index.html'}: {len(pages)} pages, {folder_bytes(folder) / 1e6:.1f} MB, made in {time.monotonic() - started:.0f} s")
    print(f"slowest to make: {slowest}.html, {durations[slowest]:.1f} s to read; heaviest to open: {heaviest}, {pages[heaviest] / 1e6:.2f} MB with all that it loads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
