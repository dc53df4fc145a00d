"""`training.bias_gelu`: its kernels beside torch's GELU. On a GPU they run as compiled; without one Triton interprets them, where it is installed."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from microbert_course import devices
from microbert_course.models.transformer import FeedForward
from microbert_course.training import own_kernels

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"


@pytest.fixture(scope="module")
def bias_gelu(import_kernels):
    return import_kernels("training.bias_gelu").bias_gelu


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(2, 150, 512), (3, 7, 96), (1, 1030), pytest.param(
    (300_000, 8), marks=pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device"))])  # more rows than a grid has places along its second axis
def test_it_is_gelu_of_inputs_and_bias_forward_and_back(bias_gelu, shape):
    torch.manual_seed(0)
    dtype = torch.bfloat16 if HAS_GPU else torch.float32
    inputs, bias, weight = 3 * torch.randn(shape), torch.randn(shape[-1]), torch.randn(shape)
    inputs[..., :3] = torch.tensor([-30.0, 0.0, 30.0])
    exact, exact_bias = (table.to(dtype).double().requires_grad_() for table in (inputs, bias))
    expected = F.gelu(exact + exact_bias)
    (expected * weight.to(dtype)).sum().backward()
    leaf, leaf_bias = (table.to(DEVICE, dtype).requires_grad_() for table in (inputs, bias))
    found = bias_gelu(leaf, leaf_bias)
    found.backward(weight.to(DEVICE, dtype))
    tolerance = 1e-2 if HAS_GPU else 2e-6
    torch.testing.assert_close(found.double().cpu(), expected.detach(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(leaf.grad.double().cpu(), exact.grad, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(leaf_bias.grad.double().cpu(), exact_bias.grad, rtol=5 * tolerance, atol=20 * tolerance * max(1, len(inputs) / 1000))  # a sum over rows
    again, again_bias = (table.to(DEVICE, dtype).requires_grad_() for table in (inputs, bias))
    bias_gelu(again, again_bias).backward(weight.to(DEVICE, dtype))
    assert torch.equal(again.grad, leaf.grad) and torch.equal(again_bias.grad, leaf_bias.grad)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_feed_forward_with_it_is_one_without(is_compiled):
    torch.manual_seed(0)
    usual, without_bias = FeedForward(64, 96).cuda(), FeedForward(64, 96)
    without_bias.up.bias = None
    own_kernels.use_own_kernels(without_bias)
    assert type(without_bias) is FeedForward
    fused, inputs = copy.deepcopy(usual), torch.randn(3, 50, 64, device="cuda")
    own_kernels.use_own_kernels(fused)
    assert type(fused) is own_kernels.FusedFeedForward
    if is_compiled:
        fused.compile(dynamic=False)
    with torch.autocast("cuda", torch.bfloat16):
        expected, found = usual(inputs), fused(inputs)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    weight = torch.randn_like(found)
    gradients = [torch.autograd.grad((answer * weight).sum(), list(one.parameters())) for answer, one in ((expected, usual), (found, fused))]
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).norm() <= 2e-2 * theirs.norm()
    torch.testing.assert_close(fused(inputs), usual(inputs))  # in 32 bits nothing changes
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        torch.testing.assert_close(fused(inputs), usual(inputs), rtol=2e-2, atol=2e-2)


def test_without_triton_or_on_a_cpu_nothing_changes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: SimpleNamespace(major=9))
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    model = nn.ModuleList([FeedForward(8, 16), FeedForward(8, 16)])
    own_kernels.use_own_kernels(model)
    assert {type(part) for part in model} == {FeedForward}
    model[0].__class__ = own_kernels.FusedFeedForward
    model[1].load_state_dict(model[0].state_dict())
    inputs = torch.randn(2, 3, 8)
    assert torch.equal(model[0](inputs), model[1](inputs))
