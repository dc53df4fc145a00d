"""The course's own trained models, which the package carries: what each is, whether it is whole, and how it is made again."""

import json
import math
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save

from microbert_course.errors import CourseError
from microbert_course.files import read_json
from microbert_course.manifests import damage, read_manifest, whole_folder

HERE = Path(__file__).parent
KEPT = ("config.json", "tokenizer*", "special_tokens*", "chat_template*", "generation_config.json", "training.*", "loss.png")
KEPT_UPDATES = 1_000  # of a run's log, at most


@dataclass(frozen=True)
class Recipe:
    "A command of the course, and which of the folders that it leaves are carried, under which names."

    about: str
    command: tuple[str, ...]  # words after `microbert`; --folder is added
    parts: dict[str, str]  # the model's name: how its folder's name goes on after the run's
    metric: str  # of a look at held-out data
    in_16_bits: bool = False  # carried as float16, which halves the file; whoever opens it computes in float32 again
    is_carried: bool = True  # False: `microbert models reproduce` makes it, the package does not hold it


def _on_reviews(*words: str) -> tuple[str, ...]:
    "The command for an encoder of IMDB's training reviews."
    return ("pretrain", "base", "--data", "imdb", "--vocab-size", "8000", "--layout", "packed", "--dropout", "0", "--batch-size", "64",
            "--gradient-accumulation-steps", "1", "--no-deterministic", "--compile", "--cuda-graph", *words)


RECIPES = {
    "microbert-imdb": Recipe(
        about="an encoder of 5 million numbers that has read IMDB's training reviews",
        command=_on_reviews("--hidden-size", "256", "--num-layers", "4", "--num-heads", "4", "--intermediate-size", "1024", "--mlm-probability", "0.2",
                            "--learning-rate", "1.5e-3", "--num-steps", "16000", "--warmup-steps", "500", "--eval-every", "4000"),
        parts={"microbert-imdb": ""}, metric="accuracy", in_16_bits=True),
    "microbert-imdb-large": Recipe(
        about="its larger sibling, 30 million numbers, from the same reviews",
        command=_on_reviews("--hidden-size", "512", "--num-layers", "8", "--num-heads", "8", "--intermediate-size", "2048", "--mlm-probability", "0.3",
                            "--learning-rate", "8e-4", "--num-steps", "12000", "--warmup-steps", "500", "--eval-every", "4000"),
        parts={"microbert-imdb-large": ""}, metric="accuracy", is_carried=False),
    "microbert-arith": Recipe(
        about="the decoder of lesson 23, which adds numbers of two digits: after a few solved sums (-sft), and after learning from rewards",
        command=("grpo", "--seed", "3"), parts={"microbert-arith-sft": "-shown", "microbert-arith": ""}, metric="exact"),
}


def carried_models() -> list[str]:
    "The names of all models that the package carries."
    return [name for recipe in RECIPES.values() if recipe.is_carried for name in recipe.parts]


def pretrained_folder(
    name: str,  # one of `carried_models`
) -> Path:
    """Where a carried model is: a folder that `from_pretrained` and transformers open.

    Raises: CourseError if there is no such model, or it is damaged."""
    if name not in carried_models():
        raise CourseError(f"the package carries no model {name!r}: choose one of {', '.join(carried_models())}")
    if fault := damage(HERE / name, check_hashes=False):
        raise CourseError(f"the model {name} in {HERE} is damaged ({fault}): install the package again, or `microbert models reproduce {recipe_of(name)}`")
    return HERE / name


def recipe_of(
    name: str,  # of a model or a recipe
) -> str:
    """The recipe that makes a model.

    Raises: CourseError if there is none."""
    for recipe, what in RECIPES.items():
        if name == recipe or name in what.parts:
            return recipe
    raise CourseError(f"there is no recipe for {name!r}: choose one of {', '.join(RECIPES)}")


def facts(
    folder: Path,  # of a model that a run of the course wrote
    metric: str,
) -> dict:  # what it reached on held-out data, and on what, from what, in which time it was made
    "What a run's own files say of its model."
    settings, history = read_json(folder / "training.json"), read_json(folder / "history.json")
    return {metric: history["validation"][-1][metric], "seed": settings["seed"], "updates": history["validation"][-1]["step"] + 1,
            "data": settings.get("data", "sums"), "parameters": settings["about"]["parameters"], "device": settings["about"]["device"],
            "torch": settings["environment"]["torch"]}


def reproduce(
    name: str,  # of a recipe
    folder: Path,  # where the run writes
) -> tuple[dict[str, Path], float]:  # each model's name and new folder; seconds
    """Run a recipe, as its command would in a terminal.

    Raises: CourseError if there is no such recipe, or the run fails, which has said why."""
    recipe, start = RECIPES[recipe_of(name)], time.perf_counter()
    runs = {part: folder.with_name(folder.name + suffix) for part, suffix in recipe.parts.items()}
    for run in (run for run in runs.values() if (run / "training.json").is_file()):  # of an earlier time: nothing of it is taken over
        shutil.rmtree(run)
    done = subprocess.run([sys.executable, "-m", "microbert_course", *recipe.command, "--folder", str(folder)])
    if done.returncode:
        raise CourseError(f"the run that makes {name} ended with status {done.returncode}, see above")
    return runs, time.perf_counter() - start


def carried_weights(
    name: str,  # of a model
    run: Path,  # the folder of the run that made it
) -> bytes:
    "The file of weights as it is carried."
    path = run / "model.safetensors"
    if not RECIPES[recipe_of(name)].in_16_bits:
        return path.read_bytes()
    return save({key: weight.half() for key, weight in load_file(path).items()}, metadata={"format": "pt"})


def carried_log(
    run: Path,  # the folder of the run that made a model
) -> str:  # JSON
    "The run's history.json, with every look, and so many updates, evenly spaced, that no more than a thousand are left."
    history = read_json(run / "history.json")
    history["train"] = history["train"][::math.ceil(len(history["train"]) / KEPT_UPDATES) or 1]
    return json.dumps(history, indent=2) + "\n"


def carry(
    name: str,  # of a model
    run: Path,  # the folder of the run that made it
    seconds: float,  # that the recipe took
) -> Path:
    """Put a model into the package, sealed, with its configuration, its log and its curve: for those who maintain the course.

    Raises: CourseError if it is one that the package does not hold."""
    if not RECIPES[recipe_of(name)].is_carried:
        raise CourseError(f"{name} is not carried by the package: leave --carry out")
    metric = RECIPES[recipe_of(name)].metric
    shutil.rmtree(HERE / name, ignore_errors=True)
    with whole_folder(HERE / name, {"recipe": f"microbert {' '.join(RECIPES[recipe_of(name)].command)}", "seconds": round(seconds), **facts(run, metric)}) as partial:
        for pattern in KEPT:
            for file in run.glob(pattern):
                shutil.copy2(file, partial / file.name)
        (partial / "model.safetensors").write_bytes(carried_weights(name, run))
        (partial / "history.json").write_text(carried_log(run), encoding="utf-8")
    return HERE / name


def manifest_of(
    name: str,  # of a model
) -> dict:  # recipe, facts, files with their hashes
    "What a carried model's manifest says."
    return read_manifest(pretrained_folder(name))
