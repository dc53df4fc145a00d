"""What a pretraining run depends on, as a value, and the values that have a name."""

from dataclasses import dataclass, fields, replace
from typing import Literal

from microbert_course.errors import CourseError
from microbert_course.models.shapes import LM_SIZES, MODERN_SIZES
from microbert_course.training.settings import TrainConfig

SMOLLM2_PIECES = 49_152


@dataclass(frozen=True)
class PretrainConfig(TrainConfig):
    """Everything that a pretraining run depends on.

    Raises: CourseError, naming the field, if a value makes no sense."""

    # data
    data: str = "imdb"  # a name or a path that `data.sources.load` takes
    tokenizer: Literal["words", "wordpiece", "characters", "smollm2"] = "wordpiece"  # how text becomes ids; all but the last learn their pieces from the texts
    vocab_size: int = 4_000  # pieces in all; for words: how many besides the five special ones; 0 = as many as the texts support
    max_seq_len: int = 24  # tokens read of each text
    max_texts: int = 0  # training texts used; 0 = all of them
    layout: Literal["first", "windows", "packed"] = "first"  # a row holds a text's beginning; a window of it; several windows or whole texts
    stride: int = 0  # tokens that neighbouring windows share
    streamed: bool = False  # read the texts on and on instead of keeping them: for more than fits into memory or on the disk
    buffer_size: int = 10_000  # rows of a stream that wait to be drawn: its order is mixed as far as that
    # shape
    blocks: Literal["bert", "modern", "gpt"] = "bert"  # BERT's own; ModernBERT's; or those of a decoder, which guesses the next token instead of hidden ones
    hidden_size: int = 64  # numbers a token is described by
    num_layers: int = 2  # transformer blocks
    num_heads: int = 2  # attention heads; hidden_size must split into them
    num_kv_heads: int = 0  # of a decoder: key and value heads, each shared by several of num_heads; 0 = as many as num_heads
    intermediate_size: int = 128  # width of the feed-forward
    dropout: float = 0.0  # share dropped in training; more than one epoch makes it useful
    initializer_range: float = 0.02  # standard deviation of the weights at the start
    # what is learned from
    mlm_probability: float = 0.35  # share of tokens hidden in training; validation always hides 0.15
    batch_size: int = 96  # rows an update, over all processes and micro-batches
    num_steps: int = 600  # updates
    # how it is learned
    learning_rate: float = 8e-3  # at its peak
    warmup_steps: int = 50  # updates until the rate peaks

    def __post_init__(self):
        super().__post_init__()
        self.check_least(vocab_size=0, max_seq_len=3, hidden_size=1, num_layers=1, num_heads=1, intermediate_size=1, max_texts=0, stride=0,
                         buffer_size=1, num_kv_heads=0)
        self.check_above_zero("initializer_range")
        self.check_shares("dropout")
        if not 0 < self.mlm_probability < 1:
            raise CourseError(f"mlm_probability is {self.mlm_probability}: give a number between 0 and 1; BERT uses 0.15")
        if self.stride and (self.layout == "first" or self.stride > self.max_seq_len - 3):
            raise CourseError(f"stride is {self.stride}: with layout {self.layout!r} and rows of {self.max_seq_len} tokens give "
                              + ("0, or another layout" if self.layout == "first" else f"0 to {self.max_seq_len - 3}"))
        if self.layout == "packed" and self.blocks == "modern":
            raise CourseError("modern blocks do not keep packed texts apart: choose layout 'windows', or blocks 'bert'")
        if self.tokenizer in ("characters", "smollm2") and self.blocks != "gpt":
            raise CourseError(f"tokenizer {self.tokenizer!r} has no [MASK], which blocks {self.blocks!r} learn from: choose 'wordpiece', or blocks 'gpt'")
        if self.tokenizer == "smollm2" and self.vocab_size != SMOLLM2_PIECES:
            raise CourseError(f"vocab_size is {self.vocab_size} and SmolLM2's tokenizer has {SMOLLM2_PIECES}: give that, or another tokenizer")
        if self.num_kv_heads and (self.blocks != "gpt" or self.num_heads % self.num_kv_heads):
            raise CourseError(f"num_kv_heads is {self.num_kv_heads}: " + (f"with {self.num_heads} heads give a divisor of that" if self.blocks == "gpt"
                              else "only blocks 'gpt' share key heads; leave it out"))
        if self.hidden_size % self.num_heads:
            raise CourseError(f"hidden_size {self.hidden_size} does not split into {self.num_heads} heads: "
                              f"choose a multiple of {self.num_heads}, or other num_heads")
        if self.blocks != "bert" and self.hidden_size // self.num_heads % 2:
            raise CourseError(f"hidden_size {self.hidden_size} in {self.num_heads} heads gives heads of {self.hidden_size // self.num_heads}, and the rotary "
                              f"positions of blocks {self.blocks!r} turn pairs: choose a multiple of {2 * self.num_heads}, or other num_heads")

    @property
    def num_pieces(self) -> int:
        "Rows of the word table: the words' five special ones included; 0 while the texts are to say it."
        return self.vocab_size + (5 if self.tokenizer == "words" and self.vocab_size else 0)


_WORDS = PretrainConfig(
    tokenizer="words", vocab_size=10_000, max_seq_len=128, hidden_size=4, intermediate_size=16, initializer_range=0.05,
    mlm_probability=0.15, batch_size=32, num_steps=1_500, learning_rate=4e-2, warmup_steps=200, weight_decay=0.0, beta2=0.999,
)
PRESETS = {
    "tour": PretrainConfig(),
    "v0": _WORDS,
    "v1": replace(_WORDS, mixed_precision="bf16"),
    "v2": replace(_WORDS, num_layers=4, num_heads=4, hidden_size=8, intermediate_size=32, learning_rate=2e-2),
    "v3": replace(_WORDS, num_layers=6, num_heads=8, hidden_size=16, intermediate_size=64, learning_rate=1e-2, batch_size=64),
    "v4": PretrainConfig(
        tokenizer="words", vocab_size=25_000, max_seq_len=256, hidden_size=256, num_layers=8, num_heads=8, intermediate_size=1_024,
        mlm_probability=0.15, batch_size=96, rows_per_process=96, num_steps=10_000, learning_rate=1e-3, schedule="cosine",
        warmup_steps=500, floor=0.1, beta2=0.98, eval_every=500, mixed_precision="bf16", num_threads=0,
    ),
    "base": PretrainConfig(
        vocab_size=30_522, max_seq_len=512, hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3_072, dropout=0.1,
        mlm_probability=0.15, batch_size=256, gradient_accumulation_steps=8, num_steps=100_000, learning_rate=4e-4, schedule="linear",
        warmup_steps=5_000, beta2=0.98, eval_every=1_000, mixed_precision="auto", num_threads=0,
    ),
    **{name: PretrainConfig(
        blocks="modern", layout="windows", mlm_probability=0.3, batch_size=64, num_steps=20_000, learning_rate=learning_rate, schedule="cosine",
        warmup_steps=1_000, floor=0.1, beta2=0.98, eval_every=1_000, mixed_precision="auto", num_threads=0, **MODERN_SIZES[name])
       for name, learning_rate in {"nano": 3e-3, "tiny": 2e-3, "small": 1e-3, "medium": 6e-4, "large": 4e-4, "xlarge": 3e-4}.items()},
    **{name: PretrainConfig(
        blocks="gpt", tokenizer="smollm2", layout="packed", batch_size=64, num_steps=20_000, learning_rate=learning_rate, schedule="cosine",
        warmup_steps=1_000, floor=0.1, eval_every=1_000, mixed_precision="auto", num_threads=0, **LM_SIZES[name])
       for name, learning_rate in {"lm-tiny": 2e-3, "lm-small": 1e-3, "lm-medium": 6e-4}.items()},
}


def preset(
    name: str,  # a key of PRESETS
    **changes,  # fields to replace
) -> PretrainConfig:
    """A preset, with changes.

    Raises: CourseError if there is no preset, or no field, of that name."""
    if name not in PRESETS:
        raise CourseError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}")
    known = {field.name for field in fields(PretrainConfig)}
    for change in changes:
        if change not in known:
            raise CourseError(f"a run has no setting {change!r}: choose from {', '.join(sorted(known))}")
    return replace(PRESETS[name], **changes)
