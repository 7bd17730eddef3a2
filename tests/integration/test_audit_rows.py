"""The auditor on rows as each warehouse gives them back."""

from dataclasses import replace
from typing import Any

from aiokafka import TopicPartition

from operations.audit.history import History
from operations.audit.stored import rows_of, stored_offsets
from runtime.settings import Settings
from sinks.warehouse.tables import tables_by_topic
from tests.builders import MINUTE, NOON
from tests.integration.warehouses import Target
from tests.unit.operations.audit.world import found, lived, message


def stored(target: Target, history: History) -> Settings:
    """A warehouse with the rows of a history."""
    settings = Settings(warehouse=target.url, partitions=1)
    tables = tables_by_topic(str)
    writer = target.open()
    writer.open([TopicPartition(topic, 0) for topic in tables])
    for topic, table in tables.items():
        rows: list[Any] = [row for row in (history.rows or {}).get(table.events, ()) if row["_topic"] == topic]
        if rows:
            writer.write({topic: rows}, {TopicPartition(topic, 0): len(history.topics[topic])})
    return settings


def spans_of(history: History) -> dict[TopicPartition, range]:
    return {TopicPartition(topic, 0): range(len(records)) for topic, records in history.topics.items()}


def test_the_rows_of_a_warehouse_are_those_of_the_records(target: Target) -> None:
    history = lived(message(NOON + MINUTE, "\0 and \u00e9", mid="m_2"))
    settings = stored(target, history)

    rows = rows_of(settings, spans_of(history))

    assert {name: len(of) for name, of in rows.items()} == {name: len(of) for name, of in (history.rows or {}).items()}
    assert found(replace(history, rows=rows)) == []


def test_only_the_rows_of_the_offsets_are_read_and_the_warehouse_says_how_far_it_is(target: Target) -> None:
    settings, place = stored(target, lived()), TopicPartition("leads", 0)

    assert [row["_offset"] for row in rows_of(settings, {place: range(1, 3)})["lead_events"]] == [1, 2]
    assert stored_offsets(settings)[place] == len(lived().topics["leads"])
