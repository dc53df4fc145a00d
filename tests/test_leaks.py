"""Leaks: what was planted is found with its place and share, what lesson 01 calls nearly equal is found too, and strangers are left alone."""

import gzip
import json
import re

import numpy as np
import pytest
from shared_data import shared

from microbert_course.data.leaks import Leak, find_leaks
from microbert_course.data.sources import duplicate_key, load, near_duplicates

WORDS = [f"{first}{second}" for first in ("ba", "ke", "li", "mo", "nu", "pa", "ro", "si", "te", "vu") for second in ("ban", "den", "fin", "gor", "kum", "lat")]


def some_texts(num_texts, seed, length=20):
    "Texts of words in no order."
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, length)) for _ in range(num_texts)]


def naive_share(test, train, size):
    words = [re.findall(r"\w+", text.lower()) for text in (test, train)]
    runs, known = ({tuple(row[start : start + size]) for start in range(max(1, len(row) - size + 1))} for row in words)
    return len(runs & known) / len(runs)


def test_planted_copies_are_found_with_their_place_and_share():
    "A copy in capitals, one with a word changed, one inside a longer text, one with its end cut off; strangers between them."
    train, test = some_texts(50, 0), some_texts(8, 1)
    test[1] = train[7].upper() + "!"
    test[3] = train[9].replace(train[9].split()[10], "changed", 1)
    test[4] = " ".join(train[30].split()[5:15])
    test[6] = train[41].rsplit(" ", 3)[0]
    found = find_leaks(train, test)
    assert [(leak.test_row, leak.train_row, leak.kind) for leak in found] == [(1, 7, "copy"), (3, 9, "near copy"), (4, 30, "near copy"), (6, 41, "near copy")]
    assert [leak.share for leak in found] == pytest.approx([naive_share(test[leak.test_row], train[leak.train_row], 5) for leak in found])


def test_the_share_is_the_largest_over_all_training_texts():
    "Every pair counted in full, at several lengths of run; texts share many runs, being made of three words."
    rng = np.random.default_rng(3)
    train, test = ([" ".join(rng.choice(["a", "b", "c"], rng.integers(2, 30))) for _ in range(20)] for _ in range(2))
    for size in (1, 3, 5):
        found = {leak.test_row: leak for leak in find_leaks(train, test, threshold=0.3, run_size=size)}
        for row, text in enumerate(test):
            best = max(naive_share(text, known, size) for known in train)
            assert (row in found) == (best >= 0.3)
            assert row not in found or found[row].share == pytest.approx(best) == pytest.approx(naive_share(text, train[found[row].train_row], size))


def test_a_copy_names_the_first_training_text_with_these_words():
    assert find_leaks(["other", "One fine film.", "one FINE film"], ["one fine film!"]) == [Leak(0, 1, "copy", 1.0)]


def test_no_texts_have_no_leaks():
    assert find_leaks([], ["a"]) == find_leaks(["a"], []) == find_leaks(["one two three four five six"], ["six five four three two one"]) == []


@pytest.mark.parametrize(("settings", "says"), [({"threshold": 0}, "threshold 0 is no share"), ({"threshold": 1.1}, "threshold 1.1"), ({"run_size": 0}, "run_size 0")])
def test_settings_that_make_no_sense_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        find_leaks(["a"], ["a"], **settings)


def test_what_lesson_01_calls_nearly_equal_is_found_across_a_split():
    "The copies and near-copies among the IMDB reviews: one of each group on one side, the others on the other side, and all are found."
    reviews = load("imdb")["text"]
    alike = {}  # reviews that begin or end with the same 40 letters: few enough to search for groups
    for row, text in enumerate(reviews):
        letters = duplicate_key(text)
        for end in (letters[:40], letters[-40:]):
            alike.setdefault(end, []).append(row)
    texts = [reviews[row] for row in sorted({row for rows in alike.values() if len(rows) > 1 for row in rows})]
    groups = near_duplicates(texts)
    later = set(np.flatnonzero(groups != np.arange(len(texts))).tolist())
    first = [text for row, text in enumerate(texts) if row not in later]
    assert len(later) > 80 and len(find_leaks(first, [texts[row] for row in sorted(later)])) == len(later)


def read(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_sst2_is_made_of_rotten_tomatoes():
    """Its dev sentences whose letters stand in these reviews, by a search for substrings, are nearly all of them, and nearly all are found.

    (Not all: SST-2 writes "do n't" and is cut into other words there.)"""
    sentences = [row["sentence"] for row in read(shared("glue/sst2_dev.jsonl.gz"))]
    train = [*load("rotten_tomatoes")["text"], *load("rotten_tomatoes", "validation")["text"]]
    letters = b"|".join(map(duplicate_key, train))
    contained = {row for row, text in enumerate(sentences) if duplicate_key(text) in letters}
    found = {leak.test_row for leak in find_leaks(train, sentences)}
    assert len(contained & found) > 0.95 * len(contained) > 0.9 * len(sentences)
