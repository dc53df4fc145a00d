"""Which attention kernel runs here: asked for by name, tried out, and replaced with a reason where it cannot."""

import warnings

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

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
