"""Every Clock against the one suite. An adapter adds a class with a `clock` fixture."""

import anyio
import pytest

from daemon.testing.clock import VirtualClock
from tests.contracts.clock_contract import ClockContract

pytestmark = pytest.mark.anyio


class TestVirtualClock(ClockContract):
    @pytest.fixture
    def clock(self) -> VirtualClock:
        return VirtualClock()

    async def test_sleepers_wake_in_order(self) -> None:
        """A manual clock wakes sleepers in the order of their due times, each at its own time, and no other."""
        clock, woken = VirtualClock(manual=True), list[tuple[float, float]]()

        async def sleeper(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append((seconds, clock.monotonic()))

        async with anyio.create_task_group() as group:
            for seconds in (3.0, 1.0, 2.0, 9.0):
                group.start_soon(sleeper, seconds)
            await anyio.wait_all_tasks_blocked()
            await clock.advance(5)
            assert [seconds for seconds, _ in woken] == [1.0, 2.0, 3.0]
            await clock.advance(5)
        assert clock.monotonic() == 10

    async def test_seed_decides_the_draws(self) -> None:
        """The same seed draws the same numbers."""
        assert [VirtualClock(3).draw() for _ in range(2)] == [VirtualClock(3).draw()] * 2
