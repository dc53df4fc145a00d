"""What the pieces of part 3 are compared with, beside those of parts 1 and 2: `CASES` and `EXEMPT` here hold all three."""

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn import CrossEntropyLoss
from transformers import BertForSequenceClassification

from microbert_course.lessons import parity_cases
from microbert_course.lessons.parity import NO_DTYPE, Case, Draw, differences, relative
from microbert_course.lessons.parity_cases import (
    BERTS,
    MODEL,
    Result,
    bert_batch,
    bert_config,
    named_pairs,
    their_config,
)
from microbert_course.models.checkpoints import encoder_weight_names
from microbert_course.posttraining.classification import (
    ClassificationLoss,
    HeadLoss,
    MicroBertForSequenceClassification,
    balanced_weights,
    block_at_first,
    confusion_matrix,
)

# --- lesson 17

def _classifiers(draw: Draw, num_labels: int):
    "The same weights in both libraries, and the pairs of them."
    config = bert_config(draw)
    ours = draw.shake(MicroBertForSequenceClassification(config, [f"label {number}" for number in range(num_labels)])).eval()
    settings = their_config(config)
    settings.num_labels, settings.problem_type = num_labels, "single_label_classification"
    theirs = BertForSequenceClassification(settings).to(draw.dtype).eval()
    names = {**encoder_weight_names(config, with_pooler=True, prefix="bert."), "classifier.weight": ["classifier.weight"], "classifier.bias": ["classifier.bias"]}
    return ours, theirs, named_pairs(ours, theirs, names)


def classifier(draw: Draw) -> Result:
    ours, theirs, pairs = _classifiers(draw, draw.size(2, 5))
    batch = bert_batch(draw, ours.config)
    return differences(draw, [ours(**batch)], [theirs(**batch).logits], pairs)


def classification_loss(draw: Draw) -> Result:
    num_labels = draw.size(2, 5)
    ours, theirs, pairs = _classifiers(draw, num_labels)
    batch = bert_batch(draw, ours.config)
    del batch["token_type_ids"]  # a loss for single texts
    labels = draw.ids(0, num_labels, len(batch["input_ids"]))
    weights = 0.1 + torch.rand(num_labels, generator=draw.generator).to(draw.dtype)
    loss, _ = ClassificationLoss(ours, weights.float())(batch["input_ids"], batch["attention_mask"], labels)
    return differences(draw, [loss], [CrossEntropyLoss(weights, reduction="sum")(theirs(**batch).logits, labels)], pairs)


def head_loss(draw: Draw) -> Result:
    num_labels = draw.size(2, 5)
    ours, theirs, _ = _classifiers(draw, num_labels)
    features, labels = draw.normal(draw.size(1, 9), 1, ours.config.hidden_size), draw.ids(0, num_labels, 9)
    labels = labels[: len(features)]
    loss, _ = HeadLoss(ours)(features, labels)
    their_loss = F.cross_entropy(theirs.classifier(theirs.bert.pooler(features)), labels, reduction="sum")
    return differences(draw, [loss], [their_loss], [(features, features)])


def first_token(draw: Draw) -> Result:
    ours, theirs, _ = _classifiers(draw, 2)
    batch = bert_batch(draw, ours.config)
    del batch["token_type_ids"]
    states = ours.bert.hidden_states(**batch)
    found = block_at_first(ours.bert.blocks[-1], states[-2], batch["attention_mask"])
    pairs = [(ours.bert.embeddings.word.weight, [theirs.bert.embeddings.word_embeddings.weight])]  # through all that lies between
    return differences(draw, [found[:, 0]], [theirs.bert(**batch).last_hidden_state[:, 0]], pairs)


def balance(draw: Draw) -> Result:
    num_labels = draw.size(2, 6)
    labels = torch.cat([torch.arange(num_labels), draw.ids(0, num_labels, draw.size(1, 40))])
    counts = [int((labels == number).sum()) for number in range(num_labels)]
    theirs = [len(labels) / (num_labels * count) for count in counts]  # the formula in scikit-learn's documentation of class_weight="balanced"
    return relative([balanced_weights(labels, [str(number) for number in range(num_labels)]).double()], [torch.tensor(theirs).double()]), None


def confusion(draw: Draw) -> Result:
    num_labels, num_texts = draw.size(2, 6), draw.size(1, 60)
    truth, said = draw.ids(0, num_labels, num_texts), draw.ids(0, num_labels, num_texts)
    theirs = np.histogram2d(truth.numpy(), said.numpy(), bins=np.arange(num_labels + 1) - 0.5)[0]
    return relative([confusion_matrix(truth, said, num_labels).double()], [torch.from_numpy(theirs)]), None


IN_FLOAT32 = {"float64": 1e-6, "float32": 5e-5}  # ours is computed in float32 always

CASES = (
    *parity_cases.CASES,
    Case(("posttraining.classification.MicroBertForSequenceClassification",), "transformers.BertForSequenceClassification", f"{BERTS}; 2–5 labels",
         classifier, MODEL),
    Case(("posttraining.classification.ClassificationLoss",), "nn.CrossEntropyLoss on transformers.BertForSequenceClassification",
         f"{BERTS.removesuffix(', segments')}; random class weights", classification_loss, IN_FLOAT32),
    Case(("posttraining.classification.HeadLoss",), "transformers' BertPooler and classifier", "1–9 texts, 2–5 labels", head_loss, IN_FLOAT32),
    Case(("posttraining.classification.block_at_first", "posttraining.classification.first_states"), "transformers.BertModel, its first token",
         BERTS.removesuffix(", segments"), first_token, MODEL),
    Case(("posttraining.classification.balanced_weights",), "scikit-learn's formula", "up to 46 texts, 2–6 labels", balance, {NO_DTYPE: 1e-6}),
    Case(("posttraining.classification.confusion_matrix",), "numpy.histogram2d", "1–60 texts, 2–6 labels", confusion, {NO_DTYPE: 0.0}),
)

EXEMPT = {
    **parity_cases.EXEMPT,
    "posttraining.classification.LAYERS": "a constant",
    **{f"posttraining.classification.{name}": "reads, scores, trains or shows with pieces that have cases: tests/test_classification.py" for name in (
        "read_rows_once", "predict", "score", "shares_right", "train_only", "num_trained", "classification", "FinetuneResult",
        "train_sft_model_selective", "compare_layers", "peak_bytes", "plot_layers", "plot_confusion", "save_sft_model", "load_sft_model")},
    "posttraining.classification.classify": "compared with transformers' pipeline in tests/test_classification.py",
}
