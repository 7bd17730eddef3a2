"""The built-in schema registry over HTTP, in Confluent's API."""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest.body import BodyCutShort, BodyTooLarge, read_body
from schemas.registry_api import CONTENT_TYPE, RegistryApi, RegistryRefusal

_MAX_REQUEST = 1024 * 1024


def registry_routes(registry: RegistryApi) -> list[Route]:
    """https://docs.confluent.io/platform/current/schema-registry/develop/api.html"""
    return [
        _get("/subjects", registry.subjects),
        _get("/subjects/{subject}/versions", registry.versions),
        _get("/subjects/{subject}/versions/{version}", registry.version),
        _get("/subjects/{subject}/versions/{version}/schema", registry.definition),
        _get("/schemas/types", registry.types),
        _get("/schemas/ids/{schema_id}", registry.schema),
        _get("/schemas/ids/{schema_id}/versions", registry.uses),
        _get("/config", registry.config),
        _get("/config/{subject}", registry.config_of),
        _post("/subjects/{subject}", registry.look_up),
        _post("/subjects/{subject}/versions", registry.register),
    ]


def _get(path: str, answer: Callable[..., Any]) -> Route:
    async def endpoint(request: Request) -> Response:
        return _respond(answer, **request.path_params)

    return Route(path, endpoint, methods=["GET"])


def _post(path: str, answer: Callable[..., Any]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            announced = request.headers.get("content-length", "").encode("latin-1")
            body = await read_body(announced, request.receive, _MAX_REQUEST)
        except BodyTooLarge:
            return Response(status_code=413)
        except BodyCutShort:
            return Response(status_code=400)
        return _respond(answer, request=body, **request.path_params)

    return Route(path, endpoint, methods=["POST"])


def _respond(answer: Callable[..., Any], **arguments: Any) -> Response:
    try:
        return JSONResponse(answer(**arguments), media_type=CONTENT_TYPE)
    except RegistryRefusal as refusal:
        return JSONResponse(refusal.body, status_code=refusal.status, media_type=CONTENT_TYPE)
