"""Split: raw deliveries → their platform events, one record each; what cannot be read → dead letters."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from leads.erasures import NOBODY, Erasures
from messenger.errors import UnreadableDelivery
from messenger.events import Event, PageId, PlatformEvent, person_key
from messenger.webhook import ItemFault, Parsed, parse_delivery
from runtime.clock import from_millis
from runtime.dead_letter import Headers, Refused
from runtime.plausible import SENT_AT, TOLERANCE

_NAMED_FAULTS = 10
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


@dataclass(slots=True)
class Split:
    """What a run of deliveries gave, in their order; `ignored` counts by reason."""

    events: list[PlatformEvent] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def add(self, more: "Split") -> None:
        self.events += more.events
        self.refused += more.refused
        self.ignored += more.ignored


def split(records: Sequence[Record], aliases: Mapping[PageId, PageId], erasures: Erasures = NOBODY) -> Split:
    """Every messaging item of these deliveries as an event, an ignored reason, or a reason to refuse its delivery.

    A bad item refuses its delivery once, with every bad item named, and the rest of the delivery goes on.
    """
    done = Split()
    for record in records:
        parsed = _parse(record, aliases)
        if isinstance(parsed, str):
            done.refused.append(Refusal(record, parsed))
            continue
        living = [event for event in parsed.events if not erasures.kill(event)]
        done.events += living
        if len(living) < len(parsed.events):
            done.ignored["erased"] += len(parsed.events) - len(living)
        done.ignored.update(parsed.ignored)
        if parsed.faults:
            done.refused.append(Refusal(record, _reason(parsed.faults)))
    return done


def _reason(faults: Sequence[ItemFault]) -> str:
    """The codes, then the first items: the reason is a header, and a body can hold a million items."""
    codes = ", ".join(dict.fromkeys(fault.reason for fault in faults))
    named = [f"item {fault.item} ({fault.place})" for fault in faults[:_NAMED_FAULTS]]
    more = [f"{len(faults) - _NAMED_FAULTS} more"] if len(faults) > _NAMED_FAULTS else []
    return f"{codes}: {', '.join(named + more)}"


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


def _parse(record: Record, aliases: Mapping[PageId, PageId]) -> Parsed | str:
    if record.value is None:
        return "no_value"
    received, stamp = received_at(record), from_millis(record.timestamp)
    try:
        parsed = _parse_as_received(record.value, record, received, aliases)
        # Meta knew of it later than ingest says it was sent: ingest's clock is behind, and the broker's counts.
        if received < stamp and any(event.event_at - received > TOLERANCE for event in parsed.events):
            parsed = _parse_as_received(record.value, record, stamp, aliases)
    except UnreadableDelivery as fault:
        return str(fault)
    return parsed


def _parse_as_received(body: bytes, record: Record, received: datetime, aliases: Mapping[PageId, PageId]) -> Parsed:
    return parse_delivery(
        body,
        received_at=received,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        aliases=aliases,
    )


def event_key(event: Event) -> bytes:
    """page:psid, or the page id for what concerns a Page."""
    return (person_key(event.page_id, event.psid) if event.psid else event.page_id).encode()
