"""One conversation over the control socket.

Owns a connection's requests under way, their answers and its end. Must not know how connections come about.

Invariants: each line is answered once; at most `max_requests` are under way; no more lines are read while answers wait
unread; a client that does not read is let go after `write` seconds, and what it changed goes on.
"""

import traceback
from collections.abc import Mapping

import anyio
import anyio.abc

from daemon.control.channel import Channel, Gone
from daemon.control.encoding import plain
from daemon.control.frames import Answer, BadRequest, Failure, Kind, Request, decode_request, failure_answer
from daemon.control.limits import ControlLimits
from daemon.control.lines import LineReader
from daemon.control.outbox import Outbox
from daemon.control.peers import Access, Peer
from daemon.control.serving import Haste, Order, Route, Tell, failure_of
from daemon.core.errors import RefusalCode
from daemon.ports.observer import CommandAnswered, ControlTrouble, Observer

_LOOK_SECONDS = 0.1
_STOPPING = Failure(
    RefusalCode.UNAVAILABLE,
    "the daemon is stopping",
    "what was begun goes on when a daemon runs again; ask it with the same request id",
)


class Connection:
    """The requests and answers of one client."""

    def __init__(
        self,
        channel: Channel,
        limits: ControlLimits,
        routes: Mapping[str, Route],
        peer: Peer,
        access: Access,
        observer: Observer,
        *,
        haste: Haste,
    ) -> None:
        """Speak with `peer`, who may do what `access` says."""
        self._channel = channel
        self._limits = limits
        self._routes = routes
        self._peer = peer
        self._access = access
        self._observer = observer
        self._haste = haste
        self._lines = LineReader(channel, limits)
        self._outbox = Outbox()
        self._under_way: set[str] = set()
        self._sending = False

    async def run(self, tasks: anyio.abc.TaskGroup) -> None:
        """Converse until the client is gone or has nothing more to ask; changes are carried out in `tasks`."""
        async with anyio.create_task_group() as own:
            own.start_soon(self._write, own)
            await self._listen(own, tasks)
            if not await self._finished():
                own.cancel_scope.cancel()
            self._outbox.close()

    async def say_goodbye(self) -> None:
        """Tell every request under way that the daemon stops."""
        for id_ in sorted(self._under_way):
            self._outbox.offer(failure_answer(id_, _STOPPING))
        self._outbox.close()
        if not self._sending:  # half a frame was cut off, and nothing readable can follow it
            for frame in await self._outbox.take():
                await self._channel.send(frame)

    async def _listen(self, own: anyio.abc.TaskGroup, tasks: anyio.abc.TaskGroup) -> None:
        while not self._outbox.closed:
            if self._outbox.full:
                await anyio.sleep(_LOOK_SECONDS)
                continue
            try:
                line = await self._lines.next()
            except BadRequest as bad:
                self._outbox.offer(failure_answer(None, bad.failure))
                return
            if line is not None:
                self._begin(line, own, tasks)
            elif self._lines.ended or not self._under_way:
                return

    def _begin(self, line: bytes, own: anyio.abc.TaskGroup, tasks: anyio.abc.TaskGroup) -> None:
        try:
            request = decode_request(line)
            route = self._route(request)
            arguments = route.read(request.args, request.id)
        except BadRequest as bad:
            self._refuse(bad.id, bad.failure)
            return
        order = Order(request.command, arguments, self._peer, request.id)
        self._under_way.add(request.id)
        (tasks if route.lasting else own).start_soon(self._carry_out, route, order)

    def _route(self, request: Request) -> Route:
        """Return who carries a request out. Raises BadRequest."""
        route = self._routes.get(request.command)
        if route is None:
            known = ", ".join(sorted(self._routes))
            raise BadRequest(
                Failure(RefusalCode.NOT_FOUND, f"no command {request.command}", f"there are: {known}"), request.id
            )
        if route.access > self._access:
            reason = f"user {self._peer.user} ({self._peer.uid}) may read, and {request.command} changes something"
            raise BadRequest(
                Failure(RefusalCode.FORBIDDEN, reason, "ask as a user that control.change_uids lists"), request.id
            )
        if request.id in self._under_way:
            raise BadRequest(
                Failure(
                    RefusalCode.CONFLICT, f"request {request.id} is under way on this connection", "wait for its answer"
                )
            )
        if len(self._under_way) >= self._limits.max_requests:
            reason = f"{self._limits.max_requests} requests are under way on this connection"
            raise BadRequest(
                Failure(RefusalCode.BUSY, reason, "wait for an answer, or raise control.max_requests"), request.id
            )
        return route

    def _refuse(self, id_: str | None, failure: Failure) -> None:
        self._outbox.offer(failure_answer(id_, failure))

    async def _carry_out(self, route: Route, order: Order) -> None:
        id_, kind = order.request, Kind.ROW if route.streams else Kind.PROGRESS

        def tell(value: object) -> None:
            try:
                self._outbox.offer(Answer(id_, kind, plain(value)))
            except TypeError as error:
                self._observer.see(ControlTrouble(f"a bug in {order.command}", str(error)))

        started = anyio.current_time()
        with self._haste():
            answer = await self._answer(route, order, tell)
        self._under_way.discard(id_)
        self._outbox.offer(answer)
        code = "done" if answer.kind is Kind.RESULT else str(answer.content["code"])
        seconds = anyio.current_time() - started
        peer = self._peer
        self._observer.see(CommandAnswered(order.command, id_, peer.uid, peer.user, code, seconds, route.lasting))

    async def _answer(self, route: Route, order: Order, tell: Tell) -> Answer:
        try:
            return Answer(order.request, Kind.RESULT, plain(await route.carry_out(order, tell)))
        except Exception as error:  # noqa: BLE001 - every request is answered, whatever happens
            failure = failure_of(error)
            if failure.code is RefusalCode.BUG:
                places = "".join(traceback.format_tb(error.__traceback__))
                self._observer.see(ControlTrouble(f"a bug in {order.command}", f"{places}{type(error).__name__}"))
            return failure_answer(order.request, failure)

    async def _write(self, own: anyio.abc.TaskGroup) -> None:
        """Send what waits; a client that takes nothing any more is let go."""
        try:
            while frames := await self._outbox.take():
                for frame in frames:
                    self._sending = True
                    with anyio.fail_after(self._limits.write):
                        await self._channel.send(frame)
                    self._sending = False
        except (TimeoutError, Gone):
            self._outbox.close()
            own.cancel_scope.cancel()

    async def _finished(self) -> bool:
        """Wait for the answers of what is under way; False once nobody is there to read them."""
        while self._under_way:
            if self._channel.hung_up:
                return False
            await anyio.sleep(_LOOK_SECONDS / 10)
        return True
