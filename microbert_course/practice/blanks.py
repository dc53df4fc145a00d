"""The line that a learner replaces: it stands for an answer in an exercise, and for the builds in the grader's copy of the library.

A check that meets its error answers "not yet"."""

ERROR = NotImplementedError.__name__  # what blanks in exercises raise everywhere


def blank(reason: str) -> str:  # one statement
    "Code that says why there is none."
    return f'raise {ERROR}("{reason}")'
