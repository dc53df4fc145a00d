"""The pages of the library: a page a module, every public name with its parameters, shapes and source."""

import re
from pathlib import Path

from microbert_course.site.signatures import Entry, Part, read_module

ROOMS = {"data": "Text, tokenizers, streams, packing, mixtures", "models": "Attention, the encoder, the decoder, adapters, quantisation, experts",
         "training": "Masking, optimizers, presets, the loop, precision, memory, checkpoints, many processes",
         "posttraining": "Classification, instructions, rewards, evaluation, the pipeline",
         "numpy_bert": "The encoder with its backward pass by hand", "visual": "Pictures, still and moving"}
CODE = re.compile(r"(`+[^`]+`+)")


def module_pages(root: Path) -> dict[str, tuple[str, Path]]:  # {"api/models.attention": ("microbert_course.models.attention", path)}
    "The modules that get a page: those of the rooms that a learner's code comes from."
    found = {}
    for room in ROOMS:
        for path in sorted((root / "microbert_course" / room).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            is_shown = not path.name.startswith("_") and "test" not in path.stem
            if is_shown and read_module(path, name)[1]:
                found["api/" + name.removeprefix("microbert_course.")] = (name, path)
    return found


def write_api(
    root: Path,
    lessons: dict[str, str],  # a link to the lesson that builds a module: {"models.attention": "[lesson 03](../1_foundations/03_attention.ipynb)"}
) -> dict[str, str]:  # {page: markdown}
    "All pages of the library, its front page included."
    modules = module_pages(root)
    read = {page: read_module(path, name) for page, (name, path) in modules.items()}
    known = {}
    for page, (_, entries) in read.items():
        for entry in entries:
            known.setdefault(entry.name, []).append(f"{modules[page][0]}.{entry.name}")
    pages = {page: _module_page(modules[page][0], doc, entries, known, lessons) for page, (doc, entries) in read.items()}
    pages["api/index"] = _index(modules, read, lessons)
    return pages


def _index(modules: dict, read: dict, lessons: dict[str, str]) -> str:
    parts = ["# The library", "Everything that the lessons export, and what stands beside it. A shape such as (batch, seq, hidden_size) beside a parameter says what goes in; "
             "*returns* says what comes out. The search box finds every name."]
    for room, what in ROOMS.items():
        pages = [page for page in modules if page.removeprefix("api/").partition(".")[0] == room]
        rows = [f"| [{page.removeprefix('api/')}]({page.removeprefix('api/')}.md) | {_cell(_first_sentence(read[page][0]))} | {lessons.get(page.removeprefix('api/'), '')} |" for page in pages]
        names = "\n".join(page.removeprefix("api/") for page in pages)
        parts += [f"## {room}", f"{what}.", "| module | what it holds | built in |\n|---|---|---|\n" + "\n".join(rows), f"```{{toctree}}\n:hidden:\n\n{names}\n```"]
    return "\n\n".join(parts) + "\n"


def _module_page(module: str, doc: str, entries: list[Entry], known: dict, lessons: dict[str, str]) -> str:
    name = module.removeprefix("microbert_course.")
    parts = [f"# {name}", _prose(doc, known, module)]
    built = f"Built in {lessons[name]}. " if name in lessons else ""
    parts += [f":::{{container}} ran-on\n{built}`from {module} import {', '.join(entry.name for entry in entries[:3])}{', …' if len(entries) > 3 else ''}`\n:::",
              f"```{{py:currentmodule}} {module}\n```"]
    parts += [_entry(entry, module, known, depth=0) for entry in entries]
    return "\n\n".join(parts) + "\n"


def _entry(entry: Entry, module: str, known: dict, depth: int) -> str:
    fence = "`" * (8 - 2 * depth)
    directive = {"property": "property", "classmethod": "method", "staticmethod": "staticmethod"}.get(entry.kind, entry.kind)
    head = entry.name if entry.kind in ("property", "data") else entry.signature()
    options = [":classmethod:"] if entry.kind == "classmethod" else []
    parts = ["\n".join([f"{fence}{{py:{directive}}} {head}", *options]), _prose(entry.doc, known, module)]
    told = [part for part in entry.parts if part.name != "*"]
    if any(part.type or part.note for part in told) or entry.returns:
        parts.append(_table(told, entry.returns))
    parts += [_entry(method, module, known, depth + 1) for method in entry.methods]
    if depth == 0:
        parts.append(f"<details class=\"source\"><summary>Source</summary>\n\n```python\n{entry.source}\n```\n\n</details>")
    return "\n\n".join([part for part in parts if part] + [fence])


def _table(parts: list[Part], returns: Part | None) -> str:
    rows = [f"| `{part.name}` | {_type(part)} | {_cell(part.note)} |" for part in parts]
    rows += [f"| *returns* | {_type(returns)} | {_cell(returns.note)} |"] if returns else []
    return "| | type | what it is |\n|---|---|---|\n" + "\n".join(rows)


def _type(part: Part) -> str:
    return f"`{part.type}`".replace("|", "\\|") if part.type else ""


def _cell(text: str) -> str:
    return _prose(" ".join(text.split()), {}, "").replace("|", "\\|")


def _first_sentence(doc: str) -> str:
    return " ".join(doc.split("\n\n")[0].split())


def _prose(doc: str, known: dict, module: str) -> str:
    "A docstring as markdown: what is not code is escaped, names of the library lead to their place, errors stand out."
    text = "".join(_code(part, known, module) if i % 2 else re.sub(r"([\\*_<>\[\]$#{}~])", r"\\\1", part) for i, part in enumerate(CODE.split(doc)))
    return re.sub(r"^(Raises|Returns):", r"**\1**", text, flags=re.MULTILINE)


def _code(part: str, known: dict, module: str) -> str:
    name = part.strip("`")
    here = [full for full in known.get(name, []) if full.rpartition(".")[0] == module] or known.get(name, [])
    return f"{{py:obj}}`{name} <{here[0]}>`" if len(here) == 1 else part
