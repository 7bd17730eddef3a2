"""The public port serves the webhook and health, and nothing else."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.access_log import AccessLog
from ingest.app import create_app
from ingest.body import BodyBudget
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import SettingError
from tests.unit.ingest.fakes import SETTINGS, WEBHOOK_PATH, FakeFollower, FakeProducer, Ingest, keeping, registering


@pytest.mark.anyio
@pytest.mark.parametrize(
    "path", ["/", "/docs", "/redoc", "/openapi.json", "/metrics", "/subjects", f"{WEBHOOK_PATH}/x", "/favicon.ico"]
)
async def test_other_paths_are_plainly_not_found(path: str) -> None:
    answer = await Ingest().get(path)

    assert (answer.status_code, answer.text) == (404, "Not Found")
    assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_the_webhook_takes_no_other_method(method: str) -> None:
    async with Ingest().client() as client:
        answer = await client.request(method, WEBHOOK_PATH)

    assert (answer.status_code, answer.text) == (405, "Method Not Allowed")


@pytest.mark.anyio
async def test_health_is_served_beside_the_webhook() -> None:
    ingest = Ingest()
    ingest.health.report("kafka", ready=False, seen="no answer")

    assert (await ingest.get("/healthz")).status_code == 200
    assert (await ingest.get("/readyz")).status_code == 503


@pytest.mark.anyio
@pytest.mark.parametrize("missing", [{"app_id": None}, {"app_secrets": ()}, {"verify_token": None}])
async def test_no_app_without_its_secrets(missing: dict[str, None], tmp_path: Path) -> None:
    settings = replace(SETTINGS, **missing)  # type: ignore[arg-type]

    health = Health()
    async with (
        keeping(FakeProducer(), tmp_path) as keeper,
        registering(FakeProducer(), FakeFollower(), health) as register,
    ):
        receipts = AccessLog(io.BytesIO().write, "")
        with pytest.raises(SettingError):
            create_app(settings, keeper, register, Metrics(), health, receipts, BodyBudget(), instance="")
