"""What users write: `spec(Board).given(...).then(...)`.

Owns the chain of a specification and what each of its words checks. Must not know how events are delivered.

Theory of operation. The first expectation runs the events: as given first (each in a commit of its own), and holds that
against what is expected; then in every other way, and holds those against the first. All further expectations look at
the same runs. What handlers do while they run is judged before anything else: a row that rests on the clock fails for
that, not for its value.

Invariant: nothing is folded here: projections are loaded, and events folded and committed, by the daemon's own code.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

from daemon.core.errors import EventProblem
from daemon.core.events import Event
from daemon.core.identity import MAIN_VIEW, RowKey
from daemon.core.keys import key_text
from daemon.core.projection import ProjectionSpec
from daemon.core.values import normalise
from daemon.loading import compile_class
from daemon.loading.declare import declarations_of
from daemon.testing.specs.outcome import Outcome, compare_rows, effect_text, missing_and_extra
from daemon.testing.specs.register import REGISTER
from daemon.testing.specs.running import run
from daemon.testing.specs.telling import Told, flattened, placed
from daemon.testing.specs.variants import CHECKS, PURE, Compared, Variant, as_given, variants
from daemon.testing.specs.watching import Watch
from daemon.testing.specs.words import (
    SpecFailed,
    events_lines,
    findings_text,
    listed,
    outcome_lines,
    rows_text,
    variant_text,
)

type RowName = object
"""A row's key.

Its text, or a tuple of the parts of a composite key; dates, numbers and UUIDs as `view.at` takes them.
"""
type Rows = Mapping[Any, Mapping[str, object] | None]


@dataclass(frozen=True, slots=True)
class ExpectedEffect:
    """An effect as a test expects it."""

    name: str
    payload: Mapping[str, object]

    @property
    def text(self) -> str:
        """Spell it as `effect_text` does."""
        return effect_text(self.name, {key: normalise(value) for key, value in self.payload.items()})


def effect(name: str, /, **payload: object) -> ExpectedEffect:
    """Tell an effect that is to be emitted: `effect("mail", order_id="o1")`."""
    return ExpectedEffect(name, payload)


@dataclass(frozen=True, slots=True)
class Spec:
    """A projection to be specified. Made by `spec`."""

    cls: type
    version: int | None = None
    seeds: int | None = None
    excuses: Mapping[str, str] = field(default_factory=dict[str, str])

    def excuse(self, check: str, /, *, because: str) -> "Spec":
        """Leave a check out, by its name and for a reason, which the session's summary tells.

        Raises ValueError for a name that is none, TypeError for a reason that says nothing.
        """
        if check not in CHECKS and check not in PURE:
            names = ", ".join([*CHECKS, *PURE])
            raise ValueError(f"{check!r:.80} is no check; write one of: {names}")
        if not because.strip():
            raise TypeError(f"the excuse for {check!r} has no reason; say why the projection needs no such promise")
        return replace(self, excuses={**self.excuses, check: because})

    def given(self, *events: object) -> "Specified":
        """Give the events of a log, in their order; lists stand for their items.

        Each is `event("OrderPlaced", order_id="o1")`, `("OrderPlaced", {...})`, an instance of a payload's class, a
        CloudEvent as a dict, or a line of a log. Raises ProjectionProblems, as the daemon would; TypeError, ValueError
        for what is no event.
        """
        specified = Specified(self, flattened(events))
        REGISTER.enter(specified)
        return specified

    def load(self) -> ProjectionSpec:
        """Load the projection as the daemon does. Raises ProjectionProblems; ValueError for a version it has not."""
        declared = declarations_of(self.cls)
        if not declared:
            raise ValueError(f"{self.cls!r} is no projection; give a class decorated with @projection")
        sources: set[str] = set()
        for one in declared:
            source = one.options.get("source")
            names = cast("tuple[object, ...]", source) if isinstance(source, tuple) else (source,)
            sources.update(name for name in names if isinstance(name, str))
        specs = compile_class(self.cls, sources)
        if self.version is None:
            return max(specs, key=lambda one: one.version)
        for one in specs:
            if one.version == self.version:
                return one
        versions = ", ".join(str(one.version) for one in specs)
        raise ValueError(f"{self.cls.__name__} has no version {self.version}, only {versions}; name one of these")


def spec(cls: type, /, *, version: int | None = None, seeds: int | None = None) -> Spec:
    """Begin a specification of a projection class.

    `version`: which of several that the class declares (the newest); `seeds`: how many other orders are tried (3, or
    what `--projection-seeds` says).
    """
    return Spec(cls, version, seeds)


def given(cls: type, /, *events: object) -> "Specified":
    """Say `spec(cls).given(*events)`."""
    return spec(cls).given(*events)


class Specified:
    """A projection and the events given to it. Each expectation returns it, so that they can be chained.

    All of them raise SpecFailed (an AssertionError).
    """

    def __init__(self, of: Spec, events: Sequence[Told]) -> None:
        """Load the projection; nothing is run yet."""
        self._spec = of
        self._loaded = of.load()
        self._events = placed(events, self._loaded.sources[0])
        self._check_sources()
        self._by_id = {one.id: one for one in self._events}
        self._watch = Watch(of.cls.__module__, deep=True)
        self._keys: dict[int, str] = {}
        self._outcome: Outcome | None = None
        self._told_letters = False
        self._told_parked = False
        self._told_stopped = False
        self._asked = False
        self._failed = False
        self._title = f"{of.cls.__name__} ({self._loaded.name} v{self._loaded.version})"

    # Expectations

    def then(self, rows: Rows | None = None, /, *, views: Mapping[str, Rows] | None = None, **named: Rows) -> Self:
        """Expect exactly these rows: of the projection's own view, and of others by name.

        `then({"o1": {"status": "shipped"}}, daily={date(2026, 3, 1): {"shipped": 1}})`. A tuple stands for the parts of
        a composite key. Rows of views that are not named must not be there. `views` takes names that are no Python.
        """
        __tracebackhide__ = True
        return self._then(_rows({MAIN_VIEW: rows or {}, **(views or {}), **named}), exactly=True)

    def then_some(self, rows: Rows | None = None, /, *, views: Mapping[str, Rows] | None = None, **named: Rows) -> Self:
        """Expect these rows, whole, whatever others there are; None for a row that must not be there."""
        __tracebackhide__ = True
        return self._then(_rows({MAIN_VIEW: rows or {}, **(views or {}), **named}), exactly=False)

    def then_effects(self, *effects: ExpectedEffect | tuple[str, Mapping[str, object]]) -> Self:
        """Expect exactly these effects, in whatever order: `effect("mail", order_id="o1")`; none without any."""
        __tracebackhide__ = True
        outcome = self._ran()
        expected = [one if isinstance(one, ExpectedEffect) else ExpectedEffect(*one) for one in effects]
        got = [effect_text(one.name, one.payload) for one in outcome.effects]
        missing, extra = missing_and_extra([one.text for one in expected], got)
        if missing or extra:
            self._fail("the effects are not what is expected.", [
                *listed("expected, but not emitted:", missing), *listed("emitted, but not expected:", extra),
            ])  # fmt: skip
        return self

    def dead_letters(self, letters: Mapping[str, str] | None = None, /) -> Self:
        """Expect exactly these dead letters: event id to the reason (`invalid-payload`); none without any."""
        __tracebackhide__ = True
        outcome = self._ran()
        self._told_letters = True
        got = [f"{name}: {one.reason}" for name, one in outcome.letters.items()]
        self._same_list("dead letters", [f"{name}: {reason}" for name, reason in (letters or {}).items()], got)
        return self

    def parked(self, keys: Mapping[Any, str] | Sequence[Any] = (), /) -> Self:
        """Expect exactly these keys to be parked, with the reason where a mapping gives it."""
        __tracebackhide__ = True
        outcome = self._ran()
        self._told_parked = True
        if isinstance(keys, Mapping):
            expected = [f"{_key(key)}: {reason}" for key, reason in keys.items()]
            self._same_list("parked keys", expected, [f"{key}: {reason}" for key, reason in outcome.parked.items()])
        else:
            self._same_list("parked keys", [_key(key) for key in keys], list(outcome.parked))
        return self

    def stopped(self, because: str = "", /) -> Self:
        """Expect a shard to stop, for a reason that holds this text."""
        __tracebackhide__ = True
        outcome = self._ran()
        self._told_stopped = True
        if not any(because in reason for reason in outcome.stopped.values()):
            self._fail(f"no shard stopped for {because!r}.", listed("what stopped:", list(outcome.stopped.values())))
        return self

    def close(self) -> None:
        """Raise SpecFailed for what the test left unsaid: it expected nothing, or nothing of what went wrong."""
        __tracebackhide__ = True
        outcome = self._outcome
        if outcome is None and not self._asked:
            self._fail("events were given, but nothing was expected of them; add .then(...).", [])
        if outcome is None or self._failed:
            return  # told already
        unsaid = replace(
            outcome,
            letters={} if self._told_letters else outcome.letters,
            parked={} if self._told_parked else outcome.parked,
            stopped={} if self._told_stopped else outcome.stopped,
        )
        lines = outcome_lines(unsaid, self._watch.raised)
        if lines:
            words = ".dead_letters({...}), .parked([...]) or .stopped(...)"
            self._fail(
                f"events were not applied, and the test does not say so; correct it, or expect it: {words}.", lines
            )

    # Running

    def _ran(self) -> Outcome:
        """Run the events in every way, once; return what they come to as given."""
        __tracebackhide__ = True
        self._asked = True
        if self._outcome is None:
            loaded = self._watch.wrap(self._loaded)
            self._keys = self._keys_of(loaded)
            outcome = run(loaded, as_given(self._events))
            self._judge_purity(self._watch)
            self._outcome = outcome
            seeds = REGISTER.seeds if self._spec.seeds is None else self._spec.seeds
            range_ = range(REGISTER.first_seed, REGISTER.first_seed + seeds)
            count = 1
            for variant in variants(self._events, self._keys, range_):
                if variant.check == "replayed" and (outcome.letters or outcome.parked):
                    continue  # a re-delivery folds what was not applied once more, and may well apply it
                if variant.check not in self._spec.excuses:
                    count += 1
                    self._try(variant, outcome)
            REGISTER.ran(count)
            for check, reason in self._spec.excuses.items():
                REGISTER.excused(self._spec.cls.__name__, check, reason)
        return self._outcome

    def _try(self, variant: Variant, reference: Outcome) -> None:
        """Deliver the events in another way. Raises SpecFailed when they come to something else."""
        __tracebackhide__ = True
        watch = Watch(self._spec.cls.__module__)
        loaded = self._loaded if variant.check == "twice" else self._spec.load()
        outcome = run(watch.wrap(loaded), variant.delivery)
        self._judge_purity(watch)
        lines = self._differences(reference, outcome, CHECKS[variant.check].compared, watch)
        if lines:
            order = events_lines(variant.events, self._keys) if variant.events else []
            text = variant_text(self._title, self._spec.cls.__name__, variant, lines, order)
            raise SpecFailed(text, variant.check)

    def _differences(self, one: Outcome, other: Outcome, compared: Compared, watch: Watch) -> list[str]:
        """Return the lines that tell how another outcome differs; none where it does not."""
        differ = compare_rows(one.rows, other.rows)
        lines = rows_text(differ, one.touched, self._by_id, ("as given", "got"))
        if compared is Compared.ROWS:
            return lines
        missing, extra = missing_and_extra(_effects(one), _effects(other))
        lines += [*listed("effects emitted as given, but not so:", missing), *listed("effects emitted only so:", extra)]
        missing, extra = missing_and_extra(_troubles(one, compared), _troubles(other, compared))
        if missing or extra:
            lines += listed("not applied as given, but so:", missing)
            lines += listed("not applied only so:", extra)
            lines += outcome_lines(other, watch.raised)
        return lines

    def _judge_purity(self, watch: Watch) -> None:
        __tracebackhide__ = True
        findings = [one for one in watch.findings if one.check not in self._spec.excuses]
        if findings:
            text = findings_text(self._title, self._spec.cls.__name__, findings)
            raise SpecFailed(text, findings[0].check)

    def _keys_of(self, loaded: ProjectionSpec) -> dict[int, str]:
        """Return each event's key; an event without one is in nobody's way."""
        keys: dict[int, str] = {}
        for one in self._events:
            keys[one.number] = f"(no key, {one.id})"
            record = one.record(one.number)
            if not isinstance(record, Event):
                continue
            try:
                upcast = loaded.upcasters.get(record.type)
                keys[one.number] = loaded.key(upcast(record) if upcast else record)
            except EventProblem:
                continue
            except Exception:  # noqa: BLE001, S112 - whatever a key function raises, the run tells of it
                continue
        return keys

    def _check_sources(self) -> None:
        for one in self._events:
            if one.shard.source not in self._loaded.sources:
                known = ", ".join(self._loaded.sources)
                raise ValueError(
                    f"{one} comes from source {one.shard.source!r}; {self._spec.cls.__name__} follows {known}"
                )

    # Judging

    def _then(self, expected: Mapping[RowKey, Mapping[str, Any] | None], *, exactly: bool) -> Self:
        __tracebackhide__ = True
        outcome = self._ran()
        got = outcome.rows if exactly else {key: row for key, row in outcome.rows.items() if key in expected}
        differ = compare_rows(expected, got)
        if differ:
            lines = rows_text(differ, outcome.touched, self._by_id)
            self._fail("the rows are not what is expected.", [*lines, *outcome_lines(outcome, self._watch.raised)])
        return self

    def _same_list(self, what: str, expected: Iterable[str], got: Iterable[str]) -> None:
        __tracebackhide__ = True
        missing, extra = missing_and_extra(expected, got)
        if missing or extra:
            lines = [*listed("expected, but not there:", missing), *listed("there, but not expected:", extra)]
            outcome = self._outcome
            told = [] if outcome is None else outcome_lines(outcome, self._watch.raised)
            self._fail(f"the {what} are not what is expected.", [*lines, *told])

    def _fail(self, what: str, lines: Sequence[str]) -> None:
        __tracebackhide__ = True
        self._failed = True
        raise SpecFailed("\n".join([f"{self._title}: {what}", *lines]))


def _rows(views: Mapping[str, Rows]) -> dict[RowKey, Mapping[str, Any] | None]:
    """Return the expected rows of every view, in the form in which a store holds them."""
    found: dict[RowKey, Mapping[str, Any] | None] = {}
    for view, rows in views.items():
        for key, row in rows.items():
            whole = None if row is None else {name: normalise(value) for name, value in row.items()}
            found[RowKey(view, _key(key))] = whole
    return found


def _key(key: object) -> str:
    """Return a row's key as text."""
    return key_text(cast("tuple[object, ...]", key) if isinstance(key, tuple) else (key,))


def _effects(outcome: Outcome) -> list[str]:
    return [f"{effect_text(one.name, one.payload)} by {one.event_id}, id {one.id[:8]}" for one in outcome.effects]


def _troubles(outcome: Outcome, compared: Compared) -> list[str]:
    """Spell what was not applied, so that two outcomes can be compared: details only where all must be the same."""
    letters = [
        f"dead letter {name}: {one.reason}{f': {one.detail}' if compared is Compared.ALL else ''}"
        for name, one in outcome.letters.items()
    ]
    parked = [f"parked key {key}: {reason}" for key, reason in outcome.parked.items()]
    return [*letters, *parked, *(f"stopped: {shard}" for shard in outcome.stopped)]


__all__ = ["ExpectedEffect", "Spec", "SpecFailed", "Specified", "effect", "given", "spec"]
