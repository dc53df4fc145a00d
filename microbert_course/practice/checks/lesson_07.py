"""Checks of the exercises on the backward pass by hand."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.uses import lesson_07 as uses

F32, F64 = np.float32, np.float64
TOLERANCE = 1e-5  # of the largest value: float32 in any order of operations stays below, no mistake does


def draw(rng: np.random.Generator, *shape: int, dtype: type = F32) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def leaves(*arrays: np.ndarray) -> list[Tensor]:
    "The arrays as torch tensors that want gradients."
    return [torch.from_numpy(array.copy()).requires_grad_() for array in arrays]


def torch_gradients(output: Tensor, d_output: np.ndarray, inputs: list[Tensor]) -> tuple[np.ndarray, ...]:
    return tuple(gradient.numpy() for gradient in torch.autograd.grad(output, inputs, torch.from_numpy(d_output)))


def central_differences(loss: Callable[[], float], array: np.ndarray, step: float = 1e-5) -> np.ndarray:
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        value, losses = array[index], []
        for moved in (value + step, value - step):
            array[index] = moved
            losses.append(loss())
        array[index] = value
        gradient[index] = (losses[0] - losses[1]) / (2 * step)
    return gradient


# --- 7.1 cross-entropy

def cross_entropy_cases(rng: np.random.Generator) -> list[Case]:
    "Part of a batch, a single row, scores in the ten thousands, and a part in which nothing is predicted."
    return [{"scores": size * draw(rng, rows, vocab, dtype=dtype), "bias": draw(rng, vocab, dtype=dtype),
             "targets": rng.integers(0, vocab, rows), "count": rows + others}
            for rows, vocab, size, dtype, others in (
                (5, 7, F32(2), F32, 3), (1, 4, F64(2), F64, 2), (21, 6, F64(1e4), F64, 4), (0, 9, F32(1), F32, 6))]


def torch_cross_entropy(scores: np.ndarray, bias: np.ndarray, targets: np.ndarray, count: int) -> float:
    z, = leaves(scores + bias)
    loss = F.cross_entropy(z, torch.from_numpy(targets), reduction="sum") / count
    loss.backward()
    scores[...] = z.grad.numpy()
    return loss.item()


def cross_entropy_by_loops(scores: np.ndarray, bias: np.ndarray, targets: np.ndarray, count: int) -> float:
    total = 0.0
    for row, target in zip(scores, targets, strict=True):
        z = [float(score + shift) for score, shift in zip(row, bias, strict=True)]
        log_sum = max(z) + math.log(sum(math.exp(score - max(z)) for score in z))
        total += log_sum - z[target]
        for j, score in enumerate(z):
            row[j] = (math.exp(score - log_sum) - (j == target)) / count
    return total / count


def capped(output: dict, case: Case) -> bool:
    "Whether the loss of huge scores is no larger than what the logarithm of a tiny number makes of it."
    return np.abs(case["scores"]).max(initial=0) > 1e3 and 1 < output["the loss"] < 750  # −log of the smallest float64 is 744


def cross_entropy_variant(biased=True, shifted=True, log_of="sums", tiny=0.0, axis=1, of="count", divided=True, truth=1, in_place=True):
    "Cross-entropy with one thing done otherwise."

    def cross_entropy(scores: np.ndarray, bias: np.ndarray, targets: np.ndarray, count: int) -> float:
        rows = np.arange(len(targets))
        z = scores + bias if biased else scores.copy()
        if shifted:
            z -= z.max(axis=axis, keepdims=True)
        with np.errstate(all="ignore"):
            exponentials = np.exp(z)
            sums = exponentials.sum(axis=axis, keepdims=True)
            p = exponentials / sums
            surprise = (np.log(sums) - z)[rows, targets] if log_of == "sums" else -np.log(p[rows, targets] + tiny)
            share = 1 / F64(count if of == "count" else len(targets))
            p[rows, targets] -= truth
            if in_place:
                scores[...] = p * share if divided else p
            return surprise.sum() * share

    return cross_entropy


# --- 7.2 products counted

def shape_cases(rng: np.random.Generator) -> list[Case]:
    "A tiny shape and larger ones; a feed-forward of any width, hidden tokens of any share."
    cases = []
    for num_layers, num_heads, batch in ((1, 2, 1), (2, 3, 4), (5, 4, 2)):
        head_dim, seq = int(rng.integers(2, 9)), int(rng.integers(5, 30))
        cases.append({"vocab_size": int(rng.integers(50, 500)), "hidden_size": num_heads * head_dim, "num_layers": num_layers,
                      "num_heads": num_heads, "intermediate_size": int(rng.integers(20, 90)), "batch": batch, "seq": seq,
                      "num_predicted": int(rng.integers(1, batch * seq // 2 + 1))})
    return cases


def listed_flops(vocab_size, hidden_size, num_layers, num_heads, intermediate_size, batch, seq, num_predicted) -> tuple[int, int]:
    "Every product of the forward pass in a list: how many, (rows, inner) times (inner, columns)."
    tokens, head_dim = batch * seq, hidden_size // num_heads
    products = [(num_layers, tokens, hidden_size, columns) for columns in (3 * hidden_size, hidden_size, intermediate_size)]
    products += [(num_layers, tokens, intermediate_size, hidden_size), (1, num_predicted, hidden_size, vocab_size)]
    products += [(num_layers * batch * num_heads, seq, head_dim, seq), (num_layers * batch * num_heads, seq, seq, head_dim)]
    forward = sum(2 * math.prod(product) for product in products)
    return forward, 2 * forward


def flops_variant(per_multiplication=2, qkv=3, predicted_only=True, attention="once", embedding=False, backward=2):
    "The formula with one thing done otherwise."

    def matmul_flops(vocab_size, hidden_size, num_layers, num_heads, intermediate_size, batch, seq, num_predicted):
        tokens = batch * seq
        pairs = tokens * seq * 2 * hidden_size * {"once": 1, "never": 0, "every head": num_heads}[attention]
        block = tokens * hidden_size * ((qkv + 1) * hidden_size + 2 * intermediate_size) + pairs
        ends = (num_predicted if predicted_only else tokens) + embedding * tokens
        forward = per_multiplication * (num_layers * block + ends * hidden_size * vocab_size)
        return forward, backward * forward

    return matmul_flops


def torch_flops(vocab_size, hidden_size, num_layers, num_heads, intermediate_size, batch, seq, num_predicted) -> tuple[int, int]:
    "Counted by torch while it runs on tensors without content."
    x, *matrices = (torch.empty(rows, columns, device="meta", requires_grad=True) for rows, columns in (
        (batch * seq, hidden_size), (hidden_size, 3 * hidden_size), (hidden_size, hidden_size), (hidden_size, intermediate_size),
        (intermediate_size, hidden_size), (hidden_size, vocab_size)))
    qkv, out, up, down, head = matrices
    with FlopCounterMode(display=False) as forward:
        for _ in range(num_layers):
            query, key, value = (x @ qkv).reshape(batch, seq, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
            context = (query @ key.transpose(-2, -1)).softmax(-1) @ value
            x = x + context.transpose(1, 2).reshape(batch * seq, hidden_size) @ out
            x = x + F.gelu(x @ up) @ down
        scores = x[:num_predicted] @ head
    with FlopCounterMode(display=False) as backward:
        scores.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


# --- 7.3 LayerNorm

def layer_norm_cases(rng: np.random.Generator) -> list[Case]:
    "Rows that are more than slots, fewer, and one."
    cases = []
    for rows, hidden, dtype in ((4, 6, F32), (9, 5, F64), (1, 7, F64), (3, 10, F32)):
        x = 2 + 3 * rng.standard_normal((rows, hidden))
        inverse_std = 1 / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        normal = (x - x.mean(axis=1, keepdims=True)) * inverse_std
        cases.append({"d_y": draw(rng, rows, hidden, dtype=dtype), "normal": normal.astype(dtype),
                      "inverse_std": inverse_std.astype(dtype), "scale": draw(rng, hidden, dtype=dtype)})
    return cases


def torch_layer_norm_backward(d_y, normal, inverse_std, scale, scratch):
    "From rows that would be normalised to these: the mean is lost, and nothing depends on it."
    x, scale = leaves(normal / inverse_std, scale)
    shift = torch.zeros_like(scale, requires_grad=True)
    output = F.layer_norm(x, scale.shape, scale, shift, eps=1e-5)
    d_y[...], d_scale, d_shift = torch_gradients(output, d_y, [x, scale, shift])
    return d_scale, d_shift


def layer_norm_backward_by_jacobian(d_y, normal, inverse_std, scale, scratch):
    d_scale, d_shift, n = np.zeros_like(scale), np.zeros_like(scale), len(scale)
    for gradient, row, over_std in zip(d_y, normal, inverse_std, strict=True):
        d_scale += gradient * row
        d_shift += gradient
        gradient[:] = (gradient * scale) @ ((np.eye(n) - 1 / n - np.outer(row, row) / n) * over_std)
    return [d_scale, d_shift]


def layer_norm_backward_variant(left_out="", axis=1, along="mean", late=False, reduce="sum", swapped=False, in_place=True):
    "The backward pass of LayerNorm with one thing done otherwise."

    def layer_norm_backward(d_y, normal, inverse_std, scale, scratch):
        d_normal = d_y.copy() if left_out == "scale" else d_y * scale
        arrived = d_normal if late else d_y
        d_scale, d_shift = (getattr(array, reduce)(axis=0) for array in (arrived * normal, arrived))
        d_x = d_normal.copy()
        if left_out != "mean":
            d_x -= d_normal.mean(axis=axis, keepdims=True)
        if left_out != "along":
            d_x -= normal * getattr(d_normal * normal, along)(axis=axis, keepdims=True)
        if left_out != "std":
            d_x *= inverse_std
        if in_place:
            d_y[...] = d_x
        return (d_shift, d_scale) if swapped else (d_scale, d_shift)

    return layer_norm_backward


# --- 7.4 the block that uses its matrix twice

def tied_cases(rng: np.random.Generator) -> list[Case]:
    return [{"d_y": draw(rng, batch, seq, hidden, dtype=dtype), "x": draw(rng, batch, seq, hidden, dtype=dtype),
             "W": draw(rng, hidden, wide, dtype=dtype) / dtype(2), "bias": draw(rng, wide, dtype=dtype)}
            for batch, seq, hidden, wide, dtype in ((2, 3, 4, 5, F32), (3, 2, 6, 4, F64), (2, 5, 3, 7, F64))]


def torch_tied_backward(d_y, x, W, bias):
    x, W, bias = inputs = leaves(x, W, bias)
    return torch_gradients(x + torch.tanh(x @ W + bias) @ W.T, d_y, inputs)


def tied_backward_by_rows(d_y, x, W, bias):
    d_x, d_W, d_bias = np.empty_like(x), np.zeros_like(W), np.zeros_like(bias)
    for place in np.ndindex(x.shape[:2]):
        wide = np.tanh(x[place] @ W + bias)
        d_before = (d_y[place] @ W) * (1 - wide * wide)
        d_x[place] = d_y[place] + W @ d_before
        d_W += np.outer(x[place], d_before) + np.outer(d_y[place], wide)
        d_bias += d_before
    return d_x, d_W, d_bias


def tied_backward_variant(uses="both", d_bias="both", changes="nothing", residual=True):
    "The backward pass of the tied block, mended in all places but one."

    def tied_backward(d_y, x, W, bias):
        wide = np.tanh(x @ W + bias)
        d_before = (d_y @ W) * (1 - wide**2)
        branch = d_before @ W.T
        arrived = d_y.copy()
        if changes == "early":
            arrived = d_y
        if changes != "nothing":
            d_y += branch
        second = np.einsum("bsh,bsw->hw", arrived, wide)
        first = np.einsum("bsh,bsw->hw", x, d_before)
        d_W = {"both": first + second, "first": first, "second": second}[uses]
        axes = {"both": (0, 1), "batch": 0, "seq": 1}[d_bias]
        d_bias_ = d_before.mean(axis=(0, 1)) if d_bias == "mean" else d_before.sum(axis=axes)
        return d_y if changes != "nothing" else d_y + branch if residual else branch, d_W, d_bias_

    return tied_backward


# --- 7.5 SwiGLU

def swiglu_cases(rng: np.random.Generator) -> list[Case]:
    return [{"d_y": draw(rng, rows, hidden, dtype=dtype), "x": draw(rng, rows, hidden, dtype=dtype),
             "gate": draw(rng, hidden, wide, dtype=dtype), "up": draw(rng, hidden, wide, dtype=dtype),
             "down": draw(rng, wide, hidden, dtype=dtype)}
            for rows, hidden, wide, dtype in ((4, 3, 5, F32), (1, 6, 2, F64), (7, 2, 4, F64))]


def torch_swiglu_backward(d_y, x, gate, up, down):
    x, gate, up, down = inputs = leaves(x, gate, up, down)
    return torch_gradients((F.silu(x @ gate) * (x @ up)) @ down, d_y, inputs)


def swiglu_backward_by_differences(d_y, x, gate, up, down):
    dtype, (d_y, x, gate, up, down) = x.dtype, (array.astype(F64) for array in (d_y, x, gate, up, down))

    def loss():
        a = x @ gate
        return (d_y * ((a / (1 + np.exp(-a)) * (x @ up)) @ down)).sum()

    return tuple(central_differences(loss, array).astype(dtype) for array in (x, gate, up, down))


def swiglu_backward_variant(slope="both terms", paths="both", gate_meets="u", up_meets="silu", down_meets="product", swapped=False):
    "The backward pass of SwiGLU with one thing done otherwise."

    def swiglu_backward(d_y, x, gate, up, down):
        a, u = x @ gate, x @ up
        s = 1 / (1 + np.exp(-a))
        silu = a * s
        d_down = (silu * u if down_meets == "product" else silu).T @ d_y
        d_wide = d_y @ down.T
        d_silu = d_wide * u if gate_meets == "u" else d_wide
        d_a = d_silu * {"both terms": s + silu * (1 - s), "first term": s, "of the sigmoid": s * (1 - s)}[slope]
        d_u = d_wide * {"silu": silu, "a": a, "nothing": 1}[up_meets]
        d_x = {"gate": 1, "up": 0, "both": 1}[paths] * (d_a @ gate.T) + {"gate": 0, "up": 1, "both": 1}[paths] * (d_u @ up.T)
        d_gate, d_up = x.T @ d_a, x.T @ d_u
        return (d_x, d_up, d_gate, d_down) if swapped else (d_x, d_gate, d_up, d_down)

    return swiglu_backward


# --- 7.6 attention

def attention_cases(rng: np.random.Generator) -> list[Case]:
    "Padding at the end and in the middle, a text that is all padding, a single token."
    cases = []
    for shape, dtype, share in (((2, 3, 5, 4), F64, 0.3), ((1, 2, 4, 6), F32, 0), ((3, 2, 6, 3), F32, 0.3), ((2, 1, 1, 3), F64, 0)):
        query, key, value, d_context = rng.standard_normal((4, *shape))
        is_padding = rng.random((shape[0], 1, 1, shape[2])) < share
        is_padding[..., 1:3] = False  # two tokens that can be looked at, where there are as many
        if shape[0] == 3:
            is_padding[1] = True
        scores = query @ key.swapaxes(2, 3) / math.sqrt(shape[3])
        weights = np.where(is_padding, 0, np.exp(scores - scores.max(axis=-1, keepdims=True)))
        weights /= weights.sum(axis=-1, keepdims=True) + is_padding.all(axis=-1, keepdims=True)  # 0 over 1 where all is padding
        arrays = {"d_context": d_context, "context": weights @ value, "weights": weights, "query": query, "key": key, "value": value}
        cases.append({name: array.astype(dtype) for name, array in arrays.items()})
    return cases


def attention_backward_by_jacobian(d_context, context, weights, query, key, value, d_query, d_key, d_value, scratch):
    "One head at a time, and in it one query, with the table of all derivatives of its softmax."
    for place in np.ndindex(query.shape[:2]):
        p, d_c, scale = weights[place], d_context[place], 1 / math.sqrt(query.shape[-1])
        d_scores = np.stack([d_row @ (np.diag(row) - np.outer(row, row)) for d_row, row in zip(d_c @ value[place].T, p, strict=True)])
        d_query[place], d_key[place], d_value[place] = scale * d_scores @ key[place], scale * d_scores.T @ query[place], p.T @ d_c


def attention_backward_by_einsum(d_context, context, weights, query, key, value, d_query, d_key, d_value, scratch):
    d_weights = np.einsum("bhqd,bhkd->bhqk", d_context, value)
    d_scores = weights * (d_weights - (d_context * context).sum(axis=-1, keepdims=True)) * query.shape[-1] ** -0.5
    np.einsum("bhqk,bhkd->bhqd", d_scores, key, out=d_query)
    np.einsum("bhqk,bhqd->bhkd", d_scores, query, out=d_key)
    np.einsum("bhqk,bhqd->bhkd", weights, d_context, out=d_value)


def torch_attention_backward(d_context, context, weights, query, key, value, d_query, d_key, d_value, scratch):
    "The forward pass once more, with what nobody looked at hidden; then autograd."
    q, k, v = inputs = leaves(query, key, value)
    is_hidden = torch.from_numpy(weights == 0)
    scores = (q @ k.transpose(-2, -1) / math.sqrt(query.shape[-1])).masked_fill(is_hidden, torch.finfo(q.dtype).min)
    d_query[...], d_key[...], d_value[...] = torch_gradients(scores.softmax(-1).masked_fill(is_hidden, 0) @ v, d_context, inputs)
    return d_query, d_key, d_value


def attention_backward_variant(average="of the row", scaled_by="√head_dim", turned=("weights", "d_scores"), filling="filled"):
    "The backward pass of attention with one thing done otherwise."

    def attention_backward(d_context, context, weights, query, key, value, d_query, d_key, d_value, scratch):
        d_weights = d_context @ value.swapaxes(2, 3)
        averages = {"of the row": (d_weights * weights).sum(axis=-1, keepdims=True), "none": 0,
                    "of the column": (d_weights * weights).sum(axis=-2, keepdims=True),
                    "unweighted": d_weights.mean(axis=-1, keepdims=True)}
        heads, head_dim = query.shape[1], query.shape[-1]
        scale = {"√head_dim": head_dim, "head_dim": head_dim**2, "√hidden_size": heads * head_dim, "nothing": 1}[scaled_by] ** -0.5
        d_scores = weights * (d_weights - averages[average]) * scale
        p = weights.swapaxes(2, 3) if "weights" in turned else weights
        d_s = d_scores.swapaxes(2, 3) if "d_scores" in turned else d_scores
        for memory, gradient in ((d_query, d_scores @ key), (d_key, d_s @ query), (d_value, p @ d_context)):
            if filling == "added to":
                memory += gradient
            elif filling == "filled":
                memory[...] = gradient

    return attention_backward


CHECKS = (
    Check(
        id="numpy_bert.cross_entropy",
        name="cross_entropy",
        builds="numpy_bert.encoder.cross_entropy",
        use=uses.cross_entropy,
        cases=cross_entropy_cases,
        tolerance=TOLERANCE,
        reference=torch_cross_entropy,
        right=(cross_entropy_variant(), cross_entropy_by_loops),
        wrong=(
            Wrong(cross_entropy_variant(of="rows"),
                  "You divide by the rows that are here, not by `count`: these may be a part of the batch, and a mean of the parts' "
                  "means is not the mean of all."),
            Wrong(cross_entropy_variant(biased=False),
                  "The bias is left out: the head's scores are `scores + bias`, in the loss and in its gradient."),
            Wrong(cross_entropy_variant(shifted=False),
                  "Large scores overflow: e to the 1,000 is no float. Take the largest score of each row from the row first; softmax "
                  "does not notice.",
                  seen=lambda output, case: not np.isfinite(output["scores afterwards"]).all()),
            Wrong(cross_entropy_variant(log_of="quotient"),
                  "The loss of large scores is infinite: it takes the logarithm of a probability that has become 0. Stay with the "
                  "scores, as in −z_t + log Σ eᶻ.",
                  seen=lambda output, case: math.isinf(output["the loss"])),
            Wrong(cross_entropy_variant(log_of="quotient", tiny=1e-12),
                  "The loss takes the logarithm of a probability, with a tiny number added so that it is never 0: now no surprise is "
                  "larger than that number allows. Stay with the scores, as in −z_t + log Σ eᶻ.",
                  seen=capped),
            Wrong(cross_entropy_variant(divided=False),
                  "The loss is divided by `count`, its gradient is not: they belong to two different losses, and the learning rate "
                  "would mean another thing for every batch size."),
            Wrong(cross_entropy_variant(truth=0),
                  "`scores` holds the probabilities alone: the gradient is what the model said minus what was true, and the truth is "
                  "not subtracted."),
            Wrong(cross_entropy_variant(truth=2),
                  "At the truth you subtract too much: the one-hot row has a 1 there."),
            Wrong(cross_entropy_variant(axis=0),
                  "Your columns sum to one, not your rows: the softmax runs over the tokens instead of the vocabulary."),
            Wrong(cross_entropy_variant(in_place=False),
                  "The loss is right, but `scores` still holds the scores: the backward pass looks for the gradient in that very array, "
                  "so write it there."),
        ),
    ),
    Check(
        id="numpy_bert.matmul_flops",
        name="matmul_flops",
        cases=shape_cases,
        reference=listed_flops,
        right=(flops_variant(), torch_flops),
        wrong=(
            Wrong(flops_variant(per_multiplication=1),
                  "You count multiplications only: each comes with an addition, so it is two operations, as in every published figure."),
            Wrong(flops_variant(predicted_only=False),
                  "Your head works on all tokens. Only those with a label reach it, and its matrix is the model's largest: that is most "
                  "of what masking saves."),
            Wrong(flops_variant(attention="never"),
                  "The products inside attention are missing, scores and context. They have no weights, but they multiply, and with "
                  "long texts they win."),
            Wrong(flops_variant(attention="every head"),
                  "You count attention once too often for each head: a head is only head_dim wide, so all heads together cost what one "
                  "of full width would."),
            Wrong(flops_variant(qkv=1),
                  "The projection makes query, key and value: three matrices side by side, and you count one."),
            Wrong(flops_variant(backward=1),
                  "Your backward pass costs as much as the forward pass. Each product has two factors, and both want their gradient."),
            Wrong(flops_variant(backward=3),
                  "Your second number contains the forward pass: it is asked for the backward pass alone."),
            Wrong(flops_variant(embedding=True),
                  "You count the embedding as a product. Looking up a row multiplies nothing."),
        ),
    ),
    Check(
        id="numpy_bert.layer_norm_backward",
        name="layer_norm_backward",
        builds="numpy_bert.encoder.layer_norm_backward",
        use=uses.layer_norm_backward,
        cases=layer_norm_cases,
        tolerance=TOLERANCE,
        reference=torch_layer_norm_backward,
        right=(layer_norm_backward_variant(), layer_norm_backward_by_jacobian),
        wrong=(
            Wrong(layer_norm_backward_variant(left_out="mean"),
                  "The path through the mean is missing: adding a number to a whole row changes nothing, so the gradient of a row has "
                  "to sum to zero."),
            Wrong(layer_norm_backward_variant(left_out="along"),
                  "The path through the standard deviation is missing: stretching a row changes nothing, so no gradient may be left "
                  "along `normal`."),
            Wrong(layer_norm_backward_variant(left_out="std"),
                  "The division by the standard deviation is missing: rows that were shrunk on the way up shrink their gradient, too."),
            Wrong(layer_norm_backward_variant(left_out="scale"),
                  "`scale` is left out of the gradient of the input: it multiplied on the way up, so it multiplies on the way down, "
                  "before the two projections."),
            Wrong(layer_norm_backward_variant(late=True),
                  "The gradients of scale and shift are taken from a `d_y` that is already multiplied by `scale`: in place, the order "
                  "of the lines counts."),
            Wrong(layer_norm_backward_variant(axis=0),
                  "The means run down the columns, over tokens: each row was normalised by itself, so a token's gradient depends on its "
                  "own row only."),
            Wrong(layer_norm_backward_variant(reduce="mean"),
                  "The gradients of scale and shift are means over the rows: what serves every row sums what every row says."),
            Wrong(layer_norm_backward_variant(along="sum"),
                  "The part along `normal` is a sum over the row where a mean belongs: you take away n times as much as there is. "
                  "`normal` has length √n, not 1."),
            Wrong(layer_norm_backward_variant(swapped=True),
                  "The two gradients that you return have changed places: scale first, then shift. Their shapes are equal, so nothing "
                  "else would tell."),
            Wrong(layer_norm_backward_variant(in_place=False),
                  "What you return is right, but `d_y` still holds what it was given: the caller looks for the gradient of the input in "
                  "that very array (`d_y = …` only moves the name)."),
        ),
    ),
    Check(
        id="numpy_bert.tied_backward",
        name="tied_backward",
        cases=tied_cases,
        tolerance=TOLERANCE,
        reference=torch_tied_backward,
        right=(tied_backward_variant(), tied_backward_by_rows),
        wrong=(
            Wrong(tied_backward_variant(uses="second"),
                  "The gradient of W is what its second use says: the first was written and then overwritten. What is used twice adds "
                  "up both."),
            Wrong(tied_backward_variant(uses="first"),
                  "The gradient of W is what its first use says; Wᵀ on the way out is the same matrix and has something to say, too."),
            Wrong(tied_backward_variant(d_bias="batch"),
                  "The gradient of the bias has a row for each position. The bias has none: it serves every token, so sum over both "
                  "axes of tokens; a bar has the shape of the thing under it."),
            Wrong(tied_backward_variant(d_bias="seq"),
                  "The gradient of the bias has a row for each text. The bias has none: it serves every token, so sum over both axes of "
                  "tokens; a bar has the shape of the thing under it."),
            Wrong(tied_backward_variant(d_bias="mean"),
                  "The gradient of the bias is a mean over tokens; every token adds its part, so it is the sum."),
            Wrong(tied_backward_variant(changes="early"),
                  "`d_x = d_y` makes no copy: both names mean one array, so adding the branch to d_x changes d_y, and what is worked "
                  "out from d_y afterwards is wrong."),
            Wrong(tied_backward_variant(changes="late"),
                  "The three gradients are right, but d_y is another array than before: `d_x = d_y` makes no copy, and the caller's "
                  "array belongs to the caller."),
            Wrong(tied_backward_variant(residual=False),
                  "The residual path is missing: y contains x itself, so d_x contains d_y itself."),
            Wrong(tied_backward_variant(uses="second", d_bias="batch"),
                  "Two mistakes are left: look at what happens to the first gradient of W when the second comes, and at the shape of "
                  "the gradient of the bias."),
            Wrong(tied_backward_variant(uses="second", changes="early"),
                  "Two mistakes are left, both in the gradient of W: what happens to the first one when the second comes, and what is "
                  "in `d_y` when that is worked out?"),
            Wrong(tied_backward_variant(d_bias="batch", changes="early"),
                  "Two mistakes are left: look at the shape of the gradient of the bias, and at what is in `d_y` when the gradient of W "
                  "is worked out."),
            Wrong(tied_backward_variant(uses="second", d_bias="batch", changes="early"),
                  "That is the broken one as it stands. It holds three mistakes, and mending one alone moves the numbers without making "
                  "them right."),
        ),
    ),
    Check(
        id="numpy_bert.swiglu_backward",
        name="swiglu_backward",
        cases=swiglu_cases,
        tolerance=TOLERANCE,
        reference=torch_swiglu_backward,
        right=(swiglu_backward_variant(), swiglu_backward_by_differences),
        wrong=(
            Wrong(swiglu_backward_variant(paths="gate"),
                  "x reaches the loss on two paths and you follow the one through the gate: the path through `up` is missing in d_x."),
            Wrong(swiglu_backward_variant(paths="up"),
                  "x reaches the loss on two paths and you follow the one through `up`: the path through the gate is missing in d_x."),
            Wrong(swiglu_backward_variant(slope="first term"),
                  "Your slope of SiLU is σ(a) alone. a·σ(a) is a product, and the sigmoid moves, too."),
            Wrong(swiglu_backward_variant(slope="of the sigmoid"),
                  "Your slope is that of the sigmoid, σ(1 − σ). SiLU is a·σ(a): one more rule to apply."),
            Wrong(swiglu_backward_variant(gate_meets="nothing"),
                  "The gradient goes to the gate as if `u` had not multiplied: in a product each factor gets the gradient times the "
                  "other factor."),
            Wrong(swiglu_backward_variant(up_meets="nothing"),
                  "The gradient goes to u as if the gate had not multiplied: in a product each factor gets the gradient times the other "
                  "factor."),
            Wrong(swiglu_backward_variant(up_meets="a"),
                  "u was multiplied by SiLU(a), not by a: its gradient wants the same factor."),
            Wrong(swiglu_backward_variant(down_meets="silu"),
                  "`down` read SiLU(a) ⊙ u; you take its gradient as if it had read SiLU(a) alone."),
            Wrong(swiglu_backward_variant(swapped=True),
                  "The gradients of gate and up have changed places. They have the same shape, so nothing would ever complain: return "
                  "(d_x, d_gate, d_up, d_down)."),
        ),
    ),
    Check(
        id="numpy_bert.attention_backward",
        name="attention_backward",
        builds="numpy_bert.encoder.attention_backward",
        use=uses.attention_backward,
        cases=attention_cases,
        tolerance=TOLERANCE,
        reference=attention_backward_by_jacobian,
        right=(attention_backward_variant(), attention_backward_by_einsum, torch_attention_backward),
        wrong=(
            Wrong(attention_backward_variant(average="none"),
                  "The row's average is missing in the softmax: weights sum to one, so what one score gains the others lose, and the "
                  "gradient of a row of scores sums to zero."),
            Wrong(attention_backward_variant(average="of the column"),
                  "The average runs over the queries, the wrong axis: softmax tied the keys of one query together, so average over "
                  "those."),
            Wrong(attention_backward_variant(average="unweighted"),
                  "You compare with the plain mean of the row; the average is weighted, each key by how much it was looked at."),
            Wrong(attention_backward_variant(scaled_by="nothing"),
                  "The factor 1/√head_dim is missing on the way down: the scores were products times that factor, so the gradients of "
                  "query and key are, too."),
            Wrong(attention_backward_variant(scaled_by="head_dim"),
                  "You divide by head_dim, not by its root: either the root is forgotten, or 1/√head_dim is applied twice. It belongs "
                  "to the scores, once."),
            Wrong(attention_backward_variant(scaled_by="√hidden_size"),
                  "You divide by √hidden_size. A score is a product of two vectors of one head, so it is √head_dim, the last axis of "
                  "`query`."),
            Wrong(attention_backward_variant(turned=("d_scores",)),
                  "d_value mixes with the weights as they are. On the way up row i says whom token i reads; on the way down token j "
                  "collects from everybody who read it: transpose."),
            Wrong(attention_backward_variant(turned=("weights",)),
                  "d_key mixes with the gradient of the scores as it is; its rows are queries, and a key collects over the queries: "
                  "transpose. The square shape hides it."),
            Wrong(attention_backward_variant(filling="added to"),
                  "You add to d_query, d_key and d_value. They come with whatever stood there last time: fill them."),
            Wrong(attention_backward_variant(filling="elsewhere"),
                  "d_query, d_key and d_value still hold what they held: `d_query = …` only moves the name, and a reshape of such a "
                  "view is a copy. Write into the arrays themselves.",
                  seen=lambda output, case: any((array == uses.STALE).all() for array in output.values())),
        ),
    ),
)
