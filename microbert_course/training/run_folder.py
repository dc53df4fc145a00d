"""The folder of a run: `NAME.partial` while it goes on, `NAME` when it is done, and in both what is needed to read it and to go on."""

import platform
import shutil
import tempfile
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from microbert_course.errors import CourseError
from microbert_course.files import make_folder, write_json, write_whole
from microbert_course.training.checkpoints import Checkpoint, CheckpointFolder
from microbert_course.training.run_log import looks_since_best
from microbert_course.training.settings import TrainConfig
from microbert_course.training.task import Task


class RunFolder:
    "Where one run writes; only one process of a run uses it."

    def __init__(self, folder: str | Path, keep_checkpoints: int = 2):
        self.final = Path(folder).expanduser().resolve()
        if not self.final.name:
            raise CourseError(f"{self.final} is no folder for a run: give one within it, such as {self.final / 'runs' / 'mine'}")
        self.path = self.final.with_name(self.final.name + ".partial")
        self.checkpoints = CheckpointFolder(self.path / "checkpoints", keep_checkpoints)
        self.lock, self.is_reopened, self.may_replace = None, False, False

    def open(
        self,
        overwrite: bool = False,  # replace a finished run, throw an interrupted one away
        resume: str | Path | None = None,  # a checkpoint's folder, or "latest"
    ) -> Checkpoint | None:  # where to go on; None = from the beginning
        """Take the folder, or say in one sentence why not.

        Raises: CourseError if the name is taken, by a finished run, an interrupted one, another process or something that is no
        run; or if there is nothing to resume from."""
        if resume and overwrite:
            raise CourseError("a run is either resumed or overwritten: pass --resume or --overwrite, not both")
        if self.final.exists() and not (self.final / "training.json").is_file():
            raise CourseError(f"{self.final} is there and is no training run, so it is not replaced: choose another folder")
        if self.path.exists() and any(self.path.iterdir()) and not any((self.path / name).is_file() for name in ("run.lock", "training.json")):
            raise CourseError(f"{self.path} is there and is no training run, so it is not replaced: choose another folder")
        if self.final.exists() and not overwrite:
            self._reopen(resume)
        self.may_replace = self.final.exists()
        if self.path.exists():
            self._lock()
        self.checkpoints.clear_debris()
        if resume:
            return self._found(resume)
        if self.checkpoints.all() and not overwrite:
            raise CourseError(f"{self.path} holds an interrupted run: pass --resume latest to go on, or --overwrite to start anew")
        self._begin()
        return None

    def _reopen(self, resume: str | Path | None) -> None:
        "A finished run becomes an unfinished one, if it is to go on from its last state; beside the one that was to replace it, it stays."
        if not resume:
            raise CourseError(f"{self.final} holds a finished run: choose another folder, or pass --overwrite to replace it")
        if not self.path.exists():
            self.final.rename(self.path)
            self.is_reopened = True

    def _lock(self) -> None:
        "Raises: CourseError if another process has this run in its hands."
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / "run.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise CourseError(f"{self.path} is in use by another process: wait for it, or choose another folder") from None
        self.lock = lock

    def check_is_free(self) -> None:
        "Raises: CourseError if another process has this run in its hands."
        if (self.path / "run.lock").is_file():
            self._lock()
            self.lock.release()
            self.lock = None

    def _found(self, resume: str | Path) -> Checkpoint | None:
        if resume != "latest":
            place = Path(resume).resolve()
            if self.is_reopened and place.is_relative_to(self.final):  # it was there until now
                place = self.path / place.relative_to(self.final)
            checkpoint = Checkpoint.load(place)
        elif (checkpoint := self.checkpoints.newest()) is None:
            if self.checkpoints.all():
                raise CourseError(f"no checkpoint in {self.path} can be used: restore one, or begin anew with --overwrite")
            print(f"there is no checkpoint to resume in {self.path}: the run starts at the beginning")
        if self.lock is None:
            self._begin()
        return checkpoint

    def _begin(self) -> None:
        "An empty folder of our own."
        if self.lock is None:
            make_folder(self.path)
            self._lock()
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != "run.lock":
                path.unlink()

    def describe(
        self,
        config: TrainConfig,
        tokenizer: PreTrainedTokenizerBase,
        about: dict,  # what the run is made of: parameters, device, data, licence
    ) -> None:
        "Write what stays the same in the whole run, once: tokenizer, configuration, environment."
        self.is_reopened = False
        with tempfile.TemporaryDirectory() as room:  # transformers writes in place, so let it write elsewhere
            tokenizer.save_pretrained(room)
            for file in sorted(Path(room).iterdir()):
                write_whole(self.path / file.name, file.read_bytes())
        environment = {"python": platform.python_version(), "torch": torch.__version__, "platform": f"{platform.system()} {platform.machine()}"}
        settings = {**asdict(config), "environment": environment, "about": about}
        write_whole(self.path / "training.txt", "".join(f"{name}: {value}\n" for name, value in settings.items()).encode())
        write_json(self.path / "training.json", settings)

    def show(
        self,
        model: nn.Module,
        history: dict,
        task: Task,  # how to plot, how to save, and what is best
    ) -> None:
        "Write the newest state for readers, each file whole or not at all, the weights last; and the best one beside it."
        write_json(self.path / "history.json", history)
        picture = BytesIO()
        task.plot(history).figure.savefig(picture, format="png", dpi=100)
        write_whole(self.path / "loss.png", picture.getvalue())
        task.save(model, self.path)
        if looks_since_best(history, task.metric) == 0:
            (self.path / "best").mkdir(exist_ok=True)
            for file in (file for kind in ("tokenizer*", "special_tokens*", "chat_template*", "training.*") for file in self.path.glob(kind)):
                write_whole(self.path / "best" / file.name, file.read_bytes())
            task.save(model, self.path / "best")

    def copy_up(self) -> None:
        "Called after every checkpoint: a folder on this machine has no copy elsewhere."

    def finish(self) -> None:
        """The run is done: the folder gets its name; one that is replaced goes last.

        Raises: CourseError if something has taken the name since the run was begun; both stay as they are then."""
        if self.final.exists() and not self.may_replace:
            raise CourseError(f"{self.final} was not there when the run was begun, so it is not replaced: move it away, then give the same command with "
                              f"--resume latest; the run is done and lies in {self.path}")
        replaced = self.final.with_name(self.final.name + ".replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        self.lock.release()
        (self.path / "run.lock").unlink(missing_ok=True)
        if self.final.exists():
            self.final.rename(replaced)
        self.path.rename(self.final)
        shutil.rmtree(replaced, ignore_errors=True)

    def give_up(self) -> None:
        "The run broke off: what cannot be resumed is taken away."
        if self.lock is None:
            return
        self.lock.release()
        if self.is_reopened:  # nothing was done to it
            (self.path / "run.lock").unlink(missing_ok=True)
            self.path.rename(self.final)
        elif not self.checkpoints.all():
            shutil.rmtree(self.path, ignore_errors=True)
