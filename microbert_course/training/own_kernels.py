"""Parts of a model that run the course's own kernels where these are faster than torch's: on an NVIDIA GPU, in 16 bits."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microbert_course.devices import runs_own_kernels
from microbert_course.models.attention import MultiHeadAttention
from microbert_course.models.lora import LoraLinear
from microbert_course.models.transformer import FeedForward
from microbert_course.training.low_rank import low_rank_linear
from microbert_course.training.speed import DocumentAttention

LONGEST = 512  # tokens of rows that `short_attention` reads faster than torch's kernels
HEAD_DIMS = (16, 32, 64)


class ShortRows:
    "Before an attention: short rows on a GPU go to the course's own kernels, everything else to the attention itself."

    attend: Callable[[Tensor, Tensor | None], Tensor]  # `short_attention`'s, which needs Triton

    def forward(
        self,
        hidden_states: Tensor,  # (batch, seq, hidden)
        attention_mask: Tensor | None = None,  # (batch, seq) bool or numbers of documents
    ) -> Tensor:  # (batch, seq, hidden)
        "What the attention itself answers, where tokens are real."
        batch, seq, _ = hidden_states.shape
        is_mask = attention_mask is None or (attention_mask.shape == (batch, seq) and not attention_mask.is_floating_point())  # else it is refused
        if not _is_half(hidden_states, self.qkv) or seq > LONGEST or (self.training and self.dropout) or not is_mask:
            return super().forward(hidden_states, attention_mask)
        numbers = attention_mask if attention_mask is None or isinstance(self, DocumentAttention) else attention_mask.bool()
        qkv = self.qkv(hidden_states).view(batch, seq, 3, self.num_heads, self.head_dim)
        return self.out(self.attend(qkv, numbers).flatten(2))


class ShortAttention(ShortRows, MultiHeadAttention):
    "`MultiHeadAttention` with kernels for short rows."


class ShortDocumentAttention(ShortRows, DocumentAttention):
    "`DocumentAttention` with kernels for short rows."


class FusedFeedForward(FeedForward):
    "`FeedForward` with a kernel of the course's own between its two products."

    bias_gelu: Callable[[Tensor, Tensor], Tensor]  # `bias_gelu`'s, which needs Triton

    def forward(
        self, hidden_states: Tensor,  # (batch, seq, hidden)
    ) -> Tensor:  # (batch, seq, hidden)
        "Widen, bend, narrow."
        if not _is_half(hidden_states, self.up) or not torch.is_grad_enabled():
            return super().forward(hidden_states)
        return self.down(self.bias_gelu(F.linear(hidden_states, self.up.weight), self.up.bias))


class OneProductLora(LoraLinear):
    "`LoraLinear` whose frozen product and change are one product."

    def forward(
        self, inputs: Tensor,  # (..., in_features)
    ) -> Tensor:  # (..., out_features)
        "The base's answer, and on the rows of each part what its change adds."
        if self.is_merged or not self.active or self.drops() or not torch.is_grad_enabled() or not _is_half(inputs, self.base):
            return super().forward(inputs)
        dtype = _product_dtype(inputs, self.base)
        A, B = (factor.to(dtype) for factor in self.stacked())
        bias = None if self.base.bias is None else self.base.bias.to(dtype)
        return low_rank_linear(inputs.to(dtype), self.base.weight.to(dtype), bias, A, B)


def _product_dtype(inputs: Tensor, linear: nn.Linear) -> torch.dtype:
    "The dtype that the linear's product is made in."
    kind = inputs.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else linear.weight.dtype


def _is_half(hidden_states: Tensor, linear: nn.Linear) -> bool:
    "Whether the linear's product is made on a GPU, in 16 bits."
    return hidden_states.device.type == "cuda" and _product_dtype(hidden_states, linear).itemsize == 2


SHORT = {MultiHeadAttention: ShortAttention, DocumentAttention: ShortDocumentAttention}


def use_own_kernels(
    model: nn.Module,
    for_attention: bool = True,  # else another kernel was asked for by name
) -> None:
    """Let a model's parts run the course's own kernels: on an NVIDIA GPU from Ampere on, in 16 bits; attention on short rows without dropout. Nothing changes elsewhere.

    A part gets another class, and no function of its own: torch would compile each layer anew for that, and give up after eight."""
    if not runs_own_kernels():
        return
    from microbert_course.training.bias_gelu import bias_gelu  # here: they need Triton
    from microbert_course.training.short_attention import attend

    ShortRows.attend, FusedFeedForward.bias_gelu = staticmethod(attend), staticmethod(bias_gelu)
    for part in model.modules():
        if for_attention and type(part) in SHORT and not part.is_causal and part.head_dim in HEAD_DIMS:
            part.__class__ = SHORT[type(part)]
        elif type(part) is FeedForward and type(part.up) is nn.Linear and part.up.bias is not None:  # a linear with LoRA beside it stays as it is
            part.__class__ = FusedFeedForward
        elif type(part) is LoraLinear and type(part.base) is nn.Linear:
            part.__class__ = OneProductLora


def runs_short_attention(
    model: nn.Module,
    dtype: torch.dtype,  # of products
    dropout: float,
) -> bool:
    "Whether short rows of this model, in training, are read by `short_attention`."
    return dtype.itemsize == 2 and not dropout and any(isinstance(part, ShortRows) for part in model.modules())
