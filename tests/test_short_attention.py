"""`training.short_attention`: its kernels beside torch's attention. On a GPU they run as compiled; without one Triton interprets them, where it is installed."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from microbert_course import devices
from microbert_course.models.attention import MultiHeadAttention
from microbert_course.models.bert import MicroBertConfig, MicroBertForMaskedLM
from microbert_course.training import own_kernels
from microbert_course.training.speed import DocumentAttention

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"


@pytest.fixture(scope="module")
def attend(import_kernels):
    return import_kernels("training.short_attention").attend


def documents(batch: int, seq: int, longest: int) -> torch.Tensor:
    "(batch, seq) numbers from 1, of documents of 1 to so many tokens; 0 = padding, up to a fifth of a row."
    rows = []
    for _ in range(batch):
        lengths = torch.randint(1, longest + 1, (seq,)).tolist()
        row = torch.tensor([number for number, length in enumerate(lengths, 1) for _ in range(length)][:seq])
        row[seq - int(torch.randint(seq // 5 + 1, ())) :] = 0
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.gpu
@pytest.mark.parametrize("seq, num_heads, head_dim, hidden", [(256, 8, 32, None), (128, 2, 64, None), (64, 3, 16, None), (50, 2, 32, None), (200, 2, 64, "documents"),
                                                              (512, 2, 64, "documents"), (130, 2, 16, "documents"), (192, 1, 32, "padding"), (7, 2, 16, "padding")])
def test_it_is_torchs_attention_within_documents_forward_and_back(attend, seq, num_heads, head_dim, hidden):
    torch.manual_seed(seq)
    dtype = torch.bfloat16 if HAS_GPU else torch.float32
    qkv = torch.randn(3, seq, 3, num_heads, head_dim).to(dtype)
    weight = torch.randn(3, seq, num_heads, head_dim).to(dtype)
    numbers = {None: None, "documents": documents(3, seq, 60), "padding": documents(3, seq, seq) > 0}[hidden]
    exact = qkv.double().requires_grad_()
    may_look = None if numbers is None else numbers[:, None, :, None] == numbers[:, None, None, :]
    expected = F.scaled_dot_product_attention(*exact.permute(2, 0, 3, 1, 4).unbind(0), may_look).transpose(1, 2)
    if numbers is not None:
        expected = expected * (numbers != 0)[..., None, None]
    expected.backward(weight.double())
    leaf = qkv.to(DEVICE).requires_grad_()
    found = attend(leaf, None if numbers is None else numbers.to(DEVICE))
    found.backward(weight.to(DEVICE))
    tolerance = 2e-2 if HAS_GPU else 1e-5
    torch.testing.assert_close(found.double().cpu(), expected.detach(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(leaf.grad.double().cpu(), exact.grad, rtol=tolerance, atol=tolerance)
    again = qkv.to(DEVICE).requires_grad_()
    attend(again, None if numbers is None else numbers.to(DEVICE)).backward(weight.to(DEVICE))
    assert torch.equal(again.grad, leaf.grad)


@pytest.mark.gpu
@pytest.mark.parametrize("hidden", [None, "padding"])
def test_scores_may_be_low_everywhere(attend, hidden):
    "Each query's sum is then nearly nothing, and what lies beyond the row must not be measured by it."
    torch.manual_seed(0)
    dtype = torch.bfloat16 if HAS_GPU else torch.float32
    qkv = 0.1 * torch.randn(2, 50, 3, 2, 16)
    qkv[:, :, 0], qkv[:, :, 1] = qkv[:, :, 0] + 5, qkv[:, :, 1] - 5  # scores near -100
    mask = None if hidden is None else torch.arange(50).expand(2, 50) < 40
    exact, leaf = qkv.to(dtype).double().requires_grad_(), qkv.to(dtype).to(DEVICE).requires_grad_()
    attend(leaf, None if mask is None else mask.to(DEVICE)).sum().backward()
    expected = F.scaled_dot_product_attention(*exact.permute(2, 0, 3, 1, 4).unbind(0), None if mask is None else mask[:, None, None]).transpose(1, 2)
    (expected if mask is None else expected * mask[..., None, None]).sum().backward()
    torch.testing.assert_close(leaf.grad.double().cpu(), exact.grad, rtol=5e-2, atol=5e-2)


def small_model(attention):
    torch.manual_seed(0)
    return MicroBertForMaskedLM(MicroBertConfig(97, hidden_size=64, num_layers=2, num_heads=2, intermediate_size=96, max_seq_len=600), attention=attention)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("attention, seq, hidden", [(MultiHeadAttention, 100, None), (MultiHeadAttention, 256, "padding"), (DocumentAttention, 300, "documents"),
                                                    (DocumentAttention, 40, None), (MultiHeadAttention, 600, "padding")])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_model_with_it_reads_as_one_without(attention, seq, hidden, is_compiled):
    from microbert_course.training.build import compile_parts

    usual, model = (small_model(attention).cuda() for _ in range(2))
    own_kernels.use_own_kernels(model)
    assert own_kernels.runs_short_attention(model, torch.bfloat16, 0.0) and not own_kernels.runs_short_attention(usual, torch.bfloat16, 0.0)
    if is_compiled:
        compile_parts(model, dynamic=False)
    ids, numbers = torch.randint(1, 97, (3, seq), device="cuda"), documents(3, seq, 60).cuda()
    mask = {None: None, "documents": numbers, "padding": numbers > 0}[hidden]
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask != 0
    with torch.autocast("cuda", torch.bfloat16):
        expected, found = (one.features(ids, mask)[real] for one in (usual, model))
    torch.testing.assert_close(found.float(), expected.float(), rtol=5e-2, atol=5e-2)
    weight = torch.randn_like(found.float())
    gradients = [torch.autograd.grad((answer.float() * weight).sum(), list(one.bert.parameters())[:-2]) for answer, one in ((expected, usual), (found, model))]
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).norm() <= 5e-2 * theirs.norm() + 1e-3


@pytest.mark.parametrize("has_gpu, capability, hip, triton", [(False, 9, None, True), (True, 7, None, True), (True, 9, "7.0", True), (True, 9, None, False)])
def test_without_a_gpu_that_it_suits_or_triton_nothing_changes(monkeypatch, has_gpu, capability, hip, triton):
    "A T4 (7.5) has too little shared memory for the kernels, and AMD's GPUs are untried."
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: SimpleNamespace(major=capability))
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(devices, "find_spec", lambda name: triton or None)
    model = small_model(MultiHeadAttention)
    own_kernels.use_own_kernels(model)
    assert not own_kernels.runs_short_attention(model, torch.bfloat16, 0.0)


@pytest.mark.parametrize("attention", [MultiHeadAttention, DocumentAttention])
def test_a_model_that_comes_back_to_the_cpu_reads_as_ever(attention):
    "The kernel is not even asked; a mask of the wrong shape is refused as before."
    model, usual = small_model(attention), small_model(attention)
    for part in model.modules():
        part.__class__ = own_kernels.SHORT.get(type(part), type(part))
    ids = torch.randint(1, 97, (2, 9))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    for given in (None, mask):
        assert torch.equal(model.features(ids, given), usual.features(ids, given))
    with pytest.raises(ValueError, match="attention_mask has the shape"):
        model.features(ids, mask[:, :4])
    assert own_kernels.runs_short_attention(model, torch.bfloat16, 0.0)
    assert not own_kernels.runs_short_attention(model, torch.float32, 0.0) and not own_kernels.runs_short_attention(model, torch.bfloat16, 0.1)


def test_all_layers_share_what_was_compiled_for_one():
    "With a function of its own in each, torch compiled every layer anew, and ran those after the eighth uncompiled."
    torch._dynamo.reset()
    model, compiled = small_model(DocumentAttention), []
    for part in model.modules():
        part.__class__ = own_kernels.SHORT.get(type(part), type(part))
    blocks = [copy.deepcopy(model.bert.blocks[0]) for _ in range(10)]
    hidden_states = torch.randn(2, 9, 64, requires_grad=True)

    def count(graph, _):
        compiled.append(graph)
        return graph.forward

    for block in blocks:
        block.compile(backend=count, dynamic=False)
        hidden_states = block(hidden_states)
    assert len(compiled) == 1
