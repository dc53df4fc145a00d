"""What an instruction run learns: sets by their names or files, as prompts with answers; some held out, and nothing that is tested."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from microbert_course.data.mixture import Mixture, parse_mixture
from microbert_course.data.registry import REGISTRY, _is_installed, described, entry, read_rows, rows_of
from microbert_course.data.registry_entries import Entry
from microbert_course.data.registry_rows import placed_examples, prompt_key
from microbert_course.data.sources import PACKAGES, DataError, _looks_like_a_path, split_indices
from microbert_course.data.streams import _kind
from microbert_course.posttraining.settings import SftConfig

EXAMPLE = ("prompt", "answer", "kind", "labels", "final")  # a row of a file with all of these is an example already
ROTTEN_TOMATOES = replace(entry("imdb"), name="rotten_tomatoes", hub=PACKAGES["rotten_tomatoes"][2], prompt=entry("sst2").prompt, configs=(),
                          splits=("train", "validation"), package="rotten_tomatoes", note="many of its sentences are also in sst2")


@dataclass(frozen=True)
class SftExamples:
    "Examples as `data.registry.to_examples` makes them, by set."

    train: dict[str, list[dict]]
    validation: dict[str, list[dict]]  # of the same sets, never learned from
    rates: dict[str, float] | None = None  # share of what is learned; None = in proportion to the sizes
    test: Sequence[dict] = ()
    num_copies: int = 0  # examples left out of train because they are asked in test, or held out of another set


def known_set(name: str) -> Entry:
    "Raises: DataError with the nearest names if there is no such set."
    return ROTTEN_TOMATOES if name == ROTTEN_TOMATOES.name else entry(name)


def read_examples(
    name: str,  # of a set, or a file, or NAME@FILE: a file with rows of that set
    for_test: bool = False,  # which split of a set: the one to score with, or the one to learn from
    num_rows: int | None = None,  # no more examples than this; None = all
) -> list[dict]:
    """The examples of a set or a file.

    Raises: DataError, in one sentence, for what is not to be had, a row that is wrong, plain text, or labels that are all the same."""
    set_name, sign, path = name.partition("@")
    if sign and (set_name in REGISTRY or set_name == ROTTEN_TOMATOES.name):
        found = known_set(set_name)
        rows = rows_of(found, path=Path(path).expanduser())
    elif set_name in REGISTRY or set_name == ROTTEN_TOMATOES.name:
        found = known_set(name)
        rows = rows_of(found, split_of(found, for_test))
    elif _looks_like_a_path(name) or _kind(Path(name)) or Path(name).suffix == ".parquet":
        found, rows = read_file(name)
    else:
        found = entry(name)  # it is none: the sentence with the nearest names
    if found is not None and found.kind == "text":
        raise DataError(f"{name} holds plain text, which asks nothing: pretrain on it, as in `microbert pretrain lm-tiny --data {name}`")
    pairs = rows if found is None else placed_examples(rows, found)
    examples = [example for _, example in islice(pairs, num_rows)]
    if not examples:
        raise DataError(f"{name} holds no example: put rows into it, or give another one")
    answers = {example["answer"] for example in examples}
    if len(answers) == 1 and examples[0]["kind"] in ("classification", "pairs") and not for_test:
        raise DataError(f"all {len(examples):,} rows of {name} have the label {answers.pop()!r}, and telling labels apart takes two: add rows with another")
    return examples


def split_of(found: Entry, for_test: bool) -> str:
    """The split of a set to learn from, or to score with.

    Raises: DataError if it has none."""
    wanted = ("test", "validation", "valid", "validation_matched") if for_test else ("train", "auxiliary_train")
    # a package brings train, of which validation is cut, and no test
    split = next((split for split in wanted if split in found.splits and not (split == "test" and _is_installed(found))), None)
    if split is None:
        raise DataError(f'"{found.name}" has no split to {"score" if for_test else "learn"} with, only {", ".join(found.splits)}: '
                        f"give a file of its rows, {found.name}@FILE")
    return split


def read_file(path: str) -> tuple[Entry | None, list]:  # what its rows are, None = examples already; the rows, each with its place
    "Rows of a file whose columns say what they are."
    rows = [(f"{path}, {place}", row) for place, row in read_rows(path)]
    first = rows[0][1] if rows else {}
    if isinstance(first, dict) and all(key in first for key in EXAMPLE):
        return None, [(place, checked_example(place, row)) for place, row in rows]
    plain_rows = [row for _, row in rows if isinstance(row, dict)]
    if not plain_rows:
        raise DataError(f'{path} holds no rows with named columns: write them as {{"instruction": "…", "output": "…"}}')
    return described(Path(path).name, list(plain_rows[0]), plain_rows), rows


def checked_example(place: str, row: object) -> dict:
    """A row that is an example already.

    Raises: DataError if a part of it is missing, or it has no answer."""
    missing = [key for key in EXAMPLE if key not in row] if isinstance(row, dict) else EXAMPLE
    if missing:
        raise DataError(f"{place}: there is no {missing[0]!r}, and an example has {', '.join(EXAMPLE)}: fill it in or delete the row")
    if not str(row["answer"]).strip():
        raise DataError(f"{place}: the answer is empty: fill it in or delete the row")
    return {key: row[key] for key in EXAMPLE}


def hold_out(
    sets: dict[str, list[dict]],
    rates: dict[str, float | None] | None = None,  # as `parse_mixture` answers them; None = in proportion to the sizes
    num_validation: int = 200,  # over all sets, by the rates; no more than a tenth of a set, and one at least
    test: Sequence[dict] = (),  # what is asked here is taken out of the sets first
) -> SftExamples:
    """Sets in two parts at random; copies of a prompt are on the same side, in whichever set they are.

    Raises: DataError if nothing is left of a set to learn from, CourseError if the rates do not sum to 1."""
    tested = {prompt_key(example) for example in test}
    kept = {name: [example for example in examples if prompt_key(example) not in tested] for name, examples in sets.items()}
    for name, examples in kept.items():
        if len({prompt_key(example) for example in examples}) < 2:
            raise DataError(f"{name} has {len(examples)} examples that are not asked in the test, and one is held out: give at least two different ones")
    mixture = Mixture({name: len(examples) for name, examples in kept.items()}, rates)
    parts, validation = {}, {}
    for name, examples in kept.items():
        wanted = max(1, min(round(num_validation * mixture.rates[name]), len(examples) // 10))
        rows = split_indices([example["prompt"] for example in examples], wanted, keys=[prompt_key(example) for example in examples])
        parts[name], validation[name] = ([examples[row] for row in part] for part in rows)
    held_out = {prompt_key(example) for examples in validation.values() for example in examples}
    train = {name: [example for example in examples if prompt_key(example) not in held_out] for name, examples in parts.items()}
    for name, examples in train.items():
        if not examples:
            raise DataError(f"every example of {name} is held out of another set too: leave the set out, or ask for fewer num_validation")
    num_copies = sum(map(len, sets.values())) - sum(len(train[name]) + len(validation[name]) for name in train)
    return SftExamples(train, validation, None if rates is None or None in rates.values() else mixture.rates, test, num_copies)


def gather(config: SftConfig) -> SftExamples:
    """The examples that a configuration names.

    Raises: DataError or CourseError, in one sentence, if one is not to be had or the rates do not sum to 1."""
    rates = parse_mixture(config.data)
    sets = {name: read_examples(name, num_rows=config.max_examples or None) for name in rates}
    test = read_examples(config.test, for_test=True) if config.test else ()
    return hold_out(sets, rates, config.num_validation, test)


def spread(
    sets: dict[str, list[dict]],
    total: int,  # how many are wanted
) -> list[tuple[str, dict]]:  # each with the set that it is of
    "The first examples of each set, in proportion to its size."
    there = sum(map(len, sets.values()))
    return list(chain.from_iterable(
        ((name, example) for example in examples[: max(1, round(total * len(examples) / there))]) for name, examples in sets.items())) if total else []
