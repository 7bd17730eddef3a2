"""The warehouse's tables, derived from the released Avro schemas, so that columns and record fields cannot differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from schemas.registry import newest
from schemas.topics import LEADS, OUTCOMES, Topic

Row = Mapping[str, Any]

# Where a row comes from in Kafka; the underscore keeps these apart from the fields of any record.
PROVENANCE = ("_topic", "_partition", "_offset")

# Wide types from the first day: Delta casts a widened value back to the column's type without a word.
_ARROW = {
    "string": pa.string(),
    "int": pa.int64(),
    "long": pa.int64(),
    "boolean": pa.bool_(),
    "timestamp-millis": pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True)
class Table:
    """Two tables of one topic: `events` has a row for each record, `current` the newest record of each `key`.

    Newest is the greatest `newest_by`. Where it is `_offset`, records of one key must share a partition.
    """

    topic: Topic
    events: str
    current: str
    key: str
    newest_by: str

    @cached_property
    def schema(self) -> pa.Schema:
        assert self.topic.schema is not None, "only Avro topics have tables"
        fields = [_field(one) for one in newest(self.topic.schema).definition["fields"]]
        where_from = [
            pa.field("_topic", pa.string()),
            pa.field("_partition", pa.int64()),
            pa.field("_offset", pa.int64()),
        ]
        return pa.schema(fields + where_from)


LEAD_TABLE = Table(LEADS, "lead_events", "leads", key="lead_id", newest_by="revision")
OUTCOME_TABLE = Table(OUTCOMES, "followup_outcome_events", "followup_outcomes", key="command_id", newest_by="_offset")
TABLES = (LEAD_TABLE, OUTCOME_TABLE)


def _field(definition: Mapping[str, Any]) -> pa.Field:
    return pa.field(definition["name"], _arrow_type(definition["type"]))


def _arrow_type(avro: Any) -> pa.DataType:
    if isinstance(avro, list):
        [only] = [one for one in avro if one != "null"]
        return _arrow_type(only)
    if isinstance(avro, str):
        return _ARROW[avro]
    if avro["type"] == "array":
        return pa.list_(_arrow_type(avro["items"]))
    if avro["type"] == "record":
        return pa.struct([_field(one) for one in avro["fields"]])
    return _ARROW[avro["logicalType"]]
