"""Real daemons on a durable DynamoDB server in another process: killed, frozen, and the server killed under them."""

from pathlib import Path

import pytest

from tests.faults.processes import Ordeal, daemon_killed, replica_frozen, server_killed

pytestmark = pytest.mark.timeout(300)

KILLS = 15


def assert_right(found: Ordeal) -> None:
    """Nothing is lost, nothing doubled."""
    assert found.right, found


def test_kills_lose_nothing_and_double_nothing(tmp_path: Path):
    """Killed at random moments, the daemon ends with every row, marker, effect and counter right."""
    assert_right(daemon_killed(tmp_path, 1, KILLS))


def test_frozen_replica_writes_nothing_more(tmp_path: Path):
    """Stopped beyond its lease amid its work and woken when its peer has settled everything, a replica is fenced: no
    row changes by its hand.
    """
    assert_right(replica_frozen(tmp_path, 2, 1))


def test_killed_server_is_waited_for(tmp_path: Path):
    """The database is killed amid commits and started again on its files; the daemon goes on by itself."""
    assert_right(server_killed(tmp_path, 3, 3))
