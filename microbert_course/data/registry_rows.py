"""A row of any data set as a prompt with an answer, and a sentence for every row that cannot be one."""

import ast
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from string import Formatter, ascii_uppercase

from microbert_course.data.labelled import _label
from microbert_course.data.registry_entries import OPTIONAL, Entry
from microbert_course.data.sources import DataError, clean_text, duplicate_key

TEXT_KINDS = ("classification", "pairs", "regression", "text")  # of what is judged or read: case, markup and marks make no other text


def to_examples(
    rows: Iterable[dict],  # with the columns of the entry
    entry: Entry,
) -> list[dict]:  # {"prompt": str, "answer": str, "kind": str, "labels": list[str], "final": str} each, whatever the set
    """Rows of any set in one form: text to ask with and text to answer with (T5's text-to-text, Raffel et al. 2020, §2.4).

    `labels` are the words that the answer is one of, letters for multiple choice, empty where it is free. `final` is what an answer is checked
    against: the label word, the letter, the last number of a solution, a program's tests; "" where nothing can be compared. Neither the prompt
    ends in white space nor the answer begins with it: a model's format joins them. Plain text has no prompt, and its empty rows are passed over.

    Raises: DataError, with the row's number, for a missing column (and those that there are), a label or score that cannot be, an empty answer."""
    return [example for _, example in placed_examples(placed(rows), entry)]


def placed(rows: Iterable[dict]) -> Iterator[tuple[str, dict]]:
    "Rows with their numbers for the sentences about them."
    return ((f"row {number:,}", row) for number, row in enumerate(rows, 1))


def placed_examples(rows: Iterable[tuple[str, object]], entry: Entry) -> Iterator[tuple[str, dict]]:  # each with its place
    "Examples one after another; one for most rows, several for a row with several questions, none for an empty row of plain text."
    for place, row in rows:
        for part in _parts(row, entry, place):
            example = _example(part, entry, place)
            if example["answer"]:
                yield place, example


def prompt_key(example: dict) -> bytes:  # as `to_examples` makes it
    "Equal for copies of a prompt: in texts that are judged as `duplicate_key` has it; in questions signs count, since 3+4 is not 3-4."
    asked = example["prompt"] or example["answer"]
    return duplicate_key(asked) if example["kind"] in TEXT_KINDS else " ".join(asked.casefold().split()).encode()


def _parts(row: object, entry: Entry, place: str) -> list[dict]:
    "The row itself, or the questions and answers that its role `pairs` lists."
    if not isinstance(row, dict):
        raise DataError(f'{place}: a {type(row).__name__} where a row with named columns is expected: write {{"question": "…", "answer": "…"}}')
    if "pairs" not in entry.columns:
        return [row]
    column, value = _value(row, entry, "pairs", place)
    pairs = _listed(value)
    if not pairs or not all(isinstance(pair, dict) for pair in pairs):
        raise DataError(f"{place}: {column!r} is {str(value)[:60]!r}, no list of questions with answers: correct it or delete the row")
    return pairs


def _value(row: dict, entry: Entry, role: str, place: str) -> tuple[str, object]:  # the column's name, what stands in it
    columns = entry.columns[role]
    columns = (columns,) if isinstance(columns, str) else columns
    for column in columns:
        if column in row:
            return column, row[column]
    if role in OPTIONAL:
        return columns[0], None
    raise DataError(f"{place}: no column {' or '.join(map(repr, columns))}, only {', '.join(map(repr, row))}: rename the column that holds the {role}")


def _example(row: dict, entry: Entry, place: str) -> dict:
    "One example; with an empty answer if the row is an empty one of plain text."
    fields, labels = {}, list(entry.labels)
    for role in (role for role in entry.columns if role != "pairs"):
        column, value = _value(row, entry, role, place)
        here = f"{place}, column {column!r}"
        if role == "label":
            fields["answer"] = _word(value, entry, here)
        elif role == "score":
            fields["answer"] = _score(value, entry, here)
        elif role == "choices":
            fields[role], labels = _choices(value, here)
        elif role == "answer" and entry.kind == "multiple choice":
            fields[role] = _letter(value, labels, here)
        else:
            fields[role] = _text(value, entry, role)
            if not fields[role] and role not in OPTIONAL and entry.kind != "text":
                raise DataError(f"{here}: the {role} is {json.dumps(value, default=str)}: fill it in or delete the row")
    answer, final = _answer(fields, entry, place)
    prompt = _prompt(entry.prompt, fields | {"labels": either(entry.labels)})
    return {"prompt": prompt, "answer": answer, "kind": entry.kind, "labels": labels, "final": final}


def _answer(fields: dict[str, str], entry: Entry, place: str) -> tuple[str, str]:  # the answer; what it is checked against
    if entry.kind == "text":
        return fields["text"], ""
    answer = fields["answer"]
    if entry.kind == "code":
        return fields.get("start", "") + answer, fields.get("tests", "")
    if entry.kind == "math":
        answer = re.sub(r"<<[^<>]*>>", "", answer)  # GSM8K's notes for a calculator, as in 48/2 = <<48/2=24>>24
        return answer, _final(fields.get("final") or answer, place)
    return answer, "" if entry.kind in ("question answering", "instruction") else answer


def _final(answer: str, place: str) -> str:
    "What stands behind ####, without commas in its number; an answer of one line is all final."
    final = answer.rpartition("####")[2].strip()
    if not final or "\n" in final:
        raise DataError(f'{place}: the answer ends in {answer[-40:]!r}, without a final value: add a last line such as "#### 72"')
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", final) if re.fullmatch(r"\S+", final) else final


def _word(value: object, entry: Entry, place: str) -> str:
    "The word of a label that is a word or its number."
    words = {str(number): word for number, word in enumerate(entry.labels)} | {word: word for word in entry.labels}
    found = words.get(_label(value, place, "label"))
    if found is None:
        hidden = " (-1 marks rows whose label is kept back)" if value == -1 else ""
        raise DataError(f"{place}: the label {value!r} is none of {either(entry.labels)}, nor a number from 0 to {len(entry.labels) - 1}{hidden}: "
                        f"correct it or delete the row")
    return found


def _score(value: object, entry: Entry, place: str) -> str:
    "A score with one decimal, or as a word where the entry has cuts."
    number = as_number(value)
    low, high = entry.bounds or (-math.inf, math.inf)
    if number is None or not low <= number <= high:
        wanted = f"no number from {low:g} to {high:g}" if entry.bounds else "no number"
        raise DataError(f"{place}: the score {value!r} is {wanted}: correct it or delete the row")
    return entry.labels[sum(number >= cut for cut in entry.cuts)] if entry.cuts else f"{number:.1f}"


def as_number(value: object) -> float | None:  # None = it is none, or not finite
    "The number that a value is, or is written as."
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _choices(value: object, place: str) -> tuple[str, list[str]]:  # a line a choice, as in "A. blue"; the letters
    choices = [str(choice).strip() for choice in _listed(value)]
    if not 2 <= len(choices) <= len(ascii_uppercase) or not all(choices):
        raise DataError(f"{place}: {str(value)[:60]!r} is no list of 2 to {len(ascii_uppercase)} choices: correct it or delete the row")
    letters = list(ascii_uppercase[: len(choices)])
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True)), letters


def _letter(value: object, letters: Sequence[str], place: str) -> str:
    "The letter of an answer that is a letter or its number, from 0."
    text = str(value).strip()
    numbered = {str(number): letter for number, letter in enumerate(letters)}
    if isinstance(value, bool) or text not in {*letters, *numbered}:
        raise DataError(f"{place}: the answer {value!r} is none of {either(letters)}, nor a number from 0 to {len(letters) - 1}: "
                        f"correct it or delete the row")
    return numbered.get(text, text)


def _listed(value: object) -> list:
    "A list, also one that a file holds as text; [] for anything else."
    if isinstance(value, str):
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(value)
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):  # as both raise for text that is no list
                continue
    return list(value) if isinstance(value, list | tuple) else []


def _text(value: object, entry: Entry, role: str) -> str:
    "What stands in a column, as text without white space around it; markup goes where texts are judged."
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return "\n\n".join(str(part).strip() for part in value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    if entry.as_bytes and re.fullmatch(r"""b(['"]).*\1""", text.strip(), re.DOTALL):
        text = text.strip()[2:-1].replace("\\n", "\n")
    if entry.kind == "code":
        return text.strip("\n") + "\n" if text.strip() else ""  # a program's first spaces count
    if role == "subject":
        return text.replace("_", " ").strip()  # MMLU's are the names of files
    return clean_text(text) if entry.kind in ("classification", "pairs", "regression") else text.strip()


def _prompt(template: str, fields: dict[str, str]) -> str:
    kept = (paragraph for paragraph, roles in _paragraphs(template) if all(fields.get(role) for role in roles))
    return "\n\n".join(paragraph.format(**fields) for paragraph in kept).strip()


@lru_cache(maxsize=256)
def _paragraphs(template: str) -> list[tuple[str, list[str]]]:  # each with the roles in it
    return [(paragraph, [role for _, role, _, _ in Formatter().parse(paragraph) if role]) for paragraph in template.split("\n\n")]


def either(words: Sequence[str]) -> str:
    "Such as `negative, neutral or positive`."
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
