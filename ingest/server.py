"""The ingest process: both ports in one loop, a watch on Kafka, and an end that loses nothing."""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from aiokafka import AIOKafkaProducer

from ingest.app import create_app
from ingest.publisher import Publisher
from ingest.registry import registry_routes
from runtime.admin import create_admin_app, serve
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.registry_api import RegistryApi
from schemas.topics import WEBHOOKS

_ADMIN_HOST = "127.0.0.1"
_PROBE_EVERY = timedelta(seconds=5)
_PROBE_WITHIN = timedelta(seconds=5)
# What is unacknowledged at the end was answered 503 and will be delivered again, so that it is safe to leave behind.
_FLUSH_WITHIN = timedelta(seconds=5)

_log = logging.getLogger(__name__)


class IngestCrashed(Exception):
    """The process cannot do its work any more and must be started anew."""


async def run_ingest(
    settings: Settings, producer: AIOKafkaProducer, stop: asyncio.Event, *, probe_every: timedelta = _PROBE_EVERY
) -> None:
    """Serve until `stop` is set, with a started producer that is stopped at the end.

    Then, in this order: not ready, no new connection, every request in flight answered, the producer flushed. Raises
    `OSError` when a port is taken and `IngestCrashed` when the producer is beyond repair.
    """
    metrics, health = Metrics(), Health()
    health.report("kafka", ready=False, seen="not asked yet")
    publisher = Publisher(producer, settings.topic(WEBHOOKS.name))
    app = create_app(settings, publisher, metrics, health)
    # With a registry of the user's the built-in ids would be wrong ones.
    registry = [] if settings.schema_registry_url else registry_routes(RegistryApi(settings.topic_prefix))
    admin = create_admin_app(metrics, health, extra_routes=registry)
    try:
        async with (
            serve(admin, _ADMIN_HOST, settings.admin_port) as admin_port,
            serve(app, settings.host, settings.port) as port,
        ):
            _log.info("ingest.started", extra={"host": settings.host, "port": port, "admin_port": admin_port})
            health.report("serving", ready=True)
            await _until_stopped(stop, _watch(publisher, health, probe_every))
            health.report("serving", ready=False, seen="stopping")
            _log.info("ingest.stopping")
    finally:
        await _flush(producer)
    if health.crashed:
        raise IngestCrashed(health.crashed)


async def _until_stopped(stop: asyncio.Event, watching: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(watching)
        watch.add_done_callback(lambda _: stop.set())
        await stop.wait()
        watch.cancel()


async def _watch(publisher: Publisher, health: Health, every: timedelta) -> None:
    """Keep readiness true to Kafka, and end when the process has crashed."""
    while health.crashed is None:
        fault = await _find_fault(publisher)
        health.report("kafka", ready=fault is None, seen=fault or "")
        await asyncio.sleep(every.total_seconds())


async def _find_fault(publisher: Publisher) -> str | None:
    try:
        async with asyncio.timeout(_PROBE_WITHIN.total_seconds()):
            return await publisher.find_fault()
    except TimeoutError:
        return "no answer from Kafka in time"


async def _flush(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(_FLUSH_WITHIN.total_seconds()):
            await producer.stop()
    except TimeoutError:
        _log.warning("ingest.flush_abandoned")
