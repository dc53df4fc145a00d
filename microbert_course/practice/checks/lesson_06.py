"""Checks of the exercises on masking."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from microbert_course.models.bert import MicroBertConfig, MicroBertForMaskedLM
from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.uses import lesson_06

ERRORS = 6.0  # standard errors allowed: two answers in a thousand million lie further off by chance


def far(count: float, n: float, share: float) -> bool:
    "Whether a count of `n` independent draws lies further from its share than chance would put it."
    return abs(count - n * share) > ERRORS * math.sqrt(n * share * (1 - share)) + 1


def uneven(counts: Tensor, n: Tensor, share: float) -> float:
    "How far the counts spread over their groups of `n`, in standard errors: 0 = as independent coins do, below 0 = too little."
    counts, n = counts[n >= 10], n[n >= 10]
    chi_square = ((counts - n * share) ** 2 / (n * share * (1 - share))).sum().item()
    return (chi_square - len(n)) / math.sqrt(2 * len(n))


# mask_odds

def odds_cases(rng: np.random.Generator) -> list[Case]:
    "Batches of rows of unlike lengths, one with an empty row, one of a single row of one token."
    cases = [{"num_ordinary": rng.permutation([1, *rng.integers(3, 20, size=size).tolist()]).tolist(),
              "mlm_probability": float(np.round(rng.uniform(0.1, 0.45), 3)), "num_words": int(rng.integers(5, 200))} for size in (3, 5)]
    cases[1]["num_ordinary"].append(0)
    return [*cases, {"num_ordinary": [1], "mlm_probability": 0.15, "num_words": int(rng.integers(2, 9))}]


def odds_by_enumeration(num_ordinary: list[int], mlm_probability: float, num_words: int) -> dict[str, float]:
    "Go through coins, fates and random words one at a time."
    differs = 0.8 + sum(0.1 / num_words for word in range(num_words) if word != 0)  # the truth is word 0
    odds = {"asked": 0.0, "changed": 0.0, "silent": 0.0}
    for length in num_ordinary:
        silence = 1.0
        for _ in range(length):
            odds["asked"] += mlm_probability
            odds["changed"] += mlm_probability * differs
            silence *= 1 - mlm_probability
        odds["silent"] += silence
    return odds


def odds_variant(changed: Callable = lambda words: 0.9 - 0.1 / words,
                 silent: Callable = lambda lengths, p: sum((1 - p) ** length for length in lengths), asked: float = 1.0):
    "The formulas with one of them done otherwise."

    def mask_odds(num_ordinary: list[int], mlm_probability: float, num_words: int) -> dict[str, float]:
        total = mlm_probability * sum(num_ordinary)
        return {"asked": asked * total, "changed": changed(num_words) * total, "silent": silent(num_ordinary, mlm_probability)}

    return mask_odds


def odds_in_torch(num_ordinary: list[int], mlm_probability: float, num_words: int) -> dict[str, Any]:
    lengths = torch.tensor(num_ordinary, dtype=torch.float64)
    asked = mlm_probability * lengths.sum()
    return {"silent": torch.exp(lengths * math.log1p(-mlm_probability)).sum(), "asked": asked,
            "changed": asked - asked * (0.1 + 0.1 / num_words)}


MASK_ODDS = Check(
    id="masking.mask_odds",
    name="mask_odds",
    cases=odds_cases,
    reference=odds_by_enumeration,
    right=(odds_variant(), odds_in_torch),
    wrong=(
        Wrong(odds_variant(changed=lambda words: 0.9),
              "Nearly: a random word may be the word that stood there, once in as many draws as there are words, and then nothing has "
              "changed."),
        Wrong(odds_variant(changed=lambda words: 0.8),
              "Only [MASK] counts as changed in yours. A token is changed as well when another word stands in its place."),
        Wrong(odds_variant(changed=lambda words: 1.0),
              "A tenth of the asked tokens is left as it was: asked for and changed are two things."),
        Wrong(odds_variant(asked=0.9),
              "You count the tokens that look different as the asked ones. The model is also asked for those that were left alone."),
        Wrong(odds_variant(silent=lambda lengths, p: math.prod((1 - p) ** length for length in lengths)),
              "That is the chance that the whole batch has no question. Asked for is the number of rows without one: add the rows' "
              "chances up."),
        Wrong(odds_variant(silent=lambda lengths, p: len(lengths) * (1 - p) ** (sum(lengths) / len(lengths))),
              "You take every row to be as long as the mean row. Short rows go without a question far more often than long ones make "
              "up for: go through the rows one by one."),
        Wrong(odds_variant(silent=lambda lengths, p: sum(max(0.0, 1 - p * length) for length in lengths)),
              "Chances of several tokens do not simply add up: two coins may both fall right. A row is silent if its first token is "
              "not chosen and its second is not and so on."),
        Wrong(odds_variant(silent=lambda lengths, p: sum(p ** length for length in lengths)),
              "That is the chance that every token of the row is chosen. Silent is the row in which none is."),
        Wrong(odds_variant(silent=lambda lengths, p: sum(1 - (1 - p) ** length for length in lengths)),
              "You count the rows that do have a question; asked for are those without."),
    ),
)


# what mask_tokens and mask_whole_words share

def is_refused(input_ids: Tensor, special_tokens_mask: Tensor, mask_token_id: int, vocab_size: int, mlm_probability: float,
               num_special_tokens: int, is_continuation: Tensor | None = None, **rest: Any) -> bool:
    "Whether the contract wants a ValueError."
    return (not 0 < mlm_probability < 1 or special_tokens_mask.dtype != torch.bool or special_tokens_mask.shape != input_ids.shape
            or input_ids.dtype != torch.int64 or not 0 <= int(input_ids.min()) <= int(input_ids.max()) < vocab_size
            or not 0 <= mask_token_id < vocab_size or not 0 <= num_special_tokens < vocab_size
            or is_continuation is not None and (input_ids.ndim != 2 or is_continuation.dtype != torch.bool
                                                or is_continuation.shape != (vocab_size,)))


def refused_cases(rng: np.random.Generator, good: Case) -> list[Case]:
    "A small batch with one thing wrong at a time."
    ids, below = good["input_ids"], -int(rng.integers(1, 4))
    return [good | wrong for wrong in (
        *({"mlm_probability": p} for p in (0.0, 1.0, 1.5, -0.15)), {"input_ids": ids.int()},
        {"special_tokens_mask": good["special_tokens_mask"].long()}, {"special_tokens_mask": good["special_tokens_mask"][:1]},
        *({name: outside} for name in ("mask_token_id", "num_special_tokens") for outside in (good["vocab_size"], below)),
        *({"input_ids": torch.full_like(ids, outside)} for outside in (good["vocab_size"], below)))]


def batch_case(rng: np.random.Generator, batch: int, seq: int, vocab: int, num_special: int, mask_token_id: int, p: float) -> Case:
    """Rows that begin and end with a special token and are padded; here and there an ordinary token that must not be chosen.

    As in a text, some words are frequent: the commonest come six times as often as the rarest."""
    frequency = 1 / (1 + np.arange(vocab - num_special) % 6)
    ids = num_special + rng.choice(vocab - num_special, size=(batch, seq), p=frequency / frequency.sum())
    ends = rng.integers(seq // 2, seq, size=(batch, 1))
    place = np.arange(seq)
    ids[:, 0] = 2
    ids = np.where(place == ends, 3, np.where(place > ends, 0, ids))
    is_special = (ids < num_special) | (rng.random((batch, seq)) < 0.05)
    return {"input_ids": torch.from_numpy(ids), "special_tokens_mask": torch.from_numpy(is_special), "mask_token_id": mask_token_id,
            "vocab_size": vocab, "mlm_probability": p, "num_special_tokens": num_special, "seed": int(rng.integers(2**40))}


@dataclass(frozen=True)
class Tally:
    "What became of a batch: who was chosen, and the fate of the chosen, (batch, seq) bool each."

    ids: Tensor
    corrupted: Tensor
    labels: Tensor
    is_special: Tensor
    is_chosen: Tensor
    is_mask: Tensor
    is_same: Tensor
    is_other: Tensor
    num_words: int
    """Ordinary ids that a random word is drawn from: the last ones of the vocabulary."""
    vocab_size: int

    @classmethod
    def of(cls, output: dict[str, Any], case: Case) -> "Tally":
        ids, corrupted, labels = case["input_ids"], output["corrupted"], output["labels"]
        is_chosen = labels != -100
        is_mask, is_same = is_chosen & (corrupted == case["mask_token_id"]), is_chosen & (corrupted == ids)
        return cls(ids, corrupted, labels, case["special_tokens_mask"], is_chosen, is_mask, is_same, is_chosen & ~is_mask & ~is_same,
                   case["vocab_size"] - case["num_special_tokens"], case["vocab_size"])

    def fates(self, mask: float, other: float) -> bool:
        "Whether the chosen became [MASK] and another word in these shares, as far as chance allows to tell."
        n, luck = int(self.is_chosen.sum()), 1 - 1 / self.num_words
        return not (far(int(self.is_mask.sum()), n, mask) or far(int(self.is_other.sum()), n, other * luck))

    def same_word(self, dim: int) -> float:
        "Among pairs of random words in one column (0) or row (1): the share that is the same word twice; 0.0 for too few pairs to say."
        line, word = self.is_other.nonzero()[:, 1 - dim], self.corrupted[self.is_other]
        same, pairs = (int((counts * (counts - 1)).sum()) for counts in
                       (torch.stack([line, word]).unique(dim=1, return_counts=True)[1], torch.bincount(line)))
        return same / pairs if pairs > 40 else 0.0

    def one_fate(self, dim: int) -> bool:
        "Whether all the chosen of every column (0) or row (1) became [MASK] or none of them, where many should differ."
        chosen, masked = self.is_chosen.sum(dim), self.is_mask.sum(dim)
        return int(chosen.sum()) > 1000 and bool(((masked == 0) | (masked == chosen)).all())

    def uneven_words(self) -> float:
        "How unevenly the words of the vocabulary stand in as random ones, in standard errors; 0.0 for too few random words to say."
        if int(self.is_other.sum()) <= 25 * self.num_words:
            return 0.0
        lowest = self.vocab_size - self.num_words
        drawn, there = (torch.bincount(ids, minlength=self.vocab_size)[lowest:] for ids in
                        (self.corrupted[self.is_other], self.ids[self.is_chosen]))
        return uneven(drawn, self.is_chosen.sum() - there, 0.1 / self.num_words)  # a word in its own place is none that stands in


def corruption_fault(output: dict[str, Any], case: Case) -> str | None:
    "What is wrong with everything but the choice."
    for name in ("corrupted", "labels"):
        if output[name].shape != case["input_ids"].shape or output[name].dtype != torch.int64:
            return f"{name} should be int64 of the shape of input_ids"
    tally = Tally.of(output, case)
    random_ids = tally.corrupted[tally.is_other]
    if (tally.is_chosen & tally.is_special).any():
        return "a token that special_tokens_mask forbids was chosen"
    if not torch.equal(tally.labels[tally.is_chosen], tally.ids[tally.is_chosen]):
        return "the label of a chosen token should be its original id"
    if not torch.equal(tally.corrupted[~tally.is_chosen], tally.ids[~tally.is_chosen]):
        return "a token was changed that is not asked for"
    if (random_ids < case["num_special_tokens"]).any() or (random_ids >= case["vocab_size"]).any():
        return "a random id is special or outside the vocabulary"
    if not tally.fates(0.8, 0.1):
        return "the chosen tokens do not become [MASK], random and unchanged in the shares 80, 10 and 10 percent"
    if len(random_ids) > 25 * tally.num_words and len(random_ids.unique()) < tally.num_words:
        return "some ordinary word never stands in as a random one: every one of them should be as likely as any other"
    if max(tally.same_word(0), tally.same_word(1)) > 0.5:
        return "random words of a row or of a column are the same word: draw one for every place"
    if tally.uneven_words() > 2 * ERRORS:
        return "some ordinary words stand in as random ones far more often than others: every one of them should be as likely as any other"
    if tally.is_chosen.sum() > 1000 and any(uneven(tally.is_mask.sum(dim), tally.is_chosen.sum(dim), 0.8) > ERRORS + 2 for dim in (0, 1)):
        return "what becomes of a chosen token is not independent of its neighbours: draw for every place"
    if not output["repeats"]:
        return "a generator in the same state should give the same batch"
    if tally.is_chosen.sum() > 100 and not output["moves on"]:
        return "a generator that has moved on should give another batch"
    return None


def at_good_inputs(seen: Callable[[Tally, dict[str, Any], Case], bool]) -> Callable[[dict[str, Any], Case], bool]:
    "A mistake that shows in the outputs for inputs that are not to be refused."
    return lambda output, case: not is_refused(**case) and bool(seen(Tally.of(output, case), output, case))


def lets_through(output: dict[str, Any], case: Case) -> bool:
    return is_refused(**case)


def share_is(mask: float, other: float) -> Callable[[dict[str, Any], Case], bool]:
    "Whether the fates have these shares, and can be told from the right ones."
    return at_good_inputs(lambda tally, output, case: not tally.fates(0.8, 0.1) and tally.fates(mask, other))


def follows_text(tally: Tally) -> bool:
    "Whether random words are those that are frequent in the batch: their mean frequency, as a multiple of an even draw's."
    ordinary = torch.bincount(tally.ids[~tally.is_special], minlength=tally.vocab_size).double()
    return (ordinary[tally.corrupted[tally.is_other]].mean() * tally.num_words / ordinary.sum()).item() > 1.2


CORRUPTION_ZOO = {  # what a masking function can do wrong with the chosen tokens: its setting in `corrupted`, how it shows, what it is
    "labels of the corrupted": (
        at_good_inputs(lambda tally, output, case: (tally.labels == case["mask_token_id"]).any()),
        "The labels are taken after the tokens were corrupted, so the model is asked for [MASK]. The label is what stood there before."),
    "labels everywhere": (
        at_good_inputs(lambda tally, output, case: tally.labels.numel() > 100 and tally.is_chosen.all()),
        "Tokens that were not chosen have a label other than -100. The loss would ask for them too, and most of them stand in plain "
        "sight."),
    "all [MASK]": (
        share_is(1.0, 0.0),
        "Every chosen token becomes [MASK]. A tenth should become a random word and a tenth stay, or the model is never asked about a "
        "word that it can see."),
    "labels of the changed": (
        at_good_inputs(lambda tally, output, case: tally.is_mask.sum() > 100 and not tally.is_same.any()),
        "Only changed tokens are asked for. The tenth that is left alone has a question too: without it the model may take every "
        "visible word for true."),
    "10/80/10": (
        share_is(0.1, 0.8),
        "The shares of [MASK] and of random words are swapped: 80 percent become [MASK], 10 a random word."),
    "10/10/80": (
        share_is(0.1, 0.1),
        "Most of the chosen tokens are left as they were: 80 percent should become [MASK], 10 stay."),
    "10 % of the rest": (
        share_is(0.8, 0.02),
        "The random words are 10 percent of those that did not become [MASK], 2 percent in all. All three shares are of the chosen "
        "tokens."),
    "special as random": (
        at_good_inputs(lambda tally, output, case: (tally.corrupted[tally.is_other] < case["num_special_tokens"]).any()),
        "Special tokens stand in as random words: ids below num_special_tokens are not words."),
    "one random word": (
        at_good_inputs(lambda tally, output, case: tally.is_other.sum() > 20 and len(tally.corrupted[tally.is_other].unique()) == 1),
        "All random words of a batch are the same word: draw one for every place."),
    "one random word a row": (
        at_good_inputs(lambda tally, output, case: tally.same_word(1) > 0.9 > tally.same_word(0)),
        "All random words of a row are the same word: draw one for every place, (batch, seq)."),
    "one random word a column": (
        at_good_inputs(lambda tally, output, case: tally.same_word(0) > 0.9 > tally.same_word(1)),
        "All rows share one row of random words, so the same false word stands at the same place in each: draw for (batch, seq)."),
    "one fate a row": (
        at_good_inputs(lambda tally, output, case: tally.one_fate(1)),
        "All chosen tokens of a row have the same fate: some rows show only [MASK], others no [MASK] at all. Draw what becomes of a token "
        "for (batch, seq)."),
    "one fate a column": (
        at_good_inputs(lambda tally, output, case: tally.one_fate(0) and tally.is_mask.any()),
        "What becomes of a chosen token is drawn once for each column, so that all rows share it: draw for (batch, seq)."),
    "words of the batch": (
        at_good_inputs(lambda tally, output, case: tally.uneven_words() > 2 * ERRORS and follows_text(tally)),
        "Your random words are drawn by how often they come in the batch: common words stand in again and again, rare ones hardly ever. "
        "Every ordinary word of the vocabulary should be as likely as any other."),
    "last word missing": (
        at_good_inputs(lambda tally, output, case: tally.is_other.sum() > 25 * tally.num_words
                       and tally.corrupted[tally.is_other].max() < case["vocab_size"] - 1),
        "The last word of the vocabulary never stands in as a random one: the upper end of torch.randint is not drawn."),
    "no generator": (
        at_good_inputs(lambda tally, output, case: not output["repeats"] and tally.is_chosen.any()),
        "The generator is not used in every draw: the same generator should give the same batch again, or no run can be repeated."),
}


def corrupted(ids: Tensor, is_chosen: Tensor, case: Case, generator: torch.Generator | None, fault: str = "") -> tuple[Tensor, Tensor]:
    "The chosen tokens corrupted, with one thing of CORRUPTION_ZOO done wrong."
    shares = {"all [MASK]": (1.0, 0.0), "10/80/10": (0.1, 0.8), "10/10/80": (0.1, 0.1), "10 % of the rest": (0.8, 0.02)}
    mask, other = shares.get(fault, (0.8, 0.1))
    lines = {"row": (len(ids), 1), "column": (1, *ids.shape[1:])}  # what one draw a row, or a column, has as its shape
    fate = torch.rand(lines.get(fault.removeprefix("one fate a "), ids.shape), generator=generator)
    shape = (1, 1) if fault == "one random word" else lines.get(fault.removeprefix("one random word a "), ids.shape)
    lowest = 0 if fault == "special as random" else case["num_special_tokens"]
    random_ids = torch.randint(lowest, case["vocab_size"] - (fault == "last word missing"), shape, generator=generator)
    words = ids[ids >= case["num_special_tokens"]]
    if fault == "words of the batch" and len(words):
        random_ids = words[torch.randint(len(words), ids.shape, generator=generator)]
    new = torch.where(fate < mask, case["mask_token_id"], torch.where(fate < mask + other, random_ids, ids))
    new = torch.where(is_chosen, new, ids)
    labels = new if fault == "labels of the corrupted" else ids
    is_asked = {"labels everywhere": torch.ones_like(is_chosen), "labels of the changed": new != ids}.get(fault, is_chosen)
    return new, torch.where(is_asked, labels, -100)


def corruption_wrongs(variant: Callable[..., Callable]) -> tuple[Wrong, ...]:
    "The common part of two zoos."
    return tuple(Wrong(variant(fault=fault), says, seen) for fault, (seen, says) in CORRUPTION_ZOO.items())


# mask_tokens

def mask_tokens_cases(rng: np.random.Generator) -> list[Case]:
    "Two large batches for the statistics, one row in which nothing may be chosen, and inputs to refuse."
    small = batch_case(rng, 3, 5, 9, 5, 4, 0.3)
    nothing = batch_case(rng, 1, 4, 12, 5, 4, 0.9)
    return [batch_case(rng, 120, 200, 105, 5, 4, 0.15), batch_case(rng, 150, 170, 32, 8, 6, float(np.round(rng.uniform(0.42, 0.5), 2))),
            nothing | {"special_tokens_mask": torch.ones(1, 4, dtype=torch.bool)}, *refused_cases(rng, small)]


def mask_tokens_fault(output: dict[str, Any], case: Case) -> str | None:
    if fault := corruption_fault(output, case):
        return fault
    tally = Tally.of(output, case)
    if far(int(tally.is_chosen.sum()), int((~tally.is_special).sum()), case["mlm_probability"]):
        return "the share of ordinary tokens that are chosen is not mlm_probability"
    if not all(-ERRORS < spread(tally, dim) < ERRORS + 2 for dim in (0, 1)):  # chi-square has its long tail on the right
        return "the choices are not independent: each ordinary token should be chosen by a coin of its own"
    if tally.is_chosen.sum() > 1000 and output["always as many"]:  # five draws that agree by chance: 2 in 10⁹
        return "the choices are not independent: a coin for each token does not choose as many every time"
    return None


def spread(tally: Tally, dim: int) -> float:
    "How unevenly the chosen lie over columns (0) or rows (1); 0.0 for batches too small to say."
    possible, share = (~tally.is_special).sum(dim), (tally.is_chosen.sum() / (~tally.is_special).sum()).item()
    return uneven(tally.is_chosen.sum(dim), possible, share) if possible.sum() > 1000 else 0.0


def mask_tokens_variant(choose: str = "a coin each", fault: str = "", checked: str = "on both sides"):
    "Masking with one thing done otherwise."

    def mask_tokens(generator: torch.Generator | None = None, **case: Any) -> tuple[Tensor, Tensor]:
        input_ids, special_tokens_mask = case["input_ids"], case["special_tokens_mask"]
        looked_at = case | {name: abs(case[name]) for name in ("mask_token_id", "num_special_tokens") if checked == "from above"}
        if checked != "nowhere" and is_refused(**looked_at):
            raise ValueError("not a batch to mask")
        batch, seq = input_ids.shape
        generator = None if fault == "no generator" else generator
        luck = torch.rand({"a coin a column": (1, seq), "a coin a row": (batch, 1)}.get(choose, (batch, seq)), generator=generator)
        if choose == "a count a row":
            luck = luck.masked_fill(special_tokens_mask, 2.0).argsort(1).argsort(1) / (~special_tokens_mask).sum(1, keepdim=True)
        if choose == "a count a batch":
            luck = luck.masked_fill(special_tokens_mask, 2.0).flatten().argsort().argsort().view_as(luck) / (~special_tokens_mask).sum()
        forbidden = {"anything": torch.zeros(batch, seq, dtype=torch.bool), "by id": input_ids < case["num_special_tokens"]}
        is_chosen = (luck < case["mlm_probability"]) & ~forbidden.get(choose, special_tokens_mask)
        return corrupted(input_ids, is_chosen, case, generator, fault)

    return mask_tokens


def mask_tokens_in_numpy(generator: torch.Generator | None = None, **case: Any) -> tuple[Tensor, Tensor]:
    "NumPy's dice, rolled only for the tokens that are chosen."
    if is_refused(**case):
        raise ValueError("not a batch to mask")
    dice = np.random.default_rng(int(torch.randint(2**60, (1,), generator=generator)))
    ids, ordinary = case["input_ids"].flatten().numpy(), np.flatnonzero(~case["special_tokens_mask"])
    chosen = ordinary[dice.random(len(ordinary)) < case["mlm_probability"]]
    new, labels, fate = ids.copy(), np.full_like(ids, -100), dice.integers(10, size=len(chosen))
    labels[chosen] = ids[chosen]
    new[chosen[fate < 8]] = case["mask_token_id"]
    new[chosen[fate == 8]] = dice.integers(case["num_special_tokens"], case["vocab_size"], size=(fate == 8).sum())
    return torch.from_numpy(new).view_as(case["input_ids"]), torch.from_numpy(labels).view_as(case["input_ids"])


def mask_tokens_by_bernoulli(generator: torch.Generator | None = None, **case: Any) -> tuple[Tensor, Tensor]:
    "As in transformers' collator: a table of probabilities, then half of the rest random."
    if is_refused(**case):
        raise ValueError("not a batch to mask")
    ids, coin = case["input_ids"], partial(torch.bernoulli, generator=generator)
    is_chosen = coin(torch.full(ids.shape, case["mlm_probability"]).masked_fill(case["special_tokens_mask"], 0.0)).bool()
    is_mask = coin(torch.full(ids.shape, 0.8)).bool() & is_chosen
    is_random = coin(torch.full(ids.shape, 0.5)).bool() & is_chosen & ~is_mask
    new = ids.clone()
    new[is_mask] = case["mask_token_id"]
    new[is_random] = torch.randint(case["num_special_tokens"], case["vocab_size"], ids.shape, generator=generator)[is_random]
    return new, ids.masked_fill(~is_chosen, -100)


SPECIAL_CHOSEN = at_good_inputs(lambda tally, output, case: (tally.is_chosen & (tally.ids < case["num_special_tokens"])).any()
                                and not tally.is_chosen.all())
CHOSEN_BY_ID = at_good_inputs(lambda tally, output, case: (tally.is_chosen & tally.is_special).any() and not tally.is_chosen.all())
MASK_TOKENS = Check(
    id="masking.mask_tokens",
    name="mask_tokens",
    cases=mask_tokens_cases,
    reference=mask_tokens_in_numpy,
    judge=mask_tokens_fault,
    use=lesson_06.masking,
    builds="training.masking.mask_tokens",
    right=(mask_tokens_variant(), mask_tokens_by_bernoulli),
    wrong=(
        *corruption_wrongs(mask_tokens_variant),
        Wrong(mask_tokens_variant("anything"),
              "Special tokens and padding are chosen: they are easy to guess, so the loss looks better and the model learns less. "
              "special_tokens_mask says which places are forbidden.", SPECIAL_CHOSEN),
        Wrong(mask_tokens_variant("by id"),
              "You look at the ids to find out what is forbidden. special_tokens_mask is what decides: it may forbid an ordinary token "
              "as well.", CHOSEN_BY_ID),
        Wrong(mask_tokens_variant("a coin a column"),
              "All rows of the batch share one row of coins, so the same places are hidden in each: draw for (batch, seq).",
              at_good_inputs(lambda tally, output, case: spread(tally, 0) > 20)),
        Wrong(mask_tokens_variant("a coin a row"),
              "There is one coin for a whole row, so a row is asked for everything or for nothing: draw for (batch, seq).",
              at_good_inputs(lambda tally, output, case: spread(tally, 1) > 20)),
        Wrong(mask_tokens_variant("a count a row"),
              "Every row loses the same share of its tokens. Asked for is a coin for each token; the fixed number a row is another "
              "function of the lesson.", at_good_inputs(lambda tally, output, case: spread(tally, 1) < -ERRORS)),
        Wrong(mask_tokens_variant("a count a batch"),
              "Every batch loses the same number of tokens. Asked for is a coin for each token, and coins do not fall alike as often every time.",
              at_good_inputs(lambda tally, output, case: tally.is_chosen.sum() > 1000 and output["always as many"])),
        *(Wrong(mask_tokens_variant(checked=checked),
                "An input that makes no sense is taken without a word: look again at the list of what must raise ValueError, and check "
                "before you draw.", lets_through) for checked in ("nowhere", "from above")),
    ),
)


# mlm_loss

def loss_cases(rng: np.random.Generator) -> list[Case]:
    "Small models with weights far from calm; rows with few questions and many, some of them about a visible word."
    cases = []
    for batch, seq, hidden, heads in ((3, 9, 8, 2), (4, 11, 12, 3), (2, 13, 10, 5)):
        settings = {"vocab_size": 20, "hidden_size": hidden, "num_layers": 1, "num_heads": heads,
                    "intermediate_size": 14, "max_seq_len": 13}
        with torch.device("meta"):
            shapes = {name: weight.shape for name, weight in MicroBertForMaskedLM(MicroBertConfig(**settings)).state_dict().items()}
        lengths = np.array([seq, *rng.integers(6, seq, size=batch - 1)])
        is_real = np.arange(seq) < lengths[:, None]
        ids, labels = np.where(is_real, rng.integers(5, 20, size=(batch, seq)), 0), np.full((batch, seq), -100)
        new = ids.copy()
        for row in range(batch):
            places = rng.permutation(lengths[row])[:3 if row else 5]
            labels[row, places] = ids[row, places]
            new[row, places[2:]] = 4                          # the first stays, the second becomes another word, the others [MASK]
            new[row, places[1]] = 5 + (ids[row, places[1]] - 4) % 15
        state = {name: torch.from_numpy(0.6 * rng.standard_normal(tuple(shape))).float() for name, shape in shapes.items()}
        cases.append({"settings": settings, "state": state,
                      "input_ids": torch.from_numpy(ids), "corrupted": torch.from_numpy(new), "labels": torch.from_numpy(labels),
                      "attention_mask": torch.from_numpy(is_real).long()})
    return cases


def loss_by_places(model: MicroBertForMaskedLM, input_ids: Tensor, corrupted: Tensor, labels: Tensor, attention_mask: Tensor) -> Tensor:
    "Surprise by surprise, one row at a time, without its padding."
    surprises = []
    for ids, asked, length in zip(corrupted, labels.tolist(), attention_mask.sum(1).tolist(), strict=True):
        scores = model(ids[None, :length])[0]                 # (seq, vocab)
        surprises += [scores[place].exp().sum().log() - scores[place, label] for place, label in enumerate(asked) if label != -100]
    return sum(surprises) / len(surprises)


def loss_variant(reads: str = "corrupted", asks: str = "chosen", looks_at: str = "real", mean: str = "tokens"):
    "The loss with what is wrong in the broken one, and more."

    def mlm_loss(model: MicroBertForMaskedLM, input_ids: Tensor, corrupted: Tensor, labels: Tensor, attention_mask: Tensor) -> Tensor:
        mask = {"real": attention_mask, "not asked": (labels == -100).long(), "anything": None}[looks_at]
        logits = model({"corrupted": corrupted, "originals": input_ids}[reads], mask)                   # (batch, seq, vocab)
        targets = {"chosen": labels, "padding": labels.clamp(min=0), "real": input_ids.where(attention_mask == 1, -100),
                   "[MASK]": labels.where(corrupted == 4, -100)}[asks]
        surprise = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")                   # (batch, seq)
        counts = (targets != -100).sum(1)
        return {"tokens": surprise.sum() / counts.sum(), "rows": (surprise.sum(1) / counts).mean(), "places": surprise.mean(),
                "sum": surprise.sum()}[mean]

    return mlm_loss


def loss_where_asked(model: MicroBertForMaskedLM, input_ids: Tensor, corrupted: Tensor, labels: Tensor, attention_mask: Tensor) -> Tensor:
    predict_at = (labels.flatten() != -100).nonzero()[:, 0]
    log_probs = model(corrupted, attention_mask, predict_at=predict_at).double().log_softmax(-1)
    return -log_probs.gather(1, labels.flatten()[predict_at, None]).mean().float()


READS = "the model reads the originals, with every answer in plain sight"
ASKS = "the places that were not chosen are asked for [PAD], so that -100 has lost its meaning"
LOOKS = "the attention mask hides the chosen tokens instead of the padding"
MLM_LOSS = Check(
    id="masking.mlm_loss",
    name="mlm_loss",
    cases=loss_cases,
    reference=loss_by_places,
    use=lesson_06.training_loss,
    tolerance=1e-4,  # rows alone and in a batch, each with float32's rounding
    right=(loss_variant(), loss_where_asked),
    wrong=(
        Wrong(loss_variant("originals", "padding", "not asked"),
              "All three faults are still there. Ask of each argument of the function: where is it used, and where should it be?"),
        Wrong(loss_variant(reads="originals"), f"One fault is left: {READS}."),
        Wrong(loss_variant(asks="padding"), f"One fault is left: {ASKS}."),
        Wrong(loss_variant(looks_at="not asked"), f"One fault is left: {LOOKS}."),
        Wrong(loss_variant("originals", "padding"), f"Two faults are left: {READS}; and {ASKS}."),
        Wrong(loss_variant("originals", looks_at="not asked"), f"Two faults are left: {READS}; and {LOOKS}."),
        Wrong(loss_variant(asks="padding", looks_at="not asked"), f"Two faults are left: {ASKS}; and {LOOKS}."),
        Wrong(loss_variant(looks_at="anything"),
              "The model gets no attention mask: real tokens look at the padding, and the loss depends on how far a row was padded."),
        Wrong(loss_variant(asks="real"),
              "All real tokens are asked for. Most stand in plain sight, so a model that copies looks brilliant: only the chosen ones "
              "count."),
        Wrong(loss_variant(asks="[MASK]"),
              "Only places that show [MASK] are asked for. The chosen tokens that became another word or stayed as they were have a "
              "question too."),
        Wrong(loss_variant(mean="rows"),
              "You take the mean of each row first, so a question in a row with few of them weighs more. Every chosen token should "
              "count the same."),
        Wrong(loss_variant(mean="places"),
              "The sum is divided by all places of the batch, not by the chosen ones: the loss shrinks with every padding that is "
              "added."),
        Wrong(loss_variant(mean="sum"),
              "That is the sum of the surprises. The loss is their mean, or its size changes with the number of questions in the "
              "batch."),
    ),
)


# masks_of_epoch

def epoch_cases(rng: np.random.Generator) -> list[Case]:
    "Rows, epochs and seeds that are neighbours or 0, and rows that lie a round number apart, in the decimal or the binary system."
    cases = []
    first, seed, epoch = int(rng.integers(20, 900)), int(rng.integers(10, 1000)), int(rng.integers(1, 40))
    for seq, p, seeds, epochs in ((150, 0.15, [seed, seed + 1], [epoch - 1, epoch, epoch + 7]), (90, 0.4, [0, 1_000], [0, 1, 2])):
        row_numbers = torch.tensor([0, 1, 2, 12, 256, 1_024, 65_536, *(first + step for step in (0, 1, 7, 10, 100, 1_000, 10_000, 100_000))])
        is_special = torch.from_numpy(rng.random((len(row_numbers), seq)) < 0.2)
        cases.append({"row_numbers": row_numbers, "special_tokens_mask": is_special, "seeds": seeds, "epochs": epochs,
                      "order": torch.from_numpy(rng.permutation(len(row_numbers)))[:5], "mlm_probability": p})
    return cases


def alike(output: dict[str, Any], case: Case) -> list[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    "Pairs of (seed, epoch, row), by index, whose coins fell alike at all places where both rows have an ordinary token."
    masks, ordinary = output["masks"], ~case["special_tokens_mask"]
    names = [(seed, epoch, row) for seed in range(masks.size(0)) for epoch in range(masks.size(1)) for row in range(masks.size(2))]
    coins, may = masks.flatten(0, 2), ordinary.repeat(masks.size(0) * masks.size(1), 1)        # (names, seq)
    differ = ((coins[:, None] != coins) & may[:, None] & may).any(-1)                          # (names, names)
    return [(names[one], names[other]) for one, other in (~differ).tril(-1).nonzero().tolist()]


def epoch_fault(output: dict[str, Any], case: Case) -> str | None:
    masks, is_special = output["masks"], case["special_tokens_mask"]
    if masks.dtype != torch.bool or masks.shape[2:] != is_special.shape:
        return "the result should be bool, of the shape of special_tokens_mask"
    if (masks & is_special).any():
        return "a token that special_tokens_mask forbids was chosen"
    if not torch.equal(output["one by one"], masks[0, 0]) or not torch.equal(output["in order"], masks[0, 0][case["order"]]):
        return "a row's mask depends on which rows come with it, or in what order"
    if alike(output, case):
        return "two rows, epochs or seeds get the same mask"
    if not output["leaves torch alone"]:
        return "torch's global generator is not as it was before the call"
    if far(int(masks.sum()), int((~is_special).sum()) * masks.size(0) * masks.size(1), case["mlm_probability"]):
        return "the share of ordinary tokens that are chosen is not mlm_probability"
    if even_rows(output, case):
        return "the choices are not independent: each ordinary token should be chosen by a coin of its own"
    return None


def even_rows(output: dict[str, Any], case: Case) -> bool:
    "Whether all masks choose the same share of their row's tokens, more evenly than coins do."
    ordinary = (~case["special_tokens_mask"]).sum(1).expand(output["masks"].shape[:-1])
    return uneven(output["masks"].sum(-1), ordinary, case["mlm_probability"]) < -5


def same_for(index: int) -> Callable[[dict[str, Any], Case], bool]:
    "Whether masks are alike whatever the seed (0), the epoch (1) or the row (2) is."

    def seen(output: dict[str, Any], case: Case) -> bool:
        return sum(all(one[i] == other[i] for i in range(3) if i != index) for one, other in alike(output, case)) > 3

    return seen


def epoch_variant(seed_of: Callable = lambda seed, epoch, row: (seed, epoch, row), forbids: bool = True):
    "Masks from NumPy's generator, a fresh one for each row, with seeds made otherwise."

    def masks_of_epoch(row_numbers: Tensor, special_tokens_mask: Tensor, seed: int, epoch: int, mlm_probability: float) -> Tensor:
        seq = special_tokens_mask.size(1)
        rows = [np.random.default_rng(seed_of(seed, epoch, row)).random(seq) < mlm_probability for row in row_numbers.tolist()]
        masks = torch.from_numpy(np.stack(rows))
        return masks & ~special_tokens_mask if forbids else masks

    return masks_of_epoch


def masks_by_count(row_numbers: Tensor, special_tokens_mask: Tensor, seed: int, epoch: int, mlm_probability: float) -> Tensor:
    "The same share of every row's ordinary tokens."
    masks = torch.zeros_like(special_tokens_mask)
    for place, row in enumerate(row_numbers.tolist()):
        ordinary = (~special_tokens_mask[place]).nonzero()[:, 0].numpy()
        chosen = np.random.default_rng((seed, epoch, row)).permutation(ordinary)[:round(mlm_probability * len(ordinary))]
        masks[place, torch.from_numpy(chosen)] = True
    return masks


def masks_by_batch(shared: bool):
    "One generator a batch: torch's global one, or one of its own."

    def masks_of_epoch(row_numbers: Tensor, special_tokens_mask: Tensor, seed: int, epoch: int, mlm_probability: float) -> Tensor:
        generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
        return (torch.rand(special_tokens_mask.shape, generator=None if shared else generator) < mlm_probability) & ~special_tokens_mask

    return masks_of_epoch


def masks_by_global_seed(row_numbers: Tensor, special_tokens_mask: Tensor, seed: int, epoch: int, mlm_probability: float) -> Tensor:
    rows = []
    for row in row_numbers.tolist():
        torch.manual_seed((seed * 1_000_003 + epoch) * 1_000_003 + row)
        rows.append(torch.rand(special_tokens_mask.size(1)) < mlm_probability)
    return torch.stack(rows) & ~special_tokens_mask


def masks_by_torch(row_numbers: Tensor, special_tokens_mask: Tensor, seed: int, epoch: int, mlm_probability: float) -> Tensor:
    is_chosen = torch.zeros_like(special_tokens_mask)
    for place, row in enumerate(row_numbers.tolist()):
        generator = torch.Generator().manual_seed(hash((seed, epoch, row)))
        is_chosen[place] = torch.rand(special_tokens_mask.size(1), generator=generator) < mlm_probability
    return is_chosen.masked_fill(special_tokens_mask, False)


def masks_by_named_seeds(row_numbers: Tensor, special_tokens_mask: Tensor, seed: int, epoch: int, mlm_probability: float) -> Tensor:
    "Python's dice, seeded by a text."
    dice = [Random(f"{seed}/{epoch}/{row}") for row in row_numbers.tolist()]
    return torch.tensor([[one.random() < mlm_probability and not special for special in row]
                         for one, row in zip(dice, special_tokens_mask.tolist(), strict=True)])


MASKS_OF_EPOCH = Check(
    id="masking.masks_of_epoch",
    name="masks_of_epoch",
    cases=epoch_cases,
    reference=masks_by_named_seeds,
    judge=epoch_fault,
    use=lesson_06.masks_by_epoch,
    right=(epoch_variant(), masks_by_torch),
    wrong=(
        Wrong(epoch_variant(forbids=False),
              "Forbidden tokens are chosen: special_tokens_mask has the last word.",
              lambda output, case: bool((output["masks"] & case["special_tokens_mask"]).any())),
        Wrong(masks_by_global_seed,
              "You seed torch's global generator. The masks are right, but from now on dropout and everything else that draws from it "
              "repeats itself as well: use a generator of your own.",
              lambda output, case: not output["leaves torch alone"] and torch.equal(output["one by one"], output["masks"][0, 0])),
        Wrong(masks_by_batch(shared=True),
              "The masks come from torch's global generator, so a row gets another mask at every call, and no run can be repeated or "
              "resumed.",
              lambda output, case: not output["leaves torch alone"] and not torch.equal(output["one by one"], output["masks"][0, 0])),
        Wrong(epoch_variant(lambda seed, epoch, row: seed * epoch * row),
              "You multiply the numbers, and products collide as sums do: 1 · 2 is 2 · 1, and whatever is multiplied by 0 is 0, so that "
              "in epoch 0 all rows get the same mask.", lambda output, case: products_collide(output, case)),
        Wrong(epoch_variant(lambda seed, epoch, row: (seed, row)),
              "The epoch makes no difference: that is static masking, and a token that was not hidden in the first epoch never will "
              "be.", same_for(1)),
        Wrong(epoch_variant(lambda seed, epoch, row: (epoch, row)),
              "The seed makes no difference: two runs that should differ would see the same masks.", same_for(0)),
        Wrong(epoch_variant(lambda seed, epoch, row: (seed, epoch)),
              "All rows get the same coins: what is hidden in one row is hidden at the same places in all others.", same_for(2)),
        Wrong(masks_by_batch(shared=False),
              "One generator serves the whole batch, so a row's mask depends on its place in it: with other batches, or on eight "
              "processes, the same row would be masked otherwise.",
              lambda output, case: not torch.equal(output["in order"], output["masks"][0, 0][case["order"]])),
        Wrong(epoch_variant(lambda seed, epoch, row: seed + epoch + row),
              "You add the numbers up, and sums collide: row 1 in epoch 2 gets the mask of row 2 in epoch 1, so the same few masks "
              "wander through the data.", lambda output, case: collides(output, case, 1)),
        Wrong(epoch_variant(lambda seed, epoch, row: 1_000_000 * seed + 1_000 * epoch + row),
              "Your seeds collide: some row of one epoch and another row of the next make the same number. Mind how large each of the "
              "three can be.", lambda output, case: collides(output, case, 2)),
        Wrong(epoch_variant(lambda seed, epoch, row: seed << 16 ^ epoch << 8 ^ row),
              "Your seeds collide: some row of one epoch and another row of the next make the same number. Mind how large each of the "
              "three can be.", lambda output, case: collides(output, case, 2)),
        Wrong(masks_by_count,
              "Every row loses the same share of its tokens. Asked for is a coin for each token, and coins do not fall alike as often in every row.",
              even_rows),
    ),
)


def collides(output: dict[str, Any], case: Case, kind: int) -> bool:
    "Whether different rows in different epochs get the same mask: a step of 1 for a step of 1 (kind 1), or any other (2)."
    rows, epochs = case["row_numbers"].tolist(), case["epochs"]
    steps = [(rows[one[2]] - rows[other[2]], epochs[other[1]] - epochs[one[1]]) for one, other in alike(output, case) if one[2] != other[2]]
    return any(row == epoch for row, epoch in steps) if kind == 1 else bool(steps)


def products_collide(output: dict[str, Any], case: Case) -> bool:
    "Whether as many pairs of masks are alike as have the same product of the three numbers."
    products = Counter(map(math.prod, product(case["seeds"], case["epochs"], case["row_numbers"].tolist())))
    return len(alike(output, case)) == sum(math.comb(number, 2) for number in products.values())


# mask_whole_words

def words_case(rng: np.random.Generator, batch: int, seq: int, vocab: int, p: float) -> Case:
    """Rows of words of one to several pieces; the upper half of the vocabulary continues words.

    Behind [CLS] a word begins in some rows and goes on in others; others have no [CLS] and begin in the middle of a word."""
    case = batch_case(rng, batch, seq, vocab, 5, 4, p)
    ids, half = case["input_ids"], vocab // 2
    ids[::3, 1] = torch.from_numpy(rng.integers(5, half, size=len(ids[::3])))
    ids[1::3, 1] = torch.from_numpy(rng.integers(half, vocab, size=len(ids[1::3])))
    ids[2::3, 0] = torch.from_numpy(rng.integers(half, vocab, size=len(ids[2::3])))
    case["special_tokens_mask"][2::3, 0] = False
    order = torch.from_numpy(rng.permutation(vocab - 6)) + 5              # which ids continue is no matter of their size
    names = torch.cat([torch.arange(5), order, torch.tensor([vocab - 1])])
    is_continuation = torch.zeros(vocab, dtype=torch.bool)
    is_continuation[names[half:]] = True
    return case | {"input_ids": names[ids], "is_continuation": is_continuation}


def words_cases(rng: np.random.Generator) -> list[Case]:
    "Two large batches, one in which every piece is a word, and inputs to refuse."
    small = words_case(rng, 3, 6, 14, 0.3)
    no_pieces = words_case(rng, 40, 60, 31, 0.2)
    return [words_case(rng, 110, 170, 101, 0.15), words_case(rng, 130, 180, 29, float(np.round(rng.uniform(0.42, 0.5), 2))),
            no_pieces | {"is_continuation": torch.zeros(31, dtype=torch.bool)}, *refused_cases(rng, small),
            small | {name: small[name][1] for name in ("input_ids", "special_tokens_mask")},
            *(small | {"is_continuation": unfit} for unfit in (small["is_continuation"].long(), small["is_continuation"][:-1]))]


def word_numbers(case: Case) -> Tensor:
    "Which word of its row each piece belongs to, (batch, seq), counted from 0 and through the whole batch."
    begins = ~case["is_continuation"][case["input_ids"]]
    begins[:, 0] = True
    return begins.flatten().cumsum(0).view_as(begins) - 1


def by_word(flags: Tensor, case: Case) -> Tensor:
    "The share of each ordinary word's pieces for which a flag (batch, seq) is set."
    numbers, ordinary = word_numbers(case), ~case["special_tokens_mask"]
    sizes = torch.bincount(numbers[ordinary])
    return (torch.bincount(numbers[ordinary & flags], minlength=len(sizes)) / sizes)[sizes > 0]


def words_fault(output: dict[str, Any], case: Case) -> str | None:
    if fault := corruption_fault(output, case):
        return fault
    shares = by_word(Tally.of(output, case).is_chosen, case)
    if ((shares > 0) & (shares < 1)).any():
        return "some word is half hidden: all pieces of a word are chosen, or none"
    if rows_agree(Tally.of(output, case), output, case):
        return "the choices are not independent: each word should be chosen by a coin of its own"
    if far(int((shares == 1).sum()), len(shares), case["mlm_probability"]):
        return "the share of words that are chosen is not mlm_probability"
    if one_fate_a_word(Tally.of(output, case), output, case):
        return "the pieces of a word all have the same fate: each should be corrupted on its own"
    return None


def rows_agree(tally: Tally, output: dict[str, Any], case: Case) -> bool:
    "Whether the first words of all rows are chosen or not chosen alike, the second ones, and so on."
    numbers = word_numbers(case)
    begins = ~tally.is_special & numbers.diff(dim=1, prepend=numbers[:, :1] - 1).bool()              # (batch, seq)
    places = (numbers - numbers[:, :1])[begins]
    if len(places) <= 1000:
        return False
    counts = torch.bincount(places)
    chosen = torch.bincount(places[tally.is_chosen[begins]], minlength=len(counts))
    return uneven(chosen, counts, (chosen.sum() / counts.sum()).item()) > 20


def one_fate_a_word(tally: Tally, output: dict[str, Any], case: Case) -> bool:
    "Whether no word has a piece that became [MASK] beside one that did not, where many should."
    chosen, masked = by_word(tally.is_chosen, case), by_word(tally.is_mask, case)
    long_words = by_word(torch.ones_like(tally.is_chosen), case).numel() < int((~tally.is_special).sum())
    return long_words and int((chosen == 1).sum()) > 200 and not ((masked > 0) & (masked < 1)).any()


def words_variant(coin: str = "first piece", fault: str = "", checked: bool = True, one_fate: bool = False):
    "Whole-word masking with one thing done otherwise."

    def mask_whole_words(generator: torch.Generator | None = None, **case: Any) -> tuple[Tensor, Tensor]:
        if checked and is_refused(**case):
            raise ValueError("not a batch to mask")
        ids, p = case["input_ids"], case["mlm_probability"]
        generator = None if fault == "no generator" else generator
        luck, numbers, continues = torch.rand(ids.shape, generator=generator), word_numbers(case), case["is_continuation"][ids]
        num_words = int(numbers.max()) + 1
        is_chosen = luck < p                                  # each piece by a coin of its own
        if coin == "first piece":
            is_chosen = luck.flatten()[:num_words][numbers] < p
        elif coin == "same in all rows":
            is_chosen = luck[0, numbers - numbers[:, :1]] < p
        elif coin == "any piece":
            is_chosen = torch.bincount(numbers[is_chosen], minlength=num_words)[numbers] > 0
        elif coin == "only first":
            is_chosen &= ~continues
        elif coin == "one more piece":
            is_chosen = torch.where(continues, is_chosen.roll(1, 1), is_chosen)
        is_chosen &= ~case["special_tokens_mask"] | (coin == "anything")
        new, labels = corrupted(ids, is_chosen, case, generator, fault)
        if one_fate:
            becomes_mask = torch.rand(num_words, generator=generator)[numbers] < 0.8
            becomes_other = torch.rand(num_words, generator=generator)[numbers] < 0.5
            random_ids = torch.randint(case["num_special_tokens"], case["vocab_size"], ids.shape, generator=generator)
            new = torch.where(is_chosen, torch.where(becomes_mask, case["mask_token_id"], torch.where(becomes_other, random_ids, ids)), ids)
        return new, labels

    return mask_whole_words


def whole_words_one_by_one(generator: torch.Generator | None = None, **case: Any) -> tuple[Tensor, Tensor]:
    "Walk along each row and toss a coin where a word begins."
    if is_refused(**case):
        raise ValueError("not a batch to mask")
    dice = np.random.default_rng(int(torch.randint(2**60, (1,), generator=generator)))
    continues, special = case["is_continuation"][case["input_ids"]].tolist(), case["special_tokens_mask"].tolist()
    new, labels = case["input_ids"].tolist(), torch.full_like(case["input_ids"], -100).tolist()
    for row, ids in enumerate(case["input_ids"].tolist()):
        is_chosen = False
        for place, token_id in enumerate(ids):
            if place == 0 or not continues[row][place]:
                is_chosen = dice.random() < case["mlm_probability"]
            if is_chosen and not special[row][place]:
                labels[row][place], fate = token_id, dice.integers(10)
                if fate < 8:
                    new[row][place] = case["mask_token_id"]
                elif fate == 8:
                    new[row][place] = int(dice.integers(case["num_special_tokens"], case["vocab_size"]))
    return torch.tensor(new), torch.tensor(labels)


def whole_words_by_running_place(generator: torch.Generator | None = None, **case: Any) -> tuple[Tensor, Tensor]:
    "Each piece takes the coin that lies where its word begins."
    if is_refused(**case):
        raise ValueError("not a batch to mask")
    ids = case["input_ids"]
    place = torch.arange(ids.size(1)).expand_as(ids)
    first = place.masked_fill(case["is_continuation"][ids], 0).cummax(1).values
    coins = torch.bernoulli(torch.full(ids.shape, case["mlm_probability"]), generator=generator).bool()
    return corrupted(ids, coins.gather(1, first) & ~case["special_tokens_mask"], case, generator)


def halves(tally: Tally, case: Case) -> bool:
    shares = by_word(tally.is_chosen, case)
    return bool(((shares > 0) & (shares < 1)).any())


def only_first(tally: Tally, output: dict[str, Any], case: Case) -> bool:
    return halves(tally, case) and not (tally.is_chosen & case["is_continuation"][tally.ids]).any()


def one_more(tally: Tally, output: dict[str, Any], case: Case) -> bool:
    "Whether the second piece of a word always follows the first, though words are half hidden."
    continues = case["is_continuation"][tally.ids]
    is_second = continues & ~continues.roll(1, 1) & ~tally.is_special.roll(1, 1) & ~tally.is_special
    return halves(tally, case) and torch.equal(tally.is_chosen[is_second], tally.is_chosen.roll(1, 1)[is_second])


def too_many(tally: Tally, output: dict[str, Any], case: Case) -> bool:
    shares = by_word(tally.is_chosen, case)
    n, count, p = len(shares), int((shares == 1).sum()), case["mlm_probability"]
    return not halves(tally, case) and count > n * p and far(count, n, p)


MASK_WHOLE_WORDS = Check(
    id="masking.mask_whole_words",
    name="mask_whole_words",
    cases=words_cases,
    reference=words_variant(),
    judge=words_fault,
    use=lesson_06.masking,
    builds="training.masking.mask_whole_words",
    right=(whole_words_one_by_one, whole_words_by_running_place),
    wrong=(
        *corruption_wrongs(words_variant),
        Wrong(words_variant("anything"),
              "Special tokens and padding are chosen: special_tokens_mask forbids them, whatever their coin says.", SPECIAL_CHOSEN),
        Wrong(words_variant("only first"),
              "Only the first piece of a word is ever chosen, and its other pieces stand beside it and give it away.",
              at_good_inputs(only_first)),
        Wrong(words_variant("one more piece"),
              "A piece looks one place to its left, so the second piece follows the first, but the third does not: the coin has to "
              "reach all pieces of the word.", at_good_inputs(one_more)),
        Wrong(words_variant("each piece"),
              "Each piece has a coin of its own: words are half hidden, and whoever can spell needs no sentence to fill them in.",
              at_good_inputs(lambda tally, output, case: halves(tally, case))),
        Wrong(words_variant("same in all rows"),
              "All rows of the batch share their coins: the third word of one row is chosen where the third word of another is. Draw for every word of the "
              "batch.", at_good_inputs(rows_agree)),
        Wrong(words_variant("any piece"),
              "A word is chosen as soon as one of its pieces is, so long words are chosen far more often than mlm_probability says: "
              "one coin a word.", at_good_inputs(too_many)),
        Wrong(words_variant(one_fate=True),
              "All pieces of a word have the same fate. They are chosen together, and then each is corrupted on its own.",
              at_good_inputs(one_fate_a_word)),
        Wrong(words_variant(checked=False),
              "An input that makes no sense is taken without a word: look again at the list of what must raise ValueError, and check "
              "before you draw.", lets_through),
    ),
)

CHECKS = (MASK_ODDS, MASK_TOKENS, MLM_LOSS, MASKS_OF_EPOCH, MASK_WHOLE_WORDS)
