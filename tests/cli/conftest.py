from pathlib import Path

import pytest

from tests.support.commands import Workplace


@pytest.fixture
def shop(tmp_path: Path) -> Workplace:
    """A directory with settings, one projection and an empty log."""
    return Workplace(tmp_path)
