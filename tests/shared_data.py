"""The data for development that lies beside a checkout, where there is any: `MICROBERT_SHARED`, or `../shared/data`."""

import os
from pathlib import Path

import pytest

from microbert_course.paths import course_root


def shared(path: str) -> Path:
    "A file of it; a test that needs one which is not there is skipped."
    folder = Path(os.environ.get("MICROBERT_SHARED") or course_root().parent / "shared" / "data")
    if not (folder / path).is_file():
        pytest.skip(f"{path} is not in {folder}: set MICROBERT_SHARED to the folder with the development data")
    return folder / path
