"""How far each exported piece is from its outside reference: differences over fresh random inputs, forward and gradients.

The pieces are in parity_cases.py. A difference is the largest distance between two entries, as a share of the largest entry of
the reference; for gradients, over all of them together (one that is zero in theory, as that of the keys' bias, has no size of its
own). Masking draws at random, so its shares are compared in standard errors; ids are compared one by one."""

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NO_DTYPE = "—"  # for ids and counts
RELATIVE = "of the largest entry"


class Draw:
    "The inputs of one comparison, a pure function of its seed and number format, on torch's default device."

    def __init__(self, seed: int, dtype: str):
        self.generator, self.device = torch.Generator("cpu").manual_seed(seed), torch.get_default_device()
        self.seed, self.dtype = seed, getattr(torch, dtype) if dtype != NO_DTYPE else torch.float64

    def size(self, low: int, high: int) -> int:  # low to high, both included
        "A size."
        return int(torch.randint(low, high + 1, (1,), generator=self.generator, device="cpu"))

    def number(self, low: float, high: float) -> float:
        "A number between two others."
        return low + (high - low) * float(torch.rand(1, generator=self.generator, dtype=torch.float64, device="cpu"))

    def choice(self, options: Sequence):
        "One of several."
        return options[self.size(0, len(options) - 1)]

    def normal(self, *shape: int) -> Tensor:  # of the shape asked for
        "Normal numbers that ask for gradients; drawn in float64, so every format gets the same ones, rounded."
        return normal(self.generator, shape).to(self.device, self.dtype).requires_grad_()

    def ids(self, low: int, high: int, *shape: int) -> Tensor:  # of the shape asked for, int64, low to high - 1
        "Whole numbers."
        return torch.randint(low, high, shape, generator=self.generator, device="cpu").to(self.device)

    def order(self, length: int) -> Tensor:  # (length,) int64
        "The numbers below a length, in any order."
        return torch.randperm(length, generator=self.generator, device="cpu").to(self.device)

    def chances(self, *shape: int) -> Tensor:  # of the shape asked for, float64, 0 to 1
        "Numbers that are as likely anywhere between 0 and 1."
        return torch.rand(shape, generator=self.generator, dtype=torch.float64, device="cpu").to(self.device)

    def mask(self, batch: int, seq: int, with_holes: bool = False) -> Tensor:  # (batch, seq) int64, 1 = real token
        "Rows of different lengths, padded; or real tokens anywhere, the first always."
        if with_holes:
            mask = self.ids(0, 2, batch, seq)
            mask[:, 0] = 1
            return mask
        return (torch.arange(seq) < self.ids(1, seq + 1, batch, 1)).long()

    def shake(self, module: torch.nn.Module) -> torch.nn.Module:
        "The module in this number format, with every parameter at random, norms and biases too."
        module = module.to(self.dtype)
        with torch.no_grad():
            for parameter in module.parameters():
                noise = normal(self.generator, parameter.shape)
                parameter.copy_(parameter + 0.3 * noise.to(self.device, self.dtype))
        return module


def normal(generator: torch.Generator, shape: Sequence[int]) -> Tensor:  # of the shape asked for, float64, on the CPU
    "Normal numbers, the same for every device."
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


@dataclass(frozen=True)
class Case:
    "Exported pieces, what they are compared with, and how."

    pieces: tuple[str, ...]  # their names below microbert_course, "models.attention.MultiHeadAttention"
    reference: str  # the outside function or class
    inputs: str  # what is drawn, in words
    compare: Callable[[Draw], tuple[float, float | None]]  # difference of results, of gradients (None: it has none)
    tolerance: dict[str, float]  # largest difference accepted, by number format
    unit: str = RELATIVE


@dataclass(frozen=True)
class Row:
    "One line of the table: a case in one number format, the largest differences over all draws."

    pieces: tuple[str, ...]
    reference: str
    inputs: str
    dtype: str
    draws: int
    forward: float
    gradients: float | None
    tolerance: float
    unit: str

    def is_within(self) -> bool:
        "Whether no difference is larger than accepted; NaN is not."
        return all(difference <= self.tolerance for difference in (self.forward, self.gradients) if difference is not None)


def relative(ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> float:
    """The largest distance between two entries, as a share of the largest entry of all `theirs`; infinite for NaN.

    Raises: ValueError if shapes differ: broadcasting would hide it."""
    distance = scale = 0.0
    for our, their in zip(ours, theirs, strict=True):
        our, their = (torch.as_tensor(tensor, dtype=torch.float64, device="cpu").detach() for tensor in (our, their))
        if our.shape != their.shape:
            raise ValueError(f"{tuple(our.shape)} is compared with {tuple(their.shape)}: the shapes must be equal")
        if not our.isfinite().all() or not their.isfinite().all():
            return float("inf")
        distance = max(distance, float((our - their).abs().max()))
        scale = max(scale, float(their.abs().max()))
    return distance / scale if scale else distance


def differences(
    draw: Draw,
    ours: Sequence[Tensor],  # results
    theirs: Sequence[Tensor],  # results
    leaves: Sequence[tuple[Tensor, Tensor | Sequence[Tensor]]],  # ours and theirs; several of theirs are stacked
) -> tuple[float, float]:
    "The difference of the results, and that of the gradients of one random weighted sum of them."
    weights = [normal(draw.generator, result.shape).to(result) for result in theirs]
    groups = [their if isinstance(their, list | tuple) else [their] for _, their in leaves]
    ours_grads = torch.autograd.grad(list(ours), [our for our, _ in leaves], weights)
    flat = iter(torch.autograd.grad(list(theirs), [leaf for group in groups for leaf in group], weights))
    theirs_grads = [torch.cat([next(flat) for _ in group]) if len(group) > 1 else next(flat) for group in groups]
    return relative(ours, theirs), relative(ours_grads, theirs_grads)


def measure(
    seed: int = 0,
    draws: int = 10,  # comparisons a case and number format
    cases: Sequence[Case] | None = None,  # None = all
    device: str = "cpu",
) -> list[Row]:
    "Draw and compare; a row for each case and number format."
    if cases is None:
        from microbert_course.lessons.parity_posttraining import CASES as cases
    rows = []
    for case in cases:
        for dtype, tolerance in case.tolerance.items():
            with torch.device(device):
                found = [_compare(case, seed * 10_000 + draw, dtype) for draw in range(draws)]
            gradients = [gradient for _, gradient in found if gradient is not None]
            rows.append(Row(case.pieces, case.reference, case.inputs, dtype, draws, max(forward for forward, _ in found),
                            max(gradients) if gradients else None, tolerance, case.unit))
    return rows


def _compare(case: Case, seed: int, dtype: str) -> tuple[float, float | None]:
    with torch.random.fork_rng(devices=[]):  # modules are born with weights from the global generator
        torch.manual_seed(seed)
        return case.compare(Draw(seed, dtype))


def as_html(rows: Sequence[Row]) -> str:
    "The table for a page."
    head = ("piece", "reference", "inputs", "dtype", "draws", "largest difference", "of gradients", "accepted")
    lines = ["<table><thead><tr>", *(f"<th style='text-align:left'>{name}</th>" for name in head), "</tr></thead><tbody>"]
    for row in rows:
        names = ", ".join(piece.rpartition(".")[2] for piece in row.pieces)
        module = row.pieces[0].rpartition(".")[0]
        unit = "" if row.unit == RELATIVE else f" {row.unit}"
        cells = (f"{html.escape(names)}<br><small>{html.escape(module)}</small>", html.escape(row.reference),
                 html.escape(row.inputs), row.dtype, str(row.draws), _shown(row.forward) + unit, _shown(row.gradients),
                 f"{row.tolerance:g}{unit}" + ("" if row.is_within() else " <b>exceeded</b>"))
        lines.append("<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells) + "</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _shown(difference: float | None) -> str:
    return "—" if difference is None else "0" if difference == 0 else f"{difference:.1e}" if difference < 0.1 else f"{difference:.2f}"
