"How answers of lesson 20 are put to use."

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from microbert_course.models.lora import LoraConfig
from microbert_course.practice.uses import gradients_of


def low_rank(answer: type, in_features: int, out_features: int, settings: dict[str, Any], state: dict[str, Tensor] | None = None,
             inputs: Tensor | None = None, upstream: Tensor | None = None) -> dict[str, Any]:
    """A fresh pair; with `state`, its numbers replaced, what it answers in evaluation, its large matrix and its gradients.

    With dropout and rows of B that are all equal, what can be said of every draw: the spread of a sum of many inputs, next to what a whole
    answer dropped would give, and whether the rows' answers differ."""
    built = answer(in_features, out_features, LoraConfig(**settings))
    if state is None:
        bound = 1 / math.sqrt(in_features)
        return {"A's shape, type and largest number times √in": [*built.A.shape, str(built.A.dtype), round(built.A.abs().max().item() / bound, 1)],
                "A's spread times √in": round(built.A.std().item() / bound, 1), "B's shape and type": [*built.B.shape, str(built.B.dtype)],
                "B": built.B.detach().clone(), "what is trained": sorted(name for name, p in built.named_parameters() if p.requires_grad)}
    with torch.no_grad():
        built.A.copy_(state["A"])
        built.B.copy_(state["B"])
    if upstream is None:
        built.train()
        answers = built(inputs)  # (batch, out_features)
        spread = answers.std(dim=0) / answers.mean(dim=0).abs() * math.sqrt(in_features)
        return {"spread in training": [round(value) for value in spread.tolist()],
                "answers of equal rows of B differ": bool((answers.amax(dim=1) - answers.amin(dim=1) > 1e-3 * answers.abs().amax()).any())}
    built.eval()
    if inputs.dtype == torch.float32:
        inputs = inputs.requires_grad_()
    kept = []  # shapes of what autograd keeps for the way back
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(sorted(tensor.shape)) or tensor, lambda tensor: tensor):
        output = built(inputs)
    return {"forward builds the large matrix": sorted((in_features, out_features)) in kept, "answer": output, "its type": str(output.dtype), "large matrix": built.change(),
            **gradients_of(output, upstream, {"A": built.A, "B": built.B, "the inputs": inputs})}


def merged(answer: Callable, weight: Tensor, parts: list[dict], lora_alpha: float) -> Tensor:
    "The merged weight; a part comes as a start and a stop, an A and a B."
    return answer(weight, [(slice(part["start"], part["stop"]), part["A"], part["B"]) for part in parts], lora_alpha)
