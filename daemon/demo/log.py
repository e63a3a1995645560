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
from itertools import chain
from operator import itemgetter
from pathlib import Path
from random import Random
from zlib import crc32

from daemon.core.errors import SettingsProblem
from daemon.demo.events import ARRIVAL, DEPARTURE, Timed, arrival, departure, flight_events
from daemon.demo.flights import Flight, select_flights
from daemon.demo.manifest import FORMAT, MANIFEST_FILE, Manifest, ShardCount, save_manifest

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

_STEP = 4096
"""Flights between two words of progress."""
_CHUNK = 16_384
"""Lines a write."""

type Progress = Callable[[int, int], None]
"""Told (unique events told, unique events in all) every few thousand."""
type Copy = tuple[int, int]
"""(After which unique line of the shard, which one is written again)."""
type _Tales = Sequence[tuple[Callable[[Flight], Iterable[Timed]], list[Flight]]]
"""What to tell of which flights in one shard: their lives, their departures, their arrivals."""


def write_logs(
    directory: Path,
    flights: Sequence[Flight],
    *,
    seed: int,
    months: Collection[str] = (),
    limit: int | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Manifest:
    """Write both logs of the selected flights (see `select_flights`) into `directory` and return what they hold.

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
            shards=tuple(_write_shards(fresh, chosen, seed, progress)),
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


def _write_shards(directory: Path, flights: Sequence[Flight], seed: int, progress: Progress) -> Iterator[ShardCount]:
    lives, movements = _sharded(flights)
    total = sum(2 if flight.dep_delay is None else 3 for flight in flights)
    total += sum(len(members) for tales in movements for _, members in tales)
    told = 0

    def tell(tales: _Tales) -> list[str]:
        nonlocal told
        events: list[Timed] = []
        for teller, members in tales:
            for start in range(0, len(members), _STEP):
                before = len(events)
                for flight in members[start : start + _STEP]:
                    events += teller(flight)
                told += len(events) - before
                progress(told, total)
        events.sort(key=itemgetter(0))  # stable: what happens in the same minute stays in the data's order
        return [line for _, line in events]

    for shard, tales in enumerate(lives):
        chance = Random(f"{seed}/{FLIGHTS}/{shard}")
        lines = tell(tales)
        at_once = list(copies_at_once(len(lines), chance))
        later = list(copies_later(len(lines), chance))
        ranges = list(copies_of_ranges(len(lines), chance))
        extras = _extras(lines, chain(at_once, later, ranges))
        counts = {"at_once": len(at_once), "later": len(later), "ranges": len(ranges), "elsewhere": 0}
        yield _write_shard(directory, FLIGHTS, shard, lines, extras, counts)

    guests = _guests(movements, Random(f"{seed}/{MOVEMENTS}"))
    for shard, tales in enumerate(movements):
        chance = Random(f"{seed}/{MOVEMENTS}/{shard}")
        lines = tell(tales)
        at_once = list(copies_at_once(len(lines), chance))
        extras = _extras(lines, at_once)
        for line in guests[shard]:
            extras[chance.randrange(-1, len(lines))].append(line)
        counts = {"at_once": len(at_once), "later": 0, "ranges": 0, "elsewhere": len(guests[shard])}
        yield _write_shard(directory, MOVEMENTS, shard, lines, extras, counts)


def _sharded(flights: Iterable[Flight]) -> tuple[list[_Tales], list[_Tales]]:
    """Return what to tell in each shard of `flights`, and of `movements`."""
    lives, departures, arrivals = ([list[Flight]() for _ in range(SHARDS)] for _ in range(3))
    from_airport, to_airport = DEPARTURE.encode(), ARRIVAL.encode()
    for flight in flights:
        digest = crc32(flight.flight_id.encode())
        lives[digest % SHARDS].append(flight)
        if flight.dep_delay is not None:
            departures[crc32(from_airport, digest) % SHARDS].append(flight)
        if flight.arr_delay is not None:
            arrivals[crc32(to_airport, digest) % SHARDS].append(flight)
    return (
        [[(flight_events, members)] for members in lives],
        [[(departure, leaving), (arrival, coming)] for leaving, coming in zip(departures, arrivals, strict=True)],
    )


def _guests(movements: Sequence[_Tales], chance: Random) -> list[list[str]]:
    """Return, per shard, lines whose originals stand in another shard."""
    guests: list[list[str]] = [[] for _ in range(SHARDS)]
    for home, tales in enumerate(movements):
        for teller, members in tales:
            for flight in chance.sample(members, round(len(members) * ELSEWHERE)):
                away = (home + chance.randint(1, SHARDS - 1)) % SHARDS
                guests[away] += (line for _, line in teller(flight))
    return guests


def _extras(lines: Sequence[str], copies: Iterable[Copy]) -> defaultdict[int, list[str]]:
    """Return what is written after which unique line."""
    extras: defaultdict[int, list[str]] = defaultdict(list)
    for after, line in copies:
        extras[after].append(lines[line])
    return extras


def _write_shard(
    directory: Path,
    source: str,
    shard: int,
    lines: Sequence[str],
    extras: Mapping[int, Sequence[str]],
    counts: Mapping[str, int],
) -> ShardCount:
    written: list[str] = []
    start = 0
    for after in sorted(extras):
        written += lines[start : after + 1]
        written += extras[after]
        start = after + 1
    written += lines[start:]
    file = _file(source, shard)
    with (directory / file).open("wb", buffering=0) as raw:
        size = sum(
            raw.write("".join(written[chunk : chunk + _CHUNK]).encode("ascii"))
            for chunk in range(0, len(written), _CHUNK)
        )
    return ShardCount(source=source, file=file, events=len(lines), size_bytes=size, **counts)
