"""One commit, one request: frozen, sent under its token, and its answer read.

Owns the frozen request of each commit whose answer is not known yet. Must not repeat a commit: the committer decides
that. Must not shield from cancellation either: the committer does; a call cut off leaves the frozen request here.

Invariants: the same commit and attempt always send the same bytes under the same token, and never after the token's
window; an answer that decides something lets go of the request.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Busy, Commit, Committed, Duplicate, Outcome, Rejected, Unknown
from daemon.core.identity import Generation, RowKey, Scope
from daemon.core.rows import RowWrite, StoredRow
from daemon.ports.clock import Clock
from daemon.stores.dynamodb.outcomes import AtCheckpoint, BadAddition, at_checkpoint, checkpoint_shown, read_answer
from daemon.stores.dynamodb.requests import Requests
from daemon.stores.dynamodb.rows import summed_row
from daemon.stores.dynamodb.tuning import Tuning
from daemon.wire.aws_json import AwsJson

type LoadRows = Callable[[Generation, Collection[RowKey]], Awaitable[Mapping[RowKey, StoredRow | None]]]

type FindMarkers = Callable[[Generation, Collection[str]], Awaitable[Mapping[str, bytes]]]

_REVISIONS = 4
"""How often one attempt is written anew because amounts met None: each time, rows have to have changed under it."""


@dataclass(slots=True)
class Sending:
    """A frozen request. `revision` counts the bodies that one attempt had to be written in."""

    commit_id: str
    actions: bytes
    attempt: int = 0
    revision: int = 0
    body: bytes = b""
    first_sent: float = 0.0


@dataclass(slots=True)
class Committing:
    """Sends commits. `read_back` reads a checkpoint, `load_rows` rows, `find_markers` digests, all consistently."""

    client: AwsJson
    clock: Clock
    tuning: Tuning
    requests: Requests
    read_back: Callable[[Scope], Awaitable[Checkpoint | None]]
    load_rows: LoadRows
    find_markers: FindMarkers
    sending: dict[Scope, Sending] = field(default_factory=dict[Scope, Sending])

    async def send(self, commit: Commit, attempt: int) -> Outcome:
        """Send one attempt of a commit once. Raises StoreProblem: nothing was applied then, and nothing may yet be."""
        sending = self.sending.get(commit.scope)
        if sending is None or sending.commit_id != commit.commit_id:
            try:
                sending = Sending(commit.commit_id, self.requests.actions(commit))
            except (TypeError, UnicodeError) as error:
                return Rejected(f"a value cannot be written: {error}; store it as a string")
            self.sending[commit.scope] = sending
        outcome = await self._settle(sending, commit, attempt)
        if not isinstance(outcome, Busy | Unknown):
            self.sending.pop(commit.scope, None)
        return replace(outcome, size=len(sending.body)) if isinstance(outcome, Committed) else outcome

    async def _settle(self, sending: Sending, commit: Commit, attempt: int) -> Outcome:
        for _ in range(_REVISIONS):
            if sending.attempt != attempt:
                self._freeze(sending, commit, attempt)
            since = self.clock.monotonic() - sending.first_sent
            if since > self.tuning.token_window:
                return Unknown(
                    f"attempt {attempt} was first sent {since:.0f} s ago, longer than its token is safe "
                    f"({self.tuning.token_window:g} s); the shard has to be taken again"
                )
            answer = await self.client.call("TransactWriteItems", sending.body, self.tuning.commit_deadline)
            reading = read_answer(answer, commit)
            if isinstance(reading, AtCheckpoint):
                return at_checkpoint(commit, checkpoint_shown(reading) or await self.read_back(commit.scope))
            if isinstance(reading, Duplicate) and b"" in reading.markers.values():
                # Without its digest a marker proves nothing about the payload.
                found = await self.find_markers(commit.scope.of, reading.markers)
                return Duplicate(found) if found else Busy("markers that stood in the way went meanwhile")
            if not isinstance(reading, BadAddition):
                return reading
            resolved = await self._resolved(commit, reading.keys)
            if resolved is None:
                return Rejected(reading.detail)
            sending.actions = self.requests.actions(resolved)
            sending.revision += 1
            sending.attempt = 0
        return Busy(f"rows change while amounts are added to attributes that hold None, {_REVISIONS} times in a row")

    def _freeze(self, sending: Sending, commit: Commit, attempt: int) -> None:
        """Make the one request of an attempt."""
        token = self.requests.token(commit, attempt, sending.revision)
        sending.body = self.requests.body(sending.actions, token)
        sending.attempt = attempt
        sending.first_sent = self.clock.monotonic()

    async def _resolved(self, commit: Commit, keys: Collection[RowKey]) -> Commit | None:
        """Return the commit with amounts that met None written as whole rows, on condition of what was read.

        None when something else than None was met: that is the event's fault.
        """
        found = await self.load_rows(commit.scope.of, keys)
        rows: list[RowWrite] = []
        for write in commit.rows:
            summed = summed_row(write, found[write.key]) if write.key in keys else write
            if summed is None:
                return None
            rows.append(summed)
        return replace(commit, rows=tuple(rows))
