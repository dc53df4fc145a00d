"""Run every test that needs a GPU, and write down which passed, on what: `make test-gpu`.

    python tools/gpu_report.py [--json benchmarks/results/gpu_tests.json] [WORDS FOR PYTEST …]

It needs torch, transformers, peft, accelerate and pytest alone, so that a rented machine can run it from a bare clone.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
FILES = ["test_memory.py", "test_gpu.py", "test_short_attention.py", "test_bias_gelu.py", "test_low_rank.py", "test_attention.py", "test_precision.py", "test_speed.py"]  # those with tests that are skipped without a GPU; memory first, while it is empty
PACKAGES = ["torch", "transformers", "accelerate", "peft", "triton"]


def outcomes(report: Path) -> dict[str, dict]:  # by test
    "What became of each test that needs a GPU, and in how many seconds."
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        name = f"{case.get('classname').rpartition('.')[2]}::{case.get('name')}"
        found[name] = {"outcome": next((kind for kind in ("failure", "error", "skipped") if kind in kinds), "passed"), "seconds": float(case.get("time"))}
    return found


def installed(package: str) -> str | None:  # None = it is not
    "The version of a package."
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main() -> int:  # the exit status
    "Run, count, write."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "gpu_tests.json")
    arguments, words = parser.parse_known_args()
    if not torch.cuda.is_available():
        print("there is no CUDA device here: these tests need one", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        status = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu or multi_gpu", f"--junitxml={report}",
                                 *(str(ROOT / "tests" / file) for file in FILES), *words], cwd=ROOT,
                                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])), "NCCL_NVLS_ENABLE": "0"}).returncode
        if not report.is_file():
            return status or 1
        tests = outcomes(report)
    counts = Counter(test["outcome"] for test in tests.values())
    found = {"date": datetime.date.today().isoformat(), "device": torch.cuda.get_device_name(), "devices": torch.cuda.device_count(),
             "python": sys.version.split()[0], "cuda": torch.version.cuda, **{package: installed(package) for package in PACKAGES},
             "counts": dict(counts), "tests": tests}
    arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{dict(counts)} on {found['devices']} × {found['device']}, torch {found['torch']}: {arguments.json}")
    return status


if __name__ == "__main__":
    sys.exit(main())
