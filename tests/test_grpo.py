"""GRPO: groups and their advantages, a loss equal to trl's, what a batch may leave out, and a run that keeps the promises of the engine."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from shared_data import shared
from transformers import AutoTokenizer

from microbert_course.errors import CourseError
from microbert_course.lessons.trl_loss import trl_loss
from microbert_course.models.gpt import GptConfig, GptForCausalLM
from microbert_course.posttraining.grpo import (
    GrpoBatch,
    GrpoData,
    GrpoLoss,
    check_processes,
    clipped_loss,
    completion_logprobs,
    default_terms,
    fingerprint,
    group_advantages,
    grpo,
    grpo_loss,
    kl_penalty,
    plot_rewards,
    problems_of,
    start_of,
    token_weights,
    train_grpo,
    up_to_end,
)
from microbert_course.posttraining.instruction import asked, with_template
from microbert_course.posttraining.instruction_data import read_examples
from microbert_course.posttraining.problems import (
    SHOWING,
    SUMS_SHAPE,
    Problem,
    Prompts,
    all_sums,
    answers_to,
    completion_texts,
    fresh_adder,
    read_problems,
    show_sums,
    split_problems,
    sums_tokenizer,
    varied_sums,
)
from microbert_course.posttraining.rewards import Term, label_reward, numeric_reward
from microbert_course.posttraining.settings import GrpoConfig
from microbert_course.training.distributed import launch

CONFIG = GrpoConfig(batch_size=32, num_steps=4, eval_every=2, num_test=20, device="cpu", warmup_steps=0)
SUMS = split_problems(all_sums(6), 10, seed=0)


def start(seed=0):
    return fresh_adder(seed), sums_tokenizer()


def one_digit(prompts, completions, answers):
    "A goal that a fresh model meets now and then: the first sign is even."
    return [float(text[:1] in {*"02468"} and text != "") for text in completions]


GOAL = (Term("even", one_digit),)


def drawn(generator, rows=6, new=5):
    "Log-probabilities of three kinds, advantages, and completions of all lengths from 1 on."
    logprobs, old, ref = (-torch.rand(rows, new, generator=generator) * 3 for _ in range(3))
    lengths = torch.cat([torch.tensor([1, new]), torch.randint(1, new + 1, (rows - 2,), generator=generator)])
    return logprobs, old, ref, torch.randn(rows, generator=generator), torch.arange(new) < lengths[:, None]


def test_on_a_gpu_a_copy_with_16_bit_matrices_writes_and_follows_the_policy():
    policy, tokenizer = start()
    data = GrpoData(tokenizer, SUMS[0], GOAL, SimpleNamespace(mixed_precision="bf16", device=SimpleNamespace(type="cuda")))
    data.watch(CONFIG, policy)
    for _ in range(2):
        writer = data.writer(CONFIG)
        for (name, ours), theirs in zip(writer.named_parameters(), policy.parameters(), strict=True):
            assert ours.dtype == (torch.bfloat16 if ours.ndim == 2 else torch.float32), name  # norms keep their 32 bits
            assert torch.equal(ours, theirs.to(ours.dtype)) and theirs.dtype == torch.float32 and not ours.requires_grad
        with torch.no_grad():
            for weight in policy.parameters():
                weight.mul_(1.5)
    data.accelerator.device.type = "cpu"
    assert data.writer(CONFIG) is policy


def test_advantages_by_hand():
    "Two groups of four: one right in four earns 3/4 against −1/4 each; all alike earn nothing. With std, the group's spread is 1/2."
    rewards = torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 1])
    assert group_advantages(rewards, 4).tolist() == [0.75, -0.25, -0.25, -0.25, 0, 0, 0, 0]
    torch.testing.assert_close(group_advantages(rewards, 4, "std"), torch.tensor([1.5, -0.5, -0.5, -0.5, 0, 0, 0, 0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("scale", ["std", "none"])
def test_advantages_sum_to_zero_and_do_not_see_what_all_share(scale):
    "A reward that the whole group gets changes nothing, and groups do not see each other."
    rewards = torch.randn(24, generator=torch.Generator().manual_seed(0))
    found = group_advantages(rewards, 6, scale)
    torch.testing.assert_close(found.view(4, 6).sum(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(group_advantages(rewards + torch.arange(4).repeat_interleave(6), 6, scale), found, atol=1e-5, rtol=0)
    torch.testing.assert_close(group_advantages(rewards[6:12], 6, scale), found[6:12])


@pytest.mark.parametrize(("shape", "group_size", "scale"), [((7,), 2, "none"), ((4,), 1, "none"), ((2, 2), 2, "none"), ((4,), 2, "batch")])
def test_what_is_no_group_is_refused(shape, group_size, scale):
    "Numbers that do not split, groups of one, a table instead of a row, a scale that there is not."
    with pytest.raises(ValueError, match="choose 'std' or 'none'" if scale == "batch" else "do not split into groups"):
        group_advantages(torch.zeros(shape), group_size, scale)


def test_the_clip_stops_what_went_far_enough_and_nothing_else():
    "Ratios 1.5 and 0.5: pushing further has no gradient, pulling back has. Clip-Higher moves the upper edge alone."
    for ratio, advantage, moves in ((1.5, 1, False), (1.5, -1, True), (0.5, -1, False), (0.5, 1, True), (1.1, 1, True)):
        logprobs = torch.tensor([[ratio]]).log().requires_grad_()
        loss = clipped_loss(logprobs, torch.zeros(1, 1), torch.tensor([float(advantage)]))
        loss.sum().backward()
        assert (logprobs.grad.abs().item() > 0) == moves
    assert clipped_loss(torch.tensor([[1.5]]).log(), torch.zeros(1, 1), torch.ones(1), clip_epsilon_high=0.4).item() == pytest.approx(-1.4)


def test_the_penalty_estimates_the_divergence_and_is_never_negative():
    "Over tokens drawn from p, its mean is KL(p, q)."
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    each = kl_penalty(p.log(), q.log())
    assert (each >= 0).all() and kl_penalty(p.log(), p.log()).abs().max() == 0
    torch.testing.assert_close((p * each).sum(), (p * (p / q).log()).sum())


def test_three_ways_to_count_tokens_by_hand():
    "Completions of one and of four tokens: the lone token counts 1, 1/5 or 1/8 of the loss of both."
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1]])
    shares = {loss: (lambda weights, divisor: (weights / divisor)[:, 0].tolist())(*token_weights(mask, loss)) for loss in ("grpo", "dapo", "dr_grpo")}
    assert shares == {"grpo": [0.5, 0.125], "dapo": pytest.approx([0.2, 0.2]), "dr_grpo": [0.125, 0.125]}
    assert token_weights(mask, "dr_grpo", max_new_tokens=10)[1] == 20
    with pytest.raises(ValueError, match="loss 'ppo' is unknown"):
        token_weights(mask, "ppo")


@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize("kl_coef", [0.0, 0.04])
def test_the_loss_and_its_gradient_are_those_of_trl(loss, kl_coef):
    "trl's own `_compute_loss` on the same tensors, in double precision; its model is asked for nothing but these log-probabilities."
    pytest.importorskip("trl", reason="trl is not installed: it is a reference for tests")
    logprobs, old, ref, advantages, mask = (tensor if tensor.dtype == torch.bool else tensor.double() for tensor in drawn(torch.Generator().manual_seed(1)))
    settings = (0.2, 0.28, kl_coef, loss, 7)  # the clip below and above, the price of the reference, how tokens count, how long a completion may be
    ours, theirs = (logprobs.clone().requires_grad_() for _ in range(2))
    mine, trl = grpo_loss(ours, old, advantages, mask, ref, *settings), trl_loss(theirs, old, ref, advantages, mask, *settings)
    mine.backward()
    trl.backward()
    torch.testing.assert_close(mine, trl, atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=0)


def test_logprobs_are_those_of_the_whole_table(monkeypatch):
    "Against log_softmax over full logits, temperature and left padding included; in parts as in one piece, gradients too."
    model = GptForCausalLM(GptConfig(vocab_size=11, hidden_size=16, num_layers=2, num_heads=2, num_kv_heads=1, intermediate_size=24, max_seq_len=12))
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(1, 11, (3, 8), generator=generator)
    attention_mask, completion_mask = torch.ones(3, 8, dtype=torch.bool), torch.ones(3, 5, dtype=torch.bool)
    attention_mask[0, :2], completion_mask[1, 3:], attention_mask[1, 6:] = False, False, False
    table = (model(input_ids, attention_mask) / 0.7).log_softmax(-1)
    wanted = table[:, 2:-1].gather(2, input_ids[:, 3:, None])[..., 0] * completion_mask
    found = completion_logprobs(model, input_ids, attention_mask, completion_mask, temperature=0.7)
    torch.testing.assert_close(found, wanted)
    found.sum().backward()
    whole = model.gpt.word.weight.grad.clone()
    model.zero_grad()
    monkeypatch.setattr("microbert_course.posttraining.grpo._SCORES_AT_ONCE", 44)  # four tokens at a time
    parts = completion_logprobs(model, input_ids, attention_mask, completion_mask, temperature=0.7)
    parts.sum().backward()
    torch.testing.assert_close(parts, wanted)
    torch.testing.assert_close(model.gpt.word.weight.grad, whole)


def test_a_completion_ends_with_its_end():
    "The end itself is learned, what fills the row up is not; a model without an end goes on to the last place."
    assert up_to_end(torch.tensor([[4, 9, 0, 0], [9, 0, 0, 0], [4, 4, 4, 4], [9, 9, 4, 9]]), 9).long().tolist() == [
        [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert up_to_end(torch.tensor([[4, 9]]), None).all()


def data_of(config, terms=GOAL, problems=SUMS[0], reference=None):
    model, tokenizer = start()
    data = GrpoData(tokenizer, Prompts(problems, tokenizer), terms, Accelerator(cpu=True), reference)
    return data, data.watch(config, model)


def test_a_batch_holds_whole_groups_of_one_prompt_and_is_a_function_of_seed_and_step():
    "Rows of a group share the prompt and differ in the completion; the same step draws the same, another one other ones."
    data, _ = data_of(CONFIG)
    batch, again, other = data.batch(3, CONFIG), data.batch(3, CONFIG), data.batch(4, CONFIG)
    groups = batch.input_ids.view(4, 8, -1)
    assert (groups[:, :, :6] == groups[:, :1, :6]).all() and any(len(group[:, 6:].unique(dim=0)) > 1 for group in groups)
    assert torch.equal(batch.input_ids, again.input_ids) and torch.equal(batch.advantages, again.advantages)
    assert not torch.equal(batch.input_ids, other.input_ids)
    torch.testing.assert_close(batch.advantages.view(4, 8).sum(1), torch.zeros(4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_the_objective_is_the_loss_on_paper_and_micro_batches_add_up_to_it(loss, kl_coef):
    "Summed over slices and divided by what the batch says, it is `grpo_loss` of all rows, those without advantage included."
    config = replace(CONFIG, loss=loss, kl_coef=kl_coef, num_iterations=2, scale="std")
    data, objective = data_of(config, reference=fresh_adder(1) if kl_coef else None)
    batch = data.batch(0, config)
    with torch.no_grad():
        for weight in objective.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)) * 0.02)  # so that ratios are not 1
    logprobs = completion_logprobs(objective.model, batch.input_ids, batch.attention_mask, batch.completion_mask)
    wanted = grpo_loss(logprobs, batch.old_logprobs, batch.advantages, batch.completion_mask, batch.ref_logprobs, kl_coef=kl_coef, loss=loss, max_new_tokens=3)
    parts = [objective(*batch.slice(begin, begin + 8).tensors("cpu")) for begin in range(0, 32, 8)]
    torch.testing.assert_close(sum(part[0] for part in parts) / batch.num_predicted, wanted, atol=1e-6, rtol=1e-5)
    assert (sum(part[1] for part in parts) / batch.num_predicted).item() == pytest.approx(data.figures["even"])


@pytest.mark.parametrize("scale", ["none", "std"])
def test_a_group_that_earns_the_same_fraction_has_no_advantage(scale):
    "The mean of eight times 0.1 is not 0.1 in float32, and what is left of it was divided by 1e-4."
    for reward in (0.1, 0.3, 0.7, 1.1, 1.3):
        assert group_advantages(torch.full((32,), reward), 8, scale).count_nonzero() == 0


def test_groups_without_spread_are_not_read_and_change_nothing():
    "Of three groups one is all right and one all wrong: only the third is read, and the gradient is that of all three."
    data, objective = data_of(CONFIG)
    batch = data.batch(0, replace(CONFIG, batch_size=24))
    batch.advantages = group_advantages(torch.tensor([1.0] * 8 + [0.0] * 8 + [1.0, 0] * 4), 8)
    assert len(batch.tensors("cpu")[0]) == 8
    loss, _ = objective(*batch.tensors("cpu"))
    loss.backward()
    few = objective.model.gpt.word.weight.grad.clone()
    objective.model.zero_grad()
    logprobs = completion_logprobs(objective.model, batch.input_ids, batch.attention_mask, batch.completion_mask)
    (grpo_loss(logprobs, logprobs.detach(), batch.advantages, batch.completion_mask, max_new_tokens=3) * batch.num_predicted).backward()
    torch.testing.assert_close(few, objective.model.gpt.word.weight.grad)
    batch.advantages = torch.zeros(24)
    loss, _ = objective(*batch.tensors("cpu"))
    assert len(batch.tensors("cpu")[0]) == 1 and loss.item() == 0 and loss.requires_grad


def test_sums_are_all_there_and_the_unseen_ones_stay_unseen():
    "2,500 sums, units first; no prompt is on both sides, and the sides depend on the seed alone."
    sums = all_sums()
    assert len(sums) == 2_500 and Problem("27+15=", "24") in sums and Problem("03+04=", "70") in sums
    train, test = split_problems(sums, 500, 0)
    assert len(test) == 500 and not {one.prompt for one in train} & {one.prompt for one in test} and {*train, *test} == {*sums}
    assert split_problems(sums, 500, 0)[1] == test != split_problems(sums, 500, 1)[1]
    twice = split_problems([*SUMS[0], *SUMS[0]], 5, 0)
    assert len(twice[1]) == 10 and not {one.prompt for one in twice[0]} & {one.prompt for one in twice[1]}
    with pytest.raises(CourseError, match="num_test is 36 and there are 36 different problems"):
        split_problems(all_sums(6), 36, 0)


def test_a_few_sums_teach_the_form(tmp_path):
    "As shipped, nearly every answer is two digits and an end, and fewer than a fifth are right; of every kind of sum as many were shown."
    tokenizer, (train, test) = sums_tokenizer(), split_problems(all_sums(), 500, 0)
    shown = show_sums(SHOWING, tmp_path / "run", progress=False)
    texts = answers_to(shown.model, tokenizer, test, 3)
    assert sum(len(text) == 2 and text.isdigit() for text in texts) > 450 and 0.1 < shown.history["validation"][-1]["exact"] < 0.2
    kinds = Counter((one.prompt[0], one.prompt[3], int(one.prompt[1]) + int(one.prompt[4]) > 9) for one in varied_sums(train, 200))
    assert AutoTokenizer.from_pretrained(shown.folder).model_max_length == SUMS_SHAPE.max_seq_len
    assert set(kinds.values()) == {4} and len(kinds) == 50 and varied_sums(train, 10**6) != train and {*varied_sums(train, 10**6)} == {*train}


def test_a_run_learns_what_earns(tmp_path):
    "From about half of the first signs even to nine in ten, by the reward alone."
    config = replace(CONFIG, batch_size=128, num_steps=40, eval_every=20, learning_rate=5e-3)
    run = train_grpo(config, tmp_path / "run", SUMS, GOAL, start(), progress=False)
    drawn = [update["even"] for update in run.history["train"]]
    assert sum(drawn[:3]) / 3 < 0.6 and sum(drawn[-3:]) / 3 > 0.9
    assert run.history["start"]["exact"] <= 1 and run.history["validation"][-1]["exact"] > 0.9
    assert {"reward", "varied_groups", "completion_tokens"} <= run.history["train"][-1].keys() and (run.folder / "loss.png").is_file()
    assert plot_rewards(run.history).get_ylabel() == "share that is right"


@pytest.mark.parametrize("changes", [{}, {"num_iterations": 2, "kl_coef": 0.05, "scale": "std", "gradient_accumulation_steps": 2}])
def test_a_run_that_is_interrupted_goes_on_to_the_same_weights(tmp_path, changes):
    "Completions are drawn anew from the restored model, and are the same."
    config = replace(CONFIG, **changes)
    whole = train_grpo(config, tmp_path / "whole", SUMS, GOAL, start(), progress=False)

    def interrupt(model, newest):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_grpo(config, tmp_path / "cut", SUMS, GOAL, start(), progress=False, on_evaluation=interrupt)
    resumed = train_grpo(config, tmp_path / "cut", SUMS, GOAL, start(), progress=False, resume="latest")
    for (name, ours), theirs in zip(resumed.model.state_dict().items(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    assert resumed.history["train"] == whole.history["train"]


def test_the_model_that_learning_begins_with_stays_as_it_is(tmp_path):
    "It may be the reference, and the start of another run."
    model, tokenizer = start()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_grpo(replace(CONFIG, kl_coef=0.1, num_steps=2), tmp_path / "run", SUMS, GOAL, (model, tokenizer), progress=False)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


TWO_PROCESSES = '''
import json, os, sys
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from microbert_course.errors import CourseError
from microbert_course.posttraining import grpo
from microbert_course.posttraining.grpo import GrpoData, check_processes, start_of, train_grpo
from microbert_course.posttraining.problems import SHOWING, Prompts, all_sums, fresh_adder, split_problems, sums_tokenizer
from microbert_course.posttraining.rewards import Term
from microbert_course.posttraining.settings import GrpoConfig
from microbert_course.training.engine import shared_processes

folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
config = GrpoConfig(batch_size=32, num_steps=4, eval_every=2, num_test=9, device="cpu", warmup_steps=0, kl_coef=0.1, num_iterations=2, gradient_accumulation_steps=2)
sums, tokenizer, seen = split_problems(all_sums(6), 9, seed=0), sums_tokenizer(), []


def even(prompts, completions, answers):
    seen.append((len(prompts), sorted(set(prompts))))
    return [float(text[:1] in {*"02468"} and text != "") for text in completions]


def broken(prompts, completions, answers):
    return [float("nan") if rank else 0.0] * len(completions)


def refusal(ask, *arguments):
    try:
        ask(*arguments)
    except CourseError as error:
        return str(error)


accelerator = Accelerator(cpu=True)
said = [refusal(GrpoData(tokenizer, Prompts(sums[0], tokenizer), (Term("judge", broken),), accelerator, policy=fresh_adder(0)).draw, 0, config),
        refusal(check_processes, replace(config, batch_size=8, num_iterations=1, gradient_accumulation_steps=1), accelerator)]
drawn = grpo.generate


def shorter_on_one(*arguments, **settings):
    ids = drawn(*arguments, **settings)[:, : 9 - rank]
    ids[:, -1] = tokenizer.eos_token_id
    return ids


grpo.generate = shorter_on_one
data = GrpoData(tokenizer, Prompts(sums[0], tokenizer), (Term("even", even),), accelerator, policy=fresh_adder(0))
lengths = data.draw(0, replace(config, kl_coef=0.0, num_iterations=1)).completion_mask.sum(dim=1).tolist()
grpo.generate = drawn
seen.clear()
grpo.SHOWING = replace(SHOWING, num_steps=2, warmup_steps=0, eval_every=2)
with shared_processes():
    shown, _ = start_of(config, folder / "run")
    run = train_grpo(config, folder / "run", sums, (Term("even", even),), (fresh_adder(0), tokenizer), progress=False, resume=sys.argv[2] if sys.argv[2:] else None)
(folder / f"{rank}.json").write_text(json.dumps({"weights": run.model.gpt.word.weight.tolist(), "history": run.history, "seen": seen[:3], "said": said,
                                                 "shown": shown.gpt.word.weight.tolist(), "lengths": lengths}))
'''


def test_two_processes_draw_their_own_share_and_stay_one_run(tmp_path):
    "Each answers and scores half of the prompts, both know all of it; where one has to refuse, both do, with its sentence."
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    launch(tmp_path / "two.py", tmp_path, num_processes=2, timeout_s=150)
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert [number for number, _ in one["seen"]] == [5, 16, 16] and [number for number, _ in other["seen"]] == [4, 16, 16]  # a look, then draws
    assert len(one["seen"][1][1]) == 2 and not {*one["seen"][1][1]} & {*other["seen"][1][1]}
    assert one["weights"] == other["weights"] and one["history"] == other["history"]
    assert one["history"]["train"][0]["kl"] == 0 < one["history"]["train"][2]["kl"]
    assert one["said"] == other["said"] and "the reward 'judge' is nan for completion 0" in one["said"][0]
    assert "batch_size 8 in groups of 8 is 1 prompts, which do not split over 2 processes" in one["said"][1]
    assert one["lengths"] == other["lengths"] and max(one["lengths"][:16]) == 3 and max(one["lengths"][16:]) == 2
    assert one["shown"] == other["shown"] != fresh_adder(0).gpt.word.weight.tolist()


def test_an_update_without_the_model_that_drew_is_refused():
    "The second update of a batch needs what the first one drew."
    config = replace(CONFIG, num_iterations=2)
    with pytest.raises(CourseError, match="step 3 learns from completions that were drawn before step 2"):
        data_of(config)[0].batch(3, config)


@pytest.mark.parametrize(("terms", "sentence"), [
    ((Term("judge", lambda prompts, completions, answers: [float("nan")] * len(completions)),), "the reward 'judge' is nan for completion 0"),
    ((Term("exact", label_reward), Term("judge", lambda *_: [1.0])), r"the reward 'judge' gives \(1,\) scores for 10")])
def test_a_reward_that_is_none_ends_the_run_with_its_sentence(tmp_path, terms, sentence):
    "Before anything is learned from it."
    with pytest.raises(CourseError, match=sentence):
        train_grpo(CONFIG, tmp_path / "run", SUMS, terms, start(), progress=False)


def test_a_reference_of_another_vocabulary_and_prompts_that_do_not_fit_are_refused():
    "Both vocabularies, or the prompt and its length, stand in the sentence."
    model, tokenizer = start()
    other = GptForCausalLM(replace(SUMS_SHAPE, vocab_size=20))
    with pytest.raises(CourseError, match="the reference has a vocabulary of 20 tokens and the model one of 14"):
        grpo(model, tokenizer, *SUMS, GOAL, other, Accelerator(cpu=True), CONFIG)
    with pytest.raises(CourseError, match="has 6 tokens, and with max_new_tokens 12 that is more than the 16"):
        grpo(model, tokenizer, *SUMS, GOAL, None, Accelerator(cpu=True), replace(CONFIG, max_new_tokens=12))
    with pytest.raises(CourseError, match="the prompt '' has no token"):
        grpo(model, tokenizer, [Problem("", "1")], SUMS[1], GOAL, None, Accelerator(cpu=True), CONFIG)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"group_size": 1}, "group_size is 1: give 2 or more"), ({"batch_size": 30}, "batch_size 30 does not split into groups of 8"),
    ({"temperature": 0.0}, "temperature is 0.0"), ({"clip_epsilon": 1.5}, "clip_epsilon is 1.5"), ({"kl_coef": -1.0}, "kl_coef is -1.0"),
    ({"scale": "batch"}, "scale is 'batch': choose one of 'std', 'none'"), ({"loss": "ppo"}, "loss is 'ppo'"), ({"prompt": "Solve:", "data": "a.jsonl", "model": "m"}, "has no place for the question"),
    ({"prompt": "{question}"}, "prompt '{question}' is for questions from a file"), ({"reward": "number"}, "reward 'number' is for questions from a file"),
    ({"test": "b.jsonl"}, "test 'b.jsonl' is for questions"), ({"data": "a.jsonl"}, "model is sums, which reads nothing but sums"), ({"num_test": 0}, "num_test is 0: give 1"),
    ({"reference": "smollm2"}, "reference is 'smollm2' and kl_coef 0, so it would not be asked"), ({"format_pattern": "(("}, "format_pattern is '[(][(]' and no regular expression"),
    ({"num_iterations": 3}, "num_steps 4 ends between two of the 3 updates"), ({"num_iterations": 2, "max_seconds": 9.0}, "max_seconds may end the run between")])
def test_settings_that_cannot_be_are_named(changes, sentence):
    "The field, its value, and what would do."
    with pytest.raises(CourseError, match=sentence):
        replace(CONFIG, **changes)


def test_problems_come_from_a_file(tmp_path):
    "final, or answer with its ####; a column that is missing, an answer without a number and an empty question are named with their line."
    tokenizer = sums_tokenizer()

    def read(*rows, prompt="{question}"):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_problems(tmp_path / "rows.jsonl", tokenizer, prompt)

    assert read({"question": " 1+1? ", "final": "2"}, {"question": "2+2?", "answer": "4\n#### 4"}) == [Problem("1+1?", "2"), Problem("2+2?", "4\n#### 4")]
    assert read({"question": "1+1?", "final": "2"}, prompt="Q: {question} A:")[0].prompt == "Q: 1+1? A:"
    for row, sentence in (({"q": "1"}, "line 1: the columns are q"), ({"question": "?", "final": "many"}, "line 1: .*an answer with a number"),
                          ({"question": " ", "final": "2"}, "give a question")):
        with pytest.raises(CourseError, match=sentence):
            read(row)


def test_without_a_prompt_questions_are_put_as_instruction_tuning_puts_them(tmp_path):
    "In the same words and the same template, whatever the columns are called; an example stays as it stands; an answer without a number is named."
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "How many?", "answer": "It is 2.\n#### 2"}) + "\n")
    (tmp_path / "examples.jsonl").write_text(json.dumps({"prompt": "1+1=", "answer": "2", "kind": "math", "labels": [], "final": "2"}) + "\n")
    tokenizer = with_template(sums_tokenizer(), "<{prompt}>")
    example = read_examples(str(tmp_path / "rows.jsonl"))[0]
    assert read_problems(tmp_path / "rows.jsonl", tokenizer) == [Problem(asked(example["prompt"], tokenizer), "2")] and "How many?" in example["prompt"]
    assert read_problems(tmp_path / "examples.jsonl", tokenizer) == [Problem("<1+1=>", "2")]
    (tmp_path / "examples.jsonl").write_text(json.dumps({"prompt": "1+1=", "answer": "two", "kind": "instruction", "labels": [], "final": ""}) + "\n")
    with pytest.raises(CourseError, match="the answer to '1\\+1=' is 'two': give an answer with a number"):
        read_problems(tmp_path / "examples.jsonl", tokenizer)


def test_a_test_file_is_scored_and_what_it_holds_is_not_learned(tmp_path):
    "Its questions go out of those to learn from; a number draws so many of it, 0 takes all; too many, and nothing left to learn from, are named."
    tokenizer = sums_tokenizer()

    def file(name, numbers):
        (tmp_path / name).write_text("".join(json.dumps({"question": f"{number}+0", "final": str(number)}) + "\n" for number in numbers))
        return str(tmp_path / name)

    config = replace(CONFIG, data=file("data.jsonl", range(20)), test=file("test.jsonl", range(15, 30)), model="m", num_test=4)
    train, test = problems_of(config, tokenizer)
    assert [one.answer for one in train] == [str(number) for number in range(15)] and len({one.answer for one in test} & {str(n) for n in range(15, 30)}) == 4
    assert problems_of(config, tokenizer)[1] == test != problems_of(replace(config, seed=1), tokenizer)[1]
    assert len(problems_of(replace(config, num_test=0), tokenizer)[1]) == 15
    for changes, sentence in (({"num_test": 16}, "num_test is 16 and the test file has 15"), ({"test": config.data}, "every problem to learn from is in .*data.jsonl too")):
        with pytest.raises(CourseError, match=sentence):
            problems_of(replace(config, **changes), tokenizer)


def test_a_problem_has_an_answer_of_the_kind_that_is_compared(tmp_path):
    "A label is any text, a program's answer its cases; rows that are none are named with their line, and null is no answer."
    tokenizer, path = sums_tokenizer(), tmp_path / "rows.jsonl"

    def read(row, reward):
        path.write_text(json.dumps(row) + "\n")
        return read_problems(path, tokenizer, "{question}", reward)[0].answer

    cases = json.dumps({"function": "add", "cases": [{"inputs": {"a": 1}, "output": 1}]})
    assert read({"question": "?", "answer": "good"}, "label") == "good" and read({"question": "?", "answer": cases}, "code") == cases
    assert read({"question": "?", "final": None, "answer": "4"}, "number") == "4" and read({"question": "?", "final": 0, "answer": "4"}, "number") == "0"
    for row, reward, sentence in (({"question": "?", "final": None}, "label", "line 1: .*an answer$"), ({"question": "?", "answer": "7"}, "code", "line 1: the answer is '7' and no set"),
                                  ([1, 2], "number", "line 1: .* is no row with columns"), ({"question": "?", "final": None}, "number", "an answer with a number")):
        with pytest.raises(CourseError, match=sentence):
            read(row, reward)


def test_what_fills_a_row_up_is_no_part_of_the_answer():
    "Behind the end there may be anything: padding is an ordinary token in some tokenizers."
    tokenizer = sums_tokenizer()
    ends = tokenizer.eos_token_id
    assert completion_texts(tokenizer, torch.tensor([[3, 5, ends, 8], [3, 5, 8, 8], [ends, 1, 1, 1]]), ends) == ["24", "2477", ""]
    assert completion_texts(tokenizer, torch.tensor([[3, 5]]), None) == ["24"]


def test_real_questions_are_read():
    "GSM8K's 1,054 public test questions all have an answer that can be checked, and their own solutions earn."
    problems = read_problems(shared("math/gsm8k_test_dev.jsonl.gz"), sums_tokenizer(), "{question}\n")
    rows = [problem.answer for problem in problems]
    assert len(problems) == 1_054 and numeric_reward(rows, rows, rows) == [1.0] * 1_054


def test_a_start_is_made_once_and_kept_beside_the_run(tmp_path, monkeypatch):
    "The second call reads what the first one wrote. Another seed has other unseen sums, so it makes its own; one that was cut off is made anew."
    monkeypatch.setattr("microbert_course.posttraining.grpo.SHOWING", replace(SHOWING, num_steps=2, warmup_steps=0, eval_every=2))
    first, _ = start_of(CONFIG, tmp_path / "run")
    written = (tmp_path / "run-shown" / "model.safetensors").stat().st_mtime_ns
    second, tokenizer = start_of(CONFIG, tmp_path / "run")
    assert (tmp_path / "run-shown" / "model.safetensors").stat().st_mtime_ns == written and tokenizer.decode([3, 8]) == "27"
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    for other in (replace(CONFIG, seed=1), replace(CONFIG, seed=1, num_test=30)):
        third, _ = start_of(other, tmp_path / "run")
        assert json.loads((tmp_path / "run-shown" / "training.json").read_text())["about"]["unseen_sums"] == other.num_test
    assert not torch.equal(first.gpt.word.weight, third.gpt.word.weight)
    (tmp_path / "run-shown").rename(tmp_path / "run-shown.partial")
    assert torch.equal(start_of(other, tmp_path / "run")[0].gpt.word.weight, third.gpt.word.weight)


def test_what_is_compared_follows_from_the_settings():
    "Sums by all their digits, questions from a file by the number they end with, unless something else is asked for."
    from_file = replace(CONFIG, data="a.csv", model="m")
    assert [term.name for term in default_terms(replace(CONFIG, format_pattern=r"\d+"))] == ["exact", "format"]
    assert default_terms(CONFIG)[0].reward is label_reward and default_terms(from_file)[0].reward is numeric_reward
    assert default_terms(replace(from_file, reward="label"))[0].reward is label_reward and default_terms(replace(from_file, reward="code"), one_digit)[0].reward is one_digit


def test_slices_keep_what_the_whole_is_divided_by():
    "A micro-batch has its rows and the batch's divisor."
    data, _ = data_of(CONFIG)
    batch = data.batch(0, CONFIG)
    part = batch.slice(8, 16)
    assert isinstance(part, GrpoBatch) and len(part.input_ids) == 8 and part.num_predicted == batch.num_predicted == 32 * 3
    assert batch.num_tokens == int(batch.attention_mask.sum()) and isinstance(GrpoLoss(start()[0], CONFIG), torch.nn.Module)


def test_a_run_goes_on_with_the_same_problems_and_weights_alone():
    "Another answer, another first weight or a reference makes another fingerprint."
    model, other = fresh_adder(0), fresh_adder(1)
    found = {fingerprint([Problem("1+1=", answer)], *models) for answer in ("2", "3") for models in ((model,), (other,), (model, other), (model, None))}
    assert len(found) == 6  # a reference that is not there changes nothing


def test_prompts_split_over_processes_or_are_refused():
    "Three prompts do not split over two processes; four do; and nobody draws from a part of a model."
    check_processes(replace(CONFIG, batch_size=8, group_size=2, num_iterations=1), SimpleNamespace(num_processes=2, is_fsdp2=False))
    with pytest.raises(CourseError, match="is 3 prompts, which do not split over 2 processes: choose a multiple of 4"):
        check_processes(replace(CONFIG, batch_size=6, group_size=2, num_iterations=1), SimpleNamespace(num_processes=2, is_fsdp2=False))
    with pytest.raises(CourseError, match="FSDP leaves no process with a whole model"):
        check_processes(replace(CONFIG, batch_size=8, group_size=2, num_iterations=1), SimpleNamespace(num_processes=2, is_fsdp2=True))
