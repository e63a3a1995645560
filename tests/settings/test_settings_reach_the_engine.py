"""What settings say of the engine's pace is what its policy holds."""

from pathlib import Path

import pytest

from daemon.app import policy_of
from daemon.settings import SettingsError, load_settings


def test_the_pace_of_commands_and_of_re_deliveries_is_set(tmp_path: Path):
    """`control.poll_ms` is how often other replicas' commands are looked for, `redelivery_share` what a range gets."""
    file = tmp_path / "projectiond.toml"
    file.write_text("[control]\npoll_ms = 40\nredelivery_share = 0.2\n", encoding="utf-8")
    policy = policy_of(load_settings(file, {}).settings, [])
    assert (policy.operations_poll, policy.redelivery_share) == (0.04, 0.2)


def test_left_out_they_are_what_the_engine_has_by_itself(tmp_path: Path):
    """Without them it is looked twice a second, and a range gets half of a busy shard's time."""
    file = tmp_path / "projectiond.toml"
    file.write_text("", encoding="utf-8")
    policy = policy_of(load_settings(file, {}).settings, [])
    assert (policy.operations_poll, policy.redelivery_share) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("key", "value"),
    [("poll_ms", 9), ("poll_ms", 60_001), ("redelivery_share", 0.0), ("redelivery_share", 0.91)],
)
def test_a_pace_that_would_stop_either_is_refused(tmp_path: Path, key: str, value: float):
    """A share that leaves live log or range nothing, and a poll without end or pause, are no settings."""
    file = tmp_path / "projectiond.toml"
    file.write_text(f"[control]\n{key} = {value}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=f"control.{key}"):
        load_settings(file, {})
