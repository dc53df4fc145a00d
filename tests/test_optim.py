"""AdamW, Muon, their parameter groups and the schedules: hand-worked steps, agreement with torch and transformers, errors."""

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers.optimization import (
    get_cosine_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from microbert_course.training.optim import (
    AdamW,
    Muon,
    cosine_schedule,
    linear_schedule,
    muon_groups,
    orthogonalize,
    parameter_groups,
)

SCHEDULES = pytest.mark.parametrize("schedule", [linear_schedule, cosine_schedule])


def small_network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 7), nn.LayerNorm(7), nn.GELU(), nn.Linear(7, 3)).to(dtype)


def train(model, optimizer, steps):
    "Update on the batch of each step, a pure function of its number."
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        input_ids, target = torch.randint(11, (5,), generator=generator), torch.randn(5, 3, generator=generator)
        optimizer.zero_grad()
        (model(input_ids) - target).square().mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def one_step(gradient, weight=1.0, **settings):
    parameter = nn.Parameter(torch.tensor([weight], dtype=torch.float64))
    parameter.grad = torch.tensor([gradient], dtype=torch.float64)
    AdamW([parameter], **settings).step()
    return parameter.item()


def test_a_hundred_steps_equal_torch_to_the_last_bit():
    "Two groups, one decaying: the same operations in the same order leave no room for a difference."
    ours, theirs = small_network(), small_network()
    ours_weights = train(ours, AdamW(parameter_groups(ours, 0.1), lr=1e-2), range(100))
    theirs_weights = train(theirs, torch.optim.AdamW(parameter_groups(theirs, 0.1), lr=1e-2, foreach=False), range(100))
    assert torch.equal(ours_weights, theirs_weights)


def test_a_hundred_steps_equal_the_fused_kernel_in_double_precision():
    "The training loop uses the fused one, which rounds in another order: 1e-10 leaves room for float64 rounding only."
    ours, theirs = small_network(torch.float64), small_network(torch.float64)
    settings = dict(lr=1e-2, betas=(0.8, 0.98), eps=1e-6)
    ours_weights = train(ours, AdamW(parameter_groups(ours, 0.1), **settings), range(100))
    theirs_weights = train(theirs, torch.optim.AdamW(parameter_groups(theirs, 0.1), fused=True, **settings), range(100))
    assert (ours_weights - theirs_weights).abs().max() < 1e-10


@pytest.mark.parametrize("gradient", [1e-3, 1.0, -500.0])
def test_the_first_step_is_one_learning_rate_long_whatever_the_gradient(gradient):
    "Bias correction makes mean / root mean square the sign of the gradient; without it the step is 3.16 rates long."
    assert one_step(gradient, lr=0.1, weight_decay=0) == pytest.approx(1 - 0.1 * math.copysign(1, gradient), abs=1e-5)


def test_decay_is_decoupled_from_the_gradient():
    "With no gradient, decay alone acts: 1 · (1 − 0.1 · 0.5). Coupled, the weight would move by the whole rate, to 0.9."
    assert one_step(0.0, lr=0.1, weight_decay=0.5) == pytest.approx(0.95, abs=1e-12)


def test_a_parameter_without_gradient_stays_as_it_is():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = AdamW([used, unused], lr=0.1, weight_decay=0.5)
    used.grad = torch.ones(2)
    optimizer.step()
    assert (used < 1).all() and torch.equal(unused.detach(), torch.ones(2)) and unused not in optimizer.state


def test_the_state_survives_saving_and_loading():
    "50 steps, a file, 50 steps: equal to 100 steps to the last bit; without the file they are not."
    model = small_network()
    whole = train(model, AdamW(model.parameters(), lr=1e-2), range(100))

    model = small_network()
    optimizer = AdamW(model.parameters(), lr=1e-2)
    train(model, optimizer, range(50))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    forgetful = copy.deepcopy(model)
    restored = AdamW(model.parameters(), lr=0.5)  # the saved rate takes the place of this one
    restored.load_state_dict(torch.load(file))
    assert torch.equal(train(model, restored, range(50, 100)), whole)
    assert not torch.equal(train(forgetful, AdamW(forgetful.parameters(), lr=1e-2), range(50, 100)), whole)


def test_groups_with_settings_of_their_own_equal_torch_across_a_save():
    "Each group its rate, betas, eps and decay; after 50 steps another optimizer goes on from the saved state."
    ends = []
    for optimizer_class in (AdamW, torch.optim.AdamW):
        model = small_network()
        decayed, spared = parameter_groups(model, 0.3)
        groups = [{**decayed, "lr": 2e-2, "betas": (0.8, 0.95)}, {**spared, "lr": 5e-3, "eps": 1e-4}]
        optimizer = optimizer_class(groups)
        train(model, optimizer, range(50))
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        restored = optimizer_class([{"params": group["params"]} for group in groups], lr=1.0)
        restored.load_state_dict(torch.load(file))
        ends.append(train(model, restored, range(50, 100)))
    assert torch.equal(*ends)


def test_a_closure_is_called_with_gradients_and_its_loss_comes_back():
    weight = nn.Parameter(torch.ones(1))
    optimizer = AdamW([weight], lr=0.1, weight_decay=0)

    def closure():
        loss = (3 * weight).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    assert weight.item() == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(lr=-0.1), "lr -0.1 is not a learning rate"),
        (dict(lr=math.nan), "lr nan is not a learning rate"),
        (dict(betas=(0.9, 1.0)), r"betas \(0.9, 1.0\) are not two numbers"),
        (dict(betas=(-0.1, 0.9)), r"betas \(-0.1, 0.9\) are not two numbers"),
        (dict(betas=(0.9,)), r"betas \(0.9,\) are not two numbers"),
        (dict(eps=0), "eps 0 is not a small number above 0"),
        (dict(weight_decay=-0.01), "weight_decay -0.01 is negative"),
    ],
)
def test_bad_settings_stop_at_the_door(settings, message):
    "In the defaults, and in a group, where they are easier to overlook."
    parameter = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match=message):
        AdamW([parameter], **settings)
    with pytest.raises(ValueError, match=message):
        AdamW([{"params": [parameter], **settings}])


def test_matrices_decay_and_biases_and_norms_do_not():
    model = small_network()
    decayed, spared = parameter_groups(model, weight_decay=0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert [p.shape for p in decayed["params"]] == [(11, 6), (7, 6), (3, 7)]
    assert [p.shape for p in spared["params"]] == [(7,), (7,), (7,), (3,)]


def test_frozen_parameters_are_in_no_group_and_a_frozen_model_is_refused():
    model = small_network()
    model[0].weight.requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups(model, 0.1)) == 6
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="Sequential has no trainable parameter"):
        parameter_groups(model, 0.1)


def test_a_negative_decay_is_refused():
    with pytest.raises(ValueError, match="weight_decay -1 is negative"):
        parameter_groups(small_network(), -1)


def test_the_linear_schedule_worked_by_hand():
    "Four steps up, then six down towards the zero at step 10."
    factors = [linear_schedule(step, 10, warmup_steps=4) for step in range(11)]
    assert factors == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])


def test_the_cosine_schedule_worked_by_hand():
    "Down along half a cosine: 60, 90 and 120 degrees give 3/4, 1/2 and 1/4."
    factors = [cosine_schedule(step, 10, warmup_steps=4) for step in (0, 3, 4, 6, 7, 8, 10)]
    assert factors == pytest.approx([1 / 4, 1, 1, 3 / 4, 1 / 2, 1 / 4, 0])


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [(linear_schedule, get_linear_schedule_with_warmup), (cosine_schedule, get_cosine_schedule_with_warmup)],
)
def test_schedules_equal_transformers_but_for_the_first_warmup_step(schedule, reference):
    "Theirs starts the warmup at 0, so that the first update moves nothing; ours is one step ahead until the peak."
    optimizers = [torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0) for _ in range(2)]
    schedulers = [LambdaLR(optimizers[0], lambda step: schedule(step, 50, warmup_steps=10)),
                  reference(optimizers[1], num_warmup_steps=10, num_training_steps=50)]
    rates = []
    for _ in range(51):
        rates.append([scheduler.get_last_lr()[0] for scheduler in schedulers])
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
    ours, theirs = zip(*rates, strict=True)
    assert ours[10:] == pytest.approx(theirs[10:], abs=1e-12)
    assert ours[:10] == pytest.approx(theirs[1:11], abs=1e-12)


def test_the_floor_of_the_cosine_equals_transformers():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_cosine_with_min_lr_schedule_with_warmup(optimizer, 10, 50, min_lr_rate=0.3)
    for step in range(51):
        if step >= 10:
            assert scheduler.get_last_lr()[0] == pytest.approx(cosine_schedule(step, 50, 10, floor=0.3), abs=1e-12)
        optimizer.step()
        scheduler.step()


@SCHEDULES
def test_the_floor_is_reached_and_kept(schedule):
    "The way down ends at the floor, half of it lies before the middle, and who trains on after the end stays there."
    factors = [schedule(step, 21, warmup_steps=5, floor=0.1) for step in range(5, 30)]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] == 1 and factors[8] == pytest.approx(0.55) and factors[16:] == pytest.approx([0.1] * 9)


@SCHEDULES
def test_a_training_of_one_step_runs_at_the_peak(schedule):
    assert schedule(0, 1) == schedule(0, 1, warmup_steps=1) == 1


@SCHEDULES
def test_a_training_that_is_all_warmup_ends_at_the_floor(schedule):
    "LambdaLR asks for one factor more than there are updates, right after the last one."
    assert schedule(2, 3, warmup_steps=3) == 1
    assert schedule(3, 3, warmup_steps=3, floor=0.25) == 0.25


@SCHEDULES
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(step=-1, total_steps=10), "step -1 is before the first update"),
        (dict(step=0, total_steps=0), "total_steps 0 is not a training"),
        (dict(step=0, total_steps=10, warmup_steps=11), "warmup_steps 11 is outside the 10 steps"),
        (dict(step=0, total_steps=10, warmup_steps=-1), "warmup_steps -1 is outside the 10 steps"),
        (dict(step=0, total_steps=10, floor=1.5), "floor 1.5 is not a share"),
        (dict(step=0, total_steps=10, floor=math.nan), "floor nan is not a share"),
    ],
)
def test_impossible_schedules_stop_at_the_door(schedule, arguments, message):
    with pytest.raises(ValueError, match=message):
        schedule(**arguments)


def quintic(sigma):
    return 3.4445 * sigma - 4.7750 * sigma**3 + 2.0315 * sigma**5


def random_matrix(rows, columns, dtype=torch.float64):
    return torch.randn(rows, columns, dtype=dtype, generator=torch.Generator().manual_seed(rows))


SHAPES = pytest.mark.parametrize(("rows", "columns"), [(7, 7), (5, 30), (30, 5), (1, 6), (6, 1)])


@SHAPES
def test_orthogonalize_keeps_the_directions_and_sends_each_singular_value_through_the_quintic(rows, columns):
    "U f(S) V' from an SVD, f five times the quintic of the values over their root of summed squares: float64 rounding."
    matrix = random_matrix(rows, columns)
    left, sigma, right = torch.linalg.svd(matrix, full_matrices=False)
    sigma = sigma / sigma.norm()
    for _ in range(5):
        sigma = quintic(sigma)
    torch.testing.assert_close(orthogonalize(matrix), left * sigma @ right, rtol=0, atol=1e-10)


@SHAPES
def test_all_singular_values_come_out_near_one(rows, columns):
    "Jordan et al. 2024: about 0.7 to 1.2; a hundredth and up gives 0.68 to 1.14. The scale does not matter."
    for scale in (1e-4, 1.0, 1e4):
        sigma = torch.linalg.svdvals(orthogonalize(scale * random_matrix(rows, columns)))
        assert 0.68 < sigma.min() and sigma.max() < 1.14
    assert torch.equal(orthogonalize(torch.zeros(rows, columns)), torch.zeros(rows, columns))  # and no NaN


def test_orthogonalize_in_bfloat16_stays_within_its_few_digits():
    matrix = random_matrix(20, 50)
    assert (orthogonalize(matrix.bfloat16()).double() - orthogonalize(matrix)).abs().max() < 0.02


def test_orthogonalize_refuses_what_is_no_matrix():
    with pytest.raises(ValueError, match=r"shape \(3, 4, 5\) is no matrix"):
        orthogonalize(torch.zeros(3, 4, 5))


class Stack(nn.Module):
    "Embedding, two blocks with norms, head: what `muon_groups` has to tell apart."

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 6)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 6), nn.LayerNorm(6))
                                    for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, input_ids):
        hidden = self.embedding(input_ids)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(hidden)


def test_a_hundred_steps_of_muon_equal_torch_to_the_last_bit_across_a_save():
    "torch.optim.Muon for the hidden matrices and AdamW for the rest against one Muon, saved and loaded half-way."
    ours, theirs = Stack(), Stack()
    optimizer = Muon(muon_groups(ours, 0.1, lr=0.02, adamw_lr=5e-3), betas=(0.8, 0.98))
    train(ours, optimizer, range(50))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    restored = Muon(muon_groups(ours, 0.0, lr=1.0, adamw_lr=1.0))
    restored.load_state_dict(torch.load(file))
    ours_weights = train(ours, restored, range(50, 100))

    hidden, *rest = muon_groups(theirs, 0.1, lr=0.02, adamw_lr=5e-3)
    for group in (hidden, *rest):
        del group["use_muon"]
    both = [torch.optim.Muon([hidden]), torch.optim.AdamW(rest, betas=(0.8, 0.98), foreach=False)]

    class Both:
        def zero_grad(self):
            theirs.zero_grad()

        def step(self):
            for optimizer in both:
                optimizer.step()

    assert torch.equal(ours_weights, train(theirs, Both(), range(100)))


def test_muon_steps_have_the_rate_as_their_length_and_tall_matrices_take_longer_ones():
    "First step: momentum is a multiple of the gradient, so the step is rate · root(rows / columns) · orthogonal."
    for rows, columns in ((4, 9), (12, 3)):
        weight = nn.Parameter(torch.zeros(rows, columns))
        weight.grad = random_matrix(rows, columns, torch.float32)
        Muon([weight], lr=0.1, dtype=torch.float32).step()
        step = 0.1 * max(1, rows / columns) ** 0.5 * orthogonalize(weight.grad)
        torch.testing.assert_close(weight.detach(), -step)


def test_muon_decay_is_apart_from_the_gradient():
    weight = nn.Parameter(torch.ones(2, 3))
    weight.grad = torch.zeros(2, 3)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 3), 0.95))


def test_muon_groups_hold_every_parameter_once_and_only_block_matrices_are_muons():
    model = Stack()
    hidden, others, vectors = muon_groups(model, 0.1, lr=0.02, adamw_lr=1e-3)
    assert [tuple(p.shape) for p in hidden["params"]] == [(9, 6), (6, 9)] * 2
    assert [tuple(p.shape) for p in others["params"]] == [(11, 6), (3, 6)]
    assert sum(len(group["params"]) for group in (hidden, others, vectors)) == len(list(model.parameters()))
    assert [(g["lr"], g["weight_decay"], g["use_muon"]) for g in (hidden, others, vectors)] == [
        (0.02, 0.1, True), (1e-3, 0.1, False), (1e-3, 0.0, False)]
    with pytest.raises(ValueError, match="Sequential has no trainable matrix inside an nn.ModuleList"):
        muon_groups(small_network(), 0.1, lr=0.02, adamw_lr=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(momentum=1.0), "momentum 1.0 is not at least 0 and below 1"),
        (dict(momentum=math.nan), "momentum nan is not"),
        (dict(lr=-0.1), "lr -0.1 is not a learning rate"),
        (dict(weight_decay=-1), "weight_decay -1 is negative"),
    ],
)
def test_bad_settings_of_muon_stop_at_the_door(settings, message):
    matrix = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(ValueError, match=message):
        Muon([matrix], **settings)
    with pytest.raises(ValueError, match=message):
        Muon([{"params": [matrix], **settings}])


def test_muon_refuses_a_vector_and_keeps_no_half_added_group():
    vector = nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match=r"shape \(3,\) is no matrix: put it into a group with use_muon=False"):
        Muon([vector])
    optimizer = Muon([nn.Parameter(torch.ones(2, 2))])
    with pytest.raises(ValueError, match="is no matrix"):
        optimizer.add_param_group({"params": [vector]})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [vector], "use_muon": False})
    vector.grad = torch.ones(3)
    optimizer.step()
    assert (vector < 1).all()
