"""The one error for mistakes that the user can mend."""


class CourseError(ValueError):
    """Bad input from outside: the message is one sentence that names the value, the place and the remedy.

    The command line prints that sentence alone and ends with `status`; any other exception is a bug and keeps its traceback."""

    status = 1
