"""Learns a corpus's WordPiece vocabulary in a process of its own, so that the memory it takes goes back before training.

`python -m microbert_course.numpy_bert.vocabulary CORPUS SIZE tokenizer.json` is that process."""

import os
import subprocess
import sys
from pathlib import Path

from microbert_course.errors import CourseError

SAMPLE_BYTES, NUM_SAMPLES = 65_536, 64  # 4 MB at most, from all over the file


def learn_tokenizer(corpus: str | Path, vocab_size: int, path: str | Path) -> None:
    """Learn a vocabulary of at most `vocab_size` pieces (lesson 02) and write it to `path` as `tokenizers` reads it.

    Raises: CourseError if the corpus holds no text, is not UTF-8, or its letters alone need more pieces."""
    command = [sys.executable, "-m", "microbert_course.numpy_bert.vocabulary", str(corpus), str(vocab_size), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if done.returncode == 3:
        raise CourseError(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(f"learning the vocabulary failed:\n{done.stderr}")


def sample_lines(corpus: str | Path) -> list[str]:
    """Lines from evenly spaced places of the file, all of a small one.

    Raises: CourseError if there is no such file, no text in it, or it is not UTF-8."""
    corpus = Path(corpus)
    if not corpus.is_file():
        raise CourseError(f"{corpus} is not a file: give a UTF-8 text file, one document or sentence a line")
    size, lines = corpus.stat().st_size, []
    is_small = size <= SAMPLE_BYTES * NUM_SAMPLES
    with corpus.open("rb") as file:
        for number in range(1 if is_small else NUM_SAMPLES):
            file.seek(number * (size // NUM_SAMPLES))
            sample = file.read(size if is_small else SAMPLE_BYTES)
            if not is_small:  # what the cut left of a line, or at worst of a word, goes
                edge = b"\n" if sample.count(b"\n") > 1 else b" "
                sample = sample[sample.find(edge) + 1:sample.rfind(edge) + 1]
            try:
                lines += [line for line in sample.decode("utf-8").split("\n") if line.strip()]
            except UnicodeDecodeError:
                raise CourseError(f"{corpus} is not UTF-8: convert it, or give a text file") from None
    if not lines:
        raise CourseError(f"{corpus} holds no text: give a file with words in it")
    return lines


def main(arguments: list[str]) -> int:
    "What the process does; the status for the parent comes back, 3 for a mistake that the user can mend."
    from microbert_course.data.wordpiece import train_wordpiece

    corpus, vocab_size, path = arguments
    try:
        train_wordpiece(sample_lines(corpus), int(vocab_size)).backend_tokenizer.save(path)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
