"""Checks of the exercises on a modern encoder."""

import numpy as np
import torch
from torch import Tensor

from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_16

# 16.1: turning pairs


def rotation_cases(rng: np.random.Generator) -> list[Case]:
    "Angles for all heads, for rows of their own, for one pair alone; many in bfloat16 with angles in float32; gradients of all three."
    cases = []
    for shape, rows, dtype in (((2, 3, 4, 6), (2, 1), torch.float32), ((1, 2, 5, 2), (1, 1), torch.float64), ((4, 8), (), torch.float32),
                               ((2, 3, 10, 16), (1, 1), torch.bfloat16)):
        angles = torch.from_numpy(rng.uniform(-4, 4, size=(*rows, shape[-2], shape[-1] // 2))).float()
        cases.append({"vectors": tensor(rng, *shape, dtype=dtype), "cos": angles.cos(), "sin": angles.sin()})
    cases[0]["upstream"] = tensor(rng, 2, 3, 4, 6)
    return cases


def rotation_variant(layout: str = "halves", direction: int = 1, second_sign: int = 1, order: str = "in place", keeps_dtype: bool = True,
                     rounds: str = "once"):
    "The rotation with one thing done otherwise."

    def rotation(vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if rounds == "angles too" and vectors.dtype == torch.bfloat16:
            cos, sin = cos.half().float(), sin.half().float()
        first, second = (vectors[..., ::2], vectors[..., 1::2]) if layout == "neighbours" else vectors.chunk(2, -1)
        new_first = first * cos - direction * second * sin
        new_second = second_sign * second * cos + direction * first * sin
        if order == "one after the other":
            new_second = second * cos + new_first * sin
        pair = (new_second, new_first) if order == "swapped" else (new_first, new_second)
        turned = torch.stack(pair, -1).flatten(-2) if layout == "neighbours" else torch.cat(pair, -1)
        return turned.to(vectors.dtype) if keeps_dtype else turned

    return rotation


def rotation_by_halves(vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    "As transformers writes it."
    half = vectors.size(-1) // 2
    other = torch.cat([-vectors[..., half:], vectors[..., :half]], -1)
    return (vectors * torch.cat([cos, cos], -1) + other * torch.cat([sin, sin], -1)).to(vectors.dtype)


def rotation_by_matrices(vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    "A 2 × 2 matrix a pair."
    matrices = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)  # (..., half, 2, 2)
    pairs = vectors.unflatten(-1, (2, -1)).transpose(-1, -2)[..., None]                      # (..., half, 2, 1)
    precise = torch.promote_types(vectors.dtype, cos.dtype)
    return (matrices.to(precise) @ pairs.to(precise))[..., 0].transpose(-1, -2).flatten(-2).to(vectors.dtype)


# 16.2: a mask for local attention


def window_cases(rng: np.random.Generator) -> list[Case]:
    "Padding behind and in front, causal or not, a window larger than the row, one token."
    cases = []
    for batch, seq, window, is_causal in ((2, 7, 4, False), (3, 6, 2, True), (1, 9, 6, True), (2, 5, 12, False), (1, 1, 2, False)):
        mask = (torch.arange(seq) < torch.from_numpy(rng.integers(1, seq + 1, size=(batch, 1)))).long()
        mask[0] = 1
        mask[-1, -1:] = 0 if seq > 1 else 1
        cases.append({"attention_mask": mask.flip(1) if is_causal and seq > 6 else mask, "window": window, "is_causal": is_causal})
    return cases


def window_variant(near: str = "half", future: str = "hidden", padding: str = "keys"):
    "The mask with some things done otherwise."

    def mask(attention_mask: Tensor, window: int, is_causal: bool = False) -> Tensor:
        batch, seq = attention_mask.shape
        seen = torch.zeros(batch, seq, seq, dtype=torch.bool)
        for b in range(batch):
            for i in range(seq):
                for j in range(seq):
                    apart, reach = abs(i - j), window // 2
                    is_near = {"half": apart <= reach, "whole": apart < window, "whole and one": apart <= window, "below half": apart < reach}[near]
                    may = {"hidden": j <= i, "past hidden": j >= i, "itself too": j < i, "seen": True}[future]
                    real = {"keys": attention_mask[b, j], "queries": attention_mask[b, i], "both": attention_mask[b, i] * attention_mask[b, j],
                            "nobody": 1}[padding]
                    seen[b, i, j] = is_near and (may or not is_causal) and bool(real)
        return seen

    return mask


def window_by_bands(attention_mask: Tensor, window: int, is_causal: bool = False) -> Tensor:
    "The band that two triangles leave."
    seq = attention_mask.size(1)
    band = torch.ones(seq, seq).tril(0 if is_causal else window // 2).triu(-(window // 2)).bool()
    return band & (attention_mask == 1).unsqueeze(1)


def window_by_sets(attention_mask: Tensor, window: int, is_causal: bool = False) -> Tensor:
    "Row by row, a slice of ones."
    batch, seq = attention_mask.shape
    seen = torch.zeros(batch, seq, seq, dtype=torch.bool)
    for i in range(seq):
        stop = i + 1 if is_causal else i + window // 2 + 1
        seen[:, i, max(0, i - window // 2):stop] = attention_mask[:, max(0, i - window // 2):stop].bool()
    return seen


# 16.3: angles for longer rows


def stretch_cases(rng: np.random.Generator) -> list[Case]:
    "No stretch, small and large ones, heads of two pairs and of many."
    cases = []
    for batch, seq, head_dim, stretch in ((1, 4, 4, 1.0), (2, 5, 8, rng.uniform(2, 8)), (1, 3, 16, rng.uniform(1.2, 2)), (2, 3, 4, rng.uniform(3, 6))):
        cases.append({"position_ids": torch.from_numpy(rng.integers(1, 60, size=(batch, seq))), "head_dim": head_dim,
                      "theta": float(rng.choice([100.0, 500.0, 10_000.0])), "stretch": float(stretch)})
    return cases


def stretch_variant(exponent=lambda half: half / (half - 1), divides: bool = False, pairs: str = "half", stretches: bool = True, upside: bool = False):
    "The angles with one thing done otherwise."

    def angles(position_ids: Tensor, head_dim: int, theta: float = 10_000.0, stretch: float = 1.0) -> Tensor:
        half = head_dim // 2
        factor = stretch ** exponent(half) if stretches and not divides else 1.0
        base = theta / factor if upside else theta * factor
        steps = torch.arange(half, dtype=torch.float64) / {"half": half, "whole": head_dim, "steps": max(1, half - 1)}[pairs]
        positions = position_ids.double() / (stretch if divides else 1.0)
        return (positions[..., None] * base**-steps).float()

    return angles


def geometric_angles(position_ids: Tensor, head_dim: int, theta: float = 10_000.0, stretch: float = 1.0) -> Tensor:
    "The old speeds, each divided by its share of the stretch: a geometric row from 1 to the whole of it."
    half = head_dim // 2
    old = torch.tensor([theta ** (-i / half) for i in range(half)], dtype=torch.float64)
    shares = torch.logspace(0, 1, half, base=stretch, dtype=torch.float64) if stretch != 1 else torch.ones(half, dtype=torch.float64)
    return torch.einsum("bs,h->bsh", position_ids.double(), old / shares).float()


def angles_as_transformers(position_ids: Tensor, head_dim: int, theta: float = 10_000.0, stretch: float = 1.0) -> Tensor:
    "The formula of the rope type `dynamic`."
    base = theta * stretch ** (head_dim / (head_dim - 2))
    return position_ids[..., None].float() / base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)


CHECKS = (
    Check(
        id="modern.rotate",
        name="rotate",
        builds="models.modern.rotate",
        cases=rotation_cases,
        use=lesson_16.rotation,
        reference=rotation_by_halves,
        right=(rotation_variant(), rotation_by_matrices),
        wrong=(
            Wrong(rotation_variant(layout="neighbours"),
                  "You pair neighbours, numbers 0 and 1, 2 and 3. That is a rotation too, but these weights were trained with number i and "
                  "number i + head_dim / 2 as a pair."),
            Wrong(rotation_variant(direction=-1),
                  "Your pairs turn the other way round, by minus the angle. Scores between two of your own vectors would still fit; against "
                  "anybody else's keys they do not."),
            Wrong(rotation_variant(second_sign=-1),
                  "The sign of b · cos α in the second number is wrong: your pairs are reflected, not turned."),
            Wrong(rotation_variant(order="one after the other"),
                  "The second number is made from the *new* first one. Both come from the old pair."),
            Wrong(rotation_variant(order="swapped"),
                  "The values are right, and the two halves have changed places: the first numbers of all pairs come first."),
            Wrong(rotation_variant(keeps_dtype=False),
                  "A bfloat16 vector comes back as float32: bfloat16 times float32 is float32. The result should have the vectors' dtype."),
            Wrong(rotation_variant(rounds="angles too"),  # the finest of these: bfloat16 is coarser, and so is rounding after each step
                  "You round on the way, the cosines and sines or what is made of them: each time by up to one part in 2048 with float16, one in 256 with "
                  "bfloat16. Angles are float32 for a reason: compute with them as they are, and round once, at the end."),
        ),
    ),
    Check(
        id="modern.window_mask",
        name="mended_mask",
        cases=window_cases,
        reference=window_by_bands,
        right=(window_variant(), window_by_sets),
        wrong=(
            Wrong(window_variant(near="whole", future="past hidden", padding="queries"),
                  "This is still the mask as you found it: all three faults are in."),
            Wrong(window_variant(near="whole", padding="queries"), "The future is hidden now. How far a token sees, and the padding, are still wrong."),
            Wrong(window_variant(near="whole", future="past hidden"),
                  "The padding is hidden now. How far a token sees, and which side is the future, are still wrong."),
            Wrong(window_variant(future="past hidden", padding="queries"),
                  "The window is right now. Which side is the future, and the padding, are still wrong."),
            Wrong(window_variant(near="whole"),
                  "Your window reaches too far: `window` counts both sides together, so each side has half of it."),
            Wrong(window_variant(near="whole and one"),
                  "Your window has its full width on each side: `window` counts both sides together, so each side has half of it."),
            Wrong(window_variant(near="below half"),
                  "Your window is one place too narrow on each side: the place that is exactly half a window away may be looked at."),
            Wrong(window_variant(future="past hidden"),
                  "With is_causal your tokens see the future and not the past: a query stands after a key where its place is the larger one."),
            Wrong(window_variant(future="itself too"),
                  "With is_causal a token may not look at itself, so that the first one has nobody. Its own place is no future."),
            Wrong(window_variant(future="seen"), "is_causal hides nothing: tokens still see what comes after them."),
            Wrong(window_variant(padding="queries"),
                  "The padding may not look, and everybody may look at the padding: it is the keys, the columns, that must be real."),
            Wrong(window_variant(padding="nobody"), "The padding is not hidden: real tokens gather from places where no token is."),
            Wrong(window_variant(padding="both"),
                  "The rows of the padding are empty. A softmax over an empty row is 0 divided by 0; only the columns of the padding are to be hidden."),
        ),
    ),
    Check(
        id="modern.stretched_angles",
        name="stretched_angles",
        cases=stretch_cases,
        reference=geometric_angles,
        right=(stretch_variant(), angles_as_transformers),
        tolerance=1e-5,
        wrong=(
            Wrong(stretch_variant(divides=True),
                  "You divide all positions: every pair is slowed down by the same factor, neighbours become hard to tell apart. The fastest pair is to "
                  "keep its speed."),
            Wrong(stretch_variant(stretches=False), "The stretch is not used: these are the angles of the trained model."),
            Wrong(stretch_variant(exponent=lambda half: 1.0),
                  "theta grows by `stretch` alone. The last pair has the power (half − 1)/half of theta, so it is not slowed down quite enough."),
            Wrong(stretch_variant(exponent=lambda half: (half - 1) / half),
                  "The exponent of the stretch is upside down: to undo the power (half − 1)/half of theta, take its inverse."),
            Wrong(stretch_variant(exponent=lambda half: (2 * half) / (2 * half - 1)),
                  "You count numbers where pairs are meant: there are half − 1 steps from the first pair to the last, not head_dim − 1."),
            Wrong(stretch_variant(pairs="whole"),
                  "Your speeds run over head_dim where they should run over half of it: the exponents are −i/half, so that the slowest pair comes near 1/theta."),
            Wrong(stretch_variant(pairs="steps"),
                  "Your last pair has the speed 1/theta exactly. The exponents are −i/half, and i ends at half − 1."),
            Wrong(stretch_variant(upside=True), "Your theta becomes smaller, and slow pairs faster: in longer texts they should be slower."),
        ),
    ),
)
