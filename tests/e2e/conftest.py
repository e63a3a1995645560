from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.daemons import Site, site


@pytest.fixture
def demo_site(tmp_path: Path) -> Generator[Site]:
    """The slice's logs, and whatever daemons a test starts over them."""
    with site(tmp_path) as place:
        yield place
