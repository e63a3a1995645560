"""The demonstration's event logs: a year of flights in shard files, with a known share of duplicates mixed in.

Owns which event stands in which shard, in what order, and which lines are delivered again. Must not know the daemon,
the projections or the checker; `events` knows what a line says, `manifest` what is remembered of it all.

Invariants: the same flights and seed give the same bytes. `flights` is sharded by flight id, and a flight's events
stand in the order of their sequence numbers and times. `movements` is sharded by event id. A duplicate is its original,
byte for byte, behind it in the same shard; only in `movements`, where every event is merely counted, also in another
shard and at any place: a copy that overtook its original would reorder a flight's life. A directory appears under its
name only when complete.
"""

import fcntl
import gc
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from random import Random
from zlib import crc32

from daemon.core.errors import SettingsProblem
from daemon.demo.events import TRIP, Timed, flight_events, trip
from daemon.demo.flights import Flight, select_flights
from daemon.demo.manifest import FORMAT, MANIFEST_FILE, Manifest, ShardCount, save_manifest
from daemon.demo.workers import Told, cores, share_out

SHARDS = 4
FLIGHTS = "flights"
MOVEMENTS = "movements"

AT_ONCE = 0.01
"""The share of lines written twice running, as a producer that retries at once does."""
LATER = 0.005
"""The share of the lines of `flights` written again in their shard, up to 60,000 lines later."""
RANGES = 3
"""Ranges of up to 2,000 lines in each shard of `flights` that are delivered again, up to 20,000 lines later."""
ELSEWHERE = 0.002
"""The share of the lines of `movements` written into another shard too."""

_EVENTS, _EVENTS_CANCELLED = 4, 2
"""Events of a flight in both logs."""
_MANY = 20_000
"""Flights that are worth a second process."""
_STEP = 4096
"""Flights between two words of progress."""
_CHUNK = 16_384
"""Lines a write."""

type Progress = Callable[[int, int], None]
"""Told (unique events told, unique events in all) every few thousand."""
type Copy = tuple[int, int]
"""(After which unique line of the shard, which one is written again)."""


@dataclass(frozen=True, slots=True)
class _Shard:
    """What is to be written into one file: the lives of these flights, or their trips and those of some guests."""

    source: str
    number: int
    flights: Sequence[Flight]
    guests: Sequence[Flight] = ()
    """Flights whose own shard is another one."""

    @property
    def file(self) -> str:
        return _file(self.source, self.number)


def write_logs(
    directory: Path,
    flights: Sequence[Flight],
    *,
    seed: int,
    months: Collection[str] = (),
    limit: int | None = None,
    processes: int | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Manifest:
    """Write both logs of the selected flights (see `select_flights`) into `directory` and return what they hold.

    By so many processes at once; None for one a core, or one in all for a few flights.

    Logs that stand there already are replaced once the new ones are complete. Raises SettingsProblem when anything else
    stands there or another process writes beside it, FlightDataProblem for a selection without flights, OSError when
    the disk is full or refuses.
    """
    chosen = select_flights(flights, months=months, limit=limit)
    directory = directory.absolute()
    _refuse_strangers(directory)
    with _replaced(directory) as fresh, _collector_paused():
        manifest = Manifest(
            format=FORMAT,
            seed=seed,
            months=tuple(sorted(set(months))),
            limit=limit,
            flights=len(chosen),
            shards=tuple(_write_shards(fresh, chosen, seed, processes, progress)),
        )
        save_manifest(fresh, manifest)
    return manifest


def copies_at_once(lines: int, chance: Random) -> Iterator[Copy]:
    """Yield each copy that follows its original at once, in a shard of so many unique lines."""
    for line in chance.sample(range(lines), round(lines * AT_ONCE)):
        yield line, line


def copies_later(lines: int, chance: Random) -> Iterator[Copy]:
    """Yield each copy that comes 5,000 to 60,000 lines after its original, or a tenth to half of a short shard."""
    nearest, farthest = min(5_000, lines // 10), min(60_000, lines // 2)
    for line in chance.sample(range(lines - nearest), round(lines * LATER)):
        yield line + chance.randint(nearest, min(farthest, lines - 1 - line)), line


def copies_of_ranges(lines: int, chance: Random) -> Iterator[Copy]:
    """Yield the copies in ranges delivered again: one range in each third of the shard, which it does not leave."""
    third = lines // RANGES
    length = min(2_000, lines // 20)
    for number in range(RANGES):
        gap = chance.randint(lines // 100, min(20_000, lines // 12))
        start = number * third + chance.randint(0, third - length - gap)
        after = start + length + gap - 1
        yield from ((after, line) for line in range(start, start + length))


def _refuse_strangers(directory: Path) -> None:
    """Replacing a directory deletes it: make sure that it is ours."""
    ours = {MANIFEST_FILE, *(_file(source, shard) for source in (FLIGHTS, MOVEMENTS) for shard in range(SHARDS))}
    if directory.exists():
        strangers = sorted(path.name for path in directory.iterdir() if path.name not in ours)
        if strangers:
            raise SettingsProblem(
                f"{directory} holds {strangers[0]!r}, which is no part of the event logs; name a directory that is "
                "new, empty, or holds earlier logs alone"
            )


@contextmanager
def _replaced(directory: Path) -> Generator[Path]:
    """Give a new directory to fill, which takes the place of `directory` when all went well."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{directory.name}.partial-"
    lock = os.open(directory.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsProblem(f"another process writes event logs in {directory.parent}; wait for it") from error
        for killed in directory.parent.glob(f"{prefix}*"):
            shutil.rmtree(killed, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
        try:
            fresh = scratch / "new"
            fresh.mkdir()
            yield fresh
            if directory.exists():
                directory.rename(scratch / "old")
            fresh.rename(directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        os.close(lock)


@contextmanager
def _collector_paused() -> Generator[None]:
    """Pause the garbage collector: a million small tuples without a cycle cost it a sixth of the time here."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _file(source: str, shard: int) -> str:
    return f"{source}-{shard}.jsonl"


def _write_shards(
    directory: Path, flights: Sequence[Flight], seed: int, processes: int | None, progress: Progress
) -> list[ShardCount]:
    shards = _sharded(flights, seed)
    total = sum(_EVENTS_CANCELLED if flight.dep_delay is None else _EVENTS for flight in flights)
    done = 0

    def told(events: int) -> None:
        nonlocal done
        done += events
        progress(done, total)

    if processes is None:
        processes = cores() if len(flights) >= _MANY else 1
    return share_out(partial(_write_shard, directory, seed), shards, processes, told)


def _sharded(flights: Iterable[Flight], seed: int) -> list[_Shard]:
    """Return what to write into each file."""
    lives, trips, guests = ([list[Flight]() for _ in range(SHARDS)] for _ in range(3))
    suffix = TRIP.encode()
    for flight in flights:
        digest = crc32(flight.flight_id.encode())
        lives[digest % SHARDS].append(flight)
        if flight.dep_delay is not None:
            trips[crc32(suffix, digest) % SHARDS].append(flight)
    chance = Random(f"{seed}/{MOVEMENTS}")
    for home, members in enumerate(trips):
        for flight in chance.sample(members, round(len(members) * ELSEWHERE)):
            guests[(home + chance.randint(1, SHARDS - 1)) % SHARDS].append(flight)
    return [
        *(_Shard(FLIGHTS, number, members) for number, members in enumerate(lives)),
        *(_Shard(MOVEMENTS, number, *members) for number, members in enumerate(zip(trips, guests, strict=True))),
    ]


def _write_shard(directory: Path, seed: int, shard: _Shard, told: Told) -> ShardCount:
    chance = Random(f"{seed}/{shard.source}/{shard.number}")
    life = shard.source == FLIGHTS
    lines = _lines(flight_events if life else _trips, shard.flights, told)
    copies: dict[str, list[Copy]] = {
        "at_once": list(copies_at_once(len(lines), chance)),
        "later": list(copies_later(len(lines), chance)) if life else [],
        "ranges": list(copies_of_ranges(len(lines), chance)) if life else [],
    }
    extras = _extras(lines, chain.from_iterable(copies.values()))
    for flight in shard.guests:
        extras[chance.randrange(-1, len(lines))] += (line for _, line in _trips(flight))
    size = _write_file(directory / shard.file, lines, extras)
    counts = {kind: len(of_kind) for kind, of_kind in copies.items()}
    return ShardCount(
        source=shard.source,
        file=shard.file,
        events=len(lines),
        size_bytes=size,
        elsewhere=len(shard.guests),
        **counts,
    )


def _trips(flight: Flight) -> Iterator[Timed]:
    told = trip(flight)
    if told is not None:
        yield told


def _lines(teller: Callable[[Flight], Iterable[Timed]], flights: Sequence[Flight], told: Told) -> list[str]:
    """Return the lines that tell these flights, in the order of their times."""
    events: list[Timed] = []
    for start in range(0, len(flights), _STEP):
        before = len(events)
        for flight in flights[start : start + _STEP]:
            events += teller(flight)
        told(len(events) - before)
    events.sort(key=itemgetter(0))  # stable: what happens in the same minute stays in the data's order
    return [line for _, line in events]


def _extras(lines: Sequence[str], copies: Iterable[Copy]) -> defaultdict[int, list[str]]:
    """Return what is written after which unique line."""
    extras: defaultdict[int, list[str]] = defaultdict(list)
    for after, line in copies:
        extras[after].append(lines[line])
    return extras


def _write_file(path: Path, lines: Sequence[str], extras: Mapping[int, Sequence[str]]) -> int:
    """Write the lines, with the extras behind theirs, and return the bytes."""
    written: list[str] = []
    start = 0
    for after in sorted(extras):
        written += lines[start : after + 1]
        written += extras[after]
        start = after + 1
    written += lines[start:]
    with path.open("wb", buffering=0) as raw:
        return sum(
            raw.write("".join(written[chunk : chunk + _CHUNK]).encode("ascii"))
            for chunk in range(0, len(written), _CHUNK)
        )
