"""An update as two CUDA graphs, gradient and step: what would be thousands of small launches, each waiting for Python, are two."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call

from microbert_course.models.graphed import record
from microbert_course.training.build import make_objective, pad_inputs
from microbert_course.training.flat import FlatAdamW
from microbert_course.training.loop import MaskedLMLoss, Training
from microbert_course.training.settings import TrainConfig

WARM_UPS = 3


@dataclass
class Recorded:
    "A graph of one shape of inputs."

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor | None, ...]  # where it reads


class GraphedTraining(Training):
    """`Training` on a CUDA device, recorded once for every shape of a micro-batch and replayed after that.

    Nothing is wrapped in DDP: the gradients lie in one tensor, which all processes sum between the two graphs. Under bfloat16 the products read
    16-bit copies of the weights, made once an update instead of at each use."""

    def __init__(self, model, data, config, accelerator, objective=MaskedLMLoss):
        super().__init__(model, data, config, accelerator, objective)
        self.max_seq_len = model.config.max_seq_len
        self.graphs: dict[tuple, Recorded] = {}
        self.step_graph: torch.cuda.CUDAGraph | None = None
        self.answers: tuple[Tensor, Tensor] | None = None  # what a replay of it leaves: norm, and whether all was well
        self.state: FlatAdamW | None = None  # when the first update is made: until then a checkpoint may be put in
        self.totals, self.share = torch.zeros(2, device=accelerator.device), torch.zeros((), device=accelerator.device)
        self.pool = torch.cuda.graph_pool_handle()  # the graphs run one after the other, and may use the same memory

    def _prepare(self, objective, optimizer):
        "No DDP."
        return self.accelerator.prepare_model(objective, evaluation_mode=True), self.accelerator.prepare_optimizer(optimizer)

    def derive(self, parts, num_predicted):
        "As in `Training`; the parts are copied to where the graph reads, which the host does not wait for."
        if self.state is None:
            cast = halved(self.objective) if self.accelerator.mixed_precision == "bf16" else set()
            self.state = FlatAdamW(self.objective, self.optimizer.optimizer, cast, self.config.max_grad_norm,
                                    accumulates=self.config.gradient_accumulation_steps > 1)
        self.share.fill_(1 / num_predicted)
        for part in parts:
            tensors, is_first = pad_inputs(part.tensors("cpu"), self.max_seq_len), part is parts[0]
            key = is_first, *(None if table is None else (table.shape, table.dtype) for table in tensors)
            if key not in self.graphs:
                self.graphs[key] = self._record(tensors, is_first)
            recorded = self.graphs[key]
            for place, table in zip(recorded.inputs, tensors, strict=True):
                if place is not None:
                    place.copy_(table.pin_memory(), non_blocking=True)  # torch keeps the pinned memory until it is read
            recorded.graph.replay()
        if self.accelerator.num_processes > 1:
            self.state.sum_over_processes()
        return self.totals.clone()

    def apply(self, learning_rate, loss):
        "As in `Training`."
        self.state.loss.copy_(loss)
        self.state.learning_rate.fill_(learning_rate)
        if self.step_graph is None:
            self._record_step()
        self.step_graph.replay()
        return tuple(answer.clone() for answer in self.answers)

    def _derive(self, inputs: tuple[Tensor | None, ...], is_first: bool) -> None:
        "The gradient of one micro-batch, in the place of what was there or added to it; its loss likewise."
        with self.accelerator.autocast():
            loss, num_correct = functional_call(self.objective, self.state.read, inputs)
        self.state.take(torch.autograd.grad(loss * self.share, self.state.learned, allow_unused=True, materialize_grads=True), is_first)
        totals = torch.stack([loss.detach(), num_correct])
        self.totals.copy_(totals if is_first else self.totals + totals)

    def _record(self, tensors: tuple[Tensor | None, ...], is_first: bool) -> Recorded:
        "A graph for inputs of these shapes; neither the gradient nor the draws are any further afterwards."
        device = self.accelerator.device
        inputs = tuple(None if table is None else table.to(device) for table in tensors)
        gradient, totals, draws = [part.clone() for part in self.state.gradient], self.totals.clone(), torch.cuda.get_rng_state(device)
        graph, _ = record(partial(self._derive, inputs, is_first), WARM_UPS, self.pool)
        for part, before in zip(self.state.gradient, gradient, strict=True):
            part.copy_(before)
        self.totals.copy_(totals)
        torch.cuda.set_rng_state(draws, device)
        return Recorded(graph, inputs)

    def _record_step(self) -> None:
        "A graph of clipping and AdamW. Its first run, which is not recorded, finds the loss infinite, and leaves everything as it is."
        loss = self.state.loss.clone()
        self.state.loss.fill_(math.inf)
        self.step_graph, self.answers = record(self.state.step, warm_ups=1)
        self.state.loss.copy_(loss)


def halved(
    module: nn.Module,
) -> set[str]:  # names of parameters
    "The float32 weights that autocast would cast to 16 bits at each use: those of linear maps, and of the embeddings, whose table may be one."
    return {f"{path}.{name}" for path, part in module.named_modules() if isinstance(part, (nn.Linear, nn.Embedding))
            for name, weight in part.named_parameters(recurse=False) if weight.dtype == torch.float32}


def make_training(
    model: nn.Module,
    data: object,  # as `Training` takes it
    config: TrainConfig,
    accelerator: Accelerator,
    objective: Callable[[nn.Module], nn.Module] = MaskedLMLoss,  # the model with its loss inside
) -> Training:
    """A training with the parts that the configuration asks for; with recorded updates, if they are asked for and can be.

    They cannot with a scaler, shared-out weights or forgotten activations, whose course is not fixed, nor with another objective."""
    is_recorded = (config.cuda_graph and accelerator.device.type == "cuda" and accelerator.scaler is None and not accelerator.is_fsdp2
                   and not config.checkpointing and objective is MaskedLMLoss)
    return (GraphedTraining if is_recorded else Training)(model, data, config, accelerator, partial(make_objective, objective, config))
