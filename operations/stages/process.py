"""The parts of every sink's process: its clients opened in order, and its loop."""

import asyncio
import os
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from leads.erasures import Erasures
from leads.pages import Pages
from messenger.client import GraphClient
from operations.configuration import load_pages
from operations.deployment import Deployment, graph_client, start_log
from runtime import kafka
from runtime.health import Health
from runtime.loopback import NO_PROXY
from runtime.losses import Accepted, Losses
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from runtime.suspect import Place
from runtime.topic_reading import CatchUp
from runtime.tracing import Tracing
from sinks.consume import Consume, Source, Stage

# For each client; it has no work left when it is stopped.
_LEAVES_WITHIN = 3.0


@dataclass(frozen=True, slots=True)
class SinkProcess:
    """The parts of every sink; `opened` starts a client now and stops it at the end."""

    deployment: Deployment
    name: str
    skips: Collection[Place]
    accepted: Accepted
    call_timeout: timedelta
    metrics: Metrics
    health: Health
    stop: asyncio.Event
    stack: AsyncExitStack
    tracing: Tracing

    @property
    def settings(self) -> Settings:
        return self.deployment.settings

    @property
    def client_id(self) -> str:
        return f"leadstream-{self.name}"

    @property
    def losses(self) -> Losses:
        return Losses(f"leadstream sink {self.name}", self.metrics, self.accepted)

    async def opened(self, client: Any) -> Any:
        self.stack.push_async_callback(kafka.leave, client, _LEAVES_WITHIN)
        await client.start()
        return client

    async def producer(self, **options: Any) -> Any:
        return await self.opened(kafka.producer(self.deployment.broker, client_id=self.client_id, **options))

    def pages(self) -> Pages:
        """The Pages, whose tokens no log contains from now on."""
        pages = load_pages(self.settings, os.environ)
        start_log(self.settings, pages)
        return pages

    def on_read(self, done: int, records: int) -> None:
        """A ledger opens, and has read so many of its records."""
        self.health.report(self.name, ready=False, seen=f"reads the ledger: {done} of {records}")

    async def graph(self) -> GraphClient:
        http = await self.stack.enter_async_context(httpx.AsyncClient(mounts=NO_PROXY))
        return graph_client(self.settings, http, self.call_timeout)

    async def erasures(self) -> tuple[Erasures, CatchUp]:
        """The erasure register, whole, and what brings it up to date. Raises `TopicMissing`."""
        return await self.stack.enter_async_context(self.deployment.followed_erasures(f"{self.client_id}-erasures"))

    async def consume(
        self,
        sources: Mapping[str, Source[Any]],
        stage: Stage[Any],
        producer: Any,
        reach: Reach,
        assignor: type[AbstractPartitionAssignor] = RoundRobinPartitionAssignor,
    ) -> None:
        await self.deployment.require_topics()
        group = f"{self.settings.topic_prefix}{self.client_id}"
        # Leaving a partition waits for the calls under way, so that a rebalance has to wait for us.
        options = {"rebalance_timeout_ms": 60_000, "partition_assignment_strategy": (assignor,)}
        consumer = kafka.consumer(self.deployment.broker, group=group, client_id=self.client_id, **options)
        consume = Consume(
            await self.opened(consumer),
            producer,
            sources,
            stage,
            name=self.name,
            metrics=self.metrics,
            health=self.health,
            skips=self.skips,
            reach=reach,
            tracing=self.tracing,
        )
        await consume.run(self.stop)
