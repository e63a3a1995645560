"""Daemons on a real Kafka: killed, frozen, sharing partitions, the broker killed under them. Rows = pure fold."""

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from daemon.demo.services.kafka import KafkaBroker
from tests.support.kafka import a_hand
from tests.support.kafka_site import KafkaSite, kafka_site

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

PARTITIONS = 4
KILLS = 10
GROUP = {
    "COORDINATION__KIND": "group",
    "SOURCES__LOG__GROUP__SESSION_TIMEOUT_MS": "3000",
    "SOURCES__LOG__GROUP__HEARTBEAT_INTERVAL_MS": "300",
    "SOURCES__LOG__GROUP__REBALANCE_TIMEOUT_MS": "6000",
}


@asynccontextmanager
async def a_site(path: Path, broker: KafkaBroker) -> AsyncGenerator[KafkaSite]:
    """A site over a topic of its own."""
    async with a_hand(broker.bootstrap, partitions=PARTITIONS) as hand:
        with kafka_site(path, hand, broker.bootstrap, PARTITIONS) as site:
            yield site


async def until(site: KafkaSite, applied: int) -> None:
    """Wait until so many events are applied."""
    with anyio.fail_after(120):
        while site.applied() < applied:
            for daemon in site.daemons:
                assert daemon.process.exitcode in {None, 0, -signal.SIGKILL}, daemon.log()[-3000:]
            await anyio.sleep(0.01)


async def test_ten_kills_lose_nothing_and_double_nothing(tmp_path: Path, kafka: KafkaBroker):
    """Killed ten times amid commits, over transactions of which half were aborted, the rows are the fold of the log."""
    async with a_site(tmp_path, kafka) as site:
        await site.write(1200)
        for turn in range(KILLS):
            daemon = site.start()
            await until(site, (turn + 1) * site.ids // (KILLS + 2))
            assert daemon.kill()
        assert site.applied() < site.ids
        ended = await to_thread.run_sync(site.once)
        assert ended.code == 0, ended.log
        site.assert_right()


async def test_the_broker_is_killed_under_the_daemon(tmp_path: Path):
    """The broker killed hard and started again while records are written: the daemon goes on, nothing is lost."""
    with KafkaBroker() as broker:
        async with a_site(tmp_path, broker) as site:
            await site.write(400)
            daemon = site.start(SOURCES__LOG__SILENCE_SECONDS="2")
            await until(site, site.ids // 4)
            broker.kill()
            await anyio.sleep(3)  # longer than brokers may be silent: shards say so and are tried again
            await to_thread.run_sync(broker.restart)
            await site.write(400, aborted=False)
            await until(site, site.ids)
            daemon.terminate()
            ended = await to_thread.run_sync(daemon.wait)
            assert ended.code == 0, ended.log
            site.assert_right()


async def test_replicas_share_take_over_and_hand_back(tmp_path: Path, kafka: KafkaBroker):
    """Two replicas in one group, then a third; one stopped, one killed, one frozen past its session: each partition
    goes on at its checkpoint, and no event is applied twice or under an old owner.
    """
    async with a_site(tmp_path, kafka) as site:
        site.variables |= GROUP
        first, second = site.start(), site.start()
        await site.write(300)
        await until(site, site.ids)
        with anyio.fail_after(60):
            while len({owner for owner in replicas(site) if owner}) < 2:  # noqa: ASYNC110 - the store's state
                await anyio.sleep(0.05)
        third = site.start()
        await site.write(300)
        await until(site, site.ids)
        second.terminate()
        assert (await to_thread.run_sync(second.wait)).code == 0, second.log()[-3000:]
        await site.write(300, aborted=False)
        await until(site, site.ids)
        assert third.process.pid is not None
        os.kill(third.process.pid, signal.SIGSTOP)
        await site.write(300, aborted=False)
        await until(site, site.ids)  # the first has taken over what the frozen one had
        os.kill(third.process.pid, signal.SIGCONT)
        await site.write(300, aborted=False)
        await until(site, site.ids)
        assert first.kill()
        await site.write(300, aborted=False)
        await until(site, site.ids)
        third.terminate()
        assert (await to_thread.run_sync(third.wait)).code == 0, third.log()[-3000:]
        assert set(site.owners().values()) == {None}
        site.assert_right()


async def test_replicas_share_by_leases_too(tmp_path: Path, kafka: KafkaBroker):
    """The same log divided by leases: one killed, the other takes over within its lease."""
    async with a_site(tmp_path, kafka) as site:
        site.variables |= {
            "COORDINATION__KIND": "lease",
            "COORDINATION__LEASE_SECONDS": "2",
            "COORDINATION__POLL_MS": "100",
        }
        first, second = site.start(), site.start()
        await site.write(300)
        await until(site, site.ids)
        assert first.kill()
        await site.write(300, aborted=False)
        await until(site, site.ids)
        second.terminate()
        assert (await to_thread.run_sync(second.wait)).code == 0
        site.assert_right()


def replicas(site: KafkaSite) -> set[str | None]:
    """Return the replicas that own shards."""
    return {None if owner is None else owner.rpartition("/")[0] for owner in site.owners().values()}
