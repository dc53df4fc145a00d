"""Checks of the exercises on LoRA."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_20 as uses

# 20.1: the rank that is enough

def energy_cases(rng: np.random.Generator) -> list[Case]:
    "Matrices with known singular values, tall and wide, in any order; shares between the steps and on one of them; zeros; three shares to refuse."
    cases = []
    for rows, columns, values in ((7, 5, (5, 3, 2, 1.2, 0.5)), (4, 9, (6, 5.5, 3, 0.8)), (6, 6, (4, 1.5, 1, 0, 0, 0))):
        sigma = np.sort(np.array(values) * rng.uniform(0.8, 1.25, size=len(values)))[::-1]  # one factor for all would change no share
        left, right = (np.linalg.qr(rng.standard_normal((size, size)))[0] for size in (rows, columns))
        change = torch.from_numpy(left[:, : len(sigma)] * sigma @ right[: len(sigma)])
        kept = (sigma**2).cumsum() / (sigma**2).sum()
        places = [*(np.array([0, *kept[:-1]]) + kept) / 2]
        cases += [{"change": change, "share": float(share)} for share in places if share < 1 - 1e-6] + [{"change": change, "share": 1.0}]
    rng.shuffle(cases)  # or the ranks would come in the same order in every draw
    diagonal = torch.diag(torch.tensor([1.0, 3.0, 2.0]))
    zeros = [{"change": torch.zeros(3, 4), "share": float(share)} for share in (0.5, 1.0)]
    refused = [{"change": diagonal, "share": share} for share in (0.0, -0.2, 1.5)]
    return [*cases, {"change": diagonal[torch.from_numpy(rng.permutation(3))], "share": 9 / 14}, *zeros, *refused]


def energy_variant(power: int = 2, total: str = "all", late: int = 0, reached: str = "at least", small: str = "dropped", refuses: bool = True,
                   order: str = "largest"):
    "The rank with one thing done otherwise."

    def rank(change: Tensor, share: float) -> int:
        if refuses and not 0 < share <= 1:
            raise ValueError("no share")
        sigma = torch.linalg.svdvals(change.double())
        if order == "smallest":
            sigma = sigma.flip(0)
        if small == "dropped":
            sigma = sigma[sigma > 1e-5 * sigma.max()]
        if small == "dropped" and not len(sigma):
            return 0
        if reached == "largest alone":
            return int((sigma > (1 - share) * sigma.max()).sum())
        parts = sigma**power
        kept = parts.cumsum(0) / (parts.sum() if total == "all" else parts.max())
        if total == "root":
            kept = (parts.cumsum(0) / parts.sum()).sqrt()
        missing = kept < share - 1e-9 if reached == "at least" else kept <= share + 1e-9
        return min(int(missing.sum()) + 1 + late, len(sigma) + late)

    return rank


def searched_rank(change: Tensor, share: float) -> int:
    "Builds every best copy and measures what it misses."
    if share <= 0 or share > 1:
        raise ValueError("no share")
    left, sigma, right = torch.linalg.svd(change.double(), full_matrices=False)
    whole = change.double().square().sum()
    for rank in range(len(sigma) + 1):
        missing = (change - left[:, :rank] * sigma[:rank] @ right[:rank]).square().sum()
        if missing <= (1 - share + 1e-9) * whole:
            return rank
    raise AssertionError("all directions keep all of it")


def numpy_rank(change: Tensor, share: float) -> int:
    if not 0 < share <= 1:
        raise ValueError("no share")
    energies = np.linalg.svd(change.double().numpy(), compute_uv=False) ** 2
    energies = energies[energies > 1e-10 * energies[0]]
    return int(np.searchsorted(energies.cumsum(), (share - 1e-9) * energies.sum())) + 1 if len(energies) else 0


# 20.2: the pair

def pair_cases(rng: np.random.Generator) -> list[Case]:
    "Two fresh pairs; gradients with alpha that is not the rank, both scales; 16-bit inputs; dropout over many rows."
    cases = [{"in_features": 400, "out_features": 7, "settings": {"lora_rank": 12, "lora_alpha": 3.0}},
             {"in_features": 900, "out_features": 5, "settings": {"lora_rank": 9, "lora_alpha": 3.0}}]
    for rank, is_stabilized, shape, dtype in ((3, False, (4, 6), torch.float32), (2, True, (2, 3, 6), torch.float32), (4, False, (5, 6), torch.bfloat16)):
        outputs = int(rng.integers(7, 10))
        cases.append({"in_features": 6, "out_features": outputs, "inputs": tensor(rng, *shape, dtype=dtype), "upstream": tensor(rng, *shape[:-1], outputs),
                      "settings": {"lora_rank": rank, "lora_alpha": float(rng.uniform(5, 9)), "rank_stabilized": is_stabilized, "lora_dropout": 0.3},
                      "state": {"A": tensor(rng, rank, 6), "B": tensor(rng, outputs, rank)}})
    dropped = {"in_features": 64, "out_features": 3, "settings": {"lora_rank": 1, "lora_alpha": float(rng.uniform(1, 3)), "lora_dropout": 0.5},
               "inputs": torch.ones(600, 64), "state": {"A": torch.ones(1, 64), "B": torch.ones(3, 1)}}
    return [*cases, dropped]


def pair_variant(scale: str = "as told", B: str = "zeros", A: str = "uniform", dropout: str = "inputs", cast: str = "to A", change: str = "scaled",
                 frozen: bool = False, large: bool = False):
    "The pair with one thing done otherwise."

    class Variant(nn.Module):
        def __init__(self, in_features, out_features, config):
            super().__init__()
            rank, bound = config.lora_rank, 1 / math.sqrt(in_features)
            self.dropout = nn.Dropout(config.lora_dropout)
            self.scale = {"as told": config.scale, "none": 1.0, "alpha": config.lora_alpha, "out": config.lora_alpha / out_features,
                          "always rank": config.lora_alpha / rank}[scale]
            numbers = {"uniform": lambda: (2 * torch.rand(rank, in_features) - 1) * bound, "zeros": lambda: torch.zeros(rank, in_features),
                       "normal": lambda: torch.randn(rank, in_features)}
            self.A = nn.Parameter(numbers[A](), requires_grad=not frozen)
            fresh = torch.zeros(out_features, rank) if B == "zeros" else (2 * torch.rand(out_features, rank) - 1) / math.sqrt(rank)
            self.B = nn.Parameter(fresh)

        def forward(self, inputs):
            dtype = inputs.dtype
            inputs = inputs.to(self.A.dtype) if cast != "never" else inputs
            if dropout == "inputs":
                inputs = self.dropout(inputs)
            if large:
                return F.linear(inputs, self.change())
            few = inputs @ self.A.T
            if dropout == "few":
                few = self.dropout(few)
            answer = self.scale * few @ self.B.T
            if dropout == "answer":
                answer = self.dropout(answer)
            return answer.to(dtype) if cast == "back" else answer

        def change(self):
            return (self.scale if change == "scaled" else 1.0) * self.B @ self.A

    return Variant


class TwoLinears(nn.Module):
    "As peft does it: two linears without biases, one after the other."

    def __init__(self, in_features, out_features, config):
        super().__init__()
        self.down, self.up = nn.Linear(in_features, config.lora_rank, bias=False), nn.Linear(config.lora_rank, out_features, bias=False)
        nn.init.zeros_(self.up.weight)
        self.A, self.B = self.down.weight, self.up.weight
        del self.down, self.up
        self.config, self.dropout = config, nn.Dropout(config.lora_dropout)

    def forward(self, inputs):
        return F.linear(F.linear(self.dropout(inputs.float()), self.A), self.B) * self.config.scale

    def change(self):
        return torch.einsum("or,ri->oi", self.B, self.A) * self.config.scale


class ScaledFirst(pair_variant()):
    "The scale goes into the few numbers in the middle."

    def forward(self, inputs):
        few = torch.einsum("...i,ri->...r", self.dropout(inputs.to(torch.float32)), self.scale * self.A)
        return torch.einsum("...r,or->...o", few, self.B)


# 20.3: a merge

def merge_cases(rng: np.random.Generator) -> list[Case]:
    "Parts at the end, in the middle and as a whole, ranks and heights all different; none at all."
    def part(start: int, stop: int, rank: int, in_features: int, dtype: torch.dtype) -> dict:
        return {"start": start, "stop": stop, "A": tensor(rng, rank, in_features, dtype=dtype), "B": tensor(rng, stop - start, rank, dtype=dtype)}

    cases = []
    for sizes, in_features, adapted, dtype in (((5, 3, 4), 7, ((2, 2),), torch.float32), ((4, 4, 4), 5, ((0, 3), (2, 2)), torch.float64),
                                               ((6,), 4, ((0, 2),), torch.float32), ((3, 6), 8, ((1, 4),), torch.float64)):
        stops = np.cumsum(sizes)
        parts = [part(int(stops[index] - sizes[index]), int(stops[index]), rank, in_features, dtype) for index, rank in adapted]
        cases.append({"weight": tensor(rng, sum(sizes), in_features, dtype=dtype), "parts": parts, "lora_alpha": float(rng.uniform(5, 9))})
    return [*cases, {"weight": tensor(rng, 3, 2), "parts": [], "lora_alpha": 4.0}]


def merge_variant(divided_by: str = "rank", rows: str = "its own", starts: str = "clone"):
    "A merge with some things done otherwise."

    def merge(weight: Tensor, parts: list[tuple[slice, Tensor, Tensor]], lora_alpha: float) -> Tensor:
        merged = {"clone": weight.clone(), "weight": weight, "zeros": torch.zeros_like(weight)}[starts]
        for where, A, B in parts:
            divisor = {"rank": len(A), "rows": len(B), "columns": A.size(1), "root": math.sqrt(len(A)), "nothing": 1}[divided_by]
            merged[where if rows == "its own" else slice(0, len(B))] += lora_alpha / divisor * B @ A
        return merged

    return merge


def stacked_merge(weight: Tensor, parts: list[tuple[slice, Tensor, Tensor]], lora_alpha: float) -> Tensor:
    "One wide B with zeros where nothing is adapted, and one A."
    change = torch.zeros_like(weight)
    for rows, A, B in parts:
        change += F.pad(B * (lora_alpha / B.size(1)), (0, 0, rows.start, len(weight) - rows.stop)) @ A
    return weight + change


def probed_merge(weight: Tensor, parts: list[tuple[slice, Tensor, Tensor]], lora_alpha: float) -> Tensor:
    "What base and changes answer to each single input: the columns of the merged weight."
    answers = torch.eye(weight.size(1), dtype=weight.dtype) @ weight.T
    for rows, A, B in parts:
        answers[:, rows] = answers[:, rows] + lora_alpha / B.size(-1) * A.T @ B.T
    return answers.T


CHECKS = (
    Check(
        id="lora.rank_for_energy",
        name="rank_for_energy",
        cases=energy_cases,
        reference=searched_rank,
        right=(energy_variant(), numpy_rank),
        wrong=(
            Wrong(energy_variant(power=1),
                  "You add up the singular values themselves. The energy is the sum of their squares: the large ones count for more, so "
                  "fewer are needed."),
            Wrong(energy_variant(late=-1),
                  "Your ranks are one too small: places count from 0, and the first place stands for rank 1."),
            Wrong(energy_variant(late=1),
                  "Your ranks are one too large: the place that first reaches the share is counted already."),
            Wrong(energy_variant(reached="more than"),
                  "You ask for more than the share; at least the share is enough, and all of it can be reached but not exceeded."),
            Wrong(energy_variant(reached="largest alone"),
                  "You count the singular values that are not small beside the largest. Many small ones together may still hold a good part of "
                  "the energy, or hardly any."),
            Wrong(energy_variant(total="root"),
                  "You compare lengths: the root of the share that is kept. The share is one of the energy, of squares."),
            Wrong(energy_variant(order="smallest"),
                  "You begin with the smallest directions. The best copy keeps the largest ones."),
            Wrong(energy_variant(refuses=False),
                  "A share of 0, below it or above 1 makes no sense, and you answer a rank: raise a ValueError."),
            Wrong(energy_variant(small="kept"),
                  "Singular values that are only rounding count as directions, or a change of zeros needs one: for a share of 1 that is too many."),
        ),
    ),
    Check(
        id="lora.low_rank",
        name="LowRank",
        builds="models.lora.LowRank",
        cases=pair_cases,
        use=uses.low_rank,
        reference=TwoLinears,
        right=(pair_variant(), ScaledFirst),
        tolerance=1e-5,
        wrong=(
            Wrong(pair_variant(scale="none"),
                  "The scale is missing: alpha then does nothing, and a rank that is doubled makes the change louder."),
            Wrong(pair_variant(scale="alpha"),
                  "You multiply with alpha and do not divide by the rank: each rank would need a learning rate of its own."),
            Wrong(pair_variant(scale="always rank"),
                  "You divide by the rank always; with rank_stabilized it is the root of the rank. `config.scale` knows."),
            Wrong(pair_variant(B="random"),
                  "B is random at the start, and so is A: the model no longer begins as the one that was pretrained."),
            Wrong(pair_variant(A="zeros"),
                  "Both are 0 at the start. The gradient of each is a product with the other: neither will ever move."),
            Wrong(pair_variant(A="normal"),
                  "A's numbers are too large: they should be drawn between −1/√in and 1/√in, as a fresh linear's are."),
            Wrong(pair_variant(dropout="none"),
                  "The dropout is missing: in training the inputs should go through `self.dropout` on their way to A."),
            Wrong(pair_variant(dropout="answer"),
                  "You drop parts of the answer. The inputs are what is dropped, before A mixes them."),
            Wrong(pair_variant(dropout="few"),
                  "You drop some of the few numbers between A and B, and with them whole directions. The inputs are what is dropped, before A."),
            Wrong(pair_variant(change="plain"),
                  "`change` forgets the scale: merged into a weight it would be another change than the one `forward` adds."),
            Wrong(pair_variant(cast="never"),
                  "Inputs of another dtype, bfloat16 say, cannot be multiplied with A: bring them to that of A first."),
            Wrong(pair_variant(cast="back"),
                  "You answer in the type of the inputs: 16 bits round away what a small change has to say. Answer in A's type; the layer around "
                  "it decides what to do with it."),
            Wrong(pair_variant(large=True),
                  "The answer is right, and `forward` builds the large matrix for it, of which a thin pair was to save the memory: let the input meet A first, then B."),
            Wrong(pair_variant(frozen=True),
                  "A is not trained: both matrices should be parameters that ask for gradients."),
        ),
    ),
    Check(
        id="lora.merge",
        name="mended_merge",
        cases=merge_cases,
        use=uses.merged,
        reference=stacked_merge,
        right=(merge_variant(), probed_merge),
        wrong=(
            Wrong(merge_variant(divided_by="rows", rows="the first", starts="weight"),
                  "This is still the merge as you found it: all three faults are in."),
            Wrong(merge_variant(divided_by="rows"),
                  "Alpha is divided by the number of rows instead of the rank: the larger the matrix, the weaker its change."),
            Wrong(merge_variant(rows="the first"),
                  "Every change lands on the first rows: the query of the model gets what the value has learned."),
            Wrong(merge_variant(starts="weight"),
                  "The base itself is changed: whoever merges a second time, or wants the base back, gets something else."),
            Wrong(merge_variant(divided_by="rows", rows="the first"),
                  "The base is left alone now. The scale and the rows are still wrong."),
            Wrong(merge_variant(divided_by="rows", starts="weight"),
                  "The rows are right now. The scale is still wrong, and the base is still changed."),
            Wrong(merge_variant(rows="the first", starts="weight"),
                  "The scale is right now. The changes still land on the first rows, and the base is still changed."),
            Wrong(merge_variant(divided_by="columns"),
                  "Alpha is divided by the width of A. Its height is the rank."),
            Wrong(merge_variant(divided_by="nothing"),
                  "Alpha is not divided by the rank."),
            Wrong(merge_variant(divided_by="root"),
                  "Alpha is divided by the root of the rank. That is the rank-stabilised scale, which was not asked for here."),
            Wrong(merge_variant(starts="zeros"),
                  "What comes back is the change alone: the old weight is missing."),
        ),
    ),
)
