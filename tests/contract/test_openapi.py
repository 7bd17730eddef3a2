"""docs/openapi.yaml has the paths that both ports of ingest answer, and neither port serves it."""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from starlette.routing import BaseRoute, Route

from docs.generate import DOCS
from ingest.body import BodyBudget
from ingest.schema_registry import create_ingest_admin
from runtime.health import Health
from runtime.metrics import Metrics
from schemas.registry_api import RegistryApi
from tests.unit.ingest.fakes import Ingest

DOCUMENT: dict[str, Any] = yaml.safe_load((DOCS / "openapi.yaml").read_text())
METHODS = {"get", "post", "put", "delete", "patch"}
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


def admin_port() -> Any:
    return create_ingest_admin(Metrics(), Health(), RegistryApi(), BodyBudget())


async def status(client: httpx.AsyncClient, path: str, method: str) -> str:
    filled = path.format(code="A" * 24, subject="leads-value", version="latest", schema_id=1)
    return str((await client.request(method, filled)).status_code)


@pytest.mark.anyio
async def test_the_public_port_has_what_is_described_and_nothing_else() -> None:
    async with Ingest().application() as app:
        routes = inspect.getclosurevars(app).nonlocals["everything_else"].routes

    assert served(routes) == described(admin=False)


def test_the_admin_port_has_what_is_described_and_nothing_else() -> None:
    assert served(admin_port().routes) == described(admin=True) | BOTH


@pytest.mark.anyio
async def test_the_public_port_answers_as_described_and_takes_no_other_method() -> None:
    async with Ingest().client() as client:
        await check_answers(client, described(admin=False))


@pytest.mark.anyio
async def test_the_admin_port_answers_as_described_and_takes_no_other_method() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(admin_port()), base_url="http://admin") as client:
        await check_answers(client, described(admin=True) | BOTH)


async def check_answers(client: httpx.AsyncClient, operations: set[tuple[str, str]]) -> None:
    paths = {path for path, _ in operations}
    for path, method in ((path, method) for path in sorted(paths) for method in sorted(METHODS)):
        answered = await status(client, path, method)
        if (path, method) in operations:
            assert answered in DOCUMENT["paths"][path][method]["responses"], f"{method} {path}"
        else:
            assert answered == "405", f"{method} {path}"


def test_every_operation_says_what_it_does_and_answers() -> None:
    operations = [item[method] for item in DOCUMENT["paths"].values() for method in item.keys() & METHODS]

    assert DOCUMENT["openapi"].startswith("3.1")
    assert all(operation["summary"] and operation["responses"] for operation in operations)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/openapi.json", "/openapi.yaml", "/docs", "/docs/oauth2-redirect", "/redoc"])
async def test_no_port_serves_a_description_of_itself(path: str) -> None:
    assert (await Ingest().get(path)).status_code == 404
    async with httpx.AsyncClient(transport=httpx.ASGITransport(admin_port()), base_url="http://admin") as client:
        assert (await client.get(path)).status_code == 404


def test_the_document_is_linked() -> None:
    assert "openapi.yaml" in Path(DOCS, "architecture.md").read_text()
