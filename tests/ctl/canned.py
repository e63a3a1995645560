"""An engine whose answers are fixed, so that what is shown of them can be held to goldens."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import anyio.lowlevel

from daemon.control.requests import Reached, WaitFor
from daemon.control.serving import Tell
from daemon.core import again, commands, reports
from daemon.core.commands import Actor
from daemon.core.errors import CommandRefused, RefusalCode
from daemon.core.identity import Generation, Scope

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ORDERS = Generation("order-summary", 1)
SHARDS = [Scope("order-summary", 1, "orders", f"orders-{number}.jsonl") for number in range(3)]
COUNTERS = {"read": 1_204_718, "applied": 1_204_000, "duplicate_marker": 700, "dead_lettered": 18, "commits": 903}


def shard(number: int, state: str = "running", **more: Any) -> reports.ShardStatus:
    """One shard's status."""
    fields: dict[str, Any] = {
        "replica": "web-1-4f2a", "here": number != 1, "position": f"0.{4_711 + number}", "watermark": NOW,
        "caught_up": number == 0, "epoch": 7, "counters": COUNTERS,
    }  # fmt: skip
    return reports.ShardStatus(SHARDS[number], state, **(fields | more))


STUCK = shard(
    2,
    "parked",
    caught_up=False,
    why="handler-raised: KeyError: 'total'",
    since=NOW - timedelta(minutes=12, seconds=5),
    stuck_at="0.4714",
    leave="projectionctl resume order-summary-g1:orders/orders-2.jsonl",
)
STATUS = reports.StatusReport(
    NOW,
    "web-1-4f2a",
    ("web-1-4f2a", "web-2-77b1"),
    (
        reports.ProjectionStatus(
            ORDERS, 3, live=True, code=True, shards=3, states={"running": 2, "parked": 1}, stuck=(STUCK,), paused=None,
            newest=12, underway=(),
        ),
    ),
)  # fmt: skip
LAGS = (
    reports.ShardLag(
        SHARDS[0], "running", "0.4711", "0.4711", 0, 0, 0.0, 0.0, None, None, None,
    ),
    reports.ShardLag(
        SHARDS[1], "running", "0.4712", "0.99000", 12_345, 2_469_000, 3_725.0, 812.5, 15.2, 3, 86_400.0,
    ),
    reports.ShardLag(
        SHARDS[2], "parked", "0.4713", None, None, 1_024, None, None, None, None, None, "the log is away",
    ),
)  # fmt: skip
AUDIT = reports.AuditReport((
    reports.AuditEntry(
        ORDERS, 12, "r-12", "pause", "order-summary", {"reason": "INC-7"}, Actor(1000, "ada", "web-1", 99), NOW,
        2, 1, 0,
        (
            reports.AuditedShard(
                SHARDS[0], "done", "paused", {"state": "running"}, {"state": "paused"}, "web-1-4f2a", NOW
            ),
            reports.AuditedShard(SHARDS[1], "pending", "its owner has not obeyed yet", {}, {}, None, None),
        ),
    ),
))  # fmt: skip
EXPLANATION = reports.Explanation((
    reports.Provenance(
        ORDERS, live=True, view="main", key="order-17", present=True, deleted=False, version=4,
        src="orders/orders-0.jsonl@0.4690#3f1c", source="orders",
        shard="orders-0.jsonl", position="0.4690", event_id="3f1c", sequences={}, marked="found", commit_seq=903,
        at_or_below=True, parked=False,
    ),
))  # fmt: skip
TAIL = reports.TailRow(
    SHARDS[0],
    NOW,
    "0.4711",
    (
        reports.TailEvent("0.4709", "3f1c", "OrderPlaced", "order-17", "applied"),
        reports.TailEvent("0.4710", "3f1c", "OrderPlaced", "order-17", "duplicate-marker"),
        reports.TailEvent("0.4711", "", "", "", "failed"),
    ),
    17,
    {"applied": 18, "duplicate-marker": 1, "failed": 1},
)


def answer(command: str, target: str, request: str, *, pending: int = 0, refused: int = 0) -> reports.Answer:
    """What became of a change, by three shards."""
    statuses = ["refused"] * refused + ["pending"] * pending
    statuses += ["done"] * (len(SHARDS) - len(statuses))
    details = {"done": "obeyed", "pending": "its owner is starting", "refused": "it stands elsewhere"}
    shards = tuple(
        reports.ShardAnswer(scope, status, details[status]) for scope, status in zip(SHARDS, statuses, strict=True)
    )
    done = statuses.count("done")
    return reports.Answer(command, target, request, (reports.Accepted(ORDERS, 13),), shards, done, pending, refused)


CURSOR = again.CursorReport(
    SHARDS[0], "rewind", "r-9", "done", "start", "0.4711", "0.4711", 1_204_700, {"position": 1_204_000, "marker": 682},
    {"dead-letter": 17}, 1, 0, 17, 91_250.5, NOW - timedelta(seconds=13), NOW,
    "1,204,682 of 1,204,700 events were suppressed, 17 applied late, 17 rows changed",
)  # fmt: skip
PLAN = again.PlanReport(
    ORDERS, "5f0c9a", "earliest", "0.4711",
    (
        again.ShardPlan(
            SHARDS[0], "start", "0.4711", 1_204_700, {"position": 1_204_000, "marker": 682}, {"dead-letter": 17}, 1, 0,
            603, {"rows": 17.0, "state": 1_206.0}, 17,
        ),
        again.ShardPlan(
            SHARDS[1], "start", "0.4711", 0, {}, {}, 0, 0, 0, {}, 0, refused="it lies beyond the marker horizon",
        ),
    ),
    1_204_700, 1_204_682, 17, timedelta(seconds=13.25), 1_223.0, 0.000764, ("notify",),
    (again.RowChange(SHARDS[0], "main", "order-17", {"status": "placed"}, {"status": "shipped"}),), 16,
)  # fmt: skip
LETTER = again.Letter(SHARDS[0], "0.4700", "3f1c", "order-17", "handler-raised", "placed", NOW, None)
PARKED = again.ParkedKey(
    SHARDS[0], "order-17", 4, "0.4690", "3f1a", "handler-raised", NOW - timedelta(hours=3), "release"
)
AGAIN: dict[type[object], object] = {
    again.ReplayPlan: PLAN,
    again.ReplayStatus: again.CursorsReport(NOW, (CURSOR,)),
    again.LettersList: again.LettersReport(
        NOW, 18, {"handler-raised": 17, "not-json": 1}, {SHARDS[0].label: 18}, (LETTER,)
    ),
    again.LettersShow: again.LetterReport(
        LETTER, "KeyError: 'total'", '{"order_id":"order-17"}', 23,
        "projectionctl dead-letters retry order-summary-g1:orders/orders-0.jsonl --position 0.4700",
    ),
    again.KeysParked: again.KeysReport(NOW, 2, 9, {SHARDS[0].label: 2}, (PARKED,)),
}  # fmt: skip


class CannedEngine:
    """Answers every command; `asked` holds what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Actor, str, float | None]] = []
        self.pending = 0
        self.refused = 0
        self.refusal: CommandRefused | None = None
        self.answers: dict[type, Callable[[Any], object]] = {
            commands.Status: lambda _: STATUS,
            commands.Shards: self._shards,
            commands.Lag: lambda _: reports.LagReport(NOW, LAGS),
            commands.Audit: lambda _: AUDIT,
            commands.Explain: lambda asked: replace(
                EXPLANATION, rows=tuple(replace(row, key=asked.key, view=asked.view) for row in EXPLANATION.rows)
            ),
        }

    @staticmethod
    def _shards(asked: Any) -> object:
        every = [shard(0), shard(1, pending=(13,)), STUCK]
        return reports.ShardsReport(NOW, tuple(one for one in every if asked.target.shard in {None, one.scope.shard}))

    async def run(self, command: Any, by: Actor, request: str, tell: Tell, wait: float | None = None) -> object:
        """Carry nothing out."""
        self.asked.append((command, by, request, wait))
        if self.refusal is not None:
            raise self.refusal
        if isinstance(command, commands.Top):
            for _ in range(2):
                tell(reports.TopRow(NOW, LAGS))
            return None
        canned = self.answers.get(cast("type[object]", type(command)))
        if type(command) in AGAIN:
            return AGAIN[cast("type[object]", type(command))]
        if canned is not None:
            return canned(command)
        for settled in range(len(SHARDS) + 1):
            tell(reports.Progress(settled, len(SHARDS)))
        return answer(command.name, command.target.label, request, pending=self.pending, refused=self.refused)

    async def wait_for(self, wanted: WaitFor, tell: Tell) -> object:
        """Reach what is wanted, but for one position."""
        if wanted.timeout == 0:
            raise CommandRefused(RefusalCode.PENDING, "it stands at 0.4711 after 0 seconds", "wait again")
        text = wanted.event or ".".join(map(str, wanted.position or ()))
        return Reached(ORDERS, SHARDS[0] if wanted.position else None, text, "0.4711" if wanted.position else None)

    async def tail(self, command: commands.Tail, tell: Tell) -> object:
        """Tell of one commit, then of nothing."""
        tell(TAIL)
        await anyio.lowlevel.checkpoint()
        return None
