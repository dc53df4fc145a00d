"""Where the NumPy encoder keeps its notes and adds up its gradients."""

import math

import numpy as np


class Workspace(dict):
    "Arrays by name: what the forward pass leaves for the backward pass, in memory that the next step uses again."

    def __init__(self, dtype: type = np.float32):
        super().__init__()
        self.dtype, self.memory = np.dtype(dtype), {}

    def take(self, name: str, *shape: int) -> np.ndarray:  # of the shape asked for, its content undefined
        "The array of this name, in old memory if it is large enough."
        size = math.prod(shape)
        if name not in self.memory or self.memory[name].size < size:
            self.memory[name] = np.empty(size, self.dtype)
        self[name] = self.memory[name][:size].reshape(shape)
        return self[name]


class Gradients(dict):
    "One array a parameter, by its name and of its shape; after `reset` the first contribution is written, later ones are added."

    def __init__(self, parameters: dict[str, np.ndarray]):  # any shapes
        super().__init__({name: np.zeros_like(array) for name, array in parameters.items()})
        self.stale = set(self)  # names that nothing was written to since `reset`

    def reset(self) -> None:
        "Forget what is there."
        self.stale = set(self)

    def add(self, name: str, value: np.ndarray) -> None:  # value: like the parameter
        "Add to one gradient."
        np.add(0 if name in self.stale else self[name], value, out=self[name])
        self.stale.discard(name)

    def add_product(self, name: str, left: np.ndarray, right: np.ndarray) -> None:  # (inputs, rows), (rows, outputs)
        "Add `left @ right`, a band of columns at a time, so that no second matrix of that size is needed."
        if name in self.stale:
            np.matmul(left, right, out=self[name])
        else:
            for start in range(0, right.shape[1], 1024):
                self[name][:, start:start + 1024] += left @ right[:, start:start + 1024]
        self.stale.discard(name)

    def added_to(self, name: str) -> np.ndarray:  # like the parameter
        "The array itself, for those who add to parts of it."
        if name in self.stale:
            self[name].fill(0)
        self.stale.discard(name)
        return self[name]
