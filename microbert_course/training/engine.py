"""A whole training run of any kind: begin or go on, make updates, look, write down, end."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn
from torch.nn.attention import sdpa_kernel
from transformers import PreTrainedTokenizerBase

from microbert_course import __version__
from microbert_course.errors import CourseError
from microbert_course.files import interrupt_afterwards
from microbert_course.training.checkpoints import Checkpoint
from microbert_course.training.graphed import make_training
from microbert_course.training.kernels import BACKENDS, choose_kernel
from microbert_course.training.loop import Training
from microbert_course.training.own_kernels import runs_short_attention
from microbert_course.training.precision import choose_precision
from microbert_course.training.remote import run_folder
from microbert_course.training.run_folder import RunFolder
from microbert_course.training.run_log import RunLog
from microbert_course.training.settings import MAY_CHANGE, PLACES, TrainConfig
from microbert_course.training.state import all_finite, plain_model, restore, settle, snapshot
from microbert_course.training.task import Task

_SHARED = []  # a mark for each block of shared_processes that is open


@dataclass
class RunResult:
    "What a run answers; all of it is in the folder too."

    folder: Path
    model: nn.Module  # on the CPU, in eval mode
    tokenizer: PreTrainedTokenizerBase
    history: dict  # as in history.json: what the task's baseline says, train, validation, skipped


def run_task(
    config: TrainConfig,
    folder: str | Path,  # where the run ends up: a folder, or an address like s3://bucket/name
    make_task: Callable[[Accelerator, TrainConfig], Task],  # called when the folder is ours; with the configuration as it is run
    overwrite: bool = False,  # True replaces a finished run of that name
    progress: bool = True,  # show a progress bar and log lines
    on_evaluation: Callable[[nn.Module, dict], None] | None = None,  # called with the model and its newest score
    resume: str | Path | None = None,  # "latest", or the folder of a checkpoint
) -> RunResult:
    """Train, and leave a run folder behind; with `resume`, go on where a run was interrupted, to the bit.

    Raises: CourseError if the folder is taken or cannot be reached, the data is not to be had, or the run breaks down (status 3)."""
    with threads(config.num_threads):
        run = run_folder(folder, config.keep_checkpoints)
        accelerator = make_accelerator(config, run.path)
        if config.rows_per_process:
            config = replace(config, batch_size=config.rows_per_process * accelerator.num_processes * config.gradient_accumulation_steps)
        try:
            checkpoint = first_says(accelerator, lambda: run.open(overwrite, resume))
            task = make_task(accelerator, config)
            first_says(accelerator, lambda: checkpoint and check_same_run(checkpoint.values, config, task.fingerprint))
            with repeatable(config.deterministic and accelerator.device.type == "cuda"):
                return train(config, task, accelerator, run, checkpoint, progress, on_evaluation)
        except BaseException:
            run.give_up()
            raise
        finally:
            if not _SHARED:
                accelerator.end_training()


@contextmanager
def threads(number: int) -> Iterator[None]:
    "So many CPU threads in this block, 0 = as many as before; afterwards the program has its own again."
    usual = torch.get_num_threads()
    torch.set_num_threads(number or usual)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def make_accelerator(config: TrainConfig, folder: Path) -> Accelerator:
    "The device, the processes and the precision that this run has, whatever ran before it in this program."
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())  # else accelerate keeps the first run's device and precision
    is_cpu = runs_on_cpu(config)
    precision = choose_precision(config.mixed_precision, PartialState(cpu=is_cpu).device)
    return Accelerator(mixed_precision=precision, cpu=is_cpu, project_dir=folder,
                       log_with="tensorboard" if find_spec("tensorboard") else None)


def runs_on_cpu(config: TrainConfig) -> bool:
    "Whether the CPU is asked for, or is all there is: unless it is told, accelerate joins no processes there, and each would take itself for the only one."
    return config.device == "cpu" or not torch.accelerator.is_available()


@contextmanager
def shared_processes() -> Iterator[None]:
    "The runs in this block share one group of processes, which cannot be formed twice in a program; it ends with the block."
    _SHARED.append(True)
    try:
        yield
    finally:
        _SHARED.pop()
        if not _SHARED:
            PartialState().destroy_process_group()


@contextmanager
def repeatable(is_wanted: bool) -> Iterator[None]:
    "GPU kernels whose sums run in the same order every time, for as long as the block lasts; a CPU's always do."
    usual = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    if is_wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch asks for it
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # a help against bugs, not for equal sums
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(usual[0])
        torch.utils.deterministic.fill_uninitialized_memory = usual[1]


def uncompiled(is_wanted: bool):
    "A block in which compiled parts run as they are written: a look meets shapes of its own, and no kernels are made for them."
    return torch.compiler.set_stance("force_eager") if is_wanted else nullcontext()


def first_says(accelerator: Accelerator, ask: Callable[[], object]) -> object:
    "What the first process answers, for itself; the others get its refusal, so that all end alike."
    answer, refusal = None, [None]
    if accelerator.is_main_process:
        try:
            answer = ask()
        except (CourseError, OSError) as error:
            refusal = [error]
    if accelerator.num_processes > 1:
        broadcast_object_list(refusal)
    if refusal[0]:
        raise refusal[0]
    return answer


def everybody_says(accelerator: Accelerator, ask: Callable[[], object]) -> object:
    "What each process answers, for itself; where one refuses, all end with its refusal, so that none waits for it."
    answer, refusals = None, [None]
    try:
        answer = ask()
    except CourseError as error:
        refusals = [error]
    if accelerator.num_processes > 1:
        refusals = gather_object(refusals)
    for refusal in filter(None, refusals):
        raise refusal
    return answer


def train(
    config: TrainConfig,
    task: Task,
    accelerator: Accelerator,
    run: RunFolder,
    checkpoint: Checkpoint | None,  # on the first process: where to go on
    progress: bool,
    on_evaluation: Callable[[nn.Module, dict], None] | None,
) -> RunResult:
    "The run between its begin and its end."
    model = task.make_model()
    training = make_training(model, task.data, config, accelerator, task.objective)
    place = [{"num_updates": 0, "history": {**task.baseline, "train": [], "validation": [], "skipped": []}}]
    if checkpoint:
        place = [{**checkpoint.values, "num_updates": checkpoint.num_updates}]
    if accelerator.num_processes > 1:
        broadcast_object_list(place)
    place = place[0]
    settle(training, place["num_updates"])
    if place["num_updates"]:
        restore(training, checkpoint.tensors if checkpoint else {"model": {}, "optimizer": {}})
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(place["scaler"])
    kernel, about = describe(config, task, model, accelerator)
    if accelerator.is_main_process:
        run.describe(config, task.data.tokenizer, about)
    accelerator.init_trackers("tensorboard", config={name: value for name, value in {**asdict(config), **about}.items() if value is not None})
    log = RunLog(config, accelerator, place["history"], task.metric, task.flops_per_token,
                 place.get("spent_s", 0.0), place.get("tokens", 0), progress, place["num_updates"])
    looks = place["history"]["validation"]
    has_ended = bool(looks) and looks[-1]["step"] == place["num_updates"] - 1 and log.budget_spent() is not None  # it had only to take its name
    try:
        for step in range(place["num_updates"], place["num_updates"] if has_ended else config.num_steps):
            if log.is_out_of_patience:
                if log.speaks:
                    log.bar.write(f"the run ends after {step:,} updates: {config.patience} looks in a row brought no better {task.metric}")
                break
            with kernel():
                log.add({**training.update(step), **task.figures(step)})
            done, spent = step + 1, log.budget_spent()
            is_last = done == config.num_steps or spent is not None
            is_look = done % config.eval_every == 0 or is_last
            if is_look:
                log.flush()
                with log.paused(), uncompiled(config.compile):
                    model = plain_model(training, task.make_model)
                    log.evaluated(step, task.evaluate(model, accelerator))
            if is_look or (config.save_every and done % config.save_every == 0):
                log.flush()
                with log.paused(), interrupt_afterwards():  # the state for readers and the one to go on from belong together
                    keep(training, task, run, log, done, model if is_look else None)
                with log.paused():
                    if accelerator.is_main_process:
                        run.copy_up()
            if is_look and on_evaluation and accelerator.is_main_process:
                on_evaluation(model, log.history["validation"][-1])
            if spent:
                if log.speaks:
                    log.bar.write(f"the run ends after {done:,} updates: {spent}")
                break
    finally:
        log.bar.close()
    for tracker in accelerator.trackers:
        tracker.finish()  # Windows renames no folder in which a file is open
    model = plain_model(training, task.make_model)
    first_says(accelerator, run.finish)
    accelerator.wait_for_everyone()
    if accelerator.num_processes > 1 and accelerator.device.type == "cpu":
        time.sleep(0.5)  # a message may be on its way still, and gloo ends the whole process where a neighbour has hung up
    return RunResult(run.final, model.eval().cpu(), task.data.tokenizer, log.history)


def keep(
    training: Training,
    task: Task,
    run: RunFolder,
    log: RunLog,
    num_updates: int,
    model: nn.Module | None,  # after a look: the state for readers
) -> None:
    """Write a checkpoint and, after a look, the state for readers; every process must call this.

    Raises: CourseError, before anything is written, if a weight is no number."""
    config, accelerator, scaler = training.config, training.accelerator, training.accelerator.scaler
    tensors = snapshot(training)

    def write() -> None:
        if not all_finite(tensors):
            raise CourseError(f"after {num_updates} updates a weight is no number, and no such checkpoint is written: "
                              f"lower the learning rate (now {config.learning_rate:g})")
        if model is not None:
            run.show(model, log.history, task)
        values = {"config": asdict(config), "history": log.history, "spent_s": log.elapsed_s, "tokens": log.tokens, "data": task.fingerprint,
                  "version": __version__, "processes": accelerator.num_processes, "scaler": scaler.state_dict() if scaler is not None else None}
        run.checkpoints.save(Checkpoint(num_updates, tensors, values))

    first_says(accelerator, write)


def describe(config: TrainConfig, task: Task, model: nn.Module, accelerator: Accelerator):
    "What makes the block under which attention runs with the chosen kernel; what a run is made of, for its log."
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(accelerator.mixed_precision, torch.float32)
    name, reason = choose_kernel(config.attention, accelerator.device, dtype, model.config.hidden_size // model.config.num_heads,
                                 with_mask=True, dropout=model.config.dropout)
    if reason and accelerator.is_main_process:
        print(f"{reason}: {name} runs instead", file=sys.stderr)
    kernels = f"the course's own on short rows, {name}" if runs_short_attention(model, dtype, model.config.dropout) else name
    num_parameters = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    device = torch.cuda.get_device_name(accelerator.device) if accelerator.device.type == "cuda" else accelerator.device.type
    about = {"parameters": num_parameters, "trainable_share": trainable / num_parameters, "vocab_size": len(task.data.tokenizer),
             "attention_kernel": kernels, "device": device, "processes": accelerator.num_processes, "precision": accelerator.mixed_precision,
             **task.about}
    return (nullcontext if config.attention == "auto" else partial(sdpa_kernel, BACKENDS[name])), about


def check_same_run(
    values: dict,  # of the checkpoint
    config: TrainConfig,
    fingerprint: str,  # of what it would read now
) -> None:
    "Raises: CourseError with the first thing that differs, and both of its values."
    then, free = values["config"], MAY_CHANGE + (PLACES if values["data"] == fingerprint else ())
    for name, now in asdict(config).items():
        if name not in free and name in then and then[name] != now:
            processes = f" (of {values['processes']} processes then)" if name == "batch_size" and config.rows_per_process else ""
            raise CourseError(f"{name} is {now!r} and was {then[name]!r} in the checkpoint{processes}: resume with the same settings, "
                              f"or begin a new run with --overwrite")
    if values["data"] != fingerprint:
        raise CourseError("the texts or the tokenizer are not those of the checkpoint: resume with the same data, or begin a new run with --overwrite")
