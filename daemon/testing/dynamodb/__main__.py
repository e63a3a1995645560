"""`python -m daemon.testing.dynamodb --port 0`: the strict server in a process of its own.

Owns the command line. Prints one line with the port when it listens; ends on SIGTERM or SIGINT.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random, SystemRandom

from daemon.testing.dynamodb.http import HttpServer
from daemon.testing.dynamodb.server import LoopClock, StrictDynamoDb
from daemon.testing.dynamodb.signatures import Credentials


class WallClock(LoopClock):
    """The loop's time, and the real date."""

    def now(self) -> datetime:
        """Return the date."""
        return datetime.now(UTC)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m daemon.testing.dynamodb", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one (default)")
    parser.add_argument("--seed", type=int, default=None, help="seed of all chance (default: drawn)")
    parser.add_argument("--hold-ms", type=float, default=0.0, help="a transaction holds its items up to so long")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="a request travels up to so long")
    parser.add_argument("--read-lag-ms", type=float, default=0.0, help="eventually consistent reads are up to so old")
    parser.add_argument("--access-key", default="", help="check signatures: this access key alone is known")
    parser.add_argument("--secret-key", default="", help="its secret")
    return parser.parse_args()


def _up_to(milliseconds: float) -> float | Callable[[Random], float]:
    if not milliseconds:
        return 0.0
    return lambda chance: chance.uniform(0, milliseconds / 1000)


async def _serve(arguments: argparse.Namespace) -> None:
    server = StrictDynamoDb(
        clock=WallClock(),
        seed=SystemRandom().getrandbits(32) if arguments.seed is None else arguments.seed,
        hold_seconds=_up_to(arguments.hold_ms),
        latency_seconds=_up_to(arguments.latency_ms),
        read_lag_seconds=_up_to(arguments.read_lag_ms),
    )
    secrets = {arguments.access_key: arguments.secret_key} if arguments.access_key else {}
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with HttpServer(server, arguments.port, Credentials(secrets)) as listening:
        sys.stdout.write(f"{listening.port}\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve(_arguments()))
