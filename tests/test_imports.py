"""Importing the package needs neither nbdev nor Jupyter, and its core needs no more than the six libraries it names."""

import subprocess
import sys

import pytest

AUTHORING = ["nbdev", "fastcore", "execnb", "IPython", "ipykernel", "ipywidgets", "jupyterlab", "jupyter_client", "nbformat", "nbclient",
             "nbconvert", "papermill"]
CORE = ["torch", "numpy", "safetensors", "tokenizers", "transformers", "accelerate"]
NEEDS_JUPYTER = ["microbert_course.lessons.engine"]  # it is what runs notebooks; lessons.runner imports it when it does

# python -c WALK folder-to-import-from package names-that-cannot-be-imported: prints a line for every module that fails
WALK = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[3].split(","):
            raise ImportError(f"{name} is not installed")

sys.path.insert(0, sys.argv[1])
sys.meta_path.insert(0, Missing())
package = importlib.import_module(sys.argv[2])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        print(f"{module.name}: {error}")
    else:
        print(f"imported {module.name}")
"""

# python -c GUARD folder-to-import-from package rooms allowed: the package's own import statements may name nothing else
GUARD = """
import builtins, importlib, pkgutil, sys

folder, package, rooms, allowed = sys.argv[1:]
allowed = {package, *allowed.split(","), *sys.stdlib_module_names}
plain_import = builtins.__import__

def watched(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__") or ""
    if importer.startswith(package + ".") and level == 0 and name.partition(".")[0] not in allowed:
        raise ImportError(f"{importer} imports {name}")
    return plain_import(name, globals, locals, fromlist, level)

sys.path.insert(0, folder)
builtins.__import__ = watched
for room in rooms.split(","):
    found = importlib.import_module(f"{package}.{room}")
    for module in pkgutil.walk_packages(found.__path__, found.__name__ + "."):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            print(f"{module.name}: {error}")
        else:
            print(f"imported {module.name}")
"""


def run(script, *arguments):
    "The script's lines, sorted into modules that were imported and modules that were not."
    answer = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    imported = [line.removeprefix("imported ") for line in lines if line.startswith("imported ")]
    return imported, [line for line in lines if not line.startswith("imported ")]


@pytest.fixture
def course():
    from microbert_course.paths import course_root

    return str(course_root())


def plant(folder, **modules):
    "A small package with the given modules, each in a room of its own."
    for room, source in modules.items():
        (folder / "planted_course" / room).mkdir(parents=True)
        (folder / "planted_course" / "__init__.py").touch()
        (folder / "planted_course" / room / "__init__.py").touch()
        (folder / "planted_course" / room / "module.py").write_text(source)
    return str(folder)


def test_every_module_imports_without_nbdev_and_jupyter(course):
    "The modules that run notebooks are the one exception, and the list of them holds no module that has no need to be there."
    imported, failed = run(WALK, course, "microbert_course", ",".join(AUTHORING))
    assert "microbert_course.models.attention" in imported and "microbert_course.cli.main" in imported
    assert sorted(line.partition(":")[0] for line in failed) == NEEDS_JUPYTER, "\n".join(failed)


def test_the_walk_finds_a_planted_import_of_fastcore(tmp_path):
    folder = plant(tmp_path, models="from fastcore.test import test_eq\n", data="import json\n")
    imported, failed = run(WALK, folder, "planted_course", ",".join(AUTHORING))
    assert failed == ["planted_course.models.module: fastcore is not installed"]
    assert "planted_course.data.module" in imported


def test_the_core_imports_six_libraries_and_no_others(course):
    "`datasets`, matplotlib and tqdm, for example, are imported where they are used."
    imported, failed = run(GUARD, course, "microbert_course", "data,models,training", ",".join(CORE))
    assert "microbert_course.models.bert" in imported and "microbert_course.training.loop" in imported
    assert failed == []


@pytest.mark.parametrize("name", ["datasets", "matplotlib.pyplot", "tqdm"])
def test_the_guard_finds_a_planted_import(tmp_path, name):
    folder = plant(tmp_path, training=f"import {name}\n")
    _, failed = run(GUARD, folder, "planted_course", "training", ",".join(CORE))
    assert failed == [f"planted_course.training.module: planted_course.training.module imports {name}"]
