"""Checks of the exercises on text as data."""

import html
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction

import numpy as np

from microbert_course.data.sources import duplicate_key
from microbert_course.practice.checking import Case, Check, Wrong

TAG = r"</?[A-Za-z][^<>]*>"


def word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list("abcdefghij"), size=rng.integers(3, 6)))


def markup_cases(rng: np.random.Generator) -> list[Case]:
    "Tags of all spellings, over two lines, in and behind words of all spellings; brackets that are none, odd white space; one text of markup alone, and one of nothing."
    traps = ["{}<br />{}", "A{}<BR>{}", "<p\nclass='{}'>{}</p>", "</Div>{}{}", "{}<h1>{}", "{} <3 {}", "{} <3 of 5> {}",
             "{} < {} >", "{}<<b>>{}", "{}\n\t{}", "{}\xa0{}", "  {}   {} ", "{}&lt;i&gt;{}", "<{}<br>{}>", "{} </3 of 5> {}", "{}<_{}>", "<é{}>{}"]
    cases = []
    for rounds in (1, 2, 3):
        parts = [trap.format(word(rng), word(rng)) for _ in range(rounds) for trap in rng.permutation(traps)]
        cases.append({"text": "".join(parts)})
    return [*cases, {"text": "\n<br /> <hr>"}, {"text": ""}]


def clean_variant(pattern: str = TAG, instead: str = " ", before: Callable = str,
                  after: Callable = lambda text: " ".join(text.split())) -> Callable:
    "Text cleaned with one thing done otherwise."
    return lambda text: after(re.sub(pattern, instead, before(text), flags=re.DOTALL))


def clean_by_hand(text: str) -> str:
    "Letter by letter: at a bracket, look where its tag would end."
    kept, at = [], 0
    while at < len(text):
        name = at + 1 + (text[at + 1:at + 2] == "/")
        end = text.find(">", at)
        is_tag = text[at] == "<" and "A" <= text[name:name + 1].upper() <= "Z" and end > 0 and "<" not in text[at + 1:end]
        kept.append(" " if is_tag else text[at])
        at = end + 1 if is_tag else at + 1
    return " ".join("".join(kept).split())


def leak_cases(rng: np.random.Generator) -> list[Case]:
    "Documents that occur once, twice and more often; at the edges nothing to train on, and no copies at all."
    cases = []
    for num_groups in (4, 6, 9):
        sizes = [2, 3, *rng.integers(1, 5, size=num_groups).tolist()]
        rows = sum(sizes)
        cases.append({"group_sizes": rng.permutation(sizes).tolist(), "num_validation": int(rng.integers(2, rows // 2))})
    return [*cases, {"group_sizes": [3, 1, 2], "num_validation": 6}, {"group_sizes": [1] * 5, "num_validation": 2}]


def leaks_by_counting(group_sizes: Sequence[int], num_validation: int) -> float:
    "For each document and each number of its rows that may be held out: that number times its probability."
    rows = sum(group_sizes)
    return sum(held * math.comb(size, held) * math.comb(rows - size, num_validation - held) / math.comb(rows, num_validation)
               for size in group_sizes for held in range(min(size, num_validation + 1)))


def leaks_variant(of_group: Callable[[int, int, int], float]) -> Callable:
    "A sum over documents, of their size, the number of rows and the number held out."
    return lambda group_sizes, num_validation: float(sum(of_group(size, sum(group_sizes), num_validation) for size in group_sizes))


def all_held(size: int, rows: int, held: int) -> float:
    "The probability that these rows are all among those held out."
    return math.comb(rows - size, held - size) / math.comb(rows, held) if size <= held else 0.0


def leaks_by_rows(group_sizes: Sequence[int], num_validation: int) -> float:
    "Row by row: it is held out, and not all the others with it."
    rows, total = sum(group_sizes), Fraction(0)
    for size in group_sizes:
        others = Fraction(1)
        for taken in range(1, size):
            others *= Fraction(num_validation - taken, rows - taken)
        total += size * Fraction(num_validation, rows) * (1 - others)
    return float(total)


def overlap_cases(rng: np.random.Generator) -> list[Case]:
    "Quotations that overlap, that differ in case or by a comma, that are in two training texts by halves; one of their words alone; texts too short for a run."
    cases = []
    for length in (2, 3, 4):
        long, fresh = 2 * length + 1 + int(rng.integers(9)), 7 * length + int(rng.integers(20))  # or the shares would be the same in every draw
        words = [f"{word(rng)}{number}" for number in range(long + 3 * length - 1 + fresh)]
        quote, split, lone, own = words[:long], words[long:long + length], words[long + length:-fresh], words[-fresh:]
        training = [" ".join([*lone[::-1], *quote[:length + 1]]), " ".join([*quote[1:], split[0]]), " ".join([*split[1:], *lone[:1]]),
                    " ".join([f"un{lone[0]}", *lone[1:length + 1]]),                      # the end of a word is no word,
                    " ".join([*lone[-length:-1], f"{lone[-1]}ish"]),                      # and its beginning is none
                    " ".join([own[length], f"{own[length + 1]},", *own[length + 2:2 * length + 1]])]  # with a comma it is another one
        training = [training[0].upper(), training[1].title(), *training[2:]]
        text = " ".join([*own[:length], *quote, *own[length:-2], quote[1], own[-2], quote[-1], own[-1], *split, *quote[:length], *lone])
        cases.append({"text": text.title(), "training_texts": training, "run_length": length})
    return [*cases, {"text": "too short", "training_texts": ["is it too short"], "run_length": 3},
            {"text": "", "training_texts": ["a b"], "run_length": 2}]


def words_of(text: str) -> list[str]:
    return text.lower().split()


def runs_of(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(words[start:start + length]) for start in range(len(words) - length + 1)]


def overlap_by_search(text: str, training_texts: Sequence[str], run_length: int) -> float:
    "Each word asks whether one of the runs that hold it is found in the training texts, as text."
    words, haystack = words_of(text), "\n".join(f" {' '.join(words_of(other))} " for other in training_texts)
    num_seen = 0
    for place in range(len(words)):
        starts = range(max(0, place - run_length + 1), min(place, len(words) - run_length) + 1)
        num_seen += any(f" {' '.join(words[start:start + run_length])} " in haystack for start in starts)
    return num_seen / max(1, len(words))


def overlap_variant(share: str = "words", marked: int | None = None, words_of: Callable = words_of, others_of: Callable = words_of,
                    joined: bool = False) -> Callable:
    "The share of seen words with one thing done otherwise."

    def seen_share(text: str, training_texts: Sequence[str], run_length: int) -> float:
        words, others = words_of(text), [others_of(other) for other in training_texts]
        others = [sum(others, [])] if joined else others
        seen = {run for other in others for run in runs_of(other, run_length)}
        runs = runs_of(words, run_length)
        hits = [start for start, run in enumerate(runs) if run in seen]
        if share == "runs":
            return len(hits) / max(1, len(runs))
        if share == "jaccard":
            return len(seen & set(runs)) / max(1, len(seen | set(runs)))
        if share == "twice":
            return len(hits) * run_length / max(1, len(words))
        covered = {place for start in hits for place in range(start, start + (marked or run_length))}
        return len(covered) / max(1, len(words))

    return seen_share


def overlap_of_words(text: str, training_texts: Sequence[str], run_length: int) -> float:
    "Words are looked up in all words of seen runs, wherever they stand."
    words = words_of(text)
    seen = set().union(*(runs_of(words_of(other), run_length) for other in training_texts))
    in_runs = {word for run in runs_of(words, run_length) if run in seen for word in run}
    return sum(word in in_runs for word in words) / max(1, len(words))


def overlap_in_letters(before: str = "", after: str = "") -> Callable:
    "The run is searched for as letters, with a space on one side or on none."

    def seen_share(text: str, training_texts: Sequence[str], run_length: int) -> float:
        words, covered = words_of(text), set()
        for start, run in enumerate(runs_of(words, run_length)):
            if any(before + " ".join(run) + after in before + other.lower() + after for other in training_texts):
                covered.update(range(start, start + run_length))
        return len(covered) / max(1, len(words))

    return seen_share


def bag_overlap(text: str, training_texts: Sequence[str], run_length: int) -> float:
    words, seen = words_of(text), {word for other in training_texts for word in words_of(other)}
    return sum(word in seen for word in words) / max(1, len(words))


def overlap_by_flags(text: str, training_texts: Sequence[str], run_length: int) -> float:
    "Flags for the words, set run by run, in NumPy."
    words = words_of(text)
    flags = np.zeros(len(words), dtype=bool)
    for start in range(len(words) - run_length + 1):
        run = words[start:start + run_length]
        if any(run == list(other) for training in training_texts for other in runs_of(words_of(training), run_length)):
            flags[start:start + run_length] = True
    return float(flags.mean()) if words else 0.0


def exam_cases(rng: np.random.Generator) -> list[Case]:
    "Bags of random words with labels from a coin, so that choosing by all labels gives other words; a tie, and a strong word against two weak ones."
    first, second, third = sorted(rng.choice([f"{letter}{end}" for letter in "abcdefgh" for end in "xyz"], size=3, replace=False).tolist())
    sign, coins = int(rng.integers(2)), rng.integers(2, size=2).tolist()
    cases = [{"bags": [[second], [first], [first], [second]], "labels": [1, 1, *coins], "train_rows": [0, 1], "validation_rows": [2, 3], "num_words": 1},
             {"bags": [[first]] * 3 + [[second], [third], [first, second, third], [second, third]], "labels": [sign] * 3 + [1 - sign] * 2 + coins,
              "train_rows": [0, 1, 2, 3, 4], "validation_rows": [5, 6], "num_words": 3}]
    for rows, held, vocab, size, chosen in ((60, 35, 60, 14, 9), (51, 31, 80, 20, 13), (70, 41, 45, 11, 8)):
        names = rng.permutation([f"{first}{second}" for first in "abcdefghij" for second in "klmnopqrs"])[:vocab]
        order = rng.permutation(rows).tolist()
        cases.append({"bags": [sorted(rng.choice(names, size=size, replace=False).tolist()) for _ in range(rows)],
                      "labels": rng.integers(2, size=rows).tolist(), "train_rows": order[held:], "validation_rows": order[:held],
                      "num_words": chosen})
    return cases


def exam_in_arrays(bags: Sequence[Sequence[str]], labels: Sequence[int], train_rows: Sequence[int], validation_rows: Sequence[int],
                   num_words: int) -> list[int]:
    "A matrix of who holds which word, its columns in the order of the alphabet."
    names = sorted({word for bag in bags for word in bag})
    holds = np.array([[name in bag for name in names] for bag in bags]).astype(int)  # (rows, words)
    leaning = (2 * np.array(labels) - 1)[train_rows] @ holds[train_rows]
    chosen = np.argsort(-np.abs(leaning), kind="stable")[:num_words]
    return (holds[validation_rows][:, chosen] @ leaning[chosen] > 0).astype(int).tolist()


def exam_variant(choose: str = "train", score: str = "train", size: Callable = abs, examined: str = "validation",
                 choosy: bool = True, tie: Callable = str, vote: Callable = int) -> Callable:
    "The exam with rows of another kind where the training rows should be, or another choice of words."

    def exam(bags, labels, train_rows, validation_rows, num_words) -> list[int]:
        kinds = {"train": train_rows, "validation": validation_rows, "all": range(len(bags))}

        def leaning(kind: str) -> Counter:
            found = Counter()
            for row in kinds[kind]:
                for word in bags[row]:
                    found[word] += 1 if labels[row] else -1
            return found

        chosen_by, scores = leaning(choose), leaning(score)
        chosen = set(sorted(chosen_by, key=lambda word: (-size(chosen_by[word]), tie(word)))[:num_words if choosy else None])
        return [int(sum(vote(scores[word]) for word in bags[row] if word in chosen) > 0) for row in kinds[examined]]

    return exam


def exam_with_dicts(bags, labels, train_rows, validation_rows, num_words) -> list[bool]:
    "Sort twice, keep the scores of the chosen words alone, answer in True and False."
    leaning = {}
    for row in train_rows:
        for word in set(bags[row]):
            leaning[word] = leaning.get(word, 0) + (2 * labels[row] - 1)
    ranked = sorted(sorted(leaning.items()), key=lambda item: abs(item[1]), reverse=True)
    scores = dict(ranked[:num_words])
    return [sum(scores.get(word, 0) for word in bags[row]) > 0 for row in validation_rows]


def split_cases(rng: np.random.Generator) -> list[Case]:
    "Copies that differ in punctuation, keys that tie rows together, seats that nobody fits into, one document alone, all rows held out, and four mistakes."
    once = [f"{word(rng)} film {number}" for number in range(9)]
    copied = [text for text in (f"{word(rng)}, film {number}" for number in range(20, 28)) for text in (text, f"{text.upper()}!<br />")]
    texts = rng.permutation([*once, *copied]).tolist()
    films = rng.permutation([f"film {number}" for number in (0, 1, 2, 3, 4, 5) for _ in range(5 - number % 3)]).tolist()
    plots = [f"plot {number}" for number in range(len(films))]
    mostly_large = rng.permutation([*range(6), *(number for number in range(6, 11) for _ in range(6))]).tolist()  # few fit into five seats
    all_large = rng.permutation([7] * 4 + [8] * 3 + [9] * 5 + [4] * 3).tolist()
    orders = [(texts, 8, None), (texts, 13, None), (plots, 6, films), (plots, 13, films),
              ([f"row {row}" for row in range(len(mostly_large))], 5, mostly_large), ([str(key) for key in all_large], 2, all_large),
              (["Same.", "same"], 1, None), (once, 0, None), (once, len(once), None),
              (once, len(once) + 1, None), (once, -1, None), (plots, 4, films[1:]), (plots, 4, [])]
    return [{"texts": texts, "num_validation": held, "seed": int(rng.integers(1, 10**6)), "keys": keys} for texts, held, keys in orders]


def checked(texts: Sequence[str], num_validation: int, keys: Sequence[Hashable] | None) -> None:
    if keys is not None and len(keys) != len(texts):
        raise ValueError(f"{len(keys)} keys for {len(texts)} texts")
    if not 0 <= num_validation <= max(1, len(texts)):
        raise ValueError(f"num_validation {num_validation} of {len(texts)} texts")


def checked_for_training(texts: Sequence[str], num_validation: int, keys: Sequence[Hashable] | None) -> None:
    checked(texts, num_validation, keys)
    if num_validation == len(texts):
        raise ValueError(f"num_validation {num_validation} leaves nothing to train on")


def split_by_asking(texts: Sequence[str], num_validation: int, seed: int = 0, keys: Sequence[Hashable] | None = None):
    "Each shuffled row that is not yet on a side takes all rows of its key with it."
    checked(texts, num_validation, keys)
    if keys is None:
        keys = [re.sub(r"<br />|[^a-z0-9]", "", text.lower()) for text in texts]
    order, side = np.random.default_rng(seed).permutation(len(texts)).tolist(), {}
    several = len(set(keys)) > 1
    for row in order:
        if keys[row] not in side:
            room = num_validation - sum(side.get(key) == "out" for key in keys)
            side[keys[row]] = "out" if several and list(keys).count(keys[row]) <= room else "in"
    if several and num_validation and "out" not in side.values():
        side[min(side, key=list(keys).count)] = "out"
    return tuple(np.array([row for row in order if side[keys[row]] == where], dtype=np.int64) for where in ("in", "out"))


def split_by_number(texts: Sequence[str], num_validation: int, seed: int = 0, keys: Sequence[Hashable] | None = None):
    "Documents as numbers in the order of the shuffle: how many rows each has, and which rows those are."
    checked(texts, num_validation, keys)
    order = np.random.default_rng(seed).permutation(len(texts))
    shuffled_keys = [duplicate_key(texts[row]) if keys is None else keys[row] for row in order]
    number_of = {key: number for number, key in enumerate(dict.fromkeys(shuffled_keys))}
    document = np.array([number_of[key] for key in shuffled_keys])  # (rows,)
    sizes, held, room = np.bincount(document), [], num_validation
    for number, size in enumerate(sizes):
        if len(sizes) > 1 and size <= room:
            held.append(number)
            room -= size
    if len(sizes) > 1 and num_validation > 0 and not held:
        held = [int(sizes.argmin())]
    is_held = np.isin(document, held)
    return [order[~is_held], order[is_held]]


def split_variant(shuffled: Callable = lambda seed, size: np.random.default_rng(seed).permutation(size), key_of: Callable = duplicate_key,
                  keyed: bool = True, walk: str = "shuffled", too_large: str = "skip", rarest: bool = True, result: str = "shuffled",
                  check: Callable = checked) -> Callable:
    "The split with one thing done otherwise."

    def split_indices(texts, num_validation, seed=0, keys=None):
        check(texts, num_validation, keys)
        order = shuffled(seed, len(texts))
        groups = {}
        for row in order.tolist() if walk == "shuffled" else range(len(texts)):
            groups.setdefault(keys[row] if keyed and keys is not None else key_of(texts[row]), []).append(row)
        held, room = [], num_validation
        for rows in groups.values() if len(groups) > 1 else ():
            if room <= 0 or (len(rows) > room and too_large == "stop"):
                break
            if len(rows) <= room or too_large == "take":
                held, room = held + rows, room - len(rows)
        if rarest and not held and num_validation and len(groups) > 1:
            held = min(groups.values(), key=len)
        if result == "grouped":
            return np.array([row for rows in groups.values() for row in rows if row not in held]), np.array(held, dtype=np.int64)
        is_held = np.isin(order, held)
        sides = order[~is_held], order[is_held]
        return tuple(np.sort(rows) for rows in sides) if result == "sorted" else sides

    return split_indices


def cut_after_shuffle(texts, num_validation, seed=0, keys=None):
    checked(texts, num_validation, keys)
    order = np.random.default_rng(seed).permutation(len(texts))
    return order[num_validation:], order[:num_validation]


def legacy_shuffle(seed: int, size: int) -> np.ndarray:
    return np.random.RandomState(seed).permutation(size)


def python_shuffle(seed: int, size: int) -> np.ndarray:
    return np.array(random.Random(seed).sample(range(size), size), dtype=np.int64)


CHECKS = (
    Check(
        id="sources.clean_text",
        name="clean_text",
        builds="data.sources.clean_text",
        cases=markup_cases,
        reference=clean_by_hand,
        right=(clean_variant(), clean_variant(after=lambda text: re.sub(r"\s+", " ", text).strip()),
               lambda text: " ".join(" ".join(re.split(TAG, text)).split())),
        wrong=(
            Wrong(clean_variant(instead=""),
                  "Tags are taken out without a trace, so the words on both sides of a line break grow together: the end of one line and"
                  " the start of the next become a word that nobody wrote."),
            Wrong(clean_variant(pattern="<br />"),
                  "Only one spelling of one tag goes: other tags, capitals and tags with attributes stay in the text."),
            Wrong(clean_variant(pattern=r"</?[a-z][^<>]*>"),
                  "Tags in capital letters stay: HTML does not care about case, and old pages were often written in capitals."),
            Wrong(clean_variant(pattern=r"<[^<>]*>"),
                  "Whatever stands between brackets goes, also where it is no tag: a tag has a letter right behind its bracket or its "
                  "slash."),
            Wrong(clean_variant(pattern=r"</?[^\W\d_][^<>]*>"),
                  "A bracket before a letter of any alphabet goes: a tag begins with one from a to z or A to Z."),
            Wrong(clean_variant(pattern=r"</?[A-Za-z][^<>\n]*>"),
                  "A tag that goes over two lines stays: a line feed is a character like any other, and in a pattern the dot leaves it out."),
            Wrong(clean_variant(before=str.lower), "The text comes back in lower case: only tags and white space are to change."),
            Wrong(lambda text: clean_variant()(clean_variant()(text)),
                  "You look again at what is left, and find tags that stand only there, put together from both sides of another tag: look once."),
            Wrong(clean_variant(pattern=r"<[A-Za-z/][^<>]*>"),
                  "A bracket with a slash goes, whatever stands behind the slash: only a letter there makes it a tag. A broken heart, </3, is "
                  "none."),
            Wrong(clean_variant(pattern=r"<[^>]*>"),
                  "A lone bracket, such as a heart's, swallows all text up to the next tag: the text of a tag may hold no second opening"
                  " bracket, and a tag starts with a letter."),
            Wrong(clean_variant(pattern=r"</?[A-Za-z].*>"),
                  "The match is greedy: from the first tag to the last bracket, everything between them is gone, text as well."),
            Wrong(clean_variant(after=str.strip),
                  "White space is not squeezed: where two tags or a line feed stood, several spaces are left."),
            Wrong(clean_variant(after=lambda text: re.sub(" +", " ", text).strip(" ")),
                  "Only plain spaces are squeezed: tabs, line feeds and the space that never breaks are white space, too."),
            Wrong(clean_variant(before=html.unescape),
                  "Entities are turned into characters before the tags go, so a bracket that the author wrote about is taken for one of "
                  "the page's: leave entities as they are."),
        ),
    ),
    Check(
        id="sources.expected_leaks",
        name="expected_leaks",
        cases=leak_cases,
        reference=leaks_by_counting,
        right=(leaks_by_rows, leaks_variant(lambda size, rows, held: size * held / rows - size * all_held(size, rows, held))),
        wrong=(
            Wrong(leaks_variant(lambda size, rows, held: size * (held / rows) * (1 - (held / rows) ** (size - 1))),
                  "The copies are drawn as if each had a lot of its own, but seats are limited: once a row has taken one, its copies "
                  "find one seat less among one row less."),
            Wrong(leaks_variant(lambda size, rows, held: size * (size > 1) * held / rows * (rows - held) / (rows - 1)),
                  "Every row is treated as if it had one twin: with more copies than two, it is enough that any one of them is in "
                  "training."),
            Wrong(leaks_variant(lambda size, rows, held: size * (size - 1) * held / rows * (rows - held) / max(1, rows - 1)),
                  "Pairs of copies on two sides are counted, so a row with two copies in training counts twice: count the row once, "
                  "however many copies it has there."),
            Wrong(leaks_variant(lambda size, rows, held: 1 - all_held(size, rows, held) - all_held(size, rows, rows - held)),
                  "Documents on both sides are counted, not validation rows: of a document that stands three times, two rows may be held"
                  " out, and both have leaked."),
            Wrong(leaks_variant(lambda size, rows, held: (size - 1) * held / rows),
                  "Extra copies that are held out are counted: which of the copies is the extra one does not matter, what matters is "
                  "whether another is in training."),
            Wrong(leaks_variant(lambda size, rows, held: size * (rows - held) / rows - size * all_held(size, rows, rows - held)),
                  "The sides are swapped: these are the training rows with a copy in validation."),
            Wrong(leaks_variant(lambda size, rows, held: size * (1 - all_held(size, rows, held) / (held / rows))),
                  "This asks only whether a copy is in training: the row itself has to be held out as well, which is not certain."),
        ),
    ),
    Check(
        id="sources.seen_share",
        name="seen_share",
        cases=overlap_cases,
        reference=overlap_by_search,
        right=(overlap_variant(), overlap_by_flags),
        wrong=(
            Wrong(overlap_variant(share="runs"),
                  "That is the share of runs that were seen, not of words: a run stands for all the words in it, and a text has fewer "
                  "runs than words."),
            Wrong(overlap_variant(share="jaccard"),
                  "That is the Jaccard similarity, shared runs over all runs of both: it sinks with every training text, though the "
                  "quotation stays as long as it is."),
            Wrong(overlap_variant(share="twice"),
                  "Words that lie in several seen runs are counted several times, so the share may pass one: a word is seen or it is "
                  "not."),
            Wrong(overlap_variant(marked=1), "Only the first word of each seen run is marked: all words of the run were seen."),
            Wrong(overlap_variant(words_of=str.split, others_of=str.split),
                  "Capitals make another word here: compare the words in lower case, or a quotation at the start of a sentence is "
                  "missed."),
            Wrong(overlap_variant(others_of=str.split),
                  "The text is compared in lower case and the training texts as they are: a sentence that begins with a capital there "
                  "is missed."),
            Wrong(overlap_variant(words_of=lambda text: re.findall(r"\w+", text.lower()), others_of=lambda text: re.findall(r"\w+", text.lower())),
                  "Punctuation is taken off, so that a word with a comma is the same as the word: a word here is what `split()` gives."),
            Wrong(overlap_of_words,
                  "A word that lies in a seen run counts as seen wherever it stands: words count by their place."),
            Wrong(overlap_variant(joined=True),
                  "The training texts are read as one long text, so a run may begin in one and end in the next: nobody wrote that run."),
            *(Wrong(overlap_in_letters(*edges),
                    "The run is searched for as letters, so it is also found where a longer word only ends or begins like its first or "
                    "last one: compare whole words.") for edges in (("", ""), (" ", ""), ("", " "))),
            Wrong(bag_overlap,
                  "Single words that occur in training are counted: nearly every word does, a quotation is a whole run of them."),
        ),
    ),
    Check(
        id="sources.honest_exam",
        name="honest_exam",
        cases=exam_cases,
        reference=exam_in_arrays,
        right=(exam_variant(), exam_with_dicts),
        wrong=(
            Wrong(exam_variant(choose="all"),
                  "The words are still chosen with the labels of the validation rows: whatever looks at those labels before the exam is "
                  "training, the choice of words too."),
            Wrong(exam_variant(choose="all", score="all"),
                  "Choice and scores now both come from all rows, so both have seen the answers: the exam is as dishonest as it can be."),
            Wrong(exam_variant(score="all"),
                  "The choice is honest now, but the scores are counted in the validation rows as well: they know the answers."),
            Wrong(exam_variant(choose="validation"),
                  "The words are chosen by the validation rows alone: that is the leak itself, only stronger."),
            Wrong(exam_variant(choosy=False),
                  "All words have a vote: the leak is gone, and the choice with it. Choose num_words words, from training rows."),
            Wrong(exam_variant(size=int),
                  "Only words that lean towards praise are chosen: a word that leans towards complaint tells as much, so the size of the"
                  " leaning counts, not its sign."),
            Wrong(exam_variant(tie=lambda word: 0),
                  "Of words that lean equally strongly you choose those that come first in the bags: it should be the first by the "
                  "alphabet, so that the order of the rows decides nothing."),
            Wrong(exam_variant(vote=np.sign),
                  "Each chosen word has one vote: it should vote with its leaning, so that a strong word outweighs two weak ones."),
            Wrong(exam_variant(examined="train"),
                  "These are guesses for the training rows, in which the words were counted: an exam is held on rows that nothing was "
                  "learned from."),
        ),
    ),
    Check(
        id="sources.split_indices",
        name="split_indices",
        builds="data.sources.split_indices",
        cases=split_cases,
        reference=split_by_asking,
        right=(split_variant(), split_by_number),
        wrong=(
            Wrong(cut_after_shuffle,
                  "Shuffle and cut: copies of one document end up on both sides, and the validation loss measures memory."),
            Wrong(split_variant(key_of=str),
                  "Documents are compared letter by letter: a copy with another full stop or line break counts as another document and "
                  "leaks. Without keys, duplicate_key says what is equal."),
            Wrong(split_variant(keyed=False),
                  "The keys are not used: whoever gives them says what belongs together, the film for instance, and the texts cannot "
                  "tell."),
            Wrong(split_variant(too_large="stop"),
                  "It stops at the first document that is too large for the seats left, so validation stays smaller than it has to: "
                  "later documents may fit."),
            Wrong(split_variant(too_large="take"),
                  "A document is held out though it has more rows than there are seats left, so more rows than asked for leave training."),
            Wrong(split_variant(rarest=False),
                  "Where every document has more copies than there are seats, validation stays empty: then the one with the fewest rows "
                  "goes, whole."),
            Wrong(split_variant(walk="file"),
                  "The documents are taken in the order of the file, so the first ones are always held out, whatever the seed: walk "
                  "through them as the shuffle shows them."),
            Wrong(split_variant(result="grouped"),
                  "The right rows, but document after document: copies stand side by side, and training would see them in one batch. "
                  "Keep the order of the shuffle."),
            Wrong(split_variant(result="sorted"),
                  "The right rows, but in the order of the file: they should come shuffled, because files are sorted in ways that harm "
                  "training."),
            Wrong(split_variant(shuffled=legacy_shuffle),
                  "Another shuffle: np.random.seed and RandomState are NumPy's old generator, and the exercise asks for "
                  "np.random.default_rng, so that your split is everybody's."),
            Wrong(split_variant(shuffled=python_shuffle),
                  "Another shuffle: Python's random draws other numbers from the same seed than NumPy's default_rng, and the split "
                  "should be everybody's."),
            Wrong(split_variant(check=lambda *inputs: None),
                  "Impossible orders are filled in silence: a number of rows that is not there, or keys that do not match the texts, "
                  "must raise a ValueError at the door."),
            Wrong(split_variant(check=checked_for_training),
                  "Holding out all rows is refused: num_validation may be as large as the number of texts, only not larger."),
            Wrong(lambda texts, num_validation, seed=0, keys=None: split_variant()(texts, num_validation, seed, keys or None),
                  "An empty list of keys is taken for none: it is a list with too few keys, and `keys is None` asks what `not keys` does not."),
        ),
    ),
)
