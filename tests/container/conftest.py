"""The image's tests need root on Linux and three Debian packages; elsewhere they are left out, which one line tells.

In CI nothing is left out: there the tests fail for what is missing.
"""

import os

import pytest

from tests.container.tools import obstacle

collect_ignore_glob = ["test_the_image.py"] if obstacle() and not os.environ.get("CI") else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell why the image's tests are left out."""
    if collect_ignore_glob:
        terminalreporter.write_line(f"the image was not tested: {obstacle()}")
