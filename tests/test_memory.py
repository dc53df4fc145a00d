"""`training.memory`: the plan against what is measured, the two meters, checkpointing to the bit, and what is refused."""

import copy
import gc
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from microbert_course.errors import CourseError
from microbert_course.models.bert import MicroBertConfig, MicroBertForMaskedLM, bert_block
from microbert_course.training.memory import (
    CARDS,
    CONTEXT_BYTES,
    MARGIN,
    Checkpointed,
    MemoryMeter,
    MemoryPlan,
    block_activations,
    check_fits,
    checkpoint_blocks,
    fits,
    keeps_scores,
    largest_batch,
    measured_peak,
    parse_bytes,
    plan_memory,
    plan_moments,
    rehearsal,
    saved_bytes,
)

V0 = MicroBertConfig(10_005, hidden_size=4, num_layers=2, num_heads=2, intermediate_size=16, max_seq_len=128)
MEDIUM = MicroBertConfig(8_000, hidden_size=192, num_layers=3, num_heads=3, intermediate_size=768, max_seq_len=128)
V4 = MicroBertConfig(25_005, hidden_size=256, num_layers=8, num_heads=8, intermediate_size=1024, max_seq_len=256)
BASE = MicroBertConfig(30_522, hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072, max_seq_len=512)
DEEP = MicroBertConfig(500, hidden_size=96, num_layers=12, num_heads=3, intermediate_size=384, max_seq_len=128)  # the last block rules
LONG = MicroBertConfig(800, hidden_size=64, num_layers=1, num_heads=4, intermediate_size=256, max_seq_len=512)  # the scores rule
SMALL = MicroBertConfig(60, hidden_size=24, num_layers=2, num_heads=2, intermediate_size=40, max_seq_len=16, dropout=0.2)


# --- the plan against the measured peak

@pytest.mark.parametrize(("config", "settings"), [
    (V0, dict(batch_size=32)),
    (MEDIUM, dict(batch_size=8)),
    (V4, dict(batch_size=8)),
    (BASE, dict(batch_size=2, seq_len=128)),
    (replace(MEDIUM, dropout=0.1), dict(batch_size=8, checkpointing=True)),
    (MEDIUM, dict(batch_size=8, precision="bf16")),
], ids=["v0", "3x192", "v4", "base", "checkpointed", "bf16"])
def test_the_plan_is_within_15_percent_of_the_peak_measured_on_the_cpu(config, settings):
    "The issue asks for 15 %; each term is derived, so 5 % holds: in bf16 the CPU's own copies are counted in, which no meter sees."
    planned = plan_memory(config, device="cpu", **settings).allocated
    assert planned == pytest.approx(measured_peak(rehearsal(config, **settings)), rel=0.05)


@pytest.mark.parametrize(("config", "settings", "moment"), [
    (MEDIUM, dict(batch_size=2, accumulating=True), "the loss"),
    (MEDIUM, dict(batch_size=2, attention="math", precision="bf16"), "the loss"),
    (replace(MEDIUM, num_layers=6), dict(batch_size=8, checkpointing=True), "the first block"),
    (DEEP, dict(batch_size=4), "the last block"),
    (DEEP, dict(batch_size=4, precision="bf16"), "the last block"),
    (LONG, dict(batch_size=2, attention="math"), "the last block"),
    (replace(LONG, num_layers=2, dropout=0.1), dict(batch_size=1), "the last block"),
    (replace(MEDIUM, num_layers=8, vocab_size=30_000), dict(batch_size=1, seq_len=16), "the embeddings"),
    (MicroBertConfig(1000, hidden_size=256, num_layers=1, num_heads=4, intermediate_size=256), dict(batch_size=32, mlm_probability=0.5), "the loss"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_each_moment_but_the_last_can_be_the_worst_and_is_planned_to_5_percent(config, settings, moment):
    plan = plan_memory(config, device="cpu", **settings)
    assert plan.moment == moment
    assert plan.allocated == pytest.approx(measured_peak(rehearsal(config, **settings)), rel=0.05)


GPU_CONFIGS = [
    (V4, dict(batch_size=96)),
    (V4, dict(batch_size=96, precision="bf16")),
    (V4, dict(batch_size=192, precision="bf16", checkpointing=True)),
    (replace(V4, max_seq_len=512), dict(batch_size=32, precision="bf16", attention="math")),
    (replace(BASE, dropout=0.1), dict(batch_size=16, precision="bf16", accumulating=True)),
    (BASE, dict(batch_size=2, seq_len=128)),
    (replace(V4, vocab_size=200_000, num_layers=1), dict(batch_size=1, seq_len=16)),
]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("config", "settings"), GPU_CONFIGS, ids=[
    "v4", "v4 bf16", "v4 checkpointed", "v4 scores kept", "base with dropout, accumulating", "base, two rows", "many words"])
def test_the_plan_is_within_10_percent_of_the_peak_measured_on_a_gpu(config, settings):
    "`torch.cuda.max_memory_allocated` over a whole update, the optimizer's memory included."
    planned = plan_memory(config, device="cuda", **settings)
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()  # what earlier tests left, such as cuBLAS's workspaces
    measured = measured_peak(rehearsal(config, device="cuda", **settings), "cuda")
    print(f"\n{planned.moment}: planned {planned.allocated / 1e6:.1f} MB, measured {measured / 1e6:.1f} MB ({before / 1e6:.1f} MB there before)")
    assert planned.allocated == pytest.approx(measured, rel=0.10)


# --- what is kept for the way back

def counted(config, batch_size, seq_len, precision, attention):
    block = bert_block(config)
    hidden_states = torch.randn(batch_size, seq_len, config.hidden_size, requires_grad=True)
    kernel = torch.nn.attention.SDPBackend.MATH if attention == "math" else torch.nn.attention.SDPBackend.FLASH_ATTENTION
    kernels = [kernel, torch.nn.attention.SDPBackend.MATH]
    with torch.nn.attention.sdpa_kernel(kernels, set_priority=True), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return saved_bytes(lambda: block(hidden_states), known=block.parameters())


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("attention", ["fused", "math"])
def test_the_formula_of_a_block_is_autograds_own_count_to_the_byte(dropout, precision, attention):
    config = MicroBertConfig(50, hidden_size=48, num_layers=1, num_heads=3, intermediate_size=80, max_seq_len=40, dropout=dropout)
    copies = 2 * (4 * 48 * 48 + 2 * 48 * 80) if precision == "bf16" else 0
    for batch_size, seq_len in ((3, 7), (5, 40)):
        planned = sum(block_activations(config, batch_size, seq_len, precision, attention, "cpu")) + copies
        assert counted(config, batch_size, seq_len, precision, attention) == planned


def test_a_block_on_paper():
    "2 rows of 3 tokens, width 4, 2 heads, 16 inside: 6 · (8·4 + 2·16 + 2 + 4) numbers."
    config = MicroBertConfig(50, hidden_size=4, num_layers=1, num_heads=2, intermediate_size=16)
    assert sum(block_activations(config, 2, 3)) == 6 * 70 * 4
    assert block_activations(config, 2, 3, attention="math")[1] == 2 * 2 * 3 * 3 * 4


def test_a_storage_counts_once_and_what_is_known_not_at_all():
    both = torch.randn(2, 10, requires_grad=True)
    assert saved_bytes(lambda: both[0] * both[1]) == both.nbytes  # two views, one storage
    assert saved_bytes(lambda: both[0] * both[1], known=[both]) == 0
    assert saved_bytes(lambda: both[0] + both[1]) == 0


# --- the meter

def test_the_meter_counts_what_is_alive_and_a_view_keeps_its_storage():
    with MemoryMeter() as meter:
        a, b = torch.zeros(1000), torch.zeros(1000)
        total = a + b
        del a
        view = total.view(10, 100)[:, ::2]
        del total
        assert (meter.live, meter.peak) == (8000, 12_000)
        del view
        assert meter.live == 4000
    assert meter.history[:3] == [4000, 8000, 12_000]
    del b


def test_the_meter_counts_what_was_there_before_once_it_takes_part():
    before = torch.ones(500)
    with MemoryMeter() as meter:
        before.sum()
    assert meter.peak == 2004


def test_the_meter_agrees_with_torchs_profiler_to_the_byte():
    "The profiler hears from the allocator itself; float32, since bf16 has copies inside operations on the CPU."
    config = replace(SMALL, vocab_size=4000, dropout=0.0)  # the loss rules: no kernel's own scratch space is at the peak
    update = rehearsal(config, 16)
    with MemoryMeter() as meter:
        update()
        start = meter.peak = meter.live
        update()
    assert meter.live == start, "nothing may stay"
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        update()
    alive = peak = 0
    for event in profiler.profiler.kineto_results.events():
        alive += event.nbytes() if event.name() == "[memory]" else 0
        peak = max(peak, alive)
    assert meter.peak - start == peak


# --- checkpointing

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.4), nn.GELU(), nn.Linear(16, 6))


def gradients_of(run, wanted):
    torch.manual_seed(5)
    return torch.autograd.grad(run().square().sum(), wanted)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_checkpointed_gives_torchs_gradients_to_the_bit_dropout_and_autocast_included(dtype):
    model, x = network(), torch.randn(5, 6, requires_grad=True)
    wanted = [x, *model.parameters()]

    def cast(run):
        def with_autocast():
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                return run()
        return with_autocast

    plain = gradients_of(cast(lambda: model(x)), wanted)
    ours = gradients_of(cast(lambda: Checkpointed.apply(model, 1, x, *model.parameters())), wanted)
    theirs = gradients_of(cast(lambda: checkpoint(model, x, use_reentrant=False)), wanted)
    for a, b, c in zip(ours, plain, theirs, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_checkpointed_keeps_its_input_alone_and_leaves_chance_as_a_plain_run_does():
    model, x = network(), torch.randn(5, 6, requires_grad=True)
    assert saved_bytes(lambda: Checkpointed.apply(model, 1, x, *model.parameters()), known=model.parameters()) == x.nbytes
    after = []
    for run in (lambda: model(x), lambda: Checkpointed.apply(model, 1, x, *model.parameters())):
        gradients_of(run, [x])
        after.append(torch.rand(1))
    assert torch.equal(*after)


def test_checkpointed_takes_inputs_that_need_no_gradient_and_parameters_that_are_frozen():
    model, x = network(), torch.randn(5, 6)
    model[0].bias.requires_grad_(False)
    torch.manual_seed(5)
    Checkpointed.apply(model, 1, x, *model.parameters()).square().sum().backward()
    assert x.grad is None and model[0].bias.grad is None
    (expected,) = gradients_of(lambda: model(x), [model[3].weight])
    assert torch.equal(model[3].weight.grad, expected)


def loss_of(model, ids):
    return F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())


def test_checkpoint_blocks_changes_no_gradient_and_no_name():
    torch.manual_seed(0)
    plain = MicroBertForMaskedLM(SMALL)
    forgetful = copy.deepcopy(plain)
    checkpoint_blocks(forgetful)
    checkpoint_blocks(forgetful)  # twice is once
    assert list(forgetful.state_dict()) == list(plain.state_dict())
    ids, found = torch.randint(60, (3, 16)), []
    for model in (plain, forgetful):
        torch.manual_seed(1)
        loss_of(model, ids).backward()
        found.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    known = list(plain.parameters())
    assert saved_bytes(lambda: loss_of(forgetful, ids), forgetful.parameters()) < saved_bytes(lambda: loss_of(plain, ids), known) / 2


def test_a_copy_of_a_checkpointed_model_runs_on_its_own_weights():
    model = MicroBertForMaskedLM(SMALL)
    checkpoint_blocks(model)
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        for parameter in model.bert.blocks.parameters():
            parameter.zero_()
    ids = torch.randint(60, (2, 16))
    assert not torch.allclose(twin(ids), model.eval()(ids))
    loss_of(twin, ids).backward()
    assert twin.bert.blocks[0].feed_forward.sublayer.up.weight.grad is not None
    assert model.bert.blocks[0].feed_forward.sublayer.up.weight.grad is None


def test_without_gradients_a_checkpointed_block_runs_once_and_keeps_nothing():
    model = MicroBertForMaskedLM(SMALL).eval()
    ids = torch.randint(60, (2, 16))
    expected = model(ids)
    checkpoint_blocks(model)
    with torch.no_grad():
        assert torch.equal(model(ids), expected)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="Sequential has no blocks in an nn.ModuleList"):
        checkpoint_blocks(network())


# --- the plan's own sense

def test_the_update_needs_sixteen_bytes_a_parameter():
    with torch.device("meta"):
        for config in (V0, V4, BASE, SMALL):
            plan = plan_moments(config, 1)[-1]
            standing = plan.parameters + plan.gradients + plan.optimizer
            assert standing == 16 * MicroBertForMaskedLM(config).num_parameters()


def test_a_plan_adds_up_and_a_meter_of_tensors_does_not_see_the_context():
    plan = MemoryPlan("then", *(10**power for power in range(10)))
    assert plan.total == 1_111_111_111 and plan.allocated == 111_111_111
    assert list(plan.parts)[0] == "parameters" and list(plan.parts)[-1] == "context"
    for device, context in CONTEXT_BYTES.items():
        assert plan_memory(V4, 1, device=device).total - plan_memory(V4, 1, device=device).allocated == context


def test_the_cpus_fused_attention_knows_no_dropout_and_a_gpus_does():
    dropping = replace(V4, dropout=0.1)
    assert [keeps_scores(config, "fused", device) for config in (V4, dropping) for device in ("cuda", "cpu")] == [False, False, False, True]
    assert keeps_scores(V4, "math", "cuda")


def test_what_should_cost_more_does_and_what_should_cost_less_does():
    def total(**settings):
        return plan_memory(V4, **{"batch_size": 96, "precision": "bf16", **settings}).total

    assert total(checkpointing=True) < total() < total(precision="no")
    assert total(attention="math") > total() + 8 * 96 * 8 * 256**2 * 4 * 0.9  # nearly all of the scores
    parameters = plan_memory(V4, 1).parameters
    assert total(num_processes=2) == total() + parameters  # DDP's buckets
    assert total(accumulating=True) == total() + parameters  # gradients that stand
    assert total(precision="fp16") == total()


def test_memory_never_falls_when_rows_are_added():
    for settings in ({}, {"checkpointing": True, "precision": "bf16"}, {"attention": "math"}):
        totals = [plan_memory(V4, rows, **settings).total for rows in range(1, 200)]
        assert totals == sorted(totals)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_largest_batch_is_exact(checkpointing):
    for num_bytes in CARDS.values():
        rows = largest_batch(BASE, num_bytes, precision="bf16", checkpointing=checkpointing)
        assert fits(plan_memory(BASE, rows, precision="bf16", checkpointing=checkpointing), num_bytes)
        assert not fits(plan_memory(BASE, rows + 1, precision="bf16", checkpointing=checkpointing), num_bytes)


def test_a_tenth_of_the_card_stays_free():
    plan = plan_memory(V4, 8)
    assert fits(plan, int(plan.total / (1 - MARGIN)) + 1) and not fits(plan, int(plan.total / (1 - MARGIN)) - 10)
    assert largest_batch(BASE, 10**9) == 0


def test_a_batch_that_cannot_fit_is_refused_with_the_largest_that_can():
    rows = largest_batch(V4, 8 * 10**9, precision="bf16")
    with pytest.raises(CourseError, match=rf"^4096 rows of 256 tokens need \d\d\.\d GB, and of 8\.0 GB a tenth is to stay free: at most {rows} rows fit, "
                                          rf"so give {rows} and accumulate, or turn checkpointing on$"):
        check_fits(V4, 4096, 8 * 10**9, precision="bf16")
    with pytest.raises(CourseError, match="not even one row fits: take a smaller model$"):
        check_fits(BASE, 4, 10**9)
    assert check_fits(V4, rows, 8 * 10**9, precision="bf16") == plan_memory(V4, rows, precision="bf16")


@pytest.mark.parametrize(("text", "num_bytes"), [("24GB", 24 * 10**9), ("22.5 GiB", int(22.5 * 2**30)), ("800mb", 8 * 10**8), ("80G", 80 * 10**9),
                                                 ("1TiB", 2**40), ("512", 512)])
def test_sizes_are_read_with_their_units(text, num_bytes):
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize("text", ["", "GB", "24 cards", "-5GB", "0GB", "1e3", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(CourseError, match="is no size of memory: write it as 24GB or 22.5GiB"):
        parse_bytes(text)


@pytest.mark.parametrize(("settings", "message"), [
    (dict(batch_size=0), "batch_size is 0: give 1 or more"),
    (dict(batch_size=1, seq_len=257), "rows of 257 tokens do not fit into 256 positions"),
    (dict(batch_size=1, seq_len=0), "seq_len is 0: give 1 or more"),
    (dict(batch_size=1, precision="int8"), "precision is 'int8': choose one of no, fp16, bf16"),
    (dict(batch_size=1, attention="flash"), "attention is 'flash': choose one of fused, math"),
    (dict(batch_size=1, device="tpu"), "device is 'tpu': choose one of cuda, cpu"),
    (dict(batch_size=1, num_processes=0), "num_processes is 0: give 1 or more"),
])
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        plan_memory(V4, **settings)
