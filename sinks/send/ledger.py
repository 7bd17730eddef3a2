"""The send ledger: what was attempted and what became of it, kept in the outcomes topic itself."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from leads.records import FollowUpOutcome, OutcomeStatus, SendFollowUp
from messenger.events import DeliveryReceived, EchoReceived, PageId, Psid, ReadReceived
from runtime.clock import from_millis, to_millis
from runtime.topic_reading import read_spans
from schemas.codec import Codec, NotDecodable
from sinks.consume import Fenced
from sinks.send.broker_clock import BrokerTime
from sinks.send.read_receipts import Receipts
from sinks.send.reasons import SentReason
from sinks.send.sent_counts import DAY, Tally

logger = logging.getLogger(__name__)

# The key of the record that says that a partition has a new holder. It has no value, so that no reader minds it.
FENCE = b"fence"
_TOLD_EVERY = 10_000

_OPEN: frozenset[OutcomeStatus] = frozenset({"attempting", "in_doubt", "parked"})
# How far a message has come; of a command that is settled without one, nothing more can be said.
_PROGRESS: Mapping[OutcomeStatus, int] = MappingProxyType({"sent": 1, "delivered": 2, "read": 3})
_END = 3
_ECHO: SentReason = "echo"

# The messaging window is a day; a command that may be sent later than this is refused.
LONGEST_WINDOW = timedelta(days=2)
# A command that is unknown so long after it was made and its window closed had an outcome that may be forgotten.
_TOO_OLD = timedelta(days=3)
# What was settled is forgotten after this. Its command was read before it was settled, and had then no more than the
# longest window before it, so that it is too old by now, should it ever be read again.
REMEMBERED = LONGEST_WINDOW + _TOO_OLD


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of the outcomes topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    stamp: datetime


@dataclass(frozen=True, slots=True)
class Acked:
    """Where a record lies and the broker's time at which it came there."""

    offset: int
    stamp: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that was made or was about to be made, with no result.

    `parked` says what the command waits for, when Meta refused the call so that nothing was sent.
    """

    number: int
    at: datetime
    parked: str | None = None


class OutcomeLog(Protocol):
    """The outcomes topic."""

    async def first_since(self, partitions: Collection[int], moment: datetime) -> Mapping[int, int]:
        """The first offset of each that the broker stamped no sooner than `moment`."""

    def read(self, spans: Mapping[int, range]) -> AsyncIterator[Entry]:
        """The records of these offsets, by partition."""

    async def append(self, partition: int, key: bytes, value: bytes | None) -> Awaitable[Acked]:
        """Put a record behind those of earlier calls; what comes back ends once it is durable."""


@dataclass(slots=True)
class _Book:
    """What one partition says; `next` is the offset that our next record gets if nobody else writes.

    `settled` says how far each command came and, as `mids` does, when that was noted: the oldest first.
    """

    next: int | None = None
    open: dict[str, tuple[Attempt, FollowUpOutcome]] = field(default_factory=dict)
    settled: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    mids: dict[str, datetime] = field(default_factory=dict)
    receipts: Receipts = field(default_factory=Receipts)
    tally: Tally = field(default_factory=Tally)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def admits(self, outcome: FollowUpOutcome) -> bool:
        """Whether it says more than what is known: what was sent can only be delivered, and then read."""
        known, _ = self.settled.get(outcome.command_id, (0, None))
        return not known or _PROGRESS.get(outcome.status, 0) > known

    def note(self, outcome: FollowUpOutcome, at: datetime, *, noted_at: datetime) -> None:
        """Take in what was written at `noted_at` about something that began at `at`, if it is new here."""
        known = self.open.pop(outcome.command_id, None)
        if known is not None and known[0].number == outcome.attempt:
            at = known[0].at
        if outcome.status in _OPEN:
            parked = outcome.reason if outcome.status == "parked" else None
            self.open[outcome.command_id] = (Attempt(outcome.attempt, at, parked), outcome)
        else:
            if outcome.status in _PROGRESS and outcome.command_id not in self.settled:
                self.tally.note(outcome.page_id, outcome.psid, at)
            self.settle(outcome.command_id, _PROGRESS.get(outcome.status, _END), noted_at)
        if outcome.status in _PROGRESS:
            self.receipts.note(outcome, at)
        if outcome.mid is not None:
            self.mids[outcome.mid] = noted_at
        self._forget_before(noted_at - REMEMBERED)

    def settle(self, command_id: str, progress: int, noted_at: datetime) -> None:
        # Put in again, so that the oldest stay first.
        self.settled.pop(command_id, None)
        self.settled[command_id] = progress, noted_at

    def _forget_before(self, moment: datetime) -> None:
        while self.settled and self.settled[oldest := next(iter(self.settled))][1] < moment:
            del self.settled[oldest]
        while self.mids and self.mids[oldest := next(iter(self.mids))] < moment:
            del self.mids[oldest]
        while self.open and self._is_doubt_of_before(oldest := next(iter(self.open)), moment):
            del self.open[oldest]

    def _is_doubt_of_before(self, command_id: str, moment: datetime) -> bool:
        attempt, outcome = self.open[command_id]
        return outcome.status == "in_doubt" and attempt.at < moment

    def forget(self, command_id: str, noted_at: datetime) -> None:
        """Keep nothing of it but that it is never to be done again."""
        self.open.pop(command_id, None)
        self.settle(command_id, _END, noted_at)
        self.receipts.forget(command_id)

    def forget_person(self, page_id: PageId, psid: Psid) -> None:
        for command_id, (_, outcome) in list(self.open.items()):
            if (outcome.page_id, outcome.psid) == (page_id, psid):
                del self.open[command_id]
        self.receipts.forget_person(page_id, psid)


class Ledger:
    """The outcomes of the commands of some partitions; an outcome lies in the partition of its command.

    Nobody but the holder of a partition appends to it, so that offsets tell when another process does. Who takes a
    partition over writes a fence into it first: of two that both believe to hold it, the former learns so from its next
    `attempting`, before it sends. Every method raises `Fenced` from then on, until `open` has read what the other one
    wrote. The broker's stamps set `clock`. Outcomes are remembered as long as `REMEMBERED`; `on_read` is told, as the
    ledger is opened, how many of how many records are read.
    """

    def __init__(
        self,
        log: OutcomeLog,
        codec: Codec[FollowUpOutcome],
        clock: BrokerTime,
        on_read: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        self._log, self._codec, self._clock, self._on_read = log, codec, clock, on_read
        self._books: dict[int, _Book] = {}

    async def open(self, partitions: Collection[int]) -> None:
        """Hold these partitions and read what is to be remembered, from where we left off in those that we hold."""
        self._books = {partition: self._books.get(partition, _Book()) for partition in partitions}
        fences = dict(zip(partitions, await asyncio.gather(*map(self._fence, partitions)), strict=True))
        new = [partition for partition, book in self._books.items() if book.next is None]
        starts = await self._log.first_since(new, self._clock() - REMEMBERED)
        spans = {
            one: range(starts.get(one, fence) if (known := self._books[one].next) is None else known, fence)
            for one, fence in fences.items()
        }
        read, records = 0, sum(map(len, spans.values()))
        async for entry in self._log.read(spans):
            self._note(entry)
            read += 1
            if not read % _TOLD_EVERY:
                self._on_read(read, records)
        for partition, book in self._books.items():
            book.next = fences[partition] + 1

    async def _fence(self, partition: int) -> int:
        asked_at = self._clock.own()
        acked = await (await self._log.append(partition, FENCE, None))
        self._clock.hear(acked.stamp, asked_at)
        return acked.offset

    def is_settled(self, partition: int, command_id: str) -> bool:
        return command_id in self._book(partition).settled

    def is_too_old(self, partition: int, command: SendFollowUp) -> bool:
        """Whether nothing is known of a command so old, and closed so long, that its outcome may be forgotten."""
        is_known = self.is_settled(partition, command.command_id) or self.attempt(partition, command.command_id)
        return not is_known and max(command.created_at, command.not_after) < self._clock() - _TOO_OLD

    def attempt(self, partition: int, command_id: str) -> Attempt | None:
        """The last attempt, while nothing more is known of it."""
        known = self._book(partition).open.get(command_id)
        return known[0] if known is not None else None

    def knows_message(self, partition: int, mid: str) -> bool:
        """Whether an outcome names this message already."""
        return mid in self._book(partition).mids

    def sent_to(self, partition: int, page_id: PageId, psid: Psid) -> int:
        """How many messages this person got in the last day."""
        return self._book(partition).tally.of_person(page_id, psid, self._clock())

    def sent_for(self, partition: int, page_id: PageId) -> int:
        """How many messages the people of a Page who belong to this partition got in the last day."""
        return self._book(partition).tally.of_page(page_id, self._clock())

    def may_have_sent(self, partition: int, page_id: PageId) -> Mapping[str, Psid]:
        """Whom the calls of the last day went to that have no result, by command id."""
        since = self._clock() - DAY
        return {
            command_id: outcome.psid
            for command_id, (attempt, outcome) in self._book(partition).open.items()
            if outcome.page_id == page_id and attempt.parked is None and attempt.at > since
        }

    def confirmed_by(
        self, partition: int, event: EchoReceived | DeliveryReceived | ReadReceived
    ) -> tuple[FollowUpOutcome, ...]:
        """What a webhook says of commands of ours; an echo carries the command id that we sent as metadata."""
        book = self._book(partition)
        if not isinstance(event, EchoReceived):
            return book.receipts.confirmed_by(event)
        if event.metadata is None or event.metadata not in book.open:
            return ()
        _, outcome = book.open[event.metadata]
        return (
            replace(
                outcome,
                status="sent",
                occurred_at=event.event_at,
                mid=event.mid,
                error_code=None,
                error_subcode=None,
                reason=_ECHO,
            ),
        )

    async def append(self, partition: int, outcome: FollowUpOutcome) -> bool:
        """Returns once the outcome is durable and nobody else wrote to the partition before it.

        False when it says no more than what is known, as after an echo that came first; then it is not written.
        Raises `Fenced` when somebody else wrote; the outcome stands all the same, and `open` reads theirs and ours.
        """
        book = self._book(partition)
        async with book.turn:
            if not book.admits(outcome):
                return False
            assert book.next is not None, "a book that is open was read"
            expected, asked_at = book.next, self._clock.own()
            acked = await self._log.append(partition, outcome.command_id.encode(), self._codec.encode(outcome))
            book.next += 1
            # At once, so that whoever appends next knows it; nothing is committed before the ack.
            book.note(outcome, outcome.occurred_at, noted_at=self._clock())
        await self._expect(partition, expected, acked, asked_at)
        return True

    async def forget(self, partition: int, command_id: str) -> None:
        """Settle a command of somebody erased: a record without a value takes the place of all its outcomes.

        Returns and raises as `append` does.
        """
        book = self._book(partition)
        async with book.turn:
            assert book.next is not None, "a book that is open was read"
            expected, asked_at = book.next, self._clock.own()
            acked = await self._log.append(partition, command_id.encode(), None)
            book.next += 1
            book.forget(command_id, self._clock())
        await self._expect(partition, expected, acked, asked_at)

    def forget_person(self, partition: int, page_id: PageId, psid: Psid) -> None:
        """From now on no webhook confirms a message to this person."""
        self._book(partition).forget_person(page_id, psid)

    async def _expect(self, partition: int, offset: int, acked: Awaitable[Acked], asked_at: datetime) -> None:
        ack = await acked
        self._clock.hear(ack.stamp, asked_at)
        if ack.offset != offset:
            self._books.pop(partition, None)
            raise Fenced

    def _book(self, partition: int) -> _Book:
        book = self._books.get(partition)
        if book is None:
            raise Fenced
        return book

    def _note(self, entry: Entry) -> None:
        book = self._books[entry.partition]
        try:
            if entry.value is not None:
                book.note(self._codec.decode(entry.value), entry.stamp, noted_at=entry.stamp)
                return
        except NotDecodable as fault:
            where = {"partition": entry.partition, "offset": entry.offset, "reason": str(fault)}
            logger.warning("ledger.unreadable_entry", extra=where)
        # Whatever it said, something was done about this command, or its person is erased: never do it again.
        if entry.key is not None and entry.key != FENCE:
            book.forget(entry.key.decode(errors="replace"), entry.stamp)


class KafkaOutcomeLog:
    """The outcomes topic in Kafka. `reader` belongs to no group and is assigned as needed."""

    def __init__(self, topic: str, reader: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        self._topic, self._reader, self._producer = topic, reader, producer

    async def first_since(self, partitions: Collection[int], moment: datetime) -> Mapping[int, int]:
        wanted = {TopicPartition(self._topic, one): max(to_millis(moment), 0) for one in partitions}
        found = await self._reader.offsets_for_times(wanted) if wanted else {}
        return {one.partition: first.offset for one, first in found.items() if first is not None}

    async def read(self, spans: Mapping[int, range]) -> AsyncIterator[Entry]:
        places = {TopicPartition(self._topic, partition): span for partition, span in spans.items()}
        async for record in read_spans(self._reader, places):
            yield Entry(record.partition, record.offset, record.key, record.value, from_millis(record.timestamp))

    async def append(self, partition: int, key: bytes, value: bytes | None) -> Awaitable[Acked]:
        sent = await self._producer.send(self._topic, value, key=key, partition=partition)
        return _acked(sent)


async def _acked(sent: Awaitable[Any]) -> Acked:
    record = await sent
    return Acked(record.offset, from_millis(record.timestamp))
