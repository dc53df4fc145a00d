"LoRA: nothing changed at the start, equal to peft on BERT and Llama, switched, merged, and files that peft opens and the reverse."

import copy
import json
import re

import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
)

from microbert_course.cli.main import main
from microbert_course.errors import CourseError
from microbert_course.models.bert import MicroBert, MicroBertConfig, MicroBertForMaskedLM
from microbert_course.models.gpt import GptConfig, GptForCausalLM
from microbert_course.models.lora import (
    LoraConfig,
    LoraLinear,
    LowRank,
    OwnCopy,
    TrainableShare,
    adapter_names,
    add_lora,
    block_targets,
    find_targets,
    merge,
    remove_lora,
    trainable_share,
    unmerge,
    use_adapter,
)
from microbert_course.models.lora_folders import (
    adapter_tensors,
    linear_places,
    load_adapter,
    merge_folders,
    read_adapter,
    save_adapter,
)
from microbert_course.models.modern import ModernConfig, ModernForMaskedLM
from microbert_course.posttraining.classification import MicroBertForSequenceClassification
from microbert_course.training.optim import AdamW

BERT = MicroBertConfig(vocab_size=50, hidden_size=12, num_layers=2, num_heads=3, intermediate_size=20, max_seq_len=16)
LLAMA = GptConfig(vocab_size=50, hidden_size=24, num_layers=2, num_heads=6, num_kv_heads=2, intermediate_size=20, max_seq_len=16)
MODERN = ModernConfig(vocab_size=50, hidden_size=12, num_layers=2, num_heads=3, intermediate_size=20, max_seq_len=16, window=None)
MODELS = {"bert": (MicroBertForMaskedLM, BERT, ("query", "value")), "llama": (GptForCausalLM, LLAMA, ("q_proj", "v_proj", "up_proj"))}
BOTH = pytest.mark.parametrize("kind", MODELS)
CONFIG = LoraConfig(lora_rank=3, lora_alpha=5.0, targets=("query", "value"))  # alpha is not the rank


def fresh(kind="bert", **changes):
    torch.manual_seed(0)
    model_class, config, _ = MODELS[kind]
    return model_class(config, **changes).eval()


def stir(model):
    "Numbers into every trained tensor, so that nothing is right by being zero."
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def adapted(kind="bert", **settings):
    model = fresh(kind)
    add_lora(model, LoraConfig(**{"lora_rank": 3, "lora_alpha": 5.0, "targets": MODELS[kind][2], **settings}))
    return stir(model)


def ids(rows=3, seq=7):
    return torch.randint(1, 50, (rows, seq), generator=torch.Generator().manual_seed(2))


def theirs_of(model, folder):
    "The same base in transformers."
    plain = copy.deepcopy(model)
    remove_lora(plain).save_pretrained(folder)
    model_class = AutoModelForMaskedLM if isinstance(model, MicroBertForMaskedLM) else AutoModelForCausalLM
    return model_class.from_pretrained(folder).eval()


def sentence(caught):
    text = str(caught.value)
    assert "\n" not in text and text.count(": ") >= 1, text
    return text


# --- the layer

def test_a_change_worked_by_hand():
    "Rank 1, alpha 2: B·A = (1, 2)ᵀ(3, 0, 1), times 2. The input (1, 1, 1) meets A as 4, and 4 · (1, 2) · 2 = (8, 16)."
    change = LowRank(3, 2, LoraConfig(lora_rank=1, lora_alpha=2.0))
    change.A.data, change.B.data = torch.tensor([[3.0, 0.0, 1.0]]), torch.tensor([[1.0], [2.0]])
    assert change(torch.ones(3)).tolist() == [8.0, 16.0]
    assert change.change().tolist() == [[6.0, 0.0, 2.0], [12.0, 0.0, 4.0]]


def test_a_change_of_some_rows_leaves_the_others_alone():
    "Rows 1 and 2 of four are a part; the answer differs there, and is the base's to the bit elsewhere."
    torch.manual_seed(0)
    layer, inputs = LoraLinear(nn.Linear(3, 4)), torch.randn(5, 3)
    layer.add("default", CONFIG, {"middle": slice(1, 3)})
    layer.active = "default"
    layer.adapters["default"]["middle"].B.data.normal_()
    with torch.no_grad():
        answer, base = layer(inputs), layer.base(inputs)
    assert torch.equal(answer[:, [0, 3]], base[:, [0, 3]]) and not torch.isclose(answer[:, 1:3], base[:, 1:3]).any()


@BOTH
def test_at_the_start_the_answers_are_the_bases_to_the_bit(kind):
    model = fresh(kind)
    before = model(ids())
    add_lora(model, LoraConfig(lora_dropout=0.5))
    assert torch.equal(model(ids()), before)
    assert torch.equal(model.train()(ids()), before)  # the dropout of a change that is 0


def test_dropout_meets_a_change_in_training_alone():
    model = adapted(lora_dropout=0.5)
    assert torch.equal(model(ids()), model(ids()))
    model.train()
    assert not torch.equal(model(ids()), model(ids()))


class Packed(nn.Module):
    "A linear whose weight is whole numbers, as a 4-bit one has them: nothing to train, nothing to add to."

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("packed", (linear.weight * 100).round().to(torch.int8))

    def forward(self, inputs):
        return inputs @ (self.packed / 100).T.to(inputs.dtype)


def test_any_linear_can_be_the_base_and_its_packed_weight_counts_in_the_share():
    torch.manual_seed(0)
    model = nn.Sequential(Packed(nn.Linear(6, 4)), nn.ReLU(), nn.Linear(4, 3))
    inputs = torch.randn(2, 6)
    before = model(inputs)
    share = add_lora(model, LoraConfig(lora_rank=2, targets=("0",)))
    assert share == TrainableShare(trainable=2 * (6 + 4), total=2 * (6 + 4) + 6 * 4 + 4 * 3 + 3)
    assert torch.equal(model(inputs), before)
    stir(model)(inputs).sum().backward()
    assert model[0].adapters["default"]["whole"].A.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="a Packed has no plain weight to add to: put an nn.Linear"):
        merge(model)


def test_a_base_in_16_bits_answers_in_16_bits_and_is_trained_in_32():
    layer = LoraLinear(nn.Linear(6, 4).bfloat16())
    layer.add("default", CONFIG)
    layer.active = "default"
    answer = layer(torch.randn(2, 6).bfloat16())
    assert answer.dtype == torch.bfloat16 and layer.adapters["default"]["whole"].A.dtype == torch.float32
    answer.sum().backward()
    assert layer.adapters["default"]["whole"].B.grad.dtype == torch.float32


def test_what_is_no_linear_cannot_be_a_base():
    with pytest.raises(ValueError, match="ReLU has no in_features and out_features: give a linear"):
        LoraLinear(nn.ReLU())


# --- where it sits

def test_the_parts_of_a_fused_linear_have_their_rows():
    "Six heads of 4 for the query, two for key and value each: 24, 8 and 8 rows of 40."
    places = linear_places(fresh("llama"))
    parts = {name.rpartition(".")[2]: place for name, place in places.items() if name.startswith("model.layers.1.self_attn")}
    assert {name: place.rows for name, place in parts.items()} == {
        "q_proj": slice(0, 24), "k_proj": slice(24, 32), "v_proj": slice(32, 40), "o_proj": slice(0, 24)}
    assert parts["v_proj"].linear == "gpt.blocks.1.attention.sublayer.qkv" and parts["o_proj"].part == "whole"


@pytest.mark.parametrize(("model", "names"), [
    (lambda: MicroBert(BERT), "encoder.layer.0.attention.self.key"),
    (lambda: nn.ModuleDict({"bert": MicroBert(BERT, with_pooler=True)}), "bert.pooler.dense"),
    (lambda: fresh("bert"), "cls.predictions.transform.dense"),
    (lambda: ModernForMaskedLM(MODERN), "model.layers.1.attn.Wqkv"),
    (lambda: ModernForMaskedLM(ModernConfig(**{**MODERN.__dict__, "norm": "rms"})), "encoder.blocks.1.attention.sublayer.qkv"),
    (lambda: nn.Sequential(nn.Linear(3, 4)), "0"),
])
def test_linears_have_the_names_that_transformers_gives_them(model, names):
    "Also inside a larger model; a model that transformers does not know keeps its own."
    assert names in linear_places(model())


def test_targets_are_ends_of_names():
    model = fresh()
    assert find_targets(model, ("query", "0.output.dense")) == [
        "bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.0.output.dense", "bert.encoder.layer.1.attention.self.query"]


def test_without_targets_all_linears_of_the_blocks_are_meant():
    model = fresh("llama")
    assert block_targets(model) == tuple(f"self_attn.{part}_proj" for part in "qkvo") + tuple(f"mlp.{part}_proj" for part in ("gate", "up", "down"))
    assert len(find_targets(model, block_targets(model))) == 14
    assert "attention.output.dense" in block_targets(fresh()) and not find_targets(fresh(), ("dense",)) == find_targets(fresh(), block_targets(fresh()))


def test_a_linear_outside_the_blocks_with_a_name_from_inside_is_left_alone():
    model = nn.ModuleDict({"blocks": nn.ModuleList([nn.ModuleDict({"up": nn.Linear(3, 3)})]), "up": nn.Linear(3, 3)})
    assert find_targets(model, block_targets(model)) == ["blocks.0.up"]


def test_an_untied_head_is_no_target_because_its_weight_is_read_and_not_called():
    torch.manual_seed(0)
    model = GptForCausalLM(GptConfig(**{**LLAMA.__dict__, "tie_word_embeddings": False}))
    with pytest.raises(ValueError, match="no linear of GptForCausalLM is called 'lm_head'"):
        add_lora(model, LoraConfig(targets=("lm_head",)))


# --- freezing, training, the share

@BOTH
def test_everything_but_the_adapter_is_frozen_and_the_share_says_so(kind):
    model = fresh(kind)
    total = model.num_parameters()
    share = add_lora(model, LoraConfig(lora_rank=3, targets=MODELS[kind][2]))
    expected = 2 * 3 * ((12 + 12) * 2 if kind == "bert" else (24 + 24) + (24 + 8) + (24 + 20))
    assert share == trainable_share(model) == (expected, total + expected)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(re.search(r"\.adapters\.default\.\w+\.[AB]$", name) for name in trained)
    assert repr(TrainableShare(73_728, 22_786_944)) == "73,728 of 22,786,944 numbers are trained (0.32%)"


def test_training_moves_the_adapter_alone_and_the_loss():
    model, before = fresh(), copy.deepcopy(fresh().state_dict())
    add_lora(model, LoraConfig())
    optimizer, losses = AdamW([p for p in model.parameters() if p.requires_grad], lr=0.03), []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(ids()).flatten(0, 1), ids().flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    assert all(torch.equal(tensor, before[name]) for name, tensor in remove_lora(model).state_dict().items())


def test_with_a_and_b_both_zero_nothing_learns():
    "The gradient of each is a product with the other."
    model = fresh()
    add_lora(model, CONFIG)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.zeros_(parameter)
    model(ids()).sum().backward()
    assert all(p.grad.abs().max() == 0 for p in model.parameters() if p.requires_grad)


# --- peft

@BOTH
@pytest.mark.parametrize("rank_stabilized", [False, True])
def test_outputs_and_gradients_equal_peft(kind, rank_stabilized, tmp_path):
    "Our file opened by peft on transformers' model of the same weights: 1e-6, float32 rounding of another order of sums."
    model = adapted(kind, rank_stabilized=rank_stabilized)
    save_adapter(model, tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(theirs_of(model, tmp_path / "base"), tmp_path / "adapter", is_trainable=True).eval()
    ours_out, theirs_out = model(ids()), theirs(ids()).logits
    assert (ours_out - model.eval()(ids() * 0 + 1)).abs().max() > 1e-3  # the answers depend on what goes in
    assert (ours_out - theirs_out).abs().max() <= 1e-6
    weights = torch.randn(ours_out.shape, generator=torch.Generator().manual_seed(3)) / 10
    (ours_out * weights).sum().backward()
    (theirs_out * weights).sum().backward()
    theirs_grads = {name.replace(".default.", "."): p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    ours_grads = {name: tensor.grad for name, tensor in adapter_tensors(model).items()}
    assert ours_grads.keys() == theirs_grads.keys() and len(ours_grads) == 2 * len(find_targets(model, MODELS[kind][2]))
    for name, gradient in ours_grads.items():
        assert gradient.abs().max() > 5e-5 and (gradient - theirs_grads[name]).abs().max() <= 1e-6


@BOTH
@pytest.mark.parametrize("targets", ["list", "pattern", "all-linear", "one layer"])
def test_we_open_what_peft_wrote(kind, targets, tmp_path):
    model = fresh(kind)
    wanted = {"list": list(MODELS[kind][2]), "pattern": r".*\.1\..*(query|q_proj)", "all-linear": "all-linear", "one layer": list(MODELS[kind][2])}[targets]
    only = [1] if targets == "one layer" else None
    theirs = get_peft_model(theirs_of(model, tmp_path / "base"), PeftConfig(r=3, lora_alpha=5, target_modules=wanted, layers_to_transform=only))
    stir(theirs).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    share = load_adapter(model, tmp_path / "adapter")
    assert (model(ids()) - theirs(ids()).logits).abs().max() <= 1e-6
    assert share.trainable == sum(p.numel() for p in theirs.parameters() if p.requires_grad)


def test_a_file_of_ours_comes_back_with_its_settings(tmp_path):
    model = adapted(rank_stabilized=True, lora_dropout=0.25)
    save_adapter(model, tmp_path)
    again = fresh()
    load_adapter(again, tmp_path, "again")
    assert torch.equal(model(ids()), again(ids())) and adapter_names(again) == ["again"]
    assert read_adapter(tmp_path).config == LoraConfig(3, 5.0, 0.25, ("query", "value"), (), True)
    save_adapter(again, tmp_path / "again", "again")
    assert (tmp_path / "again" / "adapter_model.safetensors").read_bytes() == (tmp_path / "adapter_model.safetensors").read_bytes()


def classifier(num_labels=3):
    torch.manual_seed(0)
    return MicroBertForSequenceClassification(BERT, [f"label {number}" for number in range(num_labels)]).eval()


def their_classifier(ours, folder):
    "The same numbers in transformers."
    ours.save_pretrained(folder)
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def test_a_classifier_is_trained_and_saved_whole_beside_the_adapter(tmp_path):
    model = classifier()
    theirs = their_classifier(model, tmp_path / "base")
    before = model(ids())
    share = add_lora(model, LoraConfig(lora_rank=3, lora_alpha=5.0, targets=("query",), also_train=("classifier",)))
    assert torch.equal(model(ids()), before) and share.trainable == 2 * 3 * (12 + 12) + 3 * 13
    stir(model)
    save_adapter(model, tmp_path / "ours")
    peft_model = PeftModel.from_pretrained(theirs, tmp_path / "ours").eval()
    assert (model(ids()) - peft_model(ids()).logits).abs().max() <= 1e-6
    peft_model.save_pretrained(tmp_path / "theirs")
    again = classifier()
    load_adapter(again, tmp_path / "theirs")
    assert torch.equal(again(ids()), model(ids()))
    use_adapter(again, None)
    assert torch.equal(again(ids()), before)
    assert isinstance(again.classifier, OwnCopy)


# --- several adapters

def test_adapters_are_switched_and_only_the_one_in_use_is_trained():
    model = fresh()
    before = model(ids())
    add_lora(model, CONFIG, "first")
    stir(model)
    first = model(ids())
    add_lora(model, LoraConfig(lora_rank=2, targets=("key", "intermediate.dense")), "second")
    assert torch.equal(model(ids()), before) and adapter_names(model) == ["first", "second"]
    stir(model)
    second = model(ids())
    assert not torch.equal(first, second)
    use_adapter(model, "first")
    assert torch.equal(model(ids()), first)
    model(ids()).sum().backward()
    assert all((parameter.grad is not None) == (".first." in name) for name, parameter in model.named_parameters())
    assert use_adapter(model, None).trainable == 0 and torch.equal(model(ids()), before)
    use_adapter(model, "second")
    assert torch.equal(model(ids()), second)


def test_two_files_of_one_base_live_side_by_side(tmp_path):
    outputs = {}
    for seed, name in enumerate(("french", "formal")):
        model = adapted(lora_rank=2 + seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data *= 1 + seed
        outputs[name] = model(ids())
        save_adapter(model, tmp_path / name)
    model = fresh()
    for name in outputs:
        load_adapter(model, tmp_path / name, name)
    for name, expected in outputs.items():
        use_adapter(model, name)
        assert torch.equal(model(ids()), expected)


# --- merging

@BOTH
def test_merged_the_answers_are_the_same_and_unmerged_the_base_is_back_to_the_bit(kind):
    model = adapted(kind)
    before, state = model(ids()), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merge(model)
    torch.testing.assert_close(model(ids()), before, rtol=1e-5, atol=1e-6)  # sums in another order
    assert any(not torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    unmerge(model)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(model(ids()), before)


def test_subtracting_the_change_again_would_not_give_the_base_back():
    "Why a copy is kept: (W + D) - D rounds twice."
    torch.manual_seed(0)
    weight, change = torch.randn(50, 50), torch.randn(50, 50)
    assert not torch.equal(weight + change - change, weight)


@BOTH
def test_merged_and_taken_out_it_is_a_plain_model_that_transformers_opens(kind, tmp_path):
    model = adapted(kind)
    before = model(ids())
    merge(model)
    remove_lora(model)
    assert not any(isinstance(module, LoraLinear) for module in model.modules()) and trainable_share(model).share == 1
    torch.testing.assert_close(theirs_of(model, tmp_path)(ids()).logits, before, rtol=1e-5, atol=1e-6)


def test_taken_out_without_merging_the_base_is_left():
    model = adapted()
    assert torch.equal(remove_lora(model)(ids()), fresh()(ids()))


def test_a_merged_classifier_keeps_its_copy():
    model = classifier()
    add_lora(model, LoraConfig(targets=("query",), also_train=("classifier",)))
    stir(model)
    before = model(ids())
    merge(model)
    torch.testing.assert_close(remove_lora(model)(ids()), before, rtol=1e-5, atol=1e-6)
    assert isinstance(model.classifier, nn.Linear)


def test_a_16_bit_weight_is_merged_by_way_of_32():
    "Added in bfloat16, the change would be rounded before the sum is."
    torch.manual_seed(0)
    layer = LoraLinear(nn.Linear(6, 4).bfloat16())
    layer.add("default", CONFIG)
    layer.active = "default"
    layer.adapters["default"]["whole"].B.data.normal_()
    expected = (layer.base.weight.float() + layer.adapters["default"]["whole"].change()).bfloat16()
    layer.merge()
    assert torch.equal(layer.base.weight, expected)


# --- refusals

@pytest.mark.parametrize(("settings", "message"), [
    (dict(lora_rank=0), "lora_rank 0 is no number of directions: choose a whole number from 1"),
    (dict(lora_rank=2.5), "lora_rank 2.5 is no number"),
    (dict(lora_alpha=0), "lora_alpha 0 would turn the change off or around: choose a number above 0"),
    (dict(lora_alpha=-1), "lora_alpha -1 would"),
    (dict(lora_alpha=float("nan")), "lora_alpha nan would"),
    (dict(lora_dropout=1.0), "lora_dropout 1.0 is not a share"),
    (dict(targets="query"), r"targets 'query' is one text: give a tuple of names, \('query',\)"),
    (dict(also_train="classifier"), "also_train 'classifier' is one text"),
])
def test_bad_settings_stop_at_the_door(settings, message):
    with pytest.raises(ValueError, match=message):
        LoraConfig(**settings)


@pytest.mark.parametrize(("config", "name", "message"), [
    (LoraConfig(targets=("qurey",)), "default", "no linear of MicroBertForMaskedLM is called 'qurey': did you mean 'query'"),
    (LoraConfig(targets=("query", "q_proj")), "default", "is called 'q_proj': choose one of query, key, value, dense, self.query"),
    (LoraConfig(targets=("query",), also_train=("clasifier",)), "default", "no module of MicroBertForMaskedLM is called 'clasifier'"),
    (LoraConfig(targets=("query",), also_train=("attention",)), "default", "'bert.blocks.0.attention' is to be trained whole and .* by an adapter"),
    (CONFIG, "my.adapter", "'my.adapter' cannot name an adapter"),
    (CONFIG, "values", "'values' cannot name an adapter"),
    (CONFIG, "", "'' cannot name an adapter"),
])
def test_names_that_cannot_be_stop_at_the_door(config, name, message):
    model = fresh()
    with pytest.raises(ValueError, match=message):
        add_lora(model, config, name)
    assert model.state_dict().keys() == fresh().state_dict().keys()  # nothing was half done


def test_a_model_without_blocks_needs_targets():
    with pytest.raises(ValueError, match="Sequential has no linear inside an nn.ModuleList: name its linears in targets, such as 0"):
        add_lora(nn.Sequential(nn.Linear(2, 3)), LoraConfig())


def test_what_does_not_follow_in_order_is_refused():
    model = fresh()
    with pytest.raises(ValueError, match=r"no adapter is in use: call use_adapter\(model, name\) first"):
        merge(model)
    with pytest.raises(ValueError, match="nothing|no adapter is merged into this model"):
        unmerge(model)
    add_lora(model, CONFIG)
    with pytest.raises(ValueError, match="the model has an adapter 'default' already: choose another name"):
        add_lora(model, CONFIG)
    with pytest.raises(ValueError, match="the model has no adapter 'defualt': did you mean 'default'"):
        use_adapter(model, "defualt")
    merge(model)
    for action in (lambda: merge(model), lambda: use_adapter(model, None), lambda: add_lora(model, CONFIG, "second")):
        with pytest.raises(ValueError, match=r"an adapter is merged into this model: call unmerge\(model\) first"):
            action()
    layer = next(module for module in model.modules() if isinstance(module, LoraLinear))
    with pytest.raises(ValueError, match="an adapter is merged already, and a second time would double its change"):
        layer.merge()
    unmerge(model)
    with pytest.raises(ValueError, match="no adapter is merged into this linear"):
        layer.unmerge()
    with pytest.raises(ValueError, match="the model has no adapter 'other'"):
        save_adapter(model, "nowhere", "other")


# --- files that are not right

@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    "An adapter's folder; tests copy it before they break it."
    folder = tmp_path_factory.mktemp("adapter")
    save_adapter(adapted(), folder)
    return folder


def broken(saved, folder, values=None, tensors=None):
    "A copy with other settings or tensors."
    folder.mkdir()
    config = {**json.loads((saved / "adapter_config.json").read_text()), **(values or {})}
    (folder / "adapter_config.json").write_text(json.dumps({name: value for name, value in config.items() if value != "left out"}))
    weights = load_file(saved / "adapter_model.safetensors")
    save_file(tensors(weights) if tensors else weights, folder / "adapter_model.safetensors")
    return folder


FIRST = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"


def without(name):
    return lambda weights: {key: tensor for key, tensor in weights.items() if key != name}


def changed(**tensors):
    return lambda weights: {**weights, **{FIRST if name == "first" else name: tensor for name, tensor in tensors.items()}}


@pytest.mark.parametrize(("values", "tensors", "message"), [
    (dict(peft_type="IA3"), None, "has peft_type 'IA3', and the course reads 'LORA' alone"),
    (dict(use_dora=True), None, "has use_dora True, and the course has plain LoRA alone"),
    (dict(bias="all"), None, "has bias 'all'"),
    (dict(fan_in_fan_out=True), None, "has fan_in_fan_out True"),
    (dict(rank_pattern={"query": 4}), None, "has rank_pattern {'query': 4}"),
    (dict(alpha_pattern={"query": 4}), None, "has alpha_pattern"),
    (dict(init_lora_weights="pissa"), None, "has init_lora_weights 'pissa'"),
    (dict(something_of_tomorrow=1), None, "has something_of_tomorrow 1"),
    (dict(r=0), None, "where adapter_config.json says r 0"),
    (dict(r=4), None, f"has '{FIRST}' in the shape (3, 12) and its B in (12, 3) where adapter_config.json says r 4"),
    (dict(lora_alpha="left out"), None, "describes no LoRA ('lora_alpha' is missing)"),
    (dict(lora_alpha=-1), None, "describes no LoRA (lora_alpha -1 would turn"),
    ({}, without(FIRST), f"has no tensor '{FIRST}'"),
    ({}, without(FIRST.replace("lora_A", "lora_B")), f"has no tensor '{FIRST.replace('lora_A', 'lora_B')}'"),
    ({}, changed(first=torch.full((3, 12), torch.nan)), f"has NaN or infinity in '{FIRST}'"),
    ({}, changed(first=torch.zeros(3)), f"has '{FIRST}' in the shape (3,)"),
    ({}, changed(stray=torch.zeros(3)), "has the tensor 'stray', and the names in peft's files begin with 'base_model.model.'"),
    ({}, changed(**{"base_model.model.stray": torch.zeros(3)}), "has the tensor 'stray', which no setting in adapter_config.json explains"),
    ({}, lambda weights: {}, "holds no change of any linear"),
])
def test_a_broken_adapter_is_refused_and_the_model_stays_plain(saved, tmp_path, values, tensors, message):
    model = fresh()
    with pytest.raises(CourseError, match=re.escape(message)) as caught:
        load_adapter(model, broken(saved, tmp_path / "broken", values, tensors))
    assert str(tmp_path) in sentence(caught) and adapter_names(model) == []


@pytest.mark.parametrize("harmless", [dict(task_type="SEQ_CLS"), dict(peft_version="9.9"), dict(inference_mode=False), dict(use_dora=False),
                                      dict(modules_to_save=["classifier", "score"]), dict(init_lora_weights="gaussian"), dict(bias="none")])
def test_what_changes_nothing_is_read_over(saved, tmp_path, harmless):
    "peft names `classifier` and `score` for every task of this type, whatever the model has."
    model = fresh()
    load_adapter(model, broken(saved, tmp_path / "adapter", harmless))
    assert torch.equal(model(ids()), adapted()(ids()))


@pytest.mark.parametrize(("name", "content", "message"), [
    ("adapter_config.json", None, "adapter_config.json does not exist"),
    ("adapter_config.json", "{", "adapter_config.json is damaged"),
    ("adapter_model.safetensors", None, "adapter_model.safetensors does not exist"),
    ("adapter_model.safetensors", "cut short", "adapter_model.safetensors is damaged"),
])
def test_a_missing_or_damaged_file_is_named(saved, tmp_path, name, content, message):
    folder = broken(saved, tmp_path / "broken")
    (folder / name).unlink()
    if content:
        (folder / name).write_text(content)
    with pytest.raises(CourseError, match=message):
        load_adapter(fresh(), folder)
    with pytest.raises(CourseError, match="nowhere is not a folder: give one with an adapter"):
        load_adapter(fresh(), tmp_path / "nowhere")


@pytest.mark.parametrize(("other", "message"), [
    (lambda: MicroBertForMaskedLM(MicroBertConfig(**{**BERT.__dict__, "hidden_size": 24})),
     f"has '{FIRST}' for a linear of the shape (12, 12) where this MicroBertForMaskedLM has (24, 24): give the model that the adapter was trained on"),
    (lambda: GptForCausalLM(LLAMA), f"has '{FIRST}', and this GptForCausalLM has no linear of that name"),
    (lambda: MicroBert(BERT), f"has '{FIRST}', and this MicroBert has no linear of that name"),
    (lambda: MicroBertForMaskedLM(MicroBertConfig(**{**BERT.__dict__, "num_layers": 1})), "layer.1.attention.self.query.lora_A.weight', and this"),
])
def test_an_adapter_for_another_base_is_refused_by_its_first_tensor(saved, other, message):
    model = other()
    with pytest.raises(CourseError, match=re.escape(message)) as caught:
        load_adapter(model, saved)
    assert sentence(caught) and adapter_names(model) == []


def test_a_classifier_of_other_classes_is_refused(tmp_path):
    model = classifier()
    add_lora(model, LoraConfig(targets=("query",), also_train=("classifier",)))
    save_adapter(model, tmp_path)
    other = classifier(5)
    with pytest.raises(CourseError, match=re.escape("has 'base_model.model.classifier.bias' in the shape (3,) where this MicroBertForSequenceClassification has (5,)")):
        load_adapter(other, tmp_path)
    with pytest.raises(CourseError, match=re.escape("has no tensor 'base_model.model.classifier.bias'")):
        load_adapter(classifier(), broken(tmp_path, tmp_path / "half", {}, without("base_model.model.classifier.bias")))
    del other.classifier
    with pytest.raises(CourseError, match=re.escape("has 'base_model.model.classifier.bias', and this MicroBertForSequenceClassification has no tensor of that name")):
        load_adapter(other, tmp_path)
    assert adapter_names(other) == []


def test_a_copy_that_peft_would_not_find_is_not_written(tmp_path):
    "It works in memory, though: what the model asks of its head besides calling it, the copy answers."
    model = fresh()
    before = model(ids())
    add_lora(model, LoraConfig(targets=("query",), also_train=("head",)))
    assert torch.equal(model(ids()), before) and torch.equal(copy.deepcopy(model)(ids()), before)
    assert not torch.equal(stir(model)(ids()), before)
    with pytest.raises(ValueError, match="'head' has another name in transformers"):
        save_adapter(model, tmp_path)


# --- the command line

def run_merge(model, adapter, to):
    return main(["lora", "merge", "--model", str(model), "--adapter", str(adapter), "--to", str(to)])


@BOTH
def test_merge_writes_a_folder_that_transformers_opens(kind, tmp_path, capsys):
    "The same numbers as merging in memory, and the tokenizer beside them."
    model = adapted(kind)
    save_adapter(model, tmp_path / "adapter")
    fresh(kind).save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "vocab.txt").write_text("[PAD]\n")
    assert run_merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "merged") and (tmp_path / "merged" / "vocab.txt").is_file()
    model_class = MODELS[kind][0]
    theirs = (AutoModelForMaskedLM if kind == "bert" else AutoModelForCausalLM).from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(theirs(ids()).logits, model(ids()), rtol=1e-5, atol=1e-6)
    merge(model)
    assert torch.equal(model_class.from_pretrained(tmp_path / "merged")(ids()), remove_lora(model)(ids()))


@pytest.mark.parametrize("bare", [True, False])
def test_merge_makes_a_classifier_of_a_bare_encoder(bare, tmp_path):
    "An adapter with a fresh classifier was trained on an encoder such as MiniLM, which has none; or on a classifier's folder."
    model = classifier()
    model.save_pretrained(tmp_path / "whole")
    model.bert.save_pretrained(tmp_path / "bare")
    add_lora(model, LoraConfig(lora_rank=3, targets=("query",), also_train=("classifier",)))
    save_adapter(stir(model), tmp_path / "adapter")
    assert run_merge(tmp_path / ("bare" if bare else "whole"), tmp_path / "adapter", tmp_path / "merged") == 0
    theirs, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert theirs.config.num_labels == 3 and not report["missing_keys"] and not report["unexpected_keys"]
    torch.testing.assert_close(theirs.eval()(ids()).logits, model(ids()), rtol=1e-5, atol=1e-6)


def test_a_16_bit_folder_stays_in_16_bits(saved, tmp_path):
    theirs_of(fresh(), tmp_path / "whole").bfloat16().save_pretrained(tmp_path / "base")
    merge_folders(tmp_path / "base", saved, tmp_path / "merged")
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}


def test_show_says_what_an_adapter_is(saved, capsys):
    assert main(["lora", "show", str(saved)]) == 0
    assert capsys.readouterr().out == "rank 3, alpha 5: changes times 1.667\n4 linears: query, value\n288 numbers\n"


def refusal(capsys, *folders):
    assert run_merge(*folders) == 1
    said = capsys.readouterr().err
    assert said.startswith("microbert: ") and said.count("\n") == 1, said
    return said


def test_what_cannot_be_merged_is_one_sentence_and_nothing_is_written(saved, tmp_path, capsys):
    fresh().save_pretrained(tmp_path / "bert")
    fresh("llama").save_pretrained(tmp_path / "llama")
    to = tmp_path / "to"
    assert f"has '{FIRST}', and {tmp_path / 'llama'} has no linear of that name" in refusal(capsys, tmp_path / "llama", saved, to)
    assert "nowhere is not a folder: give one with config.json" in refusal(capsys, tmp_path / "nowhere", saved, to)
    assert "is not a folder: give one with an adapter" in refusal(capsys, tmp_path / "bert", tmp_path / "nowhere", to)
    assert "holds something already: choose a new folder" in refusal(capsys, tmp_path / "bert", saved, tmp_path / "bert")
    model = classifier()
    add_lora(model, LoraConfig(targets=("query",), also_train=("classifier",)))
    save_adapter(model, tmp_path / "classifier")
    assert "is no BERT with a pooler, which the adapter's classifier sits on" in refusal(capsys, tmp_path / "bert", tmp_path / "classifier", to)
    assert not to.exists()
