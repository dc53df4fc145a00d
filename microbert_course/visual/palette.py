"""Colours that colour-blind people can tell apart, and the figure that all explorables draw on.

Colour is never the only sign: where two things differ in colour, they differ in hatching, marker, dash or label as well."""

COLOURS = {  # Okabe and Ito 2008, without the yellow, which is too pale for lines on white
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
}
TINTS = {"blue": "#CFE6F5", "orange": "#F7E3B8", "green": "#C9E8DC", "red": "#F6C9A8", "purple": "#EBC9DB"}  # pale enough for letters on them
INK, GREY, PALE, PAPER = "#222222", "#767676", "#E6E6E6", "#FFFFFF"
SHADES = "Blues"  # a map whose lightness alone tells more from less
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--", "||", "**")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":")
DPI = 96


def new_figure(
    width: float = 7.4,  # inches
    height: float = 3.4,
    columns: int = 1,
    widths: tuple[float, ...] | None = None,  # of the columns, one to another
):  # the Figure, and its list of Axes
    "A figure that no window and no notebook knows of: nothing shows it twice, and nothing has to close it."
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAPER)
    axes = figure.subplots(1, columns, squeeze=False, width_ratios=widths)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8.5)
    return figure, list(axes)


def titled(ax, title: str) -> None:
    "A heading at the left, small enough for two side by side."
    ax.set_title(title, loc="left", fontsize=9.5)


def text_on(share: float) -> str:  # 0 = pale, 1 = dark
    "The colour of letters on a shade of SHADES."
    return PAPER if share > 0.55 else INK


def without_frame(ax) -> None:
    "Axes for boxes and words: no ticks, no lines around them."
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
