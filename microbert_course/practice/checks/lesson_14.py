"""Checks of the exercises on data parallel training."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_14 as uses

# 14.1: buckets

def bucket_cases(rng: np.random.Generator) -> list[Case]:
    "An exact fit, giants, the last parameter among them, frozen ones, two dtypes in turns, two devices in turns (meta stands in); a size to refuse."
    def case(sizes, bucket_bytes, dtypes=None, devices=None, frozen=()):
        sizes = [int(size) for size in sizes]
        return {"sizes": sizes, "dtypes": list(dtypes or ["float32"] * len(sizes)), "devices": list(devices or ["cpu"] * len(sizes)), "bucket_bytes": int(bucket_bytes),
                "trained": [place not in frozen for place in range(len(sizes))]}

    unit = int(rng.integers(3, 9))
    exact = [2 * unit, 3 * unit, unit, 4 * unit]  # two buckets of exactly five units
    giant = [unit, 2 * unit, 40 * unit, unit, unit, 30 * unit]
    mixed, many = rng.integers(5, 12, size=9), int(rng.integers(11, 18))
    frozen = rng.choice(many, size=3, replace=False)
    kinds = ["float32", "float16"] * 4 + ["float32"]
    return [case(exact, 20 * unit), case(giant, 20 * unit), case(rng.integers(5, 15, size=many), 160, frozen=frozen),
            case(mixed, 70, kinds), case(mixed, 70, devices=["cpu", "meta"] * 4 + ["cpu"]), case([unit], 10**6), case([unit, unit], 0)]


def bucket_variant(order: str = "backward", unit: str = "nbytes", frozen: bool = False, kinds: str = "beside", fits: str = "at most",
                   asks: str = "before", rest: bool = True, empty: bool = True):
    "Buckets with one thing done otherwise."

    def buckets(parameters, bucket_bytes=25 * 2**20):
        if bucket_bytes < 1:
            raise ValueError("no bucket")
        if order == "reversed":
            parameters = reversed(parameters)
        found = [p for p in parameters if p.requires_grad or frozen]
        closed, filling, last_kind = [], {}, None
        for p in found[::-1] if order == "backward" else found:
            kind = {"mixed": None, "of a dtype": p.dtype}.get(kinds, (p.dtype, p.device))
            if kinds == "runs" and kind != last_kind and last_kind is not None:
                closed.append(filling.pop(last_kind))
            last_kind = kind
            bucket = filling.setdefault(kind, [])
            size = sum(p.nbytes if unit == "nbytes" else p.numel() for p in bucket)
            new = (p.nbytes if unit == "nbytes" else p.numel()) if asks == "before" else 0
            is_full = size + new >= bucket_bytes if fits == "less" or asks == "after" else size + new > bucket_bytes
            if is_full and (bucket or not empty):
                closed.append(bucket)
                bucket = filling[kind] = []
            bucket.append(p)
        return closed + (list(filling.values()) if rest else [])

    return buckets


def numbered_buckets(parameters, bucket_bytes=25 * 2**20) -> list[list[nn.Parameter]]:
    "Give each parameter the number of its bucket first; collect them afterwards."
    if bucket_bytes < 1:
        raise ValueError("no bucket")
    found = [p for p in parameters if p.requires_grad][::-1]
    room, number_of, members, closed = {}, {}, [], []
    for p in found:
        kind = (p.dtype, p.device)
        if kind not in number_of or (p.nbytes > room[kind]):
            if kind in number_of:
                closed.append(number_of[kind])
            number_of[kind], room[kind] = len(members), bucket_bytes
            members.append([])
        members[number_of[kind]].append(p)
        room[kind] -= p.nbytes
    kinds = list(dict.fromkeys((p.dtype, p.device) for p in found))
    return [members[number] for number in closed] + [members[number_of[kind]] for kind in kinds]


# 14.2: the ring

def ring_cases(rng: np.random.Generator) -> list[Case]:
    "Lengths that divide and that do not, fewer numbers than processes, one process, whole numbers."
    def case(world_size, length, draw=lambda length: tensor(rng, int(length))):
        return {"held": [draw(length) for _ in range(world_size)]}

    return [case(3, 3 * rng.integers(2, 4)), case(4, 4 * rng.integers(2, 4) + 3), case(2, 2 * rng.integers(2, 5)), case(5, 3), case(1, 4),
            case(4, 5, lambda length: torch.from_numpy(rng.integers(-50, 50, size=length)))]


def ring_variant(cut: str = "all", first_lap: int = -1, second_start: int = 1, second_lap: int = -1, second: str = "copy", counts: str = "both",
                 copies: bool = True):
    "The ring with one thing done otherwise."

    def ring(held):
        world_size, held = len(held), [one.clone() for one in held] if copies else held
        length = len(held[0]) // world_size
        whole = [one[i * length:(i + 1) * length] for one in held for i in range(world_size)]
        chunks = [one.tensor_split(world_size) if cut == "all" else whole[rank * world_size:(rank + 1) * world_size] for rank, one in enumerate(held)]
        sent = [0] * world_size
        for lap, num_steps, start in ((1, world_size + first_lap, 0), (2, world_size + second_lap, second_start)):
            for step in range(num_steps):
                for rank in range(world_size):
                    i, right = (rank + start - step) % world_size, (rank + 1) % world_size
                    if lap == 1 or second == "add":
                        chunks[right][i].add_(chunks[rank][i])
                    else:
                        chunks[right][i].copy_(chunks[rank][i])
                    sent[rank] += len(chunks[rank][i]) if lap == 1 or counts == "both" else 0
        return held, sent

    return ring


def formula_ring(held: list[Tensor]) -> tuple[list[Tensor], list[int]]:
    "The sum, and by counting: everything twice but the chunk to the right of one's own and the one after it."
    world_size, whole = len(held), torch.stack(held).sum(0)
    lengths = [len(chunk) for chunk in whole.tensor_split(world_size)]
    sent = [2 * len(whole) - lengths[(rank + 1) % world_size] - lengths[(rank + 2) % world_size] for rank in range(world_size)]
    return [whole.clone() for _ in held], sent


def array_ring(held: list[Tensor]) -> tuple[list[Tensor], list[int]]:
    "In NumPy, chunk by chunk all the way round."
    world_size, arrays = len(held), [one.numpy().copy() for one in held]
    bounds = np.cumsum([0, *(len(chunk) for chunk in np.array_split(arrays[0], world_size))])
    sent = np.zeros(world_size, dtype=int)
    for i in range(world_size):
        place = slice(bounds[i], bounds[i + 1])
        for step in range(1, world_size):
            arrays[(i + step) % world_size][place] += arrays[(i + step - 1) % world_size][place]
            sent[(i + step - 1) % world_size] += bounds[i + 1] - bounds[i]
        for step in range(world_size, 2 * world_size - 1):
            arrays[(i + step) % world_size][place] = arrays[(i + step - 1) % world_size][place]
            sent[(i + step - 1) % world_size] += bounds[i + 1] - bounds[i]
    return [torch.from_numpy(array) for array in arrays], sent.tolist()


def one_door(held: list[Tensor]) -> tuple[list[Tensor], list[int]]:
    "Everything to process 0 and back."
    whole = torch.stack(held).sum(0)
    return [whole.clone() for _ in held], [len(whole) * (len(held) - 1), *[len(whole)] * (len(held) - 1)]


# 14.3: the mean of means

def mean_cases(rng: np.random.Generator) -> list[Case]:
    "Unequal counts, a micro-batch without a question, one process, one micro-batch each, all counts equal."
    def case(counts, features, classes):  # counts[rank][part] = (rows, questions)
        parts = []
        for mine in counts:
            parts.append([])
            for rows, questions in mine:
                targets = torch.full((rows,), -100)
                targets[:questions] = torch.from_numpy(rng.integers(0, classes, size=questions))
                parts[-1].append((tensor(rng, rows, features, dtype=torch.float64), targets[torch.from_numpy(rng.permutation(rows))]))
        return {"weight": tensor(rng, classes, features, dtype=torch.float64), "bias": tensor(rng, classes, dtype=torch.float64), "parts": parts}

    few, many = int(rng.integers(1, 3)), int(rng.integers(5, 8))
    return [case([[(9, few), (8, many)], [(9, 8), (8, 3)], [(9, 4), (8, 6)]], 3, 4), case([[(7, few)], [(7, many)]], 4, 5),
            case([[(6, 2), (5, 0), (6, 5)], [(6, 4), (5, 3), (6, 1)]], 3, 5), case([[(8, few), (9, many)]], 2, 3), case([[(5, 3)], [(5, 3)]], 2, 4)]


def mean_variant(divides: str = "all", undoes: bool = True, counted: str = "questions", reported: str = "mean", parts_too: bool = False):
    "Loss and gradients with one thing done otherwise."

    def count(targets: Tensor) -> int:
        return int((targets != -100).sum()) if counted == "questions" else len(targets)

    def gradients(model, parts):
        whole = sum(count(targets) for mine in parts for _, targets in mine)
        found, losses, total = [], [], 0.0
        for mine in parts:
            model.zero_grad()
            own = sum(count(targets) for _, targets in mine)
            means = []
            for inputs, targets in mine:
                nats = F.cross_entropy(model(inputs), targets, ignore_index=-100, reduction="sum")
                mean = F.cross_entropy(model(inputs), targets, ignore_index=-100)
                loss = {"all": nats / whole * (len(parts) if undoes else 1), "own": nats / max(1, own), "part": mean}[divides]
                (loss / len(mine) if parts_too else loss).backward()
                means.append(mean.item())
                total += nats.item()
            losses.append(sum(means) / len(means))
            found.append([parameter.grad.clone() for parameter in model.parameters()])
        loss = total / whole if reported == "mean" else sum(losses) / len(losses)
        return loss, [torch.stack(each).mean(0) for each in zip(*found, strict=True)]

    return gradients


def joined_gradients(model, parts):
    "All questions in one batch."
    inputs, targets = (torch.cat(column) for column in zip(*(pair for mine in parts for pair in mine), strict=True))
    asked = targets != -100
    loss = F.nll_loss(model(inputs[asked]).log_softmax(-1), targets[asked])
    return loss.item(), list(torch.autograd.grad(loss, list(model.parameters())))


def weighted_gradients(model, parts):
    "The mean of each micro-batch that asks something, weighted by its share of the questions."
    counts = [[int((targets >= 0).sum()) for _, targets in mine] for mine in parts]
    whole, loss = sum(map(sum, counts)), 0.0
    found = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for mine, numbers in zip(parts, counts, strict=True):
        for (inputs, targets), number in zip(mine, numbers, strict=True):
            if number:
                mean = F.cross_entropy(model(inputs), targets, ignore_index=-100) * number / whole
                loss += mean.item()
                for kept, gradient in zip(found, torch.autograd.grad(mean, list(model.parameters())), strict=True):
                    kept += gradient
    return loss, found


CHECKS = (
    Check(
        id="distributed.buckets",
        name="buckets",
        builds="training.distributed.buckets",
        cases=bucket_cases,
        use=uses.packed,
        reference=numbered_buckets,
        right=(bucket_variant(), numbered_buckets),
        wrong=(
            Wrong(bucket_variant(order="forward"),
                  "You go through the parameters forwards. The last ones have their gradients first: with your buckets the first message has to "
                  "wait for the whole backward pass."),
            Wrong(bucket_variant(unit="numel"),
                  "You count numbers, and bucket_bytes counts bytes: a float32 has four of them, a float16 two."),
            Wrong(bucket_variant(frozen=True),
                  "Parameters that are not trained are in your buckets. They never get a gradient, so their bucket would never leave, and the "
                  "other processes would wait."),
            Wrong(bucket_variant(order="reversed"),
                  "The parameters come one by one, as model.parameters() gives them out, and what comes so cannot be turned round: make a list of them first."),
            Wrong(bucket_variant(kinds="of a dtype"),
                  "Your buckets mix devices. A bucket is flattened into one tensor, and that stands on one device."),
            Wrong(bucket_variant(kinds="mixed"),
                  "Your buckets mix dtypes. A bucket is flattened into one tensor, and that has one dtype."),
            Wrong(bucket_variant(kinds="runs"),
                  "You close a bucket whenever the dtype changes. In a model where they take turns every parameter would travel alone: keep one "
                  "bucket open for each kind."),
            Wrong(bucket_variant(fits="less"),
                  "A parameter that fills the bucket exactly still fits: at most bucket_bytes, not less."),
            Wrong(bucket_variant(asks="after"),
                  "You ask whether the bucket is full after the parameter is in it, so buckets become larger than bucket_bytes. Ask before."),
            Wrong(bucket_variant(rest=False),
                  "The buckets that were still being filled at the end are missing, and with them the parameters of the first layers."),
            Wrong(bucket_variant(empty=False),
                  "There is an empty bucket before a parameter that is too large for any: close only what holds something."),
        ),
    ),
    Check(
        id="distributed.ring",
        name="mended_ring",
        cases=ring_cases,
        use=uses.ring,
        reference=formula_ring,
        right=(ring_variant(), array_ring),
        wrong=(
            Wrong(ring_variant(cut="whole", first_lap=0, second_start=0),
                  "This is still the ring as you found it: all three faults are in."),
            Wrong(ring_variant(cut="whole"),
                  "The laps are right now. Numbers after the last whole chunk still stay at home: lengths do not always divide by the number of "
                  "processes."),
            Wrong(ring_variant(first_lap=0),
                  "The first lap still has a step too many: each chunk comes back to where it began and is added up a second time."),
            Wrong(ring_variant(second_start=0),
                  "The second lap still begins with the chunk of the own number, which is not finished. Which one has a process finished after the "
                  "first lap?"),
            Wrong(ring_variant(cut="whole", first_lap=0),
                  "The second lap begins rightly now. Its first lap still has a step too many, and numbers after the last whole chunk stay at home."),
            Wrong(ring_variant(cut="whole", second_start=0),
                  "The first lap is right now. The second still begins with a chunk that is not finished, and numbers after the last whole chunk stay "
                  "at home."),
            Wrong(ring_variant(first_lap=0, second_start=0),
                  "No number stays at home now. The first lap still has a step too many, and the second begins with a chunk that is not finished."),
            Wrong(ring_variant(second="add"),
                  "In the second lap finished chunks replace what is there. Yours are added to it, and parts of the sum count twice."),
            Wrong(ring_variant(second_lap=0),
                  "The sums are right, and the second lap has a step too many: finished chunks come back to who finished them, for nothing."),
            Wrong(ring_variant(counts="first"),
                  "The sums are right. What is sent in the second lap counts as well."),
            Wrong(one_door,
                  "The sums are right, and all of them went through process 0: it sends more the more processes there are. In a ring each sends "
                  "less than twice its numbers."),
            Wrong(ring_variant(copies=False),
                  "The sums are right, and the inputs are changed in place: the callers still need theirs, so work on copies."),
        ),
    ),
    Check(
        id="distributed.mean",
        name="mended_gradients",
        cases=mean_cases,
        use=uses.gradients,
        reference=joined_gradients,
        right=(mean_variant(), weighted_gradients),
        tolerance=1e-9,
        wrong=(
            Wrong(mean_variant(divides="part", reported="means"),
                  "This is still the function as you found it: means of means, and the micro-batches of a process are added up without a "
                  "division. Where a micro-batch asks nothing, its mean is no number."),
            Wrong(mean_variant(divides="part", reported="means", parts_too=True),
                  "You divide by the number of micro-batches now, and it is still a mean of means: a question in a small crowd counts more than "
                  "one in a large one, and a micro-batch without a question has no mean."),
            Wrong(mean_variant(divides="own"),
                  "Each process now has the mean over its own questions, and then the processes are averaged as if all had asked equally many."),
            Wrong(mean_variant(undoes=False),
                  "The gradients are too small by the number of processes: the line marked \"data parallel\" divides by it, and you have divided "
                  "by all questions already."),
            Wrong(mean_variant(counted="rows"),
                  "You divide by the number of rows. Those with a target of −100 ask nothing and do not count."),
            Wrong(mean_variant(reported="means"),
                  "The gradients are right. The loss that you return is still a mean of means."),
            Wrong(mean_variant(divides="part"),
                  "The loss is right. The gradients are still those of the means of the micro-batches."),
            Wrong(mean_variant(parts_too=True),
                  "You divide by all questions and once more by the number of micro-batches: the former has already taken care of them."),
        ),
    ),
)
