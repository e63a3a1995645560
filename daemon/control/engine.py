"""Control: takes commands in, has the shards' owners carry them out, and says what became of them.

Owns how a command becomes one operation of each generation it is about, and how long its answer waits. Must not know
sockets, nor how a shard obeys: whatever is accepted is carried out by the shards' owners, on whichever replica, though
this process dies right after.

Invariants: nothing is done before it is accepted, and what is accepted is carried out; a request that comes again does
nothing again; a command that another one under way excludes is refused by name, before anything of it is accepted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from daemon.control.again import Again
from daemon.control.answers import answered, is_settled
from daemon.control.landscape import Found, Landscape, shard_of
from daemon.control.reading import Reading
from daemon.core.again import AgainQuery, KeysParked, LettersList, LettersShow, ReplayPlan, ReplayStatus
from daemon.core.checkpoint import Checkpoint
from daemon.core.commands import Actor, Audit, Command, Explain, Lag, Query, Status, Top
from daemon.core.commands import Shards as EveryShard
from daemon.core.errors import CommandRefused, RefusalCode
from daemon.core.identity import Generation, Scope
from daemon.core.lifecycle import ShardState
from daemon.core.operations import LEAVING, OpenOperation, Operation, Standing, conflict
from daemon.core.positions import position_text
from daemon.core.projection import Dedup, ProjectionSpec
from daemon.core.reports import Accepted, Answer, Progress, ShardAnswer
from daemon.ports.clock import Clock
from daemon.ports.shards import Shards
from daemon.ports.source import Source
from daemon.ports.store import Store

type Tell = Callable[[object], None]
"""Takes a progress value or a row; never waits, never fails."""

WAIT_SECONDS = 5.0
"""How long a command waits for its shards when nobody says otherwise."""
_TRIES = 50
"""How often an operation is offered again because others came in between."""
_FIRST_LOOK, _LAST_LOOK, _SLOWER = 0.02, 0.25, 1.4
_GLANCE = 0.01
"""Seconds between two glances at what shards that are run here have obeyed, which cost no read of the store."""
_LOOK_AT_CHECKPOINTS = 0.2


@dataclass(slots=True)
class Control:
    """The commands of one replica. `specs`: the code of each generation that is here."""

    store: Store
    sources: Mapping[str, Source]
    specs: Mapping[Generation, ProjectionSpec]
    shards: Shards
    clock: Clock
    landscape: Landscape = field(init=False)
    reading: Reading = field(init=False)
    again: Again = field(init=False)

    def __post_init__(self) -> None:
        """Stand ready."""
        follows = {generation: spec.sources for generation, spec in self.specs.items()}
        marked = {generation for generation, spec in self.specs.items() if spec.dedup is Dedup.EVENT}
        self.landscape = Landscape(self.store, self.sources, follows)
        self.reading = Reading(self.store, self.sources, self.landscape, self.shards, self.clock, marked)
        self.again = Again(self.store, self.sources, self.specs, self.shards, self.clock, self.landscape)

    async def run(
        self, command: Command | Query | AgainQuery, by: Actor, request: str, tell: Tell, wait: float | None = None
    ) -> object:
        """Carry a command out, or answer a query, with a value of `daemon.core.reports`.

        `tell` is given progress, or the rows of `top`, which runs until cancelled. A change waits up to `wait` seconds
        (None: 5, and only until long ones have begun) for its shards; what is pending then is carried out all the same.
        Raises CommandRefused, StoreProblem, SourceProblem.
        """
        match command:
            case Status():
                return await self.reading.status(command.target)
            case EveryShard():
                return await self.reading.shards(command.target)
            case Lag():
                return await self.reading.lag(command.target)
            case Top():
                return await self.reading.top(command.target, command.interval, tell)
            case Audit():
                return await self.reading.audit(command.target, command.limit)
            case Explain():
                return await self.reading.explain(command)
            case ReplayPlan() | ReplayStatus() | LettersList() | LettersShow() | KeysParked():
                return await self.again.answer(command)
            case _:
                return await self.change(command, by, request, tell, wait)

    # Changing

    async def change(self, command: Command, by: Actor, request: str, tell: Tell, wait: float | None = None) -> Answer:
        """Have a command accepted and carried out. Raises CommandRefused, StoreProblem."""
        found = await self._concerned(command)
        known = [await self.store.requested(one.generation, request) for one in found]
        if None in known:
            await self.again.check(command)
        for one, operation in zip(found, known, strict=True):
            if operation is None:
                await self._check(one, command)
            else:
                _check_same(operation, command)
        operations: list[Operation] = []
        for one, operation in zip(found, known, strict=True):
            operations.append(operation or await self._accept(one, command, by, request))
        self.shards.nudge()
        shards = await self._await(operations, tell, wait)
        count = [shard.status for shard in shards].count
        return Answer(
            command=command.name,
            target=command.target.label,
            request=request,
            operations=tuple(Accepted(one.generation, one.sequence) for one in operations),
            shards=tuple(shards),
            done=count("done") + count("aborted"),
            pending=count("pending") + count("underway"),
            refused=count("refused"),
            repeated=all(operation is not None for operation in known),
        )

    async def _concerned(self, command: Command) -> list[Found]:
        """Return the generations that a command is about; a `skip` is about one shard of the live one."""
        found = await self.landscape.find(command.target)
        if command.name != "skip":
            return found
        if shard_of(command.target) is None:
            raise CommandRefused(
                RefusalCode.USAGE,
                "skip needs one shard",
                "name it: projectionctl skip NAME SOURCE/SHARD --position X",
            )
        live = [one for one in found if one.record.live] if command.target.generation is None else found
        return live or found[-1:]

    async def _check(self, found: Found, command: Command) -> Standing:
        """Return the standing as it is now, without what has settled. Raises CommandRefused for a conflict."""
        shard = shard_of(command.target)
        standing = await self._cleared(found, await self.store.standing(found.generation))
        clash = conflict(standing, command.name, shard)
        if clash is not None:
            raise _conflict(found.generation, command.name, clash)
        if command.name == "skip":
            self._check_skip(found, command)
        return standing

    @staticmethod
    def _check_skip(found: Found, command: Command) -> None:
        checkpoint = _checkpoint_of(found, command)
        arguments = command.arguments()
        here = None if checkpoint is None else position_text(checkpoint.position)
        shown = arguments.get("standing")
        if checkpoint is None:
            raise CommandRefused(
                RefusalCode.REFUSED,
                f"{command.target.label} was never started: it stands nowhere",
                "let it start; or begin the generation elsewhere (start = in its settings)",
            )
        if shown is not None and shown != here:
            raise CommandRefused(
                RefusalCode.REFUSED,
                f"{command.target.label} stands at {here}, not at {shown}",
                "look again (projectionctl status), then decide",
            )

    async def _accept(self, found: Found, command: Command, by: Actor, request: str) -> Operation:
        """Write the operation down as the next one of its generation. Raises CommandRefused, StoreProblem."""
        for _ in range(_TRIES):
            standing = await self._check(found, command)
            operation = self._operation(found, command, by, request, standing.sequence + 1)
            accepted = await self.store.accept(operation, standing.after(operation))
            if accepted is not None:
                _check_same(accepted, command)
                return accepted
            found = await self.landscape.look(found.record)
        raise CommandRefused(
            RefusalCode.BUSY,
            f"other operations of {found.generation.label} came in between {_TRIES} times",
            "ask again, with the same request id",
        )

    def _operation(self, found: Found, command: Command, by: Actor, request: str, sequence: int) -> Operation:
        shard = shard_of(command.target)
        arguments = command.arguments()
        checkpoint = _checkpoint_of(found, command)
        if command.name == "skip" and checkpoint is not None:
            arguments["standing"] = position_text(checkpoint.position)
        return Operation(
            generation=found.generation,
            sequence=sequence,
            request=request,
            name=command.name,
            arguments=arguments,
            shard=shard,
            expected=tuple(found.shards) if shard is None else (shard,),
            by=by,
            at=self.clock.now(),
        )

    async def _cleared(self, found: Found, standing: Standing) -> Standing:
        """Return a standing without the operations that no shard has still to settle."""
        settled: list[int] = []
        for one in standing.open:
            operations = await self.store.operations(found.generation, one.sequence - 1, 1)
            if operations and all(map(is_settled, await self._answers(operations[0], found.checkpoints))):
                settled.append(one.sequence)
        return standing.without(settled) if settled else standing

    # Waiting

    async def _await(self, operations: Sequence[Operation], tell: Tell, wait: float | None) -> list[ShardAnswer]:
        """Wait until every shard has answered, or time is up; tell how far it has come."""
        began, pause = self.clock.monotonic(), _FIRST_LOOK
        patience = WAIT_SECONDS if wait is None else wait
        checkpoints: dict[Generation, Mapping[Scope, Checkpoint]] = {}
        looked, told = -1.0, 0
        while True:
            waited = self.clock.monotonic() - began
            if looked < 0 or waited - looked >= _LOOK_AT_CHECKPOINTS or waited >= patience:
                for operation in operations:
                    checkpoints[operation.generation] = await self.store.checkpoints(operation.generation)
                looked = waited
            answers: list[ShardAnswer] = []
            for operation in operations:
                answers += await self._answers(operation, checkpoints[operation.generation])
            settled = [one for one in answers if is_settled(one) or (wait is None and one.status == "underway")]
            if len(settled) > told:
                tell(Progress(len(settled), len(answers), tuple(settled[told:])))
                told = len(settled)
            if len(settled) == len(answers) or waited >= patience:
                return answers
            await self._pause(operations, min(pause, max(0.0, patience - waited)))
            pause = min(pause * _SLOWER, _LAST_LOOK)

    async def _pause(self, operations: Sequence[Operation], seconds: float) -> None:
        """Wait so long before looking again, but no longer than until all shards that are run here have obeyed."""
        until = self.clock.monotonic() + seconds
        awaited = self._is_awaited(operations)
        while (left := until - self.clock.monotonic()) > 0.0:
            await self.clock.sleep(min(_GLANCE, left) if awaited else left)
            if awaited and not self._is_awaited(operations):
                return

    def _is_awaited(self, operations: Sequence[Operation]) -> bool:
        """Tell whether a shard that is run here has still to obey."""
        newest = {one.generation: one for one in operations}
        for live in self.shards.live():
            operation = newest.get(live.scope.of)
            if operation is None or not operation.concerns(live.scope) or live.state is ShardState.FENCED:
                continue
            if live.obeyed is None or live.obeyed < operation.sequence:
                return True
        return False

    async def _answers(self, operation: Operation, checkpoints: Mapping[Scope, Checkpoint]) -> list[ShardAnswer]:
        """Return what every shard that is waited for has made of an operation so far."""
        outcomes = {one.scope: one for one in await self.store.outcomes(operation.generation, operation.sequence)}
        scopes = [Scope(*operation.generation, *shard) for shard in operation.expected]
        code = operation.generation in self.shards.generations
        return [answered(operation, one, outcomes.get(one), checkpoints.get(one), code=code) for one in scopes]


def _checkpoint_of(found: Found, command: Command) -> Checkpoint | None:
    shard = shard_of(command.target)
    return None if shard is None else found.checkpoints.get(Scope(*found.generation, *shard))


def _check_same(operation: Operation, command: Command) -> None:
    """Raise CommandRefused where a request id stands for another command.

    Where a skip's shard was seen to stand is no part of it: asked again, it is seen behind what was skipped.
    """
    arguments = {**operation.arguments, "standing": command.arguments().get("standing")}
    if "standing" not in command.arguments():
        del arguments["standing"]
    if (operation.name, operation.shard, arguments) != (command.name, shard_of(command.target), command.arguments()):
        raise CommandRefused(
            RefusalCode.CONFLICT,
            f"request {operation.request} was another command: {operation.label}",
            "give every command an id of its own",
        )


def _conflict(generation: Generation, name: str, clash: OpenOperation) -> CommandRefused:
    what = generation.label if clash.shard is None else f"{generation.label}:{clash.shard.label}"
    leave = LEAVING.get(clash.name)
    end = f", or end it: projectionctl {leave} {generation.label}" if leave else ""
    return CommandRefused(
        RefusalCode.CONFLICT,
        f"{name} has to wait: {clash.name} (operation {clash.sequence}) is under way on {what}",
        f"wait for its end (projectionctl audit){end}",
    )
