"""Checkpoints of a run: each a sealed folder, the newest valid one first, old ones deleted only after the new one verifies."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from microbert_course.errors import CourseError
from microbert_course.files import read_json, system_error
from microbert_course.manifests import damage, remove_debris, whole_folder

FORMAT = 1  # of what is in a checkpoint; another number means another layout, or another meaning of the same bytes


@dataclass
class Checkpoint:
    "Everything that a run needs to go on."

    num_updates: int  # made so far
    tensors: dict[str, dict[str, Tensor]]  # "model", "optimizer": flat names to tensors, on the CPU
    values: dict  # what JSON can hold: configuration, history, scaler, budgets

    def save(self, folder: Path) -> None:
        "Write the files into an empty folder."
        for name, tensors in self.tensors.items():
            try:
                save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")
            except SafetensorError as error:
                raise system_error(error) or error from None
        values = {"format": FORMAT, "num_updates": self.num_updates, **self.values}
        (folder / "state.json").write_text(json.dumps(values, allow_nan=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Checkpoint":
        """The checkpoint in a folder.

        Raises: CourseError if the folder is none, is damaged, or was written by another version of the code."""
        if not folder.is_dir():
            raise CourseError(f"{folder} is no checkpoint: give a folder like RUN/checkpoints/step-00000100, or `latest`")
        if fault := damage(folder):
            raise CourseError(f"the checkpoint {folder} cannot be used: {fault}; resume from another one, or from `latest`")
        values = read_json(folder / "state.json")
        if values.get("format") != FORMAT:
            raise CourseError(f"the checkpoint {folder} has format {values.get('format')} and this version of the course reads "
                              f"{FORMAT}: resume with the version that wrote it")
        tensors = {path.stem: load_file(path) for path in folder.glob("*.safetensors")}
        return cls(values["num_updates"], tensors, values)


class CheckpointFolder:
    "The checkpoints of one run."

    def __init__(
        self,
        folder: Path,
        keep: int = 2,  # how many stay, at least 1
    ):
        self.folder, self.keep = folder, keep

    def save(self, checkpoint: Checkpoint) -> Path:  # where it is
        """Write a checkpoint, read it back, and only then delete those that are too old.

        Raises: OSError as the system reports it; the older checkpoints are untouched then. CourseError if the disk returns other
        bytes than were written."""
        path = self.folder / f"step-{checkpoint.num_updates:08}"
        if path.exists() and damage(path) is None:
            return path  # a run that went on from it has come by again
        shutil.rmtree(path, ignore_errors=True)
        with whole_folder(path) as partial:
            checkpoint.save(partial)
        if fault := damage(path):
            raise CourseError(f"the checkpoint {path} was written and cannot be read back: {fault}; the disk may be failing")
        others = [other for other in self.all() if other != path]  # those of later updates may be damaged, or this one would not have been made
        for old in others[self.keep - 1 :]:
            shutil.rmtree(old, ignore_errors=True)
        return path

    def all(self) -> list[Path]:
        "The folders that have a checkpoint's name, the newest first."
        return sorted(self.folder.glob("step-" + "[0-9]" * 8), reverse=True)

    def newest(self, say=print) -> Checkpoint | None:  # say: takes a line for each one that is passed over
        "The newest checkpoint that is whole; None if there is none."
        for path in self.all():
            if fault := damage(path):
                say(f"the checkpoint {path.name} is passed over: {fault}")
            else:
                return Checkpoint.load(path)
        return None

    def clear_debris(self) -> None:
        "Take away what killed writers left."
        remove_debris(self.folder, "step-*")
