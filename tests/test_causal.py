"`training.causal`: a decoder learns the next token of its own text, in any layout, and the run is like any other."

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from microbert_course.data.weights import find_weights
from microbert_course.errors import CourseError
from microbert_course.models.gpt_text import prompt_ids
from microbert_course.posttraining.problems import Problem, Prompts
from microbert_course.training.build import make_model
from microbert_course.training.causal import (
    WholeTextEncoder,
    causal_batch,
    decoder_tokenizer,
    edges,
    learn_characters,
    next_token_log_probs,
)
from microbert_course.training.loop import MaskedLMLoss
from microbert_course.training.prepare import encoder_for, prepare_data
from microbert_course.training.presets import PRESETS, preset
from microbert_course.training.run import pretrain


@pytest.fixture
def config(tmp_path, monkeypatch):
    "Sentences in which every word but the first is known from the one before it; and a cache of the test's own."
    monkeypatch.setenv("MICROBERT_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    words = [f"word{chr(97 + number)}" for number in range(20)]
    texts = [" ".join(words[(start + i) % 20] for i in range(draw.integers(5, 12))) for start in draw.integers(0, 20, 300)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    return preset("tour", data=str(tmp_path / "texts.txt"), blocks="gpt", tokenizer="words", vocab_size=0, max_seq_len=32, hidden_size=16, num_heads=4,
                  num_kv_heads=2, intermediate_size=32, batch_size=16, num_steps=60, warmup_steps=5, eval_every=30, learning_rate=1e-2, device="cpu")


@pytest.mark.parametrize("layout", ["first", "windows", "packed"])
def test_a_decoder_is_pretrained_by_the_same_run(config, layout, tmp_path):
    "It beats the guesser of frequencies, and transformers opens its folder."
    run = pretrain(replace(config, layout=layout), tmp_path / "run", progress=False)
    assert run.history["validation"][-1]["loss"] < 0.7 * run.history["unigram_loss"]
    model = AutoModelForCausalLM.from_pretrained(run.folder)
    assert (model.config.bos_token_id, model.config.eos_token_id) == edges(run.tokenizer) == (run.tokenizer.cls_token_id, run.tokenizer.sep_token_id)
    ids = torch.tensor([run.tokenizer("worda wordb")["input_ids"]])
    assert torch.allclose(model(ids).logits, run.model(ids), atol=1e-5)


def test_packed_texts_cost_what_they_cost_alone(config):
    "Summed over a row of several texts and over the same texts in rows of their own, the surprise is the same."
    data = prepare_data(replace(config, layout="packed"))
    objective = MaskedLMLoss(make_model(config, len(data.tokenizer), edges=edges(data.tokenizer)).eval())
    packed = causal_batch(data.train_ids[:4], data.tokenizer, is_packed=True)
    first, pad = edges(data.tokenizer)[0], data.tokenizer.pad_token_id
    texts = [text for row in data.train_ids[:4] for text in np.split(row, np.flatnonzero(row == first)[1:])]
    alone = np.full((len(texts), 32), pad)
    for row, text in zip(alone, texts, strict=True):
        row[:len(text)] = text
    apart = causal_batch(alone, data.tokenizer, is_packed=False)
    assert len(texts) > 4 and packed.num_predicted == apart.num_predicted == sum((text != pad).sum() - 1 for text in texts)
    assert torch.allclose(objective(*packed.tensors("cpu"))[0], objective(*apart.tensors("cpu"))[0], rtol=1e-5)


def test_a_stream_and_the_kept_texts_make_the_same_kind_of_batch(config):
    "Of a stream too, the label is the next token."
    batch = prepare_data(replace(config, streamed=True, vocab_size=20)).batch(0, config)
    asked = batch.labels != -100
    assert asked.any() and torch.equal(batch.labels[:, :-1][asked[:, :-1]], batch.input_ids[:, 1:][asked[:, :-1]])


def test_the_guesser_of_frequencies_knows_ends_and_no_beginnings(config):
    data = prepare_data(config)
    log_probs = next_token_log_probs(data.train_ids, data.tokenizer)
    first, last = edges(data.tokenizer)
    assert log_probs.exp().sum().item() == pytest.approx(1) and log_probs[last] > log_probs[first] + 3


def test_characters_are_a_tokenizer_too(config, tmp_path):
    "Every text comes back as it was, the most frequent characters have the lowest ids, and a small vocabulary keeps those."
    tokenizer = learn_characters(["a b\nb", "Bb é"])
    assert tokenizer.decode(tokenizer("a é\nB")["input_ids"], skip_special_tokens=True) == "a é\nB" and tokenizer.pad_token_id == 0
    assert tokenizer("b")["input_ids"] == [tokenizer.bos_token_id, 4] and len(learn_characters(["abba", "bb"], vocab_size=5)) == 5
    run = pretrain(replace(config, tokenizer="characters", num_steps=3, warmup_steps=0, eval_every=3), tmp_path / "run", progress=False)
    assert run.tokenizer.decode(run.tokenizer("worda")["input_ids"], skip_special_tokens=True) == "worda"
    with pytest.raises(CourseError, match="'characters' has no \\[MASK\\]"):
        replace(config, tokenizer="characters", blocks="bert", num_kv_heads=0)


def test_smollm2s_pieces_keep_case_and_spaces():
    if find_weights("smollm2") is None:
        pytest.skip("the weights of SmolLM2 are not here: run `microbert fetch smollm2`")
    tokenizer = decoder_tokenizer()
    encoder = encoder_for(tokenizer)
    assert isinstance(encoder, WholeTextEncoder) and tokenizer.pad_token_id == 0
    text = "A Film by Nobody,  with two  spaces."
    ids, = encoder.encode_whole([text])
    assert (ids[0], ids[-1]) == edges(tokenizer) == (1, 2) and tokenizer.decode(ids[1:-1]) == text
    long, short = encoder.encode([text, "short"], 6).tolist()
    assert long[-1] == 2 and short[-2:] == [0, 0]


def test_texts_longer_than_the_model_reads_are_cut_in_silence():
    "The tokenizer knows how much is read, and transformers says once, to whoever does not ask it not to, that a text is longer."
    tokenizer = learn_characters(["abc"])
    tokenizer.model_max_length = 6
    assert WholeTextEncoder(tokenizer).encode(["abcabcabc"], 6).shape == (1, 6)
    assert prompt_ids(tokenizer, "abcabcabc") == [tokenizer.bos_token_id, 4, 5, 6, 4, 5, 6, 4, 5, 6]
    assert len(Prompts([Problem("abcabcabc", "a")], tokenizer).ids[0]) == 10
    assert tokenizer.deprecation_warnings == {}


@pytest.mark.parametrize(("changes", "said"), [
    ({"tokenizer": "smollm2", "blocks": "bert", "num_kv_heads": 0}, "has no \\[MASK\\]"), ({"tokenizer": "smollm2"}, "SmolLM2's tokenizer has 49152"),
    ({"num_kv_heads": 3}, "with 4 heads give a divisor"), ({"blocks": "bert"}, "only blocks 'gpt' share key heads")])
def test_what_does_not_go_together_is_named(config, changes, said):
    with pytest.raises(CourseError, match=said):
        replace(config, **changes)


@pytest.mark.parametrize(("name", "millions"), [("lm-tiny", (16, 17)), ("lm-small", (45, 50)), ("lm-medium", (116, 118))])
def test_decoder_presets_have_the_sizes_they_are_named_for(name, millions):
    with torch.device("meta"):
        count = make_model(PRESETS[name], PRESETS[name].num_pieces).num_parameters()
    assert millions[0] * 10**6 <= count <= millions[1] * 10**6
