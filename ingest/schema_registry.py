"""The built-in schema registry over HTTP, in Confluent's API."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest.body import BodiesInFlight, BodyBudget, BodyCutShort, BodyTooLarge, read_body
from schemas.registry_api import CONTENT_TYPE, RegistryApi, RegistryRefusal

_MAX_REQUEST = 1024 * 1024


def registry_routes(registry: RegistryApi, budget: BodyBudget | None = None) -> list[Route]:
    """Request bodies are read within `budget`, by default within one of their own.

    https://docs.confluent.io/platform/current/schema-registry/develop/api.html
    """
    budget = budget or BodyBudget()
    return [
        _get("/subjects", registry.subjects, prefix="subjectPrefix"),
        _get("/subjects/{subject}/versions", registry.versions),
        _get("/subjects/{subject}/versions/{version}", registry.version),
        _get("/subjects/{subject}/versions/{version}/schema", registry.definition),
        _get("/subjects/{subject}/versions/{version}/referencedby", registry.references),
        _get("/schemas/types", registry.types),
        _get("/schemas/ids/{schema_id}", registry.schema),
        _get("/schemas/ids/{schema_id}/schema", registry.definition_of_id),
        _get("/schemas/ids/{schema_id}/subjects", registry.subjects_of),
        _get("/schemas/ids/{schema_id}/versions", registry.uses),
        _get("/config", registry.config),
        _get("/config/{subject}", registry.config_of),
        _get("/mode", registry.mode),
        _get("/mode/{subject}", registry.mode_of),
        _get("/contexts", registry.contexts),
        _post("/subjects/{subject}", registry.look_up, budget),
        _post("/subjects/{subject}/versions", registry.register, budget),
        _post("/compatibility/subjects/{subject}/versions", registry.compatible, budget),
        _post("/compatibility/subjects/{subject}/versions/{version}", registry.compatible, budget),
        _change("/config", registry),
        _change("/config/{subject}", registry),
        _change("/mode", registry),
        _change("/mode/{subject}", registry),
        _change("/subjects/{subject}", registry),
        _change("/subjects/{subject}/versions/{version}", registry),
    ]


def _get(path: str, answer: Callable[..., Any], **query: str) -> Route:
    """`query` names the parameters of the URL's query that `answer` takes; every list is paged."""

    async def endpoint(request: Request) -> Response:
        asked = {name: request.query_params[key] for name, key in query.items() if key in request.query_params}
        return _respond(lambda: _page(answer(**request.path_params, **asked), request.query_params))

    return Route(path, endpoint, methods=["GET"])


def _post(path: str, answer: Callable[..., Any], budget: BodyBudget) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            announced = request.headers.get("content-length", "").encode("latin-1")
            body = await read_body(announced, request.receive, _MAX_REQUEST, budget)
        except BodyTooLarge:
            return Response(status_code=413)
        except BodyCutShort:
            return Response(status_code=400)
        except BodiesInFlight:
            return Response(status_code=503, headers={"Retry-After": "1", "Connection": "close"})
        budget.give_back(len(body))
        return _respond(lambda: answer(request=body, **request.path_params))

    return Route(path, endpoint, methods=["POST"])


def _change(path: str, registry: RegistryApi) -> Route:
    async def endpoint(request: Request) -> Response:
        return _respond(lambda: registry.change(request.path_params.get("subject", "")))

    return Route(path, endpoint, methods=["PUT", "DELETE"])


def _page(found: Any, query: Mapping[str, str]) -> Any:
    """`offset` and `limit` of a list; a limit below zero is none."""
    if not isinstance(found, list):
        return found
    try:
        offset, limit = int(query.get("offset", "0")), int(query.get("limit", "-1"))
    except ValueError:
        raise RegistryRefusal(404, "HTTP 404 Not Found") from None
    page = found[max(offset, 0) :]
    return page if limit < 0 else page[:limit]


def _respond(answer: Callable[[], Any]) -> Response:
    try:
        return JSONResponse(answer(), media_type=CONTENT_TYPE)
    except RegistryRefusal as refusal:
        return JSONResponse(refusal.body, status_code=refusal.status, media_type=CONTENT_TYPE)
