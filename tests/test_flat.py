"""`training.flat`: AdamW over one long tensor does what torch's does to many; and recorded updates, with everything but the recording."""

import copy
import os

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from small_run import small_config, small_data

from microbert_course.models.bert import MicroBert, MicroBertConfig, MicroBertForMaskedLM
from microbert_course.training import graphed
from microbert_course.training.flat import FlatAdamW
from microbert_course.training.graphed import GraphedTraining, halved
from microbert_course.training.loop import Training, build_model
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
        flat.gradient[1][5] = float("inf")
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


def test_a_gradient_of_16_bits_that_nothing_is_added_to_may_stay_as_it_is():
    found = []
    for accumulates in (True, False):
        model, optimizer = fresh()
        flat = FlatAdamW(model, optimizer, halved(model), 1.0, accumulates)
        answers = by_ours(flat, model, range(3))
        found.append([flat.weights, flat.mean, flat.square, flat.copies, *(norm for norm, _ in answers)])
        assert flat.gradient[1].dtype == (torch.float32 if accumulates else torch.bfloat16)
    assert all(map(torch.equal, *found))


def test_weights_that_are_views_of_one_tensor_are_saved_and_read_as_others(tmp_path):
    model, optimizer = fresh()
    flat = FlatAdamW(model, optimizer, halved(model), 1.0)
    by_ours(flat, model, range(1))
    model.bert.save_pretrained(tmp_path)
    again = MicroBert.from_pretrained(tmp_path)
    assert all(map(torch.equal, model.bert.parameters(), again.parameters()))


class Replayed:
    "Stands in for a CUDA graph: does the work again, and leaves its answer where the first one was."

    def __init__(self, work, answer):
        self.work, self.answer = work, answer

    def replay(self):
        for place, found in zip(self.answer or (), self.work() or (), strict=True):
            place.copy_(found)


@pytest.fixture
def without_graphs(monkeypatch):
    def record(work, warm_ups, pool=None):
        for _ in range(warm_ups):
            work()
        answer = work()
        return Replayed(work, answer), answer

    monkeypatch.setattr(graphed, "record", record)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: torch.set_rng_state(state))


@pytest.mark.parametrize("precision, parts, tolerance", [("no", 1, 1e-5), ("no", 4, 1e-5), ("bf16", 1, 1e-2), ("bf16", 2, 1e-2)])
def test_a_recorded_update_is_an_unrecorded_one(without_graphs, precision, parts, tolerance):
    "Rows of several lengths, and one update whose loss is no number."
    config = small_config(batch_size=8, gradient_accumulation_steps=parts, num_steps=30, learning_rate=4e-3, hidden_size=32, dropout=0.0)
    found = {}
    for kind in (Training, GraphedTraining):
        AcceleratorState._reset_state(reset_partial_state=True)
        data = small_data()
        training = kind(build_model(config, len(data.tokenizer)), data, config, Accelerator(cpu=True, mixed_precision=precision))
        updates = []
        for step in range(12):
            bias = training.accelerator.unwrap_model(training.objective).model.head.bias
            kept = bias.detach().clone()
            if step == 5:
                bias.data.fill_(float("nan"))
            updates.append({name: float(value) for name, value in training.update(step).items()})
            if step == 5:
                bias.data.copy_(kept)
        found[kind] = updates
    assert found[Training][-1]["loss"] < found[Training][0]["loss"] - 0.3
    for ours, theirs in zip(found[GraphedTraining], found[Training], strict=True):
        assert ours["is_finite"] == theirs["is_finite"] == (ours["step"] != 5)
        for name in ("loss", "grad_norm") if ours["is_finite"] else ():
            assert ours[name] == pytest.approx(theirs[name], rel=tolerance), (name, ours["step"])
