"""The NumPy encoder beside transformers' BertForMaskedLM: forward and backward, memory by part, peak memory of a training run.

`python benchmarks/numpy_bert.py` prints the tables; `--json PATH` writes them as well. On two quiet cores it takes about a minute.
What is compared: one batch of 8 x 128 tokens, 15 % of them hidden, float32, dropout 0, 3 layers of width 192. BertForMaskedLM works out
its scores for every token, as it always does; NumpyBert for the hidden ones, and in a second line for every token too."""

import argparse
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported: the Trainer's threads share the work instead

import re
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from microbert_course.data.sources import clean_text, load
from microbert_course.files import write_json
from microbert_course.numpy_bert.adamw import AdamW
from microbert_course.numpy_bert.shape import NumpyBertConfig, init_parameters, memory_by_part, num_parameters
from microbert_course.numpy_bert.training import Trainer

BATCH, SEQ, SHARE_HIDDEN = 8, 128, 0.15


def numpy_halves(
    trainer: Trainer, input_ids: np.ndarray, labels: np.ndarray,  # (batch, seq) each
) -> tuple[Callable, Callable]:
    "Forward and backward of a batch, to be called in turns."
    num_predicted = int((labels != -100).sum())

    def backward():
        for encoder in trainer.encoders:
            encoder.gradients.reset()
        trainer.backward()
        trainer.join()

    return lambda: trainer.forward(input_ids, labels, num_predicted), backward


def torch_halves(input_ids: np.ndarray, labels: np.ndarray, num_threads: int) -> tuple[Callable, Callable, int]:  # (batch, seq) each
    "The same for BertForMaskedLM, and how many parameters it has."
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    shape = dict(vocab_size=8192, hidden_size=192, num_hidden_layers=3, num_attention_heads=4, intermediate_size=768)
    model = BertForMaskedLM(BertConfig(**shape, max_position_embeddings=SEQ, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    ids, targets, kept = torch.from_numpy(input_ids), torch.from_numpy(labels), {}

    def forward():
        kept["loss"] = model(ids, labels=targets).loss

    def backward():
        model.zero_grad(set_to_none=True)
        kept["loss"].backward()

    return forward, backward, sum(parameter.numel() for parameter in model.parameters())


def time_in_turns(contestants: dict[str, tuple[Callable, Callable]], repeats: int) -> dict[str, dict[str, float]]:
    "Medians in ms, wall and CPU, of forward, backward and both; one round each in turns, three rounds to warm up."
    times = {name: {} for name in contestants}
    for repeat in range(repeats + 3):
        for name, (forward, backward) in contestants.items():
            marks = [(time.perf_counter(), time.process_time())]
            for half in (forward, backward):
                half()
                marks.append((time.perf_counter(), time.process_time()))
            for part, (first, last) in {"forward": (0, 1), "backward": (1, 2), "total": (0, 2)}.items():
                for clock, kind in enumerate(("wall", "cpu")):
                    taken = 1000 * (marks[last][clock] - marks[first][clock])
                    times[name].setdefault(f"{part}_{kind}_ms", []).append(taken)
            if repeat == 2:
                times[name].clear()
    return {name: {part: statistics.median(values) for part, values in parts.items()} for name, parts in times.items()}


def memory_table(num_threads: int) -> dict[str, dict[str, float]]:
    "MB by part, predicted from the shape and measured as NumPy asks for it, of micro-batches of 8 x 64."
    config, rng = NumpyBertConfig(), np.random.default_rng(0)
    input_ids = rng.integers(5, config.vocab_size, (8, config.max_seq_len))
    labels = np.where(rng.random(input_ids.shape) < SHARE_HIDDEN, input_ids, -100)
    measured, meter = {}, [0.0]

    def read_meter() -> float:
        before, meter[0] = meter[0], tracemalloc.get_traced_memory()[0] / 1e6
        return meter[0] - before

    tracemalloc.start()
    parameters = init_parameters(config)
    measured["parameters"] = read_meter()
    trainer = Trainer(config, parameters, num_threads)
    measured["gradients"] = read_meter()
    optimizer = AdamW(parameters)
    measured["AdamW's two memories"] = read_meter()
    trainer.loss_and_gradients(input_ids, labels)
    one_pass = read_meter()
    tracemalloc.stop()
    assert optimizer.num_steps == 0
    held = [(name, array.nbytes / 1e6) for encoder in trainer.encoders for name, array in encoder.work.memory.items()]
    measured["notes for the backward pass"] = sum(mb for name, mb in held if name.startswith(("blocks", "norm")))
    measured["scores of the head"] = sum(mb for name, mb in held if name.startswith("head"))
    measured["scratch"] = one_pass - measured["notes for the backward pass"] - measured["scores of the head"]
    predicted = memory_by_part(config, *input_ids.shape, int((labels != -100).sum()), num_threads)
    return {part: {"predicted_mb": size / 1e6, "measured_mb": measured[part]} for part, size in predicted.items()}


def peak_memory(num_threads: int) -> dict[str, float]:
    "MB of a training run from the command line, micro-batches of 8 x 64, and of an interpreter that does nothing."
    reviews = [clean_text(text) for text in load("imdb")["text"][:2000]]
    bare = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    interpreter = subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        corpus.write_text("\n".join(reviews), encoding="utf-8")
        command = ["-m", "microbert_course.numpy_bert", "--corpus", str(corpus), "--steps", "5", "--num-threads", str(num_threads),
                   "--save", str(Path(folder) / "run")]
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    run_mb = float(re.search(r"peak memory ([\d.]+) MB", done.stdout).group(1))
    interpreter_mb = int(interpreter.stdout) * 1024 / 1e6
    return {"run_mb": run_mb, "interpreter_mb": interpreter_mb, "beyond_interpreter_mb": run_mb - interpreter_mb}


def main() -> None:
    "Measure, print, and write the JSON if asked to."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30, help="rounds per contestant; medians are shown")
    parser.add_argument("--threads", type=int, default=2, help="threads of each contestant")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    memory, peak = memory_table(arguments.threads), peak_memory(arguments.threads)

    config, rng = NumpyBertConfig(max_seq_len=SEQ), np.random.default_rng(0)
    input_ids = rng.integers(5, config.vocab_size, (BATCH, SEQ))
    labels = np.where(rng.random(input_ids.shape) < SHARE_HIDDEN, input_ids, -100)
    trainer = Trainer(config, init_parameters(config), arguments.threads)
    *theirs, their_parameters = torch_halves(input_ids, labels, arguments.threads)
    times = time_in_turns({"NumpyBert, head on hidden tokens": numpy_halves(trainer, input_ids, labels),
                           "NumpyBert, head on all tokens": numpy_halves(trainer, input_ids, input_ids),
                           "BertForMaskedLM": tuple(theirs)}, arguments.repeats)

    print(f"{BATCH} x {SEQ} tokens, {int((labels != -100).sum())} hidden, {arguments.threads} threads, medians of {arguments.repeats}; "
          f"{num_parameters(config):,} parameters against {their_parameters:,}")
    print(f"{'':34}{'forward':>9}{'backward':>10}{'total':>8} ms{'CPU':>9} ms   times as fast")
    theirs_ms = times["BertForMaskedLM"]["total_wall_ms"]
    for name, ms in times.items():
        print(f"{name:34}{ms['forward_wall_ms']:9.1f}{ms['backward_wall_ms']:10.1f}{ms['total_wall_ms']:8.1f}   "
              f"{ms['total_cpu_ms']:9.1f}   {theirs_ms / ms['total_wall_ms']:12.2f}")
    print(f"\n{f'micro-batches of 8 x 64, {arguments.threads} threads':34}{'predicted':>9}{'measured':>10} MB")
    for part, mb in memory.items():
        print(f"{part:34}{mb['predicted_mb']:9.2f}{mb['measured_mb']:10.2f}")
    print(f"{'all':34}{sum(mb['predicted_mb'] for mb in memory.values()):9.2f}{sum(mb['measured_mb'] for mb in memory.values()):10.2f}")
    print(f"\npeak of a training run {peak['run_mb']:.1f} MB, {peak['beyond_interpreter_mb']:.1f} MB beyond the interpreter's {peak['interpreter_mb']:.1f}")
    if arguments.json:
        shape = {"batch": BATCH, "seq": SEQ, "hidden_tokens": int((labels != -100).sum()), "threads": arguments.threads,
                 "parameters": num_parameters(config), "parameters_of_bert_for_masked_lm": their_parameters}
        write_json(arguments.json, {"shape": shape, "times": times, "memory": memory, "peak": peak})


if __name__ == "__main__":
    main()
