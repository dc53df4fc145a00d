"""A model for a configuration, with blocks of either kind, and ready for the way it is to be trained."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from microbert_course.models.attention import MultiHeadAttention
from microbert_course.models.bert import Embeddings, MaskedLMHead, MicroBertForMaskedLM
from microbert_course.models.gpt import GptConfig, GptForCausalLM
from microbert_course.models.modern import ModernConfig, ModernForMaskedLM
from microbert_course.models.transformer import TransformerBlock
from microbert_course.training.loop import MaskedLMLoss, build_model, seed_for
from microbert_course.training.memory import checkpoint_blocks
from microbert_course.training.own_kernels import use_own_kernels
from microbert_course.training.presets import PretrainConfig
from microbert_course.training.settings import TrainConfig
from microbert_course.training.speed import DocumentAttention

GRID = 64  # rows are padded to a multiple of it, and the places to guess at: few shapes need kernels or a graph of their own


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


def make_objective(
    kind: Callable[[torch.nn.Module], torch.nn.Module],  # puts the loss around a model, as `MaskedLMLoss`
    config: TrainConfig,
    model: torch.nn.Module,
) -> torch.nn.Module:
    "A model with its loss inside, whose blocks forget their activations, and whose parts are compiled, as the configuration says."
    objective = kind(model)
    if config.checkpointing:
        checkpoint_blocks(model)
    if config.compile:
        use_own_kernels(model, for_attention=config.attention == "auto")
    if config.compile and isinstance(objective, MaskedLMLoss):
        compile_parts(model, dynamic=False)  # else kernels depend on the shapes seen before, and a resumed run has seen others
        objective.score = partial(objective.score, compiled=True)
        objective.register_forward_pre_hook(lambda _, inputs: pad_inputs(inputs, model.config.max_seq_len))
    elif config.compile:
        compile_parts(model)
    return objective


def pad_inputs(
    tensors: tuple[Tensor | None, ...],  # what `Batch.tensors` answers
    max_seq_len: int,  # longest row of the model
) -> tuple[Tensor | None, ...]:  # the same, in one of a few shapes
    "Rows as long as a multiple of 64, or as the model reads; places to guess at in 64ths of the tokens, those added at a label of -100."
    input_ids, mask, predict_at, targets, position_ids = tensors
    batch, seq = input_ids.shape
    padded = max(seq, min(max_seq_len, seq + -seq % GRID))
    missing = -len(targets) % max(GRID, batch * padded // GRID)
    if padded > seq:
        mask = input_ids.new_ones(batch, seq, dtype=torch.bool) if mask is None else mask
        predict_at = predict_at // seq * padded + predict_at % seq
        input_ids, mask, position_ids = (None if table is None else F.pad(table, (0, padded - seq)) for table in (input_ids, mask, position_ids))
    if missing:
        predict_at, targets = F.pad(predict_at, (0, missing)), F.pad(targets, (0, missing), value=-100)
    return input_ids, mask, predict_at, targets, position_ids


def compile_parts(
    model: torch.nn.Module,
    dynamic: bool | None = None,  # False: kernels of their own for all shapes; None: shared ones, from the second shape on
) -> None:
    "Let torch fuse what lies between the products: in each block, and before the first and after the last; all blocks share one compilation."
    from torch import _inductor as inductor  # here, not above: it takes a second

    faster = {"triton.mix_order_reduction": False}  # its sums of a norm's gradients end in slow ones; not all versions of torch have it
    options = {name: value for name, value in faster.items() if name in inductor.list_options()}
    for part in model.modules():
        if isinstance(part, (TransformerBlock, Embeddings)):
            part.compile(dynamic=dynamic, options=options)
        elif isinstance(part, MaskedLMHead):
            part.transform = torch.compile(part.transform, dynamic=dynamic, options=options)
        elif isinstance(part, torch.nn.LayerNorm):
            part.register_forward_hook(_as_the_products)


def _as_the_products(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    "What a norm computes in float32 is written down in the dtype that autocast gives the next product: half the memory traffic between fused kernels."
    kind = output.device.type
    return output.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else output


def blocks_of(model: torch.nn.Module) -> list[TransformerBlock]:
    "The blocks of any model of this course, in order."
    return [module for module in model.modules() if isinstance(module, TransformerBlock)]


def num_block_parameters(model: torch.nn.Module) -> int:
    "Numbers in the blocks: those that every token meets."
    return sum(parameter.numel() for block in blocks_of(model) for parameter in block.parameters())
