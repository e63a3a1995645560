"""A process killed at any of its requests, before, during and after: the next one goes on as if nothing had been."""

import pytest

from tests.support.ledger import MODES, write_log
from tests.support.trial import Deadly, Moment, Trial

pytestmark = pytest.mark.anyio


def at_request(number: int, moment: Moment) -> Deadly:
    """Die of one request."""
    return lambda request, _operation, _connection: moment if request == number else None


@pytest.mark.parametrize("mode", MODES)
async def test_undisturbed_run_is_the_plain_fold(mode: str):
    """Without faults, rows, markers, effects, dead letters and counters are what the log comes to."""
    trial = Trial(write_log(150, seed=1, shards=("s0", "s1"), unfit={40: "poison"}), mode=mode)
    await trial.settle()
    trial.check()


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize("mode", MODES)
async def test_death_at_any_request_loses_and_doubles_nothing(mode: str, moment: Moment):
    """Whichever request the first process dies of, from opening the store to giving the shard back, and whether that
    request is lost, still under way or answered, the second one ends with every row right.
    """
    number, settled = 0, False
    while not settled:
        number += 1
        trial = Trial(write_log(40, seed=number, unfit={11: "poison"}), mode=mode, seed=number)
        settled = await trial.live(at_request(number, moment))
        await trial.settle()
        trial.check()
    assert number > 15, "the first process died of each of its requests"
