"""One ingest process: both ports in one loop, the producer, the spool, and a stop that loses nothing."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from ingest.access_log import AccessLog
from ingest.app import create_app
from ingest.body import BodyBudget
from ingest.data_deletion.requests import PART, DeletionRegister
from ingest.keeper import Keeper
from ingest.publisher import Publisher
from ingest.schema_registry import create_ingest_admin
from ingest.spool.file import move_spool
from ingest.spool.queue import Spool
from leads.pages import Pages
from runtime.admin import serve_on
from runtime.bounded_http import BoundedHttp
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.tracing import OFF, Tracing
from schemas.registry_api import RegistryApi
from schemas.registry_client import find_ids
from schemas.topics import DELETION_REQUESTS, WEBHOOKS

_PROBE_EVERY = timedelta(seconds=2)
_PROBE_WITHIN = timedelta(seconds=5)
_REPORT_EVERY = timedelta(milliseconds=500)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Worker:
    """The sockets and the spool of a process; other processes may listen on `public` too."""

    public: socket.socket
    admin: socket.socket
    spool: Path


def spool_path(settings: Settings, number: int) -> Path:
    """The spool of a worker. It belongs to one topic, so that a demo never drains live webhooks."""
    directory = settings.spool_dir or settings.state_dir / "spool"
    return directory / f"{settings.topic(WEBHOOKS.name)}-{number}.sqlite"


def adopt_spools(settings: Settings, workers: int) -> None:
    """Move the spools of workers beyond `workers` into the first worker's spool. Raises `SpoolUnusable`."""
    first = spool_path(settings, 0)
    for path in first.parent.glob(f"{settings.topic(WEBHOOKS.name)}-*.sqlite"):
        number = path.stem.rpartition("-")[2]
        if number.isdigit() and int(number) >= workers:
            move_spool(path, first)
            _log.warning("spool.adopted", extra={"spool": path.stem})


async def run_ingest(
    settings: Settings,
    worker: Worker,
    connect: Callable[[], AIOKafkaProducer],
    follow: Callable[[], AIOKafkaConsumer],
    stop: asyncio.Event,
    *,
    pages: Pages,
    access_log: Callable[[bytes], int],
    explain: Callable[[], Awaitable[object | None]] | None = None,
    probe_every: timedelta = _PROBE_EVERY,
    tracing: Tracing = OFF,
) -> None:
    """Serve until `stop` is set, whether Kafka answers or not.

    `connect` makes producers, `follow` consumers of the data-deletion requests; none of them is started. `pages`
    are those of pages.yaml, without tokens. `access_log` writes bytes to the log and returns how many it has written;
    it may raise `OSError`. `explain` finds out why Kafka refuses a connection.

    It stops in this order: not ready, no new connection, every request in flight answered, the producer flushed, the
    spool closed. Raises `SpoolUnusable`.
    """
    metrics, health = Metrics(), Health(spare=frozenset({"kafka", "refused", "receipts", PART}))
    health.report("kafka", ready=False, seen="not checked yet")
    instance = token_hex(8)
    receipts, budget = AccessLog(access_log, instance), BodyBudget()
    spool = Spool(worker.spool, settings.spool_bytes)
    count = _page_counter(metrics, pages)
    topic = settings.topic(WEBHOOKS.name)
    publisher = Publisher(connect, topic, explain, aliases=pages.aliases, on_send=count, tracing=tracing)
    keeper = Keeper(publisher, spool)
    requests = settings.topic(DELETION_REQUESTS.name)
    register = DeletionRegister(publisher, requests, follow, partial(find_ids, settings), health)
    app = create_app(settings, keeper, register, metrics, health, receipts, budget, instance=instance, tracing=tracing)
    # Beside a registry of the user's, the built-in ids would be wrong.
    registry = None if settings.schema_registry_url else RegistryApi(settings.topic_prefix)
    admin = create_ingest_admin(metrics, health, registry, budget)
    metrics.spool_webhooks.set_function(lambda: spool.count)
    metrics.spool_bytes.set_function(lambda: spool.size)
    metrics.spool_limit_bytes.set(settings.spool_bytes)
    metrics.spool_set_aside.set_function(lambda: keeper.set_aside)
    jobs = (
        publisher.stay_connected(),
        keeper.drain(),
        register.stay_informed(),
        _report_kafka(publisher, health, probe_every),
        _report_disks(keeper, receipts, health),
    )
    http = partial(BoundedHttp, on_refusal=lambda reason: metrics.connections_refused.labels(reason).inc())
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(job) for job in jobs]
            async with (
                serve_on(worker.admin, admin),
                serve_on(worker.public, app, http=http, keep_alive=settings.keep_alive),
            ):
                _log.info("ingest.started", extra={**_ports(worker), "spooled": spool.count})
                health.report("serving", ready=True)
                await stop.wait()
                health.report("serving", ready=False, seen="stopping")
                _log.info("ingest.stopping", extra={"spooled": spool.count})
            for task in running:
                task.cancel()
    finally:
        receipts.close()
        await spool.close()


def _page_counter(metrics: Metrics, pages: Pages) -> Callable[[bytes], None]:
    """Counts from 0 on, so that a Page that sends nothing is seen to."""
    named = {page.page_id.encode(): metrics.page_webhooks.labels(page.page_id) for page in pages}
    others = metrics.page_webhooks.labels("other")
    return lambda page: named.get(page, others).inc()


def _ports(worker: Worker) -> dict[str, str | int]:
    host, port, *_ = worker.public.getsockname()
    return {"host": host, "port": port, "admin_port": worker.admin.getsockname()[1]}


async def _report_kafka(publisher: Publisher, health: Health, every: timedelta) -> None:
    while True:
        fault = await _find_fault(publisher)
        health.report("kafka", ready=fault is None, seen=fault or "")
        await asyncio.sleep(every.total_seconds())


async def _find_fault(publisher: Publisher) -> str | None:
    try:
        async with asyncio.timeout(_PROBE_WITHIN.total_seconds()):
            return await publisher.find_fault()
    except TimeoutError:
        return "no answer from Kafka in time"


async def _report_disks(keeper: Keeper, receipts: AccessLog, health: Health) -> None:
    while True:
        spool = keeper.spool
        seen = f"{spool.count} webhooks, {spool.size} bytes: {_activity(keeper)}" if spool.count else "empty"
        health.report("spool", ready=not spool.is_full, seen=seen)
        refused = f"{keeper.set_aside} webhooks are set aside in the spool" if keeper.set_aside else ""
        health.report("refused", ready=not refused, seen=refused)
        health.report("receipts", ready=not receipts.fault, seen=receipts.fault)
        await asyncio.sleep(_REPORT_EVERY.total_seconds())


def _activity(keeper: Keeper) -> str:
    if keeper.spool.is_full:
        return "full"
    if keeper.is_draining:
        return "draining"
    return "waiting for Kafka" if keeper.waiting else "all set aside"
