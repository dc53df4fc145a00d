"""From nothing to a model that learns from rewards, in one go: pretraining, instruction tuning and GRPO, each a run of its own in one folder."""

import difflib
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from accelerate import PartialState

from microbert_course.data.mixture import parse_mixture
from microbert_course.data.sources import _looks_like_a_path
from microbert_course.errors import CourseError
from microbert_course.files import make_folder, read_json, write_json
from microbert_course.paths import course_root
from microbert_course.posttraining.arithmetic import FILES, write_arithmetic
from microbert_course.posttraining.settings import GrpoConfig, SftConfig
from microbert_course.training.engine import runs_on_cpu, shared_processes
from microbert_course.training.presets import PretrainConfig, preset
from microbert_course.training.remote import is_address
from microbert_course.training.run_folder import RunFolder
from microbert_course.training.settings import MAY_CHANGE, TrainConfig

KINDS = {"pretrain": PretrainConfig, "sft": SftConfig, "grpo": GrpoConfig}  # the stages, in their order
BEFORE = "the stage before"  # as model, until it is known where that is
MADE = "arithmetic"  # as data: what is written on the spot
MADE_FILES = {"pretrain": {"data": "texts"}, "sft": {"data": "shown"}, "grpo": {"data": "problems", "test": "unseen"}}


@dataclass(frozen=True)
class Pipeline:
    "Stages, each with its configuration; every one begins with the model that the one before it left."

    stages: dict[str, TrainConfig]
    prompts: tuple[str, ...] = ()  # what the report lets the model answer after each stage


def read_pipeline(
    path: str | Path,  # a .toml file with the tables pretrain, sft and grpo, or some of them
    changes: Sequence[str] = (),  # such as "grpo.group_size=4" or "seed=1", on top of the file
) -> Pipeline:
    """The pipeline that a file describes. Above its tables stand `prompts`, and settings that hold for every stage; in `pretrain`, `preset` names what to start from.

    Raises: CourseError, in one sentence, for a file that cannot be read, a stage or a setting that does not exist, or a value that makes no sense."""
    given = _read_toml(path)
    for change in changes:
        _change(given, change)
    tables = {name: value for name, value in given.items() if isinstance(value, dict)}
    for name in tables:
        if name not in KINDS:
            raise CourseError(f"{path}: there is no stage {name!r}: the stages are {', '.join(KINDS)}")
    if not tables:
        raise CourseError(f"{path}: there is no stage: write a table [pretrain], [sft] or [grpo]")
    shared = {name: value for name, value in given.items() if name not in (*tables, "prompts")}
    prompts = given.get("prompts", [])
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) and prompt for prompt in prompts):
        raise CourseError(f"{path}: prompts is {prompts!r}: give a list of texts, as in [\"27+15=\"]")
    names = [name for name in KINDS if name in tables]
    for name in names[1:]:
        if "model" in tables[name]:
            raise CourseError(f"{path}: [{name}] has a model, and it begins with the one of the stage before it: leave model out")
    begins = dict.fromkeys(names[1:], {"model": BEFORE})
    stages = {name: _stage(path, name, {**shared, **begins.get(name, {}), **tables[name]}) for name in names}
    if names[0] == "pretrain" and names[1:] and stages["pretrain"].blocks != "gpt":
        raise CourseError(f"{path}: [pretrain] has blocks {stages['pretrain'].blocks!r}, an encoder, which [{names[1]}] cannot teach to write: "
                          f"give it blocks = \"gpt\", or a preset such as lm-tiny")
    return Pipeline(stages, tuple(prompts))


def _read_toml(path: str | Path) -> dict:
    path = Path(path).expanduser()
    if not path.is_file():
        ours = course_root() / "configs" / "pipeline"
        raise CourseError(f"there is no configuration {path}: give a .toml file, such as those in {ours}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CourseError(f"{path} is no TOML: {error}") from None


def _change(given: dict, change: str) -> None:
    "Put one setting into what a file said."
    name, sign, value = change.partition("=")
    stage, dot, setting = name.strip().rpartition(".")
    if not sign or not setting:
        raise CourseError(f"the change {change!r} is none: write STAGE.SETTING=VALUE, as in grpo.group_size=4")
    try:
        value = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        value = value.strip()  # a word needs no quotation marks here
    if dot and stage not in given:
        raise CourseError(f"the change {change!r} is for a stage {stage!r} that the configuration does not have: it has "
                          f"{', '.join(name for name in KINDS if name in given)}")
    (given[stage] if dot else given)[setting] = value


def _stage(path: str | Path, name: str, settings: dict) -> TrainConfig:
    "The configuration of one stage."
    kind = KINDS[name]
    known = {field.name: field for field in fields(kind)}
    start = settings.pop("preset", None) if name == "pretrain" else None
    for setting, value in settings.items():
        if setting not in known:
            near = difflib.get_close_matches(setting, known, n=1)
            raise CourseError(f"{path}: [{name}] has no setting {setting!r}" + (f": did you mean {near[0]}?" if near else f", only {', '.join(known)}"))
        if known[setting].type is float and type(value) is int:
            settings[setting] = float(value)
        elif known[setting].type in (float, str, bool) and not isinstance(value, known[setting].type):
            raise CourseError(f"{path}: {setting} of [{name}] is {value!r}: give a {known[setting].type.__name__}")
    try:
        return preset(start, **settings) if start else kind(**settings)
    except CourseError as error:
        raise CourseError(f"{path}: [{name}] {error}") from None


def run_pipeline(
    pipeline: Pipeline,
    folder: str | Path,  # each stage gets a folder in it
    overwrite: bool = False,  # begin anew, whatever is there
    resume: str | Path | None = None,  # "latest", or the folder of a checkpoint of a stage: what comes after it is run again then
    progress: bool = True,  # show progress bars and log lines
) -> Path:  # the report
    """Run the stages one after the other, and write one report of them; with `resume`, what is finished is not run again.

    Raises: CourseError if the folder is taken or was begun with other settings, there is nothing to resume from, or a stage fails."""
    if is_address(folder):
        raise CourseError(f"a pipeline writes into a folder of this machine, and {folder} is an address: give a folder, and copy it up when the pipeline is done")
    folder, state = Path(folder).expanduser().resolve(), PartialState(cpu=all(map(runs_on_cpu, pipeline.stages.values())))
    check_files(pipeline)
    owner = stage_of(resume, folder, pipeline) if resume not in (None, "latest") else None
    check_folder(folder, pipeline, overwrite, resume)
    state.wait_for_everyone()
    if state.is_main_process:
        begin(folder, pipeline, overwrite)
    state.wait_for_everyone()
    is_main_process = state.is_main_process
    with shared_processes():
        run_stages(pipeline, folder, owner, resume, progress)
    if not is_main_process:
        return folder / "report.md"
    from microbert_course.posttraining.report import write_report

    return write_report(folder)


def run_stages(
    pipeline: Pipeline,
    folder: Path,
    owner: str | None,  # the stage that `resume` is a checkpoint of, if it is one
    resume: str | Path | None,
    progress: bool,
) -> None:
    "Every stage that is not finished, or was built on a state that is no more."
    before, is_stale = None, False  # stale: built on a state that is no more
    for name in pipeline.stages:
        stage = folder / name
        if is_stale or name == owner or not (stage / "training.json").is_file():
            is_begun = stage.with_name(f"{name}.partial").exists()
            run_stage(name, as_run(pipeline, name, folder, before), stage, overwrite=is_stale, progress=progress,
                      resume=None if is_stale else resume if name == owner else "latest" if is_begun else None)
            is_stale = is_stale or name == owner
        before = stage


def check_files(pipeline: Pipeline) -> None:
    "Raises: CourseError, before the first stage, with the first file that a stage names and that is not there."
    for name, config in pipeline.stages.items():
        for setting in ("data", "test"):
            value = getattr(config, setting, "")
            for word in parse_mixture(value) if name == "sft" and value else [value]:
                path = word.rpartition("@")[2]
                if path and _looks_like_a_path(path) and not Path(path).expanduser().exists():
                    raise CourseError(f"{setting} of {name} is {path}, which is not there: give a file that is, or a set that `microbert data list` has")


def stage_of(
    checkpoint: str | Path,
    folder: Path,
    pipeline: Pipeline,
) -> str:
    """The stage that a checkpoint is of.

    Raises: CourseError if it is of none."""
    for name in pipeline.stages:
        if any(Path(checkpoint).resolve().is_relative_to(folder / place) for place in (name, f"{name}.partial")):
            return name
    raise CourseError(f"{checkpoint} is no checkpoint of a stage in {folder}: give one like {folder / next(iter(pipeline.stages))}/checkpoints/step-00000100, or `latest`")


def check_folder(
    folder: Path,
    pipeline: Pipeline,
    overwrite: bool,
    resume: str | Path | None,
) -> None:
    "Raises: CourseError if the pipeline cannot write into the folder, or go on in it."
    if resume and overwrite:
        raise CourseError("a pipeline is either resumed or overwritten: pass --resume or --overwrite, not both")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / "pipeline.json").is_file():
        raise CourseError(f"{folder} is there and no pipeline wrote it, so nothing in it is replaced: choose another folder")
    if overwrite:
        return
    if not resume:
        raise CourseError(f"{folder} holds a pipeline: pass --resume latest to go on, --overwrite to begin anew, or choose another folder")
    then = read_json(folder / "pipeline.json")["stages"]
    if list(then) != list(pipeline.stages):
        raise CourseError(f"the stages are {', '.join(pipeline.stages)} and were {', '.join(then)} in {folder}: choose another folder, or pass --overwrite")
    for name, config in pipeline.stages.items():
        for setting, now in asdict(config).items():
            if setting not in MAY_CHANGE and then[name].get(setting) != now:
                raise CourseError(f"{setting} of {name} is {now!r} and was {then[name].get(setting)!r} in {folder}: "
                                  f"resume with the same settings, choose another folder, or pass --overwrite")


def begin(folder: Path, pipeline: Pipeline, overwrite: bool) -> None:
    "What every stage needs is in the folder, and nothing of an earlier pipeline that is to be replaced."
    if overwrite:
        runs = [RunFolder(folder / name) for name in KINDS]
        for run in runs:
            run.check_is_free()
        for run in runs:
            for place in (run.final, run.path):
                shutil.rmtree(place, ignore_errors=True)
    make_folder(folder)
    write_json(folder / "pipeline.json", {"stages": {name: asdict(config) for name, config in pipeline.stages.items()}, "prompts": pipeline.prompts})
    if any(config.data == MADE for config in pipeline.stages.values()):
        write_arithmetic(folder / "data", next(iter(pipeline.stages.values())).seed)


def as_run(
    pipeline: Pipeline,
    name: str,  # of the stage
    folder: Path,  # of the pipeline
    before: Path | None,  # the stage before this one
) -> TrainConfig:
    "The configuration of a stage with what the pipeline decides: the model that it begins with, and the files that stand for arithmetic."
    config, changes = pipeline.stages[name], {}
    if config.data == MADE:
        changes = {setting: str(folder / "data" / FILES[file]) for setting, file in MADE_FILES[name].items()}
    if before:
        changes["model"] = str(before / "best")
    return replace(config, **changes)


def run_stage(name: str, config: TrainConfig, folder: Path, **how) -> None:
    "One stage, as its own command would run it."
    if name == "pretrain":
        from microbert_course.training.run import pretrain as train
    elif name == "sft":
        from microbert_course.posttraining.instruction import train_sft as train
    else:
        from microbert_course.posttraining.grpo import train_grpo as train
    if how["progress"] and PartialState().is_main_process:
        print(f"{name}: {folder}")
    train(config, folder, **how)
