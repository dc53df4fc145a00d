"""Commands that look after the cache of token ids."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from microbert_course.errors import CourseError


@dataclass
class Info:
    """Say where the cache is and how much is in it."""

    def run(self) -> None:
        "Print a line or two."
        from microbert_course.data.cache import entries, tokens_dir
        from microbert_course.manifests import debris

        known, unfinished = entries(), debris(tokens_dir())
        print(f"{tokens_dir()}\n{counted(known)}, {sum(entry.num_bytes for entry in known) / 1e6:,.1f} MB")
        if unfinished:
            print(f"{len(unfinished)} unfinished: being built now, or left by a run that was killed; `microbert cache clear --all` removes the latter")


@dataclass
class Usage:
    """List the entries: what each was made from, its rows, size and age."""

    def run(self) -> None:
        "Print the table."
        from microbert_course.data.cache import entries

        print(f"{'name':16}  {'rows':>11}  {'MB':>9}  {'age':>8}  made from")
        for entry in entries():
            print(f"{entry.name:16}  {entry.num_rows:11,}  {entry.num_bytes / 1e6:9,.1f}  {age(entry.age_days):>8}  "
                  f"{entry.made_from or '(its manifest cannot be read)'}")


@dataclass
class Verify:
    """Read every byte and compare it with its hash; status 1 if an entry is damaged."""

    def run(self) -> None:
        """Print a line an entry.

        Raises: CourseError with the names of those that are damaged."""
        from microbert_course.data.cache import verify

        damaged = []
        for entry, fault in verify():
            print(f"{entry.name}  {f'DAMAGED: {fault}' if fault else 'whole'}", flush=True)
            damaged += [entry.name] if fault else []
        if damaged:
            raise CourseError(f"{len(damaged)} damaged: the next run that needs it makes it anew, or remove it with `microbert cache clear {damaged[0]}`")


@dataclass
class Clear:
    """Remove entries: one by its name, all, or the old ones, as in `microbert cache clear --older-than 30`."""

    name: tyro.conf.Positional[str] = ""
    """The entry, as `microbert cache usage` lists it; its first letters are enough."""
    all: bool = False
    """Every entry, and what killed runs left behind."""
    older_than: float | None = None
    """Entries that were built more than so many days ago."""

    def run(self) -> None:
        "Remove, then say how much room that made."
        from microbert_course.data.cache import clear

        removed = clear(self.name, self.all, self.older_than)
        print(f"{counted(removed)} removed, {sum(entry.num_bytes for entry in removed) / 1e6:,.1f} MB")


@dataclass
class Cache:
    """Look after the cache of token ids: info, usage, verify, clear."""

    command: (
        Annotated[Info, tyro.conf.subcommand("info")]
        | Annotated[Usage, tyro.conf.subcommand("usage")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
        | Annotated[Clear, tyro.conf.subcommand("clear")]
    )

    def run(self) -> None:
        "Run the command that was named."
        self.command.run()


def counted(entries: list) -> str:
    "Such as `1 entry`."
    return f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"


def age(days: float) -> str:
    "In the unit that fits."
    for unit, length in (("days", 1), ("hours", 24), ("minutes", 1440)):
        if days * length >= 2:
            return f"{days * length:.0f} {unit}"
    return "just now"
