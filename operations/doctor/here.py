"""The prerequisites on our side, checked: Kafka and its topics, the schema registry, the warehouse, the disks."""

import asyncio
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import httpx

from operations.deployment import Deployment, find_broker
from operations.doctor.conversions import examine_conversions
from operations.doctor.kafka import examine_kafka, examine_requests, examine_set_aside, mend_topics
from operations.doctor.meta import Repairs
from operations.doctor.registry import examine_registry
from operations.doctor.stages import examine_stages
from operations.doctor.verdicts import Verdict, any_broken, broken, ok, warning
from operations.doctor.waits import examine_rules
from runtime.settings import SettingError, Settings
from schemas.registry_client import find_ids
from sinks.consume import Unusable
from sinks.warehouse.delta.files import local_path
from sinks.warehouse.postgres.connection import is_server
from sinks.warehouse.postgres.readiness import readiness_of
from sinks.warehouse.tables import tables_by_topic

_MEGABYTE = 1024 * 1024
_SOON_FULL = 2048 * _MEGABYTE
_FULL = 256 * _MEGABYTE


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
        kafka = [broken("kafka", "kafka", str(fault), mend="see docs/configuration.md")]
    registry = await examine_registry(settings, registry_transport)
    running = await examine_stages(settings, stages, http, deployment.broker if deployment else None)
    requests = await examine_requests(deployment, [*kafka, registry])
    aside = await examine_set_aside(deployment, kafka)
    rules = await examine_rules(settings, deployment, [*kafka, registry])
    conversions = await examine_conversions(deployment, [*kafka, registry])
    disks = examine_disks(settings)
    warehouse = await asyncio.to_thread(_warehouse, settings)
    return [*kafka, registry, warehouse, *disks, *running, *rules, *conversions, *requests, *aside]


def repairs_here(settings: Settings, verdicts: Collection[Verdict]) -> Repairs:
    """Create and repair topics, and register schemas, where these verdicts are broken."""
    broker = find_broker(settings) if any_broken(verdicts, "topics", "replay promise", "power cut") else None
    if broker is not None:
        yield "the topics", mend_topics(Deployment(settings, broker))
    if any_broken(verdicts, "schemas") and settings.schema_registry_url:
        yield "the schemas", _register(settings)


async def _register(settings: Settings) -> list[str]:
    await find_ids(settings)
    return ["registered our schemas"]


def _warehouse(settings: Settings) -> Verdict:
    """Whether the sink could write there now."""
    path = local_path(settings.warehouse)
    if is_server(settings.warehouse):
        return _server(settings)
    if path is None:
        return Verdict("warehouse", "warehouse", "warning", "object storage, which is not checked from here")
    fault = _path_fault(path)
    return ok("warehouse", "warehouse", "can be reached") if fault is None else broken("warehouse", "warehouse", fault)


def _server(settings: Settings) -> Verdict:
    check = place = "warehouse"
    try:
        readiness = readiness_of(settings.warehouse, tables_by_topic(settings.topic))
    except Unusable as fault:
        seen, _, mend = str(fault).partition("; ")
        return broken(check, place, seen, mend=mend or "look at LEADSTREAM_WAREHOUSE and its server")
    if readiness.lacks is not None:
        mend = "docs/warehouse.md lists what the role needs"
        return broken(check, place, f"the sink needs {readiness.lacks}", mend=mend)
    if readiness.readable_at is not None:
        seen = f"can be written to; no TLS on the way to {readiness.readable_at}"
        breaks = "others on the network can read passwords and leads"
        mend = "add sslmode=verify-full and sslrootcert to LEADSTREAM_WAREHOUSE, see docs/warehouse.md"
        return warning(check, place, seen, breaks=breaks, mend=mend)
    return ok(check, place, f"can be written to, UTF8; {readiness.tables}")


def _path_fault(path: Path) -> str | None:
    try:
        there = _nearest(path)
    except OSError as fault:
        return f"{path}: {fault.strerror}"
    if not there.is_dir():
        return f"{there} is not a directory"
    return None if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written to"


def _nearest(path: Path) -> Path:
    """The path, or the nearest directory above it that exists."""
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())


def examine_disks(settings: Settings) -> list[Verdict]:
    """A verdict for each directory of this deployment on this machine; directories on one disk share a verdict."""
    disks: dict[int, tuple[list[str], Path]] = {}
    for name, path in _directories(settings):
        there = _nearest(path)
        disks.setdefault(there.stat().st_dev, ([], there))[0].append(name)
    return [disk_verdict(", ".join(names), shutil.disk_usage(there).free) for names, there in disks.values()]


def disk_verdict(place: str, free: int) -> Verdict:
    judge = ok if free >= _SOON_FULL else broken if free < _FULL else warning
    return judge("disk", place, f"{free // _MEGABYTE} MB free")


def _directories(settings: Settings) -> Iterator[tuple[str, Path]]:
    yield "state", settings.state_dir
    yield "spool", settings.spool_dir or settings.state_dir / "spool"
    warehouse = None if is_server(settings.warehouse) else local_path(settings.warehouse)
    if warehouse is not None:
        yield "warehouse", warehouse
