"""The command that lets a decoder learn from rewards."""

from dataclasses import dataclass
from pathlib import Path

from microbert_course.cli.answer import is_first_process
from microbert_course.cli.training import TrainingCommand
from microbert_course.files import read_json
from microbert_course.paths import runs_dir
from microbert_course.posttraining.settings import GrpoConfig


@dataclass(frozen=True)
class Grpo(TrainingCommand, GrpoConfig):
    """Let a decoder learn from rewards, as in `microbert grpo`, which teaches a tiny one to add, or
    `microbert grpo --model runs/sft --data questions.jsonl --test unseen.jsonl --max-new-tokens 160 --batch-size 512 --gradient-accumulation-steps 8
    --learning-rate 3e-5 --loss dapo --mixed-precision bf16`."""

    def run(self) -> None:
        "Train, then say what was reached and where it is."
        config = self.settings(GrpoConfig)
        from microbert_course.posttraining.grpo import train_grpo

        result = self.trained(train_grpo, config, runs_dir() / f"grpo-{Path(self.model).name}-{Path(self.data).name.partition('.')[0]}")
        if not is_first_process():
            return
        looks = result.history["validation"]
        best = max(looks, key=lambda look: look["exact"])
        about = read_json(result.folder / "training.json")["about"]
        print(f"right on {about['unseen_problems']:,} unseen problems: {result.history['start']['exact']:.1%} before, {looks[-1]['exact']:.1%} after "
              f"{looks[-1]['step'] + 1:,} updates (at best {best['exact']:.1%}, after {best['step'] + 1:,})\n{result.folder}")
