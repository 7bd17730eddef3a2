"""The process ends without losing what it was given, and says when it cannot go on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from ingest.publisher import Delivery
from ingest.server import Worker, adopt_spools, run_ingest, spool_path
from ingest.spool.file import SpoolFile
from leads.pages import Page, Pages
from messenger.events import PageId
from runtime.admin import listen
from runtime.clock import from_millis
from tests.unit.ingest.fakes import SETTINGS, WEBHOOK_PATH, FakeFollower, FakeProducer, signed

BODY = b"a delivery"
PAGE = PageId("542998526103632")


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

    async def deliver(self, body: bytes = BODY) -> httpx.Response:
        return await self.public.post(WEBHOOK_PATH, content=body, headers=signed(body))


@pytest.fixture
def log() -> Iterator[Log]:
    log, logger = Log(), logging.getLogger("ingest.server")
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    yield log
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(log)


@asynccontextmanager
async def running(producer: FakeProducer, stop: asyncio.Event, log: Log, home: Path) -> AsyncIterator[Running]:
    with listen("127.0.0.1", 0) as public, listen("127.0.0.1", 0) as admin:
        worker = Worker(public, admin, home / "spool.sqlite")
        process = asyncio.create_task(
            run_ingest(
                SETTINGS,
                worker,
                lambda: producer,
                FakeFollower,
                stop,
                pages=Pages([Page(PAGE)]),
                access_log=BytesIO().write,
                probe_every=timedelta(milliseconds=10),
            )
        )
        ports = vars(await log.until("ingest.started"))
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['port']}") as public_port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['admin_port']}") as admin_port,
        ):
            yield Running(process, log, public_port, admin_port)


@pytest.mark.anyio
async def test_a_request_in_flight_is_answered_before_the_producer_is_flushed(log: Log, tmp_path: Path) -> None:
    stop, producer = asyncio.Event(), FakeProducer(release=asyncio.Event())
    async with running(producer, stop, log, tmp_path) as ingest:
        delivery = asyncio.create_task(ingest.deliver())
        await producer.asked.wait()

        stop.set()
        await ingest.log.until("ingest.stopping")
        assert (await ingest.admin.get("/readyz")).status_code == 503
        assert producer.release is not None
        producer.release.set()

        assert (await delivery).status_code == 200
        await ingest.process
        assert producer.effects == ["connected", "produced", "acked", "flushed"]


@pytest.mark.anyio
async def test_the_admin_port_serves_readiness_metrics_and_schemas(log: Log, tmp_path: Path) -> None:
    stop, producer = asyncio.Event(), FakeProducer()
    async with running(producer, stop, log, tmp_path) as ingest:
        await ingest.deliver()

        assert (await ingest.admin.get("/readyz")).json()["parts"]["kafka"] == {"ready": True, "seen": ""}
        assert 'webhooks_received_total{result="accepted"} 1.0' in (await ingest.admin.get("/metrics")).text
        assert "leads-value" in (await ingest.admin.get("/subjects")).json()
        stop.set()
        await ingest.process


@pytest.mark.anyio
async def test_webhooks_are_counted_by_the_pages_that_are_configured(log: Log, tmp_path: Path) -> None:
    stop = asyncio.Event()
    async with running(FakeProducer(), stop, log, tmp_path) as ingest:
        before = (await ingest.admin.get("/metrics")).text
        for page_id in (PAGE, PAGE, "1"):
            await ingest.deliver(b'{"object":"page","entry":[{"id":"%s"}]}' % page_id.encode())
        after = (await ingest.admin.get("/metrics")).text
        stop.set()
        await ingest.process

    assert f'page_webhooks_total{{page="{PAGE}"}} 0.0' in before
    assert f'page_webhooks_total{{page="{PAGE}"}} 2.0' in after
    assert 'page_webhooks_total{page="other"} 1.0' in after
    assert 'page="1"' not in after


@pytest.mark.anyio
async def test_readiness_tells_kafka_and_the_spool_apart(log: Log, tmp_path: Path) -> None:
    stop = asyncio.Event()
    async with running(FakeProducer(topics=frozenset()), stop, log, tmp_path) as ingest:
        answer = await ingest.public.get("/readyz")
        stop.set()
        await ingest.process

    parts = answer.json()["parts"]
    assert not parts["kafka"]["ready"]
    assert "is missing" in parts["kafka"]["seen"]
    assert parts["spool"] == {"ready": True, "seen": "empty"}
    assert answer.status_code == 200, "the spool keeps what Kafka does not take"


@pytest.mark.anyio
async def test_what_an_earlier_process_spooled_is_in_kafka_after_the_start(log: Log, tmp_path: Path) -> None:
    earlier = SpoolFile(tmp_path / "spool.sqlite")
    earlier.write([Delivery("d1", from_millis(1), "sha256=0", b"left behind")], [])
    earlier.close()
    stop, producer = asyncio.Event(), FakeProducer()

    async with running(producer, stop, log, tmp_path) as ingest:
        await producer.asked.wait()
        stop.set()
        await ingest.process

    assert [record.value for record in producer.records] == [b"left behind"]
    with closing(SpoolFile(tmp_path / "spool.sqlite")) as spool:
        assert spool.contents() == (0, 0)


def test_spools_of_workers_that_are_no_more_go_to_the_first(tmp_path: Path) -> None:
    settings = replace(SETTINGS, spool_dir=tmp_path)
    for number in (0, 1, 2):
        file = SpoolFile(spool_path(settings, number))
        file.write([Delivery(f"d{number}", from_millis(1), "sha256=0", b"%d" % number)], [])
        file.close()

    adopt_spools(settings, workers=2)

    first = SpoolFile(spool_path(settings, 0))
    assert [spooled.delivery.body for spooled in first.read(0)] == [b"0", b"2"]
    assert spool_path(settings, 1).exists()
    assert not spool_path(settings, 2).exists()
    first.close()
