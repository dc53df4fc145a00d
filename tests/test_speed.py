"""`training.speed`: arithmetic as torch counts it, peaks by name, attention within documents, and no work on padding."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from microbert_course.data.corpus import document_numbers, pack, positions_in
from microbert_course.models.attention import MultiHeadAttention
from microbert_course.models.bert import MicroBertConfig, MicroBertForMaskedLM
from microbert_course.training import speed
from microbert_course.training.masking import linear_cross_entropy
from microbert_course.training.presets import PretrainConfig
from microbert_course.training.speed import (
    VENDOR_PEAKS,
    DocumentAttention,
    flops_of_update,
    measured_bandwidth,
    measured_flops,
    peak_flops,
    profile_table,
    roofline,
    same_document,
    unpadded_features,
)

CPU, CLS = torch.device("cpu"), 2
NUMBERS = torch.tensor([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [1, 1, 2, 2, 3, 3]])


def document_model(dropout=0.0, max_seq_len=24):
    torch.manual_seed(0)
    config = MicroBertConfig(60, hidden_size=24, num_layers=3, num_heads=2, intermediate_size=40, max_seq_len=max_seq_len, dropout=dropout,
                             initializer_range=0.2)
    return MicroBertForMaskedLM(config, attention=DocumentAttention)


def documents(rng, num_documents=14, longest=17):
    return [np.array([CLS, *rng.integers(5, 60, rng.integers(1, longest)), 3], dtype=np.int64) for _ in range(num_documents)]


def padded(documents):
    rows = torch.zeros(len(documents), max(map(len, documents)), dtype=torch.int64)
    for row, document in zip(rows, documents, strict=True):
        row[: len(document)] = torch.from_numpy(document)
    return rows


# --- how much arithmetic

@pytest.mark.parametrize("shape", [dict(hidden_size=64, num_layers=3, num_heads=2, intermediate_size=256, max_seq_len=64, vocab_size=1_000),
                                   dict(hidden_size=96, num_layers=2, num_heads=4, intermediate_size=200, max_seq_len=128, vocab_size=300)])
def test_the_estimate_is_what_torch_counts(shape):
    "Forward and backward of full rows; what is left are biases and norms, which are weights without a product."
    config = PretrainConfig(mlm_probability=0.25, **shape)
    model = MicroBertForMaskedLM(MicroBertConfig(**shape))
    input_ids = torch.randint(5, shape["vocab_size"], (4, shape["max_seq_len"]))
    predict_at = torch.randperm(input_ids.numel())[: input_ids.numel() // 4]
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        linear_cross_entropy(model.features(input_ids, predict_at=predict_at), *model.output_table(), input_ids.flatten()[predict_at])[0].backward()
    in_blocks = sum(p.numel() for p in model.bert.blocks.parameters())
    assert flops_of_update(config, in_blocks, input_ids.numel()) == pytest.approx(counted.get_total_flops(), rel=0.02)


def test_an_update_on_paper():
    "100 weights, 10 tokens: 6,000; attention 12 · 1 · 4 · 8 a token; the head 6 · (½ of the tokens) · 4 · (16 + 4)."
    config = PretrainConfig(hidden_size=4, num_layers=1, max_seq_len=8, vocab_size=16, mlm_probability=0.5)
    assert flops_of_update(config, num_parameters=100, num_tokens=10) == 6_000 + 3_840 + 2_400


# --- how much a device can do

def test_rates_are_work_over_the_shortest_time(monkeypatch):
    monkeypatch.setattr(speed, "_shortest", lambda work, device, seconds: 0.5)
    assert measured_flops(CPU, torch.float32, size=8) == 2 * 8**3 / 0.5
    assert measured_bandwidth(CPU, num_bytes=100) == 2 * 100 / 0.5  # read and written


def test_the_shortest_of_several_times_is_taken(monkeypatch):
    "The first try is slow, the second is not: even with no time to spare there are two."
    now, durations = [0.0], iter([9.0, 2.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    assert speed._shortest(lambda: now.append(now.pop() + next(durations)), CPU, seconds=0.0) == 2.0


@pytest.mark.parametrize(("card", "peak"), [
    ("NVIDIA H200", 989e12), ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-80GB", 312e12),
    ("NVIDIA L4", 121e12), ("NVIDIA L40", 181e12), ("NVIDIA L40S", 362e12), ("Tesla T4", 65e12), ("NVIDIA GeForce RTX 4090", 165e12),
    ("NVIDIA RTX A4000", 0.0), ("Tesla T40", 0.0),
])
def test_a_card_is_known_by_its_whole_name(monkeypatch, card, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: card)
    assert peak_flops(torch.device("cuda"), "bf16") == peak
    assert peak_flops(torch.device("cuda"), "no") == 0.0


def test_a_cpu_is_measured_in_the_format_of_the_run(monkeypatch):
    monkeypatch.setattr(speed, "measured_flops", lambda device, dtype: {torch.float32: 1.0, torch.bfloat16: 2.0}[dtype])
    assert peak_flops(CPU, "no") == 1.0
    assert peak_flops(CPU, "bf16") == 2.0


def test_the_roof_has_a_slope_and_a_top():
    assert roofline(2.0, peak=100.0, bandwidth=10.0) == 20.0
    assert roofline(50.0, peak=100.0, bandwidth=10.0) == 100.0


def test_the_profile_names_what_was_done_the_longest_first():
    a = torch.randn(200, 200)
    table = profile_table(lambda: [a @ a for _ in range(5)], num_rows=3)
    assert len(table) <= 3 and table[0]["operation"] == "aten::mm" and table[0]["calls"] == 5
    assert 0.5 < table[0]["share"] <= 1 and table == sorted(table, key=lambda row: -row["milliseconds"])


# --- attention within documents

def with_a_mask(attention, hidden_states, may_look):
    context = F.scaled_dot_product_attention(*attention.split_heads(hidden_states), may_look)
    return attention.out(context.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_within_documents_is_attention_with_a_block_mask(is_causal):
    "Output and gradients in float64; the rows hold neighbours of one length, and a row may begin with the number that the last one ended with."
    torch.manual_seed(0)
    attention = DocumentAttention(12, 3, is_causal=is_causal).double()
    hidden_states = torch.randn(5, 6, 12, dtype=torch.float64, requires_grad=True)
    may_look = same_document(NUMBERS)
    results = attention(hidden_states, NUMBERS), with_a_mask(attention, hidden_states, may_look.tril() if is_causal else may_look)
    direction = torch.randn_like(results[0])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    wanted = [hidden_states, *attention.parameters()]
    for ours, theirs in zip(*(torch.autograd.grad(result, wanted, direction) for result in results), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("numbers", [[[10, 10, 10, 11], [6, 6, 6, 7]], [[1, 1, 2, 1], [2, 0, 2, 2]], [[0, 1, 1, 0], [3, 3, 3, 3]]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_may_be_large_and_a_document_may_go_on_after_another(numbers, dtype):
    torch.manual_seed(0)
    attention, hidden_states, numbers = DocumentAttention(12, 3).to(dtype), torch.randn(2, 4, 12, dtype=dtype), torch.tensor(numbers)
    expected, is_real = with_a_mask(attention, hidden_states, same_document(numbers)), numbers != 0
    torch.testing.assert_close(attention(hidden_states, numbers)[is_real], expected[is_real], rtol=1.6e-2, atol=1e-2 if dtype == torch.bfloat16 else 1e-6)
    torch.testing.assert_close(attention(hidden_states, is_real)[is_real], MultiHeadAttention.forward(attention, hidden_states, is_real)[is_real], rtol=1.6e-2, atol=1e-2)


def test_a_change_in_one_document_leaves_the_others_alone():
    torch.manual_seed(0)
    attention, hidden_states = DocumentAttention(12, 3), torch.randn(5, 6, 12)
    changed = hidden_states.clone()
    changed[0, 1] += 1
    moved = (attention(hidden_states, NUMBERS) != attention(changed, NUMBERS)).any(-1)
    assert moved[0].tolist() == [True, True, True, False, False, False] and not moved[1:].any()


def test_without_documents_it_is_multi_head_attention():
    "The same weights by name; without a mask everywhere, with padding at every real token."
    torch.manual_seed(0)
    ours, usual, hidden_states = DocumentAttention(12, 3), MultiHeadAttention(12, 3), torch.randn(3, 6, 12)
    usual.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(hidden_states), usual(hidden_states))
    is_real = torch.arange(6) < torch.tensor([[6], [2], [4]])
    for mask in (is_real, is_real.long()):
        torch.testing.assert_close(ours(hidden_states, mask)[is_real], usual(hidden_states, mask)[is_real])


def test_in_bfloat16_the_formula_stands_in_for_the_kernel():
    "Three digits, as the kernel has; with dropout it still drops."
    torch.manual_seed(0)
    attention, hidden_states = DocumentAttention(32, 4, dropout=0.5), torch.randn(5, 6, 32)
    exact = attention.eval()(hidden_states, NUMBERS)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(attention(hidden_states, NUMBERS).float(), exact, rtol=0.05, atol=0.02)
        attention.train()
        assert not torch.equal(attention(hidden_states, NUMBERS), attention(hidden_states, NUMBERS))


def test_dropout_drops_in_training_alone():
    torch.manual_seed(0)
    attention, hidden_states = DocumentAttention(12, 3, dropout=0.5), torch.randn(5, 6, 12)
    assert not torch.equal(attention(hidden_states, NUMBERS), attention(hidden_states, NUMBERS))
    attention.eval()
    assert torch.equal(attention(hidden_states, NUMBERS), attention(hidden_states, NUMBERS))


def test_the_weights_are_those_that_forward_uses():
    torch.manual_seed(0)
    attention, hidden_states = DocumentAttention(12, 3), torch.randn(5, 6, 12)
    weights = attention.attention_weights(hidden_states, NUMBERS)
    assert (weights.masked_select(~same_document(NUMBERS)) == 0).all()
    mixed = (weights @ attention.split_heads(hidden_states)[2]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.out(mixed), attention(hidden_states, NUMBERS))
    torch.testing.assert_close(attention.attention_weights(hidden_states), MultiHeadAttention.attention_weights(attention, hidden_states))


@pytest.mark.parametrize(("mask", "message"), [
    (torch.ones(3, 6), "attention_mask holds torch.float32: give whole numbers"),
    (torch.ones(3, 5, dtype=torch.int64), r"attention_mask has the shape \(3, 5\), and \(batch, seq\) is \(3, 6\)"),
])
def test_a_mask_of_another_kind_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        DocumentAttention(12, 3)(torch.randn(3, 6, 12), mask)


def test_packed_documents_get_the_logits_that_they_get_alone():
    rng = np.random.default_rng(0)
    model, rows = document_model().eval(), pack(documents(rng), 24)
    numbers = document_numbers(rows, CLS)
    assert numbers.max() > 1
    rows, of_row, positions = torch.from_numpy(rows), torch.from_numpy(numbers), torch.from_numpy(positions_in(numbers))
    with torch.no_grad():
        logits = F.linear(model.features(rows, of_row, position_ids=positions), *model.output_table())
        for row, number in zip(*np.nonzero(np.arange(1, 9) <= numbers.max(axis=1)[:, None]), strict=True):
            here = of_row[row] == int(number) + 1
            torch.testing.assert_close(logits[row][here], model(rows[row][here][None])[0], rtol=0, atol=1e-5)


# --- no padding at all

@pytest.mark.parametrize("layout", ["padded", "packed", "large numbers"])
def test_without_padding_the_features_and_all_gradients_are_the_same(layout):
    rng = np.random.default_rng(1)
    model = document_model().double()
    if layout == "padded":
        rows = padded(documents(rng))
        mask, positions = rows != 0, None
    else:
        rows = pack(documents(rng), 24)
        numbers = document_numbers(rows, CLS)
        if layout == "large numbers":
            numbers[numbers > 0] += 25 * (len(rows) - numbers.nonzero()[0])  # what is added to tell rows apart must not undo it
        rows, mask, positions = torch.from_numpy(rows), torch.from_numpy(numbers), torch.from_numpy(positions_in(numbers))
    predict_at = (rows.flatten() > 4).nonzero()[::3, 0]
    results = []
    for features_of in (model.features, lambda *arguments, **named: unpadded_features(model, *arguments, **named)):
        model.zero_grad()
        features = features_of(rows, mask, predict_at=predict_at, position_ids=positions)
        features.square().mean().backward()
        results.append([features.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert (mask == 0).any() and len(results[0]) == len(results[1])
    for usual, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, usual, rtol=1e-10, atol=1e-10)


def test_padding_never_enters_a_block():
    model, rows = document_model(), padded(documents(np.random.default_rng(2)))
    seen = []
    model.bert.blocks[1].register_forward_pre_hook(lambda block, arguments: seen.append(tuple(arguments[0].shape)))
    unpadded_features(model, rows, rows != 0, torch.tensor([1]))
    assert seen == [(1, int((rows != 0).sum()), 24)]


def test_places_of_padding_and_other_attentions_are_refused():
    rows = torch.tensor([[CLS, 9, 3, 0]])
    with pytest.raises(ValueError, match="predict_at points at padding"):
        unpadded_features(document_model(), rows, rows != 0, torch.tensor([1, 3]))
    with pytest.raises(ValueError, match="make it with attention=DocumentAttention"):
        unpadded_features(MicroBertForMaskedLM(MicroBertConfig(60)), rows, rows != 0, torch.tensor([1]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_documents_are_kept_apart_as_on_a_cpu(dtype):
    torch.manual_seed(0)
    attention, hidden_states = DocumentAttention(64, 2), torch.randn(5, 6, 64)
    there = copy.deepcopy(attention).to("cuda", dtype)
    for mask in (NUMBERS, NUMBERS != 0, None):
        result = there(hidden_states.to("cuda", dtype), None if mask is None else mask.to("cuda"))
        is_real = (NUMBERS if mask is not None else torch.ones_like(NUMBERS)) != 0
        atol = 1e-5 if dtype == torch.float32 else 0.03
        torch.testing.assert_close(result.cpu().float()[is_real], attention(hidden_states, mask)[is_real], rtol=0, atol=atol)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_timed_to_the_end_of_its_work():
    "Without waiting for the device, the products would seem to run a hundred times as fast as the vendor says."
    peak = peak_flops(torch.device("cuda"), "bf16")
    assert 0 < measured_flops(torch.device("cuda"), torch.bfloat16, size=4096) < 1.1 * (peak or float("inf"))


def test_a_card_is_found_by_its_name(monkeypatch):
    "The longer name wins: an H100 PCIe is slower than an H100, and an L4 is no L40."
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names.pop())
    names = ["NVIDIA L40", "NVIDIA L4", "NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "some other card"]
    peaks = [peak_flops(torch.device("cuda"), "bf16") for _ in range(5)]
    assert peaks == [0.0, VENDOR_PEAKS["H100 PCIe"], VENDOR_PEAKS["H100"], VENDOR_PEAKS["L4"], VENDOR_PEAKS["L40"]]
