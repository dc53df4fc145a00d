"""Adapters in peft's format: its names for the parts of our linears, its two files, and a sentence for every way they can be broken."""

import itertools
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from microbert_course.errors import CourseError
from microbert_course.files import read_json, write_json, write_whole
from microbert_course.models.bert import MicroBert, MicroBertForMaskedLM
from microbert_course.models.checkpoints import encoder_weight_names, read_weights, weight_names, write_folder
from microbert_course.models.gpt import GptForCausalLM
from microbert_course.models.gpt_folders import llama_rows, llama_weight_names
from microbert_course.models.modern import ModernForMaskedLM
from microbert_course.models.modern_folders import is_modernbert, modernbert_weight_names

if TYPE_CHECKING:
    from microbert_course.models.lora import LoraConfig, TrainableShare

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # in front of every name in the file: peft's own two wrappers
REMEDY = "give the model that the adapter was trained on"
READ = {"peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "modules_to_save"}
HARMLESS = {  # what else peft writes that changes nothing once an adapter is trained, or that its tensors' names say as well
    "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version", "target_modules",
    "exclude_modules", "layers_to_transform", "layers_pattern", "megatron_core", "megatron_config", "loftq_config", "eva_config",
    "corda_config", "lora_ga_config", "qalora_group_size", "runtime_config", "ensure_weight_tying", "arrow_config"}
PLAIN = {"bias": "none", "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal")}  # the others change the base
CARRIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json",
           "merges.txt", "tokenizer.model", "chat_template.jinja", "generation_config.json")  # what a merged folder takes over


# --- names

class Place(NamedTuple):
    "Where one of transformers' linears is in our model."

    linear: str  # the path of our linear
    part: str  # its name among those stacked in there; "whole" if it is alone
    rows: slice  # of our weight


def ends_with(name: str, end: str) -> bool:
    "Whether a dotted name is `end` or has it as its last words: peft's rule for targets."
    return name == end or name.endswith(f".{end}")


def has_adapters(module: nn.Module) -> bool:
    "Whether it is a `LoraLinear` or an `OwnCopy`; asked by what it has, so that a class with the same methods will do (a learner's, say)."
    return isinstance(vars(module).get("_modules", {}).get("adapters"), nn.ModuleDict)


def is_lora_linear(module: nn.Module) -> bool:
    "Whether it is a `LoraLinear`, with rows that its changes belong to."
    return has_adapters(module) and "rows" in vars(module)


def weight_names_of(
    model: nn.Module,
) -> tuple[dict[str, list[str]], dict[str, list[int]]]:  # our name: their names; our name: rows of each, where they differ
    "The tables of names of all models of the course that are in this one, or are this one; what is in no table has the same name there."
    names, rows, inside = {}, {}, []
    for path, module in model.named_modules():
        tables = None if path.startswith(tuple(inside)) else _tables(module)
        if tables:
            before = f"{path}." if path else ""
            inside.append(before)
            names |= {before + ours: [before + name for name in theirs] for ours, theirs in tables[0].items()}
            rows |= {before + ours: sizes for ours, sizes in tables[1].items()}
    return names, rows


def _tables(module: nn.Module) -> tuple[dict[str, list[str]], dict[str, list[int]]] | None:
    if isinstance(module, MicroBertForMaskedLM):
        return weight_names(module.config), {}
    if isinstance(module, MicroBert):
        return encoder_weight_names(module.config, module.pooler is not None), {}
    if isinstance(module, ModernForMaskedLM) and is_modernbert(module.config):
        return modernbert_weight_names(module.config), {}
    if isinstance(module, GptForCausalLM):
        return llama_weight_names(module), llama_rows(module)
    return None


def linear_places(
    model: nn.Module,
) -> dict[str, Place]:  # the name of a linear in transformers: where it is here
    """Every linear of the model that is called as one, under the name that it has in transformers.

    Query, key and value are three linears there and rows of one here. A head whose weight is read for `output_table` is left out."""
    (names, rows), places, inside = weight_names_of(model), {}, []
    tables = {id(module.output_table()[0]) for module in model.modules() if hasattr(module, "output_table")}
    for path, module in model.named_modules():
        if not path or path.startswith(tuple(inside)):
            continue
        if has_adapters(module):
            inside.append(f"{path}.")
        is_copy = has_adapters(module) and not is_lora_linear(module)
        is_linear = hasattr(module, "in_features") and hasattr(module, "out_features")
        if is_copy or not is_linear or id(getattr(module, "weight", None)) in tables:
            continue
        theirs = [name.removesuffix(".weight") for name in names.get(f"{path}.weight", [f"{path}.weight"])]
        sizes = rows.get(f"{path}.weight", [module.out_features // len(theirs)] * len(theirs))
        for name, stop, size in zip(theirs, itertools.accumulate(sizes), sizes, strict=True):
            part = name.rpartition(".")[2] if len(theirs) > 1 else "whole"
            places[name] = Place(path, part, slice(stop - size, stop))
    return places


# --- writing

def adapter_tensors(
    model: nn.Module,  # one that `add_lora` changed
    name: str = "default",  # of the adapter
) -> dict[str, Tensor]:  # the model's own tensors
    """Everything that an adapter is made of, under the names that peft gives to it in a file.

    Raises: ValueError if the model has no such adapter, or one with a copy of a module that has another name in transformers."""
    from microbert_course.models.lora import adapter_names  # here, not above: that module imports this one

    if name not in adapter_names(model):
        raise ValueError(f"the model has no adapter {name!r}: it has {', '.join(adapter_names(model)) or 'none'}")
    tensors, (names, _) = {}, weight_names_of(model)
    for theirs, place in linear_places(model).items():
        layer = model.get_submodule(place.linear)
        if is_lora_linear(layer) and name in layer.adapters and place.part in layer.adapters[name]:
            change = layer.adapters[name][place.part]
            tensors |= {f"{PREFIX}{theirs}.lora_A.weight": change.A, f"{PREFIX}{theirs}.lora_B.weight": change.B}
    for path, layer in model.named_modules():
        if has_adapters(layer) and not is_lora_linear(layer) and name in layer.adapters:
            copy = layer.adapters[name]
            for key, tensor in (*copy.named_parameters(prefix=path), *copy.named_buffers(prefix=path)):
                if names.get(key, [key]) != [key]:
                    raise ValueError(f"{path!r} has another name in transformers, so that peft would not find the copy of it: "
                                     f"merge the adapter and save the whole model")
                tensors[PREFIX + key] = tensor
    return tensors


def save_adapter(
    model: nn.Module,  # one that `add_lora` changed
    folder: str | Path,
    name: str = "default",  # of the adapter
) -> None:
    """Write an adapter as peft does, each file whole or not at all: `peft.PeftModel.from_pretrained(their_model, folder)` opens it.

    Raises: ValueError if the model has no such adapter, or one with a copy of a module that has another name in transformers."""
    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in adapter_tensors(model, name).items()}
    config = next(change.config for layer in model.modules() if is_lora_linear(layer) and name in layer.adapters
                  for change in layer.adapters[name].values())
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG_FILE, _to_peft(config))
    write_whole(folder / WEIGHTS_FILE, save(weights, metadata={"format": "pt"}))


def _to_peft(config: "LoraConfig") -> dict:
    "Our settings in the words of `peft.LoraConfig`; what is left out has peft's defaults."
    return {"peft_type": "LORA", "task_type": None, "base_model_name_or_path": None, "inference_mode": True, "bias": "none",
            "fan_in_fan_out": False, "r": config.lora_rank, "lora_alpha": config.lora_alpha, "lora_dropout": config.lora_dropout,
            "use_rslora": config.rank_stabilized, "target_modules": list(config.targets),
            "modules_to_save": list(config.also_train) or None}


# --- reading

@dataclass(frozen=True)
class SavedAdapter:
    "What is in the folder of an adapter."

    config: "LoraConfig"
    changes: dict[str, tuple[Tensor, Tensor]]  # a linear's name in transformers: A (rank, in_features), B (out_features, rank)
    copies: dict[str, Tensor]  # tensors of modules that were trained whole, by their names in transformers

    @property
    def num_parameters(self) -> int:
        "Numbers in the file."
        return sum(tensor.numel() for tensor in (*itertools.chain(*self.changes.values()), *self.copies.values()))


def read_adapter(
    folder: str | Path,  # written by `save_adapter` or by peft
) -> SavedAdapter:
    """The settings and tensors of an adapter.

    Raises: CourseError if a file is missing or damaged, the adapter is no plain LoRA, or its tensors do not fit its settings."""
    from microbert_course.models.lora import LoraConfig

    folder = Path(folder)
    if not folder.is_dir():
        raise CourseError(f"{folder} is not a folder: give one with an adapter, written by save_adapter or by peft")
    values = read_json(folder / CONFIG_FILE, "restore it or save the adapter again")
    _refuse_unknown(values, folder)
    changes, copies = _sorted_tensors(read_weights(folder / WEIGHTS_FILE), values.get("r"), folder)
    targets = values.get("target_modules")
    also_train = tuple(module for module in values.get("modules_to_save") or () if any(f".{module}." in f".{name}" for name in copies))
    if not isinstance(targets, list) or not all(any(ends_with(name, end) for end in targets) for name in changes):
        targets = list(changes)  # a pattern, or a word such as "all-linear": the tensors say what it meant
    for name in copies:
        if not any(f".{module}." in f".{name}" for module in also_train):
            raise CourseError(f"{folder} has the tensor {name!r}, which no setting in {CONFIG_FILE} explains: save the adapter again")
    try:
        config = LoraConfig(values["r"], values["lora_alpha"], values.get("lora_dropout", 0.0), tuple(targets), also_train,
                            values.get("use_rslora", False))
    except (KeyError, ValueError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CourseError(f"{folder / CONFIG_FILE} describes no LoRA ({reason}): restore it or save the adapter again") from None
    return SavedAdapter(config, changes, copies)


def _refuse_unknown(values: dict, folder: Path) -> None:
    "What would make another model of it than ours: refused instead of left out."
    if values.get("peft_type") != "LORA":
        raise CourseError(f"{folder} has peft_type {values.get('peft_type')!r}, and the course reads 'LORA' alone: choose an adapter of that type")
    for name, value in values.items():
        plain = PLAIN.get(name, value if name in READ | HARMLESS else None)
        is_plain = value in plain if isinstance(plain, tuple) else value == plain or not value
        if not is_plain:
            raise CourseError(f"{folder} has {name} {value!r}, and the course has plain LoRA alone: choose an adapter without it")


def _sorted_tensors(tensors: dict[str, Tensor], rank: int | None, folder: Path) -> tuple[dict, dict]:
    "The pairs A and B by the linear's name, and the rest by the tensor's name."
    first, second, copies = {}, {}, {}
    for key, tensor in sorted(tensors.items()):
        name = key.removeprefix(PREFIX)
        if name == key:
            raise CourseError(f"{folder} has the tensor {key!r}, and the names in peft's files begin with {PREFIX!r}: save the adapter again")
        if not tensor.isfinite().all():
            raise CourseError(f"{folder} has NaN or infinity in {key!r}: train again with a lower learning rate")
        kind = next((kind for kind in ("A", "B") if name.endswith(f".lora_{kind}.weight")), None)
        if kind is None:
            copies[name] = tensor
        else:
            {"A": first, "B": second}[kind][name.removesuffix(f".lora_{kind}.weight")] = tensor
    for name in [*first, *second]:
        if name not in first or name not in second:
            kind = "A" if name not in first else "B"
            raise CourseError(f"{folder} has no tensor {f'{PREFIX}{name}.lora_{kind}.weight'!r}: save the adapter again")
        if not first[name].ndim == second[name].ndim == 2 or not len(first[name]) == second[name].size(1) == rank:
            raise CourseError(f"{folder} has {f'{PREFIX}{name}.lora_A.weight'!r} in the shape {tuple(first[name].shape)} and its B in "
                              f"{tuple(second[name].shape)} where {CONFIG_FILE} says r {rank}: save the adapter again")
    if not first:
        raise CourseError(f"{folder / WEIGHTS_FILE} holds no change of any linear: save the adapter again")
    return {name: (first[name], second[name]) for name in first}, copies


def _check_fit(name: str, pair: tuple[Tensor, Tensor], shape: tuple[int, int] | None, where: Path, whose: str | Path) -> None:
    "Whether a pair is for a weight of this shape; `shape` is None where there is no such weight."
    tensor = f"{PREFIX}{name}.lora_A.weight"
    if shape is None:
        raise CourseError(f"{where} has {tensor!r}, and {whose} has no linear of that name: {REMEDY}")
    found = (len(pair[1]), pair[0].size(1))
    if found != shape:
        raise CourseError(f"{where} has {tensor!r} for a linear of the shape {found} where {whose} has {shape}: {REMEDY}")


def _check_copies(copies: dict[str, Tensor], expected: dict[str, Tensor], where: Path, whose: str | Path) -> None:
    "Whether there is a tensor of the same shape for each copy."
    for key, tensor in copies.items():
        if key not in expected:
            raise CourseError(f"{where} has {f'{PREFIX}{key}'!r}, and {whose} has no tensor of that name: {REMEDY}")
        if tensor.shape != expected[key].shape:
            raise CourseError(f"{where} has {f'{PREFIX}{key}'!r} in the shape {tuple(tensor.shape)} where {whose} has "
                              f"{tuple(expected[key].shape)}: {REMEDY}")


def load_adapter(
    model: nn.Module,  # plain, or with other adapters
    folder: str | Path,  # written by `save_adapter` or by peft
    name: str = "default",  # to give to the adapter
) -> "TrainableShare":
    """Add the adapter of a folder to a model, and use it.

    Raises: CourseError if a file is missing or damaged, or the adapter is no plain LoRA or another model's (the model is as it was
    then); ValueError if the name is taken or an adapter is merged."""
    from microbert_course.models.lora import add_lora

    folder, places = Path(folder), linear_places(model)
    saved = read_adapter(folder)
    for target, pair in saved.changes.items():
        place = places.get(target)
        shape = place and (place.rows.stop - place.rows.start, model.get_submodule(place.linear).in_features)
        _check_fit(target, pair, shape, folder, f"this {type(model).__name__}")
    modules = {path: module.base if has_adapters(module) else module for path, module in model.named_modules()
               if any(ends_with(path, wanted) for wanted in saved.config.also_train)}
    expected = {f"{path}.{key}": tensor for path, module in modules.items() for key, tensor in module.state_dict().items()}
    _check_copies(saved.copies, expected, folder, f"this {type(model).__name__}")
    for key in expected.keys() - saved.copies.keys():
        raise CourseError(f"{folder} has no tensor {f'{PREFIX}{key}'!r}: save the adapter again")
    config = saved.config
    if {name for name in places if any(ends_with(name, end) for end in config.targets)} != set(saved.changes):
        config = replace(config, targets=tuple(saved.changes))  # it was put on some layers alone
    share = add_lora(model, config, name)
    with torch.no_grad():
        for target, (first, second) in saved.changes.items():
            change = model.get_submodule(places[target].linear).adapters[name][places[target].part]
            change.A.copy_(first)
            change.B.copy_(second)
    for path, module in modules.items():
        model.get_submodule(path).adapters[name].load_state_dict({key: saved.copies[f"{path}.{key}"] for key in module.state_dict()})
    return share


# --- merging without a model

def merge_folders(
    model_folder: str | Path,  # of transformers, or written by `save_pretrained`: config.json, model.safetensors
    adapter_folder: str | Path,  # written by `save_adapter` or by peft
    to: str | Path,  # a folder that is not there yet, or empty
) -> None:
    """Write the model with the adapter's change in its weights: a plain folder, which transformers opens without peft.

    A bare BertModel with a trained classifier becomes a BertForSequenceClassification. A tokenizer is taken along.

    Raises: CourseError if a file is missing or damaged, the adapter is another model's, or `to` holds something."""
    model_folder, to = Path(model_folder), Path(to)
    if to.is_file() or to.is_dir() and any(to.iterdir()):
        raise CourseError(f"{to} holds something already: choose a new folder")
    if not model_folder.is_dir():
        raise CourseError(f"{model_folder} is not a folder: give one with config.json and model.safetensors")
    saved = read_adapter(adapter_folder)
    config, weights = read_json(model_folder / "config.json"), read_weights(model_folder / "model.safetensors")
    if "classifier.weight" in saved.copies and "classifier.weight" not in weights:
        config, weights = _as_classifier(config, weights, saved.copies, model_folder)
    for name, pair in saved.changes.items():
        key = f"{name}.weight"
        _check_fit(name, pair, tuple(weights[key].shape) if key in weights else None, Path(adapter_folder), model_folder)
        change = saved.config.scale * pair[1].float() @ pair[0].float()
        weights[key] = (weights[key].float() + change).to(weights[key].dtype)
    _check_copies(saved.copies, weights, Path(adapter_folder), model_folder)
    weights |= {key: tensor.to(weights[key].dtype) for key, tensor in saved.copies.items()}
    to.mkdir(parents=True, exist_ok=True)
    for name in CARRIED:
        if (model_folder / name).is_file():
            shutil.copyfile(model_folder / name, to / name)
    write_folder(to, config, weights)


def _as_classifier(config: dict, weights: dict[str, Tensor], copies: dict[str, Tensor], where: Path) -> tuple[dict, dict[str, Tensor]]:
    "A BERT without a classifier as one that has room for the adapter's."
    if not any(name.startswith("bert.") for name in weights):
        weights = {f"bert.{name}": tensor for name, tensor in weights.items()}
    weights = {name: tensor for name, tensor in weights.items() if name.startswith("bert.")}
    has_pooler = "bert.pooler.dense.weight" in weights.keys() | copies.keys()
    if config.get("model_type") != "bert" or not has_pooler:
        raise CourseError(f"{where} is no BERT with a pooler, which the adapter's classifier sits on: give the model that it was trained on")
    labels = {f"LABEL_{i}": i for i in range(len(copies["classifier.weight"]))}
    config = {**config, "architectures": ["BertForSequenceClassification"], "label2id": labels,
              "id2label": {str(i): label for label, i in labels.items()}}
    return config, {**weights, **copies}
