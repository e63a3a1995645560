"""The marker window and its segments against a plain ordered dict."""

import tracemalloc
from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from daemon.core.window import (
    ENTRY_BYTES,
    SEGMENT_BYTES,
    MarkerWindow,
    SegmentLog,
    SegmentWrite,
    StoredSegment,
)

PAYLOAD = b"abcd"


def entry(number: int) -> bytes:
    """The packed entry of an id."""
    return blake2b(number.to_bytes(8), digest_size=16).digest() + number.to_bytes(4)


@given(sizes=st.lists(st.integers(0, 120), max_size=30), capacity=st.sampled_from([1, 40, 128, 300]),
       reload_at=st.sets(st.integers(0, 30)))  # fmt: skip
def test_window_and_segments_equal_the_oracle(sizes: list[int], capacity: int, reload_at: set[int]) -> None:
    """The newest ids are known with their payloads, few older are, and a reload from the segments knows as much."""
    window, log, stored, count = MarkerWindow(capacity), SegmentLog(capacity), dict[int, StoredSegment](), 0
    for step, size in enumerate(sizes):
        packed = b"".join(entry(number) for number in range(count, count + size))
        count += size
        if packed:
            write = log.after(packed)
            assert write.entries.endswith(packed)
            assert len(write.entries) <= max(SEGMENT_BYTES, len(packed))
            log.settle(write)
            window.remember(packed)
            for number in [number for number in stored if number < write.drop_below]:
                del stored[number]
            stored[write.number] = StoredSegment(write.number, write.entries, step)
        if step in reload_at:
            newest, held = list[StoredSegment](), 0
            for segment in sorted(stored.values(), key=lambda one: -one.number):
                if held >= capacity:
                    break
                newest.insert(0, segment)
                held += len(segment.entries) // ENTRY_BYTES
            window, log = MarkerWindow(capacity), SegmentLog(capacity, newest)
            for segment in newest:
                window.remember(segment.entries)
        assert len(window) <= capacity + (capacity >> 6)
        for number in range(max(0, count - capacity), count):
            assert window.known(entry(number)[:16]) == number.to_bytes(4)
        assert window.known(entry(count)[:16]) is None
        kept = b"".join(stored[number].entries for number in sorted(stored))
        assert kept.endswith(b"".join(entry(number) for number in range(max(0, count - capacity), count)))


def test_half_an_id_is_not_known() -> None:
    """An id that agrees in its first 60 bits only is another id."""
    window = MarkerWindow(10)
    window.remember(bytes(16) + PAYLOAD)
    assert window.known(bytes(16)) == PAYLOAD
    assert window.known(bytes(8) + b"\xff" * 8) is None


def test_pending_write_is_built_upon() -> None:
    """A write on top of one still in flight continues it, or opens the segment after it."""
    log = SegmentLog(1000)
    first = log.after(entry(1))
    assert log.after(entry(2), first) == SegmentWrite(0, entry(1) + entry(2), 0)
    full = SegmentWrite(0, bytes(ENTRY_BYTES) * 51, 0)
    assert log.after(entry(2), full) == SegmentWrite(1, entry(2), 0)


def test_window_holds_an_id_in_128_bytes() -> None:
    """200,000 ids, and their eviction, take at most 128 bytes an id."""
    capacity = 200_000
    packed = b"".join(entry(number) for number in range(capacity + 20_000))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        window = MarkerWindow(capacity)
        for start in range(0, len(packed), 2000 * ENTRY_BYTES):
            window.remember(packed[start : start + 2000 * ENTRY_BYTES])
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(window) >= capacity
    assert used <= 128 * capacity, f"{used / capacity:.1f} bytes an id"
