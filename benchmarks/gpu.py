"""The shipped engine on one GPU beside its peers, in one run and one process: transformers, PEFT, `generate`, TRL.

    python benchmarks/gpu.py [--json PATH] [--only mlm packing lora generation grpo] [--rounds 5]
"""

import argparse
import copy
import datetime
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - the course's folder comes first
import torch  # noqa: E402
from accelerate import Accelerator  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402
from scaling import synthetic_data  # noqa: E402
from tokenizers import pre_tokenizers  # noqa: E402
from transformers import BertForMaskedLM, LlamaForCausalLM  # noqa: E402

from microbert_course.models.gpt import GptConfig, GptForCausalLM, generate  # noqa: E402
from microbert_course.models.lora import LoraConfig, add_lora  # noqa: E402
from microbert_course.models.lora_folders import save_adapter  # noqa: E402
from microbert_course.posttraining.grpo import grpo as grpo_task  # noqa: E402
from microbert_course.posttraining.problems import Problem  # noqa: E402
from microbert_course.posttraining.rewards import Term  # noqa: E402
from microbert_course.posttraining.settings import GrpoConfig  # noqa: E402
from microbert_course.training.build import compile_parts, make_model  # noqa: E402
from microbert_course.training.causal import CausalData  # noqa: E402
from microbert_course.training.graphed import make_training  # noqa: E402
from microbert_course.training.loop import PretrainData, Training, build_model, learning_rate_at  # noqa: E402
from microbert_course.training.optim import parameter_groups  # noqa: E402
from microbert_course.training.prepare import prepare_data  # noqa: E402
from microbert_course.training.presets import PretrainConfig, preset  # noqa: E402
from microbert_course.training.speed import flops_of_update, measured_flops, peak_flops  # noqa: E402

DEVICE = torch.device("cuda")
STEPS = 20  # of a round
COMPARED = 50  # steps whose losses are compared
TOLERANCE = 0.03  # between two losses in bfloat16, nats a hidden token
FAST = {"mixed_precision": "bf16", "deterministic": False, "compile": True, "cuda_graph": True, "dropout": 0.0, "rows_per_process": 0,
        "gradient_accumulation_steps": 1}
PREPARED: Path | None = None  # folders of prepared IMDB, `first` and `packed`; None = prepare it here
DECODER_SHAPE = {"vocab_size": 49_152, "hidden_size": 576, "num_layers": 30, "num_heads": 9, "num_kv_heads": 3, "intermediate_size": 1_536,
                 "max_seq_len": 2_048}  # SmolLM2-135M's
MLM = {
    "v4, 96 × 256": preset("v4", **FAST, batch_size=96),
    "base, 128 × 128": preset("base", **FAST, batch_size=128, max_seq_len=128),
    "base, 32 × 512": preset("base", **FAST, batch_size=32),
}


def seconds_of(work: Callable[[int], object], first: int, number: int = STEPS) -> float:
    "Seconds of a step."
    torch.cuda.synchronize()
    start = time.perf_counter()
    for step in range(first, first + number):
        work(step)
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / number


def forget() -> None:
    "What one side has compiled and allocated does not help or hinder the next."
    gc.collect()
    torch._dynamo.reset()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def fresh_accelerator() -> Accelerator:
    "One in bfloat16, whatever was there before."
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision="bf16")


def our_update(training: Training) -> Callable[[int], torch.Tensor]:
    "A whole update, from the rows of ids on; its loss."
    return lambda step: training.update(step)["loss"]


def their_update(config: PretrainConfig, data: PretrainData, compiled: bool) -> Callable[[int], torch.Tensor]:
    "The same update as anybody writes it with transformers; batches and labels are on the device already."
    with tempfile.TemporaryDirectory() as folder:
        build_model(config, config.vocab_size).save_pretrained(folder)
        model = BertForMaskedLM.from_pretrained(folder, attn_implementation="sdpa").train().to(DEVICE)
    optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)
    run = torch.compile(model) if compiled else model
    batches = {}

    def loss_of(step: int) -> torch.Tensor:
        if step not in batches:
            batch = data.batch(step, config)
            batches[step] = batch.input_ids.to(DEVICE), batch.labels.to(DEVICE)
        input_ids, labels = batches[step]
        return run(input_ids=input_ids, labels=labels).loss
    return usual_update(loss_of, list(model.parameters()), optimizer, config)


def usual_update(
    loss_of: Callable[[int], torch.Tensor], weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, config: PretrainConfig,
) -> Callable[[int], torch.Tensor]:
    "An update as anybody writes it; its loss."
    def update(step: int) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, config.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()
    return update


def measured(side: str, update: Callable[[int], object], num_rounds: int) -> dict[str, float | list[float]]:
    "Losses of the first steps, then milliseconds of a step in several rounds, and the memory that it took of the card."
    losses = torch.stack([torch.as_tensor(update(step)) for step in range(COMPARED)]).tolist()
    times = [1000 * seconds_of(update, COMPARED + STEPS * number) for number in range(num_rounds)]
    print(f"{side}: {statistics.median(times):.2f} ms a step", file=sys.stderr, flush=True)
    return {"step_ms": statistics.median(times), "all_ms": times, "memory_gb": torch.cuda.max_memory_reserved() / 1e9, "losses": losses}


def mlm(num_rounds: int) -> list[dict]:
    "A step of masked language modelling on full rows of random ids, by shape and side."
    rows = []
    for name, config in MLM.items():
        config = replace(config, num_steps=1_000, warmup_steps=50, learning_rate=2e-4)  # so that rounding does not grow
        data = synthetic_data(config, 4 * config.batch_size)
        sides = {}
        for side in ("ours", "eager", "compiled"):
            forget()
            matmul = measured_flops(DEVICE, torch.bfloat16, 8192, seconds=0.5)
            if side == "ours":
                training = make_training(make_model(config, config.vocab_size), data, config, fresh_accelerator())
                sides[side] = measured(f"{name}, {side}", our_update(training), num_rounds)
                in_blocks = sum(p.numel() for p in training.objective.model.bert.blocks.parameters())
                del training
            else:
                sides[side] = measured(f"{name}, {side}", their_update(config, data, side == "compiled"), num_rounds)
            sides[side]["matmul_tflops"] = matmul / 1e12
        worst = max(abs(ours - theirs) for ours, theirs in zip(sides["ours"]["losses"], sides["eager"]["losses"], strict=True))
        if worst > TOLERANCE:
            raise SystemExit(f"{name}: after {COMPARED} steps our loss and theirs are {worst:.4f} apart: this is no comparison")
        num_tokens = config.batch_size * config.max_seq_len
        useful = flops_of_update(config, in_blocks, num_tokens)
        for side, found in sides.items():
            rows.append({"shape": name, "side": side, "tokens_per_s": 1000 * num_tokens / found["step_ms"], "step_ms": found["step_ms"],
                         "mfu": useful * 1000 / found["step_ms"] / peak_flops(DEVICE, "bf16"), "of_matmul": useful / found["step_ms"] / 1e9 / found["matmul_tflops"],
                         "memory_gb": found["memory_gb"], "times": sides[side]["step_ms"] / sides["ours"]["step_ms"],
                         "all_ms": found["all_ms"], "largest_loss_difference": worst})
    return rows


def packing(num_rounds: int) -> list[dict]:
    "Real tokens a second of IMDB at bert-base shape, a review a row and packed rows, both by the engine."
    rows = []
    for layout in ("first", "packed"):
        forget()
        config = preset("base", **FAST, batch_size=32, vocab_size=8_000, layout=layout, data=str(PREPARED / layout) if PREPARED else "imdb")
        data = prepare_data(config)
        config = replace(config, vocab_size=len(data.tokenizer))
        training = make_training(make_model(config, config.vocab_size), data, config, fresh_accelerator())
        found = measured(layout, our_update(training), num_rounds)
        real = statistics.mean(data.batch(step, config).num_tokens for step in range(COMPARED))
        rows.append({"layout": layout, "real_tokens_per_s": 1000 * real / found["step_ms"], "share_real": real / config.batch_size / config.max_seq_len,
                     "step_ms": found["step_ms"], "memory_gb": found["memory_gb"], "all_ms": found["all_ms"]})
        del training
    for row in rows:
        row["times"] = row["real_tokens_per_s"] / rows[0]["real_tokens_per_s"]
    return rows


DECODER = GptConfig(**DECODER_SHAPE)


def causal_data(config: PretrainConfig, num_rows: int) -> CausalData:
    "Rows of random ids for a decoder."
    data = synthetic_data(config, num_rows)
    return CausalData(data.tokenizer, data.train_ids, data.validation_ids)


def lora(num_rounds: int) -> list[dict]:
    "A step of 16 rows of 1,024 tokens: low-rank changes of rank 16 beside all linears of a frozen bfloat16 decoder, by the engine and by PEFT; and all weights."
    config = preset("lm-medium", **{**FAST, **DECODER_SHAPE, "max_seq_len": 1_024}, layout="first", batch_size=16, learning_rate=2e-4, num_steps=1_000, warmup_steps=50)
    data = causal_data(config, 64)
    rows, losses = [], {}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        plain = GptForCausalLM(DECODER)
        plain.save_pretrained(Path(folder) / "base")
        for side in ("ours", "peft", "peft, compiled", "ours, all weights"):
            forget()
            model = copy.deepcopy(plain)
            if side.startswith("ours"):
                if side == "ours":
                    add_lora(model.bfloat16(), LoraConfig(16, 32.0))
                    save_adapter(model, Path(folder) / "adapter")
                training = make_training(model, data, config, fresh_accelerator())
                found = measured(side, our_update(training), num_rounds)
                del training, model
            else:
                found = measured(side, peft_update(config, data, Path(folder), side.endswith("compiled")), num_rounds)
            losses[side] = found["losses"]
            rows.append({"side": side, "tokens_per_s": 1000 * 16 * 1_024 / found["step_ms"], "step_ms": found["step_ms"], "memory_gb": found["memory_gb"],
                         "all_ms": found["all_ms"]})
    for row in rows:
        row |= {"times": row["step_ms"] / rows[0]["step_ms"], "memory_times": row["memory_gb"] / rows[0]["memory_gb"],
                "largest_loss_difference": max(abs(a - b) for a, b in zip(losses["ours"], losses["peft"], strict=True))}
    if rows[0]["largest_loss_difference"] > TOLERANCE:
        raise SystemExit(f"our loss and PEFT's are {rows[0]['largest_loss_difference']:.4f} apart: this is no comparison")
    return rows


def peft_update(config: PretrainConfig, data: CausalData, folder: Path, compiled: bool) -> Callable[[int], torch.Tensor]:
    "The same update with PEFT on a Llama in bfloat16, from the same adapter."
    from peft import PeftModel

    base = LlamaForCausalLM.from_pretrained(folder / "base", dtype=torch.bfloat16, attn_implementation="sdpa")
    model = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True).train().to(DEVICE)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay, fused=True)
    run, batches = torch.compile(model) if compiled else model, {}

    def loss_of(step: int) -> torch.Tensor:
        if step not in batches:
            batches[step] = data.batch(step, config).input_ids.to(DEVICE)
        return run(input_ids=batches[step], labels=batches[step]).loss
    return usual_update(loss_of, trained, optimizer, config)


def generation(num_rounds: int) -> list[dict]:
    "Eight completions of 256 tokens to each of 64 prompts of 128, drawn in bfloat16."
    torch.manual_seed(0)
    ours = GptForCausalLM(DECODER).eval()
    with tempfile.TemporaryDirectory() as folder:
        ours.save_pretrained(folder)
        theirs = LlamaForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval().to(DEVICE)
    ours.to(DEVICE)
    theirs.generation_config.eos_token_id = None
    prompts = torch.randint(5, DECODER.vocab_size, (64, 128), device=DEVICE)
    some = prompts[:16]
    same = (generate(ours, some, None, 32, temperature=0, eos_token_id=-1)
            == theirs.generate(some, attention_mask=torch.ones_like(some), max_new_tokens=32, do_sample=False, pad_token_id=0)).float().mean().item()
    if same < 0.99:
        raise SystemExit(f"in float32 only {same:.1%} of the tokens are the same: this is no comparison")
    ours.bfloat16()
    theirs.bfloat16()
    compile_parts(ours)
    repeated = prompts.repeat_interleave(8, dim=0)
    settings = {"attention_mask": torch.ones_like(repeated), "max_new_tokens": 256, "do_sample": True, "top_k": 0, "pad_token_id": 0}
    sides = {"ours": lambda step: generate(ours, prompts, None, 256, num_samples=8, eos_token_id=-1),
             "generate": lambda step: theirs.generate(repeated, **settings),
             "generate, static cache": lambda step: theirs.generate(repeated, **settings, cache_implementation="static", disable_compile=True)}
    rows = []
    for side, work in sides.items():
        forget()
        work(0)
        times = [seconds_of(work, 0, 1) for _ in range(num_rounds)]
        rows.append({"side": side, "tokens_per_s": 512 * 256 / statistics.median(times), "seconds": statistics.median(times),
                     "memory_gb": torch.cuda.max_memory_reserved() / 1e9, "all_s": times})
        print(f"{side}: {statistics.median(times):.2f} s", file=sys.stderr, flush=True)
    for row in rows:
        row |= {"times": row["seconds"] / rows[0]["seconds"], "same_greedy_tokens": same}
    return rows


GROUPS, GROUP_SIZE, PROMPT, NEW, PARTS = 64, 8, 128, 256, 8  # of an update by GRPO: prompts, samples of each, tokens of both, micro-batches


def earned(prompts: list[str], completions: list[str], answers: list[str] | None = None, **_) -> list[float]:
    "Something that differs within a group: how many words with an even number were written."
    return [sum(int(word[-1]) % 2 == 0 for word in text.split() if word[-1].isdigit()) / NEW for text in completions]


def grpo(num_rounds: int) -> list[dict]:
    "An update by GRPO, from drawing the completions to AdamW: the engine's and TRL's, which writes with `generate`."
    config = GrpoConfig(model="smollm2", data="questions.jsonl", batch_size=GROUPS * GROUP_SIZE, group_size=GROUP_SIZE, max_new_tokens=NEW, loss="dapo", learning_rate=1e-6,
                        gradient_accumulation_steps=PARTS, mixed_precision="bf16", deterministic=False, compile=True, num_steps=1_000)
    tokenizer = synthetic_data(preset("lm-medium", tokenizer="wordpiece", **{**DECODER_SHAPE, "max_seq_len": 16}), 1).tokenizer
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.backend_tokenizer.decoder = None  # words with a space between them
    tokenizer.eos_token = "[SEP]"
    draw = np.random.default_rng(0)
    prompts = [" ".join(f"w{number}" for number in row) for row in draw.integers(0, DECODER_SHAPE["vocab_size"] - 5, (4 * GROUPS, PROMPT))]
    torch.manual_seed(0)
    model = GptForCausalLM(replace(DECODER, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "base")
        for side, seconds_of_steps in (("ours", our_grpo), ("trl", trl_grpo)):
            forget()
            try:
                times = seconds_of_steps(config, model, tokenizer, prompts, Path(folder), 2 + num_rounds)[2:]  # the first warm up
            except ImportError as error:
                print(f"{side} is not here ({error}), and is left out", file=sys.stderr)
                continue
            print(f"{side}: {statistics.median(times):.2f} s", file=sys.stderr, flush=True)
            rows.append({"side": side, "seconds": statistics.median(times), "completion_tokens_per_s": GROUPS * GROUP_SIZE * NEW / statistics.median(times),
                         "memory_gb": torch.cuda.max_memory_reserved() / 1e9, "all_s": times})
    for row in rows:
        row["times"] = row["seconds"] / rows[0]["seconds"]
    return rows


def our_grpo(config: GrpoConfig, model: GptForCausalLM, tokenizer, prompts: list[str], folder: Path, num_steps: int) -> list[float]:
    "Seconds of each update by the engine's own training."
    accelerator = fresh_accelerator()
    problems = [Problem(prompt, "") for prompt in prompts]
    task = grpo_task(model, tokenizer, problems, problems[:1], (Term("even", earned),), None, accelerator, config)
    training = make_training(task.make_model(), task.data, config, accelerator, task.objective)
    return [seconds_of(training.update, step, 1) for step in range(num_steps)]


def trl_grpo(config: GrpoConfig, model: GptForCausalLM, tokenizer, prompts: list[str], folder: Path, num_steps: int) -> list[float]:
    "Seconds of each update by TRL's trainer, with the same settings."
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Clock(TrainerCallback):
        times: list[float] = []

        def on_step_end(self, *arguments, **_):
            torch.cuda.synchronize()
            self.times.append(time.perf_counter())

    settings = GRPOConfig(output_dir=str(folder / "trl"), per_device_train_batch_size=config.batch_size // PARTS, gradient_accumulation_steps=PARTS,
                          num_generations=GROUP_SIZE, max_completion_length=NEW, bf16=DEVICE.type == "cuda", use_cpu=DEVICE.type == "cpu", gradient_checkpointing=False, learning_rate=config.learning_rate,
                          loss_type="dapo", beta=0.0, max_steps=num_steps, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True)
    theirs = LlamaForCausalLM.from_pretrained(folder / "base", attn_implementation="sdpa")
    trainer = GRPOTrainer(theirs, earned, settings, Dataset.from_list([{"prompt": prompt} for prompt in prompts]), processing_class=tokenizer, callbacks=[Clock()])
    Clock.times.clear()
    start = time.perf_counter()
    trainer.train()
    moments = [start, *Clock.times]
    return [later - earlier for earlier, later in zip(moments, moments[1:], strict=False)]


SECTIONS = {"mlm": mlm, "packing": packing, "lora": lora, "generation": generation, "grpo": grpo}


def main() -> None:
    "Measure, print the table, write it down if asked."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prepared", type=Path, help="a folder with IMDB as `prepare_data` left it elsewhere, in `first` and `packed`")
    arguments = parser.parse_args()
    global PREPARED
    PREPARED = arguments.prepared
    if not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device, and this compares what runs on one")
    figures = {"date": datetime.date.today().isoformat(), "device": torch.cuda.get_device_name(), "torch": torch.__version__}
    for name in arguments.only:
        figures[name] = SECTIONS[name](arguments.rounds)
        print(table(figures[name]), flush=True)
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def table(rows: list[dict]) -> str:
    "Rows as text, one line each."
    names = [name for name, value in rows[0].items() if not isinstance(value, list)]
    lines = [[name.replace("_", " ") for name in names]]
    lines += [[(f"{row[name]:,.3g}" if abs(row[name]) < 1000 else f"{row[name]:,.0f}") if isinstance(row[name], float) else str(row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in lines)


if __name__ == "__main__":
    main()
