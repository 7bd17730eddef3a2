"""Reading and writing whole topics of a real Kafka."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from runtime import kafka
from runtime.cluster import cluster_of
from runtime.settings import Settings
from runtime.topic_reading import records_now


def environ_of(settings: Settings) -> dict[str, str]:
    """The variables with which a program comes to the topics of these settings."""
    return {"LEADSTREAM_BROKER": str(settings.broker), "LEADSTREAM_TOPIC_PREFIX": settings.topic_prefix}


@asynccontextmanager
async def connected(client: Any) -> AsyncIterator[Any]:
    """An aiokafka client, started and stopped, also one that could not be started."""
    try:
        await client.start()
        yield client
    finally:
        await client.stop()


async def records_of(settings: Settings, topic: str) -> list[Any]:
    """All records of a topic, each partition in its order."""
    return [record async for record in records_now(cluster_of(settings), [topic], client_id="test")]


async def put(settings: Settings, topic: str, *records: tuple[bytes | None, bytes | None]) -> None:
    """Write keys and values, and wait until they are durable."""
    async with connected(kafka.producer(cluster_of(settings), client_id="test")) as producer:
        for key, value in records:
            await producer.send(topic, value, key=key)
        await producer.flush()
