"""Owners that do not know of each other, storms, cancellations, odd reads, and events that fit nowhere."""

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import orjson

from daemon.core.lifecycle import ShardState
from daemon.core.projection import OnError
from daemon.ports.observer import CommitDelayed
from daemon.testing.dynamodb import (
    Call,
    CancelWith,
    Delay,
    Drop,
    Fault,
    PartialBatch,
    Throttle,
)
from tests.faults.kinds import caught_up, fired, scenario, two_shards
from tests.support.ledger import write_log
from tests.support.trial import PREFIX, WRITE, Deadly, Life, Moment, Trial, up_to

# --------------------------------------------------------------------------------------------------------- owners


def freezing(life: Callable[[], Life], commit: int, *, sent: bool) -> Deadly:
    """Freeze a process at one of its commits: with the request in its hands, or `sent` and unanswered."""
    seen = 0

    def at(_number: int, operation: str, connection: str) -> Moment | None:
        nonlocal seen
        if operation == WRITE and connection == "commits":
            seen += 1
            if seen == commit:
                life().freeze_after = sent
                life().freeze()
        return None

    return at


def provenance(trial: Trial) -> dict[tuple[str, str], tuple[int, str]]:
    """Return each row's version, and which event of which shard touched it last."""
    rows = trial.server.snapshot()[f"{PREFIX}-{trial.generation.label}"]
    return {(item["view"], item["key"]): (item["_v"], item["_src"]) for item in rows}


async def overtaken(mode: str, seed: int, *, sent: bool) -> int:
    """Freeze an owner amid its work, let another settle everything, and wake the first."""
    trial = Trial(two_shards(seed), mode=mode, seed=seed)
    commit = trial.chance.randrange(2, 12)
    async with trial.process(freezing(lambda: trial.lives[0], commit, sent=sent)) as old:
        await trial.until(lambda: old.life.frozen)
        async with trial.process() as new:
            await caught_up(trial, new)
            await trial.clock.sleep(30.0)
            before, touched = trial.server.snapshot(), provenance(trial)
            assert touched
            old.life.thaw()
            shards = list(trial.lines)
            await trial.until(lambda: all(old.state(shard) is ShardState.FENCED for shard in shards))
            assert provenance(trial) == touched, "a row was last touched by the old owner"
            assert trial.server.snapshot() == before, "the old owner wrote something"
            assert {trial.checkpoint(shard)["epoch"] for shard in shards} == {2}, "owners do not take turns"
    trial.check()
    return len(shards)


@scenario(3, "zombie")
async def zombie(mode: str, seed: int) -> int:
    """An owner frozen with a commit in its hands wakes when another has settled everything."""
    return await overtaken(mode, seed, sent=False)


@scenario(4, "pause amid a request")
async def paused_amid_a_request(mode: str, seed: int) -> int:
    """An owner frozen between request and answer wakes when another has settled all."""
    return await overtaken(mode, seed, sent=True)


@scenario(3, "two owners at once")
async def many_owners(mode: str, seed: int) -> int:
    """Owners that know nothing of each other take the shards in the middle of the work."""
    trial = Trial(two_shards(seed, 240), mode=mode, seed=seed)
    owners = 5
    async with anyio.create_task_group() as tasks:
        for number in range(owners):
            done = anyio.Event()
            tasks.start_soon(_own, trial, done)
            await trial.until(lambda number=number: trial.settled >= 40 * (number + 1) or number == owners - 1)
        await trial.until(lambda: all(trial.checkpoint(shard)["epoch"] >= owners for shard in trial.lines))
        await trial.until(lambda: trial.settled == trial.expected.read)
        for life in trial.lives:
            life.die()
    assert trial.checkpoint()["epoch"] == owners, "fenced owners wait to be granted the shard anew"
    trial.check()
    return owners - 1


async def _own(trial: Trial, done: anyio.Event) -> None:
    async with trial.process() as process:
        await process.life.died.wait()
    done.set()


# ---------------------------------------------------------------------------------------------------------- storms


@scenario(10, "conflict storm")
async def conflict_storm(mode: str, seed: int) -> int:
    """Side writers hold the checkpoints, rows and sums in transactions, and move rows."""
    trial = Trial(two_shards(seed), mode=mode, seed=seed, hold_seconds=up_to(0.15))
    cancelled = 0
    label = trial.generation.label
    checkpoints = [{"pk": {"S": f"{label}:ledger/{shard}"}, "sk": {"S": "checkpoint"}} for shard in trial.lines]
    rows = [
        *({"key": {"S": f"b{n}"}, "view": {"S": "branch"}} for n in range(3)),
        *({"key": {"S": f"s0-a{n}"}, "view": {"S": "main"}} for n in range(8)),
    ]
    ended = False

    async def hold(table: str, keys: list[dict[str, Any]]) -> None:
        client = trial.server.client("side")
        while not ended:
            check = {"TableName": f"{PREFIX}-{table}", "Key": trial.chance.choice(keys)}
            name = next(iter(check["Key"]))
            check |= {"ConditionExpression": "attribute_exists(#k)", "ExpressionAttributeNames": {"#k": name}}
            await client.call(WRITE, orjson.dumps({"TransactItems": [{"ConditionCheck": check}]}), 5.0)
            await trial.clock.sleep(trial.chance.uniform(0, 0.1))

    async def move() -> None:
        client = trial.server.client("side")
        while not ended:
            update = {
                "TableName": f"{PREFIX}-{label}",
                "Key": trial.chance.choice(rows[3:]),
                "UpdateExpression": "ADD #v :one",
                "ConditionExpression": "attribute_exists(#k)",
                "ExpressionAttributeNames": {"#v": "_v", "#k": "key"},
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
            await client.call("UpdateItem", orjson.dumps(update), 5.0)
            await trial.clock.sleep(trial.chance.uniform(0, 2.0))

    async with trial.process() as process, anyio.create_task_group() as storm:
        await trial.until(lambda: trial.settled > 0)
        for _ in range(2):
            storm.start_soon(hold, "state", checkpoints)
            storm.start_soon(hold, label, rows)
        storm.start_soon(move)
        await caught_up(trial, process)
        ended = True
        cancelled = sum("Conflict" in fact.detail for fact in process.observer.of(CommitDelayed))
    assert cancelled > 3
    trial.check()
    return cancelled


@scenario(12, "throttle burst")
async def throttle_bursts(mode: str, seed: int) -> int:
    """Every request is throttled for 30 s, and later for 300 s."""
    trial = Trial(two_shards(seed), mode=mode, seed=seed)
    codes = ("ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded")
    seconds = (30.0, 30.0, 300.0)
    began: list[int] = []

    def amid_work(call: Call) -> bool:
        if call.client == "commits":
            began.append(call.number)
        return len(began) > 2

    faults = [
        Fault(Throttle(length, code), None, amid_work, nth=10 * n + 1)
        for n, (code, length) in enumerate(zip(codes, seconds, strict=True))
    ]
    trial.server.faults.add(*faults)
    await trial.settle()
    assert trial.clock.monotonic() > sum(seconds)
    trial.check()
    return fired(faults)


# ----------------------------------------------------------------------------------------------------- cancellation

PASSING = ("TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded")
FAULTY = ("ValidationError", "ItemCollectionSizeLimitExceeded")
PARTS = ("checkpoint", "marker", "row", "addition", "check", "segment", "effect", "dead letter", "parked event")


def part_of(action: Mapping[str, Mapping[str, Any]]) -> str:
    """Name what an action of a commit writes."""
    ((kind, inner),) = action.items()
    table: str = inner["TableName"].removeprefix(f"{PREFIX}-")
    if table in {"markers", "effects"}:
        return table[:-1]
    if table != "state":
        return {"Put": "row", "Update": "addition", "ConditionCheck": "check"}[kind]
    sort: str = (inner.get("Item") or inner["Key"])["sk"]["S"]
    return {"segment": "segment", "dead": "dead letter", "parked": "parked event"}.get(sort.partition("#")[0], sort)


def cancelling(code: str, part: str) -> Fault:
    """Cancel the next commit of many parts at the first, or last, of one kind of them."""
    fault = Fault(CancelWith({}), WRITE)

    def look(call: Call) -> bool:
        if call.client != "commits" or fault.fired:
            return False
        actions = call.body["TransactItems"]
        at = [index for index, action in enumerate(actions) if part_of(action) == part]
        if not at or len(actions) < 5:
            return False
        fault.action = CancelWith({at[-1 if code in PASSING else 0]: code})
        return True

    fault.when = look
    return fault


@scenario(11, "each cancellation code at each index")
async def cancellations(mode: str, seed: int) -> int:
    """One commit for each code and each kind of item it writes."""
    on_error = OnError.PARK_KEY if mode == "event" and seed % 2 else OnError.DEAD_LETTER
    logs = write_log(300, seed=seed, accounts=20, unfit=dict.fromkeys(range(20, 300, 25), "poison"))
    trial = Trial(logs, mode=mode, seed=seed, spec={"on_error": on_error})
    faults = [cancelling(code, part) for part in PARTS for code in (*PASSING, *FAULTY)]
    trial.server.faults.add(*faults)
    await trial.settle()
    trial.check()
    missing = {"event": 2, "shard": 2, "sequence": 3}[mode]  # kinds of items that a mode does not write
    assert fired(faults) == (len(PARTS) - missing) * 5
    return fired(faults)


# ------------------------------------------------------------------------------------------------------------ reads


async def taking_over(trial: Trial, times: int) -> None:
    """Let one process after the other die in the middle of the log."""
    total = trial.expected.read
    for number in range(1, times):
        async with trial.process() as process:
            await trial.until(lambda number=number: trial.settled >= total * number // times)
            process.life.die()
    await trial.settle()
    trial.check()


@scenario(13, "stale reads")
async def stale_reads(mode: str, seed: int) -> int:
    """Eventually consistent reads are 5 s old, at every takeover."""
    trial = Trial(two_shards(seed), mode=mode, seed=seed, read_lag_seconds=5.0)
    await taking_over(trial, 5)
    return 4


@scenario(13, "torn reads")
async def torn_reads(mode: str, seed: int) -> int:
    """After a takeover, queries and batches miss the last commit, of which the checkpoint already tells, for 2 s."""
    unfit = dict.fromkeys(range(3, 160, 4), "poison")
    logs = write_log(160, seed=seed, accounts=60, unfit=unfit)
    trial = Trial(logs, mode=mode, seed=seed, batch=6, spec=_PARKING if mode == "event" else None)
    trial.tear(2.0)
    takeovers = 0
    while not await trial.live(at_commit(trial.chance.randrange(1, 5))):
        takeovers += 1
    await trial.settle()
    trial.check()
    return takeovers


_PARKING = {"on_error": OnError.PARK_KEY}


def at_commit(number: int) -> Deadly:
    """Die of one commit, answered or not."""
    left = number

    def at(request: int, operation: str, connection: str) -> Moment | None:
        nonlocal left
        left -= connection == "commits" and operation == WRITE
        return None if left else Moment.DURING if request % 2 else Moment.AFTER

    return at


@scenario(13, "partial batches")
async def partial_batches(mode: str, seed: int) -> int:
    """BatchGetItem answers some of its keys, or none, and leaves the rest unprocessed."""
    trial = Trial(two_shards(seed), mode=mode, seed=seed)
    faults = [Fault(PartialBatch(n % 4), "BatchGetItem", nth=2 * n + 1) for n in range(100)]
    trial.server.faults.add(*faults)
    await taking_over(trial, 4)
    return fired(faults)


@scenario(14, "slow network")
async def slow_network(mode: str, seed: int) -> int:
    """One request in six takes up to 20 s to arrive, or to be answered, or is never answered."""
    trial = Trial(two_shards(seed), mode=mode, seed=seed)
    chance = trial.chance
    faults = [
        Fault(chance.choice((Delay(chance.uniform(0, 20)), Delay(0, chance.uniform(0, 20)), Drop("hang"))), nth=6 * n)
        for n in range(1, 100)
    ]
    trial.server.faults.add(*faults)
    await taking_over(trial, 3)
    return fired(faults)


# ----------------------------------------------------------------------------------------------------------- poison


@scenario(34, "poison and oversize events")
async def unfit_events(mode: str, seed: int) -> int:
    """Events that fail, or exceed an item, a transaction or its actions, amid good ones."""
    kinds = ("poison", "wide", "heavy", "many")
    unfit = {at: kinds[at // 9 % 4] for at in range(5, 110, 9)}
    trial = Trial(write_log(120, seed=seed, unfit=unfit), mode=mode, seed=seed)
    await trial.settle()
    trial.check()
    return len(unfit)
