"""Checks of the exercises on GRPO."""

import itertools
from math import comb

import numpy as np
import torch
from torch import Tensor

from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_23 as uses

# 23.1: better than the group

def _apart(rng: np.random.Generator, number: int) -> Tensor:  # (number,)
    "Rewards in any order of which no two are closer than 0.1: a pair that nearly agrees is divided by next to nothing, and rounding would decide."
    return torch.from_numpy(0.2 * (rng.permutation(number) - number / 3) + rng.uniform(0, 0.1, number)).float()


def reward_cases(rng: np.random.Generator) -> list[Case]:
    "Groups of several sizes, some without spread, rewards that are no zeros and ones, both scales; five things to refuse, a table of as many rows as would split into groups among them."
    cases = []
    for num_groups, group_size, scale in ((3, 4, "none"), (2, 5, "std"), (4, 2, "std"), (1, 3, "none")):
        rewards = _apart(rng, num_groups * group_size) + float(rng.uniform(1, 3))
        if num_groups > 2:
            rewards[:group_size] = float(rng.uniform(1, 3))
        cases.append({"rewards": rewards, "group_size": group_size, "scale": scale})
    right = torch.from_numpy(rng.permutation([1.0, 0, 0, 0, 0, 0])).float()
    fine = tensor(rng, 6)
    return [*cases, {"rewards": torch.cat([right, 1 - right.flip(0)]), "group_size": 6, "scale": "std"}, {"rewards": fine, "group_size": 3},
            {"rewards": tensor(rng, 7), "group_size": 3}, {"rewards": fine, "group_size": 1}, {"rewards": fine, "group_size": 0},
            {"rewards": tensor(rng, 3, 2), "group_size": 3}, {"rewards": fine, "group_size": 3, "scale": "batch"}]


def advantage_variant(mean: str = "group", std: str = "sample", small: float = 1e-4, order: str = "beside", always: str = "", refuses: bool = True,
                      shape: str = "row"):
    "Advantages with one thing done otherwise."

    def advantages(rewards: Tensor, group_size: int, scale: str = "none") -> Tensor:
        if refuses and (group_size < 2 or rewards.ndim != 1 or rewards.numel() % group_size or scale not in ("none", "std")):
            raise ValueError("no groups")
        scale = always or scale
        groups = rewards.reshape(-1, group_size) if order == "beside" else rewards.reshape(group_size, -1).T
        centre = {"group": groups.mean(1, keepdim=True), "batch": rewards.mean(), "others": (groups.sum(1, keepdim=True) - groups) / (group_size - 1),
                  "median": groups.median(1, keepdim=True).values}[mean]
        found = groups - centre
        if scale == "std":
            spread = rewards.std() if std == "batch" else groups.std(1, keepdim=True, correction=0 if std == "population" else 1)
            found = found / (spread + small)
        if order != "beside":
            found = found.T
        return found if shape == "table" else found.reshape(-1)

    return advantages


def advantages_in_a_loop(rewards: Tensor, group_size: int, scale: str = "none") -> Tensor:
    "Group by group."
    if group_size < 2 or rewards.ndim != 1 or len(rewards) % group_size or scale not in {"std", "none"}:
        raise ValueError("no groups")
    found = []
    for group in rewards.split(group_size):
        apart = group - sum(group) / len(group)
        found.append(apart / (torch.sqrt((apart**2).sum() / (group_size - 1)) + 1e-4) if scale == "std" else apart)
    return torch.cat(found)


def advantages_of_pairs(rewards: Tensor, group_size: int, scale: str = "none") -> Tensor:
    "The mean of the differences from all of the group, itself included."
    if group_size < 2 or rewards.ndim != 1 or len(rewards) % group_size or scale not in ("std", "none"):
        raise ValueError("no groups")
    table = rewards.double().view(-1, group_size)
    found = (table[:, :, None] - table[:, None, :]).mean(2)
    if scale == "std":
        found /= torch.std(table, dim=1)[:, None] + 1e-4
    return found.view(-1).to(rewards)


# 23.2: a loss with three faults

def _completions(rng: np.random.Generator, rows: int, new: int, clip_epsilon: float) -> Case:
    lengths = np.concatenate([[1, new], rng.integers(1, new + 1, rows - 2)])
    old = -3 * torch.from_numpy(rng.random((rows, new))).float()
    moved = torch.from_numpy(rng.choice([-1, 1], (rows, new)) * rng.uniform(0.02, 0.6, (rows, new))).float()
    signs = torch.from_numpy(rng.permutation(np.resize([1.0, -1.0], rows))).float()
    mask = torch.arange(new) < torch.from_numpy(lengths)[:, None]
    return {"logprobs": old + moved, "old_logprobs": old, "advantages": signs * torch.from_numpy(rng.uniform(0.5, 2, rows)).float(),
            "completion_mask": mask.long(), "clip_epsilon": clip_epsilon}


def loss_cases(rng: np.random.Generator) -> list[Case]:
    "Completions of all lengths, ratios on both sides of the clip with advantages of both signs, anything behind the ends."
    cases = []
    for rows, new, clip_epsilon in ((4, 6, 0.2), (3, 5, 0.1), (6, 4, 0.3)):
        case = _completions(rng, rows, new, clip_epsilon)
        while abs(float(loss_by_cases(**case))) < 0.05:  # gains and losses that cancel leave little but rounding
            case = _completions(rng, rows, new, clip_epsilon)
        cases.append(case)
    fresh = -torch.from_numpy(rng.random((2, 3))).float()  # nothing has moved yet
    return [*cases, {"logprobs": fresh, "old_logprobs": fresh.clone(), "advantages": torch.tensor([1.0, -1.0]), "completion_mask": torch.tensor([[1, 0, 0], [1, 1, 1]])}]


def loss_variant(clip: str = "smaller", count: str = "tokens", masked: bool = True, ratio: str = "now over then", sign: int = -1, width: float = 0.0):
    "The loss with some things done otherwise."

    def loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, completion_mask: Tensor, clip_epsilon: float = 0.2) -> Tensor:
        difference = logprobs - old_logprobs if ratio == "now over then" else old_logprobs - logprobs
        moved = difference.exp()
        near, better = moved.clamp(1 - (width or clip_epsilon), 1 + (width or clip_epsilon)), advantages[:, None]
        per_token = sign * {"smaller": torch.minimum(moved * better, near * better), "larger": torch.maximum(moved * better, near * better),
                            "always": near * better, "never": moved * better, "ratio": torch.minimum(moved, near) * better}[clip]
        mask = completion_mask.to(logprobs.dtype)
        per_token = per_token * mask if masked else per_token
        if count == "completions":
            return (per_token.sum(1) / mask.sum(1)).mean()
        return per_token.sum() / {"tokens": mask.sum(), "places": mask.numel(), "nothing": 1, "rows": len(mask)}[count]

    return loss


def loss_by_cases(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, completion_mask: Tensor, clip_epsilon: float = 0.2) -> Tensor:
    "Which tokens have gone far enough, said outright."
    where = completion_mask.bool()
    ratio = torch.exp(logprobs[where] - old_logprobs[where])
    advantage = advantages[:, None].expand_as(logprobs)[where]
    edge = torch.where(advantage > 0, 1 + clip_epsilon, 1 - clip_epsilon)
    too_far = torch.where(advantage > 0, ratio > edge, ratio < edge)
    return -torch.where(too_far, edge, ratio).mul(advantage).mean()


def loss_in_a_loop(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, completion_mask: Tensor, clip_epsilon: float = 0.2) -> Tensor:
    "Token by token."
    losses = []
    for row, place in completion_mask.nonzero().tolist():
        ratio = (logprobs[row, place] - old_logprobs[row, place]).exp()
        near = ratio.clamp(1 - clip_epsilon, 1 + clip_epsilon)
        losses.append(-torch.min(ratio * advantages[row], near * advantages[row]))
    return torch.stack(losses).mean()


# 23.3: how many tries

def success_cases(rng: np.random.Generator) -> list[Case]:
    "Questions of all kinds, always and never right ones among them; a single question."
    cases = [{"success": [*rng.uniform(0.05, 0.95, number).tolist(), 0.0, 1.0], "group_size": int(size)}
             for number, size in zip((3, 6, 9), rng.permutation([2, 4, 8]), strict=True)]
    return [*cases, {"success": [float(rng.uniform(0.1, 0.4))], "group_size": 5}, {"success": [0.0, 0.0, 1.0], "group_size": 3}]


def outcome_variant(pooled: bool = False, size: int = 0, teach: str = "both", swapped: bool = False, times: str = "power", unit: float = 1.0):
    "The shares with one thing done otherwise."

    def outcomes(success: np.ndarray, group_size: int) -> dict[str, float]:
        p = np.array([success.mean()]) if pooled else success
        n = group_size + size
        right, wrong = (p**n, (1 - p) ** n) if times == "power" else (p * n / group_size, (1 - p) * n / group_size)
        one = group_size * p * (1 - p) ** (group_size - 1)
        taught = {"both": 1 - right - wrong, "a right one": 1 - wrong, "exactly one": one}[teach]
        names = ("all_right", "all_wrong") if swapped else ("all_wrong", "all_right")
        return {names[0]: unit * float(wrong.mean()), names[1]: unit * float(right.mean()), "teach": unit * float(taught.mean())}

    return outcomes


def counted_outcomes(success: np.ndarray, group_size: int) -> dict[str, float]:
    "Every possible group with its probability."
    totals = {"all_wrong": 0.0, "all_right": 0.0, "teach": 0.0}
    for p in success:
        for tries in itertools.product((0, 1), repeat=group_size):
            kind = "all_right" if all(tries) else "teach" if any(tries) else "all_wrong"
            totals[kind] += float(p ** sum(tries) * (1 - p) ** (group_size - sum(tries))) / len(success)
    return totals


def outcomes_one_by_one(success: np.ndarray, group_size: int) -> dict[str, float]:
    "Question by question; what teaches is what has from 1 to n − 1 right ones."
    rows = [[comb(group_size, right) * p**right * (1 - p) ** (group_size - right) for right in range(group_size + 1)] for p in success.tolist()]
    found = np.mean(rows, axis=0)
    return {"teach": float(found[1:-1].sum()), "all_right": float(found[-1]), "all_wrong": float(found[0])}


CHECKS = (
    Check(
        id="grpo.group_advantages",
        name="group_advantages",
        builds="posttraining.grpo.group_advantages",
        cases=reward_cases,
        reference=advantages_of_pairs,
        right=(advantage_variant(), advantages_in_a_loop),
        tolerance=1e-5,
        wrong=(
            Wrong(advantage_variant(mean="batch"),
                  "You subtract the mean of the whole batch. An easy question then makes all of its tries look good; each group is compared with itself."),
            Wrong(advantage_variant(mean="others"),
                  "You compare each completion with the mean of the others. That is a fair comparison too, larger by n / (n − 1), but here the completion itself is in the mean."),
            Wrong(advantage_variant(mean="median"),
                  "You subtract the median. Then the advantages of a group no longer sum to zero."),
            Wrong(advantage_variant(order="apart"),
                  "Your groups are every n-th completion: they mix the tries at different questions. Those of one question stand one behind the other."),
            Wrong(advantage_variant(always="std"),
                  "You always divide by the spread; with scale 'none' the advantages stay as they are."),
            Wrong(advantage_variant(always="none"),
                  "You never divide by the spread, whatever scale says."),
            Wrong(advantage_variant(std="population"),
                  "You divide by n under the root of the standard deviation; `torch.std`, and trl, by n − 1."),
            Wrong(advantage_variant(std="batch"),
                  "You divide by the spread of the whole batch. It is the group's own."),
            Wrong(advantage_variant(small=0.0),
                  "A group without spread gives 0 / 0, which is no number, and one such group ends the run: add the small number under the fraction."),
            Wrong(advantage_variant(shape="table"),
                  "You answer a table of groups. The advantages should be a single row again, as the rewards were."),
            Wrong(advantage_variant(refuses=False),
                  "Rewards that do not split into groups, groups of one, or a scale that there is not, should raise a ValueError."),
        ),
    ),
    Check(
        id="grpo.loss",
        name="mended_loss",
        cases=loss_cases,
        use=uses.loss_with_gradient,
        reference=loss_by_cases,
        right=(loss_variant(), loss_in_a_loop),
        tolerance=1e-5,
        wrong=(
            Wrong(loss_variant(clip="always", count="completions", masked=False),
                  "This is still the loss as you found it: all three faults are in."),
            Wrong(loss_variant(clip="always"),
                  "The clipped ratio alone has no gradient once a token has moved, not even one that went the wrong way: take the smaller of the two products."),
            Wrong(loss_variant(count="completions"),
                  "You take a mean within each completion first: a token of a short one weighs more, and long wrong answers get off lightly."),
            Wrong(loss_variant(masked=False),
                  "What fills a row up behind its end is in the sum."),
            Wrong(loss_variant(clip="always", count="completions"),
                  "The filling is left out now. The clip and the way of counting are still wrong."),
            Wrong(loss_variant(clip="always", masked=False),
                  "The divisor is right now. The filling is still in the sum, and the clip is still wrong."),
            Wrong(loss_variant(count="completions", masked=False),
                  "The clip is right now. The filling and the way of counting are still wrong."),
            Wrong(loss_variant(clip="larger"),
                  "You take the larger of the two products: what is good is pushed without end, and the clip protects nothing."),
            Wrong(loss_variant(clip="ratio"),
                  "You take the smaller ratio and then multiply. With a negative advantage the order turns around: multiply first, then compare."),
            Wrong(loss_variant(clip="never"),
                  "The clip is gone: nothing stops a token that has gone too far."),
            Wrong(loss_variant(width=0.2),
                  "You clip at 0.8 and 1.2 whatever `clip_epsilon` says."),
            Wrong(loss_variant(ratio="then over now"),
                  "Your ratio is upside down: now over then."),
            Wrong(loss_variant(sign=1),
                  "The sign is wrong: this loss makes good completions rarer."),
            Wrong(loss_variant(count="places"),
                  "You divide by all places of the table, filled ones included; divide by the number of tokens that were drawn."),
            Wrong(loss_variant(count="nothing"),
                  "You answer the sum; it should be the mean over the tokens that were drawn."),
            Wrong(loss_variant(count="rows"),
                  "You divide by the number of completions; every token counts alike only if you divide by the number of tokens."),
        ),
    ),
    Check(
        id="grpo.group_outcomes",
        name="group_outcomes",
        cases=success_cases,
        use=uses.shares,
        reference=counted_outcomes,
        right=(outcome_variant(), outcomes_one_by_one),
        tolerance=1e-6,
        wrong=(
            Wrong(outcome_variant(pooled=True),
                  "You take the mean of the probabilities first, as if all questions were equally hard. Questions that are always or never right teach nothing, "
                  "and the mean does not show them."),
            Wrong(outcome_variant(size=-1),
                  "Your groups are one try too small."),
            Wrong(outcome_variant(teach="a right one"),
                  "You count every group with a right try as one that teaches. A group that is all right has nothing to compare."),
            Wrong(outcome_variant(teach="exactly one"),
                  "You count groups with exactly one right try; two right ones among eight teach too."),
            Wrong(outcome_variant(swapped=True),
                  "All right and all wrong have changed places."),
            Wrong(outcome_variant(times="mean"),
                  "You take the probability of a single try for that of a whole group: independent tries multiply."),
            Wrong(outcome_variant(unit=100.0),
                  "You answer percentages; the shares are between 0 and 1."),
        ),
    ),
)
