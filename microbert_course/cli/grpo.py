"""The command that lets a decoder learn from rewards."""

from dataclasses import dataclass, fields
from pathlib import Path

from microbert_course.cli.answer import is_first_process
from microbert_course.files import read_json
from microbert_course.paths import runs_dir
from microbert_course.posttraining.settings import GrpoConfig


@dataclass(frozen=True)
class Grpo(GrpoConfig):
    """Let a decoder learn from rewards, as in `microbert grpo`, which teaches a tiny one to add, or
    `microbert grpo --model runs/sft --data questions.jsonl --test unseen.jsonl --max-new-tokens 160 --batch-size 512 --gradient-accumulation-steps 8
    --learning-rate 3e-5 --loss dapo --mixed-precision bf16`."""

    folder: str | None = None
    """Where the run ends up: a folder, or an address like s3://bucket/name (gs://, az:// and others too); without it runs/grpo-MODEL-DATA."""
    overwrite: bool = False
    """Replace a finished run in that folder, or throw an interrupted one away."""
    resume: str | None = None
    """Go on with an interrupted run: `latest`, or the folder of a checkpoint. `latest` begins anew where there is nothing yet."""

    def __post_init__(self):
        "Nothing yet: `run` checks the settings, so that a wrong one is answered by its own sentence."

    def run(self) -> None:
        "Train, then say what was reached and where it is."
        config = GrpoConfig(**{field.name: getattr(self, field.name) for field in fields(GrpoConfig)})
        folder = self.folder or runs_dir() / f"grpo-{Path(self.model).name}-{Path(self.data).name.partition('.')[0]}"
        from microbert_course.posttraining.grpo import train_grpo
        from microbert_course.training.remote import run_folder

        try:
            result = train_grpo(config, folder, overwrite=self.overwrite, resume=self.resume)
        except KeyboardInterrupt:
            partial = run_folder(folder).path
            state = f"its last complete state is in {partial}, and --resume latest goes on" if partial.exists() else "it had no complete state yet"
            raise KeyboardInterrupt(state) from None
        if not is_first_process():
            return
        looks = result.history["validation"]
        best = max(looks, key=lambda look: look["exact"])
        about = read_json(result.folder / "training.json")["about"]
        print(f"right on {about['unseen_problems']:,} unseen problems: {result.history['start']['exact']:.1%} before, {looks[-1]['exact']:.1%} after "
              f"{looks[-1]['step'] + 1:,} updates (at best {best['exact']:.1%}, after {best['step'] + 1:,})\n{result.folder}")
