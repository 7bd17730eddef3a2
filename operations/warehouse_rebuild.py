"""A warehouse filled anew from Kafka beside the old one, up to where that is, and how the two compare."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from runtime import kafka
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.losses import Span
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.codec import Ids, NotDecodable
from sinks.consume import Received
from sinks.warehouse.rebuild import Replacement
from sinks.warehouse.removals import Kept
from sinks.warehouse.rows import Rows, warehouse_sources
from sinks.warehouse.sink import WarehouseSink
from sinks.warehouse.status import Status
from sinks.warehouse.tables import TABLES, tables_by_topic

_LOOKS, _BETWEEN_LOOKS = 60, 0.25


@dataclass(frozen=True, slots=True)
class Comparison:
    """A table in both warehouses; `same` is None where Kafka need not have every row any more."""

    table: str
    rows: int
    rebuilt: int
    same: bool | None


async def sink_is_running(broker: Cluster, group: str) -> bool:
    """Whether a warehouse sink is a member of its group."""
    admin = AIOKafkaAdminClient(**broker.options)
    try:
        await admin.start()
        return bool(await members_of(admin, group))
    finally:
        await admin.close()


async def members_of(admin: AIOKafkaAdminClient, group: str) -> int:
    """How many members a consumer group has. Raises `KafkaError`."""
    for looks_left in reversed(range(_LOOKS)):
        try:
            [answer] = await admin.describe_consumer_groups([group])
            return sum(len(members) for _, _, _, _, _, members, *_ in answer.groups)
        except GroupCoordinatorNotAvailableError:
            # A new broker makes its coordinator when it is first asked for.
            if not looks_left:
                raise
            await asyncio.sleep(_BETWEEN_LOOKS)
    return 0


async def fill(
    settings: Settings, broker: Cluster, ids: Ids, place: Replacement, old: Status, progress: Callable[[int], None]
) -> None:
    """Write everything from Kafka's beginning up to the offsets of `old` into the new warehouse. Raises `Unusable`."""
    tables = tables_by_topic(settings.topic)
    warehouse = await asyncio.to_thread(place.open, tables, cluster_id=old.cluster_id or "")
    sink = WarehouseSink(warehouse, tables, now=now, metrics=Metrics())
    reader = kafka.consumer(broker, group=None, client_id="leadstream-rebuild")
    await reader.start()
    try:
        first = await reader.beginning_offsets(list(old.offsets))
        left = {one: end for one, end in old.offsets.items() if end > first[one]}
        reader.assign(list(left))
        starts = await sink.open({one: Span(first[one], end, None) for one, end in left.items()})
        for partition, offset in starts.items():
            reader.seek(partition, offset)
        await _read(reader, sink, warehouse_sources(settings.topic, ids), left, progress)
        await sink.close()
    finally:
        await reader.stop()
        warehouse.close()


async def _read(
    reader: AIOKafkaConsumer,
    sink: WarehouseSink,
    sources: Mapping[str, Rows],
    ends: Mapping[TopicPartition, int],
    progress: Callable[[int], None],
) -> None:
    left = dict(ends)
    while left:
        for partition, records in (await reader.getmany(timeout_ms=500, max_records=5000)).items():
            source = sources[partition.topic]
            rows = (_row(source, one) for one in records if one.offset < ends[partition])
            await sink.take([Received(partition, offset, row) for offset, row in rows], {})
            progress(len(records))
        for partition in list(left):
            position = min(await reader.position(partition), ends[partition])
            await sink.take([], {partition: position})
            if position == ends[partition]:
                del left[partition]
        await sink.tick()


def _row(source: Rows, record: Any) -> tuple[int, Kept]:
    """The offset of a record and what is kept of it; what the sink refused makes nothing."""
    try:
        return record.offset, source.read(record)
    except NotDecodable:
        return record.offset, None


def compare(place: Replacement) -> list[Comparison]:
    """What both hold; equal is what an analyst sees, wherever in Kafka it came from."""
    found = []
    for table in TABLES:
        for name in [table.events] + ([table.current.name] if table.current is not None else []):
            old, new = place.digests(name, table.schema.names)
            same = old == new if table.current is not None and name == table.current.name else None
            found.append(Comparison(name, old[0], new[0], same))
    return found
