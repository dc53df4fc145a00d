"""Checks of the exercises on mixed precision."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_10 as uses

# 10.1: the scaler

def scaler_cases(rng: np.random.Generator) -> list[Case]:
    "Good and bad updates in a row, with gradients looked at before the step and not; a change of scalers half-way; a loss in fp16; what is refused."
    cases, places = [], iter((0, 2, 2, 0, 2))  # of infinities and of NaN some are in the first gradient and some in the last
    for kinds, interval, power, reload_before in (("gggggigggggnggg", 3, 12, None), ("iggngiggggggggg", 4, 20, 8)):
        updates, scale = [], 2.0**power
        for kind in kinds:
            update = [tensor(rng, 2, 3) * scale, None, tensor(rng, 4) * scale]
            if kind != "g":
                bad = {"i": float(rng.choice([-math.inf, math.inf])), "n": math.nan}[kind]
                update[next(places)].view(-1)[int(rng.integers(0, 4))] = bad
            updates.append(update)
        first = [bool(number % 2) for number in range(len(kinds))]
        cases.append({"settings": {"init_scale": scale, "growth_interval": interval}, "weights": [tensor(rng, 2, 3), tensor(rng, 5), tensor(rng, 4)],
                      "gradients": updates, "loss": tensor(rng), "unscale_first": first, "reload_before": reload_before})
    steep = {"settings": {"init_scale": 64.0, "growth_factor": 8.0, "backoff_factor": 0.25, "growth_interval": 1}, "weights": [tensor(rng, 3)],
             "gradients": [[tensor(rng, 3)], [torch.full((3,), math.inf)], [tensor(rng, 3)]],
             "loss": tensor(rng), "unscale_first": [True, True, False]}
    short = {"settings": {}, "weights": [tensor(rng, 2)], "gradients": [[tensor(rng, 2)]],
             "loss": torch.tensor(float(rng.uniform(2, 9)), dtype=torch.float16), "unscale_first": [False]}
    return [*cases, steep, short, {**short, "settings": {"init_scale": 1000.0}}]


class Base:
    "What every variant has: settings that are checked, and a state."

    def __init__(self, init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2_000):
        if any(math.frexp(value)[0] != 0.5 for value in (init_scale, growth_factor, backoff_factor)):
            raise ValueError("no power of two")
        self.loss_scale, self.growth_factor, self.backoff_factor = float(init_scale), growth_factor, backoff_factor
        self.growth_interval, self.good_steps, self.seen = growth_interval, 0, None

    def state_dict(self):
        return {"scale": self.loss_scale, "growth_factor": self.growth_factor, "backoff_factor": self.backoff_factor,
                "growth_interval": self.growth_interval, "_growth_tracker": self.good_steps}

    def load_state_dict(self, state):
        self.__init__(state["scale"], state["growth_factor"], state["backoff_factor"], state["growth_interval"])
        self.good_steps = state["_growth_tracker"]


def scaler_variant(skips: bool = True, sees: str = "both", looks_at: str = "all", forgets: bool = True, grows: str = "interval", unscales: str = "once",
                   factors: str = "given", loss_in: str = "float32", restarts: bool = True, backs_off: bool = True):
    "A scaler with one thing done otherwise."

    class Variant(Base):
        def scale(self, loss):
            return loss * self.loss_scale if loss_in == "own" else loss.float() * self.loss_scale

        @torch.no_grad()
        def unscale_(self, optimizer):
            groups = optimizer.param_groups[:1 if looks_at == "first group" else None]
            gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
            test = {"both": torch.isfinite, "inf": lambda x: ~x.isinf(), "nan": lambda x: ~x.isnan()}[sees]
            good = [bool(test(gradient).all()) for gradient in gradients]
            self.seen = {"first": good[0], "last": good[-1]}.get(looks_at, all(good))
            for gradient in gradients:
                gradient.mul_(self.loss_scale if unscales == "wrong way" else 1 / self.loss_scale)
            return self.seen

        def step(self, optimizer):
            good = self.unscale_(optimizer) if self.seen is None or unscales == "twice" else self.seen
            if good or not skips:
                optimizer.step()
            if forgets:
                self.seen = None
            up, down = (self.growth_factor, self.backoff_factor) if factors == "given" else (2.0, 0.5)
            if not good:
                self.loss_scale *= down if backs_off else 1.0
                self.good_steps = 0 if restarts else self.good_steps
                return good
            self.good_steps += 1
            if self.good_steps == self.growth_interval + (grows == "late") or grows == "always":
                self.loss_scale, self.good_steps = self.loss_scale * up, self.good_steps if grows == "once" else 0
            return good

    return Variant


class TorchScaler(Base):
    "torch.amp.GradScaler behind our names; it says nothing, so what it did is read off the scale and the gradients."

    def __init__(self, *settings, **named):
        super().__init__(*settings, **named)
        self.inner = torch.amp.GradScaler("cpu", self.loss_scale, self.growth_factor, self.backoff_factor, self.growth_interval)
        self.inner._init_growth_tracker = self.good_steps

    def scale(self, loss):
        return self.inner.scale(loss)

    def unscale_(self, optimizer):
        self.inner.scale(torch.zeros(()))  # GradScaler wants to have scaled something
        self.inner.unscale_(optimizer)
        self.seen = True
        return all(bool(p.grad.isfinite().all()) for group in optimizer.param_groups for p in group["params"] if p.grad is not None)

    def step(self, optimizer):
        good = self.unscale_(optimizer) if self.seen is None else all(
            bool(p.grad.isfinite().all()) for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
        self.inner.step(optimizer)
        self.inner.update()
        self.loss_scale, self.good_steps, self.seen = self.inner.get_scale(), self.inner._get_growth_tracker(), None
        return good

    def load_state_dict(self, state):
        self.inner.load_state_dict(state)
        self.loss_scale = self.inner.get_scale()


class ExponentScaler(Base):
    "One long vector of all gradients; its sum times 0 is 0 where all are finite, and NaN elsewhere."

    def scale(self, loss):
        return torch.ldexp(loss.to(torch.promote_types(loss.dtype, torch.float32)), torch.tensor(round(math.log2(self.loss_scale))))

    def unscale_(self, optimizer):
        with torch.no_grad():
            found = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            self.seen = (torch.cat([gradient.flatten() for gradient in found]) * 0).sum().item() == 0
            for gradient in found:
                gradient /= self.loss_scale
        return self.seen

    def step(self, optimizer):
        if self.seen is None:
            self.unscale_(optimizer)
        good, self.seen = self.seen, None
        if good:
            optimizer.step()
        self.good_steps = (self.good_steps + 1) % self.growth_interval if good else 0
        if not good:
            self.loss_scale = self.loss_scale * self.backoff_factor
        elif self.good_steps == 0:
            self.loss_scale = self.loss_scale * self.growth_factor
        return good


class ForgetfulScaler(scaler_variant()):
    def load_state_dict(self, state):
        super().load_state_dict({**state, "_growth_tracker": 0})


# 10.2: a norm in half precision

def norm_cases(rng: np.random.Generator) -> list[Case]:
    "Large rows, small rows, rows of zeros, long rows, rows with one large number; fp16, bf16 and fp32."
    cases = []
    for rows, hidden, dtype, size in ((3, 5, torch.float16, 1.0), (2, 7, torch.float16, 3000.0), (4, 6, torch.float16, 3e-4),
                                      (2, 600, torch.bfloat16, 1.0), (2, 9, torch.float32, 1e-3), (2, 40, torch.float16, 60.0)):
        states = (size * (1 + 0.5 * tensor(rng, rows, hidden))).to(dtype)
        if rows > 2:
            states[1] = 0
        if hidden == 40:
            states[:, int(rng.integers(0, 40))] = 1000.0  # its square is infinite in fp16, and the mean square is not
        cases.append({"hidden_states": states, "scale": 1 + 0.3 * tensor(rng, hidden), "eps": float(rng.uniform(1e-8, 3e-8))})
    return cases


def norm_variant(squares_in: str = "float32", sum_in: str = "float32", eps_in: str = "float32", back: bool = True, raised: bool = False,
                 centred: bool = False, cut: bool = False):
    "The norm with some things done otherwise; what is not in float32 is in the dtype of the input."

    def rms_norm(hidden_states, scale, eps=1e-8):
        def to(x: Tensor, where: str) -> Tensor:
            return x.to(hidden_states.dtype) if where == "own" else x.float()

        states = hidden_states.float() - hidden_states.float().mean(-1, keepdim=True) if centred else hidden_states
        squares = to(states, squares_in).square()
        if cut:
            squares = squares.clamp(max=torch.finfo(squares.dtype).max)
        total = to(torch.zeros_like(squares[..., :1]), sum_in)
        if sum_in == "own":
            for column in squares.to(total.dtype).unbind(-1):
                total = total + column[..., None]
        else:
            total = squares.float().sum(-1, keepdim=True)
        mean = to(total / hidden_states.size(-1), eps_in)
        root = (mean + to(torch.tensor(max(eps, 1e-4) if raised else eps), eps_in)).sqrt()
        result = states / root * scale
        return result.to(hidden_states.dtype) if back else result

    return rms_norm


def double_norm(hidden_states, scale, eps=1e-8):
    "All in float64, by NumPy."
    states = hidden_states.double().numpy()
    result = states / np.sqrt(np.mean(states**2, axis=-1, keepdims=True) + eps) * scale.double().numpy()
    return torch.from_numpy(result).to(hidden_states.dtype)


def torch_norm(hidden_states, scale, eps=1e-8):
    return F.rms_norm(hidden_states.float(), scale.shape, scale, eps).to(hidden_states.dtype)


def length_norm(hidden_states, scale, eps=1e-8):
    "The length of each row with eps as one more entry; rounded once before the scale, as Llama does it."
    states = hidden_states.to(torch.float32)
    padded = F.pad(states, (0, 1), value=math.sqrt(eps * states.size(-1)))
    root = torch.linalg.vector_norm(padded, dim=-1, keepdim=True) / math.sqrt(states.size(-1))
    return (states / root).to(hidden_states.dtype) * scale.to(hidden_states.dtype)


# 10.3: a weight in two halves

def halves_cases(rng: np.random.Generator) -> list[Case]:
    """Weights from 1 to 4 of either sign, updates a tenth of what bf16 would notice: few, many, and in both directions; then
    weights of 0, which notice all of an update. All sums are exact in float32."""
    cases = []
    for size, num_updates, both_ways in ((2, 3, False), (3, 40, False), (5, 60, True)):
        weight = (torch.from_numpy(rng.uniform(1, 4, size) * rng.choice([-1, 1], size))).bfloat16()
        updates = torch.from_numpy(rng.integers(1, 9, (num_updates, size)) / 2**13).float()
        if both_ways:
            updates = updates * torch.from_numpy(rng.choice([-1, 1, 1], (num_updates, size))).float()
        cases.append({"weight": weight, "updates": updates})
    return [*cases, {"weight": torch.zeros(6, dtype=torch.bfloat16), "updates": 0.01 * tensor(rng, 1, 6)}]


def halves_variant(sum_in=torch.float32, rest_used: bool = True, sign: int = 1, rest_in=torch.bfloat16, weight_in=torch.bfloat16,
                   update_in=torch.float32):
    "The update with one thing done otherwise."

    def update_halves(weight, rest, update):
        total = weight.to(sum_in) + update.to(update_in).to(sum_in) + (rest.to(sum_in) if rest_used else 0)
        moved = total.to(torch.bfloat16)
        return moved.to(weight_in), (sign * (total.float() - moved.float())).to(rest_in)

    return update_halves


def exact_halves(weight, rest, update):
    "In float64, by NumPy, with the nearest bf16 number from its own steps."
    def nearest(x: np.ndarray) -> np.ndarray:
        step = 2.0 ** (np.frexp(x)[1] - 8.0)
        return np.round(x / step) * step

    total = weight.double().numpy() + rest.double().numpy() + update.double().numpy()
    moved = nearest(total)
    return torch.from_numpy(moved).bfloat16(), torch.from_numpy(nearest(total - moved)).bfloat16()


def rest_first_halves(weight, rest, update):
    "The update joins the rest, and what of the two bf16 can see in the weight moves over."
    small = rest.float() + update
    moved = torch.add(weight.float(), small).bfloat16()
    return moved, (small - (moved.float() - weight.float())).bfloat16()


def cut_halves(weight, rest, update):
    "Towards zero instead of to the nearest: the upper sixteen bits of float32."
    total = weight.float() + rest.float() + update
    moved = (total.view(torch.int32) & -65536).view(torch.float32)
    return moved.bfloat16(), (total - moved).bfloat16()


CHECKS = (
    Check(
        id="precision.loss_scaler",
        name="LossScaler",
        builds="training.precision.LossScaler",
        cases=scaler_cases,
        use=uses.scaler_walk,
        reference=TorchScaler,
        right=(scaler_variant(), ExponentScaler),
        wrong=(
            Wrong(scaler_variant(skips=False),
                  "The optimizer takes its step with infinite gradients too: after the first bad update the weights are no numbers any "
                  "more, and never will be again."),
            Wrong(scaler_variant(sees="inf"),
                  "You look for infinities and not for NaN. An infinity minus another one is NaN, so both come from overflow."),
            Wrong(scaler_variant(sees="nan"),
                  "You look for NaN and not for infinities: they are what an overflow makes first."),
            Wrong(scaler_variant(looks_at="first"),
                  "You judge the update by its first gradient. One bad number anywhere spoils it."),
            Wrong(scaler_variant(looks_at="last"),
                  "Only the last gradient decides: each one overwrites what was found in those before it."),
            Wrong(scaler_variant(looks_at="first group"),
                  "Only the first group of the optimizer is looked at and unscaled: most have two, matrices that decay and vectors that do not."),
            Wrong(scaler_variant(unscales="twice"),
                  "Gradients that somebody has unscaled already are unscaled again by step, and become next to nothing."),
            Wrong(scaler_variant(unscales="wrong way"),
                  "You multiply the gradients by the scale once more, instead of taking it away."),
            Wrong(scaler_variant(forgets=False),
                  "What was found in one update is still believed in the next: forget it at the end of step, or later gradients are neither "
                  "looked at nor unscaled."),
            Wrong(scaler_variant(grows="always"),
                  "The scale grows with every good update; it is to wait for growth_interval of them."),
            Wrong(scaler_variant(grows="late"),
                  "The scale grows one update late: it is due with the growth_interval-th good update itself."),
            Wrong(scaler_variant(grows="once"),
                  "The scale grows once and never again: after growing, the count starts from 0."),
            Wrong(scaler_variant(restarts=False),
                  "A bad update does not start the count anew. Good updates must come in a row, or the scale climbs back into the overflow."),
            Wrong(scaler_variant(backs_off=False),
                  "Bad updates are skipped, but the scale stays: the next one overflows as well, and the one after that."),
            Wrong(scaler_variant(factors="fixed"),
                  "You halve and double, whatever the settings say: growth_factor and backoff_factor are not used."),
            Wrong(scaler_variant(loss_in="own"),
                  "A loss in fp16 is scaled in fp16, where 65,536 is already infinite: the product must be in float32."),
            Wrong(ForgetfulScaler,
                  "The count of good updates is lost when a state is loaded: a resumed run grows its scale at other updates."),
        ),
    ),
    Check(
        id="precision.rms_norm",
        name="mended_rms_norm",
        cases=norm_cases,
        reference=double_norm,
        right=(norm_variant(), torch_norm, length_norm),
        wrong=(
            Wrong(norm_variant("own", "own", "own"),
                  "This is still the norm as you found it: all three faults are in."),
            Wrong(norm_variant("own", "float32", "float32"),
                  "The squares are still made in 16 bits: that of 300 is infinite in fp16 and that of 0.0001 is 0, and a sum in float32 comes "
                  "too late for both."),
            Wrong(norm_variant("float32", "float32", "own"),
                  "The mean goes back to 16 bits before eps is added. There eps is 0 in fp16, and so is the mean of small squares: a row of "
                  "zeros becomes 0 / 0."),
            Wrong(norm_variant("own", "float32", "own"),
                  "The sum is right now. Squares and eps are still in 16 bits, where one overflows and the other is 0."),
            Wrong(norm_variant("own", "own", "float32"),
                  "eps is right now. Squares and sum are still in 16 bits."),
            Wrong(norm_variant(back=False),
                  "The result is in float32: everything after the norm would compute in 32 bits without anybody having asked for it. Give it "
                  "back in the dtype that came in."),
            Wrong(norm_variant("own", "own", "own", raised=True),
                  "You raised eps until fp16 could see it. Small rows are now divided by eps instead of by their own size; and squares and "
                  "sum are still in 16 bits."),
            Wrong(norm_variant(raised=True),
                  "eps is not the one that was asked for: small rows are divided by it instead of by their own size. In float32 there is no "
                  "need to raise it."),
            Wrong(norm_variant("own", "float32", "float32", cut=True),
                  "You cut the squares off at the largest number of fp16. No infinity any more, and a wrong root in its place."),
            Wrong(norm_variant(centred=True),
                  "You take the mean of the row away first. That is LayerNorm; here only the root of the mean square counts."),
        ),
    ),
    Check(
        id="precision.two_halves",
        name="update_halves",
        cases=halves_cases,
        use=uses.halves_walk,
        reference=exact_halves,
        right=(halves_variant(), rest_first_halves),
        tolerance=2.0**-13,  # the rest has eight bits, from half a step of the weight downwards; a step of the weight is 2**-8
        wrong=(
            Wrong(halves_variant(rest_used=False),
                  "You work out what rounding took away and never add it back: only the newest update is remembered."),
            Wrong(halves_variant(sum_in=torch.bfloat16),
                  "The rest is always 0, as it is when the sum is made in bf16: nothing is left that it could keep, and this is a plain bf16 weight, which "
                  "stands still. Add up in float32, and round afterwards."),
            Wrong(halves_variant(sign=-1),
                  "Your rest has the wrong sign: it should be what is missing from the weight, total minus weight, so that the two add up."),
            Wrong(halves_variant(rest_in=torch.float32),
                  "The rest is in float32: together that is 48 bits a weight, more than the master weight that was to be saved."),
            Wrong(halves_variant(weight_in=torch.float32),
                  "The weight comes back in float32: it was to be in bf16, ready for the products."),
            Wrong(halves_variant(update_in=torch.bfloat16),
                  "The update is rounded to bf16 before it is added. What it loses there no rest can keep: add up in float32."),
            Wrong(cut_halves,
                  "Your weight is cut off and not rounded: on average it is half a step too small. Let torch round to the nearest."),
        ),
    ),
)
