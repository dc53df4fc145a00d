"A real matrix, with fewer directions and with fewer bits."

from functools import lru_cache

import torch
from torch import Tensor

from microbert_course.models.quantization import even_levels, in_blocks, nearest_codes, normal_float_levels
from microbert_course.visual.palette import COLOURS, GREY, INK, new_figure, titled

CORNER = 64  # what is shown of a large matrix
LARGEST = 2**22  # numbers: what a singular value decomposition does in a few seconds


def _matrix(matrix, name: str) -> Tensor:
    matrix = torch.as_tensor(matrix).detach().float().cpu()
    if matrix.ndim != 2 or min(matrix.shape) < 2:
        raise ValueError(f"{name} has the shape {tuple(matrix.shape)}: give (rows, columns), two or more of each")
    if not matrix.isfinite().all() or not matrix.any():
        raise ValueError(f"{name} is 0 everywhere, or has a number that is not finite: give a matrix that something was learned in")
    if matrix.numel() > LARGEST:
        raise ValueError(f"{name} has {matrix.numel():,} numbers, and what a slider moves has to be quick: give a part of at most {LARGEST:,}")
    return matrix


# --- rank ------------------------------------------------------------------------------------------------------------

def make_rank(change=None) -> dict:
    "What a few steps of least squares do to a matrix, where none is given; its singular values are computed once."
    if change is None:
        generator = torch.Generator().manual_seed(0)
        wanted = torch.randn(64, 5, generator=generator) * torch.tensor([3.0, 2.0, 1.2, 0.7, 0.4]) @ torch.randn(5, 48, generator=generator)
        change = 0.02 * (wanted + 0.8 * torch.randn(64, 48, generator=generator))
    return {"change": _matrix(change, "change")}


def fit_rank(live: dict, settings: dict) -> dict:
    "Ranks up to the shorter side."
    return {"lora_rank": {"high": min(live["change"].shape)}}


@lru_cache(maxsize=1)  # a slider asks for the same matrix again and again, and the decomposition is what takes time
def decomposed(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    "Its singular value decomposition, kept while the same tensor is asked for."
    return torch.linalg.svd(matrix, full_matrices=False)


def left_over(singular_values: Tensor) -> Tensor:  # (ranks + 1,) from 1 at rank 0 down to 0
    "The share of the change that the best B·A of each rank misses, as a length (Eckart and Young 1936)."
    squares = torch.cat([singular_values.square(), torch.zeros(1)])
    return (squares.flip(0).cumsum(0).flip(0) / squares.sum()).clamp(min=0).sqrt()


def draw_lora_rank(
    change: Tensor,   # (out_features, in_features): what training added to a weight
    lora_rank: int,
    shown: str,       # "B·A" or "what is missed"
):  # the Figure
    "The change, its best copy of this rank or what that misses, and the error of every rank."
    left, values, right = decomposed(change)
    copy = left[:, :lora_rank] * values[:lora_rank] @ right[:lora_rank]
    missed = left_over(values)
    figure, (whole, part, curve) = new_figure(height=2.9, columns=3, widths=(1, 1, 1.35))
    limit = float(change.abs().quantile(0.99)) if change.numel() < 10**6 else float(change.abs().max())
    for ax, matrix, title in ((whole, change, "the change" if max(change.shape) <= CORNER else "a corner of the change"), (part, copy if shown == "B·A" else change - copy, f"{shown}, rank {lora_rank}")):
        ax.imshow(matrix[:CORNER, :CORNER].numpy(), cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
        ax.set_xticks([])
        ax.set_yticks([])
        titled(ax, title)
    curve.plot(missed.tolist(), color=COLOURS["blue"])
    curve.plot(lora_rank, missed[lora_rank], "o", color=COLOURS["red"], markersize=9, markeredgecolor=INK)
    curve.annotate(f"{float(missed[lora_rank]):.0%}", (lora_rank, float(missed[lora_rank])), (7, 5), textcoords="offset points", fontsize=9)
    curve.set(xlabel="rank", ylim=(0, 1.08))
    titled(curve, f"share missed ({_numbers(change, lora_rank):,} numbers)")
    return figure


def _numbers(change: Tensor, rank: int) -> int:
    return rank * sum(change.shape)


def tell_lora_rank(change, lora_rank, shown) -> str:
    "The same in words."
    missed = left_over(decomposed(change)[1])
    enough = int((missed <= 0.1).float().argmax())
    return (f"A change of {change.size(0)} × {change.size(1)}: the best product of rank {lora_rank} misses {float(missed[lora_rank]):.1%} of it and holds "
            f"{_numbers(change, lora_rank):,} numbers instead of {change.numel():,}. Shown: {shown}. From rank {enough} on it misses less than a tenth.")


# --- bits ------------------------------------------------------------------------------------------------------------

KINDS = ("even", "normal")


def make_bits(weight=None) -> dict:
    "A matrix of normal numbers with three strays, where none is given."
    if weight is None:
        weight = 0.04 * torch.randn(128, 128, generator=torch.Generator().manual_seed(0))
        weight[3, 7], weight[40, 90], weight[99, 20] = 0.6, -0.5, 0.4
    return {"weight": _matrix(weight, "weight")}


def rounded(weight: Tensor, bits: int, kind: str, block_size: int) -> tuple[Tensor, Tensor]:  # levels; the weight after rounding
    "Each block over its largest absolute value, to the nearest level and back."
    levels = (even_levels if kind == "even" else normal_float_levels)(bits)
    blocks = in_blocks(weight.flatten(), min(block_size, weight.numel()))
    constants = blocks.abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
    again = levels[nearest_codes(blocks / constants, levels).long()] * constants
    return levels, again.flatten()[: weight.numel()].view_as(weight)


def relative_error(weight: Tensor, again: Tensor) -> float:
    "How long the error is, as a share of the weight."
    return float((weight - again).norm() / weight.norm())


def draw_quantisation_bits(
    weight: Tensor,   # (rows, columns)
    bits: int,
    kind: str,        # of KINDS: even distances, or quantiles of the normal distribution
    block_size: int,  # numbers that share a constant
):  # the Figure
    "Where the levels lie among one block's numbers, and the error of every number of bits."
    levels, again = rounded(weight, bits, kind, block_size)
    block = in_blocks(weight.flatten(), min(block_size, weight.numel()))[0]
    figure, (histogram, curve) = new_figure(height=3.0, columns=2, widths=(1.3, 1))
    constant = float(block.abs().max())
    numbers = weight.flatten() if block_size > 4096 else block
    histogram.hist((numbers / max(constant, 1e-30)).clamp(-1, 1).tolist(), bins=41, range=(-1, 1), color=COLOURS["sky"], edgecolor=INK, linewidth=0.4)
    top = histogram.get_ylim()[1]
    histogram.vlines(levels.tolist(), 0, -0.12 * top, color=COLOURS["red"], linewidth=1.2 if bits < 6 else 0.5)
    histogram.axhline(0, color=INK, linewidth=0.7)
    histogram.set(xlabel="number / largest of its block (below: the levels)", ylabel="numbers")
    titled(histogram, f"the first block: {len(levels)} {kind} levels")
    for name, colour, marker, dash in (("even", "blue", "o", "-"), ("normal", "green", "s", "--")):
        errors = [relative_error(weight, rounded(weight, count, name, block_size)[1]) for count in range(2, 9)]
        curve.plot(range(2, 9), errors, dash, marker=marker, markersize=4, color=COLOURS[colour], label=f"{name} levels")
    error = relative_error(weight, again)
    curve.plot(bits, error, "o", color="none", markeredgecolor=COLOURS["red"], markersize=12, markeredgewidth=2)
    curve.set_yscale("log")
    curve.set(xlabel="bits", ylim=(0.003, 1.5))
    curve.axhline(0.1, color=GREY, linewidth=0.7, linestyle=":")
    curve.legend(fontsize=8)
    titled(curve, f"error {error:.1%} at {bits + 32 / min(block_size, weight.numel()):.2f} bits a number")
    return figure


def tell_quantisation_bits(weight, bits, kind, block_size) -> str:
    "The same in words."
    levels, again = rounded(weight, bits, kind, block_size)
    other = next(name for name in KINDS if name != kind)
    return (f"{weight.size(0)} × {weight.size(1)} numbers to {len(levels)} {kind} levels, a constant for every {min(block_size, weight.numel())}: "
            f"{bits + 32 / min(block_size, weight.numel()):.2f} bits a number, error {relative_error(weight, again):.1%} of the weight's length; with {other} levels "
            f"{relative_error(weight, rounded(weight, bits, other, block_size)[1]):.1%}.")
