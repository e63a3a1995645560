"""The composition root: settings in, a running daemon out.

The one place that builds the real clock, stores, sources, coordinator and observers, and that reads signals. Everything
it builds is handed down; nothing below reaches up.

Invariants: signals are read before anything is opened. A first SIGTERM or SIGINT drains within the grace period, or
ends the opening where nothing is run yet; a second one exits at once, which is safe, since a
commit is whole or absent and the next owner reads which. Leaving drained is exit code 0.
"""

import gc
import os
import pwd
import random
import re
import signal
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from daemon.actors.runtime import EnginePolicy, Runtime
from daemon.actors.spending import Spending
from daemon.actors.supervisor import Supervisor
from daemon.assembly import stores as assembly
from daemon.assembly.control import Doors, doors_of
from daemon.assembly.groups import ShowsProgress, group_members
from daemon.assembly.patience import heard_of, opened_in_time
from daemon.assembly.sources import remember_checkpoints, sources_of, starts_of, tell_empty
from daemon.assembly.telemetry import tracing_of
from daemon.control.engine import Control
from daemon.coordination.group import GroupCoordinator, Member
from daemon.coordination.leases import LeaseCoordinator
from daemon.coordination.solo import SoloCoordinator
from daemon.core.batcher import BatchPolicy
from daemon.core.budget import Budget
from daemon.core.circuit import CircuitPolicy
from daemon.core.commands import Actor, Resume, Target
from daemon.core.generations import choose
from daemon.core.identity import Generation, Scope
from daemon.core.leases import LeaseBook, LeasePolicy
from daemon.core.projection import OnError, OnLate, ProjectionSpec
from daemon.core.recovery import RetryPolicy
from daemon.loading import load_projections
from daemon.ports.clock import Clock
from daemon.ports.coordinator import Coordinator
from daemon.ports.observer import Fact, GenerationNotRun, Observer
from daemon.ports.source import Source
from daemon.ports.store import Store
from daemon.ports.vitals import TellsVitals
from daemon.settings import Settings, SettingsError
from daemon.settings.explain import unknown_projections
from daemon.settings.problems import DEFAULT, dotted
from daemon.telemetry.facts import FanOut

if TYPE_CHECKING:
    from daemon.telemetry.site import TelemetrySite

MARKER_BYTES = 128
"""Memory of one id in a marker window, at most."""
SECOND_SIGNAL_EXIT = 130
_HOST_CHARACTERS = 12
_CHANCE_CHARACTERS = 10
_MIB = 1024 * 1024
_COLLECT_AFTER = 500_000
"""Container objects made since the last look of the cyclic collector."""
_SWITCH_SECONDS = 0.0005
"""How long a store's thread waits for the interpreter, ten times less than by default: it waits after each statement,
while it holds the store's lock, and with it every other process."""


class SystemClock:
    """The real clock: wall time, monotonic time, sleep and chance."""

    def now(self) -> datetime:
        """Return the wall-clock time, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)

    def draw(self) -> float:
        """Return a random number in [0, 1)."""
        return random.random()

    def unique(self) -> str:
        """Return a fresh UUID as text."""
        return str(uuid.uuid4())


class Unobserved:
    """An observer that looks away."""

    def see(self, fact: Fact) -> None:
        """Do nothing."""


@dataclass(slots=True)
class Daemon:
    """A daemon ready to run."""

    runtime: Runtime
    supervisor: Supervisor
    control: Control
    grace_period: float
    site: "TelemetrySite | None" = None
    """Where metrics and health can be asked for."""
    doors: Doors | None = None
    """Where commands come in."""
    answer: float = 5.0
    """How long a source may take to answer, in seconds."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: whether everything was drained in time, and the shards that need a person."""

    drained: bool
    parked: Sequence[tuple[Scope, str]] = ()


def specs_of(settings: Settings, origins: Mapping[str, str] | None = None) -> list[ProjectionSpec]:
    """Load every projection and lay the settings' overrides over it; `origins` as `LoadedSettings` has them.

    Raises ProjectionProblems, or SettingsError for overrides of projections that there are not, naming all problems.
    """
    specs = load_projections(settings.daemon.projections, settings.sources)
    strangers = unknown_projections(overridden(settings, origins or {}), {spec.name for spec in specs})
    if strangers:
        raise SettingsError(strangers)
    return [_overridden(spec, settings) for spec in specs]


def overridden(settings: Settings, origins: Mapping[str, str]) -> dict[str, str]:
    """Return the projections that have a table of overrides, and where each comes from."""
    found: dict[str, str] = {}
    for name in settings.projections:
        table = f"{dotted(('projections', name))}."
        given = [origin for key, origin in origins.items() if key.startswith(table) and origin != DEFAULT]
        found[name] = given[0] if given else DEFAULT
    return found


def _overridden(spec: ProjectionSpec, settings: Settings) -> ProjectionSpec:
    own = settings.projections.get(spec.name)
    effective = settings.for_projection(spec.name)
    changes: dict[str, object] = {}
    if (own and own.marker_window_ids) or "marker_window" not in spec.explicit:
        changes["marker_window"] = effective.marker_window_ids
    if (own and own.marker_retention_days) or "marker_retention" not in spec.explicit:
        changes["marker_retention"] = timedelta(days=effective.marker_retention_days)
    if (own and own.late) or "late" not in spec.explicit:
        changes["late"] = OnLate(effective.late)
    if effective.on_error is not None:
        changes["on_error"] = OnError(effective.on_error)
    return replace(spec, **changes)  # pyright: ignore[reportArgumentType]


def policy_of(settings: Settings, names: Sequence[str]) -> EnginePolicy:
    """Turn settings into the engine's policy."""
    engine, retry, circuit = settings.engine, settings.engine.retry, settings.engine.circuit
    leases = lease_policy_of(settings)
    batches: dict[str, BatchPolicy] = {}
    for name in names:
        effective = settings.for_projection(name)
        batches[name] = BatchPolicy(effective.batch_max_events, engine.batch_max_bytes, effective.linger_ms / 1000)
    return EnginePolicy(
        batch=BatchPolicy(engine.batch_max_events, engine.batch_max_bytes, engine.linger_ms / 1000),
        circuit=CircuitPolicy(circuit.max_dead_letters_in_a_row, circuit.window_events, circuit.max_dead_letter_share),
        retry=RetryPolicy(
            initial_backoff=retry.initial_backoff_ms / 1000,
            max_backoff=retry.max_backoff_ms / 1000,
            max_row_conflicts=retry.max_row_conflicts,
            unknown_window=engine.commit_deadline_seconds,
            max_restarts=retry.max_restarts,
            restart_window=float(retry.restart_window_seconds),
        ),
        commit_deadline=engine.commit_deadline_seconds,
        row_cache_rows=engine.row_cache_rows,
        read_chunk_bytes=engine.read_chunk_bytes,
        marker_memory_ids=engine.marker_memory_mib * _MIB // MARKER_BYTES,
        require_version_bump=settings.daemon.require_version_bump,
        per_projection=batches,
        beat=None if leases is None else leases.beat,
        operations_poll=settings.control.poll_ms / 1000,
        redelivery_share=settings.control.redelivery_share,
    )


def budgets_of(settings: Settings, names: Sequence[str]) -> dict[str, Budget]:
    """Turn settings into the budgets of those projections that have one."""
    budgets = {name: settings.for_projection(name).write_budget_units for name in names}
    return {name: Budget(units) for name, units in budgets.items() if units is not None}


def lease_policy_of(settings: Settings) -> LeasePolicy | None:
    """Turn settings into the rules of leases; None where this process runs every shard."""
    lease = settings.coordination.lease_seconds
    return LeasePolicy(lease, settle=lease / 3) if settings.coordination.kind == "lease" else None


def coordinator_of(
    settings: Settings,
    replica: str,
    follows: Mapping[Generation, Sequence[str]],
    sources: Mapping[str, Source],
    store: Store,
    clock: Clock,
    *,
    members: Mapping[tuple[Generation, str], Member],
) -> Coordinator:
    """Build what says which shards this process runs."""
    coordination, policy = settings.coordination, lease_policy_of(settings)
    if members:
        return GroupCoordinator(
            members,
            sources,
            clock,
            look_seconds=coordination.look_for_shards_ms / 1000,
            leave_after=float(settings.daemon.grace_period_seconds),
        )
    if policy is None:
        return SoloCoordinator(follows, sources, clock)
    return LeaseCoordinator(
        LeaseBook(replica, follows, policy),
        sources,
        store,
        clock,
        poll=coordination.poll_ms / 1000,
        look=coordination.look_for_shards_ms / 1000,
        hand_over=float(settings.daemon.grace_period_seconds),
    )


def replica_name(clock: Clock) -> str:
    """Name this process among its peers: the end of the host's name, and chance. At most 23 characters."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[-_HOST_CHARACTERS:]
    return f"{host}-{clock.unique().replace('-', '')[-_CHANCE_CHARACTERS:]}"


def store_of(
    settings: Settings, clock: Clock | None = None, observer: Observer | None = None, *, read_only: bool = False
) -> Store:
    """Build the store, unopened; with the real clock, and nobody told what it consumes, unless said otherwise."""
    return assembly.store_of(settings, clock or SystemClock(), observer or Unobserved(), read_only=read_only)


async def generations_of(
    store: Store, specs: Sequence[ProjectionSpec], observer: Observer
) -> dict[Generation, ProjectionSpec]:
    """Choose the generations that run here; make a projection's very first one."""
    chosen: dict[Generation, ProjectionSpec] = {}
    for name in sorted({spec.name for spec in specs}):
        codes = {spec.version: spec for spec in specs if spec.name == name}
        records = list(await store.generations(name))
        choice = choose(records, codes)
        if choice.create is not None:
            first = codes[choice.create]
            await store.create_generation(Generation(name, 1), first.version, live=True, indexes=first.indexes)
            records = list(await store.generations(name))
            choice = choose(records, codes)
        for record in choice.run:
            chosen[record.generation] = codes[record.version]
        for record in choice.without_code:
            observer.see(GenerationNotRun(record.generation, f"no code here for version {record.version}"))
        for version in choice.waiting:
            waiting = Generation(name, len(records) + 1)
            observer.see(GenerationNotRun(waiting, f"version {version} waits for a rebuild to be started"))
    return chosen


async def build(
    settings: Settings,
    store: Store,
    clock: Clock,
    observer: Observer,
    resume: Sequence[str] = (),
    site: "TelemetrySite | None" = None,
    *,
    replica: str | None = None,
) -> Daemon:
    """Put a daemon together around an open store. `resume`: labels of parked scopes to go on with, or `all`.

    `replica`: the name of this process among its peers, drawn where it has none yet.
    """
    specs = specs_of(settings)
    generations = await generations_of(store, specs, observer)
    sources = sources_of(settings, clock)
    await remember_checkpoints(sources, store, generations)
    await tell_empty(sources, settings, observer)
    follows: Mapping[Generation, Sequence[str]] = {gen: spec.sources for gen, spec in generations.items()}
    members = group_members(settings, follows, sources)
    if members:
        observer = ShowsProgress(observer, members)
    runtime = Runtime(
        store=store,
        sources=sources,
        specs=generations,
        clock=clock,
        observer=observer,
        policy=policy_of(settings, [spec.name for spec in specs]),
        **starts_of(settings),
        replica=replica or replica_name(clock),
        spending=Spending(budgets_of(settings, [spec.name for spec in specs])),
        tracing=tracing_of(settings),
    )
    coordinator = coordinator_of(settings, runtime.replica, follows, sources, store, clock, members=members)
    supervisor = Supervisor(runtime, coordinator)
    control = Control(store, sources, generations, supervisor, clock)
    for number, label in enumerate(resume):
        # An operation like any other: what parks again needs a person again, and a peer that has the shard obeys too.
        request = f"run-{runtime.replica}-{number}"
        await control.change(Resume(Target.of(label)), myself(), request, lambda _progress: None, wait=0.0)
    grace, answer = float(settings.daemon.grace_period_seconds), settings.health.check_timeout_seconds
    return Daemon(runtime, supervisor, control, grace, site, answer=answer)


def myself() -> Actor:
    """Return who runs this process, as operations name it."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's user has no name
        user = str(uid)
    return Actor(uid, user, socket.gethostname(), os.getpid())


async def run(
    settings: Settings,
    observer: Observer,
    *,
    once: bool = False,
    resume: Sequence[str] = (),
    site: "TelemetrySite | None" = None,
    asked: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Run until a signal, or with `once` until everything the logs hold now is settled.

    A signal that comes before shards are run ends the opening: there is nothing to drain yet. `asked` tells whether one
    came even before. `resume` names parked or paused scopes (their labels, or `all`) to go on with. `site` is where
    metrics and health can be asked for, from before the store is opened, as commands can; a store that is away is
    waited for, but with `once` no longer than a read is. Raises ProjectiondError for what an operator must mend before
    it can start.
    """
    result, problem, ending = RunResult(drained=True), None, Ending()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        if asked():
            return result
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ending.follow, signals)
            try:
                with ending.opening:
                    result = await _run(settings, observer, ending, tasks, once=once, resume=resume, site=site)
            except Exception as error:  # noqa: BLE001 - raised below, alone: a group would hide it from who catches it
                problem = error
            tasks.cancel_scope.cancel()
    if problem is not None:
        raise problem
    return result


class Ending:
    """How a run is told to end: a first signal is an ask, a second one ends the process."""

    def __init__(self) -> None:
        """Nobody asked yet."""
        self.asked = anyio.Event()
        self.opening = anyio.CancelScope()
        """What a first signal cancels, as long as nothing is run."""
        self._running = False

    async def follow(self, signals: AsyncIterator[signal.Signals]) -> None:
        """Obey signals."""
        async for _ in signals:
            if self.asked.is_set():
                os._exit(SECOND_SIGNAL_EXIT)
            self.asked.set()
            if not self._running:
                self.opening.cancel()

    def runs(self) -> None:
        """Drain from now on, when asked: shards are about to run."""
        self._running = True


async def _run(
    settings: Settings,
    observer: Observer,
    ending: Ending,
    tasks: TaskGroup,
    *,
    once: bool,
    resume: Sequence[str],
    site: "TelemetrySite | None",
) -> RunResult:
    clock = SystemClock()
    store = store_of(settings, clock, observer)
    tune_collector()
    replica = replica_name(clock)
    doors = doors_of(settings, observer, clock, replica)
    if site is not None:
        await site.open()
        tasks.start_soon(site.attend)
    if doors is not None:
        doors.serve(tasks)
    try:
        told = observer if doors is None else FanOut([observer, doors.reception])
        limit = assembly.patience_of(settings) if once else None
        await opened_in_time(store, clock, told, assembly.place_of(settings), limit)
        daemon = await build(settings, store, clock, observer, resume, site, replica=replica)
        daemon.doors = doors
        await anyio.lowlevel.checkpoint()  # a signal that came by now still ends the opening
        ending.runs()
        return await serve(daemon, once=once, asked=ending.asked)
    finally:
        with anyio.CancelScope(shield=True):
            if doors is not None:
                await doors.aclose()
            await store.aclose()
            if site is not None:
                await site.aclose()


def tune_collector() -> None:
    """Have the cyclic collector look less often: a batch is thousands of objects that die together, without cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 50, 100)
    sys.setswitchinterval(_SWITCH_SECONDS)


def _let_ask(daemon: Daemon, tasks: TaskGroup) -> None:
    """Let the daemon be asked from outside for as long as it runs: for metrics, for health, by commands."""
    if daemon.site is not None:
        tasks.start_soon(_show, daemon.site, daemon)
    if daemon.doors is not None:
        world = daemon.runtime
        daemon.doors.staff(daemon.control, world, partial(world.turns.hasten, world.clock))


def _await_sources(daemon: Daemon, tasks: TaskGroup) -> None:
    """Tell of each source that has not answered yet: until it does it has no shards that could."""
    world = daemon.runtime
    for source in world.sources.values():
        tasks.start_soon(heard_of, source, world.clock, world.observer, daemon.answer)


async def _show(site: "TelemetrySite", daemon: Daemon) -> None:
    """Let the site look at the running daemon, and ask its store and sources for an answer from time to time."""
    from daemon.telemetry.exposition import Sights  # noqa: PLC0415 - a site was made, so it is imported

    runtime = daemon.runtime
    spending, clock, sources = runtime.spending, runtime.clock, runtime.sources
    sights = Sights(
        shards=daemon.supervisor.vitals,
        budgets=lambda: spending.vitals(clock.monotonic()),
        sources=lambda: [source.vitals() for source in sources.values() if isinstance(source, TellsVitals)],
        generations={generation: spec.version for generation, spec in runtime.specs.items()},
    )
    projection = min((generation.projection for generation in runtime.specs), default="")
    checks = {name: source.shards for name, source in sources.items()}
    await site.run(sights, sources, {"": lambda: runtime.store.generations(projection), **checks})


async def _close(daemon: Daemon) -> None:
    """Take no more commands in, then close what they might ask."""
    if daemon.doors is not None:
        await daemon.doors.aclose()
    for source in daemon.runtime.sources.values():
        await source.aclose()


async def serve(daemon: Daemon, *, once: bool = False, asked: anyio.Event | None = None) -> RunResult:
    """Run the supervisor until it is `asked` to stop, or with `once` until all is settled."""
    supervisor = daemon.supervisor
    drained, stopping = True, False

    async def stop() -> None:
        nonlocal drained, stopping
        if stopping:
            return
        stopping = True
        if daemon.site is not None:
            daemon.site.draining()
        drained = await supervisor.drain(daemon.grace_period)
        if not drained:
            tasks.cancel_scope.cancel()

    async def when_asked(asked: anyio.Event) -> None:
        await asked.wait()
        await stop()

    async def until_caught_up() -> None:
        if [shard for source in daemon.runtime.sources.values() for shard in await source.shards()]:
            await supervisor.caught_up()
        await stop()

    async with anyio.create_task_group() as tasks:
        if asked is not None:
            tasks.start_soon(when_asked, asked)
        _let_ask(daemon, tasks)
        if once:
            tasks.start_soon(until_caught_up)
        else:
            _await_sources(daemon, tasks)
        await supervisor.run()
        if not stopping:
            raise RuntimeError("the shards' supervisor ended although nobody asked it to; nothing is drained")
        tasks.cancel_scope.cancel()
    await _close(daemon)
    return RunResult(drained, supervisor.parked())
