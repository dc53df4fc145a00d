"""Folders with a modern encoder: a ModernBERT of transformers where the switches allow it, else a format of our own that says so."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from microbert_course.errors import CourseError
from microbert_course.files import read_json
from microbert_course.models.checkpoints import (
    from_transformers_weights,
    read_weights,
    to_transformers_weights,
    write_folder,
)

if TYPE_CHECKING:
    from microbert_course.models.modern import ModernConfig, ModernForMaskedLM

OUR_TYPE, THEIR_TYPE = "microbert_modern", "modernbert"  # the `model_type` of a config.json

CONFIG_NAMES = {  # ours: those of transformers.ModernBertConfig that say the same
    "vocab_size": ("vocab_size",), "hidden_size": ("hidden_size",), "num_layers": ("num_hidden_layers",),
    "num_heads": ("num_attention_heads",), "intermediate_size": ("intermediate_size",),
    "max_seq_len": ("max_position_embeddings",), "pad_token_id": ("pad_token_id",), "initializer_range": ("initializer_range",),
    "layer_norm_eps": ("norm_eps",), "bias": ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"),
    "dropout": ("embedding_dropout", "mlp_dropout", "attention_dropout"),
}
FIXED = {"hidden_activation": "gelu", "classifier_activation": "gelu", "decoder_bias": True, "tie_word_embeddings": True}
GLOBAL, LOCAL = "full_attention", "sliding_attention"


def is_modernbert(config: "ModernConfig") -> bool:
    "Whether transformers' ModernBertForMaskedLM can be this model."
    return (config.norm, config.feed_forward, config.positions, config.is_causal) == ("layer", "geglu", "rotary", False)


def to_modernbert_config(
    config: "ModernConfig",  # one that `is_modernbert`
) -> dict:  # the content of a `config.json`
    "Our shape in the words of `transformers.ModernBertConfig`."
    values = {theirs: getattr(config, ours) for ours, names in CONFIG_NAMES.items() for theirs in names}
    thetas = {GLOBAL: config.rope_theta_global, LOCAL: config.rope_theta_local}
    return {
        "architectures": ["ModernBertForMaskedLM"], "model_type": THEIR_TYPE, **FIXED, **values,
        "layer_types": [GLOBAL if config.is_global(layer) else LOCAL for layer in range(config.num_layers)],
        "local_attention": config.window or 128,  # without local layers nobody reads it
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()},
        **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")),  # the tokenizer's business
    }


def from_modernbert_config(
    values: dict,  # the content of a `config.json` with that model_type
    where: str | Path,  # named in the error
) -> "ModernConfig":
    """The shape in a `config.json` of a ModernBERT, in today's form or in that of the published checkpoints.

    Raises: CourseError if it lacks a size, or describes a ModernBERT that ours cannot be."""
    from microbert_course.models.modern import ModernConfig  # here, not above: that module imports this one

    defaults = {"norm_eps": 1e-5, "initializer_range": 0.02, **dict.fromkeys(CONFIG_NAMES["bias"], False),
                **dict.fromkeys(CONFIG_NAMES["dropout"], 0.0)}
    for name, ours in FIXED.items():
        if values.get(name, ours) != ours:
            raise CourseError(f"{where} has {name} {values[name]!r} where ours is {ours!r}: choose a folder with that")
    sizes = {}
    for ours, names in CONFIG_NAMES.items():
        found = [values.get(name, defaults.get(name)) for name in names]
        if found[0] is None:
            raise CourseError(f"{where} has a config.json without {names[0]}: restore it or train again")
        if any(value != found[0] for value in found):
            raise CourseError(f"{where} has {' and '.join(f'{name} {value}' for name, value in zip(names, found, strict=True))}, "
                              f"and ours are all alike: choose a folder with that")
        sizes[ours] = found[0]
    thetas = values.get("rope_parameters") or {
        GLOBAL: {"rope_theta": values.get("global_rope_theta", 160_000.0)}, LOCAL: {"rope_theta": values.get("local_rope_theta", 10_000.0)}}
    kinds = values.get("layer_types")
    try:
        if any(part.get("rope_type", "default") != "default" for part in thetas.values()):
            raise CourseError(f"{where} stretches its rotary positions (rope_type), and ours do not: choose a folder without")
        sizes |= {"rope_theta_global": thetas[GLOBAL]["rope_theta"], "rope_theta_local": thetas[LOCAL]["rope_theta"]}
        has_local = kinds is None or LOCAL in kinds
        every = values.get("global_attn_every_n_layers", 3) if kinds is None else _global_every(kinds)
        config = ModernConfig(**sizes, window=values.get("local_attention", 128) if has_local else None, global_every=every)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, CourseError):
            raise
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CourseError(f"{where} has a config.json that describes no ModernBERT ({reason}): restore it or train again") from None
    if kinds is not None and kinds != [GLOBAL if config.is_global(layer) else LOCAL for layer in range(config.num_layers)]:
        raise CourseError(f"{where} has the layer_types {kinds}, and ours are global at every n-th layer from the first: "
                          f"choose a folder with that")
    return config


def _global_every(kinds: list[str]) -> int:
    "The distance of the first two global layers; beyond the last layer if there is one alone."
    after = kinds[1:]
    return 1 + after.index(GLOBAL) if GLOBAL in after else len(kinds)


def from_modern_values(
    values: dict,  # the content of a `config.json`
    where: str | Path,  # named in the error
) -> "ModernConfig":
    """The shape in a `config.json` that `write_modern_folder` or transformers wrote.

    Raises: CourseError if it describes another architecture, lacks a size, or has one that makes no sense."""
    from microbert_course.models.modern import ModernConfig

    if values.get("model_type") == THEIR_TYPE:
        return from_modernbert_config(values, where)
    if values.get("model_type") != OUR_TYPE:
        raise CourseError(f"{where} has model_type {values.get('model_type')!r} where a modern encoder has {THEIR_TYPE!r} or {OUR_TYPE!r}: "
                          f"choose a folder with that")
    try:
        return ModernConfig(**{field.name: values[field.name] for field in fields(ModernConfig)})
    except (KeyError, ValueError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CourseError(f"{where} has a config.json that describes no modern encoder ({reason}): restore it or train again") from None


def modernbert_weight_names(
    config: "ModernConfig",
) -> dict[str, list[str]]:  # our name: their name
    "Where each tensor of our masked language model stands in a `ModernBertForMaskedLM`."
    names = {"encoder.embeddings.word.weight": ["model.embeddings.tok_embeddings.weight"], "head.bias": ["decoder.bias"]}
    for kind in ("weight", "bias") if config.bias else ("weight",):
        pairs = {"encoder.embeddings.norm": "model.embeddings.norm", "encoder.norm": "model.final_norm",
                 "head.dense": "head.dense", "head.norm": "head.norm"}
        for i in range(config.num_layers):
            ours, theirs = f"encoder.blocks.{i}", f"model.layers.{i}"
            if i:  # the first layer's input is normalised already
                pairs[f"{ours}.attention.norm"] = f"{theirs}.attn_norm"
            pairs |= {f"{ours}.attention.sublayer.qkv": f"{theirs}.attn.Wqkv", f"{ours}.attention.sublayer.out": f"{theirs}.attn.Wo",
                      f"{ours}.feed_forward.norm": f"{theirs}.mlp_norm", f"{ours}.feed_forward.sublayer.gate_and_up": f"{theirs}.mlp.Wi",
                      f"{ours}.feed_forward.sublayer.down": f"{theirs}.mlp.Wo"}
        names |= {f"{ours}.{kind}": [f"{theirs}.{kind}"] for ours, theirs in pairs.items()}
    return names


def _weight_names(model: "ModernForMaskedLM", model_type: str) -> dict[str, list[str]]:
    return modernbert_weight_names(model.config) if model_type == THEIR_TYPE else {name: [name] for name in model.state_dict()}


def write_modern_folder(folder: str | Path, model: "ModernForMaskedLM") -> None:
    "Write `config.json` and `model.safetensors`, each file whole or not at all."
    if is_modernbert(model.config):
        values = to_modernbert_config(model.config)
    else:
        values = {"architectures": [type(model).__name__], "model_type": OUR_TYPE, **asdict(model.config)}
    write_folder(folder, values, to_transformers_weights(model, _weight_names(model, values["model_type"])))


def read_modern_config(folder: str | Path) -> dict:  # the content of its `config.json`
    """Raises: CourseError if the folder or the file is missing or damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CourseError(f"{folder} is not a folder: give one that a training run wrote")
    return read_json(folder / "config.json")


def read_modern_weights(
    model: "ModernForMaskedLM",  # gives the names and shapes to expect
    values: dict,  # the content of its `config.json`
    folder: str | Path,
) -> dict[str, Tensor]:  # what `model.load_state_dict` takes, fp32
    """The weights of a folder under our names.

    Raises: CourseError if the file is missing or damaged, or a tensor is missing, has another shape, or holds NaN."""
    weights = read_weights(Path(folder) / "model.safetensors")
    architecture = "ModernBertForMaskedLM" if values["model_type"] == THEIR_TYPE else type(model).__name__
    return from_transformers_weights(weights, model, folder, _weight_names(model, values["model_type"]), architecture)
