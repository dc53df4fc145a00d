"Every exported piece agrees with its outside reference on fresh random inputs, or says why there is none."

import importlib
import random
import time

import pytest
import torch
from torch import nn

from microbert_course.lessons.parity import NO_DTYPE, Case, Draw, as_html, differences, measure, relative
from microbert_course.lessons.parity_posttraining import CASES, EXEMPT
from microbert_course.lessons.public_names import exported_modules
from microbert_course.paths import course_root


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.pieces[0])
def test_a_piece_agrees_with_its_reference(case):
    "Three seeds that nobody chose: the day's number. A difference above the tolerance names it, and it can be repeated."
    day = int(time.time() // 86_400)
    for seed in (day, day + 1, day + 2):
        for row in measure(seed, 3, [case]):
            assert row.is_within(), f"measure({seed}, 3): {row}"


def exported() -> set[str]:
    "What the lessons export, named below the package."
    return {f"{module.name.partition('.')[2]}.{name}" for module in exported_modules(course_root(), "microbert_course")
            for name in module.exports()}


def test_every_exported_name_has_a_reference_or_a_reason():
    listed = {piece for case in CASES for piece in case.pieces}
    assert not exported() - listed - set(EXEMPT), "add a case to parity_cases.py, or the name to EXEMPT with the reason"
    assert not listed & set(EXEMPT), "a piece with a case needs no excuse"
    assert not set(EXEMPT) - exported(), "no lesson exports these any more: delete them from EXEMPT"


def test_every_piece_of_the_table_exists():
    for case in CASES:
        for piece in case.pieces:
            module, _, name = piece.rpartition(".")
            assert callable(getattr(importlib.import_module(f"microbert_course.{module}"), name))


def off_by(share: float) -> Case:
    "A piece whose result and gradient are too large by a share."
    def compare(draw: Draw):
        x = draw.normal(draw.size(2, 5), 3)
        return differences(draw, [x.sin() * (1 + share)], [x.sin()], [(x, x)])
    return Case(("some.piece",), "torch.sin", "a few numbers", compare, {"float64": 1e-6, "float32": 1e-6})


def test_a_wrong_piece_is_found_and_its_row_says_by_how_much():
    for row in measure(0, 4, [off_by(1e-3)]):
        assert not row.is_within() and row.forward == pytest.approx(1e-3, rel=0.01) and row.gradients == pytest.approx(1e-3, rel=0.01)
    assert "<b>exceeded</b>" in as_html(measure(0, 4, [off_by(1e-3)]))
    assert all(row.is_within() for row in measure(0, 4, [off_by(0.0)]))


def test_a_wrong_gradient_alone_is_found():
    def compare(draw: Draw):
        x = draw.normal(5)
        return differences(draw, [x.sin() + x - x.detach()], [x.sin()], [(x, x)])  # the value of sin, not its slope
    (row,) = measure(0, 2, [Case(("some.piece",), "torch.sin", "", compare, {"float64": 1e-6})])
    assert row.forward < 1e-15 < 0.1 < row.gradients and not row.is_within()


def test_nan_is_no_agreement_and_shapes_must_be_equal():
    assert relative([torch.tensor([1.0, float("nan")])], [torch.tensor([1.0, 1.0])]) == float("inf")
    with pytest.raises(ValueError, match=r"\(2, 1\) is compared with \(2,\)"):
        relative([torch.ones(2, 1)], [torch.ones(2)])


def test_a_gradient_that_is_zero_in_theory_is_judged_by_the_size_of_the_others():
    ours, theirs = [torch.tensor([1e-9]), torch.tensor([2.0])], [torch.tensor([3e-9]), torch.tensor([2.0])]
    assert relative(ours, theirs) == pytest.approx(1e-9)


def test_the_same_seed_draws_the_same_and_another_seed_other_inputs():
    cases = [case for case in CASES if case.pieces[0].endswith("MultiHeadAttention")]
    rows = [measure(seed, 2, cases) for seed in (3, 3, 4)]
    assert rows[0] == rows[1] != rows[2]


def test_draws_reach_every_kind_of_input():
    "Sizes at both ends, each mask, rows without and with padding."
    sizes = {Draw(seed, "float32").size(2, 4) for seed in range(50)}
    masks = [Draw(seed, NO_DTYPE).mask(3, 6) for seed in range(50)]
    assert sizes == {2, 3, 4} and all(mask[:, 0].all() for mask in masks)
    assert {int(mask.sum(1).min()) for mask in masks} >= {1, 2, 3} and any(mask.all(1).any() for mask in masks)
    assert {Draw(seed, "float32").choice("abcd") for seed in range(50)} == set("abcd")


def test_a_shaken_module_has_no_parameter_left_at_its_start():
    norm = Draw(0, "float32").shake(nn.LayerNorm(7))
    assert (norm.weight != 1).all() and (norm.bias != 0).all()
    assert random.Random(Draw(5, NO_DTYPE).seed).random() == random.Random(5).random()
