"Pictures of text on its way to a model: words cut into pieces, and tokens hidden from it."

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from microbert_course.training.masking import mask_tokens
from microbert_course.visual.boxes import Piece, draw_boxes, height_of
from microbert_course.visual.palette import GREY, INK, PALE, PAPER, TINTS, new_figure, titled

MAX_WORDS, MAX_TOKENS, NUM_DRAWS = 24, 40, 200
SOME_TEXT = """the film was watched and rewatched by watchers who were watching it again : an unforgettable , unwatchable , unbelievable film .
believe it or not , forgetting is forgettable , and the acting was acted well by actors acting in an odd , oddly wonderful , fully wonderless play .
a player played the played out part ; the playing was unplayed and unloved , lovable and likable , a film to like and to love , to film and to forget ."""


# --- splitting -------------------------------------------------------------------------------------------------------

def make_splitting(vocab=None, encode=None) -> dict:
    "A vocabulary learned from three lines, where none is given."
    from microbert_course.data import wordpiece  # here, not above: it takes half a second

    if vocab is None:
        counts: dict[str, int] = {}
        for word in wordpiece.bert_words(SOME_TEXT.replace("\n", " ")):
            counts[word] = counts.get(word, 0) + 1
        vocab = wordpiece.learn_wordpiece(counts, 160)
    return {"vocab": vocab, "encode": encode or wordpiece.wordpiece_encode}


def fit_splitting(live: dict, settings: dict) -> dict:
    "How many pieces there are to know: from the letters alone to the whole vocabulary."
    size = len(live["vocab"])
    letters = sum(len(piece.removeprefix("##")) == 1 or piece.startswith("[") for piece in live["vocab"])
    letters = min(letters, size - 1)
    choices = sorted({letters, size, *(round(letters * (size / letters) ** (part / 6)) for part in range(1, 6))})
    return {"num_pieces": {"choices": tuple(choices), "start": size}}


def split_words(vocab: Mapping[str, int], encode: Callable, text: str, num_pieces: int) -> list[tuple[str, list[str]]]:
    "Each word of the text and its pieces, spelled with the first pieces of the vocabulary."
    from microbert_course.data.wordpiece import bert_words  # here, not above: it takes half a second

    words = bert_words(text)
    if not words:
        raise ValueError(f"{text!r} holds no word: type a few letters")
    if len(words) > MAX_WORDS:
        raise ValueError(f"the text has {len(words)} words, and the picture has room for {MAX_WORDS}: shorten it")
    known = {piece: id for piece, id in vocab.items() if id < num_pieces}
    return [(word, encode(word, known)) for word in words]


def draw_wordpiece_splitting(
    vocab: Mapping[str, int],  # piece: id, in the order in which they were learned
    encode: Callable[[str, Mapping[str, int]], list[str]],  # a word and a vocabulary to pieces
    text: str,
    num_pieces: int,  # how many of the vocabulary's pieces are known
):  # the Figure
    "Every piece in a box with its number; the pieces of a word stand close together."
    spelled = split_words(vocab, encode, text, num_pieces)
    boxes = []
    for word, pieces in spelled:
        face = TINTS["red"] if pieces == ["[UNK]"] else PALE if len(pieces) == 1 else TINTS["blue"]
        for number, piece in enumerate(pieces):
            shown = f"{piece} ({word})" if piece == "[UNK]" else piece
            boxes.append(Piece(shown, face, below=str(vocab.get(piece, "?")), is_last=number == len(pieces) - 1))
    figure, (ax,) = new_figure(height=height_of(boxes) + 0.3)
    figure.set_layout_engine("none")  # a sheet of boxes needs no search for a layout, and it is drawn at every key
    ax.set_position((0.005, 0.0, 0.99, 1 - 0.28 / figure.get_figheight()))
    draw_boxes(ax, boxes)
    titled(ax, f"{len(spelled)} words, {len(boxes)} pieces, {num_pieces:,} pieces known (small: a piece's number)")
    return figure


def tell_wordpiece_splitting(vocab, encode, text, num_pieces) -> str:
    "The same in words."
    spelled = split_words(vocab, encode, text, num_pieces)
    unknown = sum(pieces == ["[UNK]"] for _, pieces in spelled)
    total = sum(len(pieces) for _, pieces in spelled)
    split = "; ".join(" ".join(pieces) for _, pieces in spelled)
    return (f"With {num_pieces:,} of {len(vocab):,} pieces known, {len(spelled)} words become {total} pieces"
            f"{f', {unknown} of them unknown' if unknown else ''}: {split}.")


# --- masking ---------------------------------------------------------------------------------------------------------

def make_masking(tokenizer=None, mask=None) -> dict:
    "A tokenizer of whole words, where none is given."
    if tokenizer is None:
        from microbert_course.data.wordpiece import train_words  # here, not above: it takes half a second

        tokenizer = train_words([SOME_TEXT], 90)
    return {"tokenizer": tokenizer, "mask": mask or mask_tokens}


def corrupted(tokenizer, mask: Callable, text: str, mlm_probability: float, draw: int) -> tuple[Tensor, Tensor, Tensor, dict[str, int]]:
    "The row, what became of it in this draw, its labels, and how often each fate met a chosen token in many draws."
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])                                    # (seq,)
    if len(ids) > MAX_TOKENS:
        raise ValueError(f"the text has {len(ids)} tokens, and the picture has room for {MAX_TOKENS}: shorten it")
    is_special = torch.isin(ids, torch.tensor([id for id in tokenizer.all_special_ids if id != tokenizer.unk_token_id]))
    if is_special.all():
        raise ValueError(f"{text!r} has no word to hide: type a few")
    rows, forbidden = ids.repeat(NUM_DRAWS, 1), is_special.repeat(NUM_DRAWS, 1)         # (draws, seq)
    generator = torch.Generator().manual_seed(draw)
    changed, labels = mask(rows, forbidden, tokenizer.mask_token_id, len(tokenizer), mlm_probability, generator)
    chosen = labels != -100
    is_mask, is_same = changed == tokenizer.mask_token_id, changed == rows
    counts = {"[MASK]": chosen & is_mask, "another word": chosen & ~is_mask & ~is_same, "left as it was": chosen & is_same}
    shown = next((row for row in range(NUM_DRAWS) if chosen[row].any()), 0)
    return ids, changed[shown], labels[shown], {name: int(where.sum()) for name, where in counts.items()}


def fates_of(ids: Tensor, changed: Tensor, labels: Tensor, mask_token_id: int) -> list[str]:
    "What became of each token."
    return ["not asked" if label == -100 else "[MASK]" if new == mask_token_id else "left as it was" if new == old else "another word"
            for old, new, label in zip(ids.tolist(), changed.tolist(), labels.tolist(), strict=True)]


FATES = {"not asked": (PAPER, ""), "[MASK]": (TINTS["red"], "//"), "another word": (TINTS["blue"], "xx"), "left as it was": (TINTS["green"], "..")}


def draw_masking_sampler(
    tokenizer,
    mask: Callable,  # as `mask_tokens`
    text: str,
    mlm_probability: float,
    draw: int,  # the seed
):  # the Figure
    "One draw as boxes, and beside it how many draws came out."
    ids, changed, labels, counts = corrupted(tokenizer, mask, text, mlm_probability, draw)
    fates = fates_of(ids, changed, labels, tokenizer.mask_token_id)
    old, new = (tokenizer.convert_ids_to_tokens(part.tolist()) for part in (ids, changed))
    below = {"not asked": "", "left as it was": "asked, and left"}
    boxes = [Piece(after, FATES[fate][0], GREY if fate == "not asked" else INK, below.get(fate, f"was {before}"))
             for before, after, fate in zip(old, new, fates, strict=True)]
    figure, (left, right) = new_figure(height=max(2.3, height_of(boxes, 46) + 0.4), columns=2, widths=(1.75, 1))
    draw_boxes(left, boxes, 46)
    asked = sum(fate != "not asked" for fate in fates)
    titled(left, f"what the model reads: {asked} of {len(fates)} tokens asked")
    total = max(1, sum(counts.values()))
    for place, (name, count) in enumerate(counts.items()):
        face, hatch = FATES[name]
        right.barh(place, count / total, color=face, hatch=hatch, edgecolor=INK)
        right.text(count / total + 0.02, place, f"{count / total:.0%}", va="center", fontsize=9)
    for share, place in zip((0.8, 0.1, 0.1), range(3), strict=True):
        right.plot([share, share], [place - 0.45, place + 0.45], color=INK, linestyle="--", linewidth=1.5)
    right.set_yticks(range(3), counts)
    right.set(xlim=(0, 1.12), xlabel="share (dashed: 80/10/10)")
    right.invert_yaxis()
    titled(right, f"{NUM_DRAWS} draws, {total:,} asked")
    return figure


def tell_masking_sampler(tokenizer, mask, text, mlm_probability, draw) -> str:
    "The same in words."
    ids, changed, labels, counts = corrupted(tokenizer, mask, text, mlm_probability, draw)
    fates = fates_of(ids, changed, labels, tokenizer.mask_token_id)
    read = " ".join(tokenizer.convert_ids_to_tokens(changed.tolist()))
    asked = [f"{token} ({fate})" for token, fate in zip(tokenizer.convert_ids_to_tokens(ids.tolist()), fates, strict=True) if fate != "not asked"]
    total = max(1, sum(counts.values()))
    shares = ", ".join(f"{count / total:.0%} {name}" for name, count in counts.items())
    return f"The model reads: {read}. It is asked for {', '.join(asked) or 'nothing'}. In {NUM_DRAWS} draws at {mlm_probability:.0%}: {shares}."
