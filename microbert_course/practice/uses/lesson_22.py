"""How answers of lesson 22 are put to use."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from microbert_course.practice.uses import gradients, gradients_of


def routing(answer: Callable, logits: Tensor, top_k: int, normalize: bool, upstream: Tensor | None = None) -> Any:
    "Weights and experts; with `upstream`, a gradient of the weights, that of the scores too."
    if upstream is None:
        return answer(logits, top_k, normalize)
    return gradients(answer, upstream, logits=logits, top_k=top_k, normalize=normalize)


def balance(answer: Callable, logits: Tensor, experts: Tensor, is_real: Tensor) -> dict[str, Any]:
    "The loss, and its gradient for the scores: zeros where it carries none."
    logits = logits.requires_grad_()
    loss = answer(logits, experts, is_real)
    return {"loss": loss} | gradients_of(loss, torch.ones(()), {"logits": logits})
