"""The demonstration's store: where rows go, how progress is watched, and how the check is led to the rows.

Owns what differs between SQLite and DynamoDB. Must not know when daemons are started or killed.

Invariant: what `store_of` starts has ended when its block is left.
"""

import json
import shlex
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

from daemon.core.errors import SettingsProblem
from daemon.demo.manifest import Manifest
from daemon.demo.place import DemoDirectory
from daemon.demo.tail import ROW
from daemon.demo.watch import Watcher, Watching
from daemon.settings.environment import variable_of

type StoreKind = Literal["sqlite", "dynamodb"]

JANUARY = "2013-01"


class DemoStore(Protocol):
    """What the demonstration needs to know of its store."""

    def settings(self) -> Mapping[str, str]:
        """Return the daemon's variables that lead it here."""
        ...

    def environment(self, inherited: Mapping[str, str]) -> Mapping[str, str]:
        """Return the environment of every process that is to reach it."""
        ...

    def forget(self) -> None:
        """Remove what an earlier run folded."""
        ...

    def settle(self) -> None:
        """Leave it in order, once no daemon runs."""
        ...

    def watcher(self, manifest: Manifest | None) -> Watching:
        """Return what looks at the checkpoints of these logs' shards."""
        ...

    def check_command(self) -> Sequence[str]:
        """Return the module that checks the rows, and the options that lead it to them."""
        ...

    def show_row(self) -> str:
        """Return the command that shows the row `ROW` of the board."""
        ...


class SqliteDemo:
    """The database in the directory."""

    def __init__(self, directory: DemoDirectory) -> None:
        """Touch nothing yet."""
        self._directory = directory

    def settings(self) -> Mapping[str, str]:
        """Return the path."""
        return {variable_of(("store", "path")): str(self._directory.database)}

    def environment(self, inherited: Mapping[str, str]) -> Mapping[str, str]:
        """Return it as it is."""
        return inherited

    def forget(self) -> None:
        """Remove it."""
        self._directory.forget_results()

    def settle(self) -> None:
        """Fold the write-ahead log in."""
        self._directory.fold_in()

    def watcher(self, manifest: Manifest | None) -> Watching:
        """Return what looks at every checkpoint."""
        return Watcher(self._directory.database)

    def check_command(self) -> Sequence[str]:
        """Return the check of a file."""
        return ("daemon.demo.check", "--database", str(self._directory.database))

    def show_row(self) -> str:
        """Return a query."""
        query = f"""SELECT attributes FROM "board-g1" WHERE key = '{ROW}'"""  # noqa: S608 - for a person, and a key of ours
        return f"sqlite3 {shlex.quote(str(self._directory.database))} {shlex.quote(query)}"


@contextmanager
def store_of(
    kind: StoreKind, endpoint: str | None, directory: DemoDirectory, say: Callable[[str], None]
) -> Generator[DemoStore]:
    """Have the store ready for the time of the block. `endpoint`: where DynamoDB answers; None to start a server.

    Raises SettingsProblem, StoreProblem or ServiceFailed, each with its remedy.
    """
    if kind == "sqlite":
        if endpoint is not None:
            raise SettingsProblem(f"--endpoint {endpoint} is for DynamoDB; add --store dynamodb, or leave it out")
        yield SqliteDemo(directory)
        return
    from daemon.demo.dynamodb import given, started  # noqa: PLC0415 - the AWS SDK is slow, and for this kind alone

    with started(directory, say) if endpoint is None else given(endpoint, directory, say) as store:
        yield store


def months_of(kind: StoreKind, months: Sequence[str], *, full: bool) -> Sequence[str]:
    """Return the months to fold: those asked for, else the year; on DynamoDB January, unless the `full` year is wanted.

    Raises SettingsProblem for months beside `full`.
    """
    if full and months:
        raise SettingsProblem(f"--full is the whole year, and --months {months[0]} is not; leave one of them out")
    return (JANUARY,) if kind == "dynamodb" and not months and not full else months


def store_setting(section: Mapping[str, object]) -> Mapping[str, str]:
    """Return the variable that stands for the whole section `store`."""
    return {variable_of(("store",)): json.dumps(section)}
