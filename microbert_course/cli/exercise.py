"""Commands of a learner: exercises in the terminal, and one's own code in the library's place."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from microbert_course.cli.lessons import shown
from microbert_course.errors import CourseError


@dataclass
class ExerciseList:
    """List the exercises: number, id, kind, difficulty, minutes, points."""

    def run(self) -> None:
        "Print one line an exercise."
        from microbert_course.practice.exercises import exercises

        known = exercises()
        width = max(len(exercise.id) for exercise in known)
        for one in known:
            print(f"{one.number:>5}  {one.id:{width}}  {one.kind:7}  {one.difficulty:6}  {one.minutes:3} min  {one.points:3} points  {one.title}")


@dataclass
class ExerciseStart:
    """Copy a lesson's exercises into work/, where you solve them."""

    lesson: tyro.conf.Positional[str]
    """The lesson's number, such as 03."""

    def run(self) -> None:
        "Copy, and say where."
        from microbert_course.practice.copies import start

        copy = start(self.lesson)
        print(f"{shown(copy)}\nopen it with `jupyter lab {shown(copy)}`; `microbert exercise check {copy.stem[:2]}` checks it from here")


@dataclass
class ExerciseCheck:
    """Run your copies in work/ and check the answers."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Lessons (03) or exercises (3.1, attention.scaled_dot_product); none = everything you have started."""

    def run(self) -> None:
        "Check each in turn; status 1 if one does not pass."
        from microbert_course.practice.copies import copy_of
        from microbert_course.practice.exercises import exercises, find
        from microbert_course.practice.notebook import MISSING, judged

        asked = [one for name in self.names for one in find(name)] or [one for one in exercises() if copy_of(one.lesson).exists()]
        if not asked:
            raise CourseError("you have started no exercises: `microbert exercise start 03` begins with those of lesson 03")
        passed = 0
        for lesson in dict.fromkeys(one.lesson for one in asked):
            namespace = answers_of(lesson)
            for exercise in (one for one in asked if one.lesson == lesson):
                answer = judged(exercise, namespace.get(exercise.check.name, MISSING))
                passed += answer.passed
                print(answer.title if answer.passed else answer, flush=True)
        if passed < len(asked):
            raise CourseError(f"{passed} of {len(asked)} pass: `microbert exercise hint ID` helps with the others")


@dataclass
class ExerciseHint:
    """Show the next of an exercise's three hints."""

    id: tyro.conf.Positional[str]
    """Such as attention.scaled_dot_product, or 3.1."""

    def run(self) -> None:
        "Print it; your progress file counts it."
        from microbert_course.practice.notebook import hint

        print(hint(self.id))


@dataclass
class ExerciseSolution:
    """Show an exercise's solution, which your own progress file remembers."""

    id: tyro.conf.Positional[str]
    """Such as attention.scaled_dot_product, or 3.1."""

    def run(self) -> None:
        "Print it."
        from microbert_course.practice.notebook import solution

        print(solution(self.id))


@dataclass
class ExerciseReset:
    """Begin a lesson's exercises anew; your old copy is kept under another name."""

    lesson: tyro.conf.Positional[str]
    """The lesson's number, such as 03."""

    def run(self) -> None:
        "Copy, and say where both are."
        from microbert_course.practice.copies import reset

        copy, kept = reset(self.lesson)
        print(f"{shown(copy)} is new; your old one is {shown(kept)}")


@dataclass
class ExerciseProgress:
    """Show what you have done so far."""

    page: bool = False
    """Write it as a page for the browser, progress.html in your work folder."""

    def run(self) -> None:
        "Print one line an exercise, and the points; or write the page and say where."
        from microbert_course.practice.progress_board import progress_lines, write_page
        from microbert_course.practice.standing import standing

        print(shown(write_page()) if self.page else "\n".join(progress_lines(standing())))


@dataclass
class ExerciseReport:
    """Try every check on its own wrong and right answers, and write what came of it."""

    def run(self) -> None:
        "Write runs/checks.md; status 1 if a right answer is refused or a wrong one is not."
        from microbert_course.paths import runs_dir
        from microbert_course.practice.exercises import exercises
        from microbert_course.practice.zoo import write_report

        path = runs_dir() / "checks.md"
        faults = write_report(path, exercises())
        print(*faults, shown(path), sep="\n")
        if faults:
            raise CourseError(f"{len(faults)} answers are judged wrongly: mend those checks, {shown(path)} shows how each one does")


@dataclass
class Exercise:
    """The exercises: list, start, check, hints, progress."""

    command: (Annotated[ExerciseList, tyro.conf.subcommand("list")] | Annotated[ExerciseStart, tyro.conf.subcommand("start")]
              | Annotated[ExerciseCheck, tyro.conf.subcommand("check")] | Annotated[ExerciseHint, tyro.conf.subcommand("hint")]
              | Annotated[ExerciseSolution, tyro.conf.subcommand("solution")] | Annotated[ExerciseReset, tyro.conf.subcommand("reset")]
              | Annotated[ExerciseProgress, tyro.conf.subcommand("progress")] | Annotated[ExerciseReport, tyro.conf.subcommand("report")])

    def run(self) -> None:
        "Run the command that was chosen."
        self.command.run()


@dataclass
class Adopt:
    """Put your passing answers in the library's place: every lesson then runs on them, for you alone."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Exercises (3.1, attention.scaled_dot_product), or a lesson (03) for all that it builds."""
    list: bool = False
    """Show what is adopted."""
    drop: bool = False
    """Give the library's own back for these names, or for all if none is named."""

    def run(self) -> None:
        "Adopt, list or drop."
        from microbert_course.practice.swap import adopted_files

        if self.list and (self.drop or self.names):
            raise CourseError("--list shows all that is adopted: leave out the names and --drop, or --list")
        if self.list:
            print("\n".join(adopted_files()) or "nothing is adopted")
        elif self.drop:
            from microbert_course.practice.adoption import drop

            print("\n".join(f"{name} is the library's own again" for name in drop(self.names)) or "nothing was adopted")
        elif self.names:
            self.adopt_them()
        else:
            raise CourseError("nothing is named: give an exercise such as attention.scaled_dot_product, or --list, or --drop")

    def adopt_them(self) -> None:
        "Take what the names build from the copies in work/."
        from microbert_course.practice.adoption import adopt_answer
        from microbert_course.practice.exercises import find

        for name in self.names:
            found = find(name)
            chosen = [one for one in found if one.check.builds] or found
            namespace = answers_of(found[0].lesson)
            for exercise in chosen:
                if exercise.check.name not in namespace:
                    raise CourseError(f"your copy of {exercise.lesson} defines no {exercise.check.name}: solve exercise {exercise.number} first")
                adopt_answer(exercise, namespace[exercise.check.name])
                print(f"{exercise.check.builds} is now yours")


def answers_of(lesson: str) -> dict[str, object]:  # by name
    "What the cells of your copy define; a line for each cell that fails."
    from microbert_course.practice.answers import run_answers
    from microbert_course.practice.copies import begun_copy

    namespace, failed = run_answers(begun_copy(lesson))
    print(*(f"{lesson}, {line}" for line in failed), sep="\n", end="\n" if failed else "")
    return namespace
