"How answers of lesson 23 are put to use."

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from microbert_course.practice.uses import gradients_of


def loss_with_gradient(answer: Callable, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, completion_mask: Tensor, **settings: Any) -> dict[str, Tensor]:
    "The loss, and the gradient of each token's log-probability."
    logprobs.requires_grad_()
    loss = answer(logprobs, old_logprobs, advantages, completion_mask, **settings)
    return {"loss": loss} | gradients_of(loss, torch.ones(()), {"logprobs": logprobs})


def shares(answer: Callable, success: list[float], group_size: int) -> dict[str, float]:
    "The answer's dict for an array of probabilities."
    return answer(np.array(success), group_size)
