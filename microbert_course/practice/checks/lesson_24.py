"""Checks of the exercises on evaluation."""

from collections import Counter

import numpy as np
import torch

from microbert_course.posttraining.evaluation import Interval
from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.uses import lesson_24 as uses

# 24.1: the interval

def interval_cases(rng: np.random.Generator) -> list[Case]:
    "Scores of one, two and three columns, several sizes, confidences and seeds; then what must be refused."
    cases = []
    for metric, num_texts, confidence in (("mean", 9, 0.8), ("accuracy", 31, 0.9), ("per token", 17, 0.95), ("difference", 24, 0.5)):
        columns = {"mean": lambda n: [rng.exponential(size=n)], "per token": lambda n: [rng.exponential(size=n) * 90, rng.integers(5, 60, size=n)],
                   "accuracy": lambda n: list(rng.integers(3, size=(2, n))), "difference": lambda n: list(rng.integers(2, size=(3, n)))}[metric](num_texts)
        cases.append({"metric": metric, "columns": columns, "num_resamples": int(rng.integers(150, 250)), "confidence": confidence,
                      "seed": int(rng.integers(1, 1_000))})
    return [*cases, {"metric": "mean", "columns": [np.zeros(0)], "num_resamples": 10, "confidence": 0.9, "seed": 1},
            {"metric": "accuracy", "columns": [np.zeros(3, int), np.zeros(2, int)], "num_resamples": 10, "confidence": 0.9, "seed": 1}]


def interval_variant(drawn: str = "together", ends: str = "both", around: str = "score", seeded: bool = True, ways: str = "percentile",
                     size: float = 1.0, loops: bool = False, method: str = "linear", kind: type = float, always: float = 0.0):
    "The bootstrap with one thing done otherwise."

    def bootstrap(metric, *columns, num_resamples=2_000, confidence=0.95, seed=0):
        columns = [np.asarray(column) for column in columns]
        if not columns or len({column.shape for column in columns}) > 1 or columns[0].ndim != 1 or not len(columns[0]):
            raise ValueError("no such columns")
        num_texts = len(columns[0])
        rng = np.random.default_rng(seed if seeded else 0)
        draws = rng.integers(num_texts, size=(num_resamples, num_texts))[:, : max(1, int(size * num_texts))]
        if drawn == "once":
            draws = np.argsort(rng.random((num_resamples, num_texts)), axis=-1)
        if loops:
            values = np.array([metric(*(column[draw] for column in columns)) for draw in draws])
        elif drawn == "apart":
            values = metric(*(column[rng.permutation(draws) if number else draws] for number, column in enumerate(columns)))
        else:
            values = metric(*(column[draws] for column in columns))
        value = float(values.mean() if around == "resamples" else metric(*columns))
        confidence = always or confidence
        share = {"both": (1 - confidence) / 2, "one": 1 - confidence}[ends]
        low, high = np.quantile(values, [share, 1 - share], method=method)
        if ways == "normal":
            low, high = (value + side * 1.96 * values.std() for side in (-1, 1))
        if ways == "mirrored":
            low, high = 2 * value - high, 2 * value - low
        if ways == "error":
            low, high = (value + side * 1.96 * values.std() / np.sqrt(num_resamples) for side in (-1, 1))
        return Interval(value, kind(low), kind(high))

    return bootstrap


def sorted_interval(metric, *columns, num_resamples=2_000, confidence=0.95, seed=0):
    "All scores in a row, cut off at the ends, between two of them where the place is no whole number."
    columns = np.array(columns, dtype=object if len({len(column) for column in columns}) > 1 else None)
    if columns.dtype == object or columns.size == 0:
        raise ValueError("give columns of one length")
    rng, scores = np.random.default_rng(seed), []
    for _ in range(num_resamples):
        draw = rng.integers(columns.shape[1], size=columns.shape[1])
        scores.append(float(metric(*columns[:, draw])))
    scores.sort()
    places = [(num_resamples - 1) * share for share in ((1 - confidence) / 2, (1 + confidence) / 2)]
    low, high = (scores[int(place)] + (place - int(place)) * (scores[min(int(place) + 1, num_resamples - 1)] - scores[int(place)]) for place in places)
    return Interval(float(metric(*columns)), low, high)


# 24.2: macro F1

def f1_cases(rng: np.random.Generator) -> list[Case]:
    "Labels that are never found, that are only said, that are missing from the row; few right, none right, all right."
    cases = []
    for num_texts in (11, 17, 24):
        names = np.sort(rng.permutation(9)[:6])  # numbers with gaps: nobody has the others
        labels = rng.choice(names[:4], size=num_texts, p=[0.4, 0.3, 0.2, 0.1])
        labels[:4] = names[:4]
        said = np.where(rng.random(num_texts) < 0.6, labels, rng.choice(names[:3], size=num_texts))
        said[:3] = names[[0, 1, 0]]
        said[labels == names[3]] = names[4]  # the fourth is never found, the fifth and the sixth are said and never true
        said[labels == names[2]] = np.where(np.arange((labels == names[2]).sum()) % 2, names[2], names[0])
        said[4:8], labels[4:8] = names[[1, 1, 1, 5]], names[[1, 1, 0, 0]]
        cases.append({"labels": labels, "predictions": said})
    return [*cases, {"labels": np.array([0, 1, 1]), "predictions": np.array([1, 0, 0])}, {"labels": np.array([2, 5, 5]), "predictions": np.array([2, 5, 5])}]


def f1_variant(labels_are: str = "either", unfound: str = "zero", mean: str = "harmonic", over: str = "labels"):
    "Macro F1 with one thing done otherwise."

    def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
        found = {"either": {*labels.tolist(), *predictions.tolist()}, "true": set(labels.tolist()), "said": set(predictions.tolist()),
                 "all": set(range(int(max(labels.max(), predictions.max())) + 1))}[labels_are]
        scores, weights, parts = [], [], []
        for label in sorted(found):
            right = int(((labels == label) & (predictions == label)).sum())
            called, are = int((predictions == label).sum()), int((labels == label).sum())
            if right == 0 and unfound == "skipped":
                continue
            precision, recall = right / max(called, 1), right / max(are, 1)
            parts.append((precision, recall))
            scores.append((precision + recall) / 2 if mean == "plain" else 2 * right / max(called + are, 1))
            weights.append(are)
        if not scores:
            return 0.0
        if mean == "late":
            precision, recall = np.mean(parts, axis=0)
            return float(2 * precision * recall / max(precision + recall, 1e-30))
        if over == "texts":
            return float(np.average(scores, weights=weights))
        if over == "none":
            return float((labels == predictions).mean())
        return float(np.mean(scores))

    return macro_f1


def counted_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    "Counters of what is, what is said, and what is both."
    are, called = Counter(labels.tolist()), Counter(predictions.tolist())
    right = Counter(label for label, said in zip(labels.tolist(), predictions.tolist(), strict=True) if label == said)
    return sum(2 * right[label] / (are[label] + called[label]) for label in are | called) / len(are | called)


def torch_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    "From a confusion matrix over the labels that there are."
    names, places = np.unique(np.concatenate([labels, predictions]), return_inverse=True)
    truth, said = torch.from_numpy(places).chunk(2)
    matrix = torch.zeros(len(names), len(names), dtype=torch.double).index_put_((truth, said), torch.ones(len(labels), dtype=torch.double), accumulate=True)
    return (2 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1))).mean().item()


# 24.3: how far it is off

def _answered(rng: np.random.Generator, num_texts: int, num_labels: int, num_bins: int, sharpness: float) -> Case:
    logits = rng.standard_normal((num_texts, num_labels))
    labels = np.where(rng.random(num_texts) < 0.6, logits.argmax(-1), rng.integers(num_labels, size=num_texts))
    return {"logits": sharpness * logits + rng.uniform(1, 5), "labels": labels, "num_bins": num_bins}


def calibration_cases(rng: np.random.Generator) -> list[Case]:
    "Models that are too sure and not sure enough, two to six labels, texts in the first bin, bins of one text and of none."
    cases = []
    for num_texts, num_labels, num_bins, sharpness in ((30, 2, 16, 1.0), (41, 6, 4, 0.4), (23, 5, 40, 3.5), (57, 4, 3, 1.5)):
        case = _answered(rng, num_texts, num_labels, num_bins, sharpness)
        while abs(sorted_calibration(**case)["overconfidence"]) < 0.01:  # means that are nearly equal leave little but rounding
            case = _answered(rng, num_texts, num_labels, num_bins, sharpness)
        cases.append(case)
    return cases


def calibration_variant(of: str = "said", weight: str = "texts", gap: str = "size", edges: str = "equal", sign: int = 1, softmax: bool = True,
                        sure: str = "mean", first: int = 0):
    "The two measures with one thing done otherwise."

    def calibration(logits: np.ndarray, labels: np.ndarray, num_bins: int) -> dict[str, float]:
        odds = np.exp(logits - logits.max(-1, keepdims=True)) if softmax else 1 / (1 + np.exp(-logits))
        probabilities = odds / odds.sum(-1, keepdims=True) if softmax else odds
        said = probabilities.argmax(-1)
        confidence = probabilities.max(-1) if of == "said" else probabilities[np.arange(len(labels)), labels]
        right = (said == labels).astype(float)
        if edges == "equal":
            bins = np.ceil(confidence * num_bins).astype(int) - 1
        elif edges == "filled":
            bins = np.argsort(np.argsort(confidence)) * num_bins // len(confidence)
        else:
            bins = np.ceil((confidence - confidence.min()) / np.ptp(confidence) * num_bins).astype(int).clip(1) - 1
        gaps, counts = [], []
        for number in range(first, num_bins):
            inside = bins == number
            if inside.any():
                difference = right[inside].mean() - (confidence[inside].mean() if sure == "mean" else (number + 0.5) / num_bins)
                gaps.append({"size": abs(difference), "signed": difference, "square": difference**2}[gap])
                counts.append(inside.sum())
        error = {"texts": np.dot(gaps, counts) / len(labels), "bins": np.mean(gaps), "all bins": np.sum(gaps) / num_bins, "worst": np.max(gaps)}[weight]
        return {"calibration_error": float(error), "overconfidence": float(sign * (confidence.mean() - right.mean()))}

    return calibration


def summed_calibration(logits: np.ndarray, labels: np.ndarray, num_bins: int) -> dict[str, float]:
    "Sums of a histogram: no mean of a bin is ever taken."
    confidence, said = torch.from_numpy(logits).softmax(-1).max(-1)
    excess = confidence.numpy() - (said.numpy() == labels)
    sums = np.histogram(confidence.numpy(), bins=num_bins, range=(0, 1), weights=excess)[0]
    return {"calibration_error": float(np.abs(sums).sum() / len(labels)), "overconfidence": float(excess.mean())}


def sorted_calibration(logits: np.ndarray, labels: np.ndarray, num_bins: int) -> dict[str, float]:
    "Texts in the order of confidence, cut at the edges of the bins."
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    order = np.argsort(probabilities.max(-1))
    confidence, right = probabilities.max(-1)[order], (probabilities.argmax(-1) == labels)[order]
    cuts = np.searchsorted(confidence, np.arange(1, num_bins) / num_bins, side="right")
    gaps = [abs(float(part.sum()) - float(hits.sum())) for part, hits in zip(np.split(confidence, cuts), np.split(right, cuts), strict=True)]
    return {"calibration_error": sum(gaps) / len(labels), "overconfidence": float(confidence.mean() - right.mean())}


def single_calibration(logits: np.ndarray, labels: np.ndarray, num_bins: int) -> dict[str, float]:
    "In float32."
    return summed_calibration(logits.astype(np.float32), labels, num_bins)


CHECKS = (
    Check(
        id="evaluation.bootstrap",
        name="bootstrap",
        builds="posttraining.evaluation.bootstrap",
        cases=interval_cases,
        use=uses.interval,
        reference=sorted_interval,
        right=(interval_variant(), interval_variant(loops=True), sorted_interval),
        tolerance=1e-9,
        wrong=(
            Wrong(interval_variant(drawn="once"),
                  "You draw without replacement: every resample holds the same texts in another order, and the interval has no width, or almost none. "
                  "A text must be able to come twice."),
            Wrong(interval_variant(drawn="apart"),
                  "Each column is drawn by itself, so that a text's label meets another text's answer. One draw of texts serves all columns."),
            Wrong(interval_variant(ends="one"),
                  "You cut off 1 − confidence at *each* end. Both ends together may lose that much, so each loses half."),
            Wrong(interval_variant(always=0.95),
                  "Your interval holds 95 % of the resampled scores whatever `confidence` says."),
            Wrong(interval_variant(method="nearest"),
                  "You take the resampled score that is nearest to the place of the cut. Between two scores, interpolate as `np.quantile` does."),
            Wrong(interval_variant(kind=np.float64),
                  "The numbers are right, and NumPy's own: make a plain `float` of each before it goes into the `Interval`."),
            Wrong(interval_variant(around="resamples"),
                  "`value` is the mean of the resampled scores. The score that is reported is that of the texts themselves; the resamples "
                  "only say how much it may move."),
            Wrong(interval_variant(ways="normal"),
                  "You take 1.96 standard deviations on either side. That is right only for a bell curve and for 95 %: the percentiles of the scores were asked "
                  "for, which may be lopsided."),
            Wrong(interval_variant(ways="error"),
                  "You divide the spread by the root of the number of resamples: with enough of them your interval would vanish, though "
                  "no text was added. The spread of the resampled scores *is* the uncertainty."),
            Wrong(interval_variant(ways="mirrored"),
                  "Your interval is mirrored at the score, which is another kind (the basic bootstrap). The percentiles themselves are the ends here."),
            Wrong(interval_variant(seeded=False),
                  "Your draws do not depend on `seed`: every seed must give its own resamples, and the same seed the same ones."),
            Wrong(interval_variant(size=0.5),
                  "Your resamples are smaller than the test set, so they vary more than it would: draw as many texts as there are."),
        ),
    ),
    Check(
        id="evaluation.macro_f1",
        name="mended_macro_f1",
        cases=f1_cases,
        reference=counted_f1,
        right=(f1_variant(), counted_f1, torch_f1),
        wrong=(
            Wrong(f1_variant(labels_are="true", unfound="skipped", mean="plain"),
                  "This answers what the function that you found answers: labels without a right text are skipped, those that are only said among them, "
                  "and precision and recall have a plain mean."),
            Wrong(f1_variant(labels_are="true", mean="plain"),
                  "Labels that are never found count now. Those that are only ever *said* are still left out, and precision and recall still have a plain mean."),
            Wrong(f1_variant(unfound="skipped"),
                  "A label of which no text is found is skipped. It has an F1 of 0, and leaving it out hides just what this score is for."),
            Wrong(f1_variant(labels_are="true"),
                  "You go through the labels of the truth alone. A label that is said and never true is a mistake of the model as well: its F1 is 0 and counts."),
            Wrong(f1_variant(labels_are="said"),
                  "You go through the labels that are said alone: one that exists and is never said has the F1 of 0, and counts."),
            Wrong(f1_variant(mean="plain"),
                  "The plain mean of precision and recall forgives a model that has much of the one and nothing of the other. F1 is the harmonic mean: 2 · right / (called + are)."),
            Wrong(f1_variant(mean="late"),
                  "You average precision and recall over the labels first and join them afterwards. Each label has its own F1; the mean comes last."),
            Wrong(f1_variant(labels_are="all"),
                  "Numbers below the largest label that no text has and nobody says count as 0 with you. They are no labels here: leave them out."),
            Wrong(f1_variant(over="texts"),
                  "You weigh each label by its texts, so the frequent ones decide. *Macro* means that every label counts alike."),
            Wrong(f1_variant(over="none"),
                  "This is accuracy: counted over all labels together, F1 is the share that is right. Macro F1 is the mean over labels."),
        ),
    ),
    Check(
        id="evaluation.calibration",
        name="calibration",
        cases=calibration_cases,
        reference=sorted_calibration,
        right=(calibration_variant(), summed_calibration, sorted_calibration, single_calibration),
        tolerance=1e-4,  # room for float32
        wrong=(
            Wrong(calibration_variant(weight="bins"),
                  "Every bin counts alike with you, one with a single text as much as one with a thousand. Weigh the gaps by their texts."),
            Wrong(calibration_variant(weight="all bins"),
                  "You sum the gaps and divide by the number of bins, empty ones too. Weigh the gaps by their texts."),
            Wrong(calibration_variant(weight="worst"),
                  "This is the largest gap, the *maximum* calibration error. The expected one is the mean over the texts."),
            Wrong(calibration_variant(sure="middle"),
                  "You take the middle of each bin for its confidence. The mean confidence of the texts in it is asked for."),
            Wrong(calibration_variant(first=1),
                  "Your first bin, the one that begins at 0, is left out. With more labels than bins, say, the most probable one can be that improbable."),
            Wrong(calibration_variant(gap="signed"),
                  "Your gaps keep their sign, so a bin that is too sure and one that is not sure enough cancel. Take the size of each gap before you add."),
            Wrong(calibration_variant(gap="square"),
                  "You square the gaps, which makes small ones vanish. Their size is asked for."),
            Wrong(calibration_variant(of="truth"),
                  "You look at the probability of the *true* label. How sure a model is, is the probability of what it *answers*, whether that is right or not."),
            Wrong(calibration_variant(edges="filled"),
                  "Your bins hold equally many texts. Here they are equally wide, from 0 to 1."),
            Wrong(calibration_variant(edges="stretched"),
                  "Your bins begin at the smallest confidence and end at the largest. They are to reach from 0 to 1, whatever the model says, or two models cannot be compared."),
            Wrong(calibration_variant(sign=-1),
                  "The calibration error is right; the other sign is turned round: overconfidence is above 0 for a model that is surer than it is right."),
            Wrong(calibration_variant(softmax=False),
                  "You squash each score by itself, so that the probabilities of a text do not add up to 1. With one label a text, softmax it is."),
        ),
    ),
)
