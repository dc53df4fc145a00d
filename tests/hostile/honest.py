"""Honest notebooks in all the ways people write them: each deserves full marks. A notebook is a list of cells."""

from hostile.exam import HONEST

MEAN = "def mean(numbers):\n    return sum(numbers) / len(numbers)\n"
MIX = "import torch\ndef mix(scores, value):\n    return torch.softmax(scores, -1) @ value\n"

NOTEBOOKS = {
    "as in the solution": [HONEST],
    "one cell a function": [MIX, MEAN],
    "written twice, the second is right": ["def mix(scores, value):\n    return value\n", HONEST],
    "a failing cell before and after": ["1 / 0", HONEST, "assert False, 'still to do'"],
    "sys.exit in a cell": ["import sys\nsys.exit(0)", HONEST, "raise SystemExit(3)"],
    "KeyboardInterrupt in a cell": ["raise KeyboardInterrupt", HONEST],
    "a syntax error in a cell": ["def (:", HONEST],
    "lines of magic": ["%matplotlib inline\n!pip install torch\nx = !ls\n%load_ext autoreload\n", HONEST],
    "a cell timed": ["%%time\n" + HONEST],
    "a cell captured": ["%%capture out\n" + HONEST],
    "a cell of another language": ["%%bash\nrm -rf /", HONEST, "%%html\n<b>bold</b>"],
    "a percent sign that is no magic": [HONEST, "a = (7\n  % 4)\nassert a == 3\nEXPONENT = a", "def mean(numbers):\n    return sum(numbers) / len(numbers) + (EXPONENT\n    % 3)\n"],
    "questions to IPython": ["torch.softmax?\n?len", HONEST],
    "checks and hints": ["from microbert_course.practice import check, hint, progress, adopt, solution", HONEST, "check('exam.mix')\nhint('exam.mix')\nprogress()\nadopt(mix)"],
    "display and get_ipython": ["display(3)\nget_ipython()", HONEST],
    "a lot of output": ["for _ in range(20_000):\n    print('x' * 500)", HONEST + "\nprint(mix(torch.ones(2, 2), torch.ones(2, 2)))"],
    "output from inside the function": ["def mean(numbers):\n    print('mean of', numbers)\n    return sum(numbers) / len(numbers)\n", MIX],
    "einsum": [MEAN, "import torch\ndef mix(scores, value):\n    return torch.einsum('qk,kd->qd', scores.softmax(dim=1), value)\n"],
    "loops": [MEAN, "import math, torch\ndef mix(scores, value):\n    rows = []\n    for row in scores:\n        powers = [math.exp(s) for s in row]\n        rows.append(sum(p / sum(powers) * v for p, v in zip(powers, value)))\n    return torch.stack(rows)\n"],
    "NumPy inside": [MEAN, "import numpy as np, torch\ndef mix(scores, value):\n    powers = np.exp(scores.numpy().astype('float64'))\n    return torch.from_numpy((powers / powers.sum(1, keepdims=True)) @ value.numpy().astype('float64')).float()\n"],
    "in double precision and back": [MEAN, "import torch\ndef mix(scores, value):\n    return (scores.double().softmax(-1) @ value.double()).float()\n"],
    "the stable softmax by hand": [MEAN, "import torch\ndef mix(scores, value):\n    powers = (scores - scores.amax(1, keepdim=True)).exp()\n    return powers / powers.sum(1, keepdim=True) @ value\n"],
    "with a gradient left on": [MEAN, "import torch\ndef mix(scores, value):\n    return torch.softmax(scores.clone().requires_grad_(), -1) @ value\n"],
    "a transposed result": [MEAN, "import torch\ndef mix(scores, value):\n    return (value.T @ torch.softmax(scores, -1).T).T\n"],
    "a lambda": ["import torch\nmix = lambda scores, value: scores.softmax(1) @ value\nmean = lambda numbers: sum(numbers) / len(numbers)"],
    "an object that can be called": [MEAN, "import torch\nclass Mix(torch.nn.Module):\n    def forward(self, scores, value):\n        return scores.softmax(-1) @ value\nmix = Mix()\n"],
    "decorated and cached": [MIX, "import functools\n@functools.cache\ndef ones(): return 1\n@torch.no_grad()\ndef mean(numbers):\n    return sum(numbers) / (len(numbers) * ones())\n"],
    "statistics and Fraction": [MIX, "import statistics\nfrom fractions import Fraction\ndef mean(numbers):\n    return float(statistics.mean(map(Fraction, numbers)))\n"],
    "a tensor where a number is expected": [MIX, "import torch\ndef mean(numbers):\n    return torch.tensor(numbers, dtype=torch.float64).mean()\n"],
    "a NumPy number": [MIX, "import numpy as np\ndef mean(numbers):\n    return np.mean(numbers)\n"],
    "global settings changed": ["import torch, random\ntorch.manual_seed(5)\ntorch.set_default_dtype(torch.float64)\nrandom.seed(1)\ntorch.set_grad_enabled(False)", HONEST],
    "files of one's own": ["import tempfile, pathlib, torch\npathlib.Path('notes.txt').write_text('7')\nwith tempfile.TemporaryFile() as f:\n    torch.save(torch.ones(3), f)\nSEVEN = int(open('notes.txt').read())", MIX, "def mean(numbers):\n    return sum(numbers) / len(numbers) * SEVEN / 7\n"],
    "a dataclass and type hints": ["from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Total:\n    sum: float\n    count: int\n    def mean(self) -> float: return self.sum / self.count\ndef mean(numbers: list[float]) -> float:\n    return Total(sum(numbers), len(numbers)).mean()\n", MIX],
    "threads": [MIX, "from concurrent.futures import ThreadPoolExecutor\ndef mean(numbers):\n    with ThreadPoolExecutor(2) as pool:\n        return sum(pool.map(float, numbers)) / len(numbers)\n"],
    "a plot": ["import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()", HONEST],
    "names of its own": ["import sys as system, builtins\nlist = [1, 2]\nprint = lambda *a: None", HONEST],
    "a little slow": ["import time\ntime.sleep(0.3)", HONEST],
}
