"""A preset for the machine at hand, and a shape for a number of parameters."""

from dataclasses import replace

import torch

from microbert_course.errors import CourseError
from microbert_course.models.modern import count_parameters, shape_for
from microbert_course.training.loop import build_model
from microbert_course.training.memory import largest_batch
from microbert_course.training.presets import PretrainConfig, preset

SIZES = ("base", "v4", "v3", "v0")  # the largest first
LEAST_ROWS = 16  # fewer at a time would leave a GPU idle


def choose_preset(
    memory_bytes: int | None = None,  # of the GPU; None = ask the machine
) -> tuple[str, PretrainConfig, str]:  # its name; its settings, with micro-batches that fit; why
    """The largest preset that a GPU can train with a sensible number of rows at a time; without a GPU, the tour's.

    Raises: CourseError if not even the smallest fits."""
    if memory_bytes is None:
        if not torch.cuda.is_available():
            return "tour", preset("tour"), "there is no CUDA GPU here, and the tour's model trains in a minute on a CPU"
        memory_bytes = torch.cuda.get_device_properties(0).total_memory
    for name in SIZES:
        config = preset(name)
        with torch.device("meta"):
            shape = build_model(config, config.num_pieces).config
        most = largest_batch(shape, memory_bytes, precision="bf16" if config.mixed_precision != "no" else "no", accumulating=True)
        if most < LEAST_ROWS:
            continue
        batch_size = config.rows_per_process or config.batch_size
        parts = next(parts for parts in range(1, batch_size + 1) if batch_size % parts == 0 and batch_size // parts <= most)
        config = replace(config, batch_size=batch_size, rows_per_process=0, gradient_accumulation_steps=parts)
        return name, config, (f"the GPU has {memory_bytes / 1e9:.0f} GB, where {most:,} rows of {name} fit at a time; "
                              f"{parts} micro-batches of {batch_size // parts} make an update")
    raise CourseError(f"the GPU has {memory_bytes / 1e6:,.0f} MB, and not even {LEAST_ROWS} rows of {SIZES[-1]} fit: train on the CPU with --device cpu")


def with_target_params(
    config: PretrainConfig,
    target_params: int,
    prefer: str,  # "depth", "width" or "balanced"
) -> PretrainConfig:
    """The configuration with modern blocks in a shape of about that many parameters, within 2 %.

    Raises: CourseError if there is no such shape, or the vocabulary's size is not known yet."""
    if not config.vocab_size:
        raise CourseError("a shape for a number of parameters needs a vocab_size, and it is 0: give one")
    shape = shape_for(target_params, prefer, config.num_pieces, max_seq_len=config.max_seq_len)
    print(f"{shape.num_layers} × {shape.hidden_size}, {shape.num_heads} heads, width {shape.intermediate_size}: {count_parameters(shape):,} parameters")
    return replace(config, blocks="modern", hidden_size=shape.hidden_size, num_layers=shape.num_layers, num_heads=shape.num_heads,
                   intermediate_size=shape.intermediate_size)
