"""What becomes of a Kafka record in the warehouse."""

from typing import Any

import pytest

from leads.canary import mark_of
from leads.facts import Progress
from runtime.clock import from_millis
from runtime.dead_letter import PREFIX, dead_letter
from schemas.codec import NotDecodable, event_codec
from sinks.fenced_log import FENCE
from sinks.warehouse.removals import KeyForgotten, PersonForgotten
from sinks.warehouse.rows import dead_letter_row, message_or_forgotten, warehouse_sources
from sinks.warehouse.tables import (
    DEAD_LETTER_TABLE,
    LEAD_TABLE,
    MESSAGE_TABLE,
    OUTCOME_TABLE,
    PROVENANCE,
    tables_by_topic,
)
from tests.builders import MINUTE, NOON, PAGE, PERSON, a_handover, a_message, an_erasure
from tests.unit.sinks.records import a_record


def test_every_topic_of_a_table_is_read_and_no_other() -> None:
    def name(topic: str) -> str:
        return f"eu-{topic}"

    assert warehouse_sources(name).keys() == tables_by_topic(name).keys()


def test_what_the_sink_cannot_read_goes_to_the_dead_letters_of_this_cluster() -> None:
    source = warehouse_sources(lambda topic: f"eu-{topic}")["eu-leads"]

    assert source.dead_letters == "eu-leads-dlq"


def test_dead_letters_are_read_whole_so_that_none_makes_another() -> None:
    sources = warehouse_sources(str)

    assert all(sources[topic.name].dead_letters is None for topic in DEAD_LETTER_TABLE.topics)


def _event(value: bytes) -> Any:
    return a_record("messenger-events", 0, 1, b"k", value)


def test_a_persons_message_is_kept_without_its_words() -> None:
    codec = event_codec()

    row = message_or_forgotten(codec, _event(codec.encode(a_message())))

    assert isinstance(row, dict)
    assert row == {
        "kind": "message",
        "event_id": "message:m_1",
        "page_id": PAGE,
        "psid": PERSON,
        "event_at": NOON,
        "received_at": NOON,
    }
    assert (*row, *PROVENANCE) == tuple(MESSAGE_TABLE.schema.names)


@pytest.mark.parametrize("event", [a_handover(), Progress(((0, NOON),))])
def test_what_a_person_did_not_do_makes_no_row(event: object) -> None:
    codec = event_codec()

    assert message_or_forgotten(codec, _event(codec.encode(event))) is None  # type: ignore[arg-type] # of two kinds


def test_an_event_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(NotDecodable):
        message_or_forgotten(event_codec(), _event(b"{}"))


def test_a_dead_letter_keeps_its_bytes_and_says_what_its_headers_say() -> None:
    refused = a_record("messenger-webhooks", 3, 4711, b"page:psid", b"\x00{", (("received-at", b"1"),))
    key, value, headers = dead_letter(refused, stage="split", reason="not_json", fault="Unreadable")

    row = dead_letter_row(a_record("messenger-webhooks-dlq", 1, 2, key, value, tuple(headers)))

    assert row == {
        "topic": "messenger-webhooks",
        "partition": 3,
        "offset": 4711,
        "stage": "split",
        "fault": "Unreadable",
        "reason": "not_json",
        "refused_at": NOON,
        "key": b"page:psid",
        "value": b"\x00{",
    }
    assert (*row, *PROVENANCE) == tuple(DEAD_LETTER_TABLE.schema.names)


@pytest.mark.parametrize("offset", [None, b"", b"many", b"-1", b"9" * 30])
def test_a_dead_letter_of_another_program_is_kept_as_well(offset: bytes | None) -> None:
    headers = ((PREFIX + "offset", offset),) if offset is not None else ()

    row = dead_letter_row(a_record("leads-dlq", key=None, value=None, headers=headers))

    assert (row["offset"], row["reason"], row["value"]) == (None, None, None)


def test_a_tombstone_takes_its_key_away_and_our_own_marks_take_nothing() -> None:
    leads, outcomes = (warehouse_sources(str)[name] for name in ("leads", "followup-outcomes"))

    assert leads.read(a_record("leads", 0, 1, b"l1", None)) == KeyForgotten(LEAD_TABLE, "l1")
    assert outcomes.read(a_record("followup-outcomes", 0, 1, b"c1", None)) == KeyForgotten(OUTCOME_TABLE, "c1")
    assert outcomes.read(a_record("followup-outcomes", 0, 1, FENCE, None)) is None
    assert outcomes.read(a_record("followup-outcomes", 0, 1, mark_of(PERSON).encode(), None)) is None


def test_an_erasure_that_the_splitter_passes_on_later_takes_no_message_received_since() -> None:
    codec, record = event_codec(), _event(event_codec().encode(an_erasure(NOON - MINUTE)))

    passed_on_at = from_millis(record.timestamp)

    assert message_or_forgotten(codec, record) == PersonForgotten(PAGE, PERSON, NOON - MINUTE, passed_on_at)
