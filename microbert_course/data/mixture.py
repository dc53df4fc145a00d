"""Several data sets as one endless stream at stated rates, in which any draw is a function of the seed and its place."""

import difflib
import hashlib
import re
from bisect import bisect_left
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from microbert_course.errors import CourseError

__all__ = ["BLOCK", "STOPPING_STRATEGIES", "Mixture", "mixture_name", "parse_mixture"]

BLOCK = 100  # draws among which every set has its share, rounded up or down
STOPPING_STRATEGIES = ("first_exhausted", "all_exhausted")  # as `datasets.interleave_datasets` calls them
_GOLDEN = (5**0.5 - 1) / 2  # multiples of it, taken modulo 1, fill the unit interval more evenly than chance (Weyl 1916)
_MAX_NAME = 100  # characters; a folder's name may have 255 bytes


class Mixture:
    """Which row of which set is drawn when: a pure function of the seed and the draw's number, so a run that is resumed stores nothing.

    Draws come in blocks of `BLOCK`. In each, rates become counts by systematic sampling (Madow 1949): no set is a whole draw away from its share,
    and the rounding goes up or down so evenly from block to block that errors do not add up. The order within a block is random. In any 10,000
    draws in a row, wherever they begin, a set's rate is off by less than 0.01. The m-th draw of a set is the m-th row of a random order of it; when
    its rows are used up, it begins again in another order.

    Raises: CourseError, in one sentence, if rates do not sum to 1, one is no share, a set is unknown, has no rate or no rows."""

    def __init__(
        self,
        sizes: dict[str, int],  # rows of each set
        rates: dict[str, float | None] | None = None,  # share of the draws of each; None, or None for every set: in proportion to the sizes
        seed: int = 0,
        exhausted: str = "first_exhausted",  # what ends an epoch: the first set seen whole, or the last ("all_exhausted")
    ):
        self.rates = _resolved(rates, _checked_sizes(sizes))
        if exhausted not in STOPPING_STRATEGIES:
            raise CourseError(f"exhausted {exhausted!r} is no rule: choose {' or '.join(STOPPING_STRATEGIES)}")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise CourseError(f"seed {seed!r} is no seed: choose a whole number from 0")
        self.seed, self.exhausted = seed, exhausted
        self.names = sorted(self.rates)  # so that the order in which rates are written changes nothing
        self.sizes = [sizes[name] for name in self.names]
        edges = BLOCK * np.cumsum([self.rates[name] for name in self.names])  # of the sets' stretches, laid end to end on a line of length BLOCK
        edges[-1] = BLOCK
        self._whole, self._part = np.floor(edges).astype(np.int64), edges % 1
        self._first_offset = np.random.default_rng([seed, 0, 2]).random()
        self._orders = {}  # the last order of each set that was asked for

    def draws(
        self,
        start: int,  # the first draw is number 0
        stop: int,   # the draw after the last one wanted
    ) -> list[tuple[str, int]]:  # a set and a row of it, for each draw
        """The draws from `start` up to `stop`.

        Raises: ValueError if they are not in this order."""
        if not 0 <= start <= stop:
            raise ValueError(f"draws {start} to {stop}: count from 0, and end where you begin or later")
        first = start // BLOCK
        sets = np.concatenate([np.empty(0, np.int64), *(self._block(block) for block in range(first, -(-stop // BLOCK)))])
        numbers = np.empty_like(sets)  # how many draws of its own set come before each
        for index, before in enumerate(self._counts_before(first)):
            is_here = sets == index
            numbers[is_here] = before + np.arange(is_here.sum())
        here = slice(start - first * BLOCK, stop - first * BLOCK)
        sets, numbers = sets[here], numbers[here]
        rows = np.empty_like(sets)
        for index in np.unique(sets):
            rows[sets == index] = self._rows(int(index), numbers[sets == index])
        return [(self.names[index], row) for index, row in zip(sets.tolist(), rows.tolist(), strict=True)]

    @cached_property
    def epoch(self) -> int:
        'The number of draws until the first set ("first_exhausted") or the last ("all_exhausted") has been seen whole.'
        ends = [self._drawn_at(index, size) for index, size in enumerate(self.sizes)]
        return min(ends) if self.exhausted == "first_exhausted" else max(ends)

    def _offsets(self, blocks: np.ndarray) -> np.ndarray:  # (blocks,) from 0 up to 1
        return (self._first_offset + blocks * _GOLDEN) % 1

    def _counts_before(self, block: int) -> np.ndarray:  # (sets,)
        "How often each set is drawn in all blocks before this one."
        is_up = self._offsets(np.arange(block))[:, None] < self._part  # (blocks, sets): whether the stretch that ends here has one point more
        return np.diff(self._whole * block + is_up.sum(axis=0), prepend=0)

    def _block(self, block: int) -> np.ndarray:  # (BLOCK,) indices of sets
        "The sets that a block draws, in its order: one point in every unit of the line, all at the same offset in it, and shuffled."
        edges = self._whole + (self._offsets(np.array(block)) < self._part)
        sets = np.repeat(np.arange(len(edges)), np.diff(edges, prepend=0))
        return np.random.default_rng([self.seed, block, 0]).permutation(sets)

    def _rows(self, index: int, numbers: np.ndarray) -> np.ndarray:  # like `numbers`
        "Which rows of a set its draws with these numbers are."
        rounds, places = np.divmod(numbers, self.sizes[index])
        rows = np.empty_like(places)
        for again in np.unique(rounds):
            rows[rounds == again] = self._order(index, int(again))[places[rounds == again]]
        return rows

    def _order(self, index: int, again: int) -> np.ndarray:  # (size,) a permutation
        "The order in which a set is seen for the first time (0), the second (1), …; another one for every set."
        if self._orders.get(index, (None,))[0] != again:
            self._orders[index] = again, np.random.default_rng([self.seed, again, 1, index]).permutation(self.sizes[index])
        return self._orders[index][1]

    def _drawn_at(self, index: int, times: int) -> int:
        "The number of draws after which a set has been drawn so many times."
        rate = self.rates[self.names[index]]
        about, room = times / rate, 2 * BLOCK + 50 / rate  # counts never stray 50 from their share
        low = max(0, int(about - room))
        return low + bisect_left(range(low, int(about + room)), times, key=lambda draws: self._count(index, draws))

    def _count(self, index: int, draws: int) -> int:
        "How often a set is among the first draws."
        block, rest = divmod(draws, BLOCK)
        return int(self._counts_before(block)[index] + (self._block(block)[:rest] == index).sum())


def _checked_sizes(sizes: dict[str, int]) -> dict[str, int]:
    if not sizes:
        raise CourseError("a mixture of no sets: name at least one")
    for name, size in sizes.items():
        if size < 1:
            raise CourseError(f"the set {name!r} has {size} rows: give it one at least, or leave it out")
    return sizes


def _resolved(rates: dict[str, float | None] | None, sizes: dict[str, int]) -> dict[str, float]:
    "Rates that sum to 1: those given, or sizes over their sum."
    rates = dict.fromkeys(sizes) if rates is None else rates
    for name in rates:
        if name not in sizes:
            near = difflib.get_close_matches(name, sizes, n=1, cutoff=0.5)
            raise CourseError(f"the mixture has a rate for {name!r}, which is none of its sets: "
                              + (f"did you mean {near[0]!r}?" if near else f"they are {', '.join(map(repr, sizes))}"))
    if missing := [name for name in sizes if name not in rates]:
        raise CourseError(f"the set {missing[0]!r} has no rate: give it one, or leave the set out")
    if not _all_or_none(rates):
        total = sum(sizes.values())
        return {name: sizes[name] / total for name in rates}
    for name, rate in rates.items():
        _check_rate(name, rate)
    total = sum(rates.values())
    if abs(total - 1) > 1e-6:
        scaled = ", ".join(f"{name}={rate / total:.3g}" for name, rate in rates.items())
        raise CourseError(f"the rates sum to {total:.6g} and should sum to 1: write {scaled}, say")
    return {name: rate / total for name, rate in rates.items()}


def _all_or_none(rates: dict[str, float | None]) -> bool:
    "Whether all sets have rates; False if none has one. Raises: CourseError if some have."
    without = [name for name, rate in rates.items() if rate is None]
    if without and len(without) < len(rates):
        given = next(name for name, rate in rates.items() if rate is not None)
        raise CourseError(f"{given!r} has a rate and {without[0]!r} has none: give every set a rate, or none (then they are drawn in proportion to their sizes)")
    return not without


def _check_rate(name: str, rate: float) -> None:
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1:
        raise CourseError(f"the rate of {name!r} is {rate!r}, no share of the draws: choose a number above 0 and up to 1, or leave the set out")


def parse_mixture(
    text: str,  # "sst2=0.3,alpaca.jsonl=0.7"; or names alone, "sst2,alpaca.jsonl"
) -> dict[str, float | None]:  # each set with its rate; None for all if none is given
    """Sets and rates as they are written on a command line. A name is a file or a set; its rate stands behind the last `=`.

    Raises: CourseError, in one sentence, if nothing is named, a set twice, a rate is no share, or some sets have rates and some have none."""
    rates = {}
    for part in (part.strip() for part in text.split(",")):
        name, rate = _name_and_rate(part)
        if not name:
            raise CourseError(f"the mixture {text!r} has a part without a name: write it as sst2=0.3,alpaca.jsonl=0.7")
        if name in rates:
            raise CourseError(f"the mixture names {name!r} twice: give it one rate, the sum of both")
        rates[name] = rate
    _all_or_none(rates)
    return rates


def _name_and_rate(part: str) -> tuple[str, float | None]:
    "A name with what stands behind its last `=`, which is a part of the name if it goes on with a path."
    name, sign, written = part.rpartition("=")
    if not sign or re.search(r"[/\\]", written):
        return part, None
    try:
        rate = float(written)
    except ValueError:
        raise CourseError(f"the rate of {name.strip()!r} is {written.strip()!r}, no number: write it as 0.3 (and give a path that ends so its rate, "
                          f"{part}=0.3)") from None
    _check_rate(name.strip(), rate)
    return name.strip(), rate


def mixture_name(
    *above: str,  # folders that the run's stands in, such as "sft", "smollm2"
    rates: dict[str, float | None],  # as `parse_mixture` answers them, or `Mixture.rates`
) -> str:
    """A run's name that says what is mixed, such as sft/smollm2/alpaca_70-sst2_30: rates in per cent, the highest first.

    The same for every order in which the rates are written. A path gives its file's name; what is too long for a folder ends in a hash."""
    parts = [re.sub(r"[^\w.]+", "-", PurePosixPath(name.replace("\\", "/")).name.partition(".")[0]).strip("-") or "set" for name in rates]
    named = sorted(zip(parts, rates.values(), strict=True), key=lambda pair: (-(pair[1] or 0), pair[0]))
    name = "-".join(part if rate is None or rate == 1 else f"{part}_{100 * rate:.3g}" for part, rate in named)
    if len(name) > _MAX_NAME:
        name = f"{name[:_MAX_NAME]}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
    return "/".join([*above, name])
