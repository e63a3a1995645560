"""What a store holds already and what it lacks: the plan that `projectiond init` shows before it makes anything.

Owns which generations are looked at, and the steps they add. What a store stands on, it says itself. Only looks.

Invariant: a step is `exists`, `make` or `change`; `differs` or `waits` where only a person may go on. Carrying out a
plan takes nothing away.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from daemon.core.errors import SettingsProblem
from daemon.core.generations import GenerationRecord, choose
from daemon.core.identity import Generation
from daemon.core.inventory import Part, PartState
from daemon.core.projection import Index, ProjectionSpec
from daemon.ports.store import Store


@dataclass(frozen=True, slots=True)
class Survey:
    """The plan: what the store stands on, what generations there are, and the generations whose rows were looked at."""

    parts: Sequence[Part]
    generations: Mapping[Generation, Sequence[Index]]

    @property
    def to_do(self) -> list[Part]:
        """What is to be carried out."""
        return [part for part in self.parts if part.to_do]


async def survey(store: Store, specs: Sequence[ProjectionSpec], ahead: int | None = None) -> Survey:
    """Return the plan; `ahead`: the number of a generation whose rows' tables are to be made before its time.

    Raises StoreProblem where the store cannot be used as it is, SettingsProblem for a number that is gone by.
    """
    names = sorted({spec.name for spec in specs})
    records = await store.recorded(names)
    wanted: dict[Generation, Sequence[Index]] = {}
    steps: list[Part] = []
    for name in names:
        codes = {spec.version: spec for spec in specs if spec.name == name}
        known = records.get(name, ())
        wanted |= _wanted(name, known, codes)
        if ahead is not None:
            wanted[Generation(name, ahead)] = _ahead(name, ahead, known, codes)
        steps += _generations(name, known, list(codes))
    return Survey([*await store.survey(wanted), *steps], wanted)


def first_generations(specs: Sequence[ProjectionSpec], ahead: int | None = None) -> dict[Generation, Sequence[Index]]:
    """Return the generations that an empty store needs, or only those of the number `ahead`, with their indexes."""
    wanted: dict[Generation, Sequence[Index]] = {}
    for name in sorted({spec.name for spec in specs}):
        codes = {spec.version: spec for spec in specs if spec.name == name}
        wanted[Generation(name, ahead or 1)] = codes[max(codes)].indexes
    return wanted


def _wanted(
    name: str, records: Sequence[GenerationRecord], codes: Mapping[int, ProjectionSpec]
) -> Iterator[tuple[Generation, Sequence[Index]]]:
    choice = choose(records, codes)
    if choice.create is not None:
        yield Generation(name, 1), codes[choice.create].indexes
    for record in choice.run:
        yield record.generation, codes[record.version].indexes


def _ahead(
    name: str, number: int, records: Sequence[GenerationRecord], codes: Mapping[int, ProjectionSpec]
) -> Sequence[Index]:
    """Return the indexes of a generation to come: those of the newest version, or of its own where it is recorded."""
    newest = max((record.generation.number for record in records), default=0)
    for record in records:
        if record.generation.number == number and record.version in codes:
            return codes[record.version].indexes
    if number <= newest:
        raise SettingsProblem(
            f"--generation {number}: {name} is at generation {newest} already; the next one is {newest + 1}"
        )
    return codes[max(codes)].indexes


def _generations(name: str, records: Sequence[GenerationRecord], versions: Sequence[int]) -> Iterator[Part]:
    choice = choose(records, versions)
    if choice.create is not None:
        yield Part("generation", Generation(name, 1).label, PartState.MAKE, f"version {choice.create}, live")
    for record in sorted((*choice.run, *choice.without_code), key=lambda record: record.generation.number):
        runs = record in choice.run
        detail = f"version {record.version}{', live' if record.live else ''}{'' if runs else ', no code here'}"
        state = PartState.EXISTS if runs else PartState.WAITS
        yield Part("generation", record.generation.label, state, detail)
    for version in choice.waiting:
        yield Part("generation", name, PartState.WAITS, f"version {version} waits for a rebuild to be started")
