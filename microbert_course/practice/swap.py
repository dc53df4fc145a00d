"""A learner's own function in the library's place: after a module is loaded, what was adopted for it replaces what it defines.

Adopted code lies in `work/adopted/`, one file a name, such as `models.attention.scaled_dot_product_attention.py`. Without such files
nothing here does anything. `MICROBERT_WORK` names another folder than `work/`."""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from microbert_course.errors import CourseError
from microbert_course.paths import work_dir

PACKAGE = "microbert_course"


def adopted_files() -> dict[str, Path]:  # by the name in the library: models.attention.scaled_dot_product_attention
    "What was adopted, in the order of the alphabet."
    return {path.name.removesuffix(".py"): path for path in sorted((work_dir() / "adopted").glob("*.*.py"))}


def put_in_place() -> None:
    "From now on, modules are loaded with what was adopted for them."
    files: dict[str, list[Path]] = {}
    for name, path in adopted_files().items():
        files.setdefault(f"{PACKAGE}.{name.rpartition('.')[0]}", []).append(path)
    if files:
        sys.meta_path.insert(0, AdoptingFinder(files))


def put_back() -> None:
    "From now on, modules are loaded as they are."
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, AdoptingFinder)]


def load_adopted(path: Path) -> object:
    """The function or class that a file of adopted code defines.

    Raises: CourseError if the file does not run, with how to be rid of it."""
    name = path.name.removesuffix(".py")
    namespace = {"__name__": f"adopted.{name}", "__file__": str(path)}
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
    except (Exception, SystemExit) as error:  # it is a learner's code
        raise CourseError(f"your {name} in {path} fails ({type(error).__name__}: {error}): mend it, or `microbert adopt --drop {name}`") from None
    symbol = name.rpartition(".")[2]
    if symbol not in namespace:
        raise CourseError(f"{path} defines no {symbol}: mend it, or `microbert adopt --drop {name}`")
    return namespace[symbol]


class AdoptingFinder(MetaPathFinder):
    "Finds the modules that something was adopted for, as usual, but loads them with it."

    def __init__(self, files: dict[str, list[Path]]):
        self.files = files

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname in self.files else None
        if spec:
            spec.loader = AdoptingLoader(spec.loader, self.files[fullname])
        return spec


class AdoptingLoader(Loader):
    "Loads a module, then puts adopted code in place of what it defines; inside the module, too, everybody uses that from then on."

    def __init__(self, usual: Loader, files: list[Path]):
        self.usual, self.files = usual, files

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.usual.exec_module(module)
        for path in self.files:
            setattr(module, path.name.removesuffix(".py").rpartition(".")[2], load_adopted(path))

    def __getattr__(self, name: str):  # get_source and the like, for tracebacks and inspect
        return getattr(self.usual, name)
