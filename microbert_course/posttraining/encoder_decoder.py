"""Models of transformers with an encoder that reads the prompt and a decoder that writes the answer, such as T5 and BART, for the same pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from microbert_course.errors import CourseError
from microbert_course.models.checkpoints import load_tokenizer
from microbert_course.posttraining.problems import completion_texts
from microbert_course.posttraining.settings import SftConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Pair:
    "What the encoder reads, and what the decoder should write."

    ids: np.ndarray     # (tokens,) int64
    labels: np.ndarray  # (answer tokens,) int64, the end included


class EncoderDecoder(nn.Module):
    "A model of transformers with the names by which the engine asks for shapes."

    def __init__(self, model: "PreTrainedModel"):
        super().__init__()
        self.model, theirs = model, model.config
        dropout = getattr(theirs, "dropout_rate", getattr(theirs, "dropout", 0.0))
        self.config = SimpleNamespace(hidden_size=theirs.hidden_size, num_heads=theirs.num_attention_heads, dropout=dropout, vocab_size=theirs.vocab_size,
                                      max_seq_len=getattr(theirs, "max_position_embeddings", None), eos_token_id=theirs.eos_token_id)

    def forward(self, **inputs):
        "What the model of transformers answers."
        return self.model(**inputs)

    def save_pretrained(self, folder: str | Path) -> None:
        "As transformers does."
        self.model.save_pretrained(folder)


def load_encoder_decoder(folder: str | Path) -> tuple[EncoderDecoder, PreTrainedTokenizerBase]:  # fp32, on the CPU, in eval mode
    """The model in a folder of transformers.

    Raises: CourseError if it cannot be opened."""
    from transformers import AutoModelForSeq2SeqLM  # here, not above: it takes a second

    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise CourseError(f"{folder} holds no encoder-decoder that transformers opens ({str(error).strip().partition(chr(10))[0]}): choose another folder") from None
    return EncoderDecoder(model).eval(), load_tokenizer(folder)


class AnswerLoss(nn.Module):
    "An encoder-decoder with its loss inside: prompts and answers in, nats out."

    def __init__(self, model: EncoderDecoder):
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,  # (batch, seq) int64
        attention_mask: Tensor,  # (batch, seq) int64, 1 = real token, 0 = padding
        labels: Tensor,  # (batch, answer) int64, -100 = padding
    ) -> tuple[Tensor, Tensor]:  # scalar loss, nats summed over the answers' tokens; scalar count of right guesses
        "Read the prompts, score every token of the answers after those before it, add up the surprise."
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).logits  # it shifts them itself
        is_asked = labels != -100
        logits, targets = logits[is_asked].float(), labels[is_asked]
        return F.cross_entropy(logits, targets, reduction="sum"), (logits.argmax(-1) == targets).sum()


@dataclass
class PairBatch:
    "Prompts and answers as rows."

    input_ids: Tensor       # (batch, seq) int64
    attention_mask: Tensor  # (batch, seq) int64
    labels: Tensor          # (batch, answer) int64, -100 = padding

    def tensors(self, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:  # as the fields
        "What `AnswerLoss` takes, on the device."
        return self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device)


class EncoderDecoderForm:
    """How an encoder-decoder is asked, and how it answers: the counterpart of `instruction.DecoderForm`.

    Raises: CourseError if the configuration asks for what is made for the course's decoders alone."""

    objective = AnswerLoss

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: SftConfig, model: EncoderDecoder):
        for name in ("lora_rank", "checkpointing", "compile"):
            if getattr(config, name):
                raise CourseError(f"{name} is {getattr(config, name)} and the model in {config.model} an encoder-decoder of transformers, which has none of it here: "
                                  f"leave it out, or choose a decoder")
        self.tokenizer, self.template, self.end = tokenizer, config.prompt or "{prompt}", model.config.eos_token_id
        self.max_seq_len, self.pad = config.max_seq_len, tokenizer.pad_token_id or 0

    def ids(self, prompts: Sequence[str]) -> list[list[int]]:
        "Prompts as the encoder reads them, with the marks that its tokenizer puts around a text."
        return self.tokenizer([self.template.replace("{prompt}", prompt) for prompt in prompts], verbose=False)["input_ids"]

    def encode(self, examples: Sequence[dict]) -> list[Pair]:
        "Examples as ids; every answer ends with the token that ends a text."
        answers = self.tokenizer(text_target=[example["answer"] for example in examples], verbose=False)["input_ids"]
        answers = [ids if ids[-1:] == [self.end] else [*ids, self.end] for ids in answers]
        prompts = self.ids([example["prompt"] for example in examples])
        return [Pair(np.array(prompt, dtype=np.int64), np.array(answer, dtype=np.int64)) for prompt, answer in zip(prompts, answers, strict=True)]

    def batch(self, examples: Sequence[Pair]) -> PairBatch:
        "One row an example, filled up."
        ids = _padded([example.ids for example in examples], self.pad)
        return PairBatch(ids, _padded([np.ones_like(example.ids) for example in examples], 0), _padded([example.labels for example in examples], -100))

    def check_room(self, examples: Sequence[dict], max_new_tokens: int, max_seq_len: int | None) -> None:
        "Raises: CourseError with the first prompt that the encoder cannot read."
        for example in examples if max_seq_len else ():
            (ids,) = self.ids([example["prompt"]])
            if len(ids) > max_seq_len:
                raise CourseError(f"the prompt {example['prompt'][:40]!r}… has {len(ids)} tokens, more than the {max_seq_len} that the model reads: leave it out")

    def answers(self, model: EncoderDecoder, prompts: Sequence[str], max_new_tokens: int, batch_size: int = 100) -> list[str]:  # one a prompt
        "The most probable token each time, until the end."
        found, ids = [], self.ids(prompts)
        was_training, device = model.training, next(model.parameters()).device
        model.eval()
        for start in range(0, len(ids), batch_size):
            part = [np.array(row, dtype=np.int64) for row in ids[start : start + batch_size]]
            mask = _padded([np.ones_like(row) for row in part], 0)
            written = model.model.generate(input_ids=_padded(part, self.pad).to(device), attention_mask=mask.to(device), max_new_tokens=max_new_tokens,
                                           do_sample=False, num_beams=1)
            found += completion_texts(self.tokenizer, written[:, 1:], self.end)  # the first is what the decoder begins with, which BART also ends with
        model.train(was_training)
        return found


def _padded(rows: Sequence[np.ndarray], filler: int) -> Tensor:  # (rows, longest) int64
    table = np.full((len(rows), max(map(len, rows))), filler, dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(table)
