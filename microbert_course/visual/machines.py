"Where the bytes go, how a ring sums, and how documents share rows."

from collections.abc import Callable

from microbert_course.data.corpus import best_fit
from microbert_course.models.bert import MicroBertConfig
from microbert_course.training.memory import CARDS, MARGIN, fits, largest_batch, plan_memory
from microbert_course.visual.palette import (
    COLOURS,
    GREY,
    HATCHES,
    INK,
    PALE,
    PAPER,
    SHADES,
    TINTS,
    new_figure,
    text_on,
    titled,
)

# --- memory ----------------------------------------------------------------------------------------------------------

FACES = (COLOURS["blue"], COLOURS["sky"], COLOURS["green"], TINTS["green"], COLOURS["orange"], COLOURS["red"], COLOURS["purple"], TINTS["purple"], GREY, PALE)


def make_memory(config=None) -> dict:
    "The shape of bert-base, where no other is given."
    return {"config": config or MicroBertConfig(30_522, hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072, max_seq_len=512, dropout=0.1)}


def fit_memory(live: dict, settings: dict) -> dict:
    "Rows up to what the model has positions for."
    longest = live["config"].max_seq_len
    choices = tuple(sorted({length for length in (32, 64, 128, 256, 512, 1024, 2048, 4096) if length <= longest} | {longest}))
    return {"seq_len": {"choices": choices}}


def draw_memory_bar(
    config: MicroBertConfig,
    batch_size: int,
    seq_len: int,
    precision: str,       # no, fp16 or bf16
    checkpointing: bool,
    attention: str,       # fused or math
    card: str,            # a key of CARDS
):  # the Figure
    "The worst moment of an update as one bar of parts, the same with the other choice of checkpointing, and the card's edge."
    figure, (ax,) = new_figure(height=2.9)
    plans = {chosen: plan_memory(config, batch_size, seq_len, precision=precision, checkpointing=chosen, attention=attention) for chosen in (checkpointing, not checkpointing)}
    for row, plan in enumerate(plans.values()):
        left = 0.0
        for (name, num_bytes), face, hatch in zip(plan.parts.items(), FACES, HATCHES, strict=True):
            (bar,) = ax.barh(row, num_bytes / 1e9, left=left, height=0.7 if row == 0 else 0.35, color=face, hatch=hatch, edgecolor=INK, linewidth=0.5,
                             label=name.replace("_", " ") if row == 0 else None)
            bar.set_hatch_linewidth(0.5)
            left += num_bytes / 1e9
        ax.text(left + 0.01 * ax.get_xlim()[1], row, f"{left:.1f} GB", va="center", fontsize=9, bbox=dict(facecolor=PAPER, edgecolor="none", pad=1.5))
    ax.axvline(CARDS[card] / 1e9, color=COLOURS["red"], linewidth=2.5)
    ax.axvline((1 - MARGIN) * CARDS[card] / 1e9, color=COLOURS["red"], linewidth=1.2, linestyle="--")
    ax.set_yticks([0, 1], ["checkpointing" if chosen else "no checkpointing" for chosen in plans])
    ax.set_xlim(0, 1.15 * max(CARDS[card], *(plan.total for plan in plans.values())) / 1e9)
    ax.set_ylim(1.6, -0.6)
    ax.set_xlabel(f"GB (line: {card}; dashed: what may be used of it)")
    figure.legend(fontsize=7.5, ncols=5, loc="outside upper center", frameon=False)
    titled(ax, f"{'fits' if fits(plans[checkpointing], CARDS[card]) else 'does not fit'}; the worst moment is {plans[checkpointing].moment}")
    return figure


def tell_memory_bar(config, batch_size, seq_len, precision, checkpointing, attention, card) -> str:
    "The same in words."
    plan = plan_memory(config, batch_size, seq_len, precision=precision, checkpointing=checkpointing, attention=attention)
    most = largest_batch(config, CARDS[card], seq_len, precision=precision, checkpointing=checkpointing, attention=attention)
    parts = sorted(plan.parts.items(), key=lambda part: -part[1])[:4]
    return (f"{batch_size} rows of {seq_len} tokens, precision {precision}, {'with' if checkpointing else 'without'} checkpointing, {attention} attention, need "
            f"{plan.total / 1e9:.2f} GB at {plan.moment}: {', '.join(f'{name} {size / 1e9:.2f}' for name, size in parts)}. On the {card} this "
            f"{'fits' if fits(plan, CARDS[card]) else 'does not fit'}; at most {most} rows do.")


# --- the ring --------------------------------------------------------------------------------------------------------

def ring_on_paper(held: list[list[int]]) -> list[list[list[int]]]:  # held[rank][chunk]; every state on the way
    "Two laps of a ring: sums travel and grow, then finished sums go round (Patarasuk & Yuan 2009)."
    world_size, states = len(held), [[list(row) for row in held]]
    for lap, first in (("sum", 0), ("copy", 1)):
        for step in range(world_size - 1):
            before = [list(row) for row in states[-1]]
            after = [list(row) for row in before]
            for rank in range(world_size):
                chunk, receiver = (rank - step + first) % world_size, (rank + 1) % world_size
                after[receiver][chunk] = before[rank][chunk] + (before[receiver][chunk] if lap == "sum" else 0)
            states.append(after)
    return states


def make_ring(ring=None) -> dict:
    "The ring on paper, where no other is given."
    return {"ring": ring or ring_on_paper}


def fit_ring(live: dict, settings: dict) -> dict:
    "Two laps of one step less than there are processes."
    return {"step": {"high": 2 * (settings["world_size"] - 1)}}


def ring_state(ring: Callable, world_size: int, step: int) -> tuple[list[list[int]], set[tuple[int, int]]]:
    "What every process holds after a step, and which (process, chunk) has just arrived."
    states = ring([[10**rank * (chunk + 1) for chunk in range(world_size)] for rank in range(world_size)])
    before, after = states[max(step - 1, 0)], states[step]
    return after, {(rank, chunk) for rank in range(world_size) for chunk in range(world_size) if before[rank][chunk] != after[rank][chunk]}


def draw_ring_all_reduce(
    ring: Callable,   # held[rank][chunk] -> every state on the way
    world_size: int,
    step: int,        # 0 = before the first
):  # the Figure
    "A row a process, a column a chunk; darker the more processes a sum knows, an arrow where it has just come from."
    held, arrived = ring_state(ring, world_size, step)
    figure, (ax,) = new_figure(height=0.9 + 0.42 * world_size)
    knows = [[sum(digit != "0" for digit in str(number)) / world_size for number in row] for row in held]
    ax.imshow([[0.85 * share for share in row] for row in knows], cmap=SHADES, vmin=0, vmax=1, aspect="auto")
    for rank, row in enumerate(held):
        for chunk, number in enumerate(row):
            mark = "↓ " if (rank, chunk) in arrived else ""
            done = " ✓" if knows[rank][chunk] == 1 else ""
            ax.text(chunk, rank, f"{mark}{number}{done}", ha="center", va="center", family="DejaVu Sans", fontsize=9.5, color=text_on(0.85 * knows[rank][chunk]),
                    fontweight="bold" if mark else "normal")
    ax.set_xticks(range(world_size), [f"chunk {chunk}" for chunk in range(world_size)])
    ax.set_yticks(range(world_size), [f"process {rank}" for rank in range(world_size)])
    titled(ax, f"{_lap(world_size, step)} (↓ just arrived, ✓ whole)")
    return figure


def _lap(world_size: int, step: int) -> str:
    if step == 0:
        return "before the first step"
    return f"step {step} of {2 * (world_size - 1)}: " + ("sums grow" if step < world_size else "whole sums go round")


def tell_ring_all_reduce(ring, world_size, step) -> str:
    "The same in words."
    held, arrived = ring_state(ring, world_size, step)
    whole = sum(all(digit != "0" for digit in str(number)) and len(str(number)) == world_size for row in held for number in row)
    moves = ", ".join(f"process {(rank - 1) % world_size} to {rank}: chunk {chunk}" for rank, chunk in sorted(arrived)) or "nothing yet"
    return (f"{world_size} processes, {_lap(world_size, step)}. Sent: {moves}. {whole} of {world_size**2} chunks are whole. "
            f"By now each process has sent {step / world_size:.2f} times the size of its gradient.")


# --- packing ---------------------------------------------------------------------------------------------------------

METHODS = ("one a row", "as they come", "best fit")
MAX_DOCUMENTS = 60


def make_packing(lengths=None, pack=None) -> dict:
    "Lengths as film reviews have them, and lesson 12's best fit, where none are given."
    if lengths is None:
        lengths = [41, 199, 56, 244, 12, 87, 131, 23, 310, 66, 154, 35, 98, 221, 18, 73, 110, 47, 178, 29] * 2
    lengths = [int(length) for length in lengths]
    if not lengths or min(lengths) < 1:
        raise ValueError(f"lengths {str(lengths)[:60]} are not tokens of documents: give whole numbers from 1")
    return {"lengths": lengths, "pack": pack or best_fit}


def fit_packing(live: dict, settings: dict) -> dict:
    "As many documents as there are."
    return {"num_documents": {"high": min(MAX_DOCUMENTS, len(live["lengths"]))}}


def packed_rows(lengths: list[int], pack: Callable, method: str, max_seq_len: int, num_documents: int) -> tuple[list[int], list[list[int]]]:
    "The lengths after windows of `max_seq_len` were cut, and which of them share a row."
    sizes = [size for length in lengths[:num_documents] for size in [max_seq_len] * (length // max_seq_len) + [length % max_seq_len] if size]
    if method == "one a row":
        return sizes, [[number] for number in range(len(sizes))]
    if method == "best fit":
        return sizes, pack(sizes, max_seq_len)
    rows, room = [], 0
    for number, size in enumerate(sizes):
        if size > room:
            rows.append([])
            room = max_seq_len
        rows[-1].append(number)
        room -= size
    return sizes, rows


def draw_packing_board(
    lengths: list[int],  # tokens of each document
    pack: Callable,      # sizes, max_seq_len -> which share a row, as `best_fit`
    method: str,         # of METHODS
    max_seq_len: int,
    num_documents: int,
):  # the Figure
    "A line a row, a box a document, hatched where there is only padding."
    sizes, rows = packed_rows(lengths, pack, method, max_seq_len, num_documents)
    filled = sum(sizes) / (len(rows) * max_seq_len)
    figure, (ax,) = new_figure(height=min(5.0, 0.9 + 0.16 * max(len(rows), 8)))
    faces = [COLOURS["blue"], COLOURS["orange"], COLOURS["green"], COLOURS["sky"], COLOURS["purple"]]
    for place, row in enumerate(rows):
        ax.barh(place, max_seq_len, color=PALE, hatch="//", edgecolor=GREY, linewidth=0, height=0.86)
        left = 0
        for number in row:
            ax.barh(place, sizes[number], left=left, color=faces[number % len(faces)], edgecolor=INK, linewidth=0.7, height=0.86)
            if len(rows) <= 30 and sizes[number] > 0.05 * max_seq_len:
                ax.text(left + sizes[number] / 2, place, sizes[number], ha="center", va="center", fontsize=6.5, color=INK, bbox=dict(facecolor=PAPER, edgecolor="none", pad=0.4, alpha=0.85))
            left += sizes[number]
    ax.set(xlim=(0, max_seq_len), ylim=(len(rows) - 0.4, -0.6), xlabel="tokens (hatched: padding)", ylabel="row")
    ax.set_yticks(range(0, len(rows), 1 + len(rows) // 10))
    titled(ax, f"{method}: {_counted(len(sizes), 'piece')} in {_counted(len(rows), 'row')}, {filled:.0%} filled")
    return figure


def tell_packing_board(lengths, pack, method, max_seq_len, num_documents) -> str:
    "The same in words."
    sizes, rows = packed_rows(lengths, pack, method, max_seq_len, num_documents)
    others = {name: len(packed_rows(lengths, pack, name, max_seq_len, num_documents)[1]) for name in METHODS}
    return (f"Given {_counted(num_documents, 'document')}, cut into {_counted(len(sizes), 'piece')} of at most {max_seq_len} tokens. {method.capitalize()}, "
            f"{_counted(len(rows), 'row')}: {sum(sizes) / (len(rows) * max_seq_len):.0%} of the places hold text, and the fullest row holds {_counted(max(map(len, rows)), 'piece')}. "
            f"Rows by method: {', '.join(f'{name} {count}' for name, count in others.items())}.")


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
