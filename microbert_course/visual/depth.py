"How the residual stream grows, and gradients shrink, from block to block."

import torch
from torch import Tensor, nn

from microbert_course.models.attention import MultiHeadAttention
from microbert_course.models.transformer import FeedForward, PostNorm, PreNorm, TransformerBlock
from microbert_course.visual.palette import COLOURS, INK, new_figure, titled

KINDS = ("pre-norm", "post-norm", "no norm")


class _Bare(nn.Module):
    "A residual branch without a norm."

    def __init__(self, sublayer: nn.Module, norm: nn.Module):
        super().__init__()
        self.sublayer = sublayer

    def forward(self, hidden_states: Tensor) -> Tensor:
        return hidden_states + self.sublayer(hidden_states)


def make_depth(hidden_states=None, pre_norm=None, post_norm=None) -> dict:
    "Random states, and the branches of lesson 04, where none are given."
    if hidden_states is None:
        hidden_states = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(0))
    if hidden_states.ndim != 3 or hidden_states.size(2) % 2:
        raise ValueError(f"hidden_states have the shape {tuple(hidden_states.shape)}: give (batch, seq, hidden) with an even hidden size")
    return {"hidden_states": hidden_states.detach().float().cpu(), "pre_norm": pre_norm or PreNorm, "post_norm": post_norm or PostNorm}


def stream_norms(
    hidden_states: Tensor,  # (batch, seq, hidden)
    branch,                 # takes a sublayer and a norm
    num_layers: int,
    branch_scale: float,    # every sublayer's last matrix is multiplied with this
) -> tuple[list[float], list[float]]:  # lengths of the stream, of its gradient: num_layers + 1 each
    "The mean length of a token's vector after each block, and of the gradient that reaches it."
    hidden = hidden_states.size(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = [TransformerBlock(branch(MultiHeadAttention(hidden, 2), nn.LayerNorm(hidden)), branch(FeedForward(hidden, 2 * hidden), nn.LayerNorm(hidden)))
                  for _ in range(num_layers)]
        target = torch.randn(hidden)
    states = [hidden_states.clone().requires_grad_()]
    for block in blocks:
        for last in (block.attention.sublayer.out, block.feed_forward.sublayer.down):
            last.weight.data.mul_(branch_scale)
        states.append(block(states[-1]))
    gradients = torch.autograd.grad((states[-1] @ target).mean(), states)
    return ([state.detach().norm(dim=-1).mean().item() for state in states], [gradient.norm(dim=-1).mean().item() for gradient in gradients])


def _all_norms(hidden_states, pre_norm, post_norm, num_layers, branch_scale) -> dict[str, tuple[list[float], list[float]]]:
    branches = dict(zip(KINDS, (pre_norm, post_norm, _Bare), strict=True))
    return {name: stream_norms(hidden_states, branch, num_layers, branch_scale) for name, branch in branches.items()}


def draw_residual_norms(
    hidden_states: Tensor,  # (batch, seq, hidden), what the first block reads
    pre_norm,               # takes a sublayer and a norm, as `PreNorm`
    post_norm,              # as `PostNorm`
    kind: str,              # of KINDS: the one in focus
    num_layers: int,
    branch_scale: float,
):  # the Figure
    "Two lines a kind: the stream's length on the way up, the gradient's on the way down."
    from matplotlib.ticker import LogLocator

    figure, axes = new_figure(height=3.1, columns=2)
    for (name, lines), colour, marker in zip(_all_norms(hidden_states, pre_norm, post_norm, num_layers, branch_scale).items(),
                                             ("blue", "red", "green"), "os^", strict=True):
        for ax, values in zip(axes, lines, strict=True):
            ax.plot(range(num_layers + 1), values, marker=marker, markersize=4, color=COLOURS[colour], linewidth=2.6 if name == kind else 1,
                    alpha=1 if name == kind else 0.55, linestyle="-" if name == kind else "--", label=name)
            if name == kind:
                for depth, up in ((0, 6), (num_layers, 6)):
                    ax.annotate(f"{values[depth]:.2g}", (depth, values[depth]), (0, up), textcoords="offset points", ha="center", fontsize=8, color=INK)
    for ax, title in zip(axes, ("length of the stream", "length of its gradient"), strict=True):
        ax.set_yscale("log")
        ax.margins(y=0.2)
        low, high = ax.get_ylim()
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7) if high < 100 * low else (1,)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
        ax.set_xlabel("after block (0 = embeddings)")
        titled(ax, title)
    axes[0].legend(fontsize=8)
    return figure


def tell_residual_norms(hidden_states, pre_norm, post_norm, kind, num_layers, branch_scale) -> str:
    "The same in words."
    found = _all_norms(hidden_states, pre_norm, post_norm, num_layers, branch_scale)
    ends = "; ".join(f"{name}: the stream goes from {stream[0]:.2g} to {stream[-1]:.2g}, and the gradient at the first block is "
                     f"{gradient[0] / gradient[-1]:.2g} times that at the last" for name, (stream, gradient) in found.items())
    return f"{num_layers} blocks, branches scaled by {branch_scale:g}; in focus: {kind}. {ends}."
