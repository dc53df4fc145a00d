"""Checks of the exercises on the transformer block."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_04 as uses

# transformer.feed_forward


def feed_forward_cases(rng: np.random.Generator) -> list[Case]:
    cases = []
    for batch, seq, hidden, intermediate, dtype in ((2, 3, 5, 7, torch.float32), (1, 4, 6, 2, torch.float64), (3, 1, 4, 9, torch.float32)):
        draw = partial(tensor, rng, dtype=dtype)
        state = {"up.weight": draw(intermediate, hidden), "up.bias": draw(intermediate),
                 "down.weight": draw(hidden, intermediate), "down.bias": draw(hidden)}
        cases.append({"hidden_size": hidden, "intermediate_size": intermediate, "state": state,
                      "hidden_states": draw(batch, seq, hidden), "upstream": draw(batch, seq, hidden)})
    return cases


class ErfFeedForward(nn.Module):
    "With GELU by the error function and maps by einsum."

    def __init__(self, hidden_size: int, intermediate_size: int):
        super().__init__()
        self.up, self.down = nn.Linear(hidden_size, intermediate_size), nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        wide = torch.einsum("bsh,ih->bsi", hidden_states, self.up.weight) + self.up.bias
        bent = wide * (1 + torch.erf(wide / math.sqrt(2))) / 2
        return torch.einsum("bsi,hi->bsh", bent, self.down.weight) + self.down.bias


def feed_forward_variant(bend: Callable[[Tensor], Tensor] = F.gelu, order: str = "up, bend, down", bias: bool = True, first: str = "up"):
    "The feed-forward part with one thing done otherwise."

    class Variant(nn.Module):
        def __init__(self, hidden_size: int, intermediate_size: int):
            super().__init__()
            sizes = {"up": (hidden_size, intermediate_size), "down": (intermediate_size, hidden_size)}
            for name in sorted(sizes, reverse=first == "up"):
                self.add_module(name, nn.Linear(*sizes[name], bias=bias))

        def forward(self, hidden_states: Tensor) -> Tensor:
            if order == "bend, up, down":
                return self.down(self.up(bend(hidden_states)))
            if order == "up, down, bend":
                return bend(self.down(self.up(hidden_states)))
            found = self.down(bend(self.up(hidden_states)))
            return hidden_states + found if order == "with a road" else found

    return Variant


class TokenByToken(nn.Module):
    "One token after another, and a module for the bend."

    def __init__(self, hidden_size: int, intermediate_size: int):
        super().__init__()
        self.up, self.bend, self.down = nn.Linear(hidden_size, intermediate_size), nn.GELU(), nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        tokens = [self.down(self.bend(self.up(token))) for token in hidden_states.flatten(0, 1)]
        return torch.stack(tokens).view(hidden_states.shape)


# transformer.post_norm


def branch_cases(rng: np.random.Generator) -> list[Case]:
    "With a mask for the sublayer, with something else for it, without; one token; and ones to be dropped."
    cases: list[Case] = []
    for batch, seq, hidden_size, dtype in ((2, 5, 4, torch.float32), (3, 4, 6, torch.float64), (2, 1, 5, torch.float64)):
        draw = partial(tensor, rng, dtype=dtype)
        cases.append({"hidden_states": draw(batch, seq, hidden_size), "weight": draw(hidden_size, hidden_size),
                      "norm_weight": draw(hidden_size), "norm_bias": draw(hidden_size), "upstream": draw(batch, seq, hidden_size)})
    cases[1]["attention_mask"] = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 0, 0]])[torch.from_numpy(rng.permutation(3))]
    cases[2]["strength"] = float(rng.uniform(2, 3))
    return [*cases, {"dropout": float(rng.choice([0.2, 0.3, 0.4])), "ones": torch.ones(3, 20, 200)}]


class SummedBranch(nn.Module):
    "The sum of two, stacked; dropout as a function."

    def __init__(self, sublayer: nn.Module, norm: nn.Module, dropout: float = 0.0):
        super().__init__()
        self.sublayer, self.norm, self.share = sublayer, norm, dropout

    def forward(self, hidden_states: Tensor, **context) -> Tensor:
        found = F.dropout(self.sublayer(hidden_states, **context), self.share, self.training)
        return self.norm(torch.stack([hidden_states, found]).sum(dim=0))


class CoinBranch(SummedBranch):
    "Dropout by coins."

    def forward(self, hidden_states: Tensor, **context) -> Tensor:
        found = self.sublayer(hidden_states, **context)
        if self.training and self.share > 0:
            found = torch.where(torch.rand_like(found) < self.share, 0.0, found / (1 - self.share))
        return self.norm(found + hidden_states)


def branch_variant(forward: Callable[[nn.Module, Tensor, dict], Tensor], own_norm: bool = False):
    "A residual branch with a forward pass of its own."

    class Variant(nn.Module):
        def __init__(self, sublayer: nn.Module, norm: nn.Module, dropout: float = 0.0):
            super().__init__()
            self.sublayer, self.norm, self.dropout = sublayer, norm, nn.Dropout(dropout)
            if own_norm and isinstance(norm, nn.LayerNorm):
                self.norm = nn.LayerNorm(norm.normalized_shape, dtype=norm.weight.dtype)

        def forward(self, hidden_states: Tensor, **context) -> Tensor:
            return forward(self, hidden_states, context)

    return Variant


class MaskedBranch(SummedBranch):
    "Knows attention's mask, and no other sublayer's needs."

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return super().forward(hidden_states, **({} if attention_mask is None else {"attention_mask": attention_mask}))


def in_place(branch: nn.Module, hidden_states: Tensor, context: dict) -> Tensor:
    found = branch.dropout(branch.sublayer(hidden_states, **context))
    hidden_states += found
    return branch.norm(hidden_states)


# transformer.layer_norm


def norm_cases(rng: np.random.Generator) -> list[Case]:
    "Ordinary tokens in four dimensions, tokens far from zero, tokens in two dimensions that hardly vary, a token of equal numbers."

    def case(hidden_states: Tensor, eps: float = 1e-5) -> Case:
        size = hidden_states.size(-1)
        return {"hidden_states": hidden_states, "weight": 1 + 0.3 * tensor(rng, size, dtype=hidden_states.dtype),
                "bias": tensor(rng, size, dtype=hidden_states.dtype), "eps": eps}

    even = tensor(rng, 2, 3, 5)
    even[1, 2] = float(rng.integers(1, 9))
    return [case(tensor(rng, 2, 3, 4, 6, dtype=torch.float64)), case(tensor(rng, 4, 16, 64) + float(rng.uniform(3000, 5000)), 1e-2),
            case(1e-3 * tensor(rng, 6, 7, dtype=torch.float64), 2e-6), case(even, 1e-3)]


def norm_variant(spread: str = "two passes", correction: int = 0, eps_at: str = "variance", dim: int | tuple[int, ...] = -1,
                 order: str = "scale, shift"):
    "LayerNorm with one thing done otherwise."

    def layer_norm(hidden_states: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        mean = hidden_states.mean(dim=dim, keepdim=True)
        if spread == "two passes":
            variance = hidden_states.var(dim=dim, keepdim=True, correction=correction)
        else:
            variance = (hidden_states**2).mean(dim=dim, keepdim=True) - mean**2
        variance = {"clamped": variance.clamp(min=0), "made positive": variance.abs()}.get(spread, variance)
        deviation = {"variance": (variance + eps).sqrt(), "deviation": variance.sqrt() + eps, "nowhere": variance.sqrt()}[eps_at]
        normal = (hidden_states - mean) / deviation
        if spread == "nan taken out":
            normal = normal.nan_to_num(0.0)
        return (normal + bias) * weight if order == "shift, scale" else normal * weight + bias

    return layer_norm


def norm_in_float64(hidden_states: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    wide = hidden_states.double()
    centred = wide - wide.mean(dim=-1, keepdim=True)
    return (centred * (centred.square().mean(dim=-1, keepdim=True) + eps).rsqrt() * weight + bias).to(hidden_states.dtype)


def norm_by_torch(hidden_states: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.layer_norm(hidden_states, weight.shape, weight, bias, eps)


def norm_of_wide_squares(hidden_states: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    "The formula in one pass, which float64 can afford."
    wide = hidden_states.double()
    mean = wide.mean(dim=-1, keepdim=True)
    variance = (wide.square().mean(dim=-1, keepdim=True) - mean.square()).clamp(min=0)
    return ((wide - mean) / (variance + eps).sqrt() * weight + bias).to(hidden_states.dtype)


# transformer.length_for_share


def share_cases(rng: np.random.Generator) -> list[Case]:
    shares = rng.choice([0.05, 0.1, 0.2, 0.4, 0.6, 0.75, 0.9], size=4, replace=False)
    sizes = rng.choice([48, 64, 192, 768, 1024], size=4, replace=False)
    return [{"share": float(share), "hidden_size": int(size), "intermediate_size": int(size) * times + int(rng.integers(1, 9))}
            for share, size, times in zip(shares, sizes, (1, 2, 3, 5), strict=True)]


def share_by_search(share: float, hidden_size: int, intermediate_size: int) -> float:
    "The length between 0 and a trillion at which the share is reached, by halving."

    def found(seq: float) -> float:
        quadratic = 2 * 2 * seq * seq * hidden_size
        maps = 2 * seq * (4 * hidden_size * hidden_size + 2 * hidden_size * intermediate_size)
        return quadratic / (quadratic + maps)

    low, high = 0.0, 1e12
    for _ in range(120):
        middle = (low + high) / 2
        low, high = (middle, high) if found(middle) < share else (low, middle)
    return low


def share_variant(products: float = 2, maps: float = 4, feed_forward: float = 2, of: str = "all", biases: bool = False):
    "From the FLOPs of `products` products a pair, `maps` square maps and `feed_forward` rectangular ones a token; one of them wrong."

    def length_for_share(share: float, hidden_size: int, intermediate_size: int) -> float:
        weights = maps * hidden_size**2 + feed_forward * hidden_size * intermediate_size
        weights += 9 * hidden_size + intermediate_size if biases else 0
        odds = {"all": share / (1 - share), "the maps": share, "the rest": (1 - share) / share}[of]
        return odds * weights / (products * hidden_size)

    return length_for_share


# transformer.stochastic_depth


def depth_cases(rng: np.random.Generator) -> list[Case]:
    "Many rows in training, the same in evaluation, and nothing to drop."
    draw = partial(tensor, rng, dtype=torch.float64)
    return [{"hidden_states": draw(*shape), "found": draw(*shape), "drop": float(rng.choice([0.2, 0.3, 0.4])) * drops, "training": training}
            for shape, drops, training in (((3000, 2, 3), True, True), ((40, 3, 4), True, False), ((6, 4, 2), False, True))]


def rows_like(output: Tensor, wanted: Tensor) -> Tensor:  # (batch,) bool
    "Which rows are what they should be, all of them."
    return (output - wanted).abs().flatten(1).amax(1) < 1e-5


def kept_and_gone(output: Tensor, case: Case, scale: float | None = None) -> tuple[Tensor, Tensor]:
    "Rows that hold all of the branch, scaled, and rows that hold the road alone."
    scale = 1 / (1 - case["drop"]) if scale is None else scale
    return rows_like(output, case["hidden_states"] + scale * case["found"]), rows_like(output, case["hidden_states"])


def share_gone(output: Tensor, case: Case) -> float:
    "The share of the rows that lost the branch."
    return kept_and_gone(output, case)[1].double().mean().item()


def depth_judged(output: Tensor, case: Case) -> str | None:
    "Rows are the road with the whole branch or the road alone, and their number is no surprise (5.5 standard deviations: 1 in 10⁷)."
    if output.shape != case["hidden_states"].shape or output.dtype != case["hidden_states"].dtype:
        return "the result has another shape or dtype than hidden_states"
    drop = case["drop"] if case["training"] else 0.0
    kept, gone = kept_and_gone(output, case | {"drop": drop})
    if not (kept | gone).all():
        return "some rows are neither the road alone nor the road with the whole branch, scaled as it should be"
    surprise = 5.5 * math.sqrt(drop * (1 - drop) / len(output))
    if abs(share_gone(output, case) - drop) > surprise:
        return "another share of the rows than `drop` lost the branch"
    return "two calls threw the same coins: draw new ones at every call" if same_coins(output, case) else None


def random_case(case: Case) -> bool:
    return case["training"] and case["drop"] > 0


def same_coins(output: Tensor, case: Case) -> bool:
    "Whether the rows of the second call lost the branch where those of the first did, and not all of them or none."
    first, second = kept_and_gone(output, case)[1].chunk(2)
    return random_case(case) and torch.equal(first, second) and 0 < int(first.sum()) < len(first)


def rows_by_bernoulli(hidden_states: Tensor, found: Tensor, drop: float, training: bool) -> Tensor:
    if not training or drop == 0:
        return hidden_states + found
    keep = torch.bernoulli(torch.full((len(found), 1, 1), 1 - drop, dtype=found.dtype))
    return hidden_states + keep * found / (1 - drop)


def rows_by_dropout(hidden_states: Tensor, found: Tensor, drop: float, training: bool) -> Tensor:
    return hidden_states + found * F.dropout(found.new_ones(len(found), 1, 1), drop, training)


def rows_one_by_one(hidden_states: Tensor, found: Tensor, drop: float, training: bool) -> Tensor:
    def row(road: Tensor, branch: Tensor) -> Tensor:
        return road if training and torch.rand(()) < drop else road + branch / (1 - drop * training)

    return torch.stack([row(*pair) for pair in zip(hidden_states, found, strict=True)])


def depth_variant(coins: Callable[[Tensor], tuple[int, ...]] = lambda found: (len(found), 1, 1), scale: str = "in training",
                  when: str = "in training", road: bool = True, swapped: bool = False):
    "Stochastic depth with one thing done otherwise."

    def stochastic_depth(hidden_states: Tensor, found: Tensor, drop: float, training: bool) -> Tensor:
        if not training and when == "in training":
            return hidden_states + found * (1 - drop if scale == "in evaluation" else 1)
        stays = drop if swapped and drop else 1 - drop
        keep = (torch.rand(coins(found)) < stays) / (stays if scale == "in training" else 1)
        return hidden_states + keep * found if road else keep * (hidden_states + found)

    return stochastic_depth


def torn_rows(output: Tensor, case: Case, whole_tokens: bool) -> bool:
    "Whether the branch is there and not there within one row, by whole tokens or number by number."
    if not random_case(case):
        return False
    gone = (output - case["hidden_states"]).abs() < 1e-5
    kept = (output - case["hidden_states"] - case["found"] / (1 - case["drop"])).abs() < 1e-5
    torn = not (gone.flatten(1).all(1) | kept.flatten(1).all(1)).all()
    by_token = bool((gone.all(-1) | kept.all(-1)).all())
    return torn and bool((gone | kept).all()) and by_token == whole_tokens


CHECKS = (
    Check(
        id="transformer.feed_forward",
        name="FeedForward",
        builds="models.transformer.FeedForward",
        cases=feed_forward_cases,
        use=uses.feed_forward,
        reference=ErfFeedForward,
        tolerance=1e-5,
        right=(feed_forward_variant(), TokenByToken),
        wrong=(
            Wrong(feed_forward_variant(F.relu),
                  "The bend is ReLU, as in the original transformer: below zero nothing passes and no gradient comes back. Here it is "
                  "GELU."),
            Wrong(feed_forward_variant(lambda x: F.gelu(x, approximate="tanh")),
                  "This is the tanh formula of GELU: off by less than a thousandth, and enough to fail a comparison with a checkpoint "
                  "that was trained with the exact one."),
            Wrong(feed_forward_variant(lambda x: x * torch.sigmoid(1.702 * x)),
                  "This is the sigmoid stand-in for GELU, x · σ(1.702 x): near it, and visibly not the same."),
            Wrong(feed_forward_variant(lambda x: x),
                  "There is no bend between the two maps: together they are one linear map, with more weights and no more ability."),
            Wrong(feed_forward_variant(order="up, down, bend"),
                  "The bend comes after the second map: the two maps before it are one linear map, and the output cannot be negative "
                  "any more, or hardly."),
            Wrong(feed_forward_variant(order="bend, up, down"),
                  "The bend comes before the first map: it bends the token as it is, and the two maps behind it are one."),
            Wrong(feed_forward_variant(order="with a road"),
                  "You add the token itself: that is the residual branch's work, and with both the road is there twice."),
            Wrong(feed_forward_variant(bias=False),
                  "Saved weights do not fit into your module: it needs two maps, called up and down, each with a weight and a bias."),
            Wrong(feed_forward_variant(first="down"),
                  "The second map is made before the first: the weights are as random as they should be, but a seed gives other numbers"
                  " than in the library."),
        ),
    ),
    Check(
        id="transformer.post_norm",
        name="PostNorm",
        builds="models.transformer.PostNorm",
        cases=branch_cases,
        use=uses.branch_or_dropping,
        reference=SummedBranch,
        tolerance=3e-5,
        right=(CoinBranch, branch_variant(lambda branch, x, context: branch.norm(branch.dropout(branch.sublayer(x, **context)) + x))),
        wrong=(
            Wrong(branch_variant(lambda branch, x, context: branch.norm(branch.dropout(branch.sublayer(x, **context)))),
                  "The residual is forgotten: nothing of the token itself comes through, and in a deep stack neither does the gradient."),
            Wrong(branch_variant(lambda branch, x, context: x + branch.dropout(branch.sublayer(branch.norm(x), **context))),
                  "This is pre-norm: the copy that goes into the sublayer is normalised, and the sum is not."),
            Wrong(branch_variant(lambda branch, x, context: x + branch.norm(branch.dropout(branch.sublayer(x, **context)))),
                  "What the sublayer found is normalised, and the sum is not: the stream grows from branch to branch."),
            Wrong(branch_variant(lambda branch, x, context: x + branch.norm(x + branch.dropout(branch.sublayer(x, **context)))),
                  "The token is added a second time, after the norm: the road goes around the norm, and post-norm's does not."),
            Wrong(branch_variant(lambda branch, x, context: branch.norm(branch.dropout(x + branch.sublayer(x, **context)))),
                  "Dropout is on the road: each branch drops a share of everything that came before it, and not just of what it found "
                  "itself."),
            Wrong(branch_variant(lambda branch, x, context: branch.dropout(branch.norm(x + branch.sublayer(x, **context)))),
                  "Dropout comes last, after the norm: it drops from the road, and what leaves the branch is not normalised any more."),
            Wrong(branch_variant(lambda branch, x, context: branch.norm(x + branch.sublayer(x, **context))),
                  "dropout is not used: in training nothing is ever dropped."),
            Wrong(branch_variant(lambda branch, x, context: branch.norm(x + F.dropout(branch.sublayer(x, **context), branch.dropout.p))),
                  "Dropout goes on after eval(): a function of PyTorch drops always, unless it is told whether the module is training."),
            Wrong(branch_variant(lambda branch, x, context: branch.norm(x + branch.dropout(branch.sublayer(x)))),
                  "The keyword arguments end at your branch: an attention sublayer would never see its attention_mask, and look at "
                  "padding without a word."),
            Wrong(MaskedBranch,
                  "Your branch knows attention_mask and nothing else. What the sublayer needs is the caller's business: hand on all keyword arguments, "
                  "whatever their names."),
            Wrong(branch_variant(in_place),
                  "The sum is made in place, in a tensor that belongs to the caller: autograd, or whoever reads it next, still needs it"
                  " as it was."),
            Wrong(branch_variant(lambda branch, x, context: branch.norm(x + branch.dropout(branch.sublayer(x, **context))), own_norm=True),
                  "You made a norm of your own instead of the one that you were handed: its eps and its weights are the caller's "
                  "choice."),
        ),
    ),
    Check(
        id="transformer.layer_norm",
        name="layer_norm",
        cases=norm_cases,
        reference=norm_in_float64,
        tolerance=5e-3,  # at 4,000, float32 has steps of 2e-4, and the mean is rounded to one
        right=(norm_variant(), norm_by_torch, norm_of_wide_squares),
        wrong=(
            Wrong(norm_variant("one pass"),
                  "Far from zero it is still broken: the mean of the squares and the square of the mean are two huge numbers, and their"
                  " small difference drowns in their rounding."),
            Wrong(norm_variant("clamped"),
                  "A variance below zero is now lifted to zero, so there is no nan; but the others are wrong by as much, they only do "
                  "not show it."),
            Wrong(norm_variant("made positive"),
                  "A variance below zero now loses its sign, so there is no nan; but its size is rounding and nothing else."),
            Wrong(norm_variant("nan taken out"),
                  "The nan is taken out of the result and not out of the calculation: tokens whose variance was rounded to something "
                  "positive are as wrong as those."),
            Wrong(norm_variant(correction=1),
                  "The variance is divided by one less than the number of slots, as PyTorch's var does by itself: LayerNorm takes the "
                  "plain mean of the squares."),
            Wrong(norm_variant(eps_at="deviation"),
                  "eps is added to the standard deviation and not to the variance, before the root: for tokens that hardly vary this is"
                  " another function."),
            Wrong(lambda hidden_states, weight, bias, eps: F.layer_norm(hidden_states, weight.shape, weight, bias),
                  "The eps that you are handed is not used: PyTorch's own 1e-5 stands in its place, and for tokens that hardly vary that is "
                  "another function."),
            Wrong(norm_variant(eps_at="nowhere"), "eps is not used: a token of equal numbers is divided by zero."),
            Wrong(norm_variant(dim=-2),
                  "Mean and variance are taken over the tokens, the wrong axis: each token is to be normalised alone, over its own "
                  "slots."),
            Wrong(norm_variant(dim=2),
                  "Mean and variance are taken over dimension 2, which is the last one of (batch, seq, hidden) alone: a token's slots are the last "
                  "dimension of (…, hidden), dim=-1."),
            Wrong(norm_variant(dim=(-2, -1)),
                  "Mean and variance are taken over all tokens of a row together: each token is to be normalised alone."),
            Wrong(norm_variant(order="shift, scale"),
                  "The shift comes before the scale, so the weights scale it as well: scale first, then shift."),
        ),
    ),
    Check(
        id="transformer.length_for_share",
        name="length_for_share",
        cases=share_cases,
        reference=share_by_search,
        right=(share_variant(), lambda share, hidden_size, intermediate_size: (2 * hidden_size + intermediate_size) / (1 / share - 1)),
        wrong=(
            Wrong(share_variant(of="the maps"),
                  "This length gives the quadratic part that share of the *maps'* work: asked is its share of all the work, its own "
                  "included."),
            Wrong(share_variant(of="the rest"), "The shares have changed places: this is the length at which the maps have that share."),
            Wrong(share_variant(products=1),
                  "Only the scores are counted: mixing the values is a second product over all pairs of tokens."),
            Wrong(share_variant(maps=3), "A square map is missing: query, key and value make three, and the output map is the fourth."),
            Wrong(share_variant(feed_forward=0), "The feed-forward part is missing: it is the larger share of a block's maps."),
            Wrong(share_variant(feed_forward=1), "One of the two feed-forward maps is missing: there is one up and one down."),
            Wrong(share_variant(biases=True),
                  "Parameters are counted, biases and norms among them: a bias is added, and takes part in no product."),
            Wrong(share_variant(maps=12, feed_forward=0),
                  "You took the middle to be four times as wide as the rest: it is so in BERT, and here the width is an input."),
        ),
    ),
    Check(
        id="transformer.stochastic_depth",
        name="stochastic_depth",
        cases=depth_cases,
        reference=rows_by_bernoulli,
        use=uses.in_two_calls,
        judge=depth_judged,
        right=(rows_by_dropout, rows_one_by_one, depth_variant()),
        wrong=(
            Wrong(depth_variant(coins=lambda found: tuple(found.shape)),
                  "Single numbers are dropped: that is dropout. Here a row of the batch keeps all that the branch found, or nothing of "
                  "it.",
                  seen=lambda output, case: torn_rows(output, case, whole_tokens=False)),
            Wrong(depth_variant(coins=lambda found: (*found.shape[:2], 1)),
                  "Every token has its own coin: within one row some tokens passed the branch and others did not. One coin decides for "
                  "a whole row.",
                  seen=lambda output, case: torn_rows(output, case, whole_tokens=True)),
            Wrong(depth_variant(coins=lambda found: (1, 1, 1)),
                  "One coin decides for the whole batch: all rows lose the branch or none does, so that gradients jump from step to "
                  "step.",
                  seen=lambda output, case: random_case(case) and all(half.all() or not half.any() for half in kept_and_gone(output, case)[1].chunk(2))
                  and bool(torch.stack(kept_and_gone(output, case)).any(0).all())),
            Wrong(lambda hidden_states, found, drop, training: hidden_states + (
                      found * (torch.arange(len(found)) >= drop * len(found))[:, None, None] / (1 - drop) if training else found),
                  "The same rows lose the branch at every call: coins are thrown anew each time, or some rows never learn with a whole "
                  "network.", seen=same_coins),
            Wrong(depth_variant(scale="in evaluation"),
                  "The branch is made smaller in evaluation, as in the paper of 2016: asked is the other way, scaling in training, so "
                  "that evaluation needs to know nothing.",
                  seen=lambda output, case: not case["training"] and bool(kept_and_gone(output, case, 1 - case["drop"])[0].all())),
            Wrong(depth_variant(scale="nowhere"),
                  "What stays is not scaled: on average the branch counts for less in training than in evaluation, and later layers "
                  "meet something new.",
                  seen=lambda output, case: random_case(case) and 0 < kept_and_gone(output, case, 1.0)[0].sum() < len(output)),
            Wrong(depth_variant(when="always"),
                  "Branches are dropped in evaluation too: the same input gives another answer every time.",
                  seen=lambda output, case: not case["training"] and bool(kept_and_gone(output, case)[1].any())),
            Wrong(depth_variant(road=False),
                  "The road is dropped along with the branch: for such a row everything that came before is lost, and all later layers "
                  "work on zeros.",
                  seen=lambda output, case: random_case(case) and bool(rows_like(output, torch.zeros_like(output)).any())),
            Wrong(depth_variant(swapped=True),
                  "`drop` is taken for the share that stays: it is the share that goes.",
                  seen=lambda output, case: random_case(case) and abs(share_gone(output, case) - (1 - case["drop"])) < 0.06),
            Wrong(lambda hidden_states, found, drop, training: hidden_states + found,
                  "No branch is ever dropped, in training neither.",
                  seen=lambda output, case: random_case(case) and bool(kept_and_gone(output, case, 1.0)[0].all())),
        ),
    ),
)
