"""The one line that stands for an answer, in a learner's exercise and in the grader's copy of the library.

It raises NotImplementedError, as blanks in exercises do everywhere; a check that meets this error answers "not yet"."""

ERROR = "NotImplementedError"


def blank(reason: str) -> str:  # one statement
    "Code that says why there is none."
    return f'raise {ERROR}("{reason}")'
