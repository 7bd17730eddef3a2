"""What fault tests run on: a lab on the Kafka of the run, or a Kafka of their own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from operations.deployment import expected_topics
from runtime.cluster import Cluster
from runtime.local_kafka.node import KafkaNode
from runtime.ports import free_ports
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from tests.faults.lab import Lab, lab_on


@pytest.fixture
async def lab(kafka_broker: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Lab]:
    async with lab_on(kafka_broker, topic_prefix, tmp_path) as lab:
        yield lab


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[KafkaNode]:
    """A Kafka with every topic, which a test may stop and start."""
    node = KafkaNode(tmp_path, free_ports())
    broker = await asyncio.to_thread(node.start, lambda _: None)
    await apply_topics(Cluster(broker), expected_topics(Settings(broker=broker)))
    yield node
    await asyncio.to_thread(node.stop)
