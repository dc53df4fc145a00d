"""The checks of the exercises, one module a lesson: inputs, reference, zoo. The grader's sandbox never sees this folder."""
