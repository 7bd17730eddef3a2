"""A Kafka producer that notes what happens in which order, and the public app over it."""

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from aiokafka.errors import KafkaTimeoutError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.access_log import AccessLog
from ingest.app import create_app
from ingest.keeper import Keeper
from ingest.publisher import Publisher
from ingest.spool import Spool
from messenger.signature import sign
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings

TOPIC = "messenger-webhooks"
SECRET = "an app secret"
SETTINGS = Settings(
    app_id="1", app_secrets=("a retired secret", SECRET), verify_token="a verify token", admin_port=0, port=0
)
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
    """Acknowledges at once, unless it is told to fail with `error`, to wait for `release`, or to drop some then."""

    drops: int = 0
    error: Exception | None = None
    release: asyncio.Event | None = None
    topics: frozenset[str] = frozenset({TOPIC})
    unreachable: Exception | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    records: list[Produced] = field(default_factory=list)
    acked: list[Produced] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    _waiting: set["asyncio.Task[None]"] = field(default_factory=set)

    async def start(self) -> None:
        self.effects.append("connected")
        self.started.set()

    async def send(
        self, topic: str, value: bytes, *, key: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> "asyncio.Future[Produced]":
        self.effects.append("produced")
        self.asked.set()
        if self.error is not None:
            raise self.error
        sent: asyncio.Future[Produced] = asyncio.get_running_loop().create_future()
        record = Produced(topic, 3, len(self.records), value, key, dict(headers))
        self.records.append(record)
        if self.release is None:
            self._acknowledge(sent, record)
        else:
            self._waiting.add(asyncio.create_task(self._acknowledge_later(self.release, sent, record)))
        return sent

    async def _acknowledge_later(
        self, release: asyncio.Event, sent: "asyncio.Future[Produced]", record: Produced
    ) -> None:
        await release.wait()
        if self.drops:
            self.drops -= 1
            sent.set_exception(KafkaTimeoutError())
        else:
            self._acknowledge(sent, record)

    def _acknowledge(self, sent: "asyncio.Future[Produced]", record: Produced) -> None:
        if not sent.done():
            sent.set_result(record)
            self.effects.append("acked")
            self.acked.append(record)

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
    patience: timedelta = timedelta(seconds=5)
    spool_limit: int = 2**20
    access_log: io.StringIO = field(default_factory=io.StringIO)
    effects: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ASGIApp]:
        with TemporaryDirectory() as home:
            async with keeping(self.producer, Path(home), limit=self.spool_limit, patience=self.patience) as keeper:
                access_log = AccessLog(self.access_log)
                app = create_app(SETTINGS, keeper, self.metrics, self.health, access_log, instance="0" * 16)
                self.producer.effects.clear()
                yield _noting(app, self.producer.effects)
                access_log.write()

    async def get(self, path: str, **options: Any) -> httpx.Response:
        async with self.client() as client:
            return await client.get(path, **options)

    async def deliver(self, body: bytes, **options: Any) -> httpx.Response:
        """Post a body, signed as Meta signs unless other headers are given."""
        options = {"headers": signed(body), "content": body, **options}
        async with self.client() as client:
            answer = await client.post(WEBHOOK_PATH, **options)
            self.effects = list(self.producer.effects)
            return answer

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        async with self.running() as app:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as client:
                yield client

    def counted(self, result: str) -> float:
        return self.metrics.registry.get_sample_value("leadstream_webhooks_received_total", {"result": result}) or 0


@asynccontextmanager
async def keeping(
    producer: FakeProducer, home: Path, *, limit: int = 2**20, patience: timedelta = timedelta(seconds=5)
) -> AsyncIterator[Keeper]:
    """A keeper at work, over a real spool in `home`."""
    spool = Spool(home / f"{TOPIC}-0.sqlite", limit)
    publisher = Publisher(lambda: producer, TOPIC)
    keeper = Keeper(publisher, spool, patience=patience)
    tasks = [asyncio.create_task(publisher.stay_connected()), asyncio.create_task(keeper.drain())]
    await asyncio.sleep(0)
    try:
        yield keeper
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await spool.close()


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
