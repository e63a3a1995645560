"""What every Clock must do. An adapter subclasses `ClockContract` and gives a `clock` fixture."""

from datetime import timedelta

from daemon.ports.clock import Clock


class ClockContract:
    """The suite."""

    async def test_time_is_aware_utc(self, clock: Clock) -> None:
        """The wall-clock time knows its zone, and it is UTC."""
        assert clock.now().utcoffset() == timedelta(0)

    async def test_sleeping_moves_monotonic_time_on(self, clock: Clock) -> None:
        """After a sleep at least that long has passed; a sleep of nothing returns."""
        before = clock.monotonic()
        await clock.sleep(0)
        await clock.sleep(0.01)
        assert clock.monotonic() >= before + 0.01 - 1e-6

    async def test_draws_lie_in_the_unit_interval(self, clock: Clock) -> None:
        """Draws are at least 0, below 1, and not all alike."""
        draws = [clock.draw() for _ in range(100)]
        assert all(0 <= draw < 1 for draw in draws)
        assert len(set(draws)) > 1

    async def test_ids_are_unique_and_short(self, clock: Clock) -> None:
        """No id comes twice, and none is longer than 36 characters."""
        ids = [clock.unique() for _ in range(1000)]
        assert len(set(ids)) == 1000
        assert max(map(len, ids)) <= 36
