"""The checks of the exercises, one module a lesson: inputs, reference, zoo. The grader's sandbox never sees this folder."""

import numpy as np
import torch
from torch import Tensor


def tensor(rng: np.random.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:  # of the shape asked for
    "Normal numbers."
    return torch.from_numpy(rng.standard_normal(shape)).to(dtype)
