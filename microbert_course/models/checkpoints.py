"""Folders that transformers reads and writes: its names for our sizes and tensors, and a sentence for every way one can be broken."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from microbert_course.errors import CourseError
from microbert_course.files import read_json, write_json, write_whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from microbert_course.models.bert import MicroBertConfig

CONFIG_NAMES = {  # ours: theirs
    "vocab_size": "vocab_size", "hidden_size": "hidden_size", "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads", "intermediate_size": "intermediate_size",
    "max_seq_len": "max_position_embeddings", "type_vocab_size": "type_vocab_size", "dropout": "hidden_dropout_prob",
    "pad_token_id": "pad_token_id", "initializer_range": "initializer_range", "layer_norm_eps": "layer_norm_eps",
}


def to_transformers_config(
    config: "MicroBertConfig",
    architecture: str = "BertForMaskedLM",  # the class of transformers that the weights are for
) -> dict:  # the content of a `config.json`
    "Our shape in the words of `transformers.BertConfig`."
    return {"architectures": [architecture], "model_type": "bert", "hidden_act": "gelu",
            "attention_probs_dropout_prob": config.dropout,
            **{theirs: getattr(config, ours) for ours, theirs in CONFIG_NAMES.items()}}


def from_transformers_config(
    values: dict,  # the content of a `config.json`
    where: str | Path,  # named in the error
) -> "MicroBertConfig":
    """The shape in a `config.json` that transformers or we wrote.

    Raises: CourseError if it describes another architecture or lacks a size."""
    from microbert_course.models.bert import MicroBertConfig  # here, not above: that module imports this one

    dropout = values.get("hidden_dropout_prob")
    for name, ours in (("model_type", "bert"), ("hidden_act", "gelu"), ("position_embedding_type", "absolute"),
                       ("is_decoder", False), ("tie_word_embeddings", True), ("attention_probs_dropout_prob", dropout)):
        if values.get(name, ours) != ours:
            raise CourseError(f"{where} has {name} {values[name]!r} where MicroBert has {ours!r}: "
                              f"choose a folder with that")
    try:
        return MicroBertConfig(**{ours: values[theirs] for ours, theirs in CONFIG_NAMES.items()})
    except (KeyError, ValueError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CourseError(f"{where} has a config.json that describes no BERT ({reason}): "
                          f"restore it or train again") from None


def encoder_weight_names(
    config: "MicroBertConfig",
    with_pooler: bool = False,
    prefix: str = "",  # "bert." where the encoder is a part of a larger model, in both libraries
) -> dict[str, list[str]]:  # our name: their names, to be stacked along the first axis
    "Where each tensor of the encoder stands in a `BertModel`; query, key and value are three there and one here."
    names = {
        "embeddings.word.weight": ["embeddings.word_embeddings.weight"],
        "embeddings.position.weight": ["embeddings.position_embeddings.weight"],
        "embeddings.token_type.weight": ["embeddings.token_type_embeddings.weight"],
    }
    for kind in ("weight", "bias"):
        names[f"embeddings.norm.{kind}"] = [f"embeddings.LayerNorm.{kind}"]
        for i in range(config.num_layers):
            ours, theirs = f"blocks.{i}", f"encoder.layer.{i}"
            names[f"{ours}.attention.sublayer.qkv.{kind}"] = [
                f"{theirs}.attention.self.{part}.{kind}" for part in ("query", "key", "value")]
            names[f"{ours}.attention.sublayer.out.{kind}"] = [f"{theirs}.attention.output.dense.{kind}"]
            names[f"{ours}.attention.norm.{kind}"] = [f"{theirs}.attention.output.LayerNorm.{kind}"]
            names[f"{ours}.feed_forward.sublayer.up.{kind}"] = [f"{theirs}.intermediate.dense.{kind}"]
            names[f"{ours}.feed_forward.sublayer.down.{kind}"] = [f"{theirs}.output.dense.{kind}"]
            names[f"{ours}.feed_forward.norm.{kind}"] = [f"{theirs}.output.LayerNorm.{kind}"]
        if with_pooler:
            names[f"pooler.dense.{kind}"] = [f"pooler.dense.{kind}"]
    return {prefix + ours: [prefix + name for name in theirs] for ours, theirs in names.items()}


def weight_names(
    config: "MicroBertConfig",
) -> dict[str, list[str]]:  # our name: their names, to be stacked along the first axis
    "Where each tensor of our masked language model stands in a `BertForMaskedLM`."
    names = {**encoder_weight_names(config, prefix="bert."), "head.bias": ["cls.predictions.bias"]}
    for kind in ("weight", "bias"):
        names[f"head.dense.{kind}"] = [f"cls.predictions.transform.dense.{kind}"]
        names[f"head.norm.{kind}"] = [f"cls.predictions.transform.LayerNorm.{kind}"]
    return names


def to_transformers_weights(
    model: nn.Module,
    names: dict[str, list[str]] | None = None,  # our name: their names; None = those of a masked language model
    rows: dict[str, list[int]] | None = None,  # our name: how many rows each of theirs has, where they are not alike
) -> dict[str, Tensor]:  # what `BertForMaskedLM.load_state_dict` takes, up to its tied copies
    """Our weights under the names that transformers uses.

    Raises: ValueError if a linear is packed or has adapters, so that its weight is not there."""
    state, result = model.state_dict(), {}
    for ours, theirs in (names or weight_names(model.config)).items():
        if ours not in state:
            raise ValueError(f"{type(model).__name__} has no plain tensor {ours!r}, packed weights or adapters are in its place: "
                             f"call dequantize_model, or merge and remove_lora, first")
        parts = state[ours].cpu().split(_rows_of(ours, theirs, len(state[ours]), rows))
        result.update({name: part.clone() for name, part in zip(theirs, parts, strict=True)})
    return result


def from_transformers_weights(
    weights: dict[str, Tensor],  # a transformers checkpoint
    model: nn.Module,  # gives the names and shapes to expect
    where: str | Path,  # named in the error
    names: dict[str, list[str]] | None = None,  # our name: their names; None = those of a masked language model
    architecture: str = "BertForMaskedLM",  # what to look for, named in the error
    rows: dict[str, list[int]] | None = None,  # our name: how many rows each of theirs has, where they are not alike
) -> dict[str, Tensor]:  # what `model.load_state_dict` takes
    """Weights of a transformers checkpoint under our names, in fp32.

    Raises: CourseError if a tensor is missing, has another shape, or holds NaN or infinity."""
    expected, state = model.state_dict(), {}
    for ours, theirs in (names or weight_names(model.config)).items():
        missing = [name for name in theirs if name not in weights]
        if missing:
            raise CourseError(f"{where} has no tensor {missing[0]!r}: choose a folder with a {architecture} in it")
        size, *rest = expected[ours].shape  # several parts share the first axis
        for name, num_rows in zip(theirs, _rows_of(ours, theirs, size, rows), strict=True):
            shape = (num_rows, *rest)
            if tuple(weights[name].shape) != shape:
                raise CourseError(f"{where} has {name!r} in the shape {tuple(weights[name].shape)} where its "
                                  f"config.json asks for {shape}: restore the folder or train again")
            if not weights[name].isfinite().all():
                raise CourseError(f"{where} has NaN or infinity in {name!r}: train again with a lower learning rate")
        state[ours] = torch.cat([weights[name] for name in theirs]).float()
    return state


def _rows_of(ours: str, theirs: list[str], size: int, rows: dict[str, list[int]] | None) -> list[int]:
    "How the first axis of one of our tensors is shared out among theirs."
    return (rows or {}).get(ours) or [size // len(theirs)] * len(theirs)


def read_weights(
    path: str | Path,  # a safetensors file
) -> dict[str, Tensor]:
    """All tensors of a file, those of the oldest checkpoints (`gamma`, `beta`) under today's names.

    Raises: CourseError if the file is missing or damaged."""
    path = Path(path)
    try:
        weights = load(path.read_bytes())
    except FileNotFoundError:
        raise CourseError(f"{path} does not exist: give a folder that a training run wrote") from None
    except SafetensorError as error:
        raise CourseError(f"{path} is damaged ({error}): restore it or train again") from None
    return {name.replace(".gamma", ".weight").replace(".beta", ".bias"): tensor for name, tensor in weights.items()}


def read_folder(
    folder: str | Path,
) -> tuple["MicroBertConfig", dict[str, Tensor]]:  # the shape; every tensor under the name it has in the file
    """What a folder written by `save_pretrained`, here or in transformers, holds.

    Raises: CourseError if the folder, or a file in it, is missing, cut short or of another architecture."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CourseError(f"{folder} is not a folder: give one that a training run wrote")
    config = from_transformers_config(read_json(folder / "config.json"), folder)
    return config, read_weights(folder / "model.safetensors")


def read_bert_config(folder: str | Path) -> dict:  # the content of its `config.json`
    """What a folder with a BERT says about itself.

    Raises: CourseError if there is no such folder, or it holds something else."""
    if not Path(folder).is_dir():
        raise CourseError(f"{folder} is not a folder: give one that a training run wrote")
    values = read_json(Path(folder) / "config.json")
    if values.get("model_type") != "bert":
        raise CourseError(f"{folder} holds a model of type {values.get('model_type')!r}, and a classifier is built on BERT's own blocks: "
                          f"give a folder with a BERT, such as minilm or a run of `microbert pretrain` with blocks 'bert'")
    return values


def saved_labels(
    values: dict,  # the content of a `config.json`
    folder: str | Path,  # named in the error
) -> tuple[str, ...] | None:  # None = it is no classifier
    """The names of the labels, in order.

    Raises: CourseError if they are not numbered."""
    if not any("SequenceClassification" in name for name in values.get("architectures") or ()):
        return None
    names = values.get("id2label") or {str(number): f"LABEL_{number}" for number in range(2)}  # transformers leaves its default out
    return label_names(names, folder)


def label_names(names: dict[str, str], folder: str | Path) -> tuple[str, ...]:
    "What an id2label says, in order. Raises: CourseError if it does not number its labels."
    numbers = [str(number) for number in range(len(names))] if isinstance(names, dict) else None
    if numbers is None or set(names) != set(numbers) or not all(isinstance(name, str) for name in names.values()):
        raise CourseError(f'id2label in {Path(folder) / "config.json"} is {names!r:.80}, which does not number the labels: write it as {{"0": "bad", "1": "good"}}')
    return tuple(names[number] for number in numbers)


def write_folder(
    folder: str | Path,
    config: dict,  # the content of config.json
    weights: dict[str, Tensor],  # under the names that transformers uses
) -> None:
    "Write `config.json` and `model.safetensors`, each file whole or not at all."
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    write_whole(folder / "model.safetensors", save(weights, metadata={"format": "pt"}))


def load_tokenizer(
    folder: str | Path,  # one with `tokenizer.json`, as every training run writes it
) -> "PreTrainedTokenizerFast":
    """The tokenizer that was saved beside a model.

    Raises: CourseError if its files are missing or damaged."""
    from transformers import AutoTokenizer  # here, not above: reading weights alone should not wait for it

    folder = Path(folder)
    if not folder.is_dir():
        raise CourseError(f"{folder} is not a folder: give one that a training run wrote")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        read_json(folder / name)
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # the tokenizers library raises bare Exception for what it cannot read
        raise CourseError(f"{folder / 'tokenizer.json'} holds no tokenizer that can be read ({type(error).__name__}): "
                          f"restore it or train again") from None
