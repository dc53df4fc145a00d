"""How answers of lesson 06 are put to use."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from microbert_course.models.bert import MicroBertConfig, MicroBertForMaskedLM
from microbert_course.practice.uses import gradients_of


def masking(answer: Callable, seed: int, **inputs: Any) -> dict[str, Any]:
    "A masked batch, whether the same generator gives it once more, whether one that has moved on gives another, and whether all draws ask for as many tokens."
    copies = [{name: value.clone() if isinstance(value, Tensor) else value for name, value in inputs.items()} for _ in range(5)]
    generator = torch.Generator().manual_seed(seed)
    corrupted, labels = answer(**inputs, generator=generator)
    later = answer(**copies[0], generator=generator)[1]
    again = answer(**copies[1], generator=torch.Generator().manual_seed(seed))
    unseeded = [answer(**copy)[1] for copy in copies[2:]]  # without a generator
    return {"corrupted": corrupted, "labels": labels, "repeats": torch.equal(again[0], corrupted) and torch.equal(again[1], labels),
            "moves on": not torch.equal(later, labels), "always as many": len({int((found != -100).sum()) for found in (labels, later, *unseeded)}) == 1}


def training_loss(answer: Callable, settings: dict[str, Any], state: dict[str, Tensor], **inputs: Any) -> dict[str, Any]:
    "The loss that the function finds for a model with these settings and weights, and what its gradient tells the word table."
    model = MicroBertForMaskedLM(MicroBertConfig(**settings))
    model.load_state_dict(state)
    loss = answer(model, **inputs)
    return {"loss": loss} | gradients_of(loss, torch.ones(()), {"the word table": model.bert.embeddings.word.weight})


def masks_by_epoch(answer: Callable, row_numbers: Tensor, special_tokens_mask: Tensor, seeds: list[int], epochs: list[int], order: Tensor,
                   mlm_probability: float) -> dict[str, Any]:
    "The masks of some rows for every seed and epoch; those of the first epoch when the rows come in another order, and one at a time."

    def draw(seed: int, epoch: int, rows: Tensor) -> Tensor:
        return answer(row_numbers[rows], special_tokens_mask[rows], seed, epoch, mlm_probability)

    everything = torch.arange(len(row_numbers))
    before = torch.get_rng_state()
    masks = torch.stack([torch.stack([draw(seed, epoch, everything) for epoch in epochs]) for seed in seeds])
    return {"masks": masks, "in order": draw(seeds[0], epochs[0], order),
            "one by one": torch.cat([draw(seeds[0], epochs[0], row[None]) for row in everything]),
            "leaves torch alone": torch.equal(before, torch.get_rng_state())}
