"A mixture keeps its rates over any stretch, every draw is a function of the seed and its place, and wrong rates are one sentence."

import time
from collections import Counter

import numpy as np
import pytest
from data_schemas import SCHEMAS

from microbert_course.data.mixture import BLOCK, Mixture, mixture_name, parse_mixture
from microbert_course.data.registry import REGISTRY, to_examples
from microbert_course.errors import CourseError

SIZES, RATES = {"alpaca": 500, "sst2": 6_000, "cola": 37}, {"alpaca": 0.6, "sst2": 0.3, "cola": 0.1}


@pytest.fixture(scope="module")
def drawn():
    "The first 40,000 draws of a mixture."
    return Mixture(SIZES, RATES, seed=3).draws(0, 40_000)


def complaint(call, *arguments, **settings):
    "The one sentence that a call ends with."
    with pytest.raises(CourseError) as caught:
        call(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- rates

def test_rates_are_within_one_per_cent_over_any_10_000_draws(drawn):
    "Wherever one begins to count; draws that each toss a coin of 0.6 stray by more than a half per cent in one stretch of three."
    for name, rate in RATES.items():
        drawn_before = np.concatenate([[0], np.cumsum([found == name for found, _ in drawn])])
        of_10_000 = drawn_before[10_000:] - drawn_before[:-10_000]
        assert np.abs(of_10_000 / 10_000 - rate).max() < 0.01


@pytest.mark.parametrize("seed", range(6))
def test_errors_do_not_add_up(seed):
    "Of many sets with odd rates, some far below one draw a block: after a million draws each is within ten draws of its share."
    rates = np.random.default_rng(seed).dirichlet(np.full(20, 0.3)) + 1e-5
    rates = {f"set {number:02}": float(rate) for number, rate in enumerate(rates / rates.sum())}
    mixture = Mixture(dict.fromkeys(rates, 10), rates, seed)
    for draws in (10 * BLOCK, 777 * BLOCK, 10_000 * BLOCK):
        counts = [mixture._count(index, draws) for index in range(20)]
        assert sum(counts) == draws
        assert max(abs(count - rates[name] * draws) for name, count in zip(mixture.names, counts, strict=True)) < 10


def test_a_block_has_every_set_at_its_share_rounded_up_or_down(drawn):
    for start in range(0, 4_000, BLOCK):
        counts = Counter(name for name, _ in drawn[start : start + BLOCK])
        assert all(abs(counts[name] - rate * BLOCK) < 1 for name, rate in RATES.items())


def test_the_order_is_random(drawn):
    "Within a block any place may be any set's, and which sets follow each other is as chance has it."
    is_sst2 = np.array([name == "sst2" for name, _ in drawn])
    by_place = is_sst2.reshape(-1, BLOCK).mean(axis=0)
    assert np.abs(by_place - 0.3).max() < 5 * (0.3 * 0.7 / 400) ** 0.5
    assert abs((is_sst2[1:] & is_sst2[:-1]).mean() - 0.3 * 0.3) < 0.01


def test_without_rates_sets_are_drawn_in_proportion_to_their_sizes():
    for rates in (None, {"a": None, "b": None}):
        mixture = Mixture({"a": 300, "b": 100}, rates, 0)
        assert mixture.rates == {"a": 0.75, "b": 0.25}
        assert Counter(name for name, _ in mixture.draws(0, 400)) == {"a": 300, "b": 100}
        assert len(set(mixture.draws(0, 400))) == 400, "every row once, and all at the same time"


# --- order and chance

def test_any_stretch_is_what_a_run_from_the_start_would_have_drawn(drawn):
    for start, stop in ((0, 1), (0, 0), (17, 950), (100, 200), (12_345, 12_999), (39_999, 40_000)):
        assert Mixture(SIZES, RATES, seed=3).draws(start, stop) == drawn[start:stop]


def test_a_mixture_that_has_been_asked_before_answers_the_same(drawn):
    mixture = Mixture(SIZES, RATES, seed=3)
    for start in (30_000, 5, 39_000, 0):
        assert mixture.draws(start, start + 50) == drawn[start : start + 50]


def test_a_draw_far_out_costs_little():
    mixture = Mixture(SIZES, RATES, seed=3)
    begun = time.process_time()
    far = mixture.draws(10_000_000, 10_000_032)
    assert time.process_time() - begun < 0.5, "counting, not drawing ten million times"
    assert mixture.draws(9_999_990, 10_000_010)[10:] == far[:10]


def test_another_seed_is_another_order_and_the_order_of_writing_is_not():
    assert Mixture(SIZES, RATES, seed=4).draws(0, 50) != Mixture(SIZES, RATES, seed=3).draws(0, 50)
    backwards = {name: RATES[name] for name in reversed(RATES)}
    assert Mixture(SIZES, backwards, seed=3).draws(0, 50) == Mixture(SIZES, RATES, seed=3).draws(0, 50)


def test_an_exhausted_set_begins_again_in_a_new_order(drawn):
    for name, size in (("cola", 37), ("alpaca", 500)):
        rows = [row for found, row in drawn if found == name]
        orders = [rows[size * again : size * (again + 1)] for again in range(5)]
        assert all(sorted(order) == list(range(size)) for order in orders), "each row once before any comes again"
        assert len({tuple(order) for order in orders}) == 5


def test_sets_of_one_size_have_orders_of_their_own():
    drawn = Mixture({"a": 50, "b": 50}, {"a": 0.5, "b": 0.5}, 0).draws(0, 100)
    assert [row for name, row in drawn if name == "a"] != [row for name, row in drawn if name == "b"]


def test_a_set_alone_is_its_own_shuffled_epochs():
    drawn = Mixture({"only": 7}, {"only": 1.0}, 5).draws(0, 14)
    assert sorted(row for _, row in drawn[:7]) == sorted(row for _, row in drawn[7:]) == list(range(7))


@pytest.mark.parametrize(("rule", "which"), [("first_exhausted", min), ("all_exhausted", max)])
def test_an_epoch_ends_when_the_first_or_the_last_set_has_been_seen_whole(drawn, rule, which):
    mixture = Mixture(SIZES, RATES, seed=3, exhausted=rule)
    seen_whole = {}
    for name, size in SIZES.items():
        places = [place for place, (found, _) in enumerate(drawn) if found == name]
        seen_whole[name] = places[size - 1] + 1
    assert mixture.epoch == which(seen_whole.values())


def test_an_epoch_is_as_long_as_that_of_datasets():
    "`interleave_datasets` draws by chance, so the lengths agree to its standard errors: four of about √(1 − rate) · √(rows) / rate."
    from datasets import Dataset, interleave_datasets

    tables = [Dataset.from_dict({"row": range(size)}) for size in (500, 900)]
    for rule, (rows, rate) in (("first_exhausted", (500, 0.6)), ("all_exhausted", (900, 0.4))):
        theirs = len(interleave_datasets(tables, probabilities=[0.6, 0.4], seed=1, stopping_strategy=rule))
        ours = Mixture({"a": 500, "b": 900}, {"a": 0.6, "b": 0.4}, 1, rule).epoch
        assert abs(ours - theirs) < 4 * ((1 - rate) * rows) ** 0.5 / rate


# --- bad input

def test_rates_that_do_not_sum_to_1_are_named_with_rates_that_would():
    said = complaint(Mixture, {"a": 5, "b": 5}, {"a": 0.6, "b": 0.3}, 0)
    assert said == "the rates sum to 0.9 and should sum to 1: write a=0.667, b=0.333, say"
    almost = Mixture({"a": 5, "b": 5}, {"a": 0.6, "b": 0.4 + 9e-7}, 0)
    assert sum(almost.rates.values()) == pytest.approx(1, abs=1e-12), "rounding is forgiven, and made good"
    assert "sum to 1.00001" in complaint(Mixture, {"a": 5, "b": 5}, {"a": 0.6, "b": 0.40001}, 0)


@pytest.mark.parametrize("rate", [0, -0.2, 1.5, float("nan"), float("inf"), "0.5", True])
def test_a_rate_is_a_share(rate):
    assert f"the rate of 'b' is {rate!r}, no share" in complaint(Mixture, {"a": 5, "b": 5}, {"a": 0.5, "b": rate}, 0)


@pytest.mark.parametrize(("sizes", "rates", "says"), [
    ({"sst2": 5}, {"ss2": 1.0}, "a rate for 'ss2', which is none of its sets: did you mean 'sst2'?"),
    ({"a": 5, "b": 5}, {"a": 1.0}, "the set 'b' has no rate: give it one, or leave the set out"),
    ({"a": 5, "b": 5}, {"a": 0.5, "b": None}, "'a' has a rate and 'b' has none: give every set a rate, or none"),
    ({"a": 5, "b": 0}, {"a": 0.5, "b": 0.5}, "the set 'b' has 0 rows"),
    ({}, {}, "a mixture of no sets"),
])
def test_sets_and_rates_must_fit(sizes, rates, says):
    assert says in complaint(Mixture, sizes, rates, 0)


def test_other_settings_that_make_no_sense():
    assert "'never' is no rule: choose first_exhausted or all_exhausted" in complaint(Mixture, {"a": 1}, {"a": 1.0}, 0, "never")
    assert "seed -1 is no seed" in complaint(Mixture, {"a": 1}, {"a": 1.0}, -1)
    with pytest.raises(ValueError, match="draws 5 to 4: count from 0"):
        Mixture({"a": 1}, {"a": 1.0}, 0).draws(5, 4)


# --- on the command line

@pytest.mark.parametrize(("text", "rates"), [
    ("sst2=0.3,alpaca.jsonl=0.7", {"sst2": 0.3, "alpaca.jsonl": 0.7}), (" sst2 = .3 , gsm8k=7e-1", {"sst2": 0.3, "gsm8k": 0.7}),
    ("sst2,gsm8k", {"sst2": None, "gsm8k": None}), ("sst2", {"sst2": None}),
    (r"C:\year=2024\a.csv=0.5,s3://bucket/year=2024/b.jsonl=0.5", {r"C:\year=2024\a.csv": 0.5, "s3://bucket/year=2024/b.jsonl": 0.5}),
    ("s3://bucket/year=2024/b.jsonl", {"s3://bucket/year=2024/b.jsonl": None}), ("data/year=2024=1", {"data/year=2024": 1.0}),
])
def test_a_mixture_is_read_from_its_text(text, rates):
    assert parse_mixture(text) == rates


@pytest.mark.parametrize(("text", "says"), [
    ("sst2=0.3,gsm8k", "'sst2' has a rate and 'gsm8k' has none"), ("sst2=lots,gsm8k=1", "the rate of 'sst2' is 'lots', no number"), ("", "a part without a name"),
    ("sst2=0.3,=0.7", "a part without a name"), ("sst2=0.5,sst2=0.5", "names 'sst2' twice"), ("sst2=0", "the rate of 'sst2' is 0.0, no share"),
    ("data/year=2024", "the rate of 'data/year' is 2024.0, no share"),
])
def test_a_mixture_that_cannot_be_read_is_one_sentence(text, says):
    assert says in complaint(parse_mixture, text)


def test_a_run_is_named_after_what_it_mixes():
    assert mixture_name("sft", "smollm2", rates={"sst2": 0.3, "data/alpaca.jsonl.gz": 0.7}) == "sft/smollm2/alpaca_70-sst2_30"
    assert mixture_name(rates={"alpaca": 0.7, "sst2": 0.3}) == mixture_name(rates={"sst2": 0.3, "alpaca": 0.7})
    assert mixture_name(rates=parse_mixture(r"s3://b/my set.jsonl=0.125,C:\x\cola.csv=0.875")) == "cola_87.5-my-set_12.5"
    assert mixture_name("sft", rates={"sst2": None, "cola": None}) == "sft/cola-sst2" and mixture_name(rates={"sst2": 1.0}) == "sst2"


def test_a_name_fits_a_folder_however_many_sets_there_are():
    many = {f"a rather long name {number}": 1 / 30 for number in range(30)}
    name, other = mixture_name(rates=many), mixture_name(rates=many | {"a rather long name 29": 0.5})
    assert len(name) <= 110 and len(other) <= 110 and name != other


# --- columns

def test_the_examples_of_all_sets_have_the_same_columns():
    "So a mixture of any of them needs no harmonising: `to_examples` has done it."
    columns = {"prompt": str, "answer": str, "kind": str, "labels": list, "final": str}
    for name, entry in REGISTRY.items():
        for example in to_examples(SCHEMAS[name], entry):
            assert {column: type(value) for column, value in example.items()} == columns
