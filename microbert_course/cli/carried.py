"""The commands for the models that the package carries."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from microbert_course.errors import CourseError
from microbert_course.paths import runs_dir


@dataclass
class ListModels:
    "Say what the package carries, and what it can make."

    def run(self) -> None:
        "One line a model: what it reached, and its folder; two lines a recipe."
        from microbert_course.pretrained import RECIPES, manifest_of, pretrained_folder

        for title, recipe in RECIPES.items():
            print(f"{recipe.about}\n  microbert {' '.join(recipe.command)}")
            if not recipe.is_carried:
                print(f"  not carried: `microbert models reproduce {title}` makes it")
                continue
            for name in recipe.parts:
                about = manifest_of(name)
                megabytes = sum(file["bytes"] for file in about["files"].values()) / 1e6
                print(f"  {name:20} {megabytes:5.1f} MB  {recipe.metric} {about[recipe.metric]:.3f}  {about['parameters']:>10,} numbers, {about['seconds']:,} s on {about['device']}  {pretrained_folder(name)}")


@dataclass
class VerifyModels:
    "Read every byte of the carried models and compare it with their manifests."

    def run(self) -> None:
        """One line a model.

        Raises: CourseError if any is damaged."""
        from microbert_course.manifests import damage
        from microbert_course.pretrained import HERE, carried_models

        faults = {name: damage(HERE / name) for name in carried_models()}
        for name, fault in faults.items():
            print(f"{name:20} {fault or 'whole'}")
        if any(faults.values()):
            raise CourseError("a carried model is damaged: install the package again, or make it again with `microbert models reproduce`")


@dataclass
class Reproduce:
    "Train a carried model again, by the command that made it, and compare."

    name: tyro.conf.Positional[str]
    """A model or its recipe, as `microbert models list` names them."""
    folder: Path | None = None
    """Where the run writes; without it runs/reproduced-NAME."""
    carry: bool = False
    """Put the result into the package, in the place of what is there: for those who maintain the course."""

    def run(self) -> None:
        """Train, then print what was and what is.

        Raises: CourseError if there is no such recipe, or the run fails."""
        from microbert_course.manifests import damage
        from microbert_course.pretrained import (
            HERE,
            RECIPES,
            carried_weights,
            carry,
            facts,
            manifest_of,
            recipe_of,
            reproduce,
        )

        recipe = recipe_of(self.name)
        for suffix in RECIPES[recipe].parts.values() if self.folder else ():
            if (place := self.folder.with_name(self.folder.name + suffix)).exists():
                raise CourseError(f"{place} is there already, and nothing in it is replaced: choose another --folder")
        metric = RECIPES[recipe].metric
        runs, seconds = reproduce(recipe, self.folder or runs_dir() / f"reproduced-{recipe}")
        for name, run in runs.items():
            now = facts(run, metric)
            line = f"{name}: {metric} {now[metric]:.4f} in {now['updates']:,} updates"
            if damage(HERE / name) is None:
                then = manifest_of(name)
                is_same = then["files"]["model.safetensors"]["sha256"] == hashlib.sha256(carried_weights(name, run)).hexdigest()
                line += f"; carried: {then[metric]:.4f}, {'the same to the bit' if is_same else 'other weights'} ({then['device']}, torch {then['torch']})"
            print(line)
            if self.carry:
                print(carry(name, run, seconds), file=sys.stderr)


@dataclass
class Models:
    """The models that the package carries, as in `microbert models list`."""

    command: (Annotated[ListModels, tyro.conf.subcommand("list")]
              | Annotated[VerifyModels, tyro.conf.subcommand("verify")]
              | Annotated[Reproduce, tyro.conf.subcommand("reproduce")])

    def run(self) -> None:
        "Run the one that was asked for."
        self.command.run()
