"""Commands that use a trained model."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from microbert_course.errors import CourseError
from microbert_course.paths import runs_dir


@dataclass
class FillMask:
    """Fill in the blank of a sentence, as in `microbert fill-mask "this movie is [MASK] fantastic"`."""

    text: tyro.conf.Positional[str]
    """A sentence with one [MASK] in it."""
    model: Path | None = None
    """A run folder, or any BertForMaskedLM folder of transformers; without it the tour's run."""
    top_k: int = 5
    """How many guesses to show."""

    def run(self) -> None:
        "Print the most likely words with their probabilities."
        from microbert_course.models.bert import MicroBertForMaskedLM, fill_mask, load_tokenizer

        folder = self.model or runs_dir() / "tour"
        if self.model is None and not (folder / "config.json").exists():
            raise CourseError(f"there is no model at {folder} yet: run `microbert tour` (about a minute), or name one with --model")
        guesses = fill_mask(MicroBertForMaskedLM.from_pretrained(folder), load_tokenizer(folder), self.text, self.top_k)
        for token, probability in guesses:
            print(f"{probability:6.1%}  {token}")
