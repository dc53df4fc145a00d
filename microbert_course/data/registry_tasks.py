"""Which task a file holds, as its columns tell, and what is wrong with its rows."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from microbert_course.data.labelled import LABEL_COLUMNS, MAX_LABELS, TEXT_COLUMNS, _label, _names
from microbert_course.data.registry_entries import ALPACA, Entry
from microbert_course.data.registry_rows import as_number, placed_examples, prompt_key
from microbert_course.data.sources import DataError

QUESTIONS = ("question", "problem", "query", "input")
FINALS = ("final", "ground_truth")
SCORES = ("score", "similarity", "label")
PATTERNS = (  # kind; role: the names that its column may have; the first kind all of whose roles are there is taken
    ("code", {"instruction": ("instruct_prompt", "prompt", "instruction"), "answer": ("canonical_solution",)}),
    ("instruction", {"instruction": ("instruction", "prompt"), "answer": ("output", "response", "completion", "answer")}),
    ("multiple choice", {"question": QUESTIONS, "choices": ("choices", "options"), "answer": ("answer", "answer_index", "gold_index", "label")}),
    *(("pairs", {"first": (first,), "second": (second,), "label": (*LABEL_COLUMNS, "score")})
      for first, second in (("sentence1", "sentence2"), ("question1", "question2"), ("premise", "hypothesis"), ("question", "sentence"),
                            ("text1", "text2"))),
    ("question answering", {"pairs": ("qa_pairs",)}),
    ("math", {"question": QUESTIONS, "answer": ("answer", "solution", *FINALS), "final": FINALS}),
    ("question answering", {"question": QUESTIONS, "answer": ("answer", "solution", "response", "output", "label")}),
    ("regression", {"text": TEXT_COLUMNS, "score": SCORES}),
    ("classification", {"text": TEXT_COLUMNS, "label": LABEL_COLUMNS}),
    ("text", {"text": TEXT_COLUMNS}),
)
ASIDE = {"input": ("input", "context"), "subject": ("subject", "category"), "tables": ("tables",), "start": ("code_prompt",),
         "tests": ("test", "tests")}
PROMPTS = {
    "classification": "Which of these is right: {labels}?\n\nText: {text}\n\nAnswer:",
    "pairs": "Which of these is right: {labels}?\n\nFirst: {first}\n\nSecond: {second}\n\nAnswer:",
    "regression": "Text: {text}\n\nFirst: {first}\n\nSecond: {second}\n\nScore:",
    "question answering": "Question: {question}\n\nAnswer:",
    "multiple choice": "{subject}\n\n{question}\n\n{choices}\n\nAnswer:",
    "instruction": ALPACA,
    "math": "{tables}\n\nQuestion: {question}\n\nAnswer:",
    "code": "{instruction}",
    "text": "",
}


def detect_task(
    columns: Sequence[str],
    rows: Sequence[dict],  # some of them: numbers with decimals are scores, answers that are numbers or end in "#### 72" are mathematics
) -> str:  # one of `registry_entries.KINDS`
    """Which task the columns hold.

    Raises: DataError, with the columns that there are, if none is known."""
    return described("", columns, rows).kind


def described(
    name: str,  # what to call it
    columns: Sequence[str],
    rows: Sequence[dict],  # all, if the label words are to be complete
) -> Entry:
    """An entry for rows that no entry describes: task, roles and label words as the columns and rows tell them.

    Raises: DataError, with the columns that there are, if they hold no task that is known here, or labels that are none."""
    there = {str(column).strip().lower(): column for column in reversed(list(columns))}
    for kind, wanted in PATTERNS:
        roles = {role: next((there[word] for word in words if word in there), None) for role, words in wanted.items()}
        if None in roles.values():
            continue
        kind, roles = _refined(kind, roles, rows)
        if kind is None:
            continue
        taken = set(roles.values())
        asides = {role: column for role, words in ASIDE.items() for word in words if (column := there.get(word)) is not None and column not in taken}
        roles |= {role: column for role, column in asides.items() if f"{{{role}}}" in PROMPTS[kind] or (kind == "code" and role in ("start", "tests"))}
        return Entry(name, "", kind, roles, PROMPTS[kind], _words(roles, rows))
    raise DataError(f"the columns {', '.join(map(repr, columns))} hold no task known here: name them as in text and label, sentence1, sentence2 and "
                    f"label, question and answer, question, choices and answer, or instruction, input and output")


def _refined(kind: str, roles: dict[str, str], rows: Sequence[dict]) -> tuple[str | None, dict[str, str]]:
    "The kind that most of the values speak for; None if they speak against it."
    def values(role: str) -> list:
        found = (row.get(roles[role]) for row in rows if isinstance(row, dict))
        return [value for value in found if value not in (None, "")]

    if "pairs" in roles:
        return kind, roles | {"question": "question", "answer": "answer"}
    if kind == "pairs" and _are_scores(values("label")):
        return "regression", {role: roles[role] for role in ("first", "second")} | {"score": roles["label"]}
    if kind == "regression" and not _are_scores(values("score")):
        return None, roles
    if kind == "classification" and _most(isinstance(value, list | dict) for value in values("label")):
        return None, roles
    if kind == "question answering" and _most(_is_computed(str(value)) for value in values("answer")):
        return "math", roles
    return kind, roles


def _most(claims: Iterable[bool]) -> bool:
    "More than half: a faulty row does not change what the others are."
    claims = list(claims)
    return 2 * sum(claims) > len(claims)


def _are_scores(values: list) -> bool:
    "Numbers for the most part, one in ten of them with decimals: a lone 3.5 among labels is a slip."
    numbers = [number for value in values if (number := as_number(value)) is not None]
    return 2 * len(numbers) > len(values) and 10 * sum(not number.is_integer() for number in numbers) >= len(numbers)


def _is_computed(text: str) -> bool:
    return "####" in text or as_number(re.sub(r"^b'|(\\n)?'$|(?<=\d),", "", text)) is not None


def _words(roles: dict[str, str], rows: Sequence[dict]) -> tuple[str, ...]:
    """The labels that occur, those that can be read.

    Raises: DataError if there are so many that they are no labels."""
    found = set()
    for row in rows if "label" in roles else ():
        try:
            found.add(_label(row.get(roles["label"]), "", ""))
        except (DataError, AttributeError):  # the check of the rows has the sentence for it
            continue
    if len(found) > MAX_LABELS or (len(found) > 20 and 2 * len(found) > len(rows)):
        raise DataError(f"column {roles['label']!r} has {len(found):,} different values in {len(rows):,} rows, so they are no labels: "
                        f"rename it, and call the column that holds them label")
    return tuple(_names(found))


@dataclass(frozen=True)
class Report:
    "What is in some rows, and what is wrong with them."

    num_rows: int
    num_examples: int
    counts: dict[str, int]  # of each label, where answers are labels
    num_copies: int  # examples whose prompt was there before
    num_contradictions: int  # those of them with another answer
    faults: list[str]  # one sentence a faulty row


def check_rows(
    rows: Iterable[tuple[str, object]],  # where it stands, as in "line 7"; the row
    entry: Entry,
) -> Report:
    "Turn every row into an example; faults are collected, not raised. Labels that are all the same are a fault too."
    num_rows, num_examples, num_contradictions, faults, seen = 0, 0, 0, [], {}
    counts = dict.fromkeys(entry.labels, 0)
    for place, row in rows:
        num_rows += 1
        try:
            examples = [example for _, example in placed_examples([(place, row)], entry)]
        except DataError as error:
            faults.append(str(error))
            continue
        for example in examples:
            num_examples += 1
            if example["labels"]:
                counts[example["answer"]] = counts.get(example["answer"], 0) + 1
            before = seen.setdefault(prompt_key(example), example["answer"])
            num_contradictions += before != example["answer"] and bool(example["prompt"])
    present = [label for label, count in counts.items() if count]
    if entry.kind in ("classification", "pairs") and len(present) == 1:
        faults.append(f"all {num_examples:,} rows have the label {present[0]!r}, and telling labels apart takes two: add rows with another")
    return Report(num_rows, num_examples, counts, num_examples - len(seen), num_contradictions, faults)
