"""What projects with projections test them with, and fakes of every port.

Each held to the real adapters' contract suite.

    from daemon.testing import event, spec

    def test_an_order_ships():
        spec(OrderSummary).given(event("OrderShipped", order_id="o1")).then({"o1": {"status": "shipped"}})

Owns specifications (`specs`), the pytest plugin, and in-memory doubles with scripted faults. Must not be imported by
anything the daemon runs. Names are imported when they are asked for: the plugin is loaded by every pytest beside it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daemon.testing.clock import VirtualClock
    from daemon.testing.memory_source import MemorySource
    from daemon.testing.memory_store import MemoryData, MemoryStore
    from daemon.testing.observer import RecordingObserver
    from daemon.testing.specs.spec import Spec, Specified, effect, given, spec
    from daemon.testing.specs.telling import event, lines_of
    from daemon.testing.specs.words import SpecFailed

_HOMES = {
    "MemoryData": "memory_store",
    "MemorySource": "memory_source",
    "MemoryStore": "memory_store",
    "RecordingObserver": "observer",
    "Spec": "specs.spec",
    "SpecFailed": "specs.words",
    "Specified": "specs.spec",
    "VirtualClock": "clock",
    "effect": "specs.spec",
    "event": "specs.telling",
    "given": "specs.spec",
    "lines_of": "specs.telling",
    "spec": "specs.spec",
}

__all__ = [
    "MemoryData",
    "MemorySource",
    "MemoryStore",
    "RecordingObserver",
    "Spec",
    "SpecFailed",
    "Specified",
    "VirtualClock",
    "effect",
    "event",
    "given",
    "lines_of",
    "spec",
]


def __getattr__(name: str) -> Any:
    """Import a name from its module. Raises AttributeError for one that is none of ours."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
