"""The two figures that the course promises of its presets, each reached by training on the real reviews."""

import json
import os
import subprocess
import sys

import pytest

RUN = """
import json, sys, time
import torch
from accelerate import Accelerator
from microbert_course.training import loop
from microbert_course.training.masking import unigram_log_probs
from microbert_course.training.prepare import prepare_data
from microbert_course.training.presets import PRESETS
torch.set_num_threads(1)
config = PRESETS[sys.argv[1]]
data = prepare_data(config)
questions = loop.evaluation_batches(data.validation_ids, data.tokenizer)
log_probs = unigram_log_probs(torch.from_numpy(data.train_ids.astype("int64")), len(data.tokenizer))
model = loop.build_model(config, len(data.tokenizer), log_probs)
start = time.process_time()
training = loop.Training(model, data, config, Accelerator(cpu=True))
for step in range(config.num_steps):
    training.update(step)
cpu_s = time.process_time() - start
print(json.dumps({"cpu_s": cpu_s, "loss": loop.evaluate(model, questions)["loss"], "unigram": loop.unigram_loss(questions, log_probs)}))
"""


def trained(preset):
    "Loss, unigram loss and CPU-seconds of a preset, on one core."
    done = subprocess.run([sys.executable, "-c", RUN, preset], capture_output=True, text=True, check=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    reached = json.loads(done.stdout.splitlines()[-1])
    print(preset, reached)
    return reached


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_v0_gets_below_frequencies_in_its_time():
    "6.42 nats in 75 CPU-seconds of a quiet core; beside the other tests the same updates may take half as much again."
    reached = trained("v0")
    assert reached["loss"] <= 6.42 < reached["unigram"]
    assert reached["cpu_s"] < 75 * 1.5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tour_reads_context():
    "0.5 nats below unigram is promised, but 0.53 can be had by repeating the pieces that were left standing: context is more."
    reached = trained("tour")
    assert reached["loss"] <= reached["unigram"] - 1.4
