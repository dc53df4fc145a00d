"""A compact AdamW in NumPy; lesson 08 builds it step by step."""

import math

import numpy as np

CHUNK = 16_384  # numbers updated at a time: the five arrays involved then stay in the cache


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, Algorithm 2); matrices decay, vectors do not.

    Raises: ValueError if a rate, a beta, eps or a decay is outside its range."""

    def __init__(
        self,
        parameters: dict[str, np.ndarray],  # any shapes, contiguous; updated in place
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        if not 0 <= learning_rate < math.inf:
            raise ValueError(f"learning_rate {learning_rate} is negative or not a number: choose 0 or more, such as 1e-3")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas {betas} are not two numbers of at least 0 and below 1: the usual pair is (0.9, 0.999)")
        if not 0 < eps < math.inf:
            raise ValueError(f"eps {eps} is not a small number above 0: the usual one is 1e-8")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"weight_decay {weight_decay} is negative or not a number: choose 0 or more, such as 0.01")
        self.parameters, self.learning_rate, self.betas = parameters, learning_rate, betas
        self.eps, self.weight_decay, self.num_steps = eps, weight_decay, 0
        self.means = {name: np.zeros_like(array) for name, array in parameters.items()}
        self.squares = {name: np.zeros_like(array) for name, array in parameters.items()}

    def step(
        self,
        gradients: dict[str, np.ndarray],  # shapes as the parameters'
        learning_rate: float | None = None,  # for this step alone; None: the usual one
        scale: float = 1.0,  # gradients are multiplied by this on the way, as clipping asks
    ) -> None:
        "One update of every parameter."
        rate = self.learning_rate if learning_rate is None else learning_rate
        self.num_steps += 1
        for name, parameter in self.parameters.items():
            decay = rate * self.weight_decay if parameter.ndim > 1 else 0.0
            arrays = [array.reshape(-1) for array in (parameter, gradients[name], self.means[name], self.squares[name])]
            for start in range(0, parameter.size, CHUNK):
                self._update(*(array[start:start + CHUNK] for array in arrays), rate, decay, scale)

    def _update(self, parameter, gradient, mean, square, rate, decay, scale):  # (CHUNK,) each, views
        beta1, beta2 = self.betas
        change = gradient * scale
        mean *= beta1
        mean += (1 - beta1) * change
        change *= change
        change *= 1 - beta2
        square *= beta2
        square += change
        np.sqrt(square, out=change)
        change *= 1 / math.sqrt(1 - beta2**self.num_steps)
        change += self.eps
        np.divide(mean, change, out=change)
        change *= rate / (1 - beta1**self.num_steps)
        parameter *= 1 - decay
        parameter -= change

    def state(self) -> dict[str, np.ndarray]:  # both memories of every parameter, and the number of steps
        "What it takes to go on later; arrays, not copies."
        memories = {f"{kind}.{name}": array for kind, memory in (("mean", self.means), ("square", self.squares))
                    for name, array in memory.items()}
        return memories | {"num_steps": np.asarray(self.num_steps)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:  # as `state` gave it
        """Go on from there.

        Raises: ValueError if a memory is missing or has another shape."""
        for kind, memory in (("mean", self.means), ("square", self.squares)):
            for name, array in memory.items():
                saved = state.get(f"{kind}.{name}")
                if saved is None or saved.shape != array.shape:
                    raise ValueError(f"the optimizer's {kind} of {name} is {'missing' if saved is None else saved.shape} "
                                     f"where {array.shape} is expected: use the state of the same model")
                array[...] = saved
        self.num_steps = int(state["num_steps"])


def clipping_scale(
    gradients: dict[str, np.ndarray],  # any shapes
    max_grad_norm: float,
) -> float:  # 1, or less if the gradients together are longer than `max_grad_norm`
    """What to multiply the gradients with so that their norm is at most `max_grad_norm` (Pascanu et al. 2013, §3.2).

    Raises: ValueError if the norm is not finite: such gradients would spoil every parameter."""
    norm = math.sqrt(sum(float(np.vdot(array, array)) for array in gradients.values()))
    if not math.isfinite(norm):
        raise ValueError(f"the gradients' norm is {norm}: lower the learning rate")
    return min(1.0, max_grad_norm / max(norm, 1e-12))
