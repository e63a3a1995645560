"""The second cursor of a shard: how far a re-delivery has come, as the checkpoint holds it.

Owns the value, its stored form and the names of what it counts. Must not know what is done with the events between the
two ends (`daemon.core.redelivery` decides that).

Invariants: it moves only together with what its events came to, in one commit; the live position lies at or above its
end; its counters are exact across any number of kills, since they are committed with its position.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from daemon.core.positions import Position, parse_position, position_text


class CursorState(StrEnum):
    """Where a re-delivery stands."""

    RUNNING = "running"
    DONE = "done"
    ABORTED = "aborted"
    FAILED = "failed"
    """It cannot go on: the log no longer holds its range. What it applied stays applied."""


CURSOR_COUNTERS = (
    "read", "duplicate_position", "duplicate_marker", "duplicate_version",
    "late_dead_lettered", "late_parked", "late_skipped", "failed", "left", "rows", "commits", "busy_ms",
)  # fmt: skip
"""`read` is the sum of duplicate_*, late_* (applied late: what was listed so), failed and left (still waiting).

`rows` are the rows it wrote, `busy_ms` the milliseconds it worked.
"""


@dataclass(frozen=True, slots=True)
class Redelivery:
    """A range of one shard's log that is folded again beside the live one.

    `after` (exclusive) to `until` (inclusive), `position` reached. `id` is its operation's; `command` is `rewind` or
    `replay`. `reason`: why it failed or was ended, for people.
    """

    id: str
    command: str
    after: Position
    until: Position
    position: Position
    began: datetime
    state: CursorState = CursorState.RUNNING
    ended: datetime | None = None
    reason: str = ""
    counters: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def active(self) -> bool:
        """Whether there is more of it to fold."""
        return self.state is CursorState.RUNNING

    @property
    def late(self) -> int:
        """How many events it applied late: formerly dead-lettered, parked or skipped."""
        return sum(count for name, count in self.counters.items() if name.startswith("late_"))

    @property
    def suppressed(self) -> Mapping[str, int]:
        """How many events were found applied, by the layer that proved it."""
        return {
            layer: self.counters.get(f"duplicate_{layer}", 0) for layer in ("position", "marker", "version")
        }  # fmt: skip

    @property
    def events_per_second(self) -> float:
        """How fast it went while it worked; 0 before it did."""
        busy = self.counters.get("busy_ms", 0)
        return self.counters.get("read", 0) * 1000 / busy if busy else 0.0


def cursor_form(cursor: Redelivery) -> dict[str, Any]:
    """Return a cursor as plain text and numbers, as stores keep it."""
    form: dict[str, Any] = {
        "id": cursor.id,
        "command": cursor.command,
        "after": position_text(cursor.after),
        "until": position_text(cursor.until),
        "position": position_text(cursor.position),
        "began": cursor.began.isoformat(),
        "state": str(cursor.state),
        "counters": dict(cursor.counters),
    }
    if cursor.ended is not None:
        form["ended"] = cursor.ended.isoformat()
    if cursor.reason:
        form["reason"] = cursor.reason
    return form


def cursor_of(form: Mapping[str, Any]) -> Redelivery:
    """Return the cursor that `cursor_form` wrote."""
    ended = form.get("ended")
    return Redelivery(
        id=form["id"],
        command=form["command"],
        after=parse_position(form["after"]),
        until=parse_position(form["until"]),
        position=parse_position(form["position"]),
        began=datetime.fromisoformat(form["began"]),
        state=CursorState(form["state"]),
        ended=None if ended is None else datetime.fromisoformat(ended),
        reason=form.get("reason", ""),
        counters=form["counters"],
    )


def told(cursor: Redelivery) -> str:
    """Say in a sentence what a re-delivery came to."""
    counters = cursor.counters
    layers = ", ".join(f"{count} by {layer}" for layer, count in cursor.suppressed.items() if count) or "none"
    late = f"{cursor.late} applied late" if cursor.late else "0 rows changed"
    rest = "".join(
        f", {counters[name]} {what}"
        for name, what in (("failed", "failed again"), ("left", "left where they wait"))
        if counters.get(name)
    )
    ends = {CursorState.DONE: "", CursorState.RUNNING: "under way: "}.get(cursor.state, f"{cursor.state}: ")
    reason = f" ({cursor.reason})" if cursor.reason else ""
    return f"{ends}{counters.get('read', 0)} events delivered again; suppressed {layers}; {late}{rest}{reason}"
