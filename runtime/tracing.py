"""Traces, where OpenTelemetry's own variable names a place for them: a span for each batch, linked to its records."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from runtime.mendable import Mendable

# https://opentelemetry.io/docs/specs/otel/protocol/exporter/
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
# The header of a record that names the span which wrote it: https://www.w3.org/TR/trace-context/
TRACEPARENT = "traceparent"

Attributes = Mapping[str, str | int]


class NoExporter(Mendable):
    """Traces are asked for, and the packages that send them are not installed."""


class Tracing(Protocol):
    """Spans, which hold no personal data: names, topics, partitions and counts."""

    def span(
        self, name: str, causes: Iterable[bytes | None] = (), attributes: Attributes | None = None
    ) -> AbstractContextManager[None]:
        """A span of its own around what is done in the context, linked to the spans of these `traceparent` values."""

    def traceparent(self, or_of: str | None = None) -> bytes | None:
        """The value that names the span we are in; else a new span that is called `or_of`; else None."""


class _Off:
    def span(
        self,
        name: str,  # noqa: ARG002
        causes: Iterable[bytes | None] = (),  # noqa: ARG002
        attributes: Attributes | None = None,  # noqa: ARG002
    ) -> AbstractContextManager[None]:
        return nullcontext()

    def traceparent(self, or_of: str | None = None) -> bytes | None:  # noqa: ARG002
        return None


OFF: Tracing = _Off()


def is_asked_for(environ: Mapping[str, str]) -> bool:
    """Whether traces have a place to go. Raises `NoExporter` where the packages that send them are missing."""
    if not environ.get(ENDPOINT):
        return False
    try:
        import runtime.otlp  # noqa: F401
    except ModuleNotFoundError:
        problem = f"{ENDPOINT} is set, and OpenTelemetry is not installed: pip install 'leadstream[otel]'"
        raise NoExporter(problem) from None
    return True


@contextmanager
def tracing_of(environ: Mapping[str, str], stage: str) -> Iterator[Tracing]:
    """The tracing of a stage while the context lasts; at its end what is left is sent, for a short while.

    Without an endpoint nothing of OpenTelemetry is imported. Raises `NoExporter`.
    """
    if not is_asked_for(environ):
        yield OFF
        return
    from runtime.otlp import OtlpTracing

    tracing = OtlpTracing(stage)
    try:
        yield tracing
    finally:
        tracing.close()


def batch_span(tracing: Tracing, name: str, runs: Collection[Sequence[Any]]) -> AbstractContextManager[None]:
    """A span around the work on runs of records; none where there are no records."""
    if not runs:
        return nullcontext()
    # A generator, which costs nothing where nobody asks it.
    causes = (value for run in runs for record in run for header, value in record.headers if header == TRACEPARENT)
    return tracing.span(name, causes, {"messaging.batch.message_count": sum(map(len, runs))})
