"""Verdicts on a schema registry, which is only asked."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from operations.doctor.here import verdicts_here
from runtime.settings import Settings


def _registry(
    *, status: int = 200, level: Any = "FULL", of_subjects: str | None = None, goes_with_newest: bool = True
) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/config":
            return httpx.Response(200, json={"compatibilityLevel": level} if level else [])
        if request.url.path.startswith("/config/"):
            return httpx.Response(200, json={"compatibilityLevel": of_subjects}) if of_subjects else httpx.Response(404)
        if request.url.path.startswith("/compatibility/"):
            return httpx.Response(200, json={"is_compatible": goes_with_newest})
        return httpx.Response(status, json={"id": 1})

    return httpx.MockTransport(answer)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "level", "expected"),
    [
        (200, "FULL", ("schemas", "ok")),
        (200, "NONE", ("schemas", "warning")),
        (404, "FULL", ("schemas", "broken")),
        (500, "FULL", ("registry", "broken")),
        (200, None, ("registry", "broken")),
    ],
)
async def test_a_registry_is_asked_for_our_schemas_and_never_told(
    tmp_path: Path, status: int, level: str | None, expected: tuple[str, str]
) -> None:
    settings = Settings(state_dir=tmp_path, schema_registry_url="http://schemas.test", warehouse=str(tmp_path))

    verdicts = await verdicts_here(settings, {}, httpx.AsyncClient(), _registry(status=status, level=level))

    assert [(verdict.check, verdict.standing) for verdict in verdicts if verdict.place == "registry"] == [expected]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("registry", "standing", "seen"),
    [
        (_registry(level="NONE", of_subjects="FULL_TRANSITIVE"), "ok", "all registered, and compatible"),
        (_registry(level="FULL", of_subjects="NONE"), "warning", "compatibility NONE"),
        (_registry(goes_with_newest=False), "broken", "is not compatible with ours"),
    ],
)
async def test_what_others_may_register_and_have_registered_is_looked_at(
    tmp_path: Path, registry: httpx.MockTransport, standing: str, seen: str
) -> None:
    settings = Settings(state_dir=tmp_path, schema_registry_url="http://schemas.test", warehouse=str(tmp_path))

    found = await verdicts_here(settings, {}, httpx.AsyncClient(), registry)
    (schemas,) = [verdict for verdict in found if verdict.place == "registry"]

    assert schemas.standing == standing
    assert seen in schemas.seen
