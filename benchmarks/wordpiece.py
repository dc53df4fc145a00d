"""Lesson 02 against the `tokenizers` library: learning a vocabulary, and turning reviews into ids, per CPU-second.

    python benchmarks/wordpiece.py [--num-reviews 25000] [--repeats 3] [--json PATH]

Both sides get the same cleaned IMDB reviews and the same vocabulary, run on one thread, and take turns; each figure is
the median of the repeats in CPU time (time.process_time), so other programs disturb it little. What is compared:

- train: texts in, vocabulary out. Library: `train_from_iterator` with a WordPieceTrainer, BertNormalizer and
  BertPreTokenizer. Ours: `count_words` and `learn_wordpiece`.
- whole: ids of every review at full length, with [CLS] and [SEP], and nothing else. Library: `encode_batch_fast` (its
  quickest, no offsets) and `tokenizer(texts)` of transformers. Ours: `WordCacheEncoder.encode_whole`, cold (a new
  encoder) and warm (the same encoder, the same texts again).
- rows of 128: ids cut and padded to one array. Library: `tokenizer(texts, truncation=True, padding="max_length")`,
  which spells a review to its end before it cuts. Ours: `WordCacheEncoder.encode`, cold and warm.

All see the texts in blocks of 1,000, which keeps memory small. Ids are compared on every review before any timing.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # before the library starts its threads
os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from microbert_course.data.sources import clean_text, load
from microbert_course.data.wordpiece import (
    SPECIAL_TOKENS,
    WordCacheEncoder,
    count_words,
    learn_wordpiece,
    train_wordpiece,
    wordpiece_letters,
)
from microbert_course.files import write_json

TARGETS = {"train": 1.1, "cold": 2.5, "warm": 8.0}  # times the library's speed


def library_vocab(texts: list[str], vocab_size: int, letters: list[str]) -> dict[str, int]:
    library = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer, library.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    library.train_from_iterator(texts, trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=[*SPECIAL_TOKENS, *letters], show_progress=False))
    return library.get_vocab()


def in_blocks(encode: Callable, texts: list[str], size: int = 1000) -> Callable[[], None]:
    def run() -> None:
        for start in range(0, len(texts), size):
            encode(texts[start:start + size])
    return run


def cpu_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-reviews", type=int, default=25_000)
    parser.add_argument("--vocab-size", type=int, default=8_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()

    reviews = [text for split in ("train", "validation") for text in load("imdb", split)["text"]]
    texts = [clean_text(text) for text in reviews[:options.num_reviews]]
    tokenizer = train_wordpiece(texts, options.vocab_size)
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    word_counts = count_words(texts)
    letters = wordpiece_letters(word_counts)
    same_vocab = library_vocab(texts, options.vocab_size, letters) == tokenizer.get_vocab()
    untouched = set(library_vocab(texts, options.vocab_size, []))
    encoder, num_ids = WordCacheEncoder(tokenizer), 0
    for start in range(0, len(texts), 1000):
        block = texts[start:start + 1000]
        for ids, encoding in zip(encoder.encode_whole(block), backend.encode_batch_fast(block), strict=True):
            assert ids.tolist() == encoding.ids
            num_ids += len(ids)
    print(f"{len(texts):,} reviews, {num_ids:,} ids, all equal. The library's trainer with our order of letters learns "
          f"the same {options.vocab_size:,} pieces and ids: {same_vocab}; left to itself, pieces of its own: "
          f"{len(untouched - set(tokenizer.get_vocab()))}")

    def whole_library(block: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in backend.encode_batch_fast(block)]

    def whole_transformers(block: list[str]) -> list[list[int]]:
        return tokenizer(block, return_attention_mask=False, return_token_type_ids=False)["input_ids"]

    def rows_transformers(block: list[str]) -> object:
        return tokenizer(block, truncation=True, max_length=128, padding="max_length", return_tensors="np",
                         return_attention_mask=False, return_token_type_ids=False)["input_ids"]

    seconds: dict[str, list[float]] = {}

    def measure(name: str, call: Callable[[], object]) -> None:
        seconds.setdefault(name, []).append(cpu_seconds(call))

    for _ in range(options.repeats):
        measure("train, library", lambda: library_vocab(texts, options.vocab_size, []))
        measure("train, ours", lambda: learn_wordpiece(count_words(texts), options.vocab_size))
        measure("whole, encode_batch_fast", in_blocks(whole_library, texts))
        encoder = WordCacheEncoder(tokenizer)
        measure("whole, ours cold", in_blocks(encoder.encode_whole, texts))
        measure("whole, ours warm", in_blocks(encoder.encode_whole, texts))
        measure("whole, tokenizer(texts)", in_blocks(whole_transformers, texts))
        encoder = WordCacheEncoder(tokenizer)
        measure("rows of 128, tokenizer(texts)", in_blocks(rows_transformers, texts))
        measure("rows of 128, ours cold", in_blocks(lambda block, encoder=encoder: encoder.encode(block, 128), texts))
        measure("rows of 128, ours warm", in_blocks(lambda block, encoder=encoder: encoder.encode(block, 128), texts))

    middle = {name: median(values) for name, values in seconds.items()}
    print(f"\n{'CPU seconds':32} median   all")
    for name, values in seconds.items():
        print(f"{name:32} {middle[name]:6.2f}   {' '.join(f'{value:.2f}' for value in values)}")
    ratios = {}
    print(f"\n{'times as fast as the library':44} ratio   target")
    for ours, library, target in (
        ("train, ours", "train, library", "train"),
        ("whole, ours cold", "whole, encode_batch_fast", "cold"),
        ("whole, ours warm", "whole, encode_batch_fast", "warm"),
        ("whole, ours cold", "whole, tokenizer(texts)", "cold"),
        ("whole, ours warm", "whole, tokenizer(texts)", "warm"),
        ("rows of 128, ours cold", "rows of 128, tokenizer(texts)", "cold"),
        ("rows of 128, ours warm", "rows of 128, tokenizer(texts)", "warm"),
    ):
        name = f"{ours} / {library.split(', ')[1]}"
        ratios[name] = median(theirs / mine for theirs, mine in zip(seconds[library], seconds[ours], strict=True))
        print(f"{name:44} {ratios[name]:5.2f}   {TARGETS[target]}")
    if options.json:
        write_json(options.json, {
            "num_reviews": len(texts), "num_ids": num_ids, "vocab_size": options.vocab_size, "repeats": options.repeats,
            "same_vocab_with_our_letters": same_vocab, "cpu_seconds": seconds, "ratios": ratios, "targets": TARGETS,
            "cpu_count": os.cpu_count(), "load_average": os.getloadavg()})


if __name__ == "__main__":
    main()
