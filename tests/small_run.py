"""A pretraining run of seconds, for tests that start it, kill it and let it go on.

As a program: small_run.py FOLDER [--kill KIND N] [FIELD=VALUE …]. It resumes what it finds, and kills itself before the N-th event of
the kind: an update, or one of the system's calls by which a checkpoint is written (write, fsync, rename, rmtree), or a copy to an address (put)."""

import itertools
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from microbert_course.data.wordpiece import encode_documents, train_wordpiece
from microbert_course.training import loop
from microbert_course.training.presets import PretrainConfig, preset

ADJECTIVES, NOUNS = ["good", "bad", "odd", "long"], ["film", "plot", "cast", "scene", "end"]
SENTENCES = [f"the {a} {n} was {b} and the {m} was {a} ." for a, n, b, m in itertools.product(ADJECTIVES, NOUNS, ADJECTIVES, NOUNS)]


def small_data() -> loop.PretrainData:
    "400 sentences whose two adjectives agree, in an order of their own."
    texts = [SENTENCES[i] for i in np.random.default_rng(0).permutation(len(SENTENCES))]
    tokenizer = train_wordpiece(texts, vocab_size=60)
    ids = encode_documents(texts, tokenizer, max_seq_len=16)
    return loop.PretrainData(tokenizer, ids[:-60], ids[-60:])


def small_config(**changes) -> PretrainConfig:
    "Six updates of eight sentences."
    return preset("tour", **{"hidden_size": 16, "intermediate_size": 32, "max_seq_len": 16, "batch_size": 8, "num_steps": 6, "warmup_steps": 1,
                             "eval_every": 3, "device": "cpu", "learning_rate": 1e-2, "dropout": 0.1, **changes})


def kill_before(kind: str, number: int) -> None:
    "From now on, SIGKILL comes before the event of this number."
    left = itertools.count(number - 1, -1)

    def counted(real):
        def call(*args, **kwargs):
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return call

    if kind == "update":
        loop.Training.update = counted(loop.Training.update)
    elif kind == "write":
        from microbert_course.training import checkpoints
        checkpoints.save_file = counted(checkpoints.save_file)
    elif kind == "fsync":
        os.fsync = counted(os.fsync)
    elif kind == "rename":
        Path.rename = counted(Path.rename)
    elif kind == "put":
        from microbert_course.training.remote import Store
        Store.put = counted(Store.put)
    elif kind == "rmtree":
        shutil.rmtree = counted(shutil.rmtree)
    else:
        raise ValueError(f"no event {kind!r}")


def main(arguments: list[str]) -> None:
    "Run, as the words say."
    from microbert_course.training.run import pretrain

    folder, *rest = arguments
    torch.set_num_threads(1)
    data = small_data()  # before the kills: its work has nothing to do with the run's folder
    if "--kill" in rest:
        at = rest.index("--kill")
        if int(os.environ.get("RANK", 0)) == int(os.environ.get("WORLD_SIZE", 1)) - 1:  # of several processes, the last one
            kill_before(rest[at + 1], int(rest[at + 2]))
        del rest[at : at + 3]
    changes = dict(word.split("=") for word in rest)
    numbers = {name: type(getattr(small_config(), name))(value) for name, value in changes.items()}
    pretrain(small_config(**numbers), folder, data=data, progress=False, resume="latest")


if __name__ == "__main__":
    main(sys.argv[1:])
