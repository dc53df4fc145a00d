"Attention: a hand-worked example, agreement with PyTorch, padding in every form, and errors at the door."

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from microbert_course.models.attention import MultiHeadAttention, real_keys, scaled_dot_product_attention

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 1, 0]])  # padding behind and in between


def random_heads(batch=3, num_heads=2, seq=5, head_dim=4, seed=0):
    return torch.randn(3, batch, num_heads, seq, head_dim, generator=torch.Generator().manual_seed(seed)).unbind(0)


def random_module(hidden_size=8, num_heads=2, dropout=0.0):
    "Weights and biases all random: a bias of zero would hide a mix-up."
    module = MultiHeadAttention(hidden_size, num_heads, dropout)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return module


def random_states(batch=3, seq=5, hidden=8, seed=1):
    return torch.randn(batch, seq, hidden, generator=torch.Generator().manual_seed(seed))


def test_toy_equals_the_numbers_worked_out_on_paper():
    "Scores 0, ln 2, 0 give the weights 1/4, 1/2, 1/4; with the third token masked they are 1/3 and 2/3."
    ln2 = math.log(2)
    query = torch.tensor([[[[2.0, 0, 0, 0]] * 3]])
    key = torch.tensor([[[[0, 0, 1.0, 0], [ln2, 0, 0, 0], [0, ln2, 0, 0]]]])
    value = torch.tensor([[[[12.0, 0], [0, 12], [12, 12]]]])
    context, weights = scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(weights[0, 0, 0], torch.tensor([0.25, 0.5, 0.25]))
    torch.testing.assert_close(context[0, 0, 0], torch.tensor([6.0, 9.0]))
    context, weights = scaled_dot_product_attention(query, key, value, torch.tensor([[1, 1, 0]]))
    torch.testing.assert_close(weights[0, 0, 0], torch.tensor([1 / 3, 2 / 3, 0]))
    torch.testing.assert_close(context[0, 0, 0], torch.tensor([4.0, 8.0]))


@pytest.mark.parametrize("mask", [None, MASK, MASK.bool(), MASK.to(torch.uint8)],
                         ids=["none", "int64", "bool", "uint8"])
def test_function_equals_torch_in_outputs_and_gradients(mask):
    "Same contexts and same gradients as F.scaled_dot_product_attention, whatever integers the mask is made of."
    results = []
    for attend in (lambda q, k, v: scaled_dot_product_attention(q, k, v, mask)[0],
                   lambda q, k, v: F.scaled_dot_product_attention(
                       q, k, v, None if mask is None else mask[:, None, None, :].bool())):
        leaves = [tensor.clone().requires_grad_() for tensor in random_heads()]
        context = attend(*leaves)
        (context * torch.arange(4.0)).sum().backward()
        results.append([context.detach(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)  # float32 sums of a few dozen terms


def test_rows_sum_to_one_over_real_keys_and_padding_gets_exactly_nothing():
    "Each query spreads one unit over the real keys."
    _, weights = scaled_dot_product_attention(*random_heads(), MASK)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 2, 5))
    assert (weights.masked_select(MASK[:, None, None, :] == 0) == 0).all()


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_row_of_padding_alone_has_zero_weights_zero_context_and_zero_gradients(dtype):
    "Not nan, which -inf gives, and not an average of padding, which the smallest finite number alone gives."
    leaves = [tensor.to(dtype).requires_grad_() for tensor in random_heads(batch=2, seq=3)]
    with torch.autograd.detect_anomaly(check_nan=True):  # no nan on the way either
        context, weights = scaled_dot_product_attention(*leaves, torch.tensor([[1, 1, 0], [0, 0, 0]]))
        context.sum().backward()
    assert (weights[1] == 0).all() and (context[1] == 0).all()
    assert context.isfinite().all() and all((leaf.grad[1] == 0).all() for leaf in leaves)
    assert all(leaf.grad.isfinite().all() for leaf in leaves) and (leaves[2].grad[0] != 0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_row_of_padding_alone_leaves_the_module_finite_and_the_other_rows_as_they_were(dtype):
    "One such row in a batch must not bring nan into the loss or into any gradient."
    module, states = random_module().to(dtype), random_states(batch=2).to(dtype)
    output = module(states, torch.tensor([[1, 1, 1, 1, 0], [0, 0, 0, 0, 0]]))
    torch.testing.assert_close(output[:1], module(states[:1], torch.tensor([[1, 1, 1, 1, 0]])))
    output.float().square().mean().backward()
    assert output.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_module_equals_torch_multihead_attention_in_outputs_weights_and_gradients():
    "On copied weights, with padding, against nn.MultiheadAttention."
    ours, theirs = random_module(), nn.MultiheadAttention(8, 2, batch_first=True)
    pairs = [(ours.qkv.weight, theirs.in_proj_weight), (ours.qkv.bias, theirs.in_proj_bias),
             (ours.out.weight, theirs.out_proj.weight), (ours.out.bias, theirs.out_proj.bias)]
    with torch.no_grad():
        for our, their in pairs:
            their.copy_(our)
    our_states, their_states = random_states().requires_grad_(), random_states().requires_grad_()
    our_output = ours(our_states, MASK)
    their_output, their_weights = theirs(their_states, their_states, their_states, key_padding_mask=MASK == 0,
                                         average_attn_weights=False)
    torch.testing.assert_close(our_output, their_output, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.attention_weights(our_states, MASK), their_weights, rtol=1e-5, atol=1e-6)
    target = random_states(seed=2)
    F.mse_loss(our_output, target).backward()
    F.mse_loss(their_output, target).backward()
    for our, their in [(our_states, their_states), *pairs]:
        torch.testing.assert_close(our.grad, their.grad, rtol=1e-5, atol=1e-6)


def test_attention_weights_are_those_that_forward_uses():
    "Mixing the values with them and mapping the result gives the output of forward."
    module, states = random_module(), random_states()
    value = module.split_heads(states)[2]
    context = module.attention_weights(states, MASK) @ value
    expected = module.out(context.transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(states, MASK), expected, rtol=1e-5, atol=1e-5)


def test_attention_weights_sum_to_one_over_keys_or_to_zero_where_all_is_padding():
    module, states = random_module(), random_states()
    mask = MASK.clone()
    mask[-1] = 0
    sums = module.attention_weights(states, mask).sum(-1)  # (batch, num_heads, seq)
    torch.testing.assert_close(sums[:-1], torch.ones_like(sums[:-1]))
    assert (sums[-1] == 0).all()


def test_what_stands_behind_the_padding_moves_no_real_token():
    "Change the padded tokens, and cut them off: real tokens come out the same."
    module, states = random_module(), random_states()
    changed = torch.where(MASK[..., None] == 0, 100.0, states)
    real = MASK.bool()
    torch.testing.assert_close(module(changed, MASK)[real], module(states, MASK)[real])
    torch.testing.assert_close(module(states[1:2, :3]), module(states, MASK)[1:2, :3], rtol=1e-5, atol=1e-5)


def test_shuffled_tokens_come_out_shuffled_and_otherwise_the_same():
    "Attention alone knows no order."
    module, states, order = random_module(), random_states(), torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(module(states[:, order]), module(states)[:, order], rtol=1e-5, atol=1e-5)


def test_dropout_draws_in_training_and_never_in_evaluation():
    "Same input twice: different in train mode, equal in eval mode and equal to a module without dropout."
    module, states = random_module(dropout=0.5), random_states()
    assert not torch.equal(module(states), module(states))
    module.eval()
    assert torch.equal(module(states), module(states))
    assert torch.equal(module(states), random_module()(states))


def test_four_square_maps_with_biases_whatever_the_number_of_heads():
    "4 h² + 4 h parameters."
    for num_heads in (1, 2, 4):
        assert sum(p.numel() for p in MultiHeadAttention(8, num_heads).parameters()) == 4 * 8**2 + 4 * 8


@pytest.mark.parametrize("mask, message", [
    (torch.ones(1, 5, dtype=torch.long), r"shape \(1, 5\), and \(batch, seq\) is \(3, 5\)"),
    (torch.ones(3, 4, dtype=torch.long), r"shape \(3, 4\), and \(batch, seq\) is \(3, 5\)"),
    (torch.ones(3, 1, 5, dtype=torch.long), r"shape \(3, 1, 5\)"),
    (torch.zeros(3, 5), "holds torch.float32"),
], ids=["one row for all", "too short", "three dimensions", "floats to be added"])
def test_mask_that_would_be_misread_is_refused_by_function_and_module(mask, message):
    "PyTorch would stretch some of these in silence, and read a float mask the other way round."
    with pytest.raises(ValueError, match=message):
        scaled_dot_product_attention(*random_heads(), mask)
    with pytest.raises(ValueError, match=message):
        random_module()(random_states(), mask)


def test_real_keys_has_the_keys_last():
    "(batch, 1, 1, seq), True = may be looked at."
    assert torch.equal(real_keys(MASK, random_heads()[1]), MASK.bool().reshape(3, 1, 1, 5))


@pytest.mark.parametrize("num_heads, message", [
    (3, "hidden_size 16 does not split into 3 heads: choose a multiple of 3"),
    (0, "num_heads 0 is no number of heads: choose 1 or more"),
])
def test_width_that_does_not_split_into_heads_is_refused(num_heads, message):
    "The message names the value and the remedy."
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(hidden_size=16, num_heads=num_heads)
