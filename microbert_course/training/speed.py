"""How much arithmetic an update is, and how much a device can do."""

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from microbert_course.models.attention import MultiHeadAttention
from microbert_course.training.presets import PretrainConfig

VENDOR_PEAKS = {  # dense bf16 or fp16 products in one second, as the vendor states them (data sheets, without sparsity)
    "H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "RTX 4090": 165e12, "T4": 65e12, "V100": 125e12,
}


def flops_of_update(
    config: PretrainConfig,
    num_parameters: int,  # those that every token meets: without embedding tables
    num_tokens: int,  # real tokens read
) -> float:  # floating-point operations, forward and backward
    "Useful work: 6 a parameter and token, attention, and the head on the hidden places (Kaplan et al. 2020, §2.1; Chowdhery et al. 2022, App. B)."
    attention = 12 * config.num_layers * config.hidden_size * config.max_seq_len
    head = 6 * config.mlm_probability * config.hidden_size * (config.vocab_size + config.hidden_size)
    return num_tokens * (6 * num_parameters + attention + head)


def measured_flops(
    device: torch.device,
    dtype: torch.dtype,
    size: int = 512,  # rows and columns of the matrices
    seconds: float = 0.1,
) -> float:  # floating-point operations a second
    "What one large product after another reaches here; the best of several."
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def peak_flops(
    device: torch.device,
    mixed_precision: str,  # "no", "fp16" or "bf16"
) -> float:  # floating-point operations a second; 0 = not known
    "The vendor's figure for a known GPU in half precision; on a CPU what a matrix product reaches right now."
    if device.type == "cpu":
        return measured_flops(device, torch.float32)
    if device.type != "cuda" or mixed_precision == "no":
        return 0.0
    name = torch.cuda.get_device_name(device)
    return next((peak for card, peak in VENDOR_PEAKS.items() if card in name), 0.0)


class DocumentAttention(MultiHeadAttention):
    "Self-attention for packed rows: a token looks at those of its own document alone (Krell et al. 2021, §3.2)."

    def forward(
        self,
        hidden_states: Tensor,  # (batch, seq, hidden)
        attention_mask: Tensor | None = None,  # (batch, seq) int64: numbers of documents, 0 = padding; None = one document a row
    ) -> Tensor:  # (batch, seq, hidden)
        "Every token gathers from every token that has its number; padding gathers from padding, which is finite and without meaning."
        query, key, value = self.split_heads(hidden_states)
        is_same = None if attention_mask is None else (attention_mask[:, None, :, None] == attention_mask[:, None, None, :])
        context = F.scaled_dot_product_attention(query, key, value, is_same, self.dropout if self.training else 0.0)
        return self.out(context.transpose(1, 2).flatten(2))
