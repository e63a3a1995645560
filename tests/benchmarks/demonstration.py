"""The whole demonstration, from nothing: logs written, folded, killed three times, every row checked."""

import subprocess
import sys
import time
from collections.abc import Iterator

from tests.benchmarks.figures import ROOT, Figure, figure


def demonstration() -> Iterator[Figure]:
    """Measure one run. Raises CalledProcessError when any row is wrong."""
    directory = ROOT / "build" / "bench-demo"
    directory.parent.mkdir(exist_ok=True)
    command = (sys.executable, "-m", "daemon.cli", "demo", "--json", "--fresh", "--directory", str(directory))
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    yield figure("the whole demonstration (wall)", time.perf_counter() - start, "s", goal="value <= 90")
