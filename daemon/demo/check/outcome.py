"""What a check found out: a report on each read model, in words and as plain data.

Owns the reports and the error that there is none. Must not know how rows are come by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

MODELS = ("flight", "punctuality", "board")
SHOWN = 10
"""Differences of each read model that a report spells out."""


class CannotCheck(Exception):
    """The CSV or the database cannot be read as what it should be."""


@dataclass(slots=True)
class ModelReport:
    """What was found out about one read model."""

    model: str
    expected: int = 0
    """Rows that the CSV asks for."""
    found: int = 0
    """Rows in the database."""
    right: int = 0
    """Rows equal to the expected ones in every attribute."""
    missing: int = 0
    unexpected: int = 0
    different: int = 0
    examples: list[str] = field(default_factory=list[str])
    """The first differences, in words."""

    @property
    def wrong(self) -> int:
        """Rows that differ, lack or should not be there."""
        return self.missing + self.unexpected + self.different

    def note(self, difference: str) -> None:
        """Keep a difference for the report, unless it has enough of them."""
        if len(self.examples) < SHOWN:
            self.examples.append(difference)

    def lines(self) -> list[str]:
        """Return the report in words: a line on all rows, then one for each example."""
        verdict = (
            "all right"
            if not self.wrong
            else (f"{self.missing:,} missing, {self.unexpected:,} unexpected, {self.different:,} different")
        )
        head = f"{self.model}: {self.expected:,} rows expected, {self.found:,} found, {self.right:,} right: {verdict}"
        more = [f"  and {self.wrong - len(self.examples):,} more"] if self.wrong > len(self.examples) else []
        return [head, *(f"  {example}" for example in self.examples), *more]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found out about all read models."""

    models: tuple[ModelReport, ...]

    @property
    def right(self) -> bool:
        """Whether every row is as the CSV says, and at least one was expected."""
        return all(model.wrong == 0 and model.expected > 0 for model in self.models)

    @property
    def rows(self) -> int:
        """Rows that the CSV asked for, all of which were looked for."""
        return sum(model.expected for model in self.models)

    def text(self) -> str:
        """Return the whole report in words."""
        return "\n".join(line for model in self.models for line in model.lines())

    def document(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {"models": [asdict(model) for model in self.models]}

    @classmethod
    def merged(cls, documents: Sequence[Mapping[str, Any]]) -> Self:
        """Return one report of the documents of several, in the order of `MODELS`."""
        models = [ModelReport(**model) for document in documents for model in document["models"]]
        return cls(tuple(sorted(models, key=lambda model: MODELS.index(model.model))))
