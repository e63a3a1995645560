"""A control server on a socket of its own, with commands that are easy to steer, and a client that may misbehave."""

import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from daemon.control.limits import ControlLimits
from daemon.control.peers import Access, AccessList
from daemon.control.place import Place, claim
from daemon.control.requests import Arguments
from daemon.control.routes import CommandRoute
from daemon.control.server import ControlServer
from daemon.control.serving import Order, Route, Tell
from daemon.core.errors import CommandRefused, RefusalCode, StoreUnavailable
from daemon.testing.observer import RecordingObserver

PATIENCE_SECONDS = 20.0
SECRET = "4111-1111"


class Echo(Arguments):
    command_name = "echo"
    text: str = ""


class Slow(Arguments):
    """Waits until the test lets it go."""

    command_name = "slow"
    access = Access.CHANGE
    lasting = True


class Look(Arguments):
    """Waits for ever, and only reads."""

    command_name = "look"


class Rows(Arguments):
    command_name = "rows"
    streams = True
    count: int = 3
    width: int = 1


class Fail(Arguments):
    command_name = "fail"
    how: str


@dataclass
class Engine:
    """What the test's commands do."""

    go: anyio.Event = field(default_factory=anyio.Event)
    begun: anyio.Event = field(default_factory=anyio.Event)
    done: list[str] = field(default_factory=list[str])
    cancelled: list[str] = field(default_factory=list[str])
    answered: list[str] = field(default_factory=list[str])

    async def echo(self, order: Order, tell: Tell) -> object:
        return {"text": order.arguments.text, "user": order.by.uid}

    async def slow(self, order: Order, tell: Tell) -> object:
        tell({"step": 1})
        self.begun.set()
        await self.go.wait()
        self.done.append(order.request)
        return {"done": True}

    async def look(self, order: Order, tell: Tell) -> object:
        self.begun.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(order.request)
            raise

    async def rows(self, order: Order, tell: Tell) -> object:
        for number in range(order.arguments.count):
            tell({"number": number, "text": "x" * order.arguments.width})
        self.answered.append(order.request)
        return {"count": order.arguments.count}

    async def fail(self, order: Order, tell: Tell) -> object:
        match order.arguments.how:
            case "refused":
                raise CommandRefused(RefusalCode.CONFLICT, "replay r7 is under way", "abort it first")
            case "store":
                raise StoreUnavailable("the store is locked; try again")
            case _:
                raise RuntimeError(SECRET)

    def routes(self) -> Mapping[str, Route]:
        table = {Echo: self.echo, Slow: self.slow, Look: self.look, Rows: self.rows, Fail: self.fail}
        return {model.command_name: CommandRoute(model, function) for model, function in table.items()}


@dataclass
class Serving:
    """A running server."""

    path: Path
    engine: Engine
    observer: RecordingObserver
    scope: anyio.CancelScope
    server: ControlServer

    @property
    def connections(self) -> int:
        """How many clients are being served."""
        return self.server._open  # pyright: ignore[reportPrivateUsage]

    @asynccontextmanager
    async def client(self) -> AsyncGenerator["Raw"]:
        """Connect a client that sends what it is told to."""
        async with await anyio.connect_unix(self.path) as stream:
            yield Raw(stream)

    async def ask(self, command: str, **args: Any) -> dict[str, Any]:
        """Send one request on a connection of its own and return the final answer."""
        async with self.client() as client:
            await client.request(command, **args)
            return await client.final()


class Raw:
    """A client without manners."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.stream = stream
        self._kept = b""

    async def send(self, raw: bytes) -> None:
        await self.stream.send(raw)

    async def request(self, command: str, *, id: str = "r1", v: object = 1, **args: object) -> None:  # noqa: A002
        await self.send(json.dumps({"v": v, "id": id, "command": command, "args": args}).encode() + b"\n")

    async def frame(self) -> dict[str, Any] | None:
        """Return the next frame, None at the end of the connection."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while b"\n" not in self._kept:
                try:
                    self._kept += await self.stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return None
        line, _, self._kept = self._kept.partition(b"\n")
        return json.loads(line)

    async def final(self) -> dict[str, Any]:
        """Return the next frame that is final."""
        while (frame := await self.frame()) is not None:
            if frame["kind"] in {"result", "error"}:
                return frame
        raise AssertionError("the connection ended without an answer")


type Serve = Callable[..., AbstractAsyncContextManager[Serving]]


@pytest.fixture
def place() -> Generator[Path]:
    """A path for a socket, short enough wherever tests run."""
    with tempfile.TemporaryDirectory(prefix="pd-", dir="/tmp") as directory:
        yield Path(directory) / "c" / "control.sock"


@pytest.fixture
def serve(place: Path) -> Serve:
    """Run a server for the time of a block."""

    @asynccontextmanager
    async def running(
        limits: ControlLimits | None = None, access: AccessList | None = None, bound: Place | None = None
    ) -> AsyncGenerator[Serving]:
        engine, observer = Engine(), RecordingObserver()
        server = ControlServer(
            bound or claim(place), engine.routes(), access or AccessList(), limits or ControlLimits(), observer
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run)
            try:
                yield Serving(place, engine, observer, tasks.cancel_scope, server)
            finally:
                tasks.cancel_scope.cancel()

    return running


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - any state, not an event of ours
            await anyio.sleep(0.001)
