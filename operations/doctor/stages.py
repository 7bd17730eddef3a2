"""The running stages, checked through their admin ports: readiness, spool, restarts and lag."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import httpx
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client.samples import Sample

from operations.doctor.verdicts import Verdict, broken, ok, warning
from operations.local.state_lock import is_held
from operations.local.supervision import noted_restarts
from operations.stage_states import Readiness, lags_in, readiness_of, samples_of, stages_of_up
from runtime import kafka
from runtime.clock import from_millis, now
from runtime.cluster import Cluster
from runtime.settings import Settings

_READ_SECONDS = 10
_SPOOL_PARTS = ("spool", "refused")
_DESTINATION = "leadstream_destination_"
# A destination may be away for a night; after this it needs a person.
_FAILS_FOR = timedelta(days=1)


async def examine_stages(
    settings: Settings, stages: Mapping[str, str], http: httpx.AsyncClient, broker: Cluster | None = None
) -> list[Verdict]:
    """Verdicts on the named stages; without any, on those of the `leadstream up` in this state directory.

    Without that either, on the spool of an ingest on this machine, and none if it does not answer.
    """
    is_up = not stages and is_held(settings.state_dir, "up")
    if is_up:
        stages = stages_of_up(settings)
    elif not stages:
        return _spool_verdicts(await readiness_of(settings.admin_url(settings.admin_port), http))
    verdicts = [_restarts_verdict(noted_restarts(settings.state_dir))] if is_up else []
    for name, url in stages.items():
        readiness = await readiness_of(url, http)
        verdicts.append(_stage_verdict(name, url, readiness))
        samples = await samples_of(url, http)
        verdicts += await _lag_verdicts(name, samples, broker)
        verdicts += destination_verdicts(samples, now())
        if name == "ingest":
            verdicts += _spool_verdicts(readiness)
    return verdicts


def _stage_verdict(name: str, url: str, readiness: Readiness | None) -> Verdict:
    if readiness is None:
        return broken("stage", name, f"{url} does not answer")
    if readiness.ready:
        return ok("stage", name, "ready")
    return broken("stage", name, "; ".join(readiness.faults()) or "not ready")


def _restarts_verdict(restarts: Mapping[str, int]) -> Verdict:
    """Processes that ended run again by now; one that does not has a verdict as a stage."""
    restarted = ", ".join(f"{name} {count}" for name, count in restarts.items() if count)
    return warning("restarts", "up", restarted) if restarted else ok("restarts", "up", "none")


def _spool_verdicts(readiness: Readiness | None) -> list[Verdict]:
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


def destination_verdicts(samples: Sequence[Sample], moment: datetime) -> list[Verdict]:
    """Whether the destinations of a stage take what is delivered; none where it has none."""
    values = {
        (sample.name.removeprefix(_DESTINATION), sample.labels["destination"]): sample.value
        for sample in samples
        if sample.name.startswith(_DESTINATION)
    }
    verdicts = []
    for name in sorted(name for what, name in values if what == "disabled"):
        failing = values.get(("failing_since", name), 0)
        since = datetime.fromtimestamp(failing, UTC)
        seen = f"it has taken nothing since {since:%Y-%m-%d %H:%M} UTC"
        if values["disabled", name]:
            verdicts.append(broken("destination", name, "disabled: by an operator, or it answered 410 Gone"))
        elif not failing:
            verdicts.append(ok("destination", name, "takes what is delivered"))
        else:
            verdicts.append((broken if moment - since >= _FAILS_FOR else warning)("destination", name, seen))
    return verdicts


async def _lag_verdicts(name: str, samples: Sequence[Sample], broker: Cluster | None) -> list[Verdict]:
    """How many records the stage has yet to read, and how old the oldest is; none where it shows no lag metric.

    Lag breaks nothing.
    """
    lags = lags_in(samples)
    if not lags:
        return []
    behind = {partition: lag for partition, lag in lags.items() if lag}
    if not behind:
        return [ok("lag", name, "none")]
    oldest = None if broker is None else await _oldest(broker, behind)
    age = "of unknown age" if oldest is None else f"the oldest {(now() - oldest).total_seconds():.0f} s old"
    return [ok("lag", name, f"{sum(behind.values())} records, {age}")]


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
