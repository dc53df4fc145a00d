"""What `microbert evaluate` does: a saved classifier, labelled texts, the texts it learned from, perhaps a second classifier; one report."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from microbert_course.data.labelled import LabelledTexts, load_labelled, read_labelled, without_copies
from microbert_course.data.leaks import find_leaks
from microbert_course.data.sources import PACKAGES, DataError
from microbert_course.errors import CourseError
from microbert_course.files import read_json, write_json
from microbert_course.posttraining.classification import load_sft_model
from microbert_course.posttraining.evaluation import accuracy, bootstrap, comparison, evaluate_classifier


def judge_folder(
    folder: str | Path,  # a run's, or of any saved classifier
    data: str,  # a name of labelled data, whose validation texts are judged, or a labelled file, whose texts all are
    against: str | Path | None = None,  # another classifier
    text_column: str = "",
    label_column: str = "",
    **settings,  # num_resamples, confidence, seed: as in `bootstrap`
) -> dict:  # the report, which is also written to evaluation.json in the folder
    """Judge a saved classifier on labelled texts, look for leaks from the texts of its run, and compare it with another.

    Raises: CourseError if a folder is no classifier, the texts are not to be had, or the labels of models and texts differ."""
    folder = Path(folder)
    model, tokenizer = load_sft_model(folder)
    rows = _rows(data, model.names, text_column, label_column)
    report, probabilities = evaluate_classifier(model, tokenizer, rows, **settings)
    report = {"model": str(folder), "data": Path(data).name if Path(data).is_file() else str(data), "confidence": settings.get("confidence", 0.95), **report,
              "leaks": _leaks(folder, rows, probabilities, settings)}
    if against is not None:
        other, its_tokenizer = load_sft_model(against)
        if other.names != model.names:
            raise CourseError(f"{folder} knows the labels {', '.join(model.names)} and {against} {', '.join(other.names)}: compare models of the same labels")
        _, its_probabilities = evaluate_classifier(other, its_tokenizer, rows, **{**settings, "num_resamples": 1})
        pairs = comparison(rows.labels, probabilities, its_probabilities, **settings)
        report["against"] = {"model": str(against), "mcnemar": pairs.pop("mcnemar"), "difference": pairs}
    write_json(folder / "evaluation.json", report)
    return report


def _rows(data: str, names: tuple[str, ...], text_column: str, label_column: str) -> LabelledTexts:
    if data in PACKAGES or not Path(data).is_file():
        return load_labelled(data, text_column, label_column)[1]
    return read_labelled(data, names, text_column, label_column)


def _leaks(folder: Path, rows: LabelledTexts, probabilities: np.ndarray, settings: dict) -> dict | None:  # None = the texts are not known or gone
    "How many of the judged texts stand in the texts that the folder's run learned from, and the accuracy without them."
    if not (folder / "training.json").is_file():
        return None
    run = read_json(folder / "training.json")
    if "data" not in run or "text_column" not in run:
        return None
    try:
        train = load_labelled(run["data"], run["text_column"], run["label_column"])[0]
        if run.get("test"):  # what it was tested on, it did not learn from
            train, _ = without_copies(train, read_labelled(run["test"], train.names, run["text_column"], run["label_column"]))
    except DataError:
        return None
    found = find_leaks(train.texts[: run["max_texts"] or None], rows.texts)
    rest = np.setdiff1d(np.arange(len(rows)), [leak.test_row for leak in found])
    is_right = probabilities.argmax(-1) == np.array(rows.labels)
    without = asdict(bootstrap(accuracy, np.ones(len(rest), bool), is_right[rest], **settings)) if len(rest) else None
    return {"texts": len(found), "copies": sum(leak.kind == "copy" for leak in found), "accuracy_without": without}
