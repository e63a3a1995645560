"""The reader of the checkpoint item, as a command side uses it: a plain client, and `daemon.api`."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import botocore.session  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.api import checkpoint_key, has_settled, pointer_key
from daemon.core.identity import Scope
from daemon.core.positions import position_text
from daemon.core.projection import Dedup
from daemon.demo.services.dynoxide import Dynoxide
from daemon.ports.store import Store
from daemon.stores.dynamodb.items import CHECKPOINT, POINTER, scope_key
from daemon.stores.sqlite import SqliteStore
from daemon.testing.memory_source import MemorySource
from tests.support.dynamodb import over_http, store_on
from tests.support.engine import counting, engine, event

SELECT = """
    SELECT position FROM "projectiond-checkpoints" WHERE projection = ? AND generation = ? AND source = ? AND shard = ?
"""


async def write_and_look(store: Store, look: Callable[[], Any]) -> None:
    """Write two events after another; what was written is settled once the row holds it, and not before."""
    source = MemorySource()
    source.add_shard("s/0")
    assert not has_settled(look(), "1")
    async with engine(counting(dedup=Dedup.SHARD), store, source) as running:
        source.append("s/0", event(9))
        await running.caught_up()
        assert has_settled(look(), "9")
        assert not has_settled(look(), "10"), "10 lies behind 9, though not as text"
        source.append("s/0", event(10))
        await running.until(lambda: has_settled(look(), "10"))
    await store.aclose()


@pytest.mark.anyio
async def test_on_sqlite(tmp_path: Path):
    """A plain SQLite client sees when a position is settled."""
    path = tmp_path / "rows.db"

    def look() -> Any:
        if not path.exists():
            return None
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(SELECT, ("counting", 1, "memory", "s/0")).fetchone()

    await write_and_look(SqliteStore(path), look)


@pytest.mark.anyio
async def test_on_dynamodb(dynoxide: Dynoxide, table_prefix: str):
    """A plain DynamoDB client sees when a position is settled, and which generation is live."""
    session: Any = botocore.session.get_session()  # pyright: ignore[reportUnknownMemberType]
    client: Any = session.create_client(
        "dynamodb", "us-east-1", endpoint_url=dynoxide.endpoint, aws_access_key_id="x", aws_secret_access_key="y"
    )
    table = f"{table_prefix}-state"

    def read(key: dict[str, str]) -> Any:
        typed = {name: {"S": value} for name, value in key.items()}
        try:
            return client.get_item(TableName=table, Key=typed, ConsistentRead=True).get("Item")
        except client.exceptions.ResourceNotFoundException:
            return None

    store = store_on(over_http(dynoxide.endpoint), table_prefix)
    await write_and_look(store, lambda: read(checkpoint_key("counting", 1, "memory", "s/0")))
    assert read(pointer_key("counting"))["generation"] == {"N": "1"}
    client.close()


NAMES = st.text("ab/\\:#-", min_size=1, max_size=8)


@given(NAMES, st.integers(1, 99), NAMES, NAMES)
def test_the_key_is_the_stores_own(projection: str, generation: int, source: str, shard: str):
    """The reader's keys are those under which the store writes."""
    scope = Scope(projection, generation, source, shard)
    assert checkpoint_key(*scope) == {"pk": scope_key(scope), "sk": CHECKPOINT}
    assert pointer_key(projection) == {"pk": projection, "sk": POINTER}


POSITIONS = st.lists(st.integers(0, 10**40), max_size=3).map(tuple)


@given(POSITIONS, POSITIONS)
def test_positions_compare_as_the_daemon_compares_them(reached: tuple[int, ...], wanted: tuple[int, ...]):
    """The reader's order of positions is the daemon's own, for an item in either form."""
    text = position_text(reached)
    for checkpoint in ({"position": text}, {"position": {"S": text}}):
        assert has_settled(checkpoint, position_text(wanted)) == (reached >= wanted)
