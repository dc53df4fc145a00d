"""Checks of the exercises on sharded training."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_15 as uses

# 15.1: to each its piece

def gradient_cases(rng: np.random.Generator) -> list[Case]:
    "Several shapes on 2 to 5 processes, once without padding; fewer numbers than processes; one process; float64 and float16. None is near zero: a mean might be rounding alone."
    def case(num_processes, shapes, dtype=torch.float32):
        return {"gradients": [[tensor(rng, *shape, dtype=dtype).abs() + 0.5 for shape in shapes] for _ in range(num_processes)]}

    side = int(rng.integers(3, 6))
    return [case(2, [(2, 1), (1,)]), case(3, [(side, 4), (5,), (2, 3)], torch.float64), case(4, [(side, 2), (3, 2, side), (7,)]),
            case(2, [(side, 4), (6,)]), case(5, [(3,)]), case(3, [(side, 3), (4,)], torch.float16), case(1, [(2, side), (3,)])]


def pieces_variant(mean: str = "mean", padding: str = "end", cut: str = "consecutive", order: str = "rows", gathered: bool = False):
    "Pieces of the mean with one thing done otherwise."

    def reduce_scatter(gradients: list[list[Tensor]]) -> list[Tensor]:
        n = len(gradients)
        rows = []
        for own in gradients:
            flat = [(g.mT if order == "columns" and g.dim() > 1 else g).flatten() for g in own]
            if padding == "each":
                flat = [torch.cat([f, f.new_zeros(-len(f) % n)]) for f in flat]
            row = torch.cat(flat[::-1] if order == "backwards" else flat)
            zeros = row.new_zeros(n - len(row) % n if padding == "always" else -len(row) % n)
            if padding == "dropped":
                row = row[: len(row) // n * n]
            elif padding != "none":
                row = torch.cat([zeros, row] if padding == "front" else [row, zeros])
            rows.append(row)
        stacked = torch.stack(rows)
        whole = {"mean": stacked.mean(0), "sum": stacked.sum(0), "first": stacked[0]}.get(mean)
        if padding == "float32":
            whole = torch.cat([whole, torch.zeros(0)])
        if gathered:
            return [whole] * n
        if mean == "own":
            return [row.tensor_split(n)[rank] for rank, row in enumerate(rows)]
        if cut == "chunks":
            return list(whole.chunk(n))
        if cut == "strided":
            return [whole[rank::n] for rank in range(n)]
        return list(whole.tensor_split(n))

    return reduce_scatter


def number_by_number(gradients: list[list[Tensor]]) -> list[Tensor]:
    "Every number is put in its place, in NumPy."
    n, dtype = len(gradients), gradients[0][0].dtype
    length = sum(g.numel() for g in gradients[0])
    size = math.ceil(length / n)
    pieces = np.zeros((n, size))
    for own in gradients:
        for place, value in enumerate(value for g in own for value in g.numpy().reshape(-1)):
            pieces[place // size, place % size] += float(value) / n
    return [torch.from_numpy(piece).to(dtype) for piece in pieces]


def filled_buffer(gradients: list[list[Tensor]]) -> list[Tensor]:
    "A buffer of zeros that all processes add to."
    n, numbers = len(gradients), sum(g.numel() for g in gradients[0])
    buffer = torch.zeros(n, -(-numbers // n), dtype=gradients[0][0].dtype)
    for own in gradients:
        buffer.view(-1)[:numbers] += torch.nn.utils.parameters_to_vector(own) / n
    return [buffer[rank].clone() for rank in range(n)]


# 15.2: clipping in pieces

def clip_cases(rng: np.random.Generator) -> list[Case]:
    "Long and short gradients, one that is too long although a process's own part is not, several pieces of a process or none, one process, nothing but zeros."
    def case(sizes, scale, max_norm=None):
        pieces = [[tensor(rng, size) * scale for size in own] for own in sizes]
        whole = float(torch.cat([piece for own in pieces for piece in own]).norm())
        return {"pieces": pieces, "max_norm": float(max_norm or whole * rng.uniform(0.9, 0.95))}

    size = int(rng.integers(3, 9))
    return [case([[size], [size]], 4, rng.uniform(0.5, 1.5)), case([[size, 5], [4, size], [7, 2]], 2, rng.uniform(1, 2)),
            case([[size, 3], [6, 2]], 0.01, 1.0), case([[size, 6], [4], []], 3, rng.uniform(1, 3)), case([[size, 5]], 3, 1.0),
            case([[size, 3], [6, 2], [2, 4]], 2), case([[4], [3]], 0, 1.0)]


def clip_variant(travels: str = "squares", when: str = "longer", how: str = "in place", root: bool = True, over: str = "all", told: str = "before",
                 scale: str = "norm", sends: str | Callable = "once", decides: str = "all"):
    "Clipping with one thing done otherwise."

    def clip(pieces, max_norm, all_reduce):
        if sends in (torch.stack, torch.cat):
            return clip_variant()(pieces or sends(pieces), max_norm, all_reduce)
        if sends == "a plain 0":
            return clip_variant()(pieces, max_norm, all_reduce if pieces else lambda squares: all_reduce(0))
        if sends == "each piece":
            return clip_variant()(pieces, max_norm, lambda squares: sum((all_reduce(piece.square().sum()) for piece in pieces), torch.zeros(())))
        squares = sum((piece.square().sum() for piece in pieces), torch.zeros(()))
        if over == "each":
            for piece in pieces:
                piece *= min(1.0, max_norm / max(float(piece.norm()), 1e-12))
            return float(all_reduce(squares).sqrt())
        if travels == "squares":
            norm = all_reduce(squares)
            norm = norm.sqrt() if root else norm
        else:
            norm = {"norms": all_reduce, "nothing": lambda own: own}[travels](squares.sqrt())
        if when == "no longer":
            max_norm = min(max_norm, float(norm) * (max_norm / float(norm)))
        if when == "always" or (norm if decides == "all" else squares.sqrt()) > max_norm:
            for piece in pieces:
                if scale == "clamp":
                    piece.clamp_(-max_norm, max_norm)
                elif how == "in place":
                    piece *= max_norm / norm
        return min(float(norm), max_norm) if told == "after" else float(squares.sqrt() if told == "own" else norm)

    return clip


def clip_in_one_row(pieces, max_norm, all_reduce) -> float:
    "All pieces of the process in one row, in float64; the factor never lengthens."
    row = torch.cat([torch.zeros(0, dtype=torch.float64), *[piece.double() for piece in pieces]])
    norm = math.sqrt(all_reduce(row @ row).item())
    for piece in pieces:
        piece.mul_(max_norm / norm if norm > max_norm else 1.0)
    return norm


def clip_by_hypot(pieces, max_norm, all_reduce) -> float:
    "The pieces' norms, squared and added up; the pieces are overwritten."
    norm = float(all_reduce(torch.tensor([sum(float(torch.linalg.vector_norm(piece)) ** 2 for piece in pieces)]))[0]) ** 0.5
    for piece in pieces:
        piece.copy_(piece * min(1.0, max_norm / (norm or 1.0)))
    return norm


# 15.3: what must fit

def bytes_cases(rng: np.random.Generator) -> list[Case]:
    "Every stage, units that divide and that do not, one process, more processes than a unit has numbers."
    def case(unit_sizes, num_processes, stage):
        return {"unit_sizes": [int(size) for size in unit_sizes], "num_processes": num_processes, "stage": stage}

    odd = [7 * int(rng.integers(3, 9)) + extra for extra in (1, 2, 5, 3)]
    return [case([5, 8], 2, stage) for stage in range(4)] + [case(odd, 7, stage) for stage in range(4)] + [
        case(rng.integers(100, 200, 3), 1, 3), case([3, 50, 20], 8, 3), case([3, 50, 20], 8, 1)]


def bytes_variant(padding: str = "unit", floor: str = "largest", passing: int = 8, parts: tuple[int, int, int] = (4, 4, 8), first: tuple[int, int, int] = (3, 2, 1)):
    "The bytes with one thing counted otherwise; `first`: the first stage at which each part is cut."

    def held(unit_sizes: list[int], num_processes: int, stage: int) -> int:
        whole = sum(unit_sizes)
        padded = [size + (-size % num_processes if padding in ("unit", "everywhere") else 0) for size in unit_sizes]
        piece = {"model": -(-whole // num_processes), "cut off": sum(size // num_processes for size in unit_sizes)}.get(padding, sum(padded) / num_processes)
        if padding == "everywhere":
            whole = sum(padded)
        standing = sum(num_bytes * (piece if stage >= begins else whole) for num_bytes, begins in zip(parts, first, strict=True))
        unit = {"largest": max(padded), "unpadded": max(unit_sizes), "but its piece": max(padded) * (1 - 1 / num_processes), "all": sum(padded), "none": 0, "mean": sum(padded) / len(padded),
                "of several": max(padded) if num_processes > 1 else 0}[floor]
        return round(standing + (passing * unit if stage == 3 else 0))

    return held


def bytes_by_tensors(unit_sizes: list[int], num_processes: int, stage: int) -> int:
    "The tensors that a process would have, made without memory, and their bytes."
    def total(sizes, copies=1):
        return copies * sum(torch.empty(size, device="meta").nbytes for size in sizes)

    pieces = [math.ceil(size / num_processes) for size in unit_sizes]
    held = total(pieces if stage >= 3 else unit_sizes) + total(pieces if stage >= 2 else unit_sizes) + total(pieces if stage >= 1 else unit_sizes, 2)
    return held + (total([max(pieces) * num_processes], 2) if stage == 3 else 0)


CHECKS = (
    Check(
        id="sharding.reduce_scatter",
        name="reduce_scatter",
        cases=gradient_cases,
        reference=number_by_number,
        right=(pieces_variant(), filled_buffer),
        wrong=(
            Wrong(pieces_variant(mean="sum"),
                  "These are pieces of the sum, as torch's reduce-scatter gives them. The mean is wanted, or the rate grows with the number of processes."),
            Wrong(pieces_variant(mean="own"),
                  "Each process receives a piece of its own gradient, and nobody learns from the others' rows: average over the processes first."),
            Wrong(pieces_variant(mean="first"),
                  "Everybody receives pieces of the first process's gradient. The others' rows are read and thrown away."),
            Wrong(pieces_variant(padding="each"),
                  "You fill up each gradient by itself, so that zeros stand in the middle of the row. They belong behind the last number of all."),
            Wrong(pieces_variant(padding="front"),
                  "The zeros stand in front and shift every number. They belong behind the last one."),
            *(Wrong(pieces_variant(padding="none", cut=cut),
                    "Your pieces have different lengths where the row does not divide. Messages of a gather are equally long: fill up with zeros.")
              for cut in ("consecutive", "chunks")),
            Wrong(pieces_variant(padding="always"),
                  "Where the row divides already, you add a zero for every process all the same. As few zeros as possible: there it is none."),
            Wrong(pieces_variant(padding="float32"),
                  "Your zeros are float32, and laid behind half-precision numbers they turn the whole row into float32. Make them of the gradients' dtype."),
            Wrong(pieces_variant(padding="dropped"),
                  "The last numbers are cut off where the row does not divide, and their parameters are never trained. Fill up with zeros."),
            Wrong(pieces_variant(cut="strided"),
                  "You deal the numbers out in turns, like cards. A piece is one stretch of the row, without a gap."),
            Wrong(pieces_variant(order="columns"),
                  "You read matrices column by column. The numbers are taken row by row."),
            Wrong(pieces_variant(order="backwards"),
                  "The gradients are laid end to end from the last to the first. They come in their own order."),
            Wrong(pieces_variant(gathered=True),
                  "Every process receives the whole mean: that is an all-reduce. Each is to hold its own piece only."),
        ),
    ),
    Check(
        id="sharding.clip",
        name="mended_clip",
        cases=clip_cases,
        use=uses.clipped,
        reference=clip_in_one_row,
        right=(clip_variant(), clip_by_hypot),
        tolerance=1e-5,
        wrong=(
            Wrong(clip_variant(travels="norms", when="always", how="anew"),
                  "This is still the function as you found it: all three faults are in."),
            Wrong(clip_variant(travels="norms"),
                  "You add up the processes' norms. Lengths do not add up, squares do: 3 and 4 make 5."),
            Wrong(clip_variant(travels="nothing"),
                  "Each process uses the norm of its own pieces, so each scales by another factor, and the gradient points elsewhere."),
            Wrong(clip_variant(root=False),
                  "The sum of squares is taken for the norm: its root is missing."),
            Wrong(clip_variant(when="always"),
                  "A short gradient is made longer, up to max_norm, and one of length zero becomes no number. Only what is too long is scaled."),
            Wrong(clip_variant(how="anew"),
                  "The norm is right, and the gradients stay as they were: a product is a new tensor, and the optimizer never sees it, whatever name or "
                  "place in a list it gets."),
            Wrong(clip_variant(decides="own"),
                  "Each process decides by the norm of its own pieces whether to clip, so one may clip and another not. The whole gradient's norm decides."),
            Wrong(clip_variant(told="own"),
                  "The gradients are right, and you return the norm of the process's own pieces. The whole gradient's is wanted, the same everywhere."),
            Wrong(clip_variant(when="no longer"),
                  "A gradient of nothing but zeros has the norm 0, and you divide by it. Look whether there is anything to clip before you work out the factor."),
            Wrong(clip_variant(sends="each piece"),
                  "A process without pieces calls `all_reduce` less often than the others, and they wait for ever. Add up your own squares first, none or "
                  "many, and call it once."),
            *(Wrong(clip_variant(sends=sends),
                    "A process that has no pieces fails with you. It takes part, too: what it sends is a tensor that holds 0.")
              for sends in (torch.stack, torch.cat, "a plain 0")),
            Wrong(clip_variant(over="each"),
                  "You clip every piece by itself. It is the whole gradient that has a norm."),
            Wrong(clip_variant(scale="clamp"),
                  "You cut every number at max_norm, which bends the gradient. All numbers are multiplied by one factor."),
            Wrong(clip_variant(told="after"),
                  "You return the norm after clipping. The one before says how the run is doing."),
        ),
    ),
    Check(
        id="sharding.bytes_held",
        name="bytes_held",
        cases=bytes_cases,
        reference=bytes_by_tensors,
        right=(bytes_variant(), lambda unit_sizes, num_processes, stage: sum(
            -(-size // num_processes) * (0, 8, 12, 16)[stage] + size * (16, 8, 4, 0)[stage] for size in unit_sizes)
            + (8 * num_processes * max(-(-size // num_processes) for size in unit_sizes) if stage == 3 else 0)),
        wrong=(
            Wrong(bytes_variant(floor="none"),
                  "You leave out what is whole for a moment: at stage 3 the largest unit stands there with all its parameters and its gradient."),
            Wrong(bytes_variant(floor="all"),
                  "You gather the whole model at once, which saves nothing. Only one unit is whole at a time."),
            Wrong(bytes_variant(floor="mean"),
                  "You count a unit of average size as the one that is whole. The worst moment is the largest one's."),
            Wrong(bytes_variant(floor="unpadded"),
                  "The largest unit is whole without its zeros with you. It is put together from pieces, and the zeros are in them."),
            Wrong(bytes_variant(floor="but its piece"),
                  "You take the piece of the largest unit off, since the unit is whole. Its piece still stands beside it: the optimizer needs it."),
            Wrong(bytes_variant(floor="of several"),
                  "With one process you leave the largest unit out. The same rules hold for it: at stage 3 that unit is put together there, too."),
            Wrong(bytes_variant(passing=4),
                  "Of the unit that is whole you count the parameters or the gradient, and both are there: 8 bytes a number."),
            Wrong(bytes_variant(padding="none"),
                  "The zeros are missing: each unit is filled up until it divides by the number of processes."),
            Wrong(bytes_variant(padding="cut off"),
                  "Your pieces are rounded down, so the numbers that are left over belong to nobody. Each unit is filled up, and pieces become larger."),
            Wrong(bytes_variant(padding="everywhere"),
                  "You count zeros in what is whole, too. Only what is cut needs them."),
            Wrong(bytes_variant(padding="model"),
                  "You fill up the model as a whole. It is cut unit by unit, and each unit has its own zeros."),
            Wrong(bytes_variant(first=(1, 2, 3)),
                  "Your stages cut the parameters first and Adam's memories last. It is the other way round: the largest part goes first."),
            Wrong(bytes_variant(parts=(2, 2, 12)),
                  "You count 2 + 2 + 12 bytes, as the paper does for half-precision weights. Here it is 4 + 4 + 8."),
            Wrong(bytes_variant(parts=(4, 4, 4)),
                  "Adam has two memories of 4 bytes for each number: the mean and the mean of squares."),
        ),
    ),
)
