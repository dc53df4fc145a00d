"""The command that goes from nothing to a model that learns from rewards."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from microbert_course.cli.answer import is_first_process
from microbert_course.errors import CourseError
from microbert_course.paths import runs_dir


@dataclass(frozen=True)
class Pipeline:
    """Pretrain, tune on instructions and learn from rewards in one go, with one report, as in `microbert pipeline --config configs/pipeline/arithmetic.toml`."""

    config: str
    """A .toml file with the tables pretrain, sft and grpo, or some of them; each has the settings of the command of that name."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting to change, as in `--set grpo.group_size=4`; without a stage it is changed in all. May be given several times."""
    folder: str | None = None
    """Where everything ends up; without it runs/NAME of the file."""
    overwrite: bool = False
    """Begin anew, whatever is in that folder."""
    resume: str | None = None
    """Go on with an interrupted pipeline: `latest`, or the folder of a stage's checkpoint, after which everything is run again."""
    compare: str | None = None
    """The folder of another finished pipeline, to say what is different there and what came of it."""

    def run(self) -> None:
        "Run the stages, then show the report."
        from microbert_course.posttraining.pipeline import read_pipeline, run_pipeline
        from microbert_course.posttraining.report import compare_reports

        if self.compare and not (Path(self.compare) / "report.json").is_file():
            raise CourseError(f"{self.compare} has no report.json: give the folder of a pipeline that is finished")
        folder = self.folder or runs_dir() / Path(self.config).stem
        report = run_pipeline(read_pipeline(self.config, self.set), folder, self.overwrite, self.resume)
        if not is_first_process():
            return
        print(f"\n{report.read_text(encoding='utf-8')}")
        if self.compare:
            for title, rows in compare_reports(folder, self.compare).items():
                print(f"{title}, here and in {self.compare}:")
                print("\n".join(f"  {what}: {_short(here)}, {_short(there)}" for what, here, there in rows) or "  the same")
        print(report)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
