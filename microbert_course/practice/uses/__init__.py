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
    return {"output": output} | gradients_of(output[0] if isinstance(output, tuple | list) and output else output, upstream, wanted)


def gradients_of(output: Any, upstream: Tensor, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    "What the gradient `upstream` of an output tells each tensor: zeros where that is detached, or no tensor of its shape, which shows in the output."
    if isinstance(output, Tensor) and output.requires_grad and output.shape == upstream.shape:
        output.backward(upstream)
    return {f"gradient of {name}": torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for name, tensor in wanted.items()}


def module(answer: Callable, settings: dict, state: dict[str, Tensor], upstream: Tensor | None = None, **inputs: Any) -> dict[str, Any]:
    """The output of `answer(**settings)`, a torch module, with the weights `state`; with `upstream` the gradients of all weights too.

    The names of the weights are part of what the exercise states."""
    built = answer(**settings)
    built.load_state_dict(state)
    built.train(upstream is not None)
    output = built(**inputs)
    if upstream is None:
        return {"output": output}
    return {"output": output} | gradients_of(output, upstream, dict(built.named_parameters()))
