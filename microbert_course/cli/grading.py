"""Commands for teachers: grade submissions in a sandbox, and find out which sandbox works on this machine."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from microbert_course.errors import CourseError
from microbert_course.grading.limits import Limits


@dataclass
class Grade:
    """Grade exercise notebooks, or folders of them, each in a sandbox; `microbert grade doctor` shows what isolation works here."""

    paths: tyro.conf.Positional[tuple[str, ...]]
    """Notebooks, and folders that are searched for *.ipynb; `doctor` to try the sandboxes instead."""
    out: Path = Path("grades")
    """Folder for results.csv, report.html and one results.json a submission; running again with it goes on where it stopped."""
    jobs: int = 0
    """Submissions at the same time; 0 = one a core."""
    seed: int | None = None
    """Replays a grading; without it the inputs are fresh and secret."""
    exercise: str | None = None
    """The lesson that all files belong to (03); otherwise each file's name says it."""
    notebook_s: float = Limits.notebook_s
    """Seconds for the cells of a notebook."""
    exercise_s: float = Limits.exercise_s
    """Seconds for one exercise, after the cells."""
    memory_mb: int = Limits.memory_mb
    """Memory of a sandbox, torch's own three quarters of a gigabyte included."""
    require_isolation: bool = False
    """Refuse to grade where only weak isolation works."""
    nbgrader: bool = False
    """Write nbgrader.csv as well, with the columns of nbgrader's export."""

    def run(self) -> None:
        "Grade, or try the sandboxes."
        if self.paths == ("doctor",):
            return show_sandboxes()
        self.grade()

    def grade(self) -> None:
        "Choose the isolation, grade, say where the results are."
        from microbert_course.grading import batch, doctor
        from microbert_course.grading.find import text

        if not self.paths:
            raise CourseError("nothing to grade: give notebooks, or folders that hold them")
        if self.jobs < 0:
            raise CourseError(f"--jobs {self.jobs} is negative: give a number of submissions to grade at the same time")
        if self.seed is not None and self.seed < 0:
            raise CourseError(f"--seed {self.seed} is negative: give 0 or more")
        limits = Limits(notebook_s=self.notebook_s, exercise_s=self.exercise_s, memory_mb=self.memory_mb)
        level = doctor.choose(self.require_isolation)
        print(f"isolation: {level}", flush=True)
        with SubmissionBar() as bar:
            records = batch.Batch([Path(path) for path in self.paths], self.out, level, limits, self.jobs or batch.cores(), self.seed,
                                  self.exercise, self.nbgrader).run(bar.begin, bar.done)
        print(f"graded {sum(not record.reason for record in records)} of {len(records)} notebooks")
        print(f"results  {text(self.out / 'results.csv')}")
        print(f"report   {text(self.out / 'report.html')}")


@dataclass
class SubmissionBar:
    "A progress bar over submissions; what cannot be graded is one line above it."

    bar: object = field(default=None)

    def __enter__(self) -> "SubmissionBar":
        return self

    def begin(self, total: int, lines: list[str]) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=total, unit=" submissions", disable=None, file=sys.stderr)
        for line in lines:
            self.bar.write(line)

    def done(self, record) -> None:
        if record.reason:
            self.bar.write(f"{record.file}: {record.reason}")
        self.bar.update()

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()


def show_sandboxes() -> None:
    """Print what each level stopped, and which one grading will use.

    Raises: CourseError if none works."""
    from microbert_course.grading import doctor

    findings = [doctor.probe(level) for level in doctor.LEVELS]
    print(*doctor.table(findings), sep="\n")
    best = next((finding.level for finding in findings if finding.is_fit), None)
    if best is None:
        raise CourseError("no sandbox can be started here: install bubblewrap, or grade on Linux")
    print(f"Grading here uses: {best}.")
