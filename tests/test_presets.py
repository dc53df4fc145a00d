"""`training.presets`: a run is a value, and a wrong value is refused at the door."""

import dataclasses

import pytest
import torch

from microbert_course.errors import CourseError
from microbert_course.training.build import make_model
from microbert_course.training.presets import PRESETS, PretrainConfig, preset


def test_v0_is_the_shape_that_the_course_promises():
    "2 layers, 2 heads, width 4, 128 tokens, 10,000 words."
    v0 = PRESETS["v0"]
    assert (v0.num_layers, v0.num_heads, v0.hidden_size, v0.max_seq_len, v0.vocab_size) == (2, 2, 4, 128, 10_000)
    assert v0.tokenizer == "words" and v0.data == "imdb"


@pytest.mark.parametrize(("name", "layers", "width", "heads", "tokens", "words"), [
    ("v1", 2, 4, 2, 128, 10_000), ("v2", 4, 8, 4, 128, 10_000), ("v3", 6, 16, 8, 128, 10_000), ("v4", 8, 256, 8, 256, 25_000),
    ("base", 12, 768, 12, 512, 30_522),
])
def test_the_other_presets_have_their_shapes(name, layers, width, heads, tokens, words):
    config = PRESETS[name]
    assert (config.num_layers, config.hidden_size, config.num_heads, config.max_seq_len, config.vocab_size) == (layers, width, heads, tokens, words)


def test_v1_is_v0_in_mixed_precision():
    assert dataclasses.replace(PRESETS["v1"], mixed_precision="no") == PRESETS["v0"]


def test_v4_reads_96_rows_a_gpu():
    assert PRESETS["v4"].rows_per_process == 96 and PRESETS["v4"].mixed_precision == "bf16"


@pytest.mark.parametrize(("name", "millions"), [("nano", 1), ("tiny", 5), ("small", 50), ("medium", 125), ("large", 350), ("xlarge", 700)])
def test_the_modern_presets_have_about_as_many_parameters_as_they_promise(name, millions):
    with torch.device("meta"):
        assert make_model(PRESETS[name], PRESETS[name].vocab_size).num_parameters() == pytest.approx(millions * 1e6, rel=0.05)


def test_preset_with_changes_keeps_everything_else():
    changed = preset("v0", seed=3)
    assert changed.seed == 3
    assert dataclasses.replace(changed, seed=0) == PRESETS["v0"]


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(CourseError, match="no preset 'v9': choose one of tour, v0"):
        preset("v9")


def test_unknown_setting_is_named():
    with pytest.raises(CourseError, match="no setting 'learning_rat'"):
        preset("v0", learning_rat=1.0)


def test_presets_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["v0"].seed = 1


@pytest.mark.parametrize(("changes", "message"), [
    ({"hidden_size": 10, "num_heads": 4}, "hidden_size 10 does not split into 4 heads"),
    ({"num_steps": 0}, "num_steps is 0: give 1 or more"),
    ({"max_seq_len": 2}, "max_seq_len is 2: give 3 or more"),
    ({"learning_rate": 0.0}, "learning_rate is 0.0: give a number above 0"),
    ({"learning_rate": float("nan")}, "learning_rate is nan: give a number above 0"),
    ({"learning_rate": float("inf")}, "learning_rate is inf"),
    ({"dropout": 1.0}, "dropout is 1.0"),
    ({"mlm_probability": 1.5}, "mlm_probability is 1.5"),
    ({"tokenizer": "bpe"}, "tokenizer is 'bpe': choose one of 'words', 'wordpiece'"),
    ({"mixed_precision": "fp8"}, "mixed_precision is 'fp8'"),
    ({"warmup_steps": 2_000}, "warmup_steps 2000 is longer than the run of 1000 steps"),
    ({"layout": "first", "stride": 4}, "stride is 4: with layout 'first'"),
    ({"layout": "packed", "blocks": "modern"}, "modern blocks do not keep packed texts apart"),
    ({"max_seconds": float("nan")}, "max_seconds is nan"),
    ({"num_steps": 10.5}, "num_steps is 10.5: give a whole number"),
    ({"keep_checkpoints": 0}, "keep_checkpoints is 0: give 1 or more"),
    ({"batch_size": 30, "gradient_accumulation_steps": 4}, "batch_size 30 does not split into 4 micro-batches"),
])
def test_a_value_that_makes_no_sense_is_refused_by_name(changes, message):
    with pytest.raises(CourseError) as caught:
        PretrainConfig(**{"num_steps": 1_000, **changes})
    assert message in str(caught.value) and "\n" not in str(caught.value)
