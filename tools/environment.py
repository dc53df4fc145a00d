"""Makes .venv and installs the course into it, pinned: python3 tools/environment.py [--venv .venv]

This runs before anything is installed, so it needs the standard library alone, and it parses on every Python since 2.7,
because it is the one to say that a Python is too old. When all is done it leaves a stamp in the environment: the next run
compares the stamp and returns at once, without a look at the network.
"""
from __future__ import print_function

import hashlib
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST, NEWEST = (3, 11), (3, 14)  # the newest has been checked to have a wheel for every pin, Windows and macOS included
INPUTS = ("settings.ini", "setup.py", "constraints.txt")
STAMP = "microbert-ready"
WEIGHTS = (("minilm", "lessons 05 and 17", 92), ("smollm2", "lessons 18 and 21", 98))  # name, who opens them, size in MB
NEED_MB = 3250        # measured: 2,200 MB when all is there, besides up to 450 MB each in pip's cache and its temporary folder
NEED_TMP_MB = 500     # that folder, where it is on another disk
NEED_CUDA_MB = 11000  # an estimate: torch's CUDA build brings about 3 GB of downloads that unpack to about 7 GB
OFFLINE_SIGNS = ("NewConnectionError", "NameResolutionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError",
                 "Max retries exceeded", "after connection broken", "Could not fetch URL", "Connection refused", "timed out")


class Problem(Exception):
    """What a person can mend: one sentence with the remedy, printed alone."""


def check_python(version, executable):
    if tuple(version[:2]) < OLDEST:
        raise Problem(
            "Python {0} ({1}) is too old, the course needs 3.11 or newer: install one, on Debian and Ubuntu with "
            "`apt install python3.11 python3.11-venv`, and name it: `make course PYTHON=python3.11`.".format(
                ".".join(str(part) for part in version[:3]), executable))


def check_venv_module():
    try:
        import ensurepip  # Debian and Ubuntu keep this one in a package of its own
        import venv
        return ensurepip, venv
    except ImportError:
        version = "{0}.{1}".format(*sys.version_info[:2])
        raise Problem(
            "Python {0} ({1}) cannot make virtual environments: on Debian and Ubuntu run `apt install python{0}-venv`, "
            "then the same command again.".format(version, sys.executable))


def python_in(venv):
    return os.path.join(venv, "Scripts", "python.exe") if os.name == "nt" else os.path.join(venv, "bin", "python")


def fingerprint(root, venv):
    "A hash of what the environment was made from, where it stands, and which Python runs it."
    digest = hashlib.sha256()
    for name in INPUTS:
        with open(os.path.join(root, name), "rb") as file:
            digest.update(file.read() + b"\0")
    for path in (root, venv, os.path.realpath(python_in(venv))):
        digest.update(os.path.realpath(path).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def is_ready(root, venv):
    "True when the last install was whole, from these very files, in this very place, and its Python is still there."
    try:
        with open(os.path.join(venv, STAMP), encoding="utf-8") as file:
            return file.read().strip() == fingerprint(root, venv) and os.path.exists(python_in(venv))
    except (IOError, OSError):
        return False


def why_unusable(venv):
    "Why this environment cannot be installed into, in a few words; None when it can."
    import re
    import subprocess

    code = "import sys, pip; print(sys.version_info[0], sys.version_info[1], sys.prefix)"
    try:
        answer = subprocess.run([python_in(venv), "-I", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return "its Python is gone"
    if answer.returncode != 0:
        return "its Python or its pip does not work"
    major, minor, _ = os.fsdecode(answer.stdout).strip().split(" ", 2)
    if (int(major), int(minor)) < OLDEST:
        return "it was made by Python {0}.{1}".format(major, minor)
    facts = read_pyvenv_cfg(venv)
    made_by = facts.get("version", facts.get("version_info", "{0}.{1}".format(major, minor)))
    if made_by.split(".")[:2] != [major, minor]:
        return "it was made by Python {0} and now finds {1}.{2}".format(made_by, major, minor)
    made_at = re.search(r" -m venv (?:--\S+ )*(.+)$", facts.get("command", ""))
    if made_at and os.path.realpath(made_at.group(1)) != venv:
        return "it was made in {0}, and its scripts still point there".format(made_at.group(1))
    return None


def read_pyvenv_cfg(venv):
    with open(os.path.join(venv, "pyvenv.cfg"), encoding="utf-8") as file:
        return dict([part.strip() for part in line.split("=", 1)] for line in file if "=" in line)


def size_mb(folder):
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                pass
    return total // 2**20


def check_disk(folder, need_mb, what):
    "`folder` need not exist yet: the file system that will hold it is measured."
    import shutil

    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free_mb = shutil.disk_usage(folder).free // 2**20
    if free_mb < need_mb:
        raise Problem("{0} needs about {1:.1f} GB in {2}, where {3:.1f} GB are free: make room, then run the same command again."
                      .format(what, need_mb / 1000.0, folder, free_mb / 1000.0))


def remove(venv):
    "Delete an environment; its pyvenv.cfg goes last, so that a half deleted one is still known for what it is."
    import shutil

    for name in os.listdir(venv):
        path = os.path.join(venv, name)
        if name != "pyvenv.cfg" and os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
    shutil.rmtree(venv)


def make_venv(venv):
    import subprocess

    made = subprocess.run([sys.executable, "-m", "venv", venv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_env())
    if made.returncode != 0:
        print(made.stdout.decode("utf-8", "replace").strip(), file=sys.stderr)
        raise Problem("Python {0}.{1} ({2}) could not make the environment {3} (its words are above): see to that, then run the "
                      "same command again.".format(sys.version_info[0], sys.version_info[1], sys.executable, venv))


def clean_env():
    "Our environment variables, less those that would lead another Python's packages in or pip's packages out of the venv."
    env = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8")
    for name in ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "__PYVENV_LAUNCHER__"):
        env.pop(name, None)
    return env


class Ticker(object):
    "Shows that a long step is alive: one line that rewrites itself on a terminal, else a line every 20 seconds."

    def __init__(self, stream):
        import time

        self.clock, self.stream, self.text = time.time, stream, ""
        self.start = self.last = time.time()
        self.on_terminal = stream.isatty()

    def elapsed(self):
        return self.clock() - self.start

    def show(self, doing):
        import shutil

        text = "  {0:3.0f} s  {1}".format(self.elapsed(), doing)
        if self.on_terminal and text != self.text:
            width = shutil.get_terminal_size().columns - 1
            self.stream.write("\r" + text[:width].ljust(width))
        elif not self.on_terminal and self.clock() - self.last > 20:
            self.last = self.clock()
            self.stream.write(text[:100] + "\n")
        self.text = text
        self.stream.flush()

    def clear(self):
        if self.on_terminal:
            self.show("")
            self.stream.write("\r")


def in_words(line, doing):
    "What pip is at, from a line of its output; `doing`, as before, when the line says nothing new."
    words = line.split()
    if words[:1] == ["Progress"] and len(words) == 4 and words[3].isdigit() and int(words[3]):
        return "{0}, {1:.0%}".format(doing.split(",")[0], float(words[1]) / int(words[3]))
    if words[:1] in (["Collecting"], ["Downloading"]) and len(words) > 1:
        return "{0} {1}".format(words[0].lower(), words[1].split("/")[-1].split("?")[0])
    return doing


def count_installed(venv):
    import glob

    return sum(len(glob.glob(os.path.join(venv, lib, "site-packages", "*.dist-info"))) for lib in ("Lib", os.path.join("lib", "python3*")))


def run_pip(venv, root, arguments, ticker, doing):
    "Run the environment's pip and answer what it printed; a Problem, after pip's own last words, when it fails."
    import subprocess
    import threading

    command = [python_in(venv), "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color"] + arguments
    lines, seen, before, to_unpack = [], 0, count_installed(venv), 0
    process = subprocess.Popen(command, cwd=root, env=clean_env(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    reader = threading.Thread(target=lambda: lines.extend(line.decode("utf-8", "replace").rstrip() for line in process.stdout))
    reader.daemon = True
    reader.start()
    try:
        while reader.is_alive():
            reader.join(0.2)
            for line in lines[seen:]:
                seen += 1
                doing = in_words(line, doing)
                if line.startswith("Installing collected packages:"):  # from here on pip is silent for half of the time
                    to_unpack = len(line.split(","))
            if to_unpack:
                doing = "unpacking, {0} of {1} packages".format(max(0, count_installed(venv) - before), to_unpack)
            ticker.show(doing)
        status = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        ticker.clear()
    # some pip configurations name folders that pip then ignores, once for every package: that is no news here
    lines = [line for line in lines if line and not line.startswith(("Progress ", "WARNING: Location "))]
    if status != 0:
        raise Problem(explain(lines, status, venv))
    return lines


def explain(lines, status, venv):
    "The sentence for a pip that failed, from what it printed; its last lines are shown first."
    shown = [line for line in lines[-12:] if not line.startswith("WARNING: Retrying ")] or lines[-1:]
    print("\n".join(line[:300] for line in shown), file=sys.stderr)
    text = "\n".join(lines[-60:])
    if "No space left on device" in text:
        return ("The disk filled up during the install: make room in {0} and in the folder for temporary files, then run the "
                "same command again.".format(ROOT))
    if any(sign in text for sign in OFFLINE_SIGNS):
        return ("The package index could not be reached: check the network and pip's settings (`pip config list`), then run the "
                "same command again; it goes on where it stopped." + or_as_it_is(venv))
    if "No matching distribution found" in text or "Could not find a version" in text:
        return ("pip found no fitting package for Python {0}.{1} here: the pins in constraints.txt are for Python {2}.{3} to {4}.{5}; "
                "install one of those and name it, as in `rm -r .venv; make course PYTHON=python3.12`."
                .format(*(tuple(sys.version_info[:2]) + OLDEST + NEWEST)))
    return ("pip ended with status {0} (its last lines are above): run the same command again, and if that does not help, delete "
            "the folder .venv first.".format(status))


def or_as_it_is(venv):
    if os.path.exists(os.path.join(venv, STAMP)):
        return " What was installed before may still do: try `{0}`.".format(os.path.join(os.path.dirname(python_in(venv)), "microbert tour"))
    return ""


def check_torch_build(venv, root, ticker):
    "Before gigabytes move: which torch do pip's settings choose, and is there room for it?"
    lines = run_pip(venv, root, ["install", "--dry-run", "--no-deps", "--only-binary=:all:", "-c", "constraints.txt", "torch"],
                    ticker, "asking which torch")
    would = [line for line in lines if line.startswith("Would install")]
    if would and "+cpu" not in would[0] and sys.platform.startswith("linux"):
        check_disk(venv, NEED_CUDA_MB, "torch's CUDA build, which pip's settings choose here (the README tells how to choose the "
                                       "CPU build, a quarter of the size),")


def read_pins(root):
    with open(os.path.join(root, "constraints.txt"), encoding="utf-8") as file:
        return [line.strip() for line in file if "==" in line and not line.startswith("#")]


def install(root, venv, ticker):
    # the newest pip first: it installs four times faster than one from 2023
    tools = [pin for pin in read_pins(root) if pin.split("==")[0] in ("pip", "setuptools", "wheel")]
    run_pip(venv, root, ["install", "--quiet"] + tools, ticker, "renewing pip")
    check_torch_build(venv, root, ticker)
    # without build isolation the pinned setuptools does the build, so a later install works with the network switched off
    run_pip(venv, root, ["install", "--progress-bar", "raw", "--only-binary=:all:", "--no-build-isolation",
                         "-c", "constraints.txt", "-e", ".[dev]"], ticker, "asking the package index")


def quiet_jupyter(venv):
    "JupyterLab's first start asks about news, over the first lesson; the answer is no until a person says yes in the settings."
    folder = os.path.join(venv, "share", "jupyter", "lab", "settings")
    if not os.path.isdir(folder):
        os.makedirs(folder)
    with open(os.path.join(folder, "overrides.json"), "w", encoding="utf-8") as file:
        file.write('{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}\n')


def fetch_weights(venv, root, name, lessons):
    "Pretrained weights that lessons open, so that these run offline; without them all else works, so a failure is told and left."
    import subprocess

    command = [python_in(venv), "-m", "microbert_course.cli.main", "fetch", name]
    try:
        fetch = subprocess.run(command, cwd=root, env=clean_env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        lines = fetch.stderr.decode("utf-8", "replace").strip().split("\n")
        said = "" if fetch.returncode == 0 else lines[-1] or "no reason was given"
    except OSError as error:
        said = str(error)
    if said:
        print("All is installed but the weights for {0}, which wait for them: {1}".format(lessons, said.replace("microbert: ", "", 1)[:500]))
        sys.stdout.flush()


def write_stamp(venv, text):
    partial = os.path.join(venv, STAMP + ".partial")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    os.replace(partial, os.path.join(venv, STAMP))  # os.rename refuses on Windows, where the old one is there


def set_up(root, venv):
    import tempfile

    ticker = Ticker(sys.stdout)
    is_there = os.path.isdir(venv) and bool(os.listdir(venv))
    if os.path.lexists(venv) and not (os.path.isdir(venv) and (not is_there or os.path.exists(os.path.join(venv, "pyvenv.cfg")))):
        raise Problem("{0} is there and is no virtual environment: move it away, then run the same command again.".format(venv))
    check_venv_module()
    check_disk(venv, NEED_MB - size_mb(venv), "The course")
    check_disk(tempfile.gettempdir(), NEED_TMP_MB if not is_there else 0, "pip, for its temporary files,")
    reason = why_unusable(venv) if is_there else None
    if reason:
        print("Making {0} anew (removing it may take a minute): {1}.".format(venv, reason))
        sys.stdout.flush()
        remove(venv)
        is_there = False
    was_whole = os.path.exists(os.path.join(venv, STAMP))
    if was_whole:
        print("Bringing the packages in {0} up to date with the course's files.".format(venv))
    else:
        print("Installing about {0} packages into {1} (first time only, a minute or two, about 2 GB).".format(
            len(read_pins(root)) // 10 * 10, venv))
    sys.stdout.flush()
    if not is_there:
        make_venv(venv)
    if was_whole:
        write_stamp(venv, "unfinished")
    install(root, venv, ticker)
    quiet_jupyter(venv)
    for name, lessons, megabytes in WEIGHTS:
        ticker.show("fetching the weights for {0}, {1} MB".format(lessons, megabytes))
        fetch_weights(venv, root, name, lessons)
    ticker.clear()
    write_stamp(venv, fingerprint(root, venv))
    print("Installed in {0:.0f} s.".format(ticker.elapsed()))


def main(arguments):
    venv = os.path.join(ROOT, ".venv")
    if len(arguments) == 2 and arguments[0] == "--venv":
        venv = arguments[1]
    elif arguments:
        print(__doc__.strip())
        return 0 if arguments in (["-h"], ["--help"]) else 2
    try:
        check_python(sys.version_info, sys.executable)
        root, venv = os.path.realpath(ROOT), os.path.realpath(venv)
        if not is_ready(root, venv):
            set_up(root, venv)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    except (IOError, OSError) as error:
        print("{0} could not be made ({1}): see to that, then run the same command again.".format(venv, error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
