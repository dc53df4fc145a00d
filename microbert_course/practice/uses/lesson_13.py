"How answers to the exercises of lesson 13 are put to use."

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from microbert_course.models.bert import MicroBertConfig, MicroBertForMaskedLM
from microbert_course.practice.uses import gradients_of
from microbert_course.training.speed import DocumentAttention


class Machine:
    "A clock and a device that works while nobody looks; how long each call takes is written down beforehand."

    def __init__(self, old_s: list[float], new_s: list[float], asking_s: float):
        self.now, self.ready_at, self.asking_s = 0.0, 0.0, asking_s
        self.seconds, self.calls = {"old": old_s, "new": new_s}, {"old": 0, "new": 0}
        self.num_calls = 0

    def work(self, name: str) -> None:
        "Asks for work and returns; all calls get slower as time goes on."
        self.now += self.asking_s
        own = self.seconds[name]
        takes = own[min(self.calls[name], len(own) - 1)] * (1 + 0.1 * self.num_calls)
        self.ready_at = max(self.now, self.ready_at) + takes
        self.calls[name] += 1
        self.num_calls += 1

    def wait(self) -> None:
        self.now = max(self.now, self.ready_at)


def timed(answer: Callable, old_s: list[float], new_s: list[float], asking_s: float, rounds: int) -> dict[str, Any]:
    "The speedup that is answered, and how often each was called."
    machine = Machine(old_s, new_s, asking_s)
    speedup = answer(lambda: machine.work("old"), lambda: machine.work("new"), lambda: machine.now, machine.wait, rounds)
    return {"the speedup": speedup, "the calls": dict(machine.calls)}


def features(
    answer: Callable, settings: dict, weights_seed: int, input_ids: Tensor, attention_mask: Tensor, predict_at: Tensor, position_ids: Tensor | None,
) -> dict[str, Any]:
    "The features, how a sum of them pulls at the word table, and how many tokens went through the blocks."
    torch.manual_seed(weights_seed)
    model = MicroBertForMaskedLM(MicroBertConfig(**settings), DocumentAttention).double()
    seen = [0] * len(model.bert.blocks)

    def count(place: int) -> Callable:
        def hook(block, arguments):
            seen[place] += arguments[0].numel() // settings["hidden_size"]
        return hook

    for place, block in enumerate(model.bert.blocks):
        block.register_forward_pre_hook(count(place))
    result = answer(model, input_ids, attention_mask, predict_at, position_ids)
    return {"the features": result, **gradients_of(result, 2 * result.detach(), {"the word table": model.bert.embeddings.word.weight}),
            "tokens through each block": seen}
