"""AdamW over weights that lie end to end in one tensor: one pass over memory an update, however many weights there are."""

from itertools import groupby

import torch
import torch.distributed as dist
from torch import Tensor, nn

ALIGNED = 64  # numbers: each stretch begins at a multiple of it, so that kernels can read whole vectors


class FlatAdamW:
    """What a `torch.optim.AdamW` would do to the parameters of a module, and a 16-bit copy of those that products read.

    The parameters, their gradients and the optimizer's memories become views of a few long tensors; the optimizer keeps the names, the settings and what a
    checkpoint reads, and its own `step` must not be called any more."""

    def __init__(
        self,
        module: nn.Module,  # on its device, what is learned in float32
        optimizer: torch.optim.AdamW,  # of its parameters, new or on its way
        cast: set[str],  # names of parameters that are read in bfloat16
        max_grad_norm: float,
        accumulates: bool = True,  # whether an update has several micro-batches: their gradients are added up in float32
    ):
        named = dict(module.named_parameters())
        device = next(iter(named.values())).device
        decay = {weight: group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}

        def kind(name: str) -> tuple[bool, float]:
            "What lies together; what is read as it is comes first."
            return name in cast, decay[named[name]]

        self.stretches, places, size, self.first_cast = [], {}, 0, 0  # stretches: (start, end, weight decay as a scalar tensor)
        for (is_cast, weight_decay), names in groupby(sorted((name for name, weight in named.items() if weight.requires_grad), key=kind), key=kind):
            start = size
            for name in names:
                places[name] = slice(size, size := size + named[name].numel())
            size += -size % ALIGNED
            self.stretches.append((start, size, torch.tensor(weight_decay, device=device)))
            if not is_cast:
                self.first_cast = size
        self.weights, self.mean, self.square = (torch.zeros(size, device=device) for _ in range(3))
        self.copies = torch.zeros(size - self.first_cast, device=device, dtype=torch.bfloat16)
        self.gradient = (torch.zeros(self.first_cast, device=device),  # of what is read as it is
                         torch.zeros_like(self.copies, dtype=torch.float32 if accumulates else torch.bfloat16))  # of what is read in 16 bits
        self.num_steps, self.learning_rate, self.loss = torch.zeros(3, device=device).unbind()
        self.max_grad_norm = max_grad_norm
        self.settings = [torch.tensor(number, device=device) for number in (*optimizer.defaults["betas"], optimizer.defaults["eps"])]
        self.read = {name: weight.bfloat16() if name in cast and name not in places else weight for name, weight in named.items()}  # what forward reads, by name
        self.gradients = []  # views of `gradient`, one a parameter
        for name, place in places.items():
            weight, memory = named[name], optimizer.state.get(named[name])
            value, mean, square = (tensor[place].view_as(weight) for tensor in (self.weights, self.mean, self.square))
            value.copy_(weight.detach())
            if memory:
                self.num_steps.copy_(memory["step"])
                mean.copy_(memory["exp_avg"])
                square.copy_(memory["exp_avg_sq"])
            weight.data, weight.grad = value, None
            optimizer.state[weight] = {"step": self.num_steps, "exp_avg": mean, "exp_avg_sq": square}
            self.gradients.append(self._gradient(place).view_as(weight))
            if name in cast:
                copy = self.copies[place.start - self.first_cast : place.stop - self.first_cast].view_as(weight)
                self.read[name] = copy.copy_(weight.detach()).requires_grad_()
        self.owners = [named[name] for name in places]  # the parameters
        self.learned = [self.read[name] for name in places]  # what gradients are taken of, in the same order
        self.num_whole = sum(name not in cast for name in places)  # of those, the ones that are read as they are; they come first
        self.adamw_ = torch.compile(adamw_, dynamic=True)

    def _gradient(self, place: slice) -> Tensor:  # (n,)
        "The gradient of a stretch of numbers that lie on one side of `first_cast`."
        if place.start < self.first_cast:
            return self.gradient[0][place]
        return self.gradient[1][place.start - self.first_cast : place.stop - self.first_cast]

    def take(
        self,
        gradients: tuple[Tensor, ...],  # of `learned`
        is_first: bool,  # of an update's micro-batches
    ) -> None:
        "Put gradients in the place of what was there, or add them to it."
        put = torch._foreach_copy_ if is_first else torch._foreach_add_
        for kind in (slice(self.num_whole), slice(self.num_whole, None)):  # a dtype at a time
            if self.gradients[kind]:
                put(self.gradients[kind], gradients[kind])

    def sum_over_processes(self) -> None:
        "Add the gradients of all processes up; those of weights that are read in 16 bits travel in 16 bits, which is what they were found in."
        whole, cast = self.gradient
        dist.all_reduce(whole)
        if len(cast):
            halves = cast.bfloat16()  # itself, if it has 16 bits already
            dist.all_reduce(halves)
            cast.copy_(halves)

    @torch.no_grad()
    def step(self) -> tuple[Tensor, Tensor]:  # scalar norm of the gradient before clipping; scalar bool, whether it and the loss are numbers
        "Clip, and change the weights and their copies, unless something is no number."
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(part, dtype=torch.float32) for part in self.gradient]))
        is_finite = self.loss.isfinite() & norm.isfinite()
        self.num_steps += is_finite
        shrink = (norm / self.max_grad_norm).clamp(min=1.0)
        for start, end, weight_decay in self.stretches:
            copies = self.copies[start - self.first_cast : end - self.first_cast] if start >= self.first_cast else None
            self.adamw_(self.weights[start:end], self._gradient(slice(start, end)), self.mean[start:end], self.square[start:end], copies,
                        self.num_steps, shrink, self.learning_rate, is_finite, *self.settings, weight_decay)
        return norm, is_finite


def adamw_(
    weights: Tensor,   # (n,) float32; changed, as are all up to `copies` but the gradient
    gradient: Tensor,  # (n,) float32 or bfloat16
    mean: Tensor,      # (n,) of the gradients so far
    square: Tensor,    # (n,) mean of their squares
    copies: Tensor | None,  # (n,) bfloat16, the weights again
    num_steps: Tensor,  # scalar, this one included
    shrink: Tensor,  # scalar by which the gradient is divided
    learning_rate: Tensor,  # scalar
    is_finite: Tensor,  # scalar bool; False: nothing changes
    beta1: Tensor,  # scalar, as are all that follow
    beta2: Tensor,
    eps: Tensor,
    weight_decay: Tensor,
) -> None:
    """One update as in lesson 8 (Loshchilov & Hutter 2019, Algorithm 2); compiled, it is a single kernel.

    The settings are tensors, because torch keeps compiled kernels on the disk, and one that was compiled for another float was taken from there (2.13)."""
    gradient = gradient.float() / shrink
    new_mean, new_square = mean.lerp(gradient, 1 - beta1), beta2 * square + (1 - beta2) * gradient.square()
    denominator = (new_square / (1 - beta2**num_steps)).sqrt() + eps
    moved = weights * (1 - learning_rate * weight_decay) - learning_rate / (1 - beta1**num_steps) * new_mean / denominator
    moved = torch.where(is_finite, moved, weights)
    mean.copy_(torch.where(is_finite, new_mean, mean))
    square.copy_(torch.where(is_finite, new_square, square))
    weights.copy_(moved)
    if copies is not None:
        copies.copy_(moved)
