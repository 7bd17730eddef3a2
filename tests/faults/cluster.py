"""A Kafka cluster of three nodes on this machine, which can be killed, stopped and started one by one."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from runtime.local_kafka.jars import find_java, kafka_jars
from runtime.ports import free_ports

NODES = (1, 2, 3)
_READY_WITHIN = 90.0
_JVM_OPTIONS = (
    "-Xms64m",
    "-Xmx320m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xlog:disable",
    "-Xlog:all=error",
)
# Kafka's own defaults wherever a fault depends on them: a node that stands still is in sync for nine seconds more.
_PROPERTIES = """
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
"""


@dataclass(slots=True)
class Cluster:
    """Three nodes, each a broker and a controller, with their data in `home`."""

    home: Path
    ports: range = field(default_factory=lambda: _in_a_row(free_ports(2 * len(NODES))))
    _running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def broker(self) -> str:
        """All three, as LEADSTREAM_BROKER has them."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports[:3])

    def start(self, *nodes: int) -> None:
        """Start these nodes, formatting their data the first time; `ready` waits for them."""
        java, version = find_java(os.environ)
        jars = kafka_jars(os.environ, lambda _: None)
        classes = jars / f"loaded-{version}.jsa"
        shared = [f"-XX:SharedArchiveFile={classes}"] if classes.exists() else []
        program = [java, *shared, *_JVM_OPTIONS, f"-Dlog4j2.configurationFile={self._logging()}", "-cp", f"{jars}/*"]
        for node in nodes:
            with (self.home / f"kafka-{node}.log").open("ab") as log:
                config = self._configured(node, program)
                self._running[node] = subprocess.Popen(
                    [*program, "kafka.Kafka", str(config)], stdout=log, stderr=log, start_new_session=True
                )

    async def ready(self) -> None:
        """Wait until every running node takes part, and every partition has all of them in sync again."""
        deadline = time.monotonic() + _READY_WITHIN
        while not await self._in_sync():
            assert time.monotonic() < deadline, "the cluster is not in sync"
            assert all(process.poll() is None for process in self._running.values()), "a node has ended"
            await asyncio.sleep(0.2)

    async def _in_sync(self) -> bool:
        return all([await self._sees_all_in_sync(node) for node in self._running])

    async def _sees_all_in_sync(self, node: int) -> bool:
        # Each is asked itself: of one that has just been killed the others know nothing for a while.
        try:
            async with admin_of(f"127.0.0.1:{self.ports[node - 1]}") as admin:
                brokers = {broker["node_id"] for broker in (await admin.describe_cluster())["brokers"]}
                topics = await admin.describe_topics()
        except KafkaError:
            return False
        partitions = [partition for topic in topics for partition in topic["partitions"]]
        behind = [
            partition
            for partition in partitions
            if set(partition["replicas"]) & brokers != set(partition["isr"]) or partition["leader"] < 0
        ]
        return brokers == set(self._running) and not behind

    def kill(self, node: int) -> None:
        """As `kill -9` does it."""
        ending = self._running.pop(node)
        ending.kill()
        ending.wait()

    def freeze(self, node: int) -> None:
        self._running[node].send_signal(signal.SIGSTOP)

    def thaw(self, node: int) -> None:
        self._running[node].send_signal(signal.SIGCONT)

    def kill_all(self) -> None:
        for node in list(self._running):
            self.thaw(node)
            self.kill(node)

    def _configured(self, node: int, program: list[str]) -> Path:
        config, data = self.home / f"node-{node}.properties", self.home / f"data-{node}"
        controllers = self.ports[3:]
        voters = ",".join(f"{node_id}@127.0.0.1:{port}" for node_id, port in zip(NODES, controllers, strict=True))
        config.write_text(
            _PROPERTIES.format(
                node=node, voters=voters, port=self.ports[node - 1], controller_port=controllers[node - 1], data=data
            )
        )
        if not (data / "meta.properties").exists():
            tool = ["kafka.tools.StorageTool", "format", "--cluster-id", self._id(), "--config", str(config)]
            subprocess.run([*program, *tool], capture_output=True, check=True)
        return config

    def _id(self) -> str:
        kept = self.home / "cluster.json"
        if not kept.exists():
            kept.write_text(json.dumps("L" + secrets.token_urlsafe(16)[1:]))
        return str(json.loads(kept.read_text()))

    def _logging(self) -> Path:
        config = self.home / "log4j2.xml"
        config.write_text((files("runtime.local_kafka") / "node.log4j2.xml").read_text())
        return config


def _in_a_row(first: int) -> range:
    return range(first, first + 2 * len(NODES))


@asynccontextmanager
async def three_brokers(home: Path) -> AsyncIterator[Cluster]:
    """A cluster that answers; killed in the end."""
    cluster = Cluster(home)
    try:
        cluster.start(*NODES)
        await cluster.ready()
        yield cluster
    finally:
        cluster.kill_all()


@asynccontextmanager
async def admin_of(broker: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker, request_timeout_ms=5_000)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
