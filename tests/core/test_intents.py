"""The table "Intents" in DESIGN.md, cell by cell: what each intent does after each other.

A row of the table is a base and a first intent; a column is the second intent. The cell is what the commit then holds
for that row, read off the real fold and planner.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from daemon.core.batcher import Chunk
from daemon.core.checkpoint import Checkpoint
from daemon.core.commit import Limits
from daemon.core.dedup import Judged
from daemon.core.events import Event
from daemon.core.fold import FoldContext, Folded, Missing, fold
from daemon.core.identity import MAIN_VIEW, RowKey, Scope
from daemon.core.planner import PlanContext, Planned, plan
from daemon.core.projection import Dedup, Handler, ProjectionSpec
from daemon.core.rows import RowWrite, StoredRow, WriteKind
from daemon.core.view import UNLOADED, Base, View

DESIGN = Path(__file__).parents[2] / "DESIGN.md"
HEADING = "### Intents"

BASES: dict[str, Base] = {
    "absent": None,
    "present": StoredRow({"n": 1, "s": "a"}, 7, "orders/other@1#e0"),
    "not read": UNLOADED,
}
INTENTS: dict[str, Callable[[View], object]] = {
    "put(n=5)": lambda view: view.put(n=5),
    'patch(s="b")': lambda view: view.patch(s="b"),
    "add(n=2)": lambda view: view.add(n=2),
    "delete()": lambda view: view.delete(),
    "row": lambda view: view.row,
}
FIRST: dict[str, Callable[[View], object]] = {"": lambda _view: None, **INTENTS}
SCOPE = Scope("intents", 1, "orders", "0")


class Cell(NamedTuple):
    """One cell of the table: a row's base and first intent, the second intent, and what is said of them."""

    base: str
    first: str
    then: str
    says: str


def _plain(text: str) -> str:
    return text.replace("`", "").strip()


def read_table(text: str) -> list[Cell]:
    """Read the cells of the table under the heading."""
    section = re.split(r"^#{1,3} ", text.partition(f"{HEADING}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    head, _, *body = [[_plain(part) for part in line.strip().strip("|").split("|")] for line in lines]
    intents = [name.removeprefix("then ") for name in head[2:]]
    return [
        Cell(base, first, then, says)
        for base, first, *cells in body
        for then, says in zip(intents, cells, strict=True)
    ]  # fmt: skip


def happens(base: str, *intents: Callable[[View], object], events: int) -> str:
    """Fold the intents, in one event or one event each, and say what the commit holds, as the table says it."""
    seen: list[Any] = []

    def handle(view: View, event: Event) -> None:
        seen.extend(intent(view) for intent in event.data)

    batches = [intents] if events == 1 else [(intent,) for intent in intents]
    records = [
        Event(f"e{number}", "T", None, None, None, batch, {}, (number,), b"", b"")
        for number, batch in enumerate(batches, 1)
    ]
    spec = ProjectionSpec("intents", 1, ("orders",), lambda _: "k", {"T": (Handler("h", handle),)}, dedup=Dedup.SHARD)
    context = FoldContext(spec, SCOPE.shard_id, lambda _key: BASES[base])
    folded = fold(Judged(records, [None] * len(records)), context)
    if isinstance(folded, Missing):
        assert folded.keys == {RowKey(MAIN_VIEW, "k")}
        return "load"
    assert isinstance(folded, Folded)
    assert not folded.failures
    view = folded.views[0]
    told = _written(folded, spec, records)
    if intents[-1] is INTENTS["row"]:
        return f"sees {_attributes(seen[-1], '=')}; {told}"
    assert view.key == "k"
    return told


def _written(folded: Folded, spec: ProjectionSpec, records: list[Any]) -> str:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    context = PlanContext(SCOPE, spec, Checkpoint(), "c1", now, Limits())
    planned = plan(folded, Chunk(records, records[-1].position), context)
    assert isinstance(planned, Planned)
    commit = planned.commit
    assert len(commit.rows) + len(commit.checks) <= 1
    if commit.checks:
        return "check"
    return _row(commit.rows[0]) if commit.rows else "nothing"


def _row(write: RowWrite) -> str:
    match write.kind:
        case WriteKind.PUT:
            assert write.expect is not None
            return f"put {_attributes(write.attributes, '=')}"
        case WriteKind.ADD:
            assert write.expect is None
            return f"add {_attributes(write.attributes, '+')}"
        case WriteKind.DELETE:
            assert write.expect is not None
            return "delete"


def _attributes(attributes: Any, sign: str) -> str:
    return "none" if attributes is None else " ".join(f"{name}{sign}{value}" for name, value in attributes.items())


CELLS = read_table(DESIGN.read_text(encoding="utf-8")) if DESIGN.exists() else []


def test_the_table_is_complete():
    """Every base, first intent and second intent has exactly one cell in DESIGN.md."""
    assert sorted((cell.base, cell.first, cell.then) for cell in CELLS) == sorted(product(BASES, FIRST, INTENTS))


@pytest.mark.parametrize("events", [1, 2], ids=["one event", "two events"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.base}, {cell.first or 'nothing'}, {cell.then}")
def test_a_cell_says_what_happens(cell: Cell, events: int):
    """The commit holds what the table says, whether one event or two recorded the intents."""
    assert happens(cell.base, FIRST[cell.first], INTENTS[cell.then], events=events) == cell.says
