"""The command that teaches a model to answer."""

from dataclasses import dataclass
from pathlib import Path

from microbert_course.cli.answer import is_first_process
from microbert_course.cli.training import TrainingCommand
from microbert_course.paths import runs_dir
from microbert_course.posttraining.settings import SftConfig


@dataclass(frozen=True)
class Sft(TrainingCommand, SftConfig):
    """Teach a model to answer, as in `microbert sft --data rotten_tomatoes --max-examples 500`, or several tasks at once:
    `microbert sft --model smollm2 --data phrasebank@rows.jsonl=0.3,alpaca.jsonl=0.7 --test phrasebank@test.jsonl --lora-rank 8 --learning-rate 1e-3`."""

    def run(self) -> None:
        "Train, then say what was reached and where it is."
        config = self.settings(SftConfig)
        from microbert_course.data.mixture import mixture_name, parse_mixture
        from microbert_course.posttraining.instruction import train_sft

        result = self.trained(train_sft, config, runs_dir() / mixture_name("sft", Path(self.model).name, rates=parse_mixture(self.data)))
        if not is_first_process():
            return
        print("\n".join([line("before, on held-out examples", result.history["start"]), line(f"after {result.best['step'] + 1:,} updates", result.best)]))
        if result.test is not None:
            print(line("on the test", result.test))
        print(result.folder)


def line(when: str, scores: dict) -> str:
    "Scores as text."
    said = [f"{name} {scores[key]:{form}}" for name, key, form in (
        ("loss", "loss", ".3f"), ("right labels", "accuracy", ".1%"), ("right numbers", "exact", ".1%")) if key in scores]
    said += [f"{scores['unparsed']:,} of {scores['answered']:,} answers unparsed"] if "answered" in scores else []
    return f"{when}: {', '.join(said) or 'nothing that can be checked'}"
