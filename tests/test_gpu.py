"""The engine on CUDA devices: the same promises as on a CPU. Needs torch, transformers, accelerate and pytest alone."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from packaging import version
from safetensors.torch import load_file
from small_run import small_config, small_data

from microbert_course.lessons.parity import measure
from microbert_course.lessons.parity_posttraining import CASES
from microbert_course.models.gpt import GptConfig, GptForCausalLM, generate
from microbert_course.models.lora import LoraConfig, add_lora
from microbert_course.models.quantization import dequantize_model, quantize_model
from microbert_course.training import loop
from microbert_course.training.kernels import choose_kernel
from microbert_course.training.run import pretrain

ROOT = Path(__file__).resolve().parent.parent
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
multi_gpu = [pytest.mark.multi_gpu, pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")]


def marked(marks):
    def mark(test):
        for one in marks:
            test = one(test)
        return test
    return mark


@pytest.fixture(scope="module")
def data():
    return small_data()


def weights(folder) -> dict[str, torch.Tensor]:
    "Weights and memories of a run's last checkpoint."
    newest = max((folder / "checkpoints").iterdir())
    return load_file(newest / "model.safetensors") | load_file(newest / "optimizer.safetensors")


@marked(gpu)
@pytest.mark.parametrize("changes", [{}, {"dropout": 0.0}, {"mixed_precision": "bf16"}, {"mixed_precision": "fp16"}, {"mixed_precision": "bf16", "compile": True},
                                     {"checkpointing": True}, {"cuda_graph": True}, {"cuda_graph": True, "gradient_accumulation_steps": 4},
                                     {"cuda_graph": True, "mixed_precision": "bf16", "compile": True}])
def test_a_run_resumes_to_the_bit_on_a_gpu(data, tmp_path, changes):
    config = small_config(device="auto", num_steps=30, eval_every=10, **changes)
    whole = pretrain(config, tmp_path / "whole", data=data, progress=False)

    def stop(model, score):
        if score["step"] == 19:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(config, tmp_path / "run", data=data, progress=False, on_evaluation=stop)
    again = pretrain(config, tmp_path / "run", data=data, progress=False, resume="latest")
    assert again.history == whole.history
    found, expected = weights(again.folder), weights(whole.folder)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@marked(gpu)
@pytest.mark.parametrize("changes, tolerance", [({}, 1e-5), ({"gradient_accumulation_steps": 2}, 1e-5),
                                                ({"mixed_precision": "bf16"}, 2e-2), ({"mixed_precision": "bf16", "compile": True}, 2e-2), ({"compile": True}, 1e-4),
                                                ({"blocks": "modern", "learning_rate": 8e-3}, 1e-5), ({"blocks": "modern", "learning_rate": 8e-3, "compile": True}, 1e-4)])
def test_a_recorded_update_learns_what_an_unrecorded_one_does(data, tmp_path, changes, tolerance):
    "Real rates, so that what the optimizer does is seen in the losses; rows of several lengths, so that several graphs are made."
    settings = {"device": "auto", "num_steps": 40, "eval_every": 20, "dropout": 0.0, "hidden_size": 64, "num_heads": 2, "intermediate_size": 128, "learning_rate": 4e-3}
    losses = {}
    for recorded in (False, True):
        plain = {name: value for name, value in changes.items() if name != "compile" or recorded}
        run = pretrain(small_config(**{**settings, **plain}, cuda_graph=recorded), tmp_path / str(recorded), data=data, progress=False)
        losses[recorded] = [update["loss"] for update in run.history["train"]]
    assert losses[False][-1] < losses[False][0] - 0.5
    assert max(abs(one - other) for one, other in zip(losses[False], losses[True], strict=True)) <= tolerance


ON_A_CPU_ALONE = {  # pieces, by how they begin
    "numpy_bert.": "NumPy", "data.": "ids and words", "training.masking.mask_": "batches are made on a CPU", "training.precision.": "casts by NumPy and struct",
    "training.memory.block_activations": "counts what a CPU's kernels keep; what a GPU needs is measured in test_memory",
    "posttraining.evaluation.": "NumPy", "posttraining.classification.confusion_matrix": "counted from a report"}
OLD_SWITCH = version.parse(transformers.__version__) < version.parse("5.18")  # it weighs experts by their logits


@marked(gpu)
@pytest.mark.parametrize("case", [case for case in CASES if not case.pieces[0].startswith(tuple(ON_A_CPU_ALONE))], ids=lambda case: case.pieces[0])
def test_a_piece_agrees_with_its_reference_on_a_gpu_too(case):
    if OLD_SWITCH and "SwitchTransformers" in case.reference:
        pytest.skip("transformers before 5.18 weighs Switch's experts by their logits")
    if case.pieces[0] == "posttraining.grpo.grpo_loss":
        pytest.importorskip("trl")
    for row in measure(0, 3, [case], device="cuda"):
        assert row.is_within(), row


@marked(gpu)
def test_bf16_learns_as_much_as_float32(data, tmp_path):
    "Five seeds each: the mean of what is reached differs by less than the seeds do."
    reached = {precision: torch.tensor([pretrain(
        small_config(device="auto", num_steps=200, eval_every=200, mixed_precision=precision, seed=seed, hidden_size=64, num_heads=2, intermediate_size=128),
        tmp_path / f"{precision}-{seed}", data=data, progress=False).history["validation"][-1]["loss"] for seed in range(5)]) for precision in ("no", "bf16")}
    assert reached["no"].mean() < 1.2  # guessing by frequency alone: 2.66
    assert (reached["bf16"].mean() - reached["no"].mean()).abs() < 2 * reached["no"].std()


@marked(gpu)
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_an_update_without_numbers_leaves_everything_as_it_was_on_a_gpu(data, tmp_path, monkeypatch, precision):
    "Nobody asks the device whether all is well: the step itself looks."
    states, real = {}, loop.Training.update

    def update(self, step):
        hook = self.accelerator.unwrap_model(self.objective).model.head.bias.register_hook(
            lambda gradient: gradient * (float("inf") if step == 3 else 1.0))
        answer = real(self, step)
        hook.remove()
        states[step] = [p.detach().clone() for p in self.objective.parameters()] + [
            value.clone() for memory in self.optimizer.state.values() for value in memory.values()]
        return answer

    monkeypatch.setattr(loop.Training, "update", update)
    run = pretrain(small_config(device="auto", mixed_precision=precision), tmp_path / "run", data=data, progress=False)
    assert all(torch.equal(before, after) for before, after in zip(states[2], states[3], strict=True))
    assert not all(torch.equal(before, after) for before, after in zip(states[3], states[4], strict=True))
    assert 3 in [skipped["step"] for skipped in run.history["skipped"]]


@marked(gpu)
def test_the_kernel_that_really_runs_is_named():
    device = torch.device("cuda")
    assert choose_kernel("auto", device, torch.bfloat16, 64, with_mask=False)[0] == "flash"
    name, reason = choose_kernel("flash", device, torch.bfloat16, 64, with_mask=True)
    assert name == "efficient" and reason.startswith("attention flash does not run here (")
    assert choose_kernel("flash", device, torch.float32, 64, with_mask=False)[0] == "efficient"


def launched(folder, config, *words, processes=2):
    done = subprocess.run([sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "configs" / "accelerate" / f"{config}.yaml"),
                           "--num_processes", str(processes), str(ROOT / "tests" / "small_run.py"), str(folder), "device=auto", "dropout=0", *words],
                          capture_output=True, text=True, timeout=90, cwd=ROOT,
                          env={**os.environ, "NCCL_NVLS_ENABLE": "0", "PYTHONPATH": str(ROOT), "NVIDIA_TF32_OVERRIDE": "0"})
    return done


SETTINGS = ["num_steps=20", "eval_every=5", "learning_rate=0.001"]


@pytest.fixture(scope="module")
def on_one_gpu(tmp_path_factory):
    "The weights that a single process reaches."
    folder = tmp_path_factory.mktemp("one") / "run"
    done = launched(folder, "gpu-1", *SETTINGS, processes=1)
    assert done.returncode == 0, done.stderr[-4000:]
    return weights(folder)


@marked(multi_gpu)
@pytest.mark.parametrize("config, more, tolerance", [
    ("gpu-2", [], 1e-5), ("gpu-2", ["cuda_graph=true", "gradient_accumulation_steps=2"], 1e-5), ("fsdp-8", [], 1e-5),
    ("gpu-2", ["cuda_graph=true", "compile=true", "mixed_precision=bf16"], 2e-2)])  # Adam carries a weight by up to its rate an update, whatever its gradient
def test_two_gpus_are_one_large_batch_and_go_on_to_the_bit(on_one_gpu, tmp_path, config, more, tolerance):
    settings = [*SETTINGS, *more]
    whole = launched(tmp_path / "two", config, *settings)
    assert whole.returncode == 0, whole.stderr[-4000:]
    two = weights(tmp_path / "two")
    assert max((on_one_gpu[name] - two[name]).abs().max().item() for name in two if "/" not in name) <= tolerance
    killed = launched(tmp_path / "run", config, "--kill", "update", "13", *settings)
    assert killed.returncode != 0 and not (tmp_path / "run").exists()
    again = launched(tmp_path / "run", config, *settings)
    assert again.returncode == 0, again.stderr[-4000:]
    found = weights(tmp_path / "run")
    assert [name for name in two if not torch.equal(found[name], two[name])] == []
    histories = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("run", "two")]
    assert histories[0] == histories[1]
    shutil.rmtree(tmp_path / "run")


@marked(gpu)
def test_a_graphed_step_continues_as_an_eager_one(monkeypatch):
    "Prompts padded on the left, several samples of each: the same tokens, whether Python launches each kernel or not."
    from microbert_course.models import gpt

    torch.manual_seed(0)
    model = gpt.GptForCausalLM(gpt.GptConfig(97, hidden_size=64, num_layers=3, num_heads=4, num_kv_heads=2, intermediate_size=96, max_seq_len=64)).cuda()
    input_ids = torch.randint(1, 97, (3, 9), device="cuda")
    attention_mask = torch.ones_like(input_ids)
    attention_mask[0, :4] = 0
    settings = dict(max_new_tokens=40, temperature=0.0, num_samples=2, eos_token_id=-1)
    graphed = gpt.generate(model, input_ids, attention_mask, **settings)
    monkeypatch.setattr(gpt, "_WORTH_A_GRAPH", 10**6)
    assert torch.equal(graphed, gpt.generate(model, input_ids, attention_mask, **settings))


@marked(gpu)
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_learning_from_rewards_resumes_to_the_bit_on_a_gpu(tmp_path, precision):
    "Completions long enough for the graphed step, prompts of several lengths, two updates a batch, a reference on the device."
    from microbert_course.models.gpt import GptConfig, GptForCausalLM
    from microbert_course.posttraining.grpo import train_grpo
    from microbert_course.posttraining.problems import Problem, sums_tokenizer
    from microbert_course.posttraining.rewards import Term
    from microbert_course.posttraining.settings import GrpoConfig

    torch.manual_seed(0)
    start = GptForCausalLM(GptConfig(14, 64, 2, 4, 2, 96, 48, initializer_range=0.1, eos_token_id=13)), sums_tokenizer()
    problems = [Problem("1+" * number + "1=", "1") for number in range(1, 13)]
    goal = (Term("even", lambda prompts, completions, answers: [sum(sign in "02468" for sign in text) / 20 for text in completions]),)
    config = GrpoConfig(batch_size=32, group_size=8, num_steps=40, eval_every=10, max_new_tokens=20, num_iterations=2, kl_coef=0.01, warmup_steps=0,
                        learning_rate=5e-3, mixed_precision=precision, gradient_accumulation_steps=2)

    def run(folder, **settings):
        return train_grpo(config, tmp_path / folder, (problems[:8], problems[8:]), goal, start, progress=False, **settings)

    def stop(model, score):
        if score["step"] == 19:
            raise KeyboardInterrupt

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut", on_evaluation=stop)
    again = run("cut", resume="latest")
    assert again.history == whole.history and whole.history["train"][-1]["even"] > whole.history["train"][0]["even"] + 0.1
    found, expected = weights(again.folder), weights(whole.folder)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@marked(gpu)
def test_512_completions_over_a_large_vocabulary_need_no_table_of_scores():
    "81,920 tokens times 49,152 scores would be 16 GB, twice with the gradient."
    from microbert_course.models.gpt import GptConfig, GptForCausalLM
    from microbert_course.posttraining.grpo import completion_logprobs

    model = GptForCausalLM(GptConfig(49_152, 64, 1, 2, 1, 96, 256)).cuda()
    input_ids = torch.randint(1, 49_152, (512, 200), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    completion_logprobs(model, input_ids, torch.ones_like(input_ids), torch.ones(512, 160, dtype=torch.bool, device="cuda")).sum().backward()
    assert torch.cuda.max_memory_allocated() - before < 2.5e9


@marked(gpu)
def test_a_packed_decoder_answers_derives_and_goes_on_on_a_gpu_as_its_unpacked_one_does():
    "Generation records its step as a graph there; unpacking is a part of it."
    torch.manual_seed(0)
    config = GptConfig(vocab_size=50, hidden_size=64, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=96, max_seq_len=64)
    model = GptForCausalLM(config).eval().cuda()
    on_cpu = copy.deepcopy(model).cpu()
    quantize_model(model)
    quantize_model(on_cpu)
    layers = [(module.packed.codes.cpu(), on_cpu.get_submodule(path).packed.codes) for path, module in model.named_modules() if hasattr(module, "packed")]
    assert len(layers) == 8 and all((ours == theirs).float().mean() > 0.999 for ours, theirs in layers)  # a tie may be rounded otherwise
    plain, ids = dequantize_model(copy.deepcopy(model)), torch.randint(1, 50, (3, 7), device="cuda")
    torch.testing.assert_close(model(ids), plain(ids))
    assert torch.equal(generate(model, ids, None, 20, temperature=0), generate(plain, ids, None, 20, temperature=0))
    add_lora(model, LoraConfig())
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(ids).float().logsumexp(-1).sum()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
