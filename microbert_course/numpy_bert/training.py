"""Training the NumPy encoder: threads, micro-batches, checkpoints, and the loop around them."""

import json
import math
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from microbert_course.errors import CourseError
from microbert_course.files import read_json
from microbert_course.numpy_bert.adamw import AdamW, clipping_scale
from microbert_course.numpy_bert.corpus import RowStream, mask_rows
from microbert_course.numpy_bert.encoder import NumpyBert
from microbert_course.numpy_bert.shape import NumpyBertConfig, init_parameters

FORMAT = 1       # of a checkpoint folder
PIECE = 1 << 18  # bytes read at once


class Trainer:
    """Loss and gradients of a batch, in micro-batches that add up to it exactly, each divided among threads.

    NumPy lets other threads run while it calculates. The order of additions is fixed, so that a run can be repeated to the bit.
    Keep BLAS to one thread a thread (OPENBLAS_NUM_THREADS=1), or the two levels get in each other's way."""

    def __init__(self, config: NumpyBertConfig, parameters: dict[str, np.ndarray], num_threads: int = 2):  # shapes as `parameter_shapes`
        self.config, self.parameters = config, parameters
        self.encoders = [NumpyBert(config, parameters) for _ in range(num_threads)]
        self.pool = ThreadPoolExecutor(num_threads)
        self.gradients = self.encoders[0].gradients  # where those of all threads are added up

    def loss_and_gradients(
        self,
        input_ids: np.ndarray,  # (batch, seq) integers
        labels: np.ndarray,     # (batch, seq) integers, -100 = not predicted
        micro_batch: int = 8,   # rows that pass through at once
    ) -> float:  # nats per predicted token
        """The mean over all predicted tokens of the batch; `gradients` holds its gradients.

        Raises: ValueError if nothing is predicted, or as `NumpyBert.loss` does."""
        num_predicted = int((labels != -100).sum())
        if num_predicted == 0:
            raise ValueError("no token is predicted in this batch: use longer rows or hide more tokens")
        for encoder in self.encoders:
            encoder.gradients.reset()
        loss = 0.0
        for start in range(0, len(input_ids), micro_batch):
            loss += self.forward(input_ids[start:start + micro_batch], labels[start:start + micro_batch], num_predicted)
            self.backward()
        self.join()
        return loss

    def forward(self, input_ids: np.ndarray, labels: np.ndarray, num_predicted: int) -> float:  # (micro_batch, seq) each
        "The micro-batch's part of the loss: each thread takes a share of its rows."
        num_shares = min(len(self.encoders), len(input_ids))
        edges = [len(input_ids) * share // num_shares for share in range(num_shares + 1)]
        self.at_work = self.encoders[:num_shares]
        calls = [self.pool.submit(encoder.loss, input_ids[first:last], labels[first:last], None, num_predicted)
                 for encoder, first, last in zip(self.at_work, edges, edges[1:], strict=False)]
        return sum(call.result() for call in calls)

    def backward(self) -> None:
        "Each thread adds the gradients of its share to its own."
        for call in [self.pool.submit(encoder.backward) for encoder in self.at_work]:
            call.result()

    def join(self) -> None:
        "Add the gradients of all threads to the first one's."
        list(self.pool.map(self._join_one, self.gradients))

    def _join_one(self, name: str) -> None:
        for encoder in self.encoders[1:]:
            if name not in encoder.gradients.stale:
                self.gradients[name] += encoder.gradients[name]


@dataclass(frozen=True)
class TrainConfig:
    "What decides the result of a run, besides its length."

    batch_size: int = 32
    """Rows per update, the logical batch."""
    micro_batch: int = 8
    """Rows that pass through at once: less memory, same result."""
    learning_rate: float = 2e-3
    """The rate after warmup."""
    warmup_steps: int = 20
    """Updates in which the rate rises to it."""
    weight_decay: float = 0.01
    """Share of a weight taken away a step, times the rate; matrices only."""
    max_grad_norm: float = 1.0
    """Longer gradients are shortened to this."""
    num_threads: int = 2
    """Threads that share each micro-batch."""
    seed: int = 0
    """Chance: the first weights and the hidden tokens."""

    def check(self) -> None:
        """Nothing, or the first setting that cannot be.

        Raises: CourseError naming it."""
        for name in ("batch_size", "micro_batch", "num_threads"):
            if getattr(self, name) < 1:
                raise CourseError(f"{name} is {getattr(self, name)}: use 1 or more")
        for name in ("warmup_steps", "weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise CourseError(f"{name} is {getattr(self, name)}: use 0 or more")
        for name in ("learning_rate", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise CourseError(f"{name} is {getattr(self, name)}: use a number above 0, such as {getattr(TrainConfig, name)}")


class Run:
    """A training that can be saved after any update and continued to the bit.

    Raises: CourseError if a setting, the corpus or the tokenizer's file is not usable."""

    def __init__(self, settings: TrainConfig, config: NumpyBertConfig, corpus: Path, tokenizer_path: Path):
        from tokenizers import Tokenizer

        settings.check()
        self.settings, self.config, self.corpus, self.num_steps = settings, config, Path(corpus), 0
        try:
            self.tokenizer = Tokenizer.from_file(str(tokenizer_path))
        except Exception as error:  # tokenizers raises nothing more precise
            raise CourseError(f"{tokenizer_path} is not a tokenizer ({error}): restore it or train again") from None
        self.stream = RowStream(corpus, self.tokenizer, config.max_seq_len)
        self.trainer = Trainer(config, init_parameters(config, settings.seed), settings.num_threads)
        self.optimizer = AdamW(self.trainer.parameters, settings.learning_rate, weight_decay=settings.weight_decay)

    def batch(self) -> tuple[np.ndarray, np.ndarray]:  # ids and labels, (batch, seq) each
        "The next rows, with hidden tokens that depend on seed and step alone."
        rows = self.stream.take(self.settings.batch_size)
        return mask_rows(rows, self.tokenizer.get_vocab_size(), np.random.default_rng([self.settings.seed, self.num_steps]))

    def update(self, input_ids: np.ndarray, labels: np.ndarray) -> float:  # (batch, seq) each -> nats per predicted token
        "One step of the optimizer; the loss before it."
        settings = self.settings
        loss = self.trainer.loss_and_gradients(input_ids, labels, settings.micro_batch)
        if not math.isfinite(loss):
            raise CourseError(f"the loss became {loss} at step {self.num_steps}: lower learning_rate {settings.learning_rate}")
        warmup = min(1.0, (self.num_steps + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
        scale = clipping_scale(self.trainer.gradients, settings.max_grad_norm)
        self.optimizer.step(self.trainer.gradients, settings.learning_rate * warmup, scale)
        self.num_steps += 1
        return loss

    def save(self, folder: str | Path) -> None:
        "Write the whole run to a folder beside its final name, then rename: a reader finds the old one or the new one."
        folder = Path(folder)
        partial, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("partial", "old"))
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        self.tokenizer.save(str(partial / "tokenizer.json"))
        for name, arrays in (("parameters", self.trainer.parameters), ("adamw", self.optimizer.state())):
            _save_arrays(partial / f"{name}.npz", arrays)
        state = {"format": FORMAT, "num_steps": self.num_steps, "position": self.stream.position,
                 "corpus_bytes": self.corpus.stat().st_size, "config": asdict(self.config), "settings": asdict(self.settings)}
        (partial / "state.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)

    def load(self, folder: str | Path) -> None:
        """Go on from a saved run of the same settings, shape and corpus.

        Raises: CourseError if one of them differs, or a file is missing or damaged."""
        folder = Path(folder)
        state = read_json(folder / "state.json")
        if state.get("format") != FORMAT:
            raise CourseError(f"{folder} has the format {state.get('format')} and this version reads {FORMAT}: train it anew")
        missing = {"num_steps", "position", "corpus_bytes", "config", "settings"} - state.keys()
        if missing:
            raise CourseError(f"{folder / 'state.json'} is damaged (it lacks {sorted(missing)[0]}): restore it or train again")
        for kind, ours in (("config", asdict(self.config)), ("settings", asdict(self.settings))):
            for name, value in ours.items():
                if state[kind].get(name) != value:
                    raise CourseError(f"{name} is {value} here and {state[kind].get(name)} in {folder}: "
                                      f"a resumed run needs the same, --{name.replace('_', '-')} {state[kind].get(name)}")
        if state["corpus_bytes"] != self.corpus.stat().st_size:
            raise CourseError(f"{self.corpus} has {self.corpus.stat().st_size:,} bytes and the run in {folder} was on "
                              f"{state['corpus_bytes']:,}: give the same corpus")
        _load_arrays(folder / "parameters.npz", self.trainer.parameters)
        memories = self.optimizer.state()
        memories.pop("num_steps")
        _load_arrays(folder / "adamw.npz", memories)  # views of the optimizer's own arrays
        self.num_steps = self.optimizer.num_steps = state["num_steps"]
        self.stream = RowStream(self.corpus, self.tokenizer, self.config.max_seq_len, state["position"])


def _save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    "An .npz file as np.savez writes it, each array with a checksum, but straight from its memory, without a copy."
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array_header_1_0(entry, np.lib.format.header_data_from_array_1_0(array))
                    entry.write(array.reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())


def _load_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    "Fill the arrays from an .npz file, straight into their memory, or CourseError."
    try:
        with zipfile.ZipFile(path) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy") as entry:
                    np.lib.format.read_magic(entry)
                    shape, _, dtype = np.lib.format.read_array_header_1_0(entry)
                    if shape != array.shape or dtype != array.dtype:
                        raise CourseError(f"{name} in {path} has another shape than the model: restore the file or train again")
                    memory = array.reshape(-1).view(np.uint8)
                    for start in range(0, len(memory), PIECE):
                        piece = memory[start:start + PIECE]
                        piece[...] = np.frombuffer(entry.read(len(piece)), np.uint8)
    except FileNotFoundError:
        raise CourseError(f"{path} does not exist: give a folder that --save wrote") from None
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError) as error:
        if isinstance(error, CourseError):
            raise
        raise CourseError(f"{path} is damaged ({error}): restore it or train again") from None


def steps(run: Run, num_steps: int) -> Iterator[tuple[int, float]]:  # (updates done, loss)
    "Train until `num_steps` updates are done, those before a resume among them."
    while run.num_steps < num_steps:
        loss = run.update(*run.batch())
        yield run.num_steps, loss


def overfit(run: Run, num_steps: int, target: float = 0.1) -> Iterator[tuple[int, float]]:  # (updates done, loss)
    "The first batch again and again, the same tokens hidden, until the loss is below `target`."
    batch = run.batch()
    for _ in range(num_steps):
        loss = run.update(*batch)
        yield run.num_steps, loss
        if loss < target:
            return


def peak_memory_mb() -> float:
    "The most that this process has held in memory so far, in millions of bytes."
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count the parent's memory as well, if that was larger when it started us
        peaks = [line.split()[1] for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")]
        if peaks:
            return int(peaks[0]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def timed(report: Callable[[str], None], progress: Iterator[tuple[int, float]], every: int = 10) -> float | None:
    "Say a line now and then; the last loss comes back, None if there was no step."
    start, loss, step = time.perf_counter(), None, 0
    for count, (step, loss) in enumerate(progress, start=1):  # noqa: B007
        if count == 1 or count % every == 0:
            report(f"step {step:6,}  loss {loss:.3f}  {time.perf_counter() - start:.1f} s")
    return loss
