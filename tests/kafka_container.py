"""Kafka in a container, for machines that have a Docker engine and the image."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import docker  # type: ignore[import-untyped]
from docker.errors import DockerException  # type: ignore[import-untyped]
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from runtime.cluster import Cluster
from runtime.kafka_jars import kafka_version
from runtime.kafka_node import answers

_IMAGE = f"apache/kafka:{kafka_version()}"


def image_is_here() -> bool:
    """Whether a Docker engine runs and needs no download."""
    try:
        docker.from_env().images.get(_IMAGE)
    except DockerException:
        return False
    return True


@contextmanager
def run(port: int) -> Iterator[str]:
    """A Kafka in a container at `127.0.0.1:port`, ready when entered."""
    testcontainers_config.ryuk_disabled = True  # its image would be a download
    broker = f"127.0.0.1:{port}"
    container = DockerContainer(_IMAGE, env=_settings(broker)).with_bind_ports(9092, port)
    with container:
        deadline = time.monotonic() + 60
        while not asyncio.run(answers(Cluster(broker))):
            assert time.monotonic() < deadline, "the container's Kafka does not answer"
            time.sleep(0.1)
        yield broker


def _settings(broker: str) -> dict[str, str]:
    """As `runtime/kafka_node.properties`, in the image's spelling."""
    return {
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_NODE_ID": "1",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{broker}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
