"""Where a file of the repository stands on the site, and markdown whose links are made to lead there."""

import os
import posixpath
import re

TEXTS = {"README.md": "index", "nbs/index.ipynb": "index", "solutions/README.md": "teachers", "TUTOR.md": "tutor",
         "CONTRIBUTING.md": "contributing", "LICENSE": "licence", "tests/bands.json": "bands", "benchmarks/results": "benchmarks"}
CODE_OR_LINK = re.compile(r"^```.*?^```|(?P<ticks>`+)[^`].*?(?P=ticks)|(?<!!)\[(?P<words>(?:[^\[\]`]|`[^`]*`)+)\]\((?![a-z]+:|#|/)(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)",
                          re.MULTILINE | re.DOTALL)


PICTURE = re.compile(r"!\[([^\]]*)\]\((?![a-z]+:|#|/)([^)\s]+)\)")
KEPT = "/files/"  # where the site's sources keep the pictures of the repository, by their paths there


def page_of(path: str) -> str | None:  # "nbs/1_foundations/03_attention.ipynb" -> "1_foundations/03_attention"
    "The page, without ending, that shows a file of the repository; None if none does."
    if path in TEXTS:
        return TEXTS[path]
    stem, ending = posixpath.splitext(path)
    if ending == ".ipynb" and path.startswith(("nbs/", "exercises/")):
        return stem.removeprefix("nbs/")
    if ending == ".py" and path.startswith("microbert_course/"):
        return "api/" + stem.removeprefix("microbert_course/").removesuffix("/__init__").replace("/", ".")
    return None


def relink(
    text: str,  # markdown
    source: str,  # the file it is from, below the repository's root
    page: str,  # the page it goes to, "exercises/03_attention"
    pages: dict[str, str],  # those that there are, and the endings of their sources: ".md", ".ipynb"
) -> str:
    """The text with links to files turned into links to pages; a link to a file that the site does not show keeps its words alone.

    A picture's address begins with KEPT after it."""
    def replace(match: re.Match) -> str:
        words, target, anchor = match.group("words"), match.group("target"), match.group("anchor") or ""
        if target is None:
            return match.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        found = page_of(path)
        if found not in pages:
            return words
        return f"[{words}](<{os.path.relpath(found, posixpath.dirname(page) or '.').replace(os.sep, '/')}{pages[found]}{anchor}>)"

    text = PICTURE.sub(lambda picture: f"![{picture.group(1)}]({KEPT}{posixpath.normpath(posixpath.join(posixpath.dirname(source), picture.group(2)))})", text)
    return CODE_OR_LINK.sub(replace, text)
