"""Records ↔ Avro bytes in the Confluent wire format: a zero byte, the schema id in four bytes, the body.

`Codec` maps our frozen records to Avro by field name. Schema ids are those of the released table, unless the ids of
another registry are passed in.
"""

import io
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

import fastavro

from leads.facts import JoinEvent, LeadPromoted, Progress
from leads.records import (
    Button,
    FetchTranscript,
    FollowUpMessage,
    FollowUpOutcome,
    Lead,
    LeadState,
    QuickReply,
    SendFollowUp,
    WebhookOrigin,
)
from messenger.data_deletion import DeletionRequest
from messenger.events import Ad, Answer, Origin
from schemas.released import newest, released
from schemas.writer import writer_of

_MAGIC = 0
_PREFIX = struct.Struct(">bI")


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
    # The id of a command or of its lead is longer than 255 characters.
    "id_too_long",
    # The key of a command is not `page:psid` of its own person.
    "key_of_another",
    # A command is in another partition than its key's: its producer does not use murmur2.
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
_KIND_OF: Mapping[type[JoinEvent], str] = {record: kind for kind, record in KINDS.items()}
_NAMES: dict[type, tuple[str, ...]] = {
    record: record.__struct_fields__
    for record in (
        *KINDS.values(), Lead, SendFollowUp, FollowUpOutcome, FetchTranscript, DeletionRequest,
        Ad, Answer, Origin, WebhookOrigin, FollowUpMessage, QuickReply, Button,
    )
}  # fmt: skip


def _plain(value: Any) -> Any:
    names = _NAMES.get(type(value))
    if names is not None:
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _answers(values: list[dict[str, str]]) -> tuple[Answer, ...]:
    return tuple(Answer(pair["question"], pair["answer"]) for pair in values)


def _message(value: dict[str, Any]) -> FollowUpMessage:
    return FollowUpMessage(
        value["text"],
        tuple(QuickReply(**reply) for reply in value["quick_replies"]),
        tuple(Button(**button) for button in value["buttons"]),
    )


_BUILD: Mapping[str, Callable[[Any], Any]] = {
    "answers": _answers,
    "ad": lambda value: Ad(**value),
    "origin": lambda value: Origin(**value),
    "origins": lambda values: tuple(WebhookOrigin(**origin) for origin in values),
    "mids": tuple,
    "cancel_on": tuple,
    "message": _message,
}


def _build(record: type, values: Mapping[str, Any]) -> Any:
    arguments = {}
    for name in _NAMES[record]:
        value = values[name]
        build = _BUILD.get(name)
        arguments[name] = build(value) if build is not None and value is not None else value
    return record(**arguments)


def _event_to_plain(event: JoinEvent | Progress | None, leads: "Codec[Lead]") -> dict[str, Any]:
    assert event is not None, "an unknown kind is never written"
    if isinstance(event, Progress):
        pairs = [{"partition": partition, "time": time} for partition, time in event.received_until]
        return {"kind": "progress", "received_until": pairs}
    plain: dict[str, Any] = _plain(event)
    plain["kind"] = _KIND_OF[type(event)]
    if isinstance(event, LeadPromoted):
        plain["state"] = lead_state_to_plain(event.state, leads)
    return plain


def _event_from_plain(values: Mapping[str, Any], leads: "Codec[Lead]") -> JoinEvent | Progress | None:
    if values["kind"] == "progress":
        return Progress(tuple((pair["partition"], pair["time"]) for pair in values["received_until"] or ()))
    record = KINDS.get(values["kind"])
    if record and None in (values["event_at"], values["received_at"], values["origin"]):
        raise NotDecodable("event_incomplete")
    if record is LeadPromoted:
        if None in (values["state"], values["replaces"]):
            raise NotDecodable("promotion_incomplete")
        values = {**values, "state": lead_state_from_plain(values["state"], leads)}
    event: JoinEvent | None = _build(record, values) if record else None
    return event


def lead_state_to_plain(state: LeadState, leads: "Codec[Lead]") -> dict[str, Any]:
    """The join's state of a lead, the lead itself in its own wire format."""
    return {
        "lead": leads.encode(state.lead),
        "signals": list(state.signals),
        "closes_at": state.closes_at,
        "referral_answers": _plain(state.referral_answers),
        "transcript_answers": _plain(state.transcript_answers),
        "planned": list(state.planned),
    }


def lead_state_from_plain(values: Mapping[str, Any], leads: "Codec[Lead]") -> LeadState:
    """Raises `NotDecodable` when the lead inside cannot be decoded."""
    return LeadState(
        lead=leads.decode(values["lead"]),
        signals=tuple(values["signals"]),
        closes_at=values["closes_at"],
        referral_answers=_answers(values["referral_answers"]),
        transcript_answers=_answers(values["transcript_answers"]),
        planned=tuple(values["planned"]),
    )


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

    def __init__(
        self,
        schema: str,
        to_plain: Callable[[T], dict[str, Any]],
        from_plain: Callable[[Mapping[str, Any]], T],
        ids: Ids = BUILT_IN,
    ) -> None:
        self.schema = schema
        self.to_plain, self.from_plain = to_plain, from_plain
        schema_ids = ids.get(schema) or _released_ids(schema)
        ours = newest(schema).definition
        self._reader = fastavro.parse_schema(ours)
        # Without a reader's schema fastavro resolves nothing; nearly every record has our own schema.
        self._definitions = {
            schema_id: (fastavro.parse_schema(theirs), None if theirs == ours else self._reader)
            for schema_id, theirs in schema_ids.definitions.items()
        }
        self._prefix = _PREFIX.pack(_MAGIC, schema_ids.write_id)
        self._write = writer_of(ours)

    def encode(self, record: T) -> bytes:
        return self._prefix + self._write(self.to_plain(record))

    def decode(self, value: bytes | None) -> T:
        return self.from_plain(self.decode_plain(value))

    def decode_plain(self, value: bytes | None) -> dict[str, Any]:
        """The value as nested dicts of Avro's field names."""
        body, schemas = self._open(value)
        plain = self._read(body, *schemas)
        if not isinstance(plain, dict) or body.read(1):
            raise NotDecodable("bytes_after_record")
        return plain

    def decode_first(self, value: bytes | None) -> Any:
        """The first field alone, without decoding the rest."""
        body, (written_with, _) = self._open(value)
        return self._read(body, written_with["fields"][0]["type"])

    def _open(self, value: bytes | None) -> tuple[io.BytesIO, tuple[Any, Any]]:
        if value is None or len(value) < _PREFIX.size:
            raise NotDecodable("too_short")
        magic, schema_id = _PREFIX.unpack_from(value)
        if magic != _MAGIC:
            raise NotDecodable("not_wire_format", f"magic byte {magic}")
        if schema_id not in self._definitions:
            raise NotDecodable("unknown_schema_id", f"{schema_id} is not a released {self.schema}")
        body = io.BytesIO(value)
        body.seek(_PREFIX.size)
        return body, self._definitions[schema_id]

    def _read(self, body: io.BytesIO, *schemas: Any) -> Any:
        try:
            return fastavro.schemaless_reader(body, *schemas)
        except _DECODE_FAULTS as fault:
            raise NotDecodable("not_a_record", type(fault).__name__) from None


def _released_ids(schema: str) -> SchemaIds:
    return SchemaIds(
        newest(schema).id, {release.id: release.definition for release in released() if release.schema == schema}
    )


def event_codec(ids: Ids = BUILT_IN) -> Codec[JoinEvent | Progress | None]:
    """Platform events and progress records; an unknown kind decodes to None."""
    leads = lead_codec(ids)
    return Codec(
        "event", lambda event: _event_to_plain(event, leads), lambda values: _event_from_plain(values, leads), ids
    )


def lead_codec(ids: Ids = BUILT_IN) -> Codec[Lead]:
    return Codec("lead", _plain, lambda values: _build(Lead, values), ids)


def command_codec(ids: Ids = BUILT_IN) -> Codec[SendFollowUp]:
    return Codec("followup-command", _plain, lambda values: _build(SendFollowUp, values), ids)


def outcome_codec(ids: Ids = BUILT_IN) -> Codec[FollowUpOutcome]:
    return Codec("followup-outcome", _plain, lambda values: _build(FollowUpOutcome, values), ids)


def transcript_request_codec(ids: Ids = BUILT_IN) -> Codec[FetchTranscript]:
    return Codec("transcript-request", _plain, lambda values: _build(FetchTranscript, values), ids)


def deletion_codec(ids: Ids = BUILT_IN) -> Codec[DeletionRequest]:
    return Codec("data-deletion-request", _plain, lambda values: _build(DeletionRequest, values), ids)
