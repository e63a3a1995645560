"""Consumer groups on a real broker: members that share, hand over, freeze and are expelled."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from daemon.app import SystemClock
from daemon.demo.services.kafka import KafkaBroker
from daemon.sources.kafka.client import Connection
from daemon.sources.kafka.membership import GroupMember
from tests.support.kafka import Hand, a_hand, a_source

pytestmark = pytest.mark.anyio

PATIENCE = 60


@dataclass(slots=True)
class Ear:
    """Hears what a membership tells, and takes `drain` seconds to give up."""

    shards: set[str] = field(default_factory=set[str])
    told: int = 0
    revoked_at: list[set[str]] = field(default_factory=list[set[str]])
    drain: float = 0.0

    async def revoked(self) -> None:
        """Give everything up."""
        await anyio.sleep(self.drain)
        self.revoked_at.append(self.shards)
        self.shards = set()

    async def assigned(self, shards: Collection[str]) -> None:
        """Take over."""
        self.shards = set(shards)
        self.told += 1


@pytest.fixture
async def hand(kafka: KafkaBroker) -> AsyncIterator[Hand]:
    """A topic of four partitions."""
    async with a_hand(kafka.bootstrap, partitions=4) as hand:
        yield hand


def a_member(hand: Hand, **options: object) -> GroupMember:
    """A quick member of the topic's group."""
    quick = {"session_timeout": 3.0, "heartbeat_interval": 0.2, "rebalance_timeout": 6.0} | options
    connection = Connection(servers=(hand.bootstrap,), request_timeout=10.0)
    return GroupMember(f"g-{hand.topic}", [hand.topic], connection, SystemClock(), **quick)  # pyright: ignore[reportArgumentType]


@asynccontextmanager
async def joined(member: GroupMember, ear: Ear) -> AsyncGenerator[None]:
    """Be a member for the time of the block."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(member.run, ear)
        yield
        await member.leave()
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - any state, not an event of ours
            await anyio.sleep(0.02)


def all_of(hand: Hand) -> set[str]:
    """Every shard."""
    return {f"{hand.topic}-{n}" for n in range(4)}


async def test_members_share_and_take_over(hand: Hand):
    """One has all; with a second each has half, nothing twice; when it leaves, the first has all again."""
    one, two = Ear(), Ear()
    async with joined(a_member(hand), one):
        await until(lambda: one.shards == all_of(hand))
        async with joined(a_member(hand), two):
            await until(lambda: len(one.shards) == len(two.shards) == 2)
            assert one.shards | two.shards == all_of(hand)
        await until(lambda: one.shards == all_of(hand))


async def test_a_rebalance_waits_for_the_one_that_drains(hand: Hand):
    """A second member is assigned nothing before the first has given up what it had."""
    one, two = Ear(drain=1.5), Ear()
    async with joined(a_member(hand), one):
        await until(lambda: one.shards == all_of(hand))
        async with joined(a_member(hand), two):
            await until(lambda: two.shards or len(one.revoked_at) > 1)
            assert one.revoked_at[-1] == all_of(hand)


async def test_offsets_are_shown_and_never_read(hand: Hand, kafka: KafkaBroker):
    """What was published stands in the group; a member that joins later is told nothing of it."""
    for n in range(5):
        await hand.write(f"e{n}")
    ear, member = Ear(), a_member(hand)
    async with joined(member, ear):
        await until(lambda: ear.shards == all_of(hand))
        member.publish(f"{hand.topic}-0", 3)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    shown = await admin.list_consumer_group_offsets(member.group)
    await admin.close()
    assert {tuple(partition): at.offset for partition, at in shown.items()} == {(hand.topic, 0): 3}
    source = a_source(kafka.bootstrap, hand.topic)
    reader = await source.open(f"{hand.topic}-0", (), None)
    assert (await reader.read(1, 1 << 20)).records[0].position == (0,)
    await source.aclose()


async def test_a_heartbeat_confirms_a_member_and_no_zombie(hand: Hand):
    """A live member is confirmed; one that the group has let go is not, and then joins anew by itself."""
    ear, member = Ear(), a_member(hand)
    async with joined(member, ear):
        await until(lambda: ear.shards == all_of(hand))
        assert await member.confirmed()
        told = ear.told
        assert member._consumer is not None
        member._consumer._coordinator.generation -= 1  # as after a pause in which the group went on without it
        assert not await member.confirmed()
        await until(lambda: ear.told > told and ear.shards == all_of(hand))
        assert await member.confirmed()


async def test_a_member_fetches_nothing(hand: Hand):
    """Membership apart from fetching: though records wait, the member's own client sends no fetch."""
    await hand.write("e0", "e1")
    ear, member = Ear(), a_member(hand)
    async with joined(member, ear):
        await until(lambda: ear.shards == all_of(hand))
        await anyio.sleep(0.5)
        assert member._client is not None
        assert member._client.fetches == 0


async def test_a_callback_that_fails_ends_the_membership(hand: Hand):
    """An error while taking over, which aiokafka would log and forget, leads to a fresh membership."""

    class Clumsy(Ear):
        async def assigned(self, shards: Collection[str]) -> None:
            if not self.told:
                self.told += 1
                raise RuntimeError("dropped")
            await super().assigned(shards)

    ear, member = Clumsy(), a_member(hand)
    async with joined(member, ear):
        await until(lambda: ear.shards == all_of(hand))
        assert member.restarts == 1


async def test_a_static_member_keeps_its_part_over_a_restart(hand: Hand):
    """A static member that restarts within the session gets its part back, and its peer is not disturbed."""
    one, two, again = Ear(), Ear(), Ear()
    async with joined(a_member(hand, session_timeout=20.0, instance="one"), one):
        await until(lambda: one.shards == all_of(hand))
        async with joined(a_member(hand, session_timeout=20.0, instance="two"), two):
            await until(lambda: len(one.shards) == len(two.shards) == 2)
            part, told = two.shards, one.told
        async with joined(a_member(hand, session_timeout=20.0, instance="two"), again):
            await until(lambda: again.shards)
            assert again.shards == part
            assert one.told == told


async def test_membership_outlives_the_broker():
    """A broker killed and started again: the member is assigned everything again."""
    with KafkaBroker() as broker:
        async with a_hand(broker.bootstrap, partitions=4) as hand:
            ear, member = Ear(), a_member(hand)
            async with joined(member, ear):
                await until(lambda: ear.shards == all_of(hand))
                broker.kill()
                assert not await member.confirmed()  # waits for a whole session
                await anyio.to_thread.run_sync(broker.restart)
                await until(lambda: ear.shards == all_of(hand))
                with anyio.fail_after(PATIENCE):
                    while not await member.confirmed():
                        pass
