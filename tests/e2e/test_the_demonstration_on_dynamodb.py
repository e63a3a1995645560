"""`projectiond demo --store dynamodb` as a user runs it: some thousand events, on a Dynoxide of its own."""

import json
from pathlib import Path

from tests.e2e.test_the_demonstration import demo

WORDS = ("--store", "dynamodb", "--full")


def test_it_kills_resumes_and_proves_every_row_on_dynamodb(tmp_path: Path):
    """Two kills later every row in the tables and every counter is right; the server's
    files and the logs remain, and no server.
    """
    words = (*WORDS, "--json", "--kills", "2", "--limit", "2000")
    ended = demo(tmp_path / "demo", *words, PROJECTIOND__ENGINE__BATCH_MAX_EVENTS="50")
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert (document["right"], document["problems"]) == (True, [])
    assert len(document["kills"]["done"]) == 2
    assert all(each["agree"] for each in document["projections"])
    assert {model: counts["right"] for model, counts in document["rows"].items()}["flight"] == 2000
    assert all(counts["right"] == counts["expected"] > 0 for counts in document["rows"].values())
    assert document["duplicates"]["marker"] > 0 < document["duplicates"]["version"]
    # Told by daemons that ended by themselves: after a late kill the last of them may have had nothing left to apply.
    assert document.get("write_units_per_event", 1) > 0
    assert "DynamoDB: dynoxide at http://127.0.0.1:" in ended.stderr
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"daemon.log", "demo.json", "dynamodb.db", "logs"} <= names
    assert "projectiond.db" not in names


def test_an_endpoint_where_nothing_answers_ends_it_at_once(tmp_path: Path):
    """It ends with 5 and says where nothing answered, before any log is written."""
    ended = demo(tmp_path / "demo", *WORDS, "--json", "--endpoint", "http://127.0.0.1:1")
    assert ended.returncode == 5, ended.stderr
    assert "no DynamoDB answers at http://127.0.0.1:1" in json.loads(ended.stdout)["error"]["message"]
    assert not (tmp_path / "demo" / "logs").exists()
