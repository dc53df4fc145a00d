"""How answers of lesson 17 are put to use."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from microbert_course.models.bert import MicroBertConfig
from microbert_course.posttraining.classification import MicroBertForSequenceClassification
from microbert_course.practice.uses import gradients_of


def trained(answer: Callable, num_layers: int, choices: list[str], is_training: bool) -> list[dict[str, Any]]:
    "After each choice, on one model: what has a gradient to come, what drops out, whether weights and model are still the same."
    torch.manual_seed(0)
    model = MicroBertForSequenceClassification(MicroBertConfig(20, 8, num_layers, 2, 12, max_seq_len=6, dropout=0.5), ("neg", "pos")).train(is_training)
    before, record = {name: weight.clone() for name, weight in model.state_dict().items()}, []
    for layers in choices:
        answered = answer(model, layers)
        parts = {"embeddings": model.bert.embeddings, **{f"block {number}": block for number, block in enumerate(model.bert.blocks)},
                 "pooler": model.bert.pooler, "classifier": model.classifier}
        record.append({"layers": layers, "learns": {name: _share_learning(part) for name, part in parts.items()},
                       "drops out": {name: part.training for name, part in parts.items()}, "answers the model": answered is model,
                       "weights as they were": all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())})
    return record


def _share_learning(part: torch.nn.Module) -> float:
    "Of the parameters of a part, the share that gets a gradient."
    flags = [parameter.requires_grad for parameter in part.parameters()]
    return sum(flags) / len(flags)


def loss_and_gradient(answer: Callable, logits: Tensor, **inputs: Any) -> dict[str, Any]:
    "The loss, and what it tells the logits."
    loss = answer(logits=logits.requires_grad_(), **inputs)
    return {"loss": loss} | gradients_of(loss, torch.ones(()), {"logits": logits})
