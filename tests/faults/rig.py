"""A sink's clients with failpoints, which kill it at a named point, and a clock that may be wrong."""

import argparse
import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import httpx
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from messenger.client import GraphClient
from messenger.events import AppId, PageId
from messenger.graph import GraphRequest, GraphResponse
from runtime import kafka
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from schemas.codec import Codec
from schemas.topics import Topic
from sinks.consume import Consume, Source, Stage
from sinks.send.broker_clock import BrokerTime
from sinks.send.outcome_log import OutcomeLog
from tests.integration.topics import connected

OUR_APP = AppId("2262510160704936")
SESSION = 6.0


@dataclass(frozen=True, slots=True)
class SendJob:
    """`failpoint` is `<before|after>-<call|commit|a status>:<the how manieth>`; `ahead` how wrong the clock is."""

    broker: str
    prefix: str
    partitions: int
    graph_url: str
    pages: int
    failpoint: str = ""
    ahead: float = 0.0


def page_of(number: int) -> PageId:
    return PageId(f"5429{number:06}")


class Failpoint:
    """Kills the process, as kill -9 does, when it passes the named point often enough."""

    def __init__(self, told: str) -> None:
        self._name, _, count = told.partition(":")
        self._left = int(count or 0)

    def passing(self, name: str) -> None:
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class FailingLog(OutcomeLog):
    """A topic of outcomes with failpoints before and after each append."""

    def __init__(self, failpoint: Failpoint, codec: Codec[Any], *given: Any) -> None:
        super().__init__(*given)
        self._failpoint, self._codec = failpoint, codec

    async def append(self, partition: int, key: bytes, value: bytes | None) -> Awaitable[Any]:
        status = "fence" if value is None else self._codec.decode(value).status
        self._failpoint.passing(f"before-{status}")
        return self._ack(status, await super().append(partition, key, value))

    async def _ack(self, status: str, acked: Awaitable[Any]) -> Any:
        ack = await acked
        self._failpoint.passing(f"after-{status}")
        return ack


class FailingGraph(GraphClient):
    """The Graph API with failpoints before and after each call to `edge`."""

    def __init__(self, failpoint: Failpoint, edge: str, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._failpoint, self._edge = failpoint, edge

    async def call(
        self, request: GraphRequest, token: str, *, may_leave: Callable[[], bool] | None = None
    ) -> GraphResponse:
        if not request.path.endswith(f"/{self._edge}"):
            return await super().call(request, token)
        self._failpoint.passing("before-call")
        response = await super().call(request, token, may_leave=may_leave)
        self._failpoint.passing("after-call")
        return response


@dataclass(frozen=True, slots=True)
class Rig:
    """What the sink called `name` works with; `reader` belongs to no group."""

    name: str
    job: SendJob
    stop: asyncio.Event
    settings: Settings
    failpoint: Failpoint
    producer: AIOKafkaProducer
    reader: AIOKafkaConsumer
    consumer: AIOKafkaConsumer
    http: httpx.AsyncClient
    clock: BrokerTime
    metrics: Metrics

    def topic(self, topic: Topic) -> str:
        return self.settings.topic(topic.name)

    def log(self, topic: Topic, codec: Codec[Any]) -> FailingLog:
        return FailingLog(self.failpoint, codec, self.topic(topic), self.reader, self.producer)

    def graph(self, edge: str, timeout: timedelta) -> FailingGraph:
        return FailingGraph(self.failpoint, edge, self.job.graph_url, "v25.0", self.http, None, timeout=timeout)

    async def consume(self, sources: Mapping[str, Source[Any]], sink: Stage[Any]) -> None:
        """Until SIGTERM."""
        options: dict[str, Any] = {"metrics": self.metrics, "health": Health(), "reach": Reach(None)}
        await Consume(self.consumer, self.producer, sources, sink, name=self.name, **options).run(self.stop)


@asynccontextmanager
async def rigged(job: SendJob, name: str) -> AsyncIterator[Rig]:
    stop, cluster, failpoint = asyncio.Event(), Cluster(job.broker), Failpoint(job.failpoint)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    def wrong_clock() -> datetime:
        return now() + timedelta(seconds=job.ahead)

    async with AsyncExitStack() as stack:
        yield Rig(
            name,
            job,
            stop,
            Settings(broker=job.broker, topic_prefix=job.prefix, partitions=job.partitions),
            failpoint,
            await stack.enter_async_context(connected(kafka.producer(cluster, client_id=name, linger_ms=0))),
            await stack.enter_async_context(connected(kafka.consumer(cluster, group=None, client_id="ledger"))),
            await stack.enter_async_context(connected(failing_consumer(job, failpoint, name))),
            await stack.enter_async_context(httpx.AsyncClient()),
            BrokerTime(wrong_clock),
            Metrics(),
        )


def failing_consumer(job: SendJob, failpoint: Failpoint, name: str) -> Any:
    """The consumer of the group `name`, with failpoints before and after each commit."""
    consumer = kafka.consumer(
        Cluster(job.broker),
        group=f"{job.prefix}{name}",
        client_id=name,
        rebalance_timeout_ms=60_000,
        session_timeout_ms=int(SESSION * 1000),
        heartbeat_interval_ms=1000,
        partition_assignment_strategy=(RangePartitionAssignor,),
    )
    commit = consumer.commit

    async def failing_commit(offsets: Mapping[TopicPartition, int]) -> None:
        failpoint.passing("before-commit")
        await commit(offsets)
        failpoint.passing("after-commit")

    consumer.commit = failing_commit
    return consumer


def run(work: Callable[[SendJob], Coroutine[Any, Any, None]]) -> None:
    """Do the work of the job that the arguments say."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel("WARNING")
    parser = argparse.ArgumentParser()
    for field in fields(SendJob):
        parser.add_argument(f"--{field.name}", type=field.type)
    uvloop.run(work(SendJob(**vars(parser.parse_args()))))
