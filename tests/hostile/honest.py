r"""Honest notebooks for the exercises of hostile.field, in the ways people write them: each deserves full marks.

A cell ends at a line `# %%`. @WORD@ is the word that exercise 1.3 asks for. What an entry does not define is taken from ANSWERS.
To add one, add an entry to VARIANTS."""

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
    "softmax by hand": ({"mix": r'''import torch
def mix(scores, value, label):
    powers = (scores - scores.max(1, keepdim=True).values).exp()
    return (powers / powers.sum(1, keepdim=True)) @ value'''}, "", ""),
    "einsum": ({"mix": r'''import torch
def mix(scores, value, label):
    return torch.einsum('ij,jk->ik', torch.softmax(scores, 1), value)'''}, "", ""),
    "loops": ({"mix": r'''import math, torch
def mix(scores, value, label):
    rows = []
    for row in scores.tolist():
        powers = [math.exp(s) for s in row]
        rows.append(sum((p / sum(powers)) * v for p, v in zip(powers, value)))
    return torch.stack(rows)'''}, "", ""),
    "NumPy": ({"mix": r'''import numpy as np, torch
def mix(scores, value, label):
    powers = np.exp(scores.numpy())
    return torch.tensor(powers / powers.sum(1, keepdims=True)) @ value'''}, "", ""),
    "double precision and back": ({"mix": r'''import torch
def mix(scores, value, label):
    return (scores.double().softmax(-1) @ value.double()).to(value.dtype)'''}, "", ""),
    "a view that is not contiguous": ({"mix": r'''import torch
def mix(scores, value, label):
    return (value.T @ scores.softmax(-1).T).T'''}, "", ""),
    "gradients left on": ({"mix": r'''import torch
def mix(scores, value, label):
    return torch.softmax(scores.clone().requires_grad_(), -1) @ value'''}, "", ""),
    "in place on its own copies": ({"mix": r'''import torch
def mix(scores, value, label):
    own = scores.clone()
    own -= own.amax(-1, keepdim=True)
    own.exp_().div_(own.sum(-1, keepdim=True))
    return own @ value''',
        "middle": r'''def middle(numbers):
    if len(numbers) == 0: raise ValueError()
    own = list(numbers)
    own.sort()
    return own[len(own) // 2]'''}, "", ""),
    "helpers in other cells": ({"mix": "def mix(scores, value, label):\n    return weights(scores) @ value",
        "middle": r'''def middle(numbers):
    check_there(numbers)
    return ranked(numbers)[len(numbers) // 2]'''}, r'''import torch
def weights(scores):
    return torch.nn.functional.softmax(scores, dim=-1)
# %%
def check_there(numbers):
    if not numbers: raise ValueError('none')''', "def ranked(numbers): return sorted(numbers)"),
    "magics": ({}, r'''%matplotlib inline
%load_ext autoreload
%autoreload 2
!pip list
files = !ls
# %%
%%time
sum(range(10))
# %%
%%bash
ls
# %%
%%javascript
alert(1)''', "%timeit 1 + 1\nmix?\n?mix"),
    "a helper that is timed": ({"mix": "def mix(scores, value, label):\n    return softmax(scores) @ value"}, r'''import torch
%time softmax = torch.nn.Softmax(dim=-1)''', ""),
    "answers in cells that are timed and captured": ({"mix": r'''%%time
import torch
def mix(scores, value, label):
    return torch.softmax(scores, -1) @ value''',
        "middle": r'''%%capture out
def middle(numbers):
    if not numbers: raise ValueError('none')
    return sorted(numbers)[len(numbers) // 2]'''}, "%%html\n<b>bold</b>", ""),
    "a percent sign that is no magic": ({"middle": r'''def middle(numbers):
    if not numbers: raise ValueError('none')
    return sorted(numbers)[len(numbers) // 2] + (three
    % 3)'''}, "three = (7\n  % 4)\nassert three == 3", ""),
    "many prints": ({"middle": r'''def middle(numbers):
    print('numbers', numbers)
    if not numbers:
        raise ValueError('no numbers')
    print(sorted(numbers))
    return sorted(numbers)[len(numbers) // 2]'''}, "for number in range(20_000): print('x' * 500)", "import sys; sys.stderr.write('y' * 100_000)"),
    "plots": ({}, r'''import matplotlib.pyplot as plt
figure, ax = plt.subplots()
ax.plot([1, 2, 3]); plt.show(); figure.savefig('figure.png')''', ""),
    "classes that are called": ({"mix": r'''import torch
class Mixer:
    def __init__(self): self.softmax = torch.nn.Softmax(dim=-1)
    def __call__(self, scores, value, label): return self.softmax(scores) @ value
mix = Mixer()'''}, "", ""),
    "a module that is called": ({"mix": r'''import torch
class Mixer(torch.nn.Module):
    def forward(self, scores, value, label): return scores.softmax(-1) @ value
mix = Mixer()'''}, "", ""),
    "a bound method": ({"mix": r'''import torch
class Mixer:
    def run(self, scores, value, label): return scores.softmax(-1) @ value
mix = Mixer().run'''}, "", ""),
    "functools": ({"mix": r'''import functools, torch
def general(scores, value, label, axis): return scores.softmax(axis) @ value
mix = functools.partial(general, axis=-1)''',
        "middle": r'''import functools
def named(function):
    @functools.wraps(function)
    def inside(*a, **k): return function(*a, **k)
    return inside
@named
def middle(numbers):
    if not numbers: raise ValueError('none')
    return sorted(numbers)[len(numbers) // 2]'''}, "", ""),
    "cached": ({"middle": r'''import functools
@functools.cache
def two(): return 2
def middle(numbers):
    if not numbers: raise ValueError('none')
    return sorted(numbers)[len(numbers) // two()]'''}, "", ""),
    "fractions": ({"middle": r'''import statistics
from fractions import Fraction
def middle(numbers):
    if not numbers: raise ValueError('none')
    return float(statistics.median_high(map(Fraction, numbers)))'''}, "", ""),
    "lambdas": ({"mix": "mix = lambda scores, value, label: scores.softmax(-1) @ value"}, "", ""),
    "more arguments with defaults": ({"mix": r'''import torch
def mix(scores, value, label='', *, temperature=1.0, **others):
    return torch.softmax(scores / temperature, -1) @ value'''}, "", ""),
    "torch.no_grad and inference mode": ({"mix": r'''import torch
@torch.no_grad()
def mix(scores, value, label):
    return torch.softmax(scores, -1) @ value''',
        "middle": r'''import torch
@torch.inference_mode()
def middle(numbers):
    if not numbers: raise ValueError('none')
    return sorted(numbers)[len(numbers) // 2]'''}, "", ""),
    "global settings of torch": ({}, r'''import torch
torch.set_default_dtype(torch.float64)
torch.manual_seed(7)
torch.set_num_threads(2)
torch.set_printoptions(precision=2)
torch.use_deterministic_algorithms(True)
torch.autograd.set_detect_anomaly(True)
torch.set_grad_enabled(False)''', ""),
    "seeds and warnings": ({}, r'''import random, warnings, numpy as np
random.seed(0); np.random.seed(0)
warnings.simplefilter('error')''', ""),
    "cells that fail": ({}, "1 / 0\n# %%\nundefined\n# %%\nimport not_installed\n# %%\ndef (", r'''assert False
# %%
raise KeyboardInterrupt
# %%
import sys; sys.exit(0)
# %%
raise SystemExit(3)
# %%
exit()
# %%
while'''),
    "wrong first, mended later": ({}, r'''def mix(scores, value, label): return value
word = None
class Scale: pass
def middle(numbers): raise NotImplementedError('Exercise 1.2')''', ""),
    "checks, hints and progress": ({}, "from microbert_course.practice import check, hint, progress, adopt, solution",
        "check('exam.mix'); hint('exam.mix'); progress(); adopt(mix); solution('exam.mix')"),
    "slow but fine": ({"middle": r'''import time
def middle(numbers):
    time.sleep(0.1)
    if not numbers: raise ValueError('none')
    return sorted(numbers)[len(numbers) // 2]'''}, "import time; time.sleep(0.2)", ""),
    "threads": ({"middle": r'''from concurrent.futures import ThreadPoolExecutor
def middle(numbers):
    with ThreadPoolExecutor(2) as pool:
        ranked = sorted(pool.map(float, numbers))
    if not ranked: raise ValueError('none')
    return ranked[len(ranked) // 2]'''}, "", ""),
    "asyncio": ({}, r'''import asyncio
async def wait(): await asyncio.sleep(0)
try:
    asyncio.run(wait())
except Exception as error: print(error)''', ""),
    "type hints, dataclasses and the future": ({"mix": r'''from __future__ import annotations
import torch
from torch import Tensor
from dataclasses import dataclass
@dataclass(frozen=True)
class Setting:
    axis: int = -1
def mix(scores: Tensor, value: Tensor, label: str) -> Tensor:
    return scores.softmax(Setting().axis) @ value'''}, "", ""),
    "generators and match": ({"middle": r'''def middle(numbers):
    match list(sorted(x for x in numbers)):
        case []: raise ValueError('none')
        case ranked: return ranked[len(ranked) // 2]'''}, "", ""),
    "other exceptions of its own": ({"middle": r'''class Missing(ValueError): pass
def middle(numbers):
    try:
        return sorted(numbers)[len(numbers) // 2]
    except IndexError:
        raise ValueError('none') from Missing('none')'''}, "", ""),
    "numbers as tensors and arrays": ({"middle": r'''import numpy as np
def middle(numbers):
    if not numbers: raise ValueError('none')
    return np.sort(np.array(numbers))[len(numbers) // 2]'''}, "", ""),
    "zero-dimensional tensor": ({"middle": r'''import torch
def middle(numbers):
    if not numbers: raise ValueError('none')
    return torch.tensor(numbers, dtype=torch.float64).sort().values[len(numbers) // 2]'''}, "", ""),
    "modules of modules": ({"Scale": r'''import torch
from torch import nn
class Base(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.register_parameter('weight', nn.Parameter(torch.empty(size)))
        nn.init.ones_(self.weight)
class Scale(Base):
    def forward(self, x): return torch.mul(self.weight, x)'''}, "", ""),
    "files of its own": ({"middle": r'''import json, pathlib, tempfile
def middle(numbers):
    if not numbers: raise ValueError('none')
    with tempfile.NamedTemporaryFile('w+') as file:
        json.dump(numbers, file); file.seek(0)
        return sorted(json.load(file))[len(numbers) // 2]'''}, r'''import pathlib, torch
pathlib.Path('notes').mkdir(exist_ok=True)
pathlib.Path('notes/a.txt').write_text('text')
torch.save({'a': torch.ones(2)}, 'weights.pt'); torch.load('weights.pt')
import tempfile
with tempfile.TemporaryFile() as file: torch.save(torch.ones(3), file)''', ""),
    "names of the language reused": ({"middle": r'''def middle(numbers):
    if not numbers: raise ValueError('none')
    list = sorted(numbers)
    return list[len(list) // 2]'''}, "sum = 3\nmax = min = None\ninput = 'text'\nprint = lambda *a: None", ""),
    "get_ipython and display": ({}, r'''get_ipython()
display('text', 3)
if get_ipython() is not None: get_ipython().run_line_magic('pwd', '')''', ""),
    "libraries of the course": ({"middle": r'''def middle(numbers):
    import pandas, transformers.activations
    if not numbers: raise ValueError('none')
    return pandas.Series(numbers).sort_values().iloc[len(numbers) // 2]'''}, r'''import microbert_course
from microbert_course.models import attention
from microbert_course.practice import plain
import numpy''', ""),
    "windows line ends and tabs": ({"middle": "def middle(numbers):\r\n"
            "\tif not numbers:\r\n"
            "\t\traise ValueError('none')\r\n"
            "\treturn sorted(numbers)[len(numbers) // 2]\r\n"}, "", ""),
    "letters of all kinds": ({"mix": r'''import torch
def mix(scores, value, label):
    σ = torch.softmax(scores, -1)
    'Größe – 寸法 🙂'
    return σ @ value'''}, "", ""),
    "a long notebook": ({}, r'''x0 = 0
# %%
x1 = 1
# %%
x2 = 2
# %%
x3 = 3
# %%
x4 = 4
# %%
x5 = 5
# %%
x6 = 6
# %%
x7 = 7
# %%
x8 = 8
# %%
x9 = 9
# %%
x10 = 10
# %%
x11 = 11
# %%
x12 = 12
# %%
x13 = 13
# %%
x14 = 14
# %%
x15 = 15
# %%
x16 = 16
# %%
x17 = 17
# %%
x18 = 18
# %%
x19 = 19
# %%
x20 = 20
# %%
x21 = 21
# %%
x22 = 22
# %%
x23 = 23
# %%
x24 = 24
# %%
x25 = 25
# %%
x26 = 26
# %%
x27 = 27
# %%
x28 = 28
# %%
x29 = 29
# %%
x30 = 30
# %%
x31 = 31
# %%
x32 = 32
# %%
x33 = 33
# %%
x34 = 34
# %%
x35 = 35
# %%
x36 = 36
# %%
x37 = 37
# %%
x38 = 38
# %%
x39 = 39
# %%
x40 = 40
# %%
x41 = 41
# %%
x42 = 42
# %%
x43 = 43
# %%
x44 = 44
# %%
x45 = 45
# %%
x46 = 46
# %%
x47 = 47
# %%
x48 = 48
# %%
x49 = 49
# %%
x50 = 50
# %%
x51 = 51
# %%
x52 = 52
# %%
x53 = 53
# %%
x54 = 54
# %%
x55 = 55
# %%
x56 = 56
# %%
x57 = 57
# %%
x58 = 58
# %%
x59 = 59
# %%
x60 = 60
# %%
x61 = 61
# %%
x62 = 62
# %%
x63 = 63
# %%
x64 = 64
# %%
x65 = 65
# %%
x66 = 66
# %%
x67 = 67
# %%
x68 = 68
# %%
x69 = 69
# %%
x70 = 70
# %%
x71 = 71
# %%
x72 = 72
# %%
x73 = 73
# %%
x74 = 74
# %%
x75 = 75
# %%
x76 = 76
# %%
x77 = 77
# %%
x78 = 78
# %%
x79 = 79
# %%
x80 = 80
# %%
x81 = 81
# %%
x82 = 82
# %%
x83 = 83
# %%
x84 = 84
# %%
x85 = 85
# %%
x86 = 86
# %%
x87 = 87
# %%
x88 = 88
# %%
x89 = 89
# %%
x90 = 90
# %%
x91 = 91
# %%
x92 = 92
# %%
x93 = 93
# %%
x94 = 94
# %%
x95 = 95
# %%
x96 = 96
# %%
x97 = 97
# %%
x98 = 98
# %%
x99 = 99
# %%
x100 = 100
# %%
x101 = 101
# %%
x102 = 102
# %%
x103 = 103
# %%
x104 = 104
# %%
x105 = 105
# %%
x106 = 106
# %%
x107 = 107
# %%
x108 = 108
# %%
x109 = 109
# %%
x110 = 110
# %%
x111 = 111
# %%
x112 = 112
# %%
x113 = 113
# %%
x114 = 114
# %%
x115 = 115
# %%
x116 = 116
# %%
x117 = 117
# %%
x118 = 118
# %%
x119 = 119
# %%
x120 = 120
# %%
x121 = 121
# %%
x122 = 122
# %%
x123 = 123
# %%
x124 = 124
# %%
x125 = 125
# %%
x126 = 126
# %%
x127 = 127
# %%
x128 = 128
# %%
x129 = 129
# %%
x130 = 130
# %%
x131 = 131
# %%
x132 = 132
# %%
x133 = 133
# %%
x134 = 134
# %%
x135 = 135
# %%
x136 = 136
# %%
x137 = 137
# %%
x138 = 138
# %%
x139 = 139
# %%
x140 = 140
# %%
x141 = 141
# %%
x142 = 142
# %%
x143 = 143
# %%
x144 = 144
# %%
x145 = 145
# %%
x146 = 146
# %%
x147 = 147
# %%
x148 = 148
# %%
x149 = 149''', ""),
}


def cells(name: str, word: str) -> list[str]:
    "The cells of one variant; an answer a cell, the exercises' order kept."
    own, before, behind = VARIANTS[name]
    found = [*before.split("\n# %%\n"), *(own.get(answer, text) for answer, text in ANSWERS.items()), *behind.split("\n# %%\n")]
    return [cell.replace("@WORD@", word) for cell in found]


# real exercises of the course, each of another lesson, written in a few ways: an answer, or the id of an exercise, for its solution
COURSE = {
    "the solutions": ("attention.scaled_dot_product", "optim.cosine_schedule"),
    "in other words": (r'''
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
''', r'''
import math
def cosine_schedule(step, total_steps, warmup_steps=0, floor=0.0):
    if step < 0 or total_steps < 1 or warmup_steps < 0 or warmup_steps > total_steps or floor < 0 or floor > 1: raise ValueError("no schedule")
    if step < warmup_steps: return (step + 1) / warmup_steps
    share = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return floor + (1 - floor) * (1 + math.cos(math.pi * share)) / 2
'''),
}
IMPORTS = '''
import math, torch
import torch.nn.functional as F
from torch import Tensor
from microbert_course.models.attention import *
from microbert_course.models.attention import check_share, visible_keys
from microbert_course.training.optim import *
'''


def course_cells(name: str, solutions: dict[str, str]) -> list[str]:  # solutions: by the exercise's id
    "The cells of a notebook with the real exercises."
    return [IMPORTS, *(solutions.get(text, text) for text in COURSE[name])]
