"""Which isolation works here, found out by trying: a probe inside a real sandbox attempts what a hostile submission would."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.grading import isolation
from microbert_course.grading.inside import wire
from microbert_course.grading.isolation import LEVELS, Ground
from microbert_course.grading.limits import Limits
from microbert_course.grading.sandbox import Broken, NotStarted, Sandbox
from microbert_course.practice.plain import NotPlain, dump, load

# what the probe tries: each is True if it came through
PROBE = '''
import os, signal, socket, sys, time

def tried(attempt):
    try:
        return bool(attempt())
    except BaseException:
        return False

def connect(port):
    with socket.create_connection(("127.0.0.1", port), timeout=2):
        return True

def write(path):
    with open(path, "w") as file:
        file.write("here")
    return True

def remain():
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            for descriptor in range(256):
                try:
                    os.close(descriptor)
                except OSError:
                    pass
            time.sleep(600)
        os._exit(0)

def probe(secret, outside, port, victim):
    tried(remain)
    return {
        "network": tried(lambda: connect(port)),
        "secret file": tried(lambda: open(secret).read()),
        "write outside": tried(lambda: write(outside)),
        "memory": tried(lambda: open(f"/proc/{victim}/environ", "rb").read(1)),
        "signal": tried(lambda: [os.kill(victim, signal.SIGKILL)]),
        "environment": "MICROBERT_PROBE" in os.environ,
        "work folder": tried(lambda: write("own.txt")),
    }
'''
ATTEMPTS = {
    "network": "connect to this machine", "secret file": "read a file of the grader's", "write outside": "write outside the work folder",
    "memory": "read another process's environment", "signal": "kill a process of the grader's", "environment": "see the grader's environment",
    "daemon": "leave a process behind",
}


@dataclass(frozen=True)
class Finding:
    "What trying one level showed."

    level: str
    works: bool
    """Whether a sandbox started and gave a right answer."""
    came_through: tuple[str, ...] = ()
    """The attempts that were not stopped."""
    why_not: str = ""

    @property
    def is_fit(self) -> bool:
        return self.works and (self.level == "weak" or not self.came_through)


def probe(level: str, unshare: bool = True) -> Finding:
    "Start a sandbox at this level and try to get out of it."
    with isolation.folder() as folder, socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as outside:
        victim = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(120)"], env={"MICROBERT_VICTIM": "1"})
        secret = Path(outside) / "secret"
        secret.write_text("secret", encoding="utf-8")
        secret.chmod(0o644)  # nothing but the sandbox keeps it
        Path(outside).chmod(0o777)
        os.environ["MICROBERT_PROBE"] = "secret"
        ground = Ground(level, Limits(notebook_s=30, exercise_s=30), folder, unshare)
        case = {"secret": str(secret), "outside": str(Path(outside) / "planted"), "port": server.getsockname()[1], "victim": victim.pid}
        try:
            answer = _ask(ground, case)
            through = [name for name in ATTEMPTS if answer.get(name)]
            through += ["signal"] if victim.poll() is not None and "signal" not in through else []
            through += ["daemon"] if isolation.left_over(ground) else []
            works = answer.get("work folder") is True
            return Finding(level, works, tuple(through), "" if works else "its work folder cannot be written")
        except CourseError as error:
            return Finding(level, False, why_not=str(error))
        finally:
            os.environ.pop("MICROBERT_PROBE", None)
            for process in isolation.left_over(ground):
                process.kill()
            victim.send_signal(signal.SIGKILL)
            victim.wait()


def _ask(ground: Ground, case: dict) -> dict:
    "The probe's answer from inside a sandbox."
    course = isolation.build_room(ground, "probe", [])
    try:
        with Sandbox(ground, course, 0, threading.Event(), warm=False) as sandbox:
            ending, content = sandbox.run(dump({"cells": [PROBE], "name": "probe", "use": "microbert_course.practice.uses:call", "cases": [case]}))
        answer = load(wire.split(content[1:])[1])["output"] if ending == "ended" else None
    except NotStarted as error:
        raise CourseError(str(error)) from None
    except (Broken, NotPlain, IndexError) as error:
        raise CourseError(f"the sandbox broke ({error})") from None
    if not isinstance(answer, dict):
        raise CourseError("the sandbox gave no answer")
    return answer


def choose(require_isolation: bool, levels: Sequence[str] = LEVELS) -> str:
    """The best level that works here.

    Raises: CourseError if there is none, or none but `weak` and that is not wanted."""
    failed = []
    for level in levels:
        if level == "weak" and require_isolation:
            raise CourseError(f"no isolation but the weak one works here ({'; '.join(failed)}): install bubblewrap, or leave --require-isolation out")
        finding = probe(level)
        if finding.is_fit:
            return level
        failed.append(f"{level}: {finding.why_not or 'did not stop ' + ', '.join(finding.came_through)}")
    raise CourseError(f"no sandbox can be started here ({'; '.join(failed)}): install bubblewrap, or grade on Linux")


def table(findings: Sequence[Finding]) -> list[str]:
    "What was tried, level by level, for a terminal."
    lines = [f"{'':38}" + "".join(f"{finding.level:>13}" for finding in findings)]
    for name, text in ATTEMPTS.items():
        cells = ["–" if not finding.works else "CAME THROUGH" if name in finding.came_through else "stopped" for finding in findings]
        lines.append(f"{text:38}" + "".join(f"{cell:>13}" for cell in cells))
    lines += [f"{finding.level} does not work here: {finding.why_not}" for finding in findings if not finding.works]
    return lines
