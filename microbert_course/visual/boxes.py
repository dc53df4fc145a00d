"Words in boxes, row after row, for pictures of text."

from dataclasses import dataclass

from microbert_course.visual.palette import INK, PAPER, without_frame

CHARS = 78  # of the monospaced letters, in the width of a figure of 7.4 inches
ROW = 1.5  # from line to line


@dataclass(frozen=True)
class Piece:
    "One word in a box."

    text: str
    face: str = PAPER
    edge: str = INK
    below: str = ""  # small, under the box
    is_last: bool = True  # False = the next one stands close to it, on the same row if it fits


def lay_out(
    pieces: list[Piece],
    width: float = CHARS,  # of a row, in letters
) -> list[tuple[int, float, float]]:  # row, left edge and width of each
    "Boxes side by side, a new row when one is full."
    places, row, left = [], 0, 0.0
    for piece in pieces:
        wide = max(len(piece.text), len(piece.below) * 0.75) + 1.0
        if left and left + wide > width:
            row, left = row + 1, 0.0
        places.append((row, left, wide))
        left += wide + (1.0 if piece.is_last else 0.15)
    return places


def draw_boxes(ax, pieces: list[Piece], width: float = CHARS) -> None:
    "The boxes on these axes, which become a sheet of paper."
    from matplotlib.patches import FancyBboxPatch

    places = lay_out(pieces, width)
    for piece, (row, left, wide) in zip(pieces, places, strict=True):
        middle = -ROW * row
        ax.add_patch(FancyBboxPatch((left, middle - 0.42), wide, 0.84, boxstyle="round,pad=0,rounding_size=0.25", facecolor=piece.face,
                                    edgecolor=piece.edge, linewidth=1.2))
        ax.text(left + wide / 2, middle, piece.text, ha="center", va="center", family="monospace", fontsize=9, color=INK)
        if piece.below:
            ax.text(left + wide / 2, middle - 0.66, piece.below, ha="center", va="center", fontsize=6.5, color=INK)
    rows = places[-1][0] + 1 if places else 1
    ax.set_xlim(-0.5, width + 0.5)
    ax.set_ylim(-ROW * (rows - 1) - 1.0, 0.6)
    without_frame(ax)


def height_of(pieces: list[Piece], width: float = CHARS) -> float:  # inches
    "How tall a figure of these boxes has to be."
    places = lay_out(pieces, width)
    return 0.36 * ((places[-1][0] + 1) if places else 1) + 0.35
