"""The warehouse's tables, derived from the released Avro schemas, so that columns and record fields cannot differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyarrow as pa
from aiokafka import TopicPartition

from schemas.released import newest
from schemas.topics import DEAD_LETTERS, EVENTS, LEADS, OUTCOMES, Topic

Row = Mapping[str, Any]

# The place of a row's record in Kafka; no field of a record begins with an underscore.
PROVENANCE = ("_topic", "_partition", "_offset")


_TIME = pa.timestamp("us", tz="UTC")
# Wide types from the first day: Delta casts a wider value back to the column's type without an error.
_ARROW = {
    "string": pa.string(),
    "int": pa.int64(),
    "long": pa.int64(),
    "boolean": pa.bool_(),
    "timestamp-millis": _TIME,
}


@dataclass(frozen=True, slots=True)
class Current:
    """The table `name` that holds the newest record of each `key`: the one with the greatest `newest_by`.

    Where that is `_offset`, records of one key must share a partition.
    """

    name: str
    key: str
    newest_by: str


@dataclass(frozen=True)
class Table:
    """The tables of some topics: `events` has a row for each record, `current` the newest of each key.

    `fields` are the columns before those of `PROVENANCE`; `means` describes a row of `events` for analysts.
    """

    topics: tuple[Topic, ...]
    events: str
    means: str
    fields: Callable[[], list[pa.Field]]
    current: Current | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of `events` and of the current table, if there is one."""
        return (self.events,) if self.current is None else (self.events, self.current.name)

    @cached_property
    def schema(self) -> pa.Schema:
        return pa.schema([*self.fields(), ("_topic", pa.string()), ("_partition", pa.int64()), ("_offset", pa.int64())])


def partition_of(row: Row) -> TopicPartition:
    return TopicPartition(row["_topic"], row["_partition"])


def tables_by_topic(name: Callable[[str], str]) -> dict[str, Table]:
    """The tables by the names that their topics have on a cluster; several topics can share a table."""
    return {name(topic.name): table for table in TABLES for topic in table.topics}


def _fields_of(topic: Topic, *names: str) -> list[pa.Field]:
    """The columns of an Avro topic: these, or all."""
    assert topic.schema is not None, "only Avro topics have a schema"
    return [
        _field(defined)
        for defined in newest(topic.schema).definition["fields"]
        if not names or defined["name"] in names
    ]


def _dead_letter_fields() -> list[pa.Field]:
    return [
        pa.field("topic", pa.string()),
        pa.field("partition", pa.int64()),
        pa.field("offset", pa.int64()),
        pa.field("stage", pa.string()),
        pa.field("fault", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("refused_at", _TIME),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
    ]


def _field(definition: Mapping[str, Any]) -> pa.Field:
    return pa.field(definition["name"], _arrow_type(definition["type"]))


def _arrow_type(avro: Any) -> pa.DataType:
    if isinstance(avro, list):
        [only] = [part for part in avro if part != "null"]
        return _arrow_type(only)
    if isinstance(avro, str):
        return _ARROW[avro]
    if avro["type"] == "array":
        return pa.list_(_arrow_type(avro["items"]))
    if avro["type"] == "record":
        return pa.struct([_field(defined) for defined in avro["fields"]])
    return _ARROW[avro["logicalType"]]


# A message or a pressed button without its words: enough to count answers to follow-ups.
MESSAGE_FIELDS = ("kind", "event_id", "page_id", "psid", "event_at", "received_at")

LEAD_TABLE = Table(
    (LEADS,),
    "lead_events",
    "A revision of a lead.",
    partial(_fields_of, LEADS),
    Current("leads", key="lead_id", newest_by="revision"),
)
OUTCOME_TABLE = Table(
    (OUTCOMES,),
    "followup_outcome_events",
    "A step in what became of a follow-up command, or, of the rule `opt-out`, that a person opted out or in again.",
    partial(_fields_of, OUTCOMES),
    Current("followup_outcomes", key="command_id", newest_by="_offset"),
)
MESSAGE_TABLE = Table(
    (EVENTS,),
    "user_messages",
    "That a person wrote or pressed a button, without the words. One event can have several rows with one `event_id`.",
    partial(_fields_of, EVENTS, *MESSAGE_FIELDS),
)
DEAD_LETTER_TABLE = Table(
    DEAD_LETTERS,
    "dead_letter_records",
    "A record that was refused for good, from any topic, with its bytes: personal data, for operators only.",
    _dead_letter_fields,
)
TABLES = (LEAD_TABLE, OUTCOME_TABLE, MESSAGE_TABLE, DEAD_LETTER_TABLE)
NAMES = tuple(name for table in TABLES for name in table.names)
