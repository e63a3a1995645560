"""Stores from settings: each kind built, unopened.

Owns the way from a section of the settings to its adapter. Must not know how stores are used.
"""

from pathlib import Path

from daemon.ports.clock import Clock
from daemon.ports.observer import Observer
from daemon.ports.store import Store
from daemon.settings import DynamoDbStoreSettings, Settings, SqliteStoreSettings
from daemon.stores.sqlite import SqliteStore


def place_of(settings: Settings) -> str:
    """Return where the store is, for people."""
    match settings.store:
        case SqliteStoreSettings() as store:
            return f"SQLite at {store.path}"
        case DynamoDbStoreSettings() as store if store.endpoint_url:
            return f"DynamoDB at {store.endpoint_url}"
        case DynamoDbStoreSettings() as store:
            return f"DynamoDB in {store.region}" if store.region else "DynamoDB"


def patience_of(settings: Settings) -> float:
    """Return for how many seconds a store that is away is waited for by what does not wait for ever."""
    store = settings.store  # SQLite's own wait for a lock is all the patience it has
    return store.patience_seconds if isinstance(store, DynamoDbStoreSettings) else 0.0


def store_of(settings: Settings, clock: Clock, observer: Observer, *, read_only: bool = False) -> Store:
    """Build the store, unopened. `read_only`: to look alone."""
    match settings.store:
        case SqliteStoreSettings() as store:
            return SqliteStore(
                Path(store.path),
                busy_timeout_ms=store.busy_timeout_ms,
                wal_autocheckpoint_pages=store.wal_autocheckpoint_pages,
                read_only=read_only,
            )
        case DynamoDbStoreSettings() as store:
            from daemon.assembly.dynamodb import dynamodb_store  # noqa: PLC0415 - slow, and for this kind alone

            return dynamodb_store(store, clock, observer)
