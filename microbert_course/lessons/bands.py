"""The range that each headline number of a lesson may fall in: tests/bands.json, made by `microbert lessons bands`, never by hand.

A lesson's numbers are what it gives to show_results: numbers and booleans, and those inside dicts (`dict.key`); texts and lists
are left alone. So is what depends on the machine: a name that ends in _s, _ms, _us (tokens_per_s too), _speedup or _faster, or
begins with seconds, speed or peak_. The lesson runs once for each seed, and the range of a number is

- exactly its value, if it is a whole number or a boolean and all seeds agree;
- 0 to ten times the largest, if its name ends in _eps: a difference counted in roundings, and another processor adds in another order;
- else mean ± the largest of 6 standard deviations, 1 % of the mean and 0.00001, but not below 0 if no seed was. (With five seeds,
  a sixth falls outside by chance about once in 200 times.)"""

import datetime
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.files import read_json, write_whole
from microbert_course.lessons.catalogue import Lesson
from microbert_course.lessons.runner import LessonReport

CI = "quick cpu float32"  # where every lesson that records numbers must have bands
LEAST_SEEDS = 5
NUM_DEVIATIONS = 6
RELATIVE_FLOOR, ABSOLUTE_FLOOR = 0.01, 1e-5  # other libraries round otherwise; a number near 0 may be rounding alone
ROUNDING_ENDING = "_eps"
MACHINE_ENDINGS, MACHINE_STARTS = ("_s", "_ms", "_us", "_speedup", "_faster"), ("seconds", "speed", "peak_")


def headline_numbers(results: dict, prefix: str = "") -> dict[str, float]:  # {"loss": 5.2, "steps.adamw": 300}
    "What has a band: the numbers and booleans (as 0 and 1) of a lesson's results that do not depend on the machine."
    found = {}
    for name, value in results.items():
        if name.endswith(MACHINE_ENDINGS) or name.startswith(MACHINE_STARTS):
            continue
        if isinstance(value, dict):
            found.update(headline_numbers(value, f"{prefix}{name}."))
        elif isinstance(value, int | float):
            found[prefix + name] = value if isinstance(value, float) else int(value)
    return found


def accepted_range(name: str, values: list[float]) -> tuple[float, float]:  # low, high
    "The rule of this module's first lines, for one number over the seeds."
    if name.partition(".")[0].endswith(ROUNDING_ENDING):
        return 0.0, _short(10 * max(values))
    if len(set(values)) == 1 and isinstance(values[0], int):
        return values[0], values[0]
    mean = statistics.fmean(values)
    half = max(NUM_DEVIATIONS * statistics.stdev(values), RELATIVE_FLOOR * abs(mean), ABSOLUTE_FLOOR)
    low = mean - half if min(values) < 0 else max(0.0, mean - half)
    return _short(low), _short(mean + half)


def _short(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")


def bands_path(root: Path) -> Path:
    "The data file of a checkout."
    return root / "tests" / "bands.json"


def read_bands(root: Path) -> dict:  # {lesson: {"quick cpu float32": {"numbers": {name: {"low", "high", "values"}}, ...}}}
    "All bands; {} before the first were made."
    return read_json(bands_path(root)) if bands_path(root).is_file() else {}


def conditions(profile: str, about: dict) -> str:  # "quick cpu float32"
    "What a band holds for: another device or number format has other numbers."
    return f"{profile} {about.get('device', 'cpu')} {about.get('dtype', 'float32')}"


def command(lesson: str, profile: str = "quick") -> str:
    "What makes the bands of a lesson (given as 09_pretraining)."
    return f"`microbert lessons bands {lesson.partition('_')[0]}{' --quick' if profile == 'quick' else ''}`"


def make_band(reports: list[LessonReport], seeds: list[int]) -> dict:
    """One entry of the file, from a run a seed.

    Raises: CourseError if there are too few, or the runs do not record the same numbers."""
    if len(seeds) < LEAST_SEEDS:
        raise CourseError(f"{len(seeds)} seeds say too little about how far a number strays: give at least {LEAST_SEEDS}")
    numbers = [headline_numbers(report.results) for report in reports]
    for seed, found in zip(seeds, numbers, strict=True):
        odd = sorted(found.keys() ^ numbers[0].keys())
        if odd:
            raise CourseError(f"the runs with seeds {seeds[0]} and {seed} differ in recording {', '.join(odd)}: record the same names always")
    entry = {"date": datetime.date.today().isoformat(), "python": reports[0].about["python"], "torch": reports[0].about["torch"],
             "seeds": list(seeds), "numbers": {}}
    for name in numbers[0]:
        values = [found[name] for found in numbers]
        low, high = accepted_range(name, values)
        entry["numbers"][name] = {"low": low, "high": high, "values": [_short(value) for value in values]}
    return entry


def record(root: Path, lesson: str, key: str, entry: dict) -> None:
    "Put one entry into the file; the others stay as they are."
    bands = read_bands(root)
    bands.setdefault(lesson, {})[key] = entry
    text = json.dumps({name: dict(sorted(bands[name].items())) for name in sorted(bands)}, indent=1, allow_nan=False)
    one_line = re.sub(r"\[([^\[\]{}]*)\]", lambda values: f"[{' '.join(values.group(1).split())}]", text)
    write_whole(bands_path(root), one_line + "\n")


def band_lesson(root: Path, lesson: Lesson, profile: str, seeds: list[int], run: Callable[[Path, dict], LessonReport]) -> str | None:
    """Run a lesson once a seed with `run(path, parameters)` and record its bands; its conditions, None if it records no number.

    Raises: CourseError for a run that fails or does not answer to the rule."""
    reports = []
    for seed in seeds:
        try:
            reports.append(run(lesson.path, {"seed": seed}))
        except CourseError as error:
            hint = ": a lesson with bands needs a parameter `seed`" if "no parameter 'seed'" in str(error) else ""
            raise CourseError(f"{lesson.path.stem} with seed {seed}: {error}{hint}") from None
        if not headline_numbers(reports[-1].results):
            return None
    keys = sorted({conditions(profile, report.about) for report in reports})
    if len(keys) > 1:
        raise CourseError(f"{lesson.path.stem} ran on {' and '.join(keys)}: choose one device for all seeds")
    record(root, lesson.path.stem, keys[0], make_band(reports, seeds))
    return keys[0]


def outside(bands: dict, lesson: str, profile: str, about: dict, results: dict) -> list[str]:
    """The numbers of a run that are outside their bands, one sentence each.

    [] as well where there are no bands for its device and number format: then there is nothing to hold it against."""
    key, numbers = conditions(profile, about), headline_numbers(results)
    known = bands.get(lesson, {}).get(key, {"numbers": {}})["numbers"]
    faults = []
    for name in sorted(numbers.keys() & known.keys()):
        low, high = known[name]["low"], known[name]["high"]
        if not low <= numbers[name] <= high:
            band = f"the band {low:g} to {high:g}" if low < high else f"the one value {low:g} of its band"
            faults.append(f"{lesson}: {name} is {numbers[name]:.6g}, outside {band} ({key}); find what changed it, "
                          f"or run {command(lesson, profile)} if it was meant")
    return faults


def without_band(bands: dict, lesson: str, results: dict, key: str = CI) -> list[str]:
    """Numbers that the lesson records and no band holds, and bands of numbers that it records no more, a sentence each.

    Of `dict.key` only the name of the dict counts: what is in it may depend on the profile. A None is a number not measured here."""
    numbers = {name.partition(".")[0] for name in headline_numbers(results)}
    known = {name.partition(".")[0] for name in bands.get(lesson, {}).get(key, {"numbers": {}})["numbers"]}
    profile = key.partition(" ")[0]
    missing, stale = ", ".join(sorted(numbers - known)), ", ".join(sorted(known - results.keys()))
    faults = [f"{lesson}: no band ({key}) for {missing}; run {command(lesson, profile)}"] if missing else []
    return faults + ([f"{lesson}: a band ({key}) for {stale}, recorded no more; run {command(lesson, profile)}"] if stale else [])


def saved_faults(bands: dict, saved: dict[str, tuple[dict, dict]]) -> list[str]:  # saved: {lesson: (about, results)}
    "What the lessons' saved outputs say about the bands: numbers without one or outside it, bands of no lesson."
    faults = []
    for lesson, (about, results) in saved.items():
        faults += without_band(bands, lesson, results) + outside(bands, lesson, "full", about, results)
    return faults + [f"tests/bands.json: {lesson} is no lesson; take its entry out" for lesson in sorted(bands.keys() - saved.keys())]
