"""Broadcast, ring, buckets and data parallel training in real processes: agreement with torch, hand-worked cases, errors, no orphans."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
import torch
from torch import nn

from microbert_course.errors import CourseError
from microbert_course.training.distributed import (
    DataParallel,
    broadcast,
    broadcast_parameters,
    buckets,
    global_mean,
    launch,
    ring_all_reduce,
)

# one script for all that needs processes: each check writes what it found, and the tests below judge it
SCRIPT = '''
import copy, json, sys, time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from microbert_course.training.distributed import (
    DataParallel, broadcast, broadcast_parameters, global_mean, ring_all_reduce)

dist.init_process_group("gloo", timeout=timedelta(seconds=30))
rank, world_size = dist.get_rank(), dist.get_world_size()
found = {}


def chance(*place):
    seed = 1000 * place[0] + rank
    return torch.Generator().manual_seed(seed)


def said(function, *arguments):
    try:
        function(*arguments)
    except ValueError as error:
        return str(error)


def everywhere(tensor):
    "Whether all processes hold the same bits."
    whole = [torch.empty_like(tensor) for _ in range(world_size)]
    dist.all_gather(whole, tensor.contiguous())
    return all(torch.equal(one, whole[0]) for one in whole)


# the ring
sent = []
send_and_receive = dist.batch_isend_irecv
def counting(operations):
    sent.append(sum(op.tensor.nbytes for op in operations if op.op is dist.isend))
    return send_and_receive(operations)
dist.batch_isend_irecv = counting
found["ring"] = {}
for shape in ((), (0,), (1,), (2,), (3,), (7,), (4, 5), (2, 3, 50)):
    numbers = torch.randn(shape, generator=chance(1))
    whole = numbers.clone()
    ours = ring_all_reduce(numbers)
    dist.all_reduce(whole)
    off = (ours - whole).abs().max().item() if numbers.numel() else 0.0
    found["ring"][str(shape)] = {"off": off, "in place": ours is numbers, "the same bits": everywhere(numbers)}
integers = torch.randint(-2**40, 2**40, (5, 11), generator=chance(2))
whole = integers.clone()
dist.all_reduce(whole)
found["integers"] = torch.equal(ring_all_reduce(integers), whole)
turned = torch.randn(6, 5, generator=chance(3)).T
whole = turned.contiguous()
dist.all_reduce(whole)
found["turned"] = torch.allclose(ring_all_reduce(turned), whole, atol=1e-6) and not turned.is_contiguous()
sent.clear()
ring_all_reduce(torch.zeros(300))
found["bytes"] = sum(sent)
found["ring of truth values"] = said(ring_all_reduce, torch.ones(3, dtype=torch.bool))

# a group of two: the same bits as torch, and process 0 is left alone
pair = dist.new_group([1, 2])
numbers = torch.randn(1001, generator=chance(4))
if rank:
    whole = numbers.clone()
    dist.all_reduce(whole, group=pair)
    found["pair"] = torch.equal(ring_all_reduce(numbers, pair), whole)
    found["mean of the pair"] = global_mean(10.0 * rank, rank, pair)
    found["broadcast in the pair"] = broadcast(torch.tensor(float(rank)), 1, pair).item()

# broadcast
found["broadcast"] = [broadcast(torch.full((3, 2), float(rank)), source).unique().tolist() for source in range(world_size)]
found["broadcast turned"] = broadcast(torch.full((3, 2), float(rank)).T, 2).unique().tolist()
found["no such source"] = said(broadcast, torch.zeros(1), world_size)
torch.manual_seed(rank)
norm = nn.BatchNorm1d(4)
norm.running_mean += rank
norm.num_batches_tracked += rank
broadcast_parameters(norm, source=1)
found["buffers"] = [norm.running_mean.unique().tolist(), norm.num_batches_tracked.item()]
found["other model"] = said(broadcast_parameters, nn.Linear(3, 4 if rank == 1 else 5))

# data parallel against torch's
class Net(nn.Module):
    "A tied table, a frozen layer."

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
        self.spare = nn.Linear(6, 6).requires_grad_(False)
        self.unused = None

    def forward(self, ids):
        x = self.table(ids)
        for layer in self.layers:
            x = layer(x).tanh()
        return self.spare(x) @ self.table.weight.T


def update(wrapped, step, num_parts=1, finish=lambda: None):
    for part in range(num_parts):
        ids = torch.randint(11, (5,), generator=chance(10 * step + part + 100))
        def backward():
            (wrapped(ids).logsumexp(-1).sum() / num_parts).backward()
        if part < num_parts - 1:
            with wrapped.no_sync():
                backward()
        else:
            backward()
    finish()


found["gradients"] = {}
for bucket_bytes in (1, 600, 10**9):
    torch.manual_seed(rank)  # other weights everywhere: both must send those of process 0
    mine = Net().double()
    theirs = copy.deepcopy(mine)
    ours, reference = DataParallel(mine, bucket_bytes), DistributedDataParallel(theirs)
    off = 0.0
    for step, num_parts in enumerate((1, 3, 1)):
        update(ours, step, num_parts, ours.finish)
        update(reference, step, num_parts)
        off = max(off, *((p.grad - q.grad).abs().max().item() for p, q in zip(mine.parameters(), theirs.parameters()) if p.requires_grad))
        same = all(everywhere(p.grad) for p in mine.parameters() if p.requires_grad)
        for model in (mine, theirs):
            model.zero_grad()
    found["gradients"][bucket_bytes] = {"off": off, "the same bits": same, "buckets": len(ours.buckets)}

torch.manual_seed(0)
mine = Net()
mine.unused = nn.Linear(2, 2)
ours = DataParallel(mine)
found["unused"] = said(update, ours, 0, 1, ours.finish)
mine.unused.requires_grad_(False)
ours = DataParallel(mine)
with ours.no_sync():
    ours(torch.arange(3)).sum().backward()
found["nothing to send"] = said(ours.finish)
alone = torch.tensor([p.grad.sum() for p in mine.layers[0].parameters()])
found["forgotten"] = [said(update, ours, 0), said(ours, torch.arange(3))]
ours.finish()
def twice():
    loss = ours(torch.arange(3)).sum()
    loss.backward(retain_graph=True)
    loss.backward()
found["twice"] = said(twice)

# means
found["mean"] = global_mean(torch.tensor([8.0, 6.0, 0.0][rank]), [1, 3, 0][rank])
found["mean of nothing"] = said(global_mean, 1.0, 0)
Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(found))
dist.barrier()
time.sleep(0.5)  # a message may be on its way still, and gloo ends the whole process where a neighbour has hung up
dist.destroy_process_group()
'''


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    "What each of three processes wrote."
    folder = tmp_path_factory.mktemp("processes")
    (folder / "checks.py").write_text(SCRIPT)
    launch(folder / "checks.py", folder, num_processes=3, timeout_s=120)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(3)]


def test_the_ring_sums_as_torch_does_for_every_shape_and_leaves_the_same_bits_everywhere(found):
    "Numbers that do not divide by three, fewer numbers than processes, none at all. 1e-6: sums of three in another order."
    for process in found:
        for shape, result in process["ring"].items():
            assert result["off"] < 1e-6 and result["in place"] and result["the same bits"], shape
        assert process["integers"] and process["turned"]


def test_each_process_sends_two_thirds_of_its_bytes_twice(found):
    "2 · (N − 1) / N of 1,200 bytes, for N = 3."
    assert [process["bytes"] for process in found] == [1600, 1600, 1600]


def test_a_ring_of_two_has_torchs_bits_and_a_group_leaves_the_others_out(found):
    "a + b is b + a to the last bit, so for two processes the order of the sum is no excuse."
    assert "pair" not in found[0] and found[1]["pair"] and found[2]["pair"]
    assert [process["mean of the pair"] for process in found[1:]] == [10.0, 10.0]
    assert [process["broadcast in the pair"] for process in found[1:]] == [2.0, 2.0]  # place 1 of the group is process 2


def test_broadcast_brings_the_numbers_of_any_source_to_all(found):
    for process in found:
        assert process["broadcast"] == [[0.0], [1.0], [2.0]] and process["broadcast turned"] == [2.0]
        assert process["buffers"] == [[1.0], 1]


def test_other_models_and_impossible_sources_are_refused_in_every_process(found):
    for process in found:
        assert process["other model"].startswith("weight is (5, 3) of torch.float32 in process 0 and (4, 3) of torch.float32 in process 1")
        assert process["no such source"].startswith("source 3 is none of the 3 processes")
        assert process["ring of truth values"].startswith("a tensor of bool has no sum")


def test_gradients_equal_those_of_torchs_distributed_data_parallel(found):
    "One bucket a parameter, a few, one in all; a tied table, a frozen layer, accumulation over three parts. 1e-14: float64 rounding."
    for process in found:
        assert [result["buckets"] for result in process["gradients"].values()] == [9, 5, 1]
        for result in process["gradients"].values():
            assert result["off"] < 1e-14 and result["the same bits"]


def test_an_unused_parameter_gives_a_sentence_and_no_hang(found):
    for process in found:
        assert process["unused"].startswith("2 parameters got no gradient, unused.weight first, and the other processes would wait")


def test_what_is_forgotten_is_said(found):
    "finish() left out, finish() without gradients, two backward passes without no_sync()."
    for process in found:
        assert process["nothing to send"].startswith("finish() found no new gradient")
        assert process["forgotten"][0] is None and process["forgotten"][1].startswith("finish() was not called after backward()")
        assert process["twice"].startswith("backward() ran twice before finish()")


def test_the_mean_counts_items_and_not_processes(found):
    "One item of 8, three that sum to 6, none: 14 / 4. The mean of the means would be 5, or no number at all."
    for process in found:
        assert process["mean"] == 3.5
        assert process["mean of nothing"].startswith("count 0 here, and 0 in all processes")


# alone, without a process group

def test_one_process_needs_no_group():
    "The same script runs with one process: nothing is sent, the numbers stay."
    numbers = torch.arange(5.0)
    assert torch.equal(ring_all_reduce(broadcast(numbers)), torch.arange(5.0))
    assert global_mean(torch.tensor(6.0), 4) == 1.5
    model = nn.Linear(3, 2)
    wrapped = DataParallel(model)
    inputs = torch.randn(4, 3)
    wrapped(inputs).square().sum().backward()
    wrapped.finish()
    reference = nn.Linear(3, 2)
    reference.load_state_dict(model.state_dict())
    reference(inputs).square().sum().backward()
    assert torch.equal(model.weight.grad, reference.weight.grad)


def test_processes_that_have_not_met_are_refused(monkeypatch):
    "Without this each of them would train a model of its own, in silence."
    monkeypatch.setenv("WORLD_SIZE", "2")
    for function in (lambda: ring_all_reduce(torch.ones(1)), lambda: broadcast_parameters(nn.Linear(1, 1)),
                     lambda: DataParallel(nn.Linear(1, 1)), lambda: global_mean(1.0, 1)):
        with pytest.raises(ValueError, match="WORLD_SIZE announces 2 processes, and they have not met"):
            function()


def parameter(numel, dtype=torch.float32, trained=True):
    return nn.Parameter(torch.zeros(numel, dtype=dtype), requires_grad=trained)


def test_buckets_worked_by_hand():
    "Last used first; 40 bytes hold ten float32; the one of 15 is too large for any, and a small one after it opens a new bucket."
    a, b, frozen, c, large, d = (parameter(4), parameter(6), parameter(9, trained=False), parameter(3), parameter(15), parameter(2))
    assert buckets([a, b, frozen, c, large, d], 40) == [[d], [large], [c, b], [a]]
    assert buckets([a, b, c], 10**6) == [[c, b, a]]


def test_a_bucket_holds_one_dtype():
    "Neighbours of another dtype do not close a bucket: they fill one of their own beside it."
    a, b, c, d = parameter(4), parameter(4, torch.bfloat16), parameter(4), parameter(4, torch.bfloat16)
    assert buckets([a, b, c, d], 32) == [[d, b], [c, a]]
    assert buckets([a, b, c, d], 16) == [[c], [d, b], [a]]


def test_a_bucket_of_no_bytes_is_refused():
    with pytest.raises(ValueError, match="bucket_bytes 0 holds no gradient"):
        buckets([parameter(1)], 0)


# launching

def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def descendants_named(folder):
    "Processes that run a script of this folder."
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or []):
            found.append(process)
    return found


def test_launch_gives_each_process_its_rank_and_answers_what_they_printed(tmp_path):
    script = write(tmp_path, "hello.py", "import os, sys; print(os.environ['RANK'], os.environ['WORLD_SIZE'], *sys.argv[1:])")
    assert sorted(launch(script, "a b", num_processes=2).splitlines()) == ["0 2 a b", "1 2 a b"]
    with pytest.raises(ValueError, match="num_processes 0 is no number of processes"):
        launch(script, num_processes=0)


def test_when_one_worker_is_killed_the_others_are_ended(tmp_path):
    script = write(tmp_path, "killed.py", "import os, signal, time\n"
                   "if os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(300)")
    with pytest.raises(CourseError, match="killed.py, 2 processes: process 1 was killed by signal 9, and the others were ended"):
        launch(script, timeout_s=60)
    assert descendants_named(tmp_path) == []


def test_an_error_in_one_process_is_told_with_its_text_and_the_others_are_ended(tmp_path):
    script = write(tmp_path, "wrong.py", "import os, time\n"
                   "if os.environ['RANK'] == '1': raise KeyError('no such review')\ntime.sleep(300)")
    with pytest.raises(CourseError, match="wrong.py, 2 processes: process 1 failed .KeyError: 'no such review'.*others were ended"):
        launch(script, timeout_s=60)
    assert descendants_named(tmp_path) == []


def test_a_layer_that_one_process_alone_leaves_out_ends_both_with_its_name(tmp_path):
    "The other one waits for a bucket that never comes: it must not wait long, and the sentence must be the first one's."
    script = write(tmp_path, "skips.py", "import torch, torch.distributed as dist\nfrom torch import nn\n"
                   "from microbert_course.training.distributed import DataParallel\ndist.init_process_group('gloo')\n"
                   "wrapped = DataParallel(nn.ModuleDict({'a': nn.Linear(2, 2), 'b': nn.Linear(2, 2)}), bucket_bytes=1)\n"
                   "layers = wrapped.module\nx = layers['a'](torch.ones(1, 2))\n"
                   "(x if dist.get_rank() == 1 else layers['b'](x)).sum().backward()\nwrapped.finish()")
    with pytest.raises(CourseError, match="process 1 failed .ValueError: 2 parameters got no gradient, b.weight first"):
        launch(script, timeout_s=60)
    assert descendants_named(tmp_path) == []


def test_a_hang_ends_in_time_with_a_sentence_and_without_orphans(tmp_path):
    "The processes ignore the polite signal, and each has started one more."
    script = write(tmp_path, "hang.py", "import signal, subprocess, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                   "if len(sys.argv) == 1: subprocess.Popen([sys.executable, __file__, 'child'])\ntime.sleep(300)")
    start = time.monotonic()
    with pytest.raises(CourseError, match="hang.py, 2 processes: not done after 8 s, so all were ended"):
        launch(script, timeout_s=8)
    assert time.monotonic() - start < 30
    assert descendants_named(tmp_path) == []


def test_the_module_imports_without_accelerate_and_without_a_group():
    "Nor does the import look for processes: WORLD_SIZE is read when something is to be sent."
    code = ("import sys; sys.modules['accelerate'] = None; import microbert_course.training.distributed as d, torch.distributed as dist; "
            "print(dist.is_initialized())")
    answer = subprocess.run([sys.executable, "-c", code], env={**os.environ, "WORLD_SIZE": "4"}, capture_output=True, text=True, timeout=60)
    assert answer.stdout.strip() == "False", answer.stderr
