"""The event loop that commands run on: uvloop where it is installed, else asyncio's own."""

from collections.abc import Awaitable, Callable
from importlib.util import find_spec

import anyio


def run_async[T](main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` to its end on a new event loop."""
    return anyio.run(main, backend_options={"use_uvloop": find_spec("uvloop") is not None})
