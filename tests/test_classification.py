"""The classifier: its folder is transformers' own, what is frozen stays as it is, features are read once, and a run keeps the promises of the engine."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    pipeline,
)

from microbert_course.data.wordpiece import train_wordpiece
from microbert_course.errors import CourseError
from microbert_course.files import read_json, write_json
from microbert_course.models.bert import MicroBert, MicroBertConfig, MicroBertForMaskedLM
from microbert_course.models.modern import ModernConfig, ModernForMaskedLM
from microbert_course.posttraining.classification import (
    LAYERS,
    ClassificationLoss,
    FinetuneResult,
    HeadLoss,
    MicroBertForSequenceClassification,
    balanced_weights,
    block_at_first,
    classification,
    classify,
    compare_layers,
    confusion_matrix,
    first_states,
    load_sft_model,
    num_trained,
    peak_bytes,
    plot_confusion,
    plot_layers,
    predict,
    read_rows_once,
    save_sft_model,
    score,
    set_dropout,
    shares_right,
    train_only,
    train_sft_model_selective,
)
from microbert_course.posttraining.common import Stopwatch
from microbert_course.posttraining.labelled_rows import (
    ClassificationData,
    FeatureBatch,
    LabelledRows,
    encode_texts,
    set_reading,
)
from microbert_course.posttraining.settings import FinetuneConfig

SHAPE = MicroBertConfig(vocab_size=90, hidden_size=24, num_layers=4, num_heads=3, intermediate_size=40, max_seq_len=20, dropout=0.1)
NAMES = ("bad", "good")


def fresh(names=NAMES, seed=0, shape=SHAPE):
    torch.manual_seed(seed)
    model = MicroBertForSequenceClassification(shape, names)
    model.bert = MicroBert(shape, with_pooler=True)
    return model.eval()


def some_rows(num_rows=13, seed=0, num_labels=2):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 19, size=num_rows)
    ids = rng.integers(5, 90, size=(num_rows, 20)) * (np.arange(20) < lengths[:, None])
    return LabelledRows(ids.astype(np.uint16), rng.integers(num_labels, size=num_rows))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "A small pretrained encoder, and 300 reviews of three telling words among others, a fifth of them bad."
    folder = tmp_path_factory.mktemp("films") / "base"
    rng = np.random.default_rng(0)
    words, telling = "the movie was a film with plot and actors in it".split(), ("awful dull poor".split(), "fine superb great".split())
    labels = (rng.random(300) < 0.8).astype(int)
    texts = [" ".join(rng.permutation([*rng.choice(words, rng.integers(3, 14)), *rng.choice(telling[label], 3)])) for label in labels]
    tokenizer = set_reading(train_wordpiece(texts, 90), 16, "end")
    torch.manual_seed(0)
    MicroBertForMaskedLM(replace(SHAPE, vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ids = encode_texts(texts, tokenizer, 16)
    split = [LabelledRows(ids[part], labels[part], tokenizer.pad_token_id) for part in (slice(240), slice(240, 300))]
    config = FinetuneConfig(model=str(folder), max_seq_len=16, learning_rate=3e-3, num_epochs=2, num_threads=1, device="cpu")
    return config, ClassificationData(tokenizer, NAMES, *split)


@pytest.fixture(scope="module")
def run(films, tmp_path_factory):
    return train_sft_model_selective(replace(films[0], num_epochs=4), tmp_path_factory.mktemp("runs") / "all", data=films[1], progress=False)


# --- the model and its folder

def test_a_saved_classifier_opens_in_transformers_with_equal_logits_and_gradients(tmp_path):
    model, rows = fresh(("bad", "so so", "good")), some_rows(num_labels=3)
    model.save_pretrained(tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert isinstance(theirs, BertForSequenceClassification) and theirs.config.id2label == {0: "bad", 1: "so so", 2: "good"}
    ids, mask, labels = rows.batch(np.arange(13)).tensors("cpu")
    expected = theirs(ids, attention_mask=mask.long(), labels=labels)
    loss, _ = ClassificationLoss(model)(ids, mask, labels)
    torch.testing.assert_close(model(ids, mask), expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(loss / 13, expected.loss, atol=1e-5, rtol=0)
    (loss / 13).backward()
    expected.loss.backward()
    torch.testing.assert_close(model.classifier.weight.grad, theirs.classifier.weight.grad, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.bert.embeddings.word.weight.grad, theirs.bert.embeddings.word_embeddings.weight.grad, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.bert.pooler.dense.weight.grad, theirs.bert.pooler.dense.weight.grad, atol=1e-5, rtol=0)


def test_a_classifier_of_transformers_opens_here(tmp_path):
    torch.manual_seed(0)
    config = BertConfig(vocab_size=90, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, max_position_embeddings=20)
    theirs = BertForSequenceClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    ours, ids = MicroBertForSequenceClassification.from_pretrained(tmp_path), torch.randint(5, 90, (2, 7))
    assert ours.names == ("LABEL_0", "LABEL_1") and not ours.training
    torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-5, rtol=0)


def test_a_fresh_head_goes_on_any_bert_and_a_saved_one_is_kept(tmp_path):
    torch.manual_seed(0)
    masked = MicroBertForMaskedLM(SHAPE)
    masked.save_pretrained(tmp_path / "masked")
    one, same, other = (MicroBertForSequenceClassification.from_pretrained(tmp_path / "masked", NAMES, seed) for seed in (0, 0, 1))
    assert torch.equal(one.classifier.weight, same.classifier.weight) and not torch.equal(one.classifier.weight, other.classifier.weight)
    assert torch.equal(one.bert.pooler.dense.weight, same.bert.pooler.dense.weight)  # the masked model has none
    assert torch.equal(one.bert.blocks[1].feed_forward.sublayer.up.weight, masked.bert.blocks[1].feed_forward.sublayer.up.weight)
    assert one.classifier.weight.std().item() == pytest.approx(0.02, rel=0.4) and not one.classifier.bias.any()
    other.save_pretrained(tmp_path / "classifier")
    for names, is_kept in ((None, True), (NAMES, True), (("bad", "middling", "good"), False), (("good", "bad"), False)):
        again = MicroBertForSequenceClassification.from_pretrained(tmp_path / "classifier", names)
        assert torch.equal(again.bert.pooler.dense.weight, other.bert.pooler.dense.weight)
        assert (again.classifier.weight.shape == other.classifier.weight.shape and torch.equal(again.classifier.weight, other.classifier.weight)) == is_kept


def test_folders_that_hold_no_classifier_are_refused_in_one_sentence(tmp_path):
    torch.manual_seed(0)
    MicroBertForMaskedLM(SHAPE).save_pretrained(tmp_path / "masked")
    ModernForMaskedLM(ModernConfig(vocab_size=90, hidden_size=24, num_layers=2, num_heads=2, intermediate_size=32)).save_pretrained(tmp_path / "modern")
    fresh().save_pretrained(tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").write_bytes((tmp_path / "cut" / "model.safetensors").read_bytes()[:-50])
    for folder, names, words in (("masked", None, "knows no labels: fine-tune it first"), ("nowhere", NAMES, "is not a folder"),
                                 ("modern", NAMES, "'modernbert', and a classifier is built on BERT's own blocks: give a folder with a BERT, such as minilm"),
                                 ("cut", None, "is damaged")):
        with pytest.raises(CourseError, match=words):
            MicroBertForSequenceClassification.from_pretrained(tmp_path / folder, names)
    for labels in ({"good": 0, "bad": 1}, {"0": "bad", "2": "good"}, {"0": "bad", "1": None}, ["bad", "good"], 2):
        fresh().save_pretrained(tmp_path / "labels")
        write_json(tmp_path / "labels" / "config.json", {**read_json(tmp_path / "labels" / "config.json"), "id2label": labels})
        with pytest.raises(CourseError, match=r"id2label in .*config.json is .*, which does not number the labels: write it as"):
            MicroBertForSequenceClassification.from_pretrained(tmp_path / "labels")
    with pytest.raises(ValueError, match="not two or more different names"):
        MicroBertForSequenceClassification(SHAPE, ("good", "good"))


# --- what is trained

@pytest.mark.parametrize(("layers", "frozen"), [("classifier", 5), ("last_2", 3), ("last_3", 2), ("all", 0)])
def test_what_is_frozen_gets_no_gradient_keeps_its_place_and_drops_nothing(layers, frozen):
    "Of embeddings and four blocks, the first `frozen`; the pooler and the linear map always learn."
    model = train_only(fresh().train(), layers)
    parts = [model.bert.embeddings, *model.bert.blocks]
    ids, mask, labels = some_rows().batch(np.arange(13)).tensors("cpu")
    ClassificationLoss(model)(ids, mask, labels)[0].backward()
    for number, part in enumerate(parts):
        assert all((p.grad is None) == (number < frozen) for p in part.parameters()), number
        assert part.training == (number >= frozen)
    assert model.bert.pooler.dense.weight.grad is not None and model.classifier.weight.grad is not None
    assert num_trained(model) == sum(p.numel() for p in model.parameters() if p.grad is not None)
    assert not any(module.training for module in model.eval().modules())


def test_a_frozen_block_keeps_nothing_for_a_way_back():
    "No graph is built below what is trained, so nothing there is computed twice or remembered."
    model, kept = fresh(), []
    ids, mask, _ = some_rows().batch(np.arange(13)).tensors("cpu")
    for layers in LAYERS:
        train_only(model, layers)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor, sizes=sizes: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor):
            hidden_states = model.read(ids, mask)
        kept.append(sum(sizes))
        assert hidden_states.requires_grad == (layers != "classifier")
    assert kept[0] == 0 < kept[1] < kept[2] < kept[3]
    assert 1.6 * kept[1] < kept[2] < 2 * kept[1]  # a whole block more; of the last one only the first token is worked on


def test_dropout_is_set_everywhere_and_saved(tmp_path):
    "Without it training mode changes nothing; with half of everything dropped it changes all, and transformers reads the share."
    model = set_dropout(fresh(), 0.0)
    ids, mask, _ = some_rows().batch(np.arange(13)).tensors("cpu")
    torch.testing.assert_close(model.train()(ids, mask), model.eval()(ids, mask), atol=0, rtol=0)
    set_dropout(model, 0.5).save_pretrained(tmp_path)
    assert not torch.allclose(model.train()(ids, mask), model(ids, mask))
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.hidden_dropout_prob == 0.5
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.5}
    assert {block.attention.sublayer.dropout for block in model.bert.blocks} == {0.5}


def test_layers_that_are_not_there_are_refused():
    with pytest.raises(CourseError, match="layers is 'last_4': choose one of classifier, last_2, last_3, all"):
        train_only(fresh(), "last_4")
    with pytest.raises(CourseError, match="'last_3' and the model has 2 blocks: choose classifier or all"):
        train_only(fresh(shape=replace(SHAPE, num_layers=2)), "last_3")


def test_the_head_on_cached_features_is_the_whole_model():
    "Loss and gradients of the head are those of the model with the encoder frozen; padding and order do not matter."
    model, rows = train_only(fresh().train(), "classifier"), some_rows()
    model.dropout.p = 0.0
    features = first_states(model, rows)
    assert features.shape == (13, 1, 24) and model.training
    ids, mask, labels = rows.batch(np.arange(13)).tensors("cpu")
    whole, right = ClassificationLoss(model)(ids, mask, labels)
    expected = torch.autograd.grad(whole, [model.classifier.weight, model.bert.pooler.dense.weight])
    cached, right_too = HeadLoss(model)(features, labels)
    found = torch.autograd.grad(cached, [model.classifier.weight, model.bert.pooler.dense.weight])
    torch.testing.assert_close(cached, whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert right == right_too
    torch.testing.assert_close(predict(model, rows), model.eval()(ids, mask), atol=1e-5, rtol=0)


def test_rows_are_read_long_ones_first_and_answered_in_their_order():
    rows, seen = some_rows(70), []

    def answer(input_ids, mask):
        seen.append(input_ids.shape)
        return input_ids.float().sum(1, keepdim=True)

    assert read_rows_once(answer, rows)[:, 0].tolist() == rows.ids.astype(float).sum(1).tolist()
    assert [shape[0] for shape in seen] == [64, 6] and seen[0][1] > seen[1][1]


def test_the_first_token_alone_leaves_the_last_block():
    model = fresh()
    ids, mask, _ = some_rows().batch(np.arange(13)).tensors("cpu")
    states = model.bert.hidden_states(ids, mask)
    torch.testing.assert_close(block_at_first(model.bert.blocks[-1], states[-2], mask), states[-1][:, :1], atol=1e-5, rtol=0)
    torch.testing.assert_close(model.read(ids, mask), model.bert(ids, mask)[:, :1], atol=1e-5, rtol=0)
    whole = model.bert.hidden_states(ids[:, :3])  # without padding
    torch.testing.assert_close(block_at_first(model.bert.blocks[-1], whole[-2]), whole[-1][:, :1], atol=1e-5, rtol=0)


# --- the loss and the scores

def test_class_weights_weigh_and_balanced_ones_make_labels_count_alike():
    labels = torch.tensor([0, 1, 1, 1, 2, 2])
    weights = balanced_weights(labels, ("a", "b", "c"))
    torch.testing.assert_close(weights, torch.tensor([2.0, 2 / 3, 1.0]))
    assert weights[labels].mean().item() == pytest.approx(1)
    model, rows = fresh(), some_rows()
    ids, mask, truth = rows.batch(np.arange(13)).tensors("cpu")
    weighted = ClassificationLoss(model, torch.tensor([3.0, 0.5]))(ids, mask, truth)[0]
    each = F.cross_entropy(model(ids, mask), truth, reduction="none")
    torch.testing.assert_close(weighted, (each * torch.tensor([3.0, 0.5])[truth]).sum())
    with pytest.raises(CourseError, match="no training text has the label 'b'"):
        balanced_weights([0, 0, 2], ("a", "b", "c"))


def test_a_confusion_matrix_has_the_truth_in_its_rows():
    confusion = confusion_matrix(torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 1, 1, 1, 0]), 3)
    assert confusion.tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]
    assert shares_right(confusion) == {"accuracy": 0.4, "balanced_accuracy": pytest.approx((1 / 3 + 1 + 0) / 3)}
    assert shares_right(torch.tensor([[3, 1], [0, 0]]))["balanced_accuracy"] == 0.75  # a label without texts has no share
    ax = plot_confusion(confusion, ("a", "b", "c"))
    assert [text.get_text() for text in ax.texts] == ["1", "2", "0", "0", "1", "0", "1", "0", "0"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("what the model said", "what the label says")


def test_scores_are_those_of_eval_mode_and_of_every_text_once():
    model, rows = fresh().train(), some_rows(70)
    found = score(ClassificationLoss(model, torch.tensor([3.0, 0.5])), [rows.batch(part) for part in rows.by_length(16)])
    logits, labels = predict(model, rows), torch.from_numpy(rows.labels)
    assert model.training and found["accuracy"] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-5)  # class weights are for learning
    assert np.sum(found["confusion"]) == 70
    cached = score(HeadLoss(model), [FeatureBatch(first_states(model, rows), labels)])
    assert cached == {**found, "loss": pytest.approx(found["loss"], abs=1e-5)}


def test_two_processes_share_the_texts_and_add_up():
    "Each reads every second batch; the totals of both are the whole."
    model, rows = fresh(), some_rows(70)
    batches = [rows.batch(part) for part in rows.by_length(16)]
    alone, parts = score(ClassificationLoss(model), batches), []
    for rank in (0, 1):
        share = SimpleNamespace(process_index=rank, num_processes=2, device="cpu", reduce=lambda totals: parts.append(totals) or totals)
        score(ClassificationLoss(model), batches, share)
    assert (parts[0][:-1] + parts[1][:-1]).tolist() == np.ravel(alone["confusion"]).tolist() and 0 < parts[0][:-1].sum() < 70
    assert ((parts[0] + parts[1])[-1] / 70).item() == pytest.approx(alone["loss"])


# --- runs

def test_a_run_learns_saves_its_best_state_and_says_what_it_is(run, films):
    assert isinstance(run, FinetuneResult) and run.best["accuracy"] >= 0.95 and np.sum(run.best["confusion"]) == 60
    model, tokenizer = load_sft_model(run.folder)
    assert (tokenizer.model_max_length, tokenizer.truncation_side) == (16, "left")
    assert shares_right(confusion_matrix(torch.from_numpy(films[1].validation.labels), predict(model, films[1].validation).argmax(1), 2))["accuracy"] == \
        run.best["accuracy"]
    about = json.loads((run.folder / "training.json").read_text())
    assert about["layers"] == "all" and about["about"]["labels"] == "bad, good" and about["num_steps"] == 60 and (run.folder / "training.txt").is_file()
    assert json.loads((run.folder / "scores.json").read_text())["validation"] == run.best
    assert run.trained == num_trained(run.model) == run.model.num_parameters() and 0 < run.cpu_s


def test_what_classify_says_is_what_the_pipeline_of_transformers_says(run):
    model, tokenizer = load_sft_model(run.folder)
    texts = ["the movie was superb", "a film with an awful plot", "superb " * 3 + "the movie was a film with plot and actors in it and it was dull"]
    found = classify(model, tokenizer, texts)
    theirs = pipeline("text-classification", model=AutoModelForSequenceClassification.from_pretrained(run.folder / "best"),
                      tokenizer=AutoTokenizer.from_pretrained(run.folder / "best"), top_k=None)
    for ours, answer in zip(found, theirs(texts, truncation=True), strict=True):
        assert ours == {entry["label"]: pytest.approx(entry["score"], abs=1e-5) for entry in answer}
        assert sum(ours.values()) == pytest.approx(1)
    assert found[0]["good"] > 0.5 > found[1]["good"]


@pytest.mark.parametrize(("texts", "words"), [([], "at least one text"), ("one text", "give a list"), (["fine", " "], "text 1 is blank")])
def test_texts_that_cannot_be_judged_are_refused(run, texts, words):
    with pytest.raises(CourseError, match=words):
        classify(run.model, run.tokenizer, texts)


def test_the_tokenizer_of_another_model_is_refused(run):
    with pytest.raises(CourseError, match="use the one saved with the model"):
        classify(fresh(shape=replace(SHAPE, vocab_size=20)), run.tokenizer, ["fine"])


def test_saved_and_loaded_is_the_same_model(run, tmp_path):
    save_sft_model(run.model, run.tokenizer, tmp_path / "mine")
    model, tokenizer = load_sft_model(tmp_path / "mine")
    assert classify(model, tokenizer, ["a fine film"]) == classify(run.model, run.tokenizer, ["a fine film"])


@pytest.mark.parametrize("layers", ["classifier", "last_2"])
def test_a_run_that_is_interrupted_goes_on_to_the_same_weights(films, tmp_path, layers):
    config = replace(films[0], layers=layers, num_epochs=1, save_every=5)
    whole = train_sft_model_selective(config, tmp_path / "whole", data=films[1], progress=False)
    with pytest.raises(KeyboardInterrupt):
        train_sft_model_selective(replace(config, eval_every=6, num_epochs=0, num_steps=15, warmup_steps=2), tmp_path / "cut", data=films[1], progress=False,
                                  on_evaluation=_interrupt)
    resumed = train_sft_model_selective(replace(config, eval_every=6, num_epochs=0, num_steps=15, warmup_steps=2), tmp_path / "cut", data=films[1],
                                        progress=False, resume="latest")
    ended = [MicroBertForSequenceClassification.from_pretrained(result.folder).state_dict() for result in (resumed, whole)]
    for (name, ours), theirs in zip(ended[0].items(), ended[1].values(), strict=True):
        assert torch.equal(ours, theirs), name


def _interrupt(model, newest):
    raise KeyboardInterrupt


def test_the_frozen_part_of_a_run_is_the_base_to_the_bit(films, tmp_path):
    result = train_sft_model_selective(replace(films[0], num_epochs=1), tmp_path / "run", "last_2", films[1], progress=False)
    base, tuned = MicroBertForSequenceClassification.from_pretrained(films[0].model, NAMES), result.model
    same = [all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))
            for a, b in zip((base.bert.embeddings, *base.bert.blocks), (tuned.bert.embeddings, *tuned.bert.blocks), strict=True)]
    assert same == [True, True, True, False, False]


def test_patience_ends_a_run_early_and_its_answer_is_the_best_state(films, tmp_path):
    "At a rate of 0.3 nothing gets better; the second look in a row without a new best is the last."
    config = replace(films[0], num_epochs=8, learning_rate=0.3, patience=2, max_grad_norm=100.0)
    result = train_sft_model_selective(config, tmp_path / "run", data=films[1], progress=False)
    looks = [look["accuracy"] for look in result.history["validation"]]
    best = looks.index(max(looks))
    assert len(looks) < 8 and best == len(looks) - 3 and result.best == result.history["validation"][best]
    kept, last = (MicroBertForSequenceClassification.from_pretrained(folder).state_dict() for folder in (result.folder / "best", result.folder))
    assert all(torch.equal(weight, kept[name]) for name, weight in result.model.state_dict().items())
    assert any(not torch.equal(weight, kept[name]) for name, weight in last.items())


def test_balanced_runs_are_weighed_and_judged_by_balanced_accuracy(films):
    config, data = films
    accelerator = Accelerator(cpu=True)
    plain, balanced = (classification(data, Stopwatch(), accelerator, replace(config, class_weights=weights)) for weights in ("none", "balanced"))
    assert (plain.metric, balanced.metric) == ("accuracy", "balanced_accuracy")
    assert plain.objective(plain.make_model()).class_weights is None
    torch.testing.assert_close(balanced.objective(balanced.make_model()).class_weights, balanced_weights(data.train.labels, NAMES))


def test_a_model_that_reads_less_than_asked_is_refused(films, tmp_path):
    long = replace(films[1], train=LabelledRows(np.full((4, 64), 7, dtype=np.uint16), np.array([0, 1, 0, 1])))
    with pytest.raises(CourseError, match="max_seq_len is 64 and the model in .* reads 20 tokens"):
        train_sft_model_selective(replace(films[0], max_seq_len=64), tmp_path / "run", data=long, progress=False)
    with pytest.raises(CourseError, match="the rows have 16 tokens and max_seq_len is 12"):
        train_sft_model_selective(replace(films[0], max_seq_len=12), tmp_path / "run", data=films[1], progress=False)
    assert not list(tmp_path.iterdir())


def test_four_ways_in_one_table(films, tmp_path):
    rows = compare_layers(replace(films[0], num_epochs=1), tmp_path, films[1])
    assert [row["layers"] for row in rows] == list(LAYERS)
    assert [row["trained"] for row in rows] == sorted(row["trained"] for row in rows) and rows[-1]["share"] == 1
    assert rows[1]["peak_mb"] < rows[2]["peak_mb"] < rows[3]["peak_mb"]
    assert peak_bytes(replace(films[0], layers="last_2"), films[1]) / 1e6 == pytest.approx(rows[1]["peak_mb"], rel=0.01)
    axes = plot_layers(rows)
    assert [len(ax.patches) for ax in axes] == [4, 4, 4] and axes[0].get_ylabel() == "seconds of the processors"
