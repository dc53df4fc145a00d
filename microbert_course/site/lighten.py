"""Takes out of a finished site what no page needs, so that a page with all its parts stays small."""

import re
import shutil
from pathlib import Path

SCRIPT = r'\s*<script[^>]*{name}[^>]*></script>|\s*<link[^>]*{name}[^>]*/?>'
ICONS = re.compile(SCRIPT.format(name=r"scripts/fontawesome\.js"))  # 1.5 MB; course.css draws the few icons that pages show
SEARCH = re.compile(SCRIPT.format(name=r"(?:searchindex|searchtools|language_data)\.js"))  # only the search page searches
# the colour of these is the colour around them: names, punctuation, space
PLAIN = re.compile(r'<span class="(?:n|p|w)">([^<]*)</span>')
UNUSED = ("*.map", "*.LICENSE.txt", "_static/scripts/fontawesome.js", "_static/images/logo_*", "_static/*webpack-macros.html", "objects.inv", ".buildinfo")


def lighten(site: Path) -> None:
    "Source maps and notes of the build, drawn icons, styles and scripts that no page asks for."
    for pattern in UNUSED:
        for path in site.rglob(pattern):
            path.unlink()
    for folder in ("_sources", "_static/locales"):
        shutil.rmtree(site / folder, ignore_errors=True)
    words = set()
    for page in site.rglob("*.html"):
        text = ICONS.sub("", page.read_text(encoding="utf-8"))
        text = PLAIN.sub(r"\1", text if page.name == "search.html" else SEARCH.sub("", text))
        page.write_text(text, encoding="utf-8")
        words.update(word for classes in re.findall(r'class="([^"]*)"', text) for word in classes.split())
    for script in site.glob("_static/**/*.js"):
        if "mathjax" not in script.parts:
            words.update(re.findall(r"[A-Za-z][\w-]*", script.read_text(encoding="utf-8")))
    for style in site.glob("_static/**/*.css"):
        style.write_text(used_styles(style.read_text(encoding="utf-8"), words), encoding="utf-8")


def used_styles(
    text: str,  # a style sheet
    words: set[str],  # the classes that pages have and scripts may set
) -> str:
    "The style sheet without the rules for other classes."
    import tinycss2

    return _used(tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True), words)


def _used(rules: list, words: set[str]) -> str:
    import tinycss2

    parts = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = [selector for selector in _selectors(rule.prelude) if _classes(selector) <= words]
            if selectors:
                parts.append(f"{','.join(tinycss2.serialize(selector).strip() for selector in selectors)}{{{tinycss2.serialize(rule.content)}}}")
        elif rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports"):
            inner = _used(tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True), words)
            parts += [f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}"] if inner else []
        elif rule.type == "at-rule":
            parts.append(rule.serialize())
    return "".join(parts)


def _selectors(tokens: list) -> list[list]:
    "The selectors of a rule, which commas part."
    found = [[]]
    for token in tokens:
        if token == ",":
            found.append([])
        else:
            found[-1].append(token)
    return found


def _classes(selector: list) -> set[str]:
    "The classes that something must have, or be inside of, for the selector to mean it; what stands in `:not()` or `:is()` is left aside."
    return {token.value for dot, token in zip(selector, selector[1:], strict=False) if dot == "." and token.type == "ident"}
