"""Ask Kafka regularly, so that a sink's readiness and lag are never those of its last answer."""

import asyncio
from collections.abc import Mapping
from math import nan

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from runtime.clock import now
from runtime.health import Health
from runtime.lateness import Lateness
from runtime.metrics import Metrics

PART = "kafka"


async def watch_kafka(
    consumer: AIOKafkaConsumer,
    positions: Mapping[TopicPartition, int],
    lateness: Lateness,
    *,
    metrics: Metrics,
    health: Health,
    every: float = 5.0,
    within: float = 5.0,
) -> None:
    """Ask the leaders for the log ends of `positions`, and the coordinator for the group's offsets, until cancelled.

    An answer that takes longer than `within` seconds makes the part `kafka` not ready and the lag unknown (NaN).
    `lateness` is told where nothing is left; a partition of the consumer without a position is late all the same.
    """
    while True:
        held, asked_at = list(positions), now()
        try:
            async with asyncio.timeout(within):
                ends = await _ends(consumer, held)
        except (KafkaError, TimeoutError) as fault:
            silent = isinstance(fault, TimeoutError)
            seen = f"no answer within {within:g} s" if silent else f"refuses: {type(fault).__name__}"
            health.report(PART, ready=False, seen=seen)
            lags = dict.fromkeys(positions, nan)
            seconds = dict.fromkeys(consumer.assignment(), nan)
        else:
            health.report(PART, ready=True)
            lags = {
                partition: max(ends[partition] - position, 0)
                for partition, position in positions.items()
                if partition in ends
            }
            for partition, lag in lags.items():
                if lag == 0:
                    lateness.note(partition, asked_at)
            lateness.keep(consumer.assignment())
            seconds = {partition: lateness.seconds(partition, asked_at) for partition in consumer.assignment()}
        metrics.consumer_lag.clear()
        for partition, lag in lags.items():
            metrics.consumer_lag.labels(partition.topic, partition.partition).set(lag)
        metrics.consumer_lag_seconds.clear()
        for partition, age in seconds.items():
            metrics.consumer_lag_seconds.labels(partition.topic, partition.partition).set(age)
        await asyncio.sleep(every)


async def _ends(consumer: AIOKafkaConsumer, held: list[TopicPartition]) -> Mapping[TopicPartition, int]:
    if not held:
        await consumer.topics()
        return {}
    await consumer.committed(held[0])
    ends: Mapping[TopicPartition, int] = await consumer.end_offsets(held)
    return ends
