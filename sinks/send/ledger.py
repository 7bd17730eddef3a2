"""The send ledger: attempts and their results, kept in the outcomes topic itself."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from aiokafka import ConsumerRecord
from msgspec.structs import replace

from leads.records import OPTED_IN, OPTED_OUT, FollowUpOutcome, LeadId, OutcomeStatus, SendFollowUp
from messenger.events import DeliveryReceived, EchoReceived, PageId, Psid, ReadReceived, person_key
from runtime.clock import from_millis
from schemas.codec import Codec, NotDecodable
from sinks.consume import Fenced
from sinks.fenced_log import FENCE, FencedLog
from sinks.send.broker_clock import BrokerTime
from sinks.send.caps import Sent
from sinks.send.outcome_log import OutcomeLog
from sinks.send.read_receipts import Receipts
from sinks.send.reasons import RejectedReason, SentReason

logger = logging.getLogger(__name__)

_OPEN: frozenset[OutcomeStatus] = frozenset({"attempting", "in_doubt", "parked"})
_NOT_SENT: frozenset[OutcomeStatus] = frozenset({"parked", "rejected", "expired", "cancelled"})
# The progress of a message; a command that is settled without one makes no more progress.
_PROGRESS: Mapping[OutcomeStatus, int] = MappingProxyType({"sent": 1, "delivered": 2, "read": 3})
_END, _ERASED = 4, 5
_ECHO: SentReason = "echo"
_UNAVAILABLE: RejectedReason = "person_unavailable"

# The messaging window is a day; a command that may be sent later than this is refused.
LONGEST_WINDOW = timedelta(days=2)
# A command that is unknown so long after it was made and its window closed had an outcome that may be forgotten.
_TOO_OLD = timedelta(days=3)
# A settled command is forgotten after this: it had no more than the longest window left, and is too old by now.
REMEMBERED = LONGEST_WINDOW + _TOO_OLD


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that was made or was about to be made, with no result.

    `parked` is the reason for which the command waits, where Meta refused the call so that nothing was sent.
    """

    number: int
    at: datetime
    parked: str | None = None


@dataclass(slots=True)
class Book:
    """The outcomes of one partition.

    `settled` has the progress of each command and, as `mids` does, when that was noted: the oldest first. The result of
    an `overtaken` command is not its last record. Those who are `opted_out`, since a time, are sent nothing.
    `unavailable` has the lead and the time of the last message that Meta refused because of the person.
    """

    open: dict[str, tuple[Attempt, FollowUpOutcome]] = field(default_factory=dict)
    settled: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    overtaken: set[str] = field(default_factory=set)
    mids: dict[str, datetime] = field(default_factory=dict)
    receipts: Receipts = field(default_factory=Receipts)
    sent: Sent = field(default_factory=Sent)
    opted_out: dict[str, datetime] = field(default_factory=dict)
    unavailable: dict[str, tuple[LeadId, datetime]] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_too_old(self, command: SendFollowUp, now: datetime) -> bool:
        """Whether the command is unknown, and so old that its outcome may be forgotten."""
        return not self.has(command.command_id) and max(command.created_at, command.not_after) < now - _TOO_OLD

    def has(self, command_id: str | None) -> bool:
        """Whether an outcome of the command is remembered."""
        return command_id in self.settled or command_id in self.open

    def attempt(self, command_id: str) -> Attempt | None:
        """The last attempt, as long as it has no result."""
        return self.open[command_id][0] if command_id in self.open else None

    def may_have_arrived(self, command_id: str) -> bool:
        """Whether the person has the command's message, or may have it."""
        if command_id in self.settled:
            progress, _ = self.settled[command_id]
            return progress < _END
        _, outcome = self.open.get(command_id, (None, None))
        return outcome is not None and outcome.status != "parked"

    def is_for_unavailable(self, command: SendFollowUp) -> bool:
        """Whether Meta has refused the person since the command was made, or a message for the same lead."""
        lead_id, refused_at = self.unavailable.get(person_key(command.page_id, command.psid), (None, None))
        return refused_at is not None and (command.lead_id == lead_id or command.created_at <= refused_at)

    def confirmed_by(self, event: EchoReceived | DeliveryReceived | ReadReceived) -> tuple[FollowUpOutcome, ...]:
        """The outcomes that a webhook confirms; an echo carries the command id that we sent as metadata."""
        if not isinstance(event, EchoReceived):
            return self.receipts.confirmed_by(event)
        if event.metadata is None or event.metadata not in self.open:
            return ()
        _, outcome = self.open[event.metadata]
        sent = replace(outcome, status="sent", occurred_at=event.event_at, mid=event.mid, reason=_ECHO)
        return (replace(sent, error_code=None, error_subcode=None),)

    def admits(self, outcome: FollowUpOutcome) -> bool:
        """Whether it is news: a message that was sent can only be delivered, and then read."""
        progress, _ = self.settled.get(outcome.command_id, (0, None))
        return not progress or _PROGRESS.get(outcome.status, 0) > progress

    def note(self, outcome: FollowUpOutcome, at: datetime, *, noted_at: datetime) -> None:
        """Take in an outcome that was written at `noted_at`; its attempt began at `at`, unless it is known already."""
        last = self.attempt(outcome.command_id)
        if last is not None and last.number == outcome.attempt:
            at = last.at
        self.open.pop(outcome.command_id, None)
        if outcome.status in _OPEN:
            parked = outcome.reason if outcome.status == "parked" else None
            self.open[outcome.command_id] = (Attempt(outcome.attempt, at, parked), outcome)
        if outcome.status in _NOT_SENT:
            self.sent.drop(outcome.command_id)
        elif outcome.command_id not in self.settled:
            # Not when the attempt began: the broker's stamp on it may have corrected the clock since.
            self.sent.note(outcome, noted_at)
        if outcome.status not in _OPEN:
            self._settle(outcome.command_id, _PROGRESS.get(outcome.status, _END), noted_at)
        if outcome.status in _PROGRESS:
            self.receipts.note(outcome, at)
        if outcome.mid is not None:
            self.mids[outcome.mid] = noted_at
        self._note_unavailable(outcome)
        self._forget_before(noted_at - REMEMBERED)

    def _note_unavailable(self, outcome: FollowUpOutcome) -> None:
        if (outcome.status, outcome.reason) == ("rejected", _UNAVAILABLE):
            person = person_key(outcome.page_id, outcome.psid)
            self.unavailable.pop(person, None)
            self.unavailable[person] = outcome.lead_id, outcome.occurred_at

    def note_opt_out(self, page_id: PageId, psid: Psid, reason: str | None, at: datetime) -> None:
        """Take in the reason and the time of a cancellation: it may stand for the whole person."""
        if reason == OPTED_OUT:
            self.opted_out[person_key(page_id, psid)] = at
        elif reason == OPTED_IN:
            self.opted_out.pop(person_key(page_id, psid), None)

    def _settle(self, command_id: str, progress: int, noted_at: datetime) -> None:
        # Put in again, so that the oldest stay first.
        self.settled.pop(command_id, None)
        self.settled[command_id] = progress, noted_at

    def _forget_before(self, moment: datetime) -> None:
        while self.settled and self.settled[oldest := next(iter(self.settled))][1] < moment:
            del self.settled[oldest]
        while self.mids and self.mids[oldest := next(iter(self.mids))] < moment:
            del self.mids[oldest]
        while self.unavailable and self.unavailable[oldest := next(iter(self.unavailable))][1] < moment:
            del self.unavailable[oldest]
        while self.open:
            attempt, outcome = next(iter(self.open.values()))
            if outcome.status != "in_doubt" or attempt.at >= moment:
                break
            del self.open[outcome.command_id]

    def forget(self, command_id: str, noted_at: datetime) -> None:
        """Keep only that the command is settled, for good."""
        self.open.pop(command_id, None)
        self._settle(command_id, _ERASED, noted_at)
        self.receipts.forget(command_id)
        self.sent.drop(command_id)

    def forget_person(self, page_id: PageId, psid: Psid, until: datetime, erased: Collection[str]) -> None:
        """Forget what is known of this person up to `until`; no webhook confirms those messages.

        Everything since stays, but for attempts of `erased` commands: when the erasure is read again, the person
        may have come back, and a message in doubt must not be sent twice.
        """
        for command_id, (attempt, outcome) in list(self.open.items()):
            is_of_person = (outcome.page_id, outcome.psid) == (page_id, psid)
            if is_of_person and (attempt.at <= until or command_id in erased):
                del self.open[command_id]
                self.sent.drop(command_id)
        self.receipts.forget_person(page_id, psid, until)
        person = person_key(page_id, psid)
        if self.opted_out.get(person, until) <= until:
            self.opted_out.pop(person, None)
        _, refused_at = self.unavailable.get(person, (None, until))
        if refused_at <= until:
            self.unavailable.pop(person, None)


class Ledger:
    """The outcomes of the commands of some partitions; an outcome lies in the partition of its command.

    It is a `FencedLog`: a process that lost a partition learns so from its next `attempting`, before it sends. Then
    every method raises `Fenced` for the partition, until `open` has read the records of the other process. Such an
    `attempting` may lie behind the result of the same command, an `expired` behind its `sent`, or any outcome behind
    its erasure. The holder then writes that again: it is the last record of a settled command.

    `open` is called first, and after each assignment and each `Fenced`. All other methods may be called from several
    tasks of one event loop. The broker's stamps set `clock`. Outcomes are remembered as long as `REMEMBERED`. `on_read`
    gets the count of records read, and of those to read, while the ledger opens.
    """

    def __init__(
        self,
        log: OutcomeLog,
        codec: Codec[FollowUpOutcome],
        clock: BrokerTime,
        on_read: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        self._log, self._codec, self._clock, self._on_read = FencedLog(log, clock), codec, clock, on_read
        self._books: dict[int, Book] = {}

    async def open(self, partitions: Collection[int]) -> None:
        """Hold exactly these partitions and read their outcomes, in those that we hold only the new ones.

        Waits for the acks of its fences and for the reading. Afterwards all that was durable before the fences is
        known. Raises `KafkaError`, or `Fenced` as `append` does; then `open` must be called again.
        """
        self._books = {
            partition: self._books[partition] if self._log.holds(partition) else Book() for partition in partitions
        }
        await self._log.hold(partitions, REMEMBERED, self._note, self._on_read)
        await self._put_results_last()

    async def _put_results_last(self) -> None:
        overtaken = {partition: book.overtaken for partition, book in self._books.items() if book.overtaken}
        if not overtaken:
            return
        results: dict[tuple[int, str], tuple[int, bytes | None]] = {}
        async for record in self._log.reread(overtaken, REMEMBERED):
            place, rank = (record.partition, _command_of(record)), self._rank(record.value)
            if place[1] in overtaken[record.partition] and rank >= results.get(place, (0, None))[0]:
                results[place] = rank, record.value
        for (partition, command_id), (_, value) in results.items():
            await (await self._log.put(partition, command_id.encode(), value))
        for commands in overtaken.values():
            commands.clear()

    def _rank(self, value: bytes | None) -> int:
        """Of two results of a command the higher one counts; nothing takes the place of an erasure. Below 0 is none."""
        try:
            status = None if value is None else self._codec.decode(value).status
        except NotDecodable:
            return -1
        if status is None:
            return _ERASED
        return -1 if status in _OPEN else _PROGRESS.get(status, 0)

    def book(self, partition: int) -> Book:
        """The outcomes of a partition, those included that are not acked yet. To be asked anew after each wait."""
        if not self._log.holds(partition):
            raise Fenced
        return self._books[partition]

    def books(self) -> Collection[Book]:
        return self._books.values()

    async def append(self, partition: int, outcome: FollowUpOutcome) -> bool:
        """Write the outcome; returns once it is durable and no other process wrote to the partition before it.

        False when it is no news, as after an echo that came first; then it is not written. Other calls see it at once,
        before the ack. Raises `Fenced` when another process wrote: both records stay, and `open` reads them. Raises
        `KafkaError` when it may or may not be durable.
        """
        book = self.book(partition)
        async with book.turn:
            if not book.admits(outcome):
                return False
            ack = await self._log.put(partition, outcome.command_id.encode(), self._codec.encode(outcome))
            # At once, so that the next append knows it; nothing is committed before the ack.
            book.note(outcome, outcome.occurred_at, noted_at=self._clock())
        await ack
        return True

    async def forget(self, partition: int, command_id: str) -> None:
        """Settle a command of an erased person, or a canary: a tombstone takes the place of all its outcomes.

        Returns and raises as `append` does.
        """
        book = self.book(partition)
        async with book.turn:
            ack = await self._log.put(partition, command_id.encode(), None)
            book.forget(command_id, self._clock())
        await ack

    def _note(self, record: ConsumerRecord) -> None:
        book, stamp = self._books[record.partition], from_millis(record.timestamp)
        try:
            if record.value is not None:
                outcome = self._codec.decode(record.value)
                progress, _ = book.settled.get(outcome.command_id, (0, None))
                if progress and _is_late(outcome, progress):
                    book.overtaken.add(outcome.command_id)
                    return
                book.overtaken.discard(outcome.command_id)
                book.note(outcome, stamp, noted_at=stamp)
                book.note_opt_out(outcome.page_id, outcome.psid, outcome.reason, outcome.occurred_at)
                return
        except NotDecodable as fault:
            where = {"partition": record.partition, "offset": record.offset, "reason": str(fault)}
            logger.warning("ledger.unreadable_entry", extra=where)
        # A tombstone or an unreadable outcome: the person is erased, or an attempt was made. Never make another.
        if record.key is not None and record.key != FENCE:
            book.overtaken.discard(_command_of(record))
            book.forget(_command_of(record), stamp)


def _is_late(outcome: FollowUpOutcome, progress: int) -> bool:
    """Whether a process that had lost the partition wrote it: it would reopen a settled command, or undo progress."""
    is_denial = progress < _END and _PROGRESS.get(outcome.status, 0) < progress
    return progress == _ERASED or outcome.status in _OPEN or is_denial


def _command_of(record: ConsumerRecord) -> str:
    return (record.key or b"").decode(errors="replace")
