"""The committer: sends one commit until it has an answer that decides something.

Owns back-off, the deadline of a call and the rule that no commit is abandoned half way: a call in flight is shielded
from cancellation and waited for until its deadline; after that its outcome is unknown, never guessed. What an outcome
means for the batch is decided by the folder.
"""

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from daemon.actors.runtime import Runtime
from daemon.core.commit import (
    Busy,
    Commit,
    Committed,
    Duplicate,
    Fenced,
    Outcome,
    Rejected,
    RowMoved,
    TooLarge,
    Unknown,
    Unlisted,
)
from daemon.core.errors import StoreFull, StoreUnavailable
from daemon.core.identity import Scope
from daemon.core.planner import count_actions
from daemon.core.recovery import Step, after_outcome, backoff
from daemon.ports.observer import CommitDelayed

type Answer = Committed | Duplicate | RowMoved | Unlisted | TooLarge | Rejected | Fenced
"""An outcome that needs another fold, or none."""


@dataclass(slots=True)
class Committer:
    """Sends commits of one scope. `troubled` is told True when one does not settle at once, False when one does."""

    runtime: Runtime
    scope: Scope
    troubled: Callable[[bool], None]

    async def send(self, commit: Commit, events: int) -> Answer:
        """Send `commit` until it is applied, or refused for a reason that only another fold or owner can clear.

        Raises StoreUnavailable when no answer came within the window in which the identical request is safe: the shard
        must be taken again, which alone makes the lost request harmless. Raises StoreProblem where retrying is
        pointless.
        """
        retry, clock = self.runtime.policy.retry, self.runtime.clock
        attempt, tries = 1, 0
        silent_since: float | None = None
        while True:
            began = clock.monotonic()
            outcome = await self._call(commit, attempt)
            tries += 1
            if isinstance(outcome, Unknown):
                silent_since = clock.monotonic() if silent_since is None else silent_since
            waited = 0.0 if silent_since is None else clock.monotonic() - silent_since
            step = after_outcome(outcome, events=events, row_conflicts=0, waited=waited, policy=retry)
            if step is Step.RETAKE:
                message = (
                    f"no answer to commit {commit.commit_id} of {self.scope.label} for {waited:.1f} s "
                    f"(window {retry.unknown_window:g} s); the shard is taken again and the checkpoint read"
                )
                raise StoreUnavailable(message)
            if tries == 1 and isinstance(outcome, Committed):
                self.runtime.pace.note(self.scope.projection, count_actions(commit)[0], clock.monotonic() - began)
            if not isinstance(outcome, Busy | Unknown):
                self.troubled(False)
                return outcome
            if isinstance(outcome, Busy):
                attempt, silent_since = attempt + 1, None
            wait = backoff(tries, retry, clock.draw())
            if isinstance(outcome, Busy) and outcome.retry_after is not None:
                wait = max(wait, outcome.retry_after)
            self.troubled(True)
            self._tell(outcome, tries, wait)
            await clock.sleep(wait)

    async def _call(self, commit: Commit, attempt: int) -> Outcome:
        seconds = self.runtime.policy.commit_deadline
        outcome: Outcome = Unknown(f"no answer within commit_deadline_seconds = {seconds:g}")
        try:
            with anyio.move_on_after(seconds, shield=True):
                outcome = await self.runtime.store.commit(commit, attempt)
        except (StoreFull, StoreUnavailable) as problem:
            outcome = Busy(str(problem))
        return outcome

    def _tell(self, outcome: Busy | Unknown, tries: int, wait: float) -> None:
        detail = outcome.reason if isinstance(outcome, Busy) else outcome.detail
        self.runtime.observer.see(CommitDelayed(self.scope, type(outcome).__name__, detail, tries, wait))
