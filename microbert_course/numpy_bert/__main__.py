"""`python -m microbert_course.numpy_bert`: train the NumPy encoder on a text file of any size, without PyTorch."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: Trainer's threads share the work instead

import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

from microbert_course.cli.answer import answer
from microbert_course.errors import CourseError
from microbert_course.numpy_bert.shape import NumpyBertConfig, num_parameters
from microbert_course.numpy_bert.training import Run, TrainConfig, overfit, peak_memory_mb, steps, timed
from microbert_course.numpy_bert.vocabulary import learn_tokenizer


@dataclass(frozen=True, kw_only=True)
class Arguments(TrainConfig):
    """Train an encoder of 4,498,880 parameters on a text file, in NumPy alone."""

    corpus: Path
    """A UTF-8 text file, one document or sentence a line; it is read line by line, whatever its size."""
    steps: int = 200
    """Updates in all, those before a resume among them."""
    overfit_one_batch: bool = False
    """Learn the first batch by heart, down to a loss of 0.1, and fail if --steps are not enough."""
    save: Path | None = None
    """A folder for the run, written at the end; what is there is replaced."""
    resume: Path | None = None
    """A folder that --save wrote: go on from there, to the bit."""

    def run(self) -> None:
        "Train, then say what was reached."
        if self.steps < 1:
            raise CourseError(f"steps is {self.steps}: use 1 or more")
        if self.overfit_one_batch and self.resume:
            raise CourseError("--overfit-one-batch starts from the beginning: leave out --resume")
        if self.save and self.save.exists() and not (self.save / "state.json").is_file():
            raise CourseError(f"{self.save} exists and holds no run of this program: choose another folder")
        if self.resume and not (self.resume / "state.json").is_file():
            raise CourseError(f"{self.resume} holds no run: give a folder that --save wrote")
        settings = TrainConfig(**{field.name: getattr(self, field.name) for field in fields(TrainConfig)})
        settings.check()
        run = self._start(settings)
        if self.overfit_one_batch:
            loss = timed(print, overfit(run, self.steps))
            if loss >= 0.1:
                raise CourseError(f"the loss is still {loss:.3f} after {self.steps} steps: raise --steps, or --learning-rate "
                                  f"{self.learning_rate}")
            print(f"one batch learned by heart: loss {loss:.4f} after {run.num_steps} steps")
        else:
            loss = timed(print, steps(run, self.steps))
            said = "nothing to do" if loss is None else f"loss {loss:.3f}"
            print(f"{said} after {run.num_steps} steps, {run.stream.epoch} times through the corpus")
        if self.save:
            run.save(self.save)
            print(f"saved in {self.save}")
        print(f"{num_parameters(run.config):,} parameters, peak memory {peak_memory_mb():.1f} MB")

    def _start(self, settings: TrainConfig) -> Run:
        config = NumpyBertConfig()
        if self.resume:
            run = Run(settings, config, self.corpus, self.resume / "tokenizer.json")
            run.load(self.resume)
            return run
        with tempfile.TemporaryDirectory() as folder:
            learn_tokenizer(self.corpus, config.vocab_size, Path(folder) / "tokenizer.json")
            return Run(settings, config, self.corpus, Path(folder) / "tokenizer.json")


def main(arguments: list[str] | None = None) -> int:  # the exit status
    "Run the command."
    import tyro

    return answer("numpy_bert", lambda: tyro.cli(Arguments, prog="python -m microbert_course.numpy_bert", args=arguments).run())


if __name__ == "__main__":
    sys.exit(main())
