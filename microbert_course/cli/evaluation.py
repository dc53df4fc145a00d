"""The command that says what a saved classifier is worth, and how sure that is."""

from dataclasses import dataclass
from pathlib import Path

from microbert_course.errors import CourseError


@dataclass
class Evaluate:
    """Judge a classifier, as in `microbert evaluate --model runs/minilm-imdb --data imdb`, or compare two on the same texts."""

    model: Path
    """A folder that `microbert finetune` wrote, or any BertForSequenceClassification of transformers."""
    data: str = "imdb"
    """imdb or rotten_tomatoes (their validation texts), or a labelled .csv, .json, .jsonl (.gz, .xz) or .parquet file (all its texts)."""
    against: Path | None = None
    """Another classifier with the same labels, to compare with in pairs."""
    card: bool = False
    """Write the run's model card, README.md, as well."""
    text_column: str = ""
    """Where a file has its texts; without it the first of text, sentence, review, … that there is."""
    label_column: str = ""
    """Where it has its labels; without it the first of label, sentiment, category, … that there is."""
    num_resamples: int = 2_000
    """Times that the texts are drawn again for the intervals."""
    seed: int = 0
    """Of these draws."""

    def run(self) -> None:
        "Print the scores with their intervals, and write evaluation.json into the model's folder."
        if self.num_resamples < 1:
            raise CourseError(f"num_resamples is {self.num_resamples}: take at least 1, for steady intervals 2000")
        if self.seed < 0:
            raise CourseError(f"seed is {self.seed}: give 0 or more")
        from microbert_course.posttraining.judging import judge_folder
        from microbert_course.posttraining.model_card import write_model_card

        report = judge_folder(self.model, self.data, self.against, self.text_column, self.label_column, num_resamples=self.num_resamples, seed=self.seed)
        print("\n".join(lines_of(report)))
        print(self.model / "evaluation.json")
        if self.card:
            print(write_model_card(self.model))


def lines_of(report: dict) -> list[str]:
    "A report as text."
    lines = [f"{report['texts']:,} texts of {report['data']}; in brackets the 95 % interval"]
    lines += [f"  {name.replace('_', ' '):18} {shown(found)}" for name, found in report["scores"].items()]
    if leaks := report["leaks"]:
        lines.append(f"  {leaks['texts']:,} of the texts are in the texts it learned from ({leaks['copies']:,} of them as copies)" + (
            f"; accuracy without them {shown(leaks['accuracy_without'])}" if leaks["texts"] and leaks["accuracy_without"] else ""))
    if against := report.get("against"):
        lines.append(f"compared in pairs with {against['model']} (above 0: {report['model']} is better)")
        lines += [f"  {name.replace('_', ' '):18} {shown(found, '+.3f')}" for name, found in against["difference"].items()]
        pairs = against["mcnemar"]
        lines.append(f"  right alone: {pairs['only_this']:,} and {pairs['only_that']:,} texts; equals would differ as much with probability {pairs['p_value']:.2g}")
    return lines


def shown(found: dict, form: str = ".3f") -> str:
    "A score with its interval."
    return f"{found['value']:{form}}  ({found['low']:{form}} to {found['high']:{form}})"
