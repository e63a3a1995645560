"""What an owned shard does beside its live log: its second cursor, and wishes for what waits.

Owns when a turn of it is due. Must not know how a turn is done (`daemon.actors.redelivery`, `daemon.actors.wishes`).

Invariant: a turn is taken only while nothing of the live log is in flight or prepared, and takes no more than its share
of the time while live events wait.
"""

from dataclasses import dataclass

from anyio.abc import TaskGroup

from daemon.actors.committer import Committer
from daemon.actors.folder import Folder
from daemon.actors.late import Desk, LateFolder
from daemon.actors.redelivery import Redeliverer
from daemon.actors.runtime import Runtime
from daemon.actors.wake import Wake
from daemon.actors.wishes import Wishes
from daemon.core.commit import Commit
from daemon.core.projection import ProjectionSpec


@dataclass(slots=True)
class SideWork:
    """See the module."""

    runtime: Runtime
    desk: Desk
    redeliverer: Redeliverer
    wishes: Wishes

    @property
    def active(self) -> bool:
        """Whether a range is being delivered again, or there may be wishes to serve."""
        return self.redeliverer.active or self.wishes.look

    def attend(self, tasks: TaskGroup) -> None:
        """Follow what the checkpoint says, and do what needs no commit."""
        self.redeliverer.attend(tasks)

    def due_in(self, now: float, *, live: bool) -> float | None:
        """Return the seconds until a turn is due and can be paid for, None while there is none. `live` is busy."""
        dues = [
            due
            for due in (self.redeliverer.due_in(now, live=live), self.wishes.due_in(now, live=live))
            if due is not None
        ]
        if not dues:
            return None
        return max(min(dues), self.runtime.spending.wait(self.desk.folder.scope.projection, now))

    async def turn(self, *, live: bool) -> None:
        """Take one turn: wishes first, they are short. Raises Superseded, StoreProblem."""
        if self.wishes.due_in(self.runtime.clock.monotonic(), live=live) == 0.0:
            await self.wishes.step()
        else:
            await self.redeliverer.step()
            if self.redeliverer.released:
                self.redeliverer.released = False
                self.look()

    def look(self) -> None:
        """There may be wishes to serve."""
        self.wishes.look = True

    def noted(self, commit: Commit) -> None:
        """Take in a live commit."""
        self.desk.noted(commit)


def side_work(runtime: Runtime, folder: Folder, committer: Committer, spec: ProjectionSpec, wake: Wake) -> SideWork:
    """Return what a shard does beside its live log. `wake` rings its fold loop."""
    desk, share = Desk(runtime, folder), runtime.policy.redelivery_share
    late = LateFolder(runtime, folder, committer, spec)
    counters = folder.checkpoint.counters
    waits = counters.get("dead_lettered", 0) > 0 or counters.get("parked", 0) > 0
    return SideWork(
        runtime, desk, Redeliverer(runtime, desk, late, wake, share), Wishes(runtime, desk, late, share, look=waits)
    )
