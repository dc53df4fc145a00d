"""An update as two CUDA graphs, gradient and step: what would be thousands of small launches, each waiting for Python, are two."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call

from microbert_course.models.graphed import record
from microbert_course.training.build import make_objective
from microbert_course.training.loop import MaskedLMLoss, Training
from microbert_course.training.settings import TrainConfig

SEQ_GRID = 64  # rows are padded to a multiple of it, so that few lengths need a graph of their own
PLACES_GRID = 64  # and the places to guess at to a multiple of the batch's tokens over it
WARM_UPS = 3


def pad_inputs(
    tensors: tuple[Tensor | None, ...],  # what `Batch.tensors` answers
    max_seq_len: int,  # longest row of the model
) -> tuple[Tensor | None, ...]:  # the same, in one of a few shapes
    "Rows as long as a multiple of 64, or as the model reads; places that do not count, at a label of -100."
    input_ids, mask, predict_at, targets, position_ids = tensors
    batch, seq = input_ids.shape
    padded = max(seq, min(max_seq_len, math.ceil(seq / SEQ_GRID) * SEQ_GRID))
    grid = max(1, batch * padded // PLACES_GRID)
    missing = math.ceil(len(targets) / grid) * grid - len(targets)
    if padded > seq:
        mask = input_ids.new_ones(batch, seq, dtype=torch.bool) if mask is None else mask
        predict_at = predict_at // seq * padded + predict_at % seq
        input_ids, mask, position_ids = (None if table is None else torch.nn.functional.pad(table, (0, padded - seq)) for table in (input_ids, mask, position_ids))
    return (input_ids, mask, torch.nn.functional.pad(predict_at, (0, missing)), torch.nn.functional.pad(targets, (0, missing), value=-100), position_ids)


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
        self.graphs: dict[tuple, Recorded] = {}
        self.step_graph: torch.cuda.CUDAGraph | None = None
        self.pool = torch.cuda.graph_pool_handle()  # the graphs run one after the other, and may use the same memory

    def _prepare(self, objective, optimizer):
        "No DDP."
        return self.accelerator.prepare_model(objective, evaluation_mode=True), self.accelerator.prepare_optimizer(optimizer)

    def derive(self, parts, num_predicted):
        "As in `Training`; the parts are copied to where the graph reads, which the host does not wait for."
        if self.step_graph is None:
            self._lay_out()
        self.totals.zero_()
        for part in parts:
            tensors, is_first = pad_inputs(part.tensors("cpu"), self.config.max_seq_len), part is parts[0]
            key = is_first, *(None if table is None else (table.shape, table.dtype) for table in tensors)
            if key not in self.graphs:
                self.graphs[key] = self._record(tensors, is_first)
            recorded = self.graphs[key]
            for place, table in zip(recorded.inputs, tensors, strict=True):
                if place is not None:
                    place.copy_(table.pin_memory(), non_blocking=True)  # torch keeps the pinned memory until it is read
            self.share.fill_(1 / num_predicted)
            recorded.graph.replay()
        if self.accelerator.num_processes > 1:
            dist.all_reduce(self.gradient)
        return self.totals.clone()

    def apply(self, learning_rate, loss):
        "As in `Training`."
        self.loss.copy_(loss)
        if self.step_graph is None:
            self._record_step()
        for group in self.optimizer.param_groups:
            group["lr"].fill_(learning_rate)
        self.step_graph.replay()
        return self.grad_norm.clone(), self.is_finite.clone()

    def _lay_out(self) -> None:
        "Weights in the dtype of the products, gradients in one tensor, and the numbers that the graphs read and write."
        device, named = self.accelerator.device, dict(self.objective.named_parameters())
        cast = halved(self.objective) & named.keys() if self.accelerator.mixed_precision == "bf16" else ()
        self.read = {name: weight.detach().bfloat16().requires_grad_(weight.requires_grad) if name in cast else weight for name, weight in named.items()}
        self.copies = [(self.read[name], named[name].detach()) for name in cast]
        learned = sorted((name for name, weight in named.items() if weight.requires_grad), key=lambda name: name in cast)
        self.num_whole = sum(name not in cast for name in learned)  # the others are cast
        self.learned = [self.read[name] for name in learned]
        self.gradient = torch.zeros(sum(weight.numel() for weight in self.learned), device=device)
        self.gradients = []
        for name, part in zip(learned, self.gradient.split([weight.numel() for weight in self.learned]), strict=True):
            named[name].grad = part.view_as(named[name])
            self.gradients.append(named[name].grad)
        self.totals, self.share, self.loss, self.max_grad_norm = (torch.zeros(2, device=device), *torch.zeros(2, device=device).unbind(),
                                                                 torch.tensor(self.config.max_grad_norm, device=device))

    def _derive(self, inputs: tuple[Tensor | None, ...], is_first: bool) -> None:
        "The gradient of one micro-batch, in the place of what was there or added to it."
        with self.accelerator.autocast():
            loss, num_correct = functional_call(self.objective, self.read, inputs)
        found = torch.autograd.grad(loss * self.share, self.learned, allow_unused=True, materialize_grads=True)
        put = torch._foreach_copy_ if is_first else torch._foreach_add_
        for kind in (slice(self.num_whole), slice(self.num_whole, None)):  # a dtype at a time
            if self.gradients[kind]:
                put(self.gradients[kind], found[kind])
        self.totals += torch.stack([loss.detach(), num_correct])

    def _record(self, tensors: tuple[Tensor | None, ...], is_first: bool) -> Recorded:
        "A graph for inputs of these shapes; neither the gradient nor the draws are any further afterwards."
        device = self.accelerator.device
        inputs = tuple(None if table is None else table.to(device) for table in tensors)
        before, totals, state = self.gradient.clone(), self.totals.clone(), torch.cuda.get_rng_state(device)
        graph, _ = record(partial(self._derive, inputs, is_first), WARM_UPS, self.pool)
        self.gradient.copy_(before)
        self.totals.copy_(totals)
        torch.cuda.set_rng_state(state, device)
        return Recorded(graph, inputs)

    def _step_once(self) -> None:
        "Clip, step unless something is no number, and copy the new weights."
        optimizer = self.optimizer.optimizer
        self.grad_norm = torch.linalg.vector_norm(self.gradient)
        self.is_finite = self.loss.isfinite() & self.grad_norm.isfinite()
        optimizer.grad_scale = (self.grad_norm / self.max_grad_norm).clamp(min=1.0)  # the fused step divides by it
        optimizer.found_inf = (~self.is_finite).float()
        optimizer.step()
        if self.copies:
            with torch.no_grad():
                torch._foreach_copy_(*map(list, zip(*self.copies, strict=True)))

    def _record_step(self) -> None:
        "A graph of clipping and AdamW. Its first run, which is not recorded, finds the gradient infinite, and leaves the weights as they are."
        optimizer = self.optimizer.optimizer
        for group in optimizer.param_groups:
            group["capturable"], group["lr"] = True, torch.tensor(float(group["lr"]), device=self.accelerator.device)
        before, loss = self.gradient.clone(), self.loss.clone()
        self.loss.fill_(math.inf)
        self.step_graph, _ = record(self._step_once, warm_ups=1)
        self.gradient.copy_(before)
        self.loss.copy_(loss)


def halved(
    objective: nn.Module,
) -> set[str]:  # names of parameters
    "The float32 weights that autocast would cast to 16 bits at each use: those of linear maps, and of the embeddings, whose table may be one."
    return {f"{path}.{name}" for path, module in objective.named_modules() if isinstance(module, (nn.Linear, nn.Embedding))
            for name, weight in module.named_parameters(recurse=False) if weight.dtype == torch.float32}


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
