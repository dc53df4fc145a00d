"""Streams shuffled, cut, packed and resumed: every item once, no token lost, documents apart, the rows of a step a function of the step."""

import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from microbert_course.data.corpus import (
    LAYOUTS,
    StreamedRows,
    best_fit,
    document_numbers,
    encode_rows,
    in_chunks,
    is_held_out,
    pack,
    pad,
    positions_in,
    shuffled,
    windows,
)
from microbert_course.data.sources import load
from microbert_course.data.wordpiece import WordCacheEncoder, train_wordpiece
from microbert_course.errors import CourseError
from microbert_course.models.attention import MultiHeadAttention
from microbert_course.models.bert import MicroBertConfig, MicroBertForMaskedLM

CLS, SEP = 2, 3


def document(num_tokens, first=10, dtype=np.uint16):
    "[CLS], tokens counted up, [SEP]."
    return np.array([CLS, *range(first, first + num_tokens), SEP], dtype=dtype)


def documents_in(rows):
    "What a packed table holds, document by document."
    numbers = document_numbers(rows, CLS)
    return [row[of == number].tolist() for row, of in zip(rows, numbers, strict=True) for number in range(1, of.max() + 1)]


@pytest.fixture(scope="module")
def texts():
    return load("rotten_tomatoes", "train")["text"][:400]


@pytest.fixture(scope="module")
def tokenizer(texts):
    return train_wordpiece(texts, 600)


# --- the buffer

@pytest.mark.parametrize(("num_items", "buffer_size"), [(0, 3), (1, 1), (7, 3), (7, 7), (7, 100), (1_000, 64)])
def test_the_buffer_hands_out_every_item_once(num_items, buffer_size):
    assert sorted(shuffled(range(num_items), buffer_size, 5)) == list(range(num_items))


def test_a_buffer_of_one_keeps_the_order_and_a_large_one_does_not():
    assert list(shuffled(range(50), 1)) == list(range(50))
    assert list(shuffled(range(50), 50)) != list(range(50))


def test_the_order_is_a_function_of_the_seed():
    orders = {tuple(shuffled(range(200), 20, seed)) for seed in (0, 1, (0, 1), (1, 1), 0)}
    assert len(orders) == 4
    assert list(shuffled(range(9), 3, 0)) == list(shuffled(iter(range(9)), 3, 0)) == [2, 1, 4, 0, 6, 7, 3, 8, 5]


def test_nothing_comes_out_early_and_the_lateness_is_geometric():
    "At most buffer - 1 places early; P(at its own place or later) = (1 - 1/B)^(B-1), 0.370 for 64: five standard errors are 0.017."
    order = np.array(list(shuffled(range(20_000), 64, 1)))
    lateness = np.arange(20_000) - order
    assert lateness.min() == -63
    assert (lateness[order > 64] >= 0).mean() == pytest.approx((1 - 1 / 64) ** 63, abs=0.017)


def test_the_buffer_reads_no_further_than_it_must():
    read = []
    source = shuffled((read.append(i) or i for i in range(1_000)), 10)
    assert read == []
    next(source)
    assert len(read) == 11


def test_a_buffer_of_nothing_is_refused_at_the_door():
    with pytest.raises(ValueError, match="buffer_size 0 holds nothing: use 1"):
        shuffled([1, 2], 0)


# --- held out

def test_one_text_in_ten_is_held_out_with_all_its_copies():
    held = [is_held_out(f"text number {i}", 10) for i in range(10_000)]
    assert np.mean(held) == pytest.approx(0.1, abs=0.015)  # five standard errors
    assert all(is_held_out(f"Text <br />NUMBER {i}!") == is_held_out(f"text number {i}") for i in range(200))
    assert [i for i in range(40) if is_held_out(f"text number {i}", 4)] == [0, 3, 4, 5, 11, 17, 20, 24, 25, 26, 27, 30, 35, 36]  # on every machine


def test_holding_out_everything_is_refused():
    with pytest.raises(ValueError, match="one_in 1 leaves nothing to train on"):
        is_held_out("a", 1)


# --- windows

def test_windows_by_hand():
    assert [piece.tolist() for piece in windows(document(8), 6, 1)] == [[2, 10, 11, 12, 13, 3], [2, 13, 14, 15, 16, 3], [2, 16, 17, 3]]
    assert [piece.tolist() for piece in windows(document(0), 6, 1)] == [[2, 3]]


@pytest.mark.parametrize(("max_seq_len", "stride"), [(3, 0), (6, 0), (6, 3), (9, 2), (50, 7)])
def test_windows_lose_no_token_and_share_exactly_the_stride(max_seq_len, stride):
    for num_tokens in range(45):
        pieces = windows(document(num_tokens), max_seq_len, stride)
        inner = [piece[1:-1].tolist() for piece in pieces]
        assert all(piece[0] == CLS and piece[-1] == SEP and len(piece) <= max_seq_len and piece.dtype == np.uint16 for piece in pieces)
        assert inner[0] + [token for piece in inner[1:] for token in piece[stride:]] == list(range(10, 10 + num_tokens))
        assert all(len(piece) > stride for piece in inner[1:])  # a window of nothing but the last one's tokens adds none


def test_windows_are_those_of_tokenizers(texts, tokenizer):
    text = " ".join(texts[:40])
    for max_seq_len, stride in ((16, 0), (16, 5), (40, 37)):
        theirs = tokenizer(text, truncation=True, max_length=max_seq_len, stride=stride, return_overflowing_tokens=True)["input_ids"]
        whole = WordCacheEncoder(tokenizer).encode_whole([text])[0]
        assert [piece.tolist() for piece in windows(whole, max_seq_len, stride)] == theirs


@pytest.mark.parametrize(("arguments", "sentence"), [
    ((document(4), 2, 0), "max_seq_len 2 leaves no room"),
    ((document(4), 6, 4), "stride 4 in rows with room for 4 tokens never comes to an end: use 0 to 3"),
    ((document(4), 6, -1), "stride -1"),
    ((np.array([2]), 6, 0), "a document of 1 ids has no edges"),
])
def test_windows_that_make_no_sense_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        windows(*arguments)


# --- packing

def test_packing_by_hand():
    "Sizes 5, 3, 2, 4 in rows of 7: the longest first, each into the fullest row with room, fill two rows to the last seat."
    documents = [document(3), document(1), document(0), document(2)]
    assert pack(documents, 7).tolist() == [[2, 10, 11, 12, 3, 2, 3], [2, 10, 11, 3, 2, 10, 3]]
    assert pad(documents, 5).tolist() == [[2, 10, 11, 12, 3], [2, 10, 3, 0, 0], [2, 3, 0, 0, 0], [2, 10, 11, 3, 0]]


def test_best_fit_says_who_shares_a_row():
    "Places in the list, not lengths; of equals the first given, of rows equally full the first opened."
    assert best_fit([5, 3, 2, 4], 7) == [[0, 2], [3, 1]]
    assert best_fit([3, 3, 1, 1], 4) == [[0, 2], [1, 3]]
    with pytest.raises(ValueError, match="document 1 has 8 tokens and a row 7"):
        best_fit([5, 8], 7)


def test_ties_are_settled_by_who_came_first():
    "Two rows with one seat too few for the next and then two equal ones: the first opened takes it."
    rows = pack([document(2, 10), document(2, 20), document(1, 30), document(1, 40)], 7)
    assert rows.tolist() == [[2, 10, 11, 3, 2, 30, 3], [2, 20, 21, 3, 2, 40, 3]]


@pytest.mark.parametrize("seed", range(5))
def test_packing_loses_and_invents_no_document(seed):
    rng = np.random.default_rng(seed)
    documents = [document(int(size), int(first), np.int32) for size, first in zip(rng.integers(0, 30, 200), rng.integers(10, 70_000, 200), strict=True)]
    rows = pack(documents, 32)
    assert rows.dtype == np.int32
    assert sorted(documents_in(rows)) == sorted(one.tolist() for one in documents)
    num_tokens = sum(map(len, documents))
    assert -(-num_tokens // 32) <= len(rows) <= 1.25 * num_tokens / 32 + 1  # 11/9 of the best, as for every best fit decreasing


def test_documents_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="document 1 has 9 tokens and a row 8: cut it with `windows` first"):
        pack([document(2), document(7)], 8)
    with pytest.raises(ValueError, match="document 0 has 0 tokens and a row 8: leave it out"):
        pad([document(2)[:0]], 8)
    with pytest.raises(ValueError, match="no documents"):
        pack([], 8)


def test_documents_of_a_row_are_told_apart_by_the_ids_alone():
    rows = pack([document(3), document(1), document(2), document(0)], 8)
    numbers = document_numbers(rows, CLS)
    assert rows.tolist() == [[2, 10, 11, 12, 3, 2, 10, 3], [2, 10, 11, 3, 2, 3, 0, 0]]
    assert numbers.tolist() == [[1, 1, 1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 2, 2, 0, 0]] and numbers.dtype == np.int64
    assert positions_in(numbers).tolist() == [[0, 1, 2, 3, 4, 0, 1, 2], [0, 1, 2, 3, 0, 1, 0, 0]]


def test_a_row_that_does_not_begin_a_document_is_refused():
    with pytest.raises(ValueError, match="row 1 begins with the id 10 and not with .CLS., 2"):
        document_numbers(np.array([[2, 10, 3], [10, 2, 3]]), CLS)


class BlockAttention(MultiHeadAttention):
    def forward(self, hidden_states, attention_mask):
        query, key, value = self.split_heads(hidden_states)
        may_look = attention_mask[:, None, :, None] == attention_mask[:, None, None, :]
        return self.out(F.scaled_dot_product_attention(query, key, value, may_look).transpose(1, 2).flatten(2))


@torch.no_grad()
@pytest.mark.parametrize("keep", ["both", "attention", "positions"])
def test_packed_documents_get_the_logits_they_get_alone(keep):
    "Within 1e-5 with attention and positions kept apart; with either of the two missing, not within 1e-2."
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = MicroBertForMaskedLM(MicroBertConfig(90, 24, num_layers=3, num_heads=2, intermediate_size=32, max_seq_len=48, initializer_range=0.3)).eval()
    documents = [np.array([CLS, *rng.integers(5, 90, size), SEP]) for size in rng.integers(0, 30, 12)]
    rows = pack(documents, 48)
    numbers = torch.from_numpy(document_numbers(rows, CLS))
    positions = torch.from_numpy(positions_in(numbers.numpy())) if keep != "attention" else torch.arange(48).expand(len(rows), -1)
    tables, block_numbers = model.bert.embeddings, numbers if keep != "positions" else (numbers > 0).long()
    hidden = tables.norm(tables.word(torch.from_numpy(rows)) + tables.position(positions) + tables.token_type.weight[0])
    for block in model.bert.blocks:
        attention = BlockAttention(24, 2)
        attention.load_state_dict(block.attention.sublayer.state_dict())
        hidden = block.feed_forward(block.attention.norm(hidden + attention(hidden, block_numbers)))
    logits = model.head(hidden, tables.word.weight)
    largest = max((model(torch.from_numpy(row[of == n])[None])[0] - scores[of == n]).abs().max().item()
                  for row, of, scores in zip(rows, numbers.numpy(), logits, strict=True) for n in range(1, of.max() + 1))
    assert largest < 1e-5 if keep == "both" else largest > 1e-2


# --- rows

def test_the_layouts(texts, tokenizer):
    encoder = WordCacheEncoder(tokenizer)
    first, cut, packed = (encode_rows(texts, encoder, 24, layout) for layout in LAYOUTS)
    whole = encoder.encode_whole(texts)
    pieces = [piece for ids in whole for piece in windows(ids, 24)]
    assert np.array_equal(first, encoder.encode(texts, 24))
    assert np.array_equal(cut, pad(pieces, 24)) and np.array_equal(packed, pack(pieces, 24))
    assert len(encode_rows(texts, encoder, 24, "windows", stride=8)) > len(cut) > len(packed)


def test_a_layout_that_does_not_exist(texts, tokenizer):
    encoder = WordCacheEncoder(tokenizer)
    with pytest.raises(CourseError, match="layout 'rows' does not exist: choose one of first, windows, packed"):
        encode_rows(texts, encoder, 24, "rows")
    with pytest.raises(CourseError, match="stride 3 needs windows"):
        encode_rows(texts, encoder, 24, "first", 3)


def test_chunks_are_bounded_by_number_and_by_length():
    assert list(in_chunks("abcde", max_texts=2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(in_chunks(["aaa", "b", "c", "dddd"], max_chars=4)) == [["aaa", "b"], ["c", "dddd"]]
    assert list(in_chunks([])) == []


# --- the rows of a step

def numbered(texts):
    "One row a text: its number, twice."
    return np.array([[int(text)] * 2 for text in texts])


def reader(num_texts=17, batch_size=5, seed=3, buffer_size=4, encode=numbered):
    return StreamedRows(lambda: map(str, range(num_texts)), encode, batch_size, seed, buffer_size)


def test_every_epoch_holds_each_row_once_in_another_order():
    source = reader()
    seen = np.concatenate([source.rows(step) for step in range(17)])[:, 0]  # 85 rows, five epochs to the row
    epochs = seen.reshape(5, 17)
    assert all(sorted(epoch) == list(range(17)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 5


def test_a_resumed_run_gets_the_rows_of_an_unbroken_one_at_every_step():
    unbroken = reader()
    batches = [unbroken.rows(step) for step in range(12)]
    for step in range(12):
        resumed = reader()
        assert all(np.array_equal(resumed.rows(later), batches[later]) for later in range(step, 12)), step


def test_steps_may_be_asked_for_in_any_order():
    source, batches = reader(), [reader().rows(step) for step in range(9)]
    for step in (8, 0, 0, 5, 4, 6, 2, 8):
        assert np.array_equal(source.rows(step), batches[step])


def test_another_seed_is_another_order():
    assert not np.array_equal(reader(seed=1).rows(0), reader(seed=2).rows(0))


def test_the_rows_are_read_no_further_than_needed():
    read = []
    source = StreamedRows(lambda: (read.append(i) or str(i) for i in range(100_000)), numbered, 2, 0, buffer_size=10)
    source.rows(0)
    assert len(read) <= 1_000  # one chunk


def test_real_text_in_packed_rows_resumes_too(texts, tokenizer):
    encoder = WordCacheEncoder(tokenizer)

    def source():
        return StreamedRows(lambda: iter(texts), lambda chunk: encode_rows(chunk, encoder, 32, "packed"), 16, 0, 50)

    unbroken = source()
    batches = [unbroken.rows(step) for step in range(50)]  # several epochs
    assert all(np.array_equal(source().rows(step), batches[step]) for step in (0, 7, 23, 24, 25, 49))


def test_the_memory_does_not_grow_with_the_stream():
    """5,000 rows of 128 bytes wait, at about 280 bytes each with what Python needs for an array: 1.4 MB and a chunk or two.

    Rows that waited as views would keep their chunks of 1,000 rows alive, forty of them by then: 5 MB."""
    def peak_mb(num_texts):
        source = StreamedRows(lambda: map(str, range(num_texts)), lambda chunk: np.zeros((len(chunk), 64), np.uint16), 10, 0, 5_000)
        tracemalloc.start()
        source.rows(num_texts // 10 - 1)
        largest = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        return largest

    assert peak_mb(60_000) < 1.2 * peak_mb(10_000) < 3.0


def test_a_fault_on_the_way_does_not_spoil_the_reader():
    "The reader begins anew instead of going on behind the hole."
    readings = 0

    def texts():
        nonlocal readings
        readings += 1
        if readings == 2:  # in the second epoch
            raise CourseError("line 12 is broken")
        return map(str, range(17))

    source = StreamedRows(texts, numbered, 5, 3, 4)
    source.rows(0)
    with pytest.raises(CourseError, match="line 12"):
        source.rows(5)
    assert np.array_equal(source.rows(5), reader().rows(5))


def test_a_stream_that_is_empty_or_used_up_is_told():
    with pytest.raises(CourseError, match="the stream holds no text"):
        reader(num_texts=0).rows(0)
    once = iter("12345")
    source = StreamedRows(lambda: once, numbered, 3)
    with pytest.raises(CourseError, match="empty in epoch 1: `texts` must begin it anew at every call"):
        source.rows(1)


@pytest.mark.parametrize(("settings", "step", "sentence"), [
    ({"batch_size": 0}, 0, "batch_size 0 makes empty batches"), ({"buffer_size": 0}, 0, "buffer_size 0 holds nothing"),
    ({}, -1, "step -1 is before the first"),
])
def test_settings_that_make_no_sense_are_refused(settings, step, sentence):
    with pytest.raises(ValueError, match=sentence):
        reader(**settings).rows(step)
