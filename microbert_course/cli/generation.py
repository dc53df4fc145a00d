"""Commands that let a decoder speak."""

import sys
from dataclasses import dataclass

import tyro

from microbert_course.errors import CourseError


@dataclass
class Sampling:
    "How the next token is chosen."

    max_new_tokens: int = 64
    """Tokens to write at most; fewer if the model says that it is done."""
    temperature: float = 0.7
    """0 = always the most probable token; below 1 = bolder, above 1 = more surprising."""
    top_k: int = 0
    """Draw among so many of the most probable tokens; 0 = all."""
    top_p: float = 0.95
    """Draw among the fewest tokens that have this probability together; 1 = all."""
    repetition_penalty: float = 1.1
    """Above 1 = tokens that have occurred become less probable; 1 = none."""
    seed: int = 0
    """Of chance: the same seed, the same text."""

    def settings(self) -> dict:
        "What `models.gpt.stream` takes. Raises: CourseError for a seed that is none."
        import torch

        if not 0 <= self.seed < 2**63:
            raise CourseError(f"seed is {self.seed}: give a whole number from 0 to {2**63 - 1}")

        return {"max_new_tokens": self.max_new_tokens, "temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p,
                "repetition_penalty": self.repetition_penalty, "generator": torch.Generator().manual_seed(self.seed)}


@dataclass
class Generate:
    """Continue a text, as in `microbert generate "The capital of France is"`."""

    text: tyro.conf.Positional[str]
    """What the text begins with."""
    sampling: Sampling
    model: str = "smollm2"
    """A run of a decoder, any folder with a Llama of transformers, a GGUF file, smollm2, or microbert-arith, which the package carries."""

    def run(self) -> None:
        "Print the text, then what follows as it comes."
        from microbert_course.models.gpt_folders import load_decoder
        from microbert_course.models.gpt_text import continue_text

        pieces = continue_text(*load_decoder(self.model), self.text, **self.sampling.settings())
        first = next(pieces, "")  # what cannot be is found before anything is printed
        print(self.text, end=first, flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()


@dataclass
class Chat:
    """Converse with a decoder that was taught to, line by line, until /quit or the end of the input."""

    sampling: Sampling
    model: str = "smollm2"
    """A folder with a Llama whose tokenizer has a chat template, a GGUF file, or smollm2."""

    def run(self) -> None:
        "Read a line, print the answer as it comes, remember both."
        from microbert_course.models.gpt_folders import load_decoder
        from microbert_course.models.gpt_text import reply

        model, tokenizer = load_decoder(self.model)
        messages, settings = [], self.sampling.settings()
        while (line := self._ask()) is not None:
            messages.append({"role": "user", "content": line})
            answer = []
            for piece in reply(model, tokenizer, messages, **settings):
                answer.append(piece)
                print(piece, end="", flush=True)
            print()
            messages.append({"role": "assistant", "content": "".join(answer)})

    def _ask(self) -> str | None:
        "The next line that says something; None at the end."
        while True:
            if sys.stdin.isatty():
                print("> ", end="", flush=True)
            try:
                line = sys.stdin.readline()
                line.encode()
            except UnicodeError:
                raise CourseError("a line of the input is not UTF-8: convert it, for example with `iconv -f latin1 -t utf-8`") from None
            if not line or line.strip() == "/quit":
                return None
            if line.strip():
                return line.strip()
