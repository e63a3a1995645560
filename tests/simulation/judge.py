"""What must hold when all is over: the store against the plain fold of the log (`tests.support.ledger`)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b

from tests.simulation.order import Log, Waits, logs_of
from tests.simulation.plan import Plan
from tests.simulation.stores import Found
from tests.simulation.watch import Watch
from tests.support.ledger import Expected, Line, expected, tally


def judge(plan: Plan, found: Found, watch: Watch) -> list[str]:
    """Return everything that is not as it must be."""
    logs = logs_of(plan)
    problems = _lists(watch) + _ends(logs, watch)
    if not plan.plain:
        return problems + _swayed(plan.mode, logs, found, watch)
    wanted = expected({shard: [line for _, line in log] for shard, log in logs.items()})
    verdict = tally(found.rows, wanted)
    problems += verdict.problems
    if verdict.lost or verdict.doubled:
        problems.append(f"{verdict.lost} events lost, {verdict.doubled} doubled")
    problems += _counters(plan.mode, wanted, watch)
    problems += _unequal("effects", found.effects, wanted.effects)
    problems += _unequal("dead letters", found.dead, wanted.dead)
    if plan.mode == "event":
        problems += _unequal("markers", found.markers, wanted.ids)
    if plan.mode == "shard":
        due = (blake2b(name.encode(), digest_size=16).digest() for name in wanted.ids)
        problems += _unequal("packed markers", (one.hex() for one in found.packed), (one.hex() for one in due))
    return problems


def _lists(watch: Watch) -> list[str]:
    """Return where a shard's counters and lists differ: what is counted as waiting waits, and no wish is left."""
    problems: list[str] = []
    for shard, stand in watch.stands.items():
        waits = watch.order.waits.get(shard, Waits())
        for name, count in (("dead_lettered", len(waits.dead)), ("parked", len(waits.parked))):
            if stand.counters.get(name, 0) != count:
                problems.append(f"{shard}: {stand.counters.get(name, 0)} are counted as {name}, {count} are listed")
    return problems


def _swayed(mode: str, logs: Mapping[str, Log], found: Found, watch: Watch) -> list[str]:
    """Judge a run in which people had a say: an event is in the rows once, unless all of it waits or was given up."""
    order = watch.order
    where: dict[str, list[tuple[str, tuple[int, ...], Line]]] = {}
    for shard, log in logs.items():
        for position, line in log:
            where.setdefault(line.id, []).append((shard, position, line))
    listed = {(shard, at, name) for shard, waits in order.waits.items() for at, name in (*waits.dead, *waits.parked)}
    if mode == "sequence":  # behind a parked key what was applied before queues once more: only the first place decides
        listed &= {(*places[0][:2], name) for name, places in where.items()}
    out = {name for _, _, name in listed} | order.given_up
    due = {
        name: places[0][2]
        for name, places in where.items()
        if name not in out and any(not order.waits.get(shard, Waits()).passes(at) for shard, at, _ in places)
    }
    seen = Counter(name for (view, _), row in found.rows.items() if view == "main" for name in row["seen"])
    problems = _unequal("events in rows", seen.elements(), [one.id for one in due.values() if one.kind != "shared"])
    amounts = {line.id: line.amount for places in where.values() for _, _, line in places}
    for (view, key), row in found.rows.items():
        if view == "main" and row["balance"] != sum(amounts[name] for name in row["seen"]):
            problems.append(f"the balance of {key} is {row['balance']}, its events {row['seen']}")
    sums = {key: (row["n"], row["amount"]) for (view, key), row in found.rows.items() if view == "branch"}
    wanted: dict[str, tuple[int, int]] = {}
    for line in due.values():
        count, amount = wanted.get(line.branch, (0, 0))
        wanted[line.branch] = (count + 1, amount + line.amount)
    if sums != wanted:
        problems.append(f"the branches' sums are {sums}, not {wanted}")
    return problems + _unequal("effects", found.effects, order.effects.elements())


def _counters(mode: str, wanted: Expected, watch: Watch) -> list[str]:
    total: Counter[str] = Counter()
    for stand in watch.stands.values():
        total.update(stand.counters)
    layer = "duplicate_version" if mode == "sequence" else "duplicate_marker"
    due = {
        "read": wanted.read,
        "applied": len(wanted.applied),
        layer: wanted.duplicates,
        "dead_lettered": len(wanted.dead),
        "effects": len(wanted.effects),
    }
    return [f"{name} is {total[name]}, not {count}" for name, count in due.items() if total[name] != count]


def _unequal(what: str, held: Iterable[str], due: Iterable[str]) -> list[str]:
    has, wants = Counter(held), Counter(due)
    missing, extra = sorted((wants - has).elements()), sorted((has - wants).elements())
    return [f"{what}: missing {missing}, too many {extra}"] if missing or extra else []


def _ends(logs: Mapping[str, Log], watch: Watch) -> list[str]:
    ends = {shard: stand.position for shard, stand in watch.stands.items()}
    return [
        f"{shard} is settled up to {ends.get(shard)}, its log ends at {log[-1][0]}"
        for shard, log in logs.items()
        if log and ends.get(shard, ()) != log[-1][0]
    ]
