"""What pretraining on reviews is worth: the course's encoders, and the same shapes without it, fine-tuned alike on IMDB's labels.

    python benchmarks/imdb.py --test REVIEWS [--json PATH] [--folder runs/imdb] [--models microbert-imdb microbert-imdb-large]

Pretraining is `microbert models reproduce NAME`, unless a run of that name is in the folder already; it reads IMDB's training reviews alone. REVIEWS is a labelled
file to score on, such as IMDB's test reviews; what is in it is taken out of what the fine-tuning learns from.
"""

import argparse
import datetime
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402 - the course's folder comes first

from microbert_course.files import read_json  # noqa: E402
from microbert_course.models.bert import MicroBertForMaskedLM  # noqa: E402
from microbert_course.models.checkpoints import load_tokenizer  # noqa: E402
from microbert_course.posttraining.classification import train_sft_model_selective  # noqa: E402
from microbert_course.posttraining.settings import FinetuneConfig  # noqa: E402
from microbert_course.pretrained import RECIPES, facts, reproduce  # noqa: E402

FINETUNING = {"data": "imdb", "num_epochs": 3, "max_seq_len": 512, "batch_size": 64, "learning_rate": 1.5e-4, "mixed_precision": "auto", "deterministic": False}


def pretrained_run(name: str, folder: Path) -> tuple[Path, float | None]:  # None: it was there
    "A finished run of a recipe, and the seconds that it took."
    if (folder / name / "loss.png").is_file():
        return folder / name, None
    runs, seconds = reproduce(name, folder / name)
    return runs[name], seconds


def fresh_copy(run: Path, folder: Path) -> Path:
    "The same shape and the same tokenizer with weights that have learned nothing."
    torch.manual_seed(0)
    MicroBertForMaskedLM(MicroBertForMaskedLM.from_pretrained(run).config).save_pretrained(folder)
    load_tokenizer(run).save_pretrained(folder)
    return folder


def finetuned(model: Path, folder: Path, test: str) -> dict:
    "What a fine-tuning reaches, and in how many seconds."
    start = time.perf_counter()
    result = train_sft_model_selective(FinetuneConfig(model=str(model), test=test, **FINETUNING), folder, overwrite=True, progress=False)
    return {"validation_accuracy": result.best["accuracy"], "test_accuracy": result.test["accuracy"], "finetuning_s": time.perf_counter() - start}


def main() -> None:
    "Pretrain, fine-tune with and without, print, write down."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", required=True, help="a labelled file of reviews to score on")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "imdb", help="where the runs are, or will be")
    parser.add_argument("--models", nargs="+", default=["microbert-imdb", "microbert-imdb-large"])
    arguments = parser.parse_args()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    found = {"date": datetime.date.today().isoformat(), "device": device, "torch": torch.__version__, "test": Path(arguments.test).name, "finetuning": FINETUNING, "rows": []}
    for name in arguments.models:
        run, seconds = pretrained_run(name, arguments.folder)
        about = facts(run, RECIPES[name].metric)
        for is_pretrained, model in ((True, run), (False, fresh_copy(run, arguments.folder / f"{name}-fresh"))):
            row = {"model": name, "parameters": about["parameters"], "layers": read_json(run / "config.json")["num_hidden_layers"], "is_pretrained": is_pretrained,
                   "pretraining_s": seconds if is_pretrained else 0, "masked_accuracy": about["accuracy"] if is_pretrained else None,
                   **finetuned(model, arguments.folder / f"{model.name}-judge", arguments.test)}
            found["rows"].append(row)
            print(json.dumps(row), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
