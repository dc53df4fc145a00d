"""Commands that teach a pretrained encoder to tell labels apart, and that ask it."""

import csv
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import tyro

from microbert_course.cli.answer import is_first_process
from microbert_course.cli.training import TrainingCommand
from microbert_course.errors import CourseError
from microbert_course.paths import runs_dir
from microbert_course.posttraining.settings import FinetuneConfig


@dataclass(frozen=True)
class Finetune(TrainingCommand, FinetuneConfig):
    """Fine-tune an encoder for classification, as in `microbert finetune --data reviews.csv --layers last_2`."""

    prepare_only: bool = False
    """Cut the texts into ids, print the folder with them, and train nothing. That folder is a --data too, on a machine without the texts."""

    def run(self) -> None:
        "Train, then say what was reached and where it is."
        config = self.settings(FinetuneConfig)
        if self.prepare_only:
            print(prepared(config))
            return
        from microbert_course.posttraining.classification import train_sft_model_selective

        result = self.trained(train_sft_model_selective, config, runs_dir() / f"{Path(self.model).name}-{Path(self.data).name.partition('.')[0]}")
        if not is_first_process():
            return
        names, final = result.model.names, result.history["validation"][-1]
        print(f"validation accuracy {result.best['accuracy']:.1%} after {result.best['step'] + 1:,} updates"
              + (f" ({final['accuracy']:.1%} at the end, after {final['step'] + 1:,})" if final is not result.best else ""))
        print(table(result.best["confusion"], names))
        if result.test:
            print(f"test accuracy {result.test['accuracy']:.1%}\n{table(result.test['confusion'], names)}")
        print(f"{result.trained:,} of {result.model.num_parameters():,} numbers were trained, in {result.elapsed_s:,.0f} s\n{result.folder}")


def prepared(config: FinetuneConfig) -> Path:
    "The folder with the rows of a configuration."
    from microbert_course.models.checkpoints import load_tokenizer, read_bert_config
    from microbert_course.posttraining.common import base_folder
    from microbert_course.posttraining.labelled_rows import prepare_folder

    read_bert_config(base_folder(config.model))
    return prepare_folder(config, load_tokenizer(base_folder(config.model)))


def table(confusion: list[list[int]], names: tuple[str, ...]) -> str:
    "A confusion matrix as text."
    width = max(9, *(len(name) + 1 for name in names))
    lines = ["".join(f"{name:>{width}}" for name in ("", *names)) + "   (said)"]
    lines += ["".join(f"{cell:>{width}}" for cell in (name, *(f"{count:,}" for count in row))) for name, row in zip(names, confusion, strict=True)]
    return "\n".join(lines)


@dataclass
class Classify:
    """Judge a text, as in `microbert classify "a film to remember" --model runs/minilm-imdb`, or each text of a file."""

    text: tyro.conf.Positional[str] = ""
    """The text; not needed with --file."""
    model: Path | None = None
    """A folder that `microbert finetune` wrote, or any BertForSequenceClassification of transformers; without it runs/minilm-imdb."""
    file: Path | None = None
    """Judge each text of this .txt, .csv, .json or .jsonl file, whose column is called text."""
    to: Path | None = None
    """Write the verdicts on the texts of --file to this .csv; without it they are printed."""

    def run(self) -> None:
        "Print the probability of each label, or write a table."
        if bool(self.text) == (self.file is not None):
            raise CourseError('give either a text, as in `microbert classify "a film to remember"`, or a --file with texts')
        if self.to and not self.file:
            raise CourseError(f"--to {self.to} is for the texts of a --file: leave it out, or give one")
        if self.to and not self.to.absolute().parent.is_dir():
            raise CourseError(f"--to {self.to}: there is no folder {self.to.parent}: make it first, or name another file")
        from microbert_course.data.streams import stream_texts
        from microbert_course.posttraining.classification import classify, load_sft_model

        folder = self.model or runs_dir() / "minilm-imdb"
        if self.model is None and not folder.exists():
            raise CourseError(f"there is no model at {folder} yet: train one with `microbert finetune`, or name one with --model")
        model, tokenizer = load_sft_model(folder)
        if self.text:
            for name, probability in sorted(classify(model, tokenizer, [self.text])[0].items(), key=lambda item: -item[1]):
                print(f"{probability:6.1%}  {name}")
            return
        texts = list(stream_texts(self.file))
        rows = [{"text": text, "label": max(found, key=found.get), **{f"p({name})": f"{value:.4f}" for name, value in found.items()}}
                for text, found in zip(texts, classify(model, tokenizer, texts), strict=True)]
        with self.to.open("w", encoding="utf-8", newline="") if self.to else nullcontext(sys.stdout) as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        if self.to:
            print(f"{len(rows):,} texts judged: {self.to}")
