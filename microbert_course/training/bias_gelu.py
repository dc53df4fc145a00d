"""A bias and GELU in one kernel, and the way back in another. What is kept for it is GELU's slope, 16 bits a number as the input would be, so that going
back is one product; the gradient of the bias is added up by the same pass. Written in Triton, as `short_attention` is."""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 16, 256  # of a program's step on the way back
STEPS = 16  # of a program on the way back: its share of the bias's gradient is the sum of 256 rows


@triton.jit
def _piece(width, COLUMNS: tl.constexpr):
    "A program's place along the rows, its columns, and which of them are there; a grid's second axis has too few places."
    across = tl.cdiv(width, COLUMNS)
    columns = tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS)
    return tl.program_id(0) // across, columns, columns < width


@triton.jit
def _places(first_row, columns, is_column, num_rows, width, ROWS: tl.constexpr):
    "Where (ROWS, COLUMNS) numbers lie, and which of them are there."
    rows = first_row + tl.arange(0, ROWS)
    return rows[:, None].to(tl.int64) * width + columns[None, :], (rows[:, None] < num_rows) & is_column[None, :]


@triton.jit
def _gelu_kernel(inputs, bias, outputs, slopes, num_rows, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    "GELU, x·Φ(x), and its slope Φ(x) + x·φ(x); erf by Abramowitz & Stegun 7.1.26, to 1.5e-7, whose exponential is φ's as well."
    down, columns, is_column = _piece(width, COLUMNS)
    at, is_there = _places(down * ROWS, columns, is_column, num_rows, width, ROWS)
    x = tl.load(inputs + at, mask=is_there).to(tl.float32) + tl.load(bias + columns, mask=is_column).to(tl.float32)[None, :]
    exponential = tl.exp2(-0.7213475204444817 * x * x)  # exp(-x²/2)
    t = 1 / (1 + 0.23164189 * tl.abs(x))
    tail = 0.5 * exponential * t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))  # Φ(-|x|)
    share = tl.where(x < 0, tail, 1 - tail)
    tl.store(outputs + at, (x * share).to(outputs.dtype.element_ty), mask=is_there)
    tl.store(slopes + at, (share + 0.3989422804014327 * x * exponential).to(slopes.dtype.element_ty), mask=is_there)


@triton.jit
def _gelu_backward_kernel(d_outputs, slopes, d_inputs, sums, num_rows, width, STEPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    "The gradient of the inputs, and its sum over this program's rows."
    down, columns, is_column = _piece(width, COLUMNS)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for step in range(STEPS):
        at, is_there = _places((down * STEPS + step) * ROWS, columns, is_column, num_rows, width, ROWS)
        slope = tl.load(slopes + at, mask=is_there, other=0.0).to(tl.float32)
        d_input = tl.load(d_outputs + at, mask=is_there, other=0.0).to(tl.float32) * slope
        tl.store(d_inputs + at, d_input.to(d_inputs.dtype.element_ty), mask=is_there)
        total += d_input
    tl.store(sums + down * width + columns, tl.sum(total, 0), mask=is_column)


@torch.library.custom_op("microbert_course::bias_gelu", mutates_args=())
def _bias_gelu(inputs: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    "GELU of the inputs with their bias, and its slope."
    outputs, slopes = torch.empty_like(inputs), torch.empty_like(inputs)
    num_rows, width = inputs.shape
    _gelu_kernel[(triton.cdiv(num_rows, 4) * triton.cdiv(width, 512),)](inputs, bias, outputs, slopes, num_rows, width, ROWS=4, COLUMNS=512)
    return outputs, slopes


@_bias_gelu.register_fake
def _bias_gelu_shapes(inputs, bias):
    return torch.empty_like(inputs), torch.empty_like(inputs)


@torch.library.custom_op("microbert_course::bias_gelu_backward", mutates_args=())
def _bias_gelu_backward(d_outputs: Tensor, slopes: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    "The gradients of the inputs and of the bias."
    num_rows, width = slopes.shape
    num_sums = triton.cdiv(num_rows, STEPS * ROWS)
    d_inputs, sums = torch.empty_like(slopes), torch.empty(num_sums, width, device=slopes.device)
    _gelu_backward_kernel[(num_sums * triton.cdiv(width, COLUMNS),)](d_outputs.contiguous(), slopes, d_inputs, sums, num_rows, width, STEPS=STEPS, ROWS=ROWS, COLUMNS=COLUMNS)
    return d_inputs, sums.sum(0).to(bias.dtype)


@_bias_gelu_backward.register_fake
def _bias_gelu_backward_shapes(d_outputs, slopes, bias):
    return torch.empty_like(slopes), torch.empty_like(bias)


def _remember(ctx, inputs, output):
    ctx.save_for_backward(output[1], inputs[1])


def _differentiate(ctx, d_outputs, _):
    return _bias_gelu_backward(d_outputs, *ctx.saved_tensors)


_bias_gelu.register_autograd(_differentiate, setup_context=_remember)


def bias_gelu(
    inputs: Tensor,  # (..., width) of 16 bits
    bias: Tensor,    # (width,)
) -> Tensor:  # (..., width)
    "GELU of inputs + bias (Hendrycks & Gimpel 2016); the same to the bit each time."
    return _bias_gelu(inputs.flatten(0, -2).contiguous(), bias)[0].view(inputs.shape)
