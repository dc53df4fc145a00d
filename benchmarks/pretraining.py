"""The v0 task: samples per CPU-second beside the loop that anybody would write first, and the loss after a fixed time.

    python benchmarks/pretraining.py [--json PATH] [--rounds 5] [--steps 12] [--skip-loss]

Both sides train the same model (2 layers, hidden size 4, 10,005 words) on the same reviews with the same optimizer, on one CPU thread, in
turns. The naive loop masks one token at a time in Python, pads every review to 128 words, scores every position against the whole
vocabulary and lets the loss ignore most of them. Ours is the shipped `Training`. CPU time, medians over the rounds.
"""

import argparse
import json
import platform
import random
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from microbert_course.training.loop import (
    PretrainData,
    Training,
    build_model,
    evaluate,
    evaluation_batches,
    unigram_loss,
)
from microbert_course.training.masking import unigram_log_probs
from microbert_course.training.prepare import prepare_data
from microbert_course.training.presets import PretrainConfig, preset

MASK, NUM_SPECIAL = 4, 5


def mask_one(ids: list[int], vocab_size: int, draw: random.Random) -> tuple[list[int], list[int]]:
    "One review, one token at a time: the corrupted ids and the labels."
    ids, labels = list(ids), [-100] * len(ids)
    for i, token in enumerate(ids):
        if token < NUM_SPECIAL or draw.random() >= 0.15:
            continue
        labels[i] = token
        fate = draw.random()
        if fate < 0.8:
            ids[i] = MASK
        elif fate < 0.9:
            ids[i] = draw.randrange(NUM_SPECIAL, vocab_size)
    return ids, labels


def naive_steps(data: PretrainData, config: PretrainConfig, num_steps: int) -> None:
    "The loop that anybody would write first."
    vocab_size, draw = len(data.tokenizer), random.Random(config.seed)
    model = build_model(config, vocab_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    for step in range(num_steps):
        start = step * config.batch_size % (len(data.train_ids) - config.batch_size)
        reviews = [data.train_ids[row].tolist() for row in range(start, start + config.batch_size)]
        masked = [mask_one(review, vocab_size, draw) for review in reviews]
        input_ids = torch.tensor([ids for ids, _ in masked])                       # (batch, seq)
        labels = torch.tensor([labels for _, labels in masked])                    # (batch, seq)
        logits = model(input_ids, attention_mask=input_ids != 0)                   # (batch, seq, vocab)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()


def shipped_steps(data: PretrainData, config: PretrainConfig, num_steps: int) -> None:
    "The course's loop."
    training = Training(build_model(config, len(data.tokenizer)), data, config, Accelerator(cpu=True))
    for step in range(num_steps):
        training.update(step)


def samples_per_cpu_second(loop, data: PretrainData, config: PretrainConfig, num_steps: int) -> float:
    "Reviews trained on in a second of CPU time, the first step and the building of the model left out."
    loop(data, config, 1)
    start = time.process_time()
    loop(data, config, 1)
    once = time.process_time() - start
    start = time.process_time()
    loop(data, config, 1 + num_steps)
    return num_steps * config.batch_size / (time.process_time() - start - once)


def reached_loss(data: PretrainData, config: PretrainConfig) -> dict[str, float]:
    "Validation loss and CPU-seconds of the whole preset."
    log_probs = unigram_log_probs(torch.from_numpy(data.train_ids.astype(np.int64)), len(data.tokenizer))
    questions = evaluation_batches(data.validation_ids, data.tokenizer)
    model = build_model(config, len(data.tokenizer), log_probs)
    start = time.process_time()
    training = Training(model, data, config, Accelerator(cpu=True))
    for step in range(config.num_steps):
        training.update(step)
    cpu_s = time.process_time() - start
    return {"v0_cpu_s": cpu_s, "v0_steps": config.num_steps, "v0_loss": evaluate(model, questions)["loss"],
            "unigram_loss": unigram_loss(questions, log_probs)}


def main() -> None:
    "Measure, print the table, write it down if asked."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12, help="updates a round and side")
    parser.add_argument("--skip-loss", action="store_true", help="speed alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = preset("v0")
    data = prepare_data(config)
    rates = {"naive": [], "shipped": []}
    for _ in range(arguments.rounds):
        rates["naive"].append(samples_per_cpu_second(naive_steps, data, config, arguments.steps))
        rates["shipped"].append(samples_per_cpu_second(shipped_steps, data, config, arguments.steps))
    ratios = [ours / theirs for ours, theirs in zip(rates["shipped"], rates["naive"], strict=True)]
    figures = {"naive_samples_per_cpu_s": statistics.median(rates["naive"]),
               "shipped_samples_per_cpu_s": statistics.median(rates["shipped"]),
               "ratio": statistics.median(ratios), "ratios": ratios,
               "python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
    if not arguments.skip_loss:
        figures |= reached_loss(data, config)
    for name, value in figures.items():
        print(f"{name:28} {value:.4g}" if isinstance(value, float) else f"{name:28} {value}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
