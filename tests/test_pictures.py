"Saved pictures: the same to the eye, in fewer bytes, and stable when saved again."

import base64
import io

import numpy as np
import pytest

from microbert_course.lessons.pictures import slim_png

Image = pytest.importorskip("PIL.Image")


def drawn_png() -> str:
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, (left, right) = plt.subplots(1, 2, figsize=(6, 3))
    left.plot([1, 3, 2], "o-", label="a line")
    left.legend()
    right.imshow(np.linspace(0, 1, 81).reshape(9, 9), cmap="Blues")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def pixels(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")).astype(int)


def test_picture_looks_the_same_in_fewer_bytes():
    "No pixel of a line plot and a heat map moves by more than a shade, and at least a third of the bytes goes."
    before = drawn_png()
    after = slim_png(before)
    difference = np.abs(pixels(after) - pixels(before))
    assert len(after) < 0.67 * len(before)
    assert difference.mean() < 1 and difference.max() <= 10  # of 255


def test_saving_again_changes_nothing():
    "Otherwise every save would change every picture in the notebook's diff."
    once = slim_png(drawn_png())
    assert slim_png(once) == once
