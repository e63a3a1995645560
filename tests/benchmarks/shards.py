"""Many shards: memory of idle ones and of their marker windows, and what an event costs when it comes from many."""

import gc
import multiprocessing
import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from hashlib import blake2b
from pathlib import Path

from daemon.app import tune_collector
from daemon.core.window import ENTRY_BYTES, MarkerWindow
from daemon.settings import Settings
from tests.benchmarks.daemons import fold_all, settings_for, while_idle
from tests.benchmarks.figures import MICRO, Figure, Sizes, figure

_SETTLED_SECONDS = 1.0
"""After which an idle daemon has looked at every file several times."""
_KEYS = 50
_MARKS = 2_000


def many_shards(sizes: Sizes) -> Iterator[Figure]:
    """Measure memory, then cost."""
    yield _idle_memory(sizes)
    yield _window_memory(sizes)
    yield from _cost_per_event(sizes)


def _idle_memory(sizes: Sizes) -> Figure:
    """Each daemon is a process of its own, so that what an earlier one left is not counted."""
    used: dict[int, int] = {}
    for shards in (1, sizes.shards + 1):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
            used[shards] = processes.submit(resident_when_idle, shards).result()
    kilobytes = (used[sizes.shards + 1] - used[1]) / sizes.shards / 1_000
    return figure(f"memory of an idle shard, of {sizes.shards} (RSS)", kilobytes, "KB", goal="value <= 200")


def resident_when_idle(shards: int) -> int:
    """Return the resident bytes of this process with a daemon that has caught up with so many files."""

    def look() -> int:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    tune_collector()
    with tempfile.TemporaryDirectory(prefix="projectiond-bench-") as scratch:
        directory = Path(scratch)
        write_ticks(directory, shards, shards)
        return while_idle(_settings(directory, directory / "idle.db"), _SETTLED_SECONDS, look)


def _window_memory(sizes: Sizes) -> Figure:
    """The window is filled by commits, past its capacity, as a shard's is."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        window = MarkerWindow(sizes.window_ids)
        for start in range(0, sizes.window_ids * 5 // 4, _MARKS):
            window.remember(
                b"".join(blake2b(n.to_bytes(8), digest_size=ENTRY_BYTES).digest() for n in range(start, start + _MARKS))
            )
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(window) >= sizes.window_ids
    name = f"marker window of {sizes.window_ids:,} ids"
    return figure(name, (after - before) / sizes.window_ids, "bytes/id", goal="value <= 128")


def _cost_per_event(sizes: Sizes) -> Iterator[Figure]:
    """The same number of events in many files and in one; the CPU of both of the daemon's threads.

    Half as many events are folded too: what the other half adds is the cost of an event, and what remains that of the
    shards' starts and ends, which a daemon pays once.
    """
    counts = (sizes.shard_events, sizes.shard_events // 2)
    with tempfile.TemporaryDirectory(prefix="projectiond-bench-") as scratch:
        logs = [(Path(scratch, f"{shards}-{events}"), shards, events) for events in counts for shards in _both(sizes)]
        for directory, shards, events in logs:
            write_ticks(directory, shards, events)
        seconds = [
            [fold_all(_settings(directory, directory / f"{number}.db")).cpu for directory, _, _ in logs]
            for number in range(sizes.fold_rounds)
        ]
    many, one, many_half, one_half = (min(side) * MICRO for side in zip(*seconds, strict=True))
    whole, half = counts
    further = whole - half
    per_event, per_event_of_one = (many - many_half) / further, (one - one_half) / further
    name = f"an event at {sizes.shards} shards against 1 (CPU)"
    yield figure(name, per_event, "µs/event", baseline=per_event_of_one, goal="ratio <= 1.3")
    name = f"  {whole:,} events with the shards' starts and ends (CPU)"
    yield figure(name, many / whole, "µs/event", baseline=one / whole)
    starts = (many - per_event * whole) - (one - per_event_of_one * whole)
    yield figure("  a shard's start and end (CPU)", starts / (sizes.shards - 1) / 1_000, "ms")


def _both(sizes: Sizes) -> tuple[int, int]:
    return sizes.shards, 1


def write_ticks(directory: Path, shards: int, events: int) -> None:
    """Write `events` lines in `shards` files, evenly."""
    directory.mkdir(exist_ok=True)
    for shard in range(shards):
        lines = (
            f'{{"specversion":"1.0","id":"tick-{number}","source":"/clock","type":"Tick","time":"2026-03-01T10:15:30Z",'
            f'"data":{{"key":"{shard}/{number % _KEYS}","amount":{number % 100}}}}}\n'
            for number in range(shard, events, shards)
        )
        (directory / f"ticks-{shard:03}.jsonl").write_text("".join(lines), encoding="ascii")


def _settings(logs: Path, database: Path) -> Settings:
    return settings_for(database, "tests.benchmarks.models", "ticks", str(logs / "ticks-*.jsonl"))
