"""The built-in schema registry over HTTP: the part of Confluent's API that serializers and checks use, read-only."""

from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Path, Query
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from ingest.body import BodiesInFlight, BodyBudget, BodyCutShort, BodyTooLarge, read_body
from ingest.path_operations import add_probes, new_app
from runtime.admin import admin_routes
from runtime.health import Health
from runtime.metrics import Metrics
from schemas.registry_api import CONTENT_TYPE, RegistryApi, RegistryRefusal

_MAX_REQUEST = 1024 * 1024

T = TypeVar("T")


class _Answer(JSONResponse):
    media_type = CONTENT_TYPE


class _Page:
    """`offset` and `limit` of a list; a limit below zero is none."""

    def __init__(self, offset: int = 0, limit: int = -1) -> None:
        self._first, self._limit = max(offset, 0), limit

    def of(self, rows: list[T]) -> list[T]:
        page = rows[self._first :]
        return page if self._limit < 0 else page[: self._limit]


_Paged = Annotated[_Page, Depends()]
_Subject = Annotated[str, Path(examples=["leads-value"])]
_Version = Annotated[str, Path(description="A number, `latest`, or -1, which means the same.", examples=["latest"])]


def create_ingest_admin(metrics: Metrics, health: Health, registry: RegistryApi | None, budget: BodyBudget) -> FastAPI:
    """The admin port of one ingest process; no `registry` where the user has one."""
    app = new_app()
    add_probes(app, admin_routes(metrics, health))
    if registry is not None:
        add_registry(app, registry, budget)
    return app


def add_registry(app: FastAPI, registry: RegistryApi, budget: BodyBudget | None = None) -> None:
    """The registry's paths. Request bodies are read within `budget`, by default within one of their own.

    https://docs.confluent.io/platform/current/schema-registry/develop/api.html
    """
    operations = _Operations(registry, budget or BodyBudget())
    for path, read in (
        ("/subjects", operations.subjects),
        ("/subjects/{subject}/versions", operations.versions),
        ("/subjects/{subject}/versions/{version}", operations.version),
        ("/schemas/ids/{schema_id}", operations.schema),
        ("/schemas/ids/{schema_id}/versions", operations.uses),
        ("/config", operations.config),
        ("/config/{subject}", operations.config_of),
    ):
        app.add_api_route(path, read, response_class=_Answer)
    for path, check in (
        ("/subjects/{subject}", operations.look_up),
        ("/subjects/{subject}/versions", operations.register),
        ("/compatibility/subjects/{subject}/versions", operations.compatible),
        ("/compatibility/subjects/{subject}/versions/{version}", operations.compatible_with),
    ):
        app.add_api_route(path, check, methods=["POST"], response_class=_Answer)
    for error, handler in _HANDLERS.items():
        app.add_exception_handler(error, handler)


class _Operations:
    """The answers of `registry` as path operations."""

    def __init__(self, registry: RegistryApi, bodies: BodyBudget) -> None:
        self._registry, self._bodies = registry, bodies

    async def subjects(self, page: _Paged, prefix: Annotated[str, Query(alias="subjectPrefix")] = "") -> list[str]:
        """The subjects of the released schemas, by how they begin."""
        return page.of(self._registry.subjects(prefix))

    async def versions(self, subject: _Subject, page: _Paged) -> list[int]:
        """The versions of a subject."""
        return page.of(self._registry.versions(subject))

    async def version(self, subject: _Subject, version: _Version) -> dict[str, Any]:
        """One version of a subject."""
        return self._registry.version(subject, version)

    async def schema(self, schema_id: str) -> dict[str, Any]:
        """A schema by its id."""
        return self._registry.schema(schema_id)

    async def uses(self, schema_id: str, page: _Paged) -> list[dict[str, Any]]:
        """Where a schema is used: its subjects and versions."""
        return page.of(self._registry.uses(schema_id))

    async def config(self) -> dict[str, str]:
        """The compatibility of all subjects."""
        return self._registry.config()

    async def config_of(self, subject: _Subject) -> dict[str, str]:
        """The compatibility of one subject."""
        return self._registry.config_of(subject)

    async def look_up(self, subject: _Subject, request: Request) -> dict[str, Any]:
        """The release of a subject that is this schema."""
        return self._registry.look_up(subject, await self._body(request))

    async def register(self, subject: _Subject, request: Request) -> dict[str, int]:
        """The id of a schema that is released already; any other schema is refused."""
        return self._registry.register(subject, await self._body(request))

    async def compatible(self, subject: _Subject, request: Request) -> dict[str, Any]:
        """Whether a schema and every version read each other."""
        return self._registry.compatible(subject, await self._body(request))

    async def compatible_with(self, subject: _Subject, version: _Version, request: Request) -> dict[str, Any]:
        """Whether a schema and one version read each other."""
        return self._registry.compatible(subject, await self._body(request), version)

    async def _body(self, request: Request) -> bytes:
        announced = request.headers.get("content-length", "").encode("latin-1")
        body = await read_body(announced, request.receive, _MAX_REQUEST, self._bodies)
        self._bodies.give_back(len(body))
        return body


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, RegistryRefusal)
    return _Answer(error.body, error.status)


async def _refuse_page(_: Request, _error: Exception) -> Response:
    """As Confluent answers a parameter that is not a number."""
    return _Answer({"error_code": 404, "message": "HTTP 404 Not Found"}, 404)


async def _refuse_path(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"HTTP {error.status_code} {error.detail}"
    return _Answer({"error_code": error.status_code, "message": message}, error.status_code, error.headers)


def _plain(status: int, headers: dict[str, str] | None = None) -> ExceptionHandler:
    async def answer(_: Request, _error: Exception) -> Response:
        return Response(status_code=status, headers=headers)

    return answer


_HANDLERS: dict[type[Exception], ExceptionHandler] = {
    RegistryRefusal: _refuse,
    RequestValidationError: _refuse_page,
    HTTPException: _refuse_path,
    BodyTooLarge: _plain(413),
    BodyCutShort: _plain(400),
    BodiesInFlight: _plain(503, {"Retry-After": "1", "Connection": "close"}),
}
