"""Commands that use a trained model."""

from dataclasses import dataclass

import tyro


@dataclass
class FillMask:
    """Fill in the blank of a sentence, as in `microbert fill-mask "this movie is [MASK] fantastic"`."""

    text: tyro.conf.Positional[str]
    """A sentence with one [MASK] in it."""
    model: str = "microbert-imdb"
    """A run folder, any BertForMaskedLM folder of transformers, or microbert-imdb, which the package carries."""
    top_k: int = 5
    """How many guesses to show."""

    def run(self) -> None:
        "Print the most likely words with their probabilities."
        from microbert_course.models.bert import MicroBertForMaskedLM, fill_mask, load_tokenizer
        from microbert_course.posttraining.common import base_folder

        folder = base_folder(self.model)
        guesses = fill_mask(MicroBertForMaskedLM.from_pretrained(folder), load_tokenizer(folder), self.text, self.top_k)
        for token, probability in guesses:
            print(f"{probability:6.1%}  {token}")
