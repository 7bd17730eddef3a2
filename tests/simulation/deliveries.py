"""Deliveries against leads and outcomes: each arrived or is named in the ledger, in order, and none of the erased."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from leads.erasures import Erasures, register_key
from leads.pages import is_canary
from leads.records import FollowUpOutcome, Lead, is_notice
from messenger.events import PageId, Psid
from operations.audit.history import Finding, History, place_of
from runtime.clock import from_millis, to_millis
from schemas.codec import NotDecodable, lead_codec, outcome_codec
from schemas.topics import DELIVERIES, ERASURES, LEADS, OUTCOMES
from sinks.deliver.destination import Destination
from sinks.deliver.payload import erasure_webhook_id, lead_webhook_id, outcome_webhook_id
from sinks.deliver.records import OPEN, Delivery, Entry, Position, entry_of
from streams.records import Record

# A call leaves so long after its look at the register, or not at all.
_LEAVES_WITHIN = timedelta(seconds=5)
_GIVEN_UP = ("failed", "skipped")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A delivery that a destination got, and the status of its answer, which need not have been read."""

    destination: str
    webhook_id: str
    at: datetime
    body: bytes
    status: int
    is_signed: bool


@dataclass(slots=True)
class _Due:
    """A delivery that a record promises to a destination, and what became of it; `revision` is 0 for an outcome."""

    webhook_id: str
    name: str
    place: tuple[str, int, int]
    lead_id: str
    revision: int
    person: tuple[PageId, Psid]
    made_at: datetime
    is_erased: bool
    is_compacted: bool
    arrivals: list[Arrival] = field(default_factory=list)
    entries: list[tuple[datetime, Delivery]] = field(default_factory=list)

    @property
    def where(self) -> str:
        return f"{'/'.join(map(str, self.place))} {self.name}"

    @property
    def is_owed(self) -> bool:
        return not (self.is_erased or self.is_compacted)

    @property
    def is_open(self) -> bool:
        """Whether it is owed, and none of the entries so far ends it."""
        return self.is_owed and all(entry.status in OPEN for _, entry in self.entries)


@dataclass(slots=True)
class _Book:
    """A destination: what it got, what the ledger says of it, and the deliveries that it is due, by their ids."""

    name: str
    arrivals: Sequence[tuple[Arrival, Any]]
    entries: Sequence[tuple[Record, Entry]]
    due: Mapping[str, _Due]

    def where(self, what: str) -> str:
        return f"{self.name} {what}"


def differences(
    history: History,
    arrivals: Sequence[Arrival],
    destinations: Sequence[Destination],
    compacted: Collection[str],
    way: timedelta,
) -> Iterator[Finding]:
    """Deliveries that are missing, and those that must not be.

    `compacted` are the places of records that compaction has taken. A request is on its way for `way` at most.
    """
    erasures = Erasures()
    for record in history.of(ERASURES):
        erasures.note(record.key, record.value)
    for destination in destinations:
        book = _book(history, arrivals, destination, compacted, erasures)
        yield from _wrong_arrivals(book)
        yield from _wrong_entries(book)
        yield from _invented(book)
        yield from _unended(book)
        yield from _erased(history, book, erasures, way)


def _book(
    history: History,
    all_arrivals: Sequence[Arrival],
    destination: Destination,
    compacted: Collection[str],
    erasures: Erasures,
) -> _Book:
    name = destination.name
    arrivals = [(arrival, json.loads(arrival.body)) for arrival in all_arrivals if arrival.destination == name]
    decoded = ((record, entry_of(record)) for record in history.of(DELIVERIES))
    entries = [(record, entry) for record, entry in decoded if entry is not None and entry.destination == name]
    firsts: dict[tuple[str, int], int] = {}
    for record, entry in entries:
        if isinstance(entry, Position):
            for topic, first in ((LEADS, entry.leads), (OUTCOMES, entry.outcomes)):
                firsts.setdefault((topic.name, record.partition), first or 0)
    due: dict[str, _Due] = {}
    for topic, codec in ((LEADS, lead_codec()), (OUTCOMES, outcome_codec())):
        for record in history.of(topic):
            try:
                kept: Any = None if record.value is None else codec.decode(record.value)
            except NotDecodable:
                continue
            is_new = record.offset >= firsts.get((topic.name, record.partition), 0)
            if kept is not None and is_new and _is_for(destination, kept):
                held = _promise(kept, record, erasures, is_compacted=place_of(record) in compacted)
                due.setdefault(held.webhook_id, held)
    return _Book(name, arrivals, entries, due)


def _promise(kept: Lead | FollowUpOutcome, record: Record, erasures: Erasures, *, is_compacted: bool) -> _Due:
    if isinstance(kept, Lead):
        name, revision, made_at = f"{kept.lead_id} revision {kept.revision}", kept.revision, kept.updated_at
    else:
        name, revision, made_at = f"{kept.command_id} {kept.status} {kept.attempt}", 0, kept.occurred_at
    is_erased = erasures.cover(kept.page_id, kept.psid, made_at)
    webhook_id = lead_webhook_id(kept) if isinstance(kept, Lead) else outcome_webhook_id(kept)
    place, person = (record.topic, record.partition, record.offset), (kept.page_id, kept.psid)
    return _Due(webhook_id, name, place, kept.lead_id, revision, person, made_at, is_erased, is_compacted)


def _is_for(destination: Destination, kept: Lead | FollowUpOutcome) -> bool:
    if is_canary(kept.page_id):
        return False
    if isinstance(kept, Lead):
        return destination.when.acts_on(kept)
    pages = destination.when.pages
    is_of_page = pages is None or kept.page_id in pages
    return destination.outcomes and is_of_page and kept.status != "attempting" and not is_notice(kept)


def _wrong_arrivals(book: _Book) -> Iterator[Finding]:
    """Arrivals that are not signed, not of a record, or not the same as before."""
    bodies: dict[str, bytes] = {}
    for arrival, content in book.arrivals:
        name, webhook_id = _name_of(content), arrival.webhook_id
        where = book.where(f"{webhook_id} {name}")
        if not arrival.is_signed:
            yield Finding("delivery_not_signed", where)
        if _is_erasure(content):
            is_right = erasure_webhook_id(content["data"]["lead_id"]) == webhook_id
        else:
            held = book.due.get(webhook_id)
            is_right = held is not None and held.name == name
            if held is not None:
                held.arrivals.append(arrival)
        if not is_right:
            yield Finding("delivery_under_another_id", where)
        # The ledger of sends may write an outcome again, by another clock.
        if content["type"] != "followup.outcome" and bodies.setdefault(webhook_id, arrival.body) != arrival.body:
            yield Finding("delivery_with_another_body", where)


def _is_erasure(content: Any) -> bool:
    return bool(content["type"] == "lead.erased")


def _name_of(content: Any) -> str:
    data = content["data"]
    match content["type"]:
        case "lead.revised":
            return f"{data['lead_id']} revision {data['revision']}"
        case "followup.outcome":
            return f"{data['command_id']} {data['status']} {data['attempt']}"
        case _:
            return f"{data['lead_id']} erased"


def _is_taken(arrival: Arrival) -> bool:
    return 200 <= arrival.status < 300


def _wrong_entries(book: _Book) -> Iterator[Finding]:
    """Walks through the ledger in its order: it must say nothing that has not happened, and nothing too early."""
    of_lead: defaultdict[str, list[_Due]] = defaultdict(list)
    for held in book.due.values():
        if held.revision:
            of_lead[held.lead_id].append(held)
    for record, entry in book.entries:
        where = book.where(place_of(record))
        if isinstance(entry, Position):
            for passed in _passed(book, record.partition, entry):
                yield Finding("position_passes_a_delivery", f"{where} {passed.where}")
        elif isinstance(entry, Delivery) and entry.webhook_id in book.due:
            due = book.due[entry.webhook_id]
            earlier = [held for held in of_lead[due.lead_id] if held.revision < due.revision and held.is_open]
            if entry.status == "attempting" and earlier:
                yield Finding("delivery_before_the_last", f"{where} {due.where}")
            due.entries.append((from_millis(record.timestamp), entry))


def _invented(book: _Book) -> Iterator[Finding]:
    """Entries that say that something was delivered, and nothing had arrived and been taken."""
    taken: dict[str, datetime] = {}
    for arrival, content in book.arrivals:
        if _is_taken(arrival) or (_is_erasure(content) and arrival.status == 404):
            taken.setdefault(arrival.webhook_id, arrival.at)
    for record, entry in book.entries:
        if not isinstance(entry, Delivery) or entry.status != "delivered":
            continue
        if entry.webhook_id not in taken or taken[entry.webhook_id] > from_millis(record.timestamp):
            yield Finding("ledger_invents_a_delivery", book.where(f"{place_of(record)} {entry.lead_id}"))


def _passed(book: _Book, partition: int, position: Position) -> list[_Due]:
    """The deliveries that have no end yet, and lie before the position."""
    ends = {(LEADS.name, partition): position.leads or 0, (OUTCOMES.name, partition): position.outcomes or 0}
    return [held for held in book.due.values() if held.place[2] < ends.get(held.place[:2], 0) and held.is_open]


def _unended(book: _Book) -> Iterator[Finding]:
    for held in book.due.values():
        where = book.where(held.where)
        tried_at = min((at for at, entry in held.entries if entry.status == "attempting"), default=None)
        if any(tried_at is None or arrival.at < tried_at for arrival in held.arrivals):
            yield Finding("delivered_before_the_attempt", where)
        is_given_up = any(entry.status in _GIVEN_UP for _, entry in held.entries)
        if held.is_owed and not is_given_up and not any(map(_is_taken, held.arrivals)):
            yield Finding("lost_delivery", where)
    last = {entry.key: entry for _, entry in book.entries if isinstance(entry, Delivery)}
    for entry in last.values():
        if entry.status in OPEN:
            yield Finding("delivery_left_open", book.where(f"{entry.lead_id} {entry.kind} {entry.status}"))


def _erased(history: History, book: _Book, erasures: Erasures, way: timedelta) -> Iterator[Finding]:
    """Nothing of an erased person arrives later, and their leads are asked back where they may be."""
    buried = {record.key for record in history.of(LEADS) if record.value is None}
    erased = {held.lead_id for held in book.due.values() if held.is_erased}
    asked_back = _asked_back(book)
    for lead_id in asked_back:
        if lead_id not in erased and lead_id.encode() not in buried:
            yield Finding("asked_back_without_erasure", book.where(lead_id))
    for held in book.due.values():
        if not held.is_erased or not held.arrivals:
            continue
        last = max(arrival.at for arrival in held.arrivals)
        if last > _registered_at(history, held, erasures) + _LEAVES_WITHIN + way:
            yield Finding("delivered_after_the_erasure", book.where(held.where))
        if held.lead_id.encode() in buried and asked_back.get(held.lead_id, last) <= last:
            yield Finding("erased_lead_remains", book.where(held.where))


def _registered_at(history: History, held: _Due, erasures: Erasures) -> datetime:
    """When the register first said that this is erased."""
    key = register_key(erasures.salt or b"", *held.person)
    return next(
        from_millis(record.timestamp)
        for record in history.of(ERASURES)
        if record.key == key and to_millis(held.made_at) <= int(record.value or b"0")
    )


def _asked_back(book: _Book) -> dict[str, datetime]:
    """By lead, when its erasure was taken last; a destination that does not know the lead has taken it too."""
    return {
        content["data"]["lead_id"]: arrival.at
        for arrival, content in book.arrivals
        if _is_erasure(content) and (_is_taken(arrival) or arrival.status == 404)
    }
