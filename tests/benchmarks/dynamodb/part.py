"""The DynamoDB figures: what an event costs from file to wire, in CPU and in write units, beside what people write."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from daemon.demo.services.strict import StrictDynamoDB
from tests.benchmarks.dynamodb.delivered_again import delivered_again
from tests.benchmarks.dynamodb.hot_row import hot_row
from tests.benchmarks.dynamodb.per_event import per_event
from tests.benchmarks.dynamodb.servers import HoldingDynamoDB
from tests.benchmarks.dynamodb.write_units import write_units
from tests.benchmarks.figures import Figure, Sizes


def dynamodb(sizes: Sizes) -> Iterator[Figure]:
    """Measure all of them, on servers in processes of their own."""
    with tempfile.TemporaryDirectory(prefix="projectiond-bench-") as scratch:
        directory = Path(scratch)
        with StrictDynamoDB() as strict:
            yield from per_event(sizes, directory, strict.endpoint)
            yield from write_units(sizes, directory, strict.endpoint)
            yield from delivered_again(sizes, directory, strict.endpoint)
        with HoldingDynamoDB() as holding:
            yield from hot_row(sizes, directory, holding.endpoint)
