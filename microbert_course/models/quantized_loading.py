"""Large models in few bits through transformers' own quantiser, and what they will hold, by their configuration alone."""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from microbert_course.errors import CourseError
from microbert_course.models.expert_families import read_config
from microbert_course.models.experts import read_configuration

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

PRECISIONS = ("fp32", "bf16", "int8", "nf4")
OF_BITS = {4: "nf4", 8: "int8"}
BLOCK, CONSTANTS_BLOCK = 64, 256  # numbers that share a constant in nf4; constants that share one of their own


def memory_estimate(
    config: "dict | str | Path | PreTrainedConfig",  # content of a config.json, a folder with one, or transformers' object
    precision: str = "nf4",  # fp32, bf16, int8 or nf4
) -> dict[str, int]:  # bytes by part; their sum is what has to be free
    """What a model of transformers holds when it is loaded, before anything is loaded or allocated.

    `linears`: the weights of its linears but for the output's; `constants`: one a row in int8, and in nf4 one of 8 bits for 64 weights and
    one of 32 for 256 of those; `rest`: everything else, in 16 bits where the linears have fewer; `unpacked`: in nf4, the largest linear in
    16 bits, while it is used. What a batch adds, activations and the cache of keys and values, is not in it.

    Raises: ValueError if the precision is none of these; CourseError if the configuration is missing, damaged, unknown to transformers or
    of a model that is quantised already."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is not known: choose one of {', '.join(PRECISIONS)}")
    values = read_configuration(config)
    _refuse_quantized(values, config)
    with torch.device("meta"):  # shapes without memory
        model = _class_of(values)._from_config(read_config(values))
    output = model.get_output_embeddings()
    linears = [module.weight for module in model.modules() if type(module) is nn.Linear and module is not output]  # what transformers would replace
    num_weights = sum(weight.numel() for weight in linears)
    num_others = sum(parameter.numel() for parameter in model.parameters()) - num_weights
    if precision in ("fp32", "bf16"):
        size = 4 if precision == "fp32" else 2
        return {"linears": size * num_weights, "constants": 0, "rest": size * num_others, "unpacked": 0}
    if precision == "int8":
        return {"linears": num_weights, "constants": 4 * sum(len(weight) for weight in linears), "rest": 2 * num_others, "unpacked": 0}
    blocks = [math.ceil(weight.numel() / BLOCK) for weight in linears]
    constants = sum(num + 4 * math.ceil(num / CONSTANTS_BLOCK) + 4 for num in blocks)  # the last 4 are their mean
    packed = sum(math.ceil(weight.numel() / 2) for weight in linears)
    return {"linears": packed, "constants": constants, "rest": 2 * num_others, "unpacked": 2 * max((weight.numel() for weight in linears), default=0)}


def load_quantized(
    folder: str | Path,  # of transformers: config.json, and weights in any precision
    bits: int = 4,  # 4 = nf4 with double quantisation, 8 = LLM.int8
) -> "PreTrainedModel":  # on the first GPU, frozen, computing in bf16
    """The model in a folder, packed by bitsandbytes while transformers loads it. Nothing is downloaded, and nothing loaded that would not fit.

    Raises: ValueError if it is not known in so many bits; CourseError if the folder is missing, damaged or quantised already, there is no GPU or
    no bitsandbytes, or too little memory is free."""
    if bits not in OF_BITS:
        raise ValueError(f"bits {bits} is not known: choose 4 or 8")
    folder = Path(folder)
    if not folder.is_dir():
        raise CourseError(f"{folder} is not a folder: give one with a model of transformers in it, nothing is downloaded")
    values = read_configuration(folder)
    needed = sum(memory_estimate(values, OF_BITS[bits]).values())
    is_missing = {"a CUDA GPU": not torch.cuda.is_available(), "the package bitsandbytes": find_spec("bitsandbytes") is None}
    missing = [name for name, missing in is_missing.items() if missing]
    if missing:
        raise CourseError(f"{folder} in {bits} bits would hold {shown(needed)}, and {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} "
                          f"missing here: load it where there {'is one' if len(missing) == 1 else 'are both'}, or read it with the course's own "
                          f"from_pretrained and call quantize_model")
    free, _ = torch.cuda.mem_get_info()
    if needed > free:
        raise CourseError(f"{folder} in {bits} bits would hold {shown(needed)}, and {shown(free)} are free on the GPU: "
                          f"{'load it in 4 bits' if bits == 8 else 'choose a smaller model or a larger GPU'}")
    from transformers import BitsAndBytesConfig

    settings = {"load_in_8bit": True} if bits == 8 else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
                                                         "bnb_4bit_compute_dtype": torch.bfloat16}
    try:
        return _class_of(values).from_pretrained(folder, quantization_config=BitsAndBytesConfig(**settings), dtype=torch.bfloat16,
                                                 device_map={"": 0}, local_files_only=True).requires_grad_(False)
    except OSError as error:
        raise CourseError(f"transformers cannot load {folder} ({' '.join(str(error).split())}): restore it or download it again") from error


def shown(num_bytes: int) -> str:
    "Bytes as a person reads them."
    return f"{num_bytes / 1e9:,.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def _refuse_quantized(values: dict, where: object) -> None:
    quantized = values.get("quantization_config")
    if quantized:
        name = where if isinstance(where, str | Path) else f"this {values.get('model_type')} configuration"
        method = quantized.get("quant_method", "nameless") if isinstance(quantized, dict) else quantized
        raise CourseError(f"{name} is quantised already (quant_method {method!r}): load it with transformers as it is, or give the folder that it was made from")


def _class_of(values: dict) -> type["PreTrainedModel"]:
    "The class of transformers that a configuration asks for; without a word about it, a decoder's."
    import transformers

    names = values.get("architectures") or []
    config = read_config(values)
    if names and hasattr(transformers, names[0]):
        return getattr(transformers, names[0])
    for mapping in (transformers.MODEL_FOR_CAUSAL_LM_MAPPING, transformers.MODEL_MAPPING):
        if type(config) in mapping:
            return mapping[type(config)]
    raise CourseError(f"transformers has no model class for this {values['model_type']} configuration: choose one that needs no code of its own")
