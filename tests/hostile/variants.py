r"""Honest notebooks for the exercises of hostile.field, in the ways people write them: each deserves full marks.

A cell ends at a line `# %%`. @WORD@ is the word that exercise 1.3 asks for. What an entry does not define is taken from ANSWERS."""

ANSWERS = {
    "mix": "import torch\ndef mix(scores, value, label):\n    return torch.softmax(scores, -1) @ value\n",
    "middle": "def middle(numbers):\n    if not numbers:\n        raise ValueError('no numbers')\n    return sorted(numbers)[len(numbers) // 2]\n",
    "word": "word = '@WORD@'\n",
    "Scale": "import torch\nclass Scale(torch.nn.Module):\n    def __init__(self, size):\n        super().__init__()\n        self.weight = torch.nn.Parameter(torch.ones(size))\n"
             "    def forward(self, x):\n        return x * self.weight\n",
}

# name: (what it writes in its own way, cells in front, cells behind)
VARIANTS = {
    "plain": ({}, "", ""),
    "softmax by hand": ({"mix": "import torch\ndef mix(scores, value, label):\n    powers = (scores - scores.max(1, keepdim=True).values).exp()\n    return (powers / powers.sum(1, keepdim=True)) @ value"}, "", ""),
    "einsum": ({"mix": "import torch\ndef mix(scores, value, label):\n    return torch.einsum('ij,jk->ik', torch.softmax(scores, 1), value)"}, "", ""),
    "loops": ({"mix": "import math, torch\ndef mix(scores, value, label):\n    rows = []\n    for row in scores.tolist():\n        powers = [math.exp(s) for s in row]\n        rows.append(sum((p / sum(powers)) * v for p, v in zip(powers, value)))\n    return torch.stack(rows)"}, "", ""),
    "NumPy": ({"mix": "import numpy as np, torch\ndef mix(scores, value, label):\n    powers = np.exp(scores.numpy())\n    return torch.tensor(powers / powers.sum(1, keepdims=True)) @ value"}, "", ""),
    "double precision and back": ({"mix": "import torch\ndef mix(scores, value, label):\n    return (scores.double().softmax(-1) @ value.double()).to(value.dtype)"}, "", ""),
    "a view that is not contiguous": ({"mix": "import torch\ndef mix(scores, value, label):\n    return (value.T @ scores.softmax(-1).T).T"}, "", ""),
    "gradients left on": ({"mix": "import torch\ndef mix(scores, value, label):\n    return torch.softmax(scores.clone().requires_grad_(), -1) @ value"}, "", ""),
    "in place on its own copies": ({"mix": "import torch\ndef mix(scores, value, label):\n    own = scores.clone()\n    own -= own.amax(-1, keepdim=True)\n    own.exp_().div_(own.sum(-1, keepdim=True))\n    return own @ value",
                                    "middle": "def middle(numbers):\n    if len(numbers) == 0: raise ValueError()\n    own = list(numbers)\n    own.sort()\n    return own[len(own) // 2]"}, "", ""),
    "helpers in other cells": ({"mix": "def mix(scores, value, label):\n    return weights(scores) @ value", "middle": "def middle(numbers):\n    check_there(numbers)\n    return ranked(numbers)[len(numbers) // 2]"},
                               "import torch\ndef weights(scores):\n    return torch.nn.functional.softmax(scores, dim=-1)\n# %%\ndef check_there(numbers):\n    if not numbers: raise ValueError('none')", "def ranked(numbers): return sorted(numbers)"),
    "magics": ({}, "%matplotlib inline\n%load_ext autoreload\n%autoreload 2\n!pip list\nfiles = !ls\n# %%\n%%time\nsum(range(10))\n# %%\n%%bash\nls\n# %%\n%%javascript\nalert(1)", "%timeit 1 + 1\nmix?\n?mix"),
    "many prints": ({"middle": "def middle(numbers):\n    print('numbers', numbers)\n    if not numbers:\n        raise ValueError('no numbers')\n    print(sorted(numbers))\n    return sorted(numbers)[len(numbers) // 2]"},
                    "for number in range(3000): print('x' * 200)", "import sys; sys.stderr.write('y' * 100_000)"),
    "plots": ({}, "import matplotlib.pyplot as plt\nfigure, ax = plt.subplots()\nax.plot([1, 2, 3]); plt.show(); figure.savefig('figure.png')", ""),
    "classes that are called": ({"mix": "import torch\nclass Mixer:\n    def __init__(self): self.softmax = torch.nn.Softmax(dim=-1)\n    def __call__(self, scores, value, label): return self.softmax(scores) @ value\nmix = Mixer()"}, "", ""),
    "a bound method": ({"mix": "import torch\nclass Mixer:\n    def run(self, scores, value, label): return scores.softmax(-1) @ value\nmix = Mixer().run"}, "", ""),
    "functools": ({"mix": "import functools, torch\ndef general(scores, value, label, axis): return scores.softmax(axis) @ value\nmix = functools.partial(general, axis=-1)",
                   "middle": "import functools\ndef named(function):\n    @functools.wraps(function)\n    def inside(*a, **k): return function(*a, **k)\n    return inside\n@named\ndef middle(numbers):\n    if not numbers: raise ValueError('none')\n    return sorted(numbers)[len(numbers) // 2]"}, "", ""),
    "lambdas": ({"mix": "mix = lambda scores, value, label: scores.softmax(-1) @ value"}, "", ""),
    "more arguments with defaults": ({"mix": "import torch\ndef mix(scores, value, label='', *, temperature=1.0, **others):\n    return torch.softmax(scores / temperature, -1) @ value"}, "", ""),
    "torch.no_grad and inference mode": ({"mix": "import torch\n@torch.no_grad()\ndef mix(scores, value, label):\n    return torch.softmax(scores, -1) @ value", "middle": "import torch\n@torch.inference_mode()\ndef middle(numbers):\n    if not numbers: raise ValueError('none')\n    return sorted(numbers)[len(numbers) // 2]"}, "", ""),
    "global settings of torch": ({}, "import torch\ntorch.set_default_dtype(torch.float64)\ntorch.manual_seed(7)\ntorch.set_num_threads(2)\ntorch.set_printoptions(precision=2)\ntorch.use_deterministic_algorithms(True)\ntorch.autograd.set_detect_anomaly(True)", ""),
    "seeds and warnings": ({}, "import random, warnings, numpy as np\nrandom.seed(0); np.random.seed(0)\nwarnings.simplefilter('error')", ""),
    "cells that fail": ({}, "1 / 0\n# %%\nundefined\n# %%\nimport not_installed\n# %%\ndef (", "assert False\n# %%\nraise KeyboardInterrupt\n# %%\nexit()\n# %%\nwhile"),
    "wrong first, mended later": ({}, "def mix(scores, value, label): return value\nword = None\nclass Scale: pass\ndef middle(numbers): raise NotImplementedError('Exercise 1.2')", ""),
    "checks, hints and progress": ({}, "from microbert_course.practice import check, hint, progress, adopt, solution", "check('exam.mix'); hint('exam.mix'); progress(); adopt(mix); solution('exam.mix')"),
    "slow but fine": ({"middle": "import time\ndef middle(numbers):\n    time.sleep(0.15)\n    if not numbers: raise ValueError('none')\n    return sorted(numbers)[len(numbers) // 2]"}, "import time; time.sleep(0.3)", ""),
    "threads": ({"middle": "from concurrent.futures import ThreadPoolExecutor\ndef middle(numbers):\n    with ThreadPoolExecutor(2) as pool:\n        ranked = sorted(pool.map(float, numbers))\n    if not ranked: raise ValueError('none')\n    return ranked[len(ranked) // 2]"}, "", ""),
    "asyncio": ({}, "import asyncio\nasync def wait(): await asyncio.sleep(0)\ntry:\n    asyncio.run(wait())\nexcept Exception as error: print(error)", ""),
    "type hints, dataclasses and the future": ({"mix": "from __future__ import annotations\nimport torch\nfrom torch import Tensor\nfrom dataclasses import dataclass\n@dataclass(frozen=True)\nclass Setting:\n    axis: int = -1\ndef mix(scores: Tensor, value: Tensor, label: str) -> Tensor:\n    return scores.softmax(Setting().axis) @ value"}, "", ""),
    "generators and match": ({"middle": "def middle(numbers):\n    match list(sorted(x for x in numbers)):\n        case []: raise ValueError('none')\n        case ranked: return ranked[len(ranked) // 2]"}, "", ""),
    "other exceptions of its own": ({"middle": "class Missing(ValueError): pass\ndef middle(numbers):\n    try:\n        return sorted(numbers)[len(numbers) // 2]\n    except IndexError:\n        raise ValueError('none') from Missing('none')"}, "", ""),
    "numbers as tensors and arrays": ({"middle": "import numpy as np\ndef middle(numbers):\n    if not numbers: raise ValueError('none')\n    return np.sort(np.array(numbers))[len(numbers) // 2]"}, "", ""),
    "zero-dimensional tensor": ({"middle": "import torch\ndef middle(numbers):\n    if not numbers: raise ValueError('none')\n    return torch.tensor(numbers, dtype=torch.float64).sort().values[len(numbers) // 2]"}, "", ""),
    "modules of modules": ({"Scale": "import torch\nfrom torch import nn\nclass Base(nn.Module):\n    def __init__(self, size):\n        super().__init__()\n        self.register_parameter('weight', nn.Parameter(torch.empty(size)))\n        nn.init.ones_(self.weight)\nclass Scale(Base):\n    def forward(self, x): return torch.mul(self.weight, x)"}, "", ""),
    "files of its own": ({"middle": "import json, pathlib, tempfile\ndef middle(numbers):\n    if not numbers: raise ValueError('none')\n    with tempfile.NamedTemporaryFile('w+') as file:\n        json.dump(numbers, file); file.seek(0)\n        return sorted(json.load(file))[len(numbers) // 2]"},
                         "import pathlib, torch\npathlib.Path('notes').mkdir(exist_ok=True)\npathlib.Path('notes/a.txt').write_text('text')\ntorch.save({'a': torch.ones(2)}, 'weights.pt'); torch.load('weights.pt')", ""),
    "names of the language reused": ({"middle": "def middle(numbers):\n    if not numbers: raise ValueError('none')\n    list = sorted(numbers)\n    return list[len(list) // 2]"}, "sum = 3\nmax = min = None\ninput = 'text'\nprint = lambda *a: None", ""),
    "get_ipython and display": ({}, "get_ipython()\ndisplay('text', 3)\nif get_ipython() is not None: get_ipython().run_line_magic('pwd', '')", ""),
    "libraries of the course": ({}, "import microbert_course\nfrom microbert_course.models import attention\nfrom microbert_course.practice import plain\nimport transformers.activations, pandas, numpy", ""),
    "windows line ends and tabs": ({"middle": "def middle(numbers):\r\n\tif not numbers:\r\n\t\traise ValueError('none')\r\n\treturn sorted(numbers)[len(numbers) // 2]\r\n"}, "", ""),
    "letters of all kinds": ({"mix": "import torch\ndef mix(scores, value, label):\n    σ = torch.softmax(scores, -1)\n    'Größe – 寸法 🙂'\n    return σ @ value"}, "", ""),
    "a long notebook": ({}, "\n# %%\n".join(f"x{number} = {number}" for number in range(150)), ""),
}


def cells(name: str, word: str) -> list[str]:
    "The cells of one variant; an answer a cell, the exercises' order kept."
    own, before, behind = VARIANTS[name]
    found = [*before.split("\n# %%\n"), *(own.get(answer, text) for answer, text in ANSWERS.items()), *behind.split("\n# %%\n")]
    return [cell.replace("@WORD@", word) for cell in found]


# real exercises of the course, each written in a few ways
ATTENTION = {
    "the solution": "@SOLUTION@",
    "visible pairs first": r'''
import math, torch
def scaled_dot_product_attention(query, key, value, attention_mask=None, is_causal=False, dropout=0.0):
    if not 0 <= dropout < 1: raise ValueError(dropout)
    queries, keys = query.shape[-2], key.shape[-2]
    if is_causal and queries != keys: raise ValueError("not square")
    seen = torch.ones(query.shape[0], 1, queries, keys, dtype=torch.bool)
    if attention_mask is not None:
        if attention_mask.is_floating_point() or tuple(attention_mask.shape) != (key.shape[0], keys): raise ValueError("mask")
        seen = seen & attention_mask.bool()[:, None, None, :]
    if is_causal: seen = seen.tril()
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) / math.sqrt(query.shape[-1])
    scores = torch.where(seen, scores, torch.finfo(scores.dtype).min)
    weights = torch.where(seen, torch.softmax(scores, -1), torch.zeros((), dtype=scores.dtype))
    if dropout: weights = torch.dropout(weights, dropout, True)
    return torch.einsum("bhqk,bhkd->bhqd", weights, value), weights
''',
}
SCHEDULE = {
    "the solution": "@SOLUTION@",
    "interpolated": r'''
import math
def cosine_schedule(step, total_steps, warmup_steps=0, floor=0.0):
    if step < 0 or total_steps < 1 or warmup_steps < 0 or warmup_steps > total_steps or floor < 0 or floor > 1: raise ValueError("no schedule")
    if step < warmup_steps: return (step + 1) / warmup_steps
    share = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return floor + (1 - floor) * (1 + math.cos(math.pi * share)) / 2
''',
}
