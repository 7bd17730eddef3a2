"""The warehouse sink, run against a real Kafka inside a test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from runtime import kafka
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.health import Health
from runtime.losses import Losses
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from schemas.codec import event_codec, lead_codec
from sinks.consume import Consume
from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.postgres.warehouse import PostgresWarehouse
from sinks.warehouse.query import ask
from sinks.warehouse.rows import warehouse_sources
from sinks.warehouse.sink import Warehouse, WarehouseSink
from sinks.warehouse.tables import tables_by_topic
from tests.builders import a_lead, a_message
from tests.integration.topics import connected, put


@dataclass(frozen=True, slots=True)
class Cluster:
    """The topics of one test, and a warehouse at `url` for their sink."""

    settings: Settings
    url: str

    @property
    def leads(self) -> str:
        return self.settings.topic("leads")

    @property
    def outcomes(self) -> str:
        return self.settings.topic("followup-outcomes")

    @asynccontextmanager
    async def sink(self, group: str = "warehouse", cluster_id: str = "one") -> AsyncIterator[asyncio.Task[None]]:
        """A sink that runs until the block ends, then stops as on SIGTERM."""
        tables = tables_by_topic(self.settings.topic)
        kind: Callable[..., Warehouse] = PostgresWarehouse if self.url.startswith("postgresql://") else DeltaWarehouse
        warehouse = await asyncio.to_thread(kind, self.url, tables, cluster_id=cluster_id)
        stop = asyncio.Event()
        task = asyncio.create_task(self._run(f"{self.settings.topic_prefix}{group}", warehouse, stop))
        try:
            yield task
        finally:
            stop.set()
            await task

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return list(ask(self.url, query).rows)

    async def until(self, query: str, rows: list[tuple[Any, ...]]) -> None:
        found: list[tuple[Any, ...]] = []
        for _ in range(150):
            found = self.ask(query)
            if found == rows:
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"{query} gives {found}")

    async def put_leads(self, revisions: range, leads: range = range(10)) -> None:
        records = [(f"l{lead}", revision) for revision in revisions for lead in leads]
        codec = lead_codec()
        await put(
            self.settings,
            self.leads,
            *((name.encode(), codec.encode(a_lead(lead_id=name, revision=revision))) for name, revision in records),
        )

    @property
    def events(self) -> str:
        return self.settings.topic("messenger-events")

    async def put_events(self, messages: int) -> None:
        """So many messages of one person."""
        message = event_codec().encode(a_message())
        await put(self.settings, self.events, *((b"page:psid", message) for _ in range(messages)))

    async def _run(self, group: str, warehouse: Warehouse, stop: asyncio.Event) -> None:
        broker = cluster_of(self.settings)
        tables = tables_by_topic(self.settings.topic)
        metrics = Metrics()
        losses = Losses("leadstream sink warehouse", metrics)
        flush_after = timedelta(milliseconds=200)
        sink = WarehouseSink(warehouse, tables, now=now, metrics=metrics, losses=losses, flush_after=flush_after)
        async with AsyncExitStack() as stack:
            producer = await stack.enter_async_context(connected(kafka.producer(broker, client_id="warehouse")))
            consumer = await stack.enter_async_context(
                connected(kafka.consumer(broker, group=group, client_id="warehouse", rebalance_timeout_ms=60_000))
            )
            sources = warehouse_sources(self.settings.topic)
            stage = Consume(
                consumer,
                producer,
                sources,
                sink,
                name="warehouse",
                metrics=Metrics(),
                health=Health(),
                reach=Reach(None),
            )
            try:
                await stage.run(stop)
            finally:
                warehouse.close()
