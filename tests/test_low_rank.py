"""`training.low_rank`: a frozen linear and its change as one product, beside the two by themselves."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.backends.debugging import aot_eager

from microbert_course.models.gpt import GptConfig, GptForCausalLM
from microbert_course.models.lora import LoraConfig, LoraLinear, add_lora
from microbert_course.training import own_kernels
from microbert_course.training.build import compile_parts
from microbert_course.training.low_rank import low_rank_linear


@pytest.mark.parametrize("shape, has_bias", [((2, 3, 5), True), ((4, 5), False), ((5,), True)])
@pytest.mark.parametrize("is_learned", [True, False])
def test_it_is_the_linear_with_the_changed_weight(shape, has_bias, is_learned):
    torch.manual_seed(0)
    inputs = torch.randn(shape, dtype=torch.double, requires_grad=is_learned)
    weight, bias = torch.randn(7, 5, dtype=torch.double), torch.randn(7, dtype=torch.double) if has_bias else None
    A, B = torch.randn(2, 5, dtype=torch.double, requires_grad=True), torch.randn(7, 2, dtype=torch.double, requires_grad=True)
    expected, found = F.linear(inputs, weight + B @ A, bias), low_rank_linear(inputs, weight, bias, A, B)
    torch.testing.assert_close(found, expected)
    leaves, direction = [A, B, inputs][: 2 + is_learned], torch.randn_like(expected)
    torch.testing.assert_close(torch.autograd.grad(found, leaves, direction), torch.autograd.grad(expected, leaves, direction))


def test_texts_of_all_lengths_share_what_was_compiled():
    torch._dynamo.reset()
    weight, A, B, compiled = torch.randn(7, 5), torch.randn(2, 5, requires_grad=True), torch.randn(7, 2, requires_grad=True), []

    def count(graph, inputs):
        compiled.append(graph)
        return aot_eager(graph, inputs)

    run = torch.compile(lambda inputs: low_rank_linear(inputs, weight, None, A, B), backend=count)
    for seq in range(3, 14):
        run(torch.randn(2, seq, 5, requires_grad=True)).sum().backward()
    assert len(compiled) == 2  # one for the first length, one for all


def small_decoder(**lora) -> GptForCausalLM:
    torch.manual_seed(0)
    model = GptForCausalLM(GptConfig(vocab_size=50, hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=1, intermediate_size=96, max_seq_len=32))
    add_lora(model, LoraConfig(4, 8.0, **lora))
    for name, weight in model.named_parameters():
        if name.endswith(".B"):
            torch.nn.init.normal_(weight, std=0.1)
    return model


def swapped(model: GptForCausalLM) -> GptForCausalLM:
    model = copy.deepcopy(model)
    for part in model.modules():
        if type(part) is LoraLinear:
            part.__class__ = own_kernels.OneProductLora
    return model


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_on_a_cpu_nothing_changes(dropout):
    usual, ids = small_decoder(lora_dropout=dropout), torch.randint(50, (2, 9))
    for model in (usual, ours := swapped(usual)):
        torch.manual_seed(1)
        model.answer = model.train().features(ids)
    assert torch.equal(ours.answer, usual.answer)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("targets", [None, ("q_proj", "v_proj", "down_proj")])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_decoder_with_it_is_one_without(targets, is_compiled):
    usual = small_decoder(targets=targets).cuda()
    ours, ids = copy.deepcopy(usual), torch.randint(50, (2, 9), device="cuda")
    own_kernels.use_own_kernels(ours)
    assert {type(part) for part in ours.modules() if isinstance(part, LoraLinear)} == {own_kernels.OneProductLora}
    if is_compiled:
        compile_parts(ours)
    with torch.autocast("cuda", torch.bfloat16):
        expected, found = usual.features(ids), ours.features(ids)
    torch.testing.assert_close(found.float(), expected.float(), rtol=5e-2, atol=5e-2)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((answer * weight).sum(), [leaf for leaf in model.parameters() if leaf.requires_grad])
                 for answer, model in ((expected, usual), (found, ours))]
    for theirs, mine in zip(*gradients, strict=True):
        assert (mine - theirs).norm() <= 5e-2 * theirs.norm() + 1e-4
    torch.testing.assert_close(ours.features(ids), usual.features(ids))  # in 32 bits nothing changes
