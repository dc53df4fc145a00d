"""Checks of the exercises on BERT."""

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from microbert_course.models.bert import MicroBert, MicroBertConfig
from microbert_course.models.checkpoints import encoder_weight_names, to_transformers_config, to_transformers_weights
from microbert_course.practice import uses
from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.uses import lesson_05


def normal(rng: np.random.Generator, *shape: int, dtype: torch.dtype = torch.float32, std: float = 1.0) -> Tensor:
    return torch.from_numpy(std * rng.standard_normal(shape)).to(dtype)


def padded_at_the_end(rng: np.random.Generator, batch: int, seq: int) -> Tensor:
    "A mask (batch, seq): one row without padding, the others of two tokens or more and with some padding."
    lengths = rng.integers(2, seq, size=batch)
    lengths[rng.integers(batch)] = seq
    return (torch.arange(seq) < torch.from_numpy(lengths)[:, None]).long()


# mean_pool

def pooling_cases(rng: np.random.Generator) -> list[Case]:
    "Padding at the end, in the middle and with NaN in it, rows of one token, and four masks that must be refused."
    good = []
    for batch, seq, hidden, dtype in ((3, 6, 4, torch.float32), (2, 7, 5, torch.float64), (4, 1, 3, torch.float32)):
        mask = torch.ones(batch, seq, dtype=torch.long) if seq == 1 else padded_at_the_end(rng, batch, seq)
        good.append({"hidden_states": normal(rng, batch, seq, hidden, dtype=dtype), "attention_mask": mask,
                     "upstream": normal(rng, batch, hidden, dtype=dtype)})
    middle = good[1]["attention_mask"]
    middle[:, 1] = 0
    good[1] |= {"attention_mask": middle.bool(), "hidden_states": good[1]["hidden_states"].masked_fill(middle[..., None] == 0, torch.nan)}
    first = good[0]
    is_empty = torch.arange(3) == int(rng.integers(3))
    return [*good, first | {"attention_mask": first["attention_mask"].masked_fill(is_empty[:, None], 0)},
            first | {"attention_mask": first["attention_mask"].double()},
            first | {"attention_mask": first["attention_mask"][:, :1]}, first | {"attention_mask": first["attention_mask"][:1]}]


def refuse(hidden_states: Tensor, attention_mask: Tensor, faults: tuple[str, ...] = ("shape", "float", "empty")) -> None:
    found = {"shape": attention_mask.shape != hidden_states.shape[:2], "batch": len(attention_mask) != len(hidden_states),
             "seq": attention_mask.size(1) != hidden_states.size(1), "float": attention_mask.is_floating_point(),
             "empty": bool((attention_mask.sum(-1) == 0).any())}
    if any(found[fault] for fault in faults):
        raise ValueError(f"no mask for these hidden states: {attention_mask}")


def mean_by_rows(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    refuse(hidden_states, attention_mask)
    return torch.stack([row[is_real].mean(0) for row, is_real in zip(hidden_states, attention_mask.bool(), strict=True)])


def mean_variant(padding: str = "left out", divisor: str = "real", refuses: tuple[str, ...] = ("shape", "float", "empty")):
    "The mean of each row with one thing done otherwise."

    def mean(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        refuse(hidden_states, attention_mask, refuses)
        is_real = attention_mask.bool()[..., None]
        kept = {"left out": torch.where(is_real, hidden_states, 0.0), "times 0": hidden_states * is_real, "kept": hidden_states}[padding]
        count = {"real": is_real.sum(1), "seq": hidden_states.size(1), "at least 1": is_real.sum(1).clamp(min=1)}[divisor]
        return kept.sum(1) / count

    return mean


def mean_in_float64(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    refuse(hidden_states, attention_mask)
    is_real = attention_mask == 1
    shares = is_real.double() / is_real.sum(1, keepdim=True)
    return torch.einsum("bs,bsh->bh", shares, hidden_states.double().masked_fill(~is_real[..., None], 0.0)).to(hidden_states.dtype)


def first_token(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    refuse(hidden_states, attention_mask)
    return hidden_states[:, 0]


MEAN_POOL = Check(
    id="bert.mean_pool",
    name="mean_pool",
    cases=pooling_cases,
    reference=mean_by_rows,
    use=uses.gradients,
    builds="models.bert.mean_pool",
    right=(mean_variant(), mean_in_float64),
    wrong=(
        Wrong(mean_variant(padding="kept", divisor="seq"),
              "Padding counts in your mean, as a summand and as a place: the vector of a text changes with the longest text of its "
              "batch. attention_mask says who is real."),
        Wrong(mean_variant(divisor="seq"),
              "The sum is right, the divisor is not: you divide by the length of the padded row, so short texts get short vectors."),
        Wrong(mean_variant(padding="kept"),
              "The divisor is right, the sum is not: what stands at padding is still added in."),
        Wrong(mean_variant(padding="times 0"),
              "You multiply padding by 0, and 0 times NaN is NaN: what stands in an empty place must not matter at all. Replace it "
              "instead."),
        Wrong(first_token,
              "That is the first token's vector, the pooling by [CLS]. Asked for is the mean of all real tokens."),
        Wrong(mean_variant(refuses=()),
              "The means are right. What is missing are the checks at the door: a mask of another shape, a mask of floats and a row of "
              "nothing but padding should each raise ValueError."),
        Wrong(mean_variant(refuses=("shape", "float")),
              "A row of nothing but padding is divided by 0, and its NaN will turn up far from here: raise ValueError for it."),
        Wrong(mean_variant(divisor="at least 1", refuses=("shape", "float")),
              "A row of nothing but padding gets the vector 0, as if it were a text like any other: nothing has no mean, so raise "
              "ValueError."),
        Wrong(mean_variant(refuses=("shape", "empty")),
              "A mask of floats goes through. It may be a mask to be added, with 0 for real tokens, and would be read backwards: raise "
              "ValueError."),
        Wrong(mean_variant(refuses=("float", "empty")),
              "A mask of shape (batch, 1) is stretched over the whole row in silence: compare its shape with the first two sizes of "
              "the hidden states."),
        Wrong(mean_variant(refuses=("batch", "float", "empty")),
              "A mask of shape (batch, 1) is stretched over the whole row in silence: compare both sizes with those of the hidden states."),
        Wrong(mean_variant(refuses=("seq", "float", "empty")),
              "A mask of shape (1, seq) is stretched over the whole batch in silence, and one text's padding counts for all: compare both "
              "sizes with those of the hidden states."),
    ),
)


# num_parameters

def shape_cases(rng: np.random.Generator) -> list[Case]:
    "Shapes of any size, each kind of head, once with a single segment."
    cases = []
    for head, segments in (("none", 2), ("tied", 3), ("untied", 2), ("tied", 1)):
        hidden, layers, positions = (int(size) for size in rng.permutation(np.arange(5, 40))[:3])
        cases.append({"vocab_size": int(rng.integers(200, 900)), "hidden_size": hidden, "num_layers": layers,
                      "intermediate_size": int(rng.integers(50, 150)), "max_seq_len": positions, "type_vocab_size": segments, "head": head})
    return cases


def parameters_of_torch(vocab_size: int, hidden_size: int, num_layers: int, intermediate_size: int, max_seq_len: int,
                        type_vocab_size: int, head: str) -> int:
    "Build the parts from torch's own, without memory, and count."
    with torch.device("meta"):
        block = nn.TransformerEncoderLayer(hidden_size, nhead=1, dim_feedforward=intermediate_size)
        embeddings = [nn.Embedding(rows, hidden_size) for rows in (vocab_size, max_seq_len, type_vocab_size)]
        parts = [*embeddings, nn.LayerNorm(hidden_size), *[block] * num_layers]
        if head != "none":
            parts += [nn.Linear(hidden_size, hidden_size), nn.LayerNorm(hidden_size), nn.Linear(hidden_size, vocab_size)]
    tied = vocab_size * hidden_size if head == "tied" else 0
    return sum(weight.numel() for part in parts for weight in part.parameters()) - tied


def parameters_variant(biases: bool = True, block_norms: int = 2, embedding_norm: bool = True, positions: bool = True, heads: int = 3,
                       tie: bool = True, head_bias: bool = True, pooler: bool = False, norm_vectors: int = 2, head_maps: bool = True):
    "The count with one thing forgotten, or counted too often."

    def num_parameters(vocab_size: int, hidden_size: int, num_layers: int, intermediate_size: int, max_seq_len: int,
                       type_vocab_size: int, head: str) -> int:
        def linear(inputs: int, outputs: int) -> int:
            return inputs * outputs + biases * outputs

        norm = norm_vectors * hidden_size
        count = (vocab_size + positions * (max_seq_len + type_vocab_size)) * hidden_size + embedding_norm * norm
        count += num_layers * (heads * linear(hidden_size, hidden_size) + linear(hidden_size, hidden_size) + block_norms * norm
                               + linear(hidden_size, intermediate_size) + linear(intermediate_size, hidden_size))
        count += pooler * linear(hidden_size, hidden_size)
        if head == "none":
            return count
        table = vocab_size * hidden_size if head == "untied" or not tie else 0
        return count + head_maps * (linear(hidden_size, hidden_size) + norm) + head_bias * vocab_size + table

    return num_parameters


def parameters_by_powers(vocab_size: int, hidden_size: int, num_layers: int, intermediate_size: int, max_seq_len: int,
                         type_vocab_size: int, head: str) -> float:
    "The same sum in another order, as a float."
    h, i = float(hidden_size), float(intermediate_size)
    heads = {"none": 0.0, "tied": h * h + 3 * h + vocab_size, "untied": h * h + 3 * h + vocab_size * (h + 1)}
    return h * (vocab_size + max_seq_len + type_vocab_size + 2) + num_layers * (4 * h * h + 9 * h + 2 * h * i + i) + heads[head]


NUM_PARAMETERS = Check(
    id="bert.num_parameters",
    name="num_parameters",
    cases=shape_cases,
    reference=parameters_of_torch,
    right=(parameters_variant(), parameters_by_powers),
    wrong=(
        Wrong(parameters_variant(tie=False),
              "With a tied head you count the word table twice. It has two uses and is one matrix: it is the largest part of a small "
              "model, and tying saves it."),
        Wrong(parameters_variant(biases=False),
              "The biases of the linear maps are missing: each has one number for every output."),
        Wrong(parameters_variant(embedding_norm=False),
              "One norm is missing: the sum of the three embeddings is normalised before the first block."),
        Wrong(parameters_variant(block_norms=1),
              "A block has two branches, each with a norm of its own; you count one of them."),
        Wrong(parameters_variant(block_norms=0, embedding_norm=False),
              "The norms are missing, in the embeddings and in the blocks: each has a weight and a bias of hidden_size numbers."),
        Wrong(parameters_variant(norm_vectors=1),
              "A norm has two vectors of hidden_size numbers, a weight and a bias; you count one of them."),
        Wrong(parameters_variant(head_maps=False),
              "Before the head compares a vector with the words, it transforms it: a linear map and a norm, which you leave out."),
        Wrong(parameters_variant(positions=False),
              "Words have a table and so do positions and segments: two of the three are missing."),
        Wrong(parameters_variant(heads=1),
              "Attention has four square maps a layer, not two: query, key, value and output."),
        Wrong(parameters_variant(heads=2),
              "Attention has four square maps a layer, not three: query, key, value and output."),
        Wrong(parameters_variant(head_bias=False),
              "The head has a bias for every word of the vocabulary, tied or not: the tie shares the matrix, not the bias."),
        Wrong(parameters_variant(pooler=True),
              "You count a pooler as well. A model that trains on masked words has none."),
    ),
)


# segment_ids

def pair_cases(rng: np.random.Generator) -> list[Case]:
    "Single texts and pairs in one batch, several special ids, padding, and a batch that is one bare row."
    cases = []
    for batch, seq, sep, pad in ((4, 12, 3, 0), (3, 15, 102, 1), (5, 9, 7, 6)):
        rows, lengths = [], rng.permutation(np.arange(2, (seq - 1) // 2 - 1))
        for number in range(batch):
            first, second = lengths[number % len(lengths)], rng.choice(lengths)
            texts = [int(first)] if number == 0 else [int(first), int(second)]
            row = [2, *(token for length in texts for token in [*rng.integers(200, 300, size=length).tolist(), sep])]
            rows.append(row + [pad] * (seq - len(row)))
        cases.append({"input_ids": torch.tensor(rows)[torch.from_numpy(rng.permutation(batch))], "sep_token_id": sep, "pad_token_id": pad})
    return [*cases, {"input_ids": torch.tensor([[2, int(rng.integers(200, 300)), 3, 3]]), "sep_token_id": 3, "pad_token_id": 0}]


def segments_by_reading(input_ids: Tensor, sep_token_id: int, pad_token_id: int) -> Tensor:
    segments = torch.zeros_like(input_ids)
    for row, ids in enumerate(input_ids.tolist()):
        segment = 0
        for place, token_id in enumerate(ids):
            segments[row, place] = 0 if token_id == pad_token_id else segment
            segment += token_id == sep_token_id
    return segments


def segments_variant(sep_goes_with: str = "its text", padding: int | str = 0, reset: bool = True, dtype: torch.dtype = torch.int64):
    "Segments by running count with one thing done otherwise."

    def segment_ids(input_ids: Tensor, sep_token_id: int, pad_token_id: int) -> Tensor:
        is_sep = (input_ids == sep_token_id).long()
        ended = is_sep.cumsum(1) if reset else is_sep.flatten().cumsum(0).view_as(is_sep)
        ended = ended if sep_goes_with == "the next" else ended - is_sep
        return (ended if padding == "counted" else ended.masked_fill(input_ids == pad_token_id, padding)).to(dtype)

    return segment_ids


def segments_by_place(input_ids: Tensor, sep_token_id: int, pad_token_id: int) -> Tensor:
    first_sep = (input_ids == sep_token_id).int().argmax(1, keepdim=True)
    return ((torch.arange(input_ids.size(1)) > first_sep) & (input_ids != pad_token_id)).long()


def by_the_first_row(input_ids: Tensor, sep_token_id: int, pad_token_id: int) -> Tensor:
    return segments_by_place(input_ids[:1], sep_token_id, -1).expand_as(input_ids).masked_fill(input_ids == pad_token_id, 0)


def up_to_the_second_sep(input_ids: Tensor, sep_token_id: int, pad_token_id: int) -> Tensor:
    return (segments_variant(padding="counted")(input_ids, sep_token_id, pad_token_id) == 1).long()


def one_segment(input_ids: Tensor, sep_token_id: int, pad_token_id: int) -> Tensor:
    return torch.zeros_like(input_ids)


def padding_in_the_second(input_ids: Tensor, sep_token_id: int, pad_token_id: int) -> Tensor:
    return segments_variant(padding="counted")(input_ids, sep_token_id, pad_token_id).clamp(max=1)


SEGMENT_IDS = Check(
    id="bert.segment_ids",
    name="segment_ids",
    cases=pair_cases,
    reference=segments_by_reading,
    right=(segments_variant(), segments_by_place),
    wrong=(
        Wrong(segments_variant(sep_goes_with="the next"),
              "A [SEP] ends its own text, and you count it to the next: the segment may rise only at the token after it."),
        Wrong(segments_variant(sep_goes_with="the next", padding="counted"),
              "Two things: a [SEP] belongs to the text that it ends, and padding belongs to segment 0."),
        Wrong(segments_variant(padding="counted"),
              "After the last [SEP] the count goes on, so padding lands in segment 1 or 2; there is no row 2 in a table of two "
              "segments. Padding belongs to segment 0."),
        Wrong(padding_in_the_second,
              "Padding is in the second segment. Cutting the count off at 1 hides that it went on counting after the last [SEP]: "
              "padding belongs to segment 0."),
        Wrong(segments_variant(reset=False),
              "The count runs on from one row of the batch into the next: each row begins again at segment 0."),
        Wrong(by_the_first_row,
              "The first row's [SEP] decides for all rows: each text ends at a place of its own."),
        Wrong(up_to_the_second_sep,
              "Pairs are right, and the padding behind a single text is in segment 1: no second [SEP] stops it there. Padding belongs to segment 0."),
        Wrong(lambda input_ids, sep_token_id, pad_token_id: segments_variant()(input_ids, sep_token_id, 0),
              "You take 0 for padding. Not every tokenizer pads with 0: pad_token_id says which number it is."),
        Wrong(one_segment,
              "Everything is in segment 0. That is what a model without token_type_ids assumes, and it no longer sees where the second "
              "text begins."),
    ),
)


# sentence_vectors

def encoder_cases(rng: np.random.Generator) -> list[Case]:
    "Small encoders with weights far from calm, and batches in which all rows but one have padding."
    cases = []
    for batch, seq, hidden, heads, layers in ((3, 7, 12, 3, 1), (4, 6, 8, 2, 2), (2, 9, 10, 5, 1)):
        settings = {"vocab_size": 30, "hidden_size": hidden, "num_layers": layers, "num_heads": heads,
                    "intermediate_size": 16, "max_seq_len": 9}
        with torch.device("meta"):
            shapes = {name: weight.shape for name, weight in MicroBert(MicroBertConfig(**settings)).state_dict().items()}
        mask = padded_at_the_end(rng, batch, seq)
        ids = torch.from_numpy(rng.integers(5, 30, size=(batch, seq)))
        cases.append({"settings": settings, "state": {name: normal(rng, *shape, std=0.5) for name, shape in shapes.items()},
                      "input_ids": ids * mask, "attention_mask": mask})
    return cases


def vectors_of_transformers(bert: MicroBert, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    "The encoder of transformers, and everything after it row by row."
    theirs = BertModel(BertConfig(**to_transformers_config(bert.config, "BertModel")), add_pooling_layer=False).eval()
    theirs.load_state_dict(to_transformers_weights(bert, encoder_weight_names(bert.config, False)))
    rows = [theirs(ids[None, :length]).last_hidden_state[0].mean(0)
            for ids, length in zip(input_ids, attention_mask.sum(1).tolist(), strict=True)]
    return torch.stack([row / row.norm() for row in rows])


def vectors_variant(masked: bool = True, real_mean: bool = True, length_one: bool = True, dim: int | tuple[int, ...] = -1):
    "Vectors of texts, with what is wrong in the broken ones."

    def sentence_vectors(bert: MicroBert, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden_states = bert(input_ids, attention_mask if masked else None)
        weight = attention_mask[..., None] if real_mean else torch.ones_like(attention_mask)[..., None]
        vectors = (hidden_states * weight).sum(1) / weight.sum(1)
        return F.normalize(vectors, dim=dim) if length_one else vectors

    return sentence_vectors


@torch.no_grad()
def vectors_one_by_one(bert: MicroBert, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    rows = [bert(ids[mask == 1][None])[0].double().mean(0) for ids, mask in zip(input_ids, attention_mask, strict=True)]
    return torch.stack([row / (row @ row).sqrt() for row in rows]).float()


UNMASKED = "the encoder is not told which tokens are padding, so real tokens look at it"
ALL_PLACES = "the mean is taken over all places, padding too"
WRONG_AXIS = "the vectors are scaled along the batch, so a text's vector depends on the other texts and its length is not 1"
SENTENCE_VECTORS = Check(
    id="bert.sentence_vectors",
    name="sentence_vectors",
    cases=encoder_cases,
    reference=vectors_of_transformers,
    use=lesson_05.with_encoder,
    tolerance=1e-4,  # two encoders, each with float32's rounding through two layers
    right=(vectors_variant(), vectors_one_by_one),
    wrong=(
        Wrong(vectors_variant(masked=False, real_mean=False, dim=0),
              "All three faults are still there. Begin with the padding: where in these three lines could a token that is not real "
              "have a say?"),
        Wrong(vectors_variant(masked=False), f"One fault is left: {UNMASKED}."),
        Wrong(vectors_variant(real_mean=False), f"One fault is left: {ALL_PLACES}."),
        Wrong(vectors_variant(dim=0), f"One fault is left: {WRONG_AXIS}."),
        Wrong(vectors_variant(masked=False, real_mean=False), f"Two faults are left: {UNMASKED}; and {ALL_PLACES}."),
        Wrong(vectors_variant(masked=False, dim=0), f"Two faults are left: {UNMASKED}; and {WRONG_AXIS}."),
        Wrong(vectors_variant(real_mean=False, dim=0), f"Two faults are left: {ALL_PLACES}; and {WRONG_AXIS}."),
        Wrong(lambda bert, input_ids, attention_mask: F.normalize(bert(input_ids, attention_mask)[:, 0], dim=-1),
              "That is the first token's vector, scaled. Asked for is the mean of all real tokens."),
        Wrong(vectors_variant(dim=(0, 1)),
              "All vectors are divided by one number, the length of the whole batch: each is to be scaled to length 1 by its own."),
        Wrong(vectors_variant(length_one=False),
              "Padding is out of it, but the vectors are no longer scaled to length 1: their dot products are not cosines, and long "
              "vectors win every search."),
    ),
)


# MaskedLMHead

def head_cases(rng: np.random.Generator) -> list[Case]:
    "Hidden states of a batch and of a few asked tokens, in two dtypes, some so faint that the norm's eps shows: the usual one, and another."
    cases = []
    for shape, vocab, hidden, dtype, std, settings in (
            ((2, 5), 11, 6, torch.float64, 1.0, {}), ((4,), 9, 8, torch.float32, 1.0, {}), ((3,), 7, 10, torch.float64, 0.01, {}),
            ((2,), 5, 12, torch.float64, 0.01, {"layer_norm_eps": float(rng.uniform(1e-6, 3e-6))})):
        state = {"bias": normal(rng, vocab, dtype=dtype), "dense.weight": normal(rng, hidden, hidden, dtype=dtype),
                 "dense.bias": normal(rng, hidden, dtype=dtype, std=std), "norm.weight": normal(rng, hidden, dtype=dtype),
                 "norm.bias": normal(rng, hidden, dtype=dtype)}
        cases.append({"settings": {"vocab_size": vocab, "hidden_size": hidden, **settings}, "state": state,
                      "hidden_states": normal(rng, *shape, hidden, dtype=dtype, std=std),
                      "word_embeddings": normal(rng, vocab, hidden, dtype=dtype), "upstream": normal(rng, *shape, vocab, dtype=dtype)})
    return cases


def head_variant(activation=F.gelu, order: str = "bend, norm", eps: float | None = None, fresh_bias=torch.zeros, add_bias: bool = True,
                 detached: str = "nothing", own_table: bool = False, learns: str = "bias too"):
    "The head with one thing done otherwise."

    class Head(nn.Module):
        def __init__(self, config: MicroBertConfig):
            super().__init__()
            self.dense = nn.Linear(config.hidden_size, config.hidden_size)
            self.norm = nn.LayerNorm(config.hidden_size, eps=eps or config.layer_norm_eps)
            if learns == "a buffer":
                self.register_buffer("bias", fresh_bias(config.vocab_size))
            else:
                self.bias = nn.Parameter(fresh_bias(config.vocab_size), requires_grad=learns == "bias too")
            if own_table:
                self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

        def transform(self, hidden_states: Tensor) -> Tensor:
            mapped = self.dense(hidden_states)
            return {"bend, norm": lambda: self.norm(activation(mapped)), "norm, bend": lambda: activation(self.norm(mapped)),
                    "bend": lambda: activation(mapped)}[order]()

        def forward(self, hidden_states: Tensor, word_embeddings: Tensor) -> Tensor:
            asked = self.transform(hidden_states.detach() if detached == "hidden states" else hidden_states)
            logits = F.linear(asked.detach() if detached == "transform" else asked, word_embeddings.detach() if detached == "table" else word_embeddings)
            return logits + (self.bias.detach() if detached == "bias" else self.bias) if add_bias else logits

    return Head


class HeadByFormula(nn.Module):
    "The formulas of GELU and of the norm, written out."

    def __init__(self, config: MicroBertConfig):
        super().__init__()
        self.dense, self.norm = nn.Linear(config.hidden_size, config.hidden_size), nn.LayerNorm(config.hidden_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.eps = config.layer_norm_eps

    def transform(self, hidden_states: Tensor) -> Tensor:
        mapped = hidden_states @ self.dense.weight.T + self.dense.bias
        bent = mapped * 0.5 * (1 + torch.erf(mapped / 2 ** 0.5))
        centred = bent - bent.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + self.eps).sqrt() * self.norm.weight + self.norm.bias

    def forward(self, hidden_states: Tensor, word_embeddings: Tensor) -> Tensor:
        return self.transform(hidden_states) @ word_embeddings.T + self.bias


class HeadByEinsum(HeadByFormula):
    "Torch's functions for the transform, a named sum for the comparison."

    def transform(self, hidden_states: Tensor) -> Tensor:
        return F.layer_norm(nn.GELU()(self.dense(hidden_states)), self.norm.normalized_shape, self.norm.weight, self.norm.bias, self.eps)

    def forward(self, hidden_states: Tensor, word_embeddings: Tensor) -> Tensor:
        return torch.einsum("...h,vh->...v", self.transform(hidden_states), word_embeddings).add(self.bias)


def head_wrong(says: str, **otherwise: Any) -> Wrong:
    return Wrong(head_variant(**otherwise), says)


MASKED_LM_HEAD = Check(
    id="bert.masked_lm_head",
    name="MaskedLMHead",
    cases=head_cases,
    reference=HeadByFormula,
    use=lesson_05.head,
    builds="models.bert.MaskedLMHead",
    tolerance=1e-5,  # of float32; the cases in float64 are far from it
    right=(head_variant(), HeadByEinsum),
    wrong=(
        head_wrong("The head has a matrix of its own. Tied, every word learns from every guess; untied, only the words that were read "
                   "do, and the word table is stored twice.", own_table=True),
        head_wrong("The word table is detached: the scores are right, but guessing no longer teaches it anything, and half of the tie "
                   "is gone.", detached="table"),
        head_wrong("The transformed vector is detached: the scores are right, but neither the head's own map nor anything before it learns.",
                   detached="transform"),
        head_wrong("The hidden states are detached: the head learns, and the encoder below it never does.", detached="hidden states"),
        *(head_wrong("The bias gets no gradient, so it stays where it began: add it as the nn.Parameter that it is.", **otherwise)
          for otherwise in ({"detached": "bias"}, {"learns": "not the bias"})),
        head_wrong("The bias is a buffer. It is saved and loaded, but no optimizer is given it, so it never learns: make it an nn.Parameter.",
                   learns="a buffer"),
        head_wrong("The bias of the vocabulary is never added: it is where the head keeps how frequent a word is.",
                   add_bias=False),
        head_wrong("The norm stands before the activation. Published weights want it after: map, bend, normalise.",
                   order="norm, bend"),
        head_wrong("The transform is not normalised: without it the size of a hidden state decides how sure the model is.",
                   order="bend"),
        head_wrong("The activation is the approximation of GELU by tanh. BERT uses the exact one, and published weights expect it.",
                   activation=partial(F.gelu, approximate="tanh")),
        head_wrong("The activation is ReLU: BERT bends with GELU.", activation=F.relu),
        head_wrong("There is no activation: two linear maps in a row are one linear map, and the transform adds next to nothing.",
                   activation=nn.Identity()),
        head_wrong("The norm uses PyTorch's eps of 1e-5 and not the config's: for faint hidden states the logits differ from BERT's.",
                   eps=1e-5),
        head_wrong("The norm's eps is always 1e-12. So it is in most configs, and not in all: read layer_norm_eps.", eps=1e-12),
        head_wrong("The bias starts at random numbers: a fresh model should favour no word, so it starts at zero.",
                   fresh_bias=torch.randn),
    ),
)

CHECKS = (MEAN_POOL, NUM_PARAMETERS, SEGMENT_IDS, SENTENCE_VECTORS, MASKED_LM_HEAD)
