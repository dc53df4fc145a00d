"""Which attention kernel runs here: asked for by name, tried out, and replaced with a reason where it cannot."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from microbert_course.models.attention import MultiHeadAttention
from microbert_course.training.speed import DocumentAttention

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}


def refusal(
    name: str,  # a key of BACKENDS
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    with_mask: bool,  # as a batch with padding needs it
    dropout: float = 0.0,  # share of weights dropped
) -> str | None:  # None = it runs
    "Why this kernel does not run here, in torch's words."
    query = torch.randn(2, 2, 16, head_dim, device=device, dtype=dtype, requires_grad=True)
    mask = torch.ones(2, 1, 1, 16, dtype=torch.bool, device=device) if with_mask else None
    with warnings.catch_warnings(record=True) as said, sdpa_kernel(BACKENDS[name]):
        warnings.simplefilter("always")
        try:
            F.scaled_dot_product_attention(query, query, query, mask, dropout).sum().backward()
        except RuntimeError as error:
            reasons = [str(warning.message).partition(" (Triggered")[0] for warning in said]
            return next((reason for reason in reversed(reasons) if "not been runtime disabled" not in reason), str(error))
    return None


def choose_kernel(
    asked: str,  # "auto" or a key of BACKENDS
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    with_mask: bool,
    dropout: float = 0.0,
) -> tuple[str, str]:  # the kernel that runs; why it is not the one that was asked for, or ""
    "The kernel asked for if it runs here, else the first of flash, efficient and math that does."
    reason = ""
    for name in dict.fromkeys((asked, *BACKENDS) if asked != "auto" else BACKENDS):
        fault = refusal(name, device, dtype, head_dim, with_mask, dropout)
        if fault is None:
            return name, reason
        if name == asked:
            reason = f"attention {asked} does not run here ({fault})"
    return "math", reason


LONGEST, LONGEST_WITH_MASK = 256, 512  # tokens of rows that `short_attention` reads faster than torch's kernels
HEAD_DIMS = (16, 32, 64)
OLDEST = (8, 0)  # compute capability: in Turing's 64 KiB of shared memory the kernels' tables do not fit, and its registers spill


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
        kind = hidden_states.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.qkv.weight.dtype
        longest = LONGEST if attention_mask is None else LONGEST_WITH_MASK
        is_mask = attention_mask is None or (attention_mask.shape == (batch, seq) and not attention_mask.is_floating_point())  # else it is refused
        if kind != "cuda" or dtype.itemsize != 2 or seq > longest or (self.training and self.dropout) or not is_mask:
            return super().forward(hidden_states, attention_mask)
        numbers = attention_mask if attention_mask is None or isinstance(self, DocumentAttention) else attention_mask.bool()
        qkv = self.qkv(hidden_states).view(batch, seq, 3, self.num_heads, self.head_dim)
        return self.out(self.attend(qkv, numbers).flatten(2))


class ShortAttention(ShortRows, MultiHeadAttention):
    "`MultiHeadAttention` with kernels for short rows."


class ShortDocumentAttention(ShortRows, DocumentAttention):
    "`DocumentAttention` with kernels for short rows."


SHORT = {MultiHeadAttention: ShortAttention, DocumentAttention: ShortDocumentAttention}


def use_short_attention(
    model: nn.Module,
) -> None:
    "Let BERT's attention run the course's own kernels for short rows: on an NVIDIA GPU from Ampere on, in 16 bits, without dropout; nothing changes elsewhere."
    is_suited = torch.cuda.is_available() and torch.version.hip is None and torch.cuda.get_device_capability() >= OLDEST
    if not is_suited or find_spec("triton") is None:
        return
    from microbert_course.training.short_attention import attend  # here: it needs Triton

    ShortRows.attend = staticmethod(attend)
    for part in model.modules():
        if type(part) in SHORT and not part.is_causal and part.head_dim in HEAD_DIMS:
            part.__class__ = SHORT[type(part)]  # another class and no function of its own: torch compiles each layer anew for that, and gives up after eight


def runs_short_attention(
    model: nn.Module,
    dtype: torch.dtype,  # of products
    dropout: float,
) -> bool:
    "Whether short rows of this model, in training, are read by `short_attention`."
    return dtype.itemsize == 2 and not dropout and any(isinstance(part, ShortRows) for part in model.modules())
