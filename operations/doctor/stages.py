"""The running stages, checked through their admin ports: readiness, spool, restarts and lag."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import httpx
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client.parser import text_string_to_metric_families

from operations.doctor.verdicts import Verdict, broken, ok, warning
from operations.local.stack import CANARY_PORT, STAGES, admin_url
from operations.local.state_lock import is_held
from operations.local.supervision import noted_restarts
from runtime import kafka
from runtime.clock import from_millis, now
from runtime.cluster import Cluster
from runtime.settings import Settings

_SECONDS = 5
_READ_SECONDS = 10
_SPOOL_PARTS = ("spool", "refused")
_LAG = "leadstream_consumer_lag"


@dataclass(frozen=True, slots=True)
class _Readiness:
    """The answer of `/readyz`: per worker its parts, each with whether it works and what was seen."""

    ready: bool
    workers: Sequence[Mapping[str, tuple[bool, str]]]

    def faults(self) -> list[str]:
        return [f"{part}: {seen}" for parts in self.workers for part, (works, seen) in parts.items() if not works]


async def examine_stages(
    settings: Settings, stages: Mapping[str, str], http: httpx.AsyncClient, broker: Cluster | None = None
) -> list[Verdict]:
    """Verdicts on the named stages; without any, on those of the `leadstream up` in this state directory.

    Without that either, on the spool of an ingest on this machine, and none if it does not answer.
    """
    is_up = not stages and is_held(settings.state_dir, "up")
    if is_up:
        stages = {"-".join(stage): admin_url(settings, stage[-1], "") for stage in (("ingest",), *STAGES)}
        if settings.canary:
            stages["canary"] = settings.admin_url(settings.admin_port + CANARY_PORT)
    elif not stages:
        return _spool_verdicts(await _ask(settings.admin_url(settings.admin_port), http))
    verdicts = [_restarts_verdict(noted_restarts(settings.state_dir))] if is_up else []
    for name, url in stages.items():
        readiness = await _ask(url, http)
        verdicts.append(_stage_verdict(name, url, readiness))
        verdicts += await _lag_verdicts(name, url, broker, http)
        if name == "ingest":
            verdicts += _spool_verdicts(readiness)
    return verdicts


async def _ask(url: str, http: httpx.AsyncClient) -> _Readiness | None:
    """None when the admin port gives no usable answer."""
    try:
        answer = (await http.get(f"{url}/readyz", timeout=_SECONDS)).json()
        workers = [worker.get("parts", {}) for worker in answer.get("workers", [answer])]
        parts = [{part: (bool(it["ready"]), str(it["seen"])) for part, it in worker.items()} for worker in workers]
        return _Readiness(bool(answer.get("ready")), parts)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        return None


def _stage_verdict(name: str, url: str, readiness: _Readiness | None) -> Verdict:
    if readiness is None:
        return broken("stage", name, f"{url} does not answer")
    if readiness.ready:
        return ok("stage", name, "ready")
    return broken("stage", name, "; ".join(readiness.faults()) or "not ready")


def _restarts_verdict(restarts: Mapping[str, int]) -> Verdict:
    """Processes that ended run again by now; one that does not has a verdict as a stage."""
    restarted = ", ".join(f"{name} {count}" for name, count in restarts.items() if count)
    return warning("restarts", "up", restarted) if restarted else ok("restarts", "up", "none")


def _spool_verdicts(readiness: _Readiness | None) -> list[Verdict]:
    workers = [parts for parts in readiness.workers if parts.keys() >= set(_SPOOL_PARTS)] if readiness else []
    if not workers:
        return []
    full, refused = ([parts[name][1] for parts in workers if not parts[name][0]] for name in _SPOOL_PARTS)
    if full:
        return [broken("spool", "ingest", "; ".join(full))]
    if refused:
        breaks = "Kafka refuses these webhooks, and they become no leads"
        mend = "`leadstream topics apply`, see operating.md"
        return [broken("spool", "ingest", "; ".join(refused), breaks=breaks, mend=mend)]
    return [ok("spool", "ingest", "holds webhooks while Kafka is away")]


async def _lag_verdicts(name: str, url: str, broker: Cluster | None, http: httpx.AsyncClient) -> list[Verdict]:
    """How many records the stage has yet to read, and how old the oldest is; none where it shows no lag metric.

    Lag breaks nothing.
    """
    try:
        lags = lags_in((await http.get(f"{url}/metrics", timeout=_SECONDS)).text)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return []
    if not lags:
        return []
    behind = {partition: lag for partition, lag in lags.items() if lag}
    if not behind:
        return [ok("lag", name, "none")]
    oldest = None if broker is None else await _oldest(broker, behind)
    age = "of unknown age" if oldest is None else f"the oldest {(now() - oldest).total_seconds():.0f} s old"
    return [ok("lag", name, f"{sum(behind.values())} records, {age}")]


def lags_in(metrics: str) -> dict[TopicPartition, int]:
    """The lag of each partition in a page of metrics, without those that are unknown. Raises `ValueError`."""
    return {
        TopicPartition(sample.labels["topic"], int(sample.labels["partition"])): int(sample.value)
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == _LAG and not math.isnan(sample.value)
    }


async def _oldest(broker: Cluster, behind: Mapping[TopicPartition, int]) -> datetime | None:
    """When the oldest unread record was written; None where Kafka does not answer."""
    try:
        async with asyncio.timeout(_READ_SECONDS):
            written = [await _written(broker, partition, lag) for partition, lag in behind.items()]
    except (KafkaError, TimeoutError):
        return None
    return min((at for at in written if at is not None), default=None)


async def _written(broker: Cluster, partition: TopicPartition, lag: int) -> datetime | None:
    consumer = kafka.consumer(broker, group=None, client_id="leadstream-doctor")
    try:
        await consumer.start()
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, max(0, end - lag))
        records = await consumer.getmany(partition, timeout_ms=1000, max_records=1)
        return next((from_millis(record.timestamp) for record in records.get(partition, [])), None)
    finally:
        await kafka.leave(consumer, 1)
