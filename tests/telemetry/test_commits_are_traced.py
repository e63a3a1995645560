"""Tracing: W3C context from events' headers, a span for each commit, nothing at all where it is off."""

import subprocess
import sys
from collections.abc import Mapping

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from daemon.assembly.telemetry import tracing_of
from daemon.core.events import Event
from daemon.core.identity import Scope
from daemon.settings import Settings
from daemon.telemetry.tracing import OtelTracing
from daemon.testing.memory_source import MemorySource
from daemon.testing.memory_store import MemoryStore
from tests.support.engine import FAST, counting, engine, event

SCOPE = Scope("orders", 1, "log", "s0")
TRACE, OTHER = "0af7651916cd43dd8448eb211c80319c", "0af7651916cd43dd8448eb211c80319d"


def traced(position: int, headers: Mapping[str, str]) -> Event:
    """Make an event with headers."""
    made = event(position)
    made.headers = headers
    return made


def parent(trace: str, span: int, flags: str = "01") -> dict[str, str]:
    """Return the header of a span."""
    return {"traceparent": f"00-{trace}-{span:016x}-{flags}"}


class Traced:
    """Tracing whose spans stay in memory."""

    def __init__(self, *, share: float = 1.0, max_links: int = 128) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = OtelTracing("test", SimpleSpanProcessor(self.exporter), share=share, max_links=max_links)

    def span(self, *records: Event, outcome: str = "Committed") -> ReadableSpan:
        """Trace one commit and return its span."""
        self.exporter.clear()
        self.tracing.commit(SCOPE, records, outcome, 0.25)
        (span,) = self.exporter.get_finished_spans()
        return span


def test_a_commit_goes_on_with_the_trace_of_its_events():
    """Events of one trace: the commit's span is a child of the first one's, and links to each."""
    span = Traced().span(traced(1, parent(TRACE, 1)), traced(2, {}), traced(3, parent(TRACE, 3)))
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert span.parent.span_id == 1
    assert [link.context.span_id for link in span.links] == [1, 3]
    assert span.attributes == {
        "projectiond.projection": "orders",
        "projectiond.generation": 1,
        "projectiond.source": "log",
        "projectiond.shard": "s0",
        "projectiond.outcome": "Committed",
        "projectiond.traced_events": 2,
        "messaging.batch.message_count": 3,
    }
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == 250_000_000


def test_a_commit_of_several_traces_begins_its_own_and_links_to_all():
    """Events of two traces: the span has no parent and a trace of its own, linked to both, with their trace state."""
    headers = parent(OTHER, 2) | {"tracestate": "vendor=1"}
    span = Traced().span(traced(1, parent(TRACE, 1)), traced(2, headers))
    assert span.parent is None
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" not in {TRACE, OTHER}
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE, OTHER]
    assert [dict(link.context.trace_state) for link in span.links] == [{}, {"vendor": "1"}]


@pytest.mark.parametrize("header", ["", "00", "garbage", f"00-{'0' * 32}-{1:016x}-01", f"ff-{TRACE}-{1:016x}-01"])
def test_a_header_that_is_no_context_is_as_good_as_none(header: str):
    """A malformed `traceparent` neither fails the commit nor links to anything."""
    span = Traced().span(traced(1, {"traceparent": header}))
    assert span.parent is None
    assert span.links == ()
    assert span.attributes is not None
    assert span.attributes["projectiond.traced_events"] == 0


def test_links_are_limited_and_the_number_of_traced_events_is_told():
    """A batch of more traced events than links are allowed keeps the first ones and the count of all."""
    span = Traced(max_links=3).span(*(traced(number, parent(TRACE, number)) for number in range(1, 8)))
    assert [link.context.span_id for link in span.links] == [1, 2, 3]
    assert span.attributes is not None
    assert span.attributes["projectiond.traced_events"] == 7


def test_a_trace_that_is_not_kept_elsewhere_is_not_kept_here():
    """An event whose trace is not sampled, and a share of none, give no span."""
    mine = Traced(share=0.0)
    mine.tracing.commit(SCOPE, [event(1)], "Committed", 0.1)
    mine.tracing.commit(SCOPE, [traced(1, parent(TRACE, 1, "00"))], "Committed", 0.1)
    assert mine.exporter.get_finished_spans() == ()
    mine.tracing.commit(SCOPE, [traced(1, parent(TRACE, 1))], "Committed", 0.1)
    assert len(mine.exporter.get_finished_spans()) == 1


def test_a_commit_that_is_not_applied_is_a_span_with_an_error():
    """A refused commit's span says which outcome it met."""
    span = Traced().span(event(1), outcome="RowMoved")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "RowMoved"


@pytest.mark.anyio
async def test_the_engine_traces_each_commit():
    """A running shard gives one span for each of its batches, with the events' links, in the events' trace."""
    mine = Traced()
    source = MemorySource("memory")
    source.add_shard("s0")
    source.append("s0", *(traced(number, parent(TRACE, number)) for number in range(1, 4)))
    async with engine(counting(), MemoryStore(), source, policy=FAST, tracing=mine.tracing) as running:
        await running.caught_up()
    spans = mine.exporter.get_finished_spans()
    links = [link.context.span_id for span in spans for link in span.links]
    assert links == [1, 2, 3]
    assert {f"{span.context.trace_id:032x}" for span in spans if span.links and span.context} == {TRACE}


def test_nothing_of_it_is_imported_where_it_is_off():
    """With default settings, no module of OpenTelemetry is imported by the daemon, its CLI or its listener."""
    program = (
        "import sys, daemon.app, daemon.cli.main, daemon.cli.run, daemon.telemetry.site\n"
        "from daemon.assembly.telemetry import tracing_of\n"
        "from daemon.settings import Settings\n"
        "assert tracing_of(Settings()) is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_settings_make_tracing_that_exports():
    """With `tracing.enabled` there is a tracer; an endpoint that nobody listens at fails no commit."""
    settings = Settings.model_validate({"tracing": {"enabled": True, "endpoint": "http://127.0.0.1:9/v1/traces"}})
    tracing = tracing_of(settings)
    assert isinstance(tracing, OtelTracing)
    try:
        tracing.commit(SCOPE, [event(1)], "Committed", 0.1)
    finally:
        tracing.close()
