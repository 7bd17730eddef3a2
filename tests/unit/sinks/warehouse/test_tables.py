"""The tables follow the records."""

import pyarrow as pa
import pytest
from msgspec import Struct

from leads.records import FollowUpOutcome, Lead
from schemas.topics import TOPICS
from sinks.warehouse.tables import (
    DEAD_LETTER_TABLE,
    LEAD_TABLE,
    MESSAGE_TABLE,
    OUTCOME_TABLE,
    PROVENANCE,
    TABLES,
    Table,
    tables_by_topic,
)


@pytest.mark.parametrize(("table", "record"), [(LEAD_TABLE, Lead), (OUTCOME_TABLE, FollowUpOutcome)])
def test_columns_are_the_records_fields_and_where_the_row_comes_from(table: Table, record: type[Struct]) -> None:
    assert tuple(table.schema.names) == (*record.__struct_fields__, *PROVENANCE)


@pytest.mark.parametrize("table", TABLES)
def test_numbers_and_times_are_wide_from_the_first_day(table: Table) -> None:
    narrow = {pa.int8(), pa.int16(), pa.int32(), pa.float32(), pa.timestamp("ms", tz="UTC"), pa.date32()}

    assert narrow.isdisjoint(field.type for field in table.schema)


@pytest.mark.parametrize("table", [table for table in TABLES if table.current is not None])
def test_keys_and_orders_are_columns(table: Table) -> None:
    assert table.current is not None
    assert {table.current.key, table.current.newest_by} <= set(table.schema.names)


def test_every_topic_of_dead_letters_has_the_one_table() -> None:
    tables = tables_by_topic(lambda name: f"eu-{name}")

    found = {topic for topic, table in tables.items() if table is DEAD_LETTER_TABLE}
    assert found == {f"eu-{topic.name}" for topic in TOPICS if topic.name.endswith("-dlq")}


def test_of_a_persons_messages_the_words_are_not_kept() -> None:
    assert {"text", "payload", "title", "answers"}.isdisjoint(MESSAGE_TABLE.schema.names)


def test_answers_stay_a_list_of_pairs() -> None:
    pair = pa.struct([("question", pa.string()), ("answer", pa.string())])

    assert LEAD_TABLE.schema.field("answers").type == pa.list_(pair)
