"""A Kafka producer that notes what happens in which order, and the public app over it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.app import create_app
from ingest.publisher import Publisher
from messenger.signature import sign
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings

TOPIC = "messenger-webhooks"
SECRET = "an app secret"
SETTINGS = Settings(app_secrets=("a retired secret", SECRET), verify_token="a verify token", admin_port=0, port=0)
WEBHOOK_PATH = "/webhooks/messenger"


@dataclass(frozen=True)
class Produced:
    topic: str
    partition: int
    offset: int
    value: bytes
    key: bytes | None
    headers: dict[str, bytes]


@dataclass
class FakeProducer:
    """Acknowledges at once, unless it is told to fail with `error` or to wait for `release`."""

    error: Exception | None = None
    release: asyncio.Event | None = None
    topics: frozenset[str] = frozenset({TOPIC})
    unreachable: Exception | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    records: list[Produced] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)

    async def send_and_wait(
        self, topic: str, value: bytes, *, key: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> Produced:
        self.effects.append("produced")
        self.asked.set()
        if self.release is not None:
            await self.release.wait()
        if self.error is not None:
            raise self.error
        self.records.append(Produced(topic, 3, len(self.records), value, key, dict(headers)))
        self.effects.append("acked")
        return self.records[-1]

    async def stop(self) -> None:
        self.effects.append("flushed")

    @property
    def client(self) -> "FakeProducer":
        return self

    async def fetch_all_metadata(self) -> "FakeProducer":
        if self.unreachable is not None:
            raise self.unreachable
        return self

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {0, 1} if topic in self.topics else None


@dataclass
class Ingest:
    """The public app with everything that it was given."""

    producer: FakeProducer = field(default_factory=FakeProducer)
    metrics: Metrics = field(default_factory=Metrics)
    health: Health = field(default_factory=Health)
    ack_timeout: timedelta = timedelta(seconds=5)

    def app(self) -> ASGIApp:
        return create_app(
            SETTINGS, Publisher(self.producer, TOPIC), self.metrics, self.health, ack_timeout=self.ack_timeout
        )

    async def get(self, path: str, **options: Any) -> httpx.Response:
        async with self.client() as client:
            return await client.get(path, **options)

    async def deliver(self, body: bytes, **options: Any) -> httpx.Response:
        """Post a body, signed as Meta signs unless other headers are given."""
        options = {"headers": signed(body), "content": body, **options}
        async with self.client() as client:
            return await client.post(WEBHOOK_PATH, **options)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=_noting(self.app(), self.producer.effects))
        async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as client:
            yield client

    def counted(self, result: str) -> float:
        return self.metrics.registry.get_sample_value("leadstream_webhooks_received_total", {"result": result}) or 0


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Hub-Signature-256": sign(body, secret)}


def _noting(app: ASGIApp, effects: list[str]) -> ASGIApp:
    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                effects.append(f"answered {message['status']}")
            await send(message)

        await app(scope, receive, note)

    return noted
