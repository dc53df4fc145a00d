"""From a configuration to rows of ids: read, learn a tokenizer, encode, and remember the result on disk; or read on and on from a stream."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from microbert_course.data import corpus, sources, streams, wordpiece
from microbert_course.data.cache import build_once, code_version, fault_in, hash_texts, open_rows, write_rows
from microbert_course.errors import CourseError
from microbert_course.training.causal import CausalData, WholeTextEncoder, decoder_tokenizer, learn_characters
from microbert_course.training.loop import Batch, PretrainData
from microbert_course.training.presets import PretrainConfig

SAMPLE_TEXTS = 20_000  # of a stream: what its tokenizer learns from
SAMPLE_ROWS = 5_000  # of a stream: what frequencies are counted in, and what tells one stream from another
VALIDATION_TEXTS = 2_500  # of a stream


class PackedData(PretrainData):
    "Rows that hold several texts, which are told apart by their [CLS]."

    def batch(self, step: int, config: PretrainConfig) -> Batch:
        "As of any data, with the number of each token's text as the mask, and its place in that text."
        batch = super().batch(step, config)
        numbers = corpus.document_numbers(batch.input_ids.numpy(), self.tokenizer.cls_token_id, self.tokenizer.pad_token_id)
        positions = corpus.positions_in(numbers)
        return replace(batch, attention_mask=torch.from_numpy(numbers), position_ids=torch.from_numpy(positions))


@dataclass
class StreamedData(PretrainData):
    "Rows from a stream; `train_ids` is a sample of them."

    stream: corpus.StreamedRows | None = None
    newest: tuple[tuple[int, int, int], np.ndarray] | None = None  # what was asked for last, and its rows: a stream does not go back

    def rows(self, step: int, batch_size: int, seed: int) -> np.ndarray:  # (batch_size, max_seq_len)
        "The next rows of the stream; it was made for this seed and size of batch."
        if (self.stream.batch_size, self.stream.seed) != (batch_size, seed):
            self.stream = corpus.StreamedRows(self.stream.texts, self.stream.encode, batch_size, seed, self.stream.buffer_size)
        asked = (step, batch_size, seed)
        if self.newest is None or self.newest[0] != asked:
            self.newest = (asked, self.stream.rows(step))
        return self.newest[1]


class PackedStream(PackedData, StreamedData):
    "Both at once."


class CausalStream(CausalData, StreamedData):
    "For a decoder."


def prepare_data(config: PretrainConfig) -> PretrainData:
    """The texts of a configuration as rows of ids, and the tokenizer that made them.

    Texts that were prepared before come from the cache; `config.data` may also be the folder of such an entry, from any machine.

    Raises: CourseError if there are no such texts, or they cannot be read."""
    if config.streamed:
        return _streamed(config)
    is_prepared = (Path(config.data) / "train.npy").is_file()
    return open_prepared(Path(config.data) if is_prepared else _prepared(config), config)


def open_prepared(folder: Path, config: PretrainConfig) -> PretrainData:
    """The rows in a folder that `prepare_data` wrote here or elsewhere.

    Raises: CourseError if the folder is damaged, or its rows are not as long, or not laid out, as the configuration says."""
    if fault := fault_in(folder):
        raise CourseError(f"the prepared texts in {folder} cannot be used: {fault}; prepare them again")
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    for name in ("max_seq_len", "layout"):
        if about[name] != getattr(config, name):
            raise CourseError(f"the prepared texts in {folder} have {name} {about[name]!r} and the run {getattr(config, name)!r}: "
                              f"give the run that, or prepare them again")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    kind = CausalData if config.blocks == "gpt" else PackedData if config.layout == "packed" else PretrainData
    return kind(tokenizer, open_rows(folder / "train.npy"), open_rows(folder / "validation.npy"))


def _prepared(config: PretrainConfig) -> Path:
    "The folder with the rows, made now if it was not made before."
    texts = {split: list(map(sources.clean_text, sources.load(config.data, split)["text"])) for split in ("train", "validation")}
    texts["train"] = texts["train"][: config.max_texts or None]
    settings = {name: getattr(config, name) for name in ("tokenizer", "vocab_size", "max_seq_len", "layout", "stride")}

    def build(folder: Path) -> None:
        tokenizer = learn_tokenizer(config, texts["train"])
        for split, layout, stride in (("train", config.layout, config.stride), ("validation", "first", 0)):
            encoder = encoder_for(tokenizer)
            write_rows(folder / f"{split}.npy", (corpus.encode_rows(chunk, encoder, config.max_seq_len, layout, stride)
                                                 for chunk in corpus.in_chunks(texts[split])))
        tokenizer.save_pretrained(folder)
        (folder / "about.json").write_text(json.dumps(settings), encoding="utf-8")

    key = {**settings, "texts": hash_texts(chain(texts["train"], [""], texts["validation"])),
           "code": code_version(corpus, sources, wordpiece)}
    return build_once(f"{config.data}, {len(texts['train']):,} texts, {config.tokenizer}, {config.layout} rows of {config.max_seq_len}", key, build)


def learn_tokenizer(config: PretrainConfig, texts: list[str]) -> PreTrainedTokenizerFast:
    """The configured kind of tokenizer, from these texts but for SmolLM2's; a vocabulary of 0 is as large as the texts support.

    Raises: CourseError if the texts are empty, as those are that were markup alone."""
    if not any(texts):
        raise CourseError(f"{config.data} holds nothing but markup, such as <br />, which is not learned: give texts with words between it")
    if config.tokenizer == "smollm2":
        return decoder_tokenizer()
    if config.tokenizer == "characters":
        return learn_characters(texts, config.vocab_size)
    if config.tokenizer == "words":
        size = config.vocab_size or sum(count >= 5 for count in Counter(chain.from_iterable(text.lower().split() for text in texts)).values())
        return wordpiece.train_words(texts, size)
    size = config.vocab_size or wordpiece.choose_vocab_size(wordpiece.count_words(texts))
    return wordpiece.train_wordpiece(texts, size)


def encoder_for(tokenizer: PreTrainedTokenizerFast) -> wordpiece.WordCacheEncoder | WholeTextEncoder:
    "The fastest way to this tokenizer's ids."
    return WholeTextEncoder(tokenizer) if tokenizer.cls_token is None else wordpiece.WordCacheEncoder(tokenizer)


def _streamed(config: PretrainConfig) -> StreamedData:
    "A stream that is read as the run needs it; nothing of it is kept but a sample."
    def texts(split: str = "train") -> Iterator[str]:
        found = map(sources.clean_text, streams.stream_texts(config.data, split))
        return islice(found, config.max_texts) if split == "train" and config.max_texts else found

    sample, validation = list(islice(texts(), SAMPLE_TEXTS)), list(islice(texts("validation"), VALIDATION_TEXTS))
    if not sample or not validation:
        raise CourseError(f"the stream {config.data} is too short to hold out a text in ten: leave out --streamed")
    tokenizer = learn_tokenizer(config, sample)
    encoder = encoder_for(tokenizer)
    encode = partial(corpus.encode_rows, encoder=encoder, max_seq_len=config.max_seq_len, layout=config.layout, stride=config.stride)
    rows = chain.from_iterable(map(encode, corpus.in_chunks(texts())))
    train_ids = np.stack(list(islice(rows, SAMPLE_ROWS)))
    kind = CausalStream if config.blocks == "gpt" else PackedStream if config.layout == "packed" else StreamedData
    return kind(tokenizer, train_ids, encoder.encode(validation, config.max_seq_len),
                corpus.StreamedRows(texts, encode, config.batch_size, config.seed, config.buffer_size))

