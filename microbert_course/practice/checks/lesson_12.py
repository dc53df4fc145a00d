"""Checks of the exercises on data at scale."""

import math
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count, islice

import numpy as np

from microbert_course.data.corpus import shuffled
from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.uses import lesson_12 as uses

# 12.1: packing

def document(rng: np.random.Generator, num_tokens: int, dtype: type) -> np.ndarray:
    "[CLS] 2, ordinary ids, [SEP] 3."
    return np.array([2, *rng.integers(10, 30_000, num_tokens - 2), 3], dtype=dtype)


def packing_cases(rng: np.random.Generator) -> list[Case]:
    "Few long documents and many short ones among them; two dtypes; another padding; one document; what must be refused."
    telling = (5, 7, 11, 11, 5, 10, 4, 5, 14, 10, 14, 3)  # in rows of 15, every way of packing makes something else of these sizes
    cases = [{"documents": [document(rng, size, np.int32) for size in telling], "max_seq_len": 15, "pad_id": 5}]
    sizes = [int(size) for size in rng.integers(2, 31, 40)]
    cases.append({"documents": [document(rng, size, np.int16) for size in sizes], "max_seq_len": 32, "pad_id": 1})
    cases.append({"documents": [document(rng, 4, np.int32)], "max_seq_len": 6, "pad_id": 0})
    too_long = [document(rng, size, np.int16) for size in (3, 9, 4)]
    return [*cases, {"documents": too_long, "max_seq_len": 8, "pad_id": 0}, {"documents": [], "max_seq_len": 8, "pad_id": 0}]


def refuse(documents: list[np.ndarray], max_seq_len: int) -> None:
    if not documents or max(map(len, documents)) > max_seq_len:
        raise ValueError("cannot be packed")


def packing_variant(order: str = "longest", take: str = "fullest", strict: bool = False, filler: str = "pad", dtype: type | None = None,
                    open_rows: str = "all", tie: str = "first", whole: bool = True):
    "Packing by a search through all rows, with one thing done otherwise."

    def pack(documents, max_seq_len, pad_id=0):
        refuse(documents, max_seq_len)
        todo = {"longest": sorted(documents, key=len, reverse=True), "given": documents, "shortest": sorted(documents, key=len)}[order]
        if not whole:
            joined = np.concatenate(todo)
            rows = [[joined[start:start + max_seq_len]] for start in range(0, len(joined), max_seq_len)]
        else:
            rows = []
            for one in todo:
                room = [max_seq_len - sum(map(len, row)) for row in rows]
                fitting = [i for i in range(len(rows)) if room[i] - strict >= len(one) and (open_rows == "all" or i == len(rows) - 1)]
                if not fitting:
                    rows.append([one])
                    continue
                fitting = fitting if tie == "first" else fitting[::-1]  # min answers the first of equals
                key = {"fullest": lambda i, room=room: room[i], "first": lambda i: i, "emptiest": lambda i, room=room: -room[i]}[take]
                rows[min(fitting, key=key)].append(one)
        table = np.full((len(rows), max_seq_len), pad_id if filler == "pad" else 0, dtype or documents[0].dtype)
        for row, parts in zip(table, rows, strict=True):
            joined = np.concatenate(parts)
            row[:len(joined)] = joined
        return table

    return pack


def packed_in_drawers(documents, max_seq_len, pad_id=0):
    "Rows in drawers by the seats they have left."
    refuse(documents, max_seq_len)
    rows, drawers = [], {}
    for one in sorted(documents, key=lambda one: -len(one)):
        room = next((room for room in range(len(one), max_seq_len + 1) if drawers.get(room)), None)
        number = len(rows) if room is None else heappop(drawers[room])
        if room is None:
            rows.append([])
        rows[number].extend(one.tolist())
        heappush(drawers.setdefault(max_seq_len - len(rows[number]), []), number)
    return np.array([row + [pad_id] * (max_seq_len - len(row)) for row in rows], dtype=documents[0].dtype)


def packed_by_array(documents, max_seq_len, pad_id=0):
    "The free seats of all rows in one array; its smallest entry that is large enough is the row to take."
    refuse(documents, max_seq_len)
    free = np.full(len(documents), max_seq_len)
    table = np.full((len(documents), max_seq_len), pad_id, documents[0].dtype)
    for index in np.argsort([-len(one) for one in documents], kind="stable"):
        size = len(documents[index])
        row = int(np.where(free >= size, free, max_seq_len + 1).argmin())
        start = max_seq_len - free[row]
        table[row, start:start + size] = documents[index]
        free[row] -= size
    return table[free < max_seq_len]


# 12.2: a reader that forgets

def reading_cases(rng: np.random.Generator) -> list[Case]:
    "From the start and from the middle, inside an epoch and over its end, and far out."
    settings = ((23, 4, 0, 5, 6), (17, 5, 2, 6, 4), (19, 4, 7, 5, 8), (11, 3, 40, 3, 5), (5, 4, 3, 2, 3))
    cases = []
    for num_items, batch_size, start_step, num_steps, buffer_size in settings:
        num_items += int(rng.integers(0, 2)) * batch_size  # so that no epoch ends with a batch
        cases.append({"items": [f"text {number}" for number in rng.permutation(900)[:num_items]], "batch_size": batch_size, "start_step": start_step,
                      "num_steps": num_steps, "buffer_size": buffer_size, "seed": int(rng.integers(1, 1_000))})
    return cases


def reading_variant(skipped: str = "batches", order: str = "epoch", rest: str = "kept"):
    "Reading with some things done otherwise."

    def batches(texts, batch_size, start_step, num_steps, buffer_size, seed):
        to_skip = start_step * {"batches": batch_size, "texts": 1, "before": batch_size}[skipped]
        done, batch = [], []
        for epoch in count():
            source = texts()
            if skipped == "before":  # not the shuffled ones
                items = list(source)
                source, to_skip = items[to_skip:], max(0, to_skip - len(items))
            if rest == "dropped":
                batch = []
            for item in shuffled(source, buffer_size, {"epoch": (seed, epoch), "same": seed, "other": (seed, epoch + 1)}[order]):
                if to_skip and skipped != "before":
                    to_skip -= 1
                    continue
                batch.append(item)
                if len(batch) == batch_size:
                    done.append(batch)
                    batch = []
                if len(done) == num_steps:
                    return done

    return batches


def all_epochs(texts, batch_size, start_step, num_steps, buffer_size, seed) -> list[list[str]]:
    "All epochs that matter, end to end, and the slices."
    end, items, epoch = (start_step + num_steps) * batch_size, [], 0
    while len(items) < end:
        items += shuffled(texts(), buffer_size, (seed, epoch))
        epoch += 1
    return [items[start:start + batch_size] for start in range(start_step * batch_size, end, batch_size)]


def one_endless_stream(texts: Callable, batch_size, start_step, num_steps, buffer_size, seed) -> list[list[str]]:
    def endless() -> Iterator[str]:
        for epoch in count():
            yield from shuffled(texts(), buffer_size, (seed, epoch))

    stream = islice(endless(), start_step * batch_size, None)
    return [list(islice(stream, batch_size)) for _ in range(num_steps)]


# 12.3: how late

def late_cases(rng: np.random.Generator) -> list[Case]:
    "Early, on time and late; small buffers and large ones; the buffer of one; before anything can be out."
    cases = [{"buffer_size": int(size), "places": int(places)} for size, places in
             ((rng.integers(3, 6), 0), (rng.integers(8, 13), -rng.integers(2, 5)), (rng.integers(20, 40), rng.integers(5, 30)),
              (rng.integers(100, 200), rng.integers(100, 300)), (rng.integers(4, 9), 1))]
    size = int(rng.integers(5, 20))
    return [*cases, {"buffer_size": size, "places": 1 - size}, {"buffer_size": size, "places": -3 * size}, {"buffer_size": 1, "places": 0},
            {"buffer_size": 1, "places": 3}]


def late_variant(head_start: str = "buffer - 1", law: str = "geometric", side: str = "late", clipped: bool = True):
    "The share with one thing counted otherwise."

    def share(buffer_size: int, places: int) -> float:
        draws = places + {"buffer - 1": buffer_size - 1, "none": 0, "buffer": buffer_size}[head_start]
        draws = max(0, draws) if clipped else draws
        if law == "geometric":
            late = (1 - 1 / buffer_size) ** draws
        elif law == "exponential":
            late = math.exp(-draws / buffer_size)
        elif law == "exact":
            late = (1 - 1 / buffer_size) ** draws / buffer_size
        else:
            late = max(0.0, 1 - draws / (2 * buffer_size))
        return late if side == "late" else 1 - late

    return share


def survived(buffer_size: int, places: int) -> float:
    "Draw by draw: the item is still there if another one of the hand was laid out."
    share = 1.0
    for _ in range(places + buffer_size - 1):
        share *= (buffer_size - 1) / buffer_size
    return share


def what_is_left(buffer_size: int, places: int) -> float:
    "One less the shares of all earlier places."
    return 1 - math.fsum((1 - 1 / buffer_size) ** draw / buffer_size for draw in range(places + buffer_size - 1))


def by_logarithm(buffer_size: int, places: int) -> float:
    draws = max(0, buffer_size + places - 1)
    return float(draws == 0) if buffer_size == 1 else math.exp(draws * math.log1p(-1 / buffer_size))


CHECKS = (
    Check(
        id="corpus.pack",
        name="pack",
        builds="data.corpus.pack",
        cases=packing_cases,
        use=uses.packed,
        reference=packing_variant(),
        right=(packed_in_drawers, packed_by_array),
        wrong=(
            Wrong(packing_variant(order="given", open_rows="last"),
                  "You fill one row after another and never look back: a row that has room for a later, shorter document stays as it is. "
                  "And the longest are to go first."),
            Wrong(packing_variant(open_rows="last"),
                  "The longest go first, but only the newest row is looked at: the short ones at the end would fill the gaps in all the "
                  "rows before it."),
            Wrong(packing_variant(order="given"),
                  "Each document goes into the fullest row with room, but in the order in which they come: when the long ones arrive, the "
                  "gaps have been taken by short ones. Longest first."),
            Wrong(packing_variant(order="shortest"),
                  "You begin with the shortest, which would have fitted anywhere later. The longest go first."),
            Wrong(packing_variant(take="first"),
                  "You take the first row that has room. The fullest one that still has room leaves the large gaps for large documents."),
            Wrong(packing_variant(take="emptiest"),
                  "You take the row with the most room; it is the one to keep for the large documents. Take the fullest that still has "
                  "room."),
            Wrong(packing_variant(strict=True),
                  "A document that would fill a row to the last seat is sent away: a row needs at least as many free seats as the document "
                  "has tokens, not more."),
            Wrong(packing_variant(tie="last"),
                  "Of rows equally full you take the newest. The first opened is to be taken, so that everybody gets the same rows."),
            Wrong(packing_variant(whole=False),
                  "You lay all tokens end to end and cut: no seat is lost, but documents are torn apart, and their second halves begin "
                  "without [CLS]."),
            Wrong(packing_variant(filler="zero"),
                  "The free seats hold 0 whatever `pad_id` says."),
            Wrong(packing_variant(dtype=np.int64),
                  "The rows are int64. They should have the dtype of the documents: at two bytes a token, 50 million rows fit on a disk."),
        ),
    ),
    Check(
        id="corpus.resume",
        name="mended_batches",
        cases=reading_cases,
        use=uses.batches,
        reference=all_epochs,
        right=(one_endless_stream, reading_variant()),
        wrong=(
            Wrong(reading_variant(skipped="texts", order="same", rest="dropped"),
                  "This is still the reader as you found it: all three faults are in."),
            Wrong(reading_variant(skipped="texts"),
                  "You skip one text for each step that was done. A step has read a whole batch: a resumed run sees texts again that it has "
                  "just learned from."),
            Wrong(reading_variant(order="same"),
                  "Every epoch comes in the same order. The seed of the buffer has to know the epoch."),
            Wrong(reading_variant(rest="dropped"),
                  "The texts that are left when an epoch ends are dropped: with each epoch the steps move away from where they should be, and "
                  "some texts are never read. They begin the next batch."),
            Wrong(reading_variant(skipped="texts", order="same"),
                  "The end of an epoch is right now. The skipping still counts texts for steps, and every epoch still has the same order."),
            Wrong(reading_variant(skipped="texts", rest="dropped"),
                  "The order of the epochs is right now. The skipping still counts texts for steps, and the rest of an epoch is still dropped."),
            Wrong(reading_variant(order="same", rest="dropped"),
                  "The skipping is right now. Every epoch still has the same order, and its rest is still dropped."),
            Wrong(reading_variant(skipped="before"),
                  "You skip texts before they are shuffled. What was read is the beginning of the *shuffled* stream; the buffer has to be "
                  "played forward, too."),
            Wrong(reading_variant(order="other"),
                  "The first epoch should be number 0: the buffer of an epoch is seeded with (seed, epoch)."),
        ),
    ),
    Check(
        id="corpus.share_late",
        name="share_late",
        cases=late_cases,
        reference=survived,
        right=(late_variant(), what_is_left, by_logarithm),
        wrong=(
            Wrong(late_variant(head_start="none"),
                  "You count the draws from the item's own place. It is in the hand earlier than that: the buffer is full of items that come "
                  "after those laid out."),
            Wrong(late_variant(head_start="buffer"),
                  "You are one draw off: an item of `places` places late has survived one draw less. With a buffer of 1, everything comes out "
                  "exactly on time."),
            Wrong(late_variant(law="exponential"),
                  "That is the limit for a large buffer. The question is for an exact share: a draw spares an item with the probability 1 − 1/B."),
            Wrong(late_variant(law="exact"),
                  "That is the share of items that come out at exactly this place. The question is for this place *or later*."),
            Wrong(late_variant(law="even"),
                  "You spread the items evenly over two buffers' length. But a draw does not remember how long an item has waited: there is no "
                  "last moment."),
            Wrong(late_variant(side="early"),
                  "That is the share of items that come out earlier: all the others are asked for."),
            Wrong(late_variant(clipped=False),
                  "A share above 1: nobody comes out more than B − 1 places early, so from there on the answer is 1."),
        ),
    ),
)
