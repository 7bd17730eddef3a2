"""Sinks as processes of their own, which die at named points, and what their group has committed."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiokafka import TopicPartition

from runtime import kafka
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.topics import Topic
from tests.faults.lab import REPO
from tests.faults.rig import SendJob
from tests.integration.topics import connected

PAGES = 100
FAILPOINTS = [
    f"{when}-{what}" for what in ("fence", "attempting", "call", "sent", "commit") for when in ("before", "after")
]
HOUR = 3600.0


@dataclass(slots=True)
class Fleet:
    """The workers of one module."""

    job: SendJob
    logs: Path
    module: str
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, *, failpoint: str = "", ahead: float = 0.0) -> asyncio.subprocess.Process:
        job = replace(self.job, failpoint=failpoint, ahead=ahead)
        arguments = [f"--{name}={getattr(job, name)}" for name in SendJob.__dataclass_fields__]
        with (self.logs / f"worker-{len(self.started)}.log").open("wb") as log:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self.module, *arguments, cwd=REPO, stdout=log, stderr=log
            )
        self.started.append(worker)
        return worker

    async def end(self) -> None:
        for worker in self.started:
            if worker.returncode is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            await worker.wait()


@asynccontextmanager
async def fleet_on(
    settings: Settings, graph_port: int, logs: Path, module: str = "tests.faults.send_worker"
) -> AsyncIterator[Fleet]:
    job = SendJob(
        str(settings.broker), settings.topic_prefix, settings.partitions, f"http://127.0.0.1:{graph_port}", PAGES
    )
    fleet = Fleet(job, logs, module)
    try:
        yield fleet
    finally:
        await fleet.end()


async def all_is_committed(settings: Settings, group: str, *topics: Topic) -> bool:
    """Whether the group has finished all that the topics have now."""
    group = f"{settings.topic_prefix}{group}"
    async with connected(kafka.consumer(cluster_of(settings), group=group, client_id="test")) as consumer:
        partitions = [
            TopicPartition(settings.topic(topic.name), number)
            for topic in topics
            for number in range(settings.partitions)
        ]
        ends = await consumer.end_offsets(partitions)
        return all([(await consumer.committed(place) or 0) == end for place, end in ends.items()])
