"""Test texts that stand in the training texts: as copies, with a few words changed, or as a part of a longer text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microbert_course.data.sources import _shingle_hashes, duplicate_key


@dataclass(frozen=True)
class Leak:
    "A test text that a model has seen, and where."

    test_row: int
    train_row: int  # the first of the training texts that hold most of it
    kind: str  # "copy": equal but for case, markup and punctuation; "near copy": shares runs of words
    share: float  # of the test text's runs of words that the training text has


def find_leaks(
    train_texts: Sequence[str],
    test_texts: Sequence[str],
    threshold: float = 0.5,  # share of a test text's runs of words in one training text, above 0 to 1
    run_size: int = 5,  # words a run; a text with fewer is one run
) -> list[Leak]:  # by test row, at most one for each
    """Test texts of which a training text has the same words, or most runs of words (Brown et al. 2020, Appendix C, with shorter runs).

    Exact: every pair that shares a run is counted, so whatever `data.sources.near_duplicates` joins at the same threshold is found too.

    Raises: ValueError if `threshold` is not above 0 and at most 1, or `run_size` is not positive."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold} is no share of a text: choose one above 0, at most 1")
    if run_size < 1:
        raise ValueError(f"run_size {run_size} makes runs without words: use 1 or more")
    if not len(train_texts) or not len(test_texts):
        return []
    train_row_of: dict[bytes, int] = {}
    for row, text in enumerate(train_texts):
        train_row_of.setdefault(duplicate_key(text), row)
    found = {}
    for test_row, (train_row, share) in _most_shared(train_texts, test_texts, run_size).items():
        if share >= threshold:
            found[test_row] = Leak(test_row, train_row, "near copy", share)
    for test_row, text in enumerate(test_texts):
        if (train_row := train_row_of.get(duplicate_key(text))) is not None:
            found[test_row] = Leak(test_row, train_row, "copy", 1.0)
    return [found[row] for row in sorted(found)]


def _most_shared(train_texts: Sequence[str], test_texts: Sequence[str], run_size: int) -> dict[int, tuple[int, float]]:
    "For each test text that shares a run of words: the training text that has most of its runs, and their share."
    test_runs, test_rows = _runs(test_texts, run_size)
    order = np.argsort(test_runs, kind="stable")
    test_runs, test_rows = test_runs[order], test_rows[order]
    num_runs = np.bincount(test_rows, minlength=len(test_texts))
    train_runs, train_rows = _runs(train_texts, run_size)
    first, last = (np.searchsorted(test_runs, train_runs, side) for side in ("left", "right"))
    is_met, num_met = last > first, last - first  # test texts that have this run, for each run of the training texts
    first, num_met, train_rows = first[is_met], num_met[is_met], train_rows[is_met]
    if not len(first):
        return {}
    places = np.repeat(first - np.cumsum(num_met) + num_met, num_met) + np.arange(num_met.sum())
    pairs, shared = np.unique(np.repeat(train_rows, num_met) * len(test_texts) + test_rows[places], return_counts=True)
    best: dict[int, tuple[int, float]] = {}
    for train_row, test_row, count in zip(pairs // len(test_texts), pairs % len(test_texts), shared, strict=True):
        share = float(count / num_runs[test_row])
        if share > best.get(int(test_row), (0, 0.0))[1]:
            best[int(test_row)] = (int(train_row), share)
    return best


def _runs(texts: Sequence[str], run_size: int) -> tuple[np.ndarray, np.ndarray]:  # both (runs,): 64 bits each; the text that each is from
    "The different runs of words of each text."
    hashes = [np.unique(runs) for runs in _shingle_hashes(texts, run_size)]
    return np.concatenate(hashes), np.repeat(np.arange(len(hashes)), [len(runs) for runs in hashes])
