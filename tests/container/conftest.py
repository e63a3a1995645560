"""The image's tests need root on Linux and three Debian packages; elsewhere they are left out, which one line tells.

In CI nothing is left out: there the tests fail for what is missing.
"""

import os

from tests.container.tools import obstacle

collect_ignore_glob = ["test_the_image.py"] if obstacle() and not os.environ.get("CI") else []


def pytest_report_header() -> str | None:
    """Tell why the image's tests are left out."""
    return f"the image is not tested here: {obstacle()}" if collect_ignore_glob else None
