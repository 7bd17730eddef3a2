"""Meta's data-deletion callback on a real Kafka: kept before it is answered, shown by every worker, also later."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from operations.deployment import Deployment, expected_topics
from operations.erase.requests import read_register, resolve
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.local_kafka.node import KafkaNode
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from schemas.codec import BUILT_IN
from schemas.topics import DELETION_REQUESTS
from tests.builders import a_signed_request
from tests.conftest import free_port
from tests.integration.test_ingest import SECRET, ended, ingest_command
from tests.integration.topics import records_of

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

PATH = "/privacy/data-deletion"
USER_ID = "5550001112223334"
PUBLIC_URL = "https://leads.example.com"


def a_form(user_id: str = USER_ID) -> dict[str, str]:
    return {"signed_request": a_signed_request(SECRET, user_id, at=now())}


@asynccontextmanager
async def serving(settings: Settings, home: Path, *arguments: str) -> AsyncIterator[tuple[int, int]]:
    """The command's ports while it serves."""
    public = replace(settings, public_url=PUBLIC_URL)
    async with ingest_command(public, home, *arguments) as (process, port, admin_port):
        yield port, admin_port
        assert await ended(process) == 0


async def alone(port: int, method: str, path: str, form: dict[str, str] | None = None) -> httpx.Response:
    """On a connection of its own, so that any worker may get it."""
    async with httpx.AsyncClient() as client:
        return await client.request(method, f"http://127.0.0.1:{port}{path}", data=form)


async def until_all_say(port: int, code: str, said: str) -> None:
    """Until every one of a row of answers is a page that says so."""
    async with asyncio.timeout(30):
        while True:
            pages = [await alone(port, "GET", f"{PATH}/{code}") for _ in range(30)]
            if all(page.status_code == 200 and said in page.text for page in pages):
                return
            await asyncio.sleep(0.1)


async def test_every_worker_shows_a_request_until_after_it_is_resolved(kafka_topics: Settings, tmp_path: Path) -> None:
    broker, form = cluster_of(kafka_topics), a_form()
    async with serving(kafka_topics, tmp_path, "--workers", "2") as (port, admin_port):
        answers = [await alone(port, "POST", PATH, form) for _ in range(10)]
        unknown = await alone(port, "GET", f"{PATH}/UNKNOWN")
        code = answers[0].json()["confirmation_code"]
        await until_all_say(port, code, "working on it")
        deployment = Deployment(kafka_topics, broker, BUILT_IN)
        requests = (await read_register(deployment)).open
        await resolve(deployment, code, now(), "erased")
        await until_all_say(port, code, "has been deleted")
        again = await alone(port, "POST", PATH, form)
        metrics = await alone(admin_port, "GET", "/metrics")

    expected = {"url": f"{PUBLIC_URL}{PATH}/{code}", "confirmation_code": code}
    assert [answer.json() for answer in (*answers, again)] == [expected] * 11
    assert [(request.code, request.user_id) for request in requests] == [(code, USER_ID)]
    assert unknown.status_code == 404
    assert (await read_register(deployment)).open == []
    assert 'leadstream_deletions_received_total{result="accepted"} 11.0' in metrics.text
    said = [
        (tmp_path / "ingest.log").read_text(),
        metrics.text,
        *(f"{answer.headers}{answer.text}" for answer in answers),
    ]
    assert [text for text in said if USER_ID in text or form["signed_request"] in text] == []


async def test_a_worker_that_starts_later_knows_what_was_asked_before(kafka_topics: Settings, tmp_path: Path) -> None:
    form = a_form()
    async with serving(kafka_topics, tmp_path) as (port, _):
        code = (await alone(port, "POST", PATH, form)).json()["confirmation_code"]

    async with serving(kafka_topics, tmp_path) as (port, _):
        again = await alone(port, "POST", PATH, form)
        page = await alone(port, "GET", f"{PATH}/{code}")

    assert again.json()["confirmation_code"] == code
    assert page.status_code == 200
    assert len(await records_of(kafka_topics, kafka_topics.topic(DELETION_REQUESTS.name))) == 1


async def test_while_kafka_is_away_nothing_is_promised_and_once_it_is_there_the_same_request_is_kept(
    tmp_path: Path,
) -> None:
    kafka_port = free_port()
    node = KafkaNode(tmp_path / "kafka", kafka_port)
    settings = Settings(broker=f"127.0.0.1:{kafka_port}", partitions=1)
    form = a_form()
    try:
        async with serving(settings, tmp_path) as (port, _):
            away = await alone(port, "POST", PATH, form)
            page = await alone(port, "GET", f"{PATH}/ANY")
            await asyncio.to_thread(node.start, print)
            await apply_topics(cluster_of(settings), expected_topics(settings))
            async with asyncio.timeout(60):
                while (answer := await alone(port, "POST", PATH, form)).status_code != 200:
                    assert answer.status_code == 503
                    await asyncio.sleep(0.5)
        requests = (await read_register(Deployment(settings, cluster_of(settings), BUILT_IN))).open
    finally:
        await asyncio.to_thread(node.stop)

    assert (away.status_code, away.text, away.headers["Retry-After"]) == (503, "not_kept", "30")
    assert (page.status_code, page.headers["Retry-After"]) == (503, "30")
    assert [request.code for request in requests] == [answer.json()["confirmation_code"]]
    assert "Traceback" not in (tmp_path / "ingest.log").read_text()
