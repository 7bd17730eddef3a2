"""The rows of the warehouse against the records of the topics: one for each, and none of a record that is gone."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from aiokafka import TopicPartition

from operations.audit.history import Finding, History, place_of
from operations.audit.intake import origin_of
from schemas.codec import NotDecodable
from sinks.warehouse.postgres.warehouse import without_nul
from sinks.warehouse.removals import KeyForgotten, PersonForgotten, Removal
from sinks.warehouse.rows import warehouse_sources
from sinks.warehouse.tables import TABLES, Row, Table
from streams.records import Record

Place = tuple[str, int, int]


def differences(history: History) -> Iterator[Finding]:
    """Where rows and records differ, as far as the sink has stored them."""
    if history.rows is None:
        return
    required = _required(history)
    found: Counter[Place] = Counter()
    for name in sorted(history.rows):
        for row in history.rows[name]:
            place = row["_topic"], row["_partition"], row["_offset"]
            found[place] += 1
            what = "row_twice" if found[place] == 2 else required.fault_of(row, place, history.thinned)
            if what is not None:
                yield Finding(what, f"{name} {'/'.join(map(str, place))}")
    for place in required.rows.keys() - found.keys() - required.spared:
        yield Finding("lost_row", "/".join(map(str, place)))


def _required(history: History) -> "_Required":
    required = _Required()
    for topic, source in warehouse_sources(str, history.ids).items():
        aside = {origin_of(letter) for letter in history.topics.get(source.dead_letters or "", ())}
        for record in history.topics.get(topic, ()):
            try:
                required.take(topic, record, source.read(record), is_done=history.is_done(record))
            except NotDecodable:
                continue
            if place_of(record) in aside:
                required.spared.add(_place(record))
    required.forget_people()
    return required


class _Required:
    """The rows that the records make, those that later records remove left out; and places that may have a row or not.

    Of such a place the record was set aside by a stage, or its row is being removed.
    """

    def __init__(self) -> None:
        self.rows: dict[Place, tuple[Table, Row]] = {}
        self.spared: set[Place] = set()
        self._people: list[tuple[PersonForgotten, bool]] = []
        self._tables = {topic.name: table for table in TABLES for topic in table.topics}

    def take(self, topic: str, record: Record, kept: Any, *, is_done: bool) -> None:
        """Take what a record of a topic says in its turn; the sink is past it if it `is_done`."""
        if isinstance(kept, PersonForgotten):
            self._people.append((kept, is_done))
        elif isinstance(kept, KeyForgotten):
            self._remove(kept, is_done=is_done)
        elif kept is not None and is_done:
            self.rows[_place(record)] = self._tables[topic], kept

    def forget_people(self) -> None:
        """Take the erasures, which remove rows of earlier and of later records."""
        for removal, is_done in self._people:
            self._remove(removal, is_done=is_done)

    def fault_of(self, row: Mapping[str, Any], place: Place, thinned: Collection[TopicPartition]) -> str | None:
        if place in self.rows:
            _, required = self.rows[place]
            kept = ((row.get(name), value) for name, value in required.items())
            is_equal = all(stored == value or stored == without_nul(value) for stored, value in kept)
            return None if is_equal else "row_unlike_record"
        is_explained = place in self.spared or TopicPartition(*place[:2]) in thinned
        return None if is_explained else "row_without_record"

    def _remove(self, removal: Removal, *, is_done: bool) -> None:
        gone = [place for place, (table, row) in self.rows.items() if removal.takes(table, row)]
        if not is_done:
            self.spared.update(gone)
            return
        for place in gone:
            del self.rows[place]


def _place(record: Record) -> Place:
    return record.topic, record.partition, record.offset
