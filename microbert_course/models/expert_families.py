"""Where the parameters of published expert models sit: one function a family, read from its configuration.

Formulas, so that a configuration can be judged before anything is downloaded or allocated; tests/test_experts.py holds each to the
parameters that transformers' own class has. A configuration is transformers' object, whose names these are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from microbert_course.errors import CourseError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Parts:
    "Parameters of a model with experts, by where they sit."

    is_expert_layer: list[bool]  # for every layer in order; an encoder's before its decoder's
    num_experts: int  # to choose from, in each such layer
    top_k: int  # of them that a token goes to
    num_shared: int  # experts that every token meets
    expert: int  # parameters of one expert
    beside: int  # of one expert layer besides its experts: router, and shared experts if there are
    dense: int  # of the feed-forward of any other layer
    rest: int  # everything else: embeddings, attention, norms, output


def gated(hidden_size: int, intermediate_size: int, bias: bool = False) -> int:
    "Parameters of a SwiGLU feed-forward: two maps up, one down."
    return 3 * hidden_size * intermediate_size + bias * (2 * intermediate_size + hidden_size)


def decoder_rest(config: "PreTrainedConfig", attention: int) -> int:
    "Parameters of a decoder besides its feed-forwards: two norms a layer and one at the end, word vectors once if tied, else twice."
    hidden, layers = config.hidden_size, config.num_hidden_layers
    tables = 1 if config.tie_word_embeddings else 2
    return layers * (attention + 2 * hidden) + hidden + tables * config.vocab_size * hidden


def grouped_attention(config: "PreTrainedConfig", bias_in: bool = False, bias_out: bool = False, norms: int = 0) -> int:
    "Parameters of attention with fewer heads for keys and values than for queries (Ainslie et al. 2023), and norms of head_dim."
    hidden, heads, kv_heads = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
    head_dim = getattr(config, "head_dim", None) or hidden // heads
    rows_in = (heads + 2 * kv_heads) * head_dim
    return rows_in * (hidden + bias_in) + hidden * (heads * head_dim + bias_out) + norms * head_dim


def latent_attention(config: "PreTrainedConfig") -> int:
    "Parameters of attention through narrow latents: down, norm, up (DeepSeek-AI 2024, §2.1)."
    hidden, heads, bias = config.hidden_size, config.num_attention_heads, config.attention_bias
    query_rows = heads * (config.qk_nope_head_dim + config.qk_rope_head_dim)
    if config.q_lora_rank is None:
        query = query_rows * hidden
    else:
        query = config.q_lora_rank * (hidden + bias + 1 + query_rows)
    latent = config.kv_lora_rank
    key_value = (latent + config.qk_rope_head_dim) * (hidden + bias) + latent
    key_value += latent * heads * (config.qk_nope_head_dim + config.v_head_dim)
    return query + key_value + hidden * (heads * config.v_head_dim + bias)


def mixtral(config: "PreTrainedConfig") -> Parts:
    "Experts in every layer (Jiang et al. 2024, §2)."
    hidden, experts = config.hidden_size, config.num_local_experts
    feed_forward = gated(hidden, config.intermediate_size)
    return Parts([True] * config.num_hidden_layers, experts, config.num_experts_per_tok, 0, feed_forward, experts * hidden, feed_forward,
                 decoder_rest(config, grouped_attention(config)))


def qwen_layers(config: "PreTrainedConfig") -> list[bool]:
    "Every `decoder_sparse_step`-th layer, but for those that are listed as dense."
    step, dense = config.decoder_sparse_step, config.mlp_only_layers or []
    return [config.num_experts > 0 and layer not in dense and (layer + 1) % step == 0 for layer in range(config.num_hidden_layers)]


def qwen2_moe(config: "PreTrainedConfig") -> Parts:
    "Many small experts and a shared one behind a gate of its own (Yang et al. 2024, §2.2.2)."
    hidden = config.hidden_size
    beside = config.num_experts * hidden + gated(hidden, config.shared_expert_intermediate_size) + hidden
    return Parts(qwen_layers(config), config.num_experts, config.num_experts_per_tok, 1, gated(hidden, config.moe_intermediate_size), beside,
                 gated(hidden, config.intermediate_size), decoder_rest(config, grouped_attention(config, bias_in=config.qkv_bias)))


def qwen3_moe(config: "PreTrainedConfig") -> Parts:
    "Many small experts, none shared; queries and keys normalised (Yang et al. 2025, §2)."
    hidden = config.hidden_size
    attention = grouped_attention(config, config.attention_bias, config.attention_bias, norms=2)
    return Parts(qwen_layers(config), config.num_experts, config.num_experts_per_tok, 0, gated(hidden, config.moe_intermediate_size),
                 config.num_experts * hidden, gated(hidden, config.intermediate_size), decoder_rest(config, attention))


def deepseek(config: "PreTrainedConfig") -> Parts:
    "Dense layers first, then many small experts and a few shared ones (DeepSeek-AI 2024, §2.2; Dai et al. 2024, §3)."
    hidden, dense, bias = config.hidden_size, config.first_k_dense_replace, getattr(config, "mlp_bias", False)
    shared = gated(hidden, config.n_shared_experts * config.moe_intermediate_size, bias)
    return Parts([layer >= dense for layer in range(config.num_hidden_layers)], config.n_routed_experts, config.num_experts_per_tok,
                 config.n_shared_experts, gated(hidden, config.moe_intermediate_size), config.n_routed_experts * hidden + shared,
                 gated(hidden, config.intermediate_size, bias), decoder_rest(config, latent_attention(config)))


def switch_layers(num_layers: int, step: int) -> list[bool]:
    "Every `step`-th layer, from the second on."
    return [step == 1 or (step > 0 and layer % step == 1) for layer in range(num_layers)]


def switch_transformers(config: "PreTrainedConfig") -> Parts:
    "An encoder and a decoder; one expert a token (Fedus et al. 2021, §2.1)."
    width, inner, experts = config.d_model, config.num_heads * config.d_kv, config.num_experts
    layers = (switch_layers(config.num_layers, config.encoder_sparse_step)
              + switch_layers(config.num_decoder_layers, config.decoder_sparse_step))
    feed_forward, attention = 2 * width * config.d_ff, 4 * width * inner
    rest = config.num_layers * (attention + 2 * width) + config.num_decoder_layers * (2 * attention + 3 * width)
    rest += 2 * (width + config.relative_attention_num_buckets * config.num_heads)  # each side's last norm and distances
    rest += config.vocab_size * width * (1 if config.tie_word_embeddings else 4)  # shared, encoder's, decoder's, output
    return Parts(layers, experts, 1, 0, feed_forward, experts * (width + config.router_bias), feed_forward, rest)


FAMILIES: dict[str, Callable[["PreTrainedConfig"], Parts]] = {  # by `model_type`
    "mixtral": mixtral, "switch_transformers": switch_transformers, "deepseek_v2": deepseek, "deepseek_v3": deepseek,
    "qwen2_moe": qwen2_moe, "qwen3_moe": qwen3_moe,
}
COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_moe_experts")  # how configurations name the number of experts


def read_config(
    values: dict,  # the content of a `config.json`
) -> "PreTrainedConfig":
    """transformers' own object, what the file leaves out taken from the family's defaults.

    Raises: CourseError if it names no family that transformers knows, or transformers refuses it."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    if "model_type" not in values:
        raise CourseError("this configuration has no model_type: give the config.json of a model of transformers")
    try:
        return AutoConfig.for_model(**values)
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise CourseError(f"transformers refuses this {values['model_type']} configuration: {' '.join(str(error).split())}") from error


def read_parts(
    values: dict,  # the content of a `config.json`, of a family known here
) -> Parts:
    """Where its parameters sit.

    Raises: CourseError if transformers refuses it, or it sends tokens to more experts than it has, or to none."""
    config = read_config(values)
    parts = FAMILIES[config.model_type](config)
    if any(parts.is_expert_layer) and not 1 <= (parts.top_k or 0) <= parts.num_experts:
        raise CourseError(f"num_experts_per_tok {parts.top_k} is not a number of experts out of {parts.num_experts}: choose 1 to {parts.num_experts}")
    return parts
