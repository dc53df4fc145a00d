"""Attention from one token a row on a GPU, as a decoder writes: a kernel that reads no further in the cache than something may be looked at.

Written in Triton, which torch brings along on Linux. torch's own kernels share their work out by queries, and here is one; products of matrices
read all that the cache has room for."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 64  # keys of a program's step
LOG2_E = tl.constexpr(1.4426950408889634)  # exp2 is what the hardware has


@triton.jit(do_not_specialize=["num_keys"])
def _kernel(
    query, key, value, may_look, context, num_keys, scale, key_row, key_head, key_place, value_row, value_head, value_place, mask_row,
    NUM_KV_HEADS: tl.constexpr, GROUP_SIZE: tl.constexpr, HEAD_DIM: tl.constexpr,
    WIDE_GROUP: tl.constexpr, WIDE_DIM: tl.constexpr, PLACES: tl.constexpr, BLOCK: tl.constexpr, HAS_MASK: tl.constexpr,
):
    "The queries that share a key head of one row: softmax over keys as they come (Milakov & Gimelshein 2018)."
    row, head = tl.program_id(0).to(tl.int64) // NUM_KV_HEADS, tl.program_id(0) % NUM_KV_HEADS
    members, dims = tl.arange(0, WIDE_GROUP), tl.arange(0, WIDE_DIM)
    at = ((row * NUM_KV_HEADS + head) * GROUP_SIZE + members[:, None]) * HEAD_DIM + dims[None, :]
    is_real = (members < GROUP_SIZE)[:, None] & (dims < HEAD_DIM)[None, :]
    queries = tl.load(query + at, mask=is_real, other=0.0)
    key += row * key_row + head * key_head
    value += row * value_row + head * value_head
    stop = num_keys
    if HAS_MASK:
        may_look += row * mask_row
        places = tl.arange(0, PLACES)
        stop = tl.max(tl.where(tl.load(may_look + places, mask=places < num_keys, other=0) != 0, places + 1, 0))
    highest = tl.full([WIDE_GROUP], float("-inf"), tl.float32)
    total = tl.zeros([WIDE_GROUP], tl.float32)
    mixed = tl.zeros([WIDE_GROUP, WIDE_DIM], tl.float32)
    for start in range(0, stop, BLOCK):
        there = start + tl.arange(0, BLOCK)
        is_written = (there < stop)[:, None] & (dims < HEAD_DIM)[None, :]
        keys = tl.load(key + there[:, None] * key_place + dims[None, :], mask=is_written, other=0.0)
        values = tl.load(value + there[:, None] * value_place + dims[None, :], mask=is_written, other=0.0)
        is_visible = there < stop
        if HAS_MASK:
            is_visible = tl.load(may_look + there, mask=is_visible, other=0) != 0
        scores = tl.where(is_visible[None, :], tl.dot(queries, tl.trans(keys), input_precision="ieee") * (scale * LOG2_E), float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        zero = tl.where(higher == float("-inf"), 0.0, higher)  # nothing was visible yet
        weights, shrink = tl.exp2(scores - zero[:, None]), tl.exp2(highest - zero)
        total = total * shrink + tl.sum(weights, 1)
        mixed = mixed * shrink[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
        highest = higher
    tl.store(context + at, (mixed / total[:, None]).to(queries.dtype), mask=is_real)


@torch.library.custom_op("microbert_course::attend_from_one", mutates_args=())
def attend_from_one(
    query: Tensor,  # (batch, num_heads, 1, head_dim)
    key: Tensor,    # (batch, num_kv_heads, num_keys, head_dim)
    value: Tensor,  # (batch, num_kv_heads, num_keys, head_dim)
    may_look: Tensor | None = None,  # bool, (batch or 1, 1, 1, num_keys), in no row all False; None = everything may be looked at
) -> Tensor:  # like `query`
    "Scaled dot-product attention in which neighbouring query heads share a key head and a value head (Ainslie et al. 2023, §2.2)."
    batch, num_kv_heads, num_keys, head_dim = key.shape
    query, (key, value) = query.contiguous(), (table if table.stride(-1) == 1 else table.contiguous() for table in (key, value))
    context, group_size = torch.empty_like(query), query.size(1) // num_kv_heads
    mask = None if may_look is None else may_look.reshape(-1, num_keys).view(torch.uint8)
    _kernel[(batch * num_kv_heads,)](
        query, key, value, mask, context, num_keys, head_dim**-0.5, *key.stride()[:3], *value.stride()[:3], 0 if mask is None or len(mask) == 1 else mask.stride(0),
        NUM_KV_HEADS=num_kv_heads, GROUP_SIZE=group_size, HEAD_DIM=head_dim, WIDE_GROUP=max(16, triton.next_power_of_2(group_size)),
        WIDE_DIM=max(16, triton.next_power_of_2(head_dim)), PLACES=triton.next_power_of_2(num_keys), BLOCK=BLOCK, HAS_MASK=mask is not None, num_warps=4, num_stages=2)
    return context


@attend_from_one.register_fake
def _shape(query, key, value, may_look=None):
    return query.new_empty(query.shape)
