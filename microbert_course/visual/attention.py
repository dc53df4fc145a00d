"""Pictures of who looks at whom."""

import torch
from torch import Tensor


def show_attention(
    weights: Tensor,  # (seq, seq), one head of one row of the batch: weights[0, head]
    tokens: list[str],  # seq of them
    ax=None,  # matplotlib Axes to draw on; None = a new figure
):  # the Axes
    """One head's attention as a square of shades: darker = more weight; every row sums to 1.

    Raises: ValueError if `weights` is not one square with a side for every token."""
    import matplotlib.pyplot as plt

    seq = len(tokens)
    if tuple(weights.shape) != (seq, seq):
        raise ValueError(f"weights have the shape {tuple(weights.shape)}, and {seq} tokens need ({seq}, {seq}): "
                         f"pick one head of one row, as in weights[0, 0]")
    if ax is None:
        side = 1.5 + 0.3 * seq
        _, ax = plt.subplots(figsize=(side, side), layout="constrained")
    ax.imshow(torch.as_tensor(weights).detach().float().cpu().numpy(), cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(seq), tokens, rotation=90)
    ax.set_yticks(range(seq), tokens)
    ax.set_xlabel("key (is looked at)")
    ax.set_ylabel("query (is looking)")
    return ax


def show_heads(
    weights: Tensor,  # (num_heads, seq, seq), one row of the batch: weights[0]
    tokens: list[str],  # seq of them
    titles: list[str] | None = None,  # one a head; None = "head 0", "head 1", ...
):  # the Figure
    """All heads of one layer side by side.

    Raises: ValueError if `weights` is not a stack of squares with a side for every token."""
    import matplotlib.pyplot as plt

    if weights.ndim != 3:
        raise ValueError(f"weights have the shape {tuple(weights.shape)}, and (num_heads, seq, seq) is needed: "
                         f"pick one row of the batch, as in weights[0]")
    num_heads = len(weights)
    side = 1.5 + 0.3 * len(tokens)
    figure, axes = plt.subplots(1, num_heads, figsize=(side * num_heads, side), squeeze=False, layout="constrained")
    for head, ax in enumerate(axes[0]):
        show_attention(weights[head], tokens, ax)
        ax.set_title(titles[head] if titles else f"head {head}")
    return figure
