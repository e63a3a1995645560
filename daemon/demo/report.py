"""What the demonstration found: counts beside what the logs' manifest says they must be, and the check of every row.

Owns the comparison and its JSON form. Must not know how the figures were come by.

Invariant: `problems` is empty only if every counter equals its expectation, every row is right, no shard is parked and
the daemon was killed as often as asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from daemon.demo.check import Report as Checked
from daemon.demo.manifest import Manifest, expected_duplicates
from daemon.demo.watch import LAYERS, Look

COUNTED = (
    "read", "applied", "duplicate_position", "duplicate_marker", "duplicate_version", "dead_lettered", "parked",
    "skipped",
)  # fmt: skip
"""The counters that must be exact. Those on rows and commits depend on how events fell into batches."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A read model of the demonstration: the source it follows, and the layer that stops that source's duplicates."""

    projection: str
    source: str
    layer: str
    """`marker` or `version`."""
    anywhere: bool
    """Duplicates are known whichever shard they come in."""


FOLLOWED = (
    Followed("flight", "flights", "version", anywhere=False),
    Followed("punctuality", "flights", "marker", anywhere=False),
    Followed("board", "movements", "marker", anywhere=True),
)


@dataclass(frozen=True, slots=True)
class Kill:
    """One moment of SIGKILL: what was settled by then, of how much, and how many replicas it hit."""

    number: int
    settled: int
    share: float
    replicas: int


@dataclass(frozen=True, slots=True)
class Phases:
    """Wall time, in seconds."""

    logs: float
    fold: float
    """From the first start of the daemon to its own end, kills and restarts included."""
    check: float

    @property
    def total(self) -> float:
        """All phases."""
        return self.logs + self.fold + self.check


@dataclass(frozen=True, slots=True)
class Counts:
    """One projection's counters, and what they must be."""

    followed: Followed
    found: Mapping[str, int]
    expected: Mapping[str, int]

    @property
    def agree(self) -> bool:
        """Whether every counter is what it must be."""
        return self.found == self.expected

    def differences(self) -> list[str]:
        """Say which counters are wrong."""
        return [
            f"{self.followed.projection}: {name} is {self.found[name]:,}, expected {self.expected[name]:,}"
            for name in COUNTED
            if self.found[name] != self.expected[name]
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """Everything that the demonstration tells at its end."""

    manifest: Manifest
    logs_reused: bool
    replicas: int = 1
    """Daemons that folded together."""
    kills_asked: int
    kills: Sequence[Kill]
    look: Look
    """The checkpoints when the daemon had ended."""
    checked: Checked
    phases: Phases
    ended: Sequence[Mapping[str, Any]] = ()
    """What the daemons that ended by themselves printed; those that were killed could not."""

    @property
    def write_units_per_event(self) -> float | None:
        """Write units of an event applied, as the daemons that ended by themselves counted; None where none cost any.

        An event counts once per projection that follows it.
        """
        applied = sum(document["counts"]["applied"] for document in self.ended)
        units = sum(
            count
            for document in self.ended
            for bill in document["consumed"]
            for name, count in bill["units"].items()
            if name.startswith("wcu:")
        )
        return units / applied if units and applied else None

    @property
    def counts(self) -> list[Counts]:
        """Each projection's counters, and what they must be."""
        return [counts_of(self.manifest, followed, self.look) for followed in FOLLOWED]

    @property
    def problems(self) -> list[str]:
        """All that is not as it must be."""
        found = [f"{shard.scope.label} is parked: {shard.reason}" for shard in self.look.parked()]
        if len(self.kills) < self.kills_asked:
            found.append(
                f"killed {len(self.kills)} of {self.kills_asked} times before the logs' end; take more flights, or "
                "ask for fewer kills"
            )
        for counts in self.counts:
            found += counts.differences()
        for model in self.checked.models:
            if model.wrong or not model.expected:
                found += model.lines()
        return found

    @property
    def events_per_second(self) -> float:
        """Events settled per second of folding, each counted once per projection that follows it."""
        return self.look.read / self.phases.fold if self.phases.fold else 0.0

    def document(self) -> dict[str, Any]:
        """Return the report for scripts."""
        manifest = self.manifest
        units = self.write_units_per_event
        return {
            "right": not self.problems,
            "problems": self.problems,
            "logs": {
                "flights": manifest.flights,
                "seed": manifest.seed,
                "months": list(manifest.months),
                "limit": manifest.limit,
                "shards": len(manifest.shards),
                "events": manifest.events(),
                "lines": manifest.lines(),
                "bytes": manifest.size_bytes,
                "reused": self.logs_reused,
            },
            "events": {"read": self.look.read, "applied": self.look.total("applied")},
            "duplicates": dict(self.look.duplicates()),
            "projections": [
                {
                    "projection": counts.followed.projection,
                    "source": counts.followed.source,
                    "layer": counts.followed.layer,
                    "counts": dict(counts.found),
                    "expected": dict(counts.expected),
                    "agree": counts.agree,
                }
                for counts in self.counts
            ],
            "rows": {
                model.model: {
                    name: getattr(model, name)
                    for name in ("expected", "found", "right", "missing", "unexpected", "different")
                }
                for model in self.checked.models
            },
            "replicas": self.replicas,
            "kills": {"asked": self.kills_asked, "done": [asdict(kill) for kill in self.kills]},
            "parked": [
                {"scope": shard.scope.label, "position": shard.position, "reason": shard.reason}
                for shard in self.look.parked()
            ],
            "events_per_second": round(self.events_per_second),
            **({} if units is None else {"write_units_per_event": round(units, 3)}),
            "seconds": {
                "logs": round(self.phases.logs, 3),
                "fold": round(self.phases.fold, 3),
                "check": round(self.phases.check, 3),
                "total": round(self.phases.total, 3),
            },
        }


def counts_of(manifest: Manifest, followed: Followed, look: Look) -> Counts:
    """Compare one projection's counters with what the manifest says was mixed in."""
    duplicates = expected_duplicates(manifest)[followed.source]
    stopped = duplicates.total if followed.anywhere else duplicates.within_shard
    expected = dict.fromkeys(COUNTED, 0) | {
        "read": manifest.lines(followed.source),
        "applied": manifest.events(followed.source),
        f"duplicate_{followed.layer}": stopped,
    }
    return Counts(followed, {name: look.total(name, followed.projection) for name in COUNTED}, expected)


def events_to_read(manifest: Manifest) -> int:
    """Return how many events are to be settled, each counted once per projection that follows it."""
    return sum(manifest.lines(followed.source) for followed in FOLLOWED)


assert {f"duplicate_{layer}" for layer in LAYERS} <= set(COUNTED)  # noqa: S101 - said when it is imported
