"BERT: shapes, the tie, agreement with transformers, files that open there, and a sentence for every broken folder."

import json
import math

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers import models as tokenizer_models
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedTokenizerFast,
    pipeline,
)

from microbert_course.data.weights import fetch_weights, find_weights
from microbert_course.errors import CourseError
from microbert_course.models.bert import (
    Embeddings,
    MaskedLMHead,
    MicroBert,
    MicroBertConfig,
    MicroBertForMaskedLM,
    Pooler,
    bert_block,
    check_lookup,
    fill_mask,
    load_tokenizer,
    mean_pool,
)
from microbert_course.models.checkpoints import (
    encoder_weight_names,
    from_transformers_config,
    to_transformers_config,
    to_transformers_weights,
    weight_names,
)

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat dog sat slept on under mat sofa ##s ##ing".split()
CONFIG = MicroBertConfig(vocab_size=len(WORDS), hidden_size=12, num_layers=2, num_heads=3, intermediate_size=20,
                         max_seq_len=10, type_vocab_size=2)


def make_model(config=CONFIG, seed=0):
    "A model whose every parameter matters: norms and biases are away from 1 and 0."
    torch.manual_seed(seed)
    model = MicroBertForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def make_encoder(with_pooler=True, config=CONFIG, seed=0):
    torch.manual_seed(seed)
    bert = MicroBert(config, with_pooler).eval()
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return bert


def largest_gradient_difference(ours, theirs, names):
    "Over all tensors; none may be left out."
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    their_gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert gradients.keys() == names.keys() and their_gradients.keys() == {name for parts in names.values() for name in parts}
    return max((gradients[name] - torch.cat([their_gradients[part] for part in parts])).abs().max().item()
               for name, parts in names.items())


def make_tokenizer(words=WORDS):
    inner = Tokenizer(tokenizer_models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]",
                                                         special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
                                   sep_token="[SEP]", mask_token="[MASK]")


def make_batch():
    generator = torch.Generator().manual_seed(1)
    return {"input_ids": torch.randint(5, CONFIG.vocab_size, (3, 7), generator=generator),
            "attention_mask": (torch.arange(7) < torch.tensor([[7], [5], [2]])).long(),
            "token_type_ids": torch.randint(0, 2, (3, 7), generator=generator)}


@pytest.fixture
def folder(tmp_path):
    "A run folder: model and tokenizer."
    make_model().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def by_formula(config):
    h, i, vocab = config.hidden_size, config.intermediate_size, config.vocab_size
    encoder = ((vocab + config.max_seq_len + config.type_vocab_size) * h + 2 * h
               + config.num_layers * (4 * h * h + 4 * h + 2 * h * i + i + h + 4 * h))
    return encoder, encoder + h * h + h + 2 * h + vocab


# the model

def test_logits_have_a_score_for_every_piece_at_every_token():
    assert make_model()(**make_batch()).shape == (3, 7, CONFIG.vocab_size)


def test_predict_at_gives_the_rows_of_the_full_logits():
    model, batch = make_model(), make_batch()
    predict_at = torch.tensor([13, 0, 8])  # row 1 token 6, row 0 token 0, row 1 token 1: the order is the caller's
    torch.testing.assert_close(model(**batch, predict_at=predict_at), model(**batch).flatten(0, 1)[predict_at])


def test_features_are_all_but_the_last_product():
    "Hidden-sized, at the asked places alone; times the tied matrix and plus the bias, they are what forward answers."
    model, batch = make_model(), make_batch()
    predict_at = torch.tensor([13, 0, 8])
    features = model.features(**batch, predict_at=predict_at)
    assert features.shape == (3, CONFIG.hidden_size) and model.features(**batch).shape == (3, 7, CONFIG.hidden_size)
    scores = features @ model.bert.embeddings.word.weight.T + model.head.bias
    torch.testing.assert_close(scores, model(**batch, predict_at=predict_at))


def test_padding_changes_nothing_for_real_tokens():
    model, batch = make_model(), make_batch()
    other = batch["input_ids"].where(batch["attention_mask"].bool(), 6)
    is_real = batch["attention_mask"].bool()
    torch.testing.assert_close(model(**{**batch, "input_ids": other})[is_real], model(**batch)[is_real])


def test_order_matters():
    "Without positions the logits would be the same rows in another order."
    model, row = make_model(), torch.tensor([[2, 7, 8, 6, 3]])
    assert (model(row) - model(row.flip(1)).flip(1)).abs().max() > 0.01


@pytest.mark.parametrize("config", [
    CONFIG, MicroBertConfig(10_005), MicroBertConfig(10_005, hidden_size=4, intermediate_size=16),
    MicroBertConfig(30_522, hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3_072, max_seq_len=512)])
def test_parameter_count_equals_the_formula_and_transformers(config):
    with torch.device("meta"):
        ours, theirs = MicroBertForMaskedLM(config), BertForMaskedLM(BertConfig(**to_transformers_config(config)))
    assert (ours.num_parameters(with_head=False), ours.num_parameters()) == by_formula(config)
    assert ours.num_parameters() == theirs.num_parameters()


def test_every_word_vector_learns_from_one_guess_because_the_head_is_tied():
    model = make_model()
    F.cross_entropy(model(torch.tensor([[2, 6, 4, 3]]), predict_at=torch.tensor([2])), torch.tensor([8])).backward()
    assert (model.bert.embeddings.word.weight.grad.abs().sum(1) > 0).all()


def test_loss_before_training_is_that_of_even_guessing():
    torch.manual_seed(0)
    model = MicroBertForMaskedLM(MicroBertConfig(1_000)).eval()
    input_ids = torch.randint(5, 1_000, (8, 32))
    loss = F.cross_entropy(model(input_ids).flatten(0, 1), input_ids.flatten())
    assert loss.item() == pytest.approx(math.log(1_000), abs=0.1)


@pytest.mark.parametrize(("sizes", "message"), [
    ({"hidden_size": 10, "num_heads": 3}, "hidden_size 10 does not split into 3 heads"),
    ({"num_layers": 0}, "num_layers 0 is not a size"), ({"hidden_size": 64.0}, "hidden_size 64.0 is not a size"),
    ({"type_vocab_size": 0}, "type_vocab_size 0 is not a size"),
    ({"dropout": 1.0}, "dropout 1.0 is not a share"), ({"pad_token_id": 99}, "pad_token_id 99 is outside")])
def test_impossible_shapes_are_refused_by_name(sizes, message):
    with pytest.raises(ValueError, match=message):
        MicroBertConfig(vocab_size=50, **sizes)


@pytest.mark.parametrize(("ids", "segments", "says"), [
    ([[5, 20]], None, "input_ids has the id 20, outside a vocabulary of 20: use the tokenizer that was saved with the model"), ([[-1, 5]], None, "input_ids has the id -1"),
    ([[5, 6]], [[0, 2]], "token_type_ids has the id 2, outside a table of segments of 2: give 0 for the first text")])
def test_an_id_that_no_table_has_is_named(ids, segments, says):
    with pytest.raises(ValueError, match=says):
        MicroBert(MicroBertConfig(20, 12, 1, 2, 8, max_seq_len=9))(torch.tensor(ids), token_type_ids=segments and torch.tensor(segments))


def test_ids_are_checked_against_any_table():
    check_lookup(torch.tensor([0, 6]), 7)
    check_lookup(torch.tensor([], dtype=torch.long), 7)
    with pytest.raises(ValueError, match="places has the id 7, outside a row of 7: count from 0"):
        check_lookup(torch.tensor(7), 7, "places", "a row", "count from 0")


def test_a_row_longer_than_the_positions_is_refused():
    with pytest.raises(ValueError, match="a row of 11 tokens does not fit into 10 positions"):
        make_model()(torch.full((1, 11), 6))


def test_a_row_without_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"input_ids has the shape \(4,\)"):
        make_model()(torch.tensor([2, 6, 7, 3]))


def test_an_embedding_is_the_sum_of_three_rows_normalised():
    embeddings = make_model().bert.embeddings
    assert isinstance(embeddings, Embeddings)
    rows = embeddings.word.weight[9] + embeddings.position.weight[2] + embeddings.token_type.weight[1]
    answer = embeddings(torch.tensor([[2, 7, 9]]), torch.tensor([[0, 0, 1]]))
    torch.testing.assert_close(answer[0, 2], F.layer_norm(rows, (12,), embeddings.norm.weight, embeddings.norm.bias, 1e-12))


def test_a_block_ends_in_its_norm_so_its_output_has_mean_0_and_variance_1():
    torch.manual_seed(0)
    hidden_states = 5 + 3 * torch.randn(2, 7, 12)
    answer = bert_block(CONFIG)(hidden_states)
    torch.testing.assert_close(answer.mean(-1), torch.zeros(2, 7), atol=1e-5, rtol=0)
    torch.testing.assert_close(answer.var(-1, correction=0), torch.ones(2, 7), atol=1e-3, rtol=0)


def test_the_head_scores_with_the_matrix_it_is_given():
    torch.manual_seed(0)
    head, matrix, vectors = MaskedLMHead(CONFIG), torch.randn(16, 12), torch.randn(5, 12)
    head.bias.data.copy_(torch.arange(16.0))
    compared = F.layer_norm(F.gelu(vectors @ head.dense.weight.T + head.dense.bias), (12,), eps=1e-12)
    torch.testing.assert_close(head(vectors, matrix), compared @ matrix.T + torch.arange(16.0))


def test_hidden_states_run_from_the_embeddings_to_the_output():
    bert, batch = make_encoder(), make_batch()
    states = bert.hidden_states(**batch)
    assert len(states) == CONFIG.num_layers + 1
    torch.testing.assert_close(states[0], bert.embeddings(batch["input_ids"], batch["token_type_ids"]))
    torch.testing.assert_close(states[1], bert.blocks[0](states[0], attention_mask=batch["attention_mask"]))
    torch.testing.assert_close(states[-1], bert(**batch))


def test_segments_reach_the_attention_weights():
    bert, batch = make_encoder(), make_batch()
    without = bert.attention_weights(batch["input_ids"], batch["attention_mask"])
    assert (bert.attention_weights(**batch)[0] - without[0]).abs().max() > 0.01


# one vector a text

def test_the_pooler_is_a_tanh_of_a_linear_map_of_the_first_token():
    pooler, states = Pooler(CONFIG), torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(0))
    pooler.dense.bias.data.fill_(0.3)
    torch.testing.assert_close(pooler(states), torch.tanh(states[:, 0] @ pooler.dense.weight.T + 0.3))


def test_a_fresh_pooler_starts_as_every_other_matrix_does():
    pooler = Pooler(MicroBertConfig(50, hidden_size=128, num_heads=2, initializer_range=0.2))
    assert pooler.dense.weight.std().item() == pytest.approx(0.2, rel=0.05) and not pooler.dense.bias.any()


def test_the_mean_is_over_real_tokens_whatever_stands_in_the_padding():
    states, mask = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(0)), make_batch()["attention_mask"]
    states[mask == 0] = float("nan")
    expected = torch.stack([row[: int(real.sum())].mean(0) for row, real in zip(states, mask, strict=True)])
    torch.testing.assert_close(mean_pool(states, mask), expected)
    torch.testing.assert_close(mean_pool(states, mask.bool()), expected)


@pytest.mark.parametrize(("mask", "message"), [
    (torch.tensor([[1, 1, 0], [0, 0, 0]]), "row 1 is all padding and has no mean"),
    (torch.ones(2, 4, dtype=torch.long), r"attention_mask is \(2, 4\)"), (torch.ones(2, 3), "torch.float32")])
def test_a_mask_that_gives_no_mean_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        mean_pool(torch.zeros(2, 3, 12), mask)


# transformers

def test_every_layer_the_pooler_and_all_gradients_equal_bert_model():
    ours, batch = make_encoder(), make_batch()
    names = encoder_weight_names(CONFIG, with_pooler=True)
    theirs = BertModel(BertConfig(**to_transformers_config(CONFIG, "BertModel"))).eval()
    theirs.load_state_dict(to_transformers_weights(ours, names))
    output, states = theirs(**batch, output_hidden_states=True), ours.hidden_states(**batch)
    is_real, pooled = batch["attention_mask"].bool(), ours.pooler(states[-1])
    for mine, other in zip(states, output.hidden_states, strict=True):
        torch.testing.assert_close(mine[is_real], other[is_real], atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled, output.pooler_output, atol=1e-5, rtol=0)
    pull = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(3))
    for last, vector in ((states[-1], pooled), (output.last_hidden_state, output.pooler_output)):
        ((last * pull)[is_real].sum() + vector.pow(3).sum()).backward()
    assert ours.pooler.dense.weight.grad.abs().max() > 0.01
    assert largest_gradient_difference(ours, theirs, names) < 1e-5


@pytest.mark.parametrize("with_pooler", [True, False])
def test_an_encoder_saved_here_opens_in_transformers_with_nothing_made_up(tmp_path, with_pooler):
    ours = make_encoder(with_pooler)
    ours.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertModel"]
    opened, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True, add_pooling_layer=with_pooler)
    assert not any(report.values()), report
    output = opened.eval()(**make_batch())
    torch.testing.assert_close(output.last_hidden_state, ours(**make_batch()), atol=1e-5, rtol=0)
    again = MicroBert.from_pretrained(tmp_path)
    assert again.config == CONFIG and not again.training and (again.pooler is None) != with_pooler
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in ours.state_dict().items())


def test_an_encoder_of_transformers_opens_here(tmp_path):
    torch.manual_seed(2)
    theirs = BertModel(BertConfig(**to_transformers_config(CONFIG))).eval()
    theirs.save_pretrained(tmp_path)
    ours, output = MicroBert.from_pretrained(tmp_path), theirs(**make_batch())
    torch.testing.assert_close(ours(**make_batch()), output.last_hidden_state, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.pooler(ours(**make_batch())), output.pooler_output, atol=1e-5, rtol=0)
    assert MicroBert.from_pretrained(tmp_path, with_pooler=False).pooler is None


def test_the_encoder_of_a_masked_language_model_opens_and_takes_a_fresh_pooler(folder):
    "What fine-tuning starts from: a pretraining run has no pooler."
    bert = MicroBert.from_pretrained(folder)
    torch.testing.assert_close(bert(**make_batch()), make_model().bert(**make_batch()))
    assert bert.pooler is None and "pooler.dense.weight" not in bert.state_dict()
    with pytest.raises(CourseError, match=r"has an encoder without a pooler: open it without one"):
        MicroBert.from_pretrained(folder, with_pooler=True)
    bert.pooler = Pooler(bert.config)
    assert bert.state_dict().keys() == encoder_weight_names(CONFIG, with_pooler=True).keys()


def test_a_pooler_changes_no_name_of_a_masked_language_model():
    "Runs that were saved before there was a pooler still load."
    assert make_model().state_dict().keys() == weight_names(CONFIG).keys()
    prefixed = encoder_weight_names(CONFIG, prefix="bert.")
    assert prefixed.items() <= weight_names(CONFIG).items()


def test_minilm_gives_the_states_and_gradients_of_bert_model():
    "The weights that lesson 05 loads: every layer, the pooler, all 79 gradients."
    if find_weights("minilm") is None:
        pytest.skip("the weights of all-MiniLM-L6-v2 are not here: run `microbert fetch minilm`")
    folder = fetch_weights("minilm")
    ours, theirs, tokenizer = MicroBert.from_pretrained(folder), BertModel.from_pretrained(folder).eval(), load_tokenizer(folder)
    batch = tokenizer(["A film about the sea.", "No!"], ["Who would watch it, and why?", "Yes."], padding=True, return_tensors="pt")
    is_real, states = batch["attention_mask"].bool(), ours.hidden_states(**batch)
    output, pooled = theirs(**batch, output_hidden_states=True), ours.pooler(states[-1])
    for mine, other in zip(states, output.hidden_states, strict=True):
        torch.testing.assert_close(mine[is_real], other[is_real], atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled, output.pooler_output, atol=1e-5, rtol=0)
    pull = torch.randn(states[-1].shape, generator=torch.Generator().manual_seed(0))
    for last, vector in ((states[-1], pooled), (output.last_hidden_state, output.pooler_output)):
        ((last * pull)[is_real].sum() / is_real.sum() + vector.pow(3).sum()).backward()
    names = encoder_weight_names(ours.config, with_pooler=True)
    assert len(names) == 79 and largest_gradient_difference(ours, theirs, names) < 1e-5


def test_logits_and_gradients_equal_transformers_with_padding_and_segments():
    model, batch = make_model(), make_batch()
    reference = BertForMaskedLM(BertConfig(**to_transformers_config(CONFIG))).eval()
    assert reference.load_state_dict(to_transformers_weights(model), strict=False).unexpected_keys == []
    is_real, losses = batch["attention_mask"].bool(), []
    for logits in (model(**batch), reference(**batch).logits):
        losses.append((logits, F.cross_entropy(logits[is_real], batch["input_ids"][is_real])))
        losses[-1][1].backward()
    torch.testing.assert_close(losses[0][0], losses[1][0], atol=1e-5, rtol=0)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters()}
    assert gradients.keys() == weight_names(CONFIG).keys()
    for ours, names in weight_names(CONFIG).items():
        torch.testing.assert_close(gradients[ours], torch.cat([theirs[name] for name in names]), atol=1e-5, rtol=0)


def test_a_saved_folder_opens_in_transformers_with_nothing_made_up(folder):
    opened, report = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    torch.testing.assert_close(opened.eval()(**make_batch()).logits, make_model()(**make_batch()), atol=1e-5, rtol=0)


def test_a_folder_of_transformers_opens_here(tmp_path):
    torch.manual_seed(2)
    reference = BertForMaskedLM(BertConfig(**to_transformers_config(CONFIG))).eval()
    reference.save_pretrained(tmp_path)
    ours = MicroBertForMaskedLM.from_pretrained(tmp_path)
    torch.testing.assert_close(ours(**make_batch()), reference(**make_batch()).logits, atol=1e-5, rtol=0)


def test_a_round_trip_keeps_every_bit_and_leaves_the_dice_alone(folder):
    state = torch.get_rng_state()
    ours = MicroBertForMaskedLM.from_pretrained(folder)
    assert torch.equal(state, torch.get_rng_state())
    expected = make_model().state_dict()
    assert ours.config == CONFIG and not ours.training
    assert all(torch.equal(ours.state_dict()[name], expected[name]) for name in expected)
    assert all(parameter.requires_grad for parameter in ours.parameters())


# fill_mask

def test_fill_mask_agrees_with_the_pipeline(folder):
    ours = fill_mask(MicroBertForMaskedLM.from_pretrained(folder), load_tokenizer(folder), "The cat [MASK] on", top_k=4)
    theirs = pipeline("fill-mask", model=str(folder), device="cpu")("The cat [MASK] on", top_k=4)
    assert [token for token, _ in ours] == [guess["token_str"] for guess in theirs]
    assert [p for _, p in ours] == pytest.approx([guess["score"] for guess in theirs], abs=1e-5)


def test_fill_mask_probabilities_sum_to_one_over_the_vocabulary():
    guesses = fill_mask(make_model(), make_tokenizer(), "the [MASK]", top_k=len(WORDS))
    assert sum(p for _, p in guesses) == pytest.approx(1, abs=1e-5)
    assert guesses == sorted(guesses, key=lambda guess: -guess[1])


def test_fill_mask_needs_no_dropout_and_leaves_the_mode_as_it_was():
    model = make_model(MicroBertConfig(len(WORDS), hidden_size=12, num_heads=3, dropout=0.5)).train()
    assert fill_mask(model, make_tokenizer(), "the [MASK]") == fill_mask(model, make_tokenizer(), "the [MASK]")
    assert model.training


@pytest.mark.parametrize(("text", "top_k", "message"), [
    ("the cat sat", 5, r"'the cat sat' has 0 blanks: write \[MASK\] exactly once"), ("", 5, "'' has 0 blanks"),
    ("[MASK] the [MASK]", 5, "has 2 blanks"), ("the cat [mask]", 5, "has 0 blanks"),
    ("the " * 400 + "[MASK]", 5, "is 403 tokens long and the model reads 10: shorten it"),
    ("the [MASK]", 0, "top_k 0 is not a number of guesses"), ("the [MASK]", 99, "choose 1 to 16")])
def test_fill_mask_refuses_what_it_cannot_answer(text, top_k, message):
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = CONFIG.max_seq_len
    with pytest.raises(CourseError, match=message) as error:
        fill_mask(make_model(), tokenizer, text, top_k)
    assert tokenizer.deprecation_warnings == {}  # transformers has not said in its own words that the text is too long
    assert len(str(error.value)) < 250 and "\n" not in str(error.value)


@pytest.mark.parametrize("words", [WORDS + ["extra"], WORDS[:-1]])
def test_fill_mask_refuses_the_tokenizer_of_another_model(words):
    with pytest.raises(CourseError, match=f"the tokenizer has {len(words)} entries and the model 16"):
        fill_mask(make_model(), make_tokenizer(words), "the [MASK]")


def test_fill_mask_refuses_a_model_that_answers_nan():
    model = make_model()
    model.head.bias.data[3] = float("nan")
    with pytest.raises(CourseError, match="NaN or infinite"):
        fill_mask(model, make_tokenizer(), "the [MASK]")


# broken folders

def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-40])


def edit(name, **changes):
    return lambda folder: (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))


def remove(name):
    return lambda folder: (folder / name).unlink()


def forget(name):
    def damage(folder):
        values = json.loads((folder / "config.json").read_text())
        del values[name]
        (folder / "config.json").write_text(json.dumps(values))
    return damage


def save_with(value):
    def damage(folder):
        model = make_model()
        model.head.dense.bias.data[2] = value
        model.save_pretrained(folder)
    return damage


def headless(folder):
    reference = BertForMaskedLM(BertConfig(**to_transformers_config(CONFIG)))
    reference.bert.save_pretrained(folder)


@pytest.mark.parametrize(("damage", "message"), [
    (remove("config.json"), "config.json does not exist"),
    (remove("model.safetensors"), "model.safetensors does not exist"),
    (remove("tokenizer.json"), "tokenizer.json does not exist"),
    (remove("tokenizer_config.json"), "tokenizer_config.json does not exist"),
    (cut("config.json"), "config.json is damaged"), (cut("model.safetensors"), "model.safetensors is damaged"),
    (cut("tokenizer.json"), "tokenizer.json is damaged"),
    (cut("tokenizer_config.json"), "tokenizer_config.json is damaged"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model.safetensors is damaged"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), "holds no tokenizer that can be read"),
    (lambda folder: (folder / "config.json").write_text("[]"), "holds a list where an object is expected"),
    (edit("config.json", model_type="gpt2"), "has model_type 'gpt2'"),
    (edit("config.json", hidden_act="relu"), "has hidden_act 'relu'"),
    (edit("config.json", tie_word_embeddings=False), "has tie_word_embeddings False"),
    (edit("config.json", position_embedding_type="relative_key"), "has position_embedding_type 'relative_key'"),
    (edit("config.json", attention_probs_dropout_prob=0.3), "has attention_probs_dropout_prob 0.3"),
    (edit("config.json", intermediate_size=24), r"in the shape \(20, 12\) where its config.json asks for \(24, 12\)"),
    (edit("config.json", vocab_size=10**12), "where its config.json asks for"),
    (edit("config.json", num_hidden_layers=3), "has no tensor 'bert.encoder.layer.2"),
    (edit("config.json", num_attention_heads=5), "describes no BERT .hidden_size 12 does not split into 5 heads"),
    (edit("config.json", hidden_size="12"), "describes no BERT .hidden_size '12' is not a size"),
    (forget("vocab_size"), "describes no BERT .'vocab_size' is missing"),
    (save_with(float("nan")), "has NaN or infinity in 'cls.predictions.transform.dense.bias'"),
    (save_with(float("inf")), "has NaN or infinity"), (headless, "has no tensor"),
])
def test_a_broken_folder_is_answered_in_one_sentence(folder, damage, message):
    damage(folder)
    with pytest.raises(CourseError, match=message) as error:
        MicroBertForMaskedLM.from_pretrained(folder)
        load_tokenizer(folder)
    assert "\n" not in str(error.value) and ": " in str(error.value)


@pytest.mark.parametrize(("damage", "message"), [
    (remove("config.json"), "config.json does not exist"), (cut("model.safetensors"), "model.safetensors is damaged"),
    (edit("config.json", model_type="gpt2"), "has model_type 'gpt2'"),
    (edit("config.json", intermediate_size=24), r"in the shape \(20, 12\) where its config.json asks for \(24, 12\)"),
    (edit("config.json", num_hidden_layers=3), "has no tensor 'encoder.layer.2.*choose a folder with a BertModel in it"),
    (save_with(float("nan")), None),  # it is in the head, which an encoder does not read
])
@pytest.mark.parametrize("with_head", [True, False])
def test_a_broken_encoder_is_answered_in_one_sentence(tmp_path, damage, message, with_head):
    (make_model() if with_head else make_encoder()).save_pretrained(tmp_path)
    damage(tmp_path)
    if message is None:
        assert MicroBert.from_pretrained(tmp_path)(**make_batch()).isfinite().all()
        return
    with pytest.raises(CourseError, match=message) as error:
        MicroBert.from_pretrained(tmp_path)
    assert "\n" not in str(error.value) and ": " in str(error.value)


@pytest.mark.parametrize("opened", [MicroBertForMaskedLM.from_pretrained, MicroBert.from_pretrained, load_tokenizer])
def test_something_that_is_no_folder_is_answered_in_one_sentence(tmp_path, opened):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(CourseError, match="is not a folder"):
            opened(place)


def test_a_config_of_transformers_comes_back_as_ours():
    assert from_transformers_config(to_transformers_config(CONFIG), "here") == CONFIG


def test_names_of_the_oldest_checkpoints_are_read(folder):
    from safetensors.torch import load_file, save_file

    weights = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
               for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    opened = MicroBertForMaskedLM.from_pretrained(folder)
    torch.testing.assert_close(opened(**make_batch()), make_model()(**make_batch()))


def test_attention_weights_are_those_that_forward_uses():
    "The last layer's output, rebuilt from its stored weights and values, is what `forward` answers."
    torch.manual_seed(0)
    config = MicroBertConfig(vocab_size=20, hidden_size=12, num_layers=2, num_heads=3, intermediate_size=8, max_seq_len=9)
    bert = MicroBert(config).eval()
    ids, mask = torch.randint(5, 20, (2, 7)), torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    weights = bert.attention_weights(ids, mask)
    assert [tuple(layer.shape) for layer in weights] == [(2, 3, 7, 7)] * 2
    before_last = bert.blocks[0](bert.embeddings(ids), attention_mask=mask)
    branch = bert.blocks[1].attention
    value = branch.sublayer.split_heads(before_last)[2]
    context = branch.sublayer.out((weights[1] @ value).transpose(1, 2).flatten(2))
    rebuilt = bert.blocks[1].feed_forward(branch.norm(before_last + context))
    assert (rebuilt - bert(ids, mask)).abs().max() < 1e-5
