"""The FastAPI applications of ingest: what their OpenAPI documents say, and nothing served but our own paths."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

Responses = Mapping[int | str, dict[str, Any]]

_TEXT = {"text/plain": {"schema": {"type": "string"}}}


def _json(*required: str, **properties: Any) -> dict[str, Any]:
    return {"application/json": {"schema": {"type": "object", "required": required, "properties": properties}}}


def refused(*statuses: int) -> Responses:
    """Answers whose body is a code of docs/reasons.md; 503 says when to come again."""
    answer = {"description": "Refused, with the code of the reason.", "content": _TEXT}
    later = {"Retry-After": {"required": True, "schema": {"type": "integer"}}}
    return {status: {**answer, "headers": later} if status == 503 else answer for status in statuses}


_ALIVE = {
    "description": "With 503 the process has crashed and should be replaced.",
    "content": _json("status", status={"enum": ["alive", "crashed"]}, seen={"type": "string"}),
}
_PART = {
    "type": "object",
    "required": ["ready", "seen"],
    "properties": {"ready": {"type": "boolean"}, "seen": {"type": "string"}},
}
_READY = {
    "description": "With 503 the spool is full or the process stops.",
    "content": _json("ready", "parts", ready={"type": "boolean"}, parts={"additionalProperties": _PART}),
}
_PROBES: Mapping[str, tuple[str, type[Response], Responses]] = {
    "/healthz": ("Whether the process lives.", JSONResponse, {200: _ALIVE, 503: _ALIVE}),
    "/readyz": (
        "Whether webhooks can be kept, and the state of Kafka, the spool and the other parts, each apart.",
        JSONResponse,
        {200: _READY, 503: _READY},
    ),
    "/metrics": ("The metrics of docs/metrics.md in Prometheus' text format.", PlainTextResponse, {}),
}


def new_app(**options: Any) -> FastAPI:
    """An application that serves no description of itself."""
    return FastAPI(
        title="leadstream ingest",
        version="1",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # It would send a client where the Host of its request says.
        redirect_slashes=False,
        **options,
    )


def add_get(app: FastAPI, path: str, endpoint: Callable[..., Any], **description: Any) -> None:
    """A path operation for GET; HEAD is answered too, and not described."""
    app.add_api_route(path, endpoint, methods=["GET"], **description)
    app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def add_probes(app: FastAPI, probes: Iterable[Route]) -> None:
    """Health, and metrics on the admin port, as path operations."""
    for probe in probes:
        summary, response_class, responses = _PROBES[probe.path]
        add_get(app, probe.path, probe.endpoint, summary=summary, response_class=response_class, responses=responses)
