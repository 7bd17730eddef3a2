"""Kafka in a container, for machines that have a Docker engine and the image."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from string import Template

import docker  # type: ignore[import-untyped]
from docker.errors import DockerException  # type: ignore[import-untyped]
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from runtime.cluster import Cluster
from runtime.local_kafka.jars import kafka_version
from runtime.local_kafka.node import answers

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
    container = DockerContainer(_IMAGE, env=settings(broker)).with_bind_ports(9092, port)
    with container:
        deadline = time.monotonic() + 60
        while not asyncio.run(answers(Cluster(broker))):
            assert time.monotonic() < deadline, "the container's Kafka does not answer"
            time.sleep(0.1)
        yield broker


def settings(broker: str) -> dict[str, str]:
    """Those of `runtime/local_kafka/node.properties`, in the image's spelling, with the addresses of a container."""
    template = (files("runtime.local_kafka") / "node.properties").read_text()
    text = Template(template).substitute(port=9092, controller_port=9093, data="/var/lib/kafka/data")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    local = {_variable(name): value for name, value in (line.split("=", 1) for line in lines)}
    return {
        **local,
        "KAFKA_LISTENERS": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{broker}",
    }


def _variable(name: str) -> str:
    # https://github.com/apache/kafka/blob/trunk/docker/examples/README.md
    return "KAFKA_" + name.upper().replace("-", "___").replace("_", "__").replace(".", "_")
