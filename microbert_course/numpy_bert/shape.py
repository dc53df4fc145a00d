"""The shape of the NumPy encoder: its sizes, its parameters, what it holds in memory, and what may enter it."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NumpyBertConfig:
    """The shape of an encoder; the defaults give 4,498,880 parameters.

    Raises: ValueError if a size is not a positive integer, or the heads do not divide the hidden size."""

    vocab_size: int = 8192
    hidden_size: int = 192
    num_layers: int = 3
    num_heads: int = 4
    intermediate_size: int = 768
    max_seq_len: int = 64

    def __post_init__(self):
        for name, value in vars(self).items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} {value!r} is not a positive integer: use 1 or more")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} does not split into {self.num_heads} heads: "
                             f"choose num_heads that divides it")


def parameter_shapes(config: NumpyBertConfig) -> dict[str, tuple[int, ...]]:
    "The shape of every parameter by its name: matrices are (inputs, outputs), vectors (outputs,)."
    hidden, wide = config.hidden_size, config.intermediate_size
    norm = {"scale": (hidden,), "shift": (hidden,)}
    block = {"attention_norm": norm, "qkv": {"weight": (hidden, 3 * hidden)}, "out": {"weight": (hidden, hidden)},
             "feed_forward_norm": norm, "up": {"weight": (hidden, wide), "bias": (wide,)},
             "down": {"weight": (wide, hidden), "bias": (hidden,)}}
    blocks = {f"blocks.{i}.{part}": tensors for i in range(config.num_layers) for part, tensors in block.items()}
    model = {"word": {"weight": (config.vocab_size, hidden)}, "position": {"weight": (config.max_seq_len, hidden)},
             **blocks, "norm": norm, "head": {"weight": (hidden, config.vocab_size), "bias": (config.vocab_size,)}}
    return {f"{part}.{name}": shape for part, tensors in model.items() for name, shape in tensors.items()}


def num_parameters(config: NumpyBertConfig) -> int:
    "How many numbers the encoder learns."
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def init_parameters(config: NumpyBertConfig, seed: int = 0, dtype: type = np.float32) -> dict[str, np.ndarray]:  # shapes as `parameter_shapes`
    "First weights: normal draws of deviation 0.02 in matrices (Devlin et al. 2019), ones in scales, zeros elsewhere."
    rng, parameters = np.random.default_rng(seed), {}
    for name, shape in parameter_shapes(config).items():
        if name.endswith("weight"):
            parameters[name] = rng.standard_normal(shape, dtype)
            parameters[name] *= 0.02
        else:
            parameters[name] = np.full(shape, name.endswith("scale"), dtype)
    return parameters


def memory_by_part(
    config: NumpyBertConfig,
    batch: int,          # rows that pass through at once
    seq: int,            # tokens a row
    num_predicted: int,  # tokens among them that reach the head
    num_copies: int = 1,  # encoders with gradients of their own, one a thread
    itemsize: int = 4,   # bytes a number
) -> dict[str, int]:  # part: bytes
    "What training will hold, predicted from the shape alone; `batch` is divided among the copies."
    hidden, wide, tokens = config.hidden_size, config.intermediate_size, batch * seq
    rows_of_weights = config.num_heads * seq
    notes = config.num_layers * (8 * hidden + rows_of_weights + 2 * wide) + 2 * hidden  # and the last norm's
    scratch = 7 * hidden + wide  # stream and its gradient, branch, d_hidden, d_qkv (3), d_wide
    model = num_parameters(config)
    numbers = {"parameters": model, "gradients": model * num_copies, "AdamW's two memories": 2 * model,
               "notes for the backward pass": tokens * notes, "scores of the head": num_predicted * config.vocab_size,
               "scratch": tokens * scratch + num_copies * rows_of_weights * seq}
    return {part: count * itemsize for part, count in numbers.items()}


def check_batch(
    config: NumpyBertConfig,
    input_ids: np.ndarray,  # (batch, seq) integers
    labels: np.ndarray,     # (batch, seq) integers, -100 = not predicted
    attention_mask: np.ndarray | None,  # (batch, seq), 1 = real token, 0 = padding
    num_predicted: int | None,  # of the whole batch, if this is a part of it
) -> None:
    """Nothing, or what is wrong with the batch.

    Raises: ValueError if shapes or ids do not fit, or nothing is predicted and `num_predicted` is not given."""
    if input_ids.ndim != 2 or not np.issubdtype(input_ids.dtype, np.integer):
        raise ValueError(f"input_ids are {input_ids.dtype} of shape {input_ids.shape}: give integers, (batch, seq)")
    if input_ids.shape[1] > config.max_seq_len:
        raise ValueError(f"input_ids have {input_ids.shape[1]} tokens a row and the model {config.max_seq_len} positions: cut the rows")
    for name, array in (("labels", labels), ("attention_mask", attention_mask)):
        if array is not None and array.shape != input_ids.shape:
            raise ValueError(f"{name} {array.shape} and input_ids {input_ids.shape} do not fit: give one each a token")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype}: give integers, -100 where nothing is predicted")
    targets = labels[labels != -100]
    for name, ids in (("input_ids", input_ids), ("labels", targets)):
        if ids.size and not 0 <= ids.min() <= ids.max() < config.vocab_size:
            raise ValueError(f"{name} go from {ids.min()} to {ids.max()}, outside a vocabulary of {config.vocab_size}: "
                             f"use the tokenizer's size")
    if targets.size == 0 and num_predicted is None:
        raise ValueError("no token is predicted in this batch: use longer rows or hide more tokens")
