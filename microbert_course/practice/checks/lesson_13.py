"""Checks of the exercises on speed."""

import statistics
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from microbert_course.data.corpus import document_numbers, pack, positions_in
from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.uses import lesson_13 as uses
from microbert_course.training.speed import unpadded_features

# 13.1: what unpadding is worth

def length_cases(rng: np.random.Generator) -> list[Case]:
    "Long documents, where attention rules; short ones, where weights do; all of one length; a single one."
    def case(lengths: list[int], hidden_size: int) -> Case:
        return {"lengths": lengths, "hidden_size": hidden_size, "intermediate_size": hidden_size * int(rng.integers(1, 4)) + int(rng.integers(1, hidden_size))}

    num_long, num_short = int(rng.integers(3, 7)), int(rng.integers(3, 7))
    return [case(rng.integers(100, 3_000, num_long).tolist(), int(rng.integers(16, 40))), case(rng.integers(2, 30, num_short).tolist(), int(rng.integers(100, 300))),
            case([int(rng.integers(5, 50))] * 3, int(rng.integers(8, 20))), case([int(rng.integers(5, 50))], int(rng.integers(8, 20)))]


def gain_variant(attention: str = "square", padded_to: str = "longest", maps: int = 4, feed_forward: str = "given", inverse: bool = False,
                 products: int = 2):
    "The gain with one thing counted otherwise."

    def gain(lengths: list[int], hidden_size: int, intermediate_size: int) -> float:
        inner = intermediate_size if feed_forward == "given" else 4 * hidden_size
        longest = max(lengths) if padded_to == "longest" else sum(lengths) / len(lengths)

        def flops(length: float) -> float:
            looks_at = length if attention == "square" else 0
            return 2 * length * (maps * hidden_size**2 + 2 * hidden_size * inner) + 2 * products * length * looks_at * hidden_size

        padded, real = len(lengths) * flops(longest), sum(map(flops, lengths))
        return real / padded if inverse else padded / real

    return gain


def products_one_by_one(lengths: list[int], hidden_size: int, intermediate_size: int) -> float:
    "Every matrix product of every row, by its three sizes."
    def flops(n: int) -> int:
        sizes = [(n, hidden_size, 3 * hidden_size), (n, hidden_size, n), (n, n, hidden_size), (n, hidden_size, hidden_size),
                 (n, hidden_size, intermediate_size), (n, intermediate_size, hidden_size)]
        return sum(2 * rows * inner * columns for rows, inner, columns in sizes)

    return sum(flops(max(lengths)) for _ in lengths) / sum(map(flops, lengths))


def gain_of_arrays(lengths: list[int], hidden_size: int, intermediate_size: int) -> float:
    "With what is common to all products cancelled."
    n, weights = np.array(lengths, dtype=np.float64), 2 * hidden_size + intermediate_size
    return float((weights * n.max() + n.max() ** 2) * len(n) / (weights * n + n**2).sum())


# 13.2: a stopwatch

def stopwatch_cases(rng: np.random.Generator) -> list[Case]:
    "Slow first calls, a machine that slows down, a round that somebody spoils; an even number of rounds, and a single one."
    cases = []
    for rounds in (5, 4, 1):
        old, new = rng.uniform(1, 3, rounds + 1), rng.uniform(0.5, 1.5, rounds + 1)
        old[0], new[0] = rng.uniform(20, 40, 2)
        if rounds > 2:
            old[int(rng.integers(1, rounds + 1))] *= 30
        cases.append({"old_s": old.tolist(), "new_s": new.tolist(), "asking_s": float(rng.uniform(0.01, 0.02)), "rounds": rounds})
    return cases


def stopwatch_variant(warm: str = "both", waits: bool = True, turns: bool = True, over: str = "median", inverse: bool = False):
    "The speedup, measured with one thing done otherwise."

    def speedup(old: Callable, new: Callable, clock: Callable, wait: Callable, rounds: int) -> float:
        def seconds(work: Callable) -> float:
            start = clock()
            work()
            if waits:
                wait()
            return clock() - start

        for work in {"both": (old, new), "none": (), "old": (old,), "asked": (old, new)}[warm]:
            work()
            if warm != "asked":
                wait()
        if turns:
            pairs = [(seconds(old), seconds(new)) for _ in range(rounds)]
        else:
            slow = [seconds(old) for _ in range(rounds)]
            pairs = list(zip(slow, [seconds(new) for _ in range(rounds)], strict=True))
        if inverse:
            pairs = [(fast, slow) for slow, fast in pairs]
        if over == "totals":
            return sum(slow for slow, _ in pairs) / sum(fast for _, fast in pairs)
        if over == "medians":
            return statistics.median(slow for slow, _ in pairs) / statistics.median(fast for _, fast in pairs)
        return {"median": statistics.median, "upper": statistics.median_high, "lower": statistics.median_low, "mean": statistics.fmean, "best": max}[over](slow / fast for slow, fast in pairs)

    return speedup


def broken_speedup(old: Callable, new: Callable, clock: Callable, wait: Callable, rounds: int) -> float:
    "As the exercise gives it."
    seconds = []
    for work in (old, new):
        start = clock()
        for _ in range(rounds):
            work()
        seconds.append((clock() - start) / rounds)
    return seconds[0] / seconds[1]


def speedup_of_readings(old: Callable, new: Callable, clock: Callable, wait: Callable, rounds: int) -> float:
    "All readings of the clock first, three a round, with the warm-up as a round that is thrown away."
    readings = []
    for _ in range(rounds + 1):
        for work in (old, new):
            before = clock()
            work()
            wait()
            readings.append(clock() - before)
    pairs = np.array(readings).reshape(-1, 2)[1:]
    return float(np.median(pairs[:, 0] / pairs[:, 1]))


def growing_lists(old: Callable, new: Callable, clock: Callable, wait: Callable, rounds: int) -> float:
    "Sorted ratios and the middle of them, by hand."
    old(), wait(), new(), wait()
    ratios = []
    for _ in range(rounds):
        start = clock()
        old(), wait()
        middle = clock()
        new(), wait()
        ratios.append((middle - start) / (clock() - middle))
    ratios.sort()
    return (ratios[rounds // 2] + ratios[(rounds - 1) // 2]) / 2


# 13.3: no padding at all

def batch_cases(rng: np.random.Generator) -> list[Case]:
    "A padded batch, packed rows, and a batch without padding; places in any order, some asked for twice."
    cases = []
    for kind, num_documents, longest in (("padded", int(rng.integers(3, 6)), int(rng.integers(8, 13))), ("packed", int(rng.integers(8, 11)), 12),
                                         ("full", int(rng.integers(2, 4)), int(rng.integers(4, 6)))):
        lengths = np.full(num_documents, longest) if kind == "full" else rng.integers(3, longest - 1, num_documents)
        if kind == "packed":
            lengths[:2] = 12, 11  # the first row has these two alone
        documents = [np.array([2, *rng.integers(5, 40, length - 2), 3], dtype=np.int64) for length in lengths]
        if kind == "packed":
            rows = pack(documents, 2 * longest)
            numbers = document_numbers(rows, cls_id=2)
            mask, positions = torch.from_numpy(numbers), torch.from_numpy(positions_in(numbers))
        else:
            rows = np.zeros((num_documents, lengths.max()), dtype=np.int64)
            for row, document in zip(rows, documents, strict=True):
                row[: len(document)] = document
            mask, positions = torch.from_numpy(rows != 0), None
        real = np.flatnonzero(rows)
        settings = {"vocab_size": 40, "hidden_size": 8, "num_layers": 2, "intermediate_size": 12, "max_seq_len": 2 * longest, "initializer_range": 0.3}
        asked = np.append(rng.permutation(real)[: int(rng.integers(4, 8))], [real[-1], 13 if kind == "packed" else real[0]])
        cases.append({"settings": settings, "weights_seed": int(rng.integers(1000)), "input_ids": torch.from_numpy(rows), "attention_mask": mask,
                      "predict_at": torch.from_numpy(asked), "position_ids": positions})
    return cases


def features_variant(numbers: str = "apart", positions: str = "given", places: str = "moved", transforms: bool = True, order: str = "asked",
                     padding: bool = False):
    "The features with one thing done otherwise."

    def features(model, input_ids: Tensor, attention_mask: Tensor, predict_at: Tensor, position_ids: Tensor | None = None) -> Tensor:
        if padding:
            return model.features(input_ids, attention_mask, predict_at=predict_at, position_ids=position_ids)
        is_real = (attention_mask != 0).flatten()
        rows = torch.arange(len(input_ids))[:, None].expand_as(input_ids)
        number = {"apart": attention_mask + rows * (input_ids.size(1) + 1), "as they are": attention_mask.long(), "one a row": rows + 1,
                  "added": attention_mask + rows}[numbers].flatten()[is_real][None]
        hidden = model.bert.embeddings(input_ids, position_ids=position_ids if positions == "given" else None).flatten(0, 1)[is_real][None]
        for block in model.bert.blocks:
            hidden = block(hidden, attention_mask=number)
        asked = predict_at.sort().values if order == "sorted" else predict_at
        counted = is_real.cumsum(0)[asked]
        place = {"moved": counted - 1, "late": counted.clamp(max=hidden.size(1) - 1), "old": asked.clamp(max=hidden.size(1) - 1)}[places]
        picked = hidden[0].index_select(0, place)
        return model.head.transform(picked) if transforms else picked

    return features


def each_document_alone(model, input_ids: Tensor, attention_mask: Tensor, predict_at: Tensor, position_ids: Tensor | None = None) -> Tensor:
    "One document after the other through the encoder, as if there were no batch; the places are looked up in a table of all states."
    table, flat = {}, torch.arange(input_ids.numel()).view_as(input_ids)
    for ids, mask, places in zip(input_ids, attention_mask, flat, strict=True):
        for number in mask.unique().tolist():
            if number:
                here = mask == number
                states = model.bert(ids[here][None])[0]
                table.update(zip(places[here].tolist(), states, strict=True))
    return model.head.transform(torch.stack([table[place] for place in predict_at.tolist()]))


def with_lengths(model, input_ids: Tensor, attention_mask: Tensor, predict_at: Tensor, position_ids: Tensor | None = None) -> Tensor:
    "Indices instead of masks: of the real tokens, and by search where the places have gone."
    real = attention_mask.flatten().nonzero()[:, 0]
    seq = input_ids.size(1)
    numbers = real // seq * seq + attention_mask.flatten()[real]
    hidden = model.bert.embeddings(input_ids, position_ids=position_ids).flatten(0, 1).index_select(0, real).unsqueeze(0)
    for block in model.bert.blocks:
        hidden = block(hidden, attention_mask=(numbers + real // seq).unsqueeze(0))
    return model.head.transform(hidden.squeeze(0)[torch.searchsorted(real, predict_at)])


CHECKS = (
    Check(
        id="speed.unpadding_gain",
        name="unpadding_gain",
        cases=length_cases,
        reference=products_one_by_one,
        right=(gain_variant(), gain_of_arrays),
        tolerance=1e-9,
        wrong=(
            Wrong(gain_variant(attention="none"),
                  "You count tokens, as if attention cost each of them the same. Its scores and its mixing grow with the square of a document's own "
                  "length."),
            Wrong(gain_variant(inverse=True),
                  "This is the share that is left, upside down: the gain is padded over unpadded, and at least 1."),
            Wrong(gain_variant(maps=3),
                  "The output map of attention is missing among the weights: hidden → hidden, for every token, after the heads are joined."),
            Wrong(gain_variant(feed_forward="fourfold"),
                  "Your feed-forward is four times as wide as the model, whatever intermediate_size says."),
            Wrong(gain_variant(products=1),
                  "You count one of attention's two products. The scores are one, and mixing the values by the weights is another of the same size."),
            Wrong(gain_variant(padded_to="mean"),
                  "Rows are padded to the longest document of the batch, not to the mean: one long document fixes the length of all."),
        ),
    ),
    Check(
        id="speed.mended_speedup",
        name="mended_speedup",
        cases=stopwatch_cases,
        use=uses.timed,
        reference=speedup_of_readings,
        right=(stopwatch_variant(), growing_lists),
        tolerance=1e-9,
        wrong=(
            Wrong(broken_speedup,
                  "This is still the stopwatch as you found it: it does not warm up, does not wait, takes no turns, and averages."),
            Wrong(stopwatch_variant(warm="none"),
                  "The first, slow call of each is timed as well. Let each run once before the clock counts."),
            Wrong(stopwatch_variant(warm="old"),
                  "Only the old one is warmed up: the new one pays for its first call in the first round."),
            Wrong(stopwatch_variant(warm="asked"),
                  "You do not wait for the warm-up: the first timed call stands in the queue behind it, and its time counts as the call's."),
            Wrong(stopwatch_variant(waits=False),
                  "You do not wait for the device: what you time is how long it takes to ask."),
            Wrong(stopwatch_variant(turns=False),
                  "All rounds of the old one come before all of the new one. A machine that slows down meanwhile punishes whoever comes last: take "
                  "turns."),
            Wrong(stopwatch_variant(over="mean"),
                  "You take the mean of the ratios. One round that somebody else spoiled carries it away: the median stays."),
            *(Wrong(stopwatch_variant(over=over),
                    "With an odd number of rounds you are right. With an even one, two ratios stand in the middle, and the median is the mean of both.")
              for over in ("upper", "lower")),
            Wrong(stopwatch_variant(over="totals"),
                  "You divide the totals, and a single spoiled round is in them. Make a ratio for each round, and take their median."),
            Wrong(stopwatch_variant(over="best"),
                  "You answer the best round. That is the one in which luck was on the side of the new one: take the median."),
            Wrong(stopwatch_variant(over="medians"),
                  "You divide two medians, which may come from different rounds, one fast and one slow. Make the ratio within each round, then take "
                  "the median."),
            Wrong(stopwatch_variant(inverse=True),
                  "This is how many times as long the new one takes. The question is how many times as fast it is: old's seconds over new's."),
        ),
    ),
    Check(
        id="speed.unpadded_features",
        name="unpadded_features",
        builds="training.speed.unpadded_features",
        cases=batch_cases,
        use=uses.features,
        reference=each_document_alone,
        right=(unpadded_features, features_variant(), with_lengths),
        tolerance=1e-8,
        wrong=(
            Wrong(features_variant(padding=True),
                  "The features are right, and padding still goes through the blocks: nothing is saved. Pick the real tokens before the first block."),
            Wrong(features_variant(numbers="as they are"),
                  "In the long row, the last document of a row and the first of the next can have the same number, and then they are one document to "
                  "attention. Make the numbers of different rows different."),
            Wrong(features_variant(numbers="one a row"),
                  "You give every row one number. In packed rows that joins the documents that the mask keeps apart: use its numbers as well."),
            Wrong(features_variant(numbers="added"),
                  "You add the row's index to its numbers, so that the second document of one row has the number of the first in the next. Rows need to "
                  "be further apart than a row has documents."),
            Wrong(features_variant(positions="dropped"),
                  "position_ids are not used: in packed rows every document after the first stands at the wrong places."),
            Wrong(features_variant(places="old"),
                  "You pick the places where they were before padding was left out. Everything behind the first padding has moved forward."),
            Wrong(features_variant(places="late"),
                  "You are one token too far: the count of real tokens up to and including a place is one more than its index."),
            Wrong(features_variant(transforms=False),
                  "These are the encoder's states. `features` are what the head makes of them before it compares: its transform is missing."),
            Wrong(features_variant(order="sorted"),
                  "Your rows come in reading order. predict_at may be in any order, and the targets are in that one, too."),
        ),
    ),
)
