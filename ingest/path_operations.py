"""The FastAPI applications of ingest, which serve our own paths and no description of them."""

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route


def new_app(**options: Any) -> FastAPI:
    """An application whose OpenAPI document is for docs/openapi.yaml alone."""
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


def add_get(app: FastAPI, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
    """A path operation for GET; HEAD is answered too, and not described."""
    app.add_api_route(path, endpoint, methods=["GET"], **options)
    app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def add_probes(app: FastAPI, probes: Iterable[Route]) -> None:
    """Health, and metrics on the admin port."""
    for probe in probes:
        add_get(app, probe.path, probe.endpoint)
