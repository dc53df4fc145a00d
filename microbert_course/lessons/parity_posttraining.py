"""What the pieces of part 3 are compared with, beside those of parts 1 and 2: `CASES` and `EXEMPT` here hold all three."""

import copy
import itertools
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from peft import inject_adapter_in_model
from torch import nn
from torch.nn import CrossEntropyLoss
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from microbert_course.data.corpus import pack
from microbert_course.data.packing import Example, pack_examples
from microbert_course.lessons import parity_cases
from microbert_course.lessons.parity import NO_DTYPE, Case, Draw, differences, relative
from microbert_course.lessons.parity_cases import (
    BERTS,
    EXACT,
    LLAMAS,
    MODEL,
    Result,
    bert_batch,
    bert_config,
    llama_pair,
    lora_settings,
    named_pairs,
    random_documents,
    their_config,
    to_peft,
    unequal,
)
from microbert_course.lessons.parity_cases import copy as copy_weights
from microbert_course.lessons.trl_loss import trl_loss
from microbert_course.models.checkpoints import encoder_weight_names
from microbert_course.models.gpt_folders import llama_weight_names
from microbert_course.models.lora import LoraConfig, LoraLinear
from microbert_course.models.quantization import (
    FORMATS,
    PackedWeight,
    QuantizedLinear,
    dequantize_model,
    nearest_codes,
    pack_nibbles,
    quantize_model,
)
from microbert_course.posttraining.classification import (
    ClassificationLoss,
    HeadLoss,
    MicroBertForSequenceClassification,
    balanced_weights,
    block_at_first,
    confusion_matrix,
)
from microbert_course.posttraining.encoder_decoder import AnswerLoss, EncoderDecoder, EncoderDecoderForm, Pair
from microbert_course.posttraining.evaluation import (
    accuracy,
    bits_per_byte,
    bootstrap,
    calibration_bins,
    confusion_counts,
    expected_calibration_error,
    fit_temperature,
    macro_f1,
    matthews,
    mcnemar,
    paired_bootstrap,
    pass_at_k,
    perplexity,
)
from microbert_course.posttraining.grpo import (
    completion_logprobs,
    group_advantages,
    grpo_loss,
    kl_penalty,
)
from microbert_course.posttraining.instruction import DecoderForm, SftBatch, to_example
from microbert_course.training.loop import MaskedLMLoss

# --- lesson 17

def _classifiers(draw: Draw, num_labels: int):
    "The same weights in both libraries, and the pairs of them."
    config = bert_config(draw)
    ours = draw.shake(MicroBertForSequenceClassification(config, [f"label {number}" for number in range(num_labels)])).eval()
    settings = their_config(config)
    settings.num_labels, settings.problem_type = num_labels, "single_label_classification"
    theirs = BertForSequenceClassification(settings).to(draw.dtype).eval()
    names = {**encoder_weight_names(config, with_pooler=True, prefix="bert."), "classifier.weight": ["classifier.weight"], "classifier.bias": ["classifier.bias"]}
    return ours, theirs, named_pairs(ours, theirs, names)


def classifier(draw: Draw) -> Result:
    ours, theirs, pairs = _classifiers(draw, draw.size(2, 5))
    batch = bert_batch(draw, ours.config)
    return differences(draw, [ours(**batch)], [theirs(**batch).logits], pairs)


def classification_loss(draw: Draw) -> Result:
    num_labels = draw.size(2, 5)
    ours, theirs, pairs = _classifiers(draw, num_labels)
    batch = bert_batch(draw, ours.config)
    del batch["token_type_ids"]  # a loss for single texts
    labels = draw.ids(0, num_labels, len(batch["input_ids"]))
    weights = (0.1 + draw.chances(num_labels)).to(draw.dtype)
    loss, _ = ClassificationLoss(ours, weights.float())(batch["input_ids"], batch["attention_mask"], labels)
    return differences(draw, [loss], [CrossEntropyLoss(weights, reduction="sum")(theirs(**batch).logits, labels)], pairs)


def head_loss(draw: Draw) -> Result:
    num_labels = draw.size(2, 5)
    ours, theirs, _ = _classifiers(draw, num_labels)
    features, labels = draw.normal(draw.size(1, 9), 1, ours.config.hidden_size), draw.ids(0, num_labels, 9)
    labels = labels[: len(features)]
    loss, _ = HeadLoss(ours)(features, labels)
    their_loss = F.cross_entropy(theirs.classifier(theirs.bert.pooler(features)), labels, reduction="sum")
    return differences(draw, [loss], [their_loss], [(features, features)])


def first_token(draw: Draw) -> Result:
    ours, theirs, _ = _classifiers(draw, 2)
    batch = bert_batch(draw, ours.config)
    del batch["token_type_ids"]
    states = ours.bert.hidden_states(**batch)
    found = block_at_first(ours.bert.blocks[-1], states[-2], batch["attention_mask"])
    pairs = [(ours.bert.embeddings.word.weight, [theirs.bert.embeddings.word_embeddings.weight])]  # through all that lies between
    return differences(draw, [found[:, 0]], [theirs.bert(**batch).last_hidden_state[:, 0]], pairs)


def balance(draw: Draw) -> Result:
    num_labels = draw.size(2, 6)
    labels = torch.cat([torch.arange(num_labels), draw.ids(0, num_labels, draw.size(1, 40))])
    counts = [int((labels == number).sum()) for number in range(num_labels)]
    theirs = [len(labels) / (num_labels * count) for count in counts]  # the formula in scikit-learn's documentation of class_weight="balanced"
    return relative([balanced_weights(labels, [str(number) for number in range(num_labels)]).double()], [torch.tensor(theirs).double()]), None


def confusion(draw: Draw) -> Result:
    num_labels, num_texts = draw.size(2, 6), draw.size(1, 60)
    truth, said = draw.ids(0, num_labels, num_texts), draw.ids(0, num_labels, num_texts)
    theirs = np.histogram2d(truth.numpy(), said.numpy(), bins=np.arange(num_labels + 1) - 0.5)[0]
    return relative([confusion_matrix(truth, said, num_labels).double()], [torch.from_numpy(theirs)]), None


# --- lesson 21

NF4 = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
       0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)


def rounded_evenly(draw: Draw) -> Result:
    "Rows as blocks, on numbers that are not near the middle of two levels: there one rounding decides."
    steps, num_rows, width = draw.choice((7, 127)), draw.size(1, 6), 2 * draw.size(1, 40)
    codes = draw.ids(-steps, steps + 1, num_rows, width)
    codes[:, 0] = steps
    scale = draw.ids(1, 64, num_rows).float() / 64
    weight = codes + 0.8 * draw.chances(*codes.shape).float() - 0.4
    weight[:, 0] = steps
    weight = weight.clamp(-steps, steps) * scale[:, None]
    theirs = torch.fake_quantize_per_channel_affine(weight, scale, torch.zeros(num_rows, dtype=torch.int32), 0, -steps, steps)
    return relative([PackedWeight(weight, "int4" if steps == 7 else "int8", width).dequantize()], [theirs]), None


def nf4_by_hand(draw: Draw) -> Result:
    "Block by block: the published level at the least distance, and bytes that numpy put together."
    block_size, num_blocks = 2 * draw.size(1, 40), draw.size(1, 6)
    weight = draw.normal(num_blocks, block_size).detach().float()
    levels, largest = torch.tensor(NF4), weight.abs().amax(dim=1, keepdim=True)
    codes = ((weight / largest)[..., None] - levels).abs().argmin(dim=-1)  # (num_blocks, block_size)
    bits = np.unpackbits(codes.flatten().cpu().numpy().astype(np.uint8)[:, None], axis=1)[:, 4:]  # the low four of each
    packed = torch.from_numpy(np.packbits(bits.flatten()))
    ours = PackedWeight(weight, "nf4", block_size)
    of_codes = pack_nibbles(nearest_codes((weight / largest).flatten(), FORMATS["nf4"]))
    return max(relative([ours.dequantize()], [levels[codes] * largest]), relative([ours.codes, of_codes, FORMATS["nf4"]], [packed, packed, levels])), None


def packed_linear(draw: Draw) -> Result:
    linear = draw.shake(nn.Linear(2 * draw.size(1, 20), draw.size(1, 20), bias=draw.choice((False, True))))
    ours = QuantizedLinear(linear, draw.choice(tuple(FORMATS)), 2 * draw.size(1, 40), draw.choice((False, True)))
    inputs, weight = draw.normal(draw.size(1, 5), draw.size(1, 5), linear.in_features), ours.packed.dequantize(draw.dtype)
    leaves = [(inputs, inputs), *([] if ours.bias is None else [(ours.bias, ours.bias)])]
    return differences(draw, [ours(inputs)], [F.linear(inputs, weight, ours.bias)], leaves)


def lora_over_packed(draw: Draw) -> Result:
    "An adapter beside a packed linear, and peft's beside one with the unpacked weight."
    linear, settings = draw.shake(nn.Linear(2 * draw.size(1, 20), draw.size(1, 20))), lora_settings(draw)
    ours = LoraLinear(QuantizedLinear(linear))
    ours.add("default", LoraConfig(**settings))
    ours.active, change = "default", draw.shake(ours.adapters["default"]["whole"])
    theirs = inject_adapter_in_model(to_peft(settings, ["0"]), nn.Sequential(ours.base.plain(draw.dtype))).to(draw.dtype)[0]
    pairs = [(change.A, theirs.lora_A["default"].weight), (change.B, theirs.lora_B["default"].weight)]
    copy_weights(pairs)
    inputs = draw.normal(draw.size(1, 9), linear.in_features)
    return differences(draw, [ours(inputs)], [theirs(inputs)], [(inputs, inputs), *pairs])


def packed_llama(draw: Draw) -> Result:
    "Our decoder packed, transformers' with the unpacked weights."
    ours, theirs, pairs, inputs = llama_pair(draw)
    is_real, names = inputs["attention_mask"].bool(), llama_weight_names(ours)
    quantize_model(ours, draw.choice(tuple(FORMATS)), 2 * draw.size(4, 40))
    plain = dequantize_model(copy.deepcopy(ours), draw.dtype)
    copy_weights(named_pairs(plain, theirs, names))
    left = {id(parameter) for parameter in ours.parameters()}
    return differences(draw, [ours(**inputs)[is_real]], [theirs(**inputs).logits[is_real]], [pair for pair in pairs if id(pair[0]) in left])


# --- lesson 24

def _answers(draw: Draw, num_labels: int = 0):
    "Labels and answers, (texts,) both."
    num_labels, num_texts = num_labels or draw.size(2, 6), draw.size(2, 60)
    labels = draw.ids(0, num_labels, num_texts)
    return labels, torch.where(draw.ids(0, 2, num_texts) > 0, labels, draw.ids(0, num_labels, num_texts))


def _all(ours, theirs) -> Result:
    return relative([torch.as_tensor(np.asarray(number, dtype=float)) for number in ours],
                    [torch.as_tensor(np.asarray(number, dtype=float)) for number in theirs]), None


def drawn_intervals(draw: Draw) -> Result:
    values, seed = draw.normal(draw.size(2, 50)).detach().numpy(), draw.size(0, 99)
    num_texts = len(values)
    found = bootstrap(lambda column: column.mean(-1), values, num_resamples=300, confidence=0.9, seed=seed)
    rng = np.random.default_rng(seed)
    means = torch.tensor([values[rng.integers(num_texts, size=num_texts)].mean() for _ in range(300)])
    ends = torch.quantile(means, torch.tensor([0.05, 0.95], dtype=means.dtype))
    return _all([found.value, found.low, found.high], [values.mean(), *ends])


def paired_intervals(draw: Draw) -> Result:
    labels, this = _answers(draw)
    that = this[draw.order(len(this))]
    found = paired_bootstrap(accuracy, labels, this, that, num_resamples=200)
    differences_of = ((labels == this).double() - (labels == that).double()).numpy()
    theirs = bootstrap(lambda column: column.mean(-1), differences_of, num_resamples=200)
    return _all([found.value, found.low, found.high], [theirs.value, theirs.low, theirs.high])


def scores_of_labels(draw: Draw) -> Result:
    labels, said = _answers(draw, 2)
    names = torch.cat([labels, said]).unique()
    f1 = [2 * ((labels == name) & (said == name)).sum().item() / ((labels == name).sum() + (said == name).sum()).item() for name in names]
    both = torch.stack([labels, said]).double()
    correlation = torch.corrcoef(both)[0, 1].nan_to_num()
    counts = np.histogram2d(labels.numpy(), said.numpy(), bins=np.arange(int(names.max()) + 2) - 0.5)[0]
    ours = confusion_counts(labels, said)
    return max(_all([accuracy(labels, said), macro_f1(labels, said), matthews(labels, said)], [(labels == said).double().mean(), np.mean(f1), correlation])[0],
               _all([ours], [counts])[0]), None


def matthews_of_many(draw: Draw) -> Result:
    labels, said = _answers(draw, 5)
    truth, answer = (np.eye(5)[column.numpy()] for column in (labels, said))
    both = np.cov(truth, answer, rowvar=False, bias=True)  # (10, 10)
    covariance, apart = np.trace(both[:5, 5:]), math.sqrt(np.trace(both[:5, :5]) * np.trace(both[5:, 5:]))
    return abs(float(matthews(labels, said)) - (covariance / apart if apart > 1e-12 else 0.0)), None


def tosses(draw: Draw) -> Result:
    only_this, only_that = draw.size(0, 7), draw.size(0, 7)
    this, that = [1] * only_this + [0] * only_that + [1, 0], [0] * only_this + [1] * only_that + [1, 0]
    num = only_this + only_that
    binomial = torch.distributions.Binomial(num, torch.tensor(0.5, dtype=torch.float64))
    chances = binomial.log_prob(torch.arange(num + 1.0, dtype=torch.float64)).exp()
    heads = torch.arange(num + 1)
    as_lopsided = chances[torch.maximum(heads, num - heads) >= max(only_this, only_that)].sum()
    return _all([mcnemar(this, that)["p_value"]], [as_lopsided])


def gaps_of_bins(draw: Draw) -> Result:
    num_texts, num_bins = draw.size(1, 60), draw.size(1, 12)
    sure, right = torch.rand(num_texts, generator=draw.generator, dtype=torch.float64), draw.ids(0, 2, num_texts)
    counts, confidence, hits = (torch.histogram(sure, num_bins, range=(0.0, 1.0), weight=weight).hist for weight in (None, sure, right.double()))
    bins = calibration_bins(sure, right, num_bins)
    return max(_all([bins["texts"], bins["confidence"], bins["right"]], [counts, confidence, hits])[0],
               _all([expected_calibration_error(sure, right, num_bins)], [(confidence - hits).abs().sum() / num_texts])[0]), None


def temperatures(draw: Draw) -> Result:
    honest = draw.normal(80, draw.size(2, 5)).detach() * 2
    labels = torch.multinomial(honest.softmax(-1), 1, generator=draw.generator)[:, 0]
    logits = honest * draw.number(0.3, 4)
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([inverse], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(logits * inverse, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return _all([1 / fit_temperature(logits, labels)], [inverse.item()])


def surprises(draw: Draw) -> Result:
    lengths = [draw.size(1, 9) for _ in range(draw.size(1, 6))]
    logits = draw.normal(sum(lengths), 7).detach()
    targets = draw.ids(0, 7, sum(lengths))
    nats = [part.sum() for part in F.cross_entropy(logits, targets, reduction="none").split(lengths)]
    mean = F.cross_entropy(logits, targets)
    return _all([perplexity(nats, lengths), bits_per_byte(nats, lengths)], [mean.exp(), mean / math.log(2)])


def choices_of_tries(draw: Draw) -> Result:
    num_tries = draw.size(1, 9)
    k = draw.size(1, num_tries)
    right = [draw.size(0, num_tries) for _ in range(3)]
    theirs = [np.mean([any(choice) for choice in itertools.combinations([1] * count + [0] * (num_tries - count), k)]) for count in right]
    return _all([pass_at_k([num_tries] * 3, right, k)], [theirs])


# --- lesson 19

def rows_of_trl(draw: Draw) -> Result:
    "Of equals trl takes others first, so rows are compared by the tokens in them."
    from pyarrow import table
    from trl.data_utils import _pack_bfd

    seq = draw.size(24, 40)
    documents = random_documents(draw, 24)
    theirs = _pack_bfd(table({"input_ids": [document.tolist() for document in documents]}), seq)["input_ids"].to_pylist()
    return unequal(sorted((pack(documents, seq) != 0).sum(axis=1).tolist()), sorted(map(len, theirs)))


def packed_examples(draw: Draw) -> Result:
    ours, theirs, pairs, _ = llama_pair(draw)
    texts = [draw.ids(1, ours.config.vocab_size, draw.size(2, 12)) for _ in range(draw.size(2, 6))]
    starts = [draw.size(1, len(ids) - 1) for ids in texts]  # of the answers
    labels = [F.pad(ids[1:].index_fill(0, torch.arange(start - 1), -100), (0, 1), value=-100) for ids, start in zip(texts, starts, strict=True)]
    rows = pack_examples([Example(ids.numpy(), asked.numpy()) for ids, asked in zip(texts, labels, strict=True)], draw.size(12, 40), 0)
    logits = ours(*(torch.from_numpy(array) for array in (rows.input_ids, rows.document_numbers, rows.position_ids)))
    packed = F.cross_entropy(logits.mT, torch.from_numpy(rows.labels), reduction="sum")
    alone = [F.cross_entropy(theirs(ids[None]).logits[0], asked, reduction="sum") for ids, asked in zip(texts, labels, strict=True)]
    return differences(draw, [packed], [torch.stack(alone).sum()], pairs)


def answers_alone(draw: Draw) -> Result:
    ours, theirs, pairs, _ = llama_pair(draw)
    parts = [[draw.ids(1, ours.config.vocab_size, draw.size(1, 9)).tolist() for _ in range(2)] for _ in range(draw.size(1, 5))]  # prompts and answers
    settings = SimpleNamespace(packing=draw.choice((True, False)), max_seq_len=draw.size(18, 40), pad=0)
    batch = SftBatch([to_example(*part) for part in parts], SimpleNamespace(batch=partial(DecoderForm.batch, settings)))
    loss, _ = MaskedLMLoss(ours)(*batch.tensors(draw.device))
    longest = max(len(prompt) + len(answer) for prompt, answer in parts)
    rows = [(prompt + answer, [-100] * len(prompt) + answer) for prompt, answer in parts]
    ids, labels = (torch.tensor([row[part] + [filler] * (longest - len(row[part])) for row in rows]) for part, filler in ((0, 0), (1, -100)))
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row, _ in rows])
    return differences(draw, [loss / batch.num_predicted], [theirs(input_ids=ids, attention_mask=mask, labels=labels).loss], pairs)


def answers_of_an_encoder_decoder(draw: Draw) -> Result:
    vocab_size, sizes = draw.size(12, 40), {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "d_model": 4 * draw.size(2, 6)}
    theirs = draw.choice((
        lambda: T5ForConditionalGeneration(T5Config(vocab_size=vocab_size, d_kv=4, d_ff=8, num_layers=draw.size(1, 3), num_heads=2, **sizes)),
        lambda: BartForConditionalGeneration(BartConfig(
            vocab_size=vocab_size, encoder_layers=1, decoder_layers=draw.size(1, 2), encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8,
            max_position_embeddings=40, bos_token_id=1, **sizes))))()
    theirs = draw.shake(theirs).eval()
    ours = EncoderDecoder(copy.deepcopy(theirs))
    parts = [[draw.ids(1, vocab_size, draw.size(1, 9)) for _ in range(2)] for _ in range(draw.size(1, 5))]
    settings = SimpleNamespace(pad=0)
    batch = SftBatch([Pair(*(part.cpu().numpy() for part in pair)) for pair in parts], SimpleNamespace(batch=partial(EncoderDecoderForm.batch, settings)))
    loss, _ = AnswerLoss(ours)(*batch.tensors(draw.device))
    ids, labels = (pad_sequence([pair[side] for pair in parts], batch_first=True, padding_value=filler) for side, filler in ((0, 0), (1, -100)))
    mask = pad_sequence([torch.ones_like(pair[0]) for pair in parts], batch_first=True)
    return differences(draw, [loss / batch.num_predicted], [theirs(input_ids=ids, attention_mask=mask, labels=labels).loss],
                       list(zip(ours.parameters(), theirs.parameters(), strict=True)))


# --- lesson 23

def loss_of_trl(draw: Draw) -> Result:
    num_rows, new = 2 * draw.size(1, 6), draw.size(1, 9)
    mask, advantages = draw.mask(num_rows, new), group_advantages(draw.normal(num_rows).detach(), 2)
    logprobs = draw.normal(num_rows, new)
    old, ref = ((logprobs + 0.3 * draw.normal(num_rows, new)).detach() for _ in range(2))
    settings = (draw.number(0.1, 0.3), draw.number(0.2, 0.5), draw.choice((0.0, draw.number(0.01, 0.3))), draw.choice(("grpo", "dapo", "dr_grpo")), new + draw.size(0, 5))
    ours = grpo_loss(logprobs, old, advantages, mask, ref, *settings)
    theirs, size = trl_loss(logprobs, old, ref, advantages, mask, *settings), logprobs.mean()  # the loss itself may be next to nothing
    return differences(draw, [ours, size], [theirs, size], [(logprobs, logprobs)])


def penalty_of_a_distribution(draw: Draw) -> Result:
    logits, reference = draw.normal(draw.size(2, 30)), draw.normal(1).detach()
    logprobs = logits.log_softmax(0)
    reference = (logits.detach() * reference).log_softmax(0)
    ours = (logprobs.detach().exp() * kl_penalty(logprobs.detach(), reference)).sum()
    return relative([ours], [F.kl_div(reference, logprobs.detach(), reduction="sum", log_target=True)]), None


def llama_logprobs(draw: Draw) -> Result:
    ours, theirs, pairs, inputs = llama_pair(draw)
    input_ids, attention_mask = inputs["input_ids"], inputs["attention_mask"]
    new = draw.size(1, input_ids.size(1) - 1)
    mask = attention_mask[:, -new:] * attention_mask[:, -new - 1 : -1]  # what has something real before it
    temperature = draw.number(0.5, 1.5)
    found = completion_logprobs(ours, input_ids, attention_mask, mask, temperature)
    scores = theirs(**inputs).logits[:, -new - 1 : -1] / temperature
    wanted = -F.cross_entropy(scores.mT, input_ids[:, -new:], reduction="none") * mask
    return differences(draw, [found.to(draw.dtype)], [wanted], pairs)


IN_FLOAT32 = {"float64": 1e-6, "float32": 5e-5}  # ours is computed in float32 always

CASES = (
    *parity_cases.CASES,
    Case(("posttraining.classification.MicroBertForSequenceClassification",), "transformers.BertForSequenceClassification", f"{BERTS}; 2–5 labels",
         classifier, MODEL),
    Case(("posttraining.classification.ClassificationLoss",), "nn.CrossEntropyLoss on transformers.BertForSequenceClassification",
         f"{BERTS.removesuffix(', segments')}; random class weights", classification_loss, IN_FLOAT32),
    Case(("posttraining.classification.HeadLoss",), "transformers' BertPooler and classifier", "1–9 texts, 2–5 labels", head_loss, IN_FLOAT32),
    Case(("posttraining.classification.block_at_first", "posttraining.classification.first_states"), "transformers.BertModel, its first token",
         BERTS.removesuffix(", segments"), first_token, MODEL),
    Case(("posttraining.classification.balanced_weights",), "scikit-learn's formula", "up to 46 texts, 2–6 labels", balance, {NO_DTYPE: 1e-6}),
    Case(("posttraining.classification.confusion_matrix",), "numpy.histogram2d", "1–60 texts, 2–6 labels", confusion, {NO_DTYPE: 0.0}),
    Case(("models.quantization.even_levels", "models.quantization.in_blocks"), "torch.fake_quantize_per_channel_affine", "1–6 rows of up to 80, 4 or 8 bits",
         rounded_evenly, {NO_DTYPE: 1e-6}),
    Case(tuple(f"models.quantization.{name}" for name in ("normal_float_levels", "nearest_codes", "pack_nibbles", "PackedWeight")),
         "the 16 numbers of Dettmers et al. 2023, appendix E; argmin; numpy.packbits", "1–6 blocks of up to 80", nf4_by_hand, {NO_DTYPE: 1e-6}),
    Case(("models.quantization.QuantizedLinear",), "F.linear with the unpacked weight", "widths to 40, any format, blocks to 80, constants packed or not", packed_linear,
         {"float64": 1e-12, "float32": 1e-6}),
    Case(("models.quantization.QuantizedLinear",), "peft's LoRA beside a linear with the unpacked weight", "widths to 40, rank 1–5, any alpha", lora_over_packed,
         {"float64": 1e-12, "float32": 1e-6}),
    Case(("models.quantization.quantize_model", "models.quantization.dequantize_model"), "transformers.LlamaForCausalLM with the unpacked weights",
         f"{LLAMAS}; any format, blocks to 80", packed_llama, {"float32": 5e-5}),
    Case(("posttraining.evaluation.bootstrap",), "torch.quantile of one resample after the other", "2–50 texts, 300 resamples", drawn_intervals, {NO_DTYPE: 1e-9}),
    Case(("posttraining.evaluation.paired_bootstrap",), "the interval of the differences", "2–60 texts", paired_intervals, {NO_DTYPE: 1e-9}),
    Case(("posttraining.evaluation.accuracy", "posttraining.evaluation.macro_f1", "posttraining.evaluation.confusion_counts"),
         "torch.corrcoef, numpy.histogram2d, F1 label by label", "2–60 texts, two labels", scores_of_labels, {NO_DTYPE: 1e-9}),
    Case(("posttraining.evaluation.matthews",), "numpy.cov of the indicators of the labels", "2–60 texts, five labels", matthews_of_many, {NO_DTYPE: 1e-9}),
    Case(("posttraining.evaluation.mcnemar",), "torch.distributions.Binomial", "up to 14 texts that one alone has right", tosses, {NO_DTYPE: 1e-6}),
    Case(("posttraining.evaluation.calibration_bins", "posttraining.evaluation.expected_calibration_error"), "torch.histogram with weights",
         "1–60 texts, 1–12 bins", gaps_of_bins, {NO_DTYPE: 1e-9}),
    Case(("posttraining.evaluation.fit_temperature",), "torch.optim.LBFGS on F.cross_entropy", "80 texts, 2–5 labels", temperatures, {NO_DTYPE: 1e-5}),
    Case(("posttraining.evaluation.perplexity", "posttraining.evaluation.bits_per_byte"), "F.cross_entropy over all tokens", "1–6 texts of 1–9 tokens",
         surprises, {NO_DTYPE: 1e-6}),
    Case(("posttraining.evaluation.pass_at_k",), "itertools.combinations: every choice of k tries", "1–9 tries", choices_of_tries, {NO_DTYPE: 1e-9}),
    Case(("data.corpus.best_fit", "data.corpus.pack"), "trl.pack_dataset, best fit decreasing", "1–30 documents of 2–24 tokens, rows of 24–40", rows_of_trl,
         EXACT, "of the rows"),
    Case(("data.packing.pack_examples", "data.packing.Example"), "transformers.LlamaForCausalLM on each example alone",
         "2–6 examples of 2–12 tokens, their answers asked; 1–4 layers", packed_examples, {"float32": 2e-5}),
    Case(tuple(f"posttraining.instruction.{name}" for name in ("to_example", "DecoderForm", "SftBatch")), "transformers.LlamaForCausalLM with labels=-100 at prompts and padding",
         "1–5 prompts and answers of 1–9 tokens, packed or not; 1–4 layers", answers_alone, {"float32": 5e-5}),
    Case(tuple(f"posttraining.encoder_decoder.{name}" for name in ("EncoderDecoder", "EncoderDecoderForm", "AnswerLoss", "Pair")),
         "the loss of transformers' T5 and BART with labels=-100 at padding", "1–5 prompts and answers of 1–9 tokens; 1–3 layers", answers_of_an_encoder_decoder,
         {"float32": 5e-5}),
    Case(tuple(f"posttraining.grpo.{name}" for name in ("grpo_loss", "clipped_loss", "token_weights")), "trl's GRPOTrainer._compute_loss",
         "2–12 completions of 1–9 tokens, three ways to count them, with and without a reference", loss_of_trl, {"float64": 1e-6, "float32": 1e-5}),
    Case(("posttraining.grpo.kl_penalty",), "F.kl_div, as the mean over what p draws", "2–30 tokens", penalty_of_a_distribution, {"float64": 1e-9}),
    Case(("posttraining.grpo.completion_logprobs",), "F.cross_entropy on transformers.LlamaForCausalLM", f"{LLAMAS}; temperature 0.5–1.5", llama_logprobs,
         {"float64": 2e-5, "float32": 5e-5}),  # ours is computed in float32 always
)

EXEMPT = {
    **parity_cases.EXEMPT,
    "posttraining.classification.LAYERS": "a constant",
    "models.quantization.FORMATS": "a table",
    "models.quantization.StoredWeights": "holds two counts",
    "models.quantization.stored_bytes": "counts what PackedWeight and others hold: to the last bit in tests/test_quantization.py",
    "models.quantization.check_packing": "refuses: tests/test_quantization.py",
    **{f"posttraining.classification.{name}": "reads, scores, trains or shows with pieces that have cases: tests/test_classification.py" for name in (
        "read_rows_once", "predict", "score", "shares_right", "train_only", "set_dropout", "num_trained", "classification", "FinetuneResult",
        "train_sft_model_selective", "compare_layers", "peak_bytes", "plot_layers", "plot_confusion", "save_sft_model", "load_sft_model")},
    "posttraining.classification.classify": "compared with transformers' pipeline in tests/test_classification.py",
    "posttraining.evaluation.Interval": "holds three numbers",
    "posttraining.evaluation.SCORES": "a table",
    **{f"posttraining.evaluation.{name}": "joins or shows pieces that have cases: tests/test_evaluation.py" for name in (
        "plot_reliability", "scores", "comparison", "evaluate_classifier")},
    "posttraining.instruction.ENCODERS": "a list of names",
    **{f"posttraining.instruction.{name}": "puts, reads and scores text: by hand in tests/test_instruction.py" for name in (
        "with_template", "asked", "parse_label", "is_right", "can_be_checked", "score_answers", "score_sets")},
    **{f"posttraining.instruction.{name}": "draws, reads or trains with pieces that have cases: tests/test_instruction.py" for name in (
        "SftData", "load_learner", "form_of", "encode_sets", "write_answers", "instruction_tuning", "fingerprint", "SftResult", "train_sft", "score_test")},
    "posttraining.grpo.group_advantages": "a difference from a mean: by hand in tests/test_grpo.py; trl has it within a method that draws completions",
    **{f"posttraining.grpo.{name}": "draws, scores, trains or shows with pieces that have cases: tests/test_grpo.py" for name in (
        "GrpoBatch", "GrpoLoss", "GrpoData", "up_to_end", "grpo", "fingerprint", "plot_rewards", "default_terms", "start_of", "train_grpo", "problems_of", "check_processes")},
    "posttraining.evaluation.mistakes": "sorts rows: worked by hand in tests/test_evaluation.py",
}
