"""A failing run made small: faults, disasters, commands, shards, replicas and events go while it still fails alike.

What goes is named (`fault:crash`, `disaster:3`, `ask:0`, `account:s0-a`, `event:17`, ...), so that a small run is
replayed by its seed and those names. Must not know how a run is carried out.

Invariant: a small plan is the seed's own plan with parts left out, never one with other parts.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from tests.simulation.plan import Plan

type Cuts = frozenset[str]
"""Names of what is left out of a seed's plan."""

NOTHING: Cuts = frozenset()
_TRIES = 120
_VARIES = re.compile(r"'[^']*'|\(.*?\)|\d+(\.\d+)?|[0-9a-f]{8,}")
_KIND_CHARACTERS = 32


def kind_of(problem: str) -> str:
    """Return what two failures have in common that are of one kind: the text without names and numbers."""
    return _VARIES.sub("#", problem)[:_KIND_CHARACTERS]


def cut(plan: Plan, cuts: Iterable[str]) -> Plan:
    """Return a plan without what is named. Raises ValueError for a name that means nothing."""
    out = frozenset(cuts)
    unknown = sorted(out - {name for group in groups(plan) for name in group})
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not in the plan of seed {plan.seed}; names are like {_some(plan)}")
    shards = tuple(shard for shard in plan.shards if f"shard:{shard}" not in out)
    replicas = plan.replicas - sum(name.startswith("replica:") for name in out)
    parents = {
        shard: left
        for shard, parents in plan.parents.items()
        if shard in shards and "tree" not in out and (left := tuple(one for one in parents if one in shards))
    }
    return replace(
        plan,
        shards=shards,
        replicas=replicas,
        parents=parents,
        rates={kind: rate for kind, rate in plan.rates.items() if f"fault:{kind}" not in out},
        disasters=tuple(
            one
            for number, one in enumerate(plan.disasters)
            if f"disaster:{number}" not in out and one.replica < replicas
        ),
        asks=tuple(
            replace(one, replica=one.replica % replicas)
            for number, one in enumerate(plan.asks)
            if f"ask:{number}" not in out and (one.shard is None or one.shard in shards)
        ),
        arrivals=tuple(
            one
            for number, one in enumerate(plan.arrivals)
            if f"event:{number}" not in out and f"account:{one.line.account}" not in out and one.shard in shards
        ),
        skews=tuple(0.0 if "skews" in out else skew for skew in plan.skews[:replicas]),
        deploy_at=None if "deploy" in out else plan.deploy_at,
    )


def groups(plan: Plan) -> list[list[str]]:
    """List what may be left out of a plan: coarse things first, each group as far as possible at once."""
    accounts = sorted({one.line.account for one in plan.arrivals})
    # An entity's own numbers must not get gaps: whole accounts go, or nothing of them.
    events = [] if plan.mode == "sequence" else [f"event:{number}" for number in range(len(plan.arrivals))]
    return [
        ["skews", *(["deploy"] if plan.deploy_at is not None else []), *(["tree"] if plan.parents else [])],
        [f"ask:{number}" for number in range(len(plan.asks))],
        [f"shard:{shard}" for shard in reversed(plan.shards[1:])],
        [f"replica:{number}" for number in range(plan.replicas - 1, 0, -1)],
        [f"disaster:{number}" for number in range(len(plan.disasters))],
        [f"fault:{kind}" for kind in plan.rates],
        [f"account:{account}" for account in accounts],
        events,
    ]


def _some(plan: Plan) -> str:
    return ", ".join(group[0] for group in groups(plan) if group)


def shrink(plan: Plan, fails: Callable[[Plan], bool], tries: int = _TRIES) -> Cuts:
    """Return what can be left out of a failing plan so that `fails` still says True, asked at most `tries` times.

    Each group is tried whole, then by halves, quarters and so on; all groups again while one of them gave way.
    """
    out = NOTHING
    gave_way = True
    while gave_way:
        gave_way = False
        for group in groups(plan):
            size = len(group)
            while size:
                for part in _parts([name for name in group if name not in out], size):
                    if not tries:
                        return out
                    tries -= 1
                    smaller = cut(plan, out.union(part))
                    if smaller.arrivals and fails(smaller):
                        out = out.union(part)
                        gave_way = True
                size //= 2
    return out


def _parts(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[at : at + size] for at in range(0, len(names), size))


def told(cuts: Cuts) -> str:
    """Write cuts as one word: `fault:crash,event:0-5`."""
    words: list[str] = []
    named = sorted(name for name in cuts if not name.partition(":")[2].isdigit())
    numbered = sorted((name.partition(":")[0], int(name.partition(":")[2])) for name in cuts.difference(named))
    for kind, pairs in groupby(numbered, key=lambda pair: pair[0]):
        numbers = [number for _, number in pairs]
        for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
            places = [number for _, number in run]
            words.append(f"{kind}:{places[0]}" + (f"-{places[-1]}" if len(places) > 1 else ""))
    return ",".join([*named, *words])


def read(text: str) -> Cuts:
    """Read what `told` wrote."""
    names: set[str] = set()
    for word in filter(None, text.split(",")):
        found = re.fullmatch(r"([a-z]+):(\d+)-(\d+)", word)
        names.update([word] if found is None else [f"{found[1]}:{n}" for n in range(int(found[2]), int(found[3]) + 1)])
    return frozenset(names)
