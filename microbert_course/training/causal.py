"""Pretraining of a decoder: at every place of a row the token that comes next is guessed, instead of hidden ones."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from microbert_course.data import corpus
from microbert_course.data.weights import WEIGHTS, fetch_weights
from microbert_course.errors import CourseError
from microbert_course.models.gguf_files import read_gguf_tokenizer
from microbert_course.models.gpt import next_token_labels
from microbert_course.training.loop import Batch, PretrainData
from microbert_course.training.masking import unigram_log_probs
from microbert_course.training.presets import PretrainConfig


def decoder_tokenizer() -> PreTrainedTokenizerFast:
    """SmolLM2's pairs of bytes, with case and spaces; id 0 fills rows up, so that the end of a text can be learned.

    Raises: CourseError if the file that holds it is not here and cannot be fetched."""
    tokenizer = read_gguf_tokenizer(fetch_weights("smollm2") / next(iter(WEIGHTS["smollm2"].files)))
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    return _with_beginning(tokenizer)


def learn_characters(
    texts: Iterable[str],
    vocab_size: int = 0,  # tokens in all, the four special ones included; 0 = every character that there is
) -> PreTrainedTokenizerFast:
    "A token for each character, the most frequent first; id 0 fills rows up."
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>"}
    counts = Counter()
    for text in texts:
        counts.update(text)
    characters = sorted(counts, key=lambda character: (-counts[character], character))[: max(0, vocab_size - len(special)) if vocab_size else None]
    pieces = Tokenizer(models.WordLevel({piece: number for number, piece in enumerate([*special.values(), *characters])}, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    pieces.decoder = decoders.Fuse()
    return _with_beginning(PreTrainedTokenizerFast(tokenizer_object=pieces, **special))


def _with_beginning(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    "Every row of a run begins with the same token, so a prompt does too."
    begin = tokenizer.bos_token, tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    return tokenizer


def edges(tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    "The ids that a text begins and ends with: [CLS] and [SEP], or those of a decoder's tokenizer."
    return (tokenizer.bos_token_id, tokenizer.eos_token_id) if tokenizer.cls_token is None else (tokenizer.cls_token_id, tokenizer.sep_token_id)


@dataclass
class WholeTextEncoder:
    "Texts to ids by the tokenizer itself, with the edges around each: for tokenizers whose pieces hold the space before a word."

    tokenizer: PreTrainedTokenizerFast

    @property
    def pad_token_id(self) -> int:
        return self.tokenizer.pad_token_id

    def encode_whole(self, texts: Iterable[str]) -> list[np.ndarray]:  # one array a text, (tokens,)
        "All ids of each text."
        first, last = edges(self.tokenizer)
        dtype = np.uint16 if len(self.tokenizer) <= 2**16 else np.int32
        texts = list(texts)
        found = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        return [np.array([first, *ids, last], dtype) for ids in found]

    def encode(self, texts: Iterable[str], max_seq_len: int) -> np.ndarray:  # (rows, max_seq_len)
        """The beginning of each text, one row a text.

        Raises: CourseError if `max_seq_len` leaves no room for text."""
        if max_seq_len < 3:
            raise CourseError(f"max_seq_len {max_seq_len} leaves no room between the edges of a text: use 3 or more")
        return corpus.pad([corpus.windows(ids, max_seq_len)[0] for ids in self.encode_whole(texts)], max_seq_len, self.pad_token_id)


def causal_batch(
    rows: np.ndarray,  # (batch, seq) ids; each text begins with its first edge
    tokenizer: PreTrainedTokenizerFast,
    is_packed: bool,  # several texts in a row, which do not see each other
) -> Batch:
    "Trim to the longest row; at every place the label is the next token of the same text."
    length = int((rows != tokenizer.pad_token_id).sum(axis=1).max())
    rows = rows[:, :length].astype(np.int64)
    input_ids, is_real = torch.from_numpy(rows), torch.from_numpy(rows != tokenizer.pad_token_id)
    if not is_packed:
        return Batch(input_ids, is_real, next_token_labels(input_ids, is_real))
    numbers = corpus.document_numbers(rows, edges(tokenizer)[0], tokenizer.pad_token_id)
    positions, mask = torch.from_numpy(corpus.positions_in(numbers)), torch.from_numpy(numbers)
    return Batch(input_ids, mask, next_token_labels(input_ids, mask), positions)


class CausalData(PretrainData):
    "Rows for a decoder."

    def batch(self, step: int, config: PretrainConfig) -> Batch:  # over all processes and micro-batches
        "What a step learns from: a function of the seed and the step."
        return causal_batch(self.rows(step, config.batch_size, config.seed), self.tokenizer, config.layout == "packed")


def next_token_questions(
    rows: np.ndarray,  # (num_rows, seq) ids, one text a row
    tokenizer: PreTrainedTokenizerFast,
    batch_size: int = 32,
) -> list[Batch]:
    "Every token of these rows but the first of each, asked for after those before it."
    return [causal_batch(rows[start : start + batch_size], tokenizer, is_packed=False) for start in range(0, len(rows), batch_size)]


def next_token_log_probs(
    rows: np.ndarray,  # (num_rows, seq) ids
    tokenizer: PreTrainedTokenizerFast,
) -> Tensor:  # (vocab,) nats
    "How often each token comes, the end of a text among them: the best guess that reads nothing."
    asked = rows[(rows != tokenizer.pad_token_id) & (rows != edges(tokenizer)[0])]
    return unigram_log_probs(torch.from_numpy(asked.astype(np.int64)), len(tokenizer), num_special_tokens=0)


def flops_per_token(
    config: PretrainConfig,
    num_parameters: int,  # those that every token meets: without embedding tables
    vocab_size: int,
) -> float:  # floating-point operations of an update
    "Useful work: 6 a parameter, causal attention, and the head at every place (Kaplan et al. 2020, §2.1)."
    return 6 * num_parameters + 6 * config.num_layers * config.hidden_size * config.max_seq_len + 6 * config.hidden_size * vocab_size
