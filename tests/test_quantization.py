"Quantisation: levels, blocks, packed constants, counted bits, a linear that unpacks on the fly, LoRA over it, and large models estimated and refused."

import copy
import json
import math
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from microbert_course.errors import CourseError
from microbert_course.models import quantized_loading
from microbert_course.models.bert import MicroBertConfig, MicroBertForMaskedLM
from microbert_course.models.experts import expert_model
from microbert_course.models.gpt import GptConfig, GptForCausalLM, generate
from microbert_course.models.lora import LoraConfig, add_lora, merge, remove_lora, trainable_share
from microbert_course.models.lora_folders import adapter_tensors, load_adapter, save_adapter
from microbert_course.models.quantization import (
    FORMATS,
    PackedWeight,
    QuantizedLinear,
    StoredWeights,
    check_packing,
    dequantize_model,
    even_levels,
    in_blocks,
    load_quantized,
    memory_estimate,
    nearest_codes,
    normal_float_levels,
    pack_nibbles,
    quantize_model,
    stored_bytes,
)
from microbert_course.training.memory import MemoryMeter
from microbert_course.training.optim import AdamW

LLAMA = GptConfig(vocab_size=50, hidden_size=64, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=96, max_seq_len=32)
BERT = MicroBertConfig(vocab_size=50, hidden_size=12, num_layers=2, num_heads=3, intermediate_size=20, max_seq_len=16)
PUBLISHED_NF4 = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
                 -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
                 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)  # Dettmers et al. 2023, appendix E


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def decoder(**changes):
    torch.manual_seed(0)
    return GptForCausalLM(GptConfig(**{**LLAMA.__dict__, **changes})).eval()


def ids(rows=3, seq=7):
    return torch.randint(1, 50, (rows, seq), generator=torch.Generator().manual_seed(2))


def sentence(caught):
    text = str(caught.value)
    assert "\n" not in text and ": " in text, text
    return text


# --- levels and codes

def test_the_levels_of_nf4_are_the_published_ones_to_the_bit():
    assert torch.equal(normal_float_levels(), torch.tensor(PUBLISHED_NF4))


@pytest.mark.parametrize("bits", range(2, 9))
def test_normal_float_levels_of_any_bits_rise_from_end_to_end_and_have_a_zero(bits):
    levels = normal_float_levels(bits)
    assert len(levels) == 2**bits == len(levels.unique()) and torch.equal(levels, levels.sort().values)
    assert levels[0] == -1 and levels[-1] == 1 and levels[2 ** (bits - 1) - 1] == 0


def test_even_levels_are_whole_numbers_and_have_a_zero():
    assert torch.equal(even_levels(4) * 7, torch.arange(-7.0, 8)) and len(even_levels(8)) == 255
    assert all((levels == 0).sum() == 1 and levels[0] == -1 and levels[-1] == 1 for levels in FORMATS.values())


def test_a_number_goes_to_the_nearest_level_and_a_tie_to_the_lower_one():
    levels = torch.tensor([-1.0, 0.0, 0.5, 1.0])
    assert nearest_codes(torch.tensor([-0.6, -0.5, -0.4, 0.2, 0.25, 0.3, 1.0]), levels).tolist() == [0, 0, 1, 1, 1, 2, 3]
    numbers = 2 * torch.rand(500, generator=torch.Generator().manual_seed(0)) - 1
    distances = (numbers[:, None] - FORMATS["nf4"]).abs()
    assert torch.equal(nearest_codes(numbers, FORMATS["nf4"]).long(), distances.argmin(dim=1))


def test_the_first_of_two_codes_has_the_high_bits():
    assert pack_nibbles(torch.tensor([1, 2, 15, 0, 7], dtype=torch.uint8)).tolist() == [0x12, 0xF0, 0x70]


def test_the_last_block_is_filled_up_with_zeros():
    assert in_blocks(torch.tensor([1.0, 2.0, 3.0]), 2).tolist() == [[1.0, 2.0], [3.0, 0.0]]


def test_a_block_worked_by_hand():
    "int4: the largest of (7, -3.4, 0.6, 0) is 7, so a step is 1: (7, -3, 1, 0). The second block has steps of 2."
    packed = PackedWeight(torch.tensor([[7.0, -3.4, 0.6, 0.0], [14.0, -6.0, 3.2, 0.0]]), "int4", block_size=4)
    assert packed.dequantize().tolist() == [[7.0, -3.0, 1.0, 0.0], [14.0, -6.0, 4.0, 0.0]] and packed.constants.tolist() == [7.0, 14.0]
    assert packed.codes.tolist() == [0xE4, 0x87, 0xE4, 0x97]  # 7 is code 14, 0 is code 7


@pytest.mark.parametrize("shape", [(5, 12), (3, 7), (130,), (2, 3, 11)])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("block_size", [None, 2, 10, 64])
def test_every_number_is_within_half_a_step_of_its_level(format, block_size, shape):
    "Blocks that end inside a row, blocks that are not full, an odd number of codes."
    weight = draw(*shape)
    packed = PackedWeight(weight, format, block_size)
    again, flat = packed.dequantize(), weight.flatten()
    half = FORMATS[format].diff().max() / 2
    blocks = [flat[start : start + packed.block_size] for start in range(0, len(flat), packed.block_size)]
    bound = torch.cat([block.abs().max().expand(len(block)) * half for block in blocks]).view(shape)
    assert again.shape == weight.shape and ((again - weight).abs() <= bound * (1 + 1e-5)).all()
    assert torch.equal(PackedWeight(again, format, block_size).codes, packed.codes)  # what is rounded stays where it is


def test_rows_are_blocks_of_their_length_and_one_outlier_spoils_its_own_alone():
    weight = draw(6, 32)
    weight[2, 5] = 300.0
    whole, rows = (PackedWeight(weight, "int8", size).dequantize() for size in (None, 32))
    others = [0, 1, 3, 4, 5]
    assert (whole[others] == 0).float().mean() > 0.5 and (rows[others] == 0).float().mean() < 0.05
    assert torch.equal(rows[0], PackedWeight(weight[0], "int8", None).dequantize())


def test_a_block_of_zeros_stays_one():
    weight = draw(4, 64)
    weight[1], weight[3] = 0, 50 * weight[3]
    for format, double in (("nf4", False), ("nf4", True), ("int8", True)):
        packed = PackedWeight(weight, format, 64, double)
        again = packed.dequantize()
        assert again.isfinite().all() and (again[1] == 0).all() and (again[0] != 0).any()
    assert packed.block_constants()[1] != 0  # packed with a much larger one, it came back as next to nothing: the codes say zero


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_rounding_agrees_with_torch(format):
    "torch's own fake quantisation, a row a channel, on numbers that are not near the middle of two levels."
    steps = len(FORMATS[format]) // 2
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-steps, steps + 1, (5, 40), generator=generator)
    codes[:, 3] = steps
    scale = torch.tensor([0.25, 0.5, 1.0, 2.0, 4.0])[:, None] / 16
    weight = (codes + 0.8 * torch.rand(codes.shape, generator=generator) - 0.4).clamp(-steps, steps) * scale
    weight[:, 3] = steps * scale[:, 0]
    theirs = torch.fake_quantize_per_channel_affine(weight, scale[:, 0], torch.zeros(5, dtype=torch.int32), 0, -steps, steps)
    torch.testing.assert_close(PackedWeight(weight, format, 40).dequantize(), theirs, rtol=1e-6, atol=0)


def test_nf4_is_better_than_int4_on_normal_numbers_and_smaller_blocks_than_larger_ones():
    weight = draw(256, 256)

    def error(*settings):
        return float((PackedWeight(weight, *settings).dequantize() - weight).norm() / weight.norm())

    assert error("int8", 64) < error("nf4", 64) < error("int4", 64)
    assert error("nf4", 32) < error("nf4", 64) < error("nf4", 256) < error("nf4", None)
    assert error("nf4", 64, True) == pytest.approx(error("nf4", 64), rel=0.01)


# --- what is stored

@pytest.mark.parametrize(("settings", "bits"), [
    (("int8", None), 8 + 32 / 2**20), (("int8", 1024), 8 + 32 / 1024), (("nf4", 64), 4.5), (("int4", 128), 4.25),
    (("nf4", 64, True), 4 + 8 / 64 + 32 / (64 * 256) + 32 / 2**20), (("nf4", 32, True), 4 + 8 / 32 + 32 / (32 * 256) + 32 / 2**20),
])
def test_bits_are_counted_from_the_memory_itself(settings, bits):
    "4.5 bits with a float32 constant for 64 weights, 4.127 with packed ones (Dettmers et al. 2023, §3): measured to the last bit."
    packed = PackedWeight(draw(1024, 1024), *settings)
    assert packed.bits_per_weight == bits and stored_bytes(packed) == bits * 2**20 / 8


def test_shared_memory_counts_once_and_a_slice_counts_whole():
    module = nn.Linear(8, 8, bias=False)
    tied = nn.ModuleDict({"a": module, "b": nn.Linear(8, 8, bias=False)})
    tied["b"].weight = nn.Parameter(module.weight.data)  # another object, the same memory
    assert stored_bytes(tied) == 256
    module.register_buffer("slice", torch.zeros(1000)[:2])
    assert stored_bytes(module) == 256 + 4000
    assert stored_bytes(PackedWeight(draw(3, 5), "int8", 64)) == 15 + 4  # no code beyond the weight's own


def test_constants_stay_float32_in_a_model_of_16_bits():
    layer = QuantizedLinear(nn.Linear(64, 32))
    before = layer.packed.dequantize()
    layer.bfloat16()
    assert torch.equal(layer.packed.dequantize(), before) and layer.bias.dtype == torch.bfloat16
    assert layer(draw(2, 64).bfloat16()).dtype == torch.bfloat16


# --- the linear

@pytest.mark.parametrize(("format", "block_size", "double"), [("nf4", 64, True), ("int8", 48, False), ("int4", 10, True)])
def test_a_packed_linear_answers_and_derives_as_one_with_the_unpacked_weight(format, block_size, double):
    torch.manual_seed(0)
    layer = QuantizedLinear(nn.Linear(48, 20), format, block_size, double)
    plain = copy.deepcopy(layer).plain().requires_grad_(True)
    ours, theirs = draw(2, 3, 48).requires_grad_(), draw(2, 3, 48).requires_grad_()
    upstream = draw(2, 3, 20, seed=1)
    (layer(ours) * upstream).sum().backward()
    (plain(theirs) * upstream).sum().backward()
    assert torch.equal(layer(ours), plain(theirs)) and plain.weight.grad is not None
    for found, expected in ((ours.grad, theirs.grad), (layer.bias.grad, plain.bias.grad)):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_nothing_of_the_size_of_the_weight_is_kept_for_the_backward_pass():
    layer, inputs = QuantizedLinear(nn.Linear(256, 256)), draw(2, 256).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor):
        output = layer(inputs)
    with MemoryMeter() as meter:
        layer(inputs)
        between = meter.live
    assert sum(kept) < 256 * 256 / 8 and between < 4 * 256 * 256 / 4
    output.sum().backward()
    assert inputs.grad.shape == (2, 256) and not [p for p in layer.parameters() if p.grad is not None and p is not layer.bias]


def test_under_autocast_it_computes_in_16_bits_and_gradients_come_back_in_32():
    layer, inputs = QuantizedLinear(nn.Linear(64, 32)), draw(2, 64).requires_grad_()
    plain = layer.plain()
    with torch.autocast("cpu", torch.bfloat16):
        answer, theirs = layer(inputs), plain(inputs)
    answer.float().sum().backward()
    assert answer.dtype == torch.bfloat16 and torch.equal(answer, theirs) and inputs.grad.dtype == torch.float32


# --- models

@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_all_linears_of_the_blocks_are_packed_and_nothing_else(kind):
    model = decoder() if kind == "llama" else MicroBertForMaskedLM(BERT).eval()
    before, expected = model(ids()), copy.deepcopy(model)
    in_blocks = [p for name, p in model.named_parameters() if ".blocks." in name and p.ndim == 2]
    stored = quantize_model(model, "int8", block_size=None, double_quantization=False)
    num_weights = sum(p.numel() for p in in_blocks)
    assert stored == StoredWeights(num_weights, num_weights + 4 * len(in_blocks))
    assert repr(StoredWeights(2_000, 1_032)) == "2,000 weights in 1,032 bytes, 4.128 bits each"
    assert stored_bytes(model) == stored_bytes(expected) - 4 * num_weights + stored.num_bytes
    assert 0 < (model(ids()) - before).abs().max() < 0.05
    with torch.no_grad():
        for path, layer in model.named_modules():
            if isinstance(layer, QuantizedLinear):
                expected.get_submodule(path).weight.copy_(layer.packed.dequantize())
    assert torch.equal(model(ids()), expected(ids()))
    assert torch.equal(dequantize_model(model)(ids()), expected(ids())) and isinstance(in_blocks[0], nn.Parameter)


def test_targets_choose_linears_by_their_names_in_transformers():
    model = decoder()
    assert quantize_model(model, targets=("v_proj", "1.mlp.down_proj")).num_weights == 2 * 128 * 64 + 96 * 64  # qkv is one of ours
    with pytest.raises(ValueError, match="no linear of GptForCausalLM is called 'donw_proj': did you mean 'down_proj'"):
        quantize_model(model, targets=("donw_proj",))


def test_a_decoder_goes_on_generating_with_its_cache():
    model = decoder()
    quantize_model(model)
    plain = dequantize_model(copy.deepcopy(model))
    assert torch.equal(generate(model, ids(), None, 6, temperature=0), generate(plain, ids(), None, 6, temperature=0))


def test_a_state_comes_back_to_the_bit_also_into_a_model_without_memory(tmp_path):
    model = decoder()
    quantize_model(model)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())  # safetensors takes it too
    other = decoder(rope_theta=10_000.0)
    nn.init.normal_(other.gpt.blocks[0].attention.sublayer.qkv.weight)
    quantize_model(other)
    assert not torch.equal(other(ids()), model(ids()))
    other.load_state_dict(state)
    with torch.device("meta"):
        empty = GptForCausalLM(LLAMA)
        quantize_model(empty)
    empty.load_state_dict(state, assign=True)
    assert torch.equal(other(ids()), model(ids())) and torch.equal(empty.eval()(ids()), model(ids()))


@pytest.mark.parametrize(("settings", "text"), [
    (("int4", 64), "shape (128, 64) as nf4 in blocks of 64, and the model (128, 64) as int4 in blocks of 64: quantise the model as"),
    (("nf4", 32), "as nf4 in blocks of 64, and the model (128, 64) as nf4 in blocks of 32: quantise the model as"),
])
def test_a_state_of_other_codes_is_refused(settings, text):
    "int4 and nf4 have the same bytes and mean other numbers."
    model, other = decoder(), decoder()
    quantize_model(model)
    quantize_model(other, *settings)
    with pytest.raises(ValueError) as caught:
        other.load_state_dict(model.state_dict())
    assert text in sentence(caught)


def test_a_state_of_another_shape_or_of_plain_weights_is_refused_in_one_sentence():
    model, other = decoder(), decoder(num_kv_heads=4)
    plain = model.state_dict()
    quantize_model(model)
    quantize_model(other)
    with pytest.raises(ValueError) as caught:
        other.load_state_dict(model.state_dict())
    assert "a weight of the shape (128, 64) as nf4 in blocks of 64, and the model (192, 64)" in sentence(caught)
    with pytest.raises(ValueError) as caught:
        model.load_state_dict(plain)
    assert "gpt.blocks.0.attention.sublayer.qkv.weight is not packed, and the model's is: load it before" in sentence(caught)


# --- LoRA over packed weights

def adapted(model):
    add_lora(model, LoraConfig(lora_rank=3, lora_alpha=5.0, targets=("q_proj", "v_proj", "up_proj")))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def test_adapters_over_packed_weights_derive_as_over_the_unpacked_ones():
    model = decoder()
    quantize_model(model)
    ours, theirs = adapted(copy.deepcopy(model)), adapted(dequantize_model(copy.deepcopy(model)))
    assert torch.equal(ours(ids()), theirs(ids()))
    for each in (ours, theirs):
        F.cross_entropy(each(ids()).flatten(0, 1), ids().flatten()).backward()
    expected = adapter_tensors(theirs)
    assert len(expected) == 2 * 2 * 3
    for name, tensor in adapter_tensors(ours).items():
        assert tensor.grad.abs().max() > 1e-5
        torch.testing.assert_close(tensor.grad, expected[name].grad, rtol=1e-5, atol=1e-7)


def test_qlora_starts_at_the_packed_model_counts_its_share_and_learns():
    model = decoder()
    stored = quantize_model(model)
    before, codes = model(ids()), copy.deepcopy(model.gpt.blocks[0].attention.sublayer.qkv.packed.codes)
    total = trainable_share(model).total
    share = add_lora(model, LoraConfig(lora_rank=4))
    assert torch.equal(model(ids()), before)
    assert total == decoder().num_parameters() and share.total == total + share.trainable and stored.num_weights < total
    optimizer, losses = AdamW([p for p in model.parameters() if p.requires_grad], lr=0.005), []
    for _ in range(25):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(ids())[:, :-1].flatten(0, 1), ids()[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1
    assert torch.equal(model.gpt.blocks[0].attention.sublayer.qkv.base.packed.codes, codes)


def test_an_adapter_of_a_packed_model_is_saved_merged_and_opened_by_a_plain_one(tmp_path):
    model = decoder()
    quantize_model(model)
    model = adapted(model)
    answer = model(ids())
    save_adapter(model, tmp_path / "adapter")
    with pytest.raises(ValueError, match="a QuantizedLinear has no plain weight to add to"):
        merge(model)
    plain = remove_lora(dequantize_model(copy.deepcopy(model)))
    load_adapter(plain, tmp_path / "adapter")
    assert torch.equal(plain(ids()), answer)
    assert not [name for name, p in dequantize_model(model).named_parameters() if p.requires_grad and ".adapters." not in name]
    merge(model)
    remove_lora(model).save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(GptForCausalLM.from_pretrained(tmp_path / "merged")(ids()), answer, rtol=1e-4, atol=1e-5)


# --- bad input

@pytest.mark.parametrize(("settings", "text"), [
    (("nf4", 0), "block_size 0 leaves a constant nobody to serve: choose 64"),
    (("int8", -4), "block_size -4 leaves a constant nobody to serve: choose 64"),
    (("nf4", 63), "block_size 63 is odd, and two codes of nf4 share a byte: choose an even number"),
    (("int3", 64), "format 'int3' is not known: choose one of int8, int4, nf4"),
])
def test_a_packing_that_cannot_be_is_refused(settings, text):
    with pytest.raises(ValueError) as caught:
        PackedWeight(draw(4, 8), *settings)
    assert text in sentence(caught)
    with pytest.raises(ValueError):
        check_packing(draw(4, 8), *settings)
    PackedWeight(draw(4, 7), "int8", 7)  # eight bits have no pairs


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_refused_with_its_place_and_the_model_stays_as_it_was(value):
    model = decoder()
    model.gpt.blocks[1].feed_forward.sublayer.down.weight.data[3, 17] = value
    with pytest.raises(ValueError) as caught:
        quantize_model(model)
    assert sentence(caught).startswith(f"gpt.blocks.1.feed_forward.sublayer.down: the weight has {value} at (3, 17)")
    assert not any(isinstance(module, QuantizedLinear) for module in model.modules())


def test_a_second_quantisation_and_one_below_adapters_are_refused():
    model = decoder()
    add_lora(model, LoraConfig(targets=("down_proj",)))
    with pytest.raises(ValueError, match="feed_forward.sublayer.down has adapters: call remove_lora"):
        quantize_model(model)
    quantize_model(remove_lora(model))
    with pytest.raises(ValueError, match="gpt.blocks.0.attention.sublayer.qkv is a QuantizedLinear already: quantise a plain model, once"):
        quantize_model(model, "int8")


def test_a_packed_model_is_not_saved_as_one_of_transformers(tmp_path):
    model = decoder()
    quantize_model(model)
    with pytest.raises(ValueError) as caught:
        model.save_pretrained(tmp_path)
    assert "no plain tensor 'gpt.blocks.0.attention.sublayer.qkv.weight'" in sentence(caught) and "dequantize_model" in sentence(caught)


# --- large models

def llama_folder(path, **changes):
    model = decoder(hidden_size=256, intermediate_size=512, tie_word_embeddings=False, **changes)
    model.save_pretrained(path)
    return model, json.loads((path / "config.json").read_text())


def test_the_estimate_is_what_a_packed_model_holds(tmp_path):
    "Bytes of real memory, in 16 bits beside the codes. All sizes are whole numbers of blocks; queries, keys and values are one linear here."
    model, values = llama_folder(tmp_path)
    assert sum(memory_estimate(tmp_path, "fp32").values()) == 4 * model.num_parameters()
    assert sum(memory_estimate(values, "bf16").values()) == 2 * model.num_parameters()
    estimate = memory_estimate(values, "nf4")
    stored = quantize_model(model)
    fused = 3 * 2 + 2  # six of their linears a layer are two of ours, and a mean less each: 4 bytes
    assert estimate["linears"] == stored.num_weights / 2
    assert estimate["linears"] + estimate["constants"] - stored.num_bytes == pytest.approx(4 * fused, abs=4 * fused)
    assert estimate["rest"] == sum(p.nbytes for p in model.bfloat16().parameters()) and estimate["unpacked"] == 2 * 512 * 256
    eight = memory_estimate(values, "int8")
    assert (eight["linears"], eight["constants"]) == (stored.num_weights, 4 * 2 * (256 + 128 + 128 + 256 + 512 + 512 + 256))


def test_an_encoder_and_a_model_with_experts_are_estimated_too():
    "transformers keeps experts as one tensor, which its quantiser leaves alone."
    bert = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 128, "vocab_size": 99}
    assert memory_estimate(bert)["linears"] == (2 * (4 * 64 * 64 + 2 * 64 * 128) + 64 * 64) / 2
    mixtral = {"model_type": "mixtral", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
               "num_key_value_heads": 2, "vocab_size": 50, "num_local_experts": 4}
    assert sum(memory_estimate(mixtral, "bf16").values()) == 2 * expert_model(mixtral).total


@pytest.mark.parametrize(("values", "text"), [
    ({"model_type": "llama", "quantization_config": {"quant_method": "bitsandbytes"}}, "this llama configuration is quantised already (quant_method 'bitsandbytes'): load it"),
    ({"hidden_size": 8}, "this configuration has no model_type: give the config.json"),
    ({"model_type": "lama"}, "transformers refuses this lama configuration: "),
])
def test_a_configuration_that_cannot_be_estimated_is_refused(values, text):
    with pytest.raises(CourseError) as caught:
        memory_estimate(values)
    assert text in sentence(caught)


def test_an_unknown_precision_or_number_of_bits_is_refused(tmp_path):
    with pytest.raises(ValueError, match="precision 'int2' is not known: choose one of fp32, bf16, int8, nf4"):
        memory_estimate({"model_type": "llama"}, "int2")
    with pytest.raises(ValueError, match="bits 3 is not known: choose 4 or 8"):
        load_quantized(tmp_path, 3)


def on_a_machine(monkeypatch, cuda, package, free=10**9):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 10**10))
    monkeypatch.setattr(quantized_loading, "find_spec", lambda name: types.SimpleNamespace() if package else None)  # there alone: transformers looks as well


@pytest.mark.parametrize(("cuda", "package", "text"), [
    (False, False, "a CUDA GPU and the package bitsandbytes are missing here: load it where there are both"),
    (True, False, "the package bitsandbytes is missing here: load it where there is one"),
    (False, True, "a CUDA GPU is missing here"),
])
def test_without_what_it_needs_nothing_is_loaded_and_the_estimate_is_said(monkeypatch, tmp_path, cuda, package, text):
    llama_folder(tmp_path)
    on_a_machine(monkeypatch, cuda, package)
    with pytest.raises(CourseError) as caught:
        load_quantized(tmp_path)
    assert text in sentence(caught) and f"in 4 bits would hold {sum(memory_estimate(tmp_path).values()) / 1e6:.1f} MB" in sentence(caught)


def test_what_would_not_fit_is_not_loaded_and_a_wrong_folder_is_named(monkeypatch, tmp_path):
    llama_folder(tmp_path)
    on_a_machine(monkeypatch, True, True, free=1_000)
    with pytest.raises(CourseError) as caught:
        load_quantized(tmp_path, 8)
    assert "and 0.0 MB are free on the GPU: load it in 4 bits" in sentence(caught)
    for folder, text in ((tmp_path / "absent", "absent is not a folder: give one"), (tmp_path / "empty", "config.json does not exist")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(CourseError, match=text):
            load_quantized(folder)


@pytest.mark.parametrize("bits", [4, 8])
def test_transformers_is_asked_for_the_paper_s_own_settings_and_never_for_a_download(monkeypatch, tmp_path, bits):
    from transformers import LlamaForCausalLM

    asked = {}
    llama_folder(tmp_path)
    on_a_machine(monkeypatch, True, True)
    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", classmethod(lambda cls, folder, **settings: asked.update(settings) or nn.Linear(2, 2)))
    monkeypatch.setattr("transformers.BitsAndBytesConfig", lambda **settings: settings)
    loaded = load_quantized(tmp_path, bits)
    assert not any(p.requires_grad for p in loaded.parameters()) and asked["local_files_only"] and asked["device_map"] == {"": 0}
    wanted = {"load_in_8bit": True} if bits == 8 else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
                                                       "bnb_4bit_compute_dtype": torch.bfloat16}
    assert asked["quantization_config"] == wanted
