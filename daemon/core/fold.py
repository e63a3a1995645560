"""The fold: a batch of judged records in, the touched rows, effects, dead letters and parked events out.

Theory of operation. A fold is one pass over the records that runs handlers against `View`s. Handlers are pure, so a
pass may be thrown away and run again at will; that is how every hard case is solved:

* a handler touches a row nobody read yet: the pass goes on only to learn which other rows are missing; the caller loads
  them all at once and folds again (`Missing`);
* a handler gives a quick view a value that it cannot hold (a list, say): the pass runs again with views that look at
  each value as it is given, and so do later batches;
* a handler raises: on a settled base the pass runs once more, carefully: what each event does is taken back when it
  fails, so that no later event is judged on its remains; on top of an uncommitted batch nothing is decided
  (`Unsettled`), since the row it saw may never exist. A gap in a sequence is treated alike;
* whatever user code raises is a failure of its event, even what is no Exception (`sys.exit`, a panic of an extension
  module, a cancellation that it made itself): nothing is awaited here, so that no real cancellation can surface, and
  the daemon reads signals from its loop before it opens a store, so that no KeyboardInterrupt is Python's own. But for
  `RowNeeded`, which is ours, and MemoryError, which is no event's fault;
* only a prefix can be committed: the caller folds that prefix again.

Invariants: handlers run in log order; a failed event leaves no trace in any row; nothing here awaits or keeps state
between folds except what the caller passes in.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from decimal import localcontext
from hashlib import blake2b
from typing import Any, Never, cast

from daemon.core.columns import Unsteady
from daemon.core.dedup import DUPLICATES, Judged, Verdict, judge_sequence
from daemon.core.errors import EventProblem
from daemon.core.events import DIGEST_BYTES, BadRecord, Event, Record
from daemon.core.folded import Failure, FoldContext, Folded, Lookup, Missing, Stop, Unsettled
from daemon.core.identity import MAIN_VIEW, RowKey
from daemon.core.keys import key_text
from daemon.core.projection import Handler, OnError, OnGap
from daemon.core.quick_view import QuickView, settle_together
from daemon.core.rows import Effect, StoredRow
from daemon.core.values import MAX_DIGITS
from daemon.core.view import UNLOADED, RowNeeded, SavedView, Touch, View, partial_view


def fold(judged: Judged, context: FoldContext, count: int | None = None) -> Folded | Missing | Unsettled:
    """Fold the first `count` records (default: all) and return what they come to, or what is needed first."""
    quick, careful = context.quick, False
    with localcontext(prec=MAX_DIGITS):
        while True:
            run = Fold(judged, context, dict(context.failures), len(judged.records) if count is None else count)
            stop = run.run(QuickView if quick and not careful else View, careful=careful)
            if run.missing:
                run.release()
                return Missing(frozenset(run.missing))
            if careful or not run.raised:
                return run.folded(stop, quick=quick)
            run.release()
            if quick and not run.steady:
                quick = False
            elif context.settled:
                careful = True
            else:
                return Unsettled()


_NEW = frozenset({None})
_SETTLED = frozenset({None, *DUPLICATES})
_NOTHING = frozenset[Verdict]()
_STEADY_PARTS = frozenset({str, date})
"""Types of key parts that equal nothing of another type."""
_type_of: Callable[[object], type] = type


class Fold:
    """One pass. Views call back into it; nobody else should."""

    __slots__ = (
        "_context", "_count", "_effects", "_emitter", "_failures", "_handler", "_judged", "_lookup", "_main",
        "_make", "_newly_parked", "_ordinal", "_others", "_parked", "_spec", "_undo", "_verdicts",
        "missing", "names", "near", "raised", "steady", "watermark",
    )  # fmt: skip

    def __init__(self, judged: Judged, context: FoldContext, failures: dict[int, Failure], count: int) -> None:
        """Prepare a pass over the first `count` records, with the `failures` that earlier passes found."""
        self._judged = judged
        self._context = context
        self._spec = context.spec
        self._lookup = context.lookup
        self._failures = failures
        self._count = count
        self._parked: set[str] = set(context.parked)
        self._newly_parked: dict[str, Failure] = {}
        self._main: dict[str, View] = {}
        self._others: dict[RowKey, View] = {}
        self._effects: list[Effect] = []
        self._verdicts = judged.verdicts[:count]
        for index in failures:
            if index < count and self._verdicts[index] is None:
                self._verdicts[index] = Verdict.FAILED
        self._handler = ""
        self._ordinal = 0
        self._emitter: tuple[Event, str] | None = None
        self._undo: dict[RowKey, SavedView] | None = None
        self.missing: set[RowKey] = set()
        self.raised = False
        self.steady = True
        """No view was given a value that a quick one cannot hold."""
        self.names: set[str] = set()
        """Attribute names that were found good in this fold."""
        self.near: dict[tuple[str, tuple[object, ...]], View] = {}
        """Other rows by view name and key parts, as handlers ask for them."""
        self._make: type[View] = View
        self.watermark: datetime | None = None

    def run(self, make: type[View], *, careful: bool) -> Stop | None:  # noqa: C901, PLR0912, PLR0915 - one on purpose
        """Run the handlers of every new record; return where the shard must stop, if it must.

        Without `careful` a failing event only sets `raised`, and the pass is worth nothing but its missing rows.
        """
        self._make = make
        if not careful and self._is_plain():
            self._run_plain()
            return None
        spec, main, verdicts, parked = self._spec, self._main, self._verdicts, self._parked
        key_of, sequence_of, upcasters = spec.key, spec.sequence, spec.upcasters
        handlers_of = self._handlers()
        watermark: datetime | None = None
        stop: Stop | None = None
        effects = 0
        for index, record in enumerate(self._judged.records[: self._count]):
            verdict = verdicts[index]
            try:
                if verdict is not None or type(record) is not Event:
                    stop = self._settle(index, record, verdict)
                    if stop is not None:
                        break
                    continue
                if careful:
                    self._handler, self._undo, effects = "", {}, len(self._effects)
                event = upcasters[record.type](record) if upcasters and record.type in upcasters else record
                handlers = handlers_of(event.type)
                if handlers is None and not self._concerns(event):
                    watermark = _later(watermark, record.moment)
                    continue
                key = record.key = key_of(event)
                if parked and key in parked:
                    verdicts[index] = Verdict.PARKED
                    continue
                view = main.get(key)
                if view is None:
                    row_key = RowKey(MAIN_VIEW, key)
                    view = main[key] = make(self, row_key, self._lookup(row_key))
                if careful:
                    self._save(view)
                if sequence_of is not None:
                    judged = self._advance(view, event, self._context.accepts.get(index, _NOTHING))
                    if judged is not Verdict.NEW:
                        stop = self._out_of_sequence(index, event, judged)
                        if stop is not None:
                            break
                        continue
                if event is not record:
                    event.key = key
                view.last = event
                for function, self._handler in handlers or ():
                    function(view, event)
                moment = record.moment
                if moment is not None and (watermark is None or moment > watermark):
                    watermark = moment
            except RowNeeded:
                continue
            except MemoryError:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever a handler raises is a verdict on its event
                self.raised = True
                if careful and isinstance(record, Event):
                    del self._effects[effects:]
                    stop = self._fail(index, record, error)
                    if stop is not None:
                        break
        self.watermark = watermark
        if not careful and not self.raised:
            self.raised = self._doubtful()
        return stop

    def _is_plain(self) -> bool:
        """Tell whether events need nothing but their handlers, or are duplicates: most batches."""
        spec, verdicts = self._spec, self._verdicts
        return (
            not self._parked
            and not spec.upcasters
            and spec.sequence is None
            and (verdicts.count(None) == len(verdicts) or {*verdicts} <= _SETTLED)
        )

    def _run_plain(self) -> None:
        """Do what `run` does for a plain batch, with nothing else in the loop; the first failure ends the pass."""
        spec, main, make, lookup = self._spec, self._main, self._make, self._lookup
        key_of, field, view_of = spec.key, spec.key_field, main.get
        dispatch = spec.dispatch(redelivery=self._context.redelivery)
        function_of = {kind: self._function(handlers) for kind, handlers in dispatch.items()}.get
        records = self._judged.records[: self._count]
        if self._verdicts.count(None) < len(records):
            records = [record for record, verdict in zip(records, self._verdicts, strict=True) if verdict is None]
        bad = False
        for record in cast("Sequence[Event]", records):
            function = function_of(record.type)
            if function is None:
                bad = bad or type(record) is not Event
                continue
            try:
                key = key_of(record) if field is None else record.data[field]
                view = view_of(key)
                if view is None:
                    key = key_of(record)
                    view = view_of(key)
                    if view is None:
                        row_key = RowKey(MAIN_VIEW, key)
                        view = main[key] = make(self, row_key, lookup(row_key))
                record.key = key
                view.last = record
                function(view, record)
            except RowNeeded:
                continue
            except MemoryError:
                raise
            except BaseException:  # noqa: BLE001 - the careful pass finds out what it says about its event
                self.raised = True
                return
        self._end_plain([record for record in records if type(record) is Event] if bad else records)

    def _end_plain(self, records: Sequence[Record]) -> None:
        """Settle what a plain pass left out, given the events that it had in it."""
        if len(records) < self._count:
            for index, record in enumerate(self._judged.records[: self._count]):
                if isinstance(record, BadRecord):
                    self._settle(index, record, self._verdicts[index])
        try:
            self.watermark = max([record.moment for record in cast("Sequence[Any]", records)], default=None)
        except TypeError:  # some carry no time
            moments = (record.moment for record in cast("Sequence[Event]", records) if record.moment is not None)
            self.watermark = max(moments, default=None)
        self.raised = self.raised or self._doubtful()

    def _function(self, handlers: tuple[Handler, ...]) -> Callable[[View, Event], None]:
        """Return one function for all handlers of a type."""
        if len(handlers) == 1:
            return handlers[0].function

        def run(view: View, event: Event) -> None:
            for self._handler, function, _ in handlers:
                function(view, event)
            self._handler = ""

        return run

    def _handlers(self) -> Callable[[str], list[tuple[Callable[[View, Event], None], str]] | None]:
        dispatch = self._spec.dispatch(redelivery=self._context.redelivery)
        return {kind: [(h.function, h.name) for h in handlers] for kind, handlers in dispatch.items()}.get

    def _doubtful(self) -> bool:
        """Tell whether a quick pass holds what a careful one would refuse."""
        if self.missing:
            return False
        views = [*self._main.values(), *self._others.values()]
        try:
            if self._make is QuickView:
                settle_together(cast("list[QuickView]", views))
            else:
                for view in views:
                    view.settle()
        except MemoryError:
            raise
        except BaseException as error:  # noqa: BLE001 - a value of a broken class raises what it likes, as in a handler
            self.steady = self.steady and not isinstance(error, Unsteady)
            return True
        return False

    def folded(self, stop: Stop | None, *, quick: bool) -> Folded:
        """Return the result of a pass that missed nothing and in which nothing raised."""
        count = self._count if stop is None else stop.index
        views = [*self._main.values(), *self._others.values()]
        self.release()
        return Folded(
            judged=self._judged,
            count=count,
            views=views,
            effects=self._effects,
            failures={
                index: failure
                for index, failure in self._failures.items()
                if index < count and self._verdicts[index] not in DUPLICATES
            },
            verdicts=self._verdicts[:count],
            newly_parked=self._newly_parked,
            watermark=self.watermark,
            kinds=_NEW if self._verdicts.count(None) == count else frozenset({*self._verdicts[:count]}),
            stop=stop,
            quick=quick,
        )

    def release(self) -> None:
        """Forget the views, which know this fold: a cycle would keep a whole batch alive until the collector comes."""
        self._main, self._others, self._undo, self.near = {}, {}, None, {}

    # What views call

    def need(self, key: RowKey) -> Never:
        """Note a missing row and stop the handler."""
        self.missing.add(key)
        raise RowNeeded

    def at(self, view: str, parts: tuple[object, ...], event: Event | None) -> View:
        """Return the view of another row, touched by `event`."""
        if not view or "@" in view:
            raise EventProblem("bad-view", f"view name {view!r} must be non-empty and hold no '@'; rename it")
        other = self._other(RowKey(view, key_text(parts)), event)
        if self._undo is None and type(view) is str and _STEADY_PARTS.issuperset(map(_type_of, parts)):
            self.near[view, parts] = other
        return other

    def partial(self, row_key: RowKey, event: Event | None) -> View:
        """Return the view of this shard's partial of a shared row."""
        return self._other(RowKey(partial_view(row_key.view, self._context.shard.label), row_key.key), event)

    def emit(self, name: str, payload: Mapping[str, object], event: Event | None) -> None:
        """Record an effect of `event`."""
        if self._context.redelivery:
            return
        if event is None:  # pragma: no cover - views are only reachable from a running handler
            return
        handler = self._handler or self._spec.handlers[event.type][0].name
        emitter = (event, handler)
        self._ordinal = self._ordinal + 1 if emitter == self._emitter else 0
        self._emitter = emitter
        identity = "\0".join((self._spec.name, event.id, handler, str(self._ordinal)))
        effect_id = blake2b(identity.encode(), digest_size=DIGEST_BYTES).hexdigest()
        self._effects.append(Effect(effect_id, name, payload, event.id, event.key))

    def _other(self, row_key: RowKey, event: Event | None) -> View:
        if row_key.view == MAIN_VIEW:
            view = self._main.get(row_key.key)
            if view is None:
                view = self._main[row_key.key] = self._make(self, row_key, self._lookup(row_key))
        else:
            view = self._others.get(row_key)
            if view is None:
                view = self._others[row_key] = self._make(self, row_key, self._lookup(row_key))
        if self._undo is not None:
            self._save(view)
        view.last = event
        return view

    def _save(self, view: View) -> None:
        """Keep what a row was before the current event, in a careful pass."""
        if self._undo is not None and view.row_key not in self._undo:
            self._undo[view.row_key] = view.saved()

    # The uncommon cases

    def _settle(self, index: int, record: Event | BadRecord, verdict: Verdict | None) -> Stop | None:
        """Account for a record that runs no handler."""
        if isinstance(record, BadRecord):
            if verdict is not Verdict.DUPLICATE_POSITION:
                self._verdicts[index] = Verdict.FAILED
                self._failures.setdefault(index, Failure(record.reason, record.detail))
            return None
        if verdict is Verdict.CONFLICT:
            detail = f"id {record.id!r:.200} was applied before with another payload; the producer must not reuse ids"
            self._failures[index] = Failure(verdict.value, detail)
        elif verdict is Verdict.LATE:
            detail = (
                f"event time {record.moment} lies further behind the watermark than markers are kept "
                f"({self._spec.marker_retention}); apply it with late = 'apply', or raise marker_retention"
            )
            self._failures[index] = Failure(verdict.value, detail)
        elif verdict is Verdict.FAILED:
            return self._settle_failed(index, record)
        return None

    def _settle_failed(self, index: int, record: Event) -> Stop | None:
        failure = self._failures[index]
        if self._spec.on_error is OnError.PARK_SHARD:
            return Stop(index, failure, parks=True)
        if not record.key:
            return None
        if record.key in self._parked:
            self._verdicts[index] = Verdict.PARKED
            return None
        if self._spec.on_error is OnError.PARK_KEY:
            self._park(index, record.key, failure)
        elif self._spec.sequence is not None:
            self._advance_past(record)
        return None

    def _advance_past(self, record: Event) -> None:
        """Advance the sequence over a dead-lettered event, if it has a readable number, so that its key goes on."""
        try:
            upcast = self._spec.upcasters.get(record.type)
            event = upcast(record) if upcast else record
            self._advance(self._other(RowKey(MAIN_VIEW, record.key), event), event)
        except MemoryError:
            raise
        except BaseException:  # noqa: BLE001 - the same failure that is being dead-lettered, or a row noted as missing
            return

    def _park(self, index: int, key: str, failure: Failure) -> None:
        self._verdicts[index] = Verdict.PARKED
        self._parked.add(key)
        self._newly_parked[key] = self._failures[index] = failure

    def _concerns(self, event: Event) -> bool:
        """Tell whether an event without a handler matters: it does where it advances its entity's sequence.

        A log may well hold events of other kinds, without this projection's key: they are none of its business.
        """
        if self._spec.sequence is None:
            return False
        try:
            self._spec.key(event)
            self._spec.sequence(event)
        except EventProblem:
            return False
        return True

    def _advance(self, view: View, event: Event, accepted: AbstractSet[Verdict] = frozenset()) -> Verdict:
        """Judge the event's sequence number against its row and, when it is new, advance the row's version vector.

        What is `accepted` is as good as new, and advances upwards only.
        """
        if self._spec.sequence is None:
            return Verdict.NEW
        if view.base is UNLOADED:
            self.need(view.row_key)
        held = view.sequences
        if held is None:
            held = dict(view.base.sequences) if isinstance(view.base, StoredRow) else {}
        number = self._spec.sequence(event)
        source = self._context.shard.source
        verdict = judge_sequence(number, held.get(source), self._spec.sequence_start)
        if verdict is Verdict.NEW or verdict in accepted:
            if view.touch is Touch.ADDED:
                view.own()  # the row will be written whole: what it cannot hold is this event's failure
            held[source] = max(number, held.get(source, number))
            view.sequences = held
            return Verdict.NEW
        return verdict

    def _out_of_sequence(self, index: int, event: Event, verdict: Verdict) -> Stop | None:
        self._verdicts[index] = verdict
        if verdict is not Verdict.GAP:
            return None
        detail = (
            f"event {event.id!r:.200} of key {event.key!r:.200} jumps ahead of the last sequence number its row holds"
        )
        failure = Failure(verdict.value, detail)
        if not self._context.settled:
            self.raised = True
            return None
        if self._spec.on_gap is OnGap.WAIT:
            return Stop(index, failure, parks=False)
        self._park(index, event.key, failure)
        return None

    def _fail(self, index: int, record: Event, error: BaseException) -> Stop | None:
        """Take back what the event did and account for its failure."""
        for saved in (self._undo or {}).values():
            saved.restore()
        self._undo = None
        if isinstance(error, EventProblem):
            failure = Failure(error.reason, error.detail, self._handler)
        else:
            failure = Failure("handler-raised", f"{type(error).__name__}: {_text(error)}"[:1000], self._handler)
        self._failures[index], self._verdicts[index] = failure, Verdict.FAILED
        return self._settle_failed(index, record)


def _later(watermark: datetime | None, moment: datetime | None) -> datetime | None:
    return moment if moment is not None and (watermark is None or moment > watermark) else watermark


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except MemoryError:
        raise
    except BaseException:  # noqa: BLE001 - a broken error class must not turn one event's failure into the shard's
        return "(its text cannot be read)"


__all__ = ["Failure", "Fold", "FoldContext", "Folded", "Lookup", "Missing", "Stop", "Unsettled", "fold"]
