"How answers to the exercises of lesson 11 are put to use."

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


class Kept:
    "What autograd has put aside: bytes of distinct storages, now and at most. Those of `known` do not count."

    def __init__(self, known: list[Tensor]):
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.holders, self.now, self.most = {}, 0, 0  # by the address of a storage: how many look into it

    def hooks(self) -> saved_tensors_hooks:
        return saved_tensors_hooks(lambda tensor: Holder(self, tensor), lambda holder: holder.tensor)

    def change(self, tensor: Tensor, by: int) -> None:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        count = self.holders.get(address, 0) + by
        if address not in self.known and (by, count) in ((1, 1), (-1, 0)):
            self.now += by * storage.nbytes()
            self.most = max(self.most, self.now)
        self.holders[address] = count


class Holder:
    "Stands for a tensor that was put aside, as long as it is."

    def __init__(self, kept: Kept, tensor: Tensor):
        self.kept, self.tensor = kept, tensor
        kept.change(tensor, 1)

    def __del__(self):
        self.kept.change(self.tensor, -1)


def small_network(weights: list[Tensor], dropout: float) -> nn.Sequential:
    "Two linear maps with dropout and a GELU between them."
    first, last = weights[0], weights[2]
    network = nn.Sequential(nn.Linear(first.size(1), first.size(0)), nn.Dropout(dropout), nn.GELU(), nn.Linear(last.size(1), last.size(0)))
    network = network.to(first.dtype)
    with torch.no_grad():
        for parameter, weight in zip(network.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return network


def checkpointed(
    answer: type, x: Tensor, scale: Tensor, weights: list[Tensor], dropout: float, chance: int, frozen: list[int], input_asks: bool, in_bf16: bool,
) -> dict[str, Any]:
    "A network with dropout and two inputs, run by the answer: what comes out, what is kept meanwhile, how often it runs, where chance stands."
    network, x = small_network(weights, dropout), x.clone().requires_grad_(input_asks)
    parameters = list(network.parameters())
    for number in frozen:
        parameters[number].requires_grad_(False)
    runs = []

    def function(x: Tensor, scale: Tensor) -> Tensor:
        runs.append(1)
        return network(x * scale)

    kept = Kept([*parameters, x, scale])
    torch.manual_seed(chance)
    with kept.hooks(), torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
        output = answer.apply(function, 2, x, scale, *parameters)
    between, first_runs = torch.rand(1), len(runs)
    direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    kept_meanwhile, wanted = kept.now, [tensor for tensor in (x, *parameters) if tensor.requires_grad]
    put_aside = x.untyped_storage().data_ptr() in kept.holders
    gradients = torch.autograd.grad(output, wanted, direction, allow_unused=True)
    return {"the output": output.detach(),
            "the gradients": [None if gradient is None else gradient.detach() for gradient in gradients],
            "bytes kept besides inputs and parameters": kept_meanwhile,
            "the parameters' .grad is left alone": all(parameter.grad is None for parameter in parameters),
            "inputs are put aside by save_for_backward": put_aside, "runs in forward": first_runs, "runs in all": len(runs), "chance after forward": between, "chance after backward": torch.rand(1)}


def training(
    run: Callable, weights: list[Tensor], updates: list[list[tuple[Tensor, Tensor]]], validation: tuple[Tensor, Tensor], learning_rate: float,
) -> dict[str, Any]:
    "The losses, the trained weights, and what was kept for the way back at most, in units of what one part needs."
    model = small_network(weights, 0.0)
    inputs, targets = updates[0][0]
    one = Kept(list(model.parameters()))
    with one.hooks():
        F.mse_loss(model(inputs), targets) / 2
    kept = Kept([*model.parameters(), inputs, targets])
    with kept.hooks():
        losses = run(model, updates, validation, learning_rate)
    return {"the losses": losses, "the losses are plain numbers": all(isinstance(loss, float) for row in losses.values() for loss in row),
            "the weights": [parameter.detach().clone() for parameter in model.parameters()],
            "parts kept for the way back, at most": round(kept.most / one.most), "nothing is kept at the end": kept.now == 0}
