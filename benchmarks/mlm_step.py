"""A training step beside `transformers.BertForMaskedLM`, and packed rows beside padded ones, on one core.

    python benchmarks/mlm_step.py [--json PATH] [--rounds 5] [--only v4 3x192 packing]

Both sides of the first comparison have the same weights, batches, masks, optimizer (fused AdamW), clipping and no dropout, and their losses are
compared at every step. Ours is the shipped `Training.update`; theirs is the model with SDPA, its own loss and nothing taken away. In the second
comparison all sides are `Training.update` on the same reviews, in the layouts of `pretrain`: a padded row a review, or packed rows, or packed rows of
which the padding that is left is not worked on either (`unpadded_features`). Real tokens are counted.
CPU time of one thread, the sides in turns, medians over the rounds; a machine that is busy otherwise changes both sides alike.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import BertForMaskedLM

from microbert_course.training.build import make_model
from microbert_course.training.loop import PretrainData, Training, build_model, make_batch
from microbert_course.training.optim import parameter_groups
from microbert_course.training.prepare import prepare_data
from microbert_course.training.presets import PretrainConfig, preset
from microbert_course.training.speed import flops_of_update, peak_flops, unpadded_features

TOLERANCE = {"no": 1e-4, "bf16": 5e-2}  # between the two losses, nats a hidden token; bfloat16 has three digits
SHAPES = {
    "v4": preset("v4", batch_size=8, rows_per_process=0, num_threads=1, mixed_precision="no"),
    "3x192": preset("tour", vocab_size=8_000, max_seq_len=128, hidden_size=192, num_layers=3, num_heads=3, intermediate_size=768,
                    mlm_probability=0.15, batch_size=16, learning_rate=1e-3),
}


def timed(work: Callable, *arguments) -> tuple[float, object]:
    "CPU-seconds, and what came out."
    start = time.process_time()
    result = work(*arguments)
    return time.process_time() - start, result


def their_update(model: BertForMaskedLM, optimizer: torch.optim.Optimizer, training: Training, step: int, precision: str) -> float:
    "The same update, as anybody writes it with transformers; the loss."
    batch = training.batch(step)
    attention_mask = None if batch.attention_mask.all() else batch.attention_mask.long()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = model(input_ids=batch.input_ids, attention_mask=attention_mask, labels=batch.labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), training.config.max_grad_norm)
    for group, ours in zip(optimizer.param_groups, training.optimizer.param_groups, strict=True):
        group["lr"] = ours["lr"]  # our update of this step came first
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def against_transformers(data: PretrainData, config: PretrainConfig, precision: str, num_rounds: int) -> dict[str, float | list[float]]:
    "CPU-seconds of a step on both sides, and their ratio."
    AcceleratorState._reset_state(reset_partial_state=True)  # else accelerate keeps the first precision
    model = build_model(config, len(data.tokenizer))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        theirs = BertForMaskedLM.from_pretrained(folder, attn_implementation="sdpa").train()
    training = Training(model, data, config, Accelerator(cpu=True, mixed_precision=precision))
    optimizer = torch.optim.AdamW(parameter_groups(theirs, config.weight_decay), lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)
    our_s, their_s, differences = [], [], []
    for step in range(num_rounds + 1):
        seconds, update = timed(training.update, step)
        our_s.append(seconds)
        seconds, loss = timed(their_update, theirs, optimizer, training, step, precision)
        their_s.append(seconds)
        differences.append(abs(loss - update["loss"].item()))
        if differences[-1] > TOLERANCE[precision]:
            raise SystemExit(f"step {step} in {precision}: our loss is {update['loss'].item():.5f} and theirs {loss:.5f}: this is no comparison")
    our_s, their_s = our_s[1:], their_s[1:]  # the first step warms up
    ratios = [slow / fast for slow, fast in zip(their_s, our_s, strict=True)]
    return {"our_step_cpu_s": statistics.median(our_s), "their_step_cpu_s": statistics.median(their_s), "ratio": statistics.median(ratios),
            "ratios": ratios, "largest_loss_difference": max(differences)}


def mfu(config: PretrainConfig, data: PretrainData, precision: str, step_s: float) -> float:
    "What a step's useful work is of what this core's products reach in this precision."
    batches = [make_batch(data.rows(step, config.batch_size, config.seed), data.tokenizer, config.mlm_probability, step) for step in range(5)]
    in_blocks = sum(p.numel() for p in build_model(config, len(data.tokenizer)).bert.blocks.parameters())
    flops = flops_of_update(replace(config, vocab_size=len(data.tokenizer)), in_blocks, statistics.mean(batch.num_tokens for batch in batches))
    return flops / step_s / peak_flops(torch.device("cpu"), precision)


def packing(max_seq_len: int, num_rounds: int) -> dict[str, object]:
    "Real tokens a CPU-second of the v4 shape on the same reviews, in each of the three ways."
    sides = {}
    for way, layout in {"padded": "first", "packed": "packed", "unpadded": "packed"}.items():
        config = replace(SHAPES["v4"], tokenizer="wordpiece", vocab_size=8_000, max_seq_len=max_seq_len, layout=layout)
        data = prepare_data(config)
        model = make_model(config, len(data.tokenizer))
        if way == "unpadded":
            model.features = partial(unpadded_features, model)
        AcceleratorState._reset_state(reset_partial_state=True)
        sides[way] = Training(model, data, config, Accelerator(cpu=True))
    rates = {way: [] for way in sides}
    for step in range(num_rounds + 1):
        for way, training in sides.items():
            seconds, update = timed(training.update, step)
            rates[way].append(update["tokens"] / seconds)
    rates = {way: side[1:] for way, side in rates.items()}  # the first step warms up
    figures = {"share_real": {way: float((sides[way].data.train_ids != 0).mean()) for way in ("padded", "packed")},
               "tokens_per_cpu_s": {way: statistics.median(side) for way, side in rates.items()}}
    for way in ("packed", "unpadded"):
        ratios = [fast / slow for fast, slow in zip(rates[way], rates["padded"], strict=True)]
        figures |= {f"{way}_ratio": statistics.median(ratios), f"{way}_ratios": ratios}
    return figures


def main() -> None:
    "Measure, print the table, write it down if asked."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[*SHAPES, "packing"], default=[*SHAPES, "packing"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
    for name, config in SHAPES.items():
        if name in arguments.only:
            data = prepare_data(config)
            sides = {precision: against_transformers(data, config, precision, arguments.rounds) for precision in ("no", "bf16")}
            for precision, side in sides.items():
                side["mfu"] = mfu(config, data, precision, side["our_step_cpu_s"])
            best_s = min(side["our_step_cpu_s"] for side in sides.values())
            figures[name] = {**sides, "best_over_their_float32": sides["no"]["their_step_cpu_s"] / best_s,
                             "best_over_their_best": min(side["their_step_cpu_s"] for side in sides.values()) / best_s}
    if "packing" in arguments.only:
        figures["packing"] = {str(seq): packing(seq, arguments.rounds) for seq in (256, 512)}
    print(json.dumps(figures, indent=1))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
