"BERT: shapes, the tie, agreement with transformers, files that open there, and a sentence for every broken folder."

import json
import math

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers import models as tokenizer_models
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, PreTrainedTokenizerFast, pipeline

from microbert_course.errors import CourseError
from microbert_course.models.bert import (
    MicroBert,
    MicroBertConfig,
    MicroBertForMaskedLM,
    fill_mask,
    from_transformers_config,
    load_tokenizer,
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


def test_a_row_longer_than_the_positions_is_refused():
    with pytest.raises(ValueError, match="a row of 11 tokens does not fit into 10 positions"):
        make_model()(torch.full((1, 11), 6))


def test_a_row_without_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"input_ids has the shape \(4,\)"):
        make_model()(torch.tensor([2, 6, 7, 3]))


# transformers

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
    with pytest.raises(CourseError, match=message) as error:
        fill_mask(make_model(), make_tokenizer(), text, top_k)
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


@pytest.mark.parametrize("opened", [MicroBertForMaskedLM.from_pretrained, load_tokenizer])
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
