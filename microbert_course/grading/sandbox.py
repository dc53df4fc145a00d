"""One sandbox, as the grader holds it: start it, hand it tasks, end it. Nothing that it says is believed here or reaches a limit."""

import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from microbert_course.errors import CourseError
from microbert_course.grading import isolation
from microbert_course.grading.inside import wire
from microbert_course.grading.isolation import Ground

START_S = 180   # importing torch, on a machine that does a lot else
LATE_S = 1.0    # how long after its own limits a sandbox that does not keep them is ended
GONE_S = 20     # for a process that is dead to clear away what it wrote: a million files take seconds
MEASURE_S = 0.25


class Broken(Exception):
    "A sandbox that ended or fell silent; its text is one of wire.ENDINGS."


class NotStarted(Exception):
    "A sandbox that did not get ready: no fault of a submission. The text is the last line that it wrote."


class Sandbox:
    "A process tree that runs one submission's tasks; a context manager that leaves nothing behind."

    def __init__(self, ground: Ground, course: Path, slot: int, stop: threading.Event, preload: Sequence[str] = (), warm: bool = True):
        self.ground, self.slot, self.stop = ground, slot, stop
        self.start = isolation.start(ground, course, slot, preload, warm)
        self.process = subprocess.Popen(self.start.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=self.start.environment, cwd="/", start_new_session=True, bufsize=0)
        self.facts: dict = {}
        self.at_rest: list[psutil.Process] = []
        for pipe in (self.process.stdin, self.process.stdout):
            os.set_blocking(pipe.fileno(), False)

    def __enter__(self) -> "Sandbox":
        try:
            ending, content = self._exchange(json.dumps(self.start.setup).encode(), START_S)
            self.facts = json.loads(content)
            self.at_rest = self._tree()
        except (Broken, ValueError):
            self.__exit__()
            raise NotStarted(self.last_words) from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        tree = {*self.at_rest, *self._tree()}  # the first one may be dead already, and the others still dying
        if self.process.poll() is None and not self.stop.is_set():
            self.process.stdin.close()  # a sandbox in good order ends by itself
            try:
                self.process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                pass
        self._kill()
        psutil.wait_procs(tree, timeout=GONE_S)
        if not self.facts:
            said = self.process.stderr.read(1 << 16).decode(errors="replace").split("\n")
            self.last_words = next((line for line in reversed(said) if line.strip()), "it ended without a word")
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()
        if self.start.work is not None:
            isolation.remove(self.start.work)

    def _kill(self) -> None:
        "End every process of the tree, whether its first one still lives or not."
        for _ in range(50):
            tree = self._tree()
            for process in tree:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            self.process.poll()
            if not tree:
                break
            psutil.wait_procs(tree, timeout=0.05)
        self.process.wait()
        if not self.facts.get("pids"):  # elsewhere the kernel ends all processes of a namespace with its first one
            for process in isolation.left_over(self.ground, self.slot):
                process.kill()

    def _tree(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self.process.pid)
            return [one for one in [*first.children(recursive=True), first] if one.status() != psutil.STATUS_ZOMBIE]
        except psutil.NoSuchProcess:
            return []

    def run(self, job: bytes) -> tuple[str, bytes]:
        """What came of one task: how it ended, and bytes to be read with care.

        Raises: Broken if the sandbox has to be given up."""
        limits = self.ground.limits
        return self._exchange(job, limits.notebook_s + limits.exercise_s + LATE_S)

    def _exchange(self, message: bytes, seconds: float) -> tuple[str, bytes]:
        "Send one message, wait for one; within the time, the memory and the size that there are."
        rest, got = memoryview(wire.packed(message)), bytearray()
        writing, reading = self.process.stdin.fileno(), self.process.stdout.fileno()
        deadline, measured = time.monotonic() + seconds, time.monotonic()
        most = (self.ground.limits.output_mb + 1) * 2**20
        while True:
            readable, writable, _ = select.select([reading], [writing] if rest else [], [], 0.1)
            try:
                if writable:
                    rest = rest[os.write(writing, rest[:1 << 16]):]
                part = os.read(reading, 1 << 18) if readable else None
            except BlockingIOError:
                part = None
            except OSError:  # a broken pipe
                raise Broken("ended") from None
            if part == b"":
                raise Broken("ended")
            got += part or b""
            if len(got) >= wire.HEAD.size:
                size = wire.HEAD.unpack_from(got)[0]
                if not 0 < size <= most or len(got) > wire.HEAD.size + size:
                    raise Broken("output")
                if len(got) == wire.HEAD.size + size:
                    return self._ending(got[wire.HEAD.size]), bytes(got[wire.HEAD.size + 1:])
            if self.stop.is_set():
                raise Broken("ended")
            now = time.monotonic()
            if now > deadline:
                raise Broken("timeout")
            if now - measured > MEASURE_S:
                measured = now
                if self._memory() > self.ground.limits.memory_mb * 2**20 * 1.5:
                    raise Broken("memory")

    def _ending(self, number: int) -> str:
        if number >= len(wire.ENDINGS):
            raise Broken("output")
        return wire.ENDINGS[number]

    def _memory(self) -> int:
        total = 0
        for process in self._tree():
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total


def refused(error: NotStarted, level: str) -> CourseError:
    "The sentence for a sandbox that did not start."
    return CourseError(f"the sandbox ({level}) did not start: {error}; `microbert grade doctor` tries each level, and running the same "
                       "command again goes on where this one stopped")
