"""Every Observer against the one suite. An adapter adds a class with an `observer` fixture."""

import pytest

from daemon.telemetry.recorder import Recorder
from daemon.testing.observer import RecordingObserver
from tests.contracts.observer_contract import FACTS, ObserverContract


class TestRecordingObserver(ObserverContract):
    @pytest.fixture
    def observer(self) -> RecordingObserver:
        return RecordingObserver()

    def test_facts_are_kept_in_order(self, observer: RecordingObserver) -> None:
        """Facts come back in the order they were seen, all or by kind."""
        for fact in FACTS:
            observer.see(fact)
        assert observer.facts == FACTS
        assert observer.of(type(FACTS[1])) == FACTS[1:3]


class TestRecorder(ObserverContract):
    @pytest.fixture
    def observer(self) -> Recorder:
        return Recorder()
