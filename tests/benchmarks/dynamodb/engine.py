"""Our side: the daemon's own parts on DynamoDB tables of one prefix, in this process, over real sockets."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from daemon.actors.runtime import Runtime
from daemon.actors.supervisor import Supervisor
from daemon.app import Daemon, SystemClock, generations_of, policy_of, serve
from daemon.cli.loop import run_async
from daemon.control.engine import Control
from daemon.coordination.solo import SoloCoordinator
from daemon.loading import compile_class
from daemon.ports.observer import BatchCommitted, CommitDelayed, Fact, Observer
from daemon.ports.source import Source
from daemon.settings import Settings
from daemon.sources.envelopes import CloudEvents
from daemon.sources.file import FileSource
from daemon.stores.dynamodb import Connections, DynamoDbStore
from daemon.telemetry.facts import FanOut
from daemon.wire.aws_access import AwsAccess, aws_session
from daemon.wire.aws_json import DYNAMODB, AwsJson
from tests.benchmarks.daemons import Spent
from tests.benchmarks.dynamodb.moves import SOURCE

REGION, KEYS = "eu-central-1", ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", None)


type _Moment = tuple[int, float, float]
"""Events committed, and seconds: on the wall, of CPU."""


class Lap:
    """What was spent between two counts of events: after the warm-up, and at the end.

    Where no commit lies between them, as in tiny runs, it begins with its making.
    """

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._moments: list[_Moment] = [self._made(0)]

    def at(self, events: int) -> None:
        """So many events are committed."""
        if self._first <= events <= self._last:
            del self._moments[2:]
            self._moments.append(self._made(events))

    @staticmethod
    def _made(events: int) -> _Moment:
        return events, time.perf_counter(), time.process_time()

    @property
    def wall(self) -> float:
        """Seconds from making to the last event."""
        return self._moments[-1][1] - self._moments[0][1]

    @property
    def spent(self) -> Spent:
        """Seconds an event."""
        (before, wall, cpu), (after, wall_then, cpu_then) = self._moments[-2:]
        return Spent((wall_then - wall) / (after - before), (cpu_then - cpu) / (after - before))


@dataclass(slots=True)
class Watching:
    """Adds up what commits tell."""

    lap: Lap
    events: int = 0
    commits: int = 0
    delays: int = 0
    cpu: float = 0.0
    """Seconds of the whole run, its beginning and end included."""
    counts: Counter[str] = field(default_factory=Counter[str])
    units: Counter[str] = field(default_factory=Counter[str])
    """What commits consumed."""

    def see(self, fact: Fact) -> None:
        if type(fact) is BatchCommitted:
            self.commits += 1
            self.events += fact.counts.get("read", 0)
            self.counts.update(fact.counts)
            self.units.update(fact.consumed)
            self.lap.at(self.events)
        elif type(fact) is CommitDelayed:
            self.delays += 1


@dataclass(frozen=True, slots=True)
class Divided:
    """Clients whose commits go elsewhere than reads and takes."""

    commits: AwsJson
    reads: AwsJson
    leases: AwsJson
    access: AwsAccess

    async def aclose(self) -> None:
        await self.access.aclose()


type Wrap = Callable[[AwsJson], AwsJson]


def connecting(commits: str, rest: str, wrap: Wrap | None = None) -> Callable[[], Awaitable[Connections]]:
    """Return what a store connects with. `wrap`: what looks at the commits' client."""

    async def connect() -> Connections:
        access = AwsAccess(aws_session(region=REGION, keys=KEYS))
        hot, others = [access.pools(await access.endpoint(DYNAMODB, url)) for url in (commits, rest)]
        client = hot.commits if wrap is None else wrap(hot.commits)
        return Divided(client, others.reads, others.leases, access)

    return connect


def fold_moves(
    projection: type,
    logs: str,
    store: DynamoDbStore,
    lap: Lap | None = None,
    *,
    source: type[FileSource] = FileSource,
    also: Observer | None = None,
) -> Watching:
    """Fold all that the files hold, as `projectiond run` would with default settings, and end.

    `also`: who is told beside the watch.
    """
    watching = Watching(lap or Lap(0, 0))
    observer = watching if also is None else FanOut([watching, also])

    async def main() -> None:
        await store.open()
        try:
            daemon = await _built(
                projection, source(SOURCE, [logs], CloudEvents(), clock=SystemClock()), store, observer
            )
            result = await serve(daemon, once=True)
            assert result.drained
            assert not result.parked, result.parked
        finally:
            with anyio.CancelScope(shield=True):
                await store.aclose()

    begun = time.process_time()
    run_async(main)
    watching.cpu = time.process_time() - begun
    return watching


async def _built(projection: type, source: Source, store: DynamoDbStore, observer: Observer) -> Daemon:
    specs = compile_class(projection, (SOURCE,))
    generations = await generations_of(store, specs, observer)
    clock = SystemClock()
    sources = {SOURCE: source}
    runtime = Runtime(
        store=store,
        sources=sources,
        specs=generations,
        clock=clock,
        observer=observer,
        policy=policy_of(Settings(), []),
    )
    supervisor = Supervisor(runtime, SoloCoordinator(dict.fromkeys(generations, (SOURCE,)), sources, clock))
    return Daemon(runtime, supervisor, Control(store, sources, generations, supervisor, clock), 25.0)
