"How optimizers walk, how a learning rate rises and falls, and how a loss scale finds its height."

import math
from collections.abc import Callable
from functools import lru_cache

import torch

from microbert_course.training.optim import AdamW, cosine_schedule, linear_schedule
from microbert_course.training.precision import LossScaler
from microbert_course.visual.palette import COLOURS, GREY, INK, new_figure, titled

SURFACES: dict[str, tuple[Callable, tuple[float, float], str]] = {
    "long valley": (lambda x, y: 0.05 * x**2 + 4 * y**2, (-3.2, 1.1), "eighty times steeper across"),
    "bent valley": (lambda x, y: 0.15 * (1 - x) ** 2 + 1.5 * (y - 0.5 * x**2 + 1) ** 2, (-2.6, -0.6), "its floor is a curve"),
    "saddle": (lambda x, y: 0.25 * x**2 - 0.4 * y**2 + 0.08 * y**4, (-3.0, 0.02), "flat where the path has to turn"),
}


# --- optimizers ------------------------------------------------------------------------------------------------------

def make_paths(optimizer=None) -> dict:
    "The course's AdamW, where no other is given."
    return {"optimizer": optimizer or AdamW}


def walk(make: Callable, surface: str, num_steps: int) -> torch.Tensor:  # (num_steps + 1, 2)
    "Where an optimizer is after every step down a surface."
    function, start, _ = SURFACES[surface]
    place = torch.tensor(start, requires_grad=True)
    optimizer, path = make([place]), [torch.tensor(start)]
    for _ in range(num_steps):
        optimizer.zero_grad()
        function(*place).backward()
        optimizer.step()
        path.append(place.detach().clone())
    return torch.stack(path)


def _paths(optimizer, surface, learning_rate, beta1, weight_decay, num_steps) -> dict[str, torch.Tensor]:
    makers = {"AdamW": lambda params: optimizer(params, lr=learning_rate, betas=(beta1, 0.99), weight_decay=weight_decay),
              "SGD": lambda params: torch.optim.SGD(params, lr=learning_rate, momentum=beta1, weight_decay=weight_decay)}
    return {name: walk(make, surface, num_steps) for name, make in makers.items()}


def draw_adamw_paths(
    optimizer: Callable,  # takes params, lr, betas, weight_decay
    surface: str,         # a key of SURFACES
    learning_rate: float,
    beta1: float,         # AdamW's first beta, and the momentum of SGD beside it
    weight_decay: float,
    num_steps: int,
):  # the Figure
    "Contours, and the two walks over them."
    function, start, hint = SURFACES[surface]
    x, y = torch.meshgrid(torch.linspace(-4, 4, 90), torch.linspace(-2.6, 2.6, 60), indexing="xy")
    height = function(x, y)
    figure, (ground, losses) = new_figure(height=3.3, columns=2, widths=(1.5, 1))
    levels = height.min() + (height.max() - height.min()) * torch.linspace(0.0, 1, 14) ** 2.5
    ground.contour(x.numpy(), y.numpy(), height.numpy(), levels=levels.tolist(), colors=GREY, linewidths=0.6)
    for (name, path), colour, marker, dash in zip(_paths(optimizer, surface, learning_rate, beta1, weight_decay, num_steps).items(),
                                                  ("blue", "red"), "os", ("-", "--"), strict=True):
        ground.plot(path[:, 0], path[:, 1], dash, color=COLOURS[colour], marker=marker, markersize=2.5, linewidth=1.2, label=name)
        ground.plot(*path[-1].tolist(), marker=marker, color=COLOURS[colour], markersize=9, markeredgecolor=INK)
        values = function(path[:, 0], path[:, 1]) - height.min()
        losses.plot(values.clamp(1e-4, 1e4), dash, color=COLOURS[colour], label=name)
    ground.plot(*start, marker="*", color=INK, markersize=11)
    ground.set(xlim=(-4, 4), ylim=(-2.6, 2.6))
    ground.legend(fontsize=8, loc="upper right")
    titled(ground, f"{surface}: {hint} (★ start)")
    losses.set_yscale("log")
    losses.set(xlabel="step", ylim=(1e-4, 1e2))
    titled(losses, "height above the lowest point")
    return figure


def tell_adamw_paths(optimizer, surface, learning_rate, beta1, weight_decay, num_steps) -> str:
    "The same in words."
    function = SURFACES[surface][0]
    ends = "; ".join(f"{name} {_walked(path, function)}" for name, path in _paths(optimizer, surface, learning_rate, beta1, weight_decay, num_steps).items())
    return (f"On the {surface}, {num_steps} steps from {SURFACES[surface][1]}, rate {learning_rate:g}, memory {beta1:g}, decay {weight_decay:g}: {ends}.")


def _walked(path: torch.Tensor, function: Callable) -> str:
    finite = path.isfinite().all(dim=1)
    if not finite.all():
        return f"runs away, beyond every number in step {int(finite.logical_not().nonzero()[0])}"
    return f"ends at ({path[-1, 0]:.2f}, {path[-1, 1]:.2f}), height {float(function(*path[-1])):.2g}, its longest step {float(path.diff(dim=0).norm(dim=1).max()):.2f}"


# --- schedules -------------------------------------------------------------------------------------------------------

def make_schedule(schedules=None) -> dict:
    "The two of lesson 08, where no others are given."
    schedules = schedules or {"linear": linear_schedule, "cosine": cosine_schedule}
    if not isinstance(schedules, dict) or not all(callable(schedule) for schedule in schedules.values()):
        raise ValueError("schedules are no names with functions: give a dict, as {'mine': my_schedule}")
    return {"schedules": schedules}


def fit_schedule(live: dict, settings: dict) -> dict:
    "A choice for every schedule that is given."
    return {"kind": {"choices": tuple(live["schedules"])}}


def rates_of(schedules, kind, peak, total_steps, warmup, floor) -> list[float]:
    "The learning rate of every update."
    return [peak * schedules[kind](step, total_steps, round(warmup * total_steps), floor) for step in range(total_steps)]


def draw_schedule_designer(
    schedules: dict[str, Callable],  # step, total_steps, warmup_steps, floor -> factor on the peak rate
    kind: str,         # a key of them
    peak: float,       # the highest learning rate
    total_steps: int,
    warmup: float,     # share of all updates
    floor: float,      # share of the peak that is left at the end
):  # the Figure
    "The chosen schedule as a line, the others dashed, and the ground it covers as an area."
    figure, (ax,) = new_figure(height=2.9)
    rates = rates_of(schedules, kind, peak, total_steps, warmup, floor)
    ax.fill_between(range(total_steps), rates, color=COLOURS["sky"], alpha=0.35, linewidth=0)
    ax.plot(rates, color=COLOURS["blue"], linewidth=2.2, label=kind)
    for name, colour, dash in zip((name for name in schedules if name != kind), ("red", "green", "purple", "orange", "sky"), ("--", "-.", ":", "--", "-."), strict=False):
        ax.plot(rates_of(schedules, name, peak, total_steps, warmup, floor), dash, color=COLOURS[colour], linewidth=1.2, label=name)
    top = round(warmup * total_steps)
    ax.axvspan(0, max(top, 1e-9), facecolor="none", edgecolor=GREY, hatch="//", linewidth=0)
    ax.annotate(f"peak {max(rates):.1e}", (max(range(total_steps), key=rates.__getitem__), max(rates)), (6, 5), textcoords="offset points", fontsize=8.5)
    ax.set(xlim=(0, total_steps), ylim=(0, 1.08e-2), xlabel="update", ylabel="learning rate")
    ax.legend(fontsize=8, loc="upper right")
    titled(ax, f"{top} updates of warmup (hatched), mean rate {sum(rates) / total_steps:.2e}")
    return figure


def tell_schedule_designer(schedules, kind, peak, total_steps, warmup, floor) -> str:
    "The same in words."
    rates = rates_of(schedules, kind, peak, total_steps, warmup, floor)
    middle = rates[total_steps // 2]
    return (f"The {kind} schedule climbs to {max(rates):.2e} in {round(warmup * total_steps)} of {total_steps} updates, is at {middle:.2e} half-way and at "
            f"{rates[-1]:.2e} in the last one; its mean is {sum(rates) / total_steps:.2e}, {sum(rates) / total_steps / peak:.0%} of the peak.")


# --- loss scaling ----------------------------------------------------------------------------------------------------

NUM_UPDATES = 120


def make_crash(scaler=None) -> dict:
    "The course's LossScaler, where no other is given."
    return {"scaler": scaler or LossScaler}


@lru_cache(maxsize=2)  # the picture and its words ask for the same training
def scaled_training(scaler, init_power: int, growth_interval: int, gradient_power: int, spike_power: int) -> tuple[list[float], list[bool], list[float]]:
    "The scale, whether the update was skipped, and the share of gradients that fp16 made 0, for each update of a pretended training."
    generator = torch.Generator().manual_seed(0)
    keeper = scaler(init_scale=2.0**init_power, growth_interval=growth_interval)
    weight = torch.nn.Parameter(torch.zeros(128))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    spread = torch.randn(NUM_UPDATES, 128, generator=generator)
    scales, skipped, lost = [], [], []
    for step in range(NUM_UPDATES):
        gradient = 2.0 ** (gradient_power + 2.5 * spread[step])
        if step % 40 >= 36:
            gradient = gradient * 2.0**spike_power
        scale = keeper.scale(torch.ones(())).item()
        in_half = (gradient * scale).half()
        scales.append(scale)
        lost.append((in_half == 0).float().mean().item())
        weight.grad = in_half.float()
        skipped.append(not keeper.step(optimizer))
    return scales, skipped, lost


def draw_loss_scale_crash(
    scaler: Callable,     # takes init_scale and growth_interval, as `LossScaler`
    init_power: int,      # the first scale is 2 to this
    growth_interval: int, # good updates before it doubles
    gradient_power: int,  # gradients are about 2 to this
    spike_power: int,     # in four of forty updates they are 2 to this times larger
):  # the Figure
    "The scale over time with its skipped updates, and the share of gradients that were lost."
    scales, skipped, lost = scaled_training(scaler, init_power, growth_interval, gradient_power, spike_power)
    figure, (above, below) = new_figure(height=3.0, columns=2, widths=(1.25, 1))
    above.step(range(NUM_UPDATES), [math.log2(scale) for scale in scales], where="post", color=COLOURS["blue"], label="scale")
    crashed = [step for step in range(NUM_UPDATES) if skipped[step]]
    above.plot(crashed, [math.log2(scales[step]) for step in crashed], "x", color=COLOURS["red"], markersize=8, markeredgewidth=2, label="update skipped")
    above.axhline(16 - gradient_power - 6, color=GREY, linestyle="--", linewidth=1, label="above: overflow is likely")
    above.set(xlabel="update", ylabel="scale, as a power of 2", ylim=(-2, 44))
    above.legend(fontsize=7.5, loc="lower right")
    titled(above, f"{len(crashed)} of {NUM_UPDATES} updates skipped")
    below.fill_between(range(NUM_UPDATES), lost, step="post", color=COLOURS["orange"], edgecolor=INK, hatch="..", linewidth=0.5)
    below.set(xlabel="update", ylabel="share of gradients", ylim=(0, 1))
    titled(below, f"rounded to 0 by fp16: {sum(lost) / len(lost):.0%} on average")
    return figure


def tell_loss_scale_crash(scaler, init_power, growth_interval, gradient_power, spike_power) -> str:
    "The same in words."
    scales, skipped, lost = scaled_training(scaler, init_power, growth_interval, gradient_power, spike_power)
    first = next((step for step in range(NUM_UPDATES) if not skipped[step]), None)
    crashes = [step for step in range(NUM_UPDATES) if skipped[step]]
    places = ", ".join(map(str, crashes[:6])) + (", …" if len(crashes) > 6 else "")
    begins = "every update is skipped" if first is None else f"the first update that counts is number {first}"
    return (f"Gradients of about 2^{gradient_power}, the scale begins at 2^{init_power} and doubles after {growth_interval} good updates: {begins}, "
            f"{len(crashes)} of {NUM_UPDATES} are skipped{f' ({places})' if places else ''}, {sum(lost) / len(lost):.0%} of gradients are lost on average, and the scale ends at 2^{math.log2(scales[-1]):.0f}.")
