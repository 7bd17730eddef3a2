"""Reading and writing whole topics of a real Kafka."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition

from runtime import kafka
from runtime.cluster import cluster_of
from runtime.settings import Settings


@asynccontextmanager
async def connected(client: Any) -> AsyncIterator[Any]:
    """An aiokafka client, started and stopped."""
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def records_of(settings: Settings, topic: str) -> list[Any]:
    """All records of a topic, each partition in its order."""
    async with connected(kafka.consumer(cluster_of(settings), group=None, client_id="test")) as reader:
        partitions = [TopicPartition(topic, one) for one in range(settings.partitions)]
        reader.assign(partitions)
        ends = await reader.end_offsets(partitions)
        found: list[Any] = []
        while any([await reader.position(one) < end for one, end in ends.items()]):
            for records in (await reader.getmany(timeout_ms=100)).values():
                found += records
        return found


async def put(settings: Settings, topic: str, *records: tuple[bytes | None, bytes | None]) -> None:
    """Write keys and values, and wait until they are durable."""
    async with connected(kafka.producer(cluster_of(settings), client_id="test")) as producer:
        for key, value in records:
            await producer.send(topic, value, key=key)
        await producer.flush()
