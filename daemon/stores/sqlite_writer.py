"""The threads behind a SQLite store: one that writes, in groups that share a transaction, and those that read.

Owns threads, connections and transactions. Must not know tables or what a job does.

Invariants: jobs wait in order, but for urgent ones, which come first; a job either runs whole inside its savepoint or
leaves no trace; no job of a group is answered before the group's COMMIT returned, so what is answered survives a power
cut (synchronous = FULL), and many shards share one fsync. When a group fails as a whole, each of its jobs runs once
more alone.
"""

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import anyio.to_thread

from daemon.core.errors import StoreProblem, StoreUnavailable
from daemon.stores.sqlite_commit import Undo
from daemon.stores.sqlite_errors import code_of, failed_commit, item_error, problem_of

type Work = Callable[[sqlite3.Connection], Any]

QUEUE_LIMIT = 1_024
"""Jobs that may wait for one thread; further callers wait before they are queued."""
GROUP_LIMIT = 256
"""Jobs in one transaction: bounds how long the first of them waits."""
_LOOK_SECONDS = 0.001
RESTART_MS = 250
"""How long the log's new beginning waits for readers and for other writers."""
ANSWERED_AT_ONCE = 4
"""Jobs answered in one turn of the event loop: bounds for how long it asks for nothing new."""
READ_GROUP_LIMIT = 16
"""Reads answered with one wake-up of the event loop: bounds how long the first of them waits."""


@dataclass(slots=True)
class _Job:
    work: Work
    answer: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    before: Callable[[], None] | None = None
    result: Any = None
    error: Exception | None = None


class _Nudge:
    """Stands in the queue for an urgent job, which waits apart."""


_NUDGE = _Nudge()


class WorkerThread:
    """One thread with one connection. `connect` and every job run on it, callers await from one event loop."""

    _group_limit = 1
    _ends = False

    def __init__(self, name: str, path: Path, busy_timeout_ms: int, connect: Callable[[], sqlite3.Connection]) -> None:
        """Prepare; nothing runs before `start`."""
        self._path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._connect = connect
        self._jobs: SimpleQueue[_Job | _Nudge | None] = SimpleQueue()
        self._urgent: deque[_Job] = deque()
        self._room = asyncio.Semaphore(QUEUE_LIMIT)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._opened = threading.Event()
        self._failure: Exception | None = None
        self._closed = False

    async def start(self) -> None:
        """Open the connection. Raises StoreProblem."""
        self._thread.start()
        await anyio.to_thread.run_sync(self._opened.wait)
        if self._failure is not None:
            self._closed = True
            raise self._failure

    async def call(self, work: Work, *, urgent: bool = False, before: Callable[[], None] | None = None) -> Any:
        """Run a job on the thread and return its result; an urgent one before all that wait, and not with them.

        `before` is run on the thread too, before anything is locked.

        Raises StoreProblem, or what the job raised.
        """
        if self._closed:
            raise StoreUnavailable(f"{self._path}: the store is closed; open it first")
        loop = asyncio.get_running_loop()
        async with self._room:
            job = _Job(work, loop.create_future(), loop, before)
            if urgent:
                self._urgent.append(job)
            self._jobs.put(_NUDGE if urgent else job)
            return await job.answer

    async def aclose(self) -> None:
        """Finish the jobs that wait, then close the connection."""
        self._take_no_more()
        if self._thread.ident is not None:
            await anyio.to_thread.run_sync(self._thread.join)

    def abandon(self) -> None:
        """Close it from outside its event loop, which may be gone; blocks until its jobs are done."""
        self._take_no_more()
        if self._thread.ident is not None:
            self._thread.join()

    def _take_no_more(self) -> None:
        if not self._closed:
            self._closed = True
            self._jobs.put(None)

    def _run(self) -> None:
        try:
            connection = self._connect()
        except sqlite3.Error as error:
            self._failure = problem_of(error, self._path, self._busy_timeout_ms)
            return
        except Exception as error:  # noqa: BLE001 - handed to the caller of start, who raises it
            self._failure = error
            return
        finally:
            self._opened.set()
        try:
            while jobs := self._next_jobs():
                ready = _made_ready(jobs)
                if ready:
                    self._perform(connection, ready)
                _settle(jobs)
                self._tidy(connection)
        finally:
            connection.close()

    def _next_jobs(self) -> list[_Job]:
        """Return the next jobs to run together; none when the thread should end."""
        if self._ends:
            return []
        jobs: list[_Job] = []
        while len(jobs) < self._group_limit:
            if self._urgent and not jobs:
                return [self._urgent.popleft()]
            try:
                job = self._jobs.get_nowait() if jobs else self._jobs.get()
            except Empty:
                break
            if isinstance(job, _Job):
                jobs.append(job)
            elif jobs or job is None:
                self._ends = job is None
                break
        return jobs

    def _perform(self, connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
        raise NotImplementedError

    def _tidy(self, connection: sqlite3.Connection) -> None:
        """Do what is due once the jobs are answered."""


class ReaderThread(WorkerThread):
    """Runs each job in a read transaction of its own: all that it reads is of one moment.

    Jobs that wait together are answered together: each answer wakes the event loop.
    """

    _group_limit = READ_GROUP_LIMIT

    def _perform(self, connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            try:
                connection.execute("BEGIN")
                job.result = job.work(connection)
            except sqlite3.Error as error:
                job.error = problem_of(error, self._path, self._busy_timeout_ms)
            except Exception as error:  # noqa: BLE001 - handed to the job's caller, who raises it
                job.error = error
            finally:
                _roll_back(connection)


class WriterThread(WorkerThread):
    """Runs all waiting jobs in one transaction, each in a savepoint of its own."""

    _group_limit = GROUP_LIMIT

    def __init__(
        self,
        name: str,
        path: Path,
        busy_timeout_ms: int,
        connect: Callable[[], sqlite3.Connection],
        log_limit_bytes: int,
    ) -> None:
        """Prepare; nothing runs before `start`. `log_limit_bytes`: how large the write-ahead log should become."""
        super().__init__(name, path, busy_timeout_ms, connect)
        self._log_path = Path(f"{path}-wal")
        self._log_limit_bytes = self._restart_at = log_limit_bytes

    def _perform(self, connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
        try:
            self._begin(connection)
        except sqlite3.Error as error:
            _fail(jobs, problem_of(error, self._path, self._busy_timeout_ms))
            return
        try:
            for job in jobs:
                _run_in_savepoint(connection, job)
        except sqlite3.Error as error:
            _roll_back(connection)
            if len(jobs) > 1:
                for job in jobs:
                    self._perform(connection, [job])
            else:
                _fail(jobs, problem_of(error, self._path, self._busy_timeout_ms))
            return
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(connection)
            _fail(jobs, failed_commit(error, self._path, self._busy_timeout_ms))

    def _tidy(self, connection: sqlite3.Connection) -> None:
        """Let the write-ahead log begin anew once it has outgrown its limit.

        SQLite begins it anew by itself only where nothing was written since the log was copied into the file. Two
        processes that both write much hardly ever leave that gap: the log would grow, and every commit copy it again.
        """
        try:
            size = self._log_path.stat().st_size
        except OSError:
            return
        if size <= self._restart_at:
            return
        self._restart_at = size + self._log_limit_bytes  # while somebody reads for long, not at every commit
        with suppress(sqlite3.Error):  # nothing depends on it: the log is copied again later
            connection.execute(f"PRAGMA busy_timeout = {RESTART_MS}")
            is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            if not is_busy:
                self._restart_at = self._log_limit_bytes
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA busy_timeout = 0")

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Take the write lock as soon as another process lets go of it.

        SQLite's own waiting sleeps for up to 100 ms at a time, longer than most transactions take: of two processes
        that both write much, each would sleep through the other's pauses.
        """
        give_up = time.monotonic() + self._busy_timeout_ms / 1000
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up:
                    raise
                time.sleep(_LOOK_SECONDS)
            else:
                return


def _made_ready(jobs: Sequence[_Job]) -> list[_Job]:
    """Do what each job needs before anything is locked; return those that can be run."""
    ready: list[_Job] = []
    for job in jobs:
        try:
            if job.before is not None:
                job.before()
        except Exception as error:  # noqa: BLE001 - handed to the job's caller, who raises it
            job.error = item_error(error) or error
        else:
            ready.append(job)
    return ready


def _run_in_savepoint(connection: sqlite3.Connection, job: _Job) -> None:
    """Run a job whole, or undo it. Raises sqlite3.Error where the whole transaction is lost."""
    job.result = job.error = None
    connection.execute("SAVEPOINT job")
    try:
        job.result = job.work(connection)
    except Undo as undo:
        connection.execute("ROLLBACK TO job")
        job.result = undo.diagnose(connection)
    except Exception as error:
        mapped = error if isinstance(error, StoreProblem) else item_error(error)
        if mapped is None and isinstance(error, sqlite3.Error):
            raise
        connection.execute("ROLLBACK TO job")
        job.error = mapped or error
    connection.execute("RELEASE job")


def _roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction without trace; SQLite has already done so after some errors."""
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            if connection.in_transaction:
                raise


def _fail(jobs: Sequence[_Job], error: Exception) -> None:
    for job in jobs:
        job.error = type(error)(*error.args)  # each caller raises its own, with its own traceback


def _settle(jobs: Sequence[_Job]) -> None:
    """Answer jobs on their event loop; one wake-up for all of a loop."""
    try:
        jobs[0].loop.call_soon_threadsafe(_answer, jobs)
    except RuntimeError:
        return  # the event loop is gone, and with it whoever waited


def _answer(jobs: Sequence[_Job]) -> None:
    """Answer some, and the others in the loop's next turns: each answer sets a shard to work."""
    if len(jobs) > ANSWERED_AT_ONCE:
        jobs[0].loop.call_soon(_answer, jobs[ANSWERED_AT_ONCE:])
    for job in jobs[:ANSWERED_AT_ONCE]:
        if job.answer.done():
            continue
        if job.error is None:
            job.answer.set_result(job.result)
        else:
            job.answer.set_exception(job.error)
