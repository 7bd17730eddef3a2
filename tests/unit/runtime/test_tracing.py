"""Tracing: nothing where no place for it is named, a clear fault where it cannot be, and links by `traceparent`."""

import re
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from opentelemetry.trace import SpanContext, get_current_span

from runtime.otlp import OtlpTracing
from runtime.ports import free_ports
from runtime.tracing import ENDPOINT, OFF, NoExporter, batch_span, tracing_of

_VALUE = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def _named(context: SpanContext) -> bytes:
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)


@pytest.fixture
def tracing(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpTracing]:
    """With a collector that nobody is."""
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{free_ports()}")
    tracing = OtlpTracing("test")
    yield tracing
    tracing.close()


def test_without_an_endpoint_nothing_is_imported() -> None:
    script = """
import sys
from operations.stages import ingest, sinks, streams
from runtime.tracing import OFF, tracing_of
with tracing_of({}, "ingest") as tracing:
    assert tracing is OFF
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


def test_an_endpoint_without_the_packages_is_a_fault_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "runtime.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with (
        pytest.raises(NoExporter, match=r"OTEL_EXPORTER_OTLP_ENDPOINT .* pip install 'leadstream\[otel\]'"),
        tracing_of({ENDPOINT: "http://127.0.0.1:4318"}, "ingest"),
    ):
        pass


def test_where_it_is_off_no_header_is_read() -> None:
    with batch_span(OFF, "split", [[SimpleNamespace()]]):
        assert OFF.traceparent("drained") is None


def test_a_span_links_once_to_each_span_that_wrote_its_records(tracing: OtlpTracing) -> None:
    with tracing.span("webhook"):
        first = tracing.traceparent()
    second = tracing.traceparent("webhook.drained")
    values = [first, second, first, b"", b"00-0-0-00", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"]
    records = [SimpleNamespace(headers=[("copy", b"1/2"), ("traceparent", value)]) for value in values]

    with batch_span(tracing, "split", [records[:3], records[3:]]):
        span = get_current_span()
        here = tracing.traceparent()

    assert all(map(_VALUE.fullmatch, filter(None, (first, second, here))))
    assert here not in (None, first, second)
    assert [_named(link.context) for link in span.links] == [first, second]  # type: ignore[attr-defined]
    assert dict(span.attributes) == {"messaging.batch.message_count": 6}  # type: ignore[attr-defined]


def test_outside_of_a_span_there_is_nothing_to_name(tracing: OtlpTracing) -> None:
    assert tracing.traceparent() is None


def test_the_words_of_an_exception_are_in_no_span(tracing: OtlpTracing) -> None:
    spans = []

    def fail() -> None:
        with tracing.span("join"):
            spans.append(get_current_span())
            raise ValueError("Ana")

    with pytest.raises(ValueError, match="Ana"):
        fail()

    [span] = spans
    assert not span.events  # type: ignore[attr-defined]
    assert span.status.description is None  # type: ignore[attr-defined]
