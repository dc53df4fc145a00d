"""Labelled texts as rows: cut as the tokenizer would, dealt out by length as a function of seed and step, prepared once and carried elsewhere."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from microbert_course.data.wordpiece import train_wordpiece
from microbert_course.errors import CourseError
from microbert_course.posttraining.labelled_rows import (
    ClassificationData,
    LabelledRows,
    encode_texts,
    like_length_order,
    prepare_folder,
    prepare_rows,
    set_reading,
)
from microbert_course.posttraining.settings import FinetuneConfig

TEXTS = ["a film", "one of the longest films of all , and no end of it in sight", "fine !", "dull , dull , dull and then the end"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TEXTS * 3, 120)


@pytest.fixture
def prepared(tmp_path, monkeypatch, tokenizer):
    "A configuration whose rows are prepared, and the folder with them."
    monkeypatch.setenv("MICROBERT_CACHE", str(tmp_path / "cache"))
    path, test = tmp_path / "films.jsonl", tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps({"text": f"{TEXTS[i % 4]} {i}", "label": "bad" if i % 4 == 3 else "good"}) + "\n" for i in range(40)))
    test.write_text('{"text": "A film 0!", "label": "good"}\n{"text": "dull indeed", "label": "bad"}\n')
    config = FinetuneConfig(data=str(path), test=str(test), max_seq_len=10)
    return config, prepare_folder(config, tokenizer)


@pytest.mark.parametrize("keep", ["start", "end"])
def test_rows_are_those_of_the_tokenizer_whichever_end_is_kept(tokenizer, keep):
    set_reading(tokenizer, 8, keep)
    expected = tokenizer(TEXTS, truncation=True, padding="max_length")["input_ids"]
    assert encode_texts(TEXTS, tokenizer, 8).tolist() == expected
    last = tokenizer.convert_ids_to_tokens(expected[3])[-2]
    assert last == ("end" if keep == "end" else "and")


def test_an_order_visits_every_row_once_and_keeps_like_lengths_together():
    lengths = np.random.default_rng(0).integers(3, 200, size=1000)
    for epoch in range(3):
        order = like_length_order(lengths, seed=1, epoch=epoch, batch_size=16)
        assert sorted(order) == list(range(1000))
    batches = lengths[like_length_order(lengths, 1, 0, 16)[:992]].reshape(62, 16)
    assert np.ptp(batches, axis=1).mean() < 20 < np.ptp(lengths.reshape(-1, 8), axis=1).mean()  # spread within a batch
    assert np.abs(np.diff(batches.mean(1))).mean() > 40  # and long and short batches take turns
    assert (like_length_order(lengths, 1, 0, 16) != like_length_order(lengths, 2, 0, 16)).any()


def test_batches_stay_aligned_in_later_epochs():
    "10 rows in batches of 4: the third batch has the last two rows of one epoch and two of any length from the next, the fourth is whole again."
    lengths = np.array([5, 50] * 5)
    rows = LabelledRows(np.ones((10, 50), dtype=np.uint16) * (np.arange(50) < lengths[:, None]), np.zeros(10, dtype=np.int64))
    data = ClassificationData(None, ("a", "b"), rows, rows)
    config = FinetuneConfig(batch_size=4)
    seen = [data.batch(step, config) for step in range(5)]
    assert sum(batch.num_tokens for batch in seen) == 2 * lengths.sum()  # two epochs, each row twice
    again = data.batch(1, config)
    assert torch.equal(again.input_ids, ClassificationData(None, ("a", "b"), rows, rows).batch(1, config).input_ids)  # whatever came before
    whole = like_length_order(lengths, 0, 1, 4)[2:10].reshape(2, 4)
    assert np.array_equal(np.sort(lengths[whole].mean(1)), np.sort(lengths[whole], axis=None).reshape(2, 4).mean(1))


def test_a_batch_is_cut_to_its_longest_text_and_so_is_each_part_of_it():
    rows = LabelledRows(np.array([[2, 7, 3, 0, 0, 0], [2, 7, 8, 9, 3, 0], [2, 3, 0, 0, 0, 0]], dtype=np.uint16), np.array([0, 1, 0]))
    batch = rows.batch(np.array([0, 1, 2]))
    assert batch.input_ids.shape == (3, 5) and batch.num_tokens == 10 and batch.num_predicted == 3
    assert batch.slice(2, 3).input_ids.tolist() == [[2, 3]]
    assert batch.slice(2, 3).tensors("cpu")[1] is None and batch.tensors("cpu")[1].sum() == 10  # no mask where nothing is padding
    assert np.array_equal(np.concatenate(rows.by_length(2)), [1, 0, 2])


def test_prepared_rows_hold_all_parts_and_leave_copies_of_test_texts_out(prepared, tokenizer):
    config, folder = prepared
    data = prepare_rows(config, tokenizer)
    assert (len(data.train), len(data.validation), len(data.test), data.num_copies) == (35, 4, 2, 1)
    assert data.names == ("bad", "good") and data.test.labels.tolist() == [1, 0]
    assert prepare_folder(config, tokenizer) == folder  # found again, not made again
    assert len(prepare_rows(replace(config, max_texts=9), tokenizer).train) == 9


def test_a_prepared_folder_is_data_on_another_machine(prepared, tokenizer, tmp_path):
    config, folder = prepared
    carried = shutil.copytree(folder, tmp_path / "carried")
    data = prepare_rows(replace(config, data=str(carried), test=""), tokenizer)
    assert data.fingerprint() == prepare_rows(config, tokenizer).fingerprint() and len(data.test) == 2
    assert data.fingerprint() != data.fingerprint("another model")


@pytest.mark.parametrize(("changes", "words"), [
    ({"max_seq_len": 12}, ["max_seq_len 10", "the run 12"]), ({"keep": "start"}, ["keep 'end'", "the run 'start'"]),
    ({"test": "more.csv"}, ["more.csv", "--test"]),
])
def test_rows_prepared_otherwise_are_refused(prepared, tokenizer, changes, words):
    config, folder = prepared
    with pytest.raises(CourseError) as caught:
        prepare_rows(replace(config, **{"data": str(folder), "test": "", **changes}), tokenizer)
    assert all(word in str(caught.value) for word in words), caught.value


def test_rows_of_another_tokenizer_are_refused_and_damage_is_found(prepared, tokenizer, tmp_path):
    config, folder = prepared
    with pytest.raises(CourseError, match="another tokenizer than that of minilm"):
        prepare_rows(replace(config, data=str(folder), test=""), train_wordpiece(["quite other words"] * 3, 60))
    carried = shutil.copytree(folder, tmp_path / "carried")
    labels = bytearray((carried / "train_labels.npy").read_bytes())
    labels[-1] ^= 1
    (carried / "train_labels.npy").write_bytes(labels)
    with pytest.raises(CourseError, match="cannot be used.*train_labels.npy"):
        prepare_rows(replace(config, data=str(carried), test=""), tokenizer)


def test_epochs_become_updates():
    config = FinetuneConfig(num_epochs=3, batch_size=16, warmup_share=0.1, looks_per_epoch=2).for_rows(100)
    assert (config.num_steps, config.warmup_steps, config.eval_every) == (21, 2, 4)
    assert config.for_rows(100) == config  # as on a resume
    assert FinetuneConfig(num_epochs=0, num_steps=5).for_rows(100).num_steps == 5
    with pytest.raises(CourseError, match="num_steps 50 and num_epochs 3 are both given: 3 epochs of 100 texts make it 21"):
        FinetuneConfig(num_steps=50).for_rows(100)


def test_epochs_count_the_rows_of_all_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert FinetuneConfig(num_epochs=1, rows_per_process=5, gradient_accumulation_steps=2, batch_size=20).for_rows(100).num_steps == 5


@pytest.mark.parametrize(("changes", "words"), [
    ({"layers": "last_4"}, "layers is 'last_4': choose one of 'classifier', 'last_2', 'last_3', 'all'"), ({"num_epochs": -1}, "num_epochs is -1"),
    ({"warmup_share": 1.0}, "warmup_share is 1.0"), ({"max_seq_len": 2}, "max_seq_len is 2"), ({"class_weights": "some"}, "class_weights is 'some'"),
])
def test_settings_without_sense_are_refused(changes, words):
    with pytest.raises(CourseError) as caught:
        FinetuneConfig(**changes)
    assert words in str(caught.value)
