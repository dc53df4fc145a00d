"""Pictures of a saved notebook in a fraction of the bytes."""

import base64
import io

NUM_COLOURS = 128  # a palette: lines, text with soft edges and heat maps look the same, at about a third of the size


def slim_png(
    png: str,  # base64
) -> str:  # base64, in one line
    "The picture on white with at most NUM_COLOURS colours; as it was if that is no smaller."
    from PIL import Image  # comes with matplotlib, which drew the picture

    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        if image.mode == "P":  # has its palette already
            return png
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        picture = Image.alpha_composite(paper, layer).convert("RGB").quantize(NUM_COLOURS, Image.Quantize.MAXCOVERAGE)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    slim = base64.b64encode(buffer.getvalue()).decode("ascii")
    return min(slim, "".join(png.split()), key=len)
