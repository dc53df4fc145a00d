"""The course as the sandbox sees it: the library without what this lesson's exercises ask for, and nothing that knows an answer."""

import ast
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import microbert_course
from microbert_course import practice
from microbert_course.practice.blanks import blank

PACKAGE = "microbert_course"
LEFT_OUT = ("cli", "grading", "lessons")
KEPT_OF_PRACTICE = ("cells.py", "outcomes.py", "plain.py", "uses")
STUB = f'''"""Exercises, in the grader: nothing is checked here, and nothing shown."""


def _nothing(*args, **kwargs):
    return None


{' = '.join(practice.__all__)} = _nothing
'''


def build(room: Path, builds: Iterable[str]) -> None:
    "Write the sandbox's course into the folder `room`, with the symbols that `builds` names (models.attention.x) blanked."
    source = Path(microbert_course.__file__).parent
    course = room / PACKAGE
    shutil.copytree(source, course, ignore=lambda folder, names: [name for name in names if _is_left_out(Path(folder), name, source)])
    (course / "__init__.py").write_text(f'__version__ = "{microbert_course.__version__}"\n', encoding="utf-8")
    (course / "practice" / "__init__.py").write_text(STUB, encoding="utf-8")
    shutil.copytree(source / "grading" / "inside", room / "inside", ignore=shutil.ignore_patterns("__pycache__"))
    for name in builds:
        module, _, symbol = name.rpartition(".")
        path = course.joinpath(*module.split(".")).with_suffix(".py")
        path.write_text(blanked(path.read_text(encoding="utf-8"), symbol), encoding="utf-8")
    for folder, _, files in os.walk(room):
        os.chmod(folder, 0o755)
        for name in files:
            os.chmod(Path(folder) / name, 0o644)


def _is_left_out(folder: Path, name: str, source: Path) -> bool:
    if folder == source:
        return name in LEFT_OUT or name == "__pycache__" or name == "_modidx.py"
    if folder == source / "practice":
        return name not in KEPT_OF_PRACTICE
    return name == "__pycache__"


def blanked(source: str, symbol: str) -> str:
    "A module's text with the body of one function, or of every method of one class, replaced by an error that says why."
    tree, nothing = ast.parse(source), ast.parse(blank(f"{symbol} is what this exercise asks you to build")).body
    for node in tree.body:
        if getattr(node, "name", None) != symbol:
            continue
        functions = [node] if isinstance(node, ast.FunctionDef) else [
            child for child in node.body if isinstance(child, ast.FunctionDef)]
        for function in functions:
            function.body = nothing
    return ast.unparse(tree)


def site_folders() -> list[Path]:
    "Where installed packages are."
    found = [Path(entry) for entry in sys.path if entry and Path(entry).name in ("site-packages", "dist-packages")]
    return [folder.resolve() for folder in dict.fromkeys(found) if folder.is_dir()]


def python_paths() -> list[Path]:
    "What Python needs besides installed packages: itself, the standard library, the system's shared libraries."
    here = Path(sys.base_prefix)
    libraries = [*(here / name for name in ("lib", "lib64")), *map(Path, ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"))]
    files = [executable(), Path("/etc/ld.so.cache"), Path("/etc/localtime"), Path("/usr/share/zoneinfo")]
    return [path for path in dict.fromkeys([*libraries, *files]) if path.exists()]


def package_folders(path: Path) -> list[Path]:
    "The folders of installed packages that lie inside a folder of libraries, where they may hold the course, answers and all."
    return sorted(path.glob("python3*/*-packages")) if path.is_dir() else []


def without_packages(path: Path) -> tuple[list[Path], list[Path]]:  # what may be read, what may only be listed
    "A folder of libraries, installed packages left out."
    if not package_folders(path):
        return [path], []
    versions = {folder.parent for folder in package_folders(path)}
    children = [child for child in path.iterdir() if child not in versions]
    children += [child for version in versions for child in version.iterdir() if child not in package_folders(path)]
    return children, [path, *versions]


def executable() -> Path:
    "The file of the Python that runs, whatever links lead to it."
    return Path(os.path.realpath("/proc/self/exe" if os.path.exists("/proc/self/exe") else sys.executable))


def link_packages(folder: Path) -> list[Path]:  # what they point to
    "Links to all installed packages but the course, for a sandbox that cannot lay an empty folder over a full one."
    folder.mkdir(mode=0o755)
    targets = []
    for site in site_folders():
        for path in sorted(site.iterdir()):
            if not path.name.startswith((PACKAGE, "__editable__")) and path.suffix != ".pth" and not (folder / path.name).is_symlink():
                (folder / path.name).symlink_to(path)
                targets.append(path.resolve())
    return targets
