"""Checks of the exercises on quantisation."""

import numpy as np
import torch
from torch import Tensor

from microbert_course.models.quantization import PackedWeight, even_levels, normal_float_levels
from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_21 as uses

# 21.1: the nearest level

def level_cases(rng: np.random.Generator) -> list[Case]:
    "Levels at equal and unequal distances, few and many; numbers that are on no border, and exact middles."
    cases = []
    lopsided = torch.tensor([-1.0, *sorted(rng.uniform(-0.9, 0.9, size=5)), 1.0], dtype=torch.float32)
    for levels, shape in ((normal_float_levels(), (4, 9)), (even_levels(8), (5, 60)), (even_levels(4), (13,)), (lopsided, (2, 3, 5))):
        picked = torch.from_numpy(rng.integers(1, len(levels) - 1, size=shape))
        away = torch.from_numpy(rng.uniform(-0.45, 0.45, size=shape)).float()
        gap = torch.where(away > 0, levels[picked + 1] - levels[picked], levels[picked] - levels[picked - 1])
        numbers = levels[picked] + away * gap
        numbers.view(-1)[:2] = torch.tensor([-1.0, 1.0])
        cases.append({"numbers": numbers, "levels": levels})
    middles = torch.tensor([-0.75, -0.25, 0.125, 0.625])
    return [*cases, {"numbers": middles[torch.from_numpy(rng.permutation(4))], "levels": torch.tensor([-1.0, -0.5, 0.0, 0.25, 1.0])}]


def level_variant(borders: str = "middles", tie: str = "lower", dtype: torch.dtype = torch.uint8, answer: str = "codes"):
    "The codes with one thing done otherwise."

    def nearest(numbers: Tensor, levels: Tensor) -> Tensor:
        if borders == "even":
            codes = ((numbers + 1) / 2 * (len(levels) - 1)).round().long()
        elif borders == "above":
            codes = torch.bucketize(numbers, levels).clamp(max=len(levels) - 1)
        elif borders == "below":
            codes = torch.bucketize(numbers, levels, right=True).clamp(min=1) - 1
        elif borders == "signed":
            codes = (levels - numbers[..., None]).argmin(dim=-1)
        else:
            codes = torch.bucketize(numbers, (levels[1:] + levels[:-1]) / 2, right=tie == "upper")
        if answer == "levels":
            return levels[codes]
        return (codes.flatten() if answer == "flat" else codes).to(dtype)

    return nearest


def measured_codes(numbers: Tensor, levels: Tensor) -> Tensor:
    "The distance to every level."
    return (numbers.unsqueeze(-1) - levels).abs().argmin(dim=-1).to(torch.uint8)


def counted_codes(numbers: Tensor, levels: Tensor) -> Tensor:
    "One comparison for each middle."
    codes = torch.zeros_like(numbers, dtype=torch.uint8)
    for low, high in zip(levels[:-1], levels[1:], strict=True):
        codes += numbers > (low + high) / 2
    return codes


# 21.2: a weight that comes back wrong

def unpack_cases(rng: np.random.Generator) -> list[Case]:
    "Constants above and below their mean, no two blocks alike, no byte with equal halves."
    cases = []
    for num_blocks, block_size in ((2, 4), (3, 6), (5, 10)):
        high = rng.integers(0, 16, size=num_blocks * block_size // 2)
        low = (high + rng.integers(1, 16, size=high.shape)) % 16
        constants = rng.permutation(np.concatenate([[0, 254], rng.integers(0, 255, size=num_blocks)])[:num_blocks])
        cases.append({"packed": torch.from_numpy((high * 16 + low).astype(np.uint8)), "constant_codes": torch.from_numpy(constants.astype(np.uint8)),
                      "largest": float(rng.uniform(0.2, 0.5)), "mean": float(rng.uniform(0.8, 1.5)), "levels": normal_float_levels(), "block_size": block_size})
    return cases


def unpack_variant(halves: str = "high first", subtract: str = "signed", spread: str = "blocks", mean: str = "added"):
    "The unpacking with some things done otherwise."

    def unpack(packed: Tensor, constant_codes: Tensor, largest: float, mean_: float, levels: Tensor, block_size: int) -> Tensor:
        parts = [packed >> 4, packed & 15]
        codes = torch.stack(parts if halves == "high first" else parts[::-1], dim=1).flatten()
        if halves == "apart":
            codes = torch.cat(parts)
        signed = constant_codes - 127 if subtract == "wraps" else constant_codes.float() - (128 if subtract == "128" else 127)
        constants = signed / 127 * largest + (mean_ if mean == "added" else 0)
        if spread == "blocks":
            return levels[codes.long()] * constants.repeat_interleave(block_size)
        return levels[codes.long()] * constants.repeat(block_size)

    return lambda packed, constant_codes, largest, mean, levels, block_size: unpack(packed, constant_codes, largest, mean, levels, block_size)


def looped_unpack(packed: Tensor, constant_codes: Tensor, largest: float, mean: float, levels: Tensor, block_size: int) -> Tensor:
    "Number by number."
    numbers = []
    for place in range(2 * len(packed)):
        byte = int(packed[place // 2])
        constant = (int(constant_codes[place // block_size]) - 127) / 127 * largest + mean
        numbers.append(float(levels[byte // 16 if place % 2 == 0 else byte % 16]) * constant)
    return torch.tensor(numbers)


def tabled_unpack(packed: Tensor, constant_codes: Tensor, largest: float, mean: float, levels: Tensor, block_size: int) -> Tensor:
    "A table of what each byte stands for, and blocks as rows."
    pairs = torch.cartesian_prod(levels, levels)[packed.long()]
    constants = even_levels(8)[constant_codes.long()] * largest + mean
    return (pairs.view(-1, block_size) * constants[:, None]).flatten()


# 21.3: who suffers

def output_errors(weights: dict[str, Tensor], unpacked: dict[str, Tensor], inputs: dict[str, Tensor]) -> dict[str, float]:
    "How far the answers of each packed linear are off, as a share of their length."
    errors = {}
    for name, weight in weights.items():
        answers = inputs[name] @ weight.T
        errors[name] = float((inputs[name] @ unpacked[name].T - answers).norm() / answers.norm())
    return errors


def drawn_linears(rng: np.random.Generator) -> Case:
    "Loud and quiet ones; one with an outlier where nothing comes in, one whose small weights meet large inputs; names say nothing."
    names = [f"blocks.{number}.{kind}" for number, kind in zip(rng.permutation(9)[:4], rng.permutation(["qkv", "out", "up", "down"]), strict=True)]
    weights = [tensor(rng, int(rng.integers(8, 14)), 64) for _ in range(4)]
    inputs = [tensor(rng, int(rng.integers(5, 9)), 64) for _ in range(4)]
    weights[0][1, 2] = float(rng.uniform(5, 6))  # loud, and its largest entry stands out
    weights[0] *= float(rng.uniform(30, 40))
    weights[1] *= float(rng.uniform(0.02, 0.05))  # quiet; a few small weights meet inputs that are large
    weights[2][:, 0] = float(rng.uniform(120, 200))  # an outlier in each block, where next to nothing comes in
    inputs[2][:, 0] *= 0.0005
    for suffers, small, large in ((1, 0.4, rng.uniform(4, 5)), (3, 0.15, rng.uniform(12, 20))):
        weights[suffers][:, :8] *= small
        inputs[suffers][:, :8] *= float(large)
    order = rng.permutation(4)
    unpacked = [PackedWeight(weight, "nf4", 64).dequantize() for weight in weights]
    return {what: {names[i]: tensors[i] for i in order} for what, tensors in (("weights", weights), ("unpacked", unpacked), ("inputs", inputs))}


def spoiled_linears(rng: np.random.Generator) -> Case:
    "Answers that shrink, that grow and that are off alike; the loudest output alone far off; all inputs but a loud one answered with 0."
    names = [f"blocks.{number}.{kind}" for number, kind in zip(rng.permutation(9)[:5], rng.permutation(["qkv", "out", "up", "down", "head"]), strict=True)]
    weights, inputs = [tensor(rng, 16, 64) for _ in range(5)], [tensor(rng, 16, 64) for _ in range(5)]
    unpacked = [weight * float(rng.uniform(*share)) for weight, share in zip(weights, ((0.55, 0.6), (1.5, 1.56), (1, 1), (0.77, 0.8), (1, 1)), strict=True)]
    unpacked[2][int((inputs[2] @ weights[2].T).abs().amax(0).argmax())] *= -float(rng.uniform(0.1, 0.2))
    unpacked[4][:, 32:] = 0
    inputs[4][:-1, :32] = 0  # the loud one is the last
    inputs[4][-1] = 40 * torch.cat([inputs[4][-1, :32], torch.zeros(32)])
    order = rng.permutation(5)
    return {what: {names[i]: tensors[i] for i in order} for what, tensors in (("weights", weights), ("unpacked", unpacked), ("inputs", inputs))}


def suffering_cases(rng: np.random.Generator) -> list[Case]:
    "Three sets of four linears and one of five in which no two errors are close."
    cases = []
    while len(cases) < 4:
        case = drawn_linears(rng) if len(cases) < 3 else spoiled_linears(rng)
        errors = sorted(output_errors(**case).values())
        if min(high / low for low, high in zip(errors, errors[1:], strict=False)) > 1.05:
            cases.append(case)
    return cases


MEASURES = {
    "answers": lambda weight, again, inputs: ((inputs @ again.T - inputs @ weight.T).norm() / (inputs @ weight.T).norm()),
    "weights": lambda weight, again, inputs: (again - weight).norm() / weight.norm(),
    "absolute": lambda weight, again, inputs: (inputs @ again.T - inputs @ weight.T).norm(),
    "new": lambda weight, again, inputs: (inputs @ again.T - inputs @ weight.T).norm() / (inputs @ again.T).norm(),
    "sizes": lambda weight, again, inputs: (inputs @ again.T - inputs @ weight.T).abs().sum() / (inputs @ weight.T).abs().sum(),
    "one by one": lambda weight, again, inputs: ((inputs @ again.T - inputs @ weight.T).norm(dim=1) / (inputs @ weight.T).norm(dim=1)).mean(),
    "gain": lambda weight, again, inputs: (inputs @ again.T - inputs @ weight.T).norm() / inputs.norm(),
    "inputs": lambda weight, again, inputs: inputs.norm(),
    "largest": lambda weight, again, inputs: weight.abs().max() / weight.std(),
}


def suffering_variant(by: str = "answers", worst_first: bool = True):
    "The order by one of the measures."

    def who_suffers(weights: dict[str, Tensor], unpacked: dict[str, Tensor], inputs: dict[str, Tensor]) -> list[str]:
        found = {name: float(MEASURES[by](weight, unpacked[name], inputs[name])) for name, weight in weights.items()}
        return sorted(found, key=found.get, reverse=worst_first)

    return who_suffers


def squared_order(weights: dict[str, Tensor], unpacked: dict[str, Tensor], inputs: dict[str, Tensor]) -> list[str]:
    "By mean squares, through the difference of the weights."
    found = []
    for name, weight in weights.items():
        missed = inputs[name] @ (weight - unpacked[name]).T
        found.append((float(missed.square().mean() / (inputs[name] @ weight.T).square().mean()), name))
    return [name for _, name in sorted(found)[::-1]]


def reference_order(weights: dict[str, Tensor], unpacked: dict[str, Tensor], inputs: dict[str, Tensor]) -> list[str]:
    errors = output_errors(weights, unpacked, inputs)
    return sorted(errors, key=lambda name: -errors[name])


CHECKS = (
    Check(
        id="quantization.nearest_codes",
        name="nearest_codes",
        builds="models.quantization.nearest_codes",
        cases=level_cases,
        use=uses.codes,
        reference=measured_codes,
        right=(level_variant(), counted_codes),
        wrong=(
            Wrong(level_variant(borders="even"),
                  "You take the levels to lie at equal distances. Those of NF4 do not: look at `levels`."),
            Wrong(level_variant(borders="above"),
                  "You answer the next level above each number. The nearest one may be the one below."),
            Wrong(level_variant(borders="below"),
                  "You answer the next level below each number. The nearest one may be the one above."),
            Wrong(level_variant(tie="upper"),
                  "A number in the middle of two levels goes to the upper one; agreed was the lower."),
            Wrong(level_variant(borders="signed"),
                  "You take the least difference instead of the least distance: the lowest level wins always."),
            Wrong(level_variant(dtype=torch.int64),
                  "The codes are right, and eight bytes each: more than the weights had. Answer uint8."),
            Wrong(level_variant(dtype=torch.int8),
                  "int8 ends at 127, and there may be 256 levels: the upper codes come out negative. Answer uint8."),
            Wrong(level_variant(answer="levels"),
                  "You answer the levels themselves. Asked are their numbers, from 0."),
            Wrong(level_variant(answer="flat"),
                  "The codes have lost the shape of the numbers."),
        ),
    ),
    Check(
        id="quantization.unpack",
        name="mended_unpack",
        cases=unpack_cases,
        reference=looped_unpack,
        right=(unpack_variant(), tabled_unpack),
        tolerance=1e-5,
        wrong=(
            Wrong(unpack_variant(halves="low first", subtract="wraps", spread="by turns"),
                  "This is still the unpacking as you found it: all three faults are in."),
            Wrong(unpack_variant(halves="low first"),
                  "Each pair of neighbours has changed places: the first code of a byte is in its high four bits."),
            Wrong(unpack_variant(subtract="wraps"),
                  "Constants below the mean come out huge: a byte has no negative numbers, and 100 - 127 is 229 in it."),
            Wrong(unpack_variant(spread="by turns"),
                  "The constants go round by turns, one for each weight. A constant is for a block of neighbours."),
            Wrong(unpack_variant(subtract="wraps", spread="by turns"),
                  "The halves of the bytes are right now. The constants still wrap around below their mean, and still go round by turns."),
            Wrong(unpack_variant(halves="low first", spread="by turns"),
                  "The constants no longer wrap around. Neighbours still change places, and the constants still go round by turns."),
            Wrong(unpack_variant(halves="low first", subtract="wraps"),
                  "Each block has its constant now. Neighbours still change places, and the constants still wrap around below their mean."),
            Wrong(unpack_variant(subtract="128"),
                  "Every constant is a little too small: the code for the mean is 127, the one in the middle of 0 to 254."),
            Wrong(unpack_variant(mean="missing"),
                  "The constants lack their mean, which was taken away before they were packed."),
            Wrong(unpack_variant(halves="apart"),
                  "You put all first halves before all second ones. A byte holds two neighbours."),
        ),
    ),
    Check(
        id="quantization.who_suffers",
        name="who_suffers",
        cases=suffering_cases,
        reference=reference_order,
        right=(suffering_variant(), squared_order),
        wrong=(
            Wrong(suffering_variant("weights"),
                  "You compare the weights. What counts is what comes out: an error that meets large inputs hurts, one that meets none does not."),
            Wrong(suffering_variant("absolute"),
                  "You do not divide by the size of the answers: a loud linear then seems to suffer more than a quiet one."),
            Wrong(suffering_variant("gain"),
                  "You divide by the length of what comes in. A loud linear makes more of it, of its answers as of its errors: divide by the length of the old answers."),
            Wrong(suffering_variant("new"),
                  "You divide by the length of the new answers. They may have shrunk or grown, which is part of the error: the old ones are the measure."),
            Wrong(suffering_variant("sizes"),
                  "A few answers that are far off weigh too little with you: the length is the root of the sum of squares, over all answers of a linear at once."),
            Wrong(suffering_variant("one by one"),
                  "You take the share of each input by itself and then their mean, so that a quiet answer that is spoiled weighs as much as a loud one. "
                  "Take one length over all answers of a linear."),
            Wrong(suffering_variant("inputs"),
                  "You go by the size of what comes in. It hurts only where it meets weights that were rounded badly."),
            Wrong(suffering_variant("largest"),
                  "You go by the outlier alone. It matters only if something comes in where it is, and only to its own block."),
            Wrong(suffering_variant(worst_first=False),
                  "The order is the other way round: the one that suffers most comes first."),
        ),
    ),
)
