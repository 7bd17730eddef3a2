"""Ingest on a real Kafka: what was posted lies in the topic, whether Kafka was there at the time or not."""

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from starlette.types import ASGIApp

from cli.main import main
from ingest.access_log import AccessLog
from ingest.app import create_app
from ingest.body import BodyBudget
from ingest.data_deletion.requests import DeletionRegister
from ingest.keeper import Keeper
from ingest.publisher import Publisher
from ingest.spool.queue import Spool
from messenger.signature import sign
from operations.deployment import expected_topics
from operations.doctor.stages import examine_stages
from runtime import kafka
from runtime.clock import now, to_millis
from runtime.cluster import Cluster, cluster_of
from runtime.health import Health
from runtime.local_kafka.node import KafkaNode
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from schemas.registry_client import find_ids
from schemas.topics import DELETION_REQUESTS, WEBHOOKS
from tests.conftest import free_port

pytestmark = pytest.mark.integration

APP = "2262510160704936"
SECRET = "an app secret"
WEBHOOK_PATH = "/webhooks/messenger"
PAGE = "542998526103632"


def a_body(psid: str, text: str = "hello") -> bytes:
    item = {"sender": {"id": psid}, "recipient": {"id": PAGE}, "timestamp": 1, "message": {"mid": "m", "text": text}}
    return json.dumps({"object": "page", "entry": [{"id": PAGE, "time": 1, "messaging": [item]}]}).encode()


def signed(body: bytes) -> dict[str, str]:
    return {"X-Hub-Signature-256": sign(body, SECRET)}


@asynccontextmanager
async def public_app(
    settings: Settings, broker: str, home: Path, *, patience: timedelta
) -> AsyncIterator[httpx.AsyncClient]:
    publisher = Publisher(
        partial(kafka.producer, Cluster(broker), client_id="test-ingest"), settings.topic(WEBHOOKS.name)
    )
    spool = Spool(home / "spool.sqlite", 2**20)
    keeper = Keeper(publisher, spool, patience=patience)
    health = Health()
    register = deletion_register(settings, publisher, health)
    tasks = [asyncio.create_task(publisher.stay_connected()), asyncio.create_task(keeper.drain())]
    receipts = AccessLog(io.BytesIO().write, "0" * 16)
    app = create_app(settings, keeper, register, Metrics(), health, receipts, BodyBudget(), instance="0" * 16)
    try:
        async with client_of(app) as client:
            yield client
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await spool.close()


def deletion_register(settings: Settings, publisher: Publisher, health: Health) -> DeletionRegister:
    """One that is never read: nobody here asks for a deletion."""
    topic = settings.topic(DELETION_REQUESTS.name)
    follow = partial(kafka.consumer, cluster_of(settings), topic, group=None, client_id="test-ingest")
    return DeletionRegister(publisher, topic, follow, partial(find_ids, Settings()), health)


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ingest")


async def records_of(broker: str, topic: str, count: int) -> list[Any]:
    consumer = kafka.consumer(Cluster(broker), topic, group=None, client_id="test-reader")
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


def with_secrets(settings: Settings) -> Settings:
    return replace(settings, app_id=APP, app_secrets=(SECRET,), verify_token="a token")


@pytest.mark.anyio
async def test_what_was_posted_lies_in_the_topic(kafka_broker: str, kafka_topics: Settings, tmp_path: Path) -> None:
    topic = kafka_topics.topic(WEBHOOKS.name)
    bodies = [a_body("1"), a_body("2"), a_body("1", "\u00e4" * 300_000), b"signed, and not a webhook \xff"]
    before = to_millis(now())

    async with public_app(with_secrets(kafka_topics), kafka_broker, tmp_path, patience=timedelta(seconds=30)) as ingest:
        answers = [await ingest.post(WEBHOOK_PATH, content=body, headers=signed(body)) for body in bodies]
    records = {
        f"{record.topic}/{record.partition}/{record.offset}": record
        for record in await records_of(kafka_broker, topic, 4)
    }

    assert [answer.status_code for answer in answers] == [200] * 4
    stored = [records[answer.headers["Leadstream-Receipt"]] for answer in answers]
    assert [record.value for record in stored] == bodies
    assert [record.key for record in stored] == [PAGE.encode()] * 3 + [b""]
    assert stored[0].partition == stored[2].partition
    for record in stored:
        headers = dict(record.headers)
        assert headers["x-hub-signature-256"].decode() == sign(record.value, SECRET)
        assert before <= int(headers["received-at"]) <= to_millis(now())
        assert len(headers["delivery-id"]) == 32
        assert record.timestamp_type == 1, "LogAppendTime"
        assert record.timestamp >= before


@pytest.mark.anyio
async def test_while_kafka_is_away_the_spool_keeps_what_comes_and_its_order(tmp_path: Path) -> None:
    node = KafkaNode(tmp_path, free_port())
    broker = await asyncio.to_thread(node.start, print)
    settings = with_secrets(Settings(broker=broker, partitions=1))
    topic = settings.topic(WEBHOOKS.name)
    bodies = [a_body("1", text) for text in ("before", "meanwhile", "and again", "after")]
    try:
        await apply_topics(Cluster(broker), expected_topics(settings))
        async with public_app(settings, broker, tmp_path, patience=timedelta(seconds=1)) as ingest:
            answers = [await ingest.post(WEBHOOK_PATH, content=bodies[0], headers=signed(bodies[0]))]
            await asyncio.to_thread(node.stop)
            answers += [await ingest.post(WEBHOOK_PATH, content=body, headers=signed(body)) for body in bodies[1:3]]
            await asyncio.to_thread(node.start, print)
            answers.append(await ingest.post(WEBHOOK_PATH, content=bodies[3], headers=signed(bodies[3])))
            stored = [record.value for record in await records_of(broker, topic, 4)]
    finally:
        await asyncio.to_thread(node.stop)

    assert [answer.status_code for answer in answers] == [200] * 4
    assert answers[1].headers["Leadstream-Receipt"] == "spool/spool/1"
    assert stored == bodies


def _environment(settings: Settings, **more: str) -> Mapping[str, str]:
    own = {"LEADSTREAM_BROKER": settings.broker or "", "LEADSTREAM_TOPIC_PREFIX": settings.topic_prefix}
    return {**os.environ, **own, **more}


@asynccontextmanager
async def ingest_command(
    settings: Settings, home: Path, *arguments: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int, int]]:
    """The command once it serves, its public port and its admin port; it logs to `home`/ingest.log."""
    port, admin_port = free_port(), free_port()
    environment = _environment(
        settings,
        LEADSTREAM_APP_ID=APP,
        LEADSTREAM_APP_SECRET=SECRET,
        LEADSTREAM_VERIFY_TOKEN="planted token",
        LEADSTREAM_STATE_DIR=str(home),
        LEADSTREAM_PUBLIC_URL=settings.public_url or "",
    )
    with (home / "ingest.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", "ingest", "--port", str(port), "--admin-port", str(admin_port), *arguments,
            env=environment, stderr=log,
        )  # fmt: skip
    try:
        await until_ready(admin_port)
        yield process, port, admin_port
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until_ready(admin_port: int) -> None:
    async with asyncio.timeout(30), httpx.AsyncClient() as client:
        while True:
            with suppress(httpx.TransportError):
                if (await client.get(f"http://127.0.0.1:{admin_port}/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.1)


async def ended(process: asyncio.subprocess.Process) -> int:
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        return await process.wait()


def events_of(home: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (home / "ingest.log").read_text().splitlines()]


@pytest.mark.anyio
async def test_the_command_serves_until_sigterm_and_ends_with_zero(kafka_topics: Settings, tmp_path: Path) -> None:
    async with ingest_command(kafka_topics, tmp_path) as (process, port, admin_port):
        body = a_body("1")
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"http://127.0.0.1:{port}{WEBHOOK_PATH}", content=body, headers=signed(body))
            metrics = await client.get(f"http://127.0.0.1:{admin_port}/metrics")
        status = await ended(process)

    assert (answer.status_code, answer.text) == (200, "EVENT_RECEIVED")
    assert 'leadstream_webhooks_received_total{result="accepted"} 1.0' in metrics.text
    assert status == 0
    assert sorted(events_of(tmp_path)) == ["delivery.accepted", "ingest.started", "ingest.stopping", "receipts.closed"]


@pytest.mark.anyio
async def test_without_kafka_the_command_starts_and_keeps_in_the_spool(tmp_path: Path) -> None:
    nobody = Settings(broker=f"127.0.0.1:{free_port()}")
    body = a_body("1")
    async with ingest_command(nobody, tmp_path) as (process, port, admin_port), httpx.AsyncClient() as client:
        answer = await client.post(f"http://127.0.0.1:{port}{WEBHOOK_PATH}", content=body, headers=signed(body))
        await asyncio.sleep(1)
        parts = (await client.get(f"http://127.0.0.1:{admin_port}/readyz")).json()["parts"]
        status = await ended(process)

    assert answer.headers["Leadstream-Receipt"] == "spool/messenger-webhooks-0/1"
    assert not parts["kafka"]["ready"]
    assert parts["spool"]["seen"].endswith("waiting for Kafka")
    assert status == 0
    assert "Traceback" not in (tmp_path / "ingest.log").read_text()


@pytest.mark.anyio
async def test_what_the_topic_refuses_is_kept_and_shown_and_goes_there_once_it_may(
    kafka_broker: str, kafka_topics: Settings, tmp_path: Path
) -> None:
    """A batch is refused whole, so that small ones would go down with a large one."""
    topic = kafka_topics.topic(WEBHOOKS.name)
    large = a_body("1", os.urandom(200_000).hex())
    bodies = [a_body("1", "before"), large, *(a_body("1", f"beside {number}") for number in range(30))]
    await let_topic_take(kafka_topics, 100_000)
    async with ingest_command(kafka_topics, tmp_path) as (process, port, admin_port):
        answers = [await post_alone(port, bodies[0])]
        answers += await asyncio.gather(*(post_alone(port, body) for body in bodies[1:]))
        async with asyncio.timeout(60), httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin_port}") as admin:
            parts = await until_all_set_aside(admin)
            metrics = (await admin.get("/metrics")).text
            examined = await examine_stages(Settings(admin_port=admin_port), {}, admin)
        after = await post_alone(port, a_body("1", "after"))
        assert await ended(process) == 0
    meanwhile = await records_of(kafka_broker, topic, 32)

    await let_topic_take(kafka_topics, 8 * 1024 * 1024)
    async with ingest_command(kafka_topics, tmp_path) as (process, _, _):
        everything = await records_of(kafka_broker, topic, 33)
        assert await ended(process) == 0

    assert [answer.status_code for answer in answers] == [200] * 32
    assert answers[1].headers["Leadstream-Receipt"].startswith("spool/")
    assert not after.headers["Leadstream-Receipt"].startswith("spool/")
    assert sorted(reply.value for reply in meanwhile) == sorted([bodies[0], *bodies[2:], a_body("1", "after")])
    assert everything[-1].value == large
    assert parts["refused"] == {"ready": False, "seen": "1 webhooks are set aside in the spool"}
    assert "leadstream_spool_set_aside 1.0" in metrics
    assert [(verdict.check, verdict.standing) for verdict in examined] == [("spool", "broken")]
    [aside] = [json.loads(line) for line in (tmp_path / "ingest.log").read_text().splitlines() if "set_aside" in line]
    assert (aside["level"], aside["reason"]) == ("error", "MessageSizeTooLargeError")
    assert aside["receipt"] == answers[1].headers["Leadstream-Receipt"]
    result = await asyncio.to_thread(verify, kafka_topics, tmp_path / "ingest.log")
    assert (result.exit_code, result.output) == (0, "33 in Kafka byte for byte, 0 missing, 0 different\n")


async def until_all_set_aside(admin: httpx.AsyncClient) -> dict[str, Any]:
    while True:
        parts: dict[str, Any] = (await admin.get("/readyz")).json()["parts"]
        if parts["spool"]["seen"].endswith("all set aside"):
            return parts
        await asyncio.sleep(0.1)


async def let_topic_take(settings: Settings, most: int) -> None:
    [webhooks] = [topic for topic in expected_topics(settings) if topic.name == settings.topic(WEBHOOKS.name)]
    limited = replace(webhooks, config={**webhooks.config, "max.message.bytes": str(most)})
    await apply_topics(cluster_of(settings), [limited])


@pytest.mark.anyio
async def test_workers_share_the_port_and_add_up_on_the_admin_port(kafka_topics: Settings, tmp_path: Path) -> None:
    async with ingest_command(kafka_topics, tmp_path, "--workers", "2") as (process, port, admin_port):
        bodies = [a_body(str(number)) for number in range(1, 41)]
        answers = [await post_alone(port, body) for body in bodies]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin_port}") as admin:
            metrics, ready, subjects = [await admin.get(path) for path in ("/metrics", "/readyz", "/subjects")]
        status = await ended(process)

    assert [answer.status_code for answer in answers] == [200] * 40
    assert 'leadstream_webhooks_received_total{result="accepted"} 40.0' in metrics.text
    assert [worker["ready"] for worker in ready.json()["workers"]] == [True, True]
    assert f"{kafka_topics.topic('leads')}-value" in subjects.json()
    assert status == 0
    assert events_of(tmp_path).count("ingest.started") == 2
    result = await asyncio.to_thread(verify, kafka_topics, tmp_path / "ingest.log")
    assert (result.exit_code, result.output) == (0, "40 in Kafka byte for byte, 0 missing, 0 different\n")


async def post_alone(port: int, body: bytes) -> httpx.Response:
    """On a connection of its own, so that any worker may get it."""
    async with httpx.AsyncClient() as client:
        return await client.post(f"http://127.0.0.1:{port}{WEBHOOK_PATH}", content=body, headers=signed(body))


@pytest.mark.anyio
async def test_no_secret_person_or_text_is_in_a_log_a_metric_or_an_answer(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    secrets = [SECRET, "planted token", "5550001112223334", "planted text", "c0ffee" * 10]
    body = a_body("5550001112223334", "planted text")
    requests: list[tuple[str, dict[str, Any]]] = [
        ("POST", {"content": body, "headers": signed(body)}),
        ("POST", {"content": body, "headers": {"X-Hub-Signature-256": f"sha256={'c0ffee' * 10}beef"}}),
        ("POST", {"content": body, "headers": {"X-Hub-Signature-256": f"{'c0ffee' * 10} planted text"}}),
        ("POST", {"content": body, "headers": {**signed(body), "Content-Encoding": "planted text"}}),
        ("GET", {"params": {"hub.mode": "subscribe", "hub.verify_token": "planted token", "hub.challenge": "1"}}),
        ("GET", {"params": {"hub.mode": "subscribe", "hub.verify_token": "planted text", "hub.challenge": "1"}}),
        ("PUT", {"content": body, "params": {"access_token": "planted token"}}),
    ]
    async with ingest_command(kafka_topics, tmp_path) as (process, port, admin_port), httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{port}{WEBHOOK_PATH}"
        answers = [await client.request(method, url, **options) for method, options in requests]
        pages = [
            await client.get(f"http://127.0.0.1:{admin_port}{path}") for path in ("/metrics", "/readyz", "/healthz")
        ]
        assert await ended(process) == 0

    assert [answer.status_code for answer in answers] == [200, 403, 403, 415, 200, 403, 405]
    said = [
        (tmp_path / "ingest.log").read_text(),
        *(f"{response.headers}{response.text}" for response in (*answers, *pages)),
    ]
    assert [secret for secret in secrets for text in said if secret in text] == []


def verify(settings: Settings, receipts: Path) -> Result:
    environment = {"LEADSTREAM_BROKER": settings.broker, "LEADSTREAM_TOPIC_PREFIX": settings.topic_prefix}
    return CliRunner().invoke(main, ["verify", str(receipts)], env=environment)


def test_verify_finds_what_is_missing_and_what_has_other_bytes(
    kafka_broker: str, kafka_topics: Settings, tmp_path: Path
) -> None:
    topic = kafka_topics.topic(WEBHOOKS.name)
    asyncio.run(produce(kafka_broker, topic, {"d1": b"one", "d2": b"two"}))
    promises = [("d1", "spool/s/1", b"one"), ("d2", "spool/s/2", b"other"), ("d3", f"{topic}/0/9", b"three")]
    lines = [
        {
            "event": "delivery.accepted",
            "delivery_id": delivery_id,
            "receipt": receipt,
            "sha256": sha256(body).hexdigest(),
        }
        for delivery_id, receipt, body in promises
    ]
    (tmp_path / "log").write_text("".join(f"{json.dumps(line)}\n" for line in [{"event": "ingest.started"}, *lines]))

    result = verify(kafka_topics, tmp_path / "log")

    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"missing: {topic}/0/9 (delivery d3)",
        "different: spool/s/2 (delivery d2)",
        "1 in Kafka byte for byte, 1 missing, 1 different",
    ]


async def produce(broker: str, topic: str, bodies: Mapping[str, bytes]) -> None:
    async with kafka.producer(Cluster(broker), client_id="test") as producer:
        for delivery_id, body in bodies.items():
            await producer.send_and_wait(topic, body, headers=[("delivery-id", delivery_id.encode())])
