"Attention pictures: what is on them, and what they refuse to draw."

import matplotlib
import pytest
import torch

from microbert_course.visual.attention import show_attention, show_heads

matplotlib.use("Agg")
TOKENS = ["[CLS]", "good", "film"]


@pytest.fixture(autouse=True)
def close_figures():
    import matplotlib.pyplot as plt
    yield
    plt.close("all")


def test_picture_shows_the_weights_with_queries_down_and_keys_across():
    "The array that is drawn is the one that was given, on the scale from 0 to 1, with tokens on both sides."
    weights = (torch.eye(3, dtype=torch.bfloat16).roll(1, 0) / 2).requires_grad_()
    ax = show_attention(weights, TOKENS)
    assert torch.equal(torch.tensor(ax.images[0].get_array()), weights.detach().float())
    assert ax.images[0].get_clim() == (0, 1)
    assert [label.get_text() for label in ax.get_xticklabels()] == TOKENS
    assert [label.get_text() for label in ax.get_yticklabels()] == TOKENS
    assert ax.get_ylabel() == "query (is looking)" and ax.get_xlabel() == "key (is looked at)"


def test_picture_is_drawn_on_the_axes_it_is_given():
    "No second figure appears."
    import matplotlib.pyplot as plt
    _, ax = plt.subplots()
    assert show_attention(torch.eye(3), TOKENS, ax) is ax and len(plt.get_fignums()) == 1


def test_heads_stand_side_by_side_with_their_titles():
    "One axes a head, in order."
    assert [ax.get_title() for ax in show_heads(torch.rand(2, 3, 3), TOKENS).axes] == ["head 0", "head 1"]
    assert [ax.get_title() for ax in show_heads(torch.rand(2, 3, 3), TOKENS, ["a", "b"]).axes] == ["a", "b"]


def test_weights_that_do_not_fit_the_tokens_are_refused():
    "The message names both shapes."
    with pytest.raises(ValueError, match=r"shape \(2, 3, 3\), and 3 tokens need \(3, 3\)"):
        show_attention(torch.rand(2, 3, 3), TOKENS)
    with pytest.raises(ValueError, match=r"shape \(3, 3\), and \(num_heads, seq, seq\) is needed"):
        show_heads(torch.rand(3, 3), TOKENS)
