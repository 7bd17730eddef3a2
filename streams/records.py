"""Records of the stage: what comes in, what goes out, what is refused, and the key of an event."""

from datetime import datetime
from typing import NamedTuple, Protocol

from messenger.events import Event, person_key
from runtime.clock import from_millis
from runtime.dead_letter import Headers, Refused
from runtime.plausible import SENT_AT, TOLERANCE

# Of milliseconds since 1970, until the year 5138.
_DIGITS = 14


class Record(Refused, Protocol):
    """A consumed record; aiokafka's `ConsumerRecord` is one."""

    @property
    def timestamp(self) -> int: ...


class Outgoing(NamedTuple):
    """A record to write; `partition` None lets the key decide."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None
    partition: int | None = None


class Refusal(NamedTuple):
    """A record that is refused for good, and why; the reason quotes nothing of it.

    `fault` names what refused it where that is not what the step's other refusals have in common: the class of an
    exception that nobody foresaw, or an operator's skip.
    """

    record: Record
    reason: str
    fault: str | None = None


def received_at(record: Record) -> datetime:
    """The broker's stamp, unless it is minutes after ingest sent the record: then its clock was ahead, and ingest's
    counts. It depends on the record alone, so that a replay sees the same.
    """
    stamp = from_millis(record.timestamp)
    sent_at = next((value for name, value in record.headers if name == SENT_AT), None)
    if sent_at is None or not sent_at.isdigit() or len(sent_at) > _DIGITS:
        return stamp
    sent = from_millis(int(sent_at))
    return sent if stamp - sent > TOLERANCE else stamp


def event_key(event: Event) -> bytes:
    """page:psid, or the page id for what concerns a Page."""
    return (person_key(event.page_id, event.psid) if event.psid else event.page_id).encode()
