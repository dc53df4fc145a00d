"""Checks of the exercises on instruction tuning: packed examples, a mixture that resumes, and rates from sizes."""

import math
from collections import Counter

import numpy as np

from microbert_course.data.corpus import best_fit
from microbert_course.data.packing import Example, Packed
from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.uses import lesson_19 as uses

# 19.1: packed examples

def packing_cases(rng: np.random.Generator) -> list[Case]:
    "Rows with room left and full ones, three examples to a row, ids that look like padding, a label behind the last token; one too long, none."
    def example(size: int, asks_at_end: bool = False) -> tuple[np.ndarray, np.ndarray]:
        ids = rng.integers(0, 30, size + 1)
        labels = np.where(np.arange(1, size + 1) > rng.integers(0, size), ids[1:], -100)
        if not asks_at_end:
            labels[-1] = -100
        return ids[:-1], labels

    def case(sizes: list[int], max_seq_len: int, pad_id: int, look_alike: bool = False) -> Case:
        pairs = [example(size, bool(rng.integers(0, 2))) for size in sizes]
        if look_alike:
            ids, labels = pairs[0]
            ids[2], labels[1:3] = pad_id, (pad_id, ids[3])  # read and asked for, as any token
        return {"ids": [ids for ids, _ in pairs], "labels": [labels for _, labels in pairs], "max_seq_len": max_seq_len, "pad_id": pad_id}

    several = [int(size) for size in rng.integers(2, 9, 14)]
    return [case([3, 2, 4], 7, int(rng.integers(31, 40))), case([2, 5, 6, 3], 8, 31), case([6, 1, 3, 2, 5], 9, int(rng.integers(1, 30)), True),
            case(several, 16, 35), case([4], 6, 33), case([3, 9, 2], 8, 32), case([], 8, 32)]


def packing_variant(labels: str = "their own", numbers: str = "of the row", positions: str = "of the example", filler: str = "told", rows: str = "best fit",
                    real: str = "seats", too_long: str = "refused"):
    "Rows filled seat by seat, with one thing done otherwise."

    def pack(examples: list[Example], max_seq_len: int, pad_id: int) -> Packed:
        packed = 0
        if too_long == "cut":
            examples = [Example(example.ids[:max_seq_len], example.labels[:max_seq_len]) for example in examples]
        shared = best_fit([len(example.ids) for example in examples], max_seq_len)
        if rows == "one each":
            shared = [[number] for number in range(len(examples))]
        if rows == "next fit":
            shared = [[]]
            for number, example in enumerate(examples):
                if sum(len(examples[member].ids) for member in shared[-1]) + len(example.ids) > max_seq_len:
                    shared.append([])
                shared[-1].append(number)
        tables = []
        for members in shared:
            seats = []
            for index, member in enumerate(members):
                number = {"of the row": index + 1, "ones": 1, "from zero": index, "of all": member + 1, "running": (packed := packed + 1)}[numbers]
                for place, (token, label) in enumerate(zip(examples[member].ids, examples[member].labels, strict=True)):
                    place = place if positions == "of the example" else len(seats)
                    seats.append([token, 0 if real == "ids" and token == pad_id else number, place, label])
            if labels == "shifted":
                for seat, following in zip(seats, [*(seat[0] for seat in seats[1:]), -100], strict=True):
                    seat[3] = following
            if labels in ("none after padding", "never padding"):
                seats = [[token, number, place, -100 if (token if labels == "none after padding" else label) == pad_id else label]
                         for token, number, place, label in seats]
            if labels == "not shifted":
                seats = [[token, number, place, token if label != -100 else -100] for token, number, place, label in seats]
            free = [[pad_id if filler != "zeros" else 0, 0, 0 if filler != "places" else place, {"ids": pad_id, "nought": 0}.get(filler, -100)]
                    for place in range(len(seats), max_seq_len)]
            tables.append(seats + free)
        return Packed(*np.moveaxis(np.array(tables, dtype=np.int64), -1, 0))

    return pack


def packed_by_arrays(examples: list[Example], max_seq_len: int, pad_id: int) -> Packed:
    "Each table filled by slices."
    shared = best_fit([len(example.ids) for example in examples], max_seq_len)
    input_ids, numbers, positions, labels = (np.full((len(shared), max_seq_len), filler) for filler in (pad_id, 0, 0, -100))
    for row, members in enumerate(shared):
        start = 0
        for number, example in enumerate((examples[member] for member in members), start=1):
            here = slice(start, start := start + len(example.ids))
            input_ids[row, here], labels[row, here], numbers[row, here] = example.ids, example.labels, number
            positions[row, here] = np.arange(len(example.ids))
    return Packed(input_ids=input_ids, document_numbers=numbers, position_ids=positions, labels=labels)


def packed_by_joining(examples: list[Example], max_seq_len: int, pad_id: int) -> Packed:
    "Whole rows joined and filled up."
    def filled(parts: list, filler: int) -> np.ndarray:
        joined = np.concatenate(parts)
        return np.pad(joined, (0, max_seq_len - len(joined)), constant_values=filler)

    shared = [[examples[member] for member in members] for members in best_fit([len(example.ids) for example in examples], max_seq_len)]
    return Packed(np.stack([filled([one.ids for one in row], pad_id) for row in shared]),
                  np.stack([filled([np.full_like(one.ids, number) for number, one in enumerate(row, start=1)], 0) for row in shared]),
                  np.stack([filled([np.arange(len(one.ids)) for one in row], 0) for row in shared]),
                  np.stack([filled([one.labels for one in row], -100) for row in shared]))


# 19.2: a mixture that resumes

SLIPPERY = (29, 57, 58)  # 100 · 0.29 is 28.999999999999996: cut off, it is 28; 100 · 0.14 is 14.000000000000002: rounded up, it is 15


def mixture_cases(rng: np.random.Generator) -> list[Case]:
    "From the start and from the middle, within an order and over its end; rates that cutting off spoils, and rounding up; one set alone; no draws."
    def case(percent: tuple[int, ...], sizes: tuple[int, ...], start: int, num_draws: int) -> Case:
        names = rng.permutation(["alpaca", "cola", "gsm8k", "sst2"])[: len(percent)].tolist()
        return {"sizes": dict(zip(names, sizes, strict=True)), "percent": dict(zip(names, percent, strict=True)), "seed": int(rng.integers(1_000)),
                "start": start, "stop": start + num_draws}

    slippery = int(rng.choice(SLIPPERY))
    return [case((60, 40), (60, 70), 0, 6), case((70, 30), (160, 90), int(rng.integers(20, 90)), 8), case((slippery, 100 - slippery), (90, 110), 0, 100),
            case((slippery, 14, 86 - slippery), (31, 17, 95), 130 + int(rng.integers(60)), 110), case((100,), (9,), 0, 27), case((25, 75), (40, 40), 200, 0)]


def order_of(size: int, seed: int, again: int) -> np.ndarray:  # (size,) a permutation; as the exercise has it
    return np.random.default_rng([seed, again, size]).permutation(size)


def mixture_variant(counts: str = "rounded", dealt: str = "counted", orders: str = "new"):
    "Draws one after another, with some things done otherwise."

    def draws(sizes: dict[str, int], rates: dict[str, float], seed: int, start: int, stop: int) -> list[tuple[str, int]]:
        shares = {name: {"cut": int, "up": math.ceil, "rounded": round}[counts](100 * rate) for name, rate in rates.items()}
        shares[list(rates)[-1]] += max(0, 100 - sum(shares.values()))
        line = [name for name, share in shares.items() for _ in range(share)]
        guessed = {"guessed": start, "whole blocks": start // 100 * 100}.get(dealt, 0)
        before = Counter({name: round(guessed * rate) for name, rate in rates.items()})
        drawn = []
        for number in range({"counted": 0, "of the block": start // 100 * 100}.get(dealt, start), stop):
            block, place = divmod(number, 100)
            if place == 0 or number == start or block == start // 100:
                permuted = np.random.default_rng([seed, block]).permutation(100)
            name = line[permuted[place]]
            again, turn = divmod(before[name], sizes[name])
            before[name] += 1
            if number >= start:
                drawn.append((name, int(order_of(sizes[name], seed, again if orders == "new" else 0)[turn])))
        return drawn

    return draws


def dealt_out(sizes: dict[str, int], rates: dict[str, float], seed: int, start: int, stop: int) -> list[tuple[str, int]]:
    "All names from the beginning, then for each set an endless hand of cards."
    line = np.repeat(list(rates), [round(100 * rate) for rate in rates.values()])
    names = [name for block in range(-(-stop // 100)) for name in line[np.random.default_rng([seed, block]).permutation(100)].tolist()][:stop]
    hands = {name: iter([row for again in range(1 + names.count(name) // size) for row in order_of(size, seed, again).tolist()])
             for name, size in sizes.items()}
    return [(name, next(hands[name])) for name in names][start:]


def counted_once(sizes: dict[str, int], rates: dict[str, float], seed: int, start: int, stop: int) -> list[tuple[str, int]]:
    "Whole blocks are counted without playing them."
    whole = start // 100
    line = [name for name in rates for _ in range(round(100 * rates[name]))]
    dealt, drawn = {name: whole * round(100 * rates[name]) for name in rates}, []
    for block in range(whole, stop // 100 + 1):
        for place, index in enumerate(np.random.default_rng([seed, block]).permutation(100).tolist()):
            name = line[index]
            if start <= 100 * block + place < stop:
                drawn.append((name, int(order_of(sizes[name], seed, dealt[name] // sizes[name])[dealt[name] % sizes[name]])))
            dealt[name] += 1
    return drawn


# 19.3: rates from sizes

def rates_cases(rng: np.random.Generator) -> list[Case]:
    "Large and small sets, with and without a limit, several temperatures; one set alone; what makes no sense."
    def sizes(*numbers: int) -> dict[str, int]:
        return {f"set {letter}": int(number) for letter, number in zip("ABCDE", numbers, strict=False)}

    some = rng.integers(20, 40, 3) * np.array([1, 30, 900])
    return [{"sizes": sizes(900, 100), "temperature": 1.0, "limit": None}, {"sizes": sizes(*some), "temperature": float(rng.uniform(1.5, 4)), "limit": None},
            {"sizes": sizes(*some), "temperature": 1.0, "limit": 400}, {"sizes": sizes(*some, 777), "temperature": float(rng.uniform(2, 5)), "limit": 500},
            {"sizes": sizes(*some), "temperature": float(rng.uniform(0.4, 0.8)), "limit": None}, {"sizes": sizes(50_000, 7, 300), "temperature": 100.0, "limit": 2**20},
            {"sizes": sizes(12), "temperature": 2.0, "limit": None}, {"sizes": sizes(5, 9), "temperature": 0.0, "limit": None},
            {"sizes": sizes(5, 9), "temperature": -1.0, "limit": None}, {"sizes": sizes(5, 9), "temperature": 2.0, "limit": 0},
            {"sizes": sizes(5, 9), "temperature": 2.0, "limit": -int(rng.integers(1, 20))}]


def makes_no_sense(_, case: Case) -> bool:
    "Whether the case is one to refuse."
    return case["temperature"] <= 0 or (case["limit"] is not None and case["limit"] < 1)


def rates_variant(power: str = "1/T", limit_at: str = "sizes", normal: str = "sum", refuses: bool = True):
    "Rates with one thing done otherwise."

    def rates(sizes: dict[str, int], temperature: float = 1.0, limit: int | None = None) -> dict[str, float]:
        if refuses and (temperature <= 0 or (limit is not None and limit < 1)):
            raise ValueError("no temperature, or no limit")
        limit = math.inf if limit is None or limit_at == "nowhere" else limit
        capped = [min(size, limit) if limit_at != "powers" else size for size in sizes.values()]
        total = sum(capped) or 1
        temperature = temperature or 1.0  # for those that do not refuse
        if power == "1/T":
            weights = [(size / total) ** (1 / temperature) if limit_at != "powers" else min(size ** (1 / temperature), limit) for size in capped]
        elif power == "T":
            weights = [(size / total) ** temperature for size in capped]
        elif power == "softmax":
            weights = [math.exp(size / total / temperature) for size in capped]
        else:  # halfway to even
            weights = [size / total / temperature + (1 - 1 / temperature) / len(capped) for size in capped]
        whole = {"sum": sum(weights), "largest": max(weights), "nothing": 1}[normal] or 1
        return {name: weight / whole for name, weight in zip(sizes, weights, strict=True)}

    return rates


def rates_by_logarithm(sizes: dict[str, int], temperature: float = 1.0, limit: int | None = None) -> dict[str, float]:
    if not temperature > 0 or (limit is not None and not limit > 0):
        raise ValueError("no")
    scores = np.log(np.minimum(list(sizes.values()), math.inf if limit is None else limit)) / temperature
    weights = np.exp(scores - scores.max())
    return dict(zip(sizes, (weights / weights.sum()).tolist(), strict=True))


def rates_pair_by_pair(sizes: dict[str, int], temperature: float = 1.0, limit: int | None = None) -> dict[str, float]:
    "A rate is one over the sum of the ratios to it."
    if temperature <= 0:
        raise ValueError("a temperature is above 0")
    if limit is not None and limit <= 0:
        raise ValueError("a limit is 1 or more")
    seen = {name: size if limit is None or size < limit else limit for name, size in sizes.items()}
    return {name: 1 / sum((other / size) ** (1 / temperature) for other in seen.values()) for name, size in seen.items()}


CHECKS = (
    Check(
        id="instruction.pack_examples",
        name="pack_examples",
        builds="data.packing.pack_examples",
        cases=packing_cases,
        use=uses.packed,
        reference=packing_variant(),
        right=(packed_by_arrays, packed_by_joining),
        wrong=(
            Wrong(packing_variant(labels="shifted"),
                  "You make labels by shifting the row. That asks for the prompts too, and asks the last token of an example to say how its "
                  "neighbour begins. Labels travel with their example."),
            Wrong(packing_variant(labels="not shifted"),
                  "Your labels are the tokens themselves. An example's labels are shifted already: what stands at a place is the token after it."),
            Wrong(packing_variant(numbers="ones"),
                  "All tokens of a row have the number 1: to the attention that is one long document, and the examples read one another."),
            Wrong(packing_variant(numbers="from zero"),
                  "You count the examples of a row from 0. That is the number of padding: nobody would look at the first example."),
            Wrong(packing_variant(numbers="of all"),
                  "You give every example its place in the list for a number. The count begins at 1 in every row."),
            Wrong(packing_variant(real="ids"),
                  "You take every token that is `pad_id` for padding. An example may hold that id itself: the seats say what is padding, not the ids."),
            *(Wrong(packing_variant(labels=labels),
                    "You ask nothing where a token is `pad_id`. An example may hold that id itself and ask for it: it is in free seats alone that you write -100.")
              for labels in ("none after padding", "never padding")),
            Wrong(packing_variant(numbers="running"),
                  "Your numbers go on from row to row. The count begins at 1 in every row."),
            Wrong(packing_variant(positions="of the row"),
                  "Positions go on through the row. In every example they begin at 0, as if it were alone."),
            Wrong(packing_variant(filler="places"),
                  "Positions go on in the padding; there they are 0."),
            Wrong(packing_variant(filler="ids"),
                  "The labels of free seats hold `pad_id`: the model would be trained to say padding. -100 asks for nothing."),
            Wrong(packing_variant(filler="nought"),
                  "The labels of free seats are 0, which is a token of the vocabulary. -100 asks for nothing."),
            Wrong(packing_variant(filler="zeros"),
                  "The free seats hold 0 whatever `pad_id` says."),
            Wrong(packing_variant(rows="next fit"),
                  "You fill one row after the other, in the order in which the examples come. `best_fit` says who shares a row."),
            Wrong(packing_variant(rows="one each"),
                  "Every example has a row of its own: that is padding, not packing."),
            Wrong(packing_variant(too_long="cut"),
                  "An example that is too long is cut in silence, and its answer is what goes first. Raise a ValueError; `best_fit` does so by itself."),
        ),
    ),
    Check(
        id="instruction.draws",
        name="mended_draws",
        cases=mixture_cases,
        use=uses.draws,
        reference=mixture_variant(),
        right=(dealt_out, counted_once),
        wrong=(
            Wrong(mixture_variant(counts="cut", dealt="from here", orders="same"),
                  "This is still the mixture as you found it: all three faults are in."),
            Wrong(mixture_variant(counts="cut"),
                  "A rate of 0.29 gets 28 draws of 100: 100 · 0.29 is a little less than 29, and `int` cuts off. What is missing goes to the last set, for "
                  "ever."),
            Wrong(mixture_variant(counts="up"),
                  "A rate of 0.14 gets 15 draws of 100: 100 · 0.14 is a little more than 14, and you round up. Take the nearest whole number."),
            Wrong(mixture_variant(dealt="from here"),
                  "A run that is resumed deals every set from its first row on again: the draws before `start` have to be counted too."),
            Wrong(mixture_variant(orders="same"),
                  "When a set is exhausted it begins again in the same order. `order_of` has to be told for which time it is dealt."),
            Wrong(mixture_variant(dealt="from here", orders="same"),
                  "The rates are right now. A resumed run still deals from the first row, and an exhausted set still repeats its order."),
            Wrong(mixture_variant(counts="cut", orders="same"),
                  "The resuming is right now. The rates are still cut off, and an exhausted set still repeats its order."),
            Wrong(mixture_variant(counts="cut", dealt="from here"),
                  "The orders are right now. The rates are still cut off, and a resumed run still deals from the first row."),
            Wrong(mixture_variant(dealt="guessed"),
                  "You take the rate times `start` for what has been dealt. At the end of a block that is right; within one the order is chance, so its "
                  "draws have to be counted."),
            Wrong(mixture_variant(dealt="whole blocks"),
                  "You count what whole blocks have dealt, but forget the draws between the beginning of the block and `start`."),
            Wrong(mixture_variant(dealt="of the block"),
                  "You play the block from its beginning, but forget what the blocks before it have dealt."),
        ),
    ),
    Check(
        id="instruction.mixing_rates",
        name="mixing_rates",
        cases=rates_cases,
        reference=rates_by_logarithm,
        right=(rates_variant(), rates_pair_by_pair),
        tolerance=1e-9,
        wrong=(
            Wrong(rates_variant(power="T"),
                  "You raise to the power of the temperature, not of one over it: the large sets grow instead of shrinking."),
            Wrong(rates_variant(power="softmax"),
                  "That is a softmax of the rates. It is their *logarithms* that are divided by the temperature: at a temperature of 1 nothing may change."),
            Wrong(rates_variant(power="even"),
                  "You go part of the way to equal rates on a straight line. The rates are raised to a power: small sets gain by more."),
            Wrong(rates_variant(limit_at="nowhere"),
                  "The limit does nothing: a set counts for no more than `limit` rows, however many it has."),
            Wrong(rates_variant(limit_at="powers"),
                  "You apply the limit after the temperature. It is one of rows: cap the sizes first."),
            Wrong(rates_variant(normal="nothing"),
                  "Your rates do not sum to 1: after the power they have to be divided by their sum once more."),
            Wrong(rates_variant(normal="largest"),
                  "You divide by the largest rate; the sum is what makes them shares of the draws."),
            Wrong(rates_variant(refuses=False),
                  "A temperature of 0 or below, or a limit below 1, makes no sense, and you answer rates: raise a ValueError.", makes_no_sense),
        ),
    ),
)
