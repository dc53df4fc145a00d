"""Folders with a decoder, which transformers opens as a Llama, and the one that a name means: a folder, a GGUF file, or SmolLM2."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from microbert_course.data.weights import WEIGHTS, fetch_weights
from microbert_course.errors import CourseError
from microbert_course.files import read_json
from microbert_course.models.checkpoints import (
    from_transformers_weights,
    load_tokenizer,
    read_weights,
    to_transformers_weights,
    write_folder,
)
from microbert_course.pretrained import carried_models, pretrained_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from microbert_course.models.gpt import GptConfig, GptForCausalLM

CONFIG_NAMES = {  # ours: theirs
    "vocab_size": "vocab_size", "hidden_size": "hidden_size", "num_layers": "num_hidden_layers", "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads", "intermediate_size": "intermediate_size", "max_seq_len": "max_position_embeddings",
    "rms_norm_eps": "rms_norm_eps", "tie_word_embeddings": "tie_word_embeddings", "dropout": "attention_dropout",
    "initializer_range": "initializer_range", "bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "pad_token_id",
}
FIXED = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False}


def to_llama_config(config: "GptConfig") -> dict:  # the content of a `config.json`
    "Our shape in the words of `transformers.LlamaConfig`."
    return {"architectures": ["LlamaForCausalLM"], **FIXED, **{theirs: getattr(config, ours) for ours, theirs in CONFIG_NAMES.items()},
            "head_dim": config.hidden_size // config.num_heads, "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta}}


def from_llama_config(
    values: dict,  # the content of a `config.json`
    where: str | Path,  # named in the error
) -> "GptConfig":
    """The shape in a `config.json` of a Llama, in today's form or in that of older checkpoints.

    Raises: CourseError if it describes another architecture, lacks a size, or has one that makes no sense."""
    from microbert_course.models.gpt import GptConfig  # here, not above: that module imports this one

    for name, ours in FIXED.items():
        if values.get(name, ours) != ours:
            raise CourseError(f"{where} has {name} {values[name]!r} where a decoder of the course has {ours!r}: choose a folder with that")
    defaults = {"num_key_value_heads": values.get("num_attention_heads"), "tie_word_embeddings": False, "rms_norm_eps": 1e-6,
                "attention_dropout": 0.0, "initializer_range": 0.02, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    try:
        if rope.get("rope_type", rope.get("type", "default")) != "default":
            raise CourseError(f"{where} stretches its rotary positions (rope_type), and ours do not: choose a folder without")
        sizes = {ours: values[theirs] if values.get(theirs) is not None or theirs not in defaults else defaults[theirs]
                 for ours, theirs in CONFIG_NAMES.items()}
        config = GptConfig(**sizes, rope_theta=rope.get("rope_theta", values.get("rope_theta", 10_000.0)))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, CourseError):
            raise
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CourseError(f"{where} has a config.json that describes no Llama ({reason}): restore it or train again") from None
    head_dim = config.hidden_size // config.num_heads
    if values.get("head_dim", head_dim) != head_dim:
        raise CourseError(f"{where} has head_dim {values['head_dim']} where ours is hidden_size / num_attention_heads, {head_dim}: choose a folder with that")
    return config


def llama_weight_names(
    model: "GptForCausalLM",
) -> dict[str, list[str]]:  # our name: their names, to be stacked along the first axis
    "Where each tensor of our decoder stands in a `LlamaForCausalLM`."
    names = {"gpt.word.weight": ["model.embed_tokens.weight"], "gpt.norm.weight": ["model.norm.weight"]}
    for i in range(model.config.num_layers):
        ours, theirs = f"gpt.blocks.{i}", f"model.layers.{i}"
        names |= {f"{ours}.attention.norm.weight": [f"{theirs}.input_layernorm.weight"],
                  f"{ours}.attention.sublayer.qkv.weight": [f"{theirs}.self_attn.{part}_proj.weight" for part in "qkv"],
                  f"{ours}.attention.sublayer.out.weight": [f"{theirs}.self_attn.o_proj.weight"],
                  f"{ours}.feed_forward.norm.weight": [f"{theirs}.post_attention_layernorm.weight"],
                  f"{ours}.feed_forward.sublayer.gate_and_up.weight": [f"{theirs}.mlp.{part}_proj.weight" for part in ("gate", "up")],
                  f"{ours}.feed_forward.sublayer.down.weight": [f"{theirs}.mlp.down_proj.weight"]}
    return names if model.head is None else {**names, "head.weight": ["lm_head.weight"]}


def llama_rows(
    model: "GptForCausalLM",
) -> dict[str, list[int]]:  # our name: rows of each of theirs
    "Queries have more rows than keys and values where heads are shared."
    config = model.config
    head_dim = config.hidden_size // config.num_heads
    rows = [num_heads * head_dim for num_heads in (config.num_heads, config.num_kv_heads, config.num_kv_heads)]
    return {f"gpt.blocks.{i}.attention.sublayer.qkv.weight": rows for i in range(config.num_layers)}


def write_llama_folder(folder: str | Path, model: "GptForCausalLM") -> None:
    "Write `config.json` and `model.safetensors`, each file whole or not at all."
    write_folder(folder, to_llama_config(model.config), to_transformers_weights(model, llama_weight_names(model), llama_rows(model)))


def read_llama_config(folder: str | Path) -> dict:  # the content of its `config.json`
    """Raises: CourseError if the folder or the file is missing or damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CourseError(f"{folder} is not a folder: give one that a training run wrote")
    return read_json(folder / "config.json")


def from_llama_weights(
    weights: dict[str, Tensor],  # under the names of transformers
    model: "GptForCausalLM",  # gives the names and shapes to expect
    where: str | Path,  # named in the error
) -> dict[str, Tensor]:  # what `model.load_state_dict` takes, fp32
    """Weights of a Llama under our names.

    Raises: CourseError if a tensor is missing, has another shape, or holds NaN or infinity."""
    return from_transformers_weights(weights, model, where, llama_weight_names(model), "LlamaForCausalLM", llama_rows(model))


def read_llama_weights(model: "GptForCausalLM", folder: str | Path) -> dict[str, Tensor]:
    "The weights of a folder, as `from_llama_weights` answers them."
    return from_llama_weights(read_weights(Path(folder) / "model.safetensors"), model, folder)


def load_decoder(
    name: str | Path,  # a folder with a Llama and its tokenizer, a GGUF file, "smollm2", or a decoder that the package carries
) -> tuple["GptForCausalLM", "PreTrainedTokenizerFast"]:  # fp32, on the CPU, in eval mode
    """A decoder and its tokenizer, wherever they are.

    Raises: CourseError if there is none, or it is damaged or another architecture's."""
    from microbert_course.models.gguf_files import read_gguf  # here, not above: these two import this module
    from microbert_course.models.gpt import GptForCausalLM

    if str(name) == "smollm2":
        return read_gguf(fetch_weights("smollm2") / next(iter(WEIGHTS["smollm2"].files)))
    if Path(name).suffix == ".gguf":
        return read_gguf(name)
    name = pretrained_folder(str(name)) if str(name) in carried_models() else name
    model, tokenizer = GptForCausalLM.from_pretrained(name), load_tokenizer(name)
    if len(tokenizer) > model.config.vocab_size:
        raise CourseError(f"the tokenizer in {name} has {len(tokenizer)} entries and the model {model.config.vocab_size}: use the one saved with the model")
    return model, tokenizer
