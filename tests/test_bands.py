"""The ranges of headline numbers: how they are made, and that a number outside them is refused with its sentence."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from microbert_course.cli.main import main
from microbert_course.errors import CourseError
from microbert_course.lessons.bands import (
    accepted_range,
    band_lesson,
    headline_numbers,
    make_band,
    outside,
    read_bands,
    saved_faults,
    without_band,
)
from microbert_course.lessons.catalogue import Lesson
from microbert_course.lessons.runner import LessonReport

ABOUT = {"python": "3.12.1", "torch": "2.13.0", "device": "cpu", "dtype": "float32", "cpu_s": 3.0}
SEEDS = [0, 1, 2, 3, 4]
LOSSES = [4.30, 4.27, 4.31, 4.29, 4.28]  # standard deviation 0.0158


def report(results, **about):
    return LessonReport(Path("09_planted.ipynb"), Path("executed.ipynb"), "quick", {}, results, 5.0, {**ABOUT, **about})


@pytest.fixture
def bands():
    runs = [report({"loss": loss, "steps": 300, "is_better": True}) for loss in LOSSES]
    return {"09_planted": {"quick cpu float32": make_band(runs, SEEDS)}}


def faults(bands, results, profile="quick", **about):
    return outside(bands, "09_planted", profile, {**ABOUT, **about}, results)


# --- the rule

@pytest.mark.parametrize(("values", "expected"), [
    ([300] * 5, (300, 300)),  # a count that chance does not change is exact
    ([1] * 5, (1, 1)),
    (LOSSES, (4.29 - 6 * 0.0158114, 4.29 + 6 * 0.0158114)),
    ([6.5] * 5, (6.435, 6.565)),  # another library may round otherwise: 1 %
    ([3e-7, 5e-7, 2e-7, 4e-7, 6e-7], (0, 4e-7 + 1e-5)),  # rounding alone
    ([-2.0] * 5, (-2.02, -1.98)),
    ([10, 12, 11, 13, 14], (12 - 6 * 1.58114, 12 + 6 * 1.58114)),  # a count that chance changes
])
def test_the_range_is_exact_for_steady_counts_else_six_deviations_or_the_floor(values, expected):
    assert accepted_range("loss", values) == pytest.approx(expected, rel=1e-5)


def test_a_difference_counted_in_roundings_may_be_ten_times_as_large_on_another_processor():
    assert accepted_range("module_eps.float64", [1.5, 2.0, 1.0, 1.25, 1.75]) == (0.0, 20.0)


def test_texts_lists_and_what_depends_on_the_machine_have_no_band():
    results = {"loss": 4.5, "is_better": True, "steps": {"adamw": 300, "muon": 200, "run_s": 2.0}, "train_s": 3.1, "tokens_per_s": 900.0,
               "step_ms": 3.2, "warm_speedup": 8.1, "speed_over_torch": 2.0, "seconds_to_learn": 9.0, "peak_mb": 120.5,
               "fills": [{"text": "a", "guesses": []}], "folder": "tour", "none": None}
    assert headline_numbers(results) == {"loss": 4.5, "is_better": 1, "steps.adamw": 300, "steps.muon": 200}


def test_an_entry_carries_seeds_values_date_and_versions(bands):
    entry = bands["09_planted"]["quick cpu float32"]
    assert entry["seeds"] == SEEDS and entry["torch"] == "2.13.0" and entry["python"] == "3.12.1" and len(entry["date"]) == 10
    assert entry["numbers"]["loss"]["values"] == LOSSES
    assert entry["numbers"]["is_better"] == {"low": 1, "high": 1, "values": [1] * 5}


def test_too_few_seeds_and_names_that_come_and_go_are_refused():
    with pytest.raises(CourseError, match="4 seeds say too little"):
        make_band([report({"loss": 1.0})] * 4, SEEDS[:4])
    with pytest.raises(CourseError, match="the runs with seeds 0 and 4 differ in recording extra"):
        make_band([*[report({"loss": 1.0})] * 4, report({"loss": 1.0, "extra": 2})], SEEDS)


# --- the faults

def test_a_run_within_its_bands_has_no_fault(bands):
    assert faults(bands, {"loss": 4.35, "steps": 300, "is_better": True}) == []


def test_each_number_outside_its_band_is_one_sentence(bands):
    assert faults(bands, {"loss": 5.0, "steps": 301, "is_better": False}) == [
        "09_planted: is_better is 0, outside the one value 1 of its band (quick cpu float32); "
        "find what changed it, or run `microbert lessons bands 09 --quick` if it was meant",
        "09_planted: loss is 5, outside the band 4.19513 to 4.38487 (quick cpu float32); "
        "find what changed it, or run `microbert lessons bands 09 --quick` if it was meant",
        "09_planted: steps is 301, outside the one value 300 of its band (quick cpu float32); "
        "find what changed it, or run `microbert lessons bands 09 --quick` if it was meant",
    ]


@pytest.mark.parametrize("other", [{"profile": "full"}, {"device": "cuda"}, {"dtype": "bfloat16"}])
def test_other_conditions_are_not_held_to_these_bands(bands, other):
    assert faults(bands, {"loss": 5.0}, **other) == []


def test_numbers_without_a_band_and_bands_without_a_number_are_named(bands):
    assert without_band(bands, "09_planted", {"loss": 4.3, "steps": 300, "is_better": True, "train_s": 1.0}) == []
    assert without_band(bands, "09_planted", {"loss": 4.3, "accuracy": 0.2, "words": 3}) == [
        "09_planted: no band (quick cpu float32) for accuracy, words; run `microbert lessons bands 09 --quick`",
        "09_planted: a band (quick cpu float32) for is_better, steps, recorded no more; run `microbert lessons bands 09 --quick`"]
    assert without_band(bands, "09_planted", {"loss": None, "steps": 300, "is_better": True}) == []  # not measured here
    assert without_band({}, "04_other", {"train_s": 2.0, "note": "none"}) == []


def test_saved_outputs_are_held_to_the_bands_of_a_learners_sizes(bands):
    bands["09_planted"]["full cpu float32"] = bands["09_planted"]["quick cpu float32"]
    good = {"loss": 4.3, "steps": 300, "is_better": True}
    assert saved_faults(bands, {"09_planted": (ABOUT, good)}) == []
    (fault,) = saved_faults(bands, {"09_planted": ({}, {**good, "loss": 9.0})})  # saved before the metadata named a device
    assert "loss is 9, outside the band" in fault and "run `microbert lessons bands 09` if it was meant" in fault
    assert "tests/bands.json: 09_planted is no lesson; take its entry out" in saved_faults(bands, {})


# --- making them

@pytest.fixture
def course(tmp_path, monkeypatch):
    "A checkout with one lesson whose number depends on the seed, and one that has no seed."
    cells = {"01_chance": ("seed = 0\nsize = 9  # quick: 1", "import random\nloss = size + random.Random(seed).random()"),
             "02_fixed": ("size = 2", "loss = size / 2")}
    (tmp_path / "nbs").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "settings.ini").write_text("[DEFAULT]\n")
    for name, (parameters, code) in cells.items():
        show = "from microbert_course.lessons.results import show_results\nshow_results(loss=loss, steps=size)"
        notebook = nbformat.v4.new_notebook(cells=[
            nbformat.v4.new_markdown_cell("# Planted\n\n> One number."),
            nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_markdown_cell("In <!--=steps:.1f-->?<!--/--> steps."),
            *map(nbformat.v4.new_code_cell, (code, show))])
        nbformat.write(notebook, tmp_path / "nbs" / f"{name}.ipynb")
    monkeypatch.setenv("MICROBERT_RUNS", str(tmp_path / "runs"))
    return tmp_path


def test_the_command_records_bands_and_a_run_is_held_to_them(course, capsys):
    lesson = course / "nbs/01_chance.ipynb"
    (course / "tests/bands.json").write_text('{"09_planted": {"quick cuda float32": {}}}')
    assert main(["lessons", "bands", str(lesson), "--quick"]) == 0
    assert "01_chance  quick cpu float32, 5 seeds, in " in capsys.readouterr().out
    made = read_bands(course)
    assert list(made) == ["01_chance", "09_planted"]  # the others are kept
    numbers = made["01_chance"]["quick cpu float32"]["numbers"]
    assert numbers["steps"] == {"low": 1, "high": 1, "values": [1] * 5}
    assert len(set(numbers["loss"]["values"])) == 5 and numbers["loss"]["values"][0] == pytest.approx(1.844, abs=1e-3)
    assert main(["lessons", "run", str(lesson), "--quick"]) == 0
    assert main(["lessons", "run", str(lesson), "--save"]) == 0  # no bands for full size yet
    saved = nbformat.read(lesson, as_version=4)
    assert saved.cells[2].source == "In <!--=steps:.1f-->9.0<!--/--> steps."
    assert set(saved.metadata.microbert) == {"date", "device", "dtype", "python", "seconds"}

    made["01_chance"]["full cpu float32"] = made["01_chance"]["quick cpu float32"]
    (course / "tests/bands.json").write_text(json.dumps(made))
    before = lesson.read_bytes()
    assert main(["lessons", "run", str(lesson), "--save"]) == 1
    assert "FAILED 01_chance: steps is 9, outside the one value 1 of its band (full cpu float32)" in capsys.readouterr().out
    assert lesson.read_bytes() == before  # numbers outside their bands are not shown to learners


def test_a_lesson_without_a_seed_and_too_few_seeds_are_refused(course, capsys):
    assert main(["lessons", "bands", str(course / "nbs/02_fixed.ipynb"), "--quick"]) == 1
    said = capsys.readouterr().out
    assert "FAILED 02_fixed with seed 0: the notebook has no parameter 'seed'" in said and "a lesson with bands needs a parameter `seed`" in said
    assert main(["lessons", "bands", "01", "--seeds", "4"]) == 1
    assert "give at least 5" in capsys.readouterr().err
    assert not (course / "tests/bands.json").exists()


def test_runs_on_two_devices_are_no_band_and_a_lesson_without_numbers_has_none(tmp_path):
    devices = iter(["cpu", "cuda", "cpu", "cpu", "cpu"])
    lesson = Lesson("09", Path("09_planted.ipynb"), "", "")
    with pytest.raises(CourseError, match="ran on quick cpu float32 and quick cuda float32"):
        band_lesson(tmp_path, lesson, "quick", SEEDS, lambda path, parameters: report({"loss": 1.0}, device=next(devices)))
    assert band_lesson(tmp_path, lesson, "quick", SEEDS, lambda path, parameters: report({"words": ["a"]})) is None


# --- the time of all lessons

@pytest.mark.parametrize(("seconds", "timed", "status"), [(100, "1", 0), (250, "1", 1), (250, "0", 0)])
def test_lessons_that_take_too_long_together_fail_the_run_where_time_is_judged(tmp_path, monkeypatch, seconds, timed, status):
    monkeypatch.setenv("MICROBERT_TIMED", timed)
    (tmp_path / "conftest.py").write_bytes(Path(__file__).with_name("conftest.py").read_bytes())
    shutil.copytree(Path(__file__).with_name("browser"), tmp_path / "browser")  # whose fixtures it names
    (tmp_path / "test_planted.py").write_text("import pytest\n@pytest.mark.parametrize('lesson', ['03_a', '04_b'])\n"
                                              f"def test_lesson(lesson, record_property):\n    record_property('lesson_s', {seconds})\n")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", str(tmp_path)], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == status, done.stdout
    assert f" {seconds}.0  04_b" in done.stdout and f"{2 * seconds}.0  together; the limit in CI is 480" in done.stdout
    assert ("FAILED all lessons together: 500 s" in done.stdout) == bool(status)
