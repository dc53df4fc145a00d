"""Examples of any length in rows of one length: whole, several a row, and none of them seen by its neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microbert_course.data.corpus import best_fit, positions_in

__all__ = ["Example", "Packed", "pack_examples", "pad_examples"]

NOT_ASKED = -100  # a label at which no loss is taken


@dataclass(frozen=True, eq=False)
class Example:
    """What a decoder reads, and at every place what it should say next.

    Raises: ValueError if the two are not int64 of one length, are empty, or a label is neither an id nor -100."""

    ids: np.ndarray     # (tokens,) int64
    labels: np.ndarray  # (tokens,) int64, shifted already: the label at i is the token after i, -100 = not asked

    def __post_init__(self):
        for name in ("ids", "labels"):
            value = getattr(self, name)
            if not isinstance(value, np.ndarray) or value.dtype != np.int64 or value.ndim != 1:
                found = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
                raise ValueError(f"{name} of an example are {found}: give one row of int64, as np.array(…, dtype=np.int64) makes it")
        if len(self.ids) != len(self.labels) or not len(self.ids):
            raise ValueError(f"an example of {len(self.ids)} ids and {len(self.labels)} labels: give one label for every id, at least one of each")
        is_wrong = (self.labels < 0) & (self.labels != NOT_ASKED)
        if is_wrong.any():
            place = int(is_wrong.argmax())
            raise ValueError(f"label {self.labels[place]} at place {place} is no id: write {NOT_ASKED} where nothing is asked")


@dataclass(frozen=True, eq=False)
class Packed:
    "Rows for a decoder, all of one shape."

    input_ids: np.ndarray         # (rows, seq) int64
    document_numbers: np.ndarray  # (rows, seq) int64: 1 for a row's first example, 2 for its second, …; 0 = padding; the decoder's attention_mask
    position_ids: np.ndarray      # (rows, seq) int64: 0 at the first token of every example; 0 at padding
    labels: np.ndarray            # (rows, seq) int64: the token that comes next, -100 = not asked


def pack_examples(
    examples: Sequence[Example],  # each of at most `max_seq_len` tokens
    max_seq_len: int,
    pad_id: int,  # any id of the vocabulary: nobody looks at it
) -> Packed:
    """Whole examples, several a row: the longest first, each into the fullest row that has room (best fit decreasing, Johnson et al. 1974).

    Labels travel with their example, so the last token of one is never asked for the first of the next.

    Raises: ValueError if an example is too long, or there is none."""
    examples = _checked(examples, max_seq_len)
    return _laid_out(examples, best_fit([len(example.ids) for example in examples], max_seq_len), max_seq_len, pad_id)


def pad_examples(
    examples: Sequence[Example],  # each of at most `max_seq_len` tokens
    max_seq_len: int,
    pad_id: int,
) -> Packed:  # one row an example, in the order given
    """An example a row, filled up.

    Raises: ValueError if an example is too long, or there is none."""
    examples = _checked(examples, max_seq_len)
    return _laid_out(examples, [[number] for number in range(len(examples))], max_seq_len, pad_id)


def _checked(examples: Sequence[Example], max_seq_len: int) -> list[Example]:
    examples = list(examples)
    if not examples:
        raise ValueError("no examples: give at least one")
    for number, example in enumerate(examples):
        if len(example.ids) > max_seq_len:
            raise ValueError(f"example {number} has {len(example.ids)} tokens and a row {max_seq_len}: "
                             "shorten its prompt, leave it out, or choose a larger max_seq_len")
    return examples


def _laid_out(examples: list[Example], rows: list[list[int]], max_seq_len: int, pad_id: int) -> Packed:
    shape = len(rows), max_seq_len
    input_ids, numbers, labels = (np.full(shape, filler, np.int64) for filler in (pad_id, 0, NOT_ASKED))
    for row, members in enumerate(rows):
        ids = np.concatenate([examples[number].ids for number in members])
        input_ids[row, : len(ids)] = ids
        numbers[row, : len(ids)] = np.repeat(np.arange(1, len(members) + 1), [len(examples[number].ids) for number in members])
        labels[row, : len(ids)] = np.concatenate([examples[number].labels for number in members])
    return Packed(input_ids, numbers, positions_in(numbers), labels)
