"""Float formats, rounding, loss scaling, the log of operations and the choice of a precision: hand-worked bits, torch and NumPy, errors."""

import copy
import io
import math
import struct

import numpy as np
import pytest
import torch
from torch import nn

from microbert_course.errors import CourseError
from microbert_course.training.precision import (
    FORMATS,
    FloatFormat,
    LossScaler,
    Operation,
    OperationLog,
    choose_precision,
    float_fields,
    round_to,
)

HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", list(FORMATS))
def test_the_limits_of_a_format_are_torchs(dtype):
    form, info = FORMATS[dtype], torch.finfo(dtype)
    assert (form.largest, form.smallest_normal, form.step_at_one) == (info.max, info.smallest_normal, info.eps)
    assert form.smallest == torch.tensor(1).to(torch.int16 if dtype != torch.float32 else torch.int32).view(dtype).item()


@pytest.mark.parametrize(
    ("number", "dtype", "fields"),
    [
        (5.5, torch.float16, (0, 0b10001, 0b0110000000)),  # 1.011 · 2²
        (-5.5, torch.bfloat16, (1, 0b10000001, 0b0110000)),
        (1.0, torch.float32, (0, 127, 0)),
        (2.0**-24, torch.float16, (0, 0, 1)),  # the smallest
        (-0.0, torch.float16, (1, 0, 0)),
        (70_000.0, torch.float16, (0, 31, 0)),  # infinity
    ],
)
def test_fields_worked_by_hand(number, dtype, fields):
    assert float_fields(number, dtype) == fields


@pytest.mark.parametrize(("dtype", "code", "kind"), [(torch.float16, "e", "H"), (torch.float32, "f", "I")])
def test_fields_equal_the_bytes_that_struct_writes(dtype, code, kind):
    form = FORMATS[dtype]
    for number in np.random.default_rng(0).standard_normal(200) * 10.0 ** np.arange(-7, 3).repeat(20):
        pattern, = struct.unpack(f">{kind}", struct.pack(f">{code}", number))
        sign, exponent, fraction = float_fields(number, dtype)
        assert (sign << form.exponent_bits | exponent) << form.fraction_bits | fraction == pattern


def test_fields_of_an_unknown_format_are_refused():
    with pytest.raises(ValueError, match="torch.int8 is no format of this lesson: choose one of torch.float32"):
        float_fields(1.0, torch.int8)


def hard_cases(dtype):
    "All finite numbers of a 16-bit format, the middles between neighbours, and the float32 numbers beside them."
    numbers = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype).float()
    numbers = numbers[numbers.isfinite()].sort().values
    limit, last = FORMATS[dtype].largest, FORMATS[dtype].largest * (1 + 0.5 * FORMATS[dtype].step_at_one / (2 - FORMATS[dtype].step_at_one))
    middles = torch.cat([((numbers[1:].double() + numbers[:-1].double()) / 2).float(), torch.tensor([last, -last, limit, math.inf, -math.inf])])
    return torch.cat([numbers, middles, middles.nextafter(torch.tensor(math.inf)), middles.nextafter(torch.tensor(-math.inf))])


@HALVES
def test_rounding_equals_torch_on_every_number_every_middle_and_beside_them(dtype):
    "Subnormals, ties to even, overflow to infinity, the sign of zero: the bit patterns agree, not only the values."
    cases = hard_cases(dtype)
    rounded = round_to(cases, FORMATS[dtype])
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded.to(dtype).view(torch.int16), cases.to(dtype).view(torch.int16))
    assert torch.equal(rounded, cases.to(dtype).float())


def test_rounding_worked_by_hand():
    "Ties go to the even neighbour; 65,520 is the middle between the largest number and what would follow; half the smallest is a tie with 0."
    numbers = torch.tensor([2049.0, 2051.0, 65519.0, 65520.0, 2.0**-25, 1.5 * 2.0**-24])
    assert round_to(numbers, FORMATS[torch.float16]).tolist() == [2048.0, 2052.0, 65504.0, math.inf, 0.0, 2.0**-23]


def test_from_float64_rounding_happens_once_as_in_numpy():
    "Just above a middle: float32 puts it onto the middle, and torch's second rounding then goes to even."
    number = torch.tensor([2049 + 2.0**-30], dtype=torch.float64)
    assert round_to(number, FORMATS[torch.float16]).item() == float(np.float64(number.item()).astype(np.float16)) == 2050.0
    assert number.half().item() == 2048.0
    generator = torch.Generator().manual_seed(0)
    many = torch.randn(5_000, dtype=torch.float64, generator=generator) * 10.0 ** torch.linspace(-9, 6, 5_000, dtype=torch.float64)
    with np.errstate(over="ignore"):
        assert torch.equal(round_to(many, FORMATS[torch.float16]), torch.from_numpy(many.numpy().astype(np.float16).astype(np.float64)))
        assert torch.equal(round_to(many * 1e33, FORMATS[torch.float32]), (many * 1e33).float().double())


def test_rounding_knows_other_formats_and_leaves_what_is_no_number():
    generator = torch.Generator().manual_seed(0)
    many = torch.randn(2_000, generator=generator) * 10.0 ** torch.linspace(-7, 6, 2_000)
    assert torch.equal(round_to(many, FloatFormat(5, 2)), many.to(torch.float8_e5m2).float())
    assert round_to(torch.tensor([math.nan]), FORMATS[torch.float16]).isnan().all()
    assert round_to(torch.zeros(0, 3), FORMATS[torch.float16]).shape == (0, 3)
    with pytest.raises(ValueError, match=r"numbers of torch.int64 cannot be rounded .* convert them with .float\(\)"):
        round_to(torch.arange(3), FORMATS[torch.float16])


SPOILED = {3: math.inf, 4: math.nan, 9: 1e36, 10: 1e36, 25: -math.inf}  # 1e36 overflows only when it is scaled


def train(scaler, steps=range(40), spoiled=SPOILED, saved=None):
    "Updates on batches that are functions of their step; for each the scale afterwards and whether the weights stood still."
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(5, 3), nn.Linear(3, 2)])  # the second one never has a gradient
    optimizer, history = torch.optim.AdamW(layers.parameters(), lr=0.05), []
    if saved:
        layers.load_state_dict(saved[0])
        optimizer.load_state_dict(copy.deepcopy(saved[1]))  # it would go on writing into the tensors it is given
    for step in steps:
        before = layers[0].weight.detach().clone()
        inputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        scaler.scale(layers[0](inputs).square().mean() * spoiled.get(step, 1.0)).backward()
        if step % 2:  # with clipping, which wants unscaled gradients, and without
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(layers[0].parameters(), 0.5)
        scaler.step(optimizer)
        if isinstance(scaler, torch.amp.GradScaler):
            scaler.update()
        history.append((scaler.state_dict()["scale"], scaler.state_dict()["_growth_tracker"], torch.equal(before, layers[0].weight)))
    return history, (layers.state_dict(), optimizer.state_dict())


@pytest.mark.parametrize("settings", [{}, dict(growth_interval=1), dict(growth_interval=4, init_scale=2.0**20),
                                      dict(growth_interval=3, growth_factor=8.0, backoff_factor=0.125),
                                      dict(growth_interval=1, init_scale=2.0**126)])
def test_scale_skips_and_weights_equal_gradscaler_to_the_last_bit(settings):
    ours, (our_weights, _) = train(LossScaler(**settings))
    theirs, (their_weights, _) = train(torch.amp.GradScaler("cpu", **settings))
    assert ours == theirs
    assert all(torch.equal(our_weights[name], their_weights[name]) for name in our_weights)
    assert any(stood_still for *_, stood_still in ours) and all(weight.isfinite().all() for weight in our_weights.values())


@pytest.mark.parametrize("first", [LossScaler, torch.amp.GradScaler])
def test_a_saved_state_goes_on_to_the_bit_and_is_torchs(first):
    "20 updates, a file, 20 more in a new scaler: equal to 40; the count towards the next growth is in it."
    def new(kind):
        return kind(growth_interval=7) if kind is LossScaler else kind("cpu", growth_interval=7)
    whole, (weights, _) = train(new(LossScaler))
    scaler = new(first)
    early, saved = train(scaler, range(20))
    file = io.BytesIO()
    torch.save(scaler.state_dict(), file)
    file.seek(0)
    for second in (LossScaler, torch.amp.GradScaler):
        restored = second() if second is LossScaler else second("cpu")
        file.seek(0)
        restored.load_state_dict(torch.load(file))
        late, (ends, _) = train(restored, range(20, 40), saved=saved)
        assert early + late == whole
        assert all(torch.equal(ends[name], weights[name]) for name in weights)


def test_the_scale_worked_by_hand():
    "Two bad updates halve twice, three good ones in a row double, and a bad one starts the count anew."
    weight = nn.Parameter(torch.ones(1))
    optimizer, scaler = torch.optim.SGD([weight], lr=0.0), LossScaler(init_scale=16.0, growth_interval=3)
    scales, moved = [], []
    for gradient in (math.inf, math.nan, 1.0, 1.0, math.inf, 1.0, 1.0, 1.0, 1.0):
        weight.grad = torch.tensor([gradient])
        moved.append(scaler.step(optimizer))
        scales.append(scaler.loss_scale)
    assert scales == [8, 4, 4, 4, 2, 2, 2, 4, 4]
    assert moved == [False, False, True, True, False, True, True, True, True]


def test_the_scaled_loss_of_a_half_precision_loss_is_not_infinite():
    "65,536 is no number of fp16, so the product is made in fp32; a float64 loss stays what it is."
    scaler = LossScaler()
    assert scaler.scale(torch.tensor(2.0, dtype=torch.float16)).item() == 2.0**17
    assert scaler.scale(torch.tensor(1 / 3, dtype=torch.float64)).item() == 2.0**16 / 3


def test_unscaling_twice_without_gradients_or_in_fp16_is_refused():
    weight = nn.Parameter(torch.ones(2))
    optimizer, scaler = torch.optim.SGD([weight], lr=0.1), LossScaler(init_scale=4.0)
    with pytest.raises(ValueError, match=r"no parameter has a gradient: call scaler.scale\(loss\).backward\(\) first"):
        scaler.step(optimizer)
    weight.grad = torch.tensor([4.0, 8.0])
    assert scaler.unscale_(optimizer) and weight.grad.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="unscaled already"):
        scaler.unscale_(optimizer)
    assert scaler.step(optimizer) and weight.detach().tolist() == pytest.approx([0.9, 0.8])
    halved = nn.Parameter(torch.ones(2, dtype=torch.float16))
    halved.grad = torch.ones_like(halved)
    with pytest.raises(ValueError, match="a gradient is in fp16 and would underflow again: keep the weights in float32"):
        LossScaler().step(torch.optim.SGD([halved], lr=0.1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(init_scale=1000.0), "init_scale 1000.0 is no power of two, .* the usual one is 65536"),
        (dict(init_scale=0.0), "init_scale 0.0 is no power of two"),
        (dict(init_scale=math.inf), "init_scale inf is no power of two"),
        (dict(growth_factor=1.5), "growth_factor 1.5 is no power of two"),
        (dict(backoff_factor=2.0), "backoff_factor 2.0 and growth_factor 2.0 do not lower and raise"),
        (dict(growth_factor=0.5), "do not lower and raise"),
        (dict(growth_interval=0), "growth_interval 0 is no number of updates"),
    ],
)
def test_bad_settings_of_a_scaler_stop_at_the_door(settings, message):
    with pytest.raises(ValueError, match=message):
        LossScaler(**settings)
    if "growth_interval" not in settings:
        names = {"init_scale": "scale"}
        state = LossScaler().state_dict() | {names.get(name, name): value for name, value in settings.items()}
        with pytest.raises(ValueError, match=message):
            LossScaler().load_state_dict(state)


def test_the_log_shows_what_autocast_casts():
    "A linear layer: three casts and a product in bf16; a norm of fp32 stays in it; a view is no operation."
    linear, norm, x = nn.Linear(3, 4), nn.LayerNorm(3), torch.randn(2, 3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), OperationLog() as log:
        linear(norm(x)).t()
    assert log.operations == [Operation("native_layer_norm", ("float32",), "float32"), *[Operation("_to_copy", ("float32",), "bfloat16")] * 3,
                              Operation("addmm", ("bfloat16",), "bfloat16")]


def test_the_log_tells_mixed_inputs_lists_and_integers_and_changes_no_result():
    x = torch.randn(3)
    with OperationLog() as log:
        total = x + x.bfloat16()
        torch.cat([x, x.double()])
        torch.arange(3) + 1
    assert torch.equal(total, x + x.bfloat16())
    assert [(op.name, op.inputs, op.output) for op in log.operations] == [
        ("_to_copy", ("float32",), "bfloat16"), ("add", ("float32", "bfloat16"), "float32"), ("_to_copy", ("float32",), "float64"),
        ("cat", ("float32", "float64"), "float64"), ("arange", (), ""), ("add", (), "")]
    assert not OperationLog().operations  # each log has a list of its own


def test_on_a_cpu_fp32_is_chosen_bf16_may_be_asked_for_and_fp16_is_refused():
    assert [choose_precision(asked, CPU) for asked in ("auto", "no", "bf16")] == ["no", "no", "bf16"]
    with pytest.raises(CourseError, match="fp16 is asked for on a CPU, .* choose bf16 or no"):
        choose_precision("fp16", CPU)


def test_on_other_devices_auto_is_fp32_and_a_wish_is_granted():
    device = torch.device("mps")
    assert [choose_precision(asked, device) for asked in ("auto", "no", "fp16", "bf16")] == ["no", "no", "fp16", "bf16"]


@pytest.mark.parametrize(("capability", "auto"), [((7, 5), "fp16"), ((6, 1), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16"), ((12, 0), "bf16")])
def test_on_cuda_auto_takes_bf16_where_the_card_has_it(monkeypatch, capability, auto):
    asked_of = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked_of.append(device) or capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some Card")
    device = torch.device("cuda", 1)
    assert choose_precision("auto", device) == auto and asked_of == [device]  # that card, and not the first one
    assert choose_precision("fp16", device) == "fp16" and choose_precision("no", device) == "no"
    if auto == "bf16":
        assert choose_precision("bf16", device) == "bf16"
    else:
        with pytest.raises(CourseError, match=rf"Some Card has compute capability {capability[0]}.{capability[1]} and bf16 needs 8.0: choose fp16"):
            choose_precision("bf16", device)


def test_cuda_is_not_touched_for_other_devices_and_its_absence_is_said(monkeypatch):
    "A CPU run must not start a driver; a CUDA device without CUDA is an error in one sentence."
    def touched(*_):
        raise AssertionError("CUDA was touched")
    monkeypatch.setattr(torch.cuda, "get_device_capability", touched)
    monkeypatch.setattr(torch.cuda, "_lazy_init", touched)
    with monkeypatch.context() as inner:
        inner.setattr(torch.cuda, "is_available", touched)
        for device in (CPU, torch.device("mps")):
            assert choose_precision("auto", device) == "no"
            assert choose_precision("bf16", device) == "bf16"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CourseError, match="device cuda:0 is asked for and torch finds no CUDA card: choose the CPU"):
        choose_precision("auto", torch.device("cuda", 0))


def test_an_unknown_precision_is_refused():
    with pytest.raises(CourseError, match="precision 'fp8' is unknown: choose auto, no, fp16 or bf16"):
        choose_precision("fp8", CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_fp16_with_our_scaler_equals_fp16_with_torchs():
    "Real overflows this time: the first scales are far too large, and both come down in the same updates."
    ends = []
    for scaler in (LossScaler(init_scale=2.0**40, growth_interval=5), torch.amp.GradScaler("cuda", init_scale=2.0**40, growth_interval=5)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4)).cuda()
        optimizer, scales = torch.optim.AdamW(model.parameters(), lr=0.01), []
        for step in range(40):
            x = torch.randn(8, 16, generator=torch.Generator().manual_seed(step)).cuda()
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.float16):
                loss = model(x).float().square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            if isinstance(scaler, torch.amp.GradScaler):
                scaler.update()
            scales.append(scaler.state_dict()["scale"])
        ends.append((scales, torch.cat([p.detach().flatten() for p in model.parameters()])))
    assert ends[0][0] == ends[1][0] and min(ends[0][0]) < 2.0**36
    assert torch.equal(ends[0][1], ends[1][1])
