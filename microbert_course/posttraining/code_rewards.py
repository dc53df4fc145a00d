"""A reward for programs: they are run in the grader's sandbox, never here, and what they give back is compared here, never there."""

import json
import re
import threading
from collections.abc import Sequence
from contextlib import ExitStack

from microbert_course.errors import CourseError
from microbert_course.posttraining.rewards import share_equal

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)


def program_in(completion: str) -> str:
    "The last block between ``` and ```, else the whole text."
    blocks = _FENCE.findall(completion)
    return blocks[-1] if blocks else completion


def read_cases(answer: str, where: str) -> tuple[str, list[dict]]:  # the function's name; its cases
    """What a program is to do, from text: {"function": "add", "cases": [{"inputs": {"a": 1, "b": 2}, "output": 3}]}.

    Raises: CourseError if it says something else."""
    try:
        wanted = json.loads(answer)
        name, cases = wanted["function"], wanted["cases"]
        if name.isidentifier() and cases and all(isinstance(case["inputs"], dict) and "output" in case for case in cases):
            return name, cases
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise CourseError(f'{where}: the answer is {answer[:60]!r} and no set of cases: give {{"function": "add", "cases": [{{"inputs": {{"a": 1, "b": 2}}, "output": 3}}]}}')


class CodeReward:
    """1.0 for a program that gives the right output in every case, else 0.0 (as in HumanEval, Chen et al. 2021, §2.2); a context manager.

    The sandbox gets the program and the inputs alone. The right outputs stay in this process, so that no program can read or patch them; one that never
    ends, eats the memory or breaks its sandbox earns 0. None reaches the network or a file of the user's, or outlives its turn.

    Raises: CourseError if no sandbox that holds all this can be started on this machine."""

    def __init__(
        self,
        seconds: float = 3.0,  # for the program's text, and again for its cases
        level: str | None = None,  # of isolation, as `microbert grade doctor` lists them; None = the best that works here, at least landlock
    ):
        if level == "weak":
            raise CourseError("level is 'weak', which stops no program that means harm: leave it out, or choose bubblewrap or landlock")
        self.seconds, self.level, self.stack, self.sandbox = seconds, level, ExitStack(), None

    def __enter__(self) -> "CodeReward":
        from microbert_course.grading import doctor, isolation
        from microbert_course.grading.limits import Limits

        level = self.level or doctor.choose(require_isolation=True)
        limits = Limits(notebook_s=self.seconds, exercise_s=self.seconds, output_mb=1)
        self.ground = isolation.Ground(level, limits, self.stack.enter_context(isolation.folder()))
        self.course = isolation.build_room(self.ground, "rewards", [])
        return self

    def __exit__(self, *_) -> None:
        self._stop()
        self.stack.close()

    def _stop(self) -> None:
        if self.sandbox is not None:
            self.sandbox.__exit__()
            self.sandbox = None

    def __call__(self, prompts: Sequence[str], completions: Sequence[str], answers: Sequence[str]) -> list[float]:  # 1.0 = right, else 0.0
        """Run every program on its cases.

        Raises: CourseError if an answer is no set of cases, or no sandbox can be started."""
        wanted = [read_cases(answer, f"answer {number}") for number, answer in enumerate(answers)]
        return [self._score(program_in(completion), *one) for completion, one in zip(completions, wanted, strict=True)]

    def _score(self, program: str, name: str, cases: list[dict]) -> float:
        from microbert_course.grading.inside import wire
        from microbert_course.grading.sandbox import Broken, NotStarted, Sandbox, refused
        from microbert_course.practice.plain import dump, load

        job = dump({"cells": [program], "name": name, "use": "microbert_course.practice.uses:call", "cases": [case["inputs"] for case in cases]})
        try:
            if self.sandbox is None:
                self.sandbox = Sandbox(self.ground, self.course, 0, threading.Event(), warm=False).__enter__()
            ending, content = self.sandbox.run(job)
        except NotStarted as error:
            raise refused(error, self.ground.level) from None
        except Broken:
            self._stop()  # the next program gets a fresh one
            return 0.0
        if ending != "ended":
            return 0.0
        try:
            outcomes = [load(message) for message in wire.split(content[1:], len(cases) + 2)[1:]]
            values = [outcome["output"] for outcome in outcomes if outcome["error"] is None]
            return float(len(values) == len(cases) and share_equal(values, [case["output"] for case in cases]) == 1.0)
        except Exception:  # made of a stranger's bytes: whatever is wrong with them, they are no answer
            return 0.0
