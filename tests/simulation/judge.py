"""What must hold when all is over: the store against the plain fold of the log (`tests.support.ledger`)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

from tests.simulation.plan import Plan
from tests.simulation.stores import Found
from tests.simulation.watch import Watch
from tests.support.ledger import Expected, Line, expected, tally


def logs_of(plan: Plan) -> dict[str, list[Line]]:
    """Return the lines of each shard, as they came."""
    logs: dict[str, list[Line]] = {shard: [] for shard in plan.shards}
    for arrival in plan.arrivals:
        logs[arrival.shard].append(arrival.line)
    return logs


def judge(plan: Plan, found: Found, watch: Watch) -> list[str]:
    """Return everything that is not as it must be."""
    logs = logs_of(plan)
    wanted = expected(logs)
    verdict = tally(found.rows, wanted)
    problems = list(verdict.problems)
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
    return problems + _ends(logs, watch)


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


def _ends(logs: Mapping[str, Sequence[Line]], watch: Watch) -> list[str]:
    ends = {shard: stand.position for shard, stand in watch.stands.items()}
    return [
        f"{shard} is settled up to {ends.get(shard)}, its log ends at {len(lines)}"
        for shard, lines in logs.items()
        if ends.get(shard, ()) != ((len(lines),) if lines else ())
    ]
