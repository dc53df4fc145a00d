"""Checks of the exercises on AdamW and schedules."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_08 as uses

# 8.1: a schedule

def schedule_cases(rng: np.random.Generator) -> list[Case]:
    "Whole curves and what comes after them, with and without warmup and floor; then settings that must be refused."
    cases = []
    for warmup, way_down, floor in ((rng.integers(3, 6), rng.integers(7, 10), 0.0), (0, rng.integers(4, 7), rng.uniform(0.1, 0.4)),
                                    (rng.integers(6, 8), rng.integers(11, 14), rng.uniform(0.1, 0.4))):
        total = warmup + way_down
        cases.append({"steps": list(range(total + 4)), "total_steps": int(total), "warmup_steps": int(warmup), "floor": float(floor)})
    total = int(rng.integers(8, 12))
    return [*cases, {"steps": [*range(total), total + 1, total + 3], "total_steps": total, "warmup_steps": total, "floor": 0.0},
            {"steps": [-1], "total_steps": total, "warmup_steps": 2, "floor": 0.0},
            {"steps": [3], "total_steps": total, "warmup_steps": total + 1, "floor": 0.0}]


def schedule_variant(first: int = 1, start: str = "peak", shape: str = "half", floor_by: str = "stretch", ends: bool = True,
                     warmup_floor: bool = False, shortest: int = 1):
    "The cosine schedule with one thing done otherwise."

    def schedule(step: int, total_steps: int, warmup_steps: int = 0, floor: float = 0.0) -> float:
        if step < 0 or not 0 <= warmup_steps <= total_steps or total_steps < 1 or not 0 <= floor <= 1:
            raise ValueError("no such schedule")
        if step < warmup_steps:
            factor = (step + first) / warmup_steps
            return floor + (1 - floor) * factor if warmup_floor else factor
        begun = warmup_steps if start == "peak" else 0
        progress = (step - begun) / max(shortest, total_steps - begun)
        progress = min(1.0, progress) if ends else progress
        angle = math.pi * progress
        factor = {"half": 0.5 * (1 + math.cos(angle)), "quarter": math.cos(angle / 2), "line": 1 - progress}[shape]
        return {"stretch": floor + (1 - floor) * factor, "cut": max(floor, factor), "none": factor}[floor_by]

    return schedule


def interpolated_schedule(step: int, total_steps: int, warmup_steps: int = 0, floor: float = 0.0) -> float:
    "Angles between the corners of the schedule, and the square of their cosine."
    if min(step, warmup_steps, total_steps - 1, total_steps - warmup_steps, floor, 1 - floor) < 0:
        raise ValueError("no such schedule")
    if step < warmup_steps:
        return float(np.interp(step, [-1, warmup_steps - 1], [0, 1]))
    quarter = np.interp(step, [warmup_steps, max(total_steps, warmup_steps + 1)], [0, np.pi / 2])
    return float(np.cos(quarter) ** 2 + floor * np.sin(quarter) ** 2)


def listed_schedule(step: int, total_steps: int, warmup_steps: int = 0, floor: float = 0.0) -> float:
    "All factors in a row, of which the step picks one."
    if step < 0 or warmup_steps > total_steps:
        raise ValueError("no such schedule")
    down = (1 + torch.cos(torch.linspace(0, torch.pi, total_steps - warmup_steps + 1, dtype=torch.float64))) / 2
    factors = [*(torch.arange(1, warmup_steps + 1) / max(1, warmup_steps)), *(floor + (1 - floor) * down)]
    return float(factors[step]) if step < total_steps else floor


def tensor_schedule(*place, **settings) -> Tensor:
    return torch.tensor(schedule_variant()(*place, **settings), dtype=torch.float64)


# 8.2: the jump of a weight that slept

def jump_cases(rng: np.random.Generator) -> list[Case]:
    "No sleep, a nap, a long sleep."
    return [{"learning_rate": float(rng.uniform(0.01, 0.3)), "betas": (float(rng.uniform(0.7, 0.93)), float(rng.uniform(0.95, 0.999))),
             "num_quiet": int(num_quiet)} for num_quiet in (0, rng.integers(2, 6), rng.integers(20, 40), rng.integers(150, 250))]


def jump_variant(corrected: str = "both", root: bool = True, late: int = 1, remembered: bool = False, mean_of: str = "gradient"):
    "The jump with one thing done otherwise."

    def jump(learning_rate: float, betas: tuple[float, float], num_quiet: int) -> float:
        beta1, beta2 = betas
        step = num_quiet + late
        mean, square = ((1 - beta) * (beta**num_quiet if remembered else 1) for beta in betas)
        mean /= 1 - beta1**step if corrected in ("both", "mean") else 1
        square /= 1 - beta2**step if corrected == "both" else 1
        return learning_rate * (mean if mean_of == "gradient" else 1.0) / (math.sqrt(square) if root else square)

    return jump


def simulated_jump(learning_rate: float, betas: tuple[float, float], num_quiet: int) -> float:
    "Torch makes all the updates."
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.Adam([weight], lr=learning_rate, betas=betas, eps=1e-60)
    for gradient in [0.0] * num_quiet + [1.0]:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
    return weight.abs().item()


def summed_jump(learning_rate: float, betas: tuple[float, float], num_quiet: int) -> float:
    "The corrections as sums: a mean with the weights β⁰, β¹, … of which only the last gradient counts."
    mean, square = (1 / sum(beta**age for age in range(num_quiet + 1)) for beta in betas)
    return learning_rate * mean * square**-0.5


# 8.3: AdamW

def adamw_cases(rng: np.random.Generator) -> list[Case]:
    "Groups with settings of their own; missing gradients and a change of optimizers half-way, in float64; a rate and a beta to refuse."
    settings = {"lr": float(rng.uniform(0.05, 0.1)), "betas": (float(rng.uniform(0.6, 0.95)), float(rng.uniform(0.97, 0.999))),
                "eps": float(rng.uniform(0.03, 0.1)), "weight_decay": float(rng.uniform(0.5, 0.9))}
    groups = [{"weights": [tensor(rng, 3, 4), tensor(rng, 2, 5)], "lr": float(rng.uniform(0.15, 0.3))},
              {"weights": [tensor(rng, 6)], "weight_decay": 0.0, "eps": 1e-8}]
    gradients = [[tensor(rng, 3, 4), tensor(rng, 2, 5), tensor(rng, 6)] for _ in range(4)]
    whole = {"groups": groups, "settings": settings, "gradients": gradients}
    gaps = [[tensor(rng, 4, 2, dtype=torch.float64), tensor(rng, 3, dtype=torch.float64)] for _ in range(5)]
    gaps[1][0] = gaps[3][0] = None
    resumed = {"groups": [{"weights": [tensor(rng, 4, 2, dtype=torch.float64), tensor(rng, 3, dtype=torch.float64)]}],
               "settings": settings, "gradients": gaps, "reload_before": 2}
    refused = [{"groups": [{"weights": [torch.ones(1)]}], "settings": bad, "gradients": []}
               for bad in ({"lr": -0.1}, {"betas": (0.9, 1.0)})]
    return [whole, resumed, *refused]


def adamw_variant(decay: str = "decoupled", corrected: bool = True, eps_at: str = "end", shares: str = "old", counted: str = "parameter",
                  settings_of: str = "group", memory: str = "state", skips: bool = True, moves: bool = True, tidy: bool = True):
    "AdamW with one thing done otherwise."

    class Variant(torch.optim.Optimizer):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
            if lr < 0 or not all(0 <= beta < 1 for beta in betas):
                raise ValueError("no such AdamW")
            super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))
            self.own, self.num_updates = {}, 0

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups[:1 if settings_of == "first group" else None]:
                for parameter in group["params"]:
                    if parameter.grad is not None or not skips:
                        self.update(parameter, self.defaults if settings_of == "optimizer" else group)

        def update(self, parameter, settings):
            lr, weight_decay, eps = (settings[name] for name in ("lr", "weight_decay", "eps"))
            (beta1, beta2) = settings["betas"]
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            if decay == "coupled":
                gradient = gradient + weight_decay * parameter
            state = self.own.setdefault(parameter, {}) if memory == "own" else self.state[id(parameter) if memory == "by id" else parameter]
            state["t"] = state.get("t", 0) + 1
            self.num_updates += 1
            t = {"parameter": state["t"], "optimizer": self.num_updates, "late": state["t"] - 1, "never": 1}[counted]
            kept1, kept2 = (beta1, beta2) if shares == "old" else (1 - beta1, 1 - beta2)
            if memory == "not written":
                state = {"t": state["t"]}
            state["m"] = kept1 * state.get("m", 0) + (1 - kept1) * gradient
            state["v"] = kept2 * state.get("v", 0) + (1 - kept2) * (gradient**2 if tidy else gradient.square_())
            if memory == "in float32":
                state.update(m=state["m"].float(), v=state["v"].float())
            first, second = (1 - beta1**t, 1 - beta2**t) if corrected else (1.0, 1.0)
            root = {"end": (state["v"] / second).sqrt() + eps, "inside": (state["v"] / second + eps).sqrt(),
                    "before": (state["v"].sqrt() + eps) / math.sqrt(second)}[eps_at]
            step = lr * state["m"] / first / root
            share = weight_decay * {"decoupled": lr, "late": lr, "whole": 1.0, "coupled": 0.0}[decay]
            if moves:
                parameter.copy_((parameter - step) * (1 - share) if decay == "late" else parameter * (1 - share) - step)

    return Variant


class RememberingAdamW(adamw_variant()):
    "Keeps every gradient, and takes the corrected means as what they are: means with the weights β⁰, β¹, …"

    def update(self, parameter, settings):
        seen = self.state[parameter].setdefault("gradients", [])
        seen.append(parameter.grad.clone())
        fades = [[beta**age for age in reversed(range(len(seen)))] for beta in settings["betas"]]
        mean, square = (sum(share * gradient**power for share, gradient in zip(fade, seen, strict=True)) / sum(fade)
                        for power, fade in enumerate(fades, start=1))
        parameter.mul_(1 - settings["lr"] * settings["weight_decay"]).sub_(settings["lr"] * mean / (square.sqrt() + settings["eps"]))


def fused_adamw(params, **settings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, fused=True, **settings)


# 8.4: an update

def update_cases(rng: np.random.Generator) -> list[Case]:
    "Parts of several numbers and sizes; gradients that are clipped, and in the last case gradients that are not."
    cases = []
    for outputs, inputs, num_parts, rows, max_grad_norm, dtype in ((2, 3, 4, 5, 0.5, torch.float32), (3, 2, 2, 4, 0.2, torch.float64),
                                                                   (1, 4, 3, 2, 50.0, torch.float32)):
        batches = [[(tensor(rng, rows, inputs, dtype=dtype), 3 + tensor(rng, rows, outputs, dtype=dtype)) for _ in range(num_parts)]
                   for _ in range(3)]
        cases.append({"weight": tensor(rng, outputs, inputs, dtype=dtype), "batches": batches, "max_grad_norm": max_grad_norm,
                      "learning_rate": float(rng.uniform(0.1, 0.2)), "loss_scale": float(2 ** rng.integers(8, 13))})
    return cases


def update_variant(averaged: str = "loss", moves: str = "last", unscaled: str = "before", cleared: str = "once"):
    "An update with some things done otherwise."

    def update(model, optimizer, schedule, parts, loss_scale, max_grad_norm):
        divisor = loss_scale * (1 if averaged in ("loss", "never") else len(parts))

        def divide() -> None:
            for parameter in model.parameters():
                parameter.grad /= divisor

        if cleared != "never":
            optimizer.zero_grad()
        for inputs, targets in parts:
            if cleared == "each part":
                optimizer.zero_grad()
            loss = F.mse_loss(model(inputs), targets)
            (loss * loss_scale / (len(parts) if averaged in ("loss", "twice") else 1)).backward()
            if unscaled == "each part":
                divide()
            if moves == "each part":
                schedule.step()
        if unscaled == "before":
            divide()
        grad_norm = nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm * (loss_scale if unscaled == "after, by a scaled limit" else 1))
        if unscaled.startswith("after"):
            divide()
        if moves == "first":
            schedule.step()
        optimizer.step()
        if moves == "last":
            schedule.step()
        return grad_norm

    return update


def whole_update(model, optimizer, schedule, parts, loss_scale, max_grad_norm) -> float:
    "No parts and no scale: the gradient of the whole batch by its formula, shortened by hand."
    inputs, targets = (torch.cat(side) for side in zip(*parts, strict=True))
    errors = inputs @ model.weight.detach().T - targets
    gradient = 2 * errors.T @ inputs / errors.numel()
    length = gradient.norm().item()
    model.weight.grad = gradient * min(1.0, max_grad_norm / length)
    optimizer.step()
    schedule.step()
    return length


def autograd_update(model, optimizer, schedule, parts, loss_scale, max_grad_norm) -> Tensor:
    "Gradients asked for part by part, and put in place when they are what they should be."
    parameters = list(model.parameters())
    found = [torch.autograd.grad(loss_scale * F.mse_loss(model(inputs), targets), parameters) for inputs, targets in parts]
    for parameter, gradients in zip(parameters, zip(*found, strict=True), strict=True):
        parameter.grad = torch.stack(gradients).mean(0) / loss_scale
    length = torch.cat([parameter.grad.flatten() for parameter in parameters]).norm()
    if length > max_grad_norm:
        for parameter in parameters:
            parameter.grad *= max_grad_norm / length
    optimizer.step()
    schedule.step()
    return length


# 8.5: Adam with a factored memory

def diet_cases(rng: np.random.Generator) -> list[Case]:
    "Wide and tall, two dtypes, one call and several; a row without gradient."
    cases = []
    for rows, columns, calls, dtype in ((3, 5, 1, torch.float32), (7, 4, 4, torch.float64), (2, 6, 3, torch.float32)):
        gradients = [tensor(rng, rows, columns, dtype=dtype) for _ in range(calls)]
        if dtype == torch.float64:
            for gradient in gradients:
                gradient[1] = 0
        cases.append({"position": tensor(rng, rows, columns, dtype=dtype), "gradients": gradients, "beta2": float(rng.uniform(0.8, 0.99)),
                      "learning_rate": float(rng.uniform(0.1, 0.4)), "eps": float(rng.uniform(0.01, 0.05))})
    return cases


def diet_variant(divided_by: str = "sum", corrected: int = 1, kept: str = "sums", root: bool = True, memory_used: bool = True,
                 eps_at: str = "end"):
    "The factored rule with one thing done otherwise."

    def rule(position, gradient, memory, learning_rate, beta2=0.999, eps=1e-8):
        memory["t"] = memory.get("t", 0) + 1

        def running(name: str, new: Tensor) -> Tensor:
            if not memory_used:
                return new * (1 - beta2 ** memory["t"])
            memory[name] = beta2 * memory.get(name, 0) + (1 - beta2) * new
            return memory[name]

        if kept == "everything":
            square = running("v", gradient**2)
        else:
            fold = {"sums": lambda axis: (gradient**2).sum(axis), "means": lambda axis: (gradient**2).mean(axis),
                    "sums first": lambda axis: gradient.sum(axis) ** 2}[kept]
            rows, columns = running("rows", fold(1)), running("columns", fold(0))
            square = rows[:, None] * columns / {"sum": rows.sum(), "mean": rows.mean(), "nothing": 1.0}[divided_by]
        square = square / (1 - beta2 ** memory["t"]) ** corrected
        if not root:
            return position - learning_rate * gradient / (square + eps)
        return position - learning_rate * gradient / (square.sqrt() + eps if eps_at == "end" else (square + eps).sqrt())

    return rule


def folded_rule(position, gradient, memory, learning_rate, beta2=0.999, eps=1e-8):
    "The full mean square, made of all gradients, then the product of its margins: the size of its memory is what is wrong with it."
    gradients = memory.setdefault("hidden", History()).all
    gradients.append(gradient.double() ** 2)
    shares = [beta2**age for age in reversed(range(len(gradients)))]
    full = sum(share * square for share, square in zip(shares, gradients, strict=True)) / sum(shares)
    guess = torch.einsum("ik,lj->ij", full, full) / full.sum()
    return (position.double() - learning_rate * gradient.double() / (guess.sqrt() + eps)).to(position.dtype)


class History:
    "A list that does not count as memory, since the reference may remember what it likes."

    def __init__(self):
        self.all = []


def shares_rule(position, gradient, memory, learning_rate, beta2=0.999, eps=1e-8):
    "One vector: a count of rows' sums, then columns' sums; the guess is a row's sum times each column's share, corrected from the start."
    num_rows, squared, t = len(gradient), gradient.square(), memory.get("t", 0) + 1
    fresh = torch.cat([squared.sum(dim=1), squared.sum(dim=0)])
    weight = (1 - beta2) / (1 - beta2**t)  # of the newest in a mean that is right from the start
    memory.update(t=t, sums=fresh if t == 1 else memory["sums"].lerp(fresh, weight))
    rows, columns = memory["sums"][:num_rows], memory["sums"][num_rows:]
    return position - learning_rate * gradient / (torch.einsum("i,j->ij", rows, columns / columns.sum()) ** 0.5 + eps)


CHECKS = (
    Check(
        id="optim.cosine_schedule",
        name="cosine_schedule",
        builds="training.optim.cosine_schedule",
        cases=schedule_cases,
        use=uses.curve,
        reference=interpolated_schedule,
        right=(schedule_variant(), listed_schedule),
        wrong=(
            Wrong(schedule_variant(first=0),
                  "Your warmup begins at 0, so the first update moves nothing and the last one of warmup is still below the peak: you "
                  "are one step behind."),
            Wrong(schedule_variant(start="zero"),
                  "Your cosine has been running since step 0, so that the rate drops when warmup ends. The way down begins, at 1, "
                  "where warmup stops."),
            Wrong(schedule_variant(floor_by="cut"),
                  "You cut the curve off at the floor, so its last part is flat and the middle is too low. The whole cosine is to be "
                  "squeezed into the range from 1 to the floor."),
            Wrong(schedule_variant(floor_by="none"),
                  "The floor is not used: the rate falls to 0, and the end of the training learns nothing."),
            Wrong(schedule_variant(warmup_floor=True),
                  "The floor lifts your warmup as well. It belongs to the way down alone; warmup goes up from 0 in equal steps."),
            Wrong(schedule_variant(ends=False),
                  "After the last step your rate climbs again, as a cosine does: whoever trains a little longer than planned starts "
                  "another hill."),
            Wrong(schedule_variant(shortest=0),
                  "Where warmup takes all steps, the way down has none, and you divide by that 0: whoever trains a little longer than planned "
                  "gets a ZeroDivisionError."),
            Wrong(schedule_variant(shape="quarter"),
                  "This is a quarter of a cosine, which stays high and then falls off a cliff. Half of one, from 1 to −1, is gentle "
                  "at both ends."),
            Wrong(schedule_variant(shape="line"),
                  "The way down is a straight line; that is the other schedule of the lesson."),
            Wrong(tensor_schedule,
                  "The factors are right, and they are tensors. A run writes its rates down as JSON, which knows plain numbers only: "
                  "answer a float."),
        ),
    ),
    Check(
        id="optim.longest_jump",
        name="longest_jump",
        cases=jump_cases,
        reference=simulated_jump,
        right=(jump_variant(), summed_jump),
        wrong=(
            Wrong(lambda learning_rate, betas, num_quiet: learning_rate,
                  "One learning rate is right for the very first update, when both memories hold this one gradient. After a sleep "
                  "they hold zeros as well, and not equally many: look again."),
            Wrong(jump_variant(corrected="none"),
                  "This is the limit after an endless sleep. The bias correction is missing: after few updates both means are divided "
                  "by less than one."),
            Wrong(jump_variant(root=False),
                  "The mean square has the unit of a square: without its root the jump would depend on how large the gradient is."),
            Wrong(jump_variant(late=0),
                  "Your corrections are one update late: the update that jumps counts as well, so without quiet updates t is 1 and "
                  "not 0."),
            Wrong(jump_variant(corrected="mean"),
                  "The mean is corrected and the mean square is not: it starts at 0 just as the mean does, and forgets that more "
                  "slowly."),
            Wrong(jump_variant(mean_of="sign"),
                  "You divide the whole gradient by the root of its mean square. Adam divides the *mean* of the gradients, and the "
                  "zeros are in it."),
            Wrong(jump_variant(remembered=True),
                  "You let the newest gradient fade by the quiet updates. They came before it: what fades is what is older, and that "
                  "is 0."),
        ),
    ),
    Check(
        id="optim.adamw",
        name="AdamW",
        builds="training.optim.AdamW",
        cases=adamw_cases,
        use=uses.optimizer_walk,
        reference=torch.optim.AdamW,
        right=(adamw_variant(), RememberingAdamW, fused_adamw),
        tolerance=1e-4,  # a count kept in a float32 tensor costs 1 − β₂ᵗ a few digits
        wrong=(
            Wrong(adamw_variant(decay="coupled"),
                  "Your decay goes through the gradient and is then divided by its usual size: weights with loud gradients hardly "
                  "decay. That is Adam with L2; AdamW keeps decay and gradient apart."),
            Wrong(adamw_variant(corrected=False),
                  "The bias correction is missing: both memories start at 0 and are too small at first, the square more than the "
                  "mean, so the early steps are several times too long."),
            Wrong(adamw_variant(eps_at="inside"),
                  "eps is inside the root: √(v + eps) of a tiny v is √eps, ten thousand times what was meant at 1e-8. It belongs "
                  "outside."),
            Wrong(adamw_variant(eps_at="before"),
                  "eps is added before the square is corrected, so that the correction makes it larger in early steps. It joins the "
                  "root of the *corrected* square."),
            Wrong(adamw_variant(decay="whole"),
                  "Your decay forgets the learning rate: it takes the whole share at every update, also when the schedule has brought "
                  "the rate to nearly nothing."),
            Wrong(adamw_variant(decay="late"),
                  "The decay comes after the step and shrinks this step as well. Both start from the weight as it was before the "
                  "update."),
            Wrong(adamw_variant(shares="new"),
                  "The shares are swapped: beta is what the memory keeps, 1 − beta what the new gradient adds. Yours forgets almost "
                  "everything at each update."),
            Wrong(adamw_variant(counted="optimizer"),
                  "One count serves all parameters and is raised for each of them, so that t runs ahead and the correction ends too "
                  "early. Every parameter counts its own updates."),
            Wrong(adamw_variant(counted="late"),
                  "You use the count before you raise it: at the first update both corrections are 0, and what is divided by them is no "
                  "number any more."),
            Wrong(adamw_variant(moves=False),
                  "The weights do not move. A new tensor under the name `parameter` is yours alone: the one that the model holds has to be "
                  "changed in place."),
            Wrong(adamw_variant(settings_of="optimizer"),
                  "The settings of the groups are not used: you read the defaults. A schedule writes the rate into the group, and "
                  "parameter_groups its decay: yours would see neither."),
            *(Wrong(adamw_variant(memory=memory),
                    "Your memory is not in self.state[parameter], where state_dict() and load_state_dict() look for it (id(parameter) is another "
                    "number in the next process): a resumed run starts again with empty means, and nobody is told.") for memory in ("own", "by id")),
            Wrong(adamw_variant(memory="in float32"),
                  "m and v are float32 whatever the parameter is: torch.zeros of a shape knows no dtype. They have the parameter's."),
            Wrong(adamw_variant(memory="not written"),
                  "Both means start at 0 again at every update: what you work out is never written back, so nothing is remembered."),
            Wrong(adamw_variant(counted="never"),
                  "t stays at 1: the correction of the first update is made at every update, and the means grow far too large."),
            Wrong(adamw_variant(settings_of="first group"),
                  "Only the first group of the parameters moves: most models have two, matrices that decay and vectors that do not."),
            Wrong(adamw_variant(tidy=False),
                  "The gradients are changed in place: whoever logs their length after the step, or adds up more of them, finds something "
                  "else. Work on a copy."),
            Wrong(adamw_variant(skips=False),
                  "A parameter without a gradient is changed: no gradient is not a gradient of 0. It keeps its weight, its memory and "
                  "its count."),
        ),
    ),
    Check(
        id="optim.update",
        name="mended_update",
        cases=update_cases,
        use=uses.updates,
        reference=whole_update,
        right=(update_variant(), update_variant(averaged="gradient"), autograd_update),
        tolerance=1e-4,  # clip_grad_norm_ adds 1e-6 to the length before it divides
        wrong=(
            Wrong(update_variant(averaged="twice", moves="each part", unscaled="after"),
                  "This is still the update as you found it: all three faults are in."),
            Wrong(update_variant(unscaled="after"),
                  "You clip before you unscale: the length is hundreds of times too large, so every gradient is cut to the limit, and "
                  "the unscaling then leaves next to nothing."),
            Wrong(update_variant(averaged="twice"),
                  "The gradients are averaged twice: once in the loss, once again with the scale. With more micro-batches your "
                  "updates become shorter, though the batch is the same."),
            Wrong(update_variant(moves="each part"),
                  "The schedule moves once a micro-batch: the training runs out of learning rate before it is half through."),
            Wrong(update_variant(averaged="twice", moves="each part"),
                  "The order of unscaling and clipping is right now. The gradients are still averaged twice, and the schedule still "
                  "moves with every micro-batch."),
            Wrong(update_variant(averaged="twice", unscaled="after"),
                  "The schedule is right now. The clipping still sees scaled gradients, and they are still averaged twice."),
            Wrong(update_variant(moves="each part", unscaled="after"),
                  "The average is right now. The clipping still sees scaled gradients, and the schedule still moves with every micro- "
                  "batch."),
            Wrong(update_variant(averaged="never"),
                  "The gradients add up over the micro-batches and nobody divides: the loss is a sum of means, so more parts make "
                  "longer gradients."),
            Wrong(update_variant(unscaled="each part"),
                  "You unscale with every micro-batch: what is in .grad already is divided again each time, and the last part alone counts. Unscale "
                  "once, when all parts are in."),
            Wrong(update_variant(unscaled="after, by a scaled limit"),
                  "You clip scaled gradients by a scaled limit, and the weights are right; the length that you tell is still scaled."),
            Wrong(update_variant(unscaled="never"),
                  "The gradients are never unscaled. Clipping hides it at first; what it tells you is not the length of the gradient."),
            Wrong(update_variant(moves="first"),
                  "The schedule moves before the optimizer does, so the very first rate is never used and all others come one update "
                  "early."),
            Wrong(update_variant(cleared="each part"),
                  "The gradients are cleared with every micro-batch: only the last one counts, and the rest of the batch was read for "
                  "nothing."),
            Wrong(update_variant(cleared="never"),
                  "The gradients of the last update are still there and are added to: clear them once an update."),
        ),
    ),
    Check(
        id="optim.factored_adam",
        name="factored_adam",
        cases=diet_cases,
        use=uses.rule_walk,
        reference=folded_rule,
        right=(diet_variant(), diet_variant(kept="means", divided_by="mean"), shares_rule),
        tolerance=1e-4,  # as for AdamW
        wrong=(
            Wrong(diet_variant(divided_by="nothing"),
                  "The product of a row sum and a column sum is not divided by the sum of all: it has the unit of a fourth power of "
                  "the gradient, and the step depends on the gradient's size."),
            Wrong(diet_variant(divided_by="mean"),
                  "You divide the product of *sums* by a *mean*. Either all three are sums, or all three are means."),
            Wrong(diet_variant(kept="means", divided_by="sum"),
                  "You keep means and divide by a sum. Either all three are sums, or all three are means."),
            Wrong(diet_variant(corrected=0),
                  "The bias correction is missing: row and column sums start at 0, so the first guesses are far too small and the "
                  "steps far too long."),
            Wrong(diet_variant(corrected=2),
                  "The bias is corrected twice. Row sums, column sums and their total are all too small by the same factor, and in R "
                  "· C / ΣR two of the three cancel."),
            Wrong(diet_variant(kept="everything"),
                  "This is Adam with its whole mean square in memory: right to the last entry, and exactly what was to be saved."),
            Wrong(diet_variant(kept="sums first"),
                  "You square the sums, and a row with gradients of both signs looks quiet. First square, then sum."),
            Wrong(diet_variant(memory_used=False),
                  "Only the newest gradient counts: the row and column sums are to run, with the share beta2 of the old ones."),
            Wrong(diet_variant(root=False),
                  "You divide by the mean square itself: without the root the step shrinks as the gradient grows."),
            Wrong(diet_variant(eps_at="inside"),
                  "eps is inside the root, where a small number becomes a much larger one. It is added to the root."),
        ),
    ),
)
