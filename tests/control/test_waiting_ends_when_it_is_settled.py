"""`wait` over a real engine and store: it ends when a position or an event is settled, and not before."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from daemon.app import SystemClock
from daemon.control.requests import Reached, WaitFor
from daemon.control.waiting import Waiting
from daemon.core.commands import Target
from daemon.core.errors import CommandRefused, RefusalCode
from daemon.core.events import Event
from daemon.core.projection import Dedup, OnError
from daemon.ports.store import Store
from daemon.stores.sqlite import SqliteStore
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryStore
from tests.support.engine import Engine, counting, engine, event

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store to look at."""
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "rows.db")


def sequence_of(_: Event) -> int:
    """Any sequence number."""
    return 1


@asynccontextmanager
async def waiting_on(store: Store, **changes: Any) -> AsyncGenerator[tuple[Engine, MemorySource, Waiting]]:
    """An engine over one shard, and what waits on its store."""
    source = MemorySource()
    source.add_shard("s0")
    async with engine(counting(**changes), store, source) as running:
        yield running, source, Waiting(store, running.runtime.specs, SystemClock())
    await store.aclose()


def wanted(text: str, position: tuple[int, ...] | None = None, event_id: str | None = None, timeout: float = 20):
    """What to wait for."""
    return WaitFor(Target.of(text), position, event_id, timeout)


async def wait(waiting: Waiting, wish: WaitFor) -> Reached:
    """Wait and return what was reached."""
    return await waiting.wait_for(wish, lambda _: None)


async def test_a_position_is_waited_for(store: Store):
    """Waiting ends once the checkpoint has reached the position, and says where it is."""
    reached: list[Reached] = []
    async with waiting_on(store) as (_, source, waiting), anyio.create_task_group() as tasks:

        async def look() -> None:
            reached.append(await wait(waiting, wanted("counting:memory/s0", (2,))))

        tasks.start_soon(look)
        source.append("s0", event(1))
        with pytest.raises(CommandRefused, match=r"counting-g1:memory/s0 (stands at 1|has no checkpoint)"):
            await wait(waiting, wanted("counting:memory/s0", (2,), timeout=0.2))
        assert reached == []
        source.append("s0", event(2))
    assert (reached[0].scope, reached[0].position) == (("counting", 1, "memory", "s0"), "2")


@pytest.mark.parametrize("dedup", [Dedup.EVENT, Dedup.SHARD])
async def test_an_event_is_waited_for_by_its_id(store: Store, dedup: Dedup):
    """Waiting for an id ends once its marker is there, in whichever form the projection keeps markers."""
    async with waiting_on(store, dedup=dedup) as (_, source, waiting), anyio.create_task_group() as tasks:
        tasks.start_soon(wait, waiting, wanted("counting", event_id="e(2500,)"))
        for number in range(1, 2_501):
            source.append("s0", event(number))
        assert (await wait(waiting, wanted("counting-g1", event_id="e(2500,)"))).wanted == "e(2500,)"
        assert (await wait(waiting, wanted("counting", event_id="e(1,)"))).wanted == "e(1,)"
        with pytest.raises(CommandRefused, match="is not settled in counting-g1") as refused:
            await wait(waiting, wanted("counting", event_id="never", timeout=0.1))
        assert refused.value.code is RefusalCode.PENDING


async def test_a_mode_without_ids_is_told_so(store: Store):
    """Waiting for an id is refused, with the other way to wait, where no ids are kept."""
    async with waiting_on(store, dedup=Dedup.SEQUENCE, sequence=sequence_of) as (_, _source, waiting):
        with pytest.raises(CommandRefused, match="keeps no ids") as refused:
            await wait(waiting, wanted("counting", event_id="e1"))
        assert refused.value.code is RefusalCode.REFUSED
        assert "--position" in refused.value.way_out


@pytest.mark.parametrize(
    ("text", "code"),
    [("all", RefusalCode.USAGE), ("nobody", RefusalCode.NOT_FOUND), ("counting-g7", RefusalCode.NOT_FOUND)],
)
async def test_what_is_not_there_is_not_waited_for(store: Store, text: str, code: RefusalCode):
    """A projection or generation that there is not is refused at once, with those there are."""
    async with waiting_on(store) as (_, _source, waiting):
        with pytest.raises(CommandRefused) as refused:
            await wait(waiting, wanted(text, (1,)))
        assert refused.value.code is code


async def test_a_shard_is_named_for_a_position(store: Store):
    """A position without a shard is refused with how to name one."""
    async with waiting_on(store) as (_, _source, waiting):
        with pytest.raises(CommandRefused, match="within a shard"):
            await wait(waiting, wanted("counting", (1,)))


async def test_why_it_is_in_vain_is_told(store: Store):
    """Where the shard is parked, the answer says so: waiting longer is no help."""
    async with waiting_on(store, on_error=OnError.PARK_SHARD) as (running, source, waiting):
        source.append("s0", event(1), event(2, poison=True))
        await running.caught_up()
        with pytest.raises(CommandRefused, match="stands at 1 and is parked") as refused:
            await wait(waiting, wanted("counting:memory/s0", (2,), timeout=0.05))
        assert refused.value.code is RefusalCode.PENDING
