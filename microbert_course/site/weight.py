"""How many bytes a page of the site is, with everything that a browser loads for it."""

import re
from pathlib import Path

LOADED = re.compile(r"""<(?:script|img|source|video|audio|iframe)\b[^>]*?\bsrc=["']([^"']+)|<link\b(?=[^>]*rel=["'](?:stylesheet|icon|preload))[^>]*?href=["']([^"']+)""")
MATH_FONTS = ("Main-Regular", "Math-Italic", "Zero", "Size1-Regular", "Size2-Regular", "Size3-Regular", "Size4-Regular")  # what the lessons' formulas take


def folder_bytes(folder: Path) -> int:
    "All files together."
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def loaded(page: Path) -> list[str]:
    "The addresses that a page has its browser load, as they stand in it."
    return [first or second for first, second in LOADED.findall(page.read_text(encoding="utf-8"))]


def page_bytes(page: Path, site: Path) -> int:
    "The page, its pictures, styles and scripts, and the parts of MathJax where it has formulas. Each counts once, as if nothing were kept from another page."
    parts = {(page.parent / re.split("[?#]", address)[0]).resolve() for address in loaded(page) if not address.startswith("data:")}
    mathjax = site.resolve() / "_static" / "mathjax"
    if mathjax / "startup.js" in parts:
        fonts = {f"MathJax_{name}.woff" for name in MATH_FONTS}
        parts |= {path for path in mathjax.rglob("*") if path.suffix == ".js" or path.name in fonts}
    return page.stat().st_size + sum(part.stat().st_size for part in parts if part.is_file())
