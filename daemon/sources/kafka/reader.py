"""Reading one partition: records into chunks, and the guards between a fetch and what is handed on.

Owns the limits of a read, when the log is at its end, and what an opening must check again. Must not know envelopes.

Invariants: a chunk's `through` is the consumer's position less one, so gaps of any cause, trailing control records too,
move the checkpoint; nothing is handed on after a disturbance before the last record handed on was read again and is the
same; what was fetched and not handed on yet waits here, within one fetched answer.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from daemon.core.batcher import Chunk, Passed
from daemon.core.errors import LogLost, SourceUnavailable
from daemon.core.events import Record
from daemon.core.positions import START, Position
from daemon.ports.clock import Clock
from daemon.sources.kafka.client import Raw
from daemon.sources.kafka.identity import Identity
from daemon.sources.kafka.lane import Feed, Lane, OutOfRange
from daemon.sources.kafka.records import Decoder

if TYPE_CHECKING:
    from daemon.sources.kafka.guard import Guard

_FIRST_AVERAGE = 256
_SMOOTHING = 0.2


class KafkaReader:
    """One opening of one partition."""

    def __init__(  # noqa: PLR0913 - what a source gives each of its readers
        self,
        lane: Lane,
        feed: Feed,
        *,
        until: Position | None,
        identity: Identity,
        decoder: Decoder,
        guard: "Guard",
        clock: Clock,
        poll_interval: float,
        silence: float,
        stuck: float,
        left: Callable[["KafkaReader"], None],
    ) -> None:
        """Begin at the feed's position. Times in seconds; see `daemon.sources.kafka.source`."""
        self._lane, self._feed, self._until = lane, feed, until
        self._identity, self._given, self._decoder, self._guard = identity, identity, decoder, guard
        self._clock, self._poll_interval, self._silence, self._stuck = clock, poll_interval, silence, stuck
        self._left, self._closed = left, False
        self._held: list[Raw] = []
        self._checked = feed.news.troubles
        self._average = float(_FIRST_AVERAGE)
        self._position = feed.position
        """The next offset to hand on or to pass over, without what is held."""
        self._moved_at = self._opened_at = clock.monotonic()

    @property
    def feed(self) -> Feed:
        """Its place in its lane."""
        return self._feed

    async def read(self, max_events: int, max_bytes: int) -> Chunk:
        """Return the next records, waiting the poll interval for some. Raises SourceUnavailable, LogLost."""
        now = self._clock.monotonic
        if self._passed():
            return Chunk([], self._through(), now(), ends_shard=True)
        if not self._held:
            await self._fetch(max_events, max_bytes)
        if not await self._same_log():
            return Chunk([], self._through(), now())
        before = self._position
        taken = self._take(max_events, max_bytes)
        if self._until is None and self._position - before > len(taken):
            topic, number = self._feed.partition
            self._guard.withheld[f"{topic}-{number}"] += self._position - before - len(taken)
        if not taken:
            return Chunk([], self._through(), now(), at_end=self._at_end(), ends_shard=self._passed())
        self._given = self._identity.of(taken[-1])
        return Chunk(
            self._decoder.decode(taken), self._through(), now(), at_end=self._at_end(), ends_shard=self._passed()
        )

    async def skim(self, before: Position | None, max_bytes: int) -> Passed:
        """Pass over the next records below an offset, as they were fetched. Raises SourceUnavailable, LogLost."""
        if self._passed():
            return Passed(0, self._through(), ends=True)
        if not self._held:
            await self._fetch(max_bytes, max_bytes)
        if not await self._same_log():
            return Passed(0, self._through())
        held = self._held
        if before is None or not held or held[-1].offset < before[0]:
            return Passed(len(self._take(len(held), sys.maxsize)), self._through(), self._passed())
        count = sum(record.offset < before[0] for record in held)
        if count:
            self._position, self._held = held[count - 1].offset + 1, held[count:]
        return Passed(count, self._through())

    def identity(self, last: Record | None, through: Position) -> str | None:
        """Return offset and digest of the newest record at or below `through`."""
        if last is not None:
            self._identity = self._identity.of(cast("Any", last.receipt))
        return self._identity.text()

    async def acknowledge(self, records: Sequence[Record]) -> None:
        """Do nothing: the checkpoint is kept elsewhere, and the group's offsets are for show."""

    async def aclose(self) -> None:
        """Leave the lane."""
        if not self._closed:
            self._closed = True
            self._left(self)
            await self._lane.leave(self._feed)

    # ------------------------------------------------------------------------------------------------ what is next

    async def _fetch(self, max_events: int, max_bytes: int) -> None:
        """Fetch into what is held."""
        count = max(1, min(max_events, int(max_bytes / self._average)))
        feed = self._feed
        before = feed.position
        try:
            self._held = list(await self._lane.fetch(feed, count, self._poll_interval))
        except OutOfRange:
            await self._guard.explain_out_of_range(feed.partition, feed.position)
            raise SourceUnavailable(
                f"{feed.partition[0]}-{feed.partition[1]} refused offset {feed.position}, which is there now"
            ) from None
        if self._held:
            size = sum(_size(record) for record in self._held) / len(self._held)
            self._average += _SMOOTHING * (max(1.0, size) - self._average)
        elif feed.position == before:
            await self._look_after_nothing()
            return
        self._moved_at = self._clock.monotonic()

    async def _look_after_nothing(self) -> None:
        """Find out why nothing came.

        Nothing is there, the partition is gone, brokers are away, or the consumer hangs.
        """
        now, news = self._clock.monotonic(), self._feed.news
        topic, number = self._feed.partition
        if news.unknown_since is not None and now - news.unknown_since > self._silence:
            await self._guard.explain_missing(self._feed.partition)
        if now - self._moved_at > self._stuck:
            self._moved_at = now
            if await self._guard.hangs(self._feed.partition, self._feed.position):
                await self._lane.stop()
                return
        if now - max(news.answered or 0.0, self._opened_at) > self._silence:
            raise SourceUnavailable(
                f"{topic}-{number}: no answer from its brokers for {self._silence:g} s ({news.error or 'silence'}); "
                "it is tried again"
            )

    async def _same_log(self) -> bool:
        """Check again, after a disturbance, that what was handed on is still there; False while nobody can tell."""
        troubles = self._feed.news.troubles
        if troubles == self._checked:
            return True
        try:
            await self._guard.check(self._feed.partition, self._given, self._position)
        except LogLost:
            raise
        except SourceUnavailable:
            if self._clock.monotonic() - max(self._feed.news.answered or 0.0, self._opened_at) > self._silence:
                raise
            return False
        self._checked = troubles
        return True

    def _take(self, max_events: int, max_bytes: int) -> list[Raw]:
        """Take from what is held as much as one read may give, and move on."""
        held = self._held
        count, room = 0, max_bytes
        for record in held[:max_events]:
            room -= _size(record)
            if room < 0 and count:
                break
            count += 1
        taken, self._held = held[:count], held[count:]
        self._position = taken[-1].offset + 1 if self._held else self._feed.position
        if self._until and self._position > self._until[0]:
            last = self._until[0]
            taken, self._held = [record for record in taken if record.offset <= last], []
        return taken

    def _through(self) -> Position:
        """Return the position below which everything was handed on or passed over."""
        through = (self._position - 1,) if self._position else START
        return through if self._until is None else min(through, self._until)

    def _passed(self) -> bool:
        return self._until is not None and self._through() >= self._until

    def _at_end(self) -> bool:
        stable = self._feed.news.stable
        return not self._held and stable is not None and self._position >= stable


def _size(record: Raw) -> int:
    return len(record.value) if record.value is not None else 1
