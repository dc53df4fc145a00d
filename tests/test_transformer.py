"The block: both norm placements against PyTorch, hand-worked branches, and what must not leak."

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from microbert_course.models.attention import MultiHeadAttention
from microbert_course.models.transformer import FeedForward, PostNorm, PreNorm, TransformerBlock

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])


class Double(nn.Module):
    "A sublayer whose answer fits on paper."

    def forward(self, hidden_states):
        return 2 * hidden_states


def make_block(branch, hidden_size=8, num_heads=2, intermediate_size=20, dropout=0.0):
    return TransformerBlock(
        branch(MultiHeadAttention(hidden_size, num_heads), nn.LayerNorm(hidden_size), dropout),
        branch(FeedForward(hidden_size, intermediate_size), nn.LayerNorm(hidden_size), dropout))


def randomize(module):
    "Everything random, norms and biases too: their ones and zeros would hide a mix-up."
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return module


def random_states(seed=1):
    return torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(seed))  # (batch, seq, hidden)


def block_and_reference(branch):
    "Our block and torch's layer with the same weights, and the pairs of their parameters."
    block = randomize(make_block(branch))
    reference = nn.TransformerEncoderLayer(8, 2, 20, dropout=0.0, activation="gelu", batch_first=True,
                                           norm_first=branch is PreNorm)
    attention, feed_forward = block.attention.sublayer, block.feed_forward.sublayer
    modules = [(attention.out, reference.self_attn.out_proj), (feed_forward.up, reference.linear1),
               (feed_forward.down, reference.linear2), (block.attention.norm, reference.norm1),
               (block.feed_forward.norm, reference.norm2)]
    pairs = [(attention.qkv.weight, reference.self_attn.in_proj_weight),
             (attention.qkv.bias, reference.self_attn.in_proj_bias),
             *[(getattr(our, kind), getattr(their, kind)) for our, their in modules for kind in ("weight", "bias")]]
    assert len(pairs) == len(list(reference.parameters())) == len(list(block.parameters()))
    with torch.no_grad():
        for our, their in pairs:
            their.copy_(our)
    return block, reference, pairs


@pytest.mark.parametrize("branch", [PostNorm, PreNorm])
@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "padding"])
def test_block_equals_torch_encoder_layer_in_outputs_and_gradients(branch, mask):
    "norm_first both ways, on copied weights, against nn.TransformerEncoderLayer."
    block, reference, pairs = block_and_reference(branch)
    our_states, their_states = random_states().requires_grad_(), random_states().requires_grad_()
    ours = block(our_states, attention_mask=mask)
    theirs = reference(their_states, src_key_padding_mask=None if mask is None else mask == 0)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    F.mse_loss(ours, random_states(seed=2)).backward()
    F.mse_loss(theirs, random_states(seed=2)).backward()
    for our, their in [(our_states, their_states), *pairs]:
        torch.testing.assert_close(our.grad, their.grad, rtol=1e-4, atol=1e-5)  # float32, sums over 120 numbers


@pytest.mark.parametrize("branch", [PostNorm, PreNorm])
def test_block_equals_torch_fast_path_in_evaluation(branch):
    "torch takes other kernels in eval mode without gradients; real tokens agree there as well."
    block, reference, _ = block_and_reference(branch)
    block.eval(), reference.eval()
    with torch.no_grad():
        ours = block(random_states(), attention_mask=MASK)
        theirs = reference(random_states(), src_key_padding_mask=MASK == 0)
    torch.testing.assert_close(ours[MASK.bool()], theirs[MASK.bool()], rtol=1e-4, atol=1e-4)


def test_branches_give_the_numbers_worked_out_on_paper():
    "(0, 0, 6, 6) with a sublayer that doubles: (-1, -1, 1, 1) after post-norm, (-2, -2, 8, 8) after pre-norm."
    token = torch.tensor([[[0.0, 0, 6, 6]]])
    torch.testing.assert_close(PostNorm(Double(), nn.LayerNorm(4))(token), torch.tensor([[[-1.0, -1, 1, 1]]]))
    torch.testing.assert_close(PreNorm(Double(), nn.LayerNorm(4))(token), torch.tensor([[[-2.0, -2, 8, 8]]]))


@pytest.mark.parametrize("branch, expected", [(PostNorm, nn.LayerNorm(8)), (PreNorm, nn.Identity())])
def test_silent_sublayer_leaves_the_road_open(branch, expected):
    "With a sublayer that answers zero, pre-norm is the identity and post-norm is its norm: the residual is there."
    silent = FeedForward(8, 20)
    nn.init.zeros_(silent.down.weight)
    nn.init.zeros_(silent.down.bias)
    torch.testing.assert_close(branch(silent, nn.LayerNorm(8))(random_states()), expected(random_states()))


def test_feed_forward_uses_exact_gelu_on_each_token_alone():
    "x · Φ(x) with the error function, not the tanh formula; changing one token moves no other."
    feed_forward, states = randomize(FeedForward(8, 20)).double(), random_states().double()
    up = feed_forward.up(states)
    bent = up * 0.5 * (1 + torch.erf(up / 2**0.5))
    torch.testing.assert_close(feed_forward(states), feed_forward.down(bent), rtol=1e-10, atol=1e-10)
    changed = states.clone()
    changed[:, -1] += 1
    assert torch.equal(feed_forward(changed)[:, :-1], feed_forward(states)[:, :-1])


@pytest.mark.parametrize("branch", [PostNorm, PreNorm])
def test_padding_reaches_no_real_token_through_a_stack(branch):
    "Four blocks deep, another content behind the padding changes nothing."
    stack = [randomize(make_block(branch)) for _ in range(4)]
    outputs = []
    for states in (random_states(), torch.where(MASK[..., None] == 0, 100.0, random_states())):
        for block in stack:
            states = block(states, attention_mask=MASK)
        outputs.append(states[MASK.bool()])
    torch.testing.assert_close(outputs[0], outputs[1])


@pytest.mark.parametrize("branch", [PostNorm, PreNorm])
def test_row_of_padding_alone_brings_no_nan(branch):
    "Outputs and all gradients stay finite with such a row in the batch."
    block, mask = randomize(make_block(branch)), MASK * torch.tensor([[1], [0], [1]])
    output = block(random_states(), attention_mask=mask)
    output.square().mean().backward()
    assert output.isfinite().all() and all(p.grad.isfinite().all() for p in block.parameters())


@pytest.mark.parametrize("branch", [PostNorm, PreNorm])
def test_dropout_acts_on_the_branch_only_and_only_in_training(branch):
    "With everything dropped only the road is left; in evaluation nothing is dropped."
    silent = branch(Double(), nn.LayerNorm(8), dropout=1.0)
    road = nn.LayerNorm(8)(random_states()) if branch is PostNorm else random_states()
    torch.testing.assert_close(silent(random_states()), road)
    kept = branch(Double(), nn.LayerNorm(8))
    assert torch.equal(silent.eval()(random_states()), kept(random_states()))


def test_block_has_as_many_parameters_as_the_formula_says():
    "4h² + 4h for attention, 2hi + h + i for the feed-forward, 4h for two norms."
    h, i = 8, 20
    count = sum(p.numel() for p in make_block(PostNorm, h, 2, i).parameters())
    assert count == (4 * h * h + 4 * h) + (2 * h * i + h + i) + 4 * h


def test_block_hands_context_to_attention_only():
    "Keyword arguments reach the attention branch by name, and the feed-forward branch gets the states alone."
    class Record(nn.Module):
        def forward(self, hidden_states, **context):
            self.seen = context
            return hidden_states
    attention, feed_forward = Record(), Record()
    TransformerBlock(attention, feed_forward)(random_states(), attention_mask=MASK)
    assert attention.seen["attention_mask"] is MASK and feed_forward.seen == {}


@pytest.mark.parametrize("branch", [PostNorm, PreNorm])
@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "padding"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_block_is_a_few_eps_from_torch_in_every_gradient(branch, mask, dtype):
    "Counted in the dtype's own rounding: 32 eps of the largest number of a tensor, input and all twelve parameters."
    block, reference, pairs = block_and_reference(branch)
    block, reference = block.to(dtype), reference.to(dtype)  # changes the parameters in place: the pairs stay theirs
    our_states, their_states = (random_states().to(dtype).requires_grad_() for _ in range(2))
    ours = block(our_states, attention_mask=mask)
    theirs = reference(their_states, src_key_padding_mask=None if mask is None else mask == 0)
    for output in (ours, theirs):
        (output * torch.linspace(-1, 1, 8, dtype=dtype)).sum().backward()
    compared = [(ours, theirs), (our_states.grad, their_states.grad), *((our.grad, their.grad) for our, their in pairs)]
    for our, their in compared:
        assert our.dtype == dtype
        bound = 32 * torch.finfo(dtype).eps * their.abs().max().clamp(min=1).item()
        torch.testing.assert_close(our, their, rtol=0, atol=bound)


@pytest.mark.parametrize("branch", [PostNorm, PreNorm])
def test_causal_attention_in_the_block_sees_no_token_behind(branch):
    "The block is handed its attention, so a causal one makes a causal block, equal to torch's with is_causal."
    block, reference, _ = block_and_reference(branch)
    block.attention.sublayer.is_causal = True
    states, changed = random_states(), random_states()
    changed[:, -1] += 1
    torch.testing.assert_close(block(states)[:, :-1], block(changed)[:, :-1])
    future = torch.arange(5)[:, None] < torch.arange(5)
    torch.testing.assert_close(block(states), reference(states, src_mask=future, is_causal=True), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("branch", [PostNorm, PreNorm])
def test_dropped_slots_of_the_branch_leave_the_road_and_the_rest_is_scaled_up(branch):
    "With half dropped, x + 2x is 1 or 5 where x is 1, about half of each, and in evaluation 3 everywhere."
    torch.manual_seed(0)
    ones = torch.ones(1, 1, 10_000)
    module = branch(Double(), nn.Identity(), dropout=0.5)
    output = module(ones)
    assert set(output.unique().tolist()) == {1.0, 5.0}
    assert output.mean().item() == pytest.approx(3, abs=0.1)  # five standard errors
    assert (module.eval()(ones) == 3).all()


def test_flops_are_two_a_weight_and_token_and_a_part_that_grows_with_the_square_of_seq():
    "2·(4h² + 2hi) a token for the maps, 4·seq·h for scores and mixing, as torch counts them."
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    batch, seq, h, i = 3, 5, 8, 20
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        make_block(PreNorm, h, 2, i)(random_states())
    assert counter.get_total_flops() == batch * seq * (2 * (4 * h * h + 2 * h * i) + 4 * seq * h)


def test_deep_stack_without_the_sum_makes_all_tokens_alike_and_with_it_does_not():
    "The residual keeps a token itself (Dong et al. 2021); without it ten blocks leave one vector a row."
    class Forgetful(PostNorm):
        def forward(self, hidden_states, **context):
            return self.norm(self.sublayer(hidden_states, **context))

    def mean_cosine(branch):
        torch.manual_seed(0)
        states = torch.randn(2, 6, 32)
        for _ in range(10):
            states = make_block(branch, 32, 4, 64)(states)
        direction = F.normalize(states.detach(), dim=-1)
        return (direction @ direction.transpose(1, 2)).mean().item()
    assert mean_cosine(Forgetful) > 0.99 > 0.9 > max(mean_cosine(PostNorm), mean_cosine(PreNorm))
