__version__ = "0.1.0"

from microbert_course.practice.swap import put_in_place  # noqa: E402 - nbdev wants the version first

put_in_place()
del put_in_place
