"""The command that teaches a model to answer."""

from dataclasses import dataclass, fields
from pathlib import Path

from microbert_course.cli.answer import is_first_process
from microbert_course.paths import runs_dir
from microbert_course.posttraining.settings import SftConfig


@dataclass(frozen=True)
class Sft(SftConfig):
    """Teach a model to answer, as in `microbert sft --data rotten_tomatoes --max-examples 500`, or several tasks at once:
    `microbert sft --model smollm2 --data phrasebank@rows.jsonl=0.3,alpaca.jsonl=0.7 --test phrasebank@test.jsonl --lora-rank 8 --learning-rate 1e-3`."""

    folder: str | None = None
    """Where the run ends up: a folder, or an address like s3://bucket/name; without it runs/sft/MODEL/SETS, as in runs/sft/smollm2/alpaca_70-phrasebank_30."""
    overwrite: bool = False
    """Replace a finished run in that folder, or throw an interrupted one away."""
    resume: str | None = None
    """Go on with an interrupted run: `latest`, or the folder of a checkpoint. `latest` begins anew where there is nothing yet."""

    def __post_init__(self):
        "Nothing yet: `run` checks the settings, so that a wrong one is answered by its own sentence."

    def run(self) -> None:
        "Train, then say what was reached and where it is."
        config = SftConfig(**{field.name: getattr(self, field.name) for field in fields(SftConfig)})
        from microbert_course.data.mixture import mixture_name, parse_mixture

        folder = self.folder or runs_dir() / mixture_name("sft", Path(self.model).name, rates=parse_mixture(self.data))
        from microbert_course.posttraining.instruction import train_sft
        from microbert_course.training.remote import run_folder

        try:
            result = train_sft(config, folder, overwrite=self.overwrite, resume=self.resume)
        except KeyboardInterrupt:
            partial = run_folder(folder).path
            state = f"its last complete state is in {partial}, and --resume latest goes on" if partial.exists() else "it had no complete state yet"
            raise KeyboardInterrupt(state) from None
        if not is_first_process():
            return
        print("\n".join([line("before, on held-out examples", result.history["start"]), line(f"after {result.best['step'] + 1:,} updates", result.best)]))
        if result.test:
            print(line("on the test", result.test))
        print(result.folder)


def line(when: str, scores: dict) -> str:
    "Scores as text."
    said = [f"{name} {scores[key]:{form}}" for name, key, form in (
        ("loss", "loss", ".3f"), ("right labels", "accuracy", ".1%"), ("right numbers", "exact", ".1%")) if key in scores]
    said += [f"{scores['unparsed']:,} of {scores['answered']:,} answers unparsed"] if "answered" in scores else []
    return f"{when}: {', '.join(said) or 'nothing that can be checked'}"
