"The decoder: Llama's numbers on the same weights, a cache that changes nothing, sampling as transformers does it, and folders and files that are refused with a sentence."

import json
import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from microbert_course.data.weights import find_weights
from microbert_course.errors import CourseError
from microbert_course.models import gguf_files
from microbert_course.models.checkpoints import to_transformers_weights
from microbert_course.models.gguf_files import GgufFile, read_gguf
from microbert_course.models.gpt import (
    GPT_SHAPES,
    Gpt,
    GptConfig,
    GptForCausalLM,
    GroupedQueryAttention,
    KeyValueCache,
    LayerCache,
    choose_token,
    generate,
    gpt_block,
    grouped_attention,
    keep_top_k,
    keep_top_p,
    next_token_labels,
    past_keys,
    penalise_repetition,
    stream,
)
from microbert_course.models.gpt_folders import (
    from_llama_config,
    llama_rows,
    llama_weight_names,
    load_decoder,
    to_llama_config,
)
from microbert_course.models.modern import GatedFeedForward, RMSNorm, RotaryPositions
from microbert_course.models.transformer import PreNorm, TransformerBlock
from microbert_course.training.loop import MaskedLMLoss

CONFIG = GptConfig(vocab_size=40, hidden_size=24, num_layers=3, num_heads=6, num_kv_heads=2, intermediate_size=20, max_seq_len=48, eos_token_id=3)


def make_model(config=CONFIG, seed=0):
    "A model whose every parameter matters: scales are away from 1, and scores far from even."
    torch.manual_seed(seed)
    model = GptForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def make_ids(batch=3, seq=11, seed=1):
    return torch.randint(4, 40, (batch, seq), generator=torch.Generator().manual_seed(seed))


def llama(model, folder, attention="eager"):
    "The same weights in transformers' hands."
    model.save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention).eval()


LEFT = torch.tensor([[1] * 11, [0] * 3 + [1] * 8, [0] * 9 + [1] * 2])
RIGHT = LEFT.flip(1)


# beside transformers' Llama

@pytest.mark.parametrize("changes", [{}, {"num_kv_heads": 6}, {"num_kv_heads": 1, "tie_word_embeddings": False}, {"rope_theta": 500.0, "rms_norm_eps": 1e-3}])
@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_logits_and_all_gradients_are_llamas(changes, padding, tmp_path):
    model = make_model(replace(CONFIG, **changes))
    theirs = llama(model, tmp_path)
    assert isinstance(theirs, LlamaForCausalLM)
    input_ids, mask = make_ids(), {"none": None, "left": LEFT, "right": RIGHT}[padding]
    real = torch.ones(3, 11).bool() if mask is None else mask.bool()
    ours, expected = model(input_ids, mask), theirs(input_ids=input_ids, attention_mask=mask).logits
    torch.testing.assert_close(ours[real], expected[real], atol=1e-5, rtol=1e-5)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2)) * real[..., None]
    (ours * weight).sum().backward()
    (expected * weight).sum().backward()
    our_grads, their_grads = dict(model.named_parameters()), dict(theirs.named_parameters())
    names = llama_weight_names(model)
    assert names.keys() == our_grads.keys()
    for our, their in names.items():
        torch.testing.assert_close(our_grads[our].grad, torch.cat([their_grads[name].grad for name in their]), atol=1e-4, rtol=1e-5, msg=our)


def test_a_packed_row_reads_as_its_documents_do_alone(tmp_path):
    "In transformers too, when it is told where documents begin."
    model = make_model()
    lengths, input_ids = (5, 1, 4), make_ids(1, 12)
    numbers = torch.tensor([[1] * 5 + [2] + [3] * 4 + [0] * 2])
    places = torch.tensor([[*range(5), 0, *range(4), 0, 0]])
    with torch.no_grad():
        together = model(input_ids, numbers, places)[0, :10]
        alone = torch.cat([model(document) for document in input_ids[:, :10].split(lengths, dim=1)], dim=1)[0]
        without_places = model(input_ids, numbers)[0, :10]
        theirs = llama(model, tmp_path, "sdpa")(input_ids=input_ids[:, :10], position_ids=places[:, :10], use_cache=False).logits[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(without_places, alone, atol=1e-4, rtol=1e-4)  # only distances count
    torch.testing.assert_close(together, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("padding", [False, True])
def test_greedy_text_is_llamas_with_and_without_cache(padding, use_cache, tmp_path):
    model, input_ids = make_model(replace(CONFIG, tie_word_embeddings=False)), make_ids()
    theirs = llama(model, tmp_path)
    mask = LEFT if padding else torch.ones_like(LEFT)
    penalty = 1.0 if padding else 1.3  # theirs counts padding as said
    expected = theirs.generate(input_ids=input_ids, attention_mask=mask, max_new_tokens=30, do_sample=False, use_cache=use_cache,
                               repetition_penalty=penalty, pad_token_id=0)
    found = generate(model, input_ids, mask, 30, temperature=0, repetition_penalty=penalty, use_cache=use_cache)
    assert torch.equal(found, expected)
    assert len(found[:, 11:].unique()) > 6  # a text, not one token


# the parts

def test_grouped_attention_equals_torchs_and_copies_no_key_for_one_query():
    torch.manual_seed(0)
    key, value = torch.randn(2, 2, 2, 7, 4)
    for num_queries in (1, 3):
        query, may_look = torch.randn(2, 6, num_queries, 4), torch.rand(2, 1, num_queries, 7) > 0.3
        may_look[..., 0] = True
        expected = F.scaled_dot_product_attention(query, key, value, may_look, enable_gqa=True)
        torch.testing.assert_close(grouped_attention(query, key, value, may_look), expected)


def test_as_many_key_heads_as_query_heads_is_multi_head_attention():
    from microbert_course.models.attention import MultiHeadAttention

    torch.manual_seed(0)
    plain, grouped = MultiHeadAttention(12, 3, is_causal=True), GroupedQueryAttention(12, 3, 3)
    grouped.load_state_dict(plain.state_dict())
    states = torch.randn(2, 7, 12)
    torch.testing.assert_close(grouped(states), plain(states))
    torch.testing.assert_close(grouped.attention_weights(states), plain.attention_weights(states))


def test_nobody_sees_the_future_padding_or_another_document():
    numbers = torch.tensor([[0, 1, 1, 2, 2, 0]])
    expected = torch.zeros(6, 6).bool()
    for query, key in ((1, 1), (2, 1), (2, 2), (3, 3), (4, 3), (4, 4)):
        expected[query, key] = True
    expected[[0, 5]] = True  # nobody to look at: everybody, so that no kernel makes nan
    assert torch.equal(past_keys(numbers, 6, 6)[0, 0], expected)
    assert torch.equal(past_keys(numbers, 2, 6)[0, 0], expected[4:])
    assert torch.equal(past_keys(None, 2, 3)[0, 0], torch.tensor([[1, 1, 0], [1, 1, 1]]).bool())


def test_a_cache_in_pieces_of_any_size_equals_one_reading():
    model, input_ids = make_model(), make_ids()
    for mask in (None, LEFT):
        cache, parts = KeyValueCache(3, 11), []
        for part in input_ids.split([4, 1, 5, 1], dim=1):
            seen = cache.num_seen + part.size(1)
            parts.append(model(part, None if mask is None else mask[:, :seen], cache=cache))
        real = torch.ones_like(input_ids).bool() if mask is None else mask.bool()
        torch.testing.assert_close(torch.cat(parts, dim=1)[real], model(input_ids, mask)[real], atol=1e-5, rtol=1e-5)
    assert cache.num_seen == 11
    with pytest.raises(ValueError, match="12 tokens do not fit into a cache with room for 11"):
        model(input_ids[:, :1], cache=cache)


def test_a_cache_takes_its_memory_once_and_its_copies_are_their_own():
    torch.manual_seed(0)
    cache, key = LayerCache(room=9), torch.randn(2, 3, 4, 5)
    cache.extend(key, -key)
    taken = cache.keys.data_ptr()
    keys, values = cache.extend(key[:, :, :1], key[:, :, :1])
    assert keys.shape == (2, 3, 5, 5) and cache.keys.data_ptr() == taken and cache.keys.shape == (2, 3, 9, 5)
    torch.testing.assert_close(values[:, :, :4], -key)
    copy = cache.repeated(times=3, room=6)
    assert copy.keys.shape == (6, 3, 6, 5) and copy.num_seen == 5
    torch.testing.assert_close(copy.keys[:, :, :5], keys.repeat_interleave(3, dim=0))
    copy.extend(torch.zeros(6, 3, 1, 5), torch.zeros(6, 3, 1, 5))
    assert cache.num_seen == 5


def test_the_block_is_composed_of_the_courses_parts():
    block = gpt_block(CONFIG)
    assert isinstance(block, TransformerBlock) and isinstance(block.attention, PreNorm) and isinstance(block.feed_forward, PreNorm)
    parts = (block.attention.sublayer, block.attention.sublayer.positions, block.attention.norm, block.feed_forward.sublayer)
    assert [type(part) for part in parts] == [GroupedQueryAttention, RotaryPositions, RMSNorm, GatedFeedForward]
    assert not [name for name, _ in Gpt(CONFIG).named_parameters() if name.endswith("bias")]


def test_branches_begin_smaller_the_more_of_them_are_added_up():
    torch.manual_seed(0)
    model = GptForCausalLM(replace(CONFIG, hidden_size=96, intermediate_size=96, num_layers=8))
    for block in model.gpt.blocks:
        for last, first in ((block.attention.sublayer.out, block.attention.sublayer.qkv), (block.feed_forward.sublayer.down, block.feed_forward.sublayer.gate_and_up)):
            assert first.weight.std().item() == pytest.approx(0.02, rel=0.1) and last.weight.std().item() == pytest.approx(0.005, rel=0.1)


def test_samples_of_a_prompt_read_it_once(monkeypatch):
    model, input_ids, read = make_model(), make_ids(2, 5), []
    real = model.gpt.forward
    monkeypatch.setattr(model.gpt, "forward", lambda ids, *rest, **more: read.append((*ids.shape, torch.is_grad_enabled())) or real(ids, *rest, **more))
    found = generate(model, input_ids, max_new_tokens=4, num_samples=3, eos_token_id=-1, generator=torch.Generator().manual_seed(0))
    assert read == [(2, 5, False), *[(6, 1, False)] * 3]
    assert torch.equal(found[:, :5], input_ids.repeat_interleave(3, dim=0))
    monkeypatch.undo()
    apart = generate(model, input_ids.repeat_interleave(3, dim=0), max_new_tokens=4, eos_token_id=-1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found, apart)


def test_left_padding_changes_no_continuation():
    model = make_model()
    rows = [make_ids(1, seq, seed=seq) for seq in (2, 7, 5)]
    favourite = int(model(rows[0])[0, -1].argmax())  # as padding it must not count as said
    padded = torch.cat([F.pad(row, (7 - row.size(1), 0), value=favourite) for row in rows])
    mask = torch.cat([F.pad(torch.ones_like(row), (7 - row.size(1), 0)) for row in rows])
    together = generate(model, padded, mask, 20, temperature=0, repetition_penalty=1.2, eos_token_id=-1)[:, 7:]
    alone = torch.cat([generate(model, row, None, 20, temperature=0, repetition_penalty=1.2, eos_token_id=-1)[:, -20:] for row in rows])
    assert torch.equal(together, alone)


def test_rows_that_are_done_are_filled_up_and_the_last_one_ends_it():
    model, input_ids = make_model(), make_ids(4, 6)
    free = generate(model, input_ids, max_new_tokens=30, temperature=0, eos_token_id=-1)
    eos = int(free[0, 9])
    found = generate(model, input_ids, max_new_tokens=30, temperature=0, eos_token_id=eos)
    for row, expected in zip(found[:, 6:], free[:, 6:], strict=True):
        stop = (expected == eos).nonzero()[:1, 0].tolist() or [29]
        assert torch.equal(row[: stop[0] + 1], expected[: stop[0] + 1][: len(row)]) and (row[stop[0] + 1 :] == 0).all()
    alone = generate(model, input_ids[:1], max_new_tokens=30, temperature=0, eos_token_id=eos)
    assert alone.size(1) <= 10 and alone[0, -1] == eos


def test_generation_leaves_the_model_as_it_was():
    model = make_model(replace(CONFIG, dropout=0.5)).train()
    texts = [generate(model, make_ids(), max_new_tokens=5, temperature=0) for _ in range(2)]
    assert torch.equal(*texts) and model.training
    tokens = stream(model, make_ids(), max_new_tokens=5)
    next(tokens)
    assert torch.is_grad_enabled()
    tokens.close()
    assert model.training
    model(generate(model, make_ids(), max_new_tokens=5)).sum().backward()  # its ids can be trained on


def test_labels_are_the_next_token_of_the_same_document():
    input_ids = torch.tensor([[5, 6, 7, 8, 9, 0]])
    assert next_token_labels(input_ids).tolist() == [[6, 7, 8, 9, 0, -100]]
    assert next_token_labels(input_ids, input_ids != 0).tolist() == [[6, 7, 8, 9, -100, -100]]
    assert next_token_labels(input_ids, torch.tensor([[1, 1, 2, 2, 2, 0]])).tolist() == [[6, -100, 8, 9, -100, -100]]
    assert next_token_labels(input_ids.flip(1), torch.tensor([[0, 1, 1, 1, 1, 1]])).tolist() == [[-100, 8, 7, 6, 5, -100]]


def test_the_courses_loss_is_llamas(tmp_path):
    "`MaskedLMLoss` with shifted labels, per predicted token."
    model, input_ids = make_model(), make_ids()
    labels = next_token_labels(input_ids, RIGHT).flatten()
    places = (labels != -100).nonzero()[:, 0]
    loss, _ = MaskedLMLoss(model)(input_ids, RIGHT, places, labels[places])
    theirs = llama(model, tmp_path)(input_ids=input_ids, attention_mask=RIGHT, labels=input_ids.masked_fill(RIGHT == 0, -100)).loss
    torch.testing.assert_close(loss / len(places), theirs)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["nano", "lm-tiny", "lm-small", "lm-medium"])
def test_named_shapes_have_the_size_they_promise(name):
    with torch.device("meta"):
        count = GptForCausalLM(GPT_SHAPES[name]).num_parameters()
    low, high = {"nano": (0.8e6, 1.2e6), "lm-tiny": (15.5e6, 16.5e6), "lm-small": (45e6, 50e6), "lm-medium": (116e6, 118e6)}[name]
    assert low <= count <= high
    layers, width, seq = {"nano": (3, 128, 128), "lm-tiny": (4, 256, 256), "lm-small": (6, 512, 512), "lm-medium": (12, 768, 1_024)}[name]
    config = GPT_SHAPES[name]
    assert (config.num_layers, config.hidden_size, config.max_seq_len) == (layers, width, seq)


# sampling

def test_filters_keep_what_those_of_transformers_keep():
    torch.manual_seed(0)
    scores, seen = 3 * torch.randn(50, 40), torch.randint(0, 40, (50, 6))
    for top_k in (1, 3, 40):
        assert torch.equal(keep_top_k(scores, top_k), TopKLogitsWarper(top_k)(seen, scores))
    for top_p in (0.05, 0.5, 0.9, 0.999):
        assert torch.equal(keep_top_p(scores, top_p), TopPLogitsWarper(top_p)(seen, scores))
    is_seen = torch.zeros(50, 40).bool().scatter_(1, seen, True)
    torch.testing.assert_close(penalise_repetition(scores, is_seen, 1.3), RepetitionPenaltyLogitsProcessor(1.3)(seen, scores))


def test_the_nucleus_is_the_fewest_that_reach_the_share():
    scores = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    kept = [(keep_top_p(scores, top_p) > -math.inf)[0].tolist() for top_p in (0.4, 0.6, 0.8, 1.0)]
    assert kept == [[False, True, False, False], [False, True, False, True], [False, True, True, True], [True] * 4]


def test_draws_follow_the_temperature():
    "Shares of 20,000 draws, within 5 standard errors."
    scores, generator = torch.tensor([[2.0, 1.0, 0.0]]), torch.Generator().manual_seed(0)
    for temperature in (0.5, 1.0, 2.0):
        expected = (scores[0] / temperature).softmax(-1)
        draws = choose_token(scores.expand(20_000, -1), temperature, generator=generator)
        shares = draws.bincount(minlength=3) / 20_000
        assert ((shares - expected).abs() < 5 * (expected * (1 - expected) / 20_000).sqrt()).all()
    assert choose_token(scores, 0).item() == 0


@pytest.mark.parametrize("temperature", [1e-3, 1e-6, 1e-45])
def test_a_small_temperature_draws_among_equals_alone(temperature):
    "Two of the three are the highest, and each is drawn half the time, within 5 standard errors: none has an advantage by its place."
    scores, generator = torch.tensor([[2.0, 100.0, 100.0]]), torch.Generator().manual_seed(0)
    shares = choose_token(scores.expand(20_000, -1), temperature, generator=generator).bincount(minlength=3) / 20_000
    assert shares[0] == 0 and (shares[1] - 0.5).abs() < 5 * 0.5 / 20_000**0.5


@pytest.mark.parametrize("temperature", [0, 1])
def test_broken_weights_write_nothing(temperature):
    model = make_model()
    with torch.no_grad():
        next(model.gpt.parameters())[7] = torch.nan
    ids = torch.tensor([[1, 2], [1, 7]])
    with pytest.raises(ValueError, match="no finite number in row 1: its weights are broken, or torch.float32 is too narrow"):
        generate(model, ids, max_new_tokens=2, temperature=temperature)


@pytest.mark.parametrize(("settings", "says"), [
    ({"max_new_tokens": 38}, "a prompt of 11 tokens and 38 new ones are 49, and the model reads 48: shorten the prompt, or ask for at most 37"),
    ({"input_ids": make_ids(seq=48)}, "the prompt has 48 tokens and the model reads at most 48, new ones among them: shorten the prompt"),
    ({"max_new_tokens": 0}, "max_new_tokens 0 is no number of new tokens"),
    ({"temperature": -0.1}, "temperature -0.1 is no temperature"),
    ({"temperature": math.nan}, "temperature nan is no temperature"),
    ({"top_k": 41}, "top_k 41 is no number of pieces: choose 1 to 40, or 0 for all"),
    ({"top_p": 0.0}, "top_p 0.0 is no share"),
    ({"top_p": 1.1}, "top_p 1.1 is no share"),
    ({"repetition_penalty": 0}, "repetition_penalty 0 is no factor"),
    ({"num_samples": 0}, "num_samples 0 is no number of samples"),
    ({"attention_mask": RIGHT}, "row 1 ends with padding, and a continuation goes on from the last place: pad on the left"),
    ({"attention_mask": LEFT[:, 1:]}, r"attention_mask has the shape \(3, 10\), and input_ids \(3, 11\)"),
    ({"input_ids": make_ids()[0]}, r"input_ids has the shape \(11,\): give \(batch, seq\)"),
    ({"input_ids": make_ids() + 30}, "outside a vocabulary of 40: use the tokenizer that was saved with the model"),
    ({"input_ids": make_ids() + 30, "repetition_penalty": 1.2}, "outside a vocabulary of 40: use the tokenizer that was saved with the model"),
])
def test_bad_requests_are_refused_with_a_sentence(settings, says):
    with pytest.raises(ValueError, match=says):
        generate(make_model(), **{"input_ids": make_ids(), "max_new_tokens": 4, **settings})


@pytest.mark.parametrize(("make", "says"), [
    (lambda: replace(CONFIG, num_kv_heads=4), "num_heads 6 cannot share 4 key heads evenly"),
    (lambda: replace(CONFIG, hidden_size=25), "hidden_size 25 does not split into 6 heads"),
    (lambda: replace(CONFIG, hidden_size=18), "gives heads of 3, and rotary positions turn pairs"),
    (lambda: replace(CONFIG, num_layers=0), "num_layers 0 is not a size"),
    (lambda: replace(CONFIG, rope_theta=math.nan), "rope_theta nan is too small or no number"),
    (lambda: replace(CONFIG, eos_token_id=40), "eos_token_id 40 is outside a vocabulary of 40"),
    (lambda: replace(CONFIG, pad_token_id=None), "pad_token_id None is outside"),
    (lambda: replace(CONFIG, dropout=1.0), "dropout 1.0 is not a share"),
    (lambda: make_model()(make_ids(1, 49)), "a row of 49 tokens is longer than max_seq_len 48"),
    (lambda: make_model()(make_ids()[0]), r"input_ids has the shape \(11,\)"),
    (lambda: make_model()(make_ids(), LEFT[:, :5]), r"attention_mask has the shape \(3, 5\)"),
    (lambda: make_model()(make_ids(), LEFT.float()), "attention_mask holds torch.float32"),
    (lambda: GroupedQueryAttention(12, 3, 1, RotaryPositions(4))(torch.ones(1, 2, 12), None, torch.arange(2)), "position_ids has the shape"),
    (lambda: GroupedQueryAttention(12, 3, 1, RotaryPositions(4))(torch.ones(1, 2, 12), None, torch.ones(2, 2)), "position_ids has the shape"),
    (lambda: make_model()(make_ids(), position_ids=torch.arange(11)), r"position_ids has the shape \(11,\), and \(batch, seq\) is \(3, 11\)"),
])
def test_bad_shapes_are_refused_with_a_sentence(make, says):
    with pytest.raises(ValueError, match=says):
        make()


# folders

@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_of_theirs_opens_here_to_the_bit(tied, tmp_path):
    config = LlamaConfig(vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=3, intermediate_size=20,
                         max_position_embeddings=64, tie_word_embeddings=tied, rope_parameters={"rope_type": "default", "rope_theta": 3_000.0})
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = GptForCausalLM.from_pretrained(tmp_path)
    assert ours.config.rope_theta == 3_000 and ours.config.tie_word_embeddings is tied and not ours.training
    torch.testing.assert_close(ours(make_ids()), theirs(make_ids()).logits, atol=1e-5, rtol=1e-5)
    ours.save_pretrained(tmp_path / "again")
    again = GptForCausalLM.from_pretrained(tmp_path / "again")
    assert asdict(again.config) == asdict(ours.config)
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), again.parameters(), strict=True))
    assert ours.num_parameters() == sum(p.numel() for p in theirs.parameters())


def test_the_config_of_older_checkpoints_is_understood():
    values = {"model_type": "llama", "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 20,
              "max_position_embeddings": 64, "rope_theta": 500.0, "rope_scaling": None, "hidden_act": "silu", "pad_token_id": None}
    config = from_llama_config(values, "here")
    assert (config.num_kv_heads, config.rope_theta, config.tie_word_embeddings, config.pad_token_id) == (6, 500.0, False, 0)


@pytest.mark.parametrize(("change", "says"), [
    ({"model_type": "gpt2"}, "model_type 'gpt2' where a decoder of the course has 'llama'"),
    ({"attention_bias": True}, "attention_bias True"),
    ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "stretches its rotary positions"),
    ({"num_key_value_heads": 4}, "cannot share 4 key heads evenly"),
    ({"head_dim": 16}, "head_dim 16 where ours is"),
    ({"vocab_size": None}, "describes no Llama"),
    ({"intermediate_size": 16}, r"'model.layers.0.mlp.gate_proj.weight' in the shape \(20, 24\) where its config.json asks for \(16, 24\)"),
    ({"num_key_value_heads": 3}, r"'model.layers.0.self_attn.k_proj.weight' in the shape \(8, 24\) where its config.json asks for \(12, 24\)"),
    ({"num_hidden_layers": 4}, "no tensor 'model.layers.3"),
])
def test_folders_that_do_not_fit_are_refused_with_a_sentence(change, says, tmp_path):
    make_model().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, **change}))
    with pytest.raises(CourseError, match=says):
        GptForCausalLM.from_pretrained(tmp_path)


def test_missing_folders_and_files_are_named(tmp_path):
    with pytest.raises(CourseError, match="nowhere is not a folder"):
        load_decoder(tmp_path / "nowhere")
    with pytest.raises(CourseError, match="tokenizer.json does not exist"):
        make_model().save_pretrained(tmp_path)
        load_decoder(tmp_path)


# GGUF files

def write_gguf(path, model, architecture="llama", num_layers=None):
    "A small GGUF file as llama.cpp's converter writes them: rows of queries and keys as neighbours, matrices as Q8_0."
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in (("vocab_size", config.vocab_size), ("embedding_length", config.hidden_size), ("block_count", num_layers or config.num_layers),
                        ("attention.head_count", config.num_heads), ("attention.head_count_kv", config.num_kv_heads),
                        ("feed_forward_length", config.intermediate_size), ("context_length", config.max_seq_len)):
        writer.add_uint32(f"{architecture}.{name}", value)
    writer.add_float32(f"{architecture}.rope.freq_base", config.rope_theta)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", *letters, "th", "the"][: config.vocab_size]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["t h", "th e"])
    for name in ("bos", "eos", "pad"):
        getattr(writer, f"add_{name}_token_id")(0)
    head_dim = config.hidden_size // config.num_heads
    for name, weight in model.state_dict().items():
        if ".qkv." in name:
            rows = [head_dim * heads for heads in (config.num_heads, config.num_kv_heads, config.num_kv_heads)]
            for kind, part in zip("qkv", weight.split(rows), strict=True):
                if kind != "v":  # number i and number i + head_dim / 2 become neighbours
                    part = part.view(-1, 2, head_dim // 2, config.hidden_size).transpose(1, 2).reshape(part.shape)
                add(writer, f"blk.{name.split('.')[2]}.attn_{kind}.weight", part)
        elif ".gate_and_up." in name:
            for kind, part in zip(("gate", "up"), weight.chunk(2), strict=True):
                add(writer, f"blk.{name.split('.')[2]}.ffn_{kind}.weight", part)
        else:
            ends = {"attention.norm": "attn_norm", "attention.sublayer.out": "attn_output", "feed_forward.norm": "ffn_norm", "feed_forward.sublayer.down": "ffn_down"}
            whole = {"gpt.word.weight": "token_embd.weight", "gpt.norm.weight": "output_norm.weight", "head.weight": "output.weight"}
            end = ".".join(name.split(".")[3:-1])
            add(writer, whole.get(name) or f"blk.{name.split('.')[2]}.{ends[end]}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add(writer, name, weight):
    import gguf

    kind = gguf.GGMLQuantizationType.Q8_0
    if weight.dim() == 2:
        writer.add_tensor(name, gguf.quants.quantize(weight.numpy(), kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, weight.numpy())


GGUF_CONFIG = GptConfig(vocab_size=259, hidden_size=64, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=96, max_seq_len=32,
                        rope_theta=700.0, bos_token_id=0, eos_token_id=0, tie_word_embeddings=False)


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    pytest.importorskip("gguf", reason="the package gguf reads GGUF files: pip install gguf")
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    write_gguf(path, make_model(GGUF_CONFIG))
    return path


def test_a_gguf_file_holds_the_model_and_its_tokenizer(gguf_file):
    model, tokenizer = read_gguf(gguf_file)
    assert asdict(model.config) == pytest.approx(asdict(GGUF_CONFIG))
    for (name, found), expected in zip(model.named_parameters(), make_model(GGUF_CONFIG).parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=0.01, rtol=0, msg=name)  # 8 bits a weight
    assert tokenizer("the th 12<|endoftext|>")["input_ids"] == [258, tokenizer.convert_tokens_to_ids("Ġ"), 257, *tokenizer.convert_tokens_to_ids(["Ġ", "1", "2"]), 0]
    assert tokenizer.decode(tokenizer("the  th é 12")["input_ids"]) == "the  th é 12"
    assert tokenizer.model_max_length == GGUF_CONFIG.max_seq_len


def test_a_gguf_file_gives_the_logits_that_transformers_reads_from_it(gguf_file):
    from transformers import GgufConfig

    theirs = AutoModelForCausalLM.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name, quantization_config=GgufConfig(dequantize=True)).eval()
    input_ids = make_ids()
    with torch.no_grad():
        torch.testing.assert_close(read_gguf(gguf_file)[0](input_ids), theirs(input_ids=input_ids).logits, atol=1e-5, rtol=1e-5)


def test_a_gguf_tokenizer_spells_as_the_one_that_transformers_reads(gguf_file):
    theirs, ours = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name), read_gguf(gguf_file)[1]
    for text in ("the th  12,345\n\n thin", "é ü 中文 🙂", "a<|endoftext|>the"):
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]
        assert ours.decode(ours(text)["input_ids"]) == text


def test_a_gguf_tokenizer_cuts_texts_as_its_file_says():
    "SmolLM2's takes every digit out before it looks at spaces; transformers reads its file without that."
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    fields = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["<|endoftext|>", *letters, "ĊĊ"], "tokenizer.ggml.token_type": [3] + [1] * 257,
              "tokenizer.ggml.merges": ["Ċ Ċ"], **{f"tokenizer.ggml.{name}_token_id": 0 for name in ("bos", "eos", "padding")}}
    file = SimpleNamespace(path="a.gguf", fields=fields, field=fields.__getitem__)
    for split, tokens in (("smollm", ["ĊĊ", "1", "2"]), ("gpt-2", ["Ċ", "Ċ", "1", "2"])):
        fields["tokenizer.ggml.pre"] = split
        assert gguf_files._tokenizer(file).tokenize("\n\n12") == tokens
    fields["tokenizer.ggml.pre"] = "llama-bpe"
    with pytest.raises(CourseError, match="a.gguf cuts texts in the way 'llama-bpe' where 'gpt-2' and 'smollm' are known: choose another file"):
        gguf_files._tokenizer(file)


def test_a_gguf_file_cut_short_anywhere_is_refused_with_a_sentence(gguf_file, tmp_path):
    content = gguf_file.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in (0, 3, 10, 30, 500, 5_000, len(content) // 2, len(content) - 40):
        cut.write_bytes(content[:length])
        with pytest.raises(CourseError, match="is no GGUF file|is cut short"):
            read_gguf(cut)


def test_a_gguf_head_is_what_the_package_reads(gguf_file):
    import gguf

    ours, theirs = GgufFile(gguf_file), gguf.GGUFReader(gguf_file)
    assert {name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")} == ours.fields
    for tensor in theirs.tensors:
        expected = torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        assert torch.equal(ours.read(tensor.name), expected)
    assert len(theirs.tensors) == len(ours.tensors)


@pytest.mark.parametrize("kind", [999, 15])  # nobody's; Q8_K, which only llama.cpp computes with
def test_a_format_that_cannot_be_undone_is_refused_with_a_sentence(gguf_file, kind):
    file = GgufFile(gguf_file)
    name, tensor = next(iter(file.tensors.items()))
    file.tensors[name] = replace(tensor, kind=kind, shape=(1, 256))
    with pytest.raises(CourseError, match=f"in the format {kind}, which the package gguf cannot undo: choose another file"):
        file.read(name)


def test_what_is_no_gguf_file_of_a_llama_is_refused_with_a_sentence(tmp_path):
    pytest.importorskip("gguf", reason="the package gguf reads GGUF files: pip install gguf")
    with pytest.raises(CourseError, match="none.gguf is no file"):
        load_decoder(tmp_path / "none.gguf")
    other = tmp_path / "other.gguf"
    other.write_text("not a model")
    with pytest.raises(CourseError, match="is no GGUF file \\(it begins with b'not '\\)"):
        read_gguf(other)
    with pytest.raises(CourseError, match="holds the tensor 'blk.1[a-z_.]*', for which a decoder of the course has no place"):
        write_gguf(other, make_model(GGUF_CONFIG), num_layers=1)
        read_gguf(other)
    with pytest.raises(CourseError, match="has no tensor 'blk.2.attn_norm.weight'"):
        write_gguf(other, make_model(GGUF_CONFIG), num_layers=3)
        read_gguf(other)
    write_gguf(other, make_model(GGUF_CONFIG), architecture="mamba")
    with pytest.raises(CourseError, match="architecture 'mamba' where a decoder of the course has 'llama'"):
        read_gguf(other)


SPELLED = {
    "The film isn't bad: 12,345 people\n\n  saw it.": [504, 4771, 3247, 982, 3309, 42, 216, 33, 34, 28, 35, 36, 37, 701, 8866, 3680, 357, 30],
    "é ü 中文 🙂": [2756, 5549, 137, 216, 28589, 29184, 47526],
    "<|im_start|>user\nHi<|im_end|>": [1, 4093, 198, 26843, 2],
}


@pytest.fixture(scope="module")
def smollm2():
    pytest.importorskip("gguf", reason="the package gguf reads GGUF files: pip install gguf")
    if find_weights("smollm2") is None:
        pytest.skip("SmolLM2 is not on this machine: microbert fetch smollm2")
    return load_decoder("smollm2")


def test_smollm2_continues_as_transformers_does_on_the_same_weights(smollm2):
    "Two prompts of unlike length in one batch."
    model, tokenizer = smollm2
    batch = tokenizer(["The capital of France is", "Water boils at a temperature of"], padding=True, return_tensors="pt")
    found = generate(model, batch["input_ids"], batch["attention_mask"], 8, temperature=0, eos_token_id=-1)
    assert " Paris" in tokenizer.decode(found[0])
    with torch.device("meta"):
        theirs = LlamaForCausalLM(LlamaConfig(**{**to_llama_config(model.config), "eos_token_id": None}))
    weights = to_transformers_weights(model, llama_weight_names(model), llama_rows(model))
    theirs.load_state_dict({**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}, assign=True)
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(theirs.config)  # its table is no weight, and still without memory
    expected = theirs.generate(**batch, max_new_tokens=8, do_sample=False, pad_token_id=2)
    assert torch.equal(found, expected)


def test_smollm2s_tokenizer_spells_as_the_one_that_transformers_reads(smollm2):
    "The ids are those of AutoTokenizer.from_pretrained(folder, gguf_file=name), which takes four seconds to open it."
    tokenizer = smollm2[1]
    for text, ids in SPELLED.items():
        assert tokenizer(text)["input_ids"] == ids, text
        assert tokenizer.decode(ids) == text
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
    assert prompt.startswith("<|im_start|>system\n") and prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side) == ("<|im_end|>", "<|im_end|>", "left")
