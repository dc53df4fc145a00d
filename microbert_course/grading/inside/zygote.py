"""The sandbox's own process: it imports torch once, then forks for every exercise, watches that process, and passes on what it gave.

Nothing in here is believed by the grader. It limits what a stranger's code uses up; whether an answer is right is found out elsewhere."""

import importlib
import json
import os
import select
import signal
import sys
import time

from . import cells, confine, namespaces, wire

POLL_S = 0.02     # how late a limit may be noticed
MEASURE_S = 0.05  # how often memory and processes are counted


def main() -> None:
    "Read the set-up, get ready, then answer one message a task until there are no more."
    setup = json.loads(wire.read_message(os.fdopen(os.dup(0), "rb", 0, closefd=True)))
    facts = namespaces.enter(setup) if setup["level"] == "landlock" else {}
    facts["pids"] = os.getpid() == 1  # a PID namespace of our own; only there may everybody else be killed
    jobs, results = os.fdopen(os.dup(0), "rb", 0), os.dup(1)
    hollow = os.open(os.devnull, os.O_RDWR)
    os.dup2(hollow, 0)
    os.dup2(hollow, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        confine.prctl(confine.PR_SET_CHILD_SUBREAPER, 1)  # whoever outlives its parent comes to us
        confine.prctl(confine.PR_SET_DUMPABLE, 0)         # and nobody reads our memory
    warm_up(setup["preload"], setup["warm"])
    rehearse(setup, facts)
    send(results, "started", json.dumps(facts).encode())
    while (job := wire.read_message(jobs)) is not None:
        ending, content = run(job, setup, facts, [jobs.fileno(), results])
        send(results, ending, content)
    end_all(facts)


def warm_up(preload: list[str], train: bool) -> None:
    "Import what the forks would each have to import; torch itself puts off a good part until something is trained."
    import torch

    from microbert_course.practice import outcomes, uses  # noqa: F401 - the forks find them ready

    torch.set_num_threads(1)
    if train:
        torch.manual_seed(0)
        layer = torch.nn.Linear(2, 2)
        optimizer = torch.optim.AdamW(layer.parameters())
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    for name in preload:
        try:
            importlib.import_module(name)
        except Exception:  # the cell that imports it will say so
            continue


def send(results: int, ending: str, content: bytes) -> None:
    rest = memoryview(wire.packed(bytes([wire.ENDINGS.index(ending)]) + content))
    while rest:
        rest = rest[os.write(results, rest):]


def rehearse(setup: dict, facts: dict) -> None:
    """Give up all powers once, in a fork that then ends: what fails here would fail for every submission, through no fault of theirs.

    Raises: RuntimeError with the reason."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.chdir(setup["work"])
            give_up_powers(setup, facts)
            os.write(writing, b"ready")
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    said = os.read(reading, 1000)
    os.close(reading)
    end_all(facts)
    if said != b"ready":
        raise RuntimeError(said.decode() or "the first fork ended without a word")


def run(job: bytes, setup: dict, facts: dict, closed: list[int]) -> tuple[str, bytes]:
    "One task in a fork; how it ended and what it wrote."
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            for descriptor in closed:
                os.close(descriptor)
            answer(job, setup, facts, writing)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        return watch(child, reading, setup["limits"])
    finally:
        os.close(reading)
        end_all(facts)


def answer(job: bytes, setup: dict, facts: dict, writing: int) -> None:
    "In the fork: give up all powers, run the notebook, put its answer to use, write down what came of each case."
    from microbert_course.practice import plain
    from microbert_course.practice.outcomes import outcome

    os.setsid()
    os.dup2(0, 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    job = plain.load(job)
    use = getattr(importlib.import_module(job["use"].partition(":")[0]), job["use"].partition(":")[2])
    os.chdir(setup["work"])
    give_up_powers(setup, facts)
    namespace, failed = cells.run(job["cells"])
    found = namespace.get(job["name"])
    there = "absent" if job["name"] not in namespace else "blank" if found is None else "present"
    write(writing, b"C" + wire.packed(json.dumps({"failed": failed, "answer": there}).encode()))
    for number, case in enumerate(job["cases"]):
        try:
            result = outcome(use, found, case, number)
            message = {"output": result.output, "error": result.error, "changed": list(result.changed)}
        except BaseException as error:  # KeyboardInterrupt, say; `outcome` keeps what is an Exception
            message = {"output": None, "error": type(error).__name__, "changed": []}
        write(writing, wire.packed(plain.dump(message)))


def write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content):]


def give_up_powers(setup: dict, facts: dict) -> None:
    "Limits, another user, and the fence of the level."
    if sys.platform == "linux":
        confine.prctl(confine.PR_SET_DUMPABLE, 1)
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        confine.prctl(confine.PR_SET_NO_NEW_PRIVS, 1)
    confine.limit(setup["limits"], setup["count_processes"] and (setup["uid"] is not None or facts["pids"]))
    confine.drop_user(setup["uid"])
    if setup["level"] == "landlock":
        confine.landlock(setup["readable"] + (["/proc"] if facts.get("proc") else []), setup["listable"],
                         setup["writable"] + (["/dev/shm"] if facts.get("mounts") else []))
    if setup["level"] == "weak":
        confine.watch(setup["readable"] + ["/proc/self"], setup["listable"], setup["writable"])
    else:
        confine.refuse_system_calls(setup["level"] == "landlock" and setup["uid"] is None)


def watch(child: int, reading: int, limits: dict) -> tuple[str, bytes]:
    "Collect what a fork writes until it ends or uses up a limit."
    content, now = bytearray(), time.monotonic()
    deadline, measured, in_cells = now + limits["notebook_s"], now, True
    while True:
        readable, _, _ = select.select([reading], [], [], POLL_S)
        part = os.read(reading, 1 << 16) if readable else None
        content += part or b""
        now = time.monotonic()
        if in_cells and content:
            deadline, in_cells = now + limits["exercise_s"], False
        if len(content) > limits["output_mb"] * 2**20:
            return "output", b""
        if part == b"" or (part is None and has_ended(child)):
            return "ended", bytes(content)
        if now > deadline:
            return "timeout", bytes(content[:1])
        if now - measured > MEASURE_S:
            memory, processes = used()
            measured = time.monotonic()
            if memory > limits["memory_mb"] * 2**20:
                return "memory", b""
            if processes > limits["processes"]:
                return "processes", b""


def has_ended(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] == child
    except ChildProcessError:
        return True


def used() -> tuple[int, int]:  # bytes, number
    "Resident memory of this process and all that descend from it, and how many those are."
    import psutil

    memory = psutil.Process().memory_info().rss
    offspring = psutil.Process().children(recursive=True)
    for process in offspring:
        try:
            memory += process.memory_info().rss
        except psutil.Error:
            continue
    return memory, len(offspring)


def end_all(facts: dict) -> None:
    "Kill every process that came from here, daemons too, and wait until they are gone."
    import psutil

    until = time.monotonic() + 2
    while time.monotonic() < until:
        try:
            if facts["pids"]:
                os.kill(-1, signal.SIGKILL)  # all of this PID namespace but its first process: us
            else:
                for kind in (signal.SIGSTOP, signal.SIGKILL):  # a stopped process cannot fork away
                    for process in psutil.Process().children(recursive=True):
                        os.kill(process.pid, kind)
        except ProcessLookupError:
            pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)
