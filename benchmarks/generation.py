"""Writing 256 tokens with the cache, without it, and by transformers' `generate` with its cache, on one core.

    python benchmarks/generation.py [--json PATH] [--rounds 3] [--only lm-tiny smollm2]

All sides have the same weights and the same prompts of 16 tokens, write greedily, never stop early, and must write the same tokens. `lm-tiny`, 4 layers
of 256 and 49,152 pieces, has random weights, for one row and for eight; `smollm2` is the real model, one row, one round: without the cache it takes minutes.
CPU time of one thread, the sides in turns, medians over the rounds; a machine that is busy otherwise changes all sides alike.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from microbert_course.models.checkpoints import to_transformers_weights
from microbert_course.models.gpt import GPT_SHAPES, GptForCausalLM, generate
from microbert_course.models.gpt_folders import llama_rows, llama_weight_names, load_decoder, to_llama_config

NUM_NEW = 256
CASES = {"lm-tiny": (1, 8), "smollm2": (1,)}  # rows at a time


def make_model(name: str) -> GptForCausalLM:
    "The weights that all sides have."
    if name == "smollm2":
        return load_decoder(name)[0]
    torch.manual_seed(0)
    return GptForCausalLM(replace(GPT_SHAPES[name], max_seq_len=512)).eval()


def in_transformers(model: GptForCausalLM) -> LlamaForCausalLM:
    "The same weights in a Llama."
    theirs = LlamaForCausalLM(LlamaConfig(**{**to_llama_config(model.config), "eos_token_id": None})).eval()
    theirs.load_state_dict(to_transformers_weights(model, llama_weight_names(model), llama_rows(model)), strict=False)
    return theirs


def compare(model: GptForCausalLM, theirs: LlamaForCausalLM, num_rows: int, num_rounds: int) -> dict[str, float]:
    "CPU-seconds of each side, and ratios."
    prompts = torch.randint(5, model.config.vocab_size, (num_rows, 16), generator=torch.Generator().manual_seed(num_rows))
    sides: dict[str, Callable[[], Tensor]] = {
        "with_cache": lambda: generate(model, prompts, None, NUM_NEW, temperature=0, eos_token_id=-1),
        "without_cache": lambda: generate(model, prompts, None, NUM_NEW, temperature=0, eos_token_id=-1, use_cache=False),
        "transformers": lambda: theirs.generate(input_ids=prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=NUM_NEW, do_sample=False, pad_token_id=0),
    }
    seconds, texts = {name: [] for name in sides}, {}
    for _ in range(num_rounds):
        for name, write in sides.items():
            start = time.process_time()
            texts[name] = write()
            seconds[name].append(time.process_time() - start)
    for name, text in texts.items():
        if not torch.equal(text, texts["with_cache"]):
            raise SystemExit(f"{name} wrote other tokens, first at place {int((text != texts['with_cache']).nonzero()[0, 1])}: this is no comparison")
    figures = {f"{name}_cpu_s": statistics.median(times) for name, times in seconds.items()}
    return {**figures, "cache_speedup": figures["without_cache_cpu_s"] / figures["with_cache_cpu_s"],
            "transformers_over_ours": figures["transformers_cpu_s"] / figures["with_cache_cpu_s"],
            "tokens_per_cpu_s": num_rows * NUM_NEW / figures["with_cache_cpu_s"]}


def main() -> None:
    "Measure, print the table, write it down if asked."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine(), "new_tokens": NUM_NEW}
    for name in arguments.only:
        model = make_model(name)
        theirs = in_transformers(model)
        figures[name] = {str(rows): compare(model, theirs, rows, 1 if name == "smollm2" else arguments.rounds) for rows in CASES[name]}
    print(json.dumps(figures, indent=1))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
