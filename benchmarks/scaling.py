"""How pretraining scales: tokens/s, efficiency, memory and all-reduce time on 1, 2, 4 and 8 GPUs of one machine, and whether the weights are the same.

    python benchmarks/scaling.py [--json PATH] [--gpus 1 2 4] [--shapes v4 base] [--recorded]
    python benchmarks/scaling.py --device cpu --gpus 1 2 --shapes tiny

Each number of GPUs is one launch through the course's own files, configs/accelerate/gpu-N.yaml, and the largest once more through fsdp-8.yaml.
The worker in this file runs the shipped `Training` in bf16 on rows of random ids without padding, always as many rows a GPU, with 1 and 4
micro-batches an update. `batch` is what the CPU needs to deal out and mask a batch, on each process anew. The all-reduce is timed by itself,
on a tensor of the gradient's size; in training DDP hides part of it behind the backward pass. With `--recorded` blocks are compiled and updates
recorded (`--compile --cuda-graph` of `microbert pretrain`); nothing is hidden then, and what was found in 16 bits travels in 16 bits.

Efficiency is tokens/s over what one GPU reaches times their number. The weights after 20 updates are compared with those of one GPU: 8 micro-batches an update,
all on one GPU or dealt out, in float32 and in bf16. `moved` is how far the updates have carried the weight that moved furthest. In bf16 Adam may carry a
weight whose gradient is nearly nothing but rounding the other way, so there the mean says more than the maximum.

Needs torch, transformers and accelerate alone. About two minutes for each number of GPUs at most.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - the course's folder comes first
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from accelerate import Accelerator  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402
from tokenizers import Tokenizer, models  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402

from microbert_course.training.graphed import make_training  # noqa: E402
from microbert_course.training.loop import PretrainData, build_model  # noqa: E402
from microbert_course.training.presets import PretrainConfig, preset  # noqa: E402
from microbert_course.training.state import snapshot  # noqa: E402

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NUM_SLICES, NUM_COMPARED = 8, 20  # micro-batches an update, and updates, when weights are compared
LIMIT_S = 240  # of one launch
SHAPES = {  # preset, rows a GPU and micro-batch, rows when weights are compared
    "v4": (preset("v4", rows_per_process=0), 96, 8),
    "base": (preset("base", dropout=0.0), 32, 4),
    "tiny": (preset("tour", hidden_size=32, num_layers=1, vocab_size=500), 16, 4),
}


def synthetic_data(config: PretrainConfig, num_rows: int) -> PretrainData:
    "Random ids, special ones left out, as long as the model's rows, and a tokenizer that knows no more than their number."
    words = SPECIAL + [f"w{number}" for number in range(config.vocab_size - len(SPECIAL))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                                      sep_token="[SEP]", mask_token="[MASK]")
    ids = np.random.default_rng(0).integers(len(SPECIAL), len(words), (num_rows, config.max_seq_len), dtype=np.int32)
    return PretrainData(wrapped, ids, ids[:1])


def accelerator_for(precision: str, device: str) -> Accelerator:
    "One for this precision, whatever was there before."
    AcceleratorState._reset_state(reset_partial_state=True)  # also which kind of distribution, or FSDP is not set up a second time
    return Accelerator(mixed_precision=precision, cpu=device == "cpu")


def wait(accelerator: Accelerator) -> float:
    "Seconds on the clock when all that was asked of the device is done."
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize(accelerator.device)
    accelerator.wait_for_everyone()
    return time.perf_counter()


def all_reduce_ms(accelerator: Accelerator, num_numbers: int) -> float | None:  # None for a single process
    "Milliseconds to add up a float32 tensor of this size over all processes."
    if accelerator.num_processes == 1:
        return None
    gradient = torch.zeros(num_numbers, device=accelerator.device)
    for _ in range(3):
        dist.all_reduce(gradient)
    start = wait(accelerator)
    for _ in range(10):
        dist.all_reduce(gradient)
    return (wait(accelerator) - start) * 100


def timed(config: PretrainConfig, rows: int, accumulation: int, num_steps: int, device: str) -> dict:
    "What a few updates take."
    accelerator = accelerator_for("bf16", device)
    batch_size = rows * accumulation * accelerator.num_processes
    config = replace(config, batch_size=batch_size, gradient_accumulation_steps=accumulation)
    training = make_training(build_model(config, config.vocab_size), synthetic_data(config, 4 * batch_size), config, accelerator)
    for step in range(5):
        training.update(step)
    if accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(accelerator.device)
    start = wait(accelerator)
    updates = [training.update(step) for step in range(5, 5 + num_steps)]
    elapsed_s = wait(accelerator) - start
    assert all(bool(update["is_finite"]) for update in updates), "a loss is no number"
    start = time.perf_counter()
    training.batch(0)
    batch_ms = 1000 * (time.perf_counter() - start)
    peak_gb = torch.cuda.max_memory_allocated(accelerator.device) / 1e9 if accelerator.device.type == "cuda" else None
    num_parameters = sum(parameter.numel() for parameter in training.objective.parameters())
    del training
    accelerator.free_memory()
    return {"accumulation": accumulation, "rows_per_gpu": rows, "tokens_per_s": sum(update["tokens"] for update in updates) / elapsed_s,
            "step_ms": 1000 * elapsed_s / num_steps, "batch_ms": batch_ms, "peak_gb": peak_gb,
            "all_reduce_ms": all_reduce_ms(accelerator, num_parameters)}


def weights_after_training(config: PretrainConfig, rows: int, precision: str, device: str) -> tuple[dict, Accelerator]:
    "The weights after 20 updates of 8 micro-batches; empty but on the first process."
    accelerator = accelerator_for(precision, device)
    config = replace(config, batch_size=rows * NUM_SLICES, gradient_accumulation_steps=NUM_SLICES // accelerator.num_processes,
                     num_steps=NUM_COMPARED, warmup_steps=NUM_COMPARED // 2)
    training = make_training(build_model(config, config.vocab_size), synthetic_data(config, 4 * config.batch_size), config, accelerator)
    for step in range(NUM_COMPARED):
        training.update(step)
    after = {name: value.clone() for name, value in snapshot(training)["model"].items()}
    del training
    accelerator.free_memory()
    return after, accelerator


def compared(name: str, config: PretrainConfig, rows: int, precision: str, device: str, folder: Path) -> dict | None:
    "The largest difference of a weight from one GPU's, which leaves its weights in the folder."
    after, accelerator = weights_after_training(config, rows, precision, device)
    path = folder / f"{name}-{precision}.pt"
    if accelerator.num_processes == 1:
        torch.save(after, path)
        return None
    if not accelerator.is_main_process:
        return None
    reference, before = torch.load(path), build_model(config, config.vocab_size).state_dict()
    differences = torch.cat([(after[key] - reference[key]).abs().flatten() for key in reference])
    moved = max((after[key] - before[key]).abs().max().item() for key in reference)
    return {"shape": name, "precision": precision, "max_difference": differences.max().item(), "mean_difference": differences.mean().item(), "moved": moved}


def work(arguments: argparse.Namespace) -> None:
    "What each process of a launch does; the first one writes down what was found."
    rows_found, differences = [], []
    accelerator = Accelerator(cpu=arguments.device == "cpu")
    assert accelerator.num_processes == arguments.gpus[0], f"{accelerator.num_processes} processes run, {arguments.gpus[0]} were asked for"
    for name in arguments.shapes:
        config, rows, rows_compared = SHAPES[name]
        config = replace(config, compile=arguments.recorded, cuda_graph=arguments.recorded)
        for accumulation in (1, 4):
            found = timed(config, rows, accumulation, arguments.steps // (2 if accumulation > 1 else 1), arguments.device)
            rows_found.append({"shape": name, **found})
        for precision in ("no", "bf16"):
            differences.append(compared(name, config, rows_compared, precision, arguments.device, arguments.worker))
    if accelerator.is_main_process:
        device = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
        found = {"device": device, "rows": rows_found, "differences": list(filter(None, differences))}
        (arguments.worker / "found.json").write_text(json.dumps(found))
    accelerator.wait_for_everyone()
    accelerator.end_training()


def launch(file: str, num_gpus: int, arguments: argparse.Namespace, folder: Path) -> dict:
    "One launch through a file of configs/accelerate; what its first process found, nothing if it failed, which is said."
    more = ["--num_processes", str(num_gpus)] if file in ("fsdp-8", "cpu-2proc") else []
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "configs" / "accelerate" / f"{file}.yaml"), *more,
               __file__, "--worker", str(folder), "--gpus", str(num_gpus), "--shapes", *arguments.shapes, "--device", arguments.device,
               "--steps", str(arguments.steps), *(["--recorded"] if arguments.recorded else [])]
    environment = {"NCCL_NVLS_ENABLE": "0", "OMP_NUM_THREADS": "4" if arguments.device == "cuda" else "1", **os.environ,
                   **({"ACCELERATE_USE_CPU": "true"} if arguments.device == "cpu" else {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode:
        print(f"{' '.join(command)} FAILED\n{done.stderr[-4000:]}", file=sys.stderr)
        return {"rows": [], "differences": [], "device": "", "failed": file}
    found = json.loads((folder / "found.json").read_text())
    for row in found["rows"] + found["differences"]:
        row |= {"gpus": num_gpus, "launch": file}
    return found


def table(rows: list[dict], columns: dict[str, str]) -> str:  # columns: name and format
    "Rows as text, one line each; what there is not is a dash."
    lines = [[name.replace("_", " ") for name in columns]]
    lines += [["–" if row.get(name) is None else format(row[name], form) for name, form in columns.items()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in lines)


def main() -> None:
    "Launch, print the tables, write them down if asked."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, nargs="+", choices=(1, 2, 4, 8), help="how many at a time; default: all numbers that this machine has")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=["v4", "base"])
    parser.add_argument("--steps", type=int, default=20, help="timed updates; half as many with 4 micro-batches")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--recorded", action="store_true", help="compile the blocks and record the updates")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments)
    begun, is_cpu = time.monotonic(), arguments.device == "cpu"
    if not is_cpu and not torch.cuda.is_available():
        sys.exit("there is no CUDA device: try --device cpu --gpus 1 2 --shapes tiny")
    numbers = sorted({1, *(arguments.gpus or [n for n in (1, 2, 4, 8) if is_cpu or n <= torch.cuda.device_count()])})
    files = [("cpu" if number == 1 else "cpu-2proc") if is_cpu else f"gpu-{number}" for number in numbers]
    launches = list(zip(files, numbers, strict=True)) + ([("fsdp-8", numbers[-1])] if not is_cpu and len(numbers) > 1 and not arguments.recorded else [])
    rows, differences, device, failed = [], [], "", []
    with tempfile.TemporaryDirectory() as folder:
        for file, number in launches:
            found = launch(file, number, arguments, Path(folder))
            rows, differences, device = rows + found["rows"], differences + found["differences"], device or found["device"]
            failed += [found["failed"]] if "failed" in found else []
            print(f"{file} on {number}: {time.monotonic() - begun:.0f} s so far", file=sys.stderr, flush=True)
    alone = {(row["shape"], row["accumulation"]): row["tokens_per_s"] for row in rows if row["gpus"] == 1}
    for row in rows:
        row["efficiency"] = row["tokens_per_s"] / row["gpus"] / alone[row["shape"], row["accumulation"]]
    print(f"{device}, torch {torch.__version__}, {time.monotonic() - begun:.0f} s")
    print(table(rows, {"shape": "", "launch": "", "gpus": "", "accumulation": "", "rows_per_gpu": "", "tokens_per_s": ",.0f", "efficiency": ".1%",
                       "step_ms": ".1f", "batch_ms": ".1f", "all_reduce_ms": ".2f", "peak_gb": ".1f"}), end="\n\n")
    print(table(differences, {"shape": "", "launch": "", "gpus": "", "precision": "", "max_difference": ".1e", "mean_difference": ".1e", "moved": ".1e"}))
    if arguments.json:
        figures = {"date": datetime.date.today().isoformat(), "device": device, "torch": torch.__version__, "recorded": arguments.recorded, "elapsed_s": time.monotonic() - begun, "rows": rows, "differences": differences}
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if failed:
        sys.exit(f"failed, so not in the table: {', '.join(failed)}")


if __name__ == "__main__":
    main()
