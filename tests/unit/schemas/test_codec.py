"""The codec gives back what it was given, and refuses everything else in one way."""

import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads.facts import Progress
from runtime.clock import from_millis
from schemas.codec import Codec, NotDecodable, SchemaIds, command_codec, event_codec, lead_codec, outcome_codec
from schemas.released import newest, released
from tests.avro import wire_value, wire_value_of
from tests.builders import a_handover, a_lead, a_message, a_promotion, an_origin
from tests.unit.sinks.fakes import a_command

LEAD = lead_codec()
LEAD_VALUE = LEAD.encode(a_lead())
FIRST_MILLIS = -62_135_596_800_000
LAST_MILLIS = 253_402_300_799_999
ANY_MILLIS = st.integers(FIRST_MILLIS, LAST_MILLIS)


def with_schema_id(value: bytes, schema_id: int) -> bytes:
    return struct.pack(">bI", 0, schema_id) + value[5:]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "too_short"),
        (b"", "too_short"),
        (LEAD_VALUE[:4], "too_short"),
        (b"{" + LEAD_VALUE[1:], "not_wire_format: magic byte 123"),
        (with_schema_id(LEAD_VALUE, 999), "unknown_schema_id: 999"),
        (with_schema_id(LEAD_VALUE, newest("event").id), "unknown_schema_id: 8 is not a released lead"),
        (LEAD_VALUE[:5], "not_a_record: "),
        (LEAD_VALUE[:-1], "not_a_record: "),
        (LEAD_VALUE + b"\x00", "bytes_after_record"),
    ],
    ids=["null", "empty", "short", "magic", "unknown-id", "other-schema", "no-body", "truncated", "trailing"],
)
def test_what_is_not_a_record_is_not_decodable(value: bytes | None, fault: str) -> None:
    with pytest.raises(NotDecodable, match=fault):
        LEAD.decode(value)


@pytest.mark.parametrize(
    "codec", [LEAD, event_codec(), command_codec(), outcome_codec()], ids=lambda topic: topic.schema
)
@given(body=st.binary(max_size=200))
def test_random_bytes_are_decoded_or_not_decodable_and_nothing_else(codec: Codec[Any], body: bytes) -> None:
    with suppress(NotDecodable):
        codec.decode(struct.pack(">bI", 0, newest(codec.schema).id) + body)


@given(st.binary(max_size=50), st.integers(5, len(LEAD_VALUE)))
def test_a_damaged_record_is_decoded_or_not_decodable_and_nothing_else(damage: bytes, place: int) -> None:
    with suppress(NotDecodable):
        LEAD.decode(LEAD_VALUE[:place] + damage + LEAD_VALUE[place + len(damage) :])


def test_a_fault_never_quotes_the_value() -> None:
    text = "Menlo Park, 650-555-0100"

    with pytest.raises(NotDecodable) as refused:
        LEAD.decode(LEAD_VALUE[:5] + text.encode())

    assert not any(part in str(refused.value) for part in ("Menlo", "555"))
    assert refused.value.__suppress_context__


@given(ANY_MILLIS, ANY_MILLIS)
def test_times_keep_their_milliseconds(first: int, updated: int) -> None:
    lead = a_lead(first_seen_at=from_millis(first), updated_at=from_millis(updated), handover_at=None)

    assert LEAD.decode(LEAD.encode(lead)) == lead


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), ANY_MILLIS.map(from_millis))).map(tuple))
def test_progress_survives(received_until: tuple[tuple[int, Any], ...]) -> None:
    codec = event_codec()
    progress = Progress(received_until)

    assert codec.decode(codec.encode(progress)) == progress


def test_an_event_of_a_kind_that_this_version_does_not_know_decodes_to_none() -> None:
    codec = event_codec()
    value = codec.encode(a_message())

    assert codec.decode(value.replace(b"message", b"mystery", 1)) is None


@pytest.mark.parametrize("field", ["event_at", "received_at", "origin"])
def test_an_event_without_what_the_join_goes_by_is_not_decodable(field: str) -> None:
    """The schema lets them be null for the sake of progress records."""
    plain = event_codec().decode_plain(event_codec().encode(a_message()))

    with pytest.raises(NotDecodable, match="event_incomplete"):
        event_codec().decode(wire_value("event", {**plain, field: None}))


def test_the_first_field_is_read_alone() -> None:
    assert LEAD.decode_first(LEAD_VALUE) == a_lead().lead_id
    with pytest.raises(NotDecodable, match="not_a_record: "):
        LEAD.decode_first(LEAD_VALUE[:5])


def test_a_codec_writes_and_reads_the_ids_of_another_registry() -> None:
    ids = {"lead": SchemaIds(100_042, {100_042: newest("lead").definition})}
    elsewhere = lead_codec(ids)

    value = elsewhere.encode(a_lead())

    assert value == with_schema_id(LEAD_VALUE, 100_042)
    assert elsewhere.decode(value) == a_lead()
    with pytest.raises(NotDecodable, match="unknown_schema_id: 9"):
        elsewhere.decode(LEAD_VALUE)


def test_a_record_of_an_older_release_is_read_with_the_defaults_of_the_newest() -> None:
    newest_definition = newest("lead").definition
    older = {
        **newest_definition,
        "fields": [field for field in newest_definition["fields"] if field["name"] != "close_reason"],
    }
    ids = {"lead": SchemaIds(8, {7: older, 8: newest_definition})}
    value = wire_value_of(older, 7, LEAD.decode_plain(LEAD.encode(a_lead(close_reason="join_wait"))))

    assert lead_codec(ids).decode(value) == a_lead(close_reason=None)
    assert lead_codec(ids).decode_plain(value) == LEAD.decode_plain(LEAD.encode(a_lead(close_reason=None)))


def test_a_promotion_survives_with_its_lead() -> None:
    codec = event_codec()

    assert codec.decode(codec.encode(a_promotion())) == a_promotion()


@pytest.mark.parametrize("field", ["state", "replaces"])
def test_a_promotion_without_its_lead_is_not_decodable(field: str) -> None:
    plain = event_codec().decode_plain(event_codec().encode(a_promotion()))

    with pytest.raises(NotDecodable, match="promotion_incomplete"):
        event_codec().decode(wire_value("event", {**plain, field: None}))


def test_the_lead_of_a_promotion_has_the_ids_of_the_registry_too() -> None:
    ids = {"lead": SchemaIds(100_042, {100_042: newest("lead").definition})}

    value = event_codec(ids).encode(a_promotion())

    assert event_codec(ids).decode(value) == a_promotion()
    with pytest.raises(NotDecodable, match="unknown_schema_id: 100042 is not a released lead"):
        event_codec().decode(value)


@pytest.mark.parametrize(
    ("codec", "record"),
    [
        (event_codec(), a_handover(origin=an_origin(7))),
        (command_codec(), a_command(cancel_on=("reply",))),
        (lead_codec(), a_lead()),
    ],
    ids=["event", "command", "lead"],
)
def test_a_record_of_the_first_release_is_read(codec: Codec[Any], record: Any) -> None:
    first = next(schema for schema in released() if (schema.schema, schema.version) == (codec.schema, 1))
    plain = codec.decode_plain(codec.encode(record))
    fields = {field["name"] for field in first.definition["fields"]}
    older = {name: value for name, value in plain.items() if name in fields}

    value = wire_value_of(first.definition, first.id, older)

    assert codec.decode(value) == record
