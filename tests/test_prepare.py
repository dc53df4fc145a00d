"""`training.prepare`: the same rows whether they are made, remembered or streamed, and packed texts that do not see each other."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from microbert_course.data import wordpiece
from microbert_course.data.cache import entries
from microbert_course.data.corpus import is_held_out
from microbert_course.data.sources import load
from microbert_course.errors import CourseError
from microbert_course.training import prepare
from microbert_course.training.build import make_model
from microbert_course.training.prepare import PackedData, StreamedData, learn_tokenizer, open_prepared, prepare_data
from microbert_course.training.presets import preset
from microbert_course.training.run import pretrain


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    "A cache of the test's own."
    monkeypatch.setenv("MICROBERT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config(tmp_path):
    "Texts of 3 to 40 words."
    draw = np.random.default_rng(0)
    words = [f"word{number}" for number in range(60)]
    texts = [" ".join(draw.choice(words, draw.integers(3, 40))) for _ in range(300)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    return preset("tour", data=str(tmp_path / "texts.txt"), vocab_size=120, max_seq_len=32, hidden_size=16, intermediate_size=16, batch_size=8,
                  num_steps=6, warmup_steps=1, eval_every=3, device="cpu")


def test_the_tokenizer_learns_from_the_training_texts_alone(tmp_path):
    "As many of them as the configuration says; the validation texts become ids with what was learned there."
    (tmp_path / "texts.txt").write_text("\n".join(f"word{i:03} is here" for i in range(100)))
    config = preset("tour", data=str(tmp_path / "texts.txt"), tokenizer="words", vocab_size=500, max_seq_len=8, max_texts=30)
    prepared = prepare_data(config)
    seen = {text.split()[0] for text in load(config.data, "train")["text"][:30]}
    assert {word for word in prepared.tokenizer.get_vocab() if word.startswith("word")} == seen
    assert prepared.train_ids.shape == (30, 8)
    unknown = prepared.tokenizer.unk_token_id
    assert prepared.validation_ids[:, 1].tolist() == [unknown] * len(load(config.data, "validation"))


def test_what_was_prepared_is_remembered(config, monkeypatch):
    "The second time nothing is learned and nothing encoded; another setting is another entry."
    first = prepare_data(config)
    monkeypatch.setattr(prepare, "learn_tokenizer", lambda *_: pytest.fail("the tokenizer was learned again"))
    again = prepare_data(config)
    assert (again.train_ids == first.train_ids).all() and (again.validation_ids == first.validation_ids).all()
    assert again.tokenizer.get_vocab() == first.tokenizer.get_vocab() and len(entries()) == 1
    with pytest.raises(pytest.fail.Exception, match="learned again"):
        prepare_data(dataclasses.replace(config, vocab_size=100))


def test_a_cache_entry_trains_on_another_machine(config, tmp_path):
    "The folder's path is data enough; one that is damaged, or of other rows, is refused."
    first = prepare_data(config)
    folder = entries()[0].folder
    elsewhere = folder.rename(tmp_path / "carried")
    found = prepare_data(dataclasses.replace(config, data=str(elsewhere)))
    assert (found.train_ids == first.train_ids).all()
    with pytest.raises(CourseError, match="have max_seq_len 32 and the run 24"):
        open_prepared(elsewhere, dataclasses.replace(config, max_seq_len=24))
    (elsewhere / "about.json").write_text(json.dumps({"max_seq_len": 24, "layout": "first"}))
    with pytest.raises(CourseError, match="cannot be used: about.json has .* bytes instead of .*; prepare them again"):
        open_prepared(elsewhere, config)


def test_windows_lose_nothing_and_packed_rows_have_less_padding(config):
    counts, shares = {}, {}
    for layout in ("first", "windows", "packed"):
        ids = prepare_data(dataclasses.replace(config, layout=layout)).train_ids
        counts[layout], shares[layout] = int((ids >= 5).sum()), float((ids != 0).mean())
    assert counts["first"] < counts["windows"] == counts["packed"]
    assert shares["packed"] > 0.9 > shares["windows"]


def test_packed_texts_do_not_see_each_other(config):
    "The scores of every text are those that it has alone, within 1e-5."
    config = dataclasses.replace(config, layout="packed")
    data = prepare_data(config)
    assert isinstance(data, PackedData)
    batch, model = data.batch(0, config), make_model(config, len(data.tokenizer)).eval()
    together = model.features(batch.input_ids, batch.attention_mask, position_ids=batch.position_ids)
    assert batch.attention_mask.max() > 1
    for row, numbers in enumerate(batch.attention_mask):
        for number in range(1, int(numbers.max()) + 1):
            places = numbers == number
            alone = model.features(batch.input_ids[row, places][None])
            torch.testing.assert_close(together[row, places], alone[0], atol=1e-5, rtol=0)
            assert batch.position_ids[row, places].tolist() == list(range(int(places.sum())))


@pytest.mark.parametrize("layout", ["first", "packed"])
def test_a_stream_is_a_function_of_the_step(config, layout):
    "Any step again gives the same rows, also from a new reader, also backwards."
    config = dataclasses.replace(config, streamed=True, layout=layout, buffer_size=20)
    data, again = prepare_data(config), prepare_data(config)
    assert isinstance(data, StreamedData) and isinstance(data, PackedData) == (layout == "packed")
    forwards = [data.rows(step, 8, 0) for step in range(6)]
    assert all((again.rows(step, 8, 0) == forwards[step]).all() for step in (4, 1, 2))
    assert (again.rows(0, 8, seed=1) != forwards[0]).any()
    assert len(data.validation_ids) > 10


@pytest.mark.parametrize("changes", [{"streamed": True, "buffer_size": 20}, {"layout": "packed"}, {"streamed": True, "layout": "packed"},
                                     {"layout": "windows", "stride": 4}, {"blocks": "modern", "num_heads": 2}])
def test_a_run_resumes_to_the_bit_on_every_kind_of_data(config, tmp_path, changes):
    config = dataclasses.replace(config, **changes)
    whole = pretrain(config, tmp_path / "whole", progress=False)

    def stop(model, score):
        if score["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(config, tmp_path / "run", progress=False, on_evaluation=stop)
    again = pretrain(config, tmp_path / "run", progress=False, resume="latest")
    assert again.history == whole.history
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_run_that_was_moved_together_with_its_texts_goes_on(config, tmp_path, streamed):
    "The same texts in another place are the same data; other texts are not, and the place is named then."
    config = dataclasses.replace(config, streamed=streamed)

    def stop(model, score):
        raise KeyboardInterrupt

    (tmp_path / "here").mkdir()
    (tmp_path / "texts.txt").rename(tmp_path / "here" / "texts.txt")
    with pytest.raises(KeyboardInterrupt):
        pretrain(dataclasses.replace(config, data=str(tmp_path / "here" / "texts.txt")), tmp_path / "here" / "run", progress=False, on_evaluation=stop)
    there, data = (tmp_path / "here").rename(tmp_path / "there"), str(tmp_path / "there" / "texts.txt")
    (tmp_path / "other.txt").write_text("\n".join(reversed((there / "texts.txt").read_text().splitlines())))
    with pytest.raises(CourseError, match="data is '.*other.txt' and was '.*here.*texts.txt' in the checkpoint: resume with the same settings"):
        pretrain(dataclasses.replace(config, data=str(tmp_path / "other.txt")), there / "run", progress=False, resume="latest")
    again = pretrain(dataclasses.replace(config, data=data), there / "run", progress=False, resume="latest")
    assert len(again.history["train"]) == 6 and json.loads((again.folder / "training.json").read_text())["data"] == data


@pytest.mark.parametrize("text", ["only one text", "text number 3"])
def test_a_stream_too_short_to_hold_anything_out(config, tmp_path, text):
    "Or where all that there is would be held out, as the second text."
    assert is_held_out(text) == (text == "text number 3")
    (tmp_path / "short.txt").write_text(f"{text}\n")
    with pytest.raises(CourseError, match="too short to hold out a text in ten: leave out --streamed"):
        prepare_data(dataclasses.replace(config, data=str(tmp_path / "short.txt"), streamed=True, vocab_size=0))


@pytest.mark.parametrize("changes", [{}, {"vocab_size": 0}, {"tokenizer": "words"}, {"streamed": True}, {"blocks": "gpt", "tokenizer": "characters"}])
def test_texts_of_markup_alone_are_named(config, tmp_path, changes):
    (tmp_path / "markup.txt").write_text("\n".join(f'<img src="{number}.png"><br />' for number in range(50)))
    with pytest.raises(CourseError, match="markup.txt holds nothing but markup, such as <br />, which is not learned: give texts with words between it"):
        prepare_data(dataclasses.replace(config, data=str(tmp_path / "markup.txt"), **changes))


def test_a_vocabulary_of_0_is_as_large_as_the_texts_support(config):
    texts = ["the cat sat on the mat"] * 300 + ["a dog"] * 2
    pieces = learn_tokenizer(dataclasses.replace(config, vocab_size=0), texts)
    assert len(pieces) == wordpiece.choose_vocab_size(wordpiece.count_words(texts))
    words = learn_tokenizer(dataclasses.replace(config, vocab_size=0, tokenizer="words"), texts)
    assert set(words.get_vocab()) == {"the", "cat", "sat", "on", "mat", *wordpiece.SPECIAL_TOKENS}
