"""A wake-up that many may ring and one awaits: how the parts of one shard tell each other that something changed."""

import anyio


class Wake:
    """A level-triggered bell. Ringing twice before the sleeper wakes is one ring."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        """Start silent."""
        self._event = anyio.Event()

    def ring(self) -> None:
        """Wake the sleeper, now or as soon as it sleeps."""
        self._event.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Sleep until rung, or for `seconds`; consume the ring."""
        event = self._event
        if not event.is_set():  # of one that is set, `wait` would give every other task a turn first
            if seconds is None:
                await event.wait()
            else:
                with anyio.move_on_after(seconds):
                    await event.wait()
        if event.is_set():
            self._event = anyio.Event()
