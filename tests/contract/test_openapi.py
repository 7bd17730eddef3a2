"""docs/openapi.yaml has the routes of both ports of ingest, and neither port serves it."""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.routing import BaseRoute, Route

from docs.generate import DOCS
from ingest.schema_registry import registry_routes
from runtime.admin import create_admin_app
from runtime.health import Health
from runtime.metrics import Metrics
from schemas.registry_api import RegistryApi
from tests.unit.ingest.fakes import Ingest

DOCUMENT: dict[str, Any] = yaml.safe_load((DOCS / "openapi.yaml").read_text())
METHODS = {"get", "post", "put", "delete"}
BOTH = {("/healthz", "get"), ("/readyz", "get")}


def described(*, admin: bool) -> set[tuple[str, str]]:
    return {
        (path, method)
        for path, item in DOCUMENT["paths"].items()
        for method in item.keys() & METHODS
        if ("servers" in item) == admin
    }


def served(routes: Iterable[BaseRoute]) -> set[tuple[str, str]]:
    """Without HEAD, which goes with every GET."""
    return {
        (route.path, method.lower())
        for route in routes
        if isinstance(route, Route)
        for method in set(route.methods or ()) - {"HEAD"}
    }


@pytest.mark.anyio
async def test_the_public_port_has_what_is_described_and_nothing_else() -> None:
    async with Ingest().application() as app:
        routes = inspect.getclosurevars(app).nonlocals["everything_else"].routes

    assert served(routes) == described(admin=False)


def test_the_admin_port_has_what_is_described_and_nothing_else() -> None:
    app = create_admin_app(Metrics(), Health(), extra_routes=registry_routes(RegistryApi()))

    assert served(app.routes) == described(admin=True) | BOTH


def test_every_operation_says_what_it_does_and_answers() -> None:
    operations = [item[method] for item in DOCUMENT["paths"].values() for method in item.keys() & METHODS]

    assert DOCUMENT["openapi"] == "3.1.1"
    assert all(one["summary"] and one["responses"] for one in operations)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/openapi.json", "/openapi.yaml", "/docs", "/docs/oauth2-redirect", "/redoc"])
async def test_the_public_port_serves_no_description_of_itself(path: str) -> None:
    assert (await Ingest().get(path)).status_code == 404


def test_the_document_is_linked() -> None:
    assert "openapi.yaml" in Path(DOCS, "architecture.md").read_text()
