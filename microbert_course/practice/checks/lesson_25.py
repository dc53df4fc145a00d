"""Checks of the exercises on the whole pipeline."""

import math
import re
from collections import defaultdict
from itertools import combinations

import numpy as np

from microbert_course.practice.checking import Case, Check, Wrong

# 25.1: updates until a score is reached

def looks_at(rng: np.random.Generator, scores: np.ndarray, begins: int = -1, name: str = "exact") -> list[dict]:
    "Looks at uneven distances with these scores, and with another score that says something else."
    steps = begins + np.cumsum([0, *rng.integers(3, 40, size=len(scores) - 1)])
    other = "right" if name == "exact" else "exact"
    return [{"step": int(step), name: float(score), other: float(rng.uniform(0.05, 0.95))} for step, score in zip(steps, scores, strict=True)]


def updates_cases(rng: np.random.Generator) -> list[Case]:
    "Curves that rise, rise twice, dip just before, never arrive, begin at the goal, touch it; another score; a late first look; none at all."
    share = float(rng.uniform(0.46, 0.6))
    low, high = (lambda number: rng.uniform(0.05, 0.4, number)), (lambda number: rng.uniform(0.65, 0.95, number))
    curves = [[*np.sort(low(3)), *np.sort(high(2))], [*low(2), *high(1), *low(1), *high(2)],
              [*rng.uniform(0.05, 0.1, 1), *rng.uniform(0.35, 0.44, 1), *rng.uniform(0.12, 0.3, 1), *high(2)],
              low(4), [*high(1), *low(1), *high(1)], [share, share, *high(1)], [*low(1), share, *low(2)], [*low(1), share, share, *high(1)]]
    cases = [{"looks": looks_at(rng, np.array(curve)), "share": share} for curve in curves]
    cases.append({"looks": looks_at(rng, np.array([*low(2), *high(2)]), name="right"), "share": share, "metric": "right"})
    cases.append({"looks": looks_at(rng, high(2), begins=int(rng.integers(5, 30))), "share": share})
    return [*cases, {"looks": [], "share": share}]


def updates_variant(offset: int = 1, between: str = "line", which: str = "first", never: str = "None", start: bool = True,
                    reads_metric: bool = True, scores_are: str = "as they are", crossing: str = "above", whole: bool = False, first: str = "made"):
    "The number of updates with one thing done otherwise."

    def updates_to(looks: list[dict], share: float, metric: str = "exact") -> float | None:
        made = [look["step"] + offset for look in looks]
        scores = [look[metric if reads_metric else "exact"] for look in looks]
        if scores_are == "best so far":
            scores = np.maximum.accumulate(scores).tolist()
        found = []
        for place, score in enumerate(scores):
            before = scores[place - 1] if place else None
            if place == 0:
                if start and first == "zero" and score >= share:
                    found.append(0.0)
                elif start and (score > share if crossing == "beyond" else score >= share):
                    found.append(float(made[0]))
                continue
            is_there = {"above": before < share <= score, "beyond": before <= share < score, "pairs": before <= share <= score,
                        "either way": (before - share) * (score - share) <= 0 and before != score}[crossing]
            if is_there:
                part = (share - before) / (score - before)
                found.append({"line": made[place - 1] + part * (made[place] - made[place - 1]), "after": float(made[place]), "before": float(made[place - 1]),
                              "turned": made[place] - part * (made[place] - made[place - 1]), "looks": place - 1 + part,
                              "middle": (made[place - 1] + made[place]) / 2}[between])
        if not found:
            return {"None": None, "0": 0.0, "last": float(made[-1]) if made else None}[never]
        chosen = found[0] if which == "first" else found[-1]
        return float(int(chosen)) if whole else chosen

    return updates_to


def updates_by_arrays(looks, share, metric="exact"):
    "The first place that is there, found in an array; a straight line through it and the one before."
    made, scores = np.array([look["step"] for look in looks]) + 1, np.array([look[metric] for look in looks])
    there = np.flatnonzero(scores >= share)
    if not len(there):
        return None
    place = there[0]
    if place == 0:
        return float(made[0])
    return float(np.interp(share, scores[place - 1 : place + 1], made[place - 1 : place + 1]))


def updates_by_slope(looks, share, metric="exact"):
    "Points one after another, each with what the one before it left."
    last = None
    for look in looks:
        made, score = look["step"] + 1, look[metric]
        if score >= share:
            return float(made) if last is None else made - (score - share) * (made - last[0]) / (score - last[1])
        last = made, score
    return None


def updates_by_interp(looks, share, metric="exact"):
    "numpy's line, which wants scores that rise."
    scores = [look[metric] for look in looks]
    if not scores or max(scores) < share:
        return None
    return float(np.interp(share, scores, [look["step"] + 1 for look in looks]))


# 25.2: a split that leaks

def split_cases(rng: np.random.Generator) -> list[Case]:
    """Sums and sentences, each spelled and answered in several ways, with copies; questions that share their letters, their numbers or their
    answer; a few sums; then nothing left to learn from."""
    cases = []
    for num_sums, num_sentences, num_unseen in ((4, 3, 4), (3, 4, 8), (6, 4, 9)):
        rows, numbers = [], rng.permutation(np.arange(10, 99))
        for place in range(num_sums + num_sentences):
            a, b = numbers[2 * place : 2 * place + 2].tolist()
            if place < num_sums:
                spellings = [f"{a}+{b}=", f"{a} + {b} =", f"{a}+{b}=\n", f"{a}\t+ {b}="]
            else:
                spellings = [f"What is {a} plus {b}?", f"what is {a} plus {b}?", f"What is  {a} plus {b} ?", f"WHAT IS {a}\tPLUS {b}?\n"]
            written = [*spellings[:1] * int(rng.integers(1, 4)), *rng.permutation(spellings[1:])[: 3 if place % 3 else 1].tolist()]
            rows += [{"question": question, "answer": f"{a + b}" + "." * (question != spellings[0])} for question in written]
        a, b = numbers[-2:].tolist()
        rows += [{"question": question, "answer": answer} for question, answer in (
            (f"{a}+{b}=", f"{a + b}"), (f"{b}+{a}=", f"{a + b}"), (f"{a}-{b}=", f"{a - b}"), (f"{a}*{b}=", f"{a * b}"))]
        rows = [rows[number] for number in rng.permutation(len(rows))]
        cases.append({"rows": rows, "num_unseen": num_unseen, "seed": int(rng.integers(1, 1_000))})
    a, b, c, d, e = rng.permutation(np.arange(10, 99))[:5].tolist()
    few = ((f"{a}+{b}=", a + b), (f"{c}+{d}=", c + d), (f"{a} + {b} =", a + b), (f"{d}+{e}=", d + e), (f"{a}+{b}=", a + b))  # a case that fits a screen
    cases.append({"rows": [{"question": question, "answer": str(answer)} for question, answer in few], "num_unseen": 1, "seed": int(rng.integers(1, 1_000))})
    alike = [{"question": question, "answer": "7"} for question in ("3+4=", "3 + 4 =", "5+2=", "5+2=")]
    return [*cases, {"rows": alike, "num_unseen": 2, "seed": 1}, {"rows": alike, "num_unseen": 3, "seed": 1}]


def same_text(question: str, space: str = "none", case: bool = True) -> str:
    "What two rows of the same question have in common."
    text = {"none": "".join(question.split()), "runs": " ".join(question.split()), "ends": question.strip(), "blanks": question.replace(" ", ""), "kept": question,
            "signs": re.sub(r"\W", "", question)}[space]
    return text.lower() if case else text


def split_variant(space: str = "none", case: bool = True, drawn: str = "questions", lost: str = "", numbered: str = "first", seeded: bool = True,
                  order: str = "given", given_back: str = "rows", by: str = "question"):
    "The split with one thing done otherwise."

    def mended_split(rows: list[dict], num_unseen: int, seed: int) -> tuple[list[dict], list[dict]]:
        keys = [{"question": (key := same_text(row["question"], space, case)), "answer": row["answer"], "both": (key, row["answer"])}[by] for row in rows]
        kinds = sorted(set(keys)) if numbered == "sorted" else list(dict.fromkeys(keys))
        if num_unseen >= len(kinds):
            raise ValueError("nothing to learn from")
        rng = np.random.default_rng(seed if seeded else 0)
        if drawn == "questions":
            asked = [kinds[number] for number in rng.permutation(len(kinds))[:num_unseen]]
        else:
            picked = rng.permutation(len(rows)).tolist()
            asked = list(dict.fromkeys(keys[number] for number in picked[:num_unseen]))
            if drawn == "rows until enough":
                asked = list(dict.fromkeys(keys[number] for number in picked))[:num_unseen]
        if given_back == "keys":
            rows = [{**row, "question": key} for row, key in zip(rows, keys, strict=True)]
        places = [number for number, key in enumerate(keys) if lost != "copies" or keys.index(key) == number]
        learned, unseen = ([number for number in places if (keys[number] in asked) == there] for there in (False, True))
        if lost == "unseen copies":
            unseen = [number for number in unseen if keys.index(keys[number]) == number]
        if order == "drawn":
            unseen.sort(key=lambda number: asked.index(keys[number]))
        return [rows[number] for number in learned], [rows[number] for number in unseen]

    return mended_split


def drawn_rows(space: str = "kept", case: bool = False, leaks_go: str = "away"):
    "Rows are drawn, and what leaks is taken out afterwards: as the function was found, with a better key or put elsewhere."

    def mended_split(rows: list[dict], num_unseen: int, seed: int) -> tuple[list[dict], list[dict]]:
        keys = [same_text(row["question"], space, case) for row in rows]
        drawn = set(np.random.default_rng(seed).permutation(len(rows))[:num_unseen].tolist())
        if leaks_go == "to be learned":
            others = {key for number, key in enumerate(keys) if number not in drawn}
            drawn = {number for number in drawn if keys[number] not in others}
        asked = {keys[number] for number in drawn}
        learned = [row for row, key in zip(rows, keys, strict=True) if key not in asked]
        if not learned:
            raise ValueError("nothing to learn from")
        return learned, [row for number, row in enumerate(rows) if number in drawn]

    return mended_split


def split_by_groups(rows: list[dict], num_unseen: int, seed: int) -> tuple[list[dict], list[dict]]:
    "Row numbers gathered under each question, as a mask."
    groups = defaultdict(list)
    for number, row in enumerate(rows):
        groups[re.sub(r"\s+", "", row["question"]).upper()].append(number)
    if len(groups) <= num_unseen:
        raise ValueError(f"{num_unseen} of {len(groups)} questions")
    is_unseen, groups = np.zeros(len(rows), bool), list(groups.values())
    for number in np.random.default_rng(seed).permutation(len(groups))[:num_unseen]:
        is_unseen[groups[number]] = True
    return [rows[number] for number in np.flatnonzero(~is_unseen)], [rows[number] for number in np.flatnonzero(is_unseen)]


# 25.3: what groups would be worth

def teaching_cases(rng: np.random.Generator) -> list[Case]:
    "Questions that nobody, everybody or now and then somebody solves; groups of all tries; nothing that teaches; nothing too hard or too easy."
    cases = []
    for num_hard, num_easy, num_between, num_tries, group_size in ((2, 1, 4, 8, 4), (1, 3, 5, 9, 3), (3, 1, 4, 6, 2), (1, 2, 4, 5, 5), (3, 2, 0, 6, 3), (0, 0, 5, 7, 3)):
        num_right = [*[0] * num_hard, *[num_tries] * num_easy, *[1, num_tries - 1][:num_between], *rng.integers(1, num_tries, size=max(0, num_between - 2))]
        rewards = np.zeros((len(num_right), num_tries), int)
        for row, number in zip(rewards, rng.permutation(num_right), strict=True):
            row[rng.permutation(num_tries)[:number]] = 1
        cases.append({"rewards": rewards, "group_size": group_size})
    return [*cases, {"rewards": np.array([[1, 0, 0]]), "group_size": 4}]


def teaching_variant(share: str = "exact", over: str = "all", listed: str = "as asked", none_teaches: str = "None", cost: str = "of the mean"):
    "The worth of groups with one thing done otherwise."

    def what_teaches(rewards: np.ndarray, group_size: int) -> dict[str, float | list[int] | None]:
        num_tries = rewards.shape[1]
        if not 2 <= group_size <= num_tries:
            raise ValueError("no such groups")
        num_right = rewards.sum(1)
        if share == "of the mean":
            num_right = num_right.mean(keepdims=True)
        if share in ("exact", "some right", "some wrong", "product"):
            num_groups = math.comb(num_tries, group_size)
            all_right = np.array([math.comb(int(right), group_size) / num_groups for right in num_right])
            all_wrong = np.array([math.comb(num_tries - int(right), group_size) / num_groups for right in num_right])
        else:
            all_right, all_wrong = (num_right / num_tries) ** group_size, (1 - num_right / num_tries) ** group_size
        shares = {"some right": 1 - all_wrong, "some wrong": 1 - all_right, "product": (1 - all_right) * (1 - all_wrong)}.get(share, 1 - all_right - all_wrong)
        if share == "whole rows":
            shares = ((num_right > 0) & (num_right < num_tries)).astype(float)
        if share == "in a row":
            groups = rewards[:, : num_tries // group_size * group_size].reshape(-1, group_size)
            shares = (groups.min(1) != groups.max(1)).astype(float)
        if over == "those between" and (shares > 0).any():
            shares = shares[shares > 0]
        teaching = float(shares.mean())
        totals = rewards.sum(1)
        hard, easy = np.flatnonzero(totals == 0).tolist(), np.flatnonzero(totals == num_tries).tolist()
        if listed == "most":
            hard, easy = np.flatnonzero(2 * totals < num_tries).tolist(), np.flatnonzero(2 * totals > num_tries).tolist()
        if listed == "turned":
            hard, easy = easy, hard
        if listed == "counts":
            hard, easy = len(hard), len(easy)
        if listed == "from one":
            hard, easy = [number + 1 for number in hard], [number + 1 for number in easy]
        price = {"None": None, "0": 0.0, "infinite": math.inf}.get(none_teaches)
        if teaching > 0 or none_teaches == "division":
            price = 1 / teaching if cost == "of the mean" else float((1 / shares[shares > 0]).mean())
        return {"teaching": teaching, "too_hard": hard, "too_easy": easy, "groups_for_one": price}

    return what_teaches


def teaching_by_all_groups(rewards: np.ndarray, group_size: int) -> dict[str, float | list[int] | None]:
    "Every group there is, looked at."
    if not 1 < group_size <= len(rewards[0]):
        raise ValueError("no such groups")
    groups = [group for tries in rewards.tolist() for group in combinations(tries, group_size)]
    num_teaching = sum(len(set(group)) == 2 for group in groups)
    return {"teaching": num_teaching / len(groups), "too_hard": [number for number, tries in enumerate(rewards) if not any(tries)],
            "too_easy": [number for number, tries in enumerate(rewards) if all(tries)], "groups_for_one": len(groups) / num_teaching if num_teaching else None}


def teaching_try_by_try(rewards: np.ndarray, group_size: int) -> dict[str, float | list[int] | None]:
    "The chance that each further try is like those before it."
    num_questions, num_tries = rewards.shape
    if not 1 < group_size <= num_tries:
        raise ValueError("no such groups")
    alike = np.zeros(num_questions)
    for num_same in (rewards.sum(1), num_tries - rewards.sum(1)):
        alike += np.prod([(num_same - drawn).clip(0) / (num_tries - drawn) for drawn in range(group_size)], axis=0)
    teaching = 1 - float(alike.mean())
    return {"teaching": teaching, "too_hard": np.flatnonzero(rewards.max(1) == 0), "too_easy": np.flatnonzero(rewards.min(1) == 1),
            "groups_for_one": 1 / teaching if teaching > 0 else None}


CHECKS = (
    Check(
        id="report.updates_to",
        name="updates_to",
        builds="posttraining.report.updates_to",
        cases=updates_cases,
        reference=updates_by_slope,
        right=(updates_variant(), updates_by_arrays, updates_by_slope),
        tolerance=1e-9,
        wrong=(
            Wrong(updates_variant(offset=0),
                  "You count with the number of the last update, and updates are numbered from 0: after the one with step 9, ten were made. At the start it is −1, and none was."),
            Wrong(updates_variant(between="after"),
                  "You answer with the look that found the score there. It was reached at some time since the look before: take the straight line between the two."),
            Wrong(updates_variant(between="before"),
                  "You answer with the last look before the score was there. It was reached on the way from there to the next one: take the straight line between the two."),
            Wrong(updates_variant(between="middle"),
                  "You take the middle between two looks, wherever the scores are. How far `share` lies from the one score to the other is how far the update lies."),
            Wrong(updates_variant(between="turned"),
                  "Your part of the way is measured from the wrong end: a share just above the score before is reached just after the look before."),
            Wrong(updates_variant(between="looks"),
                  "You count looks, and the updates between two of them are not one, nor always equally many. Each look says after which update it was taken."),
            Wrong(updates_variant(which="last"),
                  "You answer with the last time that the score came up to the share. Curves go up and down: the first time was asked for, so stop there."),
            Wrong(updates_variant(never="0"),
                  "A score that never gets there is reached after 0 updates with you, which makes the worst pipeline the fastest. Never is `None`."),
            Wrong(updates_variant(never="last"),
                  "A score that never gets there is reached at the last look with you. Nobody knows how long it would have taken, if ever: that is `None`."),
            Wrong(updates_variant(crossing="pairs", start=False),
                  "You ask each pair of looks whether the share lies between them, and divide by zero where both are exactly there. "
                  "Look at the start first: what is there already needs no line."),
            Wrong(updates_variant(start=False),
                  "You look at pairs only, so a score that is there from the start is missed, or found only when it comes back. The first look has none before it, and counts all the same."),
            Wrong(updates_variant(first="zero"),
                  "A first look that is there already was reached after 0 updates with you. Not every run is looked at from the start: answer the number of updates made until then."),
            Wrong(updates_variant(crossing="either way", start=False),
                  "You count every crossing, downwards too: a score that begins above the share has reached it at the start, not when it falls below."),
            Wrong(updates_variant(crossing="beyond"),
                  "You wait until the score is above the share. One that equals it has reached it."),
            Wrong(updates_variant(reads_metric=False),
                  "You read the score \"exact\" whatever `metric` says. Other stages are scored by other names."),
            Wrong(updates_variant(scores_are="best so far"),
                  "You draw the line from the best score so far. Where the curve dipped just before it rose, the line begins at the look before, however low that was."),
            Wrong(updates_by_interp,
                  "You let one call interpolate over all scores at once. That asks for scores that only rise, and real ones go up and down: find the first look that is there, and interpolate in that piece alone."),
            Wrong(updates_variant(whole=True),
                  "You cut the answer to a whole number. It may lie between two updates: leave it a float."),
        ),
    ),
    Check(
        id="pipeline.split",
        name="mended_split",
        cases=split_cases,
        reference=split_by_groups,
        right=(split_variant(), split_by_groups),
        wrong=(
            Wrong(drawn_rows(),
                  "This is still the function as you found it: three of its promises are broken."),
            Wrong(drawn_rows(space="none", case=True),
                  "Other spellings are found now, and thrown away. Rows are still drawn, not questions, and what asks the same as a drawn row is in neither list."),
            Wrong(drawn_rows(space="none", case=True, leaks_go="to be learned"),
                  "You take out of the exam whatever is learned from as well. Nothing leaks, but the exam has fewer questions than were asked for, and those that occur once alone."),
            Wrong(split_variant(space="kept", case=False),
                  "Copies stay together now. But the same question with other blanks or capitals is another question to you, so it still stands on both sides."),
            Wrong(split_variant(case=False),
                  "White space makes no difference any more; capital letters still do, so a question that was shouted leaks."),
            Wrong(split_variant(space="kept"),
                  "Capital letters make no difference any more; white space still does, so `27 + 15 =` leaks into what is learned though `27+15=` is unseen."),
            Wrong(split_variant(space="runs"),
                  "Several blanks become one with you, and one is still one too many: `27 + 15 =` and `27+15=` differ in white space alone, so they are the same question."),
            Wrong(split_variant(space="ends"),
                  "You remove the white space at both ends. That in the middle makes two questions of one as well."),
            Wrong(split_variant(space="blanks"),
                  "You remove blanks. Tabs and line ends are white space too, and a file has plenty of them."),
            Wrong(split_variant(space="signs"),
                  "You remove signs along with the white space, so that `27+15=` and `27-15=` are the same question. Two that differ in anything but white space and capitals are two."),
            Wrong(split_variant(by="answer"),
                  "You tell questions apart by their answers. Different questions may have the same answer, and it is the question that must not have been seen."),
            Wrong(split_variant(by="both"),
                  "A question with another answer is another one with you, so it still stands on both sides. Two rows ask the same if their questions say so, whatever is answered."),
            Wrong(split_variant(drawn="rows"),
                  "You draw rows and then take all that ask the same. A question that occurs often is drawn more often, even twice, and then the exam has fewer questions than `num_unseen`."),
            Wrong(split_variant(drawn="rows until enough"),
                  "You go through shuffled rows until you have enough questions, so one that occurs often is likelier to be in the exam. Draw among the different questions, each numbered once."),
            Wrong(split_variant(lost="copies"),
                  "You keep one row of each question and drop the others. That is cleaning, and may be wise, but a split loses nothing: every row goes to one of the two sides."),
            Wrong(split_variant(lost="unseen copies"),
                  "Of an unseen question you keep one row, and its other rows are in neither list. All rows of a drawn question are unseen."),
            Wrong(split_variant(seeded=False),
                  "Your draw does not depend on `seed`: every seed must give its own split, and the same seed the same one."),
            Wrong(split_variant(numbered="sorted"),
                  "You number the questions by the alphabet. They are numbered in the order in which they first appear."),
            Wrong(split_variant(order="drawn"),
                  "The sides are right, but the unseen rows come in the order of the draw. Both lists keep the order of the rows."),
            Wrong(split_variant(given_back="keys"),
                  "The sides are right, but you give back rows with the question rewritten. What makes two questions equal is for comparing only: the model is to read them as they were."),
        ),
    ),
    Check(
        id="pipeline.what_teaches",
        name="what_teaches",
        cases=teaching_cases,
        reference=teaching_by_all_groups,
        right=(teaching_variant(), teaching_by_all_groups, teaching_try_by_try),
        tolerance=1e-9,
        wrong=(
            Wrong(teaching_variant(share="of the mean"),
                  "You average the questions first and ask what a mean question would teach. Half solved may mean that every question teaches, or that none does: "
                  "work out the share of each question, and average last."),
            Wrong(teaching_variant(share="powers"),
                  "You take powers of each question's share, as if a try were put back before the next one is drawn. A group has *different* tries of the table: count the groups."),
            Wrong(teaching_variant(share="some right"),
                  "You count the groups with a right try, those that are all right among them. Without a wrong try there is no difference, and nothing to learn."),
            Wrong(teaching_variant(share="some wrong"),
                  "You count the groups with a wrong try, those that are all wrong among them. Without a right try there is no difference, and nothing to learn."),
            Wrong(teaching_variant(share="product"),
                  "You multiply the share that is not all right by the share that is not all wrong, as if the one said nothing about the other. A group is never both, so the two "
                  "bad shares add up."),
            Wrong(teaching_variant(share="whole rows"),
                  "You take all tries of a question for one group, whatever `group_size` is. A smaller group often misses the only right try."),
            Wrong(teaching_variant(share="in a row"),
                  "You cut the tries into groups in the order of the table, which is one draw of many, and another order would give another number. The average over all draws is asked for."),
            Wrong(teaching_variant(over="those between"),
                  "You average over the questions that can teach at all. The others are tried and paid for as well: every question has as many groups as any other."),
            Wrong(teaching_variant(listed="turned"),
                  "The share is right, but hard and easy have changed places: too hard is what *no* try gets right."),
            Wrong(teaching_variant(listed="most"),
                  "You call hard what fails more often than not. One right try in eight can be enough for a group to teach: too hard is only what no try gets right, too easy what every try does."),
            Wrong(teaching_variant(listed="counts"),
                  "You say how many questions are too hard or too easy. Whoever wants to leave them out needs their numbers."),
            Wrong(teaching_variant(listed="from one"),
                  "Your questions are numbered from 1: count from 0, as rows are."),
            Wrong(teaching_variant(none_teaches="division"),
                  "You divide by zero where no group teaches. No number of groups is enough then: answer `None`."),
            Wrong(teaching_variant(none_teaches="0"),
                  "Where nothing teaches, one that teaches costs 0 groups with you, as if it were free. It cannot be had at all: answer `None`."),
            Wrong(teaching_variant(none_teaches="infinite"),
                  "Where no group teaches, the price is infinite with you, which a report cannot hold. Answer `None`."),
            Wrong(teaching_variant(cost="mean of each"),
                  "You average the price over the questions. The groups that are paid for come from all questions: the price of one that teaches is one divided by the share that does."),
        ),
    ),
)
