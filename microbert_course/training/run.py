"""A whole pretraining run: begin or go on, make updates, look, write down, end."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch.nn.attention import sdpa_kernel
from transformers import PreTrainedTokenizerFast

from microbert_course import __version__
from microbert_course.data.licences import licence_of
from microbert_course.errors import CourseError
from microbert_course.files import interrupt_afterwards
from microbert_course.models.attention import MultiHeadAttention
from microbert_course.models.bert import MicroBertForMaskedLM
from microbert_course.models.modern import ModernConfig, ModernForMaskedLM
from microbert_course.models.transformer import TransformerBlock
from microbert_course.training.checkpoints import Checkpoint
from microbert_course.training.kernels import BACKENDS, choose_kernel
from microbert_course.training.loop import (
    Batch,
    PretrainData,
    Training,
    build_model,
    evaluate,
    evaluation_batches,
    seed_for,
    unigram_loss,
)
from microbert_course.training.masking import unigram_log_probs
from microbert_course.training.memory import check_fits, checkpoint_blocks
from microbert_course.training.precision import choose_precision
from microbert_course.training.prepare import prepare_data
from microbert_course.training.presets import MAY_CHANGE, PretrainConfig
from microbert_course.training.run_folder import RunFolder
from microbert_course.training.run_log import RunLog
from microbert_course.training.speed import DocumentAttention
from microbert_course.training.state import all_finite, restore, snapshot


@dataclass
class RunResult:
    "What `pretrain` answers; all of it is in the folder too."

    folder: Path
    model: MicroBertForMaskedLM
    tokenizer: PreTrainedTokenizerFast
    history: dict  # as in history.json: unigram_loss, train, validation, skipped


def pretrain(
    config: PretrainConfig,
    folder: str | Path,  # where the run ends up
    overwrite: bool = False,  # True replaces a finished run of that name
    data: PretrainData | None = None,  # texts prepared before; None prepares them as the configuration says
    progress: bool = True,  # show a progress bar and log lines
    on_evaluation: Callable[[MicroBertForMaskedLM, dict], None] | None = None,  # called with the model and its newest score
    resume: str | Path | None = None,  # "latest", or the folder of a checkpoint
) -> RunResult:
    """Pretrain a BERT and leave a run folder behind; with `resume`, go on where a run was interrupted, to the bit.

    Raises: CourseError if the folder is taken, the data is not to be had, or the run breaks down (status 3)."""
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    accelerator = make_accelerator(config, Path(folder))
    if config.rows_per_process:
        config = replace(config, batch_size=config.rows_per_process * accelerator.num_processes * config.gradient_accumulation_steps)
    run = RunFolder(folder, config.keep_checkpoints)
    try:
        checkpoint = first_says(accelerator, lambda: run.open(overwrite, resume))
        data = data or prepare_data(config)
        if accelerator.is_main_process and checkpoint:
            check_same_run(checkpoint.values, config, data)
        with repeatable(config.deterministic and accelerator.device.type == "cuda"):
            return train(config, data, accelerator, run, checkpoint, progress, on_evaluation)
    except BaseException:
        run.give_up()
        raise
    finally:
        accelerator.end_training()


def make_accelerator(config: PretrainConfig, folder: Path) -> Accelerator:
    "The device, the processes and the precision that this run has, whatever ran before it in this program."
    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)  # else accelerate keeps the first run's device and precision
    precision = choose_precision(config.mixed_precision, PartialState(cpu=config.device == "cpu").device)
    return Accelerator(mixed_precision=precision, cpu=config.device == "cpu", project_dir=folder.with_name(folder.name + ".partial"),
                       log_with="tensorboard" if find_spec("tensorboard") else None)


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


def check_memory(config: PretrainConfig, vocab_size: int, accelerator: Accelerator) -> None:
    "Raises: CourseError, before anything is allocated, if a micro-batch does not fit, with the largest that does."
    if config.blocks != "bert" or accelerator.device.type not in ("cuda", "cpu") or accelerator.is_fsdp2:
        return  # the plan is for BERT's blocks on one device
    import psutil

    if accelerator.device.type == "cuda":
        memory = torch.cuda.mem_get_info(accelerator.device)[0]
    else:
        memory = psutil.virtual_memory().available // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    with torch.device("meta"):
        shape = build_model(config, vocab_size).config
    num_parts = accelerator.num_processes * config.gradient_accumulation_steps
    check_fits(shape, max(1, config.batch_size // num_parts), memory, precision=accelerator.mixed_precision, checkpointing=config.checkpointing,
               attention="math" if config.attention == "math" else "fused", device=accelerator.device.type,
               mlm_probability=config.mlm_probability, num_processes=accelerator.num_processes, accumulating=config.gradient_accumulation_steps > 1)


def first_says(accelerator: Accelerator, ask: Callable[[], object]) -> object:
    "What the first process answers, for itself; the others get its refusal, so that all end alike."
    answer, refusal = None, [None]
    if accelerator.is_main_process:
        try:
            answer = ask()
        except CourseError as error:
            refusal = [error]
    if accelerator.num_processes > 1:
        broadcast_object_list(refusal)
    if refusal[0]:
        raise refusal[0]
    return answer


def train(
    config: PretrainConfig,
    data: PretrainData,
    accelerator: Accelerator,
    run: RunFolder,
    checkpoint: Checkpoint | None,  # on the first process: where to go on
    progress: bool,
    on_evaluation: Callable[[MicroBertForMaskedLM, dict], None] | None,
) -> RunResult:
    "The run between its begin and its end."
    questions = evaluation_batches(data.validation_ids, data.tokenizer)
    if not any(batch.num_predicted for batch in questions):
        raise CourseError("the validation texts are too few or too short to hide a token in: give more text")
    log_probs = unigram_log_probs(torch.from_numpy(data.train_ids.astype(np.int64)), len(data.tokenizer),
                                  len(data.tokenizer.all_special_ids))
    check_memory(config, len(data.tokenizer), accelerator)
    model = make_model(config, len(data.tokenizer), log_probs)
    if config.checkpointing:
        checkpoint_blocks(model)
    for block in blocks_of(model) if config.compile else ():
        block.compile()
    training = Training(model, data, config, accelerator)
    place = [{"num_updates": 0, "history": {"unigram_loss": unigram_loss(questions, log_probs), "train": [], "validation": [], "skipped": []}}]
    if checkpoint:
        place = [{**checkpoint.values, "num_updates": checkpoint.num_updates}]
    if accelerator.num_processes > 1:
        broadcast_object_list(place)
    place = place[0]
    if place["num_updates"]:
        restore(training, checkpoint.tensors if checkpoint else {"model": {}, "optimizer": {}})
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(place["scaler"])
    kernel, about = describe(config, model, accelerator, len(data.tokenizer))
    if accelerator.is_main_process:
        run.describe(config, data.tokenizer, about)
    accelerator.init_trackers("tensorboard", config={name: value for name, value in {**asdict(config), **about}.items() if value is not None})
    log = RunLog(config, accelerator, place["history"], num_block_parameters(model),
                 place.get("spent_s", 0.0), place.get("tokens", 0), progress, place["num_updates"])
    try:
        for step in range(place["num_updates"], config.num_steps):
            with kernel:
                log.add(training.update(step))
            done, spent = step + 1, log.budget_spent()
            is_last = done == config.num_steps or spent is not None
            if done % config.eval_every == 0 or is_last:
                log.flush()
                with log.paused():
                    look(training, run, log, questions, on_evaluation, step)
            if done % (config.save_every or config.eval_every) == 0 or is_last:
                log.flush()
                with log.paused():
                    save(training, run, log, done)
            if spent:
                if log.speaks:
                    log.bar.write(f"the run ends after {done:,} updates: {spent}")
                break
    finally:
        log.bar.close()
    for tracker in accelerator.trackers:
        tracker.finish()  # Windows renames no folder in which a file is open
    plain = plain_model(training)
    if accelerator.is_main_process:
        run.finish()
    accelerator.wait_for_everyone()
    return RunResult(run.final, plain.eval().cpu(), data.tokenizer, log.history)


def num_block_parameters(model: torch.nn.Module) -> int:
    "Numbers in the blocks: those that every token meets."
    return sum(parameter.numel() for block in blocks_of(model) for parameter in block.parameters())


def blocks_of(model: torch.nn.Module) -> list[TransformerBlock]:
    "The blocks of any model of this course, in order."
    return [module for module in model.modules() if isinstance(module, TransformerBlock)]


def look(training: Training, run: RunFolder, log: RunLog, questions: list[Batch], on_evaluation: Callable | None, step: int) -> None:
    "Ask the validation questions, and leave the newest state for readers; every process must call this."
    model = plain_model(training)
    log.evaluated(step, evaluate(model, questions, training.accelerator))
    if training.accelerator.is_main_process:
        with interrupt_afterwards():
            run.show(model, log.history)
        if on_evaluation:
            on_evaluation(model, log.history["validation"][-1])


def save(training: Training, run: RunFolder, log: RunLog, num_updates: int) -> None:
    """Write a checkpoint; every process must call this.

    Raises: CourseError, before anything is written, if a weight is no number."""
    tensors = snapshot(training)
    scaler = training.accelerator.scaler
    values = {"config": asdict(training.config), "history": log.history, "spent_s": log.elapsed_s, "tokens": log.tokens,
              "data": fingerprint(training.data), "version": __version__, "processes": training.accelerator.num_processes,
              "scaler": scaler.state_dict() if scaler is not None else None}
    if training.accelerator.is_main_process:
        if not all_finite(tensors):
            raise CourseError(f"after {num_updates} updates a weight is no number, and no such checkpoint is written: "
                              f"lower the learning rate (now {training.config.learning_rate:g})")
        with interrupt_afterwards():
            run.checkpoints.save(Checkpoint(num_updates, tensors, values))
    training.accelerator.wait_for_everyone()


def make_model(config: PretrainConfig, vocab_size: int, log_probs: torch.Tensor | None = None) -> MicroBertForMaskedLM | ModernForMaskedLM:
    "A fresh model of the configured shape and blocks; log_probs (vocab,) are the start of its output bias."
    if config.blocks == "bert":
        return build_model(config, vocab_size, log_probs, DocumentAttention if config.layout == "packed" else MultiHeadAttention)
    torch.manual_seed(seed_for(config.seed, "weights"))
    model = ModernForMaskedLM(ModernConfig(
        vocab_size=vocab_size, hidden_size=config.hidden_size, num_layers=config.num_layers, num_heads=config.num_heads,
        intermediate_size=config.intermediate_size, max_seq_len=config.max_seq_len, dropout=config.dropout,
        initializer_range=config.initializer_range))
    if log_probs is not None:
        with torch.no_grad():
            model.head.bias.copy_(log_probs.clamp(min=-20))  # as in build_model
    return model


def plain_model(training: Training) -> MicroBertForMaskedLM:
    "The model without the wrappers of distribution; whole on every process where it was spread over them."
    if not training.accelerator.is_fsdp2:
        return training.accelerator.unwrap_model(training.objective, keep_torch_compile=False).model
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    weights = get_model_state_dict(training.objective, options=StateDictOptions(full_state_dict=True))
    model = make_model(training.config, len(training.data.tokenizer)).to(training.accelerator.device)
    model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    return model


def describe(config: PretrainConfig, model: MicroBertForMaskedLM, accelerator: Accelerator, vocab_size: int):
    "The block under which attention runs with the chosen kernel; what a run is made of, for its log."
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(accelerator.mixed_precision, torch.float32)
    name, reason = choose_kernel(config.attention, accelerator.device, dtype, config.hidden_size // config.num_heads, with_mask=True)
    if reason and accelerator.is_main_process:
        print(f"{reason}: {name} runs instead", file=sys.stderr)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    device = torch.cuda.get_device_name(accelerator.device) if accelerator.device.type == "cuda" else accelerator.device.type
    about = {"parameters": model.num_parameters(), "parameters_without_head": model.num_parameters(with_head=False),
             "trainable_share": trainable / model.num_parameters(), "vocab_size": vocab_size,
             "token_budget": config.max_tokens or config.num_steps * config.batch_size * config.max_seq_len,
             "attention_kernel": name, "device": device, "processes": accelerator.num_processes,
             "precision": accelerator.mixed_precision, "licence": licence_of(config.data)}
    return (nullcontext() if config.attention == "auto" else sdpa_kernel(BACKENDS[name])), about


def fingerprint(data: PretrainData) -> str:
    "A hash of what a run reads: the pieces and the rows."
    digest = hashlib.sha256(data.tokenizer.backend_tokenizer.to_str().encode())
    for ids in (data.train_ids, data.validation_ids):
        digest.update(f"{ids.dtype} {ids.shape}".encode())
        digest.update(np.ascontiguousarray(ids))
    return digest.hexdigest()


def check_same_run(
    values: dict,  # of the checkpoint
    config: PretrainConfig,
    data: PretrainData,
) -> None:
    "Raises: CourseError with the first thing that differs, and both of its values."
    then = values["config"]
    for name, now in asdict(config).items():
        if name not in MAY_CHANGE and name in then and then[name] != now:
            processes = f" (of {values['processes']} processes then)" if name == "batch_size" and config.rows_per_process else ""
            raise CourseError(f"{name} is {now!r} and was {then[name]!r} in the checkpoint{processes}: resume with the same settings, "
                              f"or begin a new run with --overwrite")
    if values["data"] != fingerprint(data):
        raise CourseError("the texts or the tokenizer are not those of the checkpoint: resume with the same data, or begin a new run with --overwrite")
