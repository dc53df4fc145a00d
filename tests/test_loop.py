"""`training.loop`: order and chance are functions, parts add up to the whole, and a run folder is whole or absent."""

import dataclasses
import itertools
import json
import math
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from microbert_course.data.wordpiece import encode_documents, train_wordpiece
from microbert_course.errors import CourseError
from microbert_course.models.bert import MicroBertForMaskedLM
from microbert_course.training import loop
from microbert_course.training.presets import preset

ADJECTIVES, NOUNS = ["good", "bad", "odd", "long"], ["film", "plot", "cast", "scene", "end"]
SENTENCES = [f"the {a} {n} was {b} and the {m} was {a} ." for a, n, b, m in itertools.product(ADJECTIVES, NOUNS, ADJECTIVES, NOUNS)]


@pytest.fixture(scope="module")
def data():
    "400 sentences whose two adjectives agree, in an order of their own."
    texts = [SENTENCES[i] for i in np.random.default_rng(0).permutation(len(SENTENCES))]
    tokenizer = train_wordpiece(texts, vocab_size=60)
    ids = encode_documents(texts, tokenizer, max_seq_len=16)
    return loop.PretrainData(tokenizer, ids[:-60], ids[-60:])


@pytest.fixture
def config():
    return preset("tour", hidden_size=16, intermediate_size=32, max_seq_len=16, batch_size=8, num_steps=6, warmup_steps=1,
                  eval_every=3, device="cpu", learning_rate=1e-2)


def losses(config, data):
    model = loop.build_model(config, len(data.tokenizer))
    return [update["loss"] for update in loop.training_steps(model, data, config, Accelerator(cpu=True))]


def test_every_epoch_visits_every_row_once():
    "Ten rows in batches of four: five batches are exactly two epochs."
    visited = np.concatenate([loop.batch_rows(step, 4, 10, seed=0) for step in range(5)])
    assert sorted(visited[:10]) == sorted(visited[10:]) == list(range(10))
    assert list(visited[:10]) != list(visited[10:])  # in another order


def test_a_batch_larger_than_the_corpus_takes_rows_again():
    assert sorted(loop.batch_rows(0, 7, 3, seed=0)[:6]) == [0, 0, 1, 1, 2, 2]


def test_the_order_is_a_function_of_seed_and_step():
    assert (loop.batch_rows(17, 8, 100, seed=3) == loop.batch_rows(17, 8, 100, seed=3)).all()
    assert (loop.batch_rows(17, 8, 100, seed=3) != loop.batch_rows(17, 8, 100, seed=4)).any()


def test_seeds_do_not_depend_on_the_machine():
    "Python salts its own hash of strings; a seed must not."
    here = loop.seed_for(0, "mask", 7)
    command = "from microbert_course.training.loop import seed_for; print(seed_for(0, 'mask', 7))"
    there = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True,
                           env={**os.environ, "PYTHONHASHSEED": "5"}).stdout
    assert int(there) == here
    assert len({loop.seed_for(0, "mask", step) for step in range(100)}) == 100


def test_special_unknown_and_padding_tokens_are_never_hidden(data):
    rows = data.train_ids[:64].copy()
    rows[:, 3] = data.tokenizer.unk_token_id
    batch = loop.make_batch(rows, data.tokenizer, mlm_probability=0.9, seed=1)
    hidden = batch.labels[batch.labels != -100]
    assert len(hidden) > 200 and hidden.min() >= 5


def test_a_batch_is_trimmed_to_its_longest_row(data):
    batch = loop.make_batch(np.array([[2, 9, 3, 0, 0, 0], [2, 9, 9, 3, 0, 0]]), data.tokenizer, 0.5, seed=0)
    assert batch.input_ids.shape == (2, 4)
    assert batch.attention_mask.tolist() == [[True, True, True, False], [True] * 4]


def test_micro_batches_add_up_to_the_big_batch(config, data):
    "Each part hides another number of tokens, so the mean of means would be wrong."
    whole = losses(config, data)
    parts = losses(dataclasses.replace(config, gradient_accumulation_steps=4), data)
    assert parts == pytest.approx(whole, abs=1e-5)


def test_the_loop_is_what_ten_lines_of_torch_do(config, data):
    "Whole batches, logits everywhere, no accelerate: the same losses, so masks, schedule, clipping and zeroed gradients are right."
    config = dataclasses.replace(config, warmup_steps=2, max_grad_norm=0.1)
    model = loop.build_model(config, len(data.tokenizer))
    decaying, others = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": decaying, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
                                  betas=(config.beta1, config.beta2))
    expected = []
    for step, factor in enumerate([1 / 2, 1, 1, 3 / 4, 2 / 4, 1 / 4]):  # two steps up, then down in a line
        rows = data.train_ids[loop.batch_rows(step, config.batch_size, len(data.train_ids), config.seed)]
        batch = loop.make_batch(rows, data.tokenizer, config.mlm_probability, loop.seed_for(config.seed, "mask", step))
        logits = model(batch.input_ids, batch.attention_mask)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        optimizer.step()
        expected.append(loss.item())
    assert losses(config, data) == pytest.approx(expected, abs=1e-5)


def test_the_same_seed_twice_is_the_same_run_to_the_bit(config, data, tmp_path):
    first = loop.pretrain(config, tmp_path / "first", data=data, progress=False)
    second = loop.pretrain(config, tmp_path / "second", data=data, progress=False)
    for name in ("history.json", "model.safetensors"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()
    other = loop.pretrain(dataclasses.replace(config, seed=1), tmp_path / "other", data=data, progress=False)
    assert (other.folder / "history.json").read_bytes() != (first.folder / "history.json").read_bytes()


def test_training_learns_what_only_context_tells(config, data):
    "The two adjectives agree, so a model that reads beats the one that counts."
    long = dataclasses.replace(config, num_steps=300, hidden_size=32)
    model = loop.build_model(long, len(data.tokenizer))
    for _ in loop.training_steps(model, data, long, Accelerator(cpu=True)):
        pass
    questions = loop.evaluation_batches(data.validation_ids, data.tokenizer)
    log_probs = loop.unigram_log_probs(torch.from_numpy(data.train_ids.astype(np.int64)), len(data.tokenizer))
    assert loop.evaluate(model, questions)["loss"] < loop.unigram_loss(questions, log_probs) - 0.5


def test_evaluation_counts_every_hidden_token_once(config, data):
    "Batches of unequal size must not be averaged as equals."
    model = loop.build_model(config, len(data.tokenizer))
    questions = loop.evaluation_batches(data.validation_ids, data.tokenizer, batch_size=25)  # 25, 25, 10
    nats, right, count = 0.0, 0, 0
    for batch in questions:
        logits = model(batch.input_ids, batch.attention_mask)
        for row, column in (batch.labels != -100).nonzero().tolist():
            nats -= logits[row, column].log_softmax(0)[batch.labels[row, column]].item()
            right += int(logits[row, column].argmax() == batch.labels[row, column])
            count += 1
    assert loop.evaluate(model, questions) == pytest.approx({"loss": nats / count, "accuracy": right / count}, abs=1e-5)


def test_all_runs_are_asked_the_same_questions(data):
    first, second = (loop.evaluation_batches(data.validation_ids, data.tokenizer) for _ in range(2))
    assert all(a.labels.equal(b.labels) for a, b in zip(first, second, strict=True))


def test_unigram_loss_by_hand(data):
    "Two hidden tokens with probabilities 1/2 and 1/8: (ln 2 + ln 8) / 2."
    batch = loop.Batch(torch.tensor([[4, 4]]), torch.ones(1, 2, dtype=torch.bool), torch.tensor([[5, 6]]))
    log_probs = torch.tensor([0, 0, 0, 0, 0, 1 / 2, 1 / 8]).log()
    assert loop.unigram_loss([batch], log_probs) == pytest.approx(2 * math.log(2))


def test_the_model_starts_at_the_unigram_loss(config, data):
    "With the output bias at the log-frequencies and small weights, the first guess is the unigram guess."
    log_probs = loop.unigram_log_probs(torch.from_numpy(data.train_ids.astype(np.int64)), len(data.tokenizer))
    questions = loop.evaluation_batches(data.validation_ids, data.tokenizer)
    model = loop.build_model(config, len(data.tokenizer), log_probs)
    assert loop.evaluate(model, questions)["loss"] == pytest.approx(loop.unigram_loss(questions, log_probs), abs=0.05)


def test_a_run_folder_opens_in_transformers_with_equal_logits(config, data, tmp_path):
    run = loop.pretrain(config, tmp_path / "run", data=data, progress=False)
    theirs, tokenizer = AutoModelForMaskedLM.from_pretrained(run.folder), AutoTokenizer.from_pretrained(run.folder)
    ours = MicroBertForMaskedLM.from_pretrained(run.folder)
    inputs = tokenizer(["the good film was bad .", "the plot [MASK]"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = theirs(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).logits
        actual = ours(inputs.input_ids, inputs.attention_mask)
    is_real = inputs.attention_mask.bool()
    assert (actual - expected)[is_real].abs().max() < 1e-5
    assert tokenizer.mask_token == "[MASK]"
    assert len(pipeline("fill-mask", model=str(run.folder))("the [MASK] film")) == 5
    written = json.loads((run.folder / "training.json").read_text())
    assert {name: written[name] for name in dataclasses.asdict(config)} == dataclasses.asdict(config)
    assert (run.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((run.folder / "tensorboard").rglob("events.out.tfevents*"))


def test_a_finished_run_is_not_replaced_unasked(config, data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "training.json").touch()
    with pytest.raises(CourseError, match="holds a finished run: choose another folder"):
        loop.pretrain(config, tmp_path / "run", data=data, progress=False)
    assert (tmp_path / "run" / "training.json").exists()
    loop.pretrain(config, tmp_path / "run", overwrite=True, data=data, progress=False)
    assert (tmp_path / "run" / "training.json").stat().st_size > 0


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_is_no_run_is_never_replaced(config, data, tmp_path, is_folder):
    "`--overwrite --folder Documents` must not cost a thesis."
    thesis = tmp_path / "Documents" / "thesis.txt" if is_folder else tmp_path / "Documents"
    thesis.parent.mkdir(exist_ok=True)
    thesis.touch()
    with pytest.raises(CourseError, match="is no training run, so it is not replaced"):
        loop.pretrain(config, tmp_path / "Documents", overwrite=True, data=data, progress=False)
    assert thesis.exists()


def test_the_state_of_an_interrupted_run_is_not_thrown_away_unasked(config, data, tmp_path):
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "model.safetensors").touch()
    with pytest.raises(CourseError, match="holds the last state of an interrupted run"):
        loop.pretrain(config, tmp_path / "run", data=data, progress=False)
    assert (tmp_path / "run.partial" / "model.safetensors").exists()


def test_an_update_that_ruins_the_model_is_not_saved(config, data, tmp_path):
    "The loss of the last batch was still a number; what its update left behind is not."
    wild = dataclasses.replace(config, num_steps=1, warmup_steps=0, learning_rate=1e30)
    with pytest.raises(CourseError, match="the validation loss is nan at step 0: lower the learning rate"):
        loop.pretrain(wild, tmp_path / "run", data=data, progress=False)
    assert os.listdir(tmp_path) == []


def test_validation_rows_too_short_to_hide_anything(config, data, tmp_path):
    "A short row beside others counts nothing; if there is no other, the run says so before it trains."
    empty = np.array([[2, 3] + [0] * 14])
    rows = np.concatenate([data.validation_ids, empty])
    model = loop.build_model(config, len(data.tokenizer))
    with_it = loop.evaluate(model, loop.evaluation_batches(rows, data.tokenizer, batch_size=60))
    assert with_it == loop.evaluate(model, loop.evaluation_batches(rows[:-1], data.tokenizer, batch_size=60))
    nothing = loop.PretrainData(data.tokenizer, data.train_ids, empty)
    with pytest.raises(CourseError, match="validation texts are too few or too short"):
        loop.pretrain(config, tmp_path / "run", data=nothing, progress=False)


def test_runs_of_different_precision_in_one_program(config, data, tmp_path):
    for precision in ("no", "bf16"):
        run = loop.pretrain(dataclasses.replace(config, mixed_precision=precision), tmp_path / precision, data=data, progress=False)
        assert math.isfinite(run.history["validation"][-1]["loss"])


TWO = """
import pickle, sys
from microbert_course.training import loop
config, data = pickle.load(open(sys.argv[1], "rb"))
loop.pretrain(config, sys.argv[2], data=data, progress=False)
"""


def test_two_processes_are_one_large_batch(config, data, tmp_path):
    "Each process knows all masks and takes its rows: the same losses, and one folder, from one process or two."
    (tmp_path / "task").write_bytes(pickle.dumps((config, data)))
    (tmp_path / "two.py").write_text(TWO)
    alone = loop.pretrain(config, tmp_path / "one", data=data, progress=False).history
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "two.py", "task", "two"]
    done = subprocess.run(launch, cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"})
    assert done.returncode == 0, done.stderr[-3000:]
    together = json.loads((tmp_path / "two" / "history.json").read_text())
    for part in ("train", "validation"):
        assert [u["loss"] for u in together[part]] == pytest.approx([u["loss"] for u in alone[part]], abs=1e-5)
    assert not (tmp_path / "two.partial").exists()


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_nothing(config, data, tmp_path):
    wild = dataclasses.replace(config, learning_rate=1e30)
    with pytest.raises(CourseError, match=r"the loss is (nan|inf) at step \d: lower the learning rate \(now 1e\+30\)"):
        loop.pretrain(wild, tmp_path / "run", data=data, progress=False)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("stop_at", "states"), [(2, 0), (5, 1)])
def test_an_interrupted_run_keeps_its_last_complete_state(config, data, tmp_path, monkeypatch, stop_at, states):
    "Evaluations come after updates 3 and 6: stopped before the third nothing is left, after it the third's state is."
    def interrupted(*args):
        for update in real(*args):
            if update["step"] == stop_at:
                raise KeyboardInterrupt
            yield update
    real = loop.training_steps
    monkeypatch.setattr(loop, "training_steps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.pretrain(config, tmp_path / "run", data=data, progress=False)
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "run.partial").exists() == bool(states)
    if states:
        assert AutoModelForMaskedLM.from_pretrained(tmp_path / "run.partial").config.hidden_size == 16
        assert len(json.loads((tmp_path / "run.partial" / "history.json").read_text())["validation"]) == states


def test_a_batch_must_split_over_processes(config, data):
    accelerator = Accelerator(cpu=True)
    class Three:  # what three processes would look like from inside one
        num_processes, process_index, device = 3, 0, accelerator.device
        prepare = staticmethod(accelerator.prepare)
    with pytest.raises(CourseError, match="batch_size 8 does not split into 3 processes"):
        next(loop.training_steps(loop.build_model(config, len(data.tokenizer)), data, config, Three()))


KILLED = """
import os, signal, sys
import numpy as np
from microbert_course import files
from microbert_course.training import loop
from microbert_course.data.wordpiece import encode_documents, train_wordpiece
from microbert_course.training.presets import preset
texts = ["the good film was good", "the bad film was bad", "an odd plot"] * 40
tokenizer = train_wordpiece(texts, vocab_size=50)
ids = encode_documents(texts, tokenizer, max_seq_len=12)
writes = 0
real_write = os.fsync
def fsync(descriptor):  # the plug is pulled in the middle of the N-th file
    global writes
    writes += 1
    if writes == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    real_write(descriptor)
files.os.fsync = fsync
config = preset("tour", hidden_size=8, intermediate_size=8, max_seq_len=12, batch_size=4, num_steps=8, warmup_steps=0, eval_every=2, device="cpu")
loop.pretrain(config, sys.argv[1], data=loop.PretrainData(tokenizer, ids[:-20], ids[-20:]), progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("write", [9, 11])
def test_a_killed_run_can_be_read(tmp_path, write):
    "SIGKILL in the middle of writing the second state: what is there is the first or the second, never half."
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "run"), str(write)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    partial = tmp_path / "run.partial"
    MicroBertForMaskedLM.from_pretrained(partial)
    json.loads((partial / "history.json").read_text())
    AutoTokenizer.from_pretrained(partial)


# --- the small parts

def test_the_order_of_an_epoch_is_a_permutation_of_its_own():
    orders = [loop.epoch_order(seed, epoch, 20).tolist() for seed, epoch in [(0, 0), (0, 1), (1, 0)]]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    assert loop.epoch_order(0, 1, 20).tolist() == orders[1]


def test_the_loss_inside_is_that_of_the_whole_models_scores(config, data):
    "Padding or not: the surprise at the hidden tokens summed up, and how many had the highest score."
    rows = data.train_ids[:5].copy()
    rows[0, 6:] = 0
    batch = loop.make_batch(rows, data.tokenizer, 0.5, seed=0)
    model = loop.build_model(config, len(data.tokenizer)).eval()
    loss, num_correct = loop.MaskedLMLoss(model)(*batch.tensors("cpu"))
    hidden = batch.labels != -100
    logits = model(batch.input_ids, batch.attention_mask)[hidden]
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch.labels[hidden], reduction="sum"))
    assert num_correct == (logits.argmax(-1) == batch.labels[hidden]).sum() and batch.num_predicted > 0


def test_a_part_in_which_nothing_is_hidden_adds_zero(config, data):
    "One row of a batch may hide nothing; its share of loss and gradient is 0, and every parameter still gets a gradient."
    batch = loop.make_batch(data.train_ids[:2], data.tokenizer, 0.5, seed=0)
    batch.labels[:] = -100
    model = loop.build_model(config, len(data.tokenizer))
    loss, num_correct = loop.MaskedLMLoss(model)(*batch.tensors("cpu"))
    loss.backward()
    assert loss.item() == 0 and num_correct.item() == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_the_tokenizer_learns_from_the_training_texts_alone(tmp_path):
    "As many of them as the configuration says; the validation texts become ids with what was learned there."
    from microbert_course.data.sources import load

    (tmp_path / "texts.txt").write_text("\n".join(f"word{i:03} is here" for i in range(100)))
    config = preset("tour", data=str(tmp_path / "texts.txt"), tokenizer="words", vocab_size=500, max_seq_len=8, max_texts=30)
    prepared = loop.prepare_data(config)
    seen = {text.split()[0] for text in load(config.data, "train")["text"][:30]}
    assert {word for word in prepared.tokenizer.get_vocab() if word.startswith("word")} == seen
    assert prepared.train_ids.shape == (30, 8)
    unknown = prepared.tokenizer.unk_token_id
    assert prepared.validation_ids[:, 1].tolist() == [unknown] * len(load(config.data, "validation"))


def test_an_evaluation_hides_berts_share_whatever_a_run_trains_with(data):
    batches = loop.evaluation_batches(np.tile(data.train_ids, (10, 1)), data.tokenizer)
    num_special = len(data.tokenizer.all_special_ids)
    words = sum(int(((batch.labels != -100) | (batch.input_ids >= num_special)).sum()) for batch in batches)
    share = sum(batch.num_predicted for batch in batches) / words
    assert loop.EVALUATION_MASKING == 0.15 == pytest.approx(share, abs=0.01)  # about 5 standard errors


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_names_step_and_rate(config, loss):
    loop.check_finite(1e30, "loss", 7, config)
    with pytest.raises(CourseError, match=r"the validation loss is -?(nan|inf) at step 7: lower the learning rate \(now 0.01\)"):
        loop.check_finite(loss, "validation loss", 7, config)


@pytest.mark.parametrize(("schedule", "quarter"), [("linear", 0.75), ("cosine", (1 + math.cos(math.pi / 4)) / 2)])
def test_the_rate_of_a_step_follows_the_named_schedule(schedule, quarter):
    "Up over 4 steps, then down to a tenth over 8: half of the way down is the mean of peak and floor, for both."
    config = preset("tour", schedule=schedule, learning_rate=2.0, warmup_steps=4, num_steps=12, floor=0.1)
    rates = [loop.learning_rate_at(step, config) for step in range(12)]
    assert rates[:5] == sorted(rates[:5]) and rates[4:] == sorted(rates[4:], reverse=True)
    assert max(rates) == pytest.approx(2.0) and min(rates[4:]) >= 0.2
    for share in (0.5, quarter):
        assert any(rate == pytest.approx(0.2 + 1.8 * share) for rate in rates[4:])


def test_the_plot_shows_both_losses_and_the_line_to_beat():
    train = [{"step": step, "loss": 5.0 - step} for step in range(3)]
    ax = loop.plot_history({"unigram_loss": 4.5, "train": train, "validation": [{"step": 2, "loss": 3.5, "accuracy": 0.1}]})
    raw, smooth, validation, unigram = ax.get_lines()
    assert list(raw.get_ydata()) == [5, 4, 3] and list(smooth.get_ydata()) == [5, 4.5, 3.5]  # each with the one before it
    assert list(validation.get_xydata()[0]) == [2, 3.5] and set(unigram.get_ydata()) == {4.5}
    assert ax.get_ylabel() == "loss (nats per hidden token)"


def test_a_state_gets_its_weights_last(config, data, tmp_path, monkeypatch):
    "So a folder with weights always opens; one whose writing was cut short has none."
    model = loop.build_model(config, len(data.tokenizer))
    history = {"unigram_loss": 4.5, "train": [{"step": 0, "loss": 5.0}], "validation": []}
    monkeypatch.setattr(model, "save_pretrained", lambda folder: seen.extend(path.name for path in folder.iterdir()))
    seen = []
    loop.write_state(tmp_path, model, data.tokenizer, config, history)
    assert {"tokenizer.json", "training.json", "history.json", "loss.png"} <= set(seen)
    monkeypatch.undo()
    history["train"].append({"step": 1, "loss": 4.0})
    loop.write_state(tmp_path, model, data.tokenizer, config, history)
    assert json.loads((tmp_path / "history.json").read_text()) == history
    assert AutoModelForMaskedLM.from_pretrained(tmp_path).num_parameters() > 0


def test_a_run_answers_what_its_folder_holds(config, data, tmp_path):
    result = loop.pretrain(config, tmp_path / "run", data=data, progress=False)
    assert isinstance(result, loop.RunResult) and result.folder == tmp_path / "run" and not result.model.training
    assert result.history == json.loads((result.folder / "history.json").read_text())
    saved = MicroBertForMaskedLM.from_pretrained(result.folder)
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), result.model.parameters(), strict=True))


def test_whoever_asks_sees_the_model_after_each_evaluation(config, data, tmp_path):
    "With the newest score, before the run goes on."
    seen = []
    result = loop.pretrain(config, tmp_path / "run", data=data, progress=False,
                           on_evaluation=lambda model, score: seen.append((type(model), dict(score))))
    assert seen == [(MicroBertForMaskedLM, score) for score in result.history["validation"]]
