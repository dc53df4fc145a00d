"""Commands that run lessons: the tour for a newcomer, any lesson for those who write or check them."""

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from microbert_course.errors import CourseError
from microbert_course.paths import runs_dir
from microbert_course.practice.swap import adopted_files


@dataclass
class Tour:
    """Train a BERT on real film reviews in about a minute, and see what it learned."""

    def run(self) -> None:
        "Run nbs/00_tour.ipynb as a learner would, then print its results."
        from microbert_course.lessons import catalogue
        from microbert_course.lessons.runner import run_lesson

        lesson = catalogue.find("00")
        runs = runs_dir().resolve()
        print(f"running {shown(lesson.path)}: {lesson.summary}", flush=True)
        with CellBar() as bar:
            report = run_lesson(lesson.path, runs / "lessons" / lesson.path.name, profile="full", cell_limit_s=1800,
                                notebook_limit_s=3600, runs_folder=runs, on_progress=bar)
        print("\n".join(what_it_learned(report.results)))
        print(f"executed notebook  {shown(report.executed)}")
        print(f"loss plot          {shown(runs / report.results['run_folder'] / 'loss.png')}")
        print(f"the lesson took    {report.seconds:.0f} s")


def what_it_learned(results: dict) -> list[str]:
    """The tour's results, line by line.

    Raises: CourseError if the lesson did not record them all."""
    missing = [name for name in ("validation_loss", "unigram_loss", "fills", "run_folder") if name not in results]
    if missing:
        raise CourseError(f"the tour recorded no {' and no '.join(missing)}: pass it to show_results in nbs/00_tour.ipynb")
    loss, baseline = results["validation_loss"], results["unigram_loss"]
    verdict = "better than" if loss < baseline else "WORSE than"
    width = max((len(fill["text"]) for fill in results["fills"]), default=0)
    guesses = [", ".join(f"{word} {probability:.1%}" for word, probability in fill["guesses"]) for fill in results["fills"]]
    return [
        f"validation loss    {loss:.3f} nats, {abs(baseline - loss):.2f} {verdict} the unigram baseline of {baseline:.3f}",
        "fill in the blank",
        *(f"  {fill['text']:{width}}  {line}" for fill, line in zip(results["fills"], guesses, strict=True)),
    ]


@dataclass
class LessonsList:
    """List the lessons: number, file, what each is about."""

    def run(self) -> None:
        "Print one line a lesson."
        from microbert_course.lessons import catalogue

        for lesson in catalogue.lessons():
            print(f"{lesson.number:>3}  {shown(lesson.path):44}  {lesson.title}: {lesson.summary}")


@dataclass
class LessonsRun:
    """Run lessons, each from a clean kernel, alone and offline; any fault is one sentence and status 1."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Numbers (03), names (03_attention) or paths; none = every lesson."""
    quick: bool = False
    """Use the small sizes that the automatic tests use, instead of a learner's."""
    save: bool = False
    """Put the outputs back into the notebooks, to be committed."""
    cell_limit_s: float = 600
    """Seconds that a cell may take."""
    notebook_limit_s: float = 1800
    """Seconds that a notebook may take."""

    def run(self) -> None:
        "Run them in order; the ones after a failed lesson are run all the same."
        from microbert_course.lessons import catalogue

        if self.save and self.quick:
            raise CourseError("--save writes what a learner will see and --quick makes it small: leave one of them out")
        if adopted := ", ".join(adopted_files()):
            if self.save:
                raise CourseError(f"--save would write what your own code gives ({adopted}): `microbert adopt --drop` first")
            print(f"with your own {adopted}")
        lessons = [catalogue.find(name) for name in self.names] or catalogue.lessons()
        failed = [lesson.path.stem for lesson in lessons if not self.run_one(lesson.path)]
        if failed:
            raise CourseError(f"{len(failed)} of {len(lessons)} lessons failed: {', '.join(failed)}")

    def run_one(self, path: Path) -> bool:  # whether it ran to its end
        "Run one lesson and print its line."
        from microbert_course.lessons.bands import outside, read_bands
        from microbert_course.lessons.outputs import save_outputs
        from microbert_course.lessons.prose import fill_pages
        from microbert_course.lessons.runner import LessonFailed, run_lesson

        executed, root = runs_dir() / "lessons" / path.name, root_of(path)
        try:
            with CellBar() as bar:
                report = run_lesson(path, executed, profile="quick" if self.quick else "full", on_progress=bar,
                                    cell_limit_s=self.cell_limit_s, notebook_limit_s=self.notebook_limit_s)
        except LessonFailed as fault:
            print(f"FAILED {fault}", flush=True)
            return False
        faults = outside(read_bands(root), path.stem, report.profile, report.about, report.results) if root else []
        if self.save and not faults:
            save_outputs(report.executed, path, report.ran_on())
            own = f"{path.resolve().relative_to(root).as_posix()}: " if root else ""  # other pages are for lessons.check to name
            faults = [fault for fault in fill_pages(root) if fault.startswith(own)] if root else []
        if faults:
            print(*(f"FAILED {fault}" for fault in faults), sep="\n", flush=True)
            return False
        print(f"{report.seconds:6.1f} s  {path.stem}  {'saved' if self.save else shown(report.executed)}", flush=True)
        return True


@dataclass
class LessonsBands:
    """Run lessons with several seeds and record the range that each headline number may fall in, in tests/bands.json."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Numbers (09), names (09_pretraining) or paths; none = every lesson that records numbers."""
    seeds: int = 5
    """How many runs: seeds 0, 1, 2, …"""
    quick: bool = False
    """Use the small sizes, whose ranges the automatic tests hold the lessons to."""
    cell_limit_s: float = 600
    """Seconds that a cell may take."""
    notebook_limit_s: float = 1800
    """Seconds that a notebook may take."""

    def run(self) -> None:
        "Run them in order; the file is written after each lesson, and the ones after a failed lesson are run all the same."
        from microbert_course.lessons import catalogue
        from microbert_course.lessons.bands import LEAST_SEEDS

        if self.seeds < LEAST_SEEDS:
            raise CourseError(f"--seeds {self.seeds} says too little about how far a number strays: give at least {LEAST_SEEDS}")
        lessons = [catalogue.find(name) for name in self.names]
        lessons = lessons or [lesson for lesson in catalogue.lessons() if "show_results(" in lesson.path.read_text(encoding="utf-8")]
        failed = [lesson.path.stem for lesson in lessons if not self.run_one(lesson)]
        if failed:
            raise CourseError(f"no bands for {len(failed)} of {len(lessons)} lessons: {', '.join(failed)}")

    def run_one(self, lesson) -> bool:  # whether its bands were made
        "Run one lesson with every seed and print its line."
        from microbert_course.lessons.bands import band_lesson, bands_path
        from microbert_course.lessons.runner import run_lesson

        def run(path: Path, parameters: dict):
            with CellBar() as bar:
                return run_lesson(path, runs_dir() / "bands" / path.name, profile=profile, on_progress=bar, parameters=parameters,
                                  cell_limit_s=self.cell_limit_s, notebook_limit_s=self.notebook_limit_s)

        root, profile = root_of(lesson.path), "quick" if self.quick else "full"
        try:
            if root is None:
                raise CourseError(f"{shown(lesson.path)} is outside the course's nbs/, so it has no bands: name a lesson of the course")
            key = band_lesson(root, lesson, profile, list(range(self.seeds)), run)
        except CourseError as error:
            print(f"FAILED {error}", flush=True)
            return False
        place = f"{key}, {self.seeds} seeds, in {shown(bands_path(root))}" if key else "records no numbers, so it has no bands"
        print(f"{lesson.path.stem}  {place}", flush=True)
        return True


@dataclass
class Lessons:
    """The lessons: list them, run them, record how far their numbers stray."""

    command: (Annotated[LessonsList, tyro.conf.subcommand("list")] | Annotated[LessonsRun, tyro.conf.subcommand("run")]
              | Annotated[LessonsBands, tyro.conf.subcommand("bands")])

    def run(self) -> None:
        "Run the command that was chosen."
        self.command.run()


class CellBar:
    "A progress bar over cells that shows the line of a bar inside the running cell; silent without a terminal."

    def __enter__(self) -> "CellBar":
        from tqdm import tqdm

        width = shutil.get_terminal_size().columns
        self.drawn_at = 0.0
        self.room = max(10, width - 22)  # what the counts and the clock leave for the line
        self.bar = tqdm(total=0, bar_format="{n_fmt:>3}/{total_fmt} cells {elapsed} {desc}", disable=None, leave=False,
                        file=sys.stderr, ncols=width, nrows=20)
        return self

    def __call__(self, cell_index: int, num_cells: int, text: str) -> None:
        self.bar.total, self.bar.n = num_cells, cell_index + 1
        self.bar.set_description_str(text[:self.room], refresh=False)
        if not text or time.monotonic() - self.drawn_at > 0.1:
            self.bar.refresh()
            self.drawn_at = time.monotonic()

    def __exit__(self, *_) -> None:
        self.bar.close()


def root_of(path: Path) -> Path | None:
    "The checkout whose nbs/ a notebook is in; None for a notebook elsewhere."
    return next((folder for folder in path.resolve().parents if (folder / "settings.ini").is_file()
                 and path.resolve().is_relative_to(folder / "nbs")), None)


def shown(path: Path) -> str:
    "A path as short as it can be said from here."
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
