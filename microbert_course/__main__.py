"""`python -m microbert_course` is `microbert`, also under `accelerate launch -m`."""

import sys

from microbert_course.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
