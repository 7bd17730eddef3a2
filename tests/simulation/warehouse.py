"""A transactional warehouse in memory: rows and offsets change together, and a stale holder is fenced."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from sinks.consume import Fenced
from sinks.warehouse.removals import Removal
from sinks.warehouse.tables import Row, Table


@dataclass
class Rows:
    """The stored rows by table, and the next offset of each partition."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)


class SimulatedWarehouse:
    """As `sinks.warehouse.sink.Warehouse`, for one process; several share `stored`."""

    def __init__(self, stored: Rows, tables: Mapping[str, Table]) -> None:
        self._stored, self._tables = stored, tables
        self._next: dict[TopicPartition, int | None] = {}

    def open(self, assigned: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        self._next = {place: self._stored.offsets.get(place) for place in sorted(assigned)}
        return {place: offset for place, offset in self._next.items() if offset is not None}

    def write(self, rows: Mapping[str, Sequence[Row]], offsets: Mapping[TopicPartition, int]) -> None:
        if any(self._stored.offsets.get(place) != self._next.get(place) for place in offsets):
            raise Fenced
        for topic, of_topic in rows.items():
            stored = self._stored.tables.setdefault(self._tables[topic].events, [])
            for row in of_topic:
                if row["_offset"] >= (self._next.get(TopicPartition(topic, row["_partition"])) or 0):
                    stored.append(dict(row))
        for place, offset in offsets.items():
            self._stored.offsets[place] = self._next[place] = max(offset, self._next.get(place) or 0)

    def forget(self, removals: Sequence[Removal]) -> None:
        for table in dict.fromkeys(self._tables.values()):
            rows = self._stored.tables.get(table.events, [])
            rows[:] = [row for row in rows if not any(removal.takes(table, row) for removal in removals)]

    def tidy(self) -> None:
        """Deleted rows are gone."""

    def fold(self) -> None:
        """There are no current tables."""

    def close(self) -> None:
        """Nothing is open."""
