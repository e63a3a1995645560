"""Fakes of every port, shipped for tests and simulation: each is held to the same contract suite as the real adapters.

Owns in-memory doubles with scripted faults. Must not be imported by anything the daemon runs.
"""

from daemon.testing.clock import VirtualClock
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryData, MemoryStore
from daemon.testing.observer import RecordingObserver

__all__ = ["MemoryData", "MemorySource", "MemoryStore", "RecordingObserver", "VirtualClock"]
