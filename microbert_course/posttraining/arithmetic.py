"""What a decoder needs to come from nothing to sums: facts to read, a few solved sums to be shown, and problems to try."""

import json
from pathlib import Path

import numpy as np

from microbert_course.files import write_whole
from microbert_course.posttraining.problems import Problem, all_sums, varied_sums

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
    sums = [sums[number] for number in draw.permutation(len(sums))]
    unseen, others = sums[:NUM_UNSEEN], sums[NUM_UNSEEN:]
    parts = {"texts": [" ".join(facts[start : start + FACTS_PER_TEXT]) for start in range(0, len(facts), FACTS_PER_TEXT)],
             **{name: list(map(_row, some)) for name, some in (("shown", varied_sums(others, NUM_SHOWN)), ("problems", others), ("unseen", unseen))}}
    for name, lines in parts.items():
        write_whole(folder / FILES[name], "".join(f"{line if name == 'texts' else json.dumps(line)}\n" for line in lines))
    return {name: str(folder / file) for name, file in FILES.items()}


def _row(problem: Problem) -> dict:  # as `microbert sft` takes an example that is asked as it stands
    return {"prompt": problem.prompt, "answer": problem.answer, "kind": "math", "labels": [], "final": problem.answer}
