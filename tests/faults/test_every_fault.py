"""Every kind of fault, in every dedup mode, with one seed: rows are the plain fold, each event counted once."""

import pytest

from tests.faults import lost_and_late, trouble
from tests.faults.kinds import KINDS, Kind
from tests.support.ledger import MODES

pytestmark = pytest.mark.anyio
assert lost_and_late, trouble  # importing them lists their scenarios


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.virtual], ids=lambda kind: kind.fault)
async def test_fault_loses_and_doubles_nothing(kind: Kind, mode: str):
    """Whatever goes wrong, nothing is lost and nothing is doubled."""
    assert await kind.run(mode, 1) > 0
