"""How answers of lesson 03 are put to use."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from microbert_course.practice.uses import gradients, gradients_of


def attention(answer: Callable, value: Tensor, dropout: float | None = None, upstream: Tensor | None = None, **inputs: Any) -> Any:
    """Context and weights; with `upstream`, a gradient of the context, the gradients too.

    With `dropout`, what can be said of every draw: how many weights went, and whether the same ones everywhere, what became of the
    others, and whether those mixed the values."""
    if upstream is not None:
        return gradients(answer, upstream, value=value, **inputs)
    if dropout is None:
        return answer(value=value, **inputs)
    full = answer(value=value, **inputs)[1]
    context, weights = answer(value=value, dropout=dropout, **inputs)
    factors = (weights / full)[weights != 0]
    return {"share of weights dropped": round((weights == 0).double().mean().item(), 1),
            "what is dropped differs between": unlike((weights == 0).double(), ("texts", "heads", "queries", "keys")),
            "what kept weights are multiplied by": [factors.min().item(), factors.max().item()],
            "the returned weights mixed the values": torch.allclose(context, weights @ value)}


def unlike(values: Tensor, dims: tuple[str, ...]) -> dict[str, bool]:
    "For each named dimension, whether what lies along it is not all the same, but for rounding."
    return {name: (values.amax(dim) - values.amin(dim)).max().item() > 1e-3 for dim, name in enumerate(dims)}


def multi_head(answer: Callable, settings: dict, state: dict[str, Tensor], hidden_states: Tensor, attention_mask: Tensor | None = None,
               upstream: Tensor | None = None) -> dict[str, Any]:
    """Heads, output and gradients of `answer(**settings)`, a module with the weights `state`, in evaluation; then one pass in training.

    Padding counts for nothing, as the exercise says, except that it must be finite."""
    built = answer(**settings).to(hidden_states.dtype)
    built.load_state_dict(state)
    built.eval()
    output = built(hidden_states.requires_grad_(), attention_mask)
    is_real = torch.ones(output.shape[:2], dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    found = {"query, key and value": list(built.split_heads(hidden_states)), "output": output.masked_fill(~is_real[..., None], 0.0),
             "finite everywhere": bool(output.isfinite().all())}
    if upstream is not None:
        found |= gradients_of(output, upstream * is_real[..., None], {"hidden_states": hidden_states, **dict(built.named_parameters())})
    if settings.get("dropout"):
        output = built.train()(hidden_states, attention_mask)
        found |= {"mean in training": round(output.mean().item(), 1),
                  "spread in training": round(2 * output.var().item() * hidden_states.size(1)) / 2,
                  "what is dropped differs between": unlike(output.unflatten(-1, (settings["num_heads"], -1)), ("texts", "queries", "heads"))}
    return found
