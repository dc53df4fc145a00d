"""A frozen linear and its low-rank change as one product: W·x + B·(A·x) = [W, B]·[x; A·x]. What the change adds is never written down by itself,
and on the way back one product gives what goes to x and to A·x; what would be the frozen weight's gradient is not worked out."""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.library.custom_op("microbert_course::low_rank_linear", mutates_args=())
def _low_rank_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    "The answer, and A·x for the way back."
    few = inputs @ A.T
    return F.linear(torch.cat([inputs, few], dim=1), torch.cat([weight, B], dim=1), bias), few


@_low_rank_linear.register_fake
def _low_rank_linear_shapes(inputs, weight, bias, A, B):
    return inputs.new_empty(inputs.size(0), weight.size(0)), inputs.new_empty(inputs.size(0), A.size(0))


def _remember(ctx, inputs, output):
    values, weight, _, A, B = inputs
    ctx.save_for_backward(values, weight, A, B, output[1])


def _differentiate(ctx, d_answer, _):
    inputs, weight, A, B, few = ctx.saved_tensors
    both = d_answer @ torch.cat([weight, B], dim=1)  # (num_tokens, in + rank)
    d_inputs, d_few = both.split([inputs.size(1), len(A)], dim=1)
    return d_inputs + d_few @ A, None, None, d_few.T @ inputs, d_answer.T @ few


_low_rank_linear.register_autograd(_differentiate, setup_context=_remember)


def low_rank_linear(
    inputs: Tensor,       # (..., in)
    weight: Tensor,       # (out, in), frozen, as is the bias
    bias: Tensor | None,  # (out,)
    A: Tensor,            # (rank, in)
    B: Tensor,            # (out, rank)
) -> Tensor:  # (..., out)
    "`F.linear(inputs, weight + B·A, bias)` without that sum (Hu et al. 2021, §4.1); all of one dtype."
    return _low_rank_linear(inputs.reshape(-1, weight.size(1)), weight, bias, A, B)[0].view(*inputs.shape[:-1], len(weight))
