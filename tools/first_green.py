"""How long until the first exercise is green, from nothing: clone, install, start, answer, check. python tools/first_green.py [--limit-s 300]

It asks git and pip for all they need, as a newcomer's first command does, in a temporary folder that it deletes."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LESSON, NUMBER, STUB = "01_text_as_data", "1.1", "def clean_text"


def fill_in(course: Path, copy: Path) -> None:
    "Type the answer: the solution's cell in the place of the blank one."
    answers = [cell["source"] for cell in json.loads((course / "solutions" / f"{LESSON}.ipynb").read_text(encoding="utf-8"))["cells"]]
    notebook = json.loads(copy.read_text(encoding="utf-8"))
    blank = next(cell for cell in notebook["cells"] if "".join(cell["source"]).startswith(STUB))
    blank["source"] = next(source for source in answers if "".join(source).startswith(STUB))
    copy.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--limit-s", type=float, default=300, help="status 1 if it takes longer")
    limit_s = parser.parse_args(arguments).limit_s
    with tempfile.TemporaryDirectory(prefix="first-green-", ignore_cleanup_errors=True) as folder:
        course = Path(folder) / "course"
        scripts = course / ".venv" / ("Scripts" if os.name == "nt" else "bin")
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MICROBERT_WORK", "VIRTUAL_ENV")}

        def run(*command) -> None:
            subprocess.run([str(word) for word in command], cwd=course if course.exists() else folder, env=environment, check=True)

        steps = {
            "clone": lambda: run("git", "clone", "--quiet", ROOT, course),
            "install": lambda: run(sys.executable, course / "tools" / "environment.py"),
            "start": lambda: run(scripts / "microbert", "exercise", "start", LESSON[:2]),
            "answer": lambda: fill_in(course, course / "work" / f"{LESSON}.ipynb"),
            "check": lambda: run(scripts / "microbert", "exercise", "check", NUMBER),
        }
        began, lines = time.monotonic(), []
        for name, step in steps.items():
            before = time.monotonic()
            try:
                step()
            except subprocess.CalledProcessError as error:
                print(f"{name} failed with status {error.returncode}: no green exercise after {time.monotonic() - began:.0f} s", file=sys.stderr)
                return 1
            lines.append(f"{time.monotonic() - before:6.1f} s  {name}")
        total = time.monotonic() - began
    print(*lines, f"{total:6.1f} s  to the first green exercise; the limit is {limit_s:.0f} s", sep="\n")
    return 0 if total <= limit_s else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
