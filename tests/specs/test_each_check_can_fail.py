"""Mutation proof of the test kit: for each of its checks a projection that only this one finds wrong."""

from collections.abc import Mapping
from typing import Any

import pytest

from daemon.testing import SpecFailed, event, spec
from daemon.testing.specs.running import run
from daemon.testing.specs.variants import CHECKS, PURE
from tests.specs.broken import PURITY, TOLD, VARIANTS, broken, calling, counting

ALSO = {"twice": ["crashed"], "crashed": ["twice"], "batched": ["duplicated", "reordered", "replayed", "rebuilt"]}
"""What else such a mistake shows in."""
LINES = [event("Told", key="a", lines=[2, 1])]


def fails(cls: type, events: Any, **excuses: str) -> SpecFailed:
    """Run a specification that fails, and return how."""
    begun = spec(cls)
    for check, reason in excuses.items():
        begun = begun.excuse(check, because=reason)
    with pytest.raises(SpecFailed) as failed:
        begun.given(events).then_effects()
    return failed.value


@pytest.mark.parametrize("check", VARIANTS)
def test_a_variant_finds_its_mistake(check: str):
    """A projection that is wrong in one way fails by the variant that shows it, with what that means."""
    cls, events = VARIANTS[check]
    failed = fails(cls, events, **({"twice": "shown by another test"} if check == "crashed" else {}))
    assert failed.check == check
    assert CHECKS[check].means in str(failed)
    assert f'.excuse("{check}", because=' in str(failed)


@pytest.mark.parametrize("check", VARIANTS)
def test_an_excused_variant_is_left_out(check: str):
    """The same projection passes once the check is excused by name."""
    cls, events = VARIANTS[check]
    excused = [check, *ALSO.get(check, [])]
    begun = spec(cls)
    for name in excused:
        begun = begun.excuse(name, because="it is wrong on purpose")
    begun.given(events).then_some({})


def test_a_replay_that_applied_again_would_be_seen(monkeypatch: pytest.MonkeyPatch):
    """Were a rewound log applied again, the variant would say so."""
    monkeypatch.setattr("daemon.testing.specs.spec.run", _applying_again)
    assert fails(broken(counting), TOLD).check == "replayed"


def _applying_again(loaded: Any, delivery: Any) -> Any:
    from dataclasses import replace

    outcome = run(loaded, delivery)
    if not delivery.rewound:
        return outcome
    doubled: Mapping[Any, Any] = {key: {"n": row["n"] * 2} for key, row in outcome.rows.items()}
    return replace(outcome, rows=doubled)


def test_every_variant_has_its_mistake():
    """No variant goes unproven."""
    assert {*VARIANTS, "replayed"} == {*CHECKS}


def test_every_rule_has_its_mistake():
    """No rule on what handlers do goes unproven."""
    assert {check for check, _ in PURITY.values()} == {*PURE}


@pytest.mark.parametrize("name", PURITY)
def test_what_a_handler_must_not_do_is_found(name: str):
    """A handler that reaches for the world, keeps something or changes the event is told of, with its line."""
    check, handle = PURITY[name]
    failed = fails(broken(handle), LINES)
    assert failed.check == check, failed
    assert "broken.py:" in str(failed), failed


@pytest.mark.parametrize("name", ["module", "payload", "time.time", "uuid4", "open", "getenv"])
def test_an_excused_rule_is_left_out(name: str):
    """What is excused by name does not fail the specification."""
    check, handle = PURITY[name]
    spec(broken(handle)).excuse(check, because="it is wrong on purpose").given(LINES).then({"a": {"n": 1}})


def test_an_excuse_needs_a_name_and_a_reason():
    """An excuse for what is no check, or without a reason, is refused, and the names are listed."""
    begun = spec(broken(calling))
    with pytest.raises(ValueError, match="reordered, interleaved"):
        begun.excuse("re-ordered", because="reasons")
    with pytest.raises(TypeError, match="has no reason"):
        begun.excuse("reordered", because=" ")
