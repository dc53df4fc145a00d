"""Checks of the exercises on fine-tuning for classification."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from microbert_course.errors import CourseError
from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_17 as uses

# 17.1: what is trained

def choice_cases(rng: np.random.Generator) -> list[Case]:
    "Every choice alone and after others, on models of several depths, training or not; then what must be refused."
    orders = [["classifier"], ["last_2"], ["last_3"], ["all"], rng.permutation(["classifier", "last_2", "last_3", "all"]).tolist(), ["classifier", "all", "last_2"]]
    depths = rng.permutation([3, 4, 5, 6])
    cases = [{"num_layers": int(depths[number % 4]), "choices": choices, "is_training": number != 1} for number, choices in enumerate(orders)]
    return [*cases, {"num_layers": 2, "choices": ["last_2"], "is_training": True}, *(
        {"num_layers": num_layers, "choices": [layers], "is_training": True}
        for num_layers, layers in ((4, "last_4"), (2, "last_3"), (4, "last_1"), (4, "head"), (4, "last_two")))]


def lets_through(_, case: Case) -> bool:
    "Whether the case is one to refuse."
    return not set(case["choices"]) <= {"classifier", "last_2", "last_3", "all"} or "last_3" in case["choices"] and case["num_layers"] < 3


def choice_variant(from_top: bool | str = True, pooler: str = "learns", embeddings: str = "frozen", unfreezes: bool = True, off_by: int = 0,
                   refuses: str = "by name", head_in_all: bool = True):
    "The choice with one thing done otherwise."

    def train_only(model, layers):
        blocks = list(model.bert.blocks)
        number = {"classifier": 0, "last_2": 2, "last_3": 3, "all": len(blocks)}.get(layers)
        if number is None and refuses == "what is read":
            number = int(layers.removeprefix("last_"))
        if refuses != "nothing" and (number is None or number > len(blocks)):
            raise CourseError(f"layers is {layers!r}")
        number = min(len(blocks), number or 0)
        if unfreezes:
            model.requires_grad_(True)
        if layers != "all":
            kept = len(blocks) - number - off_by if number else 0 if from_top == "but the last" else len(blocks)
            frozen = blocks[:kept] if from_top else blocks[len(blocks) - kept:]
            for part in (*frozen, *([model.bert.embeddings] if embeddings == "frozen" else []), *([model.bert.pooler] if pooler == "frozen" else [])):
                part.requires_grad_(False)
        return model.train(model.training)

    return train_only


def choice_by_name(model, layers):
    "Every parameter asks its own name."
    depth = len(model.bert.blocks)
    first = {"all": -1, "last_2": depth - 2, "last_3": depth - 3, "classifier": depth}
    if layers not in first or (layers != "all" and first[layers] < 0):
        raise CourseError(f"layers is {layers!r}: there is no such choice here")
    for name, parameter in model.named_parameters():
        words = name.split(".")
        height = int(words[2]) if words[1] == "blocks" else -1 if words[1] == "embeddings" else depth
        parameter.requires_grad = height >= first[layers]
    return model.train(model.training)


def choice_from_nothing(model, layers):
    "Freeze all, then wake what is to learn."
    if layers not in ("classifier", "last_2", "last_3", "all") or layers[5:].isdigit() and int(layers[5:]) > len(model.bert.blocks):
        raise CourseError(f"layers is {layers!r}")
    awake = [model] if layers == "all" else [model.classifier, model.bert.pooler, *(list(model.bert.blocks)[-int(layers[5:]):] if layers[5:].isdigit() else [])]
    for parameter in model.parameters():
        parameter.requires_grad = False
    for part in awake:
        part.requires_grad_(True)
    return model.train(model.training)


# 17.2: a loss that hears the rare label

def loss_cases(rng: np.random.Generator) -> list[Case]:
    "Batches that look nothing like the training set, of several sizes and numbers of labels."
    cases = []
    for texts, labels, dtype in ((5, 2, torch.float32), (7, 3, torch.float64), (4, 4, torch.float32), (9, 5, torch.float64)):
        counts = torch.from_numpy(rng.permutation(rng.integers(3, 9, size=labels) * 10 ** np.arange(labels).clip(max=3)))
        truth = torch.from_numpy(rng.integers(labels, size=texts))
        truth[0] = counts.argmin()
        cases.append({"logits": 2 * tensor(rng, texts, labels, dtype=dtype), "labels": truth, "counts": counts})
    return cases


def loss_variant(weight: str = "inverse", divisor: str = "texts", counted: str = "training", kept: str = "labels", detached: bool = False):
    "The weighted loss with one thing done otherwise."

    def weighted_loss(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
        if counted == "batch":
            counts = torch.bincount(labels, minlength=len(counts)).clamp(min=1)
        share = counts.to(logits.dtype) / counts.sum()
        weights = {"inverse": 1 / (len(counts) * share), "share": share, "no labels": 1 / share, "root": (1 / (len(counts) * share)).sqrt(),
                   "rest": 1 - share, "mean of labels": (1 / share) / (1 / share).mean(), "bare": 1 / counts, "one": torch.ones_like(share)}[weight]
        losses = F.cross_entropy(logits, labels, reduction="none")
        picked = weights[labels] if kept == "labels" else weights[logits.argmax(-1)]
        total = (picked * (losses.detach() if detached else losses)).sum()
        return total / {"texts": len(labels), "weights": picked.detach().sum(), "one": 1}[divisor]

    return weighted_loss


def torch_loss(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    "Torch weighs; the sum is divided by the texts."
    weights = (counts.sum() / (len(counts) * counts)).to(logits.dtype)
    return F.cross_entropy(logits, labels, weights, reduction="sum") / len(labels)


def loss_by_texts(logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    "Text by text, from the probabilities."
    total = 0.0
    for row, label in zip(logits, labels.tolist(), strict=True):
        total = total - row.log_softmax(0)[label] * (counts.double().mean() / counts[label]).to(row.dtype)
    return total / len(labels)


# 17.3: when to stop

def stop_cases(rng: np.random.Generator) -> list[Case]:
    "Curves that rise, fall, stand still and come back, scores that repeat, that begin at 0 or hardly rise, and patience of 1 to 4."
    cases = []
    for patience in (1, 2, 3, 4, 2, 3):
        rise = np.sort(rng.integers(50, 80, size=rng.integers(2, 5)))
        fall = rise[-1] - rng.integers(0, 9, size=rng.integers(patience - 1, patience + 4))
        again = rng.integers(70, 95, size=rng.integers(1, 5))
        cases.append({"scores": [round(float(score) / 100, 2) for score in (*rise, *fall, *again)], "patience": patience})
    best = float(rng.integers(60, 70)) / 100
    dip = [best, best - 0.05, best - 0.03, best, best - 0.01, best + 0.1]  # comes back to the best, no higher
    zigzag = [best, best - 0.1, best - 0.05, best + 0.02, best - 0.1, best - 0.01, best - 0.05, best + 0.2]
    from_nothing = [0.0, 0.0, *(round(float(score), 2) for score in rng.uniform(0.3, 0.9, 3))]
    hardly = [round(best + look / 10_000, 4) for look in (0, 1, 2, 2, 3, 1)]
    return [*cases, {"scores": from_nothing, "patience": 2}, {"scores": hardly, "patience": 2}, {"scores": [round(score, 2) for score in dip], "patience": 3}, {"scores": [round(score, 2) for score in zigzag], "patience": 3},
            {"scores": [best], "patience": 1}, {"scores": [round(best + 0.01 * look, 2) for look in range(5)], "patience": 2}]


def stop_variant(against: str = "best", ties: bool = False, in_a_row: bool = True, late: int = 0, told: str = "first best", first: int = 0, sees: str = "past",
                 looks_from: int = 1, begins: float | None = None, margin: float = 0.0):
    "Early stopping with one thing done otherwise."

    def early_stop(scores: list[float], patience: int) -> tuple[int, int]:
        best, best_look, waited, looks = begins, 0, 0, 0
        for look, score in enumerate(scores):
            looks = look + looks_from
            rival = best if against == "best" or look == 0 else scores[look - 1]
            if rival is None or score > rival + margin or (ties and score == rival):
                waited = 0 if in_a_row else waited
            else:
                waited += 1
            if best is None or score > best + margin or (ties and score == best):
                best, best_look = score, look
            if waited >= patience + late:
                break
        if sees == "future":
            best_look = scores.index(max(scores))
        return (looks - 1 if told == "last" else best_look) + first, looks

    return early_stop


def early_stop_by_slices(scores: list[float], patience: int) -> tuple[int, int]:
    "For each length in turn: where is its best look, and how long ago was it?"
    for looks in range(1, len(scores) + 1):
        best = scores.index(max(scores[:looks]))
        if looks - 1 - best >= patience:
            return best, looks
    return best, looks


def early_stop_with_numpy(scores: list[float], patience: int) -> tuple[int, int]:
    "Running maxima; the first gap that is long enough."
    scores = np.array(scores)
    is_new = np.concatenate([[True], scores[1:] > np.maximum.accumulate(scores)[:-1]])
    places = np.maximum.accumulate(np.where(is_new, np.arange(len(scores)), 0))
    tired = np.flatnonzero(np.arange(len(scores)) - places >= patience)
    last = int(tired[0]) if len(tired) else len(scores) - 1
    return int(places[last]), last + 1


CHECKS = (
    Check(
        id="classification.train_only",
        name="train_only",
        builds="posttraining.classification.train_only",
        cases=choice_cases,
        use=uses.trained,
        reference=choice_by_name,
        right=(choice_variant(), choice_from_nothing),
        wrong=(
            Wrong(choice_variant(from_top=False),
                  "You train the first blocks and freeze the last ones. The first ones know about words, whatever the task; it is the last ones that have to turn to it."),
            Wrong(choice_variant(pooler="frozen"),
                  "The pooler is frozen. It is a part of the head: after a pretraining without it, it is fresh, and a frozen fresh map passes on noise."),
            Wrong(choice_variant(embeddings="learns"),
                  "The embeddings learn although blocks above them are frozen. Then the way back goes through the whole model again, and nothing is saved."),
            Wrong(choice_variant(unfreezes=False),
                  "What one choice froze stays frozen in the next: after `classifier`, `all` trains the head alone. Begin by letting everything learn."),
            Wrong(choice_variant(off_by=1),
                  "One block too many learns: `last_2` is two blocks and the head."),
            Wrong(choice_variant(off_by=-1),
                  "One block too few learns: `last_2` is two blocks and the head."),
            Wrong(choice_variant(from_top="but the last"),
                  "With `classifier`, all blocks learn, and none should. A slice with minus the number of blocks? -0 is 0: up to it there is nothing, from it "
                  "everything."),
            Wrong(choice_variant(refuses="what is read"),
                  "You read a number out of `layers`, whatever stands there: not every text holds one. Ask first whether it is one of the four choices."),
            Wrong(choice_variant(refuses="nothing"),
                  "A choice that does not exist, such as `last_1`, or one that names more blocks than there are, is taken in silence. Raise a CourseError.",
                  lets_through),
        ),
    ),
    Check(
        id="classification.weighted_loss",
        name="weighted_loss",
        cases=loss_cases,
        use=uses.loss_and_gradient,
        reference=torch_loss,
        right=(loss_variant(), loss_by_texts),
        tolerance=1e-5,
        wrong=(
            Wrong(loss_variant(weight="share", divisor="one"),
                  "This is the loss as you found it: frequent labels count most, and it grows with the batch."),
            Wrong(loss_variant(weight="share"),
                  "Frequent labels still count most: a weight must fall as its label becomes more frequent."),
            Wrong(loss_variant(divisor="one"),
                  "You add the losses up and do not divide: twice the batch, twice the gradient."),
            Wrong(loss_variant(weight="no labels"),
                  "Your weights are larger by the number of labels, and so is the loss. Over the training texts they are to be 1 on average."),
            Wrong(loss_variant(weight="mean of labels"),
                  "Your weights are 1 on average over the labels. Over the training texts they are to be: there a frequent label's weight counts more often."),
            Wrong(loss_variant(weight="bare"),
                  "One over the count makes all labels count alike, and the loss small: over the training texts the weights are to be 1 on average."),
            Wrong(loss_variant(divisor="weights"),
                  "You divide by the sum of the weights in this batch, as torch's own mean does. A batch of frequent labels alone then counts as much as any "
                  "other, and part of the balance is lost: divide by the number of texts."),
            Wrong(loss_variant(counted="batch"),
                  "You count the labels of the batch. A small batch says little about how rare a label is, and the weights change from step to step: use `counts`."),
            Wrong(loss_variant(kept="predictions"),
                  "You weigh each text by the label that the model said. The weight belongs to the truth."),
            Wrong(loss_variant(weight="rest"),
                  "One minus the share is nearly 1 for every label but the most frequent one, so a rare label hardly counts more than a middling one."),
            Wrong(loss_variant(weight="root"),
                  "The root of the right weights: a compromise that some use. Asked for are weights with which all labels count alike in total."),
            Wrong(loss_variant(detached=True),
                  "The value is right and has no gradient, so nothing would be learned from it: no detach, .item() or no_grad between the logits and the loss."),
        ),
    ),
    Check(
        id="classification.early_stop",
        name="early_stop",
        cases=stop_cases,
        reference=early_stop_by_slices,
        right=(stop_variant(), early_stop_with_numpy),
        wrong=(
            Wrong(stop_variant(against="previous"),
                  "You compare each score with the one before it. After a fall, a small rise is no new best: compare with the best so far."),
            Wrong(stop_variant(ties=True),
                  "An equal score counts as a new best with you. It brought nothing better, so patience goes on shrinking, and of equals the first is the best."),
            Wrong(stop_variant(in_a_row=False),
                  "You count all looks without a new best. They have to come in a row: a new best begins the count anew."),
            Wrong(stop_variant(late=1),
                  "Your run ends one look too late: after `patience` looks in a row without a new best there is no further one."),
            Wrong(stop_variant(late=-1),
                  "Your run ends one look too early: the look that brought the best score is not one of the `patience` without one."),
            Wrong(stop_variant(looks_from=0),
                  "You answer the number of the last look, and looks are counted from 0. How many were made is one more."),
            Wrong(stop_variant(begins=0.0),
                  "You begin with a best score of 0, and so a first score of 0 is no new best. The first one always is."),
            *(Wrong(stop_variant(margin=margin), "A small rise is no new best with you. Higher is higher: the exercise knows no margin.")
              for margin in (1e-3, 0.01)),
            Wrong(stop_variant(told="last"),
                  "You answer the last look as the best. The run ended because it was not."),
            Wrong(stop_variant(sees="future"),
                  "Your best look lies after the end of the run: scores that were never taken are not known."),
            Wrong(stop_variant(first=1),
                  "Looks are counted from 0, as the indices of the list."),
        ),
    ),
)
