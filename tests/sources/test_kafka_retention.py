"""How long a topic keeps what waits: by time, by size, or nobody can tell."""

import pytest

from daemon.core.positions import START
from daemon.demo.services.kafka import KafkaBroker
from daemon.sources.kafka.retention import Removals, Retention, retention_of
from tests.support.kafka import a_hand, a_source

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"cleanup.policy": "delete", "retention.ms": "3600000", "retention.bytes": "-1"}, Retention(3600.0, None)),
        ({"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "5000"}, Retention(None, 5000)),
        ({"cleanup.policy": "compact,delete", "retention.ms": "0", "retention.bytes": "0"}, Retention(0.0, 0)),
        ({"cleanup.policy": "compact", "retention.ms": "1", "retention.bytes": "1"}, Retention()),
        ({"cleanup.policy": None, "retention.ms": None}, Retention()),
        ({}, Retention()),
    ],
)
def test_both_limits_are_read_where_anything_is_deleted(settings: dict[str, str | None], kept: Retention):
    """Time and bytes count, each by itself; -1 is no limit; what is compacted alone keeps the newest records."""
    assert retention_of(settings) == kept


def removals(*looks: tuple[float, int]) -> Removals:
    """Look at a partition's beginning."""
    seen = Removals()
    for at, begin in looks:
        seen.saw(at, begin)
    return seen


def test_one_removal_shows_no_pace():
    """Neither a log that stands nor its first removal tells when the next one comes."""
    assert removals((0, 0), (60, 0), (120, 0)).seconds_to(5, 120) is None
    assert removals((0, 0), (60, 100)).seconds_to(500, 60) is None


def test_the_pace_of_removals_tells_when_a_record_goes():
    """100 offsets a minute: what lies 250 offsets ahead of the beginning stays for two and a half minutes, and less as
    time goes by, whatever was removed before it was looked.
    """
    seen = removals((0, 7), (60, 100), (90, 100), (120, 200))
    assert seen.seconds_to(450, 120) == 150
    assert seen.seconds_to(450, 150) == 120
    assert seen.seconds_to(200, 120) == 0
    assert seen.seconds_to(199, 120) == 0
    seen.saw(180, 300)
    assert seen.seconds_to(450, 180) == 90


def test_a_log_that_is_written_no_more_is_removed_more_slowly():
    """A pause longer than all that was seen stretches the pace instead of ending in an alarm."""
    seen = removals((0, 0), (60, 100), (120, 200))
    assert seen.seconds_to(300, 120) == 60
    assert seen.seconds_to(300, 660) == 60
    assert seen.seconds_to(400, 660) == 660


def test_a_log_that_begins_anew_is_another_log():
    """A beginning that goes back forgets the pace."""
    seen = removals((0, 0), (60, 100), (120, 200), (130, 0))
    assert seen.seconds_to(50, 130) is None


async def test_bytes_count_once_removals_were_seen(kafka: KafkaBroker):
    """A topic that keeps so many bytes: no time at first; after two removals the pace tells it, and lost is lost."""
    async with a_hand(kafka.bootstrap, settings={"retention.ms": "-1", "retention.bytes": "1000000"}) as hand:
        source = a_source(kafka.bootstrap, hand.topic)
        shard = f"{hand.topic}-0"
        await hand.write(*(f"e{number}" for number in range(30)))
        for begin in (0, 5, 10):
            if begin:
                assert (await source.backlog(shard, (19,))).seconds_to_loss is None
                await hand.delete_records(begin)
            told = await source.backlog(shard, (19,))
        assert told.seconds_to_loss is not None
        assert told.seconds_to_loss > 0
        assert (await source.backlog(shard, START)).seconds_to_loss == 0
        assert told.untold == ""
        await source.aclose()


async def test_the_nearer_limit_counts(kafka: KafkaBroker):
    """Where both limits hold, removals that come sooner than the time limit are what is told, and the other way."""
    async with a_hand(kafka.bootstrap, settings={"retention.ms": "86400000", "retention.bytes": "1000000"}) as hand:
        source = a_source(kafka.bootstrap, hand.topic)
        shard = f"{hand.topic}-0"
        await hand.write(*(f"e{number}" for number in range(30)))
        first = await source.backlog(shard, (19,))
        assert first.seconds_to_loss == pytest.approx(86_400, abs=600)
        for begin in (5, 10):
            await hand.delete_records(begin)
            told = await source.backlog(shard, (19,))
        assert told.seconds_to_loss is not None
        assert told.seconds_to_loss < 80_000
        await source.aclose()
