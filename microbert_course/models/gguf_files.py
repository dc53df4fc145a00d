"""The decoder in a GGUF file, the one-file format of llama.cpp: a head of named values, a list of tensors, and their quantised numbers.

The package gguf undoes the quantisation. It also reads heads, but takes three seconds for the 98,000 strings of a tokenizer."""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from microbert_course.errors import CourseError
from microbert_course.models.gpt import GptConfig, GptForCausalLM
from microbert_course.models.gpt_folders import from_llama_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NAMES = {  # ours: the end of theirs
    "vocab_size": "vocab_size", "hidden_size": "embedding_length", "num_layers": "block_count", "num_heads": "attention.head_count",
    "num_kv_heads": "attention.head_count_kv", "intermediate_size": "feed_forward_length", "max_seq_len": "context_length",
    "rope_theta": "rope.freq_base", "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
SPECIAL = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "padding_token_id"}
TENSORS = {  # theirs in a layer: where transformers has it
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL = 3  # the type of tokens that are no text
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # types of values, in struct's letters
STRING, LIST = 8, 9
SPLITS = {"gpt-2": False, "smollm": True}  # what `tokenizer.ggml.pre` may say: whether every digit is a piece of its own before pairs are joined


@dataclass(frozen=True)
class StoredTensor:
    "Where a tensor is in the file."

    shape: tuple[int, ...]  # as torch has it, the last dimension together in memory
    kind: int  # a gguf.GGMLQuantizationType
    start: int  # bytes from the beginning of the file


class GgufFile:
    """The head of a GGUF file: `fields`, what is said of the model, by name; `tensors`, where each is.

    Raises: CourseError if there is no such file, or it is no GGUF file, cut short or damaged."""

    def __init__(self, path: str | Path):
        self.path, self.place = Path(path), 0
        if not self.path.is_file():
            raise CourseError(f"{path} is no file: give a GGUF file, as `microbert fetch smollm2` fetches one")
        with self.path.open("rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.path.stat().st_size else b""
        if self.bytes[:4] != b"GGUF":
            raise CourseError(f"{path} is no GGUF file (it begins with {self.bytes[:4]!r}): choose one")
        try:
            _, version, num_tensors, num_fields = self._take("4sIQQ")
            if version not in (2, 3):
                raise CourseError(f"{path} has version {version} of the format where 2 and 3 are known: choose another file")
            self.fields = {self._string(): self._value(*self._take("I")) for _ in range(num_fields)}
            self.tensors = dict(self._tensor() for _ in range(num_tensors))
        except (struct.error, KeyError, UnicodeDecodeError, OverflowError, MemoryError) as error:  # what is met behind the end, or in noise
            raise CourseError(f"{path} is cut short or damaged ({type(error).__name__} after {self.place:,} of {len(self.bytes):,} bytes): fetch it again") from None
        alignment = self.fields.get("general.alignment", 32)
        self.data_start = -(-self.place // alignment) * alignment

    def _take(self, letters: str) -> tuple:
        "The next values."
        letters = "<" + letters
        values = struct.unpack_from(letters, self.bytes, self.place)
        self.place += struct.calcsize(letters)
        return values

    def _string(self) -> str:
        (size,) = self._take("Q")
        return self._take(f"{size}s")[0].decode()

    def _value(self, kind: int) -> object:
        if kind == STRING:
            return self._string()
        if kind != LIST:
            return self._take(NUMBERS[kind])[0]
        kind, count = self._take("IQ")
        return list(self._take(f"{count}{NUMBERS[kind]}")) if kind in NUMBERS else [self._value(kind) for _ in range(count)]

    def _tensor(self) -> tuple[str, StoredTensor]:
        name, (num_dimensions,) = self._string(), self._take("I")
        shape = self._take(f"{num_dimensions}Q")[::-1]
        return name, StoredTensor(shape, *self._take("IQ"))

    def field(self, name: str) -> object:
        """What the head says under this name.

        Raises: CourseError if it says nothing."""
        if name not in self.fields:
            raise CourseError(f"{self.path} has no field {name!r}: choose a GGUF file with a Llama in it")
        return self.fields[name]

    def read(
        self, name: str,  # a key of `tensors`
    ) -> Tensor:  # float32
        """A tensor, its quantisation undone.

        Raises: CourseError if the file ends before it does, or its quantisation is not known."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
        from gguf.quants import dequantize

        tensor = self.tensors[name]
        try:
            kind = GGMLQuantizationType(tensor.kind)
            block_size, block_bytes = GGML_QUANT_SIZES[kind]
        except ValueError:
            raise self._unknown(name, tensor.kind) from None
        row_bytes = tensor.shape[-1] // block_size * block_bytes
        num_bytes, start = math.prod(tensor.shape[:-1]) * row_bytes, self.data_start + tensor.start
        if start + num_bytes > len(self.bytes):
            raise CourseError(f"{self.path} is cut short: {name!r} goes to byte {start + num_bytes:,} of {len(self.bytes):,}; fetch it again")
        stored = np.frombuffer(self.bytes, np.uint8, num_bytes, start).reshape(*tensor.shape[:-1], row_bytes)
        try:
            return torch.from_numpy(np.array(dequantize(stored, kind))).view(tensor.shape)
        except (NotImplementedError, ValueError):  # the package gguf cannot undo this format, or not in this shape
            raise self._unknown(name, tensor.kind) from None

    def _unknown(self, name: str, kind: int) -> CourseError:
        return CourseError(f"{self.path} holds {name!r} in the format {kind}, which the package gguf cannot undo: choose another file")


def read_gguf(
    path: str | Path,  # a GGUF file with a Llama in it, of any quantisation that the package gguf undoes
) -> tuple[GptForCausalLM, "PreTrainedTokenizerFast"]:  # fp32, on the CPU, in eval mode
    """The decoder and the tokenizer in a GGUF file, weights back in float32.

    Raises: CourseError if there is no such file, it is no GGUF or cut short, or holds another architecture or tokenizer."""
    file = GgufFile(path)
    architecture = file.field("general.architecture")
    if architecture != "llama":
        raise CourseError(f"{path} holds the architecture {architecture!r} where a decoder of the course has 'llama': choose a file with that")
    sizes = {ours: file.field(f"llama.{theirs}") for ours, theirs in NAMES.items()}
    special = {ours: file.field(f"tokenizer.ggml.{theirs}") for ours, theirs in SPECIAL.items()}
    try:
        config = GptConfig(**sizes, **special, tie_word_embeddings="output.weight" not in file.tensors)
    except (ValueError, TypeError) as error:
        raise CourseError(f"{path} describes no decoder ({error}): choose another file") from None
    with torch.device("meta"):  # shapes without memory
        model = GptForCausalLM(config)
    model.load_state_dict(from_llama_weights(_weights(file, config), model, path), assign=True)
    return model.eval(), _tokenizer(file)


def read_gguf_tokenizer(path: str | Path) -> "PreTrainedTokenizerFast":
    """The tokenizer in a GGUF file, without its weights.

    Raises: CourseError if there is no such file, it is no GGUF or cut short, or has another kind of tokenizer."""
    return _tokenizer(GgufFile(path))


def _weights(file: GgufFile, config: GptConfig) -> dict[str, Tensor]:  # under the names of transformers
    "All tensors in float32; the rows of queries and keys with their halves apart again, which the format has as neighbours."
    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
    names |= {f"blk.{i}.{ours}.weight": f"model.layers.{i}.{theirs}.weight" for i in range(config.num_layers) for ours, theirs in TENSORS.items()}
    unknown = [name for name in file.tensors if name not in names]
    if unknown:
        raise CourseError(f"{file.path} holds the tensor {unknown[0]!r}, for which a decoder of the course has no place: choose another file")
    missing = [name for name in names if name not in file.tensors and name != "output.weight"]
    if missing:
        raise CourseError(f"{file.path} has no tensor {missing[0]!r}: choose a GGUF file with a whole Llama in it")
    weights = {names[name]: file.read(name) for name in file.tensors}
    for i in range(config.num_layers):
        for kind, num_heads in (("q", config.num_heads), ("k", config.num_kv_heads)):
            name = f"model.layers.{i}.self_attn.{kind}_proj.weight"
            weight = weights[name]
            weights[name] = weight.view(num_heads, -1, 2, weight.size(1)).transpose(1, 2).reshape(weight.shape)
    return weights


def _tokenizer(file: GgufFile) -> "PreTrainedTokenizerFast":
    "Pairs of bytes, joined by the file's own list of merges (Radford et al. 2019, §2.2)."
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    kind = file.field("tokenizer.ggml.model")
    if kind != "gpt2":
        raise CourseError(f"{file.path} has a tokenizer of the kind {kind!r} where 'gpt2' is known, pairs of bytes: choose another file")
    split = file.fields.get("tokenizer.ggml.pre", "gpt-2")
    if split not in SPLITS:
        raise CourseError(f"{file.path} cuts texts in the way {split!r} where {' and '.join(map(repr, SPLITS))} are known: choose another file")
    tokens, types = file.field("tokenizer.ggml.tokens"), file.field("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ", 1)) for merge in file.field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    digits = [pre_tokenizers.Digits(individual_digits=True)] if SPLITS[split] else []  # first: the spaces before a digit then stay together
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token, kind in zip(tokens, types, strict=True) if kind == CONTROL])
    bos, eos, pad = (tokens[file.field(f"tokenizer.ggml.{name}")] for name in SPECIAL.values())
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad, padding_side="left",
                                   chat_template=file.fields.get("tokenizer.chat_template"), clean_up_tokenization_spaces=False,
                                   model_max_length=file.fields.get("llama.context_length"))
