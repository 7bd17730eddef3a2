"""The status of a warehouse: the size of its tables, their last write, and the Kafka offsets that they have reached."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from aiokafka import TopicPartition
from deltalake import DeltaTable
from psycopg import Connection, sql

from runtime.clock import from_millis
from sinks.warehouse.delta.files import application, cluster_of, stored_tables
from sinks.warehouse.postgres.connection import connected, is_server
from sinks.warehouse.postgres.faults import faults_in_one_line
from sinks.warehouse.tables import NAMES, TABLES


@dataclass(frozen=True, slots=True)
class TableStatus:
    """`files` is None where a server keeps the rows; `written_at` is None while nothing was written."""

    name: str
    rows: int
    bytes: int
    files: int | None
    written_at: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    """`offsets` are the next offsets by partition, of the Kafka cluster `cluster_id`; None while nothing was read."""

    tables: tuple[TableStatus, ...]
    cluster_id: str | None
    offsets: Mapping[TopicPartition, int]


def status_of(warehouse: str, partitions: Collection[TopicPartition]) -> Status:
    """The status of a warehouse as of its last commit, with the offsets of these partitions. Raises `Unusable`."""
    if is_server(warehouse):
        return _server_status(warehouse, partitions)
    return _delta_status(warehouse, partitions)


def _delta_status(root: str, partitions: Collection[TopicPartition]) -> Status:
    tables = stored_tables(root, NAMES)
    events = [tables[table.events] for table in TABLES if table.events in tables]
    stored = [
        (partition, table.transaction_version(application(cluster_of(table), partition)))
        for partition in partitions
        for table in events
    ]
    offsets = {partition: offset for partition, offset in stored if offset is not None}
    cluster_id = cluster_of(events[0]) if events else None
    return Status(tuple(_delta_table(name, table) for name, table in tables.items()), cluster_id, offsets)


def _delta_table(name: str, table: DeltaTable) -> TableStatus:
    files = pa.table(table.get_add_actions(flatten=True))
    # A commit of another program may lack its time, and its files their counts of rows.
    last = next(iter(table.history(1)), {"timestamp": None})["timestamp"]
    return TableStatus(
        name,
        rows=_rows(table, files),
        bytes=sum(files["size_bytes"].to_pylist()),
        files=files.num_rows,
        written_at=from_millis(last) if table.version() and last is not None else None,
    )


def _rows(table: DeltaTable, files: pa.Table) -> int:
    counts: list[int | None] = files["num_records"].to_pylist()
    return table.to_pyarrow_dataset().count_rows() if None in counts else sum(filter(None, counts))


def _server_status(url: str, partitions: Collection[TopicPartition]) -> Status:
    with faults_in_one_line(), connected(url) as connection:
        connection.read_only = True
        stored = {
            TopicPartition(topic, partition): (cluster_id, offset, written_at)
            for cluster_id, topic, partition, offset, written_at in connection.execute(
                "select cluster_id, topic, partition, next_offset, written_at from kafka_offsets"
            )
        }
        last = max((written_at for _, _, written_at in stored.values()), default=None)
        tables = tuple(_server_table(connection, name, last) for name in NAMES)
    offsets = {partition: stored[partition][1] for partition in partitions if partition in stored}
    return Status(tables, next((cluster_id for cluster_id, _, _ in stored.values()), None), offsets)


def _server_table(connection: Connection[tuple[int, int]], name: str, last: datetime | None) -> TableStatus:
    [(rows, size)] = connection.execute(
        sql.SQL("select count(*), pg_total_relation_size(%s::regclass) from {}").format(sql.Identifier(name)), (name,)
    )
    return TableStatus(name, rows, size, None, last if rows else None)
