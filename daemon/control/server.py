"""The control socket's server: connections in, answers out.

Owns accepting, who may speak, and what a connection may hold. Must not know what any command does (`Route`s do) or how
a frame is written (`daemon.control.frames`).

Invariants: every line is answered, if only by why not; a request's work goes on without its client if it changes
anything; nothing a client does or fails to do ends the daemon, delays a commit or keeps more memory than the limits
allow.
"""

import traceback
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext

import anyio
import anyio.abc

from daemon.control.channel import Channel, Gone, accepted
from daemon.control.connection import Connection
from daemon.control.frames import Failure, encode_answer, failure_answer
from daemon.control.limits import ControlLimits
from daemon.control.peers import Access, AccessList, Peer, peer_of
from daemon.control.place import Place
from daemon.control.serving import Haste, Route
from daemon.core.errors import RefusalCode
from daemon.ports.observer import ControlTrouble, Observer

_PAUSE_SECONDS = 0.1
"""How long accepting rests after it failed, as when the process is out of file descriptors."""
_GOODBYE_SECONDS = 1.0


class ControlServer:
    """Serves one socket. `run` once; it ends by being cancelled."""

    def __init__(
        self,
        place: Place,
        routes: Mapping[str, Route],
        access: AccessList,
        limits: ControlLimits,
        observer: Observer,
        haste: Haste = nullcontext,
    ) -> None:
        """Serve `routes`, by the commands' names, at a place that was settled. `haste`: see `Haste`."""
        self._place = place
        self._routes = routes
        self._access = access
        self._limits = limits
        self._observer = observer
        self._haste = haste
        self._open = 0

    async def run(self) -> None:
        """Serve until cancelled; requests under way are told so, and the socket is removed."""
        try:
            async with anyio.create_task_group() as tasks:
                while True:
                    try:
                        channel = await accepted(self._place.listening)
                    except OSError:
                        await anyio.sleep(_PAUSE_SECONDS)
                        continue
                    hasty = ExitStack()
                    hasty.enter_context(self._haste())  # now: until the connection's own task has a turn, many may fold
                    tasks.start_soon(self._meet, channel, tasks, hasty)
        finally:
            self._place.close()

    async def _meet(self, channel: Channel, tasks: anyio.abc.TaskGroup, hasty: ExitStack) -> None:
        """Live through one connection; whatever goes wrong in it stays here."""
        self._open += 1
        try:
            with hasty:
                await self._serve(channel, tasks)
        except Exception as error:  # noqa: BLE001 - a client's troubles, or a bug, must not reach the shards
            places = "".join(traceback.format_tb(error.__traceback__))
            self._observer.see(ControlTrouble("a bug in the control socket", f"{places}{type(error).__name__}"))
        finally:
            self._open -= 1
            channel.close()

    async def _serve(self, channel: Channel, tasks: anyio.abc.TaskGroup) -> None:
        if self._open > self._limits.max_connections:
            await self._turn_away(
                channel,
                RefusalCode.BUSY,
                f"{self._limits.max_connections} connections are open already",
                "ask again in a moment, or raise control.max_connections",
            )
            return
        peer = peer_of(channel.raw)
        access = self._access.of(peer.uid)
        if access is Access.NONE:
            self._observer.see(ControlTrouble(f"user {peer.user} ({peer.uid}, pid {peer.pid}) may not speak here"))
            await self._turn_away(
                channel, RefusalCode.FORBIDDEN, f"user {peer.user} ({peer.uid}) may not speak here", _ADMIT
            )
            return
        await self._converse(channel, peer, access, tasks)

    async def _converse(self, channel: Channel, peer: Peer, access: Access, tasks: anyio.abc.TaskGroup) -> None:
        connection = Connection(channel, self._limits, self._routes, peer, access, self._observer, haste=self._haste)
        try:
            await connection.run(tasks)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_GOODBYE_SECONDS, shield=True):
                await connection.say_goodbye()
            raise

    async def _turn_away(self, channel: Channel, code: RefusalCode, reason: str, remedy: str) -> None:
        with anyio.move_on_after(_GOODBYE_SECONDS):
            try:
                await channel.send(encode_answer(failure_answer(None, Failure(code, reason, remedy))))
            except Gone:
                return


_ADMIT = "ask as the daemon's own user, or list the user in control.read_uids or control.change_uids"
