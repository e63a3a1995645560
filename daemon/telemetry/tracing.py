"""Commits as OpenTelemetry spans.

Owns what a span says. Imported only where tracing is asked for: it needs the extra `otel`. Must not know how events are
folded, nor the way to a collector beyond making its exporter.

A commit's span links to the spans that its events' `traceparent` headers name (W3C Trace Context). Where all of them
belong to one trace, the span goes on with it, as a child of the first event's span; else it begins a trace of its own.

Invariants: a header that is no trace context is as good as none; spans name projection, shard and numbers, never ids,
keys or payloads; exporting happens in a thread of the library's own, and its troubles stay there.
"""

import time
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from daemon import __version__
from daemon.core.events import Event, Record
from daemon.core.identity import Scope

PARENT, STATE = "traceparent", "tracestate"
_APPLIED = "Committed"
_NANO = 1_000_000_000
_SEND_SECONDS = 5.0
"""What a collector that is away adds to the end of the process at most."""


class OtelTracing:
    """See the module. `processor` takes the finished spans, `share` of those that begin a trace of their own."""

    def __init__(self, service: str, processor: SpanProcessor, *, share: float = 1.0, max_links: int = 128) -> None:
        """Make a provider of our own; the process's global one is left as it is."""
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=Resource.create({"service.name": service, "service.version": __version__}),
            span_limits=SpanLimits(max_links=max_links),
            shutdown_on_exit=True,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("projectiond", __version__)
        self._max_links = max_links
        self._propagator = TraceContextTextMapPropagator()

    def commit(self, scope: Scope, records: Sequence[Record], outcome: str, seconds: float) -> None:
        """Make the span of a commit that was answered just now."""
        contexts = [self._context(header, record) for record in records if (header := _header(record)) is not None]
        found = [context for context in contexts if context is not None]
        first = found[0] if found else None
        parent = Context()
        if first is not None and all(context.trace_id == first.trace_id for context in found):
            parent = trace.set_span_in_context(trace.NonRecordingSpan(first), parent)
        end = time.time_ns()
        span = self._tracer.start_span(
            f"commit {scope.projection}",
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes={
                "projectiond.projection": scope.projection,
                "projectiond.generation": scope.generation,
                "projectiond.source": scope.source,
                "projectiond.shard": scope.shard,
                "projectiond.outcome": outcome,
                "messaging.batch.message_count": len(records),
                "projectiond.traced_events": len(found),
            },
            links=[Link(context) for context in found[: self._max_links]],
            start_time=end - int(seconds * _NANO),
        )
        if outcome != _APPLIED:
            span.set_status(Status(StatusCode.ERROR, outcome))
        span.end(end)

    def close(self) -> None:
        """Send what waits and stop; blocks for some seconds at most. The end of the process does the same."""
        self._provider.shutdown()

    def _context(self, header: str, record: Record) -> SpanContext | None:
        carrier = {PARENT: header}
        if isinstance(record, Event) and (state := record.headers.get(STATE)) is not None:
            carrier[STATE] = state
        context = trace.get_current_span(self._propagator.extract(carrier, Context())).get_span_context()
        return context if context.is_valid else None


def _header(record: Record) -> str | None:
    return record.headers.get(PARENT) if isinstance(record, Event) else None


def otlp_tracing(service: str, endpoint: str, *, share: float, max_links: int) -> OtelTracing:
    """Make tracing that sends its spans to a collector at `endpoint`, in batches; what cannot be sent is dropped."""
    exporter: SpanExporter = OTLPSpanExporter(endpoint=endpoint, timeout=_SEND_SECONDS)
    return OtelTracing(service, BatchSpanProcessor(exporter), share=share, max_links=max_links)
