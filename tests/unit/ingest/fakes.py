"""A Kafka producer that notes what happens in which order, and the public app over it."""

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.access_log import AccessLog
from ingest.app import create_app
from ingest.body import BodyBudget
from ingest.data_deletion.requests import DeletionRegister
from ingest.keeper import Keeper
from ingest.path_operations import new_app
from ingest.publisher import Publisher
from ingest.schema_registry import add_registry
from ingest.spool.queue import Spool
from messenger.signature import sign
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.registry_api import RegistryApi
from schemas.registry_client import find_ids

TOPIC = "messenger-webhooks"
DELETION_TOPIC = "data-deletion-requests"
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
class FakeBatch:
    """One record, as aiokafka's builder takes it."""

    record: tuple[bytes, bytes | None, dict[str, bytes]] | None = None

    def append(
        self, *, timestamp: float | None, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        assert timestamp is None
        self.record = (value, key, dict(headers))

    def close(self) -> None:
        pass


@dataclass
class FakeProducer:
    """Acknowledges at once, unless it is told to fail with `error`, to wait for `release`, or to drop some then.

    A batch of which a record is larger than `largest` is refused whole; up to `batch_size` records that are sent
    together make one. The first batches of `create_batch` fail with what `alone` says.
    """

    drops: int = 0
    error: Exception | None = None
    release: asyncio.Event | None = None
    topics: frozenset[str] = frozenset({TOPIC})
    unreachable: Exception | None = None
    refuses: Exception | None = None
    largest: int = 2**30
    batch_size: int = 1
    alone: list[Exception] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    records: list[Produced] = field(default_factory=list)
    acked: list[Produced] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    _sync_task: "asyncio.Task[None] | None" = None
    _batch: list[tuple["asyncio.Future[Produced]", Produced]] = field(default_factory=list)
    _waiting: set["asyncio.Task[None]"] = field(default_factory=set)

    async def start(self) -> None:
        if self.refuses is not None:
            raise self.refuses
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
        if self.batch_size > 1:
            self._batch.append((sent, record))
            asyncio.get_running_loop().call_soon(self._close_batch)
        elif self.release is None:
            self._answer([(sent, record)])
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

    def _close_batch(self) -> None:
        batch, self._batch = self._batch[: self.batch_size], self._batch[self.batch_size :]
        self._answer(batch)

    def _answer(self, batch: "list[tuple[asyncio.Future[Produced], Produced]]") -> None:
        refused = any(len(record.value) > self.largest for _, record in batch)
        for sent, record in batch:
            if refused:
                sent.set_exception(MessageSizeTooLargeError())
            else:
                self._acknowledge(sent, record)

    def create_batch(self) -> "FakeBatch":
        return FakeBatch()

    async def partitions_for(self, topic: str) -> set[int]:
        return self.partitions_for_topic(topic) or set()

    async def send_batch(self, batch: "FakeBatch", topic: str, *, partition: int) -> "asyncio.Future[Produced]":
        assert batch.record is not None
        self.effects.append("produced")
        sent: asyncio.Future[Produced] = asyncio.get_running_loop().create_future()
        if self.alone:
            sent.set_exception(self.alone.pop())
            return sent
        value, key, headers = batch.record
        record = Produced(topic, partition, len(self.records), value, key, headers)
        self.records.append(record)
        self._answer([(sent, record)])
        return sent

    def _acknowledge(self, sent: "asyncio.Future[Produced]", record: Produced) -> None:
        if not sent.done():
            sent.set_result(record)
            self.effects.append("acked")
            self.acked.append(record)

    async def flush(self) -> None:
        pass

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


@dataclass(frozen=True)
class Followed:
    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None


@dataclass
class FakeFollower:
    """A consumer of one partition: these keys and values, and later what is put into the queue."""

    records: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    unreachable: Exception | None = None
    later: "asyncio.Queue[tuple[bytes, bytes | None]]" = field(default_factory=asyncio.Queue)
    read: int = 0

    async def start(self) -> None:
        if self.unreachable is not None:
            raise self.unreachable

    def assignment(self) -> set[int]:
        return {0}

    async def end_offsets(self, partitions: set[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, len(self.records))

    async def position(self, _: int) -> int:
        return self.read

    async def getmany(self, **_: int) -> dict[int, list[Followed]]:
        if self.read == len(self.records):
            self.records.append(await self.later.get())
        unread = list(enumerate(self.records))[self.read :]
        self.read = len(self.records)
        return {0: [Followed(DELETION_TOPIC, 0, offset, *record) for offset, record in unread]}

    async def stop(self) -> None:
        pass


@dataclass
class Ingest:
    """The public app with everything that it was given."""

    producer: FakeProducer = field(default_factory=FakeProducer)
    metrics: Metrics = field(default_factory=Metrics)
    health: Health = field(default_factory=Health)
    follower: FakeFollower = field(default_factory=FakeFollower)
    patience: timedelta = timedelta(seconds=5)
    public_url: str | None = "https://leads.example.com/in"
    spool_limit: int = 2**20
    access_log: io.BytesIO = field(default_factory=io.BytesIO)
    effects: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ASGIApp]:
        """The app, which notes its answers among the producer's effects."""
        async with self.application() as app:
            self.producer.effects.clear()
            yield _noting(app, self.producer.effects)

    @asynccontextmanager
    async def application(self) -> AsyncIterator[ASGIApp]:
        with TemporaryDirectory() as home:
            path, patience = Path(home), self.patience
            async with (
                keeping(self.producer, path, limit=self.spool_limit, patience=patience) as keeper,
                registering(self.producer, self.follower, self.health, patience=patience) as register,
            ):
                access_log = AccessLog(self.access_log.write, "0" * 16)
                settings = replace(SETTINGS, public_url=self.public_url)
                yield create_app(
                    settings, keeper, register, self.metrics, self.health, access_log, BodyBudget(), instance="0" * 16
                )
                access_log.close()

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

    def counted(self, result: str, of: str = "webhooks_received") -> float:
        return self.metrics.registry.get_sample_value(f"leadstream_{of}_total", {"result": result}) or 0


@asynccontextmanager
async def keeping(
    producer: FakeProducer,
    home: Path,
    *,
    limit: int = 2**20,
    patience: timedelta = timedelta(seconds=5),
    try_refused_again: timedelta = timedelta(hours=1),
) -> AsyncIterator[Keeper]:
    """A keeper at work, over a real spool in `home`."""
    spool = Spool(home / f"{TOPIC}-0.sqlite", limit)
    publisher = Publisher(lambda: producer, TOPIC)
    keeper = Keeper(publisher, spool, patience=patience, try_refused_again=try_refused_again)
    tasks = [asyncio.create_task(publisher.stay_connected()), asyncio.create_task(keeper.drain())]
    await asyncio.sleep(0)
    try:
        yield keeper
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await spool.close()


@asynccontextmanager
async def registering(
    producer: FakeProducer, follower: FakeFollower, health: Health, *, patience: timedelta = timedelta(seconds=5)
) -> AsyncIterator[DeletionRegister]:
    """A register at work, with a producer of its own."""
    publisher = Publisher(lambda: producer, TOPIC)
    ids = partial(find_ids, Settings())
    register = DeletionRegister(publisher, DELETION_TOPIC, lambda: follower, ids, health, patience=patience)
    tasks = [asyncio.create_task(publisher.stay_connected()), asyncio.create_task(register.stay_informed())]
    await asyncio.sleep(0)
    try:
        yield register
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def registry_app(prefix: str = "") -> FastAPI:
    """The built-in registry alone."""
    app = new_app()
    add_registry(app, RegistryApi(prefix))
    return app


async def settled() -> None:
    """Let everything that can go on without anything from outside go on."""
    for _ in range(50):
        await asyncio.sleep(0)


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
