"""Whether the GPU here runs the course's own kernels, which are written in Triton."""

from importlib.util import find_spec

import torch

OLDEST = 8  # compute capability: in the 64 KiB of shared memory of Turing, 7, the kernels' tables do not fit, and its registers spill


def runs_own_kernels() -> bool:
    "Whether the current device is an NVIDIA GPU from Ampere on, and Triton is there; code for a GPU that torch is compiling may ask, and needs Triton itself."
    is_suited = torch.cuda.is_available() and torch.version.hip is None and torch.cuda.get_device_properties().major >= OLDEST
    return is_suited and (torch.compiler.is_compiling() or find_spec("triton") is not None)
