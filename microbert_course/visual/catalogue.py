"""All explorables as data: what each asks, where it is taught, what can be moved, and the plain functions that draw and tell it."""

from collections.abc import Callable
from dataclasses import dataclass

from microbert_course.training.memory import CARDS
from microbert_course.visual import chances, depth, heads, machines, matrices, scores, steps, words
from microbert_course.visual.controls import Control


def _no_limits(live: dict, settings: dict) -> dict:
    return {}


@dataclass(frozen=True)
class Explorable:
    "One picture to play with."

    name: str
    title: str
    question: str  # that it answers, in one sentence
    lesson: str  # its number
    live: dict[str, str]  # objects that may be given, and what they are
    controls: tuple[Control, ...]
    make: Callable[..., dict]  # takes the live objects that are given; answers all of them
    draw: Callable  # live objects and settings -> a matplotlib Figure
    tell: Callable[..., str]  # the same -> words
    fit: Callable[[dict, dict], dict] = _no_limits  # live objects and settings -> changes of controls, by name
    hover: Callable[..., str] | None = None  # live objects and settings -> HTML to point at, under the picture


ALL = (
    Explorable(
        "attention_heads", "Attention heads", "Where does each head look in a sentence of yours?", "00",
        {"model": "a BERT, of the course or with its attention_weights", "tokenizer": "the model's"},
        (Control("text", "Sentence", "text", "a wonderful film , and an odd play"),
         Control("layer", "Layer", "whole", 0, 0, 1),
         Control("head", "Head", "whole", 0, 0, 3),
         Control("token", "Token that looks", "choice", 1, choices=tuple(range(10)))),
        heads.make_heads, heads.draw_attention_heads, heads.tell_attention_heads, heads.fit_heads, heads.hover_attention_heads),
    Explorable(
        "wordpiece_splitting", "WordPiece splitting", "How are your words spelled, and how does that change as more pieces are known?", "02",
        {"vocab": "piece: id, in the order in which they were learned", "encode": "wordpiece_encode, or yours"},
        (Control("text", "Type", "text", "Unwatchable? The acting was unbelievably playful!", as_you_type=True),
         Control("num_pieces", "Pieces known", "steps", 160, choices=(60, 160))),
        words.make_splitting, words.draw_wordpiece_splitting, words.tell_wordpiece_splitting, words.fit_splitting),
    Explorable(
        "softmax_temperature", "√d and the softmax's temperature", "Why are scores divided by √head_dim, and what does a temperature do?", "03",
        {"query": "(queries, head_dim)", "key": "(keys, head_dim), of which twelve are used"},
        (Control("head_dim", "Head size", "steps", 64, choices=tuple(2**power for power in range(10))),
         Control("divided", "Divide by √d", "switch", True),
         Control("temperature", "Temperature", "number", 1.0, 0.1, 4.0, 0.1),
         Control("which", "Query", "whole", 0, 0, 31)),
        scores.make_softmax, scores.draw_softmax_temperature, scores.tell_softmax_temperature, scores.fit_softmax),
    Explorable(
        "residual_norms", "The residual stream by depth", "What does the place of the norm do to a deep stack, forwards and backwards?", "04",
        {"hidden_states": "(batch, seq, hidden)", "pre_norm": "PreNorm, or yours", "post_norm": "PostNorm, or yours"},
        (Control("kind", "In focus", "choice", "pre-norm", choices=depth.KINDS),
         Control("num_layers", "Blocks", "whole", 8, 1, 24),
         Control("branch_scale", "Branches times", "number", 2.0, 0.0, 3.0, 0.25)),
        depth.make_depth, depth.draw_residual_norms, depth.tell_residual_norms),
    Explorable(
        "masking_sampler", "The 80/10/10 sampler", "What does masking leave of a sentence, this time and on average?", "06",
        {"tokenizer": "any with a [MASK]", "mask": "mask_tokens, or yours"},
        (Control("text", "Sentence", "text", "the film was an odd , wonderful play , and the acting was unforgettable ."),
         Control("mlm_probability", "Share asked", "number", 0.15, 0.05, 0.6, 0.05),
         Control("draw", "Draw", "whole", 1, 0, 50)),
        words.make_masking, words.draw_masking_sampler, words.tell_masking_sampler),
    Explorable(
        "adamw_paths", "Paths down a surface", "Where do AdamW and plain descent walk on the same ground?", "08",
        {"optimizer": "AdamW, or another that takes params, lr, betas and weight_decay"},
        (Control("surface", "Surface", "choice", "long valley", choices=tuple(steps.SURFACES)),
         Control("learning_rate", "Learning rate", "steps", 0.1, choices=(0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.6)),
         Control("beta1", "First beta, momentum", "number", 0.9, 0.0, 0.95, 0.05),
         Control("weight_decay", "Weight decay", "number", 0.0, 0.0, 1.0, 0.05),
         Control("num_steps", "Steps", "whole", 60, 1, 120)),
        steps.make_paths, steps.draw_adamw_paths, steps.tell_adamw_paths),
    Explorable(
        "schedule_designer", "Design a schedule", "How does a learning rate rise and fall, and how much of the peak is it on average?", "08",
        {"schedules": "name: function of step, total_steps, warmup_steps and floor"},
        (Control("kind", "Schedule", "choice", "linear", choices=("linear", "cosine")),
         Control("peak", "Peak rate", "steps", 5e-3, choices=(5e-4, 1e-3, 2e-3, 5e-3, 1e-2)),
         Control("total_steps", "Updates", "whole", 400, 20, 1000, 20),
         Control("warmup", "Share of warmup", "number", 0.1, 0.0, 0.5, 0.02),
         Control("floor", "Left at the end", "number", 0.0, 0.0, 1.0, 0.05)),
        steps.make_schedule, steps.draw_schedule_designer, steps.tell_schedule_designer, steps.fit_schedule),
    Explorable(
        "loss_scale_crash", "The loss scale, and its crashes", "How does a loss scale find the height at which fp16 loses little and nothing overflows?", "10",
        {"scaler": "LossScaler, or yours"},
        (Control("init_power", "First scale, 2 to the", "whole", 0, 0, 32),
         Control("growth_interval", "Good updates to grow", "steps", 2, choices=(2, 5, 10, 20, 50, 2000)),
         Control("gradient_power", "Gradients about 2 to the", "whole", -27, -30, 4),
         Control("spike_power", "Spikes, times 2 to the", "whole", 4, 0, 12)),
        steps.make_crash, steps.draw_loss_scale_crash, steps.tell_loss_scale_crash),
    Explorable(
        "memory_bar", "The bytes of an update", "What fills a card's memory, and what makes room?", "11",
        {"config": "a MicroBertConfig"},
        (Control("batch_size", "Rows", "steps", 32, choices=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)),
         Control("seq_len", "Tokens a row", "steps", 512, choices=(32, 64, 128, 256, 512)),
         Control("precision", "Precision", "choice", "no", choices=("no", "fp16", "bf16"), labels=("fp32", "fp16", "bf16")),
         Control("checkpointing", "Activation checkpointing", "switch", False),
         Control("attention", "Attention", "choice", "math", choices=("fused", "math"), labels=("fused", "keeps its scores")),
         Control("card", "Card", "choice", "RTX 4090, 24 GB", choices=tuple(CARDS))),
        machines.make_memory, machines.draw_memory_bar, machines.tell_memory_bar, machines.fit_memory),
    Explorable(
        "packing_board", "The packing board", "How many rows do documents need, and how much of them is padding?", "12",
        {"lengths": "tokens of each document", "pack": "best_fit, or yours"},
        (Control("method", "Method", "choice", "best fit", choices=machines.METHODS),
         Control("max_seq_len", "Tokens a row", "steps", 256, choices=(64, 128, 192, 256, 384, 512)),
         Control("num_documents", "Documents", "whole", 40, 1, 40)),
        machines.make_packing, machines.draw_packing_board, machines.tell_packing_board, machines.fit_packing),
    Explorable(
        "ring_all_reduce", "The ring, step by step", "How does every process get everybody's sum, speaking to two neighbours only?", "14",
        {"ring": "held[rank][chunk] -> every state on the way"},
        (Control("world_size", "Processes", "whole", 4, 2, 6),
         Control("step", "Step", "whole", 2, 0, 6)),
        machines.make_ring, machines.draw_ring_all_reduce, machines.tell_ring_all_reduce, machines.fit_ring),
    Explorable(
        "mask_painter", "Paint a mask", "Who may look at whom, and what becomes of the weights if you forbid it?", "18",
        {"scores": "(seq, seq), before the softmax", "tokens": "seq of them", "past": "past_keys, or yours"},
        (Control("pattern", "Pattern", "choice", "causal", choices=scores.PATTERNS),
         Control("size", "Size (window, text)", "whole", 2, 0, 6, given=(("pattern", "window"),)),
         Control("flipped", "Paint: a row looks, a column is looked at", "paint", (), high=7)),
        scores.make_mask, scores.draw_mask_painter, scores.tell_mask_painter, scores.fit_mask),
    Explorable(
        "lora_rank", "The rank of a change", "How many directions does a change of weights need?", "20",
        {"change": "(out_features, in_features): what training added to a weight"},
        (Control("lora_rank", "Rank", "whole", 4, 0, 48),
         Control("shown", "In the middle", "choice", "B·A", choices=("B·A", "what is missed"))),
        matrices.make_rank, matrices.draw_lora_rank, matrices.tell_lora_rank, matrices.fit_rank),
    Explorable(
        "quantisation_bits", "Error by bits", "How wrong do weights become with fewer bits, other levels, larger blocks?", "21",
        {"weight": "(rows, columns)"},
        (Control("bits", "Bits", "whole", 4, 2, 8),
         Control("kind", "Levels", "choice", "even", choices=matrices.KINDS, labels=("at even distances", "quantiles of the normal")),
         Control("block_size", "Numbers that share a constant", "steps", 64, choices=(16, 32, 64, 128, 256, 1024, 4096, 2**30),
                 labels=("16", "32", "64", "128", "256", "1,024", "4,096", "all"))),
        matrices.make_bits, matrices.draw_quantisation_bits, matrices.tell_quantisation_bits),
    Explorable(
        "router_load", "The router's load", "Who is asked, who is turned away, and what does the balance loss say to it?", "22",
        {"logits": "(num_tokens, num_experts), a layer's routing.logits"},
        (Control("top_k", "Experts a token asks", "whole", 2, 1, 4),
         Control("capacity_factor", "Seats, times an equal share", "number", 1.25, 0.25, 3.0, 0.25),
         Control("push", "Push the favourite's scores by", "number", 1.0, -3.0, 5.0, 0.5),
         Control("favourite", "The favourite", "choice", 0, choices=tuple(range(8)), labels=tuple(f"expert {number}" for number in range(8)))),
        chances.make_router, chances.draw_router_load, chances.tell_router_load, chances.fit_router),
    Explorable(
        "grpo_group", "A group of tries", "Who did better than the rest of the group, and how much is it worth?", "23",
        {"completions": "texts, of one prompt", "rewards": "(completions,)", "advantages": "group_advantages, or yours"},
        (Control("group_size", "Group size", "whole", 8, 2, 16),
         Control("draw", "Draw", "whole", 0, 0, 30),
         Control("scale", "Scale", "choice", "none", choices=("none", "std"), labels=("as it is", "divided by the spread"))),
        chances.make_group, chances.draw_grpo_group, chances.tell_grpo_group, chances.fit_group),
)
EXPLORABLES = {explorable.name: explorable for explorable in ALL}
