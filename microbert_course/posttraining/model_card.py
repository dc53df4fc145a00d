"""A model card (Mitchell et al. 2019) that a run writes about itself: every number in it comes from a file of the run's folder."""

from pathlib import Path

from microbert_course.data.licences import licence_of
from microbert_course.errors import CourseError
from microbert_course.files import read_json, write_whole
from microbert_course.models.checkpoints import label_names

SCORE_NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1", "matthews": "Matthews' coefficient", "calibration_error": "calibration error",
               "loss": "loss (nats a text)"}
LEARNING = ("batch_size", "num_steps", "learning_rate", "warmup_steps", "schedule", "weight_decay", "dropout", "max_seq_len", "layers", "class_weights",
            "mixed_precision", "seed")  # settings that decide what is learned, where a run has them


def write_model_card(
    folder: str | Path,  # of a finished run, or the model that it saved in `best`
) -> Path:  # the card, README.md in it
    """Write what the run's own files say: what the model is, what it learned from and how, and how good it is.

    `evaluation.json` is used if `microbert evaluate` or a program wrote it.

    Raises: CourseError if the folder is no run's, or one of its files is damaged."""
    folder = Path(folder)
    if not (folder / "training.json").is_file():
        raise CourseError(f"{folder} has no training.json, so it is no run's folder and nobody knows how the model was made: name the folder of a run")
    run, shape = read_json(folder / "training.json"), read_json(folder / "config.json")
    history = read_json(folder / "history.json") if (folder / "history.json").is_file() else {}
    evaluation = read_json(folder / "evaluation.json") if (folder / "evaluation.json").is_file() else {}
    saved = read_json(folder / "scores.json")["validation"] if (folder / "scores.json").is_file() else None
    sections = [_front_matter(run, shape), _title(folder, run, shape), *_how_good(history, saved, evaluation), *_data(run), *_training(run), *_use(folder, shape)]
    write_whole(folder / "README.md", "\n".join(sections) + "\n")
    return folder / "README.md"


def _front_matter(run: dict, shape: dict) -> str:
    "What the hub reads."
    task = {"ForSequenceClassification": "text-classification", "ForMaskedLM": "fill-mask", "ForCausalLM": "text-generation"}
    tags = [f"pipeline_tag: {tag}" for ending, tag in task.items() if _architecture(shape).endswith(ending)]
    return "\n".join(["---", "library_name: transformers", *tags, "tags:", "- microbert", "---"])


def _architecture(shape: dict) -> str:
    return (shape.get("architectures") or ["model"])[0]


def _title(folder: Path, run: dict, shape: dict) -> str:
    about, parts = run.get("about", {}), []
    for name, words in (("num_hidden_layers", "blocks"), ("hidden_size", "wide"), ("num_attention_heads", "heads"), ("vocab_size", "tokens known")):
        if name in shape:
            parts.append(f"{shape[name]:,} {words}")
    size = f", {about['parameters']:,} parameters" if "parameters" in about else ""
    labels = label_names(shape.get("id2label", {}), folder)
    told = f" It tells apart: {', '.join(labels)}." if labels else ""
    base = f" It began as `{run['model']}`." if "model" in run else ""
    return f"\n# {folder.resolve().name}\n\nA {_architecture(shape)} ({', '.join(parts)}{size}).{base}{told}"


def _how_good(history: dict, saved: dict | None, evaluation: dict) -> list[str]:
    lines = ["\n## How good it is\n"]
    if evaluation:
        lines += [f"On {evaluation['texts']:,} texts ({evaluation['data']}), with intervals of {evaluation.get('confidence', 0.95):.0%} by bootstrap over the texts:\n",
                  "| score | value | interval |", "|---|---|---|"]
        lines += [f"| {SCORE_NAMES.get(name, name)} | {found['value']:.3f} | {found['low']:.3f} to {found['high']:.3f} |"
                  for name, found in evaluation["scores"].items()]
        lines += _confusion(evaluation)
        lines += _leaks(evaluation.get("leaks"))
    looks = history.get("validation", [])
    if looks:
        lines += ["", f"At the last of {len(looks):,} looks at the validation texts, {_look(looks[-1])}."]
        if saved and saved["step"] != looks[-1]["step"]:
            lines[-1] += f" The state in `best` was better, {_look(saved)}."
    return lines if len(lines) > 1 else [*lines, "Nobody has measured it yet."]


def _look(scores: dict) -> str:
    shown = {name: value for name, value in scores.items() if isinstance(value, int | float) and name != "step"}
    return f"after {scores['step'] + 1:,} updates: " + ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in shown.items())


def _confusion(evaluation: dict) -> list[str]:
    names, counts = evaluation["labels"], evaluation["confusion"]
    found = [(row[number] / sum(row), name) for number, (name, row) in enumerate(zip(names, counts, strict=True)) if sum(row)]
    share, weakest = min(found)
    return ["", "What each label was taken for (rows: the truth, columns: the answer):\n", f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|",
            *(f"| {name} | {' | '.join(f'{count:,}' for count in row)} |" for name, row in zip(names, counts, strict=True)),
            "", f"It finds {share:.1%} of the texts with the label {weakest}, the least of all labels."]


def _leaks(leaks: dict | None) -> list[str]:
    if not leaks:
        return ["", "Whether these texts are among those it learned from was not checked."]
    if not leaks["texts"]:
        return ["", "None of these texts is in the texts it learned from, by shared runs of words; a text told in other words is not noticed."]
    without = leaks["accuracy_without"]
    rest = (f"; without them the accuracy is {without['value']:.3f} ({without['low']:.3f} to {without['high']:.3f})" if without else "")
    return ["", f"**{leaks['texts']:,} of these texts are, wholly or mostly, in the texts it learned from**{rest}."]


def _data(run: dict) -> list[str]:
    about, data = run.get("about", {}), str(run.get("data", "unknown"))
    counts = [f"{about[name]:,} {words}" for name, words in (("texts", "texts"), ("validation_texts", "validation texts")) if name in about]
    lines = ["\n## What it learned from\n", f"`{data}`" + (f": {', '.join(counts)}" if counts else "") + ".",
             f"Terms: {about.get('licence') or licence_of(data)}."]
    if about.get("copies_left_out"):
        lines.append(f"{about['copies_left_out']:,} training texts were left out because they are test texts.")
    return lines


def _training(run: dict) -> list[str]:
    about, environment = run.get("about", {}), run.get("environment", {})
    rows = [f"| {name} | {run[name]} |" for name in LEARNING if run.get(name) not in (None, "")]
    rows += [f"| {name} | {about[name]} |" for name in ("trained_parameters", "precision", "device", "processes") if name in about]
    rows += [f"| {name} | {environment[name]} |" for name in ("torch", "python") if name in environment]
    return ["\n## How it was trained\n", "| setting | value |", "|---|---|", *rows, "", "All settings are in `training.json`."]


def _use(folder: Path, shape: dict) -> list[str]:
    "The lines that open it."
    endings = {"ForSequenceClassification": "AutoModelForSequenceClassification", "ForMaskedLM": "AutoModelForMaskedLM", "ForCausalLM": "AutoModelForCausalLM"}
    opener = next((name for ending, name in endings.items() if _architecture(shape).endswith(ending)), "AutoModel")
    inside = folder / "best" if (folder / "best" / "config.json").is_file() else folder
    place = inside.relative_to(folder.parent).as_posix() if folder.parent in inside.parents else inside.name
    return ["\n## How to open it\n", "```python", f"from transformers import {opener}, AutoTokenizer", "",
            f'model, tokenizer = {opener}.from_pretrained("{place}"), AutoTokenizer.from_pretrained("{place}")', "```"]
