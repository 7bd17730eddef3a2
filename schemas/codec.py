"""Records ↔ Avro bytes in the Confluent wire format: a zero byte, the schema id in four bytes, the body.

`Codec` maps our frozen records to Avro by field name. Schema ids are those of the released table, unless the ids of
another registry are passed in.
"""

import io
import struct
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeVar, cast, get_args

import fastavro
from msgspec import Struct
from msgspec.structs import replace

from leads.facts import JoinEvent, LeadPromoted, Progress
from leads.records import (
    Button,
    ConversionOutcome,
    FetchTranscript,
    FollowUpMessage,
    FollowUpOutcome,
    Lead,
    LeadStage,
    LeadState,
    QuickReply,
    SendFollowUp,
    WebhookOrigin,
)
from messenger.data_deletion import DeletionRequest
from messenger.events import Ad, Answer, Event, Origin
from schemas.released import newest, released
from schemas.serde import STRING, Serde, serde_of

_MAGIC = 0
_PREFIX = struct.Struct(">bI")
_PROGRESS = "progress"


ValueFault = Literal[
    # Fewer bytes than the prefix of the Confluent wire format, or a null.
    "too_short",
    # The first byte is not that of the Confluent wire format.
    "not_wire_format",
    # The schema id belongs to no release of this topic's schema.
    "unknown_schema_id",
    # The bytes after the prefix are not a record of the schema.
    "not_a_record",
    # Bytes follow the record.
    "bytes_after_record",
    # An event lacks its times or its origin.
    "event_incomplete",
    # A promotion lacks its lead.
    "promotion_incomplete",
    # An id in a command or a stage, or the name of a stage, is longer than 255 characters.
    "id_too_long",
    # The key of a command is not `page:psid` of its own person, or that of a stage not the id of its lead.
    "key_of_another",
    # A command or a stage is in another partition than its key's: its producer does not use murmur2.
    "wrong_partition",
]


class NotDecodable(ValueError):
    """The value is refused as a record of its topic. The message is the code `reason`, with `detail` behind a colon.

    Neither quotes the content.
    """

    def __init__(self, reason: ValueFault, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason: ValueFault = reason


KINDS: Mapping[str, type[JoinEvent]] = MappingProxyType(
    {str(record.__struct_config__.tag): record for record in get_args(JoinEvent)}
)
# The classes of the records inside records, by their names in the schemas.
_NESTED: Mapping[str, type] = MappingProxyType(
    {
        record.__name__: record
        for record in (Ad, Answer, Origin, WebhookOrigin, LeadState, FollowUpMessage, QuickReply, Button)
    }
)


@cache
def _serde_of_record(schema: str, record: type[Struct]) -> Serde:
    return serde_of(newest(schema).definition, record, record.__struct_fields__, _NESTED)


T = TypeVar("T")


class SchemaIds(NamedTuple):
    """The ids of a schema in a registry: the newest, to write with, and the definition of each id."""

    write_id: int
    definitions: Mapping[int, dict[str, Any]]


Ids = Mapping[str, SchemaIds]
BUILT_IN: Ids = MappingProxyType({})
_DECODE_FAULTS = (EOFError, IndexError, KeyError, OverflowError, TypeError, UnicodeDecodeError, ValueError)


class Codec(Generic[T]):
    """Encodes and decodes the values of one schema.

    `ids` are those of a registry, by schema name; any other schema has the ids of the released table. `decode` raises
    `NotDecodable` for any other value.
    """

    def __init__(self, schema: str, serde: Serde, ids: Ids = BUILT_IN) -> None:
        self.schema = schema
        self._write_body, self._read_body = serde
        schema_ids = ids.get(schema) or _released_ids(schema)
        ours = newest(schema).definition
        self._ours = fastavro.parse_schema(ours)
        self._ids_of_ours = {schema_id for schema_id, theirs in schema_ids.definitions.items() if theirs == ours}
        self._definitions = {
            schema_id: fastavro.parse_schema(theirs) for schema_id, theirs in schema_ids.definitions.items()
        }
        self._prefix = _PREFIX.pack(_MAGIC, schema_ids.write_id)

    def encode(self, record: T) -> bytes:
        return self._prefix + self._write_body(record)

    def decode(self, value: bytes | None) -> T:
        schema_id, value = self._opened(value)
        at = _PREFIX.size
        if schema_id not in self._ids_of_ours:
            value, at = self._translated(value), 0
        try:
            record, end = self._read_body(value, at)
        except _DECODE_FAULTS as fault:
            raise NotDecodable("not_a_record", type(fault).__name__) from None
        if end != len(value):
            raise NotDecodable("bytes_after_record")
        return cast(T, record)

    def decode_plain(self, value: bytes | None) -> dict[str, Any]:
        """The value as nested dicts of Avro's field names."""
        schema_id, value = self._opened(value)
        body = _body_of(value)
        # Without a reader's schema fastavro resolves nothing; nearly every record has our own schema.
        reader = None if schema_id in self._ids_of_ours else self._ours
        plain = _read(body, self._definitions[schema_id], reader)
        if not isinstance(plain, dict) or body.read(1):
            raise NotDecodable("bytes_after_record")
        return plain

    def decode_first(self, value: bytes | None) -> Any:
        """The first field alone, without decoding the rest."""
        schema_id, value = self._opened(value)
        return _read(_body_of(value), self._definitions[schema_id]["fields"][0]["type"])

    def _opened(self, value: bytes | None) -> tuple[int, bytes]:
        """The schema id, and the value that has one."""
        if value is None or len(value) < _PREFIX.size:
            raise NotDecodable("too_short")
        magic, schema_id = _PREFIX.unpack_from(value)
        if magic != _MAGIC:
            raise NotDecodable("not_wire_format", f"magic byte {magic}")
        if schema_id not in self._definitions:
            raise NotDecodable("unknown_schema_id", f"{schema_id} is not a released {self.schema}")
        return schema_id, value

    def _translated(self, value: bytes) -> bytes:
        """The body of another release as a body of ours."""
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self._ours, self.decode_plain(value))
        return body.getvalue()


def _body_of(value: bytes) -> io.BytesIO:
    body = io.BytesIO(value)
    body.seek(_PREFIX.size)
    return body


def _read(body: io.BytesIO, *schemas: Any) -> Any:
    try:
        return fastavro.schemaless_reader(body, *schemas)
    except _DECODE_FAULTS as fault:
        raise NotDecodable("not_a_record", type(fault).__name__) from None


def _released_ids(schema: str) -> SchemaIds:
    return SchemaIds(
        newest(schema).id, {release.id: release.definition for release in released() if release.schema == schema}
    )


class _PartitionProgress(NamedTuple):
    partition: int
    time: datetime


@cache
def _event_serdes() -> Mapping[str, Serde]:
    """The serde of each kind of event, and of an unknown one under an empty name."""
    definition, nested = newest("event").definition, {**_NESTED, "PartitionProgress": _PartitionProgress}
    records: Mapping[str, type[Struct]] = {**KINDS, _PROGRESS: Progress}
    serdes = {
        kind: serde_of(definition, record, record.__struct_fields__, nested, {"kind": kind})
        for kind, record in records.items()
    }
    every_field = [field["name"] for field in definition["fields"]]
    return {**serdes, "": serde_of(definition, dict, every_field, nested)}


def _write_event(event: JoinEvent | Progress) -> bytes:
    if isinstance(event, Progress):
        pairs = tuple(_PartitionProgress(*pair) for pair in event.received_until)
        return _event_serdes()[_PROGRESS].write(Progress(pairs))
    return _event_serdes()[str(event.__struct_config__.tag)].write(event)


def _read_event(body: bytes, at: int) -> tuple[JoinEvent | Progress | None, int]:
    kind, _ = STRING.read(body, at)
    serdes = _event_serdes()
    event, end = serdes.get(kind, serdes[""]).read(body, at)
    if kind == _PROGRESS:
        return Progress(event.received_until or ()), end
    return event if kind in KINDS else None, end


class _EventCodec(Codec[JoinEvent | Progress | None]):
    """Refuses events without what the join goes by; writes the lead of a promotion in its own wire format."""

    def __init__(self, ids: Ids) -> None:
        super().__init__("event", Serde(_write_event, _read_event), ids)
        self._leads: Codec[Any] = lead_codec(ids)

    def encode(self, record: JoinEvent | Progress | None) -> bytes:
        if isinstance(record, LeadPromoted):
            record = replace(record, state=replace(record.state, lead=self._leads.encode(record.state.lead)))
        return super().encode(record)

    def decode(self, value: bytes | None) -> JoinEvent | Progress | None:
        event = super().decode(value)
        if isinstance(event, Event) and None in (event.event_at, event.received_at, event.origin):
            raise NotDecodable("event_incomplete")
        if isinstance(event, LeadPromoted):
            if None in (event.state, event.replaces):
                raise NotDecodable("promotion_incomplete")
            in_wire_format: Any = event.state.lead
            return replace(event, state=replace(event.state, lead=self._leads.decode(in_wire_format)))
        return event


def event_codec(ids: Ids = BUILT_IN) -> Codec[JoinEvent | Progress | None]:
    """Platform events and progress records; an unknown kind decodes to None, and is never encoded."""
    return _EventCodec(ids)


def lead_codec(ids: Ids = BUILT_IN) -> Codec[Lead]:
    return Codec("lead", _serde_of_record("lead", Lead), ids)


def command_codec(ids: Ids = BUILT_IN) -> Codec[SendFollowUp]:
    return Codec("followup-command", _serde_of_record("followup-command", SendFollowUp), ids)


def outcome_codec(ids: Ids = BUILT_IN) -> Codec[FollowUpOutcome]:
    return Codec("followup-outcome", _serde_of_record("followup-outcome", FollowUpOutcome), ids)


def transcript_request_codec(ids: Ids = BUILT_IN) -> Codec[FetchTranscript]:
    return Codec("transcript-request", _serde_of_record("transcript-request", FetchTranscript), ids)


def stage_codec(ids: Ids = BUILT_IN) -> Codec[LeadStage]:
    return Codec("lead-stage", _serde_of_record("lead-stage", LeadStage), ids)


def conversion_codec(ids: Ids = BUILT_IN) -> Codec[ConversionOutcome]:
    return Codec("conversion-outcome", _serde_of_record("conversion-outcome", ConversionOutcome), ids)


def deletion_codec(ids: Ids = BUILT_IN) -> Codec[DeletionRequest]:
    return Codec("data-deletion-request", _serde_of_record("data-deletion-request", DeletionRequest), ids)
