"""One destination in this process: its queue, its fortune, and how far it is in each partition."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from aiokafka import TopicPartition

from leads.pages import is_canary
from leads.records import FollowUpOutcome, Lead, is_notice
from sinks.consume import Received
from sinks.deliver.client import DeliveryClient
from sinks.deliver.destination import Destination
from sinks.deliver.ledger import Book
from sinks.deliver.next_step import DeliverLimits, Fortune
from sinks.deliver.payload import outcome_webhook_id
from sinks.deliver.queue import Item, Queue, Record
from sinks.deliver.records import OPEN, Delivery, DisabledReason, Kind


@dataclass(slots=True)
class Line:
    """How far a destination is in a partition: it has read up to `read_to`, and `held` is not settled, by offset."""

    place: TopicPartition
    read_to: int
    held: dict[int, Item] = field(default_factory=dict)

    @property
    def position(self) -> int:
        """Everything before it is settled."""
        return min(self.held, default=self.read_to)


@dataclass(slots=True)
class Outlet:
    """A destination with its client. Each has its own calls, pauses and backlog, so that none waits for another."""

    destination: Destination
    client: DeliveryClient
    limits: DeliverLimits
    fortune: Fortune
    queue: Queue = field(default_factory=Queue)
    lines: dict[TopicPartition, Line] = field(default_factory=dict)
    under_way: int = 0
    disabled: DisabledReason | None = None

    def reset(self) -> None:
        """Forget what is held; the fortune stays."""
        self.queue, self.lines, self.under_way = Queue(), {}, 0

    def may_call(self, now: datetime) -> bool:
        return self.disabled is None and self.fortune.may_call(now, self.under_way)

    def has_room(self, line: Line) -> bool:
        """Whether to read on; a reading may then go beyond the limits."""
        limits, size = self.limits, sum(item.size for item in line.held.values())
        return self.disabled is None and len(line.held) < limits.held_per_partition and size < limits.held_bytes

    def feed(self, line: Line, records: Iterable[Received[Record]], until: int, book: Book, now: datetime) -> None:
        """Take in the records of a partition up to an offset; those that are settled, or not for it, are passed."""
        for received in records:
            if received.offset >= line.read_to:
                item = self.item_of(received, book, now)
                if item is not None:
                    line.held[item.offset] = item
                    self.queue.add(item)
        line.read_to = max(line.read_to, until)

    def item_of(self, received: Received[Record], book: Book, now: datetime) -> Item | None:
        """The delivery of a record; None where there is none, or none any more."""
        found = self._wanted(received.record)
        if found is None:
            return None
        kind, subject = found
        last = book.deliveries.get(key_of(kind, self.destination.name, subject))
        if last is not None and _is_settled(last, received):
            return None
        is_same = last is not None and last.offset == received.offset
        ready_at = last.next_at if is_same and last is not None and last.next_at is not None else now
        return Item(
            received.partition,
            received.offset,
            kind,
            subject,
            received.record,
            ready_at,
            last if is_same else None,
            received.size,
        )

    def _wanted(self, record: Record) -> tuple[Kind, str] | None:
        destination = self.destination
        if record is None or is_canary(record.page_id):
            return None
        if isinstance(record, Lead):
            return ("lead", record.lead_id) if destination.when.acts_on(record) else None
        pages = destination.when.pages
        is_of_page = pages is None or record.page_id in pages
        is_news = is_of_page and record.status != "attempting" and not is_notice(record)
        return ("outcome", record.command_id) if destination.outcomes and is_news else None

    def finish(self, item: Item) -> None:
        self.queue.finish(item)
        line = self.lines[item.place]
        if line.held.get(item.offset) is item:
            del line.held[item.offset]


def key_of(kind: Kind, destination: str, subject: str) -> bytes:
    """The key of a delivery's entry."""
    return f"{kind}/{destination}/{subject}".encode()


def _is_settled(last: Delivery, received: Received[Record]) -> bool:
    """Whether the last delivery of a subject leaves nothing to do for this record of it."""
    is_open = last.status in OPEN
    if received.offset <= last.offset:
        return received.offset < last.offset or not is_open
    match received.record:
        case Lead() as lead:
            return lead.revision <= last.revision and not is_open
        case FollowUpOutcome() as outcome:
            return outcome_webhook_id(outcome) == last.webhook_id and not is_open
        case None:
            return True


def revision_of(record: Record) -> int:
    return record.revision if isinstance(record, Lead) else record.attempt if isinstance(record, FollowUpOutcome) else 0
