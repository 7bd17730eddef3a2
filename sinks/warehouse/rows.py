"""Kafka records → warehouse rows, and which topics they are read from."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from leads.canary import is_mark
from runtime.clock import from_millis
from runtime.dead_letter import PREFIX
from schemas.codec import BUILT_IN, Codec, Ids, event_codec, lead_codec, outcome_codec
from schemas.topics import EVENTS, LEADS, OUTCOMES, Topic
from sinks.consume import Source, Unusable
from sinks.fenced_log import FENCE
from sinks.warehouse.removals import Kept, KeyForgotten, PersonForgotten
from sinks.warehouse.tables import DEAD_LETTER_TABLE, LEAD_TABLE, MESSAGE_FIELDS, OUTCOME_TABLE, Row, Table

_ERASED = "person_erased"
_BY_THE_PERSON = frozenset({"message", "postback"})
_DIGITS_OF_A_LONG = 19


class RowRefused(Unusable):
    """The warehouse never takes this row."""


def warehouse_sources(name: Callable[[str], str], ids: Ids = BUILT_IN) -> Mapping[str, Source[Kept]]:
    """How to read each topic of the warehouse, by its name on a cluster."""
    readers: dict[Topic, Callable[[Any], Kept]] = {
        LEADS: partial(newest_or_forgotten, LEAD_TABLE, lead_codec(ids)),
        OUTCOMES: partial(newest_or_forgotten, OUTCOME_TABLE, outcome_codec(ids)),
        EVENTS: partial(message_or_forgotten, event_codec(ids)),
    }
    sources = {topic: Source(read, name(topic.dead_letters), takes_tombstones=True) for topic, read in readers.items()}
    sources |= {topic: Source(dead_letter_row, None, takes_tombstones=True) for topic in DEAD_LETTER_TABLE.topics}
    return {name(topic.name): source for topic, source in sources.items()}


def newest_or_forgotten(table: Table, codec: Codec[Any], record: Any) -> Kept:
    """The row of a record of a compacted topic, or the removal of its key. Raises `NotDecodable`.

    None for a fence and for the mark of a canary.
    """
    if record.value is not None:
        return codec.decode_plain(record.value)
    if record.key in (None, FENCE) or is_mark(record.key):
        return None
    return KeyForgotten(table, record.key.decode(errors="replace"))


def message_or_forgotten(codec: Codec[Any], record: Any) -> Kept:
    """The row of a message or a pressed button, without the words, or the removal of an erased person's rows.

    None for any other event. Raises `NotDecodable`.
    """
    kind = codec.decode_first(record.value) if record.value is not None else None
    if kind != _ERASED and kind not in _BY_THE_PERSON:
        return None
    plain = codec.decode_plain(record.value)
    if kind == _ERASED:
        # The splitter has passed the erasure on by the time of this record, and all that was received before it.
        return PersonForgotten(plain["page_id"], plain["psid"], plain["received_at"], from_millis(record.timestamp))
    return {field: plain[field] for field in MESSAGE_FIELDS}


def dead_letter_row(record: Any) -> Row:
    """A dead letter as Kafka has it, with the fields of its headers; a missing header is null."""
    headers = {name.removeprefix(PREFIX): value for name, value in record.headers if name.startswith(PREFIX)}
    return {
        "topic": _text(headers.get("topic")),
        "partition": _number(headers.get("partition")),
        "offset": _number(headers.get("offset")),
        "stage": _text(headers.get("stage")),
        "fault": _text(headers.get("exception.class.name")),
        "reason": _text(headers.get("exception.message")),
        "refused_at": from_millis(record.timestamp),
        "key": record.key,
        "value": record.value,
    }


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def _number(value: bytes | None) -> int | None:
    if value is None or not value.isdigit() or len(value) >= _DIGITS_OF_A_LONG:
        return None
    return int(value)
