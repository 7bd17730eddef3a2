"""The smallest warehouse that keeps every promise of `sinks.warehouse.Warehouse`, for tests without a server."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from aiokafka import TopicPartition

from sinks.consume import Fenced
from sinks.forget import Removal
from sinks.tables import Row

_TABLES = """
    create table if not exists kafka_offsets (topic, part, next_offset, primary key (topic, part));
    create table if not exists lead_events (topic, part, at, lead_id, revision, primary key (topic, part, at));
    create table if not exists leads (lead_id primary key, revision);
"""


class SqliteWarehouse:
    """Leads only, by id and revision. Several may share a file, as processes would."""

    def __init__(self, path: str) -> None:
        # The sink calls from a thread of its pool, one call at a time.
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.executescript(_TABLES)
        self._next: dict[TopicPartition, int] = {}

    def open(self, assigned: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        stored = self.connection.execute("select topic, part, next_offset from kafka_offsets").fetchall()
        found = {TopicPartition(topic, part): offset for topic, part, offset in stored}
        self._next = {one: offset for one, offset in found.items() if one in assigned}
        return dict(self._next)

    def write(self, rows: Mapping[str, Sequence[Row]], offsets: Mapping[TopicPartition, int]) -> None:
        ends = {one: max(offset, self._next.get(one, 0)) for one, offset in offsets.items()}
        self.connection.execute("begin immediate")
        try:
            for one, end in ends.items():
                self._move(one, end)
            for of_topic in rows.values():
                for row in of_topic:
                    self._keep(row)
        except Fenced:
            self.connection.execute("rollback")
            raise
        self.connection.execute("commit")
        self._next.update(ends)

    def forget(self, removals: Sequence[Removal]) -> None: ...

    def tidy(self) -> None: ...

    def fold(self) -> None: ...

    def close(self) -> None:
        self.connection.close()

    def _move(self, one: TopicPartition, end: int) -> None:
        if one in self._next:
            change = "update kafka_offsets set next_offset = ? where topic = ? and part = ? and next_offset = ?"
            moved = self.connection.execute(change, (end, *one, self._next[one]))
        else:
            moved = self.connection.execute("insert or ignore into kafka_offsets values (?, ?, ?)", (*one, end))
        if moved.rowcount != 1:
            raise Fenced

    def _keep(self, row: Row) -> None:
        place = TopicPartition(row["_topic"], row["_partition"])
        if row["_offset"] < self._next.get(place, 0):
            return
        lead = (row["lead_id"], row["revision"])
        self.connection.execute("insert into lead_events values (?, ?, ?, ?, ?)", (*place, row["_offset"], *lead))
        self.connection.execute(
            "insert into leads values (?, ?) on conflict (lead_id) do update set revision = excluded.revision"
            " where excluded.revision > leads.revision",
            lead,
        )
