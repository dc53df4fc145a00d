"""A pretraining run: from a configuration to a task for the engine."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from microbert_course.data.licences import licence_of
from microbert_course.errors import CourseError
from microbert_course.training.build import make_model, num_block_parameters
from microbert_course.training.causal import edges, flops_per_token, next_token_log_probs, next_token_questions
from microbert_course.training.engine import RunResult, run_task
from microbert_course.training.loop import (
    PretrainData,
    build_model,
    evaluate,
    evaluation_batches,
    plot_history,
    unigram_loss,
)
from microbert_course.training.masking import unigram_log_probs
from microbert_course.training.memory import check_fits
from microbert_course.training.prepare import prepare_data
from microbert_course.training.presets import PretrainConfig
from microbert_course.training.speed import flops_of_update
from microbert_course.training.task import Task


def pretrain(
    config: PretrainConfig,
    folder: str | Path,  # where the run ends up: a folder, or an address like s3://bucket/name
    overwrite: bool = False,  # True replaces a finished run of that name
    data: PretrainData | None = None,  # texts prepared before; None prepares them as the configuration says
    progress: bool = True,  # show a progress bar and log lines
    on_evaluation: Callable[[nn.Module, dict], None] | None = None,  # called with the model and its newest score
    resume: str | Path | None = None,  # "latest", or the folder of a checkpoint
) -> RunResult:
    """Pretrain a model and leave a run folder behind; with `resume`, go on where a run was interrupted, to the bit.

    Raises: CourseError if the folder is taken or cannot be reached, the data is not to be had, or the run breaks down (status 3)."""
    return run_task(config, folder, partial(pretraining, data), overwrite, progress, on_evaluation, resume)


def pretraining(data: PretrainData | None, accelerator: Accelerator, config: PretrainConfig) -> Task:
    """Guess hidden tokens, or a decoder the next ones; the line to beat is a guesser who knows only how frequent they are.

    Raises: CourseError if the texts are not to be had or too short, or a micro-batch does not fit into memory."""
    data, is_causal = data or prepare_data(config), config.blocks == "gpt"
    data.tokenizer.model_max_length = config.max_seq_len  # saved with the model: whoever opens it elsewhere cuts texts as it reads them
    vocab_size = len(data.tokenizer)
    questions = (next_token_questions if is_causal else evaluation_batches)(data.validation_ids, data.tokenizer)
    if not any(batch.num_predicted for batch in questions):
        raise CourseError("the validation texts are too few or too short to hide a token in: give more text")
    if is_causal:
        log_probs = next_token_log_probs(data.train_ids, data.tokenizer)
    else:
        log_probs = unigram_log_probs(torch.from_numpy(data.train_ids.astype(np.int64)), vocab_size, len(data.tokenizer.all_special_ids))
    check_memory(config, vocab_size, accelerator)
    with torch.device("meta"):
        shape = make_model(config, vocab_size)
    in_blocks = num_block_parameters(shape)
    return Task(
        make_model=partial(make_model, config, vocab_size, log_probs, edges(data.tokenizer)), data=data, fingerprint=fingerprint(data),
        evaluate=lambda model, accelerator: evaluate(model, questions, accelerator),
        baseline={"unigram_loss": unigram_loss(questions, log_probs)},
        about={"parameters_without_head": shape.num_parameters(with_head=False), "licence": licence_of(config.data),
               "token_budget": config.max_tokens or config.num_steps * config.batch_size * config.max_seq_len},
        plot=partial(plot_history, unit="token" if is_causal else "hidden token"),
        flops_per_token=flops_per_token(config, in_blocks, vocab_size) if is_causal else flops_of_update(config, in_blocks, 1))


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


def fingerprint(data: PretrainData) -> str:
    "A hash of what a run reads: the pieces and the rows."
    digest = hashlib.sha256(data.tokenizer.backend_tokenizer.to_str().encode())
    for ids in (data.train_ids, data.validation_ids):
        digest.update(f"{ids.dtype} {ids.shape}".encode())
        digest.update(np.ascontiguousarray(ids))
    return digest.hexdigest()
