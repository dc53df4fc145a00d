"""What a lesson ran on: asked of its kernel after the last cell, so it costs the lesson nothing."""

import os
import platform
import sys

MIXED = {"fp16": "float16", "bf16": "bfloat16"}


def about() -> dict:  # JSON: python, torch, device, dtype, cpu_s
    """Versions, the device and number format that this process computed with, and the CPU-seconds it has used so far.

    torch is None where nothing imported it. The seconds are those of every thread, and of processes that have ended."""
    torch = sys.modules.get("torch")
    used = os.times()
    return {
        "python": platform.python_version(),
        "torch": torch and str(torch.__version__),
        "device": _device(torch),
        "dtype": _dtype(torch),
        "cpu_s": used.user + used.system + used.children_user + used.children_system,
    }


def _device(torch) -> str:
    "An accelerator counts only if something was put on it."
    if torch and torch.cuda.is_initialized():
        return "cuda"
    if torch and torch.backends.mps.is_available() and torch.mps.driver_allocated_memory() > 0:
        return "mps"
    return "cpu"


def _dtype(torch) -> str:
    "What accelerate was told last, else torch's default."
    state = getattr(sys.modules.get("accelerate.state"), "AcceleratorState", None)
    mixed = state._shared_state.get("_mixed_precision") if state else None
    return MIXED.get(mixed) or (str(torch.get_default_dtype()).removeprefix("torch.") if torch else "float32")
