"""What runs of `microbert grpo` reached, from their histories: the share of unseen problems that is right before and after, and how it rose.

    python benchmarks/grpo.py mawps=runs/mawps gsm8k=runs/gsm8k [--json PATH]

benchmarks/results/grpo.json is of SmolLM2-135M-Instruct, fine-tuned for one epoch on GSM8K's training solutions (rate 1e-4, batch 64, loss on answers), then

    microbert grpo --model runs/sft --data mawps.jsonl.gz --prompt $'Question: {question}\\nAnswer:' --max-new-tokens 160 --batch-size 512 \\
        --gradient-accumulation-steps 4 --learning-rate 3e-5 --scale std --loss dapo --mixed-precision bf16 --num-steps 110 --warmup-steps 5 \\
        --eval-every 20 --max-seconds 280 --folder runs/mawps

and the same on gsm8k_train with --test gsm8k_test_dev.jsonl.gz --num-test 0 --num-steps 170 --eval-every 85 --max-seconds 430.
"""

import argparse
import json
import math
from pathlib import Path


def wilson(share: float, number: int) -> dict[str, float]:  # right, low, high
    "A share of so many problems with its 95 % interval (Wilson 1927)."
    z = 1.96
    middle, width = share + z * z / (2 * number), z * math.sqrt(share * (1 - share) / number + z * z / (4 * number**2))
    return {"right": share, "low": (middle - width) / (1 + z * z / number), "high": (middle + width) / (1 + z * z / number)}


def summary(folder: Path) -> dict:
    "Before, after and between, of a finished run."
    history, settings = (json.loads((folder / f"{name}.json").read_text()) for name in ("history", "training"))
    number = settings["about"]["unseen_problems"]
    looks = [{"updates": look["step"] + 1, "right": look["exact"]} for look in history["validation"]]
    return {"start": wilson(history["start"]["exact"], number), "end": wilson(looks[-1]["right"], number), "updates": looks[-1]["updates"],
            "problems": settings["about"]["problems"], "unseen_problems": number, "max_seconds": settings["max_seconds"], "device": settings["about"]["device"],
            "torch": settings["environment"]["torch"], "varied_groups_at_first": history["train"][0]["varied_groups"], "curve": looks}


def main() -> None:
    "Write a line a run, and all of it as JSON."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="NAME=FOLDER")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = {name: summary(Path(folder)) for name, folder in (run.split("=", 1) for run in arguments.runs)}
    for name, run in found.items():
        print(f"{name}: {run['start']['right']:.1%} before, {run['end']['right']:.1%} ({run['end']['low']:.1%} to {run['end']['high']:.1%}) after {run['updates']} updates")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
