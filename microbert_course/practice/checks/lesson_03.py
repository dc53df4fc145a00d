"""Checks of the exercises on attention."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_03 as uses


def padded(lengths: Sequence[int], seq: int, before: bool = False) -> Tensor:  # (batch, seq) int64, 1 = real
    "An attention mask with its padding after the text, or before it."
    mask = (torch.arange(seq) < torch.tensor(lengths)[:, None]).long()
    return mask.flip(1) if before else mask


# attention.scaled_dot_product


def attention_cases(rng: np.random.Generator) -> list[Case]:
    "No mask, a row that is all padding, causal with padding before the text, one token, coarse numbers, dropout, inputs to refuse."

    def case(batch: int, heads: int, queries: int, keys: int, head_dim: int, dtype: torch.dtype = torch.float32, **others) -> Case:
        sizes = {"query": queries, "key": keys, "value": keys}
        return {name: tensor(rng, batch, heads, size, head_dim, dtype=dtype) for name, size in sizes.items()} | others

    few = int(rng.integers(2, 4))
    return [
        case(2, 3, 4, 7, 5),
        case(3, 2, 5, 5, 4, torch.float64, attention_mask=padded([5, few, 0], 5), upstream=tensor(rng, 3, 2, 5, 4, dtype=torch.float64)),
        case(2, 4, 6, 6, 3, attention_mask=padded([6, few], 6, before=True).bool(), is_causal=True),
        case(1, 2, 1, 1, 3, torch.float64, is_causal=True),
        case(2, 3, 4, 4, 6, torch.bfloat16, attention_mask=padded([few, 0], 4).int()),
        case(2, 4, 32, 32, 6, torch.float64, dropout=float(rng.choice([0.2, 0.3, 0.4]))),
        *(case(2, 1, 3, 3, 4, attention_mask=mask) for mask in (padded([3, 2], 3).double(), padded([2], 3), padded([1, 1], 1))),
        *(case(2, 3, *sizes, 5, is_causal=True) for sizes in ((2, 4), (4, 2))),
        *(case(1, 2, 4, 4, 3, dropout=share) for share in (1.0, -0.1)),
    ]


def refuse(query: Tensor, key: Tensor, attention_mask: Tensor | None, is_causal: bool, dropout: float, accepts: str = "") -> None:
    "Raise what the exercise asks for, except for the one thing accepted."
    batch, num_keys, num_queries = key.size(0), key.size(-2), query.size(-2)
    faults = {"a share of 1": dropout >= 1, "a share below 0": dropout < 0}
    if is_causal:
        faults |= {"fewer queries": num_queries < num_keys, "more queries": num_queries > num_keys}
    if attention_mask is not None:
        rows, length = attention_mask.shape
        faults |= {"floats": attention_mask.is_floating_point(), "any batch": rows != batch, "any length": length != num_keys}
    groups = {"any share": ("a share of 1", "a share below 0"), "unlike numbers": ("fewer queries", "more queries"), "any shape": ("any batch", "any length")}
    if found := [fault for fault, is_there in faults.items() if is_there and fault not in groups.get(accepts, (accepts,))]:
        raise ValueError(found[0])


def hidden_pairs(scores: Tensor, attention_mask: Tensor | None, is_causal: bool, mask: str = "keys", diagonal: int = 0) -> Tensor:
    "True where a query may not look at a key, in a shape that stretches to the scores'."
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + diagonal if is_causal else scores.size(-1))
    if attention_mask is None or mask == "nowhere":
        return future
    padding = attention_mask.bool() ^ (mask != "upside down")
    padding = padding[:, None, :, None] if mask == "queries" else padding[:, None, None, :]
    return padding & future if mask == "either" and is_causal else padding | future


ONE_FOR_ALL = {"by one mask": (0, 1), "by one mask a text": (1,), "by one mask a head": (0,), "whole keys": (2,), "whole queries": (3,)}
"What dropout can share among weights that should each have a coin: these dimensions of (batch, num_heads, num_queries, num_keys)."


def dropped(weights: Tensor, dropout: float, drops: str) -> tuple[Tensor, Tensor]:
    "The weights that mix the values, and those that are returned."
    if drops == "weights":
        weights = F.dropout(weights, dropout)
    elif drops == "in secret":
        return F.dropout(weights, dropout), weights
    elif drops == "without scaling":
        weights = weights * (torch.rand_like(weights) >= dropout)
    elif drops in ONE_FOR_ALL:
        coins = [1 if dim in ONE_FOR_ALL[drops] else size for dim, size in enumerate(weights.shape)]
        weights = weights * F.dropout(weights.new_ones(coins), dropout)
    elif drops == "all but its share" and dropout:
        weights = F.dropout(weights, 1 - dropout)
    return weights, weights


def shares_coins(*same: str) -> Callable[[dict, Case], bool]:
    "Whether something was dropped, but not everything, and the same for all of each of these."

    def seen(output: dict, case: Case) -> bool:
        differs = output["what is dropped differs between"]
        return any(differs.values()) and not any(differs[name] for name in same)

    return seen


WHOLE_KEYS = ("Whole keys are dropped: a key is gone for all queries of a text at once, or for none. Each weight, of one query and one key, "
              "has a coin of its own.")
ONE_MASK = ("One dropout mask serves all texts and heads: what one head forgets, all of them forget, in every text of the batch. Each weight "
            "has a coin of its own.")
ONE_MASK_A_TEXT = "One dropout mask serves all heads of a text: what one head forgets, all of them forget. Each weight has a coin of its own."
ONE_MASK_A_HEAD = "One dropout mask serves all texts of the batch. Each weight has a coin of its own."


def attention_variant(scale: Callable[[Tensor], float] = lambda query: math.sqrt(query.size(-1)), dim: int = -1, mask: str = "keys",
                      diagonal: int = 0, hide: str = "score", nobody: str = "nothing", drops: str = "weights", accepts: str = ""):
    "Attention with one thing done otherwise."

    def attend(query, key, value, attention_mask=None, is_causal=False, dropout=0.0):
        refuse(query, key, attention_mask, is_causal, dropout, accepts)
        scores = query @ key.transpose(-2, -1) / scale(query)
        hidden = hidden_pairs(scores, attention_mask, is_causal, mask, diagonal)
        if hide == "added mask" and attention_mask is not None:
            scores = scores + attention_mask[:, None, None, :]
            hidden = hidden_pairs(scores, None, is_causal)
        bottom = {"nan": -torch.inf, "nan on the way back": -torch.inf}.get(nobody, torch.finfo(scores.dtype).min)
        if nobody == "nan on the way back":
            scores = scores + torch.zeros_like(scores).masked_fill(hidden, bottom)
        elif hide in ("score", "added mask"):
            scores = scores.masked_fill(hidden, bottom)
        elif hide == "score of 0":
            scores = scores.masked_fill(hidden, 0.0)
        weights = (F.dropout(scores, dropout) if drops == "scores" else scores).softmax(dim)
        if nobody in ("nothing", "nan on the way back") and hide in ("score", "weight"):
            weights = weights.masked_fill(hidden, 0.0)
        weights, returned = dropped(weights, max(0.0, dropout), drops)
        return weights @ value, returned

    return attend


def torch_attention(query, key, value, attention_mask=None, is_causal=False, dropout=0.0):
    "PyTorch's own; the weights come out when unit vectors are mixed."
    refuse(query, key, attention_mask, is_causal, dropout)
    seen = torch.ones(query.size(-2), key.size(-2), dtype=torch.bool)
    seen = (seen.tril() if is_causal else seen).expand(key.size(0), 1, -1, -1)
    seen = seen if attention_mask is None else seen & (attention_mask != 0)[:, None, None, :]
    units = torch.eye(key.size(-2), dtype=value.dtype).expand(*key.shape[:2], -1, -1)
    weights = F.dropout(F.scaled_dot_product_attention(query, key, units, seen), dropout)
    return weights @ value if dropout else F.scaled_dot_product_attention(query, key, value, seen), weights


def einsum_attention(query, key, value, attention_mask=None, is_causal=False, dropout=0.0):
    "Minus infinity, its nan taken out again, and dropout by hand."
    refuse(query, key, attention_mask, is_causal, dropout)
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) * query.size(-1) ** -0.5
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask[:, None, None].bool(), -torch.inf)
    if is_causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    weights = scores.softmax(-1).nan_to_num(0.0)
    if dropout:
        weights = weights * torch.bernoulli(torch.full_like(weights, 1 - dropout)) / (1 - dropout)
    return torch.einsum("bhqk,bhkd->bhqd", weights, value), weights


def query_by_query(query, key, value, attention_mask=None, is_causal=False, dropout=0.0):
    "One query after another, over the keys that it may see; in float64 and back."
    refuse(query, key, attention_mask, is_causal, dropout)
    rows = []
    for batch in range(query.size(0)):
        for head in range(query.size(1)):
            for place, asked in enumerate(query[batch, head].double()):
                keys = [j for j in range(place + 1 if is_causal else key.size(-2)) if attention_mask is None or attention_mask[batch, j]]
                scores = key[batch, head, keys].double() @ asked / math.sqrt(query.size(-1))
                row = torch.zeros(key.size(-2), dtype=torch.float64)
                rows.append(row.index_put((torch.tensor(keys, dtype=torch.long),), scores.softmax(0)))
    weights = nn.Dropout(dropout)(torch.stack(rows).view(*query.shape[:3], -1))
    return (weights @ value.double()).to(query.dtype), weights.to(query.dtype)


# attention.join_heads


def heads_cases(rng: np.random.Generator) -> list[Case]:
    cases = []
    sizes = ((2, 5, 6, 3, torch.float32), (3, 4, 10, 2, torch.float64), (1, 7, 4, 4, torch.float32))
    for batch, seq, hidden_size, num_heads, dtype in sizes:
        draw = partial(tensor, rng, dtype=dtype)
        cases.append({"hidden_states": draw(batch, seq, hidden_size), "qkv_weight": draw(3 * hidden_size, hidden_size),
                      "out_weight": draw(hidden_size, hidden_size), "num_heads": num_heads})
    return cases


def heads_variant(split: str = "tokens first", join: str = "tokens first", diagonal: int = 0, scale: Callable[[int], float] | None = None):
    "The causal heads of the exercise with one thing done otherwise."

    def causal_heads(hidden_states: Tensor, qkv_weight: Tensor, out_weight: Tensor, num_heads: int) -> Tensor:
        batch, seq, hidden_size = hidden_states.shape
        projected = (hidden_states @ qkv_weight.T).chunk(3, dim=-1)
        if split == "in one go":
            query, key, value = (part.reshape(batch, num_heads, seq, -1) for part in projected)
        elif split == "head by head":
            query, key, value = torch.cat(projected, dim=-1).reshape(batch, seq, num_heads, 3, -1).permute(3, 0, 2, 1, 4)
        else:
            query, key, value = (part.reshape(batch, seq, num_heads, -1).transpose(1, 2) for part in projected)
        seen = torch.ones(seq, seq, dtype=torch.bool).tril(diagonal)
        context = F.scaled_dot_product_attention(query, key, value, seen, scale=scale and scale(hidden_size))
        order = {"tokens first": (0, 2, 1, 3), "in one go": (0, 1, 2, 3), "slots first": (0, 2, 3, 1), "turned": (0, 1, 3, 2)}[join]
        return context.permute(order).reshape(batch, seq, hidden_size) @ out_weight.T

    return causal_heads


def head_after_head(hidden_states: Tensor, qkv_weight: Tensor, out_weight: Tensor, num_heads: int) -> Tensor:
    "Each head alone, joined by concatenation."
    contexts = []
    for query, key, value in zip(*(part.chunk(num_heads) for part in qkv_weight.chunk(3)), strict=True):
        scores = (hidden_states @ query.T) @ (hidden_states @ key.T).transpose(1, 2) / math.sqrt(query.size(0))
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        contexts.append(scores.softmax(-1) @ (hidden_states @ value.T))
    return torch.cat(contexts, dim=-1) @ out_weight.T


def heads_by_einsum(hidden_states: Tensor, qkv_weight: Tensor, out_weight: Tensor, num_heads: int) -> Tensor:
    "No join at all: the output map is cut instead, and the heads' parts are added."
    query, key, value = torch.einsum("bsi,thdi->tbhsd", hidden_states, qkv_weight.unflatten(0, (3, num_heads, -1)))
    context = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return torch.einsum("bhsd,ohd->bso", context, out_weight.unflatten(1, (num_heads, -1)))


# attention.multi_head


def module_cases(rng: np.random.Generator) -> list[Case]:
    "No mask, a row that is all padding, causal with padding before the text, causal alone, dropout, and masks to refuse."

    def case(batch: int, seq: int, hidden_size: int, num_heads: int, dtype: torch.dtype = torch.float32, is_causal: bool = False,
             trained: bool = True, **others) -> Case:
        draw = partial(tensor, rng, dtype=dtype)
        state = {"qkv.weight": draw(3 * hidden_size, hidden_size) / 2, "qkv.bias": draw(3 * hidden_size),
                 "out.weight": draw(hidden_size, hidden_size), "out.bias": draw(hidden_size)}
        inputs = {"settings": {"hidden_size": hidden_size, "num_heads": num_heads, "is_causal": is_causal}, "state": state,
                  "hidden_states": draw(batch, seq, hidden_size), **others}
        return inputs | {"upstream": draw(batch, seq, hidden_size)} if trained else inputs

    few, width = int(rng.integers(2, 4)), 16
    even = {"qkv.weight": torch.zeros(3 * width, width), "qkv.bias": torch.tensor([0.0, 0.0, 1.0]).repeat_interleave(width),
            "out.weight": torch.eye(width), "out.bias": torch.zeros(width)}  # weights alike and values 1: the context is the share kept
    return [
        case(2, 5, 12, 3),
        case(3, 7, 8, 2, torch.float64, attention_mask=padded([7, few, 0], 7)),
        case(2, 6, 10, 5, torch.float64, is_causal=True, attention_mask=padded([6, few], 6, before=True)),
        case(1, 4, 6, 2, is_causal=True, trained=False),
        {"settings": {"hidden_size": width, "num_heads": 8, "dropout": 1 / 3}, "state": even, "hidden_states": tensor(rng, 2, 32, width)},
        *(case(2, 3, 4, 2, trained=False, attention_mask=mask) for mask in (padded([3, 2], 3).double(), padded([2], 3), padded([1, 1], 1))),
    ]


class Heads(nn.Module):
    "What the exercise gives: the maps and the settings. How heads are cut, attend and are joined is a subclass's."

    def __init__(self, hidden_size: int, num_heads: int, dropout: float = 0.0, is_causal: bool = False):
        super().__init__()
        self.num_heads, self.head_dim, self.dropout, self.is_causal = num_heads, hidden_size // num_heads, dropout, is_causal
        self.qkv, self.out = nn.Linear(hidden_size, 3 * hidden_size), nn.Linear(hidden_size, hidden_size)

    def split_heads(self, hidden_states: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.stack(part.split(self.head_dim, dim=-1), dim=1) for part in self.qkv(hidden_states).chunk(3, dim=-1))

    def seen(self, attention_mask: Tensor | None, batch: int, seq: int, any_shape: bool = False) -> Tensor:  # (batch or 1, 1, seq, seq) bool
        "Who may look at whom."
        seen = torch.ones(1, 1, seq, seq, dtype=torch.bool)
        seen = seen.tril() if self.is_causal else seen
        if attention_mask is None:
            return seen
        if attention_mask.is_floating_point() or attention_mask.shape != (batch, seq) and not any_shape:
            raise ValueError("a mask of floats, or of another shape")
        return seen & attention_mask.bool()[:, None, None, :]


class LoopedHeads(Heads):
    "Query by query, over the keys that it may see."

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        batch, seq, _ = hidden_states.shape
        query, key, value = self.split_heads(hidden_states)
        seen, rows = self.seen(attention_mask, batch, seq).expand(batch, 1, seq, seq), []
        for one in range(batch):
            for place in range(seq):
                keys = seen[one, 0, place].nonzero()[:, 0]
                scores = torch.einsum("hd,hkd->hk", query[one, :, place], key[one][:, keys]) / math.sqrt(self.head_dim)
                weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
                rows.append(torch.einsum("hk,hkd->hd", weights, value[one][:, keys]).flatten())
        return self.out(torch.stack(rows).view(batch, seq, -1))


class SoftmaxHeads(Heads):
    "By matrices, with the smallest number for hidden scores and a dropout module's work done by hand."

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        query, key, value = self.split_heads(hidden_states)
        hidden = ~self.seen(attention_mask, *hidden_states.shape[:2])
        weights = (query @ key.mT / self.head_dim**0.5).masked_fill(hidden, torch.finfo(query.dtype).min).softmax(-1)
        if self.training:
            weights = weights * (torch.rand_like(weights) > self.dropout) / (1 - self.dropout)
        return self.out(torch.cat((weights @ value).unbind(1), dim=-1))


def module_variant(split: str = "query, key, value", join: str = "tokens first", drops: str = "in training", hides: str = "as asked",
                   maps: str = "out", learns: str = "everything"):
    "The module with PyTorch's function inside and one thing done otherwise."

    class Variant(Heads):
        def split_heads(self, hidden_states: Tensor) -> tuple[Tensor, ...]:
            batch, seq, _ = hidden_states.shape
            qkv, heads, head_dim = self.qkv(hidden_states), self.num_heads, self.head_dim
            if split == "in one go":
                return tuple(qkv.reshape(3, batch, heads, seq, head_dim))
            if split == "in one go each":
                return tuple(part.reshape(batch, heads, seq, head_dim) for part in qkv.chunk(3, dim=-1))
            if split == "head by head":
                return tuple(qkv.reshape(batch, seq, heads, 3, head_dim).permute(3, 0, 2, 1, 4))
            return tuple(qkv.reshape(batch, seq, 3, heads, head_dim).permute(2, 0, 3, 1, 4))

        def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            query, key, value = self.split_heads(hidden_states.detach() if learns == "itself alone" else hidden_states)
            if hides == "floats as well" and attention_mask is not None:
                attention_mask = attention_mask.long()
            sizes = hidden_states.shape[:2]
            seen = self.seen(attention_mask, *sizes, hides == "what is stretched")
            if hides == "padding or the future" and attention_mask is not None:
                seen = attention_mask.bool()[:, None, None, :]
            elif hides == "the future or padding" and self.is_causal:
                seen = self.seen(None, *sizes)
            elif hides == "real tokens" and attention_mask is not None:
                seen = self.seen(1 - attention_mask, *sizes) if not attention_mask.is_floating_point() else seen
            if hides == "by minus infinity" or drops in ONE_FOR_ALL:
                bottom = -torch.inf if hides == "by minus infinity" else torch.finfo(query.dtype).min
                weights = (query @ key.mT / math.sqrt(self.head_dim)).masked_fill(~seen, bottom).softmax(-1)
                context = dropped(weights, self.dropout if self.training else 0.0, drops if drops in ONE_FOR_ALL else "weights")[0] @ value
            else:
                dropout = self.dropout if drops == "always" or drops == "in training" and self.training else 0.0
                context = F.scaled_dot_product_attention(query, key, value, seen | ~seen.any(-1, keepdim=True), dropout)
            context = context.transpose(1, 2).flatten(2) if join == "tokens first" else context.reshape(hidden_states.shape)
            context = F.dropout(context, self.dropout, self.training and drops == "the context")
            return self.out(context) if maps == "out" else context

    return Variant


# attention.count_weights


def count_cases(rng: np.random.Generator) -> list[Case]:
    "Both forms, rows that are full, short and empty, and one batch too long for a matrix."
    return [{"lengths": [seq, *rng.integers(2, seq - 1, size=short).tolist(), 0], "seq": seq, "num_heads": heads, "is_causal": is_causal}
            for seq, short, heads, is_causal in ((9, 1, 2, False), (11, 2, 3, True), (2_000_003, 1, 16, True))]


def count_variant(row: Callable[[int, int], int], causal_row: Callable[[int, int], int], heads: bool = True):
    "The count, from what one row of `length` real tokens among `seq` has, in either form."

    def num_weights(lengths: list[int], seq: int, num_heads: int, is_causal: bool) -> int:
        return (num_heads if heads else 1) * sum((causal_row if is_causal else row)(length, seq) for length in lengths)

    return num_weights


def count_by_queries(lengths: list[int], seq: int, num_heads: int, is_causal: bool) -> int:
    "One query after another: how many keys it sees."
    places = np.arange(1, seq + 1)
    return num_heads * sum(int(np.minimum(places, length).sum()) if is_causal else seq * length for length in lengths)


def count_by_corner(lengths: list[int], seq: int, num_heads: int, is_causal: bool) -> int:
    "The whole square or triangle, less what stands over padded keys."
    if not is_causal:
        return num_heads * sum(seq * seq - seq * (seq - length) for length in lengths)
    return num_heads * sum(math.comb(seq + 1, 2) - math.comb(seq - length + 1, 2) for length in lengths)


# attention.sink


def sink_cases(rng: np.random.Generator) -> list[Case]:
    "Ordinary scores, hidden keys and rows with nobody, scores and sinks of either sign that exp cannot hold, one key."
    hidden = tensor(rng, 3, 2, 4, 5, dtype=torch.float64)
    hidden[0, :, :, 3:], hidden[1] = -torch.inf, -torch.inf
    large = 300 * tensor(rng, 1, 5, 3, 6)
    large[:, :, 0] = tensor(rng, 5, 6) - 400  # nobody has much to say
    sink = 300 * tensor(rng, 5)
    sink[:2] = torch.from_numpy(rng.permutation([-1.0, 1.0]) * rng.uniform(400, 900))
    return [{"scores": tensor(rng, 2, 3, 4, 6), "sink": tensor(rng, 3)},
            {"scores": hidden, "sink": tensor(rng, 2, dtype=torch.float64)},
            {"scores": large, "sink": sink},
            {"scores": tensor(rng, 2, 4, 3, 1), "sink": tensor(rng, 4)}]


def sink_by_logarithms(scores: Tensor, sink: Tensor) -> Tensor:
    wide, sink = scores.double(), sink.double()[:, None, None]
    return (wide - torch.logaddexp(wide.logsumexp(-1, keepdim=True), sink)).exp().to(scores.dtype)


def sink_by_largest(scores: Tensor, sink: Tensor) -> Tensor:
    "By hand: the largest of scores and sink is subtracted from all of them."
    sink = sink.view(1, -1, 1, 1)
    largest = torch.maximum(scores.amax(-1, keepdim=True), sink)
    parts = (scores - largest).exp()
    return parts / (parts.sum(-1, keepdim=True) + (sink - largest).exp())


def sink_by_sigmoid(scores: Tensor, sink: Tensor) -> Tensor:
    "The plain softmax times the share that does not go to the sink."
    share = (scores.logsumexp(-1, keepdim=True) - sink[:, None, None]).sigmoid()
    return (scores.softmax(-1) * share).nan_to_num(0.0)


def sink_column(kept: slice = slice(0, -1), shares: bool = False, column: Callable[[Tensor], Tensor] = lambda sink: sink):
    "One more column of scores, softmax over all of them, and the column taken away again; with one thing done otherwise."

    def softmax_with_sink(scores: Tensor, sink: Tensor) -> Tensor:
        more = torch.cat([scores, column(sink).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)], dim=-1)
        weights = more.softmax(-1)[..., kept]
        return weights / weights.sum(-1, keepdim=True) if shares else weights

    return softmax_with_sink


def sink_by_exp(shifted: str):
    "The formula as it stands, or with the largest score (or 0, if that is larger) subtracted from the scores, or from everything."

    def softmax_with_sink(scores: Tensor, sink: Tensor) -> Tensor:
        largest = scores.amax(-1, keepdim=True).clamp(min=0.0 if shifted == "everything, by 0 at least" else -torch.inf)
        parts = (scores if shifted == "nothing" else scores - largest).exp()
        rest = (sink[:, None, None] - largest if "everything" in shifted else sink[:, None, None]).exp()
        return parts / (parts.sum(-1, keepdim=True) + rest)

    return softmax_with_sink


CHECKS = (
    Check(
        id="attention.scaled_dot_product",
        name="scaled_dot_product_attention",
        builds="models.attention.scaled_dot_product_attention",
        cases=attention_cases,
        use=uses.attention,
        reference=torch_attention,
        right=(attention_variant(), einsum_attention, query_by_query),
        wrong=(
            Wrong(attention_variant(scale=lambda query: 1.0),
                  "The scores are not divided by √head_dim: with long vectors they grow, softmax turns into a hard choice, and hardly "
                  "any gradient comes back."),
            Wrong(attention_variant(scale=lambda query: query.size(-1)),
                  "The scores are divided by head_dim and not by its root: long vectors now whisper, and every head looks at everything"
                  " alike."),
            Wrong(attention_variant(dim=-2),
                  "Your columns sum to one, not your rows: the softmax runs over the queries, the wrong axis, so keys share out their "
                  "attention instead of queries spending theirs."),
            Wrong(attention_variant(hide="weight"),
                  "The mask is on the weights, after the softmax: padding is gone from the mixture, but it took its share first, so the"
                  " rows no longer sum to one."),
            Wrong(attention_variant(mask="nowhere"),
                  "Padding is looked at: the attention mask is not used, so the result depends on what stands in empty places."),
            Wrong(attention_variant(mask="upside down"),
                  "The mask is upside down: only padding is looked at. In attention_mask 1 means a real token."),
            Wrong(attention_variant(mask="queries"),
                  "The mask is lined up with the queries: padding may not look, and everybody may look at padding. It is about keys, "
                  "the last dimension of the scores."),
            Wrong(attention_variant(hide="score of 0"),
                  "The scores of hidden keys are set to 0, and softmax gives e⁰ = 1 parts to a score of 0: they need a score that is "
                  "lower than any other, not none."),
            Wrong(attention_variant(hide="added mask"),
                  "The mask is added to the scores as 0 and 1: real tokens get a small bonus, and padding is looked at all the same."),
            Wrong(attention_variant(nobody="nan"),
                  "A query with nobody to look at comes out as nan: the softmax of minus infinities is 0 divided by 0, and one such row"
                  " turns gradients into nan."),
            Wrong(attention_variant(nobody="nan on the way back"),
                  "The context is right, and its gradient is nan: minus infinities were added to the scores, and a query with nobody to"
                  " look at sends 0 divided by 0 back through the sum."),
            Wrong(attention_variant(nobody="everybody"),
                  "A query with nobody to look at gathers an average of what it must not see: equally low scores are an even softmax. "
                  "Its weights and its context should be 0."),
            Wrong(attention_variant(diagonal=1),
                  "The causal mask is off by one: each query sees the key after its own place, which is the very answer that a model of"
                  " the next word is asked for."),
            Wrong(attention_variant(diagonal=-1),
                  "The causal mask is off by one: a query may not see its own place, so the first token has nobody at all."),
            Wrong(attention_variant(diagonal=10**6), "is_causal is not used: queries look at keys after their own place."),
            Wrong(attention_variant(mask="either"),
                  "Padding and the future are joined so that one permission is enough: a key must be real and not in the future, both."),
            Wrong(attention_variant(drops="nothing"), "dropout is not used: no weight is ever dropped."),
            Wrong(attention_variant(drops="scores"),
                  "Dropout is on the scores: a score of 0 is not a weight of 0, so nothing is forgotten, only changed."),
            Wrong(attention_variant(drops="without scaling"),
                  "The weights that stay are not scaled up: in training every context is fainter, by the share that was dropped, than "
                  "in evaluation."),
            Wrong(attention_variant(drops="all but its share"), "dropout is taken for the share that stays: it is the share that goes."),
            Wrong(attention_variant(drops="in secret"),
                  "The weights that you return are not the ones that mixed the values: dropout came in between."),
            Wrong(attention_variant(drops="whole keys"), WHOLE_KEYS, shares_coins("queries")),
            Wrong(attention_variant(drops="whole queries"),
                  "Whole queries are dropped: some gather nothing, others everything. Each weight, of one query and one key, has a coin of "
                  "its own.", shares_coins("keys")),
            Wrong(attention_variant(drops="by one mask"), ONE_MASK, shares_coins("texts", "heads")),
            Wrong(attention_variant(drops="by one mask a text"), ONE_MASK_A_TEXT, shares_coins("heads")),
            Wrong(attention_variant(drops="by one mask a head"), ONE_MASK_A_HEAD, shares_coins("texts")),
            Wrong(attention_variant(accepts="floats"),
                  "A mask of floats is accepted: elsewhere such masks are added to the scores, their 0 means “look here”, and yours "
                  "would read it backwards without a word."),
            *(Wrong(attention_variant(accepts=accepts),
                    "A mask of another shape than (batch, num_keys) is accepted and stretched: one row's padding then counts for the "
                    "whole batch, or one place's for the whole row.") for accepts in ("any shape", "any batch", "any length")),
            *(Wrong(attention_variant(accepts=accepts),
                    "is_causal is accepted with another number of queries than of keys, more or fewer, where nobody can know which place the first "
                    "query stands at.") for accepts in ("unlike numbers", "fewer queries", "more queries")),
            *(Wrong(attention_variant(accepts=accepts),
                    "A dropout of 1 is accepted: it leaves no weight standing, and should be refused at the door.")
              for accepts in ("any share", "a share of 1")),
            Wrong(attention_variant(accepts="a share below 0"),
                  "A dropout below 0 is accepted: it is no share of anything, and should be refused at the door."),
        ),
    ),
    Check(
        id="attention.join_heads",
        name="causal_heads",
        cases=heads_cases,
        reference=head_after_head,
        tolerance=1e-5,
        right=(heads_variant(), heads_by_einsum),
        wrong=(
            Wrong(heads_variant(join="in one go"),
                  "The heads are still joined in an order in which they do not lie: a row of the result holds one head at several "
                  "places, some of them in the future, instead of one place in all heads."),
            Wrong(heads_variant(split="in one go", join="in one go"),
                  "Now the heads are cut wrongly as well, so that cutting and joining undo each other: shapes and order look right, but"
                  " a “place” of a head holds pieces of several tokens."),
            Wrong(heads_variant(split="in one go"),
                  "The joining is right and the cutting is not any more: the heads' places are no longer tokens, and the causal mask "
                  "forbids the wrong things."),
            Wrong(heads_variant(split="head by head"),
                  "The rows of qkv_weight are read head by head, as query, key and value of each. They make all queries first, then all keys, then "
                  "all values."),
            Wrong(heads_variant(scale=lambda hidden_size: 1.0), "The scores are not divided by √head_dim any more."),
            Wrong(heads_variant(scale=lambda hidden_size: hidden_size**-0.5),
                  "The scores are divided by the root of the hidden size: each head's dot product is over its own head_dim slots alone."),
            Wrong(heads_variant(join="slots first"),
                  "No future leaks, but the slots of all heads are interleaved: the output map expects the whole of head 0 first, then "
                  "head 1, so the weights of a trained model would not fit."),
            Wrong(heads_variant(join="turned"),
                  "Two dimensions change places, but not the right two: the token's place must come before its head."),
            Wrong(heads_variant(join="in one go", diagonal=-1),
                  "A stricter mask hides the symptom, not its cause: no token sees itself any more, and the heads are still joined in "
                  "the wrong order."),
            Wrong(heads_variant(diagonal=10**6), "The causal mask is gone: every token sees the whole row."),
        ),
    ),
    Check(
        id="attention.multi_head",
        name="MultiHeadAttention",
        builds="models.attention.MultiHeadAttention",
        cases=module_cases,
        use=uses.multi_head,
        reference=LoopedHeads,
        tolerance=3e-5,
        right=(module_variant(), SoftmaxHeads),
        wrong=(
            Wrong(module_variant(split="head by head"),
                  "The output of qkv is cut head by head into query, key and value: in this module all queries come first, then all "
                  "keys, then all values, and saved weights rely on it."),
            Wrong(module_variant(split="in one go"),
                  "The heads are cut with one reshape to (3, batch, num_heads, seq, head_dim): the shape is right, and what lies in it "
                  "are pieces of other tokens, even of other rows."),
            Wrong(module_variant(split="in one go each"),
                  "Query, key and value are cut straight to (batch, num_heads, seq, head_dim): a head's places are then pieces of a few"
                  " tokens, not one piece of each."),
            Wrong(module_variant(join="in one go"),
                  "The heads are joined in an order in which they do not lie: each token of the result holds one head at several "
                  "places."),
            Wrong(module_variant(maps="nothing"), "The output map is not used: the heads stay side by side and never mix."),
            Wrong(module_variant(drops="always"), "Dropout goes on after eval(): the same input gives another output every time."),
            Wrong(module_variant(drops="never"), "dropout is not used: in training no weight is ever dropped."),
            Wrong(module_variant(drops="the context"),
                  "Dropout is on the context and not on the attention weights: it switches off slots of a token instead of neighbours."),
            Wrong(module_variant(drops="whole keys"), WHOLE_KEYS, shares_coins("queries")),
            Wrong(module_variant(drops="by one mask"), ONE_MASK, shares_coins("texts", "heads")),
            Wrong(module_variant(drops="by one mask a text"), ONE_MASK_A_TEXT, shares_coins("heads")),
            Wrong(module_variant(drops="by one mask a head"), ONE_MASK_A_HEAD, shares_coins("texts")),
            Wrong(module_variant(hides="padding or the future"),
                  "Where a mask is given, the causal one is forgotten: tokens see the future as soon as a batch has padding."),
            Wrong(module_variant(hides="the future or padding"),
                  "A causal module forgets about padding: tokens of a row that begins with padding look at it."),
            Wrong(module_variant(hides="real tokens"),
                  "The mask is upside down: tokens look at padding. In attention_mask 1 means a real token, and in PyTorch's function "
                  "True means that a key may be looked at."),
            Wrong(module_variant(hides="by minus infinity"),
                  "A token with nobody to look at comes out as nan: the softmax of minus infinities is 0 divided by 0, and in the "
                  "backward pass it spreads to all weights."),
            Wrong(module_variant(hides="floats as well"),
                  "A mask of floats is accepted: elsewhere such masks are added to the scores, and yours would read them backwards "
                  "without a word."),
            Wrong(module_variant(hides="what is stretched"),
                  "A mask of another shape than (batch, seq) is accepted and stretched: one row's padding then counts for the whole batch, or one "
                  "place's for the whole row."),
            Wrong(module_variant(learns="itself alone"),
                  "No gradient reaches the hidden states: this module learns, and none of those before it ever does."),
        ),
    ),
    Check(
        id="attention.count_weights",
        name="num_weights",
        cases=count_cases,
        reference=count_by_queries,
        right=(count_by_corner, count_variant(lambda n, seq: n * seq, lambda n, seq: n * (n + 1) // 2 + n * (seq - n)),
               count_variant(lambda n, seq: n * seq, lambda n, seq: n * seq - n * (n - 1) // 2)),
        wrong=(
            Wrong(count_variant(lambda n, seq: n * n, lambda n, seq: n * (n + 1) // 2),
                  "The queries of padded places are missing: padding is not looked at, but it looks, and its rows have weights like any"
                  " others."),
            Wrong(count_variant(lambda n, seq: n * seq, lambda n, seq: n * seq),
                  "Your causal count has no triangle: the first query sees one key, the second two."),
            Wrong(count_variant(lambda n, seq: n * seq, lambda n, seq: n * (n - 1) // 2 + n * (seq - n)),
                  "Your triangle has no diagonal: every token sees itself."),
            Wrong(count_variant(lambda n, seq: n * seq, lambda n, seq: n * seq // 2),
                  "Causal is not simply half: the diagonal belongs to it, and the queries behind the text see all of the text."),
            Wrong(count_variant(lambda n, seq: seq * seq, lambda n, seq: seq * (seq + 1) // 2),
                  "Padding is counted as if it could be looked at: its columns are zero in every row."),
            Wrong(count_variant(lambda n, seq: n * seq, lambda n, seq: n * (n + 1) // 2 + n * (seq - n), heads=False),
                  "Every head has weights of its own: you counted one head."),
            Wrong(count_variant(lambda n, seq: n * seq, lambda n, seq: n * (n + 1) // 2),
                  "In the causal form the queries behind the text are missing: they are padding themselves, and they see all of the "
                  "text."),
        ),
    ),
    Check(
        id="attention.sink",
        name="softmax_with_sink",
        cases=sink_cases,
        reference=sink_by_logarithms,
        tolerance=2e-4,  # scores of a thousand are rounded to 1e-4 in float32, and exp makes that a share
        right=(sink_column(), sink_by_largest, sink_by_sigmoid),
        wrong=(
            Wrong(sink_by_exp("nothing"),
                  "Scores of some hundreds overflow: their exponentials are inf, and inf divided by inf is nan. Subtract something "
                  "first, from everything that meets in the sum."),
            Wrong(sink_by_exp("scores"),
                  "The largest score is subtracted from the scores and not from the sink: both stand in one sum, so both must shrink by"
                  " the same factor."),
            Wrong(sink_by_exp("everything"),
                  "A row that is hidden from end to end comes out as nan: its largest score is −inf, and −inf less −inf is no number. "
                  "Something finite stands in every sum."),
            Wrong(sink_by_exp("everything, by 0 at least"),
                  "Scores and a sink that all lie far below 0 come out as nan: you subtract 0 there, each exponential is rounded to 0, and 0 "
                  "divided by 0 is no number. Subtract the largest of all that meet in the sum."),
            Wrong(lambda scores, sink: scores.softmax(-1),
                  "The sink takes nothing: your rows still sum to one, so a head still cannot say “none of you”."),
            Wrong(sink_column(shares=True),
                  "After the sink has taken its share you divide by what is left: that gives it all back, and the rows sum to one."),
            Wrong(sink_column(kept=slice(1, None)),
                  "The wrong column was taken away: the sink is still among your weights, and the first key is not."),
            Wrong(sink_column(kept=slice(None)),
                  "The sink's column is still there: it has no value to mix, so the weights have one column too many."),
            Wrong(sink_column(column=torch.zeros_like),
                  "The sink counts as 1 whatever its logit is: e⁰. Here each head has learned its own."),
            Wrong(sink_column(column=torch.exp), "The sink is a logit, like a score: you took the exponential twice."),
            Wrong(sink_column(column=lambda sink: sink.flip(0)),
                  "The sinks sit on the wrong heads: the n-th number belongs to head n, dimension 1 of the scores."),
        ),
    ),
)
