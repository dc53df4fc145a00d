"""How answers of lesson 05 are put to use."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from microbert_course.models.bert import MicroBert, MicroBertConfig
from microbert_course.practice.uses import gradients_of


def with_encoder(answer: Callable, settings: dict[str, Any], state: dict[str, Tensor], **inputs: Any) -> Any:
    "What the function makes of an encoder with these settings and weights, in eval mode, and of the inputs."
    bert = MicroBert(MicroBertConfig(**settings))
    bert.load_state_dict(state)
    return answer(bert.eval(), **inputs)


def head(answer: Callable, settings: dict[str, Any], state: dict[str, Tensor], hidden_states: Tensor, word_embeddings: Tensor,
         upstream: Tensor) -> dict[str, Any]:
    "A head's weights, what it computes with the weights `state`, and what the gradient tells the shared table, the hidden states and its parameters."
    built = answer(MicroBertConfig(**settings)).to(hidden_states.dtype)
    weights = {name: list(weight.shape) for name, weight in built.state_dict().items()}
    if weights.keys() != state.keys():
        return {"weights": weights, "fresh bias": None, "transform": None, "logits": None, "gradients": None}
    fresh_bias = built.bias.detach().clone()
    built.load_state_dict(state)
    wanted = {"word_embeddings": word_embeddings.requires_grad_(), "hidden_states": hidden_states.requires_grad_(), **dict(built.named_parameters())}
    logits = built(hidden_states, word_embeddings)
    return {"weights": weights, "fresh bias": fresh_bias, "transform": built.transform(hidden_states), "logits": logits,
            "gradients": gradients_of(logits, upstream, wanted)}
