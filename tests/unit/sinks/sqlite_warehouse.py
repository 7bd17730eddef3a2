"""The plainest warehouse that keeps every promise of `sinks.warehouse.sink.Warehouse`, for tests without a server."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
from aiokafka import TopicPartition

from sinks.consume import Fenced, Unusable
from sinks.warehouse.query import Answer
from sinks.warehouse.removals import Removal
from sinks.warehouse.tables import PROVENANCE, Current, Row, Table

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = {pa.int64(): "integer", pa.bool_(): "integer", pa.timestamp("us", tz="UTC"): "integer", pa.binary(): "blob"}


class SqliteWarehouse:
    """`tables` are the tables by topic name. Several may share a file, as processes would."""

    def __init__(self, path: str, tables: Mapping[str, Table], *, cluster_id: str = "one") -> None:
        self._tables, self._cluster_id = tables, cluster_id
        # The sink calls from a thread of its pool, one call at a time.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # A test ends no power supply.
        self._connection.execute("pragma synchronous = off")
        self._next: dict[TopicPartition, int] = {}
        self._connection.execute(
            "create table if not exists kafka_offsets (cluster_id, topic, part, next_offset, primary key (topic, part))"
        )
        for table in self._distinct():
            self._create(table.events, table, PROVENANCE)
            if table.current is not None:
                self._create(table.current.name, table, [table.current.key])

    def open(self, assigned: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        stored = self._connection.execute("select topic, part, next_offset, cluster_id from kafka_offsets").fetchall()
        for cluster_id in {cluster_id for *_, cluster_id in stored} - {self._cluster_id}:
            raise Unusable(f"the warehouse was filled from Kafka cluster {cluster_id}")
        found = {TopicPartition(topic, part): offset for topic, part, offset, _ in stored}
        self._next = {partition: offset for partition, offset in found.items() if partition in assigned}
        return dict(self._next)

    def write(self, rows: Mapping[str, Sequence[Row]], offsets: Mapping[TopicPartition, int]) -> None:
        ends = {partition: max(offset, self._next.get(partition, 0)) for partition, offset in offsets.items()}
        with self._transaction():
            for partition, end in ends.items():
                self._move(partition, end)
            for topic, of_topic in rows.items():
                for row in of_topic:
                    if row["_offset"] >= self._next.get(TopicPartition(topic, row["_partition"]), 0):
                        self._keep(self._tables[topic], row)
        self._next.update(ends)

    def forget(self, removals: Sequence[Removal]) -> None:
        with self._transaction():
            for table in self._distinct():
                for name in _names(table):
                    gone = [
                        row for row in self._rows(name, table) if any(removal.takes(table, row) for removal in removals)
                    ]
                    self._connection.executemany(
                        f"delete from {name} where _topic = ? and _partition = ? and _offset = ?",
                        [tuple(row[column] for column in PROVENANCE) for row in gone],
                    )

    def tidy(self) -> None:
        """Nothing to do: what is deleted is gone."""

    def fold(self) -> None:
        """Nothing to do: `write` keeps the newest."""

    def close(self) -> None:
        self._connection.close()

    def answer(self, query: str) -> Answer:
        """The result of a query over the tables, in DuckDB's words, as the tables on Delta Lake are asked."""
        with duckdb.connect(":memory:") as engine:
            engine.execute("set TimeZone = 'UTC'")
            for table in self._distinct():
                for name in _names(table):
                    rows = list(self._rows(name, table))
                    engine.register(name, pa.Table.from_pylist(rows, schema=table.schema))
            cursor = engine.execute(query)
            columns = tuple(column[0] for column in cursor.description or ())
            return Answer(columns, tuple(cursor.fetchall()))

    def _distinct(self) -> Iterable[Table]:
        return dict.fromkeys(self._tables.values())

    def _create(self, name: str, table: Table, key: Sequence[str]) -> None:
        columns = ", ".join(f'"{field.name}" {_KINDS.get(field.type, "text")}' for field in table.schema)
        self._connection.execute(
            f"create table if not exists {name} ({columns}, primary key ({', '.join(key)})) strict"
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("begin immediate")
        try:
            yield
        except (Fenced, sqlite3.Error):
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")

    def _move(self, one: TopicPartition, end: int) -> None:
        if one in self._next:
            change = "update kafka_offsets set next_offset = ? where topic = ? and part = ? and next_offset = ?"
            moved = self._connection.execute(change, (end, *one, self._next[one]))
        else:
            change = "insert or ignore into kafka_offsets values (?, ?, ?, ?)"
            moved = self._connection.execute(change, (self._cluster_id, *one, end))
        if moved.rowcount != 1:
            raise Fenced

    def _keep(self, table: Table, row: Row) -> None:
        values = [_stored(row.get(field.name)) for field in table.schema]
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"insert into {table.events} values ({marks})", values)
        if table.current is not None:
            upsert = f"insert into {table.current.name} values ({marks}) {_newest(table.current, table.schema.names)}"
            self._connection.execute(upsert, values)

    def _rows(self, name: str, table: Table) -> Iterator[dict[str, Any]]:
        for values in self._connection.execute(f"select * from {name}").fetchall():
            fields = zip(table.schema, values, strict=True)
            yield {field.name: _read(field.type, value) for field, value in fields}


def _names(table: Table) -> list[str]:
    return [table.events] + ([table.current.name] if table.current is not None else [])


def _newest(current: Current, columns: Sequence[str]) -> str:
    replaced = ", ".join(f'"{column}" = excluded."{column}"' for column in columns)
    by = current.newest_by
    return f"on conflict ({current.key}) do update set {replaced} where excluded.{by} > {current.name}.{by}"


def _stored(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    return json.dumps(value) if isinstance(value, list | dict) else value


def _read(kind: pa.DataType, value: Any) -> Any:
    if value is None or kind in (pa.string(), pa.int64(), pa.binary()):
        return value
    if pa.types.is_timestamp(kind):
        return _EPOCH + timedelta(microseconds=value)
    return bool(value) if kind == pa.bool_() else json.loads(value)
