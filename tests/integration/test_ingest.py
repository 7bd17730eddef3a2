"""Ingest on a real Kafka: what was posted lies in the topic, and nothing is promised while Kafka is away."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from cli.topics import wanted_topics
from ingest.app import create_app
from ingest.publisher import Publisher
from messenger.signature import sign
from runtime import kafka
from runtime.clock import now, to_millis
from runtime.health import Health
from runtime.kafka_node import KafkaNode
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from schemas.topics import WEBHOOKS
from tests.conftest import free_port

pytestmark = pytest.mark.integration

SECRET = "an app secret"
WEBHOOK_PATH = "/webhooks/messenger"
PAGE = "542998526103632"


def a_body(psid: str, text: str = "hello") -> bytes:
    item = {"sender": {"id": psid}, "recipient": {"id": PAGE}, "timestamp": 1, "message": {"mid": "m", "text": text}}
    return json.dumps({"object": "page", "entry": [{"id": PAGE, "time": 1, "messaging": [item]}]}).encode()


def signed(body: bytes) -> dict[str, str]:
    return {"X-Hub-Signature-256": sign(body, SECRET)}


@asynccontextmanager
async def public_app(settings: Settings, broker: str, ack_timeout: timedelta) -> AsyncIterator[httpx.AsyncClient]:
    producer = kafka.producer(broker, client_id="test-ingest")
    await producer.start()
    publisher = Publisher(producer, settings.topic(WEBHOOKS.name))
    app = create_app(settings, publisher, Metrics(), Health(), ack_timeout=ack_timeout)
    try:
        async with client_of(app) as client:
            yield client
    finally:
        await producer.stop()


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ingest")


async def records_of(broker: str, topic: str, count: int) -> list[Any]:
    consumer = kafka.consumer(broker, topic, group=None, client_id="test-reader")
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


def with_secrets(settings: Settings) -> Settings:
    return Settings(
        broker=settings.broker, topic_prefix=settings.topic_prefix, app_secrets=(SECRET,), verify_token="a token"
    )


@pytest.mark.anyio
async def test_what_was_posted_lies_in_the_topic(kafka_broker: str, kafka_topics: Settings) -> None:
    topic = kafka_topics.topic(WEBHOOKS.name)
    bodies = [a_body("1"), a_body("2"), a_body("1", "\u00e4" * 300_000), b"signed, and not a webhook \xff"]
    before = to_millis(now())

    async with public_app(with_secrets(kafka_topics), kafka_broker, timedelta(seconds=5)) as ingest:
        answers = [await ingest.post(WEBHOOK_PATH, content=body, headers=signed(body)) for body in bodies]
    records = {f"{one.topic}/{one.partition}/{one.offset}": one for one in await records_of(kafka_broker, topic, 4)}

    assert [answer.status_code for answer in answers] == [200] * 4
    stored = [records[answer.headers["Leadstream-Receipt"]] for answer in answers]
    assert [one.value for one in stored] == bodies
    assert [one.key for one in stored] == [f"{PAGE}:1".encode(), f"{PAGE}:2".encode(), f"{PAGE}:1".encode(), None]
    assert stored[0].partition == stored[2].partition
    for one in stored:
        headers = dict(one.headers)
        assert headers["x-hub-signature-256"].decode() == sign(one.value, SECRET)
        assert before <= int(headers["received-at"]) <= to_millis(now())
        assert len(headers["delivery-id"]) == 32
        assert one.timestamp_type == 1, "LogAppendTime"
        assert one.timestamp >= before


@pytest.mark.anyio
async def test_while_kafka_is_away_the_answer_is_503_and_then_200_again(tmp_path: Path) -> None:
    node = KafkaNode(tmp_path, free_port())
    broker = await asyncio.to_thread(node.start, print)
    settings = Settings(broker=broker, app_secrets=(SECRET,), verify_token="a token", partitions=1)
    topic = settings.topic(WEBHOOKS.name)
    before, meanwhile, after = a_body("1"), a_body("2"), a_body("3")
    try:
        await apply_topics(broker, wanted_topics(settings))
        async with public_app(settings, broker, timedelta(seconds=1)) as ingest:
            answers = [await ingest.post(WEBHOOK_PATH, content=before, headers=signed(before))]
            await asyncio.to_thread(node.stop)
            answers.append(await ingest.post(WEBHOOK_PATH, content=meanwhile, headers=signed(meanwhile)))
            await asyncio.to_thread(node.start, print)
            async with asyncio.timeout(60):
                while answers[-1].status_code == 503:
                    answers.append(await ingest.post(WEBHOOK_PATH, content=after, headers=signed(after)))
        acknowledged = {one.offset: one.value for one in await records_of(broker, topic, 2)}
    finally:
        await asyncio.to_thread(node.stop)

    statuses = [answer.status_code for answer in answers]
    assert (statuses[0], set(statuses[1:-1]), statuses[-1]) == (200, {503}, 200)
    assert answers[1].headers["Retry-After"] == "5"
    assert acknowledged[0] == before


def _environment(settings: Settings, **more: str) -> Mapping[str, str]:
    own = {"LEADSTREAM_BROKER": settings.broker or "", "LEADSTREAM_TOPIC_PREFIX": settings.topic_prefix}
    return {**os.environ, **own, **more}


@pytest.mark.anyio
async def test_the_command_serves_until_sigterm_and_ends_with_zero(kafka_topics: Settings) -> None:
    port, admin_port = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "ingest", "--port", str(port), "--admin-port", str(admin_port),
        env=_environment(kafka_topics, LEADSTREAM_APP_SECRET=SECRET, LEADSTREAM_VERIFY_TOKEN="canary"),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        assert json.loads(await process.stderr.readline())["event"] == "ingest.started"
        body = a_body("1")
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"http://127.0.0.1:{port}{WEBHOOK_PATH}", content=body, headers=signed(body))
            metrics = await client.get(f"http://127.0.0.1:{admin_port}/metrics")

        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            _, rest = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert (answer.status_code, answer.text) == (200, "EVENT_RECEIVED")
    assert 'leadstream_webhooks_received_total{result="accepted"} 1.0' in metrics.text
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in rest.splitlines()] == ["ingest.stopping"]


@pytest.mark.anyio
async def test_without_kafka_the_command_ends_with_one_clear_line(tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "ingest", "--port", "0", "--admin-port", "0",
        env=_environment(Settings(broker=nobody), LEADSTREAM_APP_SECRET=SECRET, LEADSTREAM_VERIFY_TOKEN="canary"),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async with asyncio.timeout(30):
        _, said = await process.communicate()

    assert process.returncode == 1
    assert said.decode().splitlines()[-1] == (
        "Error: Kafka does not answer: see `leadstream kafka status` or LEADSTREAM_BROKER"
    )
    assert "Traceback" not in said.decode()
