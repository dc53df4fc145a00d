"""What a submission may use up."""

from dataclasses import asdict, dataclass

from microbert_course.errors import CourseError

MOST = 1_000_000  # eleven days, a terabyte


@dataclass(frozen=True)
class Limits:
    "Of one exercise, each of which runs in a process of its own; the sandbox may be ended up to 2 s late."

    notebook_s: float = 60
    """Wall-clock seconds for the notebook's cells, which run once for every exercise."""
    exercise_s: float = 60
    """Wall-clock seconds for putting one answer to use, on all its inputs."""
    memory_mb: int = 2048
    """Resident memory of all processes of the sandbox together, torch's own three quarters of a GB included."""
    processes: int = 64
    """Processes and threads."""
    files: int = 256
    """Open files of one process."""
    file_mb: int = 64
    """Size of a file; each of the three writable folders holds twice that."""
    output_mb: int = 32
    """What an exercise may give back."""

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not 0 < value <= MOST:  # not NaN either
                raise CourseError(f"--{name.replace('_', '-')} {value} is no limit: give a number above 0, at most {MOST:,}")
        if self.memory_mb < 768:
            raise CourseError(f"--memory-mb {self.memory_mb} is less than torch itself needs: give at least 768")
