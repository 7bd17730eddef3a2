"""The process ends without losing what it was given, and says when it cannot go on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import httpx
import pytest
from aiokafka.errors import OutOfOrderSequenceNumber
from starlette.applications import Starlette

from ingest.server import IngestCrashed, run_ingest
from runtime.admin import serve
from tests.unit.ingest.fakes import SETTINGS, WEBHOOK_PATH, FakeProducer, signed

BODY = b"a delivery"


class Log(logging.Handler):
    """What the process logs, to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.records: asyncio.Queue[logging.LogRecord] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.put_nowait(record)

    async def until(self, event: str) -> logging.LogRecord:
        async with asyncio.timeout(10):
            while (record := await self.records.get()).getMessage() != event:
                pass
        return record


@dataclass
class Running:
    """A running process, its log, and a client for each of its ports."""

    process: asyncio.Task[None]
    log: Log
    public: httpx.AsyncClient
    admin: httpx.AsyncClient

    async def deliver(self) -> httpx.Response:
        return await self.public.post(WEBHOOK_PATH, content=BODY, headers=signed(BODY))


@pytest.fixture
def log() -> Iterator[Log]:
    log, logger = Log(), logging.getLogger("ingest.server")
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    yield log
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(log)


@asynccontextmanager
async def running(producer: FakeProducer, stop: asyncio.Event, log: Log) -> AsyncIterator[Running]:
    process = asyncio.create_task(run_ingest(SETTINGS, producer, stop, probe_every=timedelta(milliseconds=10)))
    ports = vars(await log.until("ingest.started"))
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['port']}") as public,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['admin_port']}") as admin,
    ):
        yield Running(process, log, public, admin)


@pytest.mark.anyio
async def test_a_request_in_flight_is_answered_before_the_producer_is_flushed(log: Log) -> None:
    stop, producer = asyncio.Event(), FakeProducer(release=asyncio.Event())
    async with running(producer, stop, log) as ingest:
        delivery = asyncio.create_task(ingest.deliver())
        await producer.asked.wait()

        stop.set()
        await ingest.log.until("ingest.stopping")
        assert (await ingest.admin.get("/readyz")).status_code == 503
        assert producer.release is not None
        producer.release.set()

        assert (await delivery).status_code == 200
        await ingest.process
        assert producer.effects == ["produced", "acked", "flushed"]


@pytest.mark.anyio
async def test_the_admin_port_serves_readiness_metrics_and_schemas(log: Log) -> None:
    stop, producer = asyncio.Event(), FakeProducer()
    async with running(producer, stop, log) as ingest:
        await ingest.deliver()

        assert (await ingest.admin.get("/readyz")).json()["parts"]["kafka"] == {"ready": True, "seen": ""}
        assert 'webhooks_received_total{result="accepted"} 1.0' in (await ingest.admin.get("/metrics")).text
        assert "leads-value" in (await ingest.admin.get("/subjects")).json()
        stop.set()
        await ingest.process


@pytest.mark.anyio
async def test_a_missing_topic_is_not_ready(log: Log) -> None:
    stop = asyncio.Event()
    async with running(FakeProducer(topics=frozenset()), stop, log) as ingest:
        answer = await ingest.public.get("/readyz")

        assert answer.status_code == 503
        assert "is missing" in answer.json()["parts"]["kafka"]["seen"]
        stop.set()
        await ingest.process


@pytest.mark.anyio
async def test_a_broken_producer_ends_the_process(log: Log) -> None:
    producer = FakeProducer(error=OutOfOrderSequenceNumber())
    async with running(producer, asyncio.Event(), log) as ingest:
        await ingest.deliver()

        with pytest.raises(IngestCrashed, match="producer"):
            await ingest.process
        assert producer.effects[-1] == "flushed"


@pytest.mark.anyio
async def test_a_taken_port_is_an_error_and_the_producer_is_stopped() -> None:
    producer = FakeProducer()
    async with serve(Starlette(), "127.0.0.1", 0) as taken:
        with pytest.raises(OSError, match="already in use"):
            await run_ingest(replace(SETTINGS, port=taken), producer, asyncio.Event())

    assert producer.effects == ["flushed"]
