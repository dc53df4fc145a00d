"From scores to weights: why they are divided by √d, what a temperature does, and who may not be looked at."

import math
from collections.abc import Callable

import torch
from torch import Tensor

from microbert_course.models.gpt import past_keys
from microbert_course.visual.palette import COLOURS, GREY, INK, PALE, SHADES, new_figure, text_on, titled

NUM_KEYS = 12


def _generated(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def spread(weights: Tensor) -> float:  # (keys,) -> from 1, one key gets all, to their number, all get alike
    "Over how many keys a row of weights spreads: the exponential of its entropy."
    return float((-weights * weights.clamp(min=1e-30).log()).sum().exp())


# --- softmax ---------------------------------------------------------------------------------------------------------

def make_softmax(query=None, key=None) -> dict:
    "Random queries and keys of up to 512 numbers, where none are given."
    if (query is None) != (key is None):
        raise ValueError("one of query and key is given without the other, and their dot products are the scores: give both, or neither")
    if query is None:
        query, key = _generated(2, 64, 512)
    query, key = (part.detach().float().cpu() for part in (query, key))
    if query.ndim != 2 or key.ndim != 2 or query.size(1) != key.size(1):
        raise ValueError(f"query {tuple(query.shape)} and key {tuple(key.shape)} do not fit: give (queries, head_dim) and (keys, head_dim), as query[0, 0]")
    return {"query": query, "key": key[:NUM_KEYS]}


def fit_softmax(live: dict, settings: dict) -> dict:
    "Head sizes up to that of the queries, and as many queries as there are."
    size = live["query"].size(1)
    sizes = tuple(sorted({2**power for power in range(int(math.log2(size)) + 1)} | {size}))
    return {"head_dim": {"choices": sizes},
            "which": {"high": min(31, len(live["query"]) - 1)}}


def softmax_weights(query: Tensor, key: Tensor, head_dim: int, divided: bool, temperature: float, which: int) -> Tensor:  # (keys,)
    "One query's weights over the keys, from the first `head_dim` numbers of each."
    scores = key[:, :head_dim] @ query[which, :head_dim]
    return (scores / (math.sqrt(head_dim) if divided else 1.0) / temperature).softmax(-1)


def draw_softmax_temperature(
    query: Tensor,  # (queries, head_dim)
    key: Tensor,    # (keys, head_dim)
    head_dim: int,  # how many numbers of each are used
    divided: bool,  # by √head_dim
    temperature: float,
    which: int,     # of the queries
):  # the Figure
    "One row of weights, and over how many keys rows spread at every head size, with and without the division."
    weights = softmax_weights(query, key, head_dim, divided, temperature, which)
    figure, (bars, lines) = new_figure(height=3.0, columns=2, widths=(1, 1.1))
    bars.bar(range(len(weights)), weights.tolist(), color=COLOURS["blue"], edgecolor=INK)
    bars.set(ylim=(0, 1), xlabel="key", ylabel="weight")
    titled(bars, f"query {which}: spread over {spread(weights):.1f} of {len(weights)} keys")
    sizes = fit_softmax({"query": query}, {"head_dim": head_dim})["head_dim"]["choices"]
    for is_divided, name, colour, dash, marker in ((True, "divided by √d", "blue", "-", "o"), (False, "not divided", "red", "--", "s")):
        rows = [[spread(softmax_weights(query, key, size, is_divided, temperature, row)) for row in range(min(8, len(query)))] for size in sizes]
        lines.plot(sizes, [sum(row) / len(row) for row in rows], dash, color=COLOURS[colour], marker=marker, markersize=4, label=name)
    lines.axvline(head_dim, color=INK, linewidth=1, linestyle=":")
    lines.set_xscale("log", base=2)
    lines.set(ylim=(0, len(weights) + 0.5), xlabel="head_dim (dotted: chosen)", ylabel="keys a row spreads over")
    lines.legend(fontsize=8)
    titled(lines, f"mean of {min(8, len(query))} queries, temperature {temperature:g}")
    return figure


def tell_softmax_temperature(query, key, head_dim, divided, temperature, which) -> str:
    "The same in words."
    weights = softmax_weights(query, key, head_dim, divided, temperature, which)
    other = softmax_weights(query, key, head_dim, not divided, temperature, which)
    return (f"Head size {head_dim}, temperature {temperature:g}, {'' if divided else 'not '}divided by √d: query {which} gives its largest weight, "
            f"{float(weights.max()):.2f}, to key {int(weights.argmax())} and spreads over {spread(weights):.1f} of {len(weights)} keys; "
            f"{'without' if divided else 'with'} the division over {spread(other):.1f}.")


# --- masks -----------------------------------------------------------------------------------------------------------

PATTERNS = ("everybody", "causal", "two documents", "window", "padding")


def make_mask(scores=None, tokens=None, past=None) -> dict:
    "Scores of seven words, where none are given."
    if tokens is None and scores is None:
        tokens = ["[CLS]", "an", "odd", "film", "i", "loved", "it"]
    if scores is None:
        scores = 1.5 * _generated(len(tokens), len(tokens))
    scores = scores.detach().float().cpu()
    tokens = [str(place) for place in range(len(scores))] if tokens is None else list(tokens)
    if scores.shape != (len(tokens), len(tokens)) or len(tokens) > 10:
        raise ValueError(f"scores have the shape {tuple(scores.shape)} for {len(tokens)} tokens: give one square with a side for every token, "
                         f"ten at most, as scores[0, 0, :7, :7]")
    return {"scores": scores, "tokens": tokens, "past": past or past_keys}


def fit_mask(live: dict, settings: dict) -> dict:
    "A square as large as the sentence."
    seq = len(live["tokens"])
    return {"flipped": {"high": seq, "labels": tuple(live["tokens"])}, "size": {"high": max(1, seq - 1)}}


def may_look(seq: int, past: Callable, pattern: str, size: int, flipped: tuple) -> Tensor:  # (seq, seq) bool, True = may be looked at
    "The pattern's mask, and then every painted square turned round."
    place = torch.arange(seq)
    if pattern == "causal":
        mask = past(None, seq, seq)[0, 0].clone()
    elif pattern == "two documents":
        mask = past(1 + (place >= size).long()[None], seq, seq)[0, 0].clone()
    elif pattern == "window":
        mask = (place[:, None] - place).abs() <= size
    elif pattern == "padding":
        mask = (place < seq - size).expand(seq, seq).clone()
    else:
        mask = torch.ones(seq, seq, dtype=torch.bool)
    for row, column in flipped:
        mask[row, column] = ~mask[row, column]
    return mask


def masked_weights(scores: Tensor, mask: Tensor) -> Tensor:  # (seq, seq)
    "Softmax over what may be looked at; a row with nobody to look at stays 0."
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(~mask, 0.0)


def draw_mask_painter(
    scores: Tensor,     # (seq, seq), before the softmax
    tokens: list[str],  # seq of them
    past: Callable,     # attention_mask, num_queries, num_keys -> who may look at whom in a decoder, as `past_keys`
    pattern: str,       # one of PATTERNS
    size: int,          # of the window to either side, the padding, or the first document
    flipped: tuple,     # of (query, key): squares that were painted over
):  # the Figure
    "The mask, hatched where nobody may look, and the weights that are left."
    from matplotlib.patches import Rectangle

    seq = len(tokens)
    mask = may_look(seq, past, pattern, size, flipped)
    weights = masked_weights(scores, mask)
    figure, axes = new_figure(7.4, 1.4 + 0.3 * seq, columns=2)
    for ax, shades in zip(axes, (mask.float() * 0.25, weights), strict=True):
        ax.imshow(shades.numpy(), cmap=SHADES, vmin=0, vmax=1)
        ax.set_xticks(range(seq), tokens, rotation=90)
        ax.set_yticks(range(seq), tokens)
        ax.set_xlabel("key (is looked at)")
    axes[0].set_ylabel("query (is looking)")
    for row in range(seq):
        for column in range(seq):
            if not mask[row, column]:
                for ax in axes:
                    ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=PALE, edgecolor=GREY, hatch="//", linewidth=0))
            else:
                share = float(weights[row, column])
                axes[1].text(column, row, f"{share:.2f}"[1:] if share < 0.995 else "1", ha="center", va="center", fontsize=7.5, color=text_on(share))
            if (row, column) in flipped:
                axes[0].text(column, row, "✎", ha="center", va="center", color=INK, fontfamily="DejaVu Sans")
    titled(axes[0], f"{pattern}: {int(mask.sum())} of {seq * seq} pairs (✎: painted)")
    titled(axes[1], "the weights that are left")
    return figure


def tell_mask_painter(scores, tokens, past, pattern, size, flipped) -> str:
    "The same in words."
    mask = may_look(len(tokens), past, pattern, size, flipped)
    weights = masked_weights(scores, mask)
    alone = [token for token, row in zip(tokens, mask, strict=True) if not row.any()]
    lines = [f"{token} at {', '.join(name for name, allowed in zip(tokens, row, strict=True) if allowed) or 'nobody'}"
             for token, row in zip(tokens, mask.tolist(), strict=True)]
    painted = f", {len(flipped)} painted over" if flipped else ""
    nobody = f" The row of {', '.join(alone)} is all 0: there is nobody to look at." if alone else ""
    return (f"Mask “{pattern}”, size {size}{painted}: {int(mask.sum())} of {mask.numel()} pairs are allowed. May look: {'; '.join(lines)}. "
            f"The largest weight is {float(weights.max()):.2f}.{nobody}")
