"""Our Avro is fastavro's, byte for byte, straight between records and bytes."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads.records import LeadState
from messenger.events import Ad, Answer
from runtime.clock import from_millis
from schemas.codec import (
    KINDS,
    Codec,
    NotDecodable,
    command_codec,
    conversion_codec,
    deletion_codec,
    event_codec,
    lead_codec,
    outcome_codec,
    stage_codec,
    transcript_request_codec,
)
from schemas.released import newest
from schemas.serde import Serde, serde_of
from tests.avro import wire_value

LEAD, EVENT = lead_codec(), event_codec()
CODECS: list[Codec[Any]] = [
    LEAD,
    command_codec(),
    outcome_codec(),
    transcript_request_codec(),
    deletion_codec(),
    stage_codec(),
    conversion_codec(),
]
EVENT_FIELDS = newest("event").definition["fields"]
DEFAULTS = {field["name"]: field["default"] for field in EVENT_FIELDS if "default" in field}
MOMENTS = st.integers(-62_135_596_800_000, 253_402_300_799_999).map(from_millis)
PRIMITIVES: Mapping[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
}


def values_of(avro: Any, named: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Any plain value of a schema."""
    match avro:
        case str():
            return named[avro]
        case ["null", given_type]:
            return st.none() | values_of(given_type, named)
        case {"logicalType": "timestamp-millis"}:
            return MOMENTS
        case {"type": "array", "items": items}:
            return st.lists(values_of(items, named), max_size=3)
        case _:
            named[avro["name"]] = record = st.fixed_dictionaries(
                {field["name"]: values_of(field["type"], named) for field in avro["fields"]}
            )
            return record


LEADS = values_of(newest("lead").definition, dict(PRIMITIVES))
WITH_LEADS = {**PRIMITIVES, "bytes": LEADS.map(lambda plain: wire_value("lead", plain))}


def fields_of(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Any plain event of a kind, without its kind; what the codec requires is never null."""
    named, fields = dict(WITH_LEADS), KINDS[kind].__struct_fields__
    required = {"event_at", "received_at", "origin", "state", "replaces"}
    types = {field["name"]: field["type"] for field in EVENT_FIELDS}
    every = {name: values_of(avro[1] if name in required else avro, named) for name, avro in types.items()}
    return st.fixed_dictionaries({name: every[name] for name in fields})


def plain_of(value: Any) -> Any:
    """A record as fastavro gives it."""
    match value:
        case LeadState():
            fields = {name: plain_of(getattr(value, name)) for name in value.__struct_fields__}
            return {**fields, "lead": LEAD.encode(value.lead)}
        case msgspec.Struct():
            return {name: plain_of(getattr(value, name)) for name in value.__struct_fields__}
        case tuple():
            return [plain_of(item) for item in value]
    return value


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.schema)
@given(data=st.data())
def test_records_are_read_and_written_as_fastavro_does(codec: Codec[Any], data: st.DataObject) -> None:
    plain = data.draw(values_of(newest(codec.schema).definition, dict(PRIMITIVES)))
    value = wire_value(codec.schema, plain)

    record = codec.decode(value)

    assert plain_of(record) == plain
    assert codec.encode(record) == value


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_events_are_read_and_written_as_fastavro_does(kind: str, data: st.DataObject) -> None:
    plain = data.draw(fields_of(kind))
    value = wire_value("event", {"kind": kind, **plain})

    event = EVENT.decode(value)

    assert plain_of(event) == plain
    assert EVENT.encode(event) == value
    assert EVENT.decode_plain(value) == {**DEFAULTS, "kind": kind, **plain}


@given(ours=fields_of("message"), others=fields_of("lead_referral"))
def test_fields_of_another_kind_are_read_over(ours: dict[str, Any], others: dict[str, Any]) -> None:
    value = wire_value("event", {**others, **ours, "kind": "message"})

    assert plain_of(EVENT.decode(value)) == ours


@given(fields_of("lead_referral"), st.integers(1, 20))
def test_an_unknown_kind_is_read_to_its_end(fields: dict[str, Any], left_out: int) -> None:
    value = wire_value("event", {**fields, "kind": "mystery"})

    assert EVENT.decode(value) is None
    with pytest.raises(NotDecodable):
        EVENT.decode(value[:-left_out])


ANSWERS = serde_of(
    {"fields": [{"name": "answers", "type": newest("lead").definition["fields"][5]["type"]}]},
    dict,
    ["answers"],
    {"Answer": Answer},
)


def test_an_array_may_come_in_blocks_with_their_sizes() -> None:
    """Only other writers write so: a negative count has the size of the block behind it."""
    body = b"\x02\x02q\x02a" + b"\x01\x08\x02r\x02b" + b"\x00"

    assert ANSWERS.read(body, 0) == ({"answers": (Answer("q", "a"), Answer("r", "b"))}, len(body))


@pytest.mark.parametrize(
    "body",
    [b"", b"\x02", b"\x02\x7fq\x02a\x00", b"\x02\x40q", b"\x02\x01", b"\xff" * 11, b"\x02\x02\xff\x02a\x00"],
    ids=["nothing", "no item", "negative length", "length beyond", "no length", "number beyond", "no text"],
)
def test_a_damaged_body_is_refused(body: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        ANSWERS.read(body, 0)


def made(avro: Any, nested: Mapping[str, type]) -> Serde:
    return serde_of({"fields": [{"name": "odd", "type": avro}]}, dict, ["odd"], nested)


@pytest.mark.parametrize("avro", ["float", ["string", "null"], {"type": "map", "values": "string"}, "Unknown"])
def test_a_type_that_nothing_of_ours_has_is_refused(avro: Any) -> None:
    with pytest.raises(ValueError, match="no serde for the type"):
        made(avro, {})


def test_a_nested_class_with_other_fields_is_refused() -> None:
    answer = newest("lead").definition["fields"][5]["type"]["items"]

    with pytest.raises(ValueError, match="Ad has the fields"):
        made(answer, {"Answer": Ad})


def test_a_field_without_attribute_and_default_is_refused() -> None:
    with pytest.raises(ValueError, match="mark is no attribute and has no default"):
        serde_of({"fields": [{"name": "mark", "type": "long"}]}, dict, [], {})
