"""The README's two pictures, from the screenshots that the browser tests took: python tools/readme_pictures.py (or `make screenshots`)."""

import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PICTURES = {"tour.png": "tour.png", "exercise_wrong.png": "exercise.png"}  # in shots/: in nbs/pictures/

for shot, picture in PICTURES.items():
    source, target = ROOT / "shots" / shot, ROOT / "nbs" / "pictures" / picture
    if not source.is_file():
        sys.exit(f"{source.relative_to(ROOT)} is not there: `pytest tests/test_browser_lab.py` takes it")
    target.parent.mkdir(exist_ok=True)
    with Image.open(source) as image:
        image.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target.relative_to(ROOT).as_posix()}: {target.stat().st_size / 1000:.0f} kB")
