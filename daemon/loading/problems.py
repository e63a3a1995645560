"""What can be wrong with projections, said so that it can be put right.

Owns the error of loading, which holds every problem of every projection at once. Must not know where problems come
from.

Invariant: each problem names the file and line to open, what is wrong with which value, and the remedy.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from daemon.core.errors import ProjectionProblem


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake. `line` counts from 1; it is 0 where the mistake concerns a whole file or no file was found."""

    file: str
    line: int
    message: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}; {self.remedy}"


class ProjectionProblems(ProjectionProblem):
    """Projections that cannot be loaded. `problems` holds all of them, by file and line.

    `names` are those of all projections there are; None where they are not all known.
    """

    def __init__(self, problems: Iterable[Problem], names: Collection[str] | None = None) -> None:
        self.names = names
        self.problems = tuple(sorted(set(problems)))
        count = len(self.problems)
        lines = [f"{count} {'problem' if count == 1 else 'problems'} in the projections"]
        lines += [f"  {number}. {problem}" for number, problem in enumerate(self.problems, 1)]
        super().__init__("\n".join(lines))


class Mistake(Exception):
    """One mistake on its way to the collector. `line` is None where it is the projection's own."""

    def __init__(self, message: str, remedy: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.line = line


class Collector:
    """Gathers the problems of one file's projection, so that one mistake hides no other."""

    def __init__(self, file: str, line: int) -> None:
        """Place mistakes without a line of their own at `line`."""
        self.file = file
        self.line = line
        self.problems: list[Problem] = []

    def add(self, message: str, remedy: str, line: int | None = None) -> None:
        """Note one mistake."""
        self.problems.append(Problem(self.file, self.line if line is None else line, message, remedy))

    def attempt[T](self, make: Callable[[], T], fallback: T) -> T:
        """Return what `make` makes, or note its mistake and return `fallback`."""
        try:
            return make()
        except Mistake as mistake:
            self.add(mistake.message, mistake.remedy, mistake.line)
            return fallback
