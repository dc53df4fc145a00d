"""Checks of the exercises on pretraining."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.uses import lesson_09 as uses
from microbert_course.training.loop import Batch, MaskedLMLoss, epoch_order
from microbert_course.training.optim import linear_schedule, parameter_groups

# 9.1: what a run reads

def reading_cases(rng: np.random.Generator) -> list[Case]:
    "Short and long texts, one that just does not fit, an empty one; several micro-batches; part of an epoch and many, never whole ones."
    cases = []
    for num_more, accumulation in ((0, 2), (int(rng.integers(3, 6)), 3), (int(rng.integers(15, 25)), 4)):
        max_seq_len = int(rng.integers(10, 20))
        num_pieces = [max_seq_len - 1, 0, 3 * max_seq_len, *rng.integers(1, 2 * max_seq_len, num_more).tolist()]
        changes = {"max_seq_len": max_seq_len, "num_steps": int(rng.integers(5, 12)), "warmup_steps": 1,
                   "mlm_probability": float(rng.uniform(0.2, 0.5)), "batch_size": accumulation * int(rng.integers(2, 9)),
                   "gradient_accumulation_steps": accumulation}
        while changes["num_steps"] * changes["batch_size"] % len(num_pieces) == 0:
            changes |= {"num_steps": int(rng.integers(5, 12)), "batch_size": accumulation * int(rng.integers(2, 9))}
        cases.append({"changes": changes, "num_pieces": num_pieces})
    return cases


def reading_variant(rows: str = "batch", cut: str = "row", padding: bool = False, hidden: str = "ordinary", share: float | None = None,
                    edges: int = 2, ends: Callable[[float], float] = float):
    "The three numbers with one thing counted otherwise."

    def count(config, num_pieces: list[int]) -> dict[str, float]:
        per_update = config.batch_size * (config.gradient_accumulation_steps if rows == "micro-batch" else 1)
        epochs = ends(config.num_steps * (1 if rows == "one" else per_update) / len(num_pieces))
        longest = {"row": config.max_seq_len - 2, "pieces": config.max_seq_len, "never": math.inf}[cut]
        ordinary = [min(n, longest) for n in num_pieces]
        tokens = [config.max_seq_len if padding else n + edges for n in ordinary]
        asked = sum(ordinary if hidden == "ordinary" else tokens) * (config.mlm_probability if share is None else share)
        return {"epochs": epochs, "tokens": epochs * sum(tokens), "questions": epochs * asked}

    return count


def rows_on_paper(config, num_pieces: list[int]) -> dict[str, float]:
    "The rows as they are packed, 0 for padding, 2 for an edge, 1 for what may be hidden; then their means."
    rows = np.zeros((len(num_pieces), config.max_seq_len))
    for row, n in zip(rows, num_pieces, strict=True):
        row[: n + 2] = 1
        row[[0, min(n + 1, config.max_seq_len - 1)]] = 2
    read = config.num_steps * config.batch_size
    return {"epochs": read / len(rows), "tokens": float(read * (rows > 0).sum(1).mean()),
            "questions": float(read * config.mlm_probability * (rows == 1).sum(1).mean())}


def reads_times_means(config, num_pieces: list[int]) -> dict[str, float]:
    "How many rows are read, times what is in one."
    reads = config.num_steps * config.batch_size
    tokens = np.mean([min(n + 2, config.max_seq_len) for n in num_pieces])
    return {"epochs": reads / len(num_pieces), "tokens": reads * tokens, "questions": reads * config.mlm_probability * (tokens - 2)}


# 9.2: the rows of a step

def rows_cases(rng: np.random.Generator) -> list[Case]:
    "Within the first epoch; across two; several epochs in a batch; far out, where the epochs fit exactly; a single row."
    num_rows, batch_size = int(rng.integers(40, 50)), int(rng.integers(14, 19))
    few = int(rng.integers(7, 10))
    settings = [(0, batch_size, num_rows), (num_rows // batch_size, batch_size, num_rows), (int(rng.integers(2, 6)), 3 * few + 4, few),
                (int(rng.integers(4_000, 8_000)), 6, 24), (int(rng.integers(3, 9)), 4, 1)]
    return [{"step": step, "batch_size": size, "num_rows": rows, "seed": int(rng.integers(1, 1000))} for step, size, rows in settings]


def rows_variant(epoch: str = "place", last: str = "shared", seeded: bool = True, shuffled: bool = True):
    "The rows of a step with one thing done otherwise."

    def rows_of(step: int, batch_size: int, num_rows: int, seed: int) -> np.ndarray:
        def order(number: int) -> np.ndarray:
            return epoch_order(seed if seeded else 0, number, num_rows) if shuffled else np.arange(num_rows)

        if last != "shared":
            steps = max(1, num_rows // batch_size if last == "dropped" else math.ceil(num_rows / batch_size))
            start = step % steps * batch_size
            return order(step // steps)[start:start + batch_size]
        places = range(step * batch_size, (step + 1) * batch_size)
        number = {"place": lambda place: place // num_rows, "none": lambda place: 0, "start": lambda place: places[0] // num_rows,
                  "step": lambda place: step}[epoch]
        return np.array([order(number(place))[place % num_rows] for place in places])

    return rows_of


def laid_end_to_end(step: int, batch_size: int, num_rows: int, seed: int) -> np.ndarray:
    "The orders of all epochs that the batch touches, and what is cut out of them."
    first, end = step * batch_size // num_rows, -(-(step + 1) * batch_size // num_rows)
    start = step * batch_size - first * num_rows
    return np.concatenate([epoch_order(seed, number, num_rows) for number in range(first, end)])[start:start + batch_size]


def filled_up(step: int, batch_size: int, num_rows: int, seed: int) -> np.ndarray:
    "Slice after slice, until the batch is full."
    rows, place = [], step * batch_size
    while len(rows) < batch_size:
        number, position = divmod(place + len(rows), num_rows)
        rows.extend(epoch_order(seed, number, num_rows)[position:position + batch_size - len(rows)].tolist())
    return np.asarray(rows, dtype=np.int64)


def from_the_beginning(step: int, batch_size: int, num_rows: int, seed: int) -> np.ndarray:
    "Right rows, cut out of all orders from epoch 0 on."
    end = (step + 1) * batch_size
    return np.concatenate([epoch_order(seed, number, num_rows) for number in range(-(-end // num_rows))])[step * batch_size:end]


# 9.3: averaged weights

def average_cases(rng: np.random.Generator) -> list[Case]:
    "Weights, buffers and a counter, in two dtypes, over several updates; an average that keeps nothing."
    settings = ((3, 2, 4, rng.uniform(0.6, 0.95), torch.float32), (4, 5, 3, rng.uniform(0.6, 0.95), torch.float64),
                (2, 3, 2, 0.0, torch.float32))
    return [{"decay": float(decay), "states": [state(rng, inputs, outputs, number, dtype) for number in range(num_states)]}
            for inputs, outputs, num_states, decay, dtype in settings]


def state(rng: np.random.Generator, inputs: int, outputs: int, number: int, dtype: torch.dtype) -> dict[str, Tensor]:
    "The state of a linear layer and a batch norm after some updates."
    shapes = {"0.weight": (outputs, inputs), "0.bias": (outputs,), "1.weight": (outputs,), "1.bias": (outputs,),
              "1.running_mean": (outputs,), "1.running_var": (outputs,)}
    return {**{name: torch.from_numpy(rng.standard_normal(shape)).to(dtype) for name, shape in shapes.items()},
            "1.num_batches_tracked": torch.tensor(int(10 + 7 * number + rng.integers(5)))}


def average_variant(first: str = "copy", kept: str = "decay", counters: str = "copied", over: str = "state", detached: bool = True,
                    into: str = "average"):
    "The running average with one thing done otherwise."

    def update(average: dict[str, Tensor], model, decay: float) -> None:
        share = decay if kept == "decay" else 1 - decay
        named = model.state_dict(keep_vars=not detached)
        if over == "parameters":
            named = {name: weight.detach() for name, weight in model.named_parameters()}
        for name, value in named.items():
            if not value.is_floating_point() and counters == "copied":
                average[name] = value.clone()
            elif name not in average and first != "zero":
                average[name] = value.clone() if first == "copy" else value
            else:
                mixed = share * average.get(name, torch.zeros_like(value)) + (1 - share) * value
                average[name] = mixed.to(value.dtype) if counters == "rounded" else mixed
                if into == "model":
                    value.copy_(mixed)

    return update


@torch.no_grad()
def torch_average(average: dict[str, Tensor], model, decay: float) -> None:
    "Torch's own arithmetic for averaged models."
    now = {name: value.clone() for name, value in model.state_dict().items()}
    floats = [name for name, value in now.items() if value.is_floating_point()]
    before = {name: average.get(name, now[name]) for name in floats}
    get_ema_multi_avg_fn(decay)([before[name] for name in floats], [now[name] for name in floats], None)
    average.update({**now, **before})


def average_with_parameters(average: dict[str, Tensor], model, decay: float) -> None:
    "Parameters and buffers, one after the other, moved a step towards where they are."
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        value = value.detach()
        if name not in average or not value.dtype.is_floating_point:
            average[name] = torch.empty_like(value).copy_(value)
        else:
            average[name] = average[name] + (value - average[name]) * (1 - decay)


# 9.4: a run

def run_cases(rng: np.random.Generator) -> list[Case]:
    "Batches of several sizes, with padding; warmup shorter and longer than half of the run."
    cases = []
    for vocab_size, hidden_size, sizes, warmup_steps in ((13, 8, ((3, 5), (2, 7), (4, 5), (3, 6)), 1),
                                                         (17, 6, ((2, 6), (3, 4), (2, 4), (4, 6), (2, 5)), 3)):
        settings = {"vocab_size": vocab_size, "hidden_size": hidden_size, "num_layers": 1, "intermediate_size": 12, "max_seq_len": 8,
                    "initializer_range": 0.3}
        cases.append({"settings": settings, "weights_seed": int(rng.integers(10**6)), "warmup_steps": warmup_steps,
                      "learning_rate": float(rng.uniform(0.02, 0.05)), "batches": [questions(rng, vocab_size, *size) for size in sizes]})
    return cases


def questions(
    rng: np.random.Generator, vocab_size: int, rows: int, seq: int, share: float = 0.4, masked: float = 1.0, num_asked: int | None = None,
) -> dict[str, Tensor]:
    "A batch in which the last row is shorter; `masked` of what is asked reads [MASK], the rest stands there. `num_asked` at the most."
    ids = torch.from_numpy(rng.integers(5, vocab_size, (rows, seq)))
    is_real = torch.ones(rows, seq, dtype=torch.bool)
    is_real[-1, seq - 2:] = False
    is_asked = torch.from_numpy(rng.random((rows, seq)) < share) & is_real
    is_asked[0, :2] = True
    if num_asked is not None:
        is_asked &= is_asked.flatten().cumsum(0).reshape(rows, seq) <= num_asked
    is_masked = is_asked & torch.from_numpy(rng.random((rows, seq)) < masked)
    return {"input_ids": ids.masked_fill(is_masked, 4).masked_fill(~is_real, 0), "attention_mask": is_real,
            "labels": ids.masked_fill(~is_asked, -100)}


def run_variant(reads: str = "corrupted", rate: str = "schedule", trains: bool = True, cleared: str = "after", first: int = 0,
                divisor: str = "asked"):
    "A run with some things done otherwise."

    def run(model, batches, learning_rate, warmup_steps):
        optimizer = torch.optim.AdamW(parameter_groups(model, 0.01), lr=learning_rate)
        losses = []
        if trains:
            model.train()
        for step, batch in enumerate(batches, start=first):
            whole = torch.where(batch.labels != -100, batch.labels, batch.input_ids)
            seen = Batch(batch.input_ids if reads == "corrupted" else whole, batch.attention_mask, batch.labels)
            total = {"asked": batch.num_predicted, "rows": len(whole), "real": batch.attention_mask.sum()}[divisor]
            loss = MaskedLMLoss(model)(*seen.tensors("cpu"))[0] / total
            loss.backward()
            if cleared == "too early":
                optimizer.zero_grad()
            factor = linear_schedule(step if rate != "frozen" else 0, len(batches) + first, warmup_steps)
            if rate == "late":
                optimizer.step()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * factor
            if rate != "late":
                optimizer.step()
            if cleared == "after":
                optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    return run


def run_with_logits(model, batches, learning_rate, warmup_steps):
    "Scores for every place, torch's cross-entropy and torch's scheduler with a schedule of its own."
    matrices, vectors = ([weight for weight in model.parameters() if (weight.ndim > 1) == is_matrix] for is_matrix in (True, False))
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], lr=learning_rate, weight_decay=0.01)
    way_down = len(batches) - warmup_steps
    schedule = LambdaLR(optimizer, lambda step: (step + 1) / warmup_steps if step < warmup_steps else (len(batches) - step) / way_down)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model.train()(batch.input_ids, batch.attention_mask).transpose(1, 2), batch.labels)  # −100 is skipped
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def run_with_probabilities(model, batches, learning_rate, warmup_steps):
    "Probabilities of the hidden places alone, and rates that were all computed before."
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.01), lr=1.0)
    rates = learning_rate * np.array([linear_schedule(step, len(batches), warmup_steps) for step in range(len(batches))])
    losses = []
    model.train()
    for batch, rate in zip(batches, rates, strict=True):
        labels = batch.labels.flatten()
        asked = (labels != -100).nonzero().squeeze(1)
        scores = model(batch.input_ids, batch.attention_mask, predict_at=asked)
        loss = -scores.log_softmax(-1)[torch.arange(len(asked)), labels[asked]].mean()
        model.zero_grad(set_to_none=False)
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        optimizer.step()
        losses.append(loss.item())
    return losses


# 9.5: a score

def score_cases(rng: np.random.Generator) -> list[Case]:
    "Batches with very different numbers of questions, one with none; one process, two and three."
    cases = []
    for vocab_size, asked, num_processes in ((11, (1, 14, 0, 3), 1), (9, (12, 1, 5, 0, 2), 2), (12, (2, 9, 1, 16, 3), 3)):
        settings = {"vocab_size": vocab_size, "hidden_size": 8, "num_layers": 1, "intermediate_size": 12, "max_seq_len": 12, "dropout": 0.3,
                    "initializer_range": 0.6}
        batches = [questions(rng, vocab_size, 3, 6 + number, share=0.9, masked=0.6, num_asked=num_asked)
                   for number, num_asked in enumerate(asked)]
        cases.append({"settings": settings, "weights_seed": int(rng.integers(10**6)), "batches": batches, "num_processes": num_processes})
    return cases


def score_variant(mode: str = "eval", after: str = "train", weights: str = "questions", counted: str = "asked", added: str = "totals",
                  told: str = "nats", reads: str = "its own"):
    "The score with one thing done otherwise."

    @torch.no_grad()
    def evaluate(model, batches, accelerator=None):
        rank, world_size = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
        objective, rows = MaskedLMLoss(model), []
        model.train(mode != "eval")
        for batch in batches[rank::world_size] if reads == "its own" else batches:
            total = batch.num_predicted if counted == "asked" else int(batch.attention_mask.sum())
            loss, num_correct = (value.item() for value in objective(*batch.tensors("cpu")))
            if world_size > 1 and added == "in each batch":
                loss, num_correct, total = accelerator.reduce(torch.tensor([loss, num_correct, total])).tolist()
            if weights == "questions":
                rows.append((loss, num_correct, total))
            elif total:
                rows.append((loss / total, num_correct / total, 1))
        model.train(after == "train")
        totals = torch.tensor(rows, dtype=torch.float64).sum(0)
        if world_size > 1 and added == "totals":
            totals = accelerator.reduce(totals)
        score = totals[:2] / totals[2]
        if world_size > 1 and added == "scores":
            score = accelerator.reduce(score) / world_size
        loss, accuracy = score if told == "tensors" else score.tolist()
        return {"loss": math.exp(loss) if told == "perplexity" else loss, "accuracy": accuracy}

    return evaluate


def score_with_logits(model, batches, accelerator=None):
    "All logits and targets of a process in two long tensors; each number is added up on its own."
    model.eval()
    mine = batches[accelerator.process_index::accelerator.num_processes] if accelerator else batches
    with torch.no_grad():
        logits = torch.cat([model(batch.input_ids, batch.attention_mask)[batch.labels != -100] for batch in mine])
    targets = torch.cat([batch.labels[batch.labels != -100] for batch in mine])
    numbers = [F.cross_entropy(logits, targets, reduction="sum"), (logits.argmax(1) == targets).sum(), torch.tensor(len(targets))]
    if accelerator:
        numbers = [accelerator.reduce(number) for number in numbers]
    model.train()
    loss, num_correct, num_asked = map(float, numbers)
    return {"loss": loss / num_asked, "accuracy": num_correct / num_asked}


def score_one_by_one(model, batches, accelerator=None):
    "Every question on its own, its probability looked up after a softmax."
    rank, world_size = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    surprises, hits = [], []
    for batch in batches[rank::world_size]:
        with torch.no_grad():
            probs = model.eval()(batch.input_ids, batch.attention_mask).softmax(-1)
        for row, place in (batch.labels != -100).nonzero().tolist():
            truth = batch.labels[row, place]
            surprises.append(-math.log(probs[row, place, truth]))
            hits.append(bool(probs[row, place].argmax() == truth))
    totals = torch.tensor([sum(surprises), sum(hits), len(hits)], dtype=torch.float64)
    totals = accelerator.reduce(totals, "sum") if world_size > 1 else totals
    model.train()
    return {"loss": float(totals[0] / totals[2]), "accuracy": float(totals[1] / totals[2])}


CHECKS = (
    Check(
        id="pretraining.run_in_numbers",
        name="run_in_numbers",
        cases=reading_cases,
        use=uses.configured,
        reference=rows_on_paper,
        right=(reading_variant(), reads_times_means),
        wrong=(
            Wrong(reading_variant(rows="micro-batch"),
                  "You count the rows of an update once for every micro-batch. batch_size is already all of them; accumulation only "
                  "cuts it into pieces."),
            Wrong(reading_variant(rows="one"),
                  "You count one row an update. An update reads batch_size rows."),
            Wrong(reading_variant(ends=math.floor),
                  "You count whole epochs only. A run stops wherever its last update is, mostly in the middle of an epoch: the "
                  "fraction belongs to the answer."),
            Wrong(reading_variant(ends=math.ceil),
                  "You round the epochs up to whole ones. A run stops wherever its last update is, mostly in the middle of an epoch: the "
                  "fraction belongs to the answer."),
            Wrong(reading_variant(padding=True),
                  "You count padding: every row as if it were full. That is what the memory holds, and not what is read."),
            Wrong(reading_variant(cut="never"),
                  "Long texts are not cut: a row never has more than max_seq_len tokens."),
            Wrong(reading_variant(cut="pieces"),
                  "You cut the pieces at max_seq_len and then add [CLS] and [SEP]: such rows are two tokens too long."),
            Wrong(reading_variant(hidden="all"),
                  "You let [CLS] and [SEP] be hidden. They are in every row, so guessing them teaches nothing, and they are never "
                  "asked."),
            Wrong(reading_variant(share=0.15),
                  "Your share of questions is BERT's 0.15. It is a field of the configuration."),
            Wrong(reading_variant(edges=0),
                  "[CLS] and [SEP] are missing among the tokens read: each row has them."),
        ),
    ),
    Check(
        id="pretraining.batch_rows",
        name="batch_rows",
        builds="training.loop.batch_rows",
        cases=rows_cases,
        use=uses.dealt_out,
        reference=laid_end_to_end,
        right=(rows_variant(), filled_up),
        wrong=(
            Wrong(from_the_beginning,
                  "The rows are right, and to find them you make the orders of all epochs from the first on: the longer a run lasts, the "
                  "slower are its steps. Make only the orders of the epochs that the batch touches."),
            Wrong(rows_variant(epoch="none"),
                  "Your sampler has no epoch: every epoch deals out the rows in the order of the first, and the same reviews share a "
                  "batch for ever."),
            Wrong(rows_variant(epoch="start"),
                  "A batch that crosses the end of an epoch is filled from the order of the old epoch, so that some rows come twice "
                  "and others, in the new one, are skipped."),
            Wrong(rows_variant(epoch="step"),
                  "You shuffle anew at every step. Rows then come twice within an epoch, or not at all."),
            Wrong(rows_variant(last="dropped"),
                  "The last rows of each epoch are dropped when they do not fill a batch. Nothing is to be left out: the batch goes "
                  "on in the next epoch."),
            Wrong(rows_variant(last="short"),
                  "The last batch of an epoch is shorter than the others. It is to be filled from the next epoch, so that every "
                  "update has the same size."),
            Wrong(rows_variant(seeded=False),
                  "The seed is not used: all runs see the same order, and a second seed tells you nothing about the luck of the "
                  "first."),
            Wrong(rows_variant(shuffled=False),
                  "The rows come in the order of the file. Neighbours there are often alike, and each batch is one-sided: use the "
                  "epoch's order."),
        ),
    ),
    Check(
        id="pretraining.update_average",
        name="update_average",
        cases=average_cases,
        use=uses.averaged,
        reference=torch_average,
        right=(average_variant(), average_with_parameters),
        wrong=(
            Wrong(average_variant(first="alias"),
                  "The first call keeps the weights themselves and not a copy, so that the next update of the model moves your "
                  "average with it: a state dict hands out the originals."),
            Wrong(average_variant(kept="rest"),
                  "The shares are swapped: decay is what the old average keeps. Yours is nearly the newest weights, and trembles with "
                  "them."),
            Wrong(average_variant(first="zero"),
                  "Your average starts at 0 and crawls from there towards the weights: the first call copies."),
            Wrong(average_variant(counters="averaged"),
                  "You average the counter of batches as well and make a fraction of it. What is not floating point is copied."),
            Wrong(average_variant(counters="rounded"),
                  "You average the counter of batches and round it, so that it lags behind. What is not floating point is copied."),
            Wrong(average_variant(over="parameters"),
                  "The buffers are missing: a batch norm's running means are no parameters and still belong to the model. Every name "
                  "of the state dict is wanted."),
            Wrong(average_variant(detached=False),
                  "Your average hangs on the graph of gradients: with each update it drags along all weights before it, and the "
                  "memory fills."),
            Wrong(average_variant(into="model"),
                  "The average is written into the model, which then trains on from it. The model stays as it is."),
        ),
    ),
    Check(
        id="pretraining.run",
        name="mended_run",
        cases=run_cases,
        use=uses.recorded,
        reference=run_with_logits,
        right=(run_variant(), run_with_probabilities),
        tolerance=1e-5,  # Adam enlarges rounding where a gradient is nearly 0
        wrong=(
            Wrong(run_variant(reads="whole", rate="frozen", trains=False, cleared="never"),
                  "This is still the run as you found it: all four faults are in."),
            Wrong(run_variant(reads="whole"),
                  "The model still reads the answers: what was hidden is put back before it looks. It learns to copy, and the exam, "
                  "where nothing can be copied, shows it.",
                  seen=lambda output, case: output["the model reads the answers"]),
            Wrong(run_variant(rate="frozen"),
                  "The rate stands still at the first step of warmup, a fraction of its peak: the run goes on crawling until it ends.",
                  seen=lambda output, case: len(set(output["the rates"])) == 1),
            Wrong(run_variant(trains=False),
                  "The model is still in the mode of the exam that came before: dropout is off while it learns, so nothing holds it "
                  "back from learning by heart.",
                  seen=lambda output, case: not output["dropout is on while it learns"]),
            Wrong(run_variant(cleared="never"),
                  "The gradients pile up: every update follows the sum of all batches so far, most of them about weights of long ago."),
            Wrong(run_variant(cleared="too early"),
                  "The gradients are cleared between backward and the optimizer's step: it finds nothing to do."),
            Wrong(run_variant(rate="late"),
                  "The rate is set after the optimizer's step, so that the first update, before any warmup, is made at the peak."),
            Wrong(run_variant(first=1),
                  "Your steps count from 1, so that warmup is one update short: the first update has step 0."),
            Wrong(run_variant(divisor="rows"),
                  "You divide the sum of the losses by the rows of the batch. It is to be the mean over the hidden tokens."),
            Wrong(run_variant(divisor="real"),
                  "You divide by all tokens of the batch, and most of them were never asked: a loss that looks small and means "
                  "nothing."),
        ),
    ),
    Check(
        id="pretraining.evaluate",
        name="evaluate",
        builds="training.loop.evaluate",
        cases=score_cases,
        use=uses.scored,
        reference=score_with_logits,
        right=(score_variant(), score_one_by_one),
        wrong=(
            Wrong(score_variant(weights="batches"),
                  "This is the mean of the batches' means: a token in a batch with few questions counts more than one in a batch with "
                  "many. Add up first, divide once."),
            Wrong(score_variant(mode="train"),
                  "Dropout is on while you score: the model answers with part of its numbers missing, and twice the same question "
                  "gives two scores."),
            Wrong(score_variant(after="eval"),
                  "The score is right, and the model is left in evaluation mode: from the first exam on the run trains without "
                  "dropout."),
            Wrong(score_variant(counted="real"),
                  "You divide by all real tokens, and most of them were never asked. Only hidden tokens count."),
            Wrong(score_variant(added="never"),
                  "Every process answers for its own share of the batches: the totals of all are to be added up before you divide."),
            Wrong(score_variant(added="scores"),
                  "You divide first and add up then: the mean of the processes' scores, in which a process with few questions counts "
                  "as much as one with many."),
            Wrong(score_variant(added="in each batch"),
                  "You reduce in each batch, and one process may have a batch more than another: it waits for ever for a call that nobody else makes. Add "
                  "up your own batches first, and reduce once."),
            Wrong(score_variant(reads="all"),
                  "The scores are right, and processes read other batches than their own, all of them perhaps: eight processes would do the same work "
                  "eight times. Process `rank` reads batches rank, rank + world_size and so on, and the totals are added up."),
            Wrong(score_variant(told="perplexity"),
                  "You answer the perplexity, the exponential of the loss. Nats are asked for."),
            Wrong(score_variant(told="tensors"),
                  "The scores are right, and they are tensors. A run writes its history down as JSON, which knows plain numbers only: "
                  "answer two floats."),
        ),
    ),
)
