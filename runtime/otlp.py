"""Spans over OTLP/HTTP by OpenTelemetry's own SDK, which reads the rest of its variables; imported where it is used."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Thread

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, TraceFlags, get_current_span

from runtime.tracing import Attributes

# More than a batch has records.
_MOST_LINKS = 10_000
# A collector that is away must not hold up the end of a stage.
_LEFT_WITHIN = 2.0
_VALUE = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class OtlpTracing:
    """The `Tracing` of one process."""

    def __init__(self, stage: str) -> None:
        resource = Resource.create({"service.name": f"leadstream-{stage}"})
        limits = SpanLimits(max_links=_MOST_LINKS)
        self._provider = TracerProvider(resource=resource, span_limits=limits, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("leadstream")

    @contextmanager
    def span(
        self, name: str, causes: Iterable[bytes | None] = (), attributes: Attributes | None = None
    ) -> Iterator[None]:
        # Exceptions are left out, because their messages may quote what people wrote.
        with self._tracer.start_as_current_span(
            name,
            context=Context(),
            links=list(_links(causes)),
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ):
            yield

    def traceparent(self, or_of: str | None = None) -> bytes | None:
        here = get_current_span().get_span_context()
        if here.is_valid:
            return b"00-%032x-%016x-%02x" % (here.trace_id, here.span_id, here.trace_flags)
        if or_of is None:
            return None
        with self.span(or_of):
            return self.traceparent()

    def close(self) -> None:
        """Send what is left, as long as the collector takes it within a short while."""
        leaving = Thread(target=self._provider.shutdown, daemon=True)
        leaving.start()
        leaving.join(_LEFT_WITHIN)


def _links(causes: Iterable[bytes | None]) -> Iterator[Link]:
    """A link to each span once, however many records it has written."""
    for cause in dict.fromkeys(causes):
        match = _VALUE.fullmatch(cause or b"")
        if match is None:
            continue
        trace_id, span_id, flags = (int(part, 16) for part in match.groups())
        context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
        if context.is_valid:
            yield Link(context)
