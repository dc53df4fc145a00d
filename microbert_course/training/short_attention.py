"""Self-attention for short rows on a GPU, one kernel forward and one back: FlashAttention-2 (Dao 2023, §3.1) that reads queries, keys and values
where the product has left them, writes their gradients where the next product reads them, and steps over documents that cannot see each other.

Written in Triton, which torch brings along on Linux. torch's own kernels are made for long rows; the gradient that they leave must be put together
from three, and where anything is hidden they want a mask of (seq, seq)."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 64  # queries and keys of a program's step
LOG2_E = tl.constexpr(1.4426950408889634)  # exp2 is what the hardware has


@triton.jit
def _place(seq, NUM_HEADS: tl.constexpr, NUM_BLOCKS: tl.constexpr, BLOCK: tl.constexpr):
    "What a program works on: where its row begins, among all tokens; its head; (BLOCK,) places in the row."
    block, head = tl.program_id(0) % NUM_BLOCKS, tl.program_id(0) // NUM_BLOCKS
    return (head // NUM_HEADS).to(tl.int64) * seq, head % NUM_HEADS, block * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def _vectors(table, places, stride, seq, HEAD_DIM: tl.constexpr, IS_EVEN: tl.constexpr):
    "(BLOCK, HEAD_DIM), zeros beyond the row."
    at = table + places[:, None] * stride + tl.arange(0, HEAD_DIM)[None, :]
    if IS_EVEN:
        return tl.load(at)
    return tl.load(at, mask=places[:, None] < seq, other=0.0)


@triton.jit
def _documents(numbers, places, seq, nobody):
    "(BLOCK,) numbers of documents; `nobody` for padding and beyond the row."
    found = tl.load(numbers + places, mask=places < seq, other=0).to(tl.int32)
    return tl.where(found == 0, nobody, found)


@triton.jit
def _overlap(these, those):
    "Whether some document of one block may be in the other too; where numbers ascend along a row, this is seldom wrongly so."
    first, last = tl.min(tl.where(these < 0, 2**31 - 1, these)), tl.max(these)
    return (tl.max(those) >= first) & (tl.min(tl.where(those < 0, 2**31 - 1, those)) <= last)


@triton.jit
def _forward_kernel(
    qkv, numbers, context, log_sums, seq, scale,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, NUM_BLOCKS: tl.constexpr, BLOCK: tl.constexpr, IS_EVEN: tl.constexpr, HAS_DOCUMENTS: tl.constexpr,
):
    "A block of queries of one head: softmax over keys as they come (Milakov & Gimelshein 2018), nothing of size (seq, seq) in memory."
    row, head, here = _place(seq, NUM_HEADS, NUM_BLOCKS, BLOCK)
    hidden: tl.constexpr = NUM_HEADS * HEAD_DIM
    query_table = qkv + row * 3 * hidden + head * HEAD_DIM
    query = _vectors(query_table, here, 3 * hidden, seq, HEAD_DIM, IS_EVEN)
    if HAS_DOCUMENTS:
        ours = _documents(numbers + row, here, seq, -1)
    highest = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    mixed = tl.zeros([BLOCK, HEAD_DIM], tl.float32)
    for step in range(NUM_BLOCKS):
        there = step * BLOCK + tl.arange(0, BLOCK)
        may_meet = True
        if HAS_DOCUMENTS:
            theirs = _documents(numbers + row, there, seq, -2)
            may_meet = _overlap(ours, theirs)
        if may_meet:
            key = _vectors(query_table + hidden, there, 3 * hidden, seq, HEAD_DIM, IS_EVEN)
            value = _vectors(query_table + 2 * hidden, there, 3 * hidden, seq, HEAD_DIM, IS_EVEN)
            scores = tl.dot(query, tl.trans(key)) * (scale * LOG2_E)
            if HAS_DOCUMENTS:
                scores = tl.where(ours[:, None] == theirs[None, :], scores, float("-inf"))
            elif not IS_EVEN:
                scores = tl.where(there[None, :] < seq, scores, float("-inf"))
            higher = tl.maximum(highest, tl.max(scores, 1))
            zero = tl.where(higher == float("-inf"), 0.0, higher)  # nothing was seen yet
            weights, shrink = tl.exp2(scores - zero[:, None]), tl.exp2(highest - zero)
            total = total * shrink + tl.sum(weights, 1)
            mixed = mixed * shrink[:, None] + tl.dot(weights.to(value.dtype), value)
            highest = higher
    has_seen = total > 0
    total = tl.where(has_seen, total, 1.0)
    at = context + (row + here[:, None]) * hidden + head * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    tl.store(at, (mixed / total[:, None]).to(query.dtype), mask=here[:, None] < seq)
    tl.store(log_sums + row * NUM_HEADS + head * seq + here, tl.where(has_seen, highest + tl.log2(total), 0.0), mask=here < seq)


@triton.jit
def _mean_kernel(
    qkv, numbers, context, d_context, means, seq, scale,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, NUM_BLOCKS: tl.constexpr, BLOCK: tl.constexpr, IS_EVEN: tl.constexpr, HAS_DOCUMENTS: tl.constexpr,
):
    "For each query the sum of context times its gradient, which is the mean of its weights' gradients (Dao et al. 2022, App. B.4)."
    row, head, here = _place(seq, NUM_HEADS, NUM_BLOCKS, BLOCK)
    hidden: tl.constexpr = NUM_HEADS * HEAD_DIM
    table = row * hidden + head * HEAD_DIM
    out = _vectors(context + table, here, hidden, seq, HEAD_DIM, IS_EVEN).to(tl.float32)
    d_out = _vectors(d_context + table, here, hidden, seq, HEAD_DIM, IS_EVEN).to(tl.float32)
    tl.store(means + row * NUM_HEADS + head * seq + here, tl.sum(out * d_out, 1), mask=here < seq)


@triton.jit
def _backward_kernel(
    qkv, numbers, means, log_sums, d_context, d_qkv, seq, scale,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, NUM_BLOCKS: tl.constexpr, BLOCK: tl.constexpr, IS_EVEN: tl.constexpr, HAS_DOCUMENTS: tl.constexpr,
):
    """A block of places of one head: the gradients of its keys and values, from all queries; then those of its queries, from all keys.

    Each weight is worked out twice, so that no two programs add to the same number, and every run adds in the same order."""
    row, head, here = _place(seq, NUM_HEADS, NUM_BLOCKS, BLOCK)
    hidden: tl.constexpr = NUM_HEADS * HEAD_DIM
    query_table = qkv + row * 3 * hidden + head * HEAD_DIM
    d_context_table = d_context + row * hidden + head * HEAD_DIM
    mean_row, log_sum_row = means + row * NUM_HEADS + head * seq, log_sums + row * NUM_HEADS + head * seq
    query = _vectors(query_table, here, 3 * hidden, seq, HEAD_DIM, IS_EVEN)
    key = _vectors(query_table + hidden, here, 3 * hidden, seq, HEAD_DIM, IS_EVEN)
    value = _vectors(query_table + 2 * hidden, here, 3 * hidden, seq, HEAD_DIM, IS_EVEN)
    d_out = _vectors(d_context_table, here, hidden, seq, HEAD_DIM, IS_EVEN)
    mean = tl.load(mean_row + here, mask=here < seq, other=0.0)
    log_sum = tl.load(log_sum_row + here, mask=here < seq, other=0.0)
    if HAS_DOCUMENTS:
        ours = _documents(numbers + row, here, seq, -1)
    d_query = tl.zeros([BLOCK, HEAD_DIM], tl.float32)
    d_key = tl.zeros([BLOCK, HEAD_DIM], tl.float32)
    d_value = tl.zeros([BLOCK, HEAD_DIM], tl.float32)
    for step in range(NUM_BLOCKS):  # queries beyond the row have gradients of 0, which add nothing
        there = step * BLOCK + tl.arange(0, BLOCK)
        may_meet = True
        if HAS_DOCUMENTS:
            theirs = _documents(numbers + row, there, seq, -2)
            may_meet = _overlap(ours, theirs)
        if may_meet:
            their_query = _vectors(query_table, there, 3 * hidden, seq, HEAD_DIM, IS_EVEN)
            their_d_out = _vectors(d_context_table, there, hidden, seq, HEAD_DIM, IS_EVEN)
            their_mean = tl.load(mean_row + there, mask=there < seq, other=0.0)
            their_log_sum = tl.load(log_sum_row + there, mask=there < seq, other=0.0)
            weights = tl.exp2(tl.dot(key, tl.trans(their_query)) * (scale * LOG2_E) - their_log_sum[None, :])
            if HAS_DOCUMENTS:
                weights = tl.where(ours[:, None] == theirs[None, :], weights, 0.0)
            d_value += tl.dot(weights.to(value.dtype), their_d_out)
            d_scores = weights * (tl.dot(value, tl.trans(their_d_out)) - their_mean[None, :])
            d_key += tl.dot(d_scores.to(value.dtype), their_query)
    d_table = d_qkv + row * 3 * hidden + head * HEAD_DIM
    at = d_table + here[:, None] * 3 * hidden + tl.arange(0, HEAD_DIM)[None, :]
    tl.store(at + hidden, (d_key * scale).to(key.dtype), mask=here[:, None] < seq)
    tl.store(at + 2 * hidden, d_value.to(key.dtype), mask=here[:, None] < seq)
    for step in range(NUM_BLOCKS):
        there = step * BLOCK + tl.arange(0, BLOCK)
        may_meet = True
        if HAS_DOCUMENTS:
            theirs = _documents(numbers + row, there, seq, -2)
            may_meet = _overlap(ours, theirs)
        if may_meet:
            their_key = _vectors(query_table + hidden, there, 3 * hidden, seq, HEAD_DIM, IS_EVEN)
            their_value = _vectors(query_table + 2 * hidden, there, 3 * hidden, seq, HEAD_DIM, IS_EVEN)
            weights = tl.exp2(tl.dot(query, tl.trans(their_key)) * (scale * LOG2_E) - log_sum[:, None])
            if HAS_DOCUMENTS:
                weights = tl.where(ours[:, None] == theirs[None, :], weights, 0.0)
            elif not IS_EVEN:
                weights = tl.where(there[None, :] < seq, weights, 0.0)  # a key of zeros has weight, infinite where all scores are low
            d_scores = weights * (tl.dot(d_out, tl.trans(their_value)) - mean[:, None])
            d_query += tl.dot(d_scores.to(value.dtype), their_key)
    tl.store(at, (d_query * scale).to(query.dtype), mask=here[:, None] < seq)


def _launch(kernel, qkv: Tensor, numbers: Tensor | None, *others: Tensor, **options: int) -> None:
    "Run a kernel, a program for each block of places of each head of each row; the options are Triton's."
    batch, seq, _, num_heads, head_dim = qkv.shape
    if numbers is not None:
        numbers = (numbers.view(torch.uint8) if numbers.dtype == torch.bool else numbers).contiguous()
    num_blocks = triton.cdiv(seq, BLOCK)
    kernel[(batch * num_heads * num_blocks,)](
        qkv, numbers, *others, seq, head_dim**-0.5, NUM_HEADS=num_heads, HEAD_DIM=head_dim, NUM_BLOCKS=num_blocks, BLOCK=BLOCK,
        IS_EVEN=seq % BLOCK == 0, HAS_DOCUMENTS=numbers is not None, num_warps=4, **options)


@torch.library.custom_op("microbert_course::attend", mutates_args=())
def _attend(qkv: Tensor, numbers: Tensor | None) -> tuple[Tensor, Tensor]:
    "Context and, for the way back, the binary logarithm of each query's sum."
    context, log_sums = _attend_shapes(qkv, numbers)
    _launch(_forward_kernel, qkv, numbers, context, log_sums, num_stages=3)
    return context, log_sums


@_attend.register_fake
def _attend_shapes(qkv, numbers):
    batch, seq, _, num_heads, head_dim = qkv.shape
    return qkv.new_empty(batch, seq, num_heads, head_dim), qkv.new_empty(batch, num_heads, seq, dtype=torch.float32)


@torch.library.custom_op("microbert_course::attend_backward", mutates_args=())
def _attend_backward(qkv: Tensor, numbers: Tensor | None, context: Tensor, log_sums: Tensor, d_context: Tensor) -> Tensor:
    "The gradient of queries, keys and values."
    means, d_qkv, d_context = torch.empty_like(log_sums), torch.empty_like(qkv), d_context.contiguous()
    _launch(_mean_kernel, qkv, numbers, context, d_context, means, num_stages=1)
    options = {"num_stages": 2}
    if qkv.is_cuda and torch.cuda.get_device_capability(qkv.device)[0] == 9:  # on Hopper three programs then share a multiprocessor; elsewhere registers would spill
        options = {"num_stages": 3 if qkv.size(-1) <= 32 else 2 if qkv.size(1) > 256 else 1, "maxnreg": 168}
    _launch(_backward_kernel, qkv, numbers, means, log_sums, d_context, d_qkv, **options)
    return d_qkv


@_attend_backward.register_fake
def _attend_backward_shape(qkv, numbers, context, log_sums, d_context):
    return torch.empty_like(qkv)


def _remember(ctx, inputs, output):
    ctx.save_for_backward(*inputs, *output)


def _differentiate(ctx, d_context, _):
    return _attend_backward(*ctx.saved_tensors, d_context), None


_attend.register_autograd(_differentiate, setup_context=_remember)


def attend(
    qkv: Tensor,  # (batch, seq, 3, num_heads, head_dim) of 16 bits; head_dim 16, 32 or 64
    numbers: Tensor | None = None,  # (batch, seq) integers or bool: who has the same sees each other, 0 = padding
) -> Tensor:  # (batch, seq, num_heads, head_dim); 0 for padding
    "Scaled dot-product attention within every document, or over the whole row; the same to the bit each time."
    return _attend(qkv.contiguous(), numbers)[0]
