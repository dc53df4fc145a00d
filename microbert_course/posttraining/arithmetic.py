"""What a decoder needs to come from nothing to sums: facts to read, a few solved sums to be shown, and problems to try."""

import json
from collections import defaultdict
from itertools import zip_longest
from pathlib import Path

import numpy as np

from microbert_course.files import write_whole
from microbert_course.posttraining.problems import all_sums

NUM_TEXTS, FACTS_PER_TEXT, NUM_SHOWN, NUM_UNSEEN = 3_000, 4, 160, 300
FILES = {"texts": "texts.txt", "shown": "shown.jsonl", "problems": "problems.jsonl", "unseen": "unseen.jsonl"}


def write_arithmetic(
    folder: Path,  # it may be there already, from the same seed
    seed: int = 0,
) -> dict[str, str]:  # the path of each of FILES
    """Four files: texts of facts with numbers of one digit (7+5=21), sums of two digits that are shown solved, sums to learn from, and sums to stay unseen.

    An answer's digits come in the order in which one finds them on paper, the units first, as in `problems.all_sums`. No sum is in two of the last
    three files but that those shown may be tried again, and none of two digits is in the texts."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    facts = [f"{a}+{b}={f'{a + b:02}'[::-1]}" for a, b in draw.integers(0, 10, (NUM_TEXTS * FACTS_PER_TEXT, 2)).tolist()]
    sums = [sum_ for sum_ in all_sums() if "0" not in (sum_.prompt[0], sum_.prompt[3])]  # of numbers from 10 on
    rows = [{"prompt": sum_.prompt, "answer": sum_.answer, "kind": "math", "labels": [], "final": sum_.answer} for sum_ in sums]  # asked as it stands
    rows = [rows[number] for number in draw.permutation(len(rows))]
    unseen, rows = rows[:NUM_UNSEEN], rows[NUM_UNSEEN:]
    parts = {"texts": [" ".join(facts[start : start + FACTS_PER_TEXT]) for start in range(0, len(facts), FACTS_PER_TEXT)],
             "shown": of_all_kinds(rows)[:NUM_SHOWN], "problems": rows, "unseen": unseen}
    for name, lines in parts.items():
        write_whole(folder / FILES[name], "".join(f"{line if name == 'texts' else json.dumps(line)}\n" for line in lines))
    return {name: str(folder / file) for name, file in FILES.items()}


def of_all_kinds(
    rows: list[dict],
) -> list[dict]:  # the same ones
    "In turn one of each kind of sum, by its tens and whether something is carried: so that a few examples miss none, as a good teacher chooses them."
    kinds = defaultdict(list)
    for row in rows:
        a, b = row["prompt"][:2], row["prompt"][3:5]
        kinds[a[0], b[0], int(a[1]) + int(b[1]) > 9].append(row)
    return [row for turn in zip_longest(*kinds.values()) for row in turn if row]
