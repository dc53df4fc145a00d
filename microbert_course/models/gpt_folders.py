"""Decoders on disk: folders that transformers knows as a Llama, and GGUF files, with a sentence for every way one can be broken."""

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import torch
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

if TYPE_CHECKING:
    from gguf import GGUFReader
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


GGUF_NAMES = {  # ours: the end of theirs
    "vocab_size": "vocab_size", "hidden_size": "embedding_length", "num_layers": "block_count", "num_heads": "attention.head_count",
    "num_kv_heads": "attention.head_count_kv", "intermediate_size": "feed_forward_length", "max_seq_len": "context_length",
    "rope_theta": "rope.freq_base", "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
GGUF_TOKENS = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "padding_token_id"}
GGUF_TENSORS = {  # theirs in a layer: where transformers has it
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL = 3  # the token type of those that are no text


def read_gguf(
    path: str | Path,  # a GGUF file with a Llama in it, of any quantisation that the package gguf undoes
) -> tuple["GptForCausalLM", "PreTrainedTokenizerFast"]:  # fp32, on the CPU, in eval mode
    """The decoder and the tokenizer in a GGUF file, weights back in float32.

    Raises: CourseError if there is no such file, it is no GGUF or cut short, or holds another architecture or tokenizer."""
    from microbert_course.models.gpt import GptConfig, GptForCausalLM

    path = Path(path)
    reader = _open_gguf(path)
    architecture = _field(reader, "general.architecture", path)
    if architecture != "llama":
        raise CourseError(f"{path} holds the architecture {architecture!r} where a decoder of the course has 'llama': choose a file with that")
    names = {tensor.name for tensor in reader.tensors}
    sizes = {ours: _field(reader, f"llama.{theirs}", path) for ours, theirs in GGUF_NAMES.items()}
    special = {ours: _field(reader, f"tokenizer.ggml.{theirs}", path) for ours, theirs in GGUF_TOKENS.items()}
    try:
        config = GptConfig(**sizes, **special, tie_word_embeddings="output.weight" not in names)
    except ValueError as error:
        raise CourseError(f"{path} describes no decoder ({error}): choose another file") from None
    with torch.device("meta"):
        model = GptForCausalLM(config)
    model.load_state_dict(from_llama_weights(_gguf_weights(reader, config, path), model, path), assign=True)
    return model.eval(), _gguf_tokenizer(reader, path)


def _open_gguf(path: Path) -> "GGUFReader":
    "The file, its fields read and its tensors found."
    from gguf import GGUFReader

    if not path.is_file():
        raise CourseError(f"{path} is no file: give a GGUF file, as `microbert fetch smollm2` fetches one")
    with path.open("rb") as file:
        start = file.read(24)
    if start[:4] != b"GGUF":
        raise CourseError(f"{path} is no GGUF file (it begins with {start[:4]!r}): choose one")
    try:
        return GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, struct.error, UnicodeDecodeError) as error:  # what it meets beyond the end
        raise CourseError(f"{path} is cut short or damaged ({type(error).__name__} after {path.stat().st_size:,} bytes): fetch it again") from None


def _field(reader: "GGUFReader", name: str, path: Path) -> object:
    "A value of the file's head."
    if name not in reader.fields:
        raise CourseError(f"{path} has no field {name!r}: choose a GGUF file with a Llama in it")
    return reader.fields[name].contents()


def _gguf_weights(reader: "GGUFReader", config: "GptConfig", path: Path) -> dict[str, Tensor]:  # under the names of transformers
    "All tensors in float32; the rows of queries and keys back in the order of halves, which GGUF files have as neighbours."
    from gguf.quants import dequantize

    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
    names |= {f"blk.{i}.{ours}.weight": f"model.layers.{i}.{theirs}.weight" for i in range(config.num_layers) for ours, theirs in GGUF_TENSORS.items()}
    weights = {}
    for tensor in reader.tensors:
        if tensor.name not in names:
            continue  # tables of angles, which we compute
        try:
            numbers = dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise CourseError(f"{path} holds {tensor.name!r} as {tensor.tensor_type.name}, which the package gguf cannot undo: choose another file") from None
        weight = torch.from_numpy(numbers.copy() if not numbers.flags.writeable else numbers)
        for kind, num_heads in (("attn_q", config.num_heads), ("attn_k", config.num_kv_heads)):
            if f".{kind}." in tensor.name:
                weight = weight.view(num_heads, -1, 2, weight.size(1)).transpose(1, 2).reshape(weight.shape)
        weights[names[tensor.name]] = weight
    return weights


def _gguf_tokenizer(reader: "GGUFReader", path: Path) -> "PreTrainedTokenizerFast":
    "Byte-pair encoding from the file's own list of pieces and merges (Radford et al. 2019, §2.2)."
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    kind = _field(reader, "tokenizer.ggml.model", path)
    if kind != "gpt2":
        raise CourseError(f"{path} has a tokenizer of the kind {kind!r} where 'gpt2' is known, pairs of bytes: choose another file")
    tokens, merges, types = (_field(reader, f"tokenizer.ggml.{name}", path) for name in ("tokens", "merges", "token_type"))
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, pairs))
    digits = [pre_tokenizers.Digits(individual_digits=True)] if _field(reader, "tokenizer.ggml.pre", path) == "smollm" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token, kind in zip(tokens, types, strict=True) if kind == CONTROL])
    bos, eos, pad = (tokens[_field(reader, f"tokenizer.ggml.{name}", path)] for name in GGUF_TOKENS.values())
    template = reader.fields["tokenizer.chat_template"].contents() if "tokenizer.chat_template" in reader.fields else None
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad, padding_side="left",
                                   chat_template=template, clean_up_tokenization_spaces=False)


def read_gguf_tokenizer(path: str | Path) -> "PreTrainedTokenizerFast":
    """The tokenizer in a GGUF file, without its weights.

    Raises: CourseError if there is no such file, it is no GGUF or cut short, or has another kind of tokenizer."""
    return _gguf_tokenizer(_open_gguf(Path(path)), Path(path))


def load_decoder(
    name: str | Path,  # a folder with a Llama and its tokenizer, a GGUF file, or "smollm2"
) -> tuple["GptForCausalLM", "PreTrainedTokenizerFast"]:  # fp32, on the CPU, in eval mode
    """A decoder and its tokenizer, wherever they are.

    Raises: CourseError if there is none, or it is damaged or another architecture's."""
    from microbert_course.models.gpt import GptForCausalLM

    if str(name) == "smollm2":
        return read_gguf(fetch_weights("smollm2") / next(iter(WEIGHTS["smollm2"].files)))
    if Path(name).suffix == ".gguf":
        return read_gguf(name)
    model, tokenizer = GptForCausalLM.from_pretrained(name), load_tokenizer(name)
    if len(tokenizer) > model.config.vocab_size:
        raise CourseError(f"the tokenizer in {name} has {len(tokenizer)} entries and the model {model.config.vocab_size}: use the one saved with the model")
    return model, tokenizer
