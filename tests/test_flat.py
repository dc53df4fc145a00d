"""`training.flat`: AdamW over one long tensor does what torch's does to many."""

import copy
import os

import pytest
import torch

from microbert_course.models.bert import MicroBert, MicroBertConfig, MicroBertForMaskedLM
from microbert_course.training.flat import FlatAdamW
from microbert_course.training.graphed import halved
from microbert_course.training.optim import parameter_groups


@pytest.fixture(autouse=True)
def environment():
    "Compiling leaves words in the environment, which tests of the runner compare."
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.98)}


def fresh():
    torch.manual_seed(0)
    model = MicroBertForMaskedLM(MicroBertConfig(53, hidden_size=8, num_layers=1, num_heads=2, intermediate_size=16, max_seq_len=9))
    return model, torch.optim.AdamW(parameter_groups(model, 0.1), **SETTINGS)


def gradients_at(step, model):
    torch.manual_seed(100 + step)
    return {name: torch.randn_like(weight) * (step + 1) for name, weight in model.named_parameters()}


def by_torch(model, optimizer, steps):
    for step in steps:
        for name, weight in model.named_parameters():
            weight.grad = gradients_at(step, model)[name]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def by_ours(flat, model, steps, loss=1.0):
    names = {id(weight): name for name, weight in model.named_parameters()}
    order = [names[id(weight)] for weight in flat.owners]
    answers = []
    for step in steps:
        gradients = gradients_at(step, model)
        flat.take(tuple(gradients[name].to(weight.dtype) for name, weight in zip(order, flat.learned, strict=True)), is_first=True)
        flat.loss.fill_(loss)
        flat.learning_rate.fill_(SETTINGS["lr"])
        answers.append(flat.step())
    return answers


def assert_same(model, optimizer, other, other_optimizer, tolerance=1e-6):
    for (name, ours), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, msg=lambda said, name=name: f"{name}: {said}")
        for kind in ("step", "exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(optimizer.state[ours][kind], other_optimizer.state[theirs][kind], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("num_before", [0, 3])
def test_it_does_what_torchs_adamw_does_from_the_start_or_on_the_way(num_before):
    (ours, our_optimizer), (theirs, their_optimizer) = fresh(), fresh()
    for model, optimizer in ((ours, our_optimizer), (theirs, their_optimizer)):
        by_torch(model, optimizer, range(num_before))
    flat = FlatAdamW(ours, our_optimizer, set(), 1.0)
    by_ours(flat, ours, range(num_before, 6))
    by_torch(theirs, their_optimizer, range(num_before, 6))
    assert_same(ours, our_optimizer, theirs, their_optimizer)


def test_what_products_read_is_the_weights_in_16_bits_and_what_is_frozen_stays():
    model, _ = fresh()
    model.bert.embeddings.word.requires_grad_(False)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), **SETTINGS)
    before = copy.deepcopy(model)
    cast = halved(model)
    flat = FlatAdamW(model, optimizer, cast, 1.0)
    by_ours(flat, model, range(3))
    for name, weight in model.named_parameters():
        assert flat.read[name].dtype == (torch.bfloat16 if name in cast else torch.float32)
        assert torch.equal(flat.read[name].float(), weight.bfloat16().float() if name in cast else weight)
        assert torch.equal(weight, before.get_parameter(name)) != weight.requires_grad


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_an_update_without_numbers_changes_nothing(what):
    model, optimizer = fresh()
    flat = FlatAdamW(model, optimizer, halved(model), 1.0)
    by_ours(flat, model, range(2))
    before = [tensor.clone() for tensor in (flat.weights, flat.mean, flat.square, flat.copies, flat.num_steps)]
    if what == "loss":
        assert not by_ours(flat, model, [2], loss=float("nan"))[0][1]
    else:
        flat.gradient[5] = float("inf")
        flat.loss.fill_(1.0)
        assert not flat.step()[1]
    assert all(map(torch.equal, before, (flat.weights, flat.mean, flat.square, flat.copies, flat.num_steps)))
    assert by_ours(flat, model, [3])[0][1] and not torch.equal(before[0], flat.weights)


def test_micro_batches_add_up_and_the_norm_is_that_before_clipping():
    model, optimizer = fresh()
    flat = FlatAdamW(model, optimizer, halved(model), 1.0)
    parts = [tuple(torch.full_like(weight, value) for weight in flat.learned) for value in (7.0, 0.25, 0.5)]
    for number, part in enumerate(parts):
        flat.take(part, is_first=number < 2)  # what was there before a first one is gone
    numbers = sum(weight.numel() for weight in flat.learned)
    assert flat.step()[0].item() == pytest.approx(0.75 * numbers**0.5, rel=1e-6)


def test_weights_that_are_views_of_one_tensor_are_saved_and_read_as_others(tmp_path):
    model, optimizer = fresh()
    flat = FlatAdamW(model, optimizer, halved(model), 1.0)
    by_ours(flat, model, range(1))
    model.bert.save_pretrained(tmp_path)
    again = MicroBert.from_pretrained(tmp_path)
    assert all(map(torch.equal, model.bert.parameters(), again.parameters()))
