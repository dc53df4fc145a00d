"""A small exam of two tasks for the grader's tests: softmax of one tensor times another, and a mean that is not told its length."""

import numpy as np
import torch
from torch import Tensor

from microbert_course.grading.tasks import Sheet, Task
from microbert_course.practice.checking import Check, Wrong

LESSON = "01_exam"


def mix_cases(rng: np.random.Generator) -> list[dict]:
    return [{"scores": torch.from_numpy(rng.standard_normal((rows, keys))).float(), "value": torch.from_numpy(rng.standard_normal((keys, width))).float()}
            for rows, keys, width in ((2, 3, 4), (5, 2, 3), (1, 6, 2))]


def mix(scores: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(scores, -1) @ value


def mean_cases(rng: np.random.Generator) -> list[dict]:
    return [{"numbers": [float(number) for number in rng.standard_normal(size)]} for size in (1, 4, 9)]


def sheet(seed: int = 1, lesson: str = LESSON) -> Sheet:
    "The exam with fresh inputs."
    wrong_axis = Wrong(lambda scores, value: torch.softmax(scores, 0) @ value, "The softmax runs over the wrong axis.")
    half = Wrong(lambda numbers: sum(numbers), "You forgot to divide by how many there are.")
    return Sheet(lesson, (
        Task(Check("exam.mix", "mix", mix_cases, mix, (wrong_axis,), ()), "1.1", "Mix", 10, (1, 0)),
        Task(Check("exam.mean", "mean", mean_cases, lambda numbers: sum(numbers) / len(numbers), (half,), ()), "1.2", "Mean", 5, (1, 1)),
    ), seed, "exam 1")


def sheet_of(lesson: str, seed: int) -> Sheet:
    return sheet(seed, lesson)


HONEST = '''
import torch

def mix(scores, value):
    return torch.softmax(scores, -1) @ value

def mean(numbers):
    return sum(numbers) / len(numbers)
'''
