"""Scores, intervals and comparisons: worked by hand, listed in full, held against torch and numpy; and what makes no sense is refused."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from microbert_course.data.labelled import LabelledTexts
from microbert_course.data.wordpiece import train_wordpiece
from microbert_course.errors import CourseError
from microbert_course.models.bert import MicroBertConfig
from microbert_course.posttraining.classification import MicroBertForSequenceClassification, classify, confusion_matrix
from microbert_course.posttraining.evaluation import (
    SCORES,
    Interval,
    accuracy,
    bits_per_byte,
    bootstrap,
    calibration_bins,
    comparison,
    confusion_counts,
    evaluate_classifier,
    expected_calibration_error,
    fit_temperature,
    macro_f1,
    matthews,
    mcnemar,
    mistakes,
    paired_bootstrap,
    pass_at_k,
    perplexity,
    plot_reliability,
    scores,
)
from microbert_course.posttraining.labelled_rows import set_reading


def mean(column):
    return column.mean(-1)


def answers(num_texts=60, num_labels=3, seed=0):
    "Labels, and answers that are right half of the time."
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_labels, size=num_texts)
    return labels, np.where(rng.random(num_texts) < 0.5, labels, rng.integers(num_labels, size=num_texts))


def test_the_interval_is_that_of_all_resamples():
    "Four texts have 256 resamples; the middle 80 % of their means is known, and chance finds the same."
    column = np.array([0.0, 1.0, 1.0, 3.0])
    every = column[np.array(list(itertools.product(range(4), repeat=4)))].mean(-1)
    found = bootstrap(mean, column, confidence=0.8, num_resamples=20_000)
    assert (found.low, found.high) == tuple(np.quantile(every, [0.1, 0.9])) and found.value == 1.25


def test_a_resample_is_one_draw_for_all_columns():
    "A score that is 0 wherever the columns belong together is 0 in every resample; drawn apart it would not be."
    column = np.arange(50)
    found = bootstrap(lambda one, other: np.abs(one - other).sum(-1), column, column, num_resamples=100)
    assert found == Interval(0.0, 0.0, 0.0)


def test_the_width_is_the_textbooks_for_a_mean():
    "1.96 standard errors on either side; 8 % leaves room for 4,000 resamples and for the tails."
    column = np.random.default_rng(1).normal(size=400)
    found = bootstrap(mean, column, num_resamples=4_000)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * column.std() / 20, rel=0.08)


def test_the_same_seed_gives_the_same_interval_however_many_draws_are_made_at_once():
    "2,000 resamples of 3,000 texts come in several parts; the parts go on drawing, they do not start again."
    column = np.random.default_rng(2).normal(size=3_000)
    drawn = []
    found = bootstrap(lambda values: drawn.append(len(np.atleast_2d(values))) or values.mean(-1), column, num_resamples=700, seed=5)
    assert found == bootstrap(mean, column, num_resamples=700, seed=5) != bootstrap(mean, column, num_resamples=700, seed=6)
    rng = np.random.default_rng(5)
    whole = np.quantile([column[rng.integers(3_000, size=3_000)].mean() for _ in range(700)], [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(whole.tolist()) and len(drawn) > 2


@pytest.mark.parametrize(("columns", "settings", "says"), [
    (([],), {}, r"shapes \[\(0,\)\]: give one number for each text"), (([1, 2], [1]), {}, r"shapes \[\(2,\), \(1,\)\]"), ((), {}, r"shapes \[\]"),
    (([[1, 2]],), {}, r"\(1, 2\)"), (([1, 2],), {"num_resamples": 0}, "0 resamples"), (([1, 2],), {"confidence": 1.0}, "a confidence of 1.0"),
])
def test_columns_that_do_not_fit_are_refused(columns, settings, says):
    with pytest.raises(ValueError, match=says):
        bootstrap(lambda *columns: columns[0].mean(-1), *columns, **settings)


def test_a_score_that_some_resamples_do_not_have_is_refused():
    "A share of the texts of one kind is 0/0 in a resample without them: that is said, not skipped."
    def share_of_kind(kind, right):
        with np.errstate(invalid="ignore"):
            return (kind * right).sum(-1) / kind.sum(-1)
    with pytest.raises(ValueError, match=r"no number in \d+ of 200 resamples"):
        bootstrap(share_of_kind, np.array([1, 0, 0, 0]), np.ones(4), num_resamples=200)


def test_an_interval_is_shown_in_the_form_that_is_asked_for():
    assert f"{Interval(0.8, 0.75, 0.84):.0%}" == "80% (75% to 84%)"


def test_counts_are_lesson_17s_and_of_many_draws_at_once():
    labels, said = answers()
    assert (confusion_counts(labels, said) == confusion_matrix(torch.from_numpy(labels), torch.from_numpy(said), 3).numpy()).all()
    draws = np.random.default_rng(0).integers(60, size=(2, 5, 60))
    together = confusion_counts(labels[draws], said[draws])
    assert together.shape == (2, 5, 3, 3)
    assert all((together[place] == confusion_counts(labels[draws[place]], said[draws[place]])).all() for place in np.ndindex(2, 5))


@pytest.mark.parametrize("metric", SCORES.values())
def test_a_score_works_along_the_last_axis(metric):
    labels, said = answers()
    draws = np.random.default_rng(0).integers(60, size=(4, 60))
    assert metric(labels[draws], said[draws]) == pytest.approx([float(metric(labels[draw], said[draw])) for draw in draws])


def test_scores_of_the_silent_model_by_hand():
    "Eight quiet, two alarms, never an alarm said: 0.8 right, F1 of 16/18 and 0, correlation 0."
    labels, said = [0] * 8 + [1] * 2, [0] * 10
    assert (accuracy(labels, said), macro_f1(labels, said), matthews(labels, said)) == (0.8, pytest.approx(4 / 9), 0)


def test_macro_f1_counts_each_label_that_there_is():
    "Labels 0 and 2 of 0..3: 1 neither occurs nor is said and is left out; 3 is said by mistake and counts with 0."
    assert macro_f1([0, 0, 2, 2], [0, 0, 2, 3]) == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert macro_f1([0, 0, 2, 2], [0, 0, 2, 2]) == 1


def test_matthews_is_the_correlation():
    "With two labels numpy's own; with more, that of the indicator columns (Gorodkin 2004); the opposite answer turns the sign."
    labels, said = answers(num_labels=2)
    assert matthews(labels, said) == pytest.approx(np.corrcoef(labels, said)[0, 1]) == pytest.approx(-matthews(labels, 1 - said))
    labels, said = answers(num_labels=4)
    truth, answer = (np.eye(4)[column] - np.eye(4)[column].mean(0) for column in (labels, said))
    assert matthews(labels, said) == pytest.approx((truth * answer).sum() / math.sqrt((truth**2).sum() * (answer**2).sum()))


@pytest.mark.parametrize(("labels", "said", "says"), [([0, 1], [0], r"shapes \(2,\), \(1,\)"), ([], [], "at least one text"),
                                                      ([0, -1], [0, 0], "labels are int64 with the least -1"), ([0, 1], [0.0, 1.0], "predictions are float64")])
def test_labels_that_are_none_are_refused(labels, said, says):
    with pytest.raises(ValueError, match=says):
        confusion_counts(np.array(labels, dtype=int), np.array(said))


def test_mcnemar_is_the_share_of_all_tosses_that_are_as_lopsided():
    "Seven texts for one alone, two for the other: of the 512 ways in which nine coins fall, those with 7 or more on one side."
    this, that = np.array([1] * 7 + [0] * 2 + [1, 0] * 5), np.array([0] * 7 + [1] * 2 + [1, 0] * 5)
    heads = [sum(tosses) for tosses in itertools.product((0, 1), repeat=9)]
    expected = {"only_this": 7, "only_that": 2, "p_value": sum(max(count, 9 - count) >= 7 for count in heads) / 512}
    assert mcnemar(this, that) == expected and mcnemar(that, this)["p_value"] == expected["p_value"]
    assert mcnemar(this, this)["p_value"] == 1 and mcnemar(np.ones(4, bool), [1, 1, 0, 0])["p_value"] == 0.5


def test_mcnemar_counts_thousands_of_texts_exactly():
    "The binomial of 5,000 tosses is no float; its normal approximation with continuity correction is close."
    this, that = np.repeat([1, 0], [2_600, 2_400]), np.repeat([0, 1], [2_600, 2_400])
    assert mcnemar(this, that)["p_value"] == pytest.approx(math.erfc((200 - 1) / math.sqrt(5_000) / math.sqrt(2)), rel=1e-2)


def test_the_paired_interval_is_that_of_the_differences_and_narrower_where_answers_agree():
    labels, this = answers(400, 2)
    that = np.where(np.random.default_rng(9).random(400) < 0.9, this, 1 - this)
    found = paired_bootstrap(accuracy, labels, this, that, seed=3)
    of_differences = bootstrap(mean, (labels == this).astype(float) - (labels == that), seed=3)
    assert (found.value, found.low, found.high) == pytest.approx((of_differences.value, of_differences.low, of_differences.high))
    apart = [bootstrap(accuracy, labels, said, seed=3) for said in (this, that)]
    assert found.high - found.low < 0.6 * math.hypot(*(interval.high - interval.low for interval in apart))


def test_the_calibration_error_by_hand():
    "Bins (0.5, 0.75] and (0.75, 1]: gaps 0.15 and 0.175 of two and four texts."
    sure, right = [0.6, 0.7, 0.8, 0.9, 1.0, 1.0], [1, 0, 1, 1, 0, 1]
    bins = calibration_bins(sure, right, 4)
    assert bins["texts"].tolist() == [0, 0, 2, 4] and bins["right"].tolist() == [0, 0, 1, 3] and bins["confidence"] == pytest.approx([0, 0, 1.3, 3.7])
    assert expected_calibration_error(sure, right, 4) == pytest.approx(1 / 6)
    assert expected_calibration_error(sure, right, 1) == pytest.approx(abs(5 / 6 - 4 / 6))


def test_a_confidence_on_an_edge_is_in_the_lower_bin():
    "As in Guo et al. (2017); 0 has no lower bin, and no rounding moves 0.3 or 0.7 up."
    for number in range(11):
        assert calibration_bins([number / 10], [1])["texts"].argmax() == max(0, number - 1)


def test_the_calibration_error_of_many_draws_is_that_of_each():
    rng = np.random.default_rng(0)
    sure, right, draws = rng.random(40), rng.random(40) < 0.7, rng.integers(40, size=(3, 2, 40))
    together = expected_calibration_error(sure[draws], right[draws])
    assert together.shape == (3, 2)
    assert together.ravel() == pytest.approx([float(expected_calibration_error(sure[draw], right[draw])) for draw in draws.reshape(-1, 40)])


@pytest.mark.parametrize(("sure", "num_bins", "says"), [([0.5, 1.2], 10, "from 0.5 to 1.2 is no probability"), ([float("nan")] * 2, 10, "is no probability"),
                                                        ([-0.1, 0.5], 10, "from -0.1 to 0.5 is no probability"),
                                                        ([0.5, 0.6], 0, "num_bins is 0")])
def test_a_confidence_that_is_no_probability_is_refused(sure, num_bins, says):
    with pytest.raises(ValueError, match=says):
        calibration_bins(sure, [1, 0], num_bins)


def test_the_reliability_plot_shows_each_bin_at_its_means():
    ax = plot_reliability([0.6, 0.7, 0.8, 0.9, 1.0, 1.0], [1, 0, 1, 1, 0, 1], 4)
    assert np.asarray(ax.collections[-1].get_offsets()) == pytest.approx(np.array([[0.65, 0.5], [0.925, 0.75]]))
    assert "16.7%" in ax.get_title()


def some_logits(num_texts=200, seed=0):
    "Scores that mean a fourth of what they say."
    rng = np.random.default_rng(seed)
    honest = torch.from_numpy(rng.normal(size=(num_texts, 3)) * 1.5)
    labels = np.array([rng.choice(3, p=row) for row in honest.softmax(-1).numpy()])
    return (4 * honest).numpy(), labels


def test_the_temperature_is_the_one_that_torch_finds():
    logits, labels = some_logits()
    inverse = torch.ones((), dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([inverse], max_iter=100, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(torch.from_numpy(logits) * inverse, torch.from_numpy(labels))
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(logits, labels) == pytest.approx(1 / inverse.item(), rel=1e-5) == pytest.approx(4, rel=0.4)


def test_log_probabilities_have_the_same_temperature_as_logits():
    logits, labels = some_logits()
    assert fit_temperature(torch.from_numpy(logits).log_softmax(-1), labels) == pytest.approx(fit_temperature(logits, labels))


@pytest.mark.parametrize(("logits", "labels", "says"), [
    ([[2.0, 0.0], [0.0, 1.0]], [0, 1], "all 2 texts are right"), ([[2.0, 0.0], [0.0, 1.0]], [1, 0], "say nothing of their labels"),
    ([[0.0, 0.0]], [0], "say nothing of their labels"), ([[0.0, -math.inf], [0.0, -1.0], [-2.0, 0.0]], [0, 1, 1], "1 of the scores are no finite numbers"),
    ([2.0, 0.0], [0, 1], r"logits of shape \(2,\)"), ([[2.0, 0.0]], [0, 1], r"labels of shape \(2,\)")])
def test_where_no_temperature_is_best_that_is_said(logits, labels, says):
    with pytest.raises(ValueError, match=says):
        fit_temperature(logits, labels)


def test_perplexity_is_of_tokens_and_bits_are_of_bytes():
    "Two texts of one and three tokens: the mean is over four tokens, not over two texts."
    assert perplexity([math.log(2), 3 * math.log(8)], [1, 3]) == pytest.approx(2 ** (10 / 4))
    assert bits_per_byte([math.log(2), 3 * math.log(8)], [2, 3]) == pytest.approx(2)
    logits, targets = torch.randn(9, 5, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 5
    nats = F.cross_entropy(logits, targets, reduction="none")
    assert perplexity([nats[:4].sum(), nats[4:].sum()], [4, 5]) == pytest.approx(F.cross_entropy(logits, targets).exp().item())
    with pytest.raises(ValueError, match="no tokens in 1 rows"):
        perplexity([0.0], [0])


def test_pass_at_k_is_the_share_of_choices_with_a_right_one():
    "All choices of k of n tries, listed; for every n up to 6, every count and every k."
    for tries in range(1, 7):
        for right, k in itertools.product(range(tries + 1), range(1, tries + 1)):
            choices = list(itertools.combinations([1] * right + [0] * (tries - right), k))
            assert pass_at_k([tries], [right], k) == pytest.approx(sum(map(any, choices)) / len(choices))


def test_pass_at_k_takes_problems_that_were_tried_unequally_often():
    assert pass_at_k([5, 10, 200], [2, 0, 20], 3) == pytest.approx([0.9, 0, 1 - math.comb(180, 3) / math.comb(200, 3)])


@pytest.mark.parametrize(("tries", "right", "k", "says"), [([5, 2], [1, 1], 3, "k is 3 and the least number of tries 2"), ([5], [1], 0, "k is 0"),
                                                           ([5], [6], 1, "6 right of 5 tries"), ([5], [-1], 1, "right ones are 0")])
def test_more_choices_than_tries_are_refused(tries, right, k, says):
    with pytest.raises(ValueError, match=says):
        pass_at_k(tries, right, k)


PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.95, 0.05], [0.45, 0.55]])


def test_mistakes_come_surest_first_and_by_label():
    texts, labels, names = list("abcde"), [1, 1, 0, 1, 0], ("neg", "pos")
    assert [found["text"] for found in mistakes(texts, labels, PROBABILITIES, names)] == ["d", "a", "c", "e"]
    assert mistakes(texts, labels, PROBABILITIES, names, label="neg", limit=1) == [{"row": 2, "text": "c", "label": "neg", "said": "pos", "confidence": 0.7}]
    assert [found["row"] for found in mistakes(texts, labels, PROBABILITIES, names, said="neg")] == [3, 0]
    with pytest.raises(ValueError, match="no label is called 'good': choose one of neg, pos"):
        mistakes(texts, labels, PROBABILITIES, names, said="good")
    with pytest.raises(ValueError, match="give \\(texts,\\) and \\(texts, labels\\)"):
        mistakes(texts[:4], labels, PROBABILITIES, names)


def test_a_report_has_each_score_with_its_interval():
    labels = np.array([0, 1, 1, 0, 1] * 20)
    found = scores(labels, np.tile(PROBABILITIES, (20, 1)), num_resamples=200)
    right = np.array([1, 1, 1, 1, 1] * 20)
    sure = np.tile(PROBABILITIES.max(-1), 20)
    assert found["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["calibration_error"]["value"] == pytest.approx(expected_calibration_error(sure, right))
    assert found["loss"]["value"] == pytest.approx(F.nll_loss(torch.from_numpy(PROBABILITIES).log(), torch.tensor([0, 1, 1, 0, 1])).item())
    assert set(found) == {*SCORES, "calibration_error", "loss"} and found["loss"]["low"] < found["loss"]["value"] < found["loss"]["high"]


def test_a_comparison_is_this_minus_that():
    labels = np.array([0, 1, 1, 0, 0] * 20)
    this, that = np.tile(PROBABILITIES, (20, 1)), np.tile(PROBABILITIES[:, ::-1], (20, 1))
    found = comparison(labels, this, that, num_resamples=100)
    assert found["accuracy"]["value"] == pytest.approx(0.8 - 0.2) and found["matthews"]["value"] > 0
    assert found["mcnemar"]["only_this"] == 80 and found["mcnemar"]["only_that"] == 20 and found["mcnemar"]["p_value"] < 1e-8


def test_a_classifier_is_judged_by_what_it_says():
    texts = [f"{adjective} {noun}" for adjective in ("good", "bad", "odd") for noun in ("film", "plot", "cast", "end")]
    tokenizer = set_reading(train_wordpiece(texts, 60), 8, "end")
    torch.manual_seed(0)
    model = MicroBertForSequenceClassification(MicroBertConfig(len(tokenizer), 16, num_layers=1, num_heads=2, intermediate_size=16, max_seq_len=8),
                                               ("neg", "pos")).eval()
    rows = LabelledTexts(texts, [0, 1] * 6, ("neg", "pos"))
    report, probabilities = evaluate_classifier(model, tokenizer, rows, num_resamples=50)
    said = [max(found, key=found.get) for found in classify(model, tokenizer, texts)]
    assert report["scores"]["accuracy"]["value"] == np.mean([word == rows.names[label] for word, label in zip(said, rows.labels, strict=True)])
    assert np.sum(report["confusion"]) == 12 and np.shape(report["confusion"]) == (2, 2) and probabilities.sum(-1) == pytest.approx(np.ones(12), abs=1e-5)
    with pytest.raises(CourseError, match="the texts have the labels a, b and the model knows neg, pos"):
        evaluate_classifier(model, tokenizer, LabelledTexts(texts, [0, 1] * 6, ("a", "b")))
