"""Real data that lies beside the checkout, for tests: never a part of the repository."""

import os
from pathlib import Path

import pytest

from microbert_course.paths import course_root


def shared(path: str) -> Path:
    "A file of the folder $MICROBERT_SHARED, else ../shared/data beside the checkout; without it the test is skipped."
    folder = Path(os.environ.get("MICROBERT_SHARED") or course_root().parent / "shared" / "data")
    if not (folder / path).is_file():
        pytest.skip(f"there is no {path} in {folder}: this test runs on real data, in the folder that MICROBERT_SHARED names")
    return folder / path
