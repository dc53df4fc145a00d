"""One report of a pipeline, from the files that its stages left: what each did, how many problems the model solved after it, and what it wrote."""

from dataclasses import fields
from io import BytesIO
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from microbert_course.files import read_json, write_json, write_whole
from microbert_course.models.gpt import GptForCausalLM
from microbert_course.models.gpt_folders import load_decoder
from microbert_course.posttraining.evaluation import bootstrap
from microbert_course.posttraining.grpo import plot_rewards, problems_of
from microbert_course.posttraining.model_card import write_model_card
from microbert_course.posttraining.problems import Problem, Prompts, answers_to, put_question
from microbert_course.posttraining.rewards import label_reward, numeric_reward
from microbert_course.posttraining.settings import GrpoConfig
from microbert_course.training.loop import plot_history

TITLES = {"before": "before", "pretrain": "pretraining", "sft": "instruction tuning", "grpo": "learning from rewards"}
REWARDS = {"number": numeric_reward, "label": label_reward}
SAMPLE_TOKENS = 48  # of a sample at most, where no stage says how long an answer is: the model may read less


def write_report(
    folder: str | Path,  # of a pipeline whose stages are finished
) -> Path:  # report.md in it
    """Write `report.json`, `stages.png` and `report.md` into the folder, and a model card into the last stage's.

    Raises: CourseError if a stage is not finished."""
    folder = Path(folder)
    found = gather(folder)
    write_json(folder / "report.json", found)
    write_whole(folder / "stages.png", _picture(folder, list(found["stages"])))
    write_whole(folder / "report.md", _page(folder, found))
    write_model_card(folder / list(found["stages"])[-1] / "best")
    return folder / "report.md"


def gather(
    folder: Path,
) -> dict:  # stages, solved, samples, settings
    """All that the report says, in numbers.

    Raises: CourseError if a stage is not finished."""
    settings = read_json(folder / "pipeline.json")
    stages = list(settings["stages"])
    runs = {name: read_json(folder / name / "training.json", f"finish the stage {name} first") for name in stages}
    models = [] if stages[0] == "pretrain" else [("before", runs[stages[0]]["model"])]
    models += [(name, folder / name / "best") for name in stages]
    grpo = _grpo_config(runs["grpo"]) if "grpo" in stages else None
    solved, samples = {}, {}
    for name, place in models:
        model, tokenizer = load_decoder(place)
        if grpo and grpo.compared in REWARDS:
            solved[name] = _share_solved(model, tokenizer, grpo)
        samples[name] = _samples(model, tokenizer, settings["prompts"], runs)
    return {"stages": {name: _stage(folder / name, runs[name]) for name in stages}, "solved": solved, "samples": samples,
            "prompts": settings["prompts"], "settings": settings["stages"]}


def _grpo_config(run: dict) -> GrpoConfig:
    return GrpoConfig(**{field.name: run[field.name] for field in fields(GrpoConfig)})


def _stage(folder: Path, run: dict) -> dict:
    "How long a stage took, and how its score moved."
    history, state = read_json(folder / "history.json"), read_json(max((folder / "checkpoints").glob("step-*")) / "state.json")
    metric = "exact" if folder.name == "grpo" else "loss"
    first = history["start"][metric] if "start" in history else history["unigram_loss"]
    return {"data": run["data"], "updates": state["num_updates"], "tokens": state["tokens"], "seconds": state["spent_s"], "metric": metric,
            "first": first, "last": history["validation"][-1][metric]}


def _share_solved(model: GptForCausalLM, tokenizer: PreTrainedTokenizerBase, config: GrpoConfig) -> dict[str, float]:
    "Of the problems that were never learned from, the share that the most probable answer solves, with its interval."
    _, unseen = problems_of(config, tokenizer)
    texts = answers_to(model, tokenizer, unseen, config.max_new_tokens)
    right = REWARDS[config.compared]([problem.prompt for problem in unseen], texts, [problem.answer for problem in unseen])
    interval = bootstrap(lambda verdicts: verdicts.mean(-1), right)
    return {"share": interval.value, "low": interval.low, "high": interval.high, "problems": len(unseen)}


def _samples(model: GptForCausalLM, tokenizer: PreTrainedTokenizerBase, prompts: list[str], runs: dict) -> list[str]:
    "What the model writes to each prompt, put as the stages put theirs."
    if not prompts:
        return []
    given = next((runs[name] for name in ("grpo", "sft") if name in runs), {})
    own = runs.get("grpo", {}).get("prompt", "")
    problems = [Problem(put_question(prompt, tokenizer, own), "") for prompt in prompts]
    room = model.config.max_seq_len - max(map(len, Prompts(problems, tokenizer).ids))
    return answers_to(model, tokenizer, problems, given.get("max_new_tokens") or max(1, min(SAMPLE_TOKENS, room)))


def _picture(folder: Path, stages: list[str]) -> bytes:
    "The curve of each stage, side by side."
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(stages), 3.2), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        history = read_json(folder / name / "history.json")
        if name == "grpo":
            plot_rewards(history, ax)
        else:
            plot_history(history, ax, unit="token")
        ax.set_title(TITLES[name])
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=80)
    return picture.getvalue()


def _page(folder: Path, found: dict) -> str:
    "The report as text."
    lines = [f"# {folder.name}", "", "## What was done", "", _row("stage", "learned from", "updates", "tokens read", "seconds", "score, first to last"),
             _row(*["---"] * 6)]
    for name, stage in found["stages"].items():
        form, unit = (".1%", "right") if stage["metric"] == "exact" else (".3f", "nats a token")
        first = "" if stage["first"] is None else f"{stage['first']:{form}}{' by frequencies alone,' if name == 'pretrain' else ''} to "
        lines.append(_row(TITLES[name], f"`{Path(stage['data']).name}`", f"{stage['updates']:,}", f"{stage['tokens']:,}", f"{stage['seconds']:.0f}",
                          f"{first}{stage['last']:{form}} {unit}"))
    lines += ["", "![the curve of each stage](stages.png)"]
    if found["solved"]:
        number = next(iter(found["solved"].values()))["problems"]
        lines += ["", f"## How many of {number:,} unseen problems it solves", "", _row("after", "solved", "interval of 95 % by bootstrap"), _row(*["---"] * 3)]
        lines += [_row(TITLES[name], f"{share['share']:.1%}", f"{share['low']:.1%} to {share['high']:.1%}") for name, share in found["solved"].items()]
    if found["prompts"]:
        lines += ["", "## What it writes", "", _row("asked", *(f"after {TITLES[name]}" if name != "before" else name for name in found["samples"])),
                  _row(*["---"] * (1 + len(found["samples"])))]
        lines += [_row(*(f"`{_one_line(text)}`" for text in (prompt, *(texts[number] for texts in found["samples"].values()))))
                  for number, prompt in enumerate(found["prompts"])]
    last = folder / list(found["stages"])[-1] / "best"
    lines += ["", "## To go on", "", f"The model is in `{last}`, and its card is README.md there: `microbert generate \"…\" --model {last}`.", ""]
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _one_line(text: str) -> str:
    "As it can stand in a table."
    return " ".join(text.replace("|", "\\|").replace("`", "'").split()) or " "


def changed_settings(
    here: dict[str, dict],  # stage: its settings
    there: dict[str, dict],
) -> list[tuple[str, object, object]]:  # "stage.setting", its value here and there; None where there is none
    "Every setting that is not the same in two pipelines, in the order in which they stand here."
    stages = list(dict.fromkeys([*here, *there]))
    pairs = [(stage, setting) for stage in stages for setting in dict.fromkeys([*here.get(stage, {}), *there.get(stage, {})])]
    values = [(f"{stage}.{setting}", here.get(stage, {}).get(setting), there.get(stage, {}).get(setting)) for stage, setting in pairs]
    return [(what, now, then) for what, now, then in values if now != then]


def updates_to(
    looks: list[dict],  # in order; each with "step", the number of the update before it, and a score; step -1 is the start
    share: float,
    metric: str = "exact",
) -> float | None:  # updates made; None = it is never reached
    "How many updates it took until a score was as high as `share` for the first time, on straight lines between the looks."
    for before, look in zip([None, *looks], looks, strict=False):
        if look[metric] >= share:
            if before is None:
                return float(look["step"] + 1)
            part = (share - before[metric]) / (look[metric] - before[metric])
            return before["step"] + 1 + part * (look["step"] - before["step"])
    return None


def compare_reports(
    this: str | Path,  # folders of two finished pipelines
    that: str | Path,
) -> dict[str, list[tuple]]:  # "settings" and "results": (what, here, there)
    """What is different between two pipelines, and what came of it.

    Raises: CourseError if one of them has no report."""
    found = [read_json(Path(folder) / "report.json", "run the pipeline to its end first") for folder in (this, that)]
    results = []
    for name in dict.fromkeys([*found[0]["stages"], *found[1]["stages"]]):
        results.append((f"seconds of {TITLES[name]}", *(report["stages"].get(name, {}).get("seconds") for report in found)))
    for name in dict.fromkeys([*found[0]["solved"], *found[1]["solved"]]):
        results.append((f"solved after {TITLES[name]}", *(report["solved"].get(name, {}).get("share") for report in found)))
    if all("grpo" in report["stages"] for report in found):
        results.append(("updates from rewards until half are solved", *(updates_to(looks_of(folder), 0.5) for folder in (this, that))))
    return {"settings": changed_settings(*(report["settings"] for report in found)), "results": results}


def looks_of(
    folder: str | Path,  # of a pipeline with a stage grpo
) -> list[dict]:  # the start first, as step -1
    """How many unseen problems were solved at each look of the stage that learns from rewards.

    Raises: CourseError if there is no such stage."""
    history = read_json(Path(folder) / "grpo" / "history.json", "give a pipeline that learned from rewards")
    return [{"step": -1, **history["start"]}, *history["validation"]]


def plot_comparison(
    folders: dict[str, str | Path],  # what each is called: its folder
    ax=None,  # a matplotlib axis; None makes one
):
    """The share of unseen problems that is solved, over the updates from rewards, of several pipelines; answers the axis.

    Raises: CourseError if one of them has no such stage."""
    from matplotlib.figure import Figure

    ax = ax or Figure(figsize=(7, 4), layout="constrained").subplots()
    for name, folder in folders.items():
        looks = looks_of(folder)
        ax.plot([look["step"] + 1 for look in looks], [look["exact"] for look in looks], "o-", markersize=3, label=name)
    ax.set(xlabel="update from rewards", ylabel="unseen problems solved", ylim=(0, 1))
    ax.legend()
    return ax
