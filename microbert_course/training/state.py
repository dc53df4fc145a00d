"""The weights and the optimizer's memories of a run, out of and back into it, on one process or many, plain, DDP or FSDP."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.nn.parallel import DistributedDataParallel

from microbert_course.errors import CourseError
from microbert_course.training.loop import Training


def settle(
    training: Training,
    step: int,  # the first that will be made
) -> None:
    """Let DDP lay its gradients out, before the first update; every process must call this.

    It does so by the order in which a first backward pass makes them, and sums over more than two processes are added in an order that
    depends on the layout: without this, the first update after a resume would have other last digits than the same update within a run."""
    if not isinstance(training.objective, DistributedDataParallel):
        return
    start = training.accelerator.process_index * training.part_size
    with training.accelerator.autocast():
        loss, _ = training.objective(*training.batch(step).slice(start, start + training.part_size).tensors(training.accelerator.device))
    loss.backward()
    training.optimizer.zero_grad()


def snapshot(training: Training) -> dict[str, dict[str, Tensor]]:  # "model" and "optimizer", whole and on the CPU; empty but on rank 0
    "The state of a training but for what is frozen in it, under names that do not depend on how it was spread; every process must call this."
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    model, optimizer = get_state_dict(training.objective, training.optimizer.optimizer, options=options)
    if not training.accelerator.is_main_process:
        return {"model": {}, "optimizer": {}}
    memories = {f"{name}/{kind}": value for name, kinds in optimizer["state"].items() for kind, value in kinds.items()}
    return {"model": _apart({name.removeprefix("model."): value for name, value in model.items()}), "optimizer": memories}


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    "Tied weights, which stand under several names, as a tensor each: a file of safetensors holds no two that share memory."
    seen, apart = set(), {}
    for name, value in tensors.items():
        apart[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return apart


def restore(
    training: Training,
    state: dict[str, dict[str, Tensor]],  # from `snapshot`; only rank 0 needs to have it
) -> None:
    """Put a state back into a training; every process must call this.

    Raises: CourseError if the tensors are those of another shape."""
    options = StateDictOptions(full_state_dict=True, ignore_frozen_params=True, strict=False)  # not strict: what is frozen is not in it
    model, optimizer = get_state_dict(training.objective, training.optimizer.optimizer, options=options)
    if training.accelerator.is_main_process:
        check_fits({f"model.{name}": value for name, value in state["model"].items()}, model)
    for name, value in model.items():
        model[name] = _everywhere(training, value, state["model"].get(name.removeprefix("model.")))
    for name, kinds in optimizer["state"].items():
        for kind, value in kinds.items():
            kinds[kind] = _everywhere(training, value, state["optimizer"].get(f"{name}/{kind}"))
    set_model_state_dict(training.objective, model, options=options)
    set_optimizer_state_dict(training.objective, training.optimizer.optimizer, optimizer, options=options)


def _everywhere(training: Training, value: Tensor, saved: Tensor | None) -> Tensor:
    "What rank 0 has saved, in a tensor like `value`, on every process."
    value = value.clone() if saved is None else saved.to(value)
    if training.accelerator.num_processes > 1:
        received = value.to(training.accelerator.device)
        dist.broadcast(received, src=0)
        value = received.to(value.device)
    return value


def check_fits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    "Raises: CourseError that names the first tensor that is missing, not known, or of another shape."
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            raise CourseError(f"the checkpoint has no {name}: it is of another shape of model; resume with its own configuration")
        if name not in expected:
            raise CourseError(f"the checkpoint has {name}, which this model does not: resume with its own configuration")
        if found[name].shape != expected[name].shape:
            raise CourseError(f"{name} is {tuple(found[name].shape)} in the checkpoint and {tuple(expected[name].shape)} in this model: "
                              f"resume with its own configuration")


def all_finite(state: dict[str, dict[str, Tensor]]) -> bool:
    "Whether every number in it is one."
    return all(bool(torch.isfinite(tensor).all()) for tensors in state.values() for tensor in tensors.values())


def plain_model(
    training: Training,
    make_model: Callable[[], nn.Module],  # makes one of the same shape
) -> nn.Module:
    "The model without the wrappers of distribution; whole on every process where it was spread over them."
    if not training.accelerator.is_fsdp2:
        return training.accelerator.unwrap_model(training.objective, keep_torch_compile=False).model
    weights = get_model_state_dict(training.objective, options=StateDictOptions(full_state_dict=True))
    model = make_model().to(training.accelerator.device)
    model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    return model
