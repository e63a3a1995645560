"""Stores from settings: each kind built, unopened.

Owns the way from a section of the settings to its adapter. Must not know how stores are used.
"""

from pathlib import Path

from daemon.ports.clock import Clock
from daemon.ports.observer import Observer
from daemon.ports.store import Store
from daemon.settings import DynamoDbStoreSettings, Settings, SqliteStoreSettings
from daemon.stores.sqlite import SqliteStore


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
