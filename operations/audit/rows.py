"""The rows of the warehouse against the records of the topics: one for each, and none of a record that is gone."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from operations.audit.history import Finding, History
from schemas.codec import NotDecodable
from sinks.warehouse.removals import KeyForgotten, PersonForgotten
from sinks.warehouse.rows import warehouse_sources
from sinks.warehouse.tables import Row, Table, tables_by_topic

Place = tuple[str, int, int]


def differences(history: History) -> Iterator[Finding]:
    """Where rows and records differ."""
    if history.rows is None:
        return
    expected = _expected(history)
    found: Counter[Place] = Counter()
    for name in sorted(history.rows):
        for row in history.rows[name]:
            place = row["_topic"], row["_partition"], row["_offset"]
            found[place] += 1
            where = f"{name} {'/'.join(map(str, place))}"
            if place not in expected:
                yield Finding("row_without_record", where)
            elif found[place] == 2:
                yield Finding("row_twice", where)
            elif any(row.get(column) != value for column, value in expected[place].items()):
                yield Finding("row_unlike_record", where)
    for place in expected.keys() - found.keys():
        yield Finding("lost_row", "/".join(map(str, place)))


def _expected(history: History) -> Mapping[Place, Row]:
    """The rows that the records make, those that later records remove left out."""
    expected: dict[Place, tuple[Table, Row]] = {}
    removals: list[PersonForgotten] = []
    tables, sources = tables_by_topic(str), warehouse_sources(str)
    for topic, source in sources.items():
        for record in history.topics.get(topic, ()):
            try:
                kept: Any = source.read(record)
            except NotDecodable:
                continue
            if isinstance(kept, PersonForgotten):
                removals.append(kept)
            elif isinstance(kept, KeyForgotten):
                gone = [place for place, (table, row) in expected.items() if kept.takes(table, row)]
                for place in gone:
                    del expected[place]
            elif kept is not None:
                expected[topic, record.partition, record.offset] = tables[topic], kept
    return {
        place: row
        for place, (table, row) in expected.items()
        if not any(removal.takes(table, row) for removal in removals)
    }
