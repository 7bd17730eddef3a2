"""Topics, schemas, records and golden examples say the same; released lead schemas stay readable both ways."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import make_avsc_object

from leads.records import (
    Button,
    ConversionOutcome,
    FetchTranscript,
    FollowUpMessage,
    FollowUpOutcome,
    Lead,
    LeadId,
    LeadStage,
    LeadState,
    QuickReply,
    SendFollowUp,
    WebhookOrigin,
)
from messenger.data_deletion import DeletionRequest
from messenger.events import Ad, Answer, Origin, PageId, Psid
from runtime.clock import from_millis
from schemas.codec import (
    KINDS,
    Codec,
    command_codec,
    conversion_codec,
    deletion_codec,
    event_codec,
    lead_codec,
    outcome_codec,
    stage_codec,
    transcript_request_codec,
)
from schemas.released import newest, released
from schemas.topics import (
    COMMANDS,
    CONVERSIONS,
    DELETION_REQUESTS,
    EVENTS,
    LEADS,
    OUTCOMES,
    STAGES,
    TOPICS,
    TRANSCRIPTS,
    WEBHOOKS,
)
from tests.avro import wire_value

Definition = Mapping[str, Any]

SCHEMAS = Path(__file__).parents[2] / "schemas"
EXAMPLES = SCHEMAS / "examples"
CODECS: Mapping[str, Codec[Any]] = {
    EVENTS.name: event_codec(),
    LEADS.name: lead_codec(),
    COMMANDS.name: command_codec(),
    OUTCOMES.name: outcome_codec(),
    TRANSCRIPTS.name: transcript_request_codec(),
    DELETION_REQUESTS.name: deletion_codec(),
    STAGES.name: stage_codec(),
    CONVERSIONS.name: conversion_codec(),
}
RECORD_OF = {
    "Lead": Lead,
    "FollowUpCommand": SendFollowUp,
    "FollowUpOutcome": FollowUpOutcome,
    "TranscriptRequest": FetchTranscript,
    "DataDeletionRequest": DeletionRequest,
    "LeadStage": LeadStage,
    "ConversionOutcome": ConversionOutcome,
    "LeadState": LeadState,
    "Ad": Ad,
    "Answer": Answer,
    "Origin": Origin,
    "WebhookOrigin": WebhookOrigin,
    "FollowUpMessage": FollowUpMessage,
    "QuickReply": QuickReply,
    "Button": Button,
}
# Everything else in these records is about the Page, the ad, Meta's messages as things, or our own work.
PERSONAL = {
    "event": {
        "psid",
        "answers.question",
        "answers.answer",
        "text",
        "state.lead",
        "state.referral_answers.answer",
        "state.transcript_answers.answer",
    },
    "lead": {"psid", "answers.question", "answers.answer", "summary_text"},
    "followup-command": {"psid", "message.text"},
    "followup-outcome": {"psid"},
    "transcript-request": {"psid"},
    "data-deletion-request": {"user_id"},
    "lead-stage": {"psid"},
    "conversion-outcome": set(),
}


def _golden() -> Iterator[tuple[str, Path]]:
    for topic in CODECS:
        for path in sorted((EXAMPLES / topic / "v1").glob("*.json")):
            yield topic, path


GOLDEN = [pytest.param(topic, path, id=f"{topic}/{path.stem}") for topic, path in _golden()]


@pytest.mark.parametrize(("topic", "path"), GOLDEN)
def test_every_example_survives_the_codec(topic: str, path: Path) -> None:
    codec = CODECS[topic]
    example = json.loads(path.read_text(encoding="utf-8"))

    value = wire_value(codec.schema, _from_json(example))

    assert _as_json(codec.decode_plain(value)) == {**_defaults(codec.schema), **example}
    assert codec.encode(codec.decode(value)) == value


def test_every_topic_that_others_read_has_an_example() -> None:
    others_read = {topic.name for topic in TOPICS if topic.schema is not None}

    assert others_read == set(CODECS)
    assert {topic for topic, _ in _golden()} == others_read


def test_no_example_lies_outside_a_version_of_a_topic() -> None:
    known = {WEBHOOKS.name, *CODECS}

    strays = [
        path
        for path in EXAMPLES.rglob("*")
        if path.is_file() and (path.suffix != ".json" or path.parent.name != "v1" or path.parts[-3] not in known)
    ]

    assert strays == []


def test_every_kind_of_event_has_an_example() -> None:
    kinds = {json.loads(path.read_text(encoding="utf-8"))["kind"] for topic, path in _golden() if topic == EVENTS.name}

    assert kinds == {*KINDS, "progress"}


def test_every_schema_file_is_released_and_every_release_is_of_a_topic() -> None:
    stems = {f"{schema.schema}.v{schema.version}" for schema in released()}

    assert {path.stem for path in SCHEMAS.glob("*.avsc")} == stems
    assert {schema.schema for schema in released()} == {topic.schema for topic in TOPICS if topic.schema is not None}


def test_versions_count_from_one_without_gaps() -> None:
    for schema in {schema.schema for schema in released()}:
        versions = [release.version for release in released() if release.schema == schema]

        assert versions == list(range(1, len(versions) + 1)), schema


def test_a_later_version_has_its_new_fields_behind_those_of_the_one_before() -> None:
    """A reader without schema ids, such as Spark, takes every record for one of the first version."""
    for schema in released():
        fields = [field["name"] for field in schema.definition["fields"]]
        last = [field["name"] for field in newest(schema.schema).definition["fields"]]

        assert last[: len(fields)] == fields, schema.schema


def test_records_and_schemas_have_the_same_fields() -> None:
    found = {
        definition["name"]: {field["name"] for field in definition["fields"]}
        for schema in PERSONAL
        for definition in _records(newest(schema).definition)
    }
    event = found.pop("Event")
    progress = found.pop("PartitionProgress")

    assert found == {name: set(record.__struct_fields__) for name, record in RECORD_OF.items()}
    assert event == {"kind", "received_until"} | {name for kind in KINDS.values() for name in kind.__struct_fields__}
    assert progress == {"partition", "time"}


@pytest.mark.parametrize("schema", PERSONAL)
def test_personal_data_is_marked_and_nothing_else_is(schema: str) -> None:
    assert set(_marked(newest(schema).definition)) == PERSONAL[schema]


def test_a_new_schema_must_say_which_of_its_fields_are_personal() -> None:
    assert {schema.schema for schema in released()} == set(PERSONAL)


@pytest.mark.parametrize("file", sorted(SCHEMAS.glob("*.avsc")), ids=lambda file: str(file.stem))
def test_every_field_says_what_it_means(file: Path) -> None:
    assert [name for name, field in _all_fields(json.loads(file.read_text())) if not field.get("doc")] == []


def _all_fields(record: Definition, path: str = "") -> Iterator[tuple[str, Definition]]:
    for field in record["fields"]:
        name = f"{path}{field['name']}"
        yield name, field
        for type_ in field["type"] if isinstance(field["type"], list) else [field["type"]]:
            inner = type_.get("items", type_) if isinstance(type_, dict) else type_
            if isinstance(inner, dict) and "fields" in inner:
                yield from _all_fields(inner, f"{name}.")


@pytest.mark.parametrize("schema", PERSONAL)
def test_every_release_reads_every_other(schema: str) -> None:
    assert _conflicts([release.definition for release in released() if release.schema == schema]) == []


@pytest.mark.parametrize(
    "field",
    [{"name": "score", "type": "int"}, {"name": "revision", "type": "string"}],
    ids=["new-without-default", "other-type"],
)
def test_a_release_that_others_cannot_read_or_write_is_refused(field: Definition) -> None:
    lead = newest("lead").definition
    others = [other for other in lead["fields"] if other["name"] != field["name"]]

    assert _conflicts([lead, {**lead, "fields": [*others, field]}])


def test_a_release_with_a_new_field_that_has_a_default_is_accepted() -> None:
    lead = newest("lead").definition
    longer = {**lead, "fields": [*lead["fields"], {"name": "score", "type": ["null", "int"], "default": None}]}

    assert _conflicts([lead, longer]) == []


def test_the_wire_format_is_confluents() -> None:
    """A zero byte, the schema id big-endian, then Avro: any Kafka tool reads it, for ever."""
    request = FetchTranscript(
        lead_id=LeadId("L1"),
        page_id=PageId("P"),
        psid=Psid("S"),
        requested_at=from_millis(1),
        lead_at=from_millis(-64),
    )

    assert transcript_request_codec().encode(request) == (
        b"\x00" b"\x00\x00\x00\x05" b"\x04L1" b"\x02P" b"\x02S" b"\x02" b"\x7f"
    )  # fmt: skip


def test_released_ids_stay_as_they_are() -> None:
    """Each stands in every record ever written: add to this list, change nothing in it."""
    assert {schema.id: f"{schema.schema}.v{schema.version}" for schema in released()} == {
        1: "event.v1",
        2: "lead.v1",
        3: "followup-command.v1",
        4: "followup-outcome.v1",
        5: "transcript-request.v1",
        7: "data-deletion-request.v1",
        8: "event.v2",
        9: "lead.v2",
        10: "followup-command.v2",
        11: "lead-stage.v1",
        12: "conversion-outcome.v1",
    }


def _defaults(schema: str) -> dict[str, Any]:
    return {field["name"]: field["default"] for field in newest(schema).definition["fields"] if "default" in field}


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def _from_json(value: Any) -> Any:
    match value:
        case dict():
            return {key: _from_json(part) for key, part in value.items()}
        case list():
            return [_from_json(part) for part in value]
        case str() if value.startswith("\0"):
            return value.encode("latin-1")  # as Avro writes bytes in JSON; ours begin with the magic byte
        case str() if _MOMENT.fullmatch(value):
            return datetime.fromisoformat(value)
        case _:
            return value


def _as_json(value: Any) -> Any:
    match value:
        case dict():
            return {key: _as_json(part) for key, part in value.items()}
        case list():
            return [_as_json(part) for part in value]
        case bytes():
            return value.decode("latin-1")
        case datetime():
            assert value.tzinfo is UTC or value.utcoffset() == UTC.utcoffset(None)
            return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case _:
            return value


def _records(avro: Any) -> Iterator[Definition]:
    """The record definitions in a schema, outermost first."""
    if isinstance(avro, list):
        for schema in avro:
            yield from _records(schema)
    elif isinstance(avro, dict) and avro["type"] == "record":
        yield avro
        for field in avro["fields"]:
            yield from _records(field["type"])
    elif isinstance(avro, dict) and avro["type"] == "array":
        yield from _records(avro["items"])


def _marked(definition: Definition) -> Iterator[str]:
    """The paths of the values that are marked as personal, themselves or with the record around them."""
    named = {record["name"]: record for record in _records(definition)}

    def walk(avro: Any, path: str, *, marked: bool) -> Iterator[str]:
        if isinstance(avro, list):
            [avro] = [schema for schema in avro if schema != "null"]
        if isinstance(avro, dict) and avro["type"] == "array":
            yield from walk(avro["items"], path, marked=marked)
        elif (record := named.get(avro if isinstance(avro, str) else avro.get("name", ""))) is not None:
            for field in record["fields"]:
                below = f"{path}.{field['name']}" if path else field["name"]
                yield from walk(field["type"], below, marked=marked or field.get("pii", False))
        elif marked:
            yield path

    return walk(definition, "", marked=False)


def _conflicts(definitions: list[Definition]) -> list[str]:
    """What keeps one of these from reading what another wrote: empty when all are FULL_TRANSITIVE."""
    parsed = [make_avsc_object(dict(definition)) for definition in definitions]
    pairs = [*permutations(parsed, 2), *((schema, schema) for schema in parsed)]
    checker = ReaderWriterCompatibilityChecker()
    found = [checker.get_compatibility(reader=reader, writer=writer) for reader, writer in pairs]
    return [
        message
        for result in found
        if result.compatibility is not SchemaCompatibilityType.compatible
        for message in (*result.messages, *result.locations)
    ]
