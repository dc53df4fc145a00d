"""Importing the package needs neither nbdev nor Jupyter, and its core needs no more than the six libraries it names."""

import json
import os
import subprocess
import sys

import pytest

AUTHORING = ["nbdev", "fastcore", "execnb", "IPython", "ipykernel", "ipywidgets", "jupyterlab", "jupyter_client", "nbformat", "nbclient",
             "nbconvert", "papermill"]
CORE = ["torch", "numpy", "safetensors", "tokenizers", "transformers", "accelerate"]
NEEDS_JUPYTER = ["microbert_course.lessons.engine"]  # it is what runs notebooks; lessons.runner imports it when it does
NEEDS_TRITON = ["microbert_course.models.one_query", "microbert_course.training.bias_gelu", "microbert_course.training.short_attention"]  # kernels for a GPU; imported where there is one

# imports every module of the packages named; prints a line for each, after `refuse` was put in the way of some imports
WALK = """
import importlib, json, pkgutil, sys

folder, packages, {arguments} = json.loads(sys.argv[1])
sys.path.insert(0, folder)
{refuse}
for name in packages:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            print(f"{{module.name}}: {{error}}")
        else:
            print(f"imported {{module.name}}")
"""

# these names cannot be imported, by anybody
MISSING = WALK.format(arguments="missing", refuse="""
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Missing())
""")

# the package's own import statements may name nothing but these and the standard library; what it imports may
GUARD = WALK.format(arguments="allowed", refuse="""
import builtins

own, plain_import = packages[0].partition(".")[0], builtins.__import__

def watched(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__") or ""
    if importer.startswith(own + ".") and level == 0 and name.partition(".")[0] not in {own, *allowed, *sys.stdlib_module_names}:
        raise ImportError(f"{importer} imports {name}")
    return plain_import(name, globals, locals, fromlist, level)

builtins.__import__ = watched
""")


def run(script, *arguments):
    "The script's lines, sorted into modules that were imported and modules that were not."
    answer = subprocess.run([sys.executable, "-c", script, json.dumps(arguments)], capture_output=True, text=True, timeout=120)
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
    "The modules that run notebooks and those with kernels are the exceptions, and the lists of them hold no module that has no need to be there."
    imported, failed = run(MISSING, course, ["microbert_course"], [*AUTHORING, "triton"])
    assert "microbert_course.models.attention" in imported and "microbert_course.cli.main" in imported
    assert sorted(line.partition(":")[0] for line in failed) == sorted(NEEDS_JUPYTER + NEEDS_TRITON), "\n".join(failed)


def test_the_walk_finds_a_planted_import_of_fastcore(tmp_path):
    folder = plant(tmp_path, models="from fastcore.test import test_eq\n", data="import json\n")
    imported, failed = run(MISSING, folder, ["planted_course"], AUTHORING)
    assert failed == ["planted_course.models.module: fastcore is not installed"]
    assert "planted_course.data.module" in imported


def test_the_core_imports_six_libraries_and_no_others(course):
    "`datasets`, matplotlib and tqdm, for example, are imported where they are used."
    imported, failed = run(GUARD, course, [f"microbert_course.{room}" for room in ("data", "models", "training", "posttraining")], CORE)
    assert "microbert_course.models.bert" in imported and "microbert_course.training.loop" in imported
    assert failed == [f"{name}: {name} imports triton" for name in NEEDS_TRITON]


@pytest.mark.parametrize("name", ["datasets", "matplotlib.pyplot", "tqdm"])
def test_the_guard_finds_a_planted_import(tmp_path, name):
    folder = plant(tmp_path, training=f"import {name}\n")
    _, failed = run(GUARD, folder, ["planted_course.training"], CORE)
    assert failed == [f"planted_course.training.module: planted_course.training.module imports {name}"]


def test_the_course_is_imported_where_the_current_folder_is_gone(course):
    "It looks for adopted code then, and the checkout has its own place for that."
    script = f"import os, sys, tempfile; sys.path.insert(0, {course!r}); os.chdir(gone := tempfile.mkdtemp()); os.rmdir(gone); import microbert_course"
    environment = {name: value for name, value in os.environ.items() if name != "MICROBERT_WORK"}
    answer = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
