"""Planted bugs, as data: each is a module of the daemon, and texts that it holds once with what they become.

Must not know how a bug is planted or looked for (`tests.simulation.mutants`). Invariant: a bug breaks a promise that
the simulation holds the daemon to; what only costs time belongs elsewhere.
"""

from typing import NamedTuple


class Bug(NamedTuple):
    """A bug: what to exchange in a module."""

    module: str
    edits: tuple[tuple[str, str], ...]


def _bug(module: str, old: str, new: str, *more: tuple[str, str]) -> Bug:
    return Bug(f"daemon.{module}", ((old, new), *more))


_CALL = '            answer = await self.client.call("TransactWriteItems", sending.body, self.tuning.commit_deadline)\n'
_SPLIT = """\
            import orjson
            whole = orjson.loads(sending.body)
            items, token = whole["TransactItems"], whole["ClientRequestToken"]
            def only(found):
                put = found["Put"]
                names = ("pk", "sk") if "sk" in put["Item"] else ("pk",)
                keeps = {name: value for name, value in put.items() if name != "Item"}
                return {"ConditionCheck": {**keeps, "Key": {name: put["Item"][name] for name in names}}}
            async def post(chosen, mark):
                body = orjson.dumps({**whole, "TransactItems": chosen, "ClientRequestToken": token + mark})
                return await self.client.call("TransactWriteItems", body, self.tuning.commit_deadline)
            def marks(one):
                return one.get("Put", {}).get("TableName", "").endswith("-markers")
"""
"""Takes a commit's request apart."""

BUGS = {
    # The fence
    "no-epoch-condition": _bug(
        "stores.dynamodb.requests",
        """',"ConditionExpression":"epoch=:e AND commit_seq=:n",'""",
        """',"ConditionExpression":"attribute_exists(pk) OR (epoch=:e AND commit_seq=:n)",'""",
    ),
    "no-sequence-condition": _bug(
        "stores.dynamodb.requests",
        """',"ConditionExpression":"epoch=:e AND commit_seq=:n",'""",
        """',"ConditionExpression":"epoch=:e AND commit_seq>=:n OR epoch=:e",'""",
    ),
    "take-unconditioned": _bug(
        "stores.dynamodb.taking",
        '"epoch=:e AND commit_seq=:n"',
        '"attribute_exists(pk) OR (epoch=:e AND commit_seq=:n)"',
    ),
    "take-keeps-epoch": _bug("core.checkpoint", "epoch=self.epoch + 1, commit", "epoch=max(1, self.epoch), commit"),
    "retake-under-the-same-name": _bug(
        "actors.ownership",
        "owner_name(self.runtime.replica, self.runtime.clock.unique())",
        'owner_name(self.runtime.replica, "always")',
    ),
    "fence-taken-for-success": _bug("stores.dynamodb.outcomes", "    return Fenced(stands)", "    return Committed()"),
    "parks-under-another-owner": _bug("actors.shard", "if epoch and now.epoch > epoch:", "if epoch < 0:"),
    "own-commit-taken-for-a-fence": _bug(
        "stores.dynamodb.outcomes", "stands.commit_id == commit.commit_id", "stands.commit_id == commit"
    ),
    "own-commit-in-doubt-supersedes": _bug(
        "actors.ownership", "if not await self._is_still_ours():\n                    raise", "raise"
    ),
    # One transaction
    "checkpoint-after-the-rows": _bug(
        "stores.dynamodb.committing",
        _CALL,
        _SPLIT
        + '            answer = await post([only(items[0]), *items[1:]], "r")\n'
        + '            answer = await post(items[:1], "c") if type(answer).__name__ == "Success" else answer\n',
    ),
    "rows-after-the-checkpoint": _bug(
        "stores.dynamodb.committing",
        _CALL,
        _SPLIT
        + '            held = [only(one) if "Put" in one and marks(one) else one for one in items]\n'
        + "            held = [one for one in held if next(iter(one)) == 'ConditionCheck']\n"
        + '            answer = await post([items[0], *held], "c")\n'
        + '            if type(answer).__name__ == "Success" and items[1:]:\n'
        + '                await post(items[1:], "r")\n',
    ),
    "marker-after-the-row": _bug(
        "stores.dynamodb.committing",
        _CALL,
        _SPLIT
        + '            answer = await post([only(one) if marks(one) else one for one in items], "r")\n'
        + "            later = [one for one in items if marks(one)]\n"
        + '            if later and type(answer).__name__ == "Success":\n'
        + '                await post(later, "m")\n',
    ),
    # Answers
    "retry-with-a-recomputed-payload": _bug(
        "stores.dynamodb.committing",
        "            if sending.attempt != attempt:\n",
        "            if sending.attempt:\n"
        "                sending.actions = sending.actions.replace(commit.commit_id.encode(), b'again', 1)\n"
        "                sending.body = self.requests.body(sending.actions,\n"
        "                    self.requests.token(commit, attempt, sending.revision))\n"
        "            if sending.attempt != attempt:\n",
    ),
    "token-of-the-shard": _bug(
        "stores.dynamodb.requests", "scope_key(commit.scope), commit.commit_id, str(attempt)", "scope_key(commit.scope)"
    ),
    "unknown-taken-for-failure": _bug(
        "actors.committer",
        "            waited = 0.0 if silent_since",
        "                return RowMoved(frozenset())\n            waited = 0.0 if silent_since",
    ),
    "unknown-taken-for-success": _bug(
        "stores.dynamodb.outcomes", "            return Unknown(detail)", "            return Committed()"
    ),
    "conflict-taken-for-success": _bug(
        "stores.dynamodb.outcomes",
        "whatever the code: it is tried again as a new attempt.\n    return Busy(said)",
        "whatever the code: it is tried again as a new attempt.\n    return Committed()",
    ),
    "shield-removed": _bug(
        "actors.committer", "anyio.move_on_after(seconds, shield=True)", "anyio.move_on_after(seconds)"
    ),
    # Duplicates
    "markers-unconditioned": _bug(
        "stores.dynamodb.requests",
        """f'"ConditionExpression":"attribute_not_exists(pk)",{_KEEPS_OLD}}}}}\'""",
        """f'"ConditionExpression":"attribute_not_exists(pk) OR attribute_exists(pk)",{_KEEPS_OLD}}}}}\'""",
    ),
    "no-marker-for-what-failed": _bug(
        "core.planner", "_MARKED = frozenset({None, Verdict.FAILED, Verdict.PARKED})", "_MARKED = frozenset({None})"
    ),
    "markers-kept-after-fencing": _bug(
        "actors.incarnation",
        "window = ShardWindow(self.runtime.store, self.scope, self.spec.marker_window, self.memory)",
        "window = self.memory.__dict__.setdefault(self.scope.label, "
        "ShardWindow(self.runtime.store, self.scope, self.spec.marker_window, self.memory))",
        ("            window.close()\n", ""),
    ),
    "window-not-read": _bug("actors.windows", "if checkpoint.segment < 0:", "if checkpoint:"),
    "torn-window-believed": _bug("actors.windows", "newest.commit_seq >= checkpoint.segment_seq", "newest.commit_seq"),
    "window-misses-own-commits": _bug("actors.windows", "            self._window.remember(marks)", "            pass"),
    "ahead-misses-marks-in-flight": _bug(
        "actors.folder",
        "{} if in_flight is None else unpacked(in_flight.planned.marks)",
        "{} if in_flight is None else unpacked(b'')",
    ),
    "segment-overwrites-the-one-in-flight": _bug(
        "actors.folder", "pending=None if self.in_flight is None else self.in_flight.planned.segment", "pending=None"
    ),
    "sequence-not-advanced": _bug(
        "core.fold", "held[source] = max(number, held.get(source, number))", "held.setdefault(source, number)"
    ),
    "late-ignores-markers": _bug(
        "core.redelivery",
        "elif before is not None or (marked is not None and not own):",
        "elif before is not None:",
    ),
    # Order
    "batch-ahead-dropped": _bug("actors.folder", "for dropped in (on_top, sent):", "for dropped in (sent,):"),
    "batch-ahead-comes-first": _bug(
        "actors.folder", "for dropped in (on_top, sent):", "for dropped in (sent, on_top):"
    ),
    "position-beyond-the-prefix": _bug(
        "core.planner", "position = chunk.through if whole else", "position = chunk.through if chunk else"
    ),
    "parent-and-child-together": _bug(
        "core.lineage", "all(parent in done or parent not in known for parent in node.parents)", "node"
    ),
    "parked-keys-forgotten": _bug("actors.folder", "        self.parked.update(folded.newly_parked)\n", ""),
    "parked-keys-not-read": _bug(
        "actors.incarnation",
        "set(await self.runtime.store.parked_keys(self.scope)) if checkpoint.parked_seq else set[str]()",
        "set[str]()",
    ),
    "torn-parking-believed": _bug("stores.dynamodb.taking", "        await self._until_shown(scope, item)\n", ""),
    # Who has a shard
    "lease-never-expires": _bug("core.leases", "elif now - since >= self.policy.lease:", "elif now < since:"),
    "released-shard-kept": _bug(
        "coordination.leases",
        "        self._book.released(scope)\n        self._changed.set()\n\n    async def finished",
        "        self._changed.set()\n\n    async def finished",
    ),
    # Commands
    "late-keeps-cache": _bug("actors.late", "                folder.cache.discard(key)\n", "                pass\n"),
    "skip-leaves-no-range": _bug(
        "actors.obedience",
        "return Made(obeyed, (SkippedRange(checkpoint.position, through, now, note, counted),))",
        "return Made(obeyed)",
    ),
    "operation-not-noted": _bug(
        "actors.obedience", "operation_seq=operation.sequence,", "operation_seq=checkpoint.operation_seq,"
    ),
    "removal-unconditioned": _bug(
        "stores.dynamodb.waiting",
        'return {"Delete": {**named, "ConditionExpression": EXISTS}}',
        'return {"Delete": named}',
    ),
    "redelivery-repeats-effects": _bug("core.fold", "        if self._context.redelivery:\n            return\n", ""),
    "retry-loses-effects": _bug("actors.late", "redelivery=not asked)", "redelivery=True)"),
    "applied-late-stays-listed": _bug(
        "core.late",
        "        late.settles.append(Settle(entry.ref))\n    if entry.counted",
        "        pass\n    if entry.counted",
    ),
}
