"""Commands about the data sets that the course knows, and about files of one's own."""

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Annotated

import tyro

from microbert_course.cli.fetch import Fetch as FetchWeights
from microbert_course.errors import CourseError

NUM_FAULTS = 10  # shown; the rest is counted


@dataclass
class List:
    """List the data sets: task, where they would come from, terms of use."""

    def run(self) -> None:
        "Print the table."
        from microbert_course.data.registry import REGISTRY, where

        print(f"{'name':22}  {'task':18}  {'here':7}  licence")
        for name, found in REGISTRY.items():
            print(f"{name:22}  {found.kind:18}  {where(found):7}  {found.licence}")
        print("package: installed, works offline; cache: downloaded before; hub: `microbert data fetch NAME` downloads it")


@dataclass
class Show:
    """Show what is known of a set, and the prompt of its first row, as in `microbert data show gsm8k`."""

    name: tyro.conf.Positional[str]
    """The set, as `microbert data list` has it."""
    file: Path | None = None
    """A file with rows of the set, where it is not here otherwise."""

    def run(self) -> None:
        "Print it; the prompt's form alone where no row is at hand."
        from microbert_course.data.registry import entry, load_set, where

        found = entry(self.name)
        for title, text in {
            "hub": found.hub, "task": found.kind, "configs": shortened(found.configs), "splits": shortened(found.splits),
            "columns": ", ".join(f"{column if isinstance(column, str) else ' or '.join(column)} ({role})" for role, column in found.columns.items()),
            "labels": ", ".join(found.labels), "licence": found.licence, "note": found.note, "here": where(found),
        }.items():
            if text:
                print(f"{title:8} {text}")
        if not self.file and where(found) == "hub":
            print(f"\nprompt\n{indented(found.prompt or '(none: the text is learned as it is)')}")
            return
        example = load_set(self.name, found.splits[0], path=self.file, num_rows=1)[0]
        print(f"\nprompt of the first row\n{indented(example['prompt'])}\nanswer\n{indented(example['answer'])}")


@dataclass
class Fetch:
    """Have weights or a set on this machine, as in `microbert data fetch minilm` or `microbert data fetch gsm8k`."""

    name: tyro.conf.Positional[str]
    """Weights, as `microbert fetch --list` has them, or a set, as `microbert data list` has it."""
    config: str | None = None
    """Which part of a set; without it the first that `microbert data show` names."""

    def run(self) -> None:
        """Print the folder.

        Raises: CourseError, in one sentence, if there is nothing of that name or it is not to be had."""
        from microbert_course.data.registry import REGISTRY, fetch_set
        from microbert_course.data.weights import WEIGHTS

        if self.name in WEIGHTS or (self.name not in REGISTRY and get_close_matches(self.name, WEIGHTS)):
            if self.config:
                raise CourseError(f"--config {self.config} is for data sets, and {self.name} is a model: leave it out")
            FetchWeights(self.name).run()
            return
        if self.name in REGISTRY:
            print(f"{REGISTRY[self.name].hub}: {REGISTRY[self.name].licence}. {REGISTRY[self.name].note}", file=sys.stderr, flush=True)
        print(fetch_set(self.name, self.config))


@dataclass
class Check:
    """Check every row of a file: which task it holds, labels, copies, faults; status 1 if there are faults."""

    file: tyro.conf.Positional[Path]
    """A .csv, .json, .jsonl (.gz, .xz), .parquet or .txt file."""
    like: str | None = None
    """A set whose columns and labels the rows must have; without it the columns tell."""

    def run(self) -> None:
        """Print what is in the file.

        Raises: CourseError with the number of faults if there are any."""
        from microbert_course.data.registry import check_rows, described, entry, read_rows

        if self.like:
            found, rows = entry(self.like), read_rows(self.file)
        else:
            rows = list(read_rows(self.file))
            plain = [row for _, row in rows if isinstance(row, dict)]
            found = described(self.file.name, list(plain[0]) if plain else [], plain)
        report = check_rows(rows, found)
        columns = ", ".join(f"{role} in {column if isinstance(column, str) else ' or '.join(column)}" for role, column in found.columns.items())
        print(f"{self.file}: {found.kind} ({columns})\n{report.num_rows:,} rows, {report.num_examples:,} examples")
        for label, count in report.counts.items():
            print(f"{count:9,}  {label}")
        if report.num_copies:
            print(f"{report.num_copies:,} repeat an earlier one" + (f", {report.num_contradictions:,} of them with another answer" if found.prompt else ""))
        for fault in report.faults[:NUM_FAULTS]:
            print(f"  {fault}")
        if report.faults:
            more = f", the first {NUM_FAULTS} are above" if len(report.faults) > NUM_FAULTS else ""
            raise CourseError(f"{self.file} has {len(report.faults):,} {'fault' if len(report.faults) == 1 else 'faults'}{more}: "
                              f"correct or delete those rows, then check again")


@dataclass
class Data:
    """Look at data sets: list, show, fetch, check."""

    command: (
        Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Show, tyro.conf.subcommand("show")]
        | Annotated[Fetch, tyro.conf.subcommand("fetch")]
        | Annotated[Check, tyro.conf.subcommand("check")]
    )

    def run(self) -> None:
        "Run the command that was named."
        self.command.run()


def shortened(names: tuple[str, ...]) -> str:
    "All names, or the first of many."
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(islice(names, 4))} … {len(names)} in all"


def indented(text: str, num_chars: int = 1_000) -> str:
    "The beginning of a text, set off."
    text = text if len(text) <= num_chars else f"{text[:num_chars]} …"
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
