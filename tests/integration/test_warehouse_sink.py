"""The warehouse sink on a real Kafka, into Delta Lake."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from click.testing import CliRunner, Result
from deltalake import DeltaTable

from cli.main import main
from runtime import kafka
from runtime.clock import now
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.codec import event_codec, lead_codec, outcome_codec
from sinks.consume import Consume, Unusable
from sinks.delta import DeltaWarehouse
from sinks.query import ask
from sinks.rows import warehouse_sources
from sinks.tables import LEAD_TABLE, tables_by_topic
from sinks.warehouse import WarehouseSink
from tests.builders import a_lead, a_message
from tests.integration.topics import connected, put
from tests.unit.sinks.outcomes import an_outcome

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@dataclass(frozen=True, slots=True)
class _Cluster:
    settings: Settings
    root: Path

    @property
    def leads(self) -> str:
        return self.settings.topic("leads")

    @property
    def outcomes(self) -> str:
        return self.settings.topic("followup-outcomes")

    @asynccontextmanager
    async def sink(self, group: str = "warehouse", cluster_id: str = "one") -> AsyncIterator[asyncio.Task[None]]:
        """A sink that runs until the block ends, then stops as on SIGTERM."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._run(f"{self.settings.topic_prefix}{group}", cluster_id, stop))
        try:
            yield task
        finally:
            stop.set()
            await task

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return list(ask(str(self.root), query).rows)

    async def until(self, query: str, rows: list[tuple[Any, ...]]) -> None:
        found: list[tuple[Any, ...]] = []
        for _ in range(150):
            found = self.ask(query)
            if found == rows:
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"{query} gives {found}")

    async def put_leads(self, revisions: range, leads: range = range(10)) -> None:
        records = [(f"l{one}", revision) for revision in revisions for one in leads]
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

    async def _run(self, group: str, cluster_id: str, stop: asyncio.Event) -> None:
        broker = str(self.settings.broker)
        tables = tables_by_topic(self.settings.topic)
        warehouse = await asyncio.to_thread(DeltaWarehouse, str(self.root), tables, cluster_id=cluster_id)
        sink = WarehouseSink(warehouse, tables, now=now, metrics=Metrics(), flush_after=timedelta(milliseconds=200))
        async with AsyncExitStack() as stack:
            producer = await stack.enter_async_context(connected(kafka.producer(broker, client_id="warehouse")))
            consumer = await stack.enter_async_context(
                connected(kafka.consumer(broker, group=group, client_id="warehouse", rebalance_timeout_ms=60_000))
            )
            sources = warehouse_sources(self.settings.topic)
            await Consume(consumer, producer, sources, sink, name="warehouse", metrics=Metrics(), health=Health()).run(
                stop
            )


async def test_leads_and_outcomes_are_in_the_warehouse_while_the_sink_runs(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    cluster = _Cluster(kafka_topics, tmp_path)
    await cluster.put_leads(range(1, 4))
    sent = outcome_codec().encode(an_outcome("c1", "sent", mid="m_1"))
    await put(kafka_topics, cluster.outcomes, (b"c1", sent))

    async with cluster.sink():
        await cluster.until("select count(*), min(revision), max(revision) from leads", [(10, 3, 3)])
        await cluster.until("select command_id, status, mid from followup_outcomes", [("c1", "sent", "m_1")])

    assert cluster.ask("select count(*) from lead_events") == [(30,)]


async def test_offsets_come_from_the_warehouse_and_not_from_the_group(kafka_topics: Settings, tmp_path: Path) -> None:
    cluster = _Cluster(kafka_topics, tmp_path)
    await cluster.put_leads(range(1, 4))
    async with cluster.sink("first"):
        await cluster.until("select count(*) from lead_events", [(30,)])
    await cluster.put_leads(range(4, 5))

    async with cluster.sink("a-group-that-knows-nothing"):
        await cluster.until("select max(revision) from leads", [(4,)])

    assert cluster.ask("select count(*), count(distinct (_partition, _offset)) from lead_events") == [(40, 40)]


async def test_a_second_worker_takes_over_partitions_without_doubling_a_row(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    cluster = _Cluster(kafka_topics, tmp_path)

    async with cluster.sink():
        await cluster.put_leads(range(1, 21))
        async with cluster.sink():
            await cluster.put_leads(range(21, 41))
            await cluster.until("select count(*) from lead_events", [(400,)])
        await cluster.put_leads(range(41, 51))
        await cluster.until("select count(*), min(revision) from leads", [(10, 50)])

    places = cluster.ask("select count(*), count(distinct (_topic, _partition, _offset)) from lead_events")
    assert places == [(500, 500)]


async def test_a_topic_that_ends_before_the_warehouse_stops_the_sink_with_a_clear_error(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    cluster = _Cluster(kafka_topics, tmp_path)
    partition = TopicPartition(cluster.leads, 0)
    row = {**lead_codec().decode_plain(lead_codec().encode(a_lead())), "_topic": cluster.leads}
    warehouse = DeltaWarehouse(str(tmp_path), {cluster.leads: LEAD_TABLE}, cluster_id="one")
    warehouse.open([partition])
    warehouse.write({cluster.leads: [{**row, "_partition": 0, "_offset": 999}]}, {partition: 1000})

    with pytest.raises(Unusable, match=f"{cluster.leads}/0 up to offset 1000, but Kafka ends at 0"):
        async with cluster.sink() as running:
            await asyncio.wait_for(asyncio.shield(running), 20)


async def test_a_range_that_kafka_has_lost_stops_the_sink_with_a_clear_error(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    cluster = _Cluster(kafka_topics, tmp_path)
    await cluster.put_events(1)
    async with cluster.sink():
        await cluster.until("select count(*) from user_messages", [(1,)])
    await cluster.put_events(2)
    lost = {TopicPartition(cluster.events, one): RecordsToDelete(-1) for one in range(kafka_topics.partitions)}
    await _delete_records(str(kafka_topics.broker), lost)

    with pytest.raises(Unusable, match=f"{cluster.events}/. up to offset 1, but Kafka begins at 3"):
        async with cluster.sink() as running:
            await asyncio.wait_for(asyncio.shield(running), 20)


async def test_a_rebuilt_cluster_is_refused_whatever_its_offsets(kafka_topics: Settings, tmp_path: Path) -> None:
    cluster = _Cluster(kafka_topics, tmp_path)
    await cluster.put_leads(range(1, 2))
    async with cluster.sink():
        await cluster.until("select count(*) from leads", [(10,)])

    with pytest.raises(Unusable, match="filled from Kafka cluster one, but this is two"):
        async with cluster.sink(cluster_id="two") as running:
            await asyncio.wait_for(asyncio.shield(running), 20)


async def test_what_cannot_be_read_is_a_row_with_its_bytes_and_its_reason(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    cluster = _Cluster(kafka_topics, tmp_path)
    await put(kafka_topics, cluster.leads, (b"l1", b"no lead"))
    await cluster.put_leads(range(1, 2))

    async with cluster.sink():
        await cluster.until("select count(*) from leads", [(10,)])
        await cluster.until("select key, value from dead_letter_records", [(b"l1", b"no lead")])

    [(topic, stage, fault, reason)] = cluster.ask("select topic, stage, fault, reason from dead_letters")
    assert (topic, stage, fault) == (cluster.leads, "warehouse", "NotDecodable")
    assert "Confluent wire format" in reason


async def test_a_rebuilt_warehouse_equals_the_old_one_and_takes_its_place(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    cluster = _Cluster(kafka_topics, tmp_path / "warehouse")
    await cluster.put_leads(range(1, 4))
    await cluster.put_events(2)
    async with cluster.sink():
        await cluster.until("select count(*) from leads", [(10,)])
        await cluster.until("select count(*) from user_messages", [(2,)])
    await cluster.put_leads(range(4, 5))

    result = await asyncio.to_thread(_rebuild, cluster, "--swap")

    assert result.exit_code == 0, result.output
    assert "lead_events: 30 rows, 30 rebuilt" in result.output
    assert "leads: 10 rows, 10 rebuilt, equal" in result.output
    assert (tmp_path / "warehouse.before" / "leads").is_dir()
    async with cluster.sink():
        await cluster.until("select count(*), min(revision) from leads", [(10, 4)])


async def test_a_warehouse_that_differs_from_kafka_stays_where_it_is(kafka_topics: Settings, tmp_path: Path) -> None:
    cluster = _Cluster(kafka_topics, tmp_path / "warehouse")
    await cluster.put_leads(range(1, 2))
    async with cluster.sink():
        await cluster.until("select count(*) from leads", [(10,)])
    DeltaTable(str(tmp_path / "warehouse" / "leads")).delete("lead_id = 'l1'")

    result = await asyncio.to_thread(_rebuild, cluster, "--swap")

    assert result.exit_code == 1
    assert "leads: not equal" in result.output
    assert not (tmp_path / "warehouse.before").exists()


async def test_nothing_is_rebuilt_under_a_running_sink(kafka_topics: Settings, tmp_path: Path) -> None:
    cluster = _Cluster(kafka_topics, tmp_path / "warehouse")
    await cluster.put_leads(range(1, 2))

    async with cluster.sink("leadstream-warehouse"):
        await cluster.until("select count(*) from leads", [(10,)])
        result = await asyncio.to_thread(_rebuild, cluster)

    assert (result.exit_code, "a warehouse sink is running" in result.output) == (1, True)


async def test_tombstones_are_passed(kafka_topics: Settings, tmp_path: Path) -> None:
    cluster = _Cluster(kafka_topics, tmp_path)
    await put(kafka_topics, cluster.leads, (b"l1", None))
    await cluster.put_leads(range(1, 2))

    async with cluster.sink():
        await cluster.until("select count(*) from leads", [(10,)])


def _rebuild(cluster: _Cluster, *options: str) -> Result:
    told = {
        "LEADSTREAM_BROKER": cluster.settings.broker,
        "LEADSTREAM_TOPIC_PREFIX": cluster.settings.topic_prefix,
        "LEADSTREAM_PARTITIONS": str(cluster.settings.partitions),
        "LEADSTREAM_WAREHOUSE": str(cluster.root),
    }
    return CliRunner().invoke(main, ["warehouse", "rebuild", *options], env=told)


async def _delete_records(broker: str, records: dict[TopicPartition, RecordsToDelete]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    try:
        await admin.start()
        await admin.delete_records(records)
    finally:
        await admin.close()
