"""How an answer is put to use: the part of a check that runs beside the learner's code, in the notebook and in the grader's sandbox.

A use takes the answer and the inputs of one case and gives back plain values. It knows no reference and no expected value: whoever
reads it learns only what the exercise states anyway. Uses of one lesson alone are in `lesson_NN.py` beside this file."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def call(answer: Callable, **inputs: Any) -> Any:
    "What the function returns."
    return answer(**inputs)


def value(answer: Any) -> Any:
    "The answer itself, for a number that was predicted or measured."
    return answer


def gradients(answer: Callable, upstream: Tensor, **inputs: Any) -> dict[str, Any]:  # upstream: as the (first) output
    "The output, and the gradient of every floating-point input for the given gradient of the output: zeros where it carries none."
    wanted = {name: tensor.requires_grad_() for name, tensor in inputs.items()
              if isinstance(tensor, Tensor) and tensor.is_floating_point()}
    output = answer(**inputs)
    first = output[0] if isinstance(output, tuple | list) else output
    if isinstance(first, Tensor) and not first.requires_grad:  # detached
        found = [torch.zeros_like(tensor) for tensor in wanted.values()]
    else:
        found = torch.autograd.grad(first, wanted.values(), upstream, allow_unused=True, materialize_grads=True)
    return {"output": output, **dict(zip((f"gradient of {name}" for name in wanted), found, strict=True))}


def module(answer: Callable, settings: dict, state: dict[str, Tensor], upstream: Tensor | None = None, **inputs: Any) -> dict[str, Any]:
    """The output of `answer(**settings)`, a torch module, with the weights `state`; with `upstream` the gradients of all weights too.

    The names of the weights are part of what the exercise states."""
    built = answer(**settings)
    built.load_state_dict(state)
    built.train(upstream is not None)
    output = built(**inputs)
    if upstream is None:
        return {"output": output}
    output.backward(upstream)
    return {"output": output, **{f"gradient of {name}": weight.grad for name, weight in built.named_parameters()}}
