"""Hostile notebooks at every level of isolation, as root and as anybody: no point, no leak, no process, no file; honest ones get full marks.

The attacks are data, in tests/hostile/assaults.py; one grading is a process of its own (tests/hostile/field.py), so that it can be watched
and can run as another user. Here all attacks run at the default level and a choice at the others, many in one sandbox;
MICROBERT_TORTURE=1 runs all at all levels (at the default one a sandbox each), and the honest ones ten times."""

import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hostile import assaults, variants

from microbert_course.grading import isolation

ROOT = Path(__file__).parents[1]
TORTURE = os.environ.get("MICROBERT_TORTURE") == "1"
NOBODY = 65534
OF_REAL_LESSONS = "build targets taken from the library"
WEAK_KNOWN = "weak"  # leaks and left-overs are not promised at this level, points are

# what runs at the levels that are not the default: one of each kind
CHOSEN = ("tensor subclass that answers every torch function with True", "cases replaced by zeros in the frame that holds them",
          "outcome's own code replaced", "records forged before the real ones", "a whole message of the zygote's forged to every descriptor there is",
          "the zygote killed, stopped, traced and written to", "fake torch and fake course in the way", "atexit, finalizers and result files",
          "secret file, opened in every way", "other submissions by their path", "other processes' folders, roots and descriptors",
          "solutions by their path", "environment of all", "network of every kind",
          "daemons that fork twice and close everything", "processes that hop from one to the next",
          "files in every place", "folders of the grader's locked from inside", "shared memory, queues and semaphores of the kernel")


@dataclass
class Field:
    "A folder of submissions with canaries around it, and what grading it brought to light."

    base: Path
    level: str
    as_root: bool = True
    token: str = field(default_factory=lambda: secrets.token_hex(6))
    names: dict = field(default_factory=dict)  # file -> name
    connections: list = field(default_factory=list)

    def __post_init__(self):
        for name in ("secret", "submissions", "tmp", "out"):
            (self.base / name).mkdir()
        self.canaries = {kind: f"canary-{kind}-{secrets.token_hex(8)}" for kind in ("secret", "other", "environment", "expected")}
        (self.base / "secret" / "secret.txt").write_text(self.canaries["secret"])
        self.add("someone else", variants.cells("plain", self.canaries["expected"]) + [f"# {self.canaries['other']}"], name="000-01_exam.ipynb")

    def add(self, title: str, own: list[str], lesson: str = "01_exam", name: str | None = None, **notebook) -> str:
        name = name or f"{len(self.names):03d}-{re.sub('[^a-z0-9]+', '-', title.lower())[:40]}-{lesson}.ipynb"
        listed = [{"cell_type": "code", "id": f"c{number}", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
                  for number, source in enumerate([f"# {title}", *own])]
        (self.base / "submissions" / name).write_text(json.dumps({"cells": listed, "metadata": {}, "nbformat": 4, "nbformat_minor": 5} | notebook))
        self.names[name] = title
        return name

    def add_attack(self, title: str, text: str, lesson: str = "01_exam") -> str:
        fill = {"SECRET": self.base / "secret" / "secret.txt", "OTHER": self.base / "submissions" / "000-01_exam.ipynb", "ROOT": ROOT,
                "OUT": self.base / "out", "PORT": getattr(self, "port", 9), "TOKEN": self.token, "TMP": self.base / "tmp"}
        for word, value in fill.items():
            text = text.replace(f"@{word}@", str(value))
        return self.add(title, [assaults.PRELUDE, *text.split("\n# %%\n")], lesson)

    def grade(self, seed: int = 1, one_sandbox: bool = True, unshare: bool = True, fault: str = "", **limits) -> dict:
        "Grade all of it in another process; what that found, with `before` and `after` of every file of a submission."
        before = self.bytes_of_submissions()
        plan = {"submissions": str(self.base / "submissions"), "out": str(self.base / "out"), "tmp": str(self.base / "tmp"), "level": self.level,
                "limits": {"notebook_s": 40, "exercise_s": 20, "memory_mb": 1536} | limits, "seed": seed, "jobs": 1, "one_sandbox": one_sandbox, "unshare": unshare,
                "word": self.canaries["expected"], "found": str(self.base / "found.json"), "fault": fault, "secret": str(self.base / "secret" / "secret.txt")}
        (self.base / "plan.json").write_text(json.dumps(plan))
        command = [python(self.as_root), "-B", str(ROOT / "tests" / "hostile" / "field.py"), str(self.base / "plan.json")]
        if not self.as_root:
            for path in [self.base, *self.base.rglob("*")]:
                os.chown(path, NOBODY, NOBODY)
            if os.geteuid() == 0:
                command = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *command]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.base), "OMP_NUM_THREADS": "1", "MICROBERT_HOSTILE_SECRET": self.canaries["environment"],
                       "PYTHONPATH": os.pathsep.join([sysconfig.get_path("purelib"), str(ROOT), str(ROOT / "tests")]), "LANG": "C.UTF-8"}
        done = subprocess.run(command, env=environment, cwd=self.base, capture_output=True, text=True, timeout=7000)
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads((self.base / "found.json").read_text())
        if os.environ.get("MICROBERT_TORTURE_LOG"):
            with open(os.environ["MICROBERT_TORTURE_LOG"], "a") as log:
                slow = sorted(((round(sum(times), 1), name) for name, times in found["seconds"].items()), reverse=True)[:12]
                print(self.level, self.as_root, {key: found[key] for key in ("took_s", "cpu_s", "grader_mb", "left")}, len(found["grades"]), slow, file=log)
        assert self.bytes_of_submissions() == before, "a submission was changed"
        return found

    def bytes_of_submissions(self) -> dict:
        return {path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), stat.S_IMODE(path.lstat().st_mode), path.stat().st_mtime_ns)
                for path in sorted((self.base / "submissions").iterdir())}

    def credited(self, found: dict) -> list:
        return [(self.names[name], grade) for name, grades in found["grades"].items() for grade in grades if grade[2]]

    def files_left(self) -> list[str]:
        "Whatever an attack wrote anywhere, and whatever the grader itself forgot."
        places = ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/run/lock", "/", "/home", "/root", "/etc", "/etc/cron.d", "/var/spool/cron", "/usr/lib", self.base,
                  *(self.base / name for name in ("secret", "submissions", "out")), ROOT, ROOT / "work", ROOT / "tests", sysconfig.get_path("purelib"),
                  Path(sysconfig.get_path("purelib")) / "torch", sysconfig.get_path("stdlib")]
        return [*(os.path.join(place, name) for place in places if os.path.isdir(place) for name in os.listdir(place) if self.token in name),
                *map(str, (self.base / "tmp").iterdir()),
                *(str(path) for path in self.base.iterdir() if path.name not in {"secret", "submissions", "tmp", "out", "plan.json", "found.json", "socket"})]

    def leaks(self, found: dict) -> list[str]:
        "Where a canary, a hidden input or a connection shows up."
        texts = {str(path.relative_to(self.base)): path.read_bytes() for path in (self.base / "out").rglob("*") if path.is_file()}
        texts["grades"] = json.dumps(found["grades"]).encode()
        secret = [form for canary in self.canaries.values() for form in (
            canary.encode(), canary[::-1].encode(), base64.b64encode(canary.encode())[:-4], canary.encode().hex().encode(), canary.rpartition("-")[2].encode())]
        return [f"{place}: {mark!r}" for place, text in texts.items() for mark in [*secret, b"hidden-input-", b"BEGIN SOLUTION"] if mark in text] + [
            f"network: {line}" for line in self.connections]


@pytest.fixture
def make_field():
    "Fields in folders that every user may pass through, with somebody listening on the network."
    made = []

    def make(level: str, as_root: bool = True) -> Field:
        base = Path(tempfile.mkdtemp(prefix="hostile-"))
        base.chmod(0o755)
        one = Field(base, level, as_root)
        one.servers = listen(one)
        made.append(one)
        return one

    yield make
    for one in made:
        for server in one.servers:
            server.close()
        isolation.remove(one.base)


def listen(one: Field) -> list[socket.socket]:
    "TCP and UDP on this machine, a socket with an abstract name, one with a path: who connects is written down."
    tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.port = tcp.getsockname()[1]
    udp.bind(("127.0.0.1", one.port))
    servers = [tcp, udp]
    for name in (f"\0hostile-{one.token}", str(one.base / "socket")):
        server = socket.socket(socket.AF_UNIX)
        server.bind(name)
        server.listen()
        servers.append(server)

    def wait(server):
        while True:
            try:
                said = server.recvfrom(100)[0] if server is udp else server.accept()[0].getsockname()
            except OSError:
                return
            one.connections.append(repr(said))

    for server in servers:
        threading.Thread(target=wait, args=(server,), daemon=True).start()
    return servers


def is_open(path: str) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in Path(path).resolve().parents)


def python(as_root: bool) -> str:
    "This Python, or for an ordinary user one of the same version that they may run."
    version = "{}.{}".format(*sys.version_info)
    candidates = [sys.executable] + [f"{folder}/python{version}" for folder in ("/usr/bin", "/usr/local/bin", "/opt/python/bin") if not as_root]
    return next((path for path in candidates if as_root or (os.path.exists(path) and is_open(path))), "")


def needs(level: str, as_root: bool) -> None:
    if as_root and os.geteuid() != 0:
        pytest.skip("this is not root: what root's grading withstands is tried where the tests run as root")
    if not as_root and os.geteuid() == 0 and not (shutil.which("setpriv") and python(False) and is_open(str(ROOT / "tests" / "x"))):
        pytest.skip("no ordinary user can be played here: setpriv, or a Python and a checkout that every user may read, is missing")
    if level == "bubblewrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    if sys.platform != "linux":
        pytest.skip("this level is Linux's")


LEVELS = [("bubblewrap", os.geteuid() == 0, True), ("landlock", True, True), ("landlock", True, False), ("weak", True, True),
          ("bubblewrap", False, True), ("landlock", False, True), ("landlock", False, False)]
DEFAULT = LEVELS[0]


def attacks_at(level: str, everything: bool) -> dict[str, str]:
    every = assaults.CHEATS | assaults.READS | assaults.REMAINS
    return {name: text for name, text in every.items() if (everything or name in CHOSEN) and name != OF_REAL_LESSONS}


@pytest.mark.parametrize(("level", "as_root", "unshare"), LEVELS if TORTURE else [one for one in LEVELS if one != ("landlock", False, False)])
def test_no_attack_earns_a_point_learns_a_secret_or_leaves_anything(make_field, level, as_root, unshare):
    "And the honest notebooks between them get full marks."
    needs(level, as_root)
    one = make_field(level, as_root)
    everything = TORTURE or (level, as_root, unshare) == DEFAULT
    for number, (name, text) in enumerate(attacks_at(level, everything).items()):
        one.add_attack(name, text)
        if number % 20 == 10:
            one.add(f"honest {number}", variants.cells("plain", one.canaries["expected"]))
    for lesson in ("03_attention", "08_adamw") if everything else ():
        one.add_attack(OF_REAL_LESSONS, assaults.READS[OF_REAL_LESSONS], lesson)
        one.add_attack("checks and graders imported", assaults.READS["checks and graders imported"], lesson)
    one.add("honest last", variants.cells("plain", one.canaries["expected"]))
    found = one.grade(unshare=unshare, one_sandbox=not (TORTURE and (level, as_root, unshare) == DEFAULT))
    honest = [name for name, title in one.names.items() if title.startswith(("honest", "someone else"))]
    assert not [(name, grade) for name in honest for grade in found["grades"][name] if grade[1] != "passed"], found["left"]
    credit = [(title, grade) for title, grade in one.credited(found) if not title.startswith(("honest", "someone else"))]
    if level == WEAK_KNOWN:  # there, a point for an attack that reads is a leak, which this level does not promise to stop
        credit = [(title, grade) for title, grade in credit if title not in assaults.READS]
    assert not credit, "false credit, or a leak that answered honestly"
    assert not found["left"], "processes left"
    assert not one.files_left()
    if level != WEAK_KNOWN:
        assert not one.leaks(found)


@pytest.mark.parametrize("level", ["bubblewrap", "landlock", "weak"] if TORTURE else ["bubblewrap"])
def test_honest_variants_get_full_marks(make_field, level):
    "Ten times of ten at the default level under MICROBERT_TORTURE=1, with fresh inputs each time."
    from microbert_course.practice.exercises import exercises

    needs(level, os.geteuid() == 0)
    solutions = {exercise.id: exercise.solution for exercise in exercises() if exercise.id in ("attention.scaled_dot_product", "optim.cosine_schedule")}
    for _ in range(10 if TORTURE and level == "bubblewrap" else 1):
        one = make_field(level, os.geteuid() == 0)
        for name in variants.VARIANTS:
            one.add(name, variants.cells(name, one.canaries["expected"]))
        for lesson, id, ways in (("03_attention", "attention.scaled_dot_product", variants.ATTENTION), ("08_adamw", "optim.cosine_schedule", variants.SCHEDULE)):
            for name, text in ways.items():
                module = "microbert_course.models.attention" if lesson.startswith("03") else "microbert_course.training.optim"
                setup = f"import math, torch\nimport torch.nn.functional as F\nfrom torch import Tensor\nfrom {module} import *\nfrom microbert_course.models.attention import check_share, visible_keys"
                one.add(f"{lesson} {name}", [setup, text.replace("@SOLUTION@", solutions[id])], lesson)
        found = one.grade(seed=secrets.randbits(60), one_sandbox=True)
        lost = {one.names[name]: [grade for grade in grades if grade[1] != "passed"] for name, grades in found["grades"].items() if any(grade[1] != "passed" for grade in grades)}
        assert not lost
        assert not found["left"] and not one.files_left()


QUICK = ("a number too large, inside C", "asleep with all signals blocked", "forks of forks", "lists that fill the grader's memory", "millions of empty messages")


@pytest.mark.parametrize(("level", "as_root"), [("bubblewrap", True), ("landlock", True), ("weak", True), ("bubblewrap", False), ("landlock", False)] if TORTURE else [("bubblewrap", os.geteuid() == 0)])
def test_what_uses_up_a_limit_ends_within_two_seconds_of_it(make_field, level, as_root):
    "With its status, nothing left, the grader itself small, and the next honest notebook unharmed."
    needs(level, as_root)
    one = make_field(level, as_root)
    names = {one.add_attack(name, text): name for name, (text, _) in assaults.FLOODS.items() if TORTURE or name in QUICK}
    one.add("honest last", variants.cells("plain", one.canaries["expected"]))
    found = one.grade(notebook_s=8 if TORTURE else 4, exercise_s=3 if TORTURE else 2)
    for file, name in names.items():
        statuses = [grade[1] for grade in found["grades"][file]]
        assert not any(grade[2] for grade in found["grades"][file]), name
        if level != "weak":
            assert statuses[0] in assaults.FLOODS[name][1], (name, found["grades"][file])
        longest = (8 if TORTURE else 4) if "cell" in name else 3 if TORTURE else 2
        assert max(found["seconds"][name]) < longest + 2, (name, found["seconds"][name])
    assert [grade[1] for grade in found["grades"][list(one.names)[-1]]] == ["passed"] * 4
    assert not found["left"] and not one.files_left() and not one.leaks(found)
    assert found["grader_mb"] < 1200


def test_forged_metadata_and_names_earn_nothing(make_field):
    "Points, outputs and grades that a notebook claims for itself; names that are formulas, pages or other people's."
    needs("bubblewrap", os.geteuid() == 0)
    one = make_field("bubblewrap", os.geteuid() == 0)
    passed = {"output_type": "stream", "name": "stdout", "text": "passed 25/25 canary-output"}
    grade = {"nbgrader": {"grade": True, "grade_id": "exam", "points": 25, "solution": True, "locked": True}, "microbert": {"score": 25, "status": "passed"}}
    claims = one.add("claims", [assaults.PRELUDE], metadata={"microbert": {"lesson": "01_exam", "score": 25, "passed": True}, "nbgrader": {"score": 25},
                                                            "kernelspec": {"name": "python3", "argv": ["sh", "-c", "touch owned"]}})
    outputs = one.add("outputs", [assaults.PRELUDE], cells=[
        {"cell_type": "code", "source": assaults.PRELUDE, "metadata": grade, "outputs": [passed], "execution_count": 1},
        {"cell_type": "markdown", "source": "\n".join(variants.ANSWERS.values()), "metadata": grade},
        {"cell_type": "raw", "source": "\n".join(variants.ANSWERS.values()), "metadata": {}}])
    other = one.add("another's lesson", [assaults.PRELUDE], metadata={"microbert": {"lesson": "08_adamw"}})
    names = ["=cmd('calc')!A0-01_exam.ipynb", "<script>alert(1)</script>01_exam.ipynb".replace("/", "∕"), "-01_exam.ipynb", "results.json-01_exam.ipynb", "01_exam\n,25,25.ipynb",
             "01_exam-03_attention.ipynb", "..%2f..%2fout-01_exam.ipynb"]
    for name in names:
        one.add(name, [assaults.PRELUDE], name=name)
    link = one.base / "submissions" / "link-01_exam.ipynb"
    link.symlink_to("000-01_exam.ipynb")
    found = one.grade(one_sandbox=True)
    assert [title for title, _ in one.credited(found)] == ["someone else"] * 4
    assert found["reasons"]["link-01_exam.ipynb"] == "is a symbolic link, which is not followed"
    assert "01_exam" in found["reasons"]["01_exam-03_attention.ipynb"] and {claims, outputs, other} <= set(found["grades"])
    page, table = (one.base / "out" / "report.html").read_text(), (one.base / "out" / "results.csv").read_text()
    assert "<script>alert" not in page and "\n=cmd" not in table and "\n-01" not in table and "canary-output" not in page + table
    assert not found["left"] and not one.files_left()


FAULTS = {  # planted in the grader: the suite must see each of them
    "checks are in the room": ("checks and graders imported", "credit"),
    "targets are not blanked": ("build targets taken from the library", "credit"),
    "an outcome is believed": ("outcome's own code replaced", "credit"),
    "the secret is in the sandbox": ("secret file, opened in every way", "credit"),
    "nobody is killed": ("a daemon that holds the answer's pipe open", "left"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_the_suite_sees_a_planted_fault(make_field, fault):
    name, sign = FAULTS[fault]
    level = "landlock" if fault == "nobody is killed" else "bubblewrap"
    needs(level, os.geteuid() == 0)
    one = make_field(level, os.geteuid() == 0)
    text = (assaults.CHEATS | assaults.READS | assaults.REMAINS)[name]
    one.add_attack(name, text, "03_attention" if "targets" in fault else "01_exam")
    found = one.grade(fault=fault, unshare=sign != "left", exercise_s=3)
    signs = {"credit": [title for title, _ in one.credited(found) if title == name], "left": found["left"]}
    assert signs[sign]
