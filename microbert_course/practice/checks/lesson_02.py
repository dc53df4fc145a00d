"""Checks of the exercises on WordPiece."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate, combinations, pairwise, takewhile

import numpy as np
import torch
from tokenizers import models

from microbert_course.data.wordpiece import SPECIAL_TOKENS, learned_joins, wordpiece_letters
from microbert_course.errors import CourseError
from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.uses.lesson_02 import spell

UNKNOWN = ["[UNK]"]
ALPHABET = "abcdefghijklmnopqrstuvwxyzäéß"


def letters(rng: np.random.Generator, number: int) -> list[str]:
    return rng.choice(list(ALPHABET), size=number, replace=False).tolist()


def numbered(pieces: Iterable[str]) -> dict[str, int]:
    return {piece: id for id, piece in enumerate(dict.fromkeys(["[PAD]", "[UNK]", *pieces]))}


def chance_words(rng: np.random.Generator, alphabet: Sequence[str], number: int, longest: int) -> list[str]:
    return ["".join(rng.choice(alphabet, size=rng.integers(2, longest + 1))) for _ in range(number)]


def chance_pieces(rng: np.random.Generator, words: Sequence[str], number: int) -> list[str]:
    "Beginnings and inner parts of the words."
    found = []
    for _ in range(number):
        word = words[rng.integers(len(words))]
        start = int(rng.integers(len(word))) * int(rng.integers(2))
        found.append("##" * (start > 0) + word[start:start + int(rng.integers(1, 5))])
    return found


def spelling_cases(rng: np.random.Generator) -> list[Case]:
    "Words that test one rule each, then words by chance with a vocabulary by chance."
    a, b, c, d, e, strange = letters(rng, 6)
    vocab = numbered([a, b, f"##{a}", f"##{b}", f"##{c}", a + b, f"##{b}{c}", a + b + c, f"##{c}{d}", f"{e}{a}", e, f"{a}X"])
    words = [a + b + c, a + b + c + d, a + b + a + b + c, b + b + c, e + a + c, a + b + strange + c, d + a, strange, a + e, f"{a}X", ""]
    long = [a + b * 99, a + b * 100, a + c * 98 + d, strange * 101]
    cases = [{"words": rng.permutation(words).tolist(), "vocab": vocab}, {"words": long, "vocab": vocab}]
    for size, number in ((3, 12), (5, 30)):
        alphabet = letters(rng, size)
        words = chance_words(rng, alphabet, 15, 9)
        single = [*alphabet, *(f"##{letter}" for letter in alphabet[1:])]  # the first letter is not known inside words
        cases.append({"words": words, "vocab": numbered([*single, *chance_pieces(rng, words, number)])})
    return cases


def library_spelling(word: str, vocab: Mapping[str, int]) -> list[str]:
    return [token.value for token in models.WordPiece(dict(vocab), unk_token="[UNK]", max_input_chars_per_word=100).tokenize(word)]


def spelling_variant(prefix: str = "##", first: str = "", lengths: Callable = reversed, longest: int = 100, unknown: str = "word",
                     result: Callable = lambda pieces, vocab: pieces) -> Callable:
    "The longest match with one thing done otherwise."

    def wordpiece_encode(word: str, vocab: Mapping[str, int]) -> list[str]:
        pieces, start = [], 0
        while start < len(word) <= longest:
            mark = prefix if start else first
            fits = [mark + word[start:end] for end in lengths(range(start + 1, len(word) + 1)) if mark + word[start:end] in vocab]
            if not fits and unknown != "letter":
                return result(pieces + UNKNOWN if unknown == "rest" else UNKNOWN, vocab)
            pieces.append(fits[0] if fits else "[UNK]")
            start += len(fits[0]) - len(mark) if fits else 1
        return result(pieces if len(word) <= longest else UNKNOWN, vocab)

    return wordpiece_encode


def spell_recursively(word: str, vocab: Mapping[str, int], mark: str = "") -> list[str]:
    "The longest first piece, then the rest of the word in the same way."
    if not word or len(word) > 100:
        return UNKNOWN if word else []
    for end in range(len(word), 0, -1):
        if mark + word[:end] in vocab:
            rest = spell_recursively(word[end:], vocab, "##")
            return UNKNOWN if rest == UNKNOWN else [mark + word[:end], *rest]
    return UNKNOWN


def spell_by_shortening(word: str, vocab: Mapping[str, int]) -> tuple[str, ...]:
    "BERT's own way: shorten the rest from the right until it is a piece."
    if len(word) > 100:
        return ("[UNK]",)
    pieces, rest = [], word
    while rest:
        piece = rest
        while piece and piece not in vocab:
            piece = piece[:-1] if piece != "##" else ""
        if not piece or piece == "##":
            return ("[UNK]",)
        pieces.append(piece)
        rest = rest[len(piece):] and "##" + rest[len(piece):]
    return tuple(pieces)


def coverage_cases(rng: np.random.Generator) -> list[Case]:
    "Shares that lie well between two neighbouring numbers of words, so that rounding decides nothing."
    cases = [{"num_words": 1, "share": 0.5}]
    for num_words in rng.integers((*[30] * 12, 200, 1_000, 3_000), (*[60] * 12, 400, 2_000, 5_000)).tolist():  # an estimate may be right half of the time
        needed = int(rng.integers(num_words // 10, num_words // 3))
        below = math.fsum(1 / rank for rank in range(1, needed))
        share = (below + rng.uniform(0.2, 0.8) / needed) / math.fsum(1 / rank for rank in range(1, num_words + 1))
        cases.append({"num_words": num_words, "share": share})
    return cases


def words_by_leaving_out(num_words: int, share: float) -> int:
    "Strike the rarest word as long as enough is left."
    total = left = math.fsum(1 / rank for rank in range(1, num_words + 1))
    while num_words > 1 and left - 1 / num_words >= share * total:
        left, num_words = left - 1 / num_words, num_words - 1
    return num_words


def words_by_adding(num_words: int, share: float) -> int:
    covered = list(accumulate(1 / rank for rank in range(1, num_words + 1)))
    return next(rank for rank, so_far in enumerate(covered, 1) if so_far >= share * covered[-1])


def words_by_bisection(num_words: int, share: float) -> int:
    covered = np.cumsum(1 / np.arange(1, num_words + 1))
    return int(np.searchsorted(covered, share * covered[-1])) + 1


def words_in_torch(num_words: int, share: float) -> torch.Tensor:
    covered = (1 / torch.arange(1, num_words + 1, dtype=torch.float64)).cumsum(0)
    return (covered < share * covered[-1]).sum() + 1


def join_cases(rng: np.random.Generator) -> list[Case]:
    "Pieces that begin or end as the pair does, pairs in a row, runs of one letter, signs that mean something in a pattern, one of them the mark's own."
    a, b, c, d, e = letters(rng, 5)
    first = [f"{a} ##{b}", f"{a} ##{b}{c} ##{d}", f"{d}{a} ##{b} ##{c}", f"{c} ##{a} ##{b}", f"{a} ##{b} ##{a} ##{b}", f"{a} ##{c} ##{b}",
             f"{a} ##{b} ##{b} ##{e}", a]
    inner = [f"{a} ##{b} ##{c} ##{b} ##{c}", f"{a} ##{b} ##{c}{a}", f"{e} ##{a}{b} ##{c}", f"{b} ##{c}",
             f"{d} ##{b} ##{c} ##{b} ##{c} ##{b} ##{c} ##{e}"]
    runs = [" ".join([letter, *[f"##{a}"] * number]) for letter, number in zip((a, b, c, d, e), (1, 2, 3, 4, 5), strict=True)]
    sign, other = rng.permutation([*"+.*?$|("])[:2].tolist()
    signs = [f"{a} ##{sign} ##{other}", f"{a} ##{sign} ##{b}", f"{b} ##{sign} ##{other} ##{sign} ##{other}", f"{c} ##{c} ##{d}"]
    return [{"spellings": rng.permutation(spellings).tolist(), "left": left, "right": right}
            for spellings, left, right in ((first, a, f"##{b}"), (inner, f"##{b}", f"##{c}"), (runs, f"##{a}", f"##{a}"),
                                           (signs, f"##{sign}", f"##{other}"), ([f"{c} ###"], c, "###"), (first[:1], a, f"##{b}"))]


def join_in_list(spellings: Sequence[str], left: str, right: str) -> list[str]:
    "Piece by piece onto a new list."
    found = []
    for spelling in spellings:
        pieces, rest = [], spelling.split(" ")
        while rest:
            taken = 2 if rest[:2] == [left, right] else 1
            pieces.append(rest[0] + "".join(piece.removeprefix("##") for piece in rest[1:taken]))
            rest = rest[taken:]
        found.append(" ".join(pieces))
    return found


def join_variant(before: str = r"(?<!\S)", after: str = r"(?!\S)", escape: Callable = re.escape, count: int = 0,
                 glue: Callable = lambda piece: piece[2:]) -> Callable:
    "Joining by a pattern with one thing done otherwise."

    def mended_join(spellings: Sequence[str], left: str, right: str) -> list[str]:
        pattern = re.compile(f"({before}){escape(f'{left} {right}')}({after})")
        joined = left + glue(right)
        return [pattern.sub(lambda found: found[1] + joined + found[2], spelling, count=count) for spelling in spellings]

    return mended_join


def join_in_place(spellings: Sequence[str], left: str, right: str) -> list[str]:
    "As the lesson's loop does it: replace two list items by one."
    found = []
    for spelling in spellings:
        pieces, i = spelling.split(), 0
        while i < len(pieces) - 1:
            if pieces[i] == left and pieces[i + 1] == right:
                pieces[i:i + 2] = [left + right.removeprefix("##")]
            i += 1
        found.append(" ".join(pieces))
    return found


def join_twice(spellings: Sequence[str], left: str, right: str) -> list[str]:
    "Looks at every pair of neighbours, also at one whose left piece has just been joined."
    found = []
    for spelling in spellings:
        pieces = spelling.split()
        is_pair, joined = [*(pair == (left, right) for pair in pairwise(pieces)), False], []
        for i, piece in enumerate(pieces):
            if is_pair[i]:
                joined.append(piece + pieces[i + 1][2:])
            elif i == 0 or not is_pair[i - 1]:
                joined.append(piece)
        found.append(" ".join(joined))
    return found


def size_cases(rng: np.random.Generator) -> list[Case]:
    "Thresholds that a join just reaches, runs of one letter, a rare word; no words at all, and a threshold of none."
    cases = []
    for number, longest in ((8, 5), (14, 7)):
        words = chance_words(rng, letters(rng, 4), number, longest)
        counts = {word: int(rng.integers(1, 9)) for word in words}
        joins = [count for _, _, count in recounted_joins(counts)]
        cases.append({"word_counts": counts, "min_count": joins[len(joins) // 3]})
    a, b, c = letters(rng, 3)
    runs = {a * 9: 3, a * 4: 5, b + c: 7, b: int(rng.integers(8, 20))}
    return [*cases, {"word_counts": runs, "min_count": 1}, {"word_counts": {a + b: 4, b + c: 2, c: 9}, "min_count": 5},
            {"word_counts": {}, "min_count": 3}, {"word_counts": {a + b: 4}, "min_count": 0}]


def first_pieces(word: str) -> list[str]:
    return [word[0], *(f"##{letter}" for letter in word[1:])]


def starting_pieces(word_counts: Mapping[str, int]) -> list[str]:
    "The letters, then the letters inside words, by the alphabet."
    return [*sorted({letter for word in word_counts for letter in word}),
            *sorted({piece for word in word_counts for piece in first_pieces(word)[1:]})]


def recounted_joins(word_counts: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    "The joins, all pairs counted anew before each; of equally frequent ones the older goes first."
    spellings = {word: " ".join(first_pieces(word)) for word in word_counts}
    known = starting_pieces(word_counts)
    while True:
        pairs = Counter()
        for word, spelling in spellings.items():
            for pair in pairwise(spelling.split(" ")):
                pairs[pair] += word_counts[word]
        if not pairs:
            return
        left, right = min(pairs, key=lambda pair: (-pairs[pair], known.index(pair[0]), known.index(pair[1])))
        yield left, right, pairs[left, right]
        spellings = dict(zip(spellings, join_in_list(list(spellings.values()), left, right), strict=True))
        known += [left + right[2:]] * (left + right[2:] not in known)


def size_variant(specials: int = 5, start: Callable = starting_pieces, enough: Callable = lambda count, least: count >= least,
                 joins: Callable = recounted_joins, guarded: bool = True) -> Callable:
    "The rule with one thing done otherwise."

    def choose_vocab_size(word_counts: Mapping[str, int], min_count: int = 100) -> int:
        if guarded and (min_count < 1 or not word_counts):
            raise CourseError(f"min_count {min_count}, {len(word_counts)} words")
        pieces = list(start(word_counts))
        for left, right, count in joins(word_counts):
            if not enough(count, min_count):
                break
            pieces.append(left + right.removeprefix("##"))
        return specials + len(pieces)

    return choose_vocab_size


def counted_once(word_counts: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    "Pairs of letters by their counts, which no join changes."
    pairs = Counter()
    for word, count in word_counts.items():
        for pair in pairwise(first_pieces(word)):
            pairs[pair] += count
    yield from ((left, right, count) for (left, right), count in pairs.most_common())


def joins_of_types(word_counts: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    return recounted_joins(dict.fromkeys(word_counts, 1))


def size_by_words(word_counts: Mapping[str, int], min_count: int = 100) -> int:
    if min_count < 1 or not word_counts:
        raise CourseError(f"min_count {min_count}, {len(word_counts)} words")
    return 5 + len({*starting_pieces(word_counts), *(word for word, count in word_counts.items() if count >= min_count)})


def size_by_filter(word_counts: Mapping[str, int], min_count: int = 100) -> int:
    "Filters all joins instead of stopping: their counts never rise."
    if not word_counts or not min_count > 0:
        raise CourseError("nothing to choose from")
    joined = {left + right[2:] for left, right, count in recounted_joins(word_counts) if count >= min_count}
    return 5 + len(joined | set(starting_pieces(word_counts)))


def size_by_library(word_counts: Mapping[str, int], min_count: int = 100) -> torch.Tensor:
    "With the lesson's two tools, stopping at the first join that is too rare; a tensor of no dimensions is a number, too."
    if min_count <= 0 or not len(word_counts):
        raise CourseError("nothing to choose from")
    pieces = wordpiece_letters(word_counts)
    often = takewhile(lambda join: join[2] >= min_count, learned_joins(word_counts, pieces))
    return torch.tensor(len(SPECIAL_TOKENS) + len(pieces) + sum(1 for _ in often))


def fewest_cases(rng: np.random.Generator) -> list[Case]:
    "Words on which greed needs more pieces or gets lost, words with several shortest spellings of two and of three pieces, words with none."
    a, b, c, d, e = letters(rng, 5)
    inner = (a, b, c, d, b + c, c + d, b + c + d, c + d + e, a + b, e + a)
    vocab = numbered([a, b, c, d, a + b, a + b + c, d + a + b, *(f"##{piece}" for piece in inner)])
    words = [a + b + c + d + e, a + b + c + d, a + b + c, d + e, a + b + a + b + c, c + b + c + d, d + a + b + c, a + b + c + d + e + a, e,
             d + d, ""]
    cases = [{"words": rng.permutation(words).tolist(), "vocab": vocab}]
    for size, number, longest in ((2, 10, 9), (3, 24, 10), (4, 30, 8)):
        alphabet = letters(rng, size)
        words = chance_words(rng, alphabet, 14, longest)
        single = [*alphabet, *(f"##{letter}" for letter in alphabet)][: -1 if size > 2 else None]
        cases.append({"words": words, "vocab": numbered([*single, *chance_pieces(rng, words, number)])})
    return cases


def pieces_of(word: str, cuts: Sequence[int], mark: str) -> list[str]:
    return [mark * (start > 0) + word[start:end] for start, end in pairwise([0, *cuts, len(word)])]


def fewest_variant(key: Callable = lambda pieces: (len(pieces), [-len(piece) for piece in pieces]), mark: str = "##",
                   best: Callable = min) -> Callable:
    "All ways to cut the word, by another notion of the best."

    def fewest_pieces(word: str, vocab: Mapping[str, int]) -> list[str]:
        cuts = [cut for number in range(len(word)) for cut in combinations(range(1, len(word)), number)]
        spellings = [pieces_of(word, cut, mark) for cut in cuts]
        known = [pieces for pieces in spellings if all(piece in vocab for piece in pieces)]
        return best(known, key=key) if known else UNKNOWN if word else []

    return fewest_pieces


def fewest_from_the_end(word: str, vocab: Mapping[str, int]) -> list[str]:
    "A table from the last letter to the first."
    best = {len(word): []}
    for start in range(len(word) - 1, -1, -1):
        for end in range(len(word), start, -1):
            piece = "##" * (start > 0) + word[start:end]
            if piece in vocab and end in best and (start not in best or 1 + len(best[end]) < len(best[start])):
                best[start] = [piece, *best[end]]
    return best.get(0, ["[UNK]"])


def fewest_with_memory(word: str, vocab: Mapping[str, int]) -> list[str]:
    "Top down, remembering."

    @cache
    def rest(start: int) -> tuple[str, ...] | None:
        if start == len(word):
            return ()
        pieces = [("##" if start else "") + word[start:end] for end in range(start + 1, len(word) + 1)]
        found = [(piece, *after) for end, piece in enumerate(pieces, start + 1) if piece in vocab and (after := rest(end)) is not None]
        return min(found, key=lambda spelling: (len(spelling), -len(spelling[0])), default=None)

    return list(UNKNOWN if rest(0) is None else rest(0))


def greedy_from_the_end(word: str, vocab: Mapping[str, int]) -> list[str]:
    pieces, end = [], len(word)
    while end:
        start = next((start for start in range(end) if "##" * (start > 0) + word[start:end] in vocab), None)
        if start is None:
            return UNKNOWN
        pieces, end = ["##" * (start > 0) + word[start:end], *pieces], start
    return pieces


CHECKS = (
    Check(
        id="wordpiece.encode",
        name="wordpiece_encode",
        builds="data.wordpiece.wordpiece_encode",
        use=spell,
        cases=spelling_cases,
        reference=library_spelling,
        right=(spelling_variant(), spell_recursively, spell_by_shortening),
        wrong=(
            Wrong(spelling_variant(lengths=iter),
                  "The shortest piece that fits is taken: words fall into letters, and the long pieces, for which the vocabulary was "
                  "learned, are never used."),
            Wrong(spelling_variant(prefix=""),
                  "Inner pieces are looked up without ##: able the word and ##able the ending are two pieces, and the model would read "
                  "the wrong one."),
            Wrong(spelling_variant(first="##"),
                  "The first piece is looked up with ## as well: only a piece that continues a word carries the mark."),
            Wrong(spelling_variant(unknown="rest"),
                  "Where nothing fits, the pieces found so far are kept: a word that cannot be spelled to its end is one [UNK], all of "
                  "it, as BERT saw it when it was trained."),
            Wrong(spelling_variant(unknown="letter"),
                  "Only the letter that nobody knows becomes [UNK]: in BERT it takes the whole word with it."),
            Wrong(lambda word, vocab: spelling_variant()(word.lower(), vocab),
                  "Words are put into lower case first: whether to do so was decided before the vocabulary was learned, and here the word is as it is."),
            Wrong(spelling_variant(longest=10**6),
                  "Words of any length are spelled: beyond 100 letters a word is [UNK], or a page without spaces would cost quadratic "
                  "time and say nothing."),
            Wrong(spelling_variant(longest=99),
                  "A word of exactly 100 letters is given up: it may still be spelled, only longer ones are [UNK]."),
            Wrong(fewest_from_the_end,
                  "It steps back where the longest piece leads nowhere, or finds a shorter spelling: BERT's rule is greedy, the longest "
                  "piece stays, whatever comes of it."),
            Wrong(spelling_variant(result=lambda pieces, vocab: [vocab[piece] for piece in pieces]),
                  "These are the ids: the pieces themselves are asked for, their numbers are the next stage."),
            Wrong(spelling_variant(result=lambda pieces, vocab: [piece.removeprefix("##") for piece in pieces]),
                  "The pieces come back without their ##: then nobody can look them up, or tell where a word begins."),
        ),
    ),
    Check(
        id="wordpiece.coverage",
        name="words_needed",
        cases=coverage_cases,
        reference=words_by_leaving_out,
        right=(words_by_bisection, words_by_adding, words_in_torch),
        wrong=(
            Wrong(lambda num_words, share: math.ceil(share * num_words),
                  "That would be right if all words were equally frequent: the first ones cover far more text than their number, that is"
                  " Zipf's law."),
            Wrong(lambda num_words, share: max(1, words_by_bisection(num_words, share) - 1),
                  "One word too few: with so many, the list still covers less than the share. Count the word that takes it over the "
                  "line."),
            Wrong(lambda num_words, share: words_by_leaving_out(num_words, 1 - share),
                  "This covers the share that was to stay unknown: the list must cover the other part."),
            Wrong(lambda num_words, share: math.ceil(num_words**share),
                  "A good estimate, and not the number: the sum of 1/rank is the logarithm plus a constant near 0.577, and the constant "
                  "matters here. Add the terms up."),
            Wrong(lambda num_words, share: math.ceil(math.exp(share * (math.log(num_words) + 0.5772) - 0.5772)),
                  "A very good estimate, and half of the time one word too many: the logarithm plus 0.577 is what the sum of 1/rank comes near to, and "
                  "not the sum. Add the terms up."),
            Wrong(lambda num_words, share: 1,
                  "The terms 1/rank are compared with the share as they are: they are counts, so divide by the sum of all of them first."),
            Wrong(lambda num_words, share: words_by_leaving_out(20_000, share),
                  "This does not depend on num_words: the rarer words are text as well, and the more there are, the longer the list has "
                  "to be."),
        ),
    ),
    Check(
        id="wordpiece.join",
        name="mended_join",
        cases=join_cases,
        reference=join_in_list,
        right=(join_variant(), join_in_place),
        wrong=(
            Wrong(join_variant(before="", after=""),
                  "The pair is still found inside longer pieces: the end of one piece and the beginning of the next are not the two "
                  "pieces themselves."),
            Wrong(join_variant(before=""),
                  "The right end is mended, the left one is not: a longer piece that ends as the left one does is joined as well."),
            Wrong(join_variant(after=""),
                  "The left end is mended, the right one is not: a longer piece that begins as the right one does is torn apart, and its"
                  " first letters are joined."),
            Wrong(join_variant(before="(?:^| )", after="(?: |$)"),
                  "The space behind a pair is used up, so a second pair right after it is not found: look at what stands there without "
                  "taking it."),
            Wrong(join_variant(count=1), "Only the first pair of a word is joined: all of them go, from left to right."),
            Wrong(join_variant(glue=str),
                  "The ## stays in the middle of the joined piece: it marks where a piece continues a word, and inside a piece there is "
                  "no such place."),
            Wrong(join_variant(glue=lambda piece: piece.lstrip("#")),
                  "All signs # at the beginning of the right piece go, also one that the text has: exactly two of them are the mark."),
            Wrong(join_variant(escape=str),
                  "The pieces are read as a pattern, in which signs such as + and . mean something else: a piece means its own letters."),
            Wrong(join_twice,
                  "A piece is used twice: once it is joined to the one before, it is gone. In a run of three equal letters there is one "
                  "pair, not two."),
        ),
    ),
    Check(
        id="wordpiece.vocab_size",
        name="choose_vocab_size",
        builds="data.wordpiece.choose_vocab_size",
        cases=size_cases,
        reference=size_variant(),
        right=(size_by_filter, size_by_library),
        wrong=(
            Wrong(size_variant(enough=lambda count, least: count > least),
                  "A pair seen exactly min_count times is refused: that often is enough."),
            Wrong(size_variant(specials=0),
                  "The five special tokens are missing: they have rows in the table of embeddings like all others."),
            Wrong(size_variant(start=lambda word_counts: []),
                  "Only joined pieces are counted: the letters stay in, however rare, or words could not be spelled."),
            Wrong(size_variant(start=lambda word_counts: {letter for word in word_counts for letter in word}),
                  "A letter at the start of a word and the same letter inside one are two pieces: those with ## are missing."),
            Wrong(size_variant(joins=counted_once),
                  "Pairs are counted once, before any join: each join makes new pairs and takes old ones away."),
            Wrong(size_variant(joins=joins_of_types),
                  "Each different word counts once: a pair is as frequent as it is in the text, so a word counts as often as it occurs."),
            Wrong(size_by_words,
                  "Whole words are counted: the rule asks how often two pieces stand side by side, and many pieces are no words."),
            Wrong(size_variant(guarded=False),
                  "Words that are not there, and a threshold that lets in everything, are taken without a word: both must raise a "
                  "CourseError."),
        ),
    ),
    Check(
        id="wordpiece.fewest_pieces",
        name="fewest_pieces",
        use=spell,
        cases=fewest_cases,
        reference=fewest_variant(),
        right=(fewest_from_the_end, fewest_with_memory),
        wrong=(
            Wrong(spelling_variant(),
                  "That is the greedy match: a long first piece may leave a rest that needs many pieces, or that cannot be spelled at "
                  "all."),
            Wrong(greedy_from_the_end,
                  "That is greedy as well, from the other end: a long last piece may leave a beginning that needs many."),
            Wrong(fewest_variant(key=lambda pieces: (len(pieces), [-len(piece) for piece in reversed(pieces)])),
                  "As few pieces as possible, but where several spellings are as short, the last piece is made the longest: it should be"
                  " the first."),
            Wrong(fewest_variant(key=lambda pieces: (len(pieces), [len(piece) for piece in reversed(pieces)])),
                  "As few pieces as possible, but where several spellings are as short, the last piece is made the shortest. With three "
                  "pieces or more that does not make the first the longest."),
            Wrong(fewest_variant(best=max, key=lambda pieces: (len(pieces), [len(piece) for piece in pieces])),
                  "That is the spelling with the most pieces."),
            Wrong(fewest_variant(mark=""), "Inner pieces are looked up without ##: a piece that continues a word is another one."),
        ),
    ),
)
