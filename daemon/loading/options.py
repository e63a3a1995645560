"""The options of `@projection`, one check each.

Owns the limits of names, versions, windows, times and indexes, and which options make sense together. Each function
returns the checked value or raises Mistake; `combinations` tells what contradicts what.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import cast

from daemon.core.errors import EventProblem
from daemon.core.projection import Index
from daemon.core.values import check_names
from daemon.loading.problems import Mistake

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
MAX_INDEXES = 20
"""Secondary indexes of one table: DynamoDB's own limit."""
_NAME_REMEDY = "use a-z, 0-9 and '-', a letter first, at most 63 characters: it becomes part of a table's name"


def name_of(value: object) -> str:
    """Check a projection's name."""
    if isinstance(value, str) and NAME.fullmatch(value):
        return value
    raise Mistake(f"name={value!r:.80} is no name of a projection", _NAME_REMEDY)


def version_of(value: object) -> int:
    """Check a version."""
    if type(value) is int and value >= 1:
        return value
    raise Mistake(f"version={value!r:.80} is no version", "count versions in whole numbers from 1")


def sources_of(value: object, known: Collection[str]) -> tuple[str, ...]:
    """Check one or several source names against the configured ones."""
    given = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    names = tuple(name for name in given if isinstance(name, str) and name)
    if not names or len(names) != len(given):
        raise Mistake(
            f"source={value!r:.80} names no source", 'give a name, or a tuple of names: ("orders", "carriers")'
        )
    if len(set(names)) != len(names):
        raise Mistake(f"source={value!r:.200} names a source twice", "name each source once")
    unknown = sorted(set(names) - set(known))
    if unknown:
        configured = ", ".join(sorted(known)) or "none"
        message = f"unknown source {', '.join(map(repr, unknown))}; configured: {configured}"
        raise Mistake(message, f"add [sources.{unknown[0]}] to the settings, or name a configured source")
    return names


def choice_of[E: StrEnum](option: str, value: object, kind: type[E]) -> E:
    """Check an option that is one of a few words."""
    if isinstance(value, str) and value in list(kind):
        return kind(value)
    words = ", ".join(f'"{word}"' for word in kind)
    raise Mistake(f"{option}={value!r:.80} is not known", f"use one of {words}")


def count_of(option: str, value: object, least: int) -> int:
    """Check a whole number."""
    if type(value) is int and value >= least:
        return value
    raise Mistake(f"{option}={value!r:.80} is out of range", f"use a whole number from {least}")


def time_of(option: str, value: object) -> timedelta:
    """Check a length of time."""
    if isinstance(value, timedelta) and value > timedelta(0):
        return value
    raise Mistake(f"{option}={value!r:.80} is no length of time", "use a timedelta above zero: timedelta(days=14)")


def indexes_of(value: object) -> tuple[Index, ...]:
    """Check the secondary indexes: names, attributes, number."""
    many = isinstance(value, tuple | list) and not isinstance(value, Index)
    given: tuple[object, ...] = tuple(cast("tuple[object, ...]", value)) if many else (cast("object", value),)
    indexes = tuple(index for index in given if isinstance(index, Index))
    if len(indexes) != len(given):
        raise Mistake(f"indexes={value!r:.200} holds something else", 'use indexes=(Index("by-status", "status"),)')
    if len(indexes) > MAX_INDEXES:
        raise Mistake(f"{len(indexes)} indexes exceed {MAX_INDEXES}", "keep those that are queried")
    if len({index.name for index in indexes}) != len(indexes):
        raise Mistake("two indexes have one name", "name each index of a projection differently")
    for index in indexes:
        _check_index(index)
    for index in indexes:
        for name in index.attributes:
            other = next((other for other in indexes if _disagree(index, other, name)), None)
            if other is not None:
                raise Mistake(
                    f"attribute {name!r} holds numbers in index {index.name!r}, but not in {other.name!r}",
                    f"add numbers=({name!r},) to both, or to none",
                )
    return indexes


def _disagree(index: Index, other: Index, name: str) -> bool:
    return name in index.numbers and name in other.attributes and name not in other.numbers


def _check_index(index: Index) -> None:
    if not NAME.fullmatch(index.name):
        raise Mistake(f"{index.name!r:.80} is no name of an index", _NAME_REMEDY)
    attributes = index.attributes
    try:
        check_names(attributes)
    except EventProblem as problem:
        message, _, remedy = problem.detail.rpartition("; ")
        raise Mistake(f"index {index.name!r}: {message}", remedy) from None
    if len(set(attributes)) != len(attributes):
        raise Mistake(f"index {index.name!r} has {index.hash!r} as hash and as range", "leave out range=")
    numbers = cast("object", index.numbers)
    if not isinstance(numbers, tuple) or not set(cast("tuple[object, ...]", numbers)) <= set(attributes):
        raise Mistake(
            f"index {index.name!r} has numbers={numbers!r:.80}",
            f"name attributes of the index: {', '.join(attributes)}",
        )


def combinations(options: Mapping[str, object]) -> Iterator[Mistake]:
    """Yield the options that contradict each other."""
    dedup = options.get("dedup")
    if dedup == "sequence":
        if options.get("sequence") is None:
            yield Mistake(
                'dedup="sequence" has no path to the number', 'add sequence="data.seq", or take another dedup'
            )
    else:
        for option in ("sequence", "sequence_start", "on_gap"):
            if options.get(option) is not None:
                remedy = f'add dedup="sequence", or drop {option}='
                yield Mistake(f"{option}={options[option]!r:.80} means nothing with dedup={dedup!r:.40}", remedy)
    if dedup != "shard" and options.get("marker_window") is not None:
        remedy = 'add dedup="shard", or drop marker_window= (marker_retention= bounds the other modes)'
        yield Mistake(f"marker_window={options['marker_window']!r:.40} means nothing with dedup={dedup!r:.40}", remedy)
