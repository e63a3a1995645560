"""Daemons that die or are told to stop while they work."""

import random

import pytest

from tests.support.daemons import Site

KILLS = 50
STOPS = 5


@pytest.mark.timeout(300)  # it starts the daemon as often as all other tests together
def test_fifty_kills_lose_nothing_and_double_nothing(demo_site: Site):
    """Killed fifty times, each time after a random number of commits, the daemon ends with every row right and every
    duplicate stopped exactly once.
    """
    chance = random.Random(5)
    demo_site.variables["ENGINE__BATCH_MAX_EVENTS"] = "10"
    for _ in range(KILLS):
        before, wanted = demo_site.commits(), chance.randrange(1, 70)
        daemon = demo_site.start("--once")
        daemon.until(lambda before=before, wanted=wanted: demo_site.commits() >= before + wanted)
        assert demo_site.look().read < demo_site.total
        assert daemon.kill()
    settled = demo_site.look().read
    last = demo_site.once()
    assert last.code == 0, last.log
    assert settled + last.document["counts"]["read"] == demo_site.total
    demo_site.assert_right()


def test_a_stop_amid_commits_drains(demo_site: Site):
    """Told to stop while another process holds the store, so that its commits hang, the daemon waits for them, releases
    every shard and leaves with 0; the next start goes on from there.
    """
    chance = random.Random(11)
    demo_site.variables["ENGINE__BATCH_MAX_EVENTS"] = "3"  # so that there is much left to commit at every stop
    for _ in range(STOPS):
        before, wanted = demo_site.commits(), chance.randrange(20, 60)
        daemon = demo_site.start(STORE__BUSY_TIMEOUT_MS="20")
        daemon.until(lambda before=before, wanted=wanted: demo_site.commits() >= before + wanted)
        with demo_site.locked():
            settled = demo_site.look().read
            daemon.until(lambda daemon=daemon: bool(daemon.records(event="commit not settled yet")))
            daemon.terminate()
            daemon.until(lambda daemon=daemon: bool(daemon.records(state="draining")))
        ended = daemon.wait()
        assert ended.code == 0, ended.log
        assert ended.document["drained"] is True
        assert settled < demo_site.look().read < demo_site.total
        assert demo_site.query('SELECT DISTINCT owner FROM "projectiond-checkpoints"') == [(None,)]
    assert demo_site.once().code == 0
    demo_site.assert_right()
