"""Labelled texts as rows of ids: read, encoded once and remembered on disk, and dealt out in batches of like length."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from microbert_course.data import labelled, sources, wordpiece
from microbert_course.data.cache import build_once, code_version, fault_in, hash_texts, open_rows, write_rows
from microbert_course.data.labelled import load_labelled, read_labelled, without_copies
from microbert_course.errors import CourseError
from microbert_course.posttraining.settings import FinetuneConfig
from microbert_course.training.loop import batch_rows, epoch_order, seed_for

GROUP = 32  # batches whose rows are sorted by length together


@dataclass
class LabelledBatch:
    "Some labelled texts, on the CPU: what the model reads and what it must answer."

    input_ids: Tensor       # (batch, seq) int64
    attention_mask: Tensor  # (batch, seq) bool, True = real token
    labels: Tensor          # (batch,) int64

    def slice(self, start: int, stop: int) -> "LabelledBatch":
        "Rows `start` to `stop`, for one process or one micro-batch, as long as their longest text."
        mask = self.attention_mask[start:stop]
        seq = max(1, int(mask.sum(1).max())) if len(mask) else 1
        return LabelledBatch(self.input_ids[start:stop, :seq], mask[:, :seq], self.labels[start:stop])

    @property
    def num_tokens(self) -> int:  # padding left out
        "How many tokens are read."
        return int(self.attention_mask.count_nonzero())

    @property
    def num_predicted(self) -> int:
        "How many labels must be guessed."
        return len(self.labels)

    def tensors(self, device: torch.device | str) -> tuple[Tensor, Tensor | None, Tensor]:  # ids, mask (batch, seq); labels (batch,)
        "What `ClassificationLoss` takes, on the device; the mask is None where every token is real."
        mask = None if bool(self.attention_mask.all()) else self.attention_mask.to(device)
        return self.input_ids.to(device), mask, self.labels.to(device)


@dataclass
class FeatureBatch:
    "Some texts of which the encoder's answer is known already."

    features: Tensor  # (batch, 1, hidden), the encoder's vectors at [CLS]
    labels: Tensor    # (batch,) int64

    def slice(self, start: int, stop: int) -> "FeatureBatch":
        "Rows `start` to `stop`."
        return FeatureBatch(self.features[start:stop], self.labels[start:stop])

    @property
    def num_tokens(self) -> int:
        "None is read."
        return 0

    @property
    def num_predicted(self) -> int:
        "How many labels must be guessed."
        return len(self.labels)

    def tensors(self, device: torch.device | str) -> tuple[Tensor, Tensor]:  # features (batch, 1, hidden), labels (batch,)
        "What `HeadLoss` takes, on the device."
        return self.features.to(device), self.labels.to(device)


@dataclass
class LabelledRows:
    "The texts of one split as ids, padded at their ends."

    ids: np.ndarray     # (rows, max_seq_len)
    labels: np.ndarray  # (rows,) int64
    pad_token_id: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, num_rows: int) -> "LabelledRows":
        "The first rows, as many as asked for or as there are."
        return replace(self, ids=self.ids[:num_rows], labels=self.labels[:num_rows])

    def batch(self, rows: np.ndarray) -> LabelledBatch:  # rows: (batch,) their numbers
        "These rows, cut to the longest of them."
        input_ids = torch.from_numpy(np.asarray(self.ids[rows]).astype(np.int64))
        mask = input_ids != self.pad_token_id
        return LabelledBatch(input_ids, mask, torch.from_numpy(self.labels[rows])).slice(0, len(rows))

    @property
    def lengths(self) -> np.ndarray:  # (rows,) int64
        "Real tokens of each row."
        return (np.asarray(self.ids) != self.pad_token_id).sum(1)

    def by_length(self, batch_size: int = 64) -> list[np.ndarray]:  # numbers of rows, (up to batch_size,) each
        "All rows, the longest first, in batches: for reading each once, whatever the order."
        order = np.argsort(-self.lengths, kind="stable")
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@dataclass
class ClassificationData:
    "Splits of rows, what their labels are called, and the tokenizer that cut the texts."

    tokenizer: PreTrainedTokenizerFast
    names: tuple[str, ...]
    train: LabelledRows
    validation: LabelledRows
    test: LabelledRows | None = None
    num_copies: int = 0  # training texts left out because they are test texts
    _orders: dict = field(default_factory=dict, init=False, repr=False)  # of this data alone, so `replace` does not copy it

    def batch(self, step: int, config: FinetuneConfig) -> LabelledBatch:  # over all processes and micro-batches
        "What a step learns from: rows of like length, a function of the seed and the step."
        num_rows, size = len(self.train), config.batch_size
        places = np.arange(step * size, (step + 1) * size)
        epochs = np.unique(places // num_rows)
        return self.train.batch(np.concatenate([self._order(int(e), config)[places[places // num_rows == e] % num_rows] for e in epochs]))

    def _order(self, epoch: int, config: FinetuneConfig) -> np.ndarray:
        key = (config.seed, epoch, config.batch_size)
        if key not in self._orders:
            self._orders = {kept: order for kept, order in self._orders.items() if kept[1] == epoch - 1}
            self._orders[key] = like_length_order(self.train.lengths, *key)
        return self._orders[key]

    def fingerprint(self, *more: str) -> str:  # more: what else the run depends on
        "A hash of the pieces, the rows and the labels."
        digest = hashlib.sha256(self.tokenizer.backend_tokenizer.to_str().encode())
        for text in (*self.names, *more):
            digest.update(f"{len(text)}:{text}".encode())
        for rows in (self.train, self.validation):
            for values in (rows.ids, rows.labels):
                digest.update(f"{values.dtype} {values.shape}".encode())
                digest.update(np.ascontiguousarray(values))
        return digest.hexdigest()


@dataclass
class FeatureData:
    "The training rows of a frozen encoder, read once and for all."

    tokenizer: PreTrainedTokenizerFast
    features: Tensor  # (rows, 1, hidden)
    labels: Tensor    # (rows,) int64

    def batch(self, step: int, config: FinetuneConfig) -> FeatureBatch:
        "What a step learns from: a function of the seed and the step."
        rows = torch.from_numpy(batch_rows(step, config.batch_size, len(self.labels), config.seed))
        return FeatureBatch(self.features[rows], self.labels[rows])


def like_length_order(
    lengths: np.ndarray,  # (rows,)
    seed: int,
    epoch: int,
    batch_size: int,
) -> np.ndarray:  # (rows,) a permutation
    """The order in which an epoch visits the rows: shuffled, sorted by length within groups of 32 batches, the batches shuffled again.

    Batches are counted on over the epochs; the rows of a batch that two epochs share are of any length."""
    num_rows = len(lengths)
    order = epoch_order(seed, epoch, num_rows)
    first = min(num_rows, -epoch * num_rows % batch_size)  # rows that fill up the last batch of the epoch before
    num_batches = (num_rows - first) // batch_size
    whole = order[first : first + num_batches * batch_size]
    groups = [part[np.argsort(lengths[part], kind="stable")] for part in np.split(whole, range(GROUP * batch_size, len(whole), GROUP * batch_size))]
    batches = np.concatenate(groups).reshape(num_batches, batch_size) if num_batches else whole.reshape(0, batch_size)
    shuffled = batches[np.random.default_rng(seed_for(seed, "batches", epoch)).permutation(num_batches)]
    return np.concatenate([order[:first], shuffled.flatten(), order[first + len(whole):]])


def encode_texts(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,  # its truncation_side says which end of a long text is cut off
    max_seq_len: int,  # tokens a row, [CLS] and [SEP] among them
) -> np.ndarray:  # (rows, max_seq_len), uint16 where the vocabulary fits, else int32
    "One row of ids a text, as `tokenizer(texts, truncation=True, padding=True)` gives them."
    encoder, room = wordpiece.WordCacheEncoder(tokenizer), max_seq_len - 2
    if tokenizer.truncation_side == "right":
        return encoder.encode(texts, max_seq_len)
    rows = np.full((len(texts), max_seq_len), tokenizer.pad_token_id, encoder.dtype)
    for row, ids in zip(rows, encoder.encode_whole(texts), strict=True):
        kept = ids if len(ids) <= max_seq_len else np.concatenate([ids[:1], ids[-room - 1:]])  # [CLS] and the end
        row[: len(kept)] = kept
    return rows


def set_reading(tokenizer: PreTrainedTokenizerFast, max_seq_len: int, keep: str) -> PreTrainedTokenizerFast:
    "Write down in the tokenizer how much of a text is read, and which end; whoever opens it elsewhere then reads alike."
    tokenizer.truncation_side = {"start": "right", "end": "left"}[keep]
    tokenizer.init_kwargs["truncation_side"] = tokenizer.truncation_side  # transformers saves what it was made with
    tokenizer.model_max_length = max_seq_len
    return tokenizer


def prepare_rows(
    config: FinetuneConfig,
    tokenizer: PreTrainedTokenizerFast,  # the model's
) -> ClassificationData:
    """The labelled texts of a configuration as rows of ids, from the cache if they were prepared before.

    `config.data` may also be a folder of prepared rows, from any machine.

    Raises: CourseError if there are no such texts, they cannot be read, or the rows were prepared otherwise."""
    folder = Path(config.data)
    if not (folder / "train_labels.npy").is_file():
        return open_rows_folder(prepare_folder(config, tokenizer), config, tokenizer)
    if config.test:
        raise CourseError(f"the prepared texts in {folder} cannot be compared with those of {config.test}: prepare them with --test, which keeps "
                          f"copies apart and its rows beside them, then leave it out here")
    return open_rows_folder(folder, config, tokenizer)


def prepare_folder(config: FinetuneConfig, tokenizer: PreTrainedTokenizerFast) -> Path:
    "The folder with the rows, made now if it was not made before; it may be carried to another machine."
    train, validation = load_labelled(config.data, config.text_column, config.label_column)
    parts, num_copies = {"train": train, "validation": validation}, 0
    if config.test:
        parts["test"] = read_labelled(config.test, train.names, config.text_column, config.label_column)
        parts["train"], num_copies = without_copies(train, parts["test"])
    if config.max_texts:
        parts["train"] = parts["train"].part(range(min(len(parts["train"]), config.max_texts)))
    set_reading(tokenizer, config.max_seq_len, config.keep)
    about = {"max_seq_len": config.max_seq_len, "keep": config.keep, "names": list(train.names), "num_copies": num_copies}

    def build(folder: Path) -> None:
        for split, part in parts.items():
            write_rows(folder / f"{split}.npy", [encode_texts(part.texts, tokenizer, config.max_seq_len)])
            np.save(folder / f"{split}_labels.npy", np.array(part.labels, dtype=np.int64))
        tokenizer.save_pretrained(folder)
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")

    key = {**about, "tokenizer": _pieces(tokenizer), "code": code_version(labelled, sources, wordpiece),
           **{split: hash_texts([*part.texts, *map(str, part.labels)]) for split, part in parts.items()}}
    return build_once(f"{config.data}, {len(parts['train']):,} labelled texts, rows of {config.max_seq_len}", key, build)


def open_rows_folder(folder: Path, config: FinetuneConfig, tokenizer: PreTrainedTokenizerFast) -> ClassificationData:
    """The rows in a folder that `prepare_folder` wrote here or elsewhere.

    Raises: CourseError if the folder is damaged, or its rows were made for another length, end or tokenizer."""
    if fault := fault_in(folder):
        raise CourseError(f"the prepared texts in {folder} cannot be used: {fault}; prepare them again")
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    for name in ("max_seq_len", "keep"):
        if about[name] != getattr(config, name):
            raise CourseError(f"the prepared texts in {folder} have {name} {about[name]!r} and the run {getattr(config, name)!r}: "
                              f"give the run that, or prepare them again")
    if _pieces(AutoTokenizer.from_pretrained(folder)) != _pieces(tokenizer):
        raise CourseError(f"the prepared texts in {folder} were cut by another tokenizer than that of {config.model}: prepare them with this model's")
    parts = {split: LabelledRows(np.asarray(open_rows(folder / f"{split}.npy")), np.load(folder / f"{split}_labels.npy"), tokenizer.pad_token_id)
             for split in ("train", "validation", "test") if (folder / f"{split}.npy").is_file()}
    parts["train"] = parts["train"].part(config.max_texts or len(parts["train"]))
    return ClassificationData(set_reading(tokenizer, config.max_seq_len, config.keep), tuple(about["names"]), num_copies=about["num_copies"], **parts)


def _pieces(tokenizer: PreTrainedTokenizerFast) -> str:
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()
