"""What the commands that train have in common: where a run ends up, how it goes on, and what an interrupted one leaves."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from microbert_course.training.settings import TrainConfig


@dataclass(frozen=True)
class TrainingCommand:
    "Goes in front of a configuration among the bases of a command."

    folder: str | None = None
    """Where the run ends up: a folder, or an address like s3://bucket/name (gs://, az:// and others too); without it one in runs/ that is named after what is trained."""
    overwrite: bool = False
    """Replace a finished run in that folder, or throw an interrupted one away."""
    resume: str | None = None
    """Go on with an interrupted run: `latest`, or the folder of a checkpoint. `latest` begins anew where there is nothing yet."""

    def __post_init__(self):
        "Nothing yet: `run` checks the settings, so that a wrong one is answered by its own sentence."

    def settings(
        self,
        kind: type[TrainConfig],  # the configuration that the command adds to
    ) -> TrainConfig:
        "The settings that were given, checked. Raises: CourseError, naming the first that makes no sense."
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})

    def trained(
        self,
        train: Callable,  # takes a configuration, a folder, overwrite and resume
        config: TrainConfig,
        usual: Path,  # the folder, where none is given
    ) -> Any:  # what `train` answers
        "Train. Raises: KeyboardInterrupt that says what is left, besides what `train` raises."
        from microbert_course.training.remote import run_folder

        folder = self.folder or usual
        try:
            return train(config, folder, overwrite=self.overwrite, resume=self.resume)
        except KeyboardInterrupt:
            run = run_folder(folder)
            if run.path.exists():
                state = f"its last complete state is in {run.path}, and --resume latest goes on"
            elif run.final.exists():
                state = f"the finished run in {run.final} is as it was"
            else:
                state = "it had no complete state yet"
            raise KeyboardInterrupt(state) from None
