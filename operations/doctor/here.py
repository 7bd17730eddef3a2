"""The prerequisites on our side, fetched and judged: Kafka and its topics, the schema registry, the warehouse."""

import asyncio
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import httpx

from operations.broker import known_broker
from operations.doctor.deletion_requests import examine_requests
from operations.doctor.disk import examine_disk
from operations.doctor.kafka import NO_KAFKA, examine_kafka, mend_topics
from operations.doctor.mending import Mending
from operations.doctor.registry import examine_registry
from operations.doctor.set_aside import examine_set_aside
from operations.doctor.stages import examine_stages
from operations.doctor.verdicts import Verdict
from runtime.settings import SettingError, Settings
from schemas.registry_client import registry_client, registry_ids
from sinks.consume import Unusable
from sinks.warehouse.delta.files import local_path
from sinks.warehouse.postgres.connection import is_server
from sinks.warehouse.postgres.readiness import readiness_of
from sinks.warehouse.tables import tables_by_topic

_CONNECT_SECONDS = 5
_NO_WAREHOUSE = "leads wait in Kafka, and analysts see old ones"


async def verdicts_here(
    settings: Settings,
    stages: Mapping[str, str],
    http: httpx.AsyncClient,
    registry_transport: httpx.AsyncBaseTransport | None = None,
) -> list[Verdict]:
    """Every verdict that can be given of what this deployment stands on; `stages` are URLs of admin ports by name."""
    try:
        broker = known_broker(settings)
        kafka = await examine_kafka(settings, broker)
    except SettingError as fault:
        broker, kafka = None, [Verdict("kafka", "kafka", "broken", str(fault), NO_KAFKA, "see docs/configuration.md")]
    registry = await examine_registry(settings, registry_transport)
    running = await examine_stages(settings, stages, http, broker)
    requests = await examine_requests(settings, broker, [*kafka, registry])
    aside = await examine_set_aside(settings, broker, kafka)
    disk = examine_disk(settings)
    return [*kafka, registry, await asyncio.to_thread(_warehouse, settings), *disk, *running, *requests, *aside]


async def mend_here(settings: Settings, verdicts: Collection[Verdict]) -> Mending:
    """Create and repair topics, and register schemas, where these verdicts found them wanting."""
    broken = {verdict.check for verdict in verdicts if verdict.standing == "broken"}
    mending = Mending()
    if broken & {"topics", "replay promise", "power cut"} and (broker := known_broker(settings)) is not None:
        await mending.attempt("the topics", mend_topics(broker, settings))
    if "schemas" in broken and settings.schema_registry_url:
        await mending.attempt("the schemas", _register(settings))
    return mending


async def _register(settings: Settings) -> list[str]:
    async with registry_client(settings) as registry:
        await registry_ids(registry, settings.topic_prefix)
    return ["registered our schemas"]


def _warehouse(settings: Settings) -> Verdict:
    """Whether the sink could write there now."""
    url = settings.warehouse
    path = local_path(url)
    if is_server(url):
        return _server(settings)
    if path is None:
        return Verdict("warehouse", "warehouse", "warning", "object storage, which is not looked at from here")
    fault = _path_fault(path)
    if fault is None:
        return Verdict("warehouse", "warehouse", "ok", "can be reached")
    return Verdict("warehouse", "warehouse", "broken", fault, _NO_WAREHOUSE, "look at LEADSTREAM_WAREHOUSE")


def _server(settings: Settings) -> Verdict:
    try:
        found = readiness_of(settings.warehouse, tables_by_topic(settings.topic))
    except Unusable as fault:
        seen, _, mend = str(fault).partition("; ")
        mend = mend or "look at LEADSTREAM_WAREHOUSE and its server"
        return Verdict("warehouse", "warehouse", "broken", seen, _NO_WAREHOUSE, mend)
    if found.lacks is not None:
        mend = "docs/warehouse.md lists what the role needs"
        return Verdict("warehouse", "warehouse", "broken", f"the sink needs {found.lacks}", _NO_WAREHOUSE, mend)
    if found.readable_at is not None:
        seen, breaks = f"no TLS on the way to {found.readable_at}", "others on the way can read passwords and leads"
        mend = "add sslmode=verify-full and sslrootcert to LEADSTREAM_WAREHOUSE, see docs/warehouse.md"
        return Verdict("warehouse", "warehouse", "warning", f"can be written to; {seen}", breaks, mend)
    return Verdict("warehouse", "warehouse", "ok", f"can be written to, UTF8; {found.tables}")


def _path_fault(path: Path) -> str | None:
    try:
        there = next(one for one in (path, *path.absolute().parents) if one.exists())
    except OSError as fault:
        return f"{path}: {fault.strerror}"
    if not there.is_dir():
        return f"{there} is not a directory"
    return None if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written to"
