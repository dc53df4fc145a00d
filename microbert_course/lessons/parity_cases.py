"""What the exported pieces are compared with, as data; parity.py measures. A new piece is one function and one line in CASES.

Every name that a lesson exports is in a case or in EXEMPT, with the reason; tests/test_parity.py sees to it."""

import math
import random
import struct
from collections import Counter
from contextlib import nullcontext
from html.parser import HTMLParser

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig as PeftConfig
from peft import get_peft_model, inject_adapter_in_model
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers import models as tokenizer_models
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DataCollatorWithFlattening,
    DeepseekV2Config,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    SwitchTransformersConfig,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)
from transformers.activations import ACT2FN
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.models.bert.modeling_bert import BertEmbeddings, BertLayer, BertLMPredictionHead
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func
from transformers.models.switch_transformers.modeling_switch_transformers import (
    SwitchTransformersSparseMLP,
    router_z_loss_func,
)

from microbert_course import numpy_bert
from microbert_course.data.corpus import document_numbers, pack, pad, positions_in, windows
from microbert_course.data.sources import clean_text
from microbert_course.data.wordpiece import (
    SPECIAL_TOKENS,
    WordCacheEncoder,
    bert_words,
    count_words,
    encode_documents,
    train_wordpiece,
    train_words,
    wordpiece_encode,
)
from microbert_course.lessons.parity import NO_DTYPE, Case, Draw, differences, relative
from microbert_course.models.attention import MultiHeadAttention, fused_attention, scaled_dot_product_attention
from microbert_course.models.bert import (
    Embeddings,
    MaskedLMHead,
    MicroBert,
    MicroBertConfig,
    MicroBertForMaskedLM,
    Pooler,
    bert_block,
    mean_pool,
)
from microbert_course.models.checkpoints import (
    encoder_weight_names,
    to_transformers_config,
    to_transformers_weights,
    weight_names,
)
from microbert_course.models.experts import (
    ExpertsFeedForward,
    Router,
    balance_loss,
    expert_capacity,
    expert_layers,
    route,
    upcycle_model,
    z_loss,
)
from microbert_course.models.gpt import (
    GptConfig,
    GptForCausalLM,
    GroupedQueryAttention,
    KeyValueCache,
    choose_token,
    generate,
    grouped_attention,
    keep_top_k,
    keep_top_p,
    next_token_labels,
    past_keys,
    penalise_repetition,
)
from microbert_course.models.gpt_folders import llama_weight_names, to_llama_config
from microbert_course.models.lora import (
    LoraConfig,
    LoraLinear,
    add_lora,
    merge,
    remove_lora,
    trainable_share,
    unmerge,
    use_adapter,
)
from microbert_course.models.lora_folders import adapter_tensors, weight_names_of
from microbert_course.models.modern import (
    GatedFeedForward,
    ModernAttention,
    ModernConfig,
    ModernForMaskedLM,
    ReluSquaredFeedForward,
    RMSNorm,
    RotaryPositions,
    local_attention,
    nearby_keys,
    without_biases,
)
from microbert_course.models.modern_folders import modernbert_weight_names, to_modernbert_config
from microbert_course.models.transformer import FeedForward, PostNorm, PreNorm, TransformerBlock
from microbert_course.numpy_bert import encoder as numpy_encoder
from microbert_course.numpy_bert.adamw import AdamW as NumpyAdamW
from microbert_course.numpy_bert.shape import NumpyBertConfig, init_parameters
from microbert_course.training.loop import MaskedLMLoss, build_model
from microbert_course.training.masking import (
    linear_cross_entropy,
    mask_exactly,
    mask_tokens,
    mask_whole_words,
    masked_accuracy,
    masked_cross_entropy,
    unigram_log_probs,
)
from microbert_course.training.memory import (
    Checkpointed,
    MemoryMeter,
    block_activations,
    checkpoint_blocks,
    measured_peak,
    plan_memory,
    rehearsal,
    saved_bytes,
)
from microbert_course.training.optim import (
    AdamW,
    Muon,
    cosine_schedule,
    linear_schedule,
    orthogonalize,
    parameter_groups,
)
from microbert_course.training.precision import FORMATS, LossScaler, float_fields, round_to
from microbert_course.training.presets import PretrainConfig
from microbert_course.training.speed import DocumentAttention, flops_of_update, same_document, unpadded_features

Result = tuple[float, float | None]  # difference of the results, of the gradients
MASKS = ("none", "padding", "causal", "both")


# --- attention

def keys_seen(attention_mask, seq: int, is_causal: bool):  # (batch or 1, 1, seq, seq) bool, or None
    "The mask as PyTorch wants it, written out here so that ours is not its own judge."
    if attention_mask is None and not is_causal:
        return None
    seen = torch.ones(1, 1, seq, seq, dtype=torch.bool)
    if is_causal:
        seen = seen & (torch.arange(seq)[:, None] >= torch.arange(seq))
    return seen if attention_mask is None else seen & (attention_mask == 1)[:, None, None, :]


def attention_function(draw: Draw) -> Result:
    batch, num_heads, seq, head_dim = draw.size(1, 4), draw.size(1, 4), draw.size(2, 17), draw.size(1, 16)
    kind = draw.choice(MASKS)
    query, key, value = (draw.normal(batch, num_heads, seq, head_dim) for _ in range(3))
    mask = draw.mask(batch, seq, with_holes=True) if kind in ("padding", "both") else None
    is_causal = kind in ("causal", "both")
    context, weights = scaled_dot_product_attention(query, key, value, mask, is_causal)
    seen = keys_seen(mask, seq, is_causal)
    theirs = F.scaled_dot_product_attention(query, key, value, seen)
    identity = torch.eye(seq, dtype=draw.dtype).expand(batch, num_heads, seq, seq)
    their_weights = F.scaled_dot_product_attention(query, key, identity, seen)  # mixing unit vectors shows the weights
    return differences(draw, [context, weights], [theirs, their_weights], [(leaf, leaf) for leaf in (query, key, value)])


def attention_kernel(draw: Draw) -> Result:
    shape = draw.size(1, 4), draw.size(1, 4), draw.size(2, 17), draw.size(1, 16)
    query, key, value = (draw.normal(*shape) for _ in range(3))
    context = fused_attention(query, key, value, is_causal=True)
    theirs = F.scaled_dot_product_attention(query, key, value, keys_seen(None, shape[2], True))
    return differences(draw, [context], [theirs], [(leaf, leaf) for leaf in (query, key, value)])


def attention_module(draw: Draw) -> Result:
    batch, num_heads, seq = draw.size(1, 4), draw.size(1, 4), draw.size(2, 17)
    hidden_size = num_heads * draw.size(1, 12)
    kind = draw.choice(MASKS)
    ours = draw.shake(MultiHeadAttention(hidden_size, num_heads, is_causal=kind in ("causal", "both")))
    theirs = nn.MultiheadAttention(hidden_size, num_heads, batch_first=True).to(draw.dtype)
    pairs = [(ours.qkv.weight, theirs.in_proj_weight), (ours.qkv.bias, theirs.in_proj_bias),
             (ours.out.weight, theirs.out_proj.weight), (ours.out.bias, theirs.out_proj.bias)]
    copy(pairs)
    x = draw.normal(batch, seq, hidden_size)
    mask = draw.mask(batch, seq, with_holes=True) if kind in ("padding", "both") else None
    hidden = None if kind in ("none", "padding") else torch.ones(seq, seq, dtype=torch.bool).triu(1)
    result, weights = theirs(x, x, x, key_padding_mask=None if mask is None else mask == 0, attn_mask=hidden,
                             average_attn_weights=False)
    return differences(draw, [ours(x, mask), ours.attention_weights(x, mask)], [result, weights], [(x, x), *pairs])




def copy(pairs) -> None:
    "Our parameters into theirs; several of theirs take the parts of one of ours."
    with torch.no_grad():
        for ours, theirs in pairs:
            parts = theirs if isinstance(theirs, list) else [theirs]
            for part, tensor in zip(ours.split([len(part) for part in parts]), parts, strict=True):
                tensor.copy_(part)


# --- the block

def feed_forward(draw: Draw) -> Result:
    hidden_size, intermediate_size = draw.size(1, 24), draw.size(1, 48)
    ours = draw.shake(FeedForward(hidden_size, intermediate_size))
    theirs = nn.Sequential(nn.Linear(hidden_size, intermediate_size), nn.GELU(), nn.Linear(intermediate_size, hidden_size)).to(draw.dtype)
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    copy(pairs)
    x = draw.normal(draw.size(1, 4), draw.size(1, 17), hidden_size)
    return differences(draw, [ours(x)], [theirs(x)], [(x, x), *pairs])


def block(branch, norm_first: bool):
    "The comparison for a block of post-norm or pre-norm branches."
    def compare(draw: Draw) -> Result:
        batch, num_heads, seq, wide = draw.size(1, 4), draw.size(1, 4), draw.size(2, 17), draw.size(1, 48)
        hidden_size = num_heads * draw.size(4, 12)  # norms of two or three numbers multiply rounding
        kind = draw.choice(MASKS)
        attention = MultiHeadAttention(hidden_size, num_heads, is_causal=kind in ("causal", "both"))
        ours = draw.shake(TransformerBlock(branch(attention, nn.LayerNorm(hidden_size)),
                                           branch(FeedForward(hidden_size, wide), nn.LayerNorm(hidden_size))))
        theirs = nn.TransformerEncoderLayer(hidden_size, num_heads, wide, dropout=0.0, activation="gelu", batch_first=True,
                                            norm_first=norm_first).to(draw.dtype)
        pairs = list(zip(ours.parameters(), encoder_layer_parameters(theirs), strict=True))
        copy(pairs)
        x = draw.normal(batch, seq, hidden_size)
        mask = draw.mask(batch, seq, with_holes=True) if kind in ("padding", "both") else None
        hidden = None if kind in ("none", "padding") else torch.ones(seq, seq, dtype=torch.bool).triu(1)
        result = theirs(x, src_mask=hidden, src_key_padding_mask=None if mask is None else mask == 0)
        return differences(draw, [ours(x, attention_mask=mask)], [result], [(x, x), *pairs])

    return compare


def encoder_layer_parameters(layer: nn.TransformerEncoderLayer) -> list[nn.Parameter]:
    "Theirs in the order of ours: attention, its norm, feed-forward, its norm."
    attention = layer.self_attn
    return [attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight, attention.out_proj.bias,
            layer.norm1.weight, layer.norm1.bias, layer.linear1.weight, layer.linear1.bias, layer.linear2.weight, layer.linear2.bias,
            layer.norm2.weight, layer.norm2.bias]


# --- BERT

def bert_config(draw: Draw) -> MicroBertConfig:
    num_heads = draw.size(1, 4)
    return MicroBertConfig(vocab_size=draw.size(12, 60), hidden_size=num_heads * draw.size(4, 8), num_layers=draw.size(1, 3), num_heads=num_heads,
                           intermediate_size=draw.size(4, 40), max_seq_len=draw.size(10, 20), type_vocab_size=draw.size(2, 3))


def their_config(config: MicroBertConfig) -> BertConfig:
    return BertConfig(**to_transformers_config(config), attn_implementation="eager")


def bert_batch(draw: Draw, config: MicroBertConfig) -> dict:
    batch, seq = draw.size(1, 4), draw.size(2, 10)
    return {"input_ids": draw.ids(1, config.vocab_size, batch, seq), "attention_mask": draw.mask(batch, seq),
            "token_type_ids": draw.ids(0, config.type_vocab_size, batch, seq)}


def named_pairs(ours: nn.Module, theirs: nn.Module, names: dict[str, list[str]]) -> list:
    "Our parameters and the ones of theirs with the names beside them; theirs are given our values."
    our, their = dict(ours.named_parameters()), dict(theirs.named_parameters())
    pairs = [(our[name], [their[part] for part in parts]) for name, parts in names.items()]
    if len(pairs) != len(our):
        raise ValueError(f"{len(our) - len(pairs)} of our parameters have no partner: complete the names")
    copy(pairs)
    return pairs


def part_names(names: dict[str, list[str]], ours: str, theirs: str) -> dict[str, list[str]]:
    "Those of one part, without its prefixes."
    return {name.removeprefix(ours): [part.removeprefix(theirs) for part in parts]
            for name, parts in names.items() if name.startswith(ours)}


def embeddings(draw: Draw) -> Result:
    config = bert_config(draw)
    ours, theirs = draw.shake(Embeddings(config)), BertEmbeddings(their_config(config)).to(draw.dtype)
    pairs = named_pairs(ours, theirs, part_names(encoder_weight_names(config), "embeddings.", "embeddings."))
    batch = bert_batch(draw, config)
    ids = {name: batch[name] for name in ("input_ids", "token_type_ids")}
    return differences(draw, [ours(**ids)], [theirs(**ids)], pairs)


def bert_layer(draw: Draw) -> Result:
    config = bert_config(draw)
    ours, theirs = draw.shake(bert_block(config)), BertLayer(their_config(config)).to(draw.dtype)
    pairs = named_pairs(ours, theirs, part_names(encoder_weight_names(config), "blocks.0.", "encoder.layer.0."))
    batch, seq = draw.size(1, 4), draw.size(2, 17)
    x, mask = draw.normal(batch, seq, config.hidden_size), draw.mask(batch, seq)
    added = torch.zeros(batch, 1, 1, seq, dtype=draw.dtype)  # theirs wants what is added to the scores
    added = added.masked_fill((mask == 0)[:, None, None, :], torch.finfo(draw.dtype).min)
    result = theirs(x, attention_mask=added)
    result = result[0] if isinstance(result, tuple) else result
    return differences(draw, [ours(x, attention_mask=mask)], [result], [(x, x), *pairs])


def bert_encoder(draw: Draw) -> Result:
    config = bert_config(draw)
    ours, theirs = draw.shake(MicroBert(config, with_pooler=True)), BertModel(their_config(config)).to(draw.dtype)
    pairs = named_pairs(ours, theirs, encoder_weight_names(config, with_pooler=True))
    batch = bert_batch(draw, config)
    result = theirs(**batch, output_hidden_states=True)
    states = ours.hidden_states(**batch)
    return differences(draw, [*states, ours(**batch), ours.pooler(states[-1])],
                       [*result.hidden_states, result.last_hidden_state, result.pooler_output], pairs)


def pooler(draw: Draw) -> Result:
    config = bert_config(draw)
    ours, theirs = draw.shake(Pooler(config)), BertModel(their_config(config)).pooler.to(draw.dtype)
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    copy(pairs)
    x = draw.normal(draw.size(1, 4), draw.size(1, 17), config.hidden_size)
    return differences(draw, [ours(x)], [theirs(x)], [(x, x), *pairs])


def mean_of_real_tokens(draw: Draw) -> Result:
    batch, seq = draw.size(1, 4), draw.size(1, 17)
    x, mask = draw.normal(batch, seq, draw.size(1, 24)), draw.mask(batch, seq, with_holes=True)
    theirs = torch.masked.mean(x, dim=1, mask=mask.bool()[..., None].expand_as(x))
    return differences(draw, [mean_pool(x, mask)], [theirs], [(x, x)])


def head(draw: Draw) -> Result:
    config = bert_config(draw)
    ours, theirs = draw.shake(MaskedLMHead(config)), BertLMPredictionHead(their_config(config)).to(draw.dtype)
    words = draw.normal(config.vocab_size, config.hidden_size)
    pairs = [(ours.dense.weight, theirs.transform.dense.weight), (ours.dense.bias, theirs.transform.dense.bias),
             (ours.norm.weight, theirs.transform.LayerNorm.weight), (ours.norm.bias, theirs.transform.LayerNorm.bias),
             (ours.bias, theirs.bias), (words, theirs.decoder.weight)]
    theirs.decoder.bias = theirs.bias  # as the whole model ties it
    copy(pairs)
    x = draw.normal(draw.size(1, 4), draw.size(1, 17), config.hidden_size)
    return differences(draw, [ours(x, words)], [theirs(x)], [(x, x), *pairs])


def masked_lm(draw: Draw) -> Result:
    config = bert_config(draw)
    ours, theirs = draw.shake(MicroBertForMaskedLM(config)), BertForMaskedLM(their_config(config)).to(draw.dtype)
    pairs = named_pairs(ours, theirs, weight_names(config))
    batch = bert_batch(draw, config)
    asked = draw.order(batch["input_ids"].numel())[:3]
    logits = theirs(**batch).logits
    return differences(draw, [ours(**batch), ours(**batch, predict_at=asked)], [logits, logits.flatten(0, 1)[asked]], pairs)


# --- masking and loss

def masked_lm_loss(draw: Draw) -> Result:
    config = bert_config(draw)
    ours, theirs = draw.shake(MicroBertForMaskedLM(config)), BertForMaskedLM(their_config(config)).to(draw.dtype)
    pairs = named_pairs(ours, theirs, weight_names(config))
    batch = bert_batch(draw, config)
    del batch["token_type_ids"]  # a loss for single texts
    num_tokens = batch["input_ids"].numel()
    asked = draw.order(num_tokens)[:draw.size(1, num_tokens)]
    targets = draw.ids(0, config.vocab_size, len(asked))
    labels = torch.full((num_tokens,), -100).index_put((asked,), targets).view_as(batch["input_ids"])
    result = theirs(**batch, labels=labels)
    loss, num_correct = MaskedLMLoss(ours)(**batch, predict_at=asked, targets=targets)
    if num_correct != (result.logits.argmax(-1) == labels).sum():
        return math.inf, math.inf
    return differences(draw, [loss], [result.loss * len(asked)], pairs)  # theirs is the mean


def linear_loss(draw: Draw) -> Result:
    rows, hidden, vocab = draw.size(1, 40), draw.size(1, 24), draw.size(2, 80)
    leaves = [draw.normal(*shape) for shape in ((rows, hidden), (vocab, hidden), (vocab,))]
    is_autocast = draw.dtype == torch.bfloat16  # as in training: float32 parameters, products in bfloat16
    if is_autocast:
        leaves = [leaf.detach().float().requires_grad_() for leaf in leaves]
    targets = draw.ids(0, vocab, rows)
    targets[1:][draw.chances(rows - 1) < 0.5] = -100
    reduction, chunk_size = draw.choice(("mean", "sum")), draw.choice((None, 1, 3, 7, 64))
    with torch.autocast(draw.device.type, torch.bfloat16, enabled=is_autocast):
        ours, num_correct = linear_cross_entropy(*leaves, targets, reduction, chunk_size)
        logits = F.linear(*leaves)
        theirs = F.cross_entropy(logits, targets, reduction=reduction)
    if not is_autocast and num_correct != (logits.argmax(-1) == targets).sum():  # bfloat16 rounds scores to ties
        return math.inf, math.inf
    return differences(draw, [ours], [theirs], [(leaf, leaf) for leaf in leaves])


def loss(draw: Draw) -> Result:
    rows, vocab = draw.size(1, 40), draw.size(2, 80)
    logits, targets = draw.normal(rows, vocab), draw.ids(0, vocab, rows)
    targets[draw.chances(rows) < 0.5] = -100
    targets[0] = 0
    kept = targets != -100
    theirs = F.cross_entropy(logits[kept].double(), targets[kept])
    ours = masked_cross_entropy(logits, targets)
    return relative([ours], [theirs]), relative(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))


def accuracy(draw: Draw) -> Result:
    rows, vocab = draw.size(1, 40), draw.size(2, 6)
    logits, targets = draw.normal(rows, vocab).detach(), draw.ids(0, vocab, rows)
    targets[1:][draw.chances(rows - 1) < 0.5] = -100
    kept = (targets != -100).cpu().numpy()
    theirs = np.mean(logits.cpu().numpy()[kept].argmax(axis=1) == targets.cpu().numpy()[kept])
    return relative([masked_accuracy(logits, targets).double()], [torch.tensor(theirs)]), None


def frequencies(draw: Draw) -> Result:
    vocab = draw.size(7, 40)
    ids = draw.ids(0, vocab, draw.size(1, 8), draw.size(1, 30))
    counts = Counter(ids.flatten().tolist())
    total = sum(counts[i] + 1 for i in range(5, vocab))
    theirs = torch.tensor([math.log((counts[i] + 1) / total) for i in range(5, vocab)])
    ours = unigram_log_probs(ids, vocab)
    return relative([ours[5:]], [theirs]) if (ours[:5] == -math.inf).all() else math.inf, None


def shares(counts: list[tuple[int, int, float]]) -> float:  # (how many, of how many, expected share)
    "The largest distance from its expectation, in standard errors of the binomial distribution."
    return max(abs(count / total - share) / math.sqrt(share * (1 - share) / total) for count, total, share in counts)


def masking(function, is_exact: bool = False):
    "The comparison of a masking function's shares with those of independent draws."
    vocab, num_special, mask_id = 1_005, 5, 4

    def compare(draw: Draw) -> Result:
        ids = draw.ids(num_special, vocab, 100, 128)
        special = torch.zeros_like(ids, dtype=torch.bool)
        special[:, [0, 127]] = True
        probability = draw.choice([0.15, 0.25, 0.4])
        extra = {"is_continuation": torch.zeros(vocab, dtype=torch.bool)} if function is mask_whole_words else {}
        masked, labels = function(ids, special, mask_token_id=mask_id, vocab_size=vocab, mlm_probability=probability,
                                  generator=draw.generator, **extra)
        chosen = labels != -100
        changed = masked != ids
        if (chosen & special).any() or (changed & ~chosen).any() or (labels[chosen] != ids[chosen]).any():
            return math.inf, None
        num_chosen, num_ordinary = int(chosen.sum()), int((~special).sum())
        num_masked, num_random = int((masked == mask_id).sum()), int((changed & (masked != mask_id)).sum())
        possible = vocab - num_special
        found = [(num_masked, num_chosen, 0.8), (num_random, num_chosen, 0.1 * (1 - 1 / possible)),
                 (num_chosen - num_masked - num_random, num_chosen, 0.1 * (1 + 1 / possible))]
        if is_exact:
            row_counts = chosen.sum(-1)
            if (row_counts - probability * 126).abs().max() > 1 or abs(num_chosen - probability * num_ordinary) > 1:
                return math.inf, None
        else:
            found.append((num_chosen, num_ordinary, probability))
        return shares(found), None

    return compare


# --- the optimizer

def adamw(draw: Draw) -> Result:
    ours = draw.shake(nn.Sequential(nn.Linear(draw.size(1, 9), 7), nn.LayerNorm(7), nn.Linear(7, draw.size(1, 9), bias=False)))
    theirs = [parameter.detach().clone().requires_grad_() for parameter in ours.parameters()]
    settings = dict(lr=draw.number(1e-4, 1e-1), betas=(draw.number(0.5, 0.95), draw.number(0.9, 0.999)), eps=draw.number(1e-9, 1e-6))
    decay = draw.number(0.0, 0.3)
    optimizer = AdamW(parameter_groups(ours, decay), **settings)
    reference = torch.optim.AdamW([{"params": [p for p in theirs if p.ndim > 1], "weight_decay": decay},
                                   {"params": [p for p in theirs if p.ndim < 2], "weight_decay": 0.0}], foreach=False, **settings)
    for _ in range(20):
        for our, their in zip(ours.parameters(), theirs, strict=True):
            our.grad = draw.normal(*our.shape).detach()
            their.grad = our.grad.clone()
        optimizer.step()
        reference.step()
    return relative(ours.parameters(), theirs), None


def muon(draw: Draw) -> Result:
    ours = [draw.normal(draw.size(1, 12), draw.size(1, 12)) for _ in range(3)]
    theirs = [parameter.detach().clone().requires_grad_() for parameter in ours]
    settings = dict(lr=draw.number(1e-3, 1e-1), momentum=draw.number(0.5, 0.99), weight_decay=draw.number(0.0, 0.3))
    optimizers = Muon(ours, **settings), torch.optim.Muon(theirs, **settings)
    for _ in range(20):
        for our, their in zip(ours, theirs, strict=True):
            our.grad = draw.normal(*our.shape).detach()
            their.grad = our.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    return relative(ours, theirs), None


def singular_values(draw: Draw) -> Result:
    "The rounds act on each singular value alone: in theory, their polynomial applied to it, and the directions stay."
    matrix = draw.normal(draw.size(1, 12), draw.size(1, 12)).detach()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.square().sum().sqrt()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return relative([orthogonalize(matrix)], [left @ values.diag() @ right]), None


def schedule(ours, theirs):
    "The comparison of a schedule's factors over a whole run; ours has its first warm step where theirs is still at 0."
    def compare(draw: Draw) -> Result:
        total = draw.size(2, 60)
        warmup = draw.size(0, total - 1)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        factor = theirs(optimizer, num_warmup_steps=warmup, num_training_steps=total).lr_lambdas[0]
        steps = range(total + 1)
        expected = [factor(step + 1 if step < warmup else step) for step in steps]
        return relative([torch.tensor([ours(step, total, warmup) for step in steps], dtype=torch.float64)],
                        [torch.tensor(expected, dtype=torch.float64)]), None

    return compare


# --- number formats

def any_numbers(draw: Draw, lowest: int, highest: int) -> torch.Tensor:  # (200,), in the draw's dtype
    "Both signs, sizes from 2**lowest to 2**highest."
    powers = lowest + (highest - lowest) * draw.chances(200)
    return (draw.normal(200).detach().double() * 2**powers).to(draw.dtype)


def rounding(draw: Draw) -> Result:
    "float32 against torch's casts; float64, which torch casts by way of float32, against NumPy's fp16."
    numbers = any_numbers(draw, -30, 18)
    if draw.dtype == torch.float64:
        with np.errstate(over="ignore"):
            ours, theirs = round_to(numbers, FORMATS[torch.float16]), torch.from_numpy(numbers.numpy().astype(np.float16).astype(np.float64))
    else:
        dtype = draw.choice((torch.float16, torch.bfloat16))
        ours, theirs = round_to(numbers, FORMATS[dtype]), numbers.to(dtype).float()
    return unequal(ours.tolist(), theirs.tolist())


def bit_fields(draw: Draw) -> Result:
    code, kind, dtype = draw.choice((("e", "H", torch.float16), ("f", "I", torch.float32)))
    numbers, form = any_numbers(draw, -26, 14).tolist(), FORMATS[dtype]
    patterns = [struct.unpack(f">{kind}", struct.pack(f">{code}", number))[0] for number in numbers]
    theirs = [(pattern >> form.exponent_bits + form.fraction_bits, pattern >> form.fraction_bits & 2**form.exponent_bits - 1,
               pattern & 2**form.fraction_bits - 1) for pattern in patterns]
    return unequal([float_fields(number, dtype) for number in numbers], theirs)


def loss_scaling(draw: Draw) -> Result:
    "The scale after each update, then the weights: all equal, or infinity."
    settings = dict(init_scale=2.0 ** draw.size(4, 30), growth_factor=2.0 ** draw.size(1, 3), backoff_factor=0.5 ** draw.size(1, 3),
                    growth_interval=draw.size(1, 5))
    scalers = LossScaler(**settings), torch.amp.GradScaler("cpu", **settings)
    weights = [nn.Parameter(draw.normal(7).detach().clone())]
    weights.append(nn.Parameter(weights[0].detach().clone()))
    optimizers = [torch.optim.AdamW([weight], lr=0.1) for weight in weights]
    for _ in range(30):
        gradient, spoiled = draw.normal(7).detach(), draw.choice((1.0, 1.0, 1.0, math.inf, math.nan, 1e36))
        for weight, optimizer, scaler in zip(weights, optimizers, scalers, strict=True):
            optimizer.zero_grad()
            scaler.scale((weight * gradient).sum() * spoiled).backward()
            scaler.step(optimizer)
        scalers[1].update()
        if scalers[0].loss_scale != scalers[1].get_scale():
            return math.inf, None
    return relative(weights[:1], weights[1:]), None


# --- text and ids

LETTERS = "abcdeé"
TAGS = ("<br />", "<BR>", "</i>", "<a href='x'>", "<hr/>")


def random_word(chance: random.Random, letters: str = LETTERS) -> str:
    return "".join(chance.choices(letters, k=chance.randint(1, 9)))


def random_texts(chance: random.Random, count: int) -> list[str]:
    "Words, marks, capitals, accents and white space in any mixture."
    def token():
        word = random_word(chance)
        return chance.choice((word, word, word.upper(), word + "!", "(" + word + ")", "…", "e\u0301", "  ", "\t"))
    return [" ".join(token() for _ in range(chance.randint(1, 20))) + " a" for _ in range(count)]


def unequal(ours: list, theirs: list) -> Result:
    "The share of entries that differ."
    return sum(a != b for a, b in zip(ours, theirs, strict=True)) / len(theirs), None


def greedy_pieces(draw: Draw) -> Result:
    chance = random.Random(draw.seed)
    pieces = {"[UNK]", *chance.sample(LETTERS, 5), *(f"##{letter}" for letter in chance.sample(LETTERS, 5))}
    pieces |= {chance.choice(("", "##")) + random_word(chance)[:4] for _ in range(60)}
    vocab = {piece: i for i, piece in enumerate(sorted(pieces))}
    model = tokenizer_models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100)
    words = [random_word(chance) for _ in range(200)] + ["a" * 100, "a" * 101]
    return unequal([wordpiece_encode(word, vocab) for word in words], [[token.value for token in model.tokenize(word)] for word in words])


def word_counts(draw: Draw) -> Result:
    texts = random_texts(random.Random(draw.seed), 30)
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    theirs = [[word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))] for text in texts]
    ours, counts = count_words(texts), Counter(word for words in theirs for word in words)
    words = sorted(ours | counts)
    return unequal([*map(bert_words, texts), *(ours[word] for word in words)], [*theirs, *(counts[word] for word in words)])


def document_ids(draw: Draw) -> Result:
    chance = random.Random(draw.seed)
    texts = random_texts(chance, 40)
    tokenizer = train_words(texts, 30) if chance.random() < 0.5 else train_wordpiece(texts, 60)
    seq = chance.randint(3, 24)
    rows = tokenizer(texts, truncation=True, max_length=seq, padding="max_length")["input_ids"]
    whole = WordCacheEncoder(tokenizer).encode_whole(texts)
    return unequal([*encode_documents(texts, tokenizer, seq).tolist(), *(ids.tolist() for ids in whole)],
                   [*rows, *tokenizer(texts)["input_ids"]])


def overlapping_windows(draw: Draw) -> Result:
    chance = random.Random(draw.seed)
    texts = random_texts(chance, 20)
    tokenizer, seq = train_wordpiece(texts, 60), chance.randint(3, 24)
    stride = chance.randrange(seq - 2)
    ours = [piece.tolist() for ids in WordCacheEncoder(tokenizer).encode_whole(texts) for piece in windows(ids, seq, stride)]
    theirs = tokenizer(texts, truncation=True, max_length=seq, stride=stride, return_overflowing_tokens=True)["input_ids"]
    return (unequal(ours, theirs)[0] if len(ours) == len(theirs) else math.inf), None


def random_documents(draw: Draw, seq: int) -> list[np.ndarray]:
    "[CLS] 2, ordinary ids from 5, [SEP] 3; up to `seq` tokens each."
    return [np.array([2, *draw.ids(5, 90, draw.size(0, seq - 2)).tolist(), 3]) for _ in range(draw.size(1, 30))]


def padded_documents(draw: Draw) -> Result:
    documents = random_documents(draw, 24)
    theirs = nn.utils.rnn.pad_sequence(list(map(torch.from_numpy, documents)), batch_first=True)
    return unequal(pad(documents, theirs.size(1)).tolist(), theirs.tolist())


def documents_of_a_row(draw: Draw) -> Result:
    "Each packed row is taken apart by its [SEP]s; the collator joins the parts again."
    seq = draw.size(6, 60)
    rows = pack(random_documents(draw, seq // 2), seq)
    numbers, ours, theirs = document_numbers(rows, cls_id=2), [], []
    for row, number, place in zip(rows, numbers, positions_in(numbers), strict=True):
        ends, num_real = np.flatnonzero(row == 3) + 1, int((row != 0).sum())
        parts = [{"input_ids": part.tolist()} for part in np.split(row[:num_real], ends[:-1])]
        joined = DataCollatorWithFlattening(return_seq_idx=True)(parts)
        ours += [number[:num_real].tolist(), place[:num_real].tolist(), number[num_real:].tolist()]
        theirs += [(joined["seq_idx"][0] + 1).tolist(), joined["position_ids"][0].tolist(), [0] * (seq - num_real)]
    return unequal(ours, theirs)


def word_tokenizer(draw: Draw) -> Result:
    texts = [text.replace("e\u0301", "e") for text in random_texts(random.Random(draw.seed), 30)]
    tokenizer = train_words(texts, 10_000)
    vocab = tokenizer.get_vocab()
    reference = Tokenizer(tokenizer_models.WordLevel(vocab, unk_token="[UNK]"))
    reference.normalizer, reference.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
    missing = {word for text in texts for word in text.lower().split()} ^ {word for word in vocab if word not in SPECIAL_TOKENS}
    if missing:
        return math.inf, None
    ours = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return unequal(ours, [reference.encode(text).ids for text in texts])


class TextOnly(HTMLParser):
    "Python's parser, keeping the text; a tag becomes a space."

    def __init__(self, text: str):
        super().__init__(convert_charrefs=False)
        self.parts = []
        self.feed(text)
        self.close()

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.parts.append(" ")


def markup(draw: Draw) -> Result:
    chance = random.Random(draw.seed)
    texts = ["".join(chance.choice((text, "")) + chance.choice((*TAGS, " <3 ", " 1 < 2 > 0 ")) for text in random_texts(chance, 6)) + " end"
             for _ in range(40)]
    return unequal([clean_text(text) for text in texts], [" ".join("".join(TextOnly(text).parts).split()) for text in texts])


# --- NumPy

def to_numpy(tensor):  # an array that shares nothing with the tensor
    return tensor.detach().numpy().copy()


def numpy_model(draw: Draw) -> Result:
    num_heads = draw.size(1, 4)
    config = NumpyBertConfig(vocab_size=draw.size(8, 60), hidden_size=num_heads * draw.size(2, 8), num_layers=draw.size(1, 3),
                             num_heads=num_heads, intermediate_size=draw.size(4, 40), max_seq_len=draw.size(8, 20))
    parameters = init_parameters(config, draw.seed, np.dtype(str(draw.dtype).removeprefix("torch.")).type)
    for array in parameters.values():
        array += 0.3 * to_numpy(draw.normal(*array.shape))
    batch, seq = draw.size(1, 4), draw.size(2, 8)
    ids, mask = draw.ids(0, config.vocab_size, batch, seq), draw.mask(batch, seq)
    labels = torch.where((torch.rand(batch, seq, generator=draw.generator) < 0.4) & (mask == 1), ids, -100)
    labels[0, 0] = 1
    ours = numpy_bert.encoder.NumpyBert(config, parameters)
    our_loss = ours.loss(ids.numpy(), labels.numpy(), mask.numpy())
    ours.backward()
    leaves = {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in parameters.items()}
    their_loss = torch_model(config, leaves, ids, labels, mask)
    theirs = torch.autograd.grad(their_loss, list(leaves.values()))
    return relative([our_loss], [their_loss]), relative([ours.gradients[name] for name in leaves], theirs)


def torch_model(config: NumpyBertConfig, p: dict, ids, labels, mask):  # scalar
    "The same encoder in PyTorch's functions, for autograd."
    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], p[f"{name}.scale"], p[f"{name}.shift"], eps=1e-5)

    batch, seq = ids.shape
    stream = F.embedding(ids, p["word.weight"]) + p["position.weight"][:seq]
    for i in range(config.num_layers):
        qkv = norm(stream, f"blocks.{i}.attention_norm") @ p[f"blocks.{i}.qkv.weight"]
        query, key, value = qkv.view(batch, seq, 3, config.num_heads, -1).permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(query, key, value, mask.bool()[:, None, None, :])
        stream = stream + context.transpose(1, 2).flatten(2) @ p[f"blocks.{i}.out.weight"]
        wide = norm(stream, f"blocks.{i}.feed_forward_norm") @ p[f"blocks.{i}.up.weight"] + p[f"blocks.{i}.up.bias"]
        stream = stream + F.gelu(wide, approximate="tanh") @ p[f"blocks.{i}.down.weight"] + p[f"blocks.{i}.down.bias"]
    scores = norm(stream, "norm") @ p["head.weight"] + p["head.bias"]
    return F.cross_entropy(scores.flatten(0, 1), labels.flatten())


def numpy_cross_entropy(draw: Draw) -> Result:
    rows, vocab = draw.size(1, 40), draw.size(2, 60)
    scores, bias, targets = draw.normal(rows, vocab), draw.normal(vocab), draw.ids(0, vocab, rows)
    array = to_numpy(scores)
    ours = numpy_encoder.cross_entropy(array, to_numpy(bias), targets.numpy(), rows)
    theirs = F.cross_entropy(scores + bias, targets)
    return relative([ours], [theirs]), relative([array], torch.autograd.grad(theirs, scores))


def numpy_gelu(draw: Draw) -> Result:
    rows, width = draw.size(1, 150), draw.size(1, 24)
    x, bias = draw.normal(rows, width), draw.normal(width)
    y, slope = to_numpy(x), to_numpy(x)
    numpy_encoder.gelu(y, to_numpy(bias), slope)
    theirs = F.gelu(x + bias, approximate="tanh")
    return relative([y], [theirs]), relative([slope], torch.autograd.grad(theirs.sum(), x))


def numpy_layer_norm(draw: Draw) -> Result:
    rows, hidden = draw.size(1, 40), draw.size(4, 24)  # norms of two or three numbers multiply rounding
    x, scale, shift, d_y = draw.normal(rows, hidden), draw.normal(hidden), draw.normal(hidden), draw.normal(rows, hidden)
    normal, y, d_x = to_numpy(x), to_numpy(x), to_numpy(d_y)
    inverse_std = numpy_encoder.layer_norm(to_numpy(x), to_numpy(scale), to_numpy(shift), normal, y)
    d_scale, d_shift = numpy_encoder.layer_norm_backward(d_x, normal, inverse_std, to_numpy(scale), to_numpy(x))
    theirs = F.layer_norm(x, (hidden,), scale, shift, eps=1e-5)
    return relative([y], [theirs]), relative([d_x, d_scale, d_shift], torch.autograd.grad(theirs, (x, scale, shift), d_y))


def numpy_attention(draw: Draw) -> Result:
    batch, num_heads, seq, head_dim = draw.size(1, 4), draw.size(1, 4), draw.size(2, 17), draw.size(1, 16)
    query, key, value, d_context = (draw.normal(batch, num_heads, seq, head_dim) for _ in range(4))
    mask = draw.mask(batch, seq, with_holes=True)
    weights = np.empty((batch, num_heads, seq, seq), to_numpy(query).dtype)
    context, *d_ours = (to_numpy(query) for _ in range(4))
    inputs = [to_numpy(x) for x in (query, key, value)]
    numpy_encoder.attention(*inputs, weights, context, (mask == 0).numpy())
    numpy_encoder.attention_backward(to_numpy(d_context), context, weights, *inputs, *d_ours, np.empty_like(weights[0]))
    theirs = F.scaled_dot_product_attention(query, key, value, mask.bool()[:, None, None, :])
    return relative([context], [theirs]), relative(d_ours, torch.autograd.grad(theirs, (query, key, value), d_context))


def numpy_scatter_add(draw: Draw) -> Result:
    vocab, rows, hidden = draw.size(1, 9), draw.size(1, 40), draw.size(1, 8)
    table, ids, added = draw.normal(vocab, hidden).detach(), draw.ids(0, vocab, rows), draw.normal(rows, hidden).detach()
    ours = to_numpy(table)
    numpy_encoder.scatter_add(ours, ids.numpy(), added.numpy())
    return relative([ours], [table.index_add(0, ids, added)]), None


def numpy_adamw(draw: Draw) -> Result:
    shapes = {"matrix": (draw.size(1, 9), draw.size(1, 9)), "vector": (draw.size(1, 9),)}
    theirs = {name: draw.normal(*shape) for name, shape in shapes.items()}
    ours = {name: to_numpy(tensor) for name, tensor in theirs.items()}
    rate, decay, eps = draw.number(1e-4, 1e-1), draw.number(0.0, 0.3), draw.number(1e-9, 1e-6)
    betas = (draw.number(0.5, 0.95), draw.number(0.9, 0.999))
    optimizer = NumpyAdamW(ours, rate, betas, eps, decay)
    reference = torch.optim.AdamW([{"params": [theirs["matrix"]], "weight_decay": decay}, {"params": [theirs["vector"]], "weight_decay": 0.0}],
                                  lr=rate, betas=betas, eps=eps, foreach=False)
    for _ in range(20):
        for tensor in theirs.values():
            tensor.grad = draw.normal(*tensor.shape).detach()
        optimizer.step({name: to_numpy(tensor.grad) for name, tensor in theirs.items()})
        reference.step()
    return relative([ours[name] for name in shapes], [theirs[name] for name in shapes]), None


# --- memory

def blocks_activations(draw: Draw) -> Result:
    "Bytes by the formula, and those that autograd puts aside; two rows and two heads at least, since the math kernel need not copy a single one."
    num_heads = draw.size(2, 4)
    config = MicroBertConfig(8, hidden_size=num_heads * draw.size(2, 12), num_heads=num_heads, intermediate_size=draw.size(4, 60),
                             max_seq_len=40, dropout=draw.choice([0.0, 0.1]))
    batch, seq, kernel = draw.size(2, 5), draw.size(2, 40), draw.choice(["fused", "math"])
    block, hidden_states = bert_block(config), draw.normal(batch, seq, config.hidden_size).float().detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH) if kernel == "math" else nullcontext():
        counted = saved_bytes(lambda: block(hidden_states), known=block.parameters())
    return unequal([sum(block_activations(config, batch, seq, attention=kernel, device="cpu"))], [counted])


def small_update(draw: Draw):  # of a model whose loss rules the peak: no kernel's own scratch space is in it
    config = MicroBertConfig(draw.size(3_000, 5_000), hidden_size=24, max_seq_len=16, intermediate_size=40)
    return rehearsal(config, draw.size(12, 20))


def meter(draw: Draw) -> Result:
    update = small_update(draw)
    update()
    with MemoryMeter() as ours:
        update()
        start = ours.peak = ours.live
        update()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        update()
    changes = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return abs((ours.peak - start) / max(np.cumsum(changes)) - 1), None


def memory_plan(draw: Draw) -> Result:
    config = MicroBertConfig(draw.size(500, 5_000), hidden_size=8 * draw.size(2, 12), num_layers=draw.size(1, 4), num_heads=draw.choice([1, 2, 4]),
                             intermediate_size=draw.size(32, 300), max_seq_len=draw.size(40, 64), dropout=draw.choice([0.0, 0.1]))
    settings = dict(batch_size=draw.size(2, 8), precision=draw.choice(["no", "bf16"]), checkpointing=draw.choice([False, True]),
                    attention=draw.choice(["fused", "math"]), accumulating=draw.choice([False, True]))
    planned = plan_memory(config, device="cpu", **settings).allocated
    return abs(planned / measured_peak(rehearsal(config, **settings)) - 1), None


def checkpointed(draw: Draw) -> Result:
    model = nn.Sequential(nn.Linear(draw.size(2, 9), 8), nn.Dropout(0.3), nn.GELU(), nn.Linear(8, 5)).to(draw.dtype)
    x = draw.normal(draw.size(1, 6), model[0].in_features)
    results = []
    for run in (lambda: Checkpointed.apply(model, 1, x, *model.parameters()), lambda: checkpoint(model, x, use_reentrant=False)):
        torch.manual_seed(draw.seed)
        output = run()
        results.append((output, torch.autograd.grad(output.square().sum(), [x, *model.parameters()])))
    (ours, our_grads), (theirs, their_grads) = results
    return relative([ours], [theirs]), relative(our_grads, their_grads)


def forgetful_blocks(draw: Draw) -> Result:
    config = MicroBertConfig(40, hidden_size=12, num_heads=draw.choice([1, 2, 3]), num_layers=draw.size(1, 3), intermediate_size=20, dropout=0.2)
    model, ids = MicroBertForMaskedLM(config).to(draw.dtype), draw.ids(0, 40, draw.size(1, 3), draw.size(2, 9))
    results = []
    for prepare in (lambda model: None, checkpoint_blocks):
        prepare(model)
        torch.manual_seed(draw.seed)
        output = model(ids)
        results.append((output, torch.autograd.grad(output.square().mean(), list(model.parameters()), allow_unused=True)))
    (theirs, their_grads), (ours, our_grads) = results
    return relative([ours], [theirs]), relative(our_grads, their_grads)


# --- speed

def document_attention(draw: Draw) -> Result:
    batch, num_heads, seq = draw.size(1, 4), draw.size(1, 4), draw.size(2, 17)
    hidden_size = num_heads * draw.size(1, 12)
    ours = draw.shake(DocumentAttention(hidden_size, num_heads))
    theirs = nn.MultiheadAttention(hidden_size, num_heads, batch_first=True).to(draw.dtype)
    pairs = [(ours.qkv.weight, theirs.in_proj_weight), (ours.qkv.bias, theirs.in_proj_bias),
             (ours.out.weight, theirs.out_proj.weight), (ours.out.bias, theirs.out_proj.bias)]
    copy(pairs)
    x = draw.normal(batch, seq, hidden_size)
    numbers = 1 + draw.ids(0, 4, batch, seq).eq(0).cumsum(1)                  # a document begins at every fourth token or so
    numbers[:, seq - draw.size(0, seq // 2):] = 0                             # and padding ends the row
    hidden = ~same_document(numbers).expand(-1, num_heads, -1, -1).flatten(0, 1)
    result, weights = theirs(x, x, x, attn_mask=hidden, average_attn_weights=False)
    return differences(draw, [ours(x, numbers), ours.attention_weights(x, numbers)], [result, weights], [(x, x), *pairs])


def without_padding(draw: Draw) -> Result:
    config = bert_config(draw)
    ours = draw.shake(MicroBertForMaskedLM(config, attention=DocumentAttention))
    theirs = BertForMaskedLM(their_config(config)).to(draw.dtype)
    pairs = named_pairs(ours, theirs, weight_names(config))
    batch = bert_batch(draw, config)
    del batch["token_type_ids"]
    asked = batch["attention_mask"].flatten().nonzero()[:, 0].flip(0)[:5]
    logits = F.linear(unpadded_features(ours, **batch, predict_at=asked), *ours.output_table())
    return differences(draw, [logits], [theirs(**batch).logits.flatten(0, 1)[asked]], pairs)


def operations_of_an_update(draw: Draw) -> Result:
    num_heads, size = draw.choice([1, 2, 4]), 16 * draw.size(2, 6)
    config = PretrainConfig(vocab_size=draw.size(300, 2_000), hidden_size=num_heads * size, num_heads=num_heads, num_layers=draw.size(1, 4),
                            intermediate_size=draw.size(32, 300), max_seq_len=draw.size(20, 80), mlm_probability=0.25)
    model = build_model(config, config.vocab_size)
    input_ids = draw.ids(0, config.vocab_size, 4, config.max_seq_len)
    asked = draw.order(input_ids.numel())[: config.max_seq_len]
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        MaskedLMLoss(model)(input_ids, None, asked, input_ids.flatten()[asked])[0].backward()
    in_blocks = sum(p.numel() for p in model.bert.blocks.parameters())
    return abs(flops_of_update(config, in_blocks, input_ids.numel()) / counted.get_total_flops() - 1), None


# --- a modern encoder

def their_angles(draw: Draw, x, position_ids, head_dim: int, theta: float):  # cos and sin, (batch, seq, head_dim) each
    config = LlamaConfig(hidden_size=head_dim, num_attention_heads=1, rope_parameters={"rope_type": "default", "rope_theta": theta})
    return LlamaRotaryEmbedding(config)(x, position_ids)


def rotary(draw: Draw) -> Result:
    batch, seq, head_dim, theta = draw.size(1, 4), draw.size(1, 17), 2 * draw.size(1, 16), draw.choice((10_000.0, 160_000.0))
    query, key = draw.normal(batch, draw.size(1, 4), seq, head_dim), draw.normal(batch, draw.size(1, 4), seq, head_dim)
    position_ids = draw.ids(0, 64 if draw.dtype == torch.bfloat16 else 8_192, batch, seq)
    theirs = apply_rotary_pos_emb(query, key, *their_angles(draw, query, position_ids, head_dim, theta))
    ours = RotaryPositions(head_dim, theta)(query, key, position_ids)
    return differences(draw, ours, theirs, [(query, query), (key, key)])


def windowed(draw: Draw) -> Result:
    batch, num_heads, seq, head_dim, window = draw.size(1, 3), draw.size(1, 3), draw.size(1, 90), draw.size(1, 8), 2 * draw.size(1, 20)
    query, key, value = (draw.normal(batch, num_heads, seq, head_dim) for _ in range(3))
    kind, places = draw.choice(MASKS), torch.arange(seq)
    mask = draw.mask(batch, seq) if kind in ("padding", "both") else None
    seen = (places[:, None] - places).abs() <= window // 2
    causal_or_padded = keys_seen(mask, seq, kind in ("causal", "both"))
    seen = seen if causal_or_padded is None else seen & causal_or_padded
    our_seen = nearby_keys(query, key, window, mask, kind in ("causal", "both"))
    if not torch.equal(torch.ones_like(seen) if our_seen is None else our_seen.expand(seen.shape), seen):
        return math.inf, math.inf
    is_real = torch.ones(batch, 1, seq, 1) if mask is None else mask[:, None, :, None]  # what padding gathers has no meaning
    theirs = F.scaled_dot_product_attention(query, key, value, seen | ~seen.any(-1, keepdim=True)) * is_real.to(draw.dtype)
    ours = local_attention(query, key, value, window, mask, kind in ("causal", "both")) * is_real.to(draw.dtype)
    return differences(draw, [ours], [theirs], [(leaf, leaf) for leaf in (query, key, value)])


def rotary_attention(draw: Draw) -> Result:
    batch, num_heads, seq, head_dim = draw.size(1, 4), draw.size(1, 4), draw.size(2, 17), 2 * draw.size(2, 6)
    ours = ModernAttention(num_heads * head_dim, num_heads, RotaryPositions(head_dim), is_causal=True)
    ours = draw.shake(without_biases(ours))
    config = LlamaConfig(hidden_size=num_heads * head_dim, num_attention_heads=num_heads, head_dim=head_dim, attn_implementation="sdpa")
    theirs = LlamaAttention(config, 0).to(draw.dtype)
    pairs = [(ours.qkv.weight, [part.weight for part in (theirs.q_proj, theirs.k_proj, theirs.v_proj)]), (ours.out.weight, theirs.o_proj.weight)]
    copy(pairs)
    x, position_ids = draw.normal(batch, seq, num_heads * head_dim), draw.ids(0, 50, batch, seq)
    hidden = torch.zeros(seq, seq, dtype=draw.dtype).masked_fill(torch.ones(seq, seq, dtype=torch.bool).triu(1), torch.finfo(draw.dtype).min)
    result, _ = theirs(x, their_angles(draw, x, position_ids, head_dim, 10_000.0), hidden[None, None])
    return differences(draw, [ours(x, position_ids=position_ids)], [result], [(x, x), *pairs])


def rms_norm(draw: Draw) -> Result:
    hidden_size = draw.size(2, 24)
    ours, theirs = draw.shake(RMSNorm(hidden_size)), LlamaRMSNorm(hidden_size, eps=1e-5).to(draw.dtype)
    copy([(ours.weight, theirs.weight)])
    x = draw.normal(draw.size(1, 4), draw.size(1, 17), hidden_size)
    return differences(draw, [ours(x)], [theirs(x)], [(x, x), (ours.weight, theirs.weight)])


def gated_feed_forward(draw: Draw) -> Result:
    hidden_size, intermediate_size = 2 * draw.size(1, 12), draw.size(1, 48)
    ours_name, theirs_name = draw.choice((("geglu", "gelu"), ("swiglu", "silu")))
    ours = draw.shake(GatedFeedForward(hidden_size, intermediate_size, ours_name))
    theirs = LlamaMLP(LlamaConfig(hidden_size=hidden_size, intermediate_size=intermediate_size, num_attention_heads=1, hidden_act=theirs_name, mlp_bias=True)).to(draw.dtype)
    pairs = [(getattr(ours.gate_and_up, kind), [getattr(theirs.gate_proj, kind), getattr(theirs.up_proj, kind)]) for kind in ("weight", "bias")]
    pairs += [(getattr(ours.down, kind), getattr(theirs.down_proj, kind)) for kind in ("weight", "bias")]
    copy(pairs)
    x = draw.normal(draw.size(1, 4), draw.size(1, 17), hidden_size)
    return differences(draw, [ours(x)], [theirs(x)], [(x, x), *pairs])


def squared_feed_forward(draw: Draw) -> Result:
    hidden_size, intermediate_size = draw.size(1, 24), draw.size(1, 48)
    ours = draw.shake(ReluSquaredFeedForward(hidden_size, intermediate_size))
    theirs = nn.Sequential(nn.Linear(hidden_size, intermediate_size), ACT2FN["relu2"], nn.Linear(intermediate_size, hidden_size)).to(draw.dtype)
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    copy(pairs)
    x = draw.normal(draw.size(1, 4), draw.size(1, 17), hidden_size)
    return differences(draw, [ours(x)], [theirs(x)], [(x, x), *pairs])


def modern_pair(draw: Draw):
    "Our masked language model and theirs, their weights in pairs, and a batch."
    num_heads = draw.size(1, 3)
    config = ModernConfig(draw.size(12, 60), num_heads * 2 * draw.size(2, 4), draw.size(1, 5), num_heads, draw.size(4, 24), max_seq_len=600,
                          bias=draw.choice((True, False)), window=draw.choice((None, 4, 16)), global_every=draw.size(1, 4))
    theirs = ModernBertForMaskedLM(ModernBertConfig(**to_modernbert_config(config), attn_implementation="eager")).to(draw.dtype)
    ours = draw.shake(ModernForMaskedLM(config))
    pairs = named_pairs(ours, theirs, modernbert_weight_names(config))
    batch, seq = draw.size(1, 3), draw.choice((draw.size(2, 40), draw.size(256, 300)))  # long rows go by blocks
    inputs = {"input_ids": draw.ids(1, config.vocab_size, batch, seq), "attention_mask": draw.mask(batch, seq),
              "position_ids": draw.ids(0, seq, batch, seq)}
    return ours, theirs, pairs, inputs


def modern_encoder(draw: Draw) -> Result:
    ours, theirs, pairs, inputs = modern_pair(draw)
    is_real = inputs["attention_mask"].bool()
    used = [pair for pair, (name, _) in zip(pairs, ours.named_parameters(), strict=True)]
    used = [(our, their) for our, their in used if any(our is parameter for parameter in ours.encoder.parameters())]
    return differences(draw, [ours.encoder(**inputs)[is_real]], [theirs.model(**inputs).last_hidden_state[is_real]], used)


def modern_masked_lm(draw: Draw) -> Result:
    ours, theirs, pairs, inputs = modern_pair(draw)
    is_real = inputs["attention_mask"].bool()
    asked = is_real.flatten().nonzero()[:3, 0]
    logits = theirs(**inputs).logits
    return differences(draw, [ours(**inputs)[is_real], ours(**inputs, predict_at=asked)], [logits[is_real], logits.flatten(0, 1)[asked]], pairs)


# --- experts

def eager(config):  # the plain loop over experts, without a warning
    config._experts_implementation = "eager"
    return config


def fused(experts, names=("gate_and_up.weight", "down.weight")):  # our experts' weights as leaves for theirs, and stacked under theirs' two names
    "Copies of each expert's matrices, and each kind of them in one tensor, as transformers keeps them."
    copies = {name: [expert.get_parameter(name).detach().clone().requires_grad_() for expert in experts.values()] for name in names}
    pairs = [(expert.get_parameter(name), leaf) for name in names for expert, leaf in zip(experts.values(), copies[name], strict=True)]
    return pairs, {"experts.gate_up_proj": torch.stack(copies[names[0]]), "experts.down_proj": torch.stack(copies[names[1]])}


def gated_experts(draw: Draw, hidden_size: int, num_experts: int, top_k: int, normalize: bool, shared_size: int = 0) -> ExpertsFeedForward:
    intermediate_size = draw.size(1, 24)
    experts = [without_biases(GatedFeedForward(hidden_size, intermediate_size, "swiglu")) for _ in range(num_experts)]
    shared = without_biases(GatedFeedForward(hidden_size, shared_size * intermediate_size, "swiglu")) if shared_size else None
    return draw.shake(ExpertsFeedForward(Router(hidden_size, num_experts, top_k, normalize), experts, shared))


def mixtral_block(draw: Draw) -> Result:
    hidden_size, num_experts = draw.size(2, 16), draw.size(2, 8)
    ours = gated_experts(draw, hidden_size, num_experts, draw.size(1, num_experts), normalize=True)
    config = MixtralConfig(hidden_size=hidden_size, intermediate_size=ours.experts["0"].down.in_features, num_attention_heads=1,
                           num_local_experts=num_experts, num_experts_per_tok=ours.router.top_k)
    theirs = MixtralSparseMoeBlock(eager(config)).to(draw.dtype)
    pairs, weights = fused(ours.experts)
    gate = ours.router.weight.detach().clone().requires_grad_()
    x = draw.normal(draw.size(1, 4), draw.size(1, 17), hidden_size)
    answer = torch.func.functional_call(theirs, {"gate.weight": gate, **weights}, (x,))
    return differences(draw, [ours(x)], [answer], [(x, x), (ours.router.weight, gate), *pairs])


def deepseek_block(draw: Draw) -> Result:
    hidden_size, num_experts, num_shared = draw.size(2, 16), draw.size(2, 8), draw.size(1, 3)
    ours = gated_experts(draw, hidden_size, num_experts, draw.size(1, num_experts), normalize=False, shared_size=num_shared)
    config = DeepseekV2Config(hidden_size=hidden_size, moe_intermediate_size=ours.experts["0"].down.in_features, num_attention_heads=1,
                              n_routed_experts=num_experts, num_experts_per_tok=ours.router.top_k, n_shared_experts=num_shared)
    theirs = DeepseekV2Moe(eager(config)).to(draw.dtype)
    pairs, weights = fused(ours.experts)
    shared = theirs.shared_experts
    others = [(ours.router.weight, theirs.gate.weight), (ours.shared.gate_and_up.weight, [shared.gate_proj.weight, shared.up_proj.weight]),
              (ours.shared.down.weight, shared.down_proj.weight)]
    copy(others)
    x = draw.normal(draw.size(1, 4), draw.size(1, 17), hidden_size)
    return differences(draw, [ours(x)], [torch.func.functional_call(theirs, weights, (x,))], [(x, x), *others, *pairs])


def switch_block(draw: Draw) -> Result:
    "One row, so that their seats, which are counted in each row, are ours."
    hidden_size, intermediate_size, num_experts, num_tokens = draw.size(2, 16), draw.size(1, 24), draw.size(2, 6), draw.size(2, 30)
    factor = draw.number(0.3, 1.5)
    router = Router(hidden_size, num_experts, top_k=1, normalize=False)
    ours = draw.shake(ExpertsFeedForward(router, [without_biases(FeedForward(hidden_size, intermediate_size)) for _ in range(num_experts)],
                                         capacity_factor=factor))
    config = SwitchTransformersConfig(d_model=hidden_size, d_ff=intermediate_size, num_experts=num_experts, dense_act_fn="gelu", dropout_rate=0.0,
                                      expert_capacity=expert_capacity(num_tokens, num_experts, 1, factor))
    theirs = SwitchTransformersSparseMLP(config).to(draw.dtype).eval()
    theirs.router.dtype = draw.dtype  # its configuration knows no float64
    pairs = [(router.weight, theirs.router.classifier.weight)]
    for number, expert in ours.experts.items():
        pairs += [(expert.up.weight, theirs.experts[f"expert_{number}"].wi.weight), (expert.down.weight, theirs.experts[f"expert_{number}"].wo.weight)]
    copy(pairs)
    x = draw.normal(1, num_tokens, hidden_size)
    ours_answer, theirs_answer = ours(x), theirs(x)
    asked = set(ours.routing.experts.flatten().tolist())  # theirs gives no gradient to the others
    pairs = pairs[:1] + [pair for number in asked for pair in pairs[1 + 2 * number : 3 + 2 * number]]
    return differences(draw, [ours_answer], [theirs_answer], [(x, x), *pairs])


def mixtral_model(draw: Draw) -> Result:
    "A decoder of lesson 18 with experts in every block, each shaken by itself."
    num_heads, num_experts = draw.choice(((2, 1), (4, 2), (3, 3))), draw.size(2, 5)
    config = GptConfig(draw.size(12, 40), num_heads[0] * 2 * draw.size(1, 4), draw.size(1, 3), *num_heads, draw.size(4, 24), max_seq_len=40,
                       tie_word_embeddings=draw.choice((True, False)))
    ours = GptForCausalLM(config)
    names = {our: their for our, their in llama_weight_names(ours).items() if ".feed_forward.sublayer." not in our}
    ours = draw.shake(upcycle_model(ours, num_experts, top_k=draw.size(1, num_experts)))
    theirs = MixtralForCausalLM(eager(MixtralConfig(
        vocab_size=config.vocab_size, hidden_size=config.hidden_size, num_hidden_layers=config.num_layers, num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads, intermediate_size=config.intermediate_size, max_position_embeddings=40, rms_norm_eps=config.rms_norm_eps,
        num_local_experts=num_experts, num_experts_per_tok=expert_layers(ours)[0].router.top_k, tie_word_embeddings=config.tie_word_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta}))).to(draw.dtype)
    pairs = [(ours.get_parameter(our), [theirs.get_parameter(name) for name in their]) for our, their in names.items()]
    for block, layer in zip(theirs.model.layers, expert_layers(ours), strict=True):
        pairs.append((layer.router.weight, block.mlp.gate.weight))
        with torch.no_grad():
            for number, expert in enumerate(layer.experts.values()):
                block.mlp.experts.gate_up_proj[number] = expert.gate_and_up.weight
                block.mlp.experts.down_proj[number] = expert.down.weight
    with torch.no_grad():
        for our, their in pairs:
            parts = their if isinstance(their, list) else [their]
            for part, tensor in zip(our.split([len(tensor) for tensor in parts]), parts, strict=True):  # fewer rows for keys than for queries
                tensor.copy_(part)
    input_ids = draw.ids(1, config.vocab_size, draw.size(1, 3), draw.size(2, 17))
    return differences(draw, [ours(input_ids)], [theirs(input_ids).logits], pairs)


def balance(draw: Draw) -> Result:
    num_rows, num_experts = draw.size(2, 40), draw.size(2, 8)
    top_k, logits, is_real = draw.size(1, num_experts), draw.normal(num_rows, num_experts), draw.mask(1, num_rows)[0]
    ours = balance_loss(logits, route(logits, top_k)[1], is_real)
    theirs = load_balancing_loss_func((logits,), num_experts, top_k, is_real[None])
    mean = logits.mean()  # equal shares have no gradient in theory, and their rounding no size of its own
    return differences(draw, [top_k * ours, mean], [theirs, mean], [(logits, logits)])


def squared_log_sums(draw: Draw) -> Result:
    logits = draw.normal(draw.size(1, 40), draw.size(2, 8))
    return differences(draw, [z_loss(logits)], [router_z_loss_func(logits[None])], [(logits, logits)])
# --- LoRA

def lora_settings(draw: Draw) -> dict:
    "In our words; alpha is seldom the rank."
    return {"lora_rank": draw.size(1, 5), "lora_alpha": draw.number(0.5, 20), "rank_stabilized": draw.choice((False, True))}


def to_peft(settings: dict, targets: list[str]) -> PeftConfig:
    return PeftConfig(r=settings["lora_rank"], lora_alpha=settings["lora_alpha"], use_rslora=settings["rank_stabilized"], target_modules=targets)


def adapted_linear(draw: Draw) -> Result:
    settings, in_features, out_features = lora_settings(draw), draw.size(1, 24), draw.size(1, 24)
    ours = LoraLinear(nn.Linear(in_features, out_features))
    ours.add("default", LoraConfig(**settings))
    ours.active = "default"
    draw.shake(ours)
    theirs = inject_adapter_in_model(to_peft(settings, ["0"]), nn.Sequential(nn.Linear(in_features, out_features))).to(draw.dtype)[0]
    change = ours.adapters["default"]["whole"]
    pairs = [(change.A, theirs.lora_A["default"].weight), (change.B, theirs.lora_B["default"].weight)]
    copy([(ours.base.weight, theirs.base_layer.weight), (ours.base.bias, theirs.base_layer.bias), *pairs])
    x = draw.normal(draw.size(1, 4), draw.size(1, 9), in_features)
    answer = theirs(x)
    merged = F.linear(x, ours.base.weight + change.change(), ours.base.bias)
    return differences(draw, [ours(x), change(x), merged], [answer, answer - theirs.base_layer(x), answer], [(x, x), *pairs])


def adapted_models(draw: Draw) -> Result:
    "A BERT or a Llama with changes on some linears, parts of fused ones among them; then merged, then without."
    if draw.choice((True, False)):
        config = bert_config(draw)
        ours, theirs = MicroBertForMaskedLM(config), BertForMaskedLM(their_config(config))
        kinds = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "transform.dense")
    else:
        heads, kv_heads = draw.choice(((1, 1), (2, 1), (4, 2), (3, 3)))
        config = GptConfig(vocab_size=draw.size(12, 60), hidden_size=heads * 2 * draw.size(1, 4), num_layers=draw.size(1, 3), num_heads=heads,
                           num_kv_heads=kv_heads, intermediate_size=draw.size(4, 40), max_seq_len=20)
        ours, theirs = GptForCausalLM(config), LlamaForCausalLM(LlamaConfig(**to_llama_config(config), attn_implementation="eager"))
        kinds = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    targets = tuple(kind for kind in kinds if draw.choice((True, False))) or kinds[:1]
    ours, theirs, settings = draw.shake(ours), theirs.to(draw.dtype), lora_settings(draw)
    names, rows = weight_names_of(ours)
    theirs.load_state_dict(to_transformers_weights(ours, names, rows), strict=False)  # the tied copies are missing
    theirs.tie_weights()
    add_lora(ours, LoraConfig(**settings, targets=targets))
    theirs = get_peft_model(theirs, to_peft(settings, list(targets)), autocast_adapter_dtype=False).eval()
    their = {name.replace(".default.", "."): parameter for name, parameter in theirs.named_parameters()}
    pairs = [(tensor, their[name]) for name, tensor in adapter_tensors(ours).items()]
    with torch.no_grad():
        for tensor, _ in pairs:
            tensor.copy_(0.3 * draw.normal(*tensor.shape))
    copy(pairs)
    batch = {"input_ids": draw.ids(1, config.vocab_size, 3, 9)}
    if trainable_share(ours).trainable != theirs.get_nb_trainable_parameters()[0]:
        return math.inf, math.inf
    result = differences(draw, [ours(**batch)], [theirs(**batch).logits], pairs)
    merge(ours)
    theirs.merge_adapter()
    merged = relative([ours(**batch)], [theirs(**batch).logits])
    unmerge(ours)
    use_adapter(ours, None)
    with theirs.disable_adapter():
        theirs.unmerge_adapter()
        base = relative([ours(**batch)], [theirs(**batch).logits])
    remove_lora(ours)
    return max(result[0], merged, base), result[1]
def shared_keys(draw: Draw) -> Result:
    "Any number of queries at the end of a row; the mask written out here, so that ours is not its own judge."
    group_size, num_kv_heads, num_keys, head_dim = draw.size(1, 4), draw.size(1, 3), draw.size(1, 17), draw.size(1, 16)
    num_queries, batch = draw.choice((1, draw.size(1, num_keys))), draw.size(1, 4)
    query, key, value = (draw.normal(batch, num_heads, seq, head_dim) for num_heads, seq in (
        (num_kv_heads * group_size, num_queries), (num_kv_heads, num_keys), (num_kv_heads, num_keys)))
    numbers = draw.ids(0, 3, batch, num_keys).sort(dim=1).values  # padding on the left, then one document or two
    seen = torch.zeros(batch, 1, num_queries, num_keys, dtype=torch.bool)
    for row in range(batch):
        for at, place in enumerate(range(num_keys - num_queries, num_keys)):
            own = [int(numbers[row, other]) == int(numbers[row, place]) != 0 and other <= place for other in range(num_keys)]
            seen[row, 0, at] = torch.tensor(own if any(own) else [True] * num_keys)
    ours = grouped_attention(query, key, value, past_keys(numbers, num_queries, num_keys, draw.device))
    theirs = F.scaled_dot_product_attention(query, key, value, seen, enable_gqa=True)
    return differences(draw, [ours], [theirs], [(query, query), (key, key), (value, value)])


def grouped_query_module(draw: Draw) -> Result:
    group_size, num_kv_heads, head_dim = draw.size(1, 4), draw.size(1, 3), 2 * draw.size(2, 6)
    num_heads, batch, seq = group_size * num_kv_heads, draw.size(1, 4), draw.size(2, 17)
    ours = draw.shake(without_biases(GroupedQueryAttention(num_heads * head_dim, num_heads, num_kv_heads, RotaryPositions(head_dim))))
    config = LlamaConfig(hidden_size=num_heads * head_dim, num_attention_heads=num_heads, num_key_value_heads=num_kv_heads, attn_implementation="sdpa")
    theirs = LlamaAttention(config, 0).to(draw.dtype)
    pairs = [(ours.qkv.weight, [part.weight for part in (theirs.q_proj, theirs.k_proj, theirs.v_proj)]), (ours.out.weight, theirs.o_proj.weight)]
    copy(pairs)
    x, position_ids = draw.normal(batch, seq, num_heads * head_dim), draw.ids(0, 50, batch, seq)
    hidden = torch.zeros(seq, seq, dtype=draw.dtype).masked_fill(torch.ones(seq, seq, dtype=torch.bool).triu(1), torch.finfo(draw.dtype).min)
    result, _ = theirs(x, their_angles(draw, x, position_ids, head_dim, 10_000.0), hidden[None, None])
    return differences(draw, [ours(x, position_ids=position_ids)], [result], [(x, x), *pairs])


def llama_pair(draw: Draw):
    "Our decoder and theirs, their weights in pairs, and a batch."
    num_kv_heads = draw.size(1, 3)
    num_heads = num_kv_heads * draw.size(1, 3)
    config = GptConfig(draw.size(12, 60), num_heads * 2 * draw.size(2, 4), draw.size(1, 4), num_heads, num_kv_heads, draw.size(4, 24), max_seq_len=64,
                       rope_theta=draw.choice((10_000.0, 500.0)), tie_word_embeddings=draw.choice((True, False)))
    values = {**to_llama_config(config), "pad_token_id": None}  # with one, theirs leaves the gradient of its vector out
    theirs = LlamaForCausalLM(LlamaConfig(**values, attn_implementation="sdpa")).to(draw.dtype).eval()
    ours = draw.shake(GptForCausalLM(config)).eval()
    pairs = named_pairs(ours, theirs, llama_weight_names(ours))
    batch, seq = draw.size(1, 3), draw.size(2, 20)
    mask = draw.mask(batch, seq)
    return ours, theirs, pairs, {"input_ids": draw.ids(1, config.vocab_size, batch, seq), "attention_mask": draw.choice((mask, mask.flip(1)))}


def decoder(draw: Draw) -> Result:
    ours, theirs, pairs, inputs = llama_pair(draw)
    is_real = inputs["attention_mask"].bool()
    used = [pair for pair in pairs if any(pair[0] is parameter for parameter in ours.gpt.parameters())]
    return differences(draw, [ours.gpt(**inputs)[is_real]], [theirs.model(**inputs).last_hidden_state[is_real]], used)


def causal_lm(draw: Draw) -> Result:
    ours, theirs, pairs, inputs = llama_pair(draw)
    is_real = inputs["attention_mask"].bool()
    return differences(draw, [ours(**inputs)[is_real]], [theirs(**inputs).logits[is_real]], pairs)


def shifted_loss(draw: Draw) -> Result:
    ours, theirs, pairs, inputs = llama_pair(draw)
    inputs["attention_mask"] = inputs["attention_mask"].sort(dim=1, descending=True).values  # theirs asks padding for what comes after it
    inputs["attention_mask"][0] = 1  # else nothing may be asked
    labels = next_token_labels(**inputs)
    loss = F.cross_entropy(ours(**inputs).flatten(0, 1), labels.flatten())
    return differences(draw, [loss], [theirs(**inputs, labels=inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)).loss], pairs)


def in_pieces(draw: Draw) -> Result:
    "A row read in pieces of any length, by ours with our cache and by theirs with theirs."
    ours, theirs, _, inputs = llama_pair(draw)
    input_ids, attention_mask = inputs["input_ids"], inputs["attention_mask"].sort(dim=1).values  # padding on the left
    cache, their_cache, found, expected = KeyValueCache(ours.config.num_layers, 64), DynamicCache(), [], []
    with torch.no_grad():
        for part in input_ids.split(draw.size(1, 5), dim=1):
            mask = attention_mask[:, : cache.num_seen + part.size(1)]
            is_real = mask[:, -part.size(1):].bool()
            found.append(ours(part, mask, cache=cache)[is_real])
            expected.append(theirs(input_ids=part, attention_mask=mask, past_key_values=their_cache).logits[is_real])
    return relative([torch.cat(found)], [torch.cat(expected)]), None


def greedy_text(draw: Draw) -> Result:
    ours, theirs, _, inputs = llama_pair(draw)
    mask = inputs["attention_mask"].sort(dim=1).values
    theirs.generation_config.eos_token_id = eos = draw.size(1, ours.config.vocab_size - 1)
    settings = {"max_new_tokens": draw.size(1, 20), "use_cache": draw.choice((True, False))}
    found = generate(ours, inputs["input_ids"], mask, temperature=0, eos_token_id=eos, **settings)
    expected = theirs.generate(input_ids=inputs["input_ids"], attention_mask=mask, do_sample=False, pad_token_id=0, **settings)
    return unequal(found.tolist(), expected.tolist())


def drawn_tokens(draw: Draw) -> Result:
    "Scores through each filter, then a token by the same chance."
    batch, vocab = draw.size(1, 8), draw.size(2, 60)
    scores, seen = 3 * draw.normal(batch, vocab).detach().float(), draw.ids(0, vocab, batch, 6)
    temperature, top_k, top_p, penalty = draw.number(0.3, 2), draw.size(1, vocab), draw.number(0.05, 0.99), draw.number(0.5, 2)
    is_seen = torch.zeros(batch, vocab, dtype=torch.bool).scatter_(1, seen, True)
    penalised = RepetitionPenaltyLogitsProcessor(penalty)(seen, scores)
    expected = [penalised, TopKLogitsWarper(top_k)(seen, scores), TopPLogitsWarper(top_p)(seen, scores)]
    found = [penalise_repetition(scores, is_seen, penalty), keep_top_k(scores, top_k), keep_top_p(scores, top_p)]
    warped = TopPLogitsWarper(top_p)(seen, TopKLogitsWarper(top_k)(seen, TemperatureLogitsWarper(temperature)(seen, scores)))
    tokens = torch.multinomial(warped.softmax(dim=-1), 1, generator=torch.Generator(draw.device).manual_seed(draw.seed))[:, 0]
    found.append(choose_token(scores, temperature, top_k, top_p, torch.Generator(draw.device).manual_seed(draw.seed)))
    return unequal([tensor.tolist() for tensor in found], [tensor.tolist() for tensor in [*expected, tokens]])


ALL = {"float64": 1e-13, "float32": 1e-5, "bfloat16": 8e-2}  # one rounding is 1e-16, 6e-8 and 2e-3; many add up
MODEL = {"float64": 1e-12, "float32": 5e-5}  # several layers of them
FINE = {"float64": 1e-12, "float32": 2e-5}  # without bfloat16
ROUTED = {"float64": 2e-6, "float32": 2e-5}  # transformers weighs the experts in float32 always
EXACT = {NO_DTYPE: 0.0}
CHANCE = {NO_DTYPE: 5.0}

ANY_MASK = "1–4 rows of 2–17 tokens, 1–4 heads; no mask, padding, causal or both"
MODERNS = "1–5 layers, 1–3 heads, windows, biases or none, rows of 2–300 tokens, padding, any positions"
LLAMAS = "1–4 layers, 1–3 key heads for 1–3 query heads each, rows of 2–20 tokens, padding on either side"
BERTS = "1–3 layers, 1–4 heads, rows of 2–10 tokens, padding, segments"

CASES = (
    Case(("data.sources.clean_text",), "html.parser.HTMLParser", "texts with tags, hearts and inequalities", markup, EXACT, "of the texts"),
    Case(("data.wordpiece.wordpiece_encode",), "tokenizers.models.WordPiece", "random vocabularies and words, up to 101 letters",
         greedy_pieces, EXACT, "of the words"),
    Case(("data.wordpiece.bert_words", "data.wordpiece.count_words"), "tokenizers' BertNormalizer, BertPreTokenizer", "accents, capitals, marks, white space",
         word_counts, EXACT, "of the texts and counts"),
    Case(("data.wordpiece.train_words",), "tokenizers.models.WordLevel", "accents, capitals, marks, white space",
         word_tokenizer, EXACT, "of the texts"),
    Case(("data.wordpiece.encode_documents", "data.wordpiece.WordCacheEncoder", "data.wordpiece.train_wordpiece"), "the tokenizer's own __call__",
         "both kinds of tokenizer, rows of 3–24 and whole texts", document_ids, EXACT, "of the texts"),
    Case(("data.corpus.windows",), "the tokenizer's return_overflowing_tokens", "rows of 3–24, any stride", overlapping_windows, EXACT, "of the rows"),
    Case(("data.corpus.pad",), "nn.utils.rnn.pad_sequence", "1–30 documents of 2–24 tokens", padded_documents, EXACT, "of the rows"),
    Case(("data.corpus.document_numbers", "data.corpus.positions_in"), "transformers.DataCollatorWithFlattening", "packed rows of 6–60 tokens",
         documents_of_a_row, EXACT, "of the rows"),
    Case(("models.attention.scaled_dot_product_attention",), "F.scaled_dot_product_attention", ANY_MASK, attention_function, ALL),
    Case(("models.attention.fused_attention",), "F.scaled_dot_product_attention with a mask", "causal", attention_kernel, ALL),
    Case(("models.attention.MultiHeadAttention",), "nn.MultiheadAttention", f"{ANY_MASK}; output and weights", attention_module, ALL),
    Case(("models.transformer.FeedForward",), "nn.Linear, nn.GELU, nn.Linear", "widths 1–24 and 1–48", feed_forward, ALL),
    Case(("models.transformer.PostNorm", "models.transformer.TransformerBlock"), "nn.TransformerEncoderLayer(norm_first=False)", ANY_MASK,
         block(PostNorm, False), ALL),
    Case(("models.transformer.PreNorm", "models.transformer.TransformerBlock"), "nn.TransformerEncoderLayer(norm_first=True)", ANY_MASK,
         block(PreNorm, True), ALL),
    Case(("models.bert.Embeddings",), "transformers' BertEmbeddings", BERTS, embeddings, ALL),
    Case(("models.bert.bert_block",), "transformers' BertLayer", "1–4 heads, rows of 2–17 tokens, padding", bert_layer, MODEL),
    Case(("models.bert.MicroBert",), "transformers.BertModel", f"{BERTS}; every layer and the pooler", bert_encoder, MODEL),
    Case(("models.bert.Pooler",), "transformers' BertPooler", "rows of 1–17 tokens", pooler, ALL),
    Case(("models.bert.mean_pool",), "torch.masked.mean", "rows of 1–17 tokens, padding anywhere", mean_of_real_tokens, ALL),
    Case(("models.bert.MaskedLMHead",), "transformers' BertLMPredictionHead", "rows of 1–17 tokens", head, ALL),
    Case(("models.bert.MicroBertForMaskedLM",), "transformers.BertForMaskedLM", f"{BERTS}; everywhere and at three places", masked_lm, MODEL),
    Case(("training.masking.mask_tokens", "training.masking.corrupt"), "binomial shares: p, 80, 10, 10 %", "12,800 tokens, p 0.15, 0.25 or 0.4",
         masking(mask_tokens), CHANCE, "standard errors"),
    Case(("training.masking.mask_exactly",), "p of each row exactly; 80, 10, 10 %", "12,800 tokens, p 0.15, 0.25 or 0.4",
         masking(mask_exactly, is_exact=True), CHANCE, "standard errors"),
    Case(("training.masking.mask_whole_words",), "binomial shares: p, 80, 10, 10 %", "12,800 words of one piece, p 0.15, 0.25 or 0.4",
         masking(mask_whole_words), CHANCE, "standard errors"),
    Case(("training.masking.masked_cross_entropy",), "F.cross_entropy of the rows that count, in float64", "1–40 rows, half of them -100", loss,
         {"float64": 1e-6, "float32": 1e-6, "bfloat16": 5e-3}),  # ours computes in float32 always; in bfloat16 the gradient is rounded
    Case(("training.masking.linear_cross_entropy",), "F.cross_entropy(F.linear)",
         "1–40 rows, half of them -100, chunks of 1 to all, mean or sum; bfloat16 by autocast", linear_loss, ALL),
    Case(("training.loop.MaskedLMLoss",), "transformers.BertForMaskedLM(labels=…).loss, summed", f"{BERTS.removesuffix(', segments')}; any tokens hidden",
         masked_lm_loss, MODEL),
    Case(("training.masking.masked_accuracy",), "numpy.argmax and mean", "1–40 rows, half of them -100", accuracy, {NO_DTYPE: 1e-7}),
    Case(("training.masking.unigram_log_probs",), "collections.Counter and math.log", "vocabularies of 7–40", frequencies, {NO_DTYPE: 1e-6}),
    Case(("numpy_bert.encoder.NumpyBert",), "the same encoder in torch, autograd", f"{BERTS.removesuffix(', segments')}; all gradients", numpy_model, FINE),
    Case(("numpy_bert.encoder.cross_entropy",), "F.cross_entropy", "1–40 rows, 2–60 entries", numpy_cross_entropy, FINE),
    Case(("numpy_bert.encoder.gelu",), 'F.gelu(approximate="tanh")', "1–150 rows", numpy_gelu, FINE),
    Case(("numpy_bert.encoder.layer_norm", "numpy_bert.encoder.layer_norm_backward"), "F.layer_norm", "1–40 rows", numpy_layer_norm, FINE),
    Case(("numpy_bert.encoder.attention", "numpy_bert.encoder.attention_backward"), "F.scaled_dot_product_attention",
         "1–4 rows of 2–17 tokens, 1–4 heads, padding anywhere", numpy_attention, FINE),
    Case(("numpy_bert.encoder.scatter_add",), "Tensor.index_add", "ids that repeat", numpy_scatter_add, FINE),
    Case(("numpy_bert.adamw.AdamW",), "torch.optim.AdamW", "20 steps, random rates, betas, decay", numpy_adamw, FINE),
    Case(("training.optim.AdamW", "training.optim.parameter_groups"), "torch.optim.AdamW", "20 steps, two groups, random rates, betas, decay",
         adamw, {"float64": 1e-12, "float32": 1e-6}),
    Case(("training.optim.Muon",), "torch.optim.Muon", "20 steps, 3 matrices, random rates, momentum, decay", muon, {"float64": 1e-12, "float32": 1e-6}),
    Case(("training.optim.orthogonalize",), "torch.linalg.svd, the polynomial on each singular value", "matrices up to 12 × 12", singular_values, FINE),
    Case(("training.precision.round_to", "training.precision.FloatFormat"), "Tensor.half, Tensor.bfloat16; numpy.float16 from float64",
         "200 numbers from 2⁻³⁰ to 2¹⁸", rounding, {"float32": 0.0, "float64": 0.0}, "of the numbers"),
    Case(("training.precision.float_fields",), "struct.pack", "200 numbers, fp16 and fp32", bit_fields, EXACT, "of the numbers"),
    Case(("training.precision.LossScaler",), "torch.amp.GradScaler", "30 updates, half of them spoiled; any factors and intervals",
         loss_scaling, {"float32": 0.0}),
    Case(("training.optim.linear_schedule",), "transformers.get_linear_schedule_with_warmup", "2–60 steps, any warmup, one warm step ahead",
         schedule(linear_schedule, get_linear_schedule_with_warmup), {NO_DTYPE: 1e-12}),
    Case(("training.optim.cosine_schedule",), "transformers.get_cosine_schedule_with_warmup", "2–60 steps, any warmup, one warm step ahead",
         schedule(cosine_schedule, get_cosine_schedule_with_warmup), {NO_DTYPE: 1e-12}),
    Case(("training.memory.block_activations", "training.memory.saved_bytes"), "autograd's saved_tensors_hooks", "blocks of 2–5 rows and 2–4 heads, scores kept or not, dropout or not",
         blocks_activations, EXACT, "of the counts"),
    Case(("training.memory.MemoryMeter",), "torch.profiler's allocations", "updates of small models, float32; a kernel's own scratch space is not seen", meter,
         {NO_DTYPE: 0.02}, "of the peak"),
    Case(("training.memory.plan_memory", "training.memory.plan_moments", "training.memory.rehearsal", "training.memory.measured_peak"), "the measured peak of a whole update",
         "1–4 layers, every setting", memory_plan, {NO_DTYPE: 0.15}, "of the peak"),
    Case(("training.memory.Checkpointed",), "torch.utils.checkpoint", "a network with dropout", checkpointed, {"float64": 0.0, "float32": 0.0}),
    Case(("training.memory.checkpoint_blocks",), "the same model without it", "1–3 layers with dropout", forgetful_blocks, {"float64": 0.0, "float32": 0.0}),
    Case(("models.modern.rotate", "models.modern.RotaryPositions"), "transformers' LlamaRotaryEmbedding, apply_rotary_pos_emb",
         "1–4 heads each, head_dim 2–32, positions to 8,191, in bfloat16 to 63", rotary, ALL),
    Case(("models.modern.local_attention", "models.modern.nearby_keys"), "F.scaled_dot_product_attention with the mask",
         "rows of 1–90 tokens, windows of 2–40; no mask, padding, causal or both", windowed, ALL),
    Case(("models.modern.ModernAttention",), "transformers' LlamaAttention", "1–4 heads, rows of 2–17 tokens, any positions, causal", rotary_attention, ALL),
    Case(("models.modern.RMSNorm",), "transformers' LlamaRMSNorm", "widths 2–24", rms_norm, ALL | {"float64": 1e-6}),  # theirs computes in float32
    Case(("models.modern.GatedFeedForward",), "transformers' LlamaMLP", "widths 2–24 and 1–48, SwiGLU or GeGLU, biases", gated_feed_forward, ALL),
    Case(("models.modern.ReluSquaredFeedForward",), 'nn.Linear, ACT2FN["relu2"], nn.Linear', "widths 1–24 and 1–48", squared_feed_forward, ALL),
    Case(("models.modern.ModernEncoder", "models.modern.ModernEmbeddings", "models.modern.modern_block", "models.modern.without_biases"),
         "transformers' ModernBertModel", MODERNS, modern_encoder, {"float32": 1e-4}),  # theirs turns in float32, whatever the weights are
    Case(("models.modern.ModernForMaskedLM",), "transformers.ModernBertForMaskedLM", f"{MODERNS}; everywhere and at three places",
         modern_masked_lm, {"float32": 1e-4}),
    Case(("models.gpt.past_keys", "models.gpt.grouped_attention"), "F.scaled_dot_product_attention(enable_gqa=True)",
         "1–4 rows of 1–17 tokens, the last 1 to all of them asking, 1–3 key heads for 1–4 query heads each, padding, two documents", shared_keys, ALL),
    Case(("models.gpt.GroupedQueryAttention",), "transformers' LlamaAttention", "1–3 key heads for 1–4 query heads each, rows of 2–17 tokens, any positions",
         grouped_query_module, ALL),
    Case(("models.gpt.Gpt", "models.gpt.gpt_block"), "transformers' LlamaModel", LLAMAS, decoder, {"float32": 2e-5}),  # theirs works in float32 here and there
    Case(("models.gpt.GptForCausalLM",), "transformers.LlamaForCausalLM", LLAMAS, causal_lm, {"float32": 2e-5}),
    Case(("models.gpt.next_token_labels",), "transformers.LlamaForCausalLM(labels=…).loss", LLAMAS, shifted_loss, {"float32": 2e-5}),
    Case(("models.gpt.KeyValueCache", "models.gpt.LayerCache"), "transformers.LlamaForCausalLM with a DynamicCache", f"{LLAMAS}, in pieces of 1–5 tokens",
         in_pieces, {"float32": 2e-5}),
    Case(("models.gpt.stream", "models.gpt.generate"), "transformers.LlamaForCausalLM.generate", f"{LLAMAS}; 1–20 new ones, with and without cache",
         greedy_text, EXACT, "of the rows"),
    Case(("models.gpt.choose_token", "models.gpt.keep_top_k", "models.gpt.keep_top_p", "models.gpt.penalise_repetition"),
         "transformers' logits processors, torch.multinomial", "1–8 rows, vocabularies of 2–60, any settings", drawn_tokens, EXACT, "of the results"),
    Case(("training.speed.DocumentAttention", "training.speed.same_document"), "nn.MultiheadAttention(attn_mask=blocks)",
         "1–4 rows of 2–17 tokens, documents of any length; output and weights", document_attention, ALL),
    Case(("training.speed.unpadded_features",), "transformers.BertForMaskedLM on padded rows", BERTS.removesuffix(", segments"), without_padding, MODEL),
    Case(("training.speed.flops_of_update",), "torch.utils.flop_counter", "updates of 1–4 layers on full rows", operations_of_an_update,
         {NO_DTYPE: 0.03}, "of the count"),
    Case(("models.experts.ExpertsFeedForward", "models.experts.Router", "models.experts.route"), "transformers' MixtralSparseMoeBlock",
         "2–8 experts, any number of them a token", mixtral_block, ROUTED),
    Case(("models.experts.ExpertsFeedForward",), "transformers' DeepseekV2Moe", "2–8 experts, plain weights, 1–3 shared experts", deepseek_block, ROUTED),
    Case(("models.experts.ExpertsFeedForward", "models.experts.find_seats", "models.experts.expert_capacity"), "transformers' SwitchTransformersSparseMLP",
         "2–6 experts, one a token, capacity factor 0.3–1.5", switch_block, FINE),
    Case(("models.experts.upcycle_model", "models.experts.upcycle"), "transformers.MixtralForCausalLM", "lesson 18's decoder with 2–5 experts in 1–3 layers", mixtral_model,
         {"float64": 1e-5, "float32": 5e-5}),
    Case(("models.experts.balance_loss",), "transformers' load_balancing_loss_func, by top_k", "2–40 tokens, 2–8 experts, padding", balance,
         ROUTED | {"float32": 2e-4}),  # where all experts are asked alike its gradient is a small rest of large numbers
    Case(("models.experts.z_loss",), "transformers' router_z_loss_func", "1–40 tokens, 2–8 experts", squared_log_sums, FINE),
    Case(("models.lora.LowRank", "models.lora.LoraLinear"), "peft's Linear with a LoraLayer", "widths 1–24, rank 1–5, any alpha, divided by the rank or its root; merged too",
         adapted_linear, {"float64": 1e-12, "float32": 1e-5}),
    Case(tuple(f"models.lora.{name}" for name in ("add_lora", "find_targets", "use_adapter", "merge", "unmerge", "remove_lora", "trainable_share")),
         "peft.get_peft_model on BertForMaskedLM and LlamaForCausalLM", "1–3 layers, any linears, parts of fused ones too; beside, merged and off", adapted_models,
         {"float32": 5e-5}),  # theirs turns in float32, whatever the weights are,
)

EXEMPT = {  # name below microbert_course: why no outside library has it
    "training.speed.VENDOR_PEAKS": "a constant",
    **dict.fromkeys(("training.speed.measured_flops", "training.speed.measured_bandwidth", "training.speed.peak_flops"),
                    "measure the machine, or look a card up: tests/test_speed.py"),
    "training.speed.profile_table": "torch's own profiler, sorted",
    "training.speed.roofline": "the smaller of two numbers: tests/test_speed.py",
    **dict.fromkeys(("training.memory.CARDS", "training.memory.CONTEXT_BYTES", "training.memory.MARGIN"), "a constant"),
    **dict.fromkeys(("training.memory.largest_batch", "training.memory.fits", "training.memory.check_fits"),
                    "ask the plan, which is compared: tests/test_memory.py searches around the answer"),
    "training.memory.MemoryPlan": "holds sizes, computes nothing",
    "training.memory.keeps_scores": "held by the bytes that block_activations answers",
    "training.memory.parse_bytes": "our own rule: tests/test_memory.py",
    **dict.fromkeys(("data.sources.PACKAGES", "data.sources.READERS", "data.wordpiece.SPECIAL_TOKENS", "training.loop.EVALUATION_MASKING"), "a constant"),
    **dict.fromkeys(("data.sources.load", "data.sources.DataError"), "reads files and packages: tests/test_sources.py"),
    **dict.fromkeys(("data.sources.duplicate_key", "data.sources.split_indices"), "our own rule for what counts as a copy: tests/test_sources.py"),
    "data.sources.near_duplicates": "no library among the dependencies; lesson 01 measures it against an exact search",
    **dict.fromkeys(("data.wordpiece.learn_wordpiece", "data.wordpiece.learned_joins", "data.wordpiece.wordpiece_letters"),
                    "lesson 02 compares the vocabulary with the library's on real text and explains each difference"),
    "data.wordpiece.choose_vocab_size": "our own rule, stated in lesson 02",
    "data.corpus.LAYOUTS": "a constant",
    **dict.fromkeys(("data.corpus.shuffled", "data.corpus.is_held_out", "data.corpus.StreamedRows"),
                    "our own order and our own rule, each row once: tests/test_corpus.py"),
    **dict.fromkeys(("data.corpus.encode_rows", "data.corpus.in_chunks"), "join pieces that have cases; cut lists: tests/test_corpus.py"),
    **dict.fromkeys(("models.lora.LoraConfig", "models.lora.TrainableShare"), "holds settings or counts, computes nothing"),
    **dict.fromkeys(("models.lora.OwnCopy", "models.lora.adapter_names"), "copies or lists; compared with peft's modules_to_save in tests/test_lora.py"),
    "models.lora.block_targets": "names what find_targets finds; peft's all-linear in tests/test_lora.py",
    "training.optim.muon_groups": "sorts parameters, computes nothing",
    "training.precision.FORMATS": "a constant",
    "training.precision.choose_precision": "our own rule, stated in lesson 10",
    **dict.fromkeys(("training.precision.Operation", "training.precision.OperationLog"), "write down what torch does"),
    **dict.fromkeys(("models.attention.real_keys", "models.attention.visible_keys"), "make the masks that the attention cases use"),
    **dict.fromkeys(("models.attention.check_share", "models.bert.check_lookup", "training.masking.check_ids", "training.masking.check_shapes"), "raises for bad input, computes nothing"),
    **dict.fromkeys((f"models.modern.{name}" for name in ("GATES", "FEED_FORWARDS", "NORMS", "ASPECTS", "MODERN_SHAPES")), "a table"),
    **dict.fromkeys(("models.modern.ModernConfig", "models.modern.make_norm"), "holds sizes and picks parts, computes nothing"),
    **dict.fromkeys(("models.modern.count_parameters", "models.modern.shape_for"), "compared with the models that they describe: tests/test_modern.py"),
    "models.gpt.GptConfig": "holds sizes, computes nothing",
    "models.gpt.GPT_SHAPES": "a table",
    "models.bert.MicroBertConfig": "holds sizes, computes nothing",
    **dict.fromkeys(("models.experts.Routing", "models.experts.ExpertModel"), "holds numbers: tests/test_experts.py"),
    **{f"models.experts.{name}": "joins pieces that have cases: tests/test_experts.py" for name in ("expert_layers", "auxiliary_losses", "add_router_losses")},
    **{f"models.experts.{name}": "compared with the parameters of transformers' own classes: tests/test_experts.py" for name in (
        "active_parameters", "read_configuration", "has_experts", "expert_model")},
    "models.bert.fill_mask": "compared with transformers' pipeline in tests/test_bert.py",
    "training.masking.repeating_loss": "a bound derived in lesson 06, in no library",
    **{f"training.distributed.{name}": "needs several processes: tests/test_distributed.py compares it with torch.distributed" for name in (
        "broadcast", "broadcast_parameters", "ring_all_reduce", "DataParallel", "global_mean")},
    "training.distributed.buckets": "torch's let the last parameter of a bucket pass the limit, ours do not: worked by hand in tests/test_distributed.py",
    "training.distributed.launch": "starts processes, computes nothing",
    **{f"training.loop.{name}": "the training loop: held by the bands of its losses and by tests/test_loop.py" for name in (
        "seed_for", "epoch_order", "batch_rows", "Batch", "make_batch", "evaluation_batches", "unigram_loss", "evaluate", "PretrainData",
        "build_model", "learning_rate_at", "Training", "plot_history")},
}
