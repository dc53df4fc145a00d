"Packed rows hold every example whole, cost the model the same loss and gradients as one example a row, and leak nothing."

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from microbert_course.data.corpus import best_fit
from microbert_course.data.packing import Example, pack_examples, pad_examples
from microbert_course.models.gpt import GptConfig, GptForCausalLM


def example(num_prompt, num_answer, rng, vocab_size=40):
    "A prompt that is not asked for and an answer that is."
    ids = rng.integers(1, vocab_size, num_prompt + num_answer)
    return Example(ids, np.array([-100] * (num_prompt - 1) + ids[num_prompt:].tolist() + [-100], np.int64))


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    return [example(int(prompt), int(answer), rng) for prompt, answer in zip(rng.integers(1, 9, 12), rng.integers(1, 8, 12), strict=True)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GptForCausalLM(GptConfig(40, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48, max_seq_len=24, initializer_range=0.2))


def nats(model, rows):
    "(rows, seq): the loss at every place, 0 where nothing is asked."
    logits = model(*(torch.from_numpy(array) for array in (rows.input_ids, rows.document_numbers, rows.position_ids)))
    return F.cross_entropy(logits.mT, torch.from_numpy(rows.labels), reduction="none")


def documents(rows, *tables):
    "What stands in the tables, example by example."
    for row, numbers in enumerate(rows.document_numbers):
        for number in range(1, numbers.max() + 1):
            yield tuple(table[row][numbers == number].tolist() for table in tables)


# --- rows

def test_a_toy_on_paper():
    toy = [Example(np.array(ids), np.array(labels)) for ids, labels in (([5, 6, 7], [-100, 7, -100]), ([8, 9], [9, -100]), ([1, 2, 3, 4], [-100, 3, 4, -100]))]
    rows = pack_examples(toy, 6, pad_id=0)
    assert rows.input_ids.tolist() == [[1, 2, 3, 4, 8, 9], [5, 6, 7, 0, 0, 0]]
    assert rows.document_numbers.tolist() == [[1, 1, 1, 1, 2, 2], [1, 1, 1, 0, 0, 0]]
    assert rows.position_ids.tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 0, 0]]
    assert rows.labels.tolist() == [[-100, 3, 4, -100, 9, -100], [-100, 7, -100, -100, -100, -100]]


@pytest.mark.parametrize("lay_out", [pack_examples, pad_examples])
def test_every_example_is_there_once_and_whole(examples, lay_out):
    rows = lay_out(examples, 24, pad_id=39)
    found = sorted(documents(rows, rows.input_ids, rows.labels, rows.position_ids))
    assert found == sorted((one.ids.tolist(), one.labels.tolist(), list(range(len(one.ids)))) for one in examples)
    outside = rows.document_numbers == 0
    assert (rows.input_ids[outside] == 39).all() and (rows.labels[outside] == -100).all() and (rows.position_ids[outside] == 0).all()


def test_padded_rows_keep_the_order(examples):
    rows = pad_examples(examples, 24, 0)
    assert [row[: len(one.ids)].tolist() for row, one in zip(rows.input_ids, examples, strict=True)] == [one.ids.tolist() for one in examples]


def test_rows_are_those_of_best_fit(examples):
    rows = pack_examples(examples, 24, 0)
    shared = best_fit([len(one.ids) for one in examples], 24)
    assert [examples[number].ids.tolist() for row in shared for number in row] == [ids for ids, in documents(rows, rows.input_ids)]
    assert len(shared) < len(examples)


def test_a_token_that_looks_like_padding_is_a_token():
    "Which tokens are real is said by the documents' numbers, never by the id."
    rows = pack_examples([Example(np.array([3, 0, 3]), np.array([0, 3, -100]))], 4, pad_id=0)
    assert rows.document_numbers.tolist() == [[1, 1, 1, 0]] and rows.labels.tolist() == [[0, 3, -100, -100]]


# --- the model's view

def test_packing_changes_neither_loss_nor_gradients(examples, model):
    "Each token pays what it pays alone; summed up, the same gradients, to float32's rounding."
    found = {}
    for lay_out in (pad_examples, pack_examples):
        rows = lay_out(examples, 24, 0)
        losses = nats(model, rows)
        model.zero_grad()
        losses.sum().backward()
        of_each = sorted((ids, pays) for ids, pays in documents(rows, rows.input_ids, losses.detach().numpy()))
        found[lay_out] = torch.tensor([pay for _, pays in of_each for pay in pays]), torch.cat([p.grad.flatten() for p in model.parameters()])
    (padded, padded_grads), (packed, packed_grads) = found[pad_examples], found[pack_examples]
    assert (padded - packed).abs().max() <= 1e-5 * padded.max()
    assert (padded_grads - packed_grads).abs().max() <= 1e-5 * padded_grads.abs().max()


def test_altering_an_example_leaves_its_neighbours_alone(examples, model):
    "The leak test: all logits of the others stay as they were, and so do the gradients that their loss sends to the altered one's words."
    rows = pack_examples(examples, 24, 0)
    other = pack_examples(examples, 24, 0)
    is_first = other.document_numbers == 1
    other.input_ids[is_first] = (other.input_ids[is_first] + 7) % 40
    with torch.no_grad():
        before, after = nats(model, rows).numpy(), nats(model, other).numpy()
    asked = rows.labels != -100
    assert np.abs(before - after)[asked & (rows.document_numbers > 1)].max() <= 1e-6 * before.max()
    assert np.abs(before - after)[asked & is_first].max() > 0.1, "the example itself does feel it"


def test_a_mask_of_ones_and_zeros_would_leak(examples, model):
    "What the leak test is for: the same rows with the padding mask alone."
    rows = pack_examples(examples, 24, 0)
    rows.document_numbers[:] = rows.document_numbers > 0
    other = pack_examples(examples, 24, 0)
    is_later = other.document_numbers > 1
    other.input_ids[:, 0] = (other.input_ids[:, 0] + 7) % 40
    other.document_numbers[:] = rows.document_numbers
    with torch.no_grad():
        difference = (nats(model, rows) - nats(model, other)).abs().numpy()
    assert difference[is_later].max() > 0.01


def test_the_last_token_of_an_example_is_never_asked_for_the_first_of_the_next(examples):
    "Labels made from a packed row by shifting it would do that."
    rows = pack_examples(examples, 24, 0)
    ends = (rows.document_numbers[:, :-1] != rows.document_numbers[:, 1:]) & (rows.document_numbers[:, :-1] > 0)
    assert ends.any() and (rows.labels[:, :-1][ends] == -100).all()


# --- bad input

def test_an_example_that_does_not_fit_is_named():
    rng = np.random.default_rng(0)
    for lay_out in (pack_examples, pad_examples):
        with pytest.raises(ValueError, match="example 1 has 9 tokens and a row 8: shorten its prompt"):
            lay_out([example(2, 2, rng), example(5, 4, rng)], 8, 0)
        with pytest.raises(ValueError, match="no examples: give at least one"):
            lay_out([], 8, 0)


@pytest.mark.parametrize(("ids", "labels", "says"), [
    ([1, 2], [1], "2 ids and 1 labels"), ([], [], "0 ids and 0 labels"), ([1, 2], [-1, 2], "label -1 at place 0 is no id: write -100"),
])
def test_ids_and_labels_must_fit(ids, labels, says):
    with pytest.raises(ValueError, match=says):
        Example(np.array(ids, np.int64), np.array(labels, np.int64))


@pytest.mark.parametrize(("ids", "says"), [([1, 2], "list"), (np.array([1.0, 2.0]), "float64 of shape"), (np.array([[1, 2]]), r"int64 of shape \(1, 2\)")])
def test_ids_are_one_row_of_int64(ids, says):
    with pytest.raises(ValueError, match=f"ids of an example are {says}"):
        Example(ids, np.array([1, 2]))
