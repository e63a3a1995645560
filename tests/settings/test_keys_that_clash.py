from pathlib import Path

import pytest
from pydantic import ValidationError

from daemon.settings import EngineSettings, FileSourceSettings, Settings, SettingsError, load_settings

SOURCE = '[sources.a]\npaths = ["/a"]\n'
MAP = '[sources.a.fields]\nid = "i"\ntype = "t"\ntime = "m"\n'

CLASHES = {
    "a stop shorter than a commit": ("[daemon]\ngrace_period_seconds = 10\n", "daemon.grace_period_seconds"),
    "a lock awaited longer than a commit": ("[store]\nbusy_timeout_ms = 15_000\n", "store.busy_timeout_ms"),
    "a request awaited longer than its commit": (
        '[store]\nkind = "dynamodb"\ncommit_request_seconds = 15.0\n',
        "store.commit_request_seconds",
    ),
    "plain JSON without a field map": (f'{SOURCE}envelope = "json"\n', "sources.a.fields"),
    "a field map for CloudEvents": (SOURCE + MAP, "sources.a.fields"),
    "a line larger than a batch": (f"{SOURCE}max_line_bytes = 4_194_305\n", "sources.a.max_line_bytes"),
    "a first wait longer than the longest": (
        "[engine.retry]\ninitial_backoff_ms = 500\nmax_backoff_ms = 499\n",
        "engine.retry.initial_backoff_ms",
    ),
    "a row of failures longer than the window": (
        "[engine.circuit]\nwindow_events = 9\n",
        "engine.circuit.max_dead_letters_in_a_row",
    ),
    "a marker window larger than the memory": ("[engine]\nmarker_memory_mib = 24\n", "engine.marker_window_ids"),
    "one projection's window larger than the memory": (
        "[projections.p]\nmarker_window_ids = 2_097_153\n",
        "projections.p.marker_window_ids",
    ),
    "names that no variable could tell apart": (
        '[sources.a-b]\npaths = ["/a"]\n[sources.a_b]\npaths = ["/b"]\n',
        "sources.a_b",
    ),
    "leases looked at more seldom than they are renewed": (
        '[coordination]\nkind = "lease"\nlease_seconds = 1.2\npoll_ms = 401\n',
        "coordination.poll_ms",
    ),
    "a relative database in production": ("[daemon]\nproduction = true\n", "store.path"),
    "a relative log in production": (
        '[daemon]\nproduction = true\n[store]\npath = "/s.db"\n[sources.a]\npaths = ["/a", "b"]\n',
        "sources.a.paths[1]",
    ),
}

HOLDS = {
    "a stop as long as a commit and more": "[daemon]\ngrace_period_seconds = 16\n",
    "a lock awaited a little less than a commit": "[store]\nbusy_timeout_ms = 14_999\n",
    "a request awaited a little less than its commit": '[store]\nkind = "dynamodb"\ncommit_request_seconds = 14.9\n',
    "tables in production": '[daemon]\nproduction = true\n[store]\nkind = "dynamodb"\n',
    "plain JSON with a field map": f'{SOURCE}envelope = "json"\n{MAP}',
    "a line as large as a batch": f"{SOURCE}max_line_bytes = 4_194_304\n",
    "waits that are all the same": "[engine.retry]\ninitial_backoff_ms = 500\nmax_backoff_ms = 500\n",
    "a row of failures as long as the window": "[engine.circuit]\nwindow_events = 10\n",
    "a marker window as large as the memory": "[engine]\nmarker_memory_mib = 25\nmarker_window_ids = 204_800\n",
    "leases looked at as often as they are renewed": (
        '[coordination]\nkind = "lease"\nlease_seconds = 1.2\npoll_ms = 400\n'
    ),
    "leases that nobody looks at": "[coordination]\nlease_seconds = 1.2\npoll_ms = 401\n",
    "absolute paths in production": f'[daemon]\nproduction = true\n[store]\npath = "/s.db"\n{SOURCE}',
}


@pytest.mark.parametrize(("text", "path"), CLASHES.values(), ids=CLASHES)
def test_keys_that_cannot_hold_together_are_refused(tmp_path: Path, text: str, path: str):
    """A pair of keys that would break a promise of the daemon is one problem, at the key to change, with the other."""
    file = tmp_path / "projectiond.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        load_settings(file, {})
    (problem,) = raised.value.problems
    assert problem.path == path
    assert problem.expected
    assert problem.remedy


@pytest.mark.parametrize("text", HOLDS.values(), ids=HOLDS)
def test_keys_at_the_edge_hold_together(tmp_path: Path, text: str):
    """The strictest pair that still holds is accepted."""
    file = tmp_path / "projectiond.toml"
    file.write_text(text, encoding="utf-8")
    load_settings(file, {})


def test_a_clash_is_told_beside_plain_mistakes(tmp_path: Path):
    """A mistake in one section hides no clash in another."""
    file = tmp_path / "projectiond.toml"
    file.write_text("[daemon]\ngrace_period_seconds = 10\n[logging]\nlevel = 1\n", encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        load_settings(file, {})
    assert {problem.path for problem in raised.value.problems} == {"logging.level", "daemon.grace_period_seconds"}


def test_a_clash_with_a_wrong_key_is_not_told(tmp_path: Path):
    """While one of two keys is itself wrong, nothing is said about them together."""
    file = tmp_path / "projectiond.toml"
    file.write_text('[engine]\ncommit_deadline_seconds = "5"\n[daemon]\ngrace_period_seconds = 10\n', encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        load_settings(file, {})
    assert {problem.path for problem in raised.value.problems} == {"engine.commit_deadline_seconds"}


def test_the_origin_of_a_clash_is_where_it_was_written(tmp_path: Path):
    """A clash says where its value comes from; one about an absent key says where the cause stands."""
    file = tmp_path / "projectiond.toml"
    file.write_text(f"{SOURCE}[daemon]\ngrace_period_seconds = 10\n", encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        load_settings(file, {"PROJECTIOND__SOURCES__A__ENVELOPE": "json"})
    assert {problem.path: problem.origin for problem in raised.value.problems} == {
        "daemon.grace_period_seconds": f"file {file}",
        "sources.a.fields": "environment PROJECTIOND__SOURCES__A__ENVELOPE",
    }


def test_settings_made_in_code_are_checked_too():
    """No Settings exists that breaks a rule, wherever it was made."""
    with pytest.raises(ValidationError, match=r"sources\.a\.fields"):
        Settings(sources={"a": FileSourceSettings(paths=("a",), envelope="json")})
    with pytest.raises(ValidationError, match=r"daemon\.grace_period_seconds"):
        Settings(engine=EngineSettings(commit_deadline_seconds=30.0))
