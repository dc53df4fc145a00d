"""`training.choose`: a preset that the GPU can train, a shape with as many parameters as were asked for."""

import pytest
import torch

from microbert_course.cli.main import main, parse
from microbert_course.cli.pretraining import with_counts
from microbert_course.errors import CourseError
from microbert_course.models.modern import ModernForMaskedLM
from microbert_course.training.build import make_model
from microbert_course.training.choose import LEAST_ROWS, choose_preset, with_target_params
from microbert_course.training.loop import build_model
from microbert_course.training.memory import largest_batch
from microbert_course.training.presets import preset


@pytest.mark.parametrize(("gigabytes", "name"), [(80, "base"), (24, "base"), (6, "v4"), (1, "v3")])
def test_auto_takes_the_largest_that_fits(gigabytes, name):
    "With micro-batches that fit by the plan and make the same batch; and it says why."
    found, config, why = choose_preset(gigabytes * 10**9)
    assert found == name and f"{gigabytes} GB" in why
    assert config.batch_size == preset(name).batch_size
    with torch.device("meta"):
        shape = build_model(config, config.vocab_size).config
    rows = config.batch_size // config.gradient_accumulation_steps
    assert LEAST_ROWS <= rows <= largest_batch(shape, gigabytes * 10**9, precision="bf16" if name != "v3" else "no", accumulating=True)


def test_auto_without_a_gpu_is_the_tour(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    name, config, why = choose_preset()
    assert name == "tour" and config == preset("tour") and "no CUDA GPU" in why


def test_a_gpu_too_small_for_anything():
    with pytest.raises(CourseError, match="not even 16 rows of v0 fit: train on the CPU with --device cpu"):
        choose_preset(500 * 10**6)


@pytest.mark.parametrize("target", [2_000_000, 10_000_000, 60_000_000])
@pytest.mark.parametrize("prefer", ["depth", "balanced", "width"])
def test_a_shape_for_a_number_of_parameters_is_within_2_percent(target, prefer):
    config = with_target_params(preset("nano"), target, prefer)
    with torch.device("meta"):
        model = make_model(config, config.vocab_size)
    assert isinstance(model, ModernForMaskedLM)
    assert model.num_parameters() == pytest.approx(target, rel=0.02)


def test_depth_is_deeper_than_width():
    depth, width = (with_target_params(preset("tiny"), 20_000_000, prefer) for prefer in ("depth", "width"))
    assert depth.num_layers > width.num_layers and depth.hidden_size < width.hidden_size


def test_a_shape_needs_to_know_the_vocabulary():
    with pytest.raises(CourseError, match="needs a vocab_size, and it is 0"):
        with_target_params(preset("nano", vocab_size=0), 10**7, "depth")


def test_counts_may_be_written_short():
    words = ["pretrain", "v2", "--max-texts", "500k", "--target-params=1.5M", "--data", "5M.txt", "--max-tokens", "2B"]
    assert with_counts(words) == ["pretrain", "v2", "--max-texts", "500000", "--target-params=1500000", "--data", "5M.txt", "--max-tokens", "2000000000"]
    assert parse(["pretrain", "v2", "--max-texts", "500k"]).max_texts == 500_000


@pytest.mark.parametrize("words", [["v2", "--seed", "3"], ["--preset", "v2", "--seed", "3"], ["--seed", "3", "--preset=v2"]])
def test_a_preset_may_be_an_option_as_in_other_commands(words):
    "Its settings are the defaults of the rest, wherever it stands."
    command = parse(["pretrain", *words])
    assert (command.preset, command.hidden_size, command.seed) == ("v2", preset("v2").hidden_size, 3)


def test_an_unknown_preset_given_as_an_option_is_named(capsys):
    assert main(["pretrain", "--preset", "v9"]) == 1
    assert "v9" in capsys.readouterr().err


def test_auto_runs_with_the_settings_that_were_given(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "texts.txt").write_text("\n".join(f"the good film number {number} was good and long ." for number in range(120)))
    small = ["--vocab-size", "60", "--num-steps", "4", "--eval-every", "2", "--warmup-steps", "1", "--batch-size", "8", "--hidden-size", "8"]
    assert main(["pretrain", "auto", "--data", str(tmp_path / "texts.txt"), "--folder", str(tmp_path / "run"), *small]) == 0
    assert "auto is tour: there is no CUDA GPU here" in capsys.readouterr().out
