"""`training.loop`: order and chance are functions, and parts add up to the whole."""

import copy
import dataclasses
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from small_run import small_config, small_data

from microbert_course.errors import CourseError
from microbert_course.training import loop
from microbert_course.training.masking import unigram_log_probs
from microbert_course.training.presets import preset


@pytest.fixture(scope="module")
def data():
    return small_data()


@pytest.fixture
def config():
    return small_config(dropout=0.0)


def losses(config, data):
    training = loop.Training(loop.build_model(config, len(data.tokenizer)), data, config, Accelerator(cpu=True))
    return [training.update(step)["loss"].item() for step in range(config.num_steps)]


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


def test_a_tokenizer_whose_special_tokens_come_later_is_refused(data):
    "As BERT's own, whose [CLS] is 101: it would be hidden, and asked for."
    tokenizer = copy.deepcopy(data.tokenizer)
    tokenizer.mask_token = tokenizer.convert_ids_to_tokens(20)
    with pytest.raises(CourseError, match=r"the special tokens have the ids \[0, 1, 2, 3, 20\], and a run takes those below 5 for special"):
        loop.make_batch(data.train_ids[:4], tokenizer, 0.5, seed=0)


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


def test_training_learns_what_only_context_tells(config, data):
    "The two adjectives agree, so a model that reads beats the one that counts."
    long = dataclasses.replace(config, num_steps=300, hidden_size=32)
    model = loop.build_model(long, len(data.tokenizer))
    training = loop.Training(model, data, long, Accelerator(cpu=True))
    for step in range(long.num_steps):
        training.update(step)
    questions = loop.evaluation_batches(data.validation_ids, data.tokenizer)
    log_probs = unigram_log_probs(torch.from_numpy(data.train_ids.astype(np.int64)), len(data.tokenizer))
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


@pytest.mark.parametrize("mode", [True, False])
def test_evaluation_leaves_the_model_in_the_mode_it_came_in(config, data, mode):
    model = loop.build_model(config, len(data.tokenizer)).train(mode)
    loop.evaluate(model, loop.evaluation_batches(data.validation_ids, data.tokenizer))
    assert all(module.training == mode for module in model.modules())


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
    log_probs = unigram_log_probs(torch.from_numpy(data.train_ids.astype(np.int64)), len(data.tokenizer))
    questions = loop.evaluation_batches(data.validation_ids, data.tokenizer)
    model = loop.build_model(config, len(data.tokenizer), log_probs)
    assert loop.evaluate(model, questions)["loss"] == pytest.approx(loop.unigram_loss(questions, log_probs), abs=0.05)


def test_a_validation_row_too_short_to_hide_anything_counts_nothing(config, data):
    empty = np.array([[2, 3] + [0] * 14])
    rows = np.concatenate([data.validation_ids, empty])
    model = loop.build_model(config, len(data.tokenizer))
    with_it = loop.evaluate(model, loop.evaluation_batches(rows, data.tokenizer, batch_size=60))
    assert with_it == loop.evaluate(model, loop.evaluation_batches(rows[:-1], data.tokenizer, batch_size=60))


def test_a_batch_must_split_over_processes(config, data):
    accelerator = Accelerator(cpu=True)
    class Three:  # what three processes would look like from inside one
        num_processes, process_index, device = 3, 0, accelerator.device
        prepare = staticmethod(accelerator.prepare)
    with pytest.raises(CourseError, match="batch_size 8 does not split into 3 processes"):
        loop.Training(loop.build_model(config, len(data.tokenizer)), data, config, Three())


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


def test_an_evaluation_hides_berts_share_whatever_a_run_trains_with(data):
    batches = loop.evaluation_batches(np.tile(data.train_ids, (10, 1)), data.tokenizer)
    num_special = len(data.tokenizer.all_special_ids)
    words = sum(int(((batch.labels != -100) | (batch.input_ids >= num_special)).sum()) for batch in batches)
    share = sum(batch.num_predicted for batch in batches) / words
    assert loop.EVALUATION_MASKING == 0.15 == pytest.approx(share, abs=0.01)  # about 5 standard errors


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


