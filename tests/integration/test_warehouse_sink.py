"""The warehouse sink on a real Kafka, into Delta Lake."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from runtime.losses import OutOfReach
from runtime.settings import Settings
from schemas.codec import lead_codec, outcome_codec
from sinks.consume import Unusable
from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.tables import LEAD_TABLE
from tests.builders import a_lead
from tests.integration.sink_runs import Cluster
from tests.integration.topics import put
from tests.unit.sinks.outcomes import an_outcome

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_leads_and_outcomes_are_in_the_warehouse_while_the_sink_runs(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    cluster = Cluster(kafka_topics, str(tmp_path))
    await cluster.put_leads(range(1, 4))
    sent = outcome_codec().encode(an_outcome("c1", "sent", mid="m_1"))
    await put(kafka_topics, cluster.outcomes, (b"c1", sent))

    async with cluster.sink():
        await cluster.until("select count(*), min(revision), max(revision) from leads", [(10, 3, 3)])
        await cluster.until("select command_id, status, mid from followup_outcomes", [("c1", "sent", "m_1")])

    assert cluster.ask("select count(*) from lead_events") == [(30,)]


async def test_offsets_come_from_the_warehouse_and_not_from_the_group(kafka_topics: Settings, tmp_path: Path) -> None:
    cluster = Cluster(kafka_topics, str(tmp_path))
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
    cluster = Cluster(kafka_topics, str(tmp_path))

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
    cluster = Cluster(kafka_topics, str(tmp_path))
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
    cluster = Cluster(kafka_topics, str(tmp_path))
    await cluster.put_events(1)
    async with cluster.sink():
        await cluster.until("select count(*) from user_messages", [(1,)])
    await cluster.put_events(2)
    lost = {TopicPartition(cluster.events, number): RecordsToDelete(-1) for number in range(kafka_topics.partitions)}
    await _delete_records(str(kafka_topics.broker), lost)

    with pytest.raises(OutOfReach, match=f"{cluster.events}/.: 2 records are lost, offsets 1 to 2"):
        async with cluster.sink() as running:
            await asyncio.wait_for(asyncio.shield(running), 20)


async def test_a_rebuilt_cluster_is_refused_whatever_its_offsets(kafka_topics: Settings, tmp_path: Path) -> None:
    cluster = Cluster(kafka_topics, str(tmp_path))
    await cluster.put_leads(range(1, 2))
    async with cluster.sink():
        await cluster.until("select count(*) from leads", [(10,)])

    with pytest.raises(Unusable, match="filled from Kafka cluster one, but this is two"):
        async with cluster.sink(cluster_id="two") as running:
            await asyncio.wait_for(asyncio.shield(running), 20)


async def test_what_cannot_be_read_is_a_row_with_its_bytes_and_its_reason(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    cluster = Cluster(kafka_topics, str(tmp_path))
    await put(kafka_topics, cluster.leads, (b"l1", b"no lead"))
    await cluster.put_leads(range(1, 2))

    async with cluster.sink():
        await cluster.until("select count(*) from leads", [(10,)])
        await cluster.until("select key, value from dead_letter_records", [(b"l1", b"no lead")])

    [(topic, stage, fault, reason)] = cluster.ask("select topic, stage, fault, reason from dead_letters")
    assert (topic, stage, fault) == (cluster.leads, "warehouse", "NotDecodable")
    assert reason == "not_wire_format: magic byte 110"


async def test_tombstones_are_passed(kafka_topics: Settings, tmp_path: Path) -> None:
    cluster = Cluster(kafka_topics, str(tmp_path))
    await put(kafka_topics, cluster.leads, (b"l1", None))
    await cluster.put_leads(range(1, 2))

    async with cluster.sink():
        await cluster.until("select count(*) from leads", [(10,)])


async def _delete_records(broker: str, records: dict[TopicPartition, RecordsToDelete]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    try:
        await admin.start()
        await admin.delete_records(records)
    finally:
        await admin.close()
