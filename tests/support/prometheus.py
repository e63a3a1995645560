"""A real Prometheus as tests ask it."""

import time

from anyio import to_thread

from daemon.demo.services.prometheus import Prometheus
from tests.support.daemons import PATIENCE_SECONDS

type Answer = dict[tuple[str, ...], float]


class Asked:
    """A Prometheus, and the daemons that it scrapes."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus

    async def ask(self, expression: str, *labels: str) -> Answer:
        """Return the numbers by the values of these labels."""
        found = await to_thread.run_sync(self._prometheus.query, expression)
        return {tuple(series.get(label, "") for label in labels): value for series, value in found}

    async def until(self, expression: str, value: float) -> None:
        """Wait until a question has this one answer."""
        await self.until_all(expression, {(): value})

    async def until_all(self, expression: str, wanted: Answer, *labels: str) -> None:
        """Wait until a question has these answers by the values of these labels."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (answer := await self.ask(expression, *labels)) != wanted:
            assert time.monotonic() < deadline, f"in vain: {expression} is {answer}, not {wanted}"
