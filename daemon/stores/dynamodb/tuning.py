"""The DynamoDB store's times and widths, with their reasons. Owns numbers only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """Times in seconds.

    `commit_deadline`: one commit's request; AWS asks for more than a second, and a lease must outlast it.
    `read_deadline`: one request of a read or a lease. `patience`: how long reads, takes and table calls are tried again
    before they are StoreUnavailable. `opening`: the same for opening the store; None: as `patience`. `token_window`:
    how long after its first sending a commit may be sent again as the same attempt: DynamoDB forgets a token ten
    minutes after the request completed. `table_patience`: how long a new table may take to become active. `settling`:
    how long after a take rows are read by transactions: the last owner's commit may be applied in part.
    `parallel_reads`: requests of one bulk read that are under way at once.
    """

    commit_deadline: float = 8.0
    read_deadline: float = 5.0
    patience: float = 20.0
    opening: float | None = None
    token_window: float = 540.0
    table_patience: float = 120.0
    settling: float = 10.0
    initial_backoff: float = 0.05
    max_backoff: float = 2.0
    parallel_reads: int = 8
