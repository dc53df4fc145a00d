"""`microbert`: the front door. It joins the commands, runs one, and turns the user's mistakes into one sentence each."""

import errno
import os
import sys
from typing import Annotated

import tyro

from microbert_course.cli.doctor import Doctor
from microbert_course.cli.fetch import Fetch
from microbert_course.cli.lessons import Lessons, Tour
from microbert_course.cli.models import FillMask
from microbert_course.cli.pretraining import Presets, Pretrain, pretrain_defaults
from microbert_course.errors import CourseError


def parse(arguments: list[str]) -> object:  # the words after `microbert`
    "The command that the words ask for, with its options filled in; it has a method `run`."
    defaults = pretrain_defaults(arguments)
    command = (
        Annotated[Tour, tyro.conf.subcommand("tour")]
        | Annotated[Lessons, tyro.conf.subcommand("lessons")]
        | Annotated[Presets, tyro.conf.subcommand("presets")]
        | Annotated[Pretrain, tyro.conf.subcommand("pretrain", default=defaults)]
        | Annotated[FillMask, tyro.conf.subcommand("fill-mask")]
        | Annotated[Fetch, tyro.conf.subcommand("fetch")]
        | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    )
    return tyro.cli(command, prog="microbert", description="Learn how a BERT works by building one, and use what you built.",
                    args=arguments, config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes))


def main(arguments: list[str] | None = None) -> int:  # the exit status
    "Run one command; a mistake that the user can mend is answered by its sentence and status 1."
    try:
        parse(sys.argv[1:] if arguments is None else arguments).run()
    except CourseError as error:
        print(f"microbert: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"\nmicrobert: interrupted{f'; {interrupt}' if str(interrupt) else ''}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has had enough, as in `microbert lessons list | head -3`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            sentence = f"the disk is full ({error}): free some space, or write elsewhere"
        elif isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            sentence = f"{error.filename} cannot be used ({error.strerror}): choose another place"
        else:
            raise
        print(f"microbert: {sentence}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
