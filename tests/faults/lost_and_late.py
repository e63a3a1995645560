"""Processes that die, requests and answers that get lost or come late."""

from dataclasses import replace

from daemon.core.recovery import RetryPolicy
from daemon.testing.dynamodb import (
    AnswerWith,
    Call,
    CancelWith,
    Drop,
    DuplicateLater,
    Fault,
    LoseAnswer,
    Refuse,
)
from tests.faults.kinds import fired, of_commits, scenario, two_shards
from tests.support.ledger import write_log
from tests.support.trial import WRITE, Moment, Trial

# ----------------------------------------------------------------------------------------------------------- death


async def dying(mode: str, seed: int, *moments: Moment) -> int:
    """Kill one process after the other at random requests."""
    trial = Trial(write_log(200, seed=seed, shards=("s0", "s1"), unfit={50: "poison"}), mode=mode, seed=seed)
    chance, deaths = trial.chance, 0

    def anyhow(_number: int, operation: str, _connection: str) -> Moment | None:
        deadly = 0.06 if operation == WRITE else 0.01
        return chance.choice(moments) if chance.random() < deadly else None

    while not await trial.live(anyhow):
        deaths += 1
    await trial.settle()
    trial.check()
    return deaths


@scenario(1, "death before a request")
async def death_before(mode: str, seed: int) -> int:
    """A process whose request never leaves; the next process goes on."""
    return await dying(mode, seed, Moment.BEFORE)


@scenario(4, "death while a request is under way")
async def death_during(mode: str, seed: int) -> int:
    """The request arrives while the successor takes the shard."""
    return await dying(mode, seed, Moment.DURING)


@scenario(2, "death between commit and answer")
async def death_after(mode: str, seed: int) -> int:
    """The request is applied, its sender never hears of it."""
    return await dying(mode, seed, Moment.AFTER)


# ---------------------------------------------------------------------------------------------------------- silence


@scenario(7, "unknown outcome")
async def lost_answers(mode: str, seed: int) -> int:
    """Commits are applied and their answers lost (reset, cut, wrong checksum, silence)."""
    trial = Trial(two_shards(seed), mode=mode, seed=seed)
    hows = ("reset", "cut", "crc", "hang")
    faults = [Fault(LoseAnswer(hows[n % 4]), WRITE, of_commits, nth=2 * n + 1) for n in range(200)]
    trial.server.faults.add(*faults)
    await trial.settle()
    trial.check()
    return fired(faults)


@scenario(7, "unknown outcome, then a refusal")
async def lost_answers_and_refusals(mode: str, seed: int) -> int:
    """A commit is applied, its answer lost, and the same request is then throttled or conflicts: another token has to
    find out that the first was applied.
    """
    trial = Trial(two_shards(seed), mode=mode, seed=seed)
    actions = (AnswerWith("ThrottlingException"), CancelWith({0: "TransactionConflict"}))
    lost: dict[str, int] = {}

    def again(call: Call) -> bool:
        return of_commits(call) and lost.setdefault(str(call.body["TransactItems"]), call.number) != call.number

    refused = [Fault(actions[n % 2], WRITE, again, nth=3 * n + 1) for n in range(60)]
    faults = [Fault(LoseAnswer(), WRITE, of_commits, nth=2 * n + 1) for n in range(60)]
    trial.server.faults.add(*refused, *faults)
    await trial.settle()
    trial.check()
    return fired(refused)


@scenario(7, "lost request")
async def lost_requests(mode: str, seed: int) -> int:
    """Commits are lost on their way, or refused; the sender cannot tell the first from applied."""
    trial = Trial(two_shards(seed), mode=mode, seed=seed)
    actions = (Drop("reset"), Drop("hang"), Refuse())
    faults = [Fault(actions[n % 3], WRITE, of_commits, nth=2 * n + 1) for n in range(200)]
    trial.server.faults.add(*faults)
    await trial.settle()
    trial.check()
    return fired(faults)


@scenario(8, "late duplicate")
async def late_duplicates(mode: str, seed: int) -> int:
    """Every commit arrives once more, 0.05 to 900 s later, amid newer commits."""
    trial = Trial(two_shards(seed), mode=mode, seed=seed)
    after = (0.05, 0.3, 2.0, 30.0, 590.0, 610.0, 900.0)
    faults = [Fault(DuplicateLater(after[n % 7]), WRITE, of_commits, nth=n + 1) for n in range(200)]
    trial.server.faults.add(*faults)
    for extra in range(2):  # the log goes on growing while old requests arrive
        await trial.settle()
        more = write_log(60, seed=seed + 1000, shards=("t0", "t1"))
        trial.append(f"t{extra}", *more[f"t{extra}"])
    await trial.settle()
    trial.check()
    return fired(faults)


@scenario(9, "token reused after its window")
async def forgotten_tokens(mode: str, seed: int) -> int:
    """The answer is lost and nothing gets through for eleven minutes."""
    trial = Trial(write_log(60, seed=seed), mode=mode, seed=seed)
    trial.policy = replace(trial.policy, retry=RetryPolicy(unknown_window=640.0, max_backoff=60.0))
    arrived = trial.count(WRITE, of_commits)
    lost = Fault(LoseAnswer(), WRITE, of_commits, nth=3)
    trial.server.faults.add(lost, Outage(620.0).after(lost, trial))
    assert await trial.live()
    await trial.settle()
    trial.check()
    tokens = [body["ClientRequestToken"] for body in arrived]
    assert max(map(tokens.count, tokens)) > 5
    assert trial.clock.monotonic() > 600
    assert trial.checkpoint()["epoch"] > 2, "beyond the window only another epoch makes the request harmless"
    return 1


class Outage:
    """Nothing reaches the server for a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def after(self, begins_with: Fault, trial: Trial) -> Fault:
        """Begin when another fault fired."""
        until: list[float] = []

        def out(call: Call) -> bool:
            if begins_with.fired and not until:
                until.append(trial.clock.monotonic() + self.seconds)
            return bool(until) and call.operation == WRITE and trial.clock.monotonic() < until[0]

        return Fault(Drop(), None, out, times=None)
