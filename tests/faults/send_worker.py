"""The send sink as the fault tests torment it: it kills itself at a named point, and its clock may be wrong.

Run as `python -m tests.faults.send_worker`; the arguments are the fields of `SendJob`.
"""

import argparse
import asyncio
import logging
import os
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import httpx
import uvloop
from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from leads.pages import Page, Pages
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
from schemas.codec import Codec, command_codec, event_codec, outcome_codec
from schemas.topics import COMMANDS, EVENTS, OUTCOMES
from sinks.consume import Consume, Source
from sinks.send.broker_clock import BrokerTime
from sinks.send.courier import Courier
from sinks.send.ledger import Ledger
from sinks.send.lookahead import Ahead
from sinks.send.outcome_log import OutcomeLog
from sinks.send.pace import SendLimits
from sinks.send.readers import Input, command_reader, event_reader
from sinks.send.sink import SendSink
from tests.integration.topics import connected
from tests.unit.sinks.fakes import JoinedUpToNow

OUR_APP = AppId("2262510160704936")
SESSION = 6.0
LIMITS = SendLimits(
    sends_per_second=40,
    look_ups_per_second=1.5,
    concurrent_calls=64,
    call_timeout=timedelta(seconds=4),
    quarantine=timedelta(seconds=8),
    ask_owner_after=timedelta(seconds=20),
    page_pause=timedelta(seconds=5),
)


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


async def work(job: SendJob) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = Settings(broker=job.broker, topic_prefix=job.prefix, partitions=job.partitions)
    failpoint, metrics = Failpoint(job.failpoint), Metrics()
    commands, events, outcomes = (settings.topic(topic.name) for topic in (COMMANDS, EVENTS, OUTCOMES))

    def wrong_clock() -> datetime:
        return now() + timedelta(seconds=job.ahead)

    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(
            connected(kafka.producer(Cluster(job.broker), client_id="send", linger_ms=0))
        )
        reader = await stack.enter_async_context(
            connected(kafka.consumer(Cluster(job.broker), group=None, client_id="ledger"))
        )
        consumer = await stack.enter_async_context(connected(failing_consumer(job, failpoint, "send")))
        http = await stack.enter_async_context(httpx.AsyncClient())
        clock = BrokerTime(wrong_clock)
        courier = Courier(
            Ledger(FailingLog(failpoint, outcome_codec(), outcomes, reader, producer), outcome_codec(), clock),
            FailingGraph(failpoint, "messages", job.graph_url, "v25.0", http, None, timeout=LIMITS.call_timeout),
            Pages(Page(page_of(number), access_token="t", target_app=OUR_APP) for number in range(job.pages)),
            clock=clock,
            fraction=random.random,
            metrics=metrics,
            limits=LIMITS,
            partitions=job.partitions,
        )
        sink = SendSink(courier, Ahead(reader, command_codec()), commands=commands, join=JoinedUpToNow())
        sources: dict[str, Source[Input]] = {
            commands: Source(command_reader(command_codec(), job.partitions), f"{commands}-dlq"),
            events: Source(event_reader(event_codec()), f"{events}-dlq"),
        }
        await Consume(
            consumer, producer, sources, sink, name="send", metrics=metrics, health=Health(), reach=Reach(None)
        ).run(stop)


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


if __name__ == "__main__":
    run(work)
