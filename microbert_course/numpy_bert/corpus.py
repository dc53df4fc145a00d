"""A text file of any size, read a line at a time, as rows of ids with hidden tokens; memory does not grow with the file."""

from pathlib import Path

import numpy as np

from microbert_course.errors import CourseError

LINE_BYTES = 65_536  # a longer line is read in parts, so that a file without line ends needs no more memory than another


class RowStream:
    """Full rows of ids from a text file, over and over; `position` is all it takes to go on from there.

    Lines become pieces with [SEP] after each, and the pieces fill row after row; each row begins with [CLS]. No padding.
    Raises: CourseError if the file is missing, holds no text or is not UTF-8."""

    def __init__(self, path: str | Path, tokenizer, max_seq_len: int, position: dict | None = None):  # a tokenizers.Tokenizer
        self.path, self.tokenizer, self.max_seq_len = Path(path), tokenizer, max_seq_len
        self.cls_id, self.sep_id = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
        if max_seq_len < 2:
            raise CourseError(f"max_seq_len {max_seq_len} leaves no room for text after [CLS]: use 2 or more")
        if not self.path.is_file():
            raise CourseError(f"{self.path} is not a file: give a UTF-8 text file, one document or sentence a line")
        self.position = {"epoch": 0, "byte": 0, "pending": []} | (position or {})
        self.pending = list(self.position["pending"])
        self.epoch, self.byte = self.position["epoch"], self.position["byte"]

    def take(self, num_rows: int) -> np.ndarray:  # (num_rows, max_seq_len) int64
        "The next rows; at the end of the file it starts again from the beginning."
        room = self.max_seq_len - 1
        needed = num_rows * room
        with self.path.open("rb") as file:
            file.seek(self.byte)
            while len(self.pending) < needed:
                text = self._next_text(file)
                ids = self.tokenizer.encode(text, add_special_tokens=False).ids if text else []
                self.pending += [*ids, self.sep_id] if ids else []
            self.byte = file.tell()
        rows = np.full((num_rows, self.max_seq_len), self.cls_id, np.int64)
        rows[:, 1:] = np.reshape(self.pending[:needed], (num_rows, room))
        self.pending = self.pending[needed:]
        self.position = {"epoch": self.epoch, "byte": self.byte, "pending": list(self.pending)}
        return rows

    def _next_text(self, file) -> str:
        "One line, or the first part of a very long one; at the end of the file '' and the next line is the first."
        start = file.tell()
        line = _whole_words(file)
        if not line:
            if start == 0 or (self.epoch == self.position["epoch"] + 1 and not self.pending):
                raise CourseError(f"{self.path} holds no text: give a file with words in it")
            self.epoch += 1
            file.seek(0)
            return ""
        try:
            return line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise CourseError(f"{self.path} is not UTF-8 near byte {start + error.start:,}: convert it, or give a text file") from None


def _whole_words(file) -> bytes:
    "A line; of one longer than LINE_BYTES a part that ends at a space, or else between two characters."
    line = file.readline(LINE_BYTES)
    if len(line) < LINE_BYTES or line.endswith(b"\n"):
        return line
    end = line.rfind(b" ") + 1
    if end == 0:
        end = len(line)
        while end > len(line) - 4 and line[end - 1] & 0xC0 == 0x80:  # inside a character
            end -= 1
        end -= line[end - 1] >= 0xC0  # and its first byte
    file.seek(end - len(line), 1)
    return line[:end]


def mask_rows(
    input_ids: np.ndarray,  # (rows, seq) integers
    vocab_size: int,  # random tokens are drawn from ids below this
    rng: np.random.Generator,
    mlm_probability: float = 0.15,
    mask_token_id: int = 4,  # ids up to this one are special: never hidden, never drawn
) -> tuple[np.ndarray, np.ndarray]:  # corrupted ids and labels, both (rows, seq); label -100 = not predicted
    """Pick tokens to predict and corrupt them 80/10/10 (Devlin et al. 2019, §3.1), lesson 06 in NumPy.

    Raises: ValueError if `mlm_probability` is outside (0, 1), or the vocabulary holds special tokens alone."""
    if not 0 < mlm_probability < 1:
        raise ValueError(f"mlm_probability {mlm_probability} is not between 0 and 1: BERT uses 0.15")
    if vocab_size <= mask_token_id + 1:
        raise ValueError(f"vocab_size {vocab_size} leaves no ordinary token: use more")
    is_chosen = (rng.random(input_ids.shape) < mlm_probability) & (input_ids > mask_token_id)
    labels = np.where(is_chosen, input_ids, -100)
    fate = rng.random(input_ids.shape)  # below 0.8: [MASK]; below 0.9: random; else left
    random_ids = rng.integers(mask_token_id + 1, vocab_size, input_ids.shape)
    corrupted = np.where(is_chosen & (fate < 0.8), mask_token_id, input_ids)
    return np.where(is_chosen & (fate >= 0.8) & (fate < 0.9), random_ids, corrupted), labels
