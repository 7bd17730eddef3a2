"""A producer that cannot flush is ended: it keeps nothing running, and sends nothing behind our back."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError

from ingest.publisher import Delivery, Publisher
from operations.deployment import expected_topics
from runtime import kafka
from runtime.clock import from_millis
from runtime.cluster import Cluster
from runtime.local_kafka.node import KafkaNode
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from schemas.topics import WEBHOOKS
from tests.conftest import free_port

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


async def test_what_an_abandoned_producer_held_does_not_come_when_kafka_is_back(tmp_path: Path) -> None:
    node = KafkaNode(tmp_path, free_port())
    broker = await asyncio.to_thread(node.start, print)
    settings = Settings(broker=broker, partitions=1)
    topic = settings.topic(WEBHOOKS.name)
    try:
        await apply_topics(Cluster(broker), expected_topics(settings))
        before = asyncio.all_tasks()
        publisher = Publisher(partial(kafka.producer, Cluster(broker), client_id="test-ingest"), topic)
        staying = asyncio.create_task(publisher.stay_connected())
        await (await publisher.send(a_delivery(b"acknowledged")))
        await asyncio.to_thread(node.stop)
        held = await publisher.send(a_delivery(b"held"))
        staying.cancel()
        await asyncio.wait([staying])

        assert isinstance(held.exception(), KafkaConnectionError)
        assert asyncio.all_tasks() == before
        await asyncio.to_thread(node.start, print)
        await asyncio.sleep(2)
        assert await everything(broker, topic) == [b"acknowledged", b"after"]
    finally:
        await asyncio.to_thread(node.stop)


def a_delivery(body: bytes) -> Delivery:
    return Delivery(body.decode(), from_millis(1), "sha256=0", body)


async def everything(broker: str, topic: str) -> list[bytes]:
    """What is in the topic up to a last record that is written now."""
    async with kafka.producer(Cluster(broker), client_id="test") as producer:
        await producer.send_and_wait(topic, b"after")
    consumer = kafka.consumer(Cluster(broker), topic, group=None, client_id="test")
    await consumer.start()
    found: list[bytes] = []
    try:
        async with asyncio.timeout(30):
            while not found or found[-1] != b"after":
                found.append((await consumer.getone()).value)
    finally:
        await consumer.stop()
    return found
