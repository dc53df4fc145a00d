"Who is asked and who is turned away in a layer of experts, and who did better than the rest of the group."

import torch
from torch import Tensor

from microbert_course.models.experts import balance_loss, expert_capacity, find_seats, route
from microbert_course.visual.palette import COLOURS, GREY, INK, new_figure, titled

# --- experts ---------------------------------------------------------------------------------------------------------


def make_router(logits=None) -> dict:
    "Scores of 256 tokens for 8 experts, some of them more popular, where none are given."
    if logits is None:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(256, 8, generator=generator) + torch.linspace(0.8, -0.8, 8)[torch.randperm(8, generator=generator)]
    logits = logits.detach().float().cpu()
    if logits.ndim != 2 or logits.size(1) < 2 or not len(logits):
        raise ValueError(f"logits have the shape {tuple(logits.shape)}: give (num_tokens, num_experts), as a layer's routing.logits")
    return {"logits": logits}


def fit_router(live: dict, settings: dict) -> dict:
    "At most as many choices as there are experts."
    num_experts = live["logits"].size(1)
    return {"top_k": {"high": min(4, num_experts)}, "favourite": {"choices": tuple(range(num_experts)), "labels": tuple(f"expert {i}" for i in range(num_experts))}}


def routed(logits: Tensor, top_k: int, capacity_factor: float, push: float, favourite: int) -> tuple[Tensor, Tensor, Tensor, int]:
    "Logits with the favourite pushed; requests and served requests of each expert; seats."
    pushed = logits.clone()
    pushed[:, favourite] += push
    _, experts = route(pushed, top_k)
    seats = expert_capacity(len(logits), logits.size(1), top_k, capacity_factor)
    served = find_seats(experts, logits.size(1), seats)
    return pushed, experts, served, seats


def draw_router_load(
    logits: Tensor,          # (num_tokens, num_experts)
    top_k: int,
    capacity_factor: float,  # seats, as a multiple of an equal share
    push: float,             # added to one expert's scores
    favourite: int,          # that expert
):  # the Figure
    "A bar an expert: the requests it serves, hatched above them those it turns away, and a line for its seats."
    pushed, experts, served, seats = routed(logits, top_k, capacity_factor, push, favourite)
    num_experts = logits.size(1)
    asked = experts.flatten().bincount(minlength=num_experts)
    seated = experts[served].bincount(minlength=num_experts)
    figure, (load, chance) = new_figure(height=3.0, columns=2, widths=(1.35, 1))
    places = list(range(num_experts))
    load.bar(places, seated.tolist(), color=COLOURS["blue"], edgecolor=INK, label="served")
    load.bar(places, (asked - seated).tolist(), bottom=seated.tolist(), color=COLOURS["orange"], edgecolor=INK, hatch="//", label="turned away")
    load.axhline(seats, color=INK, linestyle="--", linewidth=1.3, label=f"{seats} seats")
    load.set(xlabel="expert", ylabel="requests", ylim=(0, 1.25 * max(int(asked.max()), seats)))
    load.set_xticks(places)
    load.legend(fontsize=8, ncols=3, loc="upper right")
    dropped = int((~served.any(dim=1)).sum())
    titled(load, f"{dropped} of {len(logits)} tokens meet no expert")
    mean = pushed.softmax(-1).mean(0)
    share = asked / asked.sum()
    chance.bar([place - 0.2 for place in places], share.tolist(), width=0.4, color=COLOURS["blue"], edgecolor=INK, label="share of requests")
    chance.bar([place + 0.2 for place in places], mean.tolist(), width=0.4, color=COLOURS["green"], edgecolor=INK, hatch="..", label="mean probability")
    chance.axhline(1 / num_experts, color=GREY, linestyle=":", linewidth=1.2)
    chance.set(xlabel="expert (dotted: an equal share)", ylim=(0, 1.35 * float(torch.maximum(share, mean).max())))
    chance.set_xticks(places)
    chance.legend(fontsize=8)
    titled(chance, f"balance loss {float(balance_loss(pushed, experts)):.2f} (1 = even)")
    return figure


def tell_router_load(logits, top_k, capacity_factor, push, favourite) -> str:
    "The same in words."
    pushed, experts, served, seats = routed(logits, top_k, capacity_factor, push, favourite)
    asked = experts.flatten().bincount(minlength=logits.size(1))
    return (f"{len(logits)} tokens ask {top_k} of {logits.size(1)} experts each, expert {favourite} pushed by {push:g}: requests {asked.tolist()}, {seats} seats "
            f"at each. {int((~served).sum())} requests are turned away, {int((~served.any(dim=1)).sum())} tokens meet no expert, and the balance loss is "
            f"{float(balance_loss(pushed, experts)):.2f}.")


# --- groups ----------------------------------------------------------------------------------------------------------

MOST = 16


def make_group(completions=None, rewards=None, advantages=None) -> dict:
    "Answers to 17 + 25 with a reward for the right number, where none are given."
    if (completions is None) != (rewards is None):
        raise ValueError("completions and rewards belong together, one reward a completion: give both, or neither")
    if completions is None:
        completions = ["42", "The answer is 42.", "41", "17 + 25 = 42", "32", "I do not know.", "seven and five is 12, so 42", "42 or 43", "4", "17 + 25 = 43",
                       "42!", "The sum is 52.", "#### 42", "2", "40 + 2 = 42", "Forty"]
        rewards = [1.1, 1.0, 0.0, 1.1, 0.0, 0.0, 1.0, 0.0, 0.0, 0.1, 1.0, 0.0, 1.1, 0.0, 1.1, 0.0]
    rewards = torch.as_tensor(rewards, dtype=torch.float32).detach().cpu()
    if rewards.shape != (len(completions),) or len(completions) < 2:
        raise ValueError(f"{len(completions)} completions and rewards of the shape {tuple(rewards.shape)}: give two or more completions of one prompt, a number for each")
    if advantages is None:
        from microbert_course.posttraining import grpo  # here, not above: it takes a second

        advantages = grpo.group_advantages
    return {"completions": [str(text) for text in completions], "rewards": rewards, "advantages": advantages}


def fit_group(live: dict, settings: dict) -> dict:
    "Groups up to the number of completions there are."
    return {"group_size": {"high": min(MOST, len(live["completions"]))}}


def drawn_group(completions: list[str], rewards: Tensor, advantages, group_size: int, draw: int, scale: str) -> tuple[list[str], Tensor, Tensor]:
    "A group drawn from the completions, their rewards, and what they are worth beside the others."
    chosen = torch.randperm(len(completions), generator=torch.Generator().manual_seed(draw))[:group_size]
    picked = rewards[chosen]
    return [completions[number] for number in chosen.tolist()], picked, advantages(picked, group_size, scale)


def draw_grpo_group(
    completions: list[str],  # of one prompt
    rewards: Tensor,         # (completions,)
    advantages,              # rewards, group_size, scale -> (group_size,), as `group_advantages`
    group_size: int,
    draw: int,               # which of the completions are in the group
    scale: str,              # "none" or "std"
):  # the Figure
    "A line a completion: what it says, what it earned, and whether it is made more or less likely."
    texts, picked, worth = drawn_group(completions, rewards, advantages, group_size, draw, scale)
    figure, (left, right) = new_figure(height=1.0 + 0.23 * max(group_size, 4), columns=2, widths=(1.25, 1))
    places = list(range(group_size))
    left.barh(places, picked.tolist(), color=COLOURS["sky"], edgecolor=INK)
    left.axvline(float(picked.mean()), color=INK, linestyle="--", linewidth=1.2)
    left.set_yticks(places, [_short(text) for text in texts], fontsize=8)
    left.set(xlabel="reward (dashed: the group's mean)", xlim=(1.05 * min(0.0, float(picked.min())), 1.05 * max(1.0, float(picked.max()))))
    for name, sign, colour, hatch in (("more likely", 1, "green", ""), ("less likely", -1, "red", "//")):
        values = [max(0.0, sign * value) * sign for value in worth.tolist()]
        right.barh(places, values, color=COLOURS[colour], hatch=hatch, edgecolor=INK, label=name)
    for place, value in zip(places, worth.tolist(), strict=True):
        right.annotate(f"{value:+.2f}", (value, place), (3 if value >= 0 else -3, 0), textcoords="offset points", ha="left" if value >= 0 else "right", va="center", fontsize=7.5)
    right.axvline(0, color=INK, linewidth=0.8)
    right.set(xlabel="advantage")
    right.set_yticks([])
    farthest = 1.4 * max(0.5, float(worth.abs().max()))
    right.set_xlim(-farthest, farthest)
    for ax in (left, right):
        ax.set_ylim(group_size - 0.4, -0.6)
    titled(left, f"draw {draw}: {group_size} completions, mean {float(picked.mean()):.2f}")
    titled(right, "less (hatched) or more likely" if worth.abs().max() > 1e-6 else "nothing to learn: all earned the same")
    return figure


def _short(text: str, most: int = 26) -> str:
    text = " ".join(text.split()).replace("$", r"\$")
    return text if len(text) <= most else text[: most - 1] + "…"


def tell_grpo_group(completions, rewards, advantages, group_size, draw, scale) -> str:
    "The same in words."
    texts, picked, worth = drawn_group(completions, rewards, advantages, group_size, draw, scale)
    lines = "; ".join(f"“{_short(text)}” earned {reward:g}, advantage {value:+.2f}" for text, reward, value in zip(texts, picked.tolist(), worth.tolist(), strict=True))
    verdict = "all earned the same, so there is nothing to learn" if worth.abs().max() <= 1e-6 else f"the mean is {float(picked.mean()):.2f}"
    return f"A group of {group_size} (draw {draw}), {'divided by its spread' if scale == 'std' else 'not divided by its spread'}: {verdict}. {lines}."
