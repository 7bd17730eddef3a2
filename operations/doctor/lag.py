"""The lag of a stage: how many records it has yet to read, and how old the oldest is."""

import asyncio
import math
from collections.abc import Mapping
from datetime import datetime

import httpx
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client.parser import text_string_to_metric_families

from operations.doctor.verdicts import Verdict
from runtime import kafka
from runtime.clock import from_millis
from runtime.cluster import Cluster

_SECONDS = 5
_READ_SECONDS = 10
_CLIENT = "leadstream-doctor"
_METRIC = "leadstream_consumer_lag"


async def examine_lag(
    name: str, url: str, broker: Cluster | None, http: httpx.AsyncClient, now: datetime
) -> list[Verdict]:
    """A verdict on the lag of the stage with this admin port; none where it shows no lag metric. Lag breaks nothing."""
    try:
        lags = lags_in((await http.get(f"{url}/metrics", timeout=_SECONDS)).text)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return []
    if not lags:
        return []
    behind = {partition: lag for partition, lag in lags.items() if lag}
    if not behind:
        return [Verdict("lag", name, "ok", "none")]
    oldest = None if broker is None else await _oldest(broker, behind)
    age = "of unknown age" if oldest is None else f"the oldest {(now - oldest).total_seconds():.0f} s old"
    return [Verdict("lag", name, "ok", f"{sum(behind.values())} records, {age}")]


def lags_in(metrics: str) -> dict[TopicPartition, int]:
    """The lag of each partition in a page of metrics, without those that are unknown. Raises `ValueError`."""
    return {
        TopicPartition(sample.labels["topic"], int(sample.labels["partition"])): int(sample.value)
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == _METRIC and not math.isnan(sample.value)
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
    consumer = kafka.consumer(broker, partition.topic, group=None, client_id=_CLIENT)
    try:
        await consumer.start()
        others = consumer.assignment() - {partition}
        consumer.pause(*others)
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, max(0, end - lag))
        records = await consumer.getmany(partition, timeout_ms=1000, max_records=1)
        return next((from_millis(record.timestamp) for record in records.get(partition, [])), None)
    finally:
        await kafka.leave(consumer, 1)
