"""How answers of lesson 04 are put to use."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from microbert_course.practice.uses import gradients_of


def feed_forward(answer: Callable, hidden_size: int, intermediate_size: int, state: dict[str, Tensor], hidden_states: Tensor,
                 upstream: Tensor) -> dict[str, Any]:
    "How the module starts, and with the weights `state` its output and all gradients."
    torch.manual_seed(hidden_size)
    built = answer(hidden_size, intermediate_size)
    fresh = {f"fresh {name}": weight.detach().clone() for name, weight in built.named_parameters()}
    built.to(hidden_states.dtype).load_state_dict(state)
    return fresh | output_and_gradients(built, hidden_states, upstream)


def output_and_gradients(built: nn.Module, hidden_states: Tensor, upstream: Tensor, **context: Any) -> dict[str, Any]:
    wanted = {"hidden_states": hidden_states.requires_grad_(), **dict(built.named_parameters())}
    output = built(hidden_states, **context)
    return {"output": output} | gradients_of(output, upstream, wanted)


class Gather(nn.Module):
    "A sublayer in which tokens meet: a map of the mean of the real ones, added to a map of the token."

    def __init__(self, weight: Tensor):  # (hidden, hidden)
        super().__init__()
        self.map = nn.Parameter(weight.clone())

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, strength: float = 1.0) -> Tensor:
        is_real = torch.ones(hidden_states.shape[:2]) if attention_mask is None else attention_mask
        is_real = is_real[..., None].to(hidden_states.dtype)
        mean = (hidden_states * is_real).sum(dim=1, keepdim=True) / is_real.sum(dim=1, keepdim=True)
        return strength * (mean + hidden_states.tanh()) @ self.map


class Plus(nn.Module):
    "In the place of a norm, something that shows where it stands: it adds."

    def __init__(self, amount: float):
        super().__init__()
        self.amount = amount

    def forward(self, hidden_states: Tensor) -> Tensor:
        return hidden_states + self.amount


def branch(answer: Callable, hidden_states: Tensor, weight: Tensor, norm_weight: Tensor, norm_bias: Tensor, upstream: Tensor,
           **context: Any) -> dict[str, Any]:
    "Output and all gradients of a branch around a sublayer, with the norm that it is handed; what the sublayer needs besides goes through it."
    norm = nn.LayerNorm(len(norm_weight)).to(hidden_states.dtype)
    norm.load_state_dict({"weight": norm_weight, "bias": norm_bias})
    return output_and_gradients(answer(Gather(weight), norm), hidden_states, upstream, **context)


def dropping_branch(answer: Callable, dropout: float, ones: Tensor, **_: Any) -> dict[str, Any]:
    "A branch whose sublayer passes everything and whose norm adds 10: what comes of ones in training, and in evaluation."
    built = answer(nn.Identity(), Plus(10.0), dropout)
    training, evaluation = built(ones), built.eval()(ones)
    return {"smallest in training": training.min().item(), "largest in training": training.max().item(),
            "share of the smallest": round((training == training.min()).double().mean().item(), 1),
            "smallest in evaluation": evaluation.min().item(), "largest in evaluation": evaluation.max().item()}


def in_two_calls(answer: Callable, hidden_states: Tensor, found: Tensor, **settings: Any) -> Tensor:
    "The rows in two calls of half of them each, so that coins which are the same in every call can be seen."
    halves = zip(hidden_states.chunk(2), found.chunk(2), strict=True)
    return torch.cat([answer(*half, **settings) for half in halves])


def branch_or_dropping(answer: Callable, **inputs: Any) -> dict[str, Any]:
    return (dropping_branch if "dropout" in inputs else branch)(answer, **inputs)
