"How answers to the exercises of lesson 09 are put to use."

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from microbert_course.models.bert import MicroBertConfig, MicroBertForMaskedLM
from microbert_course.training.loop import Batch, epoch_order
from microbert_course.training.presets import preset


def configured(answer: Callable, changes: dict, **inputs: Any) -> Any:
    "What the function says about the preset `tour` with changes."
    return answer(preset("tour", **changes), **inputs)


def dealt_out(answer: Callable, step: int, batch_size: int, num_rows: int, seed: int) -> dict[str, Any]:
    "The rows of a step, and whether few orders of epochs were made for it: thousands lie before a late step, a handful are in a batch."
    made_before = epoch_order.cache_info().misses
    rows = answer(step, batch_size, num_rows, seed)
    return {"the rows": rows, "few orders are made": epoch_order.cache_info().misses - made_before < 500}


def averaged(update: Callable, states: list[dict[str, Tensor]], decay: float) -> dict[str, Any]:
    "The averages while a small network's weights go through `states`, and how they and the network came out of it."
    outputs, inputs = states[0]["0.weight"].shape
    model = nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)).to(states[0]["0.weight"].dtype)
    average, averages, untouched = {}, [], True
    for state in states:
        model.load_state_dict(state)
        update(average, model, decay)
        averages.append({name: value.detach().clone() for name, value in average.items()})
        untouched &= all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    places = {value.data_ptr() for value in model.state_dict().values()}
    return {"the averages": averages, "the model is left alone": bool(untouched),
            "the averages have memory of their own": not any(value.data_ptr() in places for value in average.values()),
            "the averages need no gradient": not any(value.requires_grad for value in average.values())}


def small_bert(settings: dict, weights_seed: int) -> MicroBertForMaskedLM:
    "A model whose weights are a function of the seed, in float64."
    torch.manual_seed(weights_seed)
    return MicroBertForMaskedLM(MicroBertConfig(**settings)).double()


def recorded(
    run: Callable, settings: dict, weights_seed: int, batches: list[dict[str, Tensor]], learning_rate: float, warmup_steps: int,
) -> dict[str, Any]:
    "A training with a flight recorder: its losses, the rate of every update, what the model read, and in which mode."
    model, batches = small_bert(settings, weights_seed).eval(), [Batch(**batch) for batch in batches]
    questions = [(batch.input_ids.shape, batch.labels != -100, batch.labels) for batch in batches]
    modes, rates, leaks = [], [], []

    def on_read(embeddings, arguments, named):
        ids = named["input_ids"] if "input_ids" in named else arguments[0]
        modes.append(embeddings.training)
        leaks.append(any(ids.shape == shape and torch.equal(ids[asked], labels[asked]) for shape, asked, labels in questions))

    hooks = [model.bert.embeddings.register_forward_pre_hook(on_read, with_kwargs=True),
             register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))]
    try:
        losses = run(model, batches, learning_rate, warmup_steps)
    finally:
        for hook in hooks:
            hook.remove()
    return {"the losses": losses, "the rates": rates,
            "dropout is on while it learns": all(modes), "the model reads the answers": any(leaks),
            "the last weights": model.bert.embeddings.word.weight.detach().clone()}


class Process:
    "Stands in for accelerate in one of several processes, which here run one after another, twice: first to collect, then to add up."

    device = torch.device("cpu")

    def __init__(self, process_index: int, num_processes: int, collected: list[list[Tensor]]):
        self.process_index, self.num_processes, self.collected, self.calls = process_index, num_processes, collected, 0
        self.is_first_time = len(collected) < num_processes
        if self.is_first_time:
            collected.append([])

    def reduce(self, tensor: Tensor, reduction: str = "sum", scale: float = 1.0) -> Tensor:
        self.calls += 1
        if self.is_first_time:
            self.collected[self.process_index].append(tensor.clone())
            return tensor
        total = sum(theirs[self.calls - 1] for theirs in self.collected)
        return total / self.num_processes if reduction == "mean" else total


def scored(evaluate: Callable, settings: dict, weights_seed: int, batches: list[dict[str, Tensor]], num_processes: int) -> dict[str, Any]:
    "The scores that each process comes to, whether it read its own batches alone, and the mode in which the model is left."
    model, batches = small_bert(settings, weights_seed).train(), [Batch(**batch) for batch in batches]
    seen, scores, collected = [], [], []  # the ids that the model has read; what came of it; what was handed to `reduce`
    model.bert.embeddings.register_forward_pre_hook(
        lambda embeddings, arguments, named: seen.append(named["input_ids"] if "input_ids" in named else arguments[0]), with_kwargs=True)
    reads_its_own = True
    for rank in 2 * [*range(num_processes)] if num_processes > 1 else [0]:
        seen.clear()
        scores.append(evaluate(model, batches, Process(rank, num_processes, collected)) if num_processes > 1 else evaluate(model, batches))
        own = [batch.input_ids for batch in batches[rank::num_processes]]
        reads_its_own &= all(any(torch.equal(ids, input_ids) for input_ids in own) for ids in seen)
    scores = scores[-num_processes:]
    return {"the scores": scores, "each process reads its own batches alone": reads_its_own, "the model is in training mode": model.training,
            "the scores are plain numbers": all(isinstance(value, int | float) for score in scores for value in score.values())}
