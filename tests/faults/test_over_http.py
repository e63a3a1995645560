"""The engine over real connections to the strict server."""

import pytest

from tests.faults import connections
from tests.faults.kinds import KINDS, Kind
from tests.support.ledger import MODES

pytestmark = pytest.mark.anyio
assert connections  # importing it lists its scenarios


@pytest.fixture
def anyio_backend() -> str:
    """Sockets know no virtual time."""
    return "asyncio"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.virtual], ids=lambda kind: kind.fault)
async def test_fault_loses_and_doubles_nothing(kind: Kind, mode: str):
    """Expired credentials and half-open, broken or lying connections are waited out: nothing is lost or doubled."""
    assert await kind.run(mode, 1) > 0
