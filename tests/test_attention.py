"Attention: a hand-worked example, agreement with PyTorch, padding in every form, and errors at the door."

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from microbert_course.models.attention import (
    MultiHeadAttention,
    check_share,
    fused_attention,
    real_keys,
    scaled_dot_product_attention,
    visible_keys,
)

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 1, 0]])  # padding behind and in between


def random_heads(batch=3, num_heads=2, seq=5, head_dim=4, seed=0):
    return torch.randn(3, batch, num_heads, seq, head_dim, generator=torch.Generator().manual_seed(seed)).unbind(0)


def random_module(hidden_size=8, num_heads=2, dropout=0.0, is_causal=False):
    "Weights and biases all random: a bias of zero would hide a mix-up."
    module = MultiHeadAttention(hidden_size, num_heads, dropout, is_causal)
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("with_autocast", [False, True])
def test_sixteen_bits_on_a_cpu_are_worked_on_in_float32(dtype, with_autocast):
    "To the bit what float32 gives, rounded once at the end; there and on the way back."
    leaves, full = ([tensor.to(dtype).to(kind).requires_grad_() for tensor in random_heads()] for kind in (dtype, torch.float32))
    seen = visible_keys(*leaves[:2], MASK)
    with torch.autocast("cpu", dtype, enabled=with_autocast):
        context = fused_attention(*leaves, seen)
    expected = F.scaled_dot_product_attention(*full, seen)
    torch.testing.assert_close(context, expected.to(dtype), rtol=0, atol=0)
    for tensor in (context, expected):
        tensor.float().sum().backward()
    assert all((leaf.grad == exact.grad.to(dtype)).all() for leaf, exact in zip(leaves, full, strict=True))


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


def outputs_and_gradients(attend, tensors):
    "Context and the gradients of query, key and value under a fixed loss."
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    context = attend(*leaves)
    (context * torch.linspace(-1, 1, context.size(-1)).to(context)).sum().backward()
    return [context.detach(), *(leaf.grad for leaf in leaves)]


def assert_a_few_eps_apart(ours, theirs):
    """Sums of rounded products in another order differ by a few eps of the largest number, more on some processors than
    on others; a mistake shows in the first digits. The short dtypes are summed in float32, only results are rounded."""
    for our, their in zip(ours, theirs, strict=True):
        num_eps = 8 if our.dtype in (torch.bfloat16, torch.float16) else 64
        bound = num_eps * torch.finfo(our.dtype).eps * their.abs().max().clamp(min=1).item()
        torch.testing.assert_close(our, their, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 2, 5, 4), (3, 1, 17, 8), (3, 3, 33, 16)])
@pytest.mark.parametrize("padding", ["none", "behind", "before"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_every_mask_shape_and_dtype_equals_torch_in_outputs_and_gradients(is_causal, padding, shape, dtype):
    "Rows with nobody to look at included: torch, too, has zeros there on a CPU."
    batch, _, seq, _ = shape
    tensors = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).to(dtype).unbind(0)
    mask = (torch.arange(seq) < torch.tensor([seq, seq // 2, 0])[:, None]).long()  # the last row is all padding
    mask = {"none": None, "behind": mask, "before": mask.flip(1)}[padding]
    allowed = torch.ones(batch, 1, seq, seq, dtype=torch.bool)  # built here from nothing, not by the code under test
    if mask is not None:
        allowed &= mask.bool()[:, None, None, :]
    if is_causal:
        allowed &= torch.arange(seq)[:, None] >= torch.arange(seq)
    ours = outputs_and_gradients(lambda *qkv: scaled_dot_product_attention(*qkv, mask, is_causal)[0], tensors)
    theirs = outputs_and_gradients(lambda *qkv: F.scaled_dot_product_attention(*qkv, allowed), tensors)
    assert_a_few_eps_apart(ours, theirs)


@pytest.mark.parametrize("mask", [None, MASK, MASK.flip(1)], ids=["none", "padding", "padding before too"])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_module_with_any_mask_equals_torch_module_in_output_and_all_gradients(mask, is_causal, dtype):
    "nn.MultiheadAttention with the same weights; its masks are True where nobody may look."
    ours = random_module(is_causal=is_causal).to(dtype)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True, dtype=dtype)
    pairs = [(ours.qkv.weight, theirs.in_proj_weight), (ours.qkv.bias, theirs.in_proj_bias),
             (ours.out.weight, theirs.out_proj.weight), (ours.out.bias, theirs.out_proj.bias)]
    with torch.no_grad():
        for our, their in pairs:
            their.copy_(our)
    our_states, their_states = (random_states().to(dtype).requires_grad_() for _ in range(2))
    future = torch.arange(5)[:, None] < torch.arange(5) if is_causal else None
    our_output = ours(our_states, mask)
    their_output, _ = theirs(their_states, their_states, their_states, attn_mask=future, need_weights=False,
                             key_padding_mask=None if mask is None else mask == 0)
    has_somebody = ours.attention_weights(our_states, mask)[:, 0].sum(-1) > 0  # the others are without meaning
    our_output, their_output = our_output[has_somebody], their_output[has_somebody]
    for output in (our_output, their_output):
        (output * torch.linspace(-1, 1, 8).to(output)).sum().backward()
    assert_a_few_eps_apart([our_output, our_states.grad, *(our.grad for our, _ in pairs)],
                           [their_output, their_states.grad, *(their.grad for _, their in pairs)])


def test_causal_toy_equals_the_numbers_worked_out_on_paper():
    "The first token sees itself; the second, asking nothing, both evenly; the third as without the mask."
    ln2 = math.log(2)
    query = torch.tensor([[[[2.0, 0, 0, 0], [0, 0, 0, 0], [2.0, 0, 0, 0]]]])
    key = torch.tensor([[[[0, 0, 1.0, 0], [ln2, 0, 0, 0], [0, ln2, 0, 0]]]])
    value = torch.tensor([[[[12.0, 0], [0, 12], [12, 12]]]])
    context, weights = scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(context[0, 0], torch.tensor([[12.0, 0], [6, 6], [6, 9]]))
    assert (weights[0, 0].triu(1) == 0).all()


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_causal_query_with_only_padding_before_it_gathers_nothing_and_brings_no_nan():
    "Padding before the text: weights and context 0 in the function, finite in the module, gradients finite in both."
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]])
    leaves = [tensor.requires_grad_() for tensor in random_heads()]
    module, states = random_module(is_causal=True), random_states().requires_grad_()
    with torch.autograd.detect_anomaly(check_nan=True):
        context, weights = scaled_dot_product_attention(*leaves, mask, is_causal=True)
        output = module(states, mask)
        (context.sum() + output.sum()).backward()
    nobody = mask.cumsum(1) == 0  # (batch, seq), no real token up to here
    assert (weights.transpose(1, 2)[nobody] == 0).all() and (context.transpose(1, 2)[nobody] == 0).all()
    torch.testing.assert_close(weights.sum(-1).transpose(1, 2)[~nobody], torch.ones(int((~nobody).sum()), 2))
    assert output.isfinite().all() and states.grad.isfinite().all()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_no_token_of_a_causal_module_sees_one_behind_it():
    "Change the last token, and cut it off: those before come out the same; without is_causal they do not."
    states = random_states()
    changed = states.clone()
    changed[:, -1] += 1
    module = random_module(is_causal=True)
    torch.testing.assert_close(module(changed)[:, :-1], module(states)[:, :-1])
    torch.testing.assert_close(module(states[:, :-1]), module(states)[:, :-1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(random_module()(changed)[:, :-1], random_module()(states)[:, :-1])


@pytest.mark.parametrize("mask", [None, MASK])
def test_attention_weights_of_a_causal_module_are_those_that_forward_uses(mask):
    "Nothing above the diagonal, and mixing the values with them gives the output."
    module, states = random_module(is_causal=True), random_states()
    weights = module.attention_weights(states, mask)
    assert (weights.triu(1) == 0).all()
    expected = module.out((weights @ module.split_heads(states)[2]).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(states, mask), expected, rtol=1e-5, atol=1e-5)


def test_causal_without_padding_hands_no_mask_to_the_kernel(monkeypatch):
    "A mask would lock the fastest kernels out; with padding, one combined boolean mask is handed over."
    calls, attend = [], F.scaled_dot_product_attention

    def listen(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False):
        calls.append((attn_mask, is_causal))
        return attend(query, key, value, attn_mask, dropout_p, is_causal)
    monkeypatch.setattr(F, "scaled_dot_product_attention", listen)
    random_module(is_causal=True)(random_states())
    random_module(is_causal=True)(random_states(), MASK)
    random_module()(random_states())
    assert calls[0] == (None, True) and calls[2] == (None, False)
    assert calls[1][0].dtype == torch.bool and calls[1][0].shape == (3, 1, 5, 5) and calls[1][1] is False


@pytest.mark.parametrize("is_causal", [False, True])
def test_no_kernel_is_handed_a_query_with_nobody_to_look_at(is_causal, monkeypatch):
    "cuDNN's kernel on an H200 gave nan gradients for such a row in bfloat16; rows with somebody keep their own mask."
    handed, attend = [], F.scaled_dot_product_attention

    def listen(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False):
        handed.append(attn_mask.expand(3, 1, 5, 5))
        return attend(query, key, value, attn_mask, dropout_p, is_causal)
    monkeypatch.setattr(F, "scaled_dot_product_attention", listen)
    mask = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
    module = random_module(is_causal=is_causal)
    module(random_states(), mask)
    may_look = visible_keys(*module.split_heads(random_states())[:2], mask, is_causal).expand(3, 1, 5, 5)
    has_somebody = may_look.any(-1)
    assert torch.equal(handed[0][has_somebody], may_look[has_somebody]) and handed[0][~has_somebody].all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("seq", [5, 64, 200])  # 64: where the kernel that gave nan was chosen
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("is_causal", [False, True])
def test_rows_with_nobody_bring_no_nan_on_a_gpu_and_the_others_equal_the_named_version(is_causal, dtype, seq):
    "Padding behind, before and throughout: all gradients finite, real tokens as the named version has them."
    torch.manual_seed(0)
    module = MultiHeadAttention(64, 4, is_causal=is_causal).to("cuda", dtype)
    states = torch.randn(4, seq, 64, device="cuda", dtype=dtype, requires_grad=True)
    mask = torch.ones(4, seq, dtype=torch.long, device="cuda")
    mask[0, seq // 2:], mask[1, :seq // 2], mask[2] = 0, 0, 0
    output = module(states, mask)
    output.float().square().mean().backward()
    assert output.isfinite().all() and states.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
    context, weights = scaled_dot_product_attention(*module.split_heads(states), mask, is_causal)
    has_somebody = weights[:, 0].sum(-1) > 0
    expected = module.out(context.transpose(1, 2).flatten(2))
    assert_a_few_eps_apart([output[has_somebody]], [expected[has_somebody]])


def test_dropout_draws_what_torch_draws_after_the_same_seed():
    "Context and gradients, against F.scaled_dot_product_attention on a CPU."
    def seeded(attend):
        def run(*tensors):
            torch.manual_seed(3)
            return attend(*tensors)
        return run
    tensors = random_heads()
    assert_a_few_eps_apart(
        outputs_and_gradients(seeded(lambda *qkv: scaled_dot_product_attention(*qkv, dropout=0.3)[0]), tensors),
        outputs_and_gradients(seeded(lambda *qkv: F.scaled_dot_product_attention(*qkv, dropout_p=0.3)), tensors))


def test_dropout_zeroes_its_share_of_the_weights_and_scales_up_the_rest():
    "A share p is 0, the rest is divided by 1 - p, and the returned weights are those that mixed the values."
    query, key, value = random_heads(batch=8, num_heads=4, seq=40)
    torch.manual_seed(0)
    context, dropped = scaled_dot_product_attention(query, key, value, dropout=0.25)
    _, weights = scaled_dot_product_attention(query, key, value)
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.01)  # 51,200 draws: five standard errors
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.75)
    torch.testing.assert_close(context, dropped @ value)


@pytest.mark.parametrize("dropout", [-0.1, 1, 1.5, float("nan")])
def test_dropout_that_is_no_share_is_refused(dropout):
    "By function, module and the check itself."
    for attempt in (lambda: scaled_dot_product_attention(*random_heads(), dropout=dropout),
                    lambda: MultiHeadAttention(8, 2, dropout), lambda: check_share(dropout)):
        with pytest.raises(ValueError, match="is not a share: choose 0 or more and less than 1"):
            attempt()
    check_share(0.0)
    check_share(0.999)


def test_visible_keys_joins_padding_and_the_future_and_says_none_for_nothing():
    "True = may be looked at; every combination written out."
    heads, mask = torch.empty(2, 1, 3, 4), torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert visible_keys(heads, heads) is None
    assert torch.equal(visible_keys(heads, heads, mask), mask.bool().reshape(2, 1, 1, 3))
    past = [[True, False, False], [True, True, False], [True, True, True]]
    assert visible_keys(heads, heads, is_causal=True).tolist() == past
    both = visible_keys(heads, heads, mask, is_causal=True)
    assert both[0, 0].tolist() == [[True, False, False], [True, True, False], [True, True, False]]
    assert both[1, 0].tolist() == [[False, False, False], [False, True, False], [False, True, True]]


def test_causal_with_unlike_numbers_of_queries_and_keys_is_refused():
    "PyTorch would put the first query at the first key, which is wrong for the last token of a text."
    query, key, value = random_heads()
    with pytest.raises(ValueError, match="is_causal with 2 queries and 5 keys"):
        scaled_dot_product_attention(query[:, :, :2], key, value, is_causal=True)
    assert scaled_dot_product_attention(query[:, :, :2], key, value)[0].shape == (3, 2, 2, 4)
