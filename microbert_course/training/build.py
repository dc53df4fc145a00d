"""A model for a configuration, with blocks of either kind, and ready for the way it is to be trained."""

import torch

from microbert_course.models.attention import MultiHeadAttention
from microbert_course.models.bert import MicroBertForMaskedLM
from microbert_course.models.gpt import GptConfig, GptForCausalLM
from microbert_course.models.modern import ModernConfig, ModernForMaskedLM
from microbert_course.models.transformer import TransformerBlock
from microbert_course.training.loop import build_model, seed_for
from microbert_course.training.memory import checkpoint_blocks
from microbert_course.training.presets import PretrainConfig
from microbert_course.training.speed import DocumentAttention


def make_model(
    config: PretrainConfig,
    vocab_size: int,
    log_probs: torch.Tensor | None = None,  # (vocab,) start of the output bias, which a decoder does not have
    edges: tuple[int, int] | tuple[None, None] = (None, None),  # of a decoder: ids that a text begins and ends with
) -> MicroBertForMaskedLM | ModernForMaskedLM | GptForCausalLM:
    "A fresh model of the configured shape and blocks."
    if config.blocks == "bert":
        return build_model(config, vocab_size, log_probs, DocumentAttention if config.layout == "packed" else MultiHeadAttention)
    torch.manual_seed(seed_for(config.seed, "weights"))
    if config.blocks == "gpt":
        return GptForCausalLM(GptConfig(
            vocab_size=vocab_size, hidden_size=config.hidden_size, num_layers=config.num_layers, num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads or config.num_heads, intermediate_size=config.intermediate_size, max_seq_len=config.max_seq_len,
            dropout=config.dropout, initializer_range=config.initializer_range, bos_token_id=edges[0], eos_token_id=edges[1]))
    model = ModernForMaskedLM(ModernConfig(
        vocab_size=vocab_size, hidden_size=config.hidden_size, num_layers=config.num_layers, num_heads=config.num_heads,
        intermediate_size=config.intermediate_size, max_seq_len=config.max_seq_len, dropout=config.dropout,
        initializer_range=config.initializer_range))
    if log_probs is not None:
        with torch.no_grad():
            model.head.bias.copy_(log_probs.clamp(min=-20))  # as in build_model
    return model


def prepare_blocks(model: torch.nn.Module, config: PretrainConfig) -> None:
    "Let the blocks forget their activations, or be compiled, as the configuration says."
    if config.checkpointing:
        checkpoint_blocks(model)
    for block in blocks_of(model) if config.compile else ():
        block.compile()


def blocks_of(model: torch.nn.Module) -> list[TransformerBlock]:
    "The blocks of any model of this course, in order."
    return [module for module in model.modules() if isinstance(module, TransformerBlock)]


def num_block_parameters(model: torch.nn.Module) -> int:
    "Numbers in the blocks: those that every token meets."
    return sum(parameter.numel() for block in blocks_of(model) for parameter in block.parameters())
