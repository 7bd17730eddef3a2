"""The prerequisites on our side, checked: Kafka and its topics, the schema registry, the warehouse."""

import asyncio
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import httpx

from operations.deployment import Deployment, find_broker, find_ids
from operations.doctor.deletion_requests import examine_requests
from operations.doctor.disk import examine_disk
from operations.doctor.kafka import NO_KAFKA, examine_kafka, mend_topics
from operations.doctor.mending import Mending
from operations.doctor.registry import examine_registry
from operations.doctor.set_aside import examine_set_aside
from operations.doctor.stages import examine_stages
from operations.doctor.verdicts import Verdict
from runtime.settings import SettingError, Settings
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
    """Every verdict on the services of this deployment; `stages` are URLs of admin ports by name."""
    deployment = None
    try:
        broker = find_broker(settings)
        deployment = None if broker is None else Deployment(settings, broker)
        kafka = await examine_kafka(deployment)
    except SettingError as fault:
        kafka = [Verdict("kafka", "kafka", "broken", str(fault), NO_KAFKA, "see docs/configuration.md")]
    registry = await examine_registry(settings, registry_transport)
    running = await examine_stages(settings, stages, http, deployment.broker if deployment else None)
    requests = await examine_requests(deployment, [*kafka, registry])
    aside = await examine_set_aside(deployment, kafka)
    disk = examine_disk(settings)
    return [*kafka, registry, await asyncio.to_thread(_warehouse, settings), *disk, *running, *requests, *aside]


async def mend_here(settings: Settings, verdicts: Collection[Verdict]) -> Mending:
    """Create and repair topics, and register schemas, where these verdicts are broken."""
    broken = {verdict.check for verdict in verdicts if verdict.standing == "broken"}
    mending = Mending()
    if broken & {"topics", "replay promise", "power cut"} and (broker := find_broker(settings)) is not None:
        await mending.attempt("the topics", mend_topics(Deployment(settings, broker)))
    if "schemas" in broken and settings.schema_registry_url:
        await mending.attempt("the schemas", _register(settings))
    return mending


async def _register(settings: Settings) -> list[str]:
    await find_ids(settings)
    return ["registered our schemas"]


def _warehouse(settings: Settings) -> Verdict:
    """Whether the sink could write there now."""
    url = settings.warehouse
    path = local_path(url)
    if is_server(url):
        return _server(settings)
    if path is None:
        return Verdict("warehouse", "warehouse", "warning", "object storage, which is not checked from here")
    fault = _path_fault(path)
    if fault is None:
        return Verdict("warehouse", "warehouse", "ok", "can be reached")
    return Verdict("warehouse", "warehouse", "broken", fault, _NO_WAREHOUSE, "look at LEADSTREAM_WAREHOUSE")


def _server(settings: Settings) -> Verdict:
    try:
        readiness = readiness_of(settings.warehouse, tables_by_topic(settings.topic))
    except Unusable as fault:
        seen, _, mend = str(fault).partition("; ")
        mend = mend or "look at LEADSTREAM_WAREHOUSE and its server"
        return Verdict("warehouse", "warehouse", "broken", seen, _NO_WAREHOUSE, mend)
    if readiness.lacks is not None:
        mend = "docs/warehouse.md lists what the role needs"
        return Verdict("warehouse", "warehouse", "broken", f"the sink needs {readiness.lacks}", _NO_WAREHOUSE, mend)
    if readiness.readable_at is not None:
        seen, breaks = (
            f"no TLS on the way to {readiness.readable_at}",
            "others on the network can read passwords and leads",
        )
        mend = "add sslmode=verify-full and sslrootcert to LEADSTREAM_WAREHOUSE, see docs/warehouse.md"
        return Verdict("warehouse", "warehouse", "warning", f"can be written to; {seen}", breaks, mend)
    return Verdict("warehouse", "warehouse", "ok", f"can be written to, UTF8; {readiness.tables}")


def _path_fault(path: Path) -> str | None:
    try:
        there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    except OSError as fault:
        return f"{path}: {fault.strerror}"
    if not there.is_dir():
        return f"{there} is not a directory"
    return None if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written to"
