"""Checks of the exercises on experts."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from microbert_course.models.experts import expert_model
from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_22

# 22.1: the gate


def routing_cases(rng: np.random.Generator) -> list[Case]:
    "Normalised and plain, one expert a token and all of them; gradients of both kinds."
    cases = []
    for num_tokens, num_experts, top_k, normalize in ((4, 6, 2, True), (5, 3, 1, False), (3, 5, 3, False), (1, 2, 1, True), (6, 4, 4, True)):
        cases.append({"logits": 2 * tensor(rng, num_tokens, num_experts), "top_k": top_k, "normalize": normalize})
    for case in (cases[0], cases[2]):
        cases.append({**case, "logits": case["logits"].clone(), "upstream": tensor(rng, len(case["logits"]), case["top_k"])})
    return cases


def routing_by_sorting(logits: Tensor, top_k: int, normalize: bool = True) -> tuple[Tensor, Tensor]:
    "Exponentials, sorted."
    powers = (logits - logits.amax(-1, keepdim=True)).exp()
    experts = logits.argsort(-1, descending=True)[:, :top_k]
    chosen = powers.gather(-1, experts)
    return chosen / (chosen if normalize else powers).sum(-1, keepdim=True), experts


def routing_of_chosen(logits: Tensor, top_k: int, normalize: bool = True) -> tuple[Tensor, Tensor]:
    "A softmax over the chosen scores, or the logarithms' way."
    values, experts = torch.topk(logits, top_k)
    if normalize:
        return F.softmax(values, -1), experts
    return (values - logits.logsumexp(-1, keepdim=True)).exp(), experts


def routing_variant(normalizes: str = "as asked", score: str = "softmax", order: str = "falling", largest: bool = True, keeps_gradient: bool = True):
    "The gate with one thing done otherwise."

    def route(logits: Tensor, top_k: int, normalize: bool = True) -> tuple[Tensor, Tensor]:
        probabilities = {"softmax": logits.softmax(-1), "twice": logits.softmax(-1), "over tokens": logits.softmax(0), "scores": logits}[score]
        weights, experts = probabilities.topk(top_k, -1, largest=largest)
        if order == "by number":
            experts, places = experts.sort(-1)
            weights = weights.gather(-1, places)
        if {"as asked": normalize, "always": True, "never": False, "other way": not normalize}[normalizes]:
            weights = weights.softmax(-1) if score == "twice" else weights / weights.sum(-1, keepdim=True)
        return weights if keeps_gradient else weights.detach(), experts

    return route


# 22.2: the balance loss


def balance_cases(rng: np.random.Generator) -> list[Case]:
    "One request a token and several, of experts that are not always the likeliest; one that nobody asks; padding in the middle and none."
    cases = []
    for num_tokens, num_experts, top_k, padding in ((6, 4, 2, (1, 4)), (5, 3, 1, (0,)), (7, 5, 3, (2, 5, 6)), (4, 6, 2, ()), (3, 2, 1, ())):
        is_real = torch.ones(num_tokens, dtype=torch.bool)
        is_real[list(padding)] = False
        is_even = True
        while is_even:  # equal shares have no gradient, and rounding would decide what a nothing should be
            logits = 2 * tensor(rng, num_tokens, num_experts)
            experts = (logits + 3 * tensor(rng, num_tokens, num_experts))[:, : num_experts - (top_k == 3)].topk(top_k).indices
            is_even = len(set(experts[is_real].flatten().bincount(minlength=num_experts).tolist())) == 1
        cases.append({"logits": logits, "experts": experts, "is_real": is_real})
    return cases


def balance_variant(likes: str = "probabilities", padding: str = "left out", shares_of: str = "requests", scale: bool = True, kept: str = "both",
                    asked_by: str = "experts"):
    "The loss with some things done otherwise; as found, with three of them."

    def loss(logits: Tensor, experts: Tensor, is_real: Tensor) -> Tensor:
        num_tokens, num_experts = logits.shape
        if asked_by == "scores":
            experts = logits.topk(experts.size(1)).indices
        weight = is_real.to(logits.dtype) if padding == "left out" else torch.ones_like(logits[:, 0])
        count = weight.sum() if padding != "in the count" else num_tokens
        asked = F.one_hot(experts, -1 if asked_by == "those asked" else num_experts).sum(1).to(logits.dtype)
        if padding == "in the count":
            weight = is_real.to(logits.dtype)
        requests = count * experts.size(1) if shares_of == "requests" else count
        shares = weight @ asked / requests
        probabilities = logits.softmax(-1)
        kind = {"probabilities": probabilities, "choices": F.one_hot(probabilities.argmax(-1), num_experts).to(logits.dtype),
                "requests": asked / experts.size(1), "detached": probabilities.detach()}[likes]
        liked = weight @ kind / count
        if kept == "likes alone":
            shares = liked
        return (num_experts if scale else 1) * (shares * liked).sum()

    return loss


def balance_by_loops(logits: Tensor, experts: Tensor, is_real: Tensor) -> Tensor:
    "Expert by expert, over the real rows."
    rows = [row for row in range(len(logits)) if is_real[row]]
    total = logits.new_zeros(())
    for expert in range(logits.size(1)):
        share = sum(int((experts[row] == expert).sum()) for row in rows) / (len(rows) * experts.size(1))
        total = total + share * sum(logits[row].softmax(0)[expert] for row in rows) / len(rows)
    return total * logits.size(1)


def balance_by_histogram(logits: Tensor, experts: Tensor, is_real: Tensor) -> Tensor:
    "As transformers counts, divided by top_k."
    counts = torch.zeros(logits.size(1)).scatter_add_(0, experts.flatten(), is_real.float().repeat_interleave(experts.size(1)))
    likes = (F.softmax(logits, -1) * is_real[:, None]).sum(0)
    return logits.size(1) / experts.size(1) * torch.dot(counts / is_real.sum(), likes / is_real.sum())


# 22.3: parameters


def parameter_cases(rng: np.random.Generator) -> list[Case]:
    "Tied and not, one key head and many, one expert a token and several."
    cases = []
    for heads, kv_heads, experts, top_k, is_tied in ((4, 2, 8, 2, False), (3, 1, 5, 1, True), (6, 6, 4, 3, False), (8, 4, 16, 4, True)):
        cases.append({"config": {"vocab_size": int(rng.integers(50, 900)), "hidden_size": heads * int(rng.integers(3, 20)), "intermediate_size": int(rng.integers(20, 200)),
                                 "num_hidden_layers": int(rng.integers(2, 9)), "num_attention_heads": heads, "num_key_value_heads": kv_heads,
                                 "num_local_experts": experts, "num_experts_per_tok": top_k, "tie_word_embeddings": is_tied}})
    return cases


def parameters_by_formula(config: dict) -> tuple[int, int]:
    "The library's."
    found = expert_model({"model_type": "mixtral", **config})
    return found.total, found.active


def parameters_by_shapes(config: dict) -> tuple[int, int]:
    "Every tensor's shape, listed."
    hidden, wide, experts = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    kv_rows = config["num_key_value_heads"] * (hidden // config["num_attention_heads"])
    once = [(config["vocab_size"], hidden), (hidden,)] + [(config["vocab_size"], hidden)] * (not config["tie_word_embeddings"])
    layer = [(hidden, hidden), (kv_rows, hidden), (kv_rows, hidden), (hidden, hidden), (hidden,), (hidden,), (experts, hidden)]
    expert = [(wide, hidden), (wide, hidden), (hidden, wide)]
    sizes = [sum(math.prod(shape) for shape in shapes) for shapes in (once, layer, expert)]
    return tuple(sizes[0] + config["num_hidden_layers"] * (sizes[1] + asked * sizes[2]) for asked in (experts, config["num_experts_per_tok"]))


def parameters_variant(matrices: int = 3, kv: str = "fewer", tables: str = "tied or two", router: str = "whole", norms: int = 2, last_norm: bool = True, active: str = "counted",
                       squares: int = 2, thin: int = 2):
    "The count with one thing done otherwise."

    def count(config: dict) -> tuple[int, int]:
        hidden, layers, experts = config["hidden_size"], config["num_hidden_layers"], config["num_local_experts"]
        kv_rows = hidden if kv == "all" else config["num_key_value_heads"] * (hidden // config["num_attention_heads"])
        attention = squares * hidden * hidden + thin * hidden * kv_rows
        num_tables = {"tied or two": 1 if config["tie_word_embeddings"] else 2, "one": 1, "two": 2}[tables]
        expert = matrices * hidden * config["intermediate_size"]

        def with_experts(asked: int) -> int:
            rows = {"whole": experts, "none": 0, "asked alone": asked}[router]
            return num_tables * config["vocab_size"] * hidden + last_norm * hidden + layers * (attention + norms * hidden + rows * hidden + asked * expert)

        total, top_k = with_experts(experts), config["num_experts_per_tok"]
        return total, {"counted": with_experts(top_k), "share": total * top_k // experts, "one expert": with_experts(1),
                       "one table": with_experts(top_k) - config["vocab_size"] * hidden, "no table": with_experts(top_k) - num_tables * config["vocab_size"] * hidden}[active]

    return count


CHECKS = (
    Check(
        id="experts.route",
        name="route",
        builds="models.experts.route",
        cases=routing_cases,
        use=lesson_22.routing,
        reference=routing_by_sorting,
        right=(routing_variant(), routing_of_chosen),
        wrong=(
            Wrong(routing_variant(normalizes="always"), "Your weights always sum to 1. Without `normalize` they are the probabilities as they are, which sum to less."),
            Wrong(routing_variant(normalizes="never"), "`normalize` changes nothing: with it, a token's weights are divided by their sum."),
            Wrong(routing_variant(normalizes="other way"), "`normalize` works the wrong way round: True is the one that divides by the sum."),
            Wrong(routing_variant(score="over tokens"),
                  "Your softmax runs over the tokens: each expert's column sums to 1. A token's probabilities, its row, should."),
            Wrong(routing_variant(score="twice"), "You take a softmax of probabilities, which draws them nearer together. `normalize` divides a token's weights by their sum."),
            Wrong(routing_variant(score="scores"), "These are the scores themselves. Make probabilities of them first, with a softmax over all experts."),
            Wrong(routing_variant(largest=False), "You take the experts with the smallest scores."),
            Wrong(routing_variant(order="by number"), "The right experts, in the order of their numbers. The most probable one comes first."),
            Wrong(routing_variant(keeps_gradient=False),
                  "The numbers are right and the weights have no gradient: nothing could teach this router. Do not detach them."),
        ),
    ),
    Check(
        id="experts.balance_loss",
        name="mended_balance_loss",
        cases=balance_cases,
        use=lesson_22.balance,
        reference=balance_by_loops,
        right=(balance_variant(), balance_by_histogram),
        tolerance=1e-5,
        wrong=(
            Wrong(balance_variant(likes="choices", padding="counted", shares_of="tokens"), "This is still the loss as you found it: all three faults are in."),
            Wrong(balance_variant(likes="choices", padding="counted"), "The shares sum to 1 now. The padding, and the missing gradient, are still there."),
            Wrong(balance_variant(likes="choices", shares_of="tokens"), "The padding is out now. The shares, and the missing gradient, are still wrong."),
            Wrong(balance_variant(padding="counted", shares_of="tokens"), "There is a gradient now. The shares, and the padding, are still wrong."),
            Wrong(balance_variant(likes="choices"),
                  "P is still a count of first choices, and a count has no gradient: nothing is taught. Take the mean of the probabilities."),
            Wrong(balance_variant(likes="requests"), "P is a count of requests, and a count has no gradient: nothing is taught. Take the mean of the probabilities."),
            Wrong(balance_variant(likes="detached"), "The value is right and has no gradient: the probabilities are detached, and nothing is taught."),
            Wrong(balance_variant(padding="counted"), "The padding still counts: tokens with False in `is_real` belong neither into the shares nor into the mean."),
            Wrong(balance_variant(padding="in the count"), "The padding's rows are left out of the sums, but you still divide by the number of all tokens."),
            Wrong(balance_variant(shares_of="tokens"), "Your shares sum to `top_k`: divide by the number of requests, not of tokens."),
            Wrong(balance_variant(asked_by="scores"),
                  "You work out from the scores whom each token asks. `experts` says it, and it need not be the likeliest: noise in the choice, or a full expert, send a token elsewhere."),
            Wrong(balance_variant(asked_by="those asked"),
                  "You take as many experts as were asked. The last ones may be asked by nobody, and there are `logits.size(1)` of them all the same."),
            Wrong(balance_variant(scale=False), "The factor `num_experts` is gone: equal shares should give 1 whatever their number."),
            Wrong(balance_variant(kept="likes alone"), "This is Σ P², without the requests. It is large for an unsure router too; the product is of f and P."),
        ),
    ),
    Check(
        id="experts.mixtral_parameters",
        name="mixtral_parameters",
        cases=parameter_cases,
        reference=parameters_by_shapes,
        right=(parameters_variant(), parameters_by_formula),
        wrong=(
            Wrong(parameters_variant(matrices=2), "Your experts have two matrices. They are gated: two up and one down make three."),
            Wrong(parameters_variant(kv="all"), "You count as many heads for keys and values as for queries; there are only `num_key_value_heads` of them."),
            Wrong(parameters_variant(squares=1), "Attention has two square matrices, one for the queries and one at its end; you count one."),
            Wrong(parameters_variant(thin=1), "Keys and values have a matrix each; you count one for both."),
            Wrong(parameters_variant(active="one table"), "You leave the word vectors out of what a token meets. Both tables count as met, as the papers count them."),
            Wrong(parameters_variant(active="no table"), "You leave the tables out of what a token meets. Both count as met, as the papers count them."),
            Wrong(parameters_variant(tables="two"), "With `tie_word_embeddings` the output uses the word vectors: that table is there once."),
            Wrong(parameters_variant(tables="one"), "Without `tie_word_embeddings` the output has a table of its own, as large as that of the word vectors."),
            Wrong(parameters_variant(router="none"), "The routers are missing: one row of `hidden_size` an expert, in every layer."),
            Wrong(parameters_variant(router="asked alone"), "A token meets the whole router: all experts are scored before some are chosen."),
            Wrong(parameters_variant(last_norm=False), "The norm after the last layer is missing."),
            Wrong(parameters_variant(norms=1), "Each layer has two norms, one before attention and one before the experts."),
            Wrong(parameters_variant(active="share"),
                  "You take a share of everything as active. Only the experts are shared out: attention, router, norms and tables are met by every token."),
            Wrong(parameters_variant(active="one expert"), "A token meets `num_experts_per_tok` experts, not one."),
        ),
    ),
)
