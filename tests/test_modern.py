"The modern encoder: rotary positions, windows, norms, gates, shapes from a budget, and folders that transformers opens or refuses."

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForMaskedLM, ModernBertConfig, ModernBertForMaskedLM

from microbert_course.errors import CourseError
from microbert_course.models.attention import MultiHeadAttention
from microbert_course.models.modern import (
    ASPECTS,
    FEED_FORWARDS,
    GATES,
    MODERN_SHAPES,
    NORMS,
    GatedFeedForward,
    ModernAttention,
    ModernConfig,
    ModernEmbeddings,
    ModernEncoder,
    ModernForMaskedLM,
    ReluSquaredFeedForward,
    RMSNorm,
    RotaryPositions,
    count_parameters,
    local_attention,
    make_norm,
    modern_block,
    nearby_keys,
    rotate,
    shape_for,
    without_biases,
)
from microbert_course.models.modern_folders import is_modernbert, modernbert_weight_names, to_modernbert_config

CONFIG = ModernConfig(vocab_size=40, hidden_size=12, num_layers=4, num_heads=2, intermediate_size=20, max_seq_len=300, window=8)
OTHERS = {"norm": "rms", "feed_forward": "swiglu", "positions": "learned", "is_causal": True}  # what ModernBERT cannot be


def make_model(config=CONFIG, seed=0):
    "A model whose every parameter matters: scales are away from 1, biases from 0."
    torch.manual_seed(seed)
    model = ModernForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def make_batch(seq=21):
    generator = torch.Generator().manual_seed(1)
    return {"input_ids": torch.randint(1, 40, (3, seq), generator=generator),
            "attention_mask": (torch.arange(seq) < torch.tensor([[seq], [seq // 2], [3]])).long()}


# rotary positions

def test_a_pair_is_number_i_and_number_i_plus_half_and_turns_towards_the_second():
    quarter = torch.tensor([[math.pi / 2, 0.0]])
    turned = rotate(torch.tensor([[1.0, 5, 0, 7]]), quarter.cos(), quarter.sin())
    torch.testing.assert_close(turned, torch.tensor([[0.0, 5, 1, 7]]), atol=1e-6, rtol=0)


def test_rotation_keeps_the_dtype_though_the_angles_are_float32():
    query = torch.randn(1, 2, 5, 8, dtype=torch.bfloat16)
    assert all(turned.dtype == torch.bfloat16 for turned in RotaryPositions(8)(query, query))


def test_a_score_depends_on_the_distance_alone():
    torch.manual_seed(0)
    rotary, (query, key) = RotaryPositions(8), torch.randn(2, 1, 2, 6, 8, dtype=torch.float64)
    scores = [q @ k.transpose(-2, -1) for q, k in (rotary(query, key, torch.arange(first, first + 6)[None]) for first in (0, 100))]
    torch.testing.assert_close(*scores, atol=1e-4, rtol=0)  # angles are float32


def test_positions_may_restart_in_a_packed_row_and_differ_between_rows():
    torch.manual_seed(0)
    rotary, vectors = RotaryPositions(8), torch.randn(2, 1, 5, 8)
    turned, _ = rotary(vectors, vectors, torch.tensor([[0, 1, 2, 0, 1], [4, 3, 2, 1, 0]]))
    alone, _ = rotary(vectors[:1, :, 3:], vectors[:1, :, 3:])
    torch.testing.assert_close(turned[:1, :, 3:], alone)
    torch.testing.assert_close(turned[1:, :, 4:], vectors[1:, :, 4:])  # place 0 is not turned


def test_fewer_key_heads_are_turned_as_well():
    "For grouped-query attention: heads are a dimension that the angles stretch over."
    query, key = torch.randn(2, 4, 5, 8), torch.randn(2, 1, 5, 8)
    turned = RotaryPositions(8)(query, key)
    assert turned[0].shape == query.shape and turned[1].shape == key.shape


@pytest.mark.parametrize(("make", "says"), [
    (lambda: RotaryPositions(7), "head_dim 7 does not split into pairs"),
    (lambda: RotaryPositions(8, theta=1), "theta 1 would turn no pair slower"),
    (lambda: RotaryPositions(8)(torch.ones(2, 1, 3, 8), torch.ones(2, 1, 3, 8), torch.arange(3)), r"position_ids has the shape \(3,\)"),
    (lambda: ModernAttention(8, 2, window=5), "window 5 has no two equal sides"),
    (lambda: GatedFeedForward(8, 8, "relu"), "'relu' bends no gate: choose one of geglu, swiglu"),
])
def test_bad_parts_are_refused_with_a_sentence(make, says):
    with pytest.raises(ValueError, match=says):
        make()


# windows

@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("seq", "window"), [(40, 8), (33, 2), (100, 70), (64, 64), (7, 40), (1, 2)])
def test_blocks_equal_the_mask(seq, window, is_causal):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 3, seq, 4)
    padding = torch.tensor([[1] * seq, [0] * (seq // 3) + [1] * (seq - seq // 3)])  # on the left, where causal rows have nobody
    for attention_mask in (None, padding):
        places = torch.arange(seq)
        may_look = (places[:, None] - places).abs() <= window // 2
        may_look = (may_look & (places[:, None] >= places) if is_causal else may_look).expand(2, 1, seq, seq)
        may_look = may_look if attention_mask is None else may_look & attention_mask.bool()[:, None, None]
        expected = F.scaled_dot_product_attention(query, key, value, may_look | ~may_look.any(-1, keepdim=True))
        is_real = (padding.bool() if attention_mask is not None else torch.ones(2, seq).bool())[:, None, :, None]
        found = local_attention(query, key, value, window, attention_mask, is_causal)
        torch.testing.assert_close(found * is_real, expected * is_real, atol=1e-5, rtol=1e-4)
        ours = nearby_keys(query, key, window, attention_mask, is_causal)
        assert ours is None and may_look.all() or torch.equal(ours.expand(2, 1, seq, seq), may_look)


def test_blocks_never_hold_a_score_for_every_pair():
    "What autograd keeps grows with the row, not with its square."
    def kept(seq):
        sizes = []
        tensors = [torch.randn(1, 2, seq, 4, requires_grad=True) for _ in range(3)]
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            local_attention(*tensors, 16)
        return sum(sizes)
    assert kept(2_048) / kept(512) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(("seq", "window", "padding", "masked"), [
    (20, None, False, False), (20, 38, False, False), (20, 36, False, True), (20, None, True, True)])
def test_a_mask_is_built_only_where_something_is_forbidden(monkeypatch, seq, window, padding, masked):
    seen = []
    real = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, attn_mask=None, *rest, **more:
                        seen.append(attn_mask) or real(q, k, v, attn_mask, *rest, **more))
    mask = torch.ones(2, seq, dtype=torch.long) if padding else None
    ModernAttention(8, 2, RotaryPositions(4), window)(torch.randn(2, seq, 8), mask)
    assert (seen[0] is not None) is masked
    if padding:
        assert seen[0].shape == (2, 1, 1, seq), "padding alone needs no (seq, seq) mask"


@pytest.mark.parametrize(("seq", "num_calls"), [(255, 0), (256, 1)])
def test_long_rows_take_blocks_and_get_the_numbers_of_the_mask(monkeypatch, seq, num_calls):
    import microbert_course.models.modern as modern
    torch.manual_seed(0)
    attention, states = ModernAttention(8, 2, RotaryPositions(4), window=8), torch.randn(1, seq, 8)
    calls = []
    monkeypatch.setattr(modern, "local_attention", lambda *args: calls.append(args) or local_attention(*args))
    found = attention(states)
    assert len(calls) == num_calls
    value = attention.split_heads(states)[2]
    expected = attention.out((attention.attention_weights(states) @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("seq", [21, 290])
def test_no_kernel_is_handed_an_empty_row(monkeypatch, seq):
    "Some kernels make nan of one on their way back: whoever has nobody to look at looks at everybody."
    masks, real = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, mask, *rest: masks.append(mask) or real(q, k, v, mask, *rest))
    attention_mask = torch.ones(2, seq, dtype=torch.long)
    attention_mask[0, : seq // 2] = 0
    ModernAttention(8, 2, window=8)(torch.randn(2, seq, 8), attention_mask)
    assert len(masks) == 1 and masks[0].any(-1).all()


def test_without_its_parts_it_is_the_attention_of_lesson_03():
    torch.manual_seed(0)
    plain, modern = MultiHeadAttention(12, 3, is_causal=True), ModernAttention(12, 3, is_causal=True)
    modern.load_state_dict(plain.state_dict())
    states, mask = torch.randn(2, 5, 12), torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
    torch.testing.assert_close(modern(states, mask), plain(states, mask))
    torch.testing.assert_close(modern.attention_weights(states, mask), plain.attention_weights(states, mask))


def test_attention_drops_in_training_alone():
    torch.manual_seed(0)
    attention, states = ModernAttention(8, 2, window=4, dropout=0.5), torch.randn(2, 9, 8)
    assert not torch.equal(attention(states), attention(states))
    attention.eval()
    assert torch.equal(attention(states), attention(states))


# norms, feed-forwards, biases

def test_rms_norm_by_hand():
    torch.testing.assert_close(RMSNorm(4, eps=0)(torch.tensor([3.0, 4, 0, 0])), torch.tensor([1.2, 1.6, 0, 0]))


def test_the_first_half_of_the_map_up_is_the_gate():
    ungated = GatedFeedForward(1, 1, "swiglu")
    ungated.load_state_dict({"gate_and_up.weight": torch.tensor([[1.0], [2]]), "gate_and_up.bias": torch.zeros(2),
                             "down.weight": torch.ones(1, 1), "down.bias": torch.zeros(1)})
    torch.testing.assert_close(ungated(torch.tensor([[3.0]])), torch.tensor([[6 * 3 / (1 + math.exp(-3))]]))


def test_relu_squared_is_zero_below_zero_and_a_square_above():
    ff = ReluSquaredFeedForward(1, 2)
    ff.load_state_dict({"up.weight": torch.tensor([[1.0], [-1]]), "up.bias": torch.zeros(2), "down.weight": torch.tensor([[1.0, 10]]),
                        "down.bias": torch.zeros(1)})
    torch.testing.assert_close(ff(torch.tensor([[3.0], [-2.0]])), torch.tensor([[9.0], [40.0]]))


def test_without_biases_leaves_matrices_and_scales_alone():
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), RMSNorm(4))
    names = {name for name, _ in without_biases(module).named_parameters()}
    assert names == {"0.weight", "1.weight", "2.weight"} and module(torch.ones(2, 3)).shape == (2, 4)


# the model

@pytest.mark.parametrize("change", [{}, {"norm": "rms"}, *({"feed_forward": name} for name in FEED_FORWARDS), {"positions": "learned"},
                                    {"bias": True}, {"bias": True, "norm": "rms", "feed_forward": "relu2"}, {"window": None},
                                    {"global_every": 2}, {"is_causal": True}])
def test_every_switch_makes_a_model_of_the_counted_size_that_learns(change):
    config = replace(CONFIG, **change)
    model = ModernForMaskedLM(config)
    assert model.num_parameters() == count_parameters(config)
    model(**make_batch(), predict_at=torch.tensor([0, 5])).logsumexp(-1).sum().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unused, "a parameter without a gradient is one that no output depends on"


def test_switches_hand_in_the_parts_they_name():
    block = modern_block(replace(CONFIG, norm="rms", feed_forward="swiglu"), 1)
    assert isinstance(block.attention.norm, RMSNorm) and block.feed_forward.sublayer.bend is GATES["swiglu"]
    assert isinstance(make_norm(CONFIG), NORMS["layer"])
    assert [modern_block(CONFIG, layer).attention.sublayer.window for layer in range(4)] == [None, 8, 8, None]
    assert isinstance(modern_block(CONFIG, 0).attention.norm, nn.Identity)
    two = replace(CONFIG, rope_theta_local=50.0, rope_theta_global=70.0)
    assert [modern_block(two, layer).attention.sublayer.positions.theta for layer in (0, 1)] == [70, 50]


def test_features_times_the_output_table_are_what_forward_answers():
    model, batch, predict_at = make_model(), make_batch(), torch.tensor([30, 0, 8])
    features = model.features(**batch, predict_at=predict_at)
    weight, bias = model.output_table()
    assert features.shape == (3, 12) and weight is model.encoder.embeddings.word.weight
    torch.testing.assert_close(features @ weight.T + bias, model(**batch).flatten(0, 1)[predict_at])


@pytest.mark.parametrize("seq", [21, 290])
@pytest.mark.parametrize("is_causal", [False, True])
def test_padding_changes_nothing_for_real_tokens(seq, is_causal):
    model, batch = make_model(replace(CONFIG, is_causal=is_causal)), make_batch(seq)
    is_real = batch["attention_mask"].bool()
    other = batch["input_ids"].where(is_real, 6)
    torch.testing.assert_close(model(other, batch["attention_mask"])[is_real], model(**batch)[is_real])
    torch.testing.assert_close(model(batch["input_ids"][1:2, :seq // 2]), model(**batch)[1:2, :seq // 2], atol=1e-5, rtol=1e-4)


def test_a_causal_model_does_not_see_the_future():
    model, ids = make_model(replace(CONFIG, is_causal=True)), make_batch(290)["input_ids"]
    changed = ids.clone()
    changed[:, -1] = 7
    torch.testing.assert_close(model(changed)[:, :-1], model(ids)[:, :-1])


def test_order_matters_and_moving_the_whole_row_does_not():
    model, row = make_model(), make_batch()["input_ids"][:1]
    assert (model(row) - model(row.flip(1)).flip(1)).abs().max() > 0.01
    moved = model(row, position_ids=torch.arange(50, 71)[None])
    torch.testing.assert_close(moved, model(row), atol=1e-4, rtol=1e-4)


def test_learned_positions_follow_position_ids():
    model, row = make_model(replace(CONFIG, positions="learned")), make_batch()["input_ids"][:1]
    torch.testing.assert_close(model(row, position_ids=torch.arange(21)[None]), model(row))
    assert (model(row, position_ids=torch.arange(21).flip(0)[None]) - model(row)).abs().max() > 0.01


def test_rows_that_are_too_long_or_no_rows_are_refused():
    embeddings = ModernEmbeddings(replace(CONFIG, max_seq_len=4))
    with pytest.raises(ValueError, match="a row of 5 tokens is longer than max_seq_len 4"):
        embeddings(torch.ones(1, 5, dtype=torch.long))
    with pytest.raises(ValueError, match=r"input_ids\[None\] for a single row"):
        embeddings(torch.ones(5, dtype=torch.long))


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_positions_of_another_shape_are_refused(positions):
    model = make_model(replace(CONFIG, positions=positions))
    with pytest.raises(ValueError, match=r"position_ids has the shape \(21,\), and input_ids \(3, 21\)"):
        model(make_batch()["input_ids"], position_ids=torch.arange(21))


@pytest.mark.parametrize("seq", [21, 290])
def test_a_mask_of_floats_is_refused_by_the_mask_and_by_the_blocks(seq):
    "It is meant to be added, 0 for real tokens, and would be read backwards."
    batch = make_batch(seq)
    with pytest.raises(ValueError, match="attention_mask holds torch.float32"):
        make_model(replace(CONFIG, global_every=9))(batch["input_ids"], batch["attention_mask"].float())
    with pytest.raises(ValueError, match="attention_mask holds torch.float32"):
        local_attention(*torch.randn(3, 3, 2, seq, 4), 8, batch["attention_mask"].float())


def test_a_fresh_model_knows_nothing_and_its_branches_begin_small():
    torch.manual_seed(0)
    config = ModernConfig(500, hidden_size=64, num_layers=8, num_heads=2, intermediate_size=168)
    model = ModernForMaskedLM(config)
    loss = F.cross_entropy(model(torch.randint(1, 500, (4, 32))).flatten(0, 1), torch.randint(0, 500, (128,)))
    assert loss.item() == pytest.approx(math.log(500), abs=0.1)
    block = model.encoder.blocks[3]
    assert block.attention.sublayer.qkv.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.feed_forward.sublayer.down.weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)


def test_it_runs_in_half_precision():
    model, batch = make_model(), make_batch(270)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(**batch)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(logits[real].float(), model(**batch)[real], atol=0.15, rtol=0.1)
    assert model.bfloat16()(**batch).dtype == torch.bfloat16


@pytest.mark.parametrize(("change", "says"), [
    ({"hidden_size": 0}, "hidden_size 0 is not a size"), ({"num_heads": 5}, "does not split into 5 heads"),
    ({"num_heads": 4}, "heads of 3, and rotary positions turn pairs"), ({"norm": "batch"}, "norm 'batch' is not known: choose one of layer, rms"),
    ({"feed_forward": "moe"}, "choose one of gelu, relu2, geglu, swiglu"), ({"positions": "none"}, "positions 'none' is not known"),
    ({"window": 7}, "window 7 has no two equal sides"), ({"dropout": 1.0}, "dropout 1.0 is not a share"),
    ({"rope_theta_local": 0.5}, "rope_theta_local 0.5 is too small"), ({"pad_token_id": 40}, "outside a vocabulary of 40")])
def test_nonsense_is_refused_with_a_sentence(change, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **change)


# folders

@pytest.mark.parametrize("change", [{}, {"bias": True}, {"window": None}, {"global_every": 2, "rope_theta_global": 160_000.0}, {"num_layers": 1}])
def test_a_saved_folder_is_a_modernbert_to_transformers_with_equal_logits_and_gradients(tmp_path, change):
    model, batch = make_model(replace(CONFIG, **change)), make_batch(40)
    model.save_pretrained(tmp_path)
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    assert isinstance(theirs, ModernBertForMaskedLM) and sum(p.numel() for p in theirs.parameters()) == model.num_parameters()
    batch["position_ids"] = torch.randint(0, 30, (3, 40), generator=torch.Generator().manual_seed(2))
    is_real = batch["attention_mask"].bool()
    logits = [output[is_real] for output in (model(**batch), theirs(**batch).logits)]
    torch.testing.assert_close(*logits, atol=1e-5, rtol=0)
    for output in logits:
        F.cross_entropy(output, batch["input_ids"][is_real]).backward()
    ours, their = dict(model.named_parameters()), dict(theirs.named_parameters())
    names = modernbert_weight_names(model.config)
    assert names.keys() == ours.keys() and {name for (name,) in names.values()} == their.keys()
    for our, (name,) in names.items():
        torch.testing.assert_close(ours[our].grad, their[name].grad, atol=1e-5, rtol=0)


def test_blocks_give_the_logits_of_transformers_on_a_long_row(tmp_path):
    model, batch = make_model(), make_batch(300)
    model.save_pretrained(tmp_path)
    theirs, is_real = AutoModelForMaskedLM.from_pretrained(tmp_path).eval(), batch["attention_mask"].bool()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch)[is_real], theirs(**batch).logits[is_real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("bias", [False, True])
def test_a_folder_that_transformers_wrote_opens_with_equal_logits(tmp_path, bias):
    torch.manual_seed(0)
    biases = dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), bias)
    theirs = ModernBertForMaskedLM(ModernBertConfig(
        vocab_size=40, hidden_size=16, intermediate_size=12, num_hidden_layers=5, num_attention_heads=2, max_position_embeddings=64,
        pad_token_id=0, local_attention=6, initializer_range=0.2, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, **biases)).eval()
    theirs.save_pretrained(tmp_path)
    model, batch = ModernForMaskedLM.from_pretrained(tmp_path), make_batch()
    assert (model.config.window, model.config.rope_theta_global, model.config.bias) == (6, 160_000.0, bias)
    is_real = batch["attention_mask"].bool()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch)[is_real], theirs(**batch).logits[is_real], atol=1e-5, rtol=1e-5)


def test_a_config_json_of_the_published_form_is_understood(tmp_path):
    "Older files name one theta a kind and every how many layers are global, and leave out what is usual."
    model = make_model(replace(CONFIG, rope_theta_global=160_000.0))
    model.save_pretrained(tmp_path)
    values = to_modernbert_config(model.config)
    old = {name: value for name, value in values.items() if name not in ("layer_types", "rope_parameters", "norm_bias", "mlp_dropout")}
    old |= {"global_attn_every_n_layers": 3, "global_rope_theta": 160_000.0, "local_rope_theta": 10_000.0}
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert ModernForMaskedLM.from_pretrained(tmp_path).config == model.config


@pytest.mark.parametrize("name", OTHERS)
def test_what_modernbert_cannot_be_is_saved_as_ours_and_transformers_refuses_it(tmp_path, name):
    model, batch = make_model(replace(CONFIG, **{name: OTHERS[name]})), make_batch()
    assert is_modernbert(CONFIG) and not is_modernbert(model.config)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "microbert_modern"
    with pytest.raises(ValueError, match="microbert_modern"):
        AutoModelForMaskedLM.from_pretrained(tmp_path)
    back = ModernForMaskedLM.from_pretrained(tmp_path)
    assert back.config == model.config and not back.training
    assert torch.equal(back(**batch), model(**batch))


@pytest.mark.parametrize(("change", "says"), [
    ({"model_type": "bert"}, "has model_type 'bert' where a modern encoder has"), ({"hidden_activation": "silu"}, "has hidden_activation 'silu'"),
    ({"tie_word_embeddings": False}, "has tie_word_embeddings False"), ({"mlp_bias": True}, "attention_bias False and mlp_bias True"),
    ({"hidden_size": None}, "config.json without hidden_size"), ({"num_attention_heads": 5}, "describes no ModernBERT .*5 heads"),
    ({"layer_types": ["sliding_attention"] + ["full_attention"] * 3}, "has the layer_types"),
    ({"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}, "sliding_attention": {"rope_theta": 1e4}}}, "stretches"),
    ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "'sliding_attention' is missing"),
    ({"vocab_size": 41}, r"'model.embeddings.tok_embeddings.weight' in the shape \(40, 12\)"),
    ({"num_hidden_layers": 5, "layer_types": None}, "has no tensor 'model.layers.4")])
def test_a_broken_or_foreign_folder_is_refused_with_a_sentence(tmp_path, change, says):
    make_model().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CourseError, match=says):
        ModernForMaskedLM.from_pretrained(tmp_path)


def test_a_missing_folder_a_missing_field_and_nan_are_refused(tmp_path):
    with pytest.raises(CourseError, match="is not a folder"):
        ModernForMaskedLM.from_pretrained(tmp_path / "none")
    model = make_model(replace(CONFIG, norm="rms"))
    model.encoder.norm.weight.data[0] = math.nan
    model.save_pretrained(tmp_path)
    with pytest.raises(CourseError, match="NaN or infinity in 'encoder.norm.weight'"):
        ModernForMaskedLM.from_pretrained(tmp_path)
    values = asdict(model.config) | {"model_type": "microbert_modern"}
    del values["window"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CourseError, match="'window' is missing"):
        ModernForMaskedLM.from_pretrained(tmp_path)


# sizes

@pytest.mark.parametrize("name", MODERN_SHAPES)
def test_a_named_shape_has_its_size_and_can_be_built(name):
    millions = {"nano": 1, "tiny": 5, "small": 50, "medium": 125, "large": 350, "xlarge": 700}[name]
    shape = MODERN_SHAPES[name]
    with torch.device("meta"):
        model = ModernForMaskedLM(shape)
    assert model.num_parameters() == count_parameters(shape) == pytest.approx(millions * 1e6, rel=0.1)
    assert model.num_parameters(with_head=False) == sum(p.numel() for p in ModernEncoder(shape).parameters()) if name == "nano" else True


@pytest.mark.parametrize("switches", [{}, {"feed_forward": "gelu", "bias": True, "positions": "learned"}, {"norm": "rms", "feed_forward": "relu2"}])
@pytest.mark.parametrize("prefer", ASPECTS)
@pytest.mark.parametrize(("target", "vocab"), [(400_000, 2_000), (3_000_000, 8_000), (10_000_000, 8_000), (123_456_789, 32_000), (2_000_000_000, 50_000),
                                            (9_000_000, 2_000)])  # the last: a shape just outside would be nearer to the aspect
def test_a_shape_is_within_two_percent_of_its_target(target, vocab, prefer, switches):
    shape = shape_for(target, prefer, vocab, **switches)
    with torch.device("meta"):
        assert abs(ModernForMaskedLM(shape).num_parameters() / target - 1) <= 0.02
    head_dim = shape.hidden_size // shape.num_heads
    assert head_dim == (32 if shape.hidden_size < 256 else 64) and shape.intermediate_size % (8 if head_dim == 32 else 64) == 0


def test_depth_is_deeper_and_width_is_wider():
    deep, balanced, wide = (shape_for(20_000_000, prefer, 8_000) for prefer in ("depth", "balanced", "width"))
    assert deep.num_layers > balanced.num_layers > wide.num_layers and deep.hidden_size < balanced.hidden_size < wide.hidden_size


def test_a_budget_that_cannot_be_met_is_refused_and_what_it_names_works():
    with pytest.raises(CourseError, match="a vocabulary of 32,000 has about 100,000 parameters: the smallest has 1,069,696;"):
        shape_for(100_000)
    assert count_parameters(shape_for(1_069_696)) == pytest.approx(1_069_696, rel=0.02)
    with pytest.raises(TypeError, match="multiple values"):
        shape_for(10_000_000, hidden_size=64)  # what it looks for cannot be given
    with pytest.raises(CourseError, match="prefer 'tall' is no direction: choose one of depth, balanced, width"):
        shape_for(10_000_000, "tall")
