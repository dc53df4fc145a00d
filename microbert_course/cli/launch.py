"""Commands for runs on several processes: the launch files and scripts that the course carries."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from microbert_course.errors import CourseError
from microbert_course.files import make_folder
from microbert_course.paths import course_root


def launch_files() -> dict[str, Path]:  # name: file, the scripts first
    "What can be shown and written."
    configs = course_root() / "configs"
    return {path.stem: path for path in [*sorted((configs / "launch").glob("*.sh")), *sorted((configs / "accelerate").glob("*.yaml"))]}


def launch_file(name: str) -> Path:
    "Raises: CourseError if there is none of that name."
    files = launch_files()
    if name not in files:
        raise CourseError(f"there is no launch file {name!r}: choose one of {', '.join(files)}")
    return files[name]


@dataclass
class List:
    """List the scripts and the accelerate launch files, a line each."""

    def run(self) -> None:
        "Print the names with the first line of each."
        for name, path in launch_files().items():
            about = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# "))
            print(f"{name:18} {path.suffix[1:]:5} {about[2:]}")


@dataclass
class Show:
    """Print one of them."""

    name: tyro.conf.Positional[str]
    """As `microbert launch list` has it."""

    def run(self) -> None:
        "Print the file."
        print(launch_file(self.name).read_text(encoding="utf-8"), end="")


@dataclass
class Write:
    """Write one of them into a folder, ready to run or to change."""

    name: tyro.conf.Positional[str]
    """As `microbert launch list` has it."""
    folder: Path = Path(".")
    """Where it goes; a file of that name there is not replaced."""

    def run(self) -> None:
        "Copy the file."
        path = launch_file(self.name)
        target = self.folder / path.name
        if target.exists():
            raise CourseError(f"{target} is there already: remove it, or choose another --folder")
        make_folder(self.folder)
        shutil.copy(path, target)
        print(target)


@dataclass
class Launch:
    """Scripts and launch files for several processes, GPUs and machines."""

    command: (Annotated[List, tyro.conf.subcommand("list")] | Annotated[Show, tyro.conf.subcommand("show")]
              | Annotated[Write, tyro.conf.subcommand("write")])

    def run(self) -> None:
        "Run the sub-command."
        self.command.run()
