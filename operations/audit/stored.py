"""The warehouse as an audit sees it: how far it is, and its rows of a span of each topic."""

from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition

from runtime.settings import Settings
from sinks.warehouse.query import asking
from sinks.warehouse.status import status_of
from sinks.warehouse.tables import TABLES, Table, tables_by_topic


def stored_offsets(settings: Settings) -> dict[TopicPartition, int]:
    """The next offset of each partition that the warehouse keeps. Raises `Unusable`."""
    places = [
        TopicPartition(topic, number)
        for topic in tables_by_topic(settings.topic)
        for number in range(settings.partitions)
    ]
    return dict.fromkeys(places, 0) | dict(status_of(settings.warehouse, places).offsets)


def rows_of(settings: Settings, spans: Mapping[TopicPartition, range]) -> dict[str, list[dict[str, Any]]]:
    """The rows of the records at these offsets, by table. Raises `BadQuery`."""
    return {table.events: _rows(settings, table, spans) for table in TABLES}


def _rows(settings: Settings, table: Table, spans: Mapping[TopicPartition, range]) -> list[dict[str, Any]]:
    topics = {settings.topic(topic.name) for topic in table.topics}
    places = [
        f"(_topic = '{place.topic}' and _partition = {place.partition}"
        f" and _offset >= {span.start} and _offset < {span.stop})"
        for place, span in spans.items()
        if place.topic in topics and span
    ]
    if not places:
        return []
    query = f"select * from {table.events} where {' or '.join(places)}"
    with asking(settings.warehouse, query, spill=settings.spill) as asked:
        return [dict(zip(asked.columns, row, strict=True)) for rows in asked.batches for row in rows]
