"""How a failure is told: what was expected and what came, row by row, with the events that made it so.

Owns the texts. Must not decide what is a failure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from daemon.core.identity import MAIN_VIEW, RowKey
from daemon.testing.specs.outcome import ABSENT, Outcome, Row, RowDifference, spelled
from daemon.testing.specs.telling import Given
from daemon.testing.specs.variants import CHECKS, Variant
from daemon.testing.specs.watching import Finding

_MOST = 20
"""Rows, effects or events that a report shows before it only counts the others."""


class SpecFailed(AssertionError):
    """A projection does not do what its specification says, or not in every way in which a log is delivered.

    `check` names the variant or the rule that failed; empty: the expectation itself.
    """

    def __init__(self, text: str, check: str = "") -> None:
        """Say what failed."""
        super().__init__(text)
        self.check = check


def row_name(key: RowKey) -> str:
    """Name a row as a test does."""
    return spelled(key.key) if key.view == MAIN_VIEW else f"{key.view} {spelled(key.key)}"


def rows_text(
    differences: Sequence[RowDifference],
    touched: Mapping[RowKey, Sequence[str]],
    events: Mapping[str, Given],
    words: tuple[str, str] = ("expected", "got"),
) -> list[str]:
    """Return the lines that tell how rows differ. `words` name the two sides."""
    lines: list[str] = []
    for one in differences[:_MOST]:
        lines.append(f"  row {row_name(one.key)}")
        lines += _row_lines(one, words)
        by = [str(events[name]) if name in events else name for name in touched.get(one.key, ())]
        lines.append(f"    written by: {', '.join(by) if by else 'no event'}")
    if len(differences) > _MOST:
        lines.append(f"  and {len(differences) - _MOST} more rows")
    return lines


def _row_lines(one: RowDifference, words: tuple[str, str]) -> Iterable[str]:
    expected, got = words
    width = max(len(expected), len(got))
    if one.expected is None or one.got is None:
        yield f"    {expected:<{width}} {_whole(one.expected)}"
        yield f"    {got:<{width}} {_whole(one.got)}"
        return
    for name, mine, theirs in one.attributes:
        yield f"    {name}"
        yield f"      {expected:<{width}} {_value(mine, theirs)}"
        yield f"      {got:<{width}} {_value(theirs, mine)}"


def _whole(row: Row | None) -> str:
    return "no such row" if row is None else spelled(row)


def _value(value: Any, other: Any) -> str:
    """Spell a value, with its type where the two would read alike."""
    text = spelled(value)
    return f"{text} ({type(value).__name__})" if value is not ABSENT and text == spelled(other) else text


def outcome_lines(outcome: Outcome, raised: Mapping[str, str]) -> list[str]:
    """Return the lines on whatever did not go well in a run: dead letters, parked keys, stopped shards."""
    lines: list[str] = []
    for name, letter in list(outcome.letters.items())[:_MOST]:
        lines.append(f"  dead letter {name}: {letter.reason}: {letter.detail}")
        if name in raised:
            lines.append(f"    raised at {raised[name]}")
    for key, reason in outcome.parked.items():
        lines.append(f"  key {spelled(key)} is parked: {reason}")
    for shard, reason in outcome.stopped.items():
        lines.append(f"  shard {shard} does not go on: {reason}")
    return lines


def events_lines(events: Sequence[Given], keys: Mapping[int, str]) -> list[str]:
    """Return the lines that list events in an order."""
    lines = [f"    {one} of {spelled(keys[one.number])}" for one in events[:_MOST]]
    return [*lines, f"    and {len(events) - _MOST} more"] if len(events) > _MOST else lines


def listed(title: str, items: Sequence[str]) -> list[str]:
    """Return a titled list of texts, nothing for none."""
    if not items:
        return []
    more = [f"    and {len(items) - _MOST} more"] if len(items) > _MOST else []
    return [f"  {title}", *(f"    {one}" for one in items[:_MOST]), *more]


def variant_text(title: str, projection: str, variant: Variant, lines: Sequence[str], order: Sequence[str]) -> str:
    """Return the report on a variant that came to something else."""
    check = CHECKS[variant.check]
    return "\n".join(
        [
            f"{title}: `{variant.check}` ({variant.how}) comes to something else than the events as given.",
            f"  It means: {check.means}.",
            f"  Remedy: {check.remedy};",
            f'  or, where that is meant so: spec({projection}).excuse("{variant.check}", because="...").',
            "",
            *lines,
            *(["  delivered in this order:", *order] if order else []),
        ]
    )


def findings_text(title: str, projection: str, findings: Sequence[Finding]) -> str:
    """Return the report on what handlers do while they run."""
    check = findings[0].check
    lines = [line for one in findings for line in f"  {one.check}: {one}".splitlines()]
    count = len(findings)
    return "\n".join(
        [
            f"{title}: {'a handler is' if count == 1 else 'handlers are'} not pure.",
            "  A batch may be folded several times, and again by a re-delivery or rebuild: each time to the same rows.",
            *lines,
            f'  Where that is meant so: spec({projection}).excuse("{check}", because="...").',
        ]
    )
