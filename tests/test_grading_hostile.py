"""Hostile notebooks earn nothing, learn nothing, harm nobody and leave nothing behind, at every level of isolation, as root and as anybody;
honest ones, in all the ways people write them, get full marks.

Both are data, in tests/hostile/attacks.py and honest.py. One grading is a process of its own (tests/hostile/field.py), so that it can be
watched and can run as another user. Here everything runs at the best level that works, and a choice of it at the others, all in one
sandbox, with an honest answer after each; MICROBERT_TORTURE=1 runs all at all levels (at the best one a sandbox each), and the honest
ones ten times."""

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
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from hostile import attacks, honest

from microbert_course.grading import doctor, isolation
from microbert_course.grading.find import text

ROOT = Path(__file__).parents[1]
TORTURE = os.environ.get("MICROBERT_TORTURE") == "1"
NOBODY = 65534
IN_THE_ENVIRONMENT = f"canary-environment-{secrets.token_hex(8)}"
OF_REAL_LESSONS = ("build targets taken from the library", "checks and graders imported")
FIRST = "expected values in this process's memory"  # later, it would find there what honest notebooks of a shared sandbox said
WEAK = "weak"  # leaks and left-overs are not promised at this level, points are

pytestmark = pytest.mark.timeout(7200 if TORTURE else 300)

# what runs at the levels that are not the best: one of each kind
CHOSEN = ("a whole message of the zygote's forged to every descriptor there is", "the zygote killed, stopped, traced and written to",
          "secret file, opened in every way", "other submissions by their path", "other processes' folders, roots and descriptors", "solutions by their path",
          "environment of all", "network of every kind", "daemons that fork twice and close everything", "files in every place",
          "folders of the grader's locked from inside")


@cache
def best() -> str:
    "The level that grading here would use."
    return doctor.choose(require_isolation=False)


@pytest.fixture(scope="module")
def grader():
    "A process that carries out the plans it is told of; for an ordinary user one of a Python that they may run."
    with ExitStack() as stack:
        yield cache(lambda as_root: stack.enter_context(start_grader(python(as_root))))


def start_grader(program: str) -> subprocess.Popen:
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "MICROBERT_HOSTILE_SECRET": IN_THE_ENVIRONMENT, "LANG": "C.UTF-8",
                   "PYTHONPATH": os.pathsep.join([sysconfig.get_path("purelib"), str(ROOT), str(ROOT / "tests")])}
    return subprocess.Popen([program, "-B", str(ROOT / "tests" / "hostile" / "field.py")], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@dataclass
class Field:
    "A folder of submissions with canaries around it, and what grading it brought to light."

    base: Path
    level: str
    grader: subprocess.Popen
    user: int
    token: str = field(default_factory=lambda: secrets.token_hex(6))
    names: dict = field(default_factory=dict)  # file -> name
    connections: list = field(default_factory=list)

    def __post_init__(self):
        for name in ("secret", "submissions", "tmp", "out"):
            (self.base / name).mkdir()
        self.canaries = {kind: f"canary-{kind}-{secrets.token_hex(8)}" for kind in ("secret", "other", "expected")}
        self.canaries["environment"] = IN_THE_ENVIRONMENT
        (self.base / "secret" / "secret.txt").write_text(self.canaries["secret"])
        self.plain = honest.cells("plain", self.canaries["expected"])
        self.add("someone else", [*self.plain, f"# {self.canaries['other']}"], name="999-01_exam.ipynb")

    def add(self, title: str, own: list[str], lesson: str = "01_exam", name: str | None = None, **notebook) -> str:
        name = name or f"{len(self.names):03d}-{re.sub('[^a-z0-9]+', '-', title.lower())[:40]}-{lesson}.ipynb"
        listed = [{"cell_type": "code", "id": f"c{number}", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
                  for number, source in enumerate([f"# {title}", *own])]
        (self.base / "submissions" / name).write_text(json.dumps({"cells": listed, "metadata": {}, "nbformat": 4, "nbformat_minor": 5} | notebook))
        self.names[text(name)] = title
        return name

    def add_attack(self, title: str, text: str, lesson: str = "01_exam") -> str:
        fill = {"SECRET": self.base / "secret" / "secret.txt", "OTHER": self.base / "submissions" / "999-01_exam.ipynb", "ROOT": ROOT,
                "OUT": self.base / "out", "PORT": getattr(self, "port", 9), "TOKEN": self.token, "TMP": self.base / "tmp"}
        for word, value in fill.items():
            text = text.replace(f"@{word}@", str(value))
        return self.add(title, [attacks.PRELUDE, *text.split("\n# %%\n")], lesson)

    def grade(self, seed: int = 1, one_sandbox: bool = True, unshare: bool = True, preload: tuple = (), faults: tuple = (), **limits) -> dict:
        "Grade all of it in another process; what that found."
        before = self.bytes_of_submissions()
        plan = {"base": str(self.base), "submissions": str(self.base / "submissions"), "out": str(self.base / "out"), "tmp": str(self.base / "tmp"),
                "level": self.level, "limits": {"notebook_s": 40, "exercise_s": 20, "memory_mb": 1536} | limits, "seed": seed, "jobs": 1,
                "one_sandbox": one_sandbox, "unshare": unshare, "warm": len(self.names) > 3, "preload": preload, "word": self.canaries["expected"], "honest": self.plain,
                "user": self.user, "faults": faults, "secret": str(self.base / "secret" / "secret.txt"), "found": str(self.base / "found.json")}
        (self.base / "plan.json").write_text(json.dumps(plan))
        for path in [self.base, *self.base.rglob("*")]:
            os.chown(path, self.user, self.user, follow_symlinks=False)
        self.grader.stdin.write(f"{self.base / 'plan.json'}\n")
        self.grader.stdin.flush()
        assert self.grader.stdout.readline() == "ended\n", "the grader did not survive"
        assert (self.base / "found.json").exists(), (self.base / "errors.txt").read_text()[-3000:]
        assert self.bytes_of_submissions() == before, "a submission was changed"
        return json.loads((self.base / "found.json").read_text())

    def bytes_of_submissions(self) -> dict:
        return {path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), stat.S_IMODE(path.lstat().st_mode), path.stat().st_mtime_ns)
                for path in sorted((self.base / "submissions").iterdir())}

    def files_left(self) -> list[str]:
        "Whatever an attack wrote anywhere, and whatever the grader itself forgot."
        places = ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/run/lock", "/", "/home", "/root", "/etc", "/etc/cron.d", "/var/spool/cron", "/usr/lib", self.base,
                  *(self.base / name for name in ("secret", "submissions", "out")), ROOT, ROOT / "work", ROOT / "tests", sysconfig.get_path("purelib"),
                  Path(sysconfig.get_path("purelib")) / "torch", sysconfig.get_path("stdlib")]
        return [*(os.path.join(place, name) for place in places if os.path.isdir(place) for name in os.listdir(place) if self.token in name),
                *map(str, (self.base / "tmp").iterdir()),
                *(str(path) for path in self.base.iterdir() if path.name not in {"secret", "submissions", "tmp", "out", "plan.json", "found.json", "errors.txt", "socket"})]

    def leaks(self, found: dict) -> list[str]:
        "Where a canary, a hidden input or a connection shows up."
        texts = {str(path.relative_to(self.base)): path.read_bytes() for path in (self.base / "out").rglob("*") if path.is_file()}
        texts["grades"] = json.dumps(found["grades"]).encode()
        secret = [form for canary in self.canaries.values() for form in (
            canary.encode(), canary[::-1].encode(), base64.b64encode(canary.encode())[:-4], canary.encode().hex().encode(), canary.rpartition("-")[2].encode())]
        return [f"{place}: {mark!r}" for place, text in texts.items() for mark in [*secret, b"hidden-input-", b"BEGIN SOLUTION"] if mark in text] + [
            f"network: {line}" for line in self.connections]


@pytest.fixture
def make_field(grader):
    "Fields in folders that every user may pass through, with somebody listening on the network."
    made = []

    def make(level: str, as_root: bool = os.geteuid() == 0) -> Field:
        needs(level, as_root)
        base = Path(tempfile.mkdtemp(prefix="hostile-"))
        base.chmod(0o755)
        one = Field(base, level, grader(as_root or os.geteuid() != 0), NOBODY if os.geteuid() == 0 and not as_root else os.geteuid())
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
    if not as_root and os.geteuid() == 0 and not (python(False) and is_open(str(ROOT / "tests" / "x"))):
        pytest.skip("no ordinary user can be played here: a Python and a checkout that every user may read are missing")
    if level == "bubblewrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    if sys.platform != "linux" and level != WEAK:
        pytest.skip("this level is Linux's")


def add_attacks(one: Field, everything: bool) -> None:
    every = attacks.CHEATS | attacks.READS | attacks.REMAINS
    for name in sorted(every, key=FIRST.__ne__):
        if name != OF_REAL_LESSONS[0] and (everything or name in CHOSEN):
            one.add_attack(name, every[name])
    for name in OF_REAL_LESSONS if everything else ():
        one.add_attack(name, every[name], "02_course")


def harm(one: Field, found: dict) -> list[str]:
    "A line for each point that an attack got, whatever it learned or left, and each honest notebook that it spoiled."
    lines = []
    for name, grades in found["grades"].items():
        title = one.names[name]
        if title == "someone else":  # honest, and graded last
            lines += [f"{title} was harmed: {grades}, {found['broken']}"] * ([grade[1] for grade in grades] != ["passed"] * 4)
        elif one.level != WEAK or title not in attacks.READS:  # at the weak level, what reads may answer: that leak is known
            lines += [f"false credit, or a leak that answered honestly: {title}, {grade}" for grade in grades if grade[2]]
    lines += [f"an honest answer in the same sandbox was not right: {name}" for name in found["harmed"]]
    lines += [f"a process is left: {process}" for process in found["left"]] + [f"a file is left: {path}" for path in one.files_left()]
    if one.level != WEAK:
        lines += [f"told: {leak}" for leak in [*one.leaks(found), *found["told"]]]
    return lines


def test_no_attack_earns_a_point_learns_a_secret_or_leaves_anything(make_field):
    "And none of those that only cheat ends the sandbox or takes up a limit of time."
    one = make_field(best())
    add_attacks(one, everything=True)
    found = one.grade(one_sandbox=not TORTURE)
    assert harm(one, found) == []
    assert not found["broken"]
    assert not [(one.names[name], grade) for name, grades in found["grades"].items() for grade in grades if grade[1] == "timeout"]


OTHERS = [("landlock", True, False), ("weak", True, True), ("bubblewrap", False, True), ("landlock", False, True)]
if TORTURE:
    OTHERS += [("bubblewrap", True, True), ("landlock", True, True), ("landlock", False, False)]


@pytest.mark.parametrize(("level", "as_root", "unshare"), OTHERS)
def test_no_attack_succeeds_at_another_level(make_field, level, as_root, unshare):
    if (level, as_root) == (best(), os.geteuid() == 0) and unshare:
        pytest.skip("this is the best level: the test above is its own")
    one = make_field(level, as_root)
    add_attacks(one, everything=TORTURE)
    assert harm(one, one.grade(unshare=unshare)) == []


@pytest.mark.parametrize("level", ["best", "landlock", "weak"] if TORTURE else ["best"])
def test_honest_notebooks_get_full_marks(make_field, level):
    "Under MICROBERT_TORTURE=1 ten times at the best level, with fresh inputs each time."
    from microbert_course.practice.exercises import exercises

    solutions = {exercise.id: exercise.solution for exercise in exercises()}
    for _ in range(10 if TORTURE and level == "best" else 1):
        one = make_field(best() if level == "best" else level)
        for name in honest.VARIANTS:
            one.add(name, honest.cells(name, one.canaries["expected"]))
        for name in honest.COURSE:
            one.add(name, honest.course_cells(name, solutions), "02_course")
        found = one.grade(seed=secrets.randbits(60), preload=("matplotlib.pyplot",))
        lost = {one.names[name]: grades for name, grades in found["grades"].items()
                if {grade[1] for grade in grades} != {"passed"} or sum(grade[2] for grade in grades) != (20 if "02_course" in name else 25)}
        assert not lost
        assert not found["harmed"] and not found["broken"] and not found["left"] and not one.files_left()


# what runs without MICROBERT_TORTURE: time in C, time asleep, memory, processes, disk, output
QUICK = ("a number too large, inside C", "asleep with all signals blocked", "memory bit by bit", "forks of forks", "a full disk",
         "lists that fill the grader's memory")


@pytest.mark.parametrize(("level", "as_root"), [("best", os.geteuid() == 0)] + [
    ("landlock", True), ("weak", True), ("bubblewrap", False), ("landlock", False)] * TORTURE)
def test_what_uses_up_a_limit_ends_within_two_seconds_of_it(make_field, level, as_root):
    "With its status, nothing left, the grader itself small, and the next honest notebook unharmed."
    one = make_field(best() if level == "best" else level, as_root)
    names = {one.add_attack(name, text): name for name, (text, _) in attacks.FLOODS.items() if TORTURE or name in QUICK}
    notebook_s, exercise_s, memory_mb = (8, 3, 1536) if TORTURE else (4, 2, 1024)
    found = one.grade(notebook_s=notebook_s, exercise_s=exercise_s, memory_mb=memory_mb)
    assert harm(one, found) == []
    for file, name in names.items():
        first, *_ = found["grades"][file]
        assert first[1] in attacks.FLOODS[name][1] or one.level == WEAK, (name, found["grades"][file])
        assert max(found["seconds"][name]) < (notebook_s if "cell" in name else exercise_s) + 2, (name, found["seconds"][name])
    assert found["grader_mb"] < 1200


def test_forged_metadata_and_names_earn_nothing(make_field):
    "Points, outputs and grades that a notebook claims for itself; names that are formulas, pages or other people's."
    one = make_field(best())
    passed = {"output_type": "stream", "name": "stdout", "text": "passed 25/25 canary-output"}
    grade = {"nbgrader": {"grade": True, "grade_id": "exam", "points": 25, "solution": True, "locked": True}, "microbert": {"score": 25, "status": "passed"}}
    claims = one.add("claims", [attacks.PRELUDE], metadata={"microbert": {"lesson": "01_exam", "score": 25, "passed": True}, "nbgrader": {"score": 25},
                                                           "kernelspec": {"name": "python3", "argv": ["sh", "-c", "touch owned"]}})
    outputs = one.add("outputs", [attacks.PRELUDE], cells=[
        {"cell_type": "code", "source": attacks.PRELUDE, "metadata": grade, "outputs": [passed], "execution_count": 1},
        {"cell_type": "markdown", "source": "\n".join(honest.ANSWERS.values()), "metadata": grade},
        {"cell_type": "raw", "source": "\n".join(honest.ANSWERS.values()), "metadata": {}}])
    other = one.add("another's lesson", [attacks.PRELUDE], metadata={"microbert": {"lesson": "02_course"}})
    names = ["=cmd('calc')!A0-01_exam.ipynb", "<script>alert(1)</script>01_exam.ipynb".replace("/", "∕"), "-01_exam.ipynb", "results.json-01_exam.ipynb", "01_exam\n,25,25.ipynb",
             "01_exam-02_course.ipynb", "..%2f..%2fout-01_exam.ipynb"]
    for name in names:
        one.add(name, [attacks.PRELUDE], name=name)
    link = one.base / "submissions" / "link-01_exam.ipynb"
    link.symlink_to("999-01_exam.ipynb")
    one.names[link.name] = "link"
    found = one.grade()
    assert harm(one, found) == []
    assert found["reasons"]["link-01_exam.ipynb"] == "is a symbolic link, which is not followed"
    assert "01_exam" in found["reasons"]["01_exam-02_course.ipynb"] and {claims, outputs, other} <= set(found["grades"])
    page, table = (one.base / "out" / "report.html").read_text(), (one.base / "out" / "results.csv").read_text()
    assert "<script>alert" not in page and "\n=cmd" not in table and "\n-01" not in table and "canary-output" not in page + table


FAULTS = {  # planted in the grader: the suite must see each of them
    "checks are in the room": "checks and graders imported",
    "targets are not blanked": "build targets taken from the library",
    "an outcome is believed": "outcome's own code replaced",
    "the secret is in the sandbox": "secret file, opened in every way",
    "nobody is killed": "a daemon that holds the answer's pipe open",
}


STAYS = "nobody is killed"
TOGETHER = [[fault] for fault in FAULTS] if TORTURE else [[fault for fault in FAULTS if fault != STAYS], [STAYS]]


@pytest.mark.parametrize("faults", TOGETHER, ids=", ".join)
def test_the_suite_sees_a_planted_fault(make_field, faults):
    "Planted together, each is seen by its own attack."
    if best() == WEAK:
        pytest.skip("there is no fence here to break")
    one = make_field("landlock" if STAYS in faults else best())
    for fault in faults:
        name = FAULTS[fault]
        one.add_attack(name, (attacks.CHEATS | attacks.READS | attacks.REMAINS)[name], "02_course" if "targets" in fault else "01_exam")
    found = one.grade(faults=faults, unshare=STAYS not in faults, exercise_s=3)
    seen = "\n".join(harm(one, found))
    assert all(word in seen for word in (["a process is left"] if STAYS in faults else [FAULTS[fault] for fault in faults]))
