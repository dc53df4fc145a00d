"""`microbert`: the front door. It joins the commands, runs one, and turns the user's mistakes into one sentence each."""

import sys
from typing import Annotated

import tyro

from microbert_course.cli.answer import answer
from microbert_course.cli.cache import Cache
from microbert_course.cli.carried import Models
from microbert_course.cli.data import Data
from microbert_course.cli.doctor import Doctor
from microbert_course.cli.evaluation import Evaluate
from microbert_course.cli.exercise import Adopt, Exercise
from microbert_course.cli.fetch import Fetch
from microbert_course.cli.finetuning import Classify, Finetune
from microbert_course.cli.generation import Chat, Generate
from microbert_course.cli.grading import Grade
from microbert_course.cli.grpo import Grpo
from microbert_course.cli.launch import Launch
from microbert_course.cli.lessons import Lessons, Tour
from microbert_course.cli.lora import Lora
from microbert_course.cli.models import FillMask
from microbert_course.cli.pipeline import Pipeline
from microbert_course.cli.planning import Plan
from microbert_course.cli.pretraining import Presets, Pretrain, pretrain_defaults, with_counts, with_preset_first
from microbert_course.cli.sft import Sft
from microbert_course.errors import CourseError


def parse(arguments: list[str]) -> object:  # the words after `microbert`
    """The command that the words ask for, with its options filled in; it has a method `run`.

    Raises: CourseError for a word that is not UTF-8: neither tokenizers nor the files of a run can hold it."""
    for word in arguments:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise CourseError(f"{ascii(word)} is not UTF-8: give the file another name, write the text anew, or set a locale with UTF-8, such as LC_ALL=C.UTF-8")
    if arguments[:1] == ["pretrain"]:
        arguments = ["pretrain", *with_preset_first(with_counts(arguments[1:]))]
    if arguments[:1] in (["finetune"], ["sft"]):
        arguments = with_counts(arguments)
    defaults = pretrain_defaults(arguments)
    command = (
        Annotated[Tour, tyro.conf.subcommand("tour")]
        | Annotated[Lessons, tyro.conf.subcommand("lessons")]
        | Annotated[Exercise, tyro.conf.subcommand("exercise")]
        | Annotated[Adopt, tyro.conf.subcommand("adopt")]
        | Annotated[Grade, tyro.conf.subcommand("grade")]
        | Annotated[Presets, tyro.conf.subcommand("presets")]
        | Annotated[Pretrain, tyro.conf.subcommand("pretrain", default=defaults)]
        | Annotated[Launch, tyro.conf.subcommand("launch")]
        | Annotated[Plan, tyro.conf.subcommand("plan")]
        | Annotated[FillMask, tyro.conf.subcommand("fill-mask")]
        | Annotated[Finetune, tyro.conf.subcommand("finetune")]
        | Annotated[Classify, tyro.conf.subcommand("classify")]
        | Annotated[Sft, tyro.conf.subcommand("sft")]
        | Annotated[Grpo, tyro.conf.subcommand("grpo")]
        | Annotated[Pipeline, tyro.conf.subcommand("pipeline")]
        | Annotated[Data, tyro.conf.subcommand("data")]
        | Annotated[Lora, tyro.conf.subcommand("lora")]
        | Annotated[Generate, tyro.conf.subcommand("generate")]
        | Annotated[Chat, tyro.conf.subcommand("chat")]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Fetch, tyro.conf.subcommand("fetch")]
        | Annotated[Models, tyro.conf.subcommand("models")]
        | Annotated[Cache, tyro.conf.subcommand("cache")]
        | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    )
    return tyro.cli(command, prog="microbert", description="Learn how a BERT works by building one, and use what you built.",
                    args=arguments, config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes))


def main(arguments: list[str] | None = None) -> int:  # the exit status
    "Run one command."
    for stream in (sys.stdout, sys.stderr):  # into a file or a pipe, Windows writes an alphabet without √ and ✓
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    return answer("microbert", lambda: parse(sys.argv[1:] if arguments is None else arguments).run())


if __name__ == "__main__":
    sys.exit(main())
