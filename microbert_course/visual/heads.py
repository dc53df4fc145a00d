"Who looks at whom in a real sentence, one head at a time."

import html

import torch
from torch import Tensor

from microbert_course.models.bert import MicroBert, MicroBertConfig
from microbert_course.visual.attention import show_attention
from microbert_course.visual.palette import COLOURS, INK, new_figure, titled
from microbert_course.visual.words import SOME_TEXT

MAX_TOKENS = 20


def make_heads(model=None, tokenizer=None) -> dict:
    "A small BERT that has learned nothing, where none is given: its heads look everywhere alike."
    if (model is None) != (tokenizer is None):
        given, missing = ("model", "tokenizer") if tokenizer is None else ("tokenizer", "model")
        raise ValueError(f"a {given} is given without its {missing}, and they belong together: give both, or neither")
    if tokenizer is None:
        from microbert_course.data.wordpiece import train_words  # here, not above: it takes half a second

        tokenizer = train_words([SOME_TEXT], 90)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = MicroBert(MicroBertConfig(len(tokenizer), hidden_size=32, num_layers=2, num_heads=4, intermediate_size=64, max_seq_len=64))
    return {"model": model, "tokenizer": tokenizer}


def fit_heads(live: dict, settings: dict) -> dict:
    "As many layers, heads and tokens as there are."
    weights, tokens = heads_of(**live, text=settings["text"])
    names = tuple(f"{place} {token}" for place, token in enumerate(tokens))
    return {"layer": {"high": len(weights) - 1}, "head": {"high": len(weights[0]) - 1},
            "token": {"choices": tuple(range(len(tokens))), "labels": names}}


def heads_of(model, tokenizer, text: str) -> tuple[list[Tensor], list[str]]:  # one (num_heads, seq, seq) a layer; seq tokens
    "The weights of all heads for one text."
    ids = tokenizer(text, verbose=False)["input_ids"]
    if len(ids) > MAX_TOKENS:
        raise ValueError(f"the text has {len(ids)} tokens, and the picture has room for {MAX_TOKENS}: shorten it")
    encoder = getattr(model, "bert", model)
    device = next(encoder.parameters()).device
    weights = encoder.attention_weights(torch.tensor([ids], device=device))
    return [layer[0].float().cpu() for layer in weights], tokenizer.convert_ids_to_tokens(ids)


def draw_attention_heads(
    model,  # with `attention_weights(input_ids)`, or a `bert` that has it
    tokenizer,
    text: str,
    layer: int,
    head: int,
    token: int,  # its place in the row
):  # the Figure
    "The whole head as a square, and beside it where one token looks."
    from matplotlib.patches import Rectangle

    weights, tokens = heads_of(model, tokenizer, text)
    seq, looks = len(tokens), weights[layer][head][token]
    figure, (square, bars) = new_figure(7.4, 1.5 + 0.19 * seq, columns=2, widths=(1.25, 1))
    show_attention(weights[layer][head], tokens, square)
    square.tick_params(labelsize=8)
    square.add_patch(Rectangle((-0.5, token - 0.5), seq, 1, fill=False, edgecolor=COLOURS["red"], linewidth=2))
    titled(square, f"layer {layer}, head {head}")
    bars.barh(range(seq), looks.tolist(), color=[COLOURS["red"] if place == token else COLOURS["blue"] for place in range(seq)],
              hatch=["//" if place == token else "" for place in range(seq)], edgecolor=INK, linewidth=0.6)
    bars.set_yticks(range(seq), tokens, fontsize=8)
    bars.set_ylim(seq - 0.5, -0.5)
    bars.set_xlim(0, max(0.3, float(looks.max()) * 1.08))
    bars.set(xlabel="weight")
    titled(bars, f"where “{tokens[token]}” looks")
    return figure


def farthest(looks: Tensor, tokens: list[str], number: int = 3) -> str:
    "The tokens that get most of one row's weight."
    values, places = looks.topk(min(number, len(tokens)))
    return ", ".join(f"{tokens[place]} {value:.2f}" for value, place in zip(values.tolist(), places.tolist(), strict=True))


def tell_attention_heads(model, tokenizer, text, layer, head, token) -> str:
    "The same in words."
    weights, tokens = heads_of(model, tokenizer, text)
    square = weights[layer][head]
    spread = float((-square * square.clamp(min=1e-12).log()).sum(-1).exp().mean())
    return (f"Layer {layer}, head {head}: “{tokens[token]}” looks most at {farthest(square[token], tokens)}. "
            f"On average a token of this head spreads its look over {spread:.1f} of {len(tokens)} tokens.")


def hover_attention_heads(model, tokenizer, text, layer, head, token) -> str:  # HTML
    "The sentence as words to point at, or to reach with Tab: each says where it looks."
    weights, tokens = heads_of(model, tokenizer, text)
    square = weights[layer][head]
    style = ("<style>.mb-token{position:relative;display:inline-block;padding:1px 4px;margin:1px;border:1px solid #767676;border-radius:4px;cursor:help}"
             ".mb-token span{display:none;position:absolute;left:0;top:1.7em;z-index:9;background:#222;color:#fff;padding:3px 7px;border-radius:4px;"
             "white-space:nowrap}.mb-token:hover span,.mb-token:focus span{display:block}</style>")
    words = "".join(f'<span class="mb-token" tabindex="0">{html.escape(name)}<span role="tooltip">looks at {html.escape(farthest(square[place], tokens))}'
                    "</span></span>" for place, name in enumerate(tokens))
    return f'{style}<div class="mb-tokens" aria-label="point at a token to see where it looks">{words}</div>'
