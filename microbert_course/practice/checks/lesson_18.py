"""Checks of the exercises on a decoder."""

import math
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_18

# 18.1: keys to share


def attention_cases(rng: np.random.Generator) -> list[Case]:
    "Groups of one to three, one query alone, causal rows, a mask that is a row's, everybody's or both, gradients, float64; all weights dropped, or every other one."
    cases = []
    for batch, num_kv_heads, group_size, num_queries, num_keys, head_dim, kind in (
            (1, 2, 3, 4, 4, 5, "causal"), (2, 3, 2, 1, 5, 4, "both"), (2, 2, 2, 3, 6, 4, "both"), (2, 1, 2, 3, 5, 4, "row"), (3, 2, 1, 2, 4, 6, "everybody"),
            (1, 3, 1, 2, 4, 6, "none"), (3, 1, 3, 2, 5, 4, "none"), (2, 2, 2, 3, 4, 6, "float64"), (2, 2, 2, 3, 5, 4, "dropped"), (2, 2, 2, 8, 1, 4, "some")):
        dtype = torch.float64 if kind == "float64" else torch.float32
        query = tensor(rng, batch, num_kv_heads * group_size, num_queries, head_dim, dtype=dtype)
        key, value = (tensor(rng, batch, num_kv_heads, num_keys, head_dim, dtype=dtype) for _ in range(2))
        case = {"query": query, "key": key, "value": value}
        if kind == "causal":
            case |= {"is_causal": True, "upstream": tensor(rng, *query.shape)}
        if kind in ("row", "everybody", "both"):
            may_look = torch.from_numpy(rng.random((1 if kind == "everybody" else batch, 1, 1 if kind == "row" else num_queries, num_keys)) < 0.6)
            may_look[..., 0], may_look[..., -1] = True, False
            case["may_look"] = may_look
        if kind in ("dropped", "some"):
            case["dropout"] = 1.0 if kind == "dropped" else 0.5
        cases.append(case)
    return cases


def attention_variant(sharing: str = "neighbours", scale: str = "root", mask: str = "used", causal: bool = True, values: str = "shared",
                      drops: str = "weights", dtype: torch.dtype | None = None):
    "Shared keys with some things done otherwise."

    def attention(query: Tensor, key: Tensor, value: Tensor, may_look: Tensor | None = None, dropout: float = 0.0, is_causal: bool = False) -> Tensor:
        num_kv_heads, group_size = key.size(1), query.size(1) // key.size(1)
        contexts = []
        for head in range(query.size(1)):
            at = {"neighbours": head // group_size, "in turns": head % num_kv_heads, "the first": 0}[sharing]
            of_value = {"shared": at, "the first": 0}[values]
            scores = query[:, head] @ key[:, at].mT / {"root": math.sqrt(query.size(-1)), "none": 1.0, "of 4": 2.0}[scale]
            if is_causal and causal:
                scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
            if may_look is not None and mask != "ignored":
                if mask == "spelled out":
                    may_look = may_look.view(query.size(0), 1, *scores.shape[1:])
                scores = scores.masked_fill(may_look[:, 0] if mask == "turned round" else ~may_look[:, 0], -math.inf)
            context = F.dropout(scores.softmax(dim=-1), dropout if drops == "weights" else 0.0) @ value[:, of_value]
            contexts.append(F.dropout(context, dropout) if drops == "context" else context)
        return torch.stack(contexts, dim=1).to(dtype or query.dtype)

    return attention


def attention_of_torch(query: Tensor, key: Tensor, value: Tensor, may_look: Tensor | None = None, dropout: float = 0.0, is_causal: bool = False) -> Tensor:
    "PyTorch's own."
    return F.scaled_dot_product_attention(query, key, value, may_look, dropout, is_causal, enable_gqa=True)


def attention_by_groups(query: Tensor, key: Tensor, value: Tensor, may_look: Tensor | None = None, dropout: float = 0.0, is_causal: bool = False) -> Tensor:
    "A dimension more for the group, along which keys and values stretch."
    grouped = query.unflatten(1, (key.size(1), -1))                                # (batch, num_kv_heads, group, num_queries, head_dim)
    scores = grouped @ key.unsqueeze(2).mT / math.sqrt(query.size(-1))
    if is_causal:
        may_look = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()[None, None]
    if may_look is not None:
        scores = scores.masked_fill(~may_look.unsqueeze(2), -math.inf)
    return (F.dropout(scores.softmax(dim=-1), dropout) @ value.unsqueeze(2)).flatten(1, 2)


# 18.2: the nucleus


def nucleus_cases(rng: np.random.Generator) -> list[Case]:
    "A share that the first token has alone, middling ones, everything, both dtypes; never within rounding of a sum."
    cases = []
    for batch, vocab, low, high in ((1, 4, 0.55, 0.8), (2, 5, 0.02, 0.1), (3, 7, 0.3, 0.7), (2, 9, 0.8, 0.95), (1, 6, 1.0, 1.0)):
        dtype = torch.float64 if batch == 3 else torch.float32
        while True:
            scores, top_p = 1.5 * tensor(rng, batch, vocab, dtype=dtype), float(rng.uniform(low, high))
            sums = scores.sort(dim=-1, descending=True).values.softmax(dim=-1).cumsum(dim=-1)
            if top_p == 1 or ((sums - top_p).abs().min() > 1e-3 and all(row.argsort(descending=True).tolist() != list(range(vocab)) for row in scores)):
                break
        cases.append({"scores": scores, "top_p": top_p})
    return cases


def nucleus_variant(edge: str = "belongs", outside: float = -math.inf, direction: str = "highest"):
    "The nucleus with some things done otherwise."

    def nucleus(scores: Tensor, top_p: float) -> Tensor:
        kept = torch.zeros_like(scores, dtype=torch.bool)
        for row in range(len(scores)):
            ranked = scores[row].argsort(descending=direction == "highest")
            sums = [0.0, *scores[row].softmax(dim=-1)[ranked].cumsum(dim=-1).tolist()]  # before each token; the last one: of all
            for place, token in enumerate(ranked):
                reached = {"belongs": sums[place], "left out": sums[place + 1], "one more": sums[max(0, place - 1)]}[edge]
                kept[row, token] = reached < top_p or place == 0 or top_p == 1
        return scores.masked_fill(~kept, outside)

    return nucleus


def nucleus_as_found(scores: Tensor, top_p: float) -> Tensor:
    "Both faults, as the exercise shows them."
    together = scores.sort(dim=-1, descending=True).values.softmax(dim=-1).cumsum(dim=-1)
    return scores.masked_fill(together >= top_p, -math.inf)


def nucleus_unmended_edge(scores: Tensor, top_p: float) -> Tensor:
    "The order mended, the edge as found."
    highest, order = scores.sort(dim=-1, descending=True)
    is_outside = highest.softmax(dim=-1).cumsum(dim=-1) >= top_p
    return scores.masked_fill(torch.zeros_like(is_outside).scatter(-1, order, is_outside), -math.inf)


def nucleus_unmended_order(scores: Tensor, top_p: float) -> Tensor:
    "The edge mended, the order as found."
    probabilities = scores.sort(dim=-1, descending=True).values.softmax(dim=-1)
    return scores.masked_fill(probabilities.cumsum(dim=-1) - probabilities >= top_p, -math.inf)


def nucleus_by_gather(scores: Tensor, top_p: float) -> Tensor:
    "Each token looks its own place up."
    highest, order = scores.sort(dim=-1, descending=True)
    probabilities = highest.softmax(dim=-1)
    is_inside = (probabilities.cumsum(dim=-1) - probabilities < top_p).gather(-1, order.argsort(dim=-1))
    return torch.where(is_inside, scores, torch.tensor(-math.inf))


def nucleus_of_transformers(scores: Tensor, top_p: float) -> Tensor:
    "From the other end, as TopPLogitsWarper does."
    lowest, order = scores.sort(dim=-1)
    is_outside = lowest.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    is_outside[:, -1] = False
    return scores.masked_fill(is_outside.scatter(1, order, is_outside), -math.inf)


# 18.3: beam search


def search_cases(rng: np.random.Generator) -> list[Case]:
    """One beam, several, as many as tokens, one step, both dtypes; once the search misses a text that is better than those it finds.

    Never two texts of one score where it decides: 0, 0, 1, 0 and 0, 1, 0, 0 make the same steps, and which comes first is a matter of rounding."""
    cases = []
    for vocab, num_beams, num_tokens in ((3, 2, 2), (4, 1, 3), (5, 3, 4), (4, 4, 3), (6, 2, 1), (5, 3, 5)):
        while True:
            log_probs = (2 * tensor(rng, vocab, vocab, dtype=torch.float32 if num_beams == 4 else torch.float64)).log_softmax(dim=-1)
            case = {"log_probs": log_probs, "first": int(rng.integers(vocab)), "num_beams": num_beams, "num_tokens": num_tokens}
            if is_clear(**case) and (num_beams > 1 or not torch.equal(search_by_tensors(**case)[0], search_variant(width="all")(**case)[0])):
                break
        cases.append(case)
    return cases


def is_clear(log_probs: Tensor, first: int, num_beams: int, num_tokens: int) -> bool:
    "Whether in every step the texts that are kept, and the best one that is not, have scores well apart."
    for step in range(num_tokens):
        texts, scores = search_by_tensors(log_probs, first, num_beams, step)
        best = (scores.unsqueeze(1) + log_probs[texts[:, -1]]).flatten().sort(descending=True).values[: num_beams + 1]
        if (best[:-1] - best[1:] < 1e-3).any():
            return False
    return True


def search_variant(score: str = "sum", pool: str = "all", past: str = "parents", width: str = "asked", found: str = "all", order: str = "best first"):
    "The search with some things done otherwise."

    def search(log_probs: Tensor, first: int, num_beams: int, num_tokens: int) -> tuple[Tensor, Tensor]:
        beams = [([first], 0.0)]
        num_kept = {"asked": num_beams, "greedy": 1, "all": None}[width]
        for _ in range(num_tokens):
            longer = []
            for at, (text, so_far) in enumerate(beams):
                for token, step in enumerate(log_probs[text[-1]].tolist()):
                    total = {"sum": so_far + step, "last": step, "probabilities": so_far + math.exp(step)}[score]
                    longer.append((text + [token], total, at))
            longer.sort(key=lambda one: -one[1])
            if pool == "each" and len(beams) > 1:  # every text keeps its own best continuation
                longer = [next(one for one in longer if one[2] == at) for at in range(len(beams))]
            kept = longer[:num_kept]
            if past == "own" and len(beams) == num_kept:  # the new tokens behind the texts that stood in those rows
                kept = [(beams[place][0] + [one[0][-1]], one[1], place) for place, one in enumerate(kept)]
            beams = [(text, total) for text, total, _ in kept]
        beams.sort(key=lambda one: one[1] if order == "worst first" else -one[1])
        if width != "asked":
            beams = (beams * num_beams)[:num_beams]
        return torch.tensor([text for text, _ in beams]), torch.tensor([total for _, total in beams], dtype=log_probs.dtype)

    return search


def search_by_tensors(log_probs: Tensor, first: int, num_beams: int, num_tokens: int) -> tuple[Tensor, Tensor]:
    "All continuations as one table a step."
    texts, scores = torch.full((1, 1), first), torch.zeros(1, dtype=log_probs.dtype)
    for _ in range(num_tokens):
        table = scores.unsqueeze(1) + log_probs[texts[:, -1]]
        order = table.flatten().argsort(descending=True)[:num_beams]
        texts = torch.cat([texts[order // table.size(1)], (order % table.size(1)).unsqueeze(1)], dim=1)
        scores = table.flatten()[order]
    return texts, scores


def search_by_products(log_probs: Tensor, first: int, num_beams: int, num_tokens: int) -> tuple[Tensor, Tensor]:
    "Texts as tuples in a dict with their scores."
    beams = {(first,): 0.0}
    for _ in range(num_tokens):
        longer = {(*text, token): beams[text] + log_probs[text[-1], token].item() for text, token in product(beams, range(len(log_probs)))}
        beams = dict(sorted(longer.items(), key=lambda item: item[1], reverse=True)[:num_beams])
    return torch.tensor(list(beams)), torch.tensor(list(beams.values()), dtype=log_probs.dtype)


CHECKS = (
    Check(
        id="gpt.grouped_attention",
        name="grouped_attention",
        builds="models.gpt.grouped_attention",
        cases=attention_cases,
        use=lesson_18.attention,
        reference=attention_of_torch,
        right=(attention_variant(), attention_by_groups),
        tolerance=1e-5,
        wrong=(
            Wrong(attention_variant(sharing="in turns"),
                  "Your query heads take turns: 0, 1, 0, 1. Neighbours should share: the first group of query heads has the first key head."),
            Wrong(attention_variant(sharing="the first"), "All your query heads look at the first key head. The others are never read."),
            Wrong(attention_variant(values="the first"), "The keys are shared rightly, and the values all come from the first value head."),
            Wrong(attention_variant(scale="none"), "The scores are not divided by the root of head_dim, as lesson 03 does: the softmax becomes too hard."),
            Wrong(attention_variant(scale="of 4"), "The scores are divided by 2 whatever head_dim is: it is the root of head_dim that they are divided by."),
            Wrong(attention_variant(dtype=torch.float32), "You answer in float32 whatever the dtype of `query` is."),
            Wrong(attention_variant(mask="spelled out"),
                  "`may_look` need not have the full shape: with a 1 for the batch or for the queries it holds for all of them, so let it stretch."),
            Wrong(attention_variant(mask="ignored"), "`may_look` is not used: your queries look at keys that they may not see."),
            Wrong(attention_variant(mask="turned round"), "`may_look` is read the wrong way round: True means that the key may be looked at."),
            Wrong(attention_variant(causal=False), "`is_causal` is not used: your queries see the keys after their own place, the future."),
            Wrong(attention_variant(drops="nothing"), "`dropout` is not handed on: a model that trains with your attention drops no weight, whatever it is told."),
            Wrong(attention_variant(drops="context"),
                  "You drop numbers of the gathered vectors. What is dropped are the weights: a query that drops a key hears nothing of all its value."),
        ),
    ),
    Check(
        id="gpt.nucleus",
        name="mended_nucleus",
        cases=nucleus_cases,
        reference=nucleus_of_transformers,
        right=(nucleus_variant(), nucleus_by_gather),
        wrong=(
            Wrong(nucleus_as_found, "This is still the nucleus as you found it: both faults are in."),
            Wrong(nucleus_unmended_edge,
                  "The order is mended. Still, the token with which the share is reached is thrown away, and where the first one reaches it alone, everything."),
            Wrong(nucleus_unmended_order,
                  "The edge is mended. Still, sorted places are used as if they were tokens: the mask must be brought back into the order of the vocabulary."),
            Wrong(nucleus_variant(edge="left out"),
                  "The first token always stays now, but otherwise the token with which the share is reached is still thrown away: it belongs to the nucleus."),
            Wrong(nucleus_variant(edge="one more"),
                  "Your nucleus holds one token too many: it ends with the token that reaches the share, not with the one after it."),
            Wrong(nucleus_variant(outside=0.0),
                  "Outside you write 0, and a score of 0 is a probability like any other. Minus infinity becomes 0 in the softmax."),
            Wrong(nucleus_variant(outside=-1e9),
                  "Outside you write a very low score, which is not minus infinity. In the softmax they are alike, and whoever asks which tokens are left finds all.",
                  lambda scores, case: bool(scores.isfinite().all() and scores.min() < -1e3)),
            Wrong(nucleus_variant(direction="lowest"), "You sort the other way round and keep the least probable tokens."),
        ),
    ),
    Check(
        id="gpt.beam_search",
        name="beam_search",
        cases=search_cases,
        reference=search_by_products,
        right=(search_variant(), search_by_tensors),
        tolerance=1e-5,
        wrong=(
            Wrong(search_variant(width="greedy"),
                  "All your texts are the greedy one. Either only the single best continuation is kept in each step, or you begin with several copies of the "
                  "same text, which all go on alike."),
            Wrong(search_variant(width="all"),
                  "You find better texts than a search of this width does: it keeps `num_beams` texts in every step, and only their continuations are looked at. "
                  "To look at all texts takes ever more time with each token."),
            Wrong(search_variant(score="last"),
                  "Your texts are ranked by their last token alone. The score of a text is the sum over all its tokens: add what it had so far."),
            Wrong(search_variant(score="probabilities"),
                  "You add probabilities. The probability of a text is their product, so it is their logarithms that are added."),
            Wrong(search_variant(pool="each"),
                  "Each of your texts keeps its own best continuation. The best of *all* continuations should stay: a good text may have two heirs and a bad one none."),
            Wrong(search_variant(past="own"),
                  "The new tokens are right and stand behind the wrong texts: a continuation must take its own past with it."),
            Wrong(search_variant(order="worst first"), "The texts are right, and the best one is the last: it should come first."),
        ),
    ),
)
