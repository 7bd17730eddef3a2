"""The ledger of conversions: attempts and their results, kept in the topic of their outcomes."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from aiokafka import ConsumerRecord
from msgspec.structs import replace

from leads.records import ConversionOutcome, ConversionStatus
from runtime.clock import from_millis
from schemas.codec import Codec, NotDecodable
from sinks.consume import Fenced
from sinks.fenced_log import FENCE, FencedLog
from sinks.send.broker_clock import BrokerTime
from sinks.send.outcome_log import OutcomeLog

logger = logging.getLogger(__name__)

# Longer than `lead-stages` is kept, so that no record comes again whose outcome is forgotten.
REMEMBERED = timedelta(days=35)
# A process that was overtaken may write behind the result of the other: the higher one stands.
_RANK: Mapping[ConversionStatus, int] = MappingProxyType(
    {"attempting": 0, "parked": 0, "in_doubt": 1, "expired": 2, "rejected": 2, "sent": 3}
)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Entry(NamedTuple):
    """The entry of a conversion: its newest outcome, and when that was written."""

    status: ConversionStatus
    attempt: int
    event_at: datetime
    noted_at: datetime

    @property
    def is_settled(self) -> bool:
        return _RANK[self.status] > 0


@dataclass(slots=True)
class Book:
    """The outcomes of one partition, the oldest first; `open` has whole those that are not settled.

    The last record of an `overtaken` conversion is not its result.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    open: dict[str, ConversionOutcome] = field(default_factory=dict)
    overtaken: dict[str, ConversionOutcome] = field(default_factory=dict)

    def note(self, outcome: ConversionOutcome, noted_at: datetime) -> None:
        """Take in an outcome that was written at `noted_at`."""
        key, entry = outcome.conversion_id, Entry(outcome.status, outcome.attempt, outcome.event_at, noted_at)
        known = self.entries.get(key)
        if known is not None and _RANK[known.status] > _RANK[entry.status]:
            self.overtaken[key] = outcome
            return
        self.overtaken.pop(key, None)
        self.open.pop(key, None)
        if not entry.is_settled:
            self.open[key] = outcome
        self._keep(key, entry)

    def give_up(self, key: str, noted_at: datetime) -> None:
        """Its record cannot be read: an attempt may have been made, so that there is never another."""
        self.open.pop(key, None)
        self._keep(key, Entry("in_doubt", 0, _LONG_AGO, noted_at))

    def _keep(self, key: str, entry: Entry) -> None:
        # Put in again, so that the oldest stay first.
        self.entries.pop(key, None)
        self.entries[key] = entry
        while self.entries[oldest := next(iter(self.entries))].noted_at < entry.noted_at - REMEMBERED:
            del self.entries[oldest]
            self.open.pop(oldest, None)

    def results_to_repeat(self) -> list[ConversionOutcome]:
        """The results of what was overtaken, to be written behind it. They no longer say why."""
        found = [(outcome, self.entries[key]) for key, outcome in self.overtaken.items() if key in self.entries]
        return [
            replace(outcome, status=entry.status, attempt=entry.attempt, occurred_at=entry.noted_at)
            for outcome, entry in found
        ]


class ConversionLedger:
    """The outcomes of the conversions of some partitions; each lies in the partition of its lead.

    It is a `FencedLog`: a process that lost a partition learns so from its next `attempting`, before it calls Meta.
    Then every method raises `Fenced` for the partition, until `open` has read the records of the other process.

    `open` is called first, and after each assignment and each `Fenced`; all other methods from tasks of one event loop.
    `on_read` gets the count of records read, and of those to read, while the ledger opens.
    """

    def __init__(
        self,
        log: OutcomeLog,
        codec: Codec[ConversionOutcome],
        clock: BrokerTime,
        on_read: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        self._log, self._codec, self._clock, self._on_read = FencedLog(log, clock), codec, clock, on_read
        self._books: dict[int, Book] = {}

    async def open(self, partitions: Collection[int]) -> None:
        """Hold exactly these partitions and read their outcomes, in those that we hold only the new ones.

        Afterwards all that was durable before is known. Raises `KafkaError`, or `Fenced`; then it must be called again.
        """
        self._books = {
            partition: self._books[partition] if self._log.holds(partition) else Book() for partition in partitions
        }
        await self._log.hold(partitions, REMEMBERED, self._note, self._on_read)
        for partition, book in self._books.items():
            await self.append(partition, book.results_to_repeat())

    def book(self, partition: int) -> Book:
        """The outcomes of a partition, those included that are not acked yet. To be asked anew after each wait."""
        if not self._log.holds(partition):
            raise Fenced
        return self._books[partition]

    async def append(self, partition: int, outcomes: Sequence[ConversionOutcome]) -> None:
        """Write the outcomes; returns once all are durable and no other process wrote to the partition before them.

        Raises `Fenced` when another process wrote: all records stay, and `open` reads them. Raises `KafkaError` when
        some may or may not be durable.
        """
        # Every write ends before this raises: none may come behind the fence of a later `open`.
        writes = (self._write(partition, outcome) for outcome in outcomes)
        for fault in await asyncio.gather(*writes, return_exceptions=True):
            if fault is not None:
                raise fault

    async def _write(self, partition: int, outcome: ConversionOutcome) -> None:
        book = self.book(partition)
        ack = await self._log.put(partition, outcome.conversion_id.encode(), self._codec.encode(outcome))
        book.note(outcome, self._clock())
        await ack

    def _note(self, record: ConsumerRecord) -> None:
        book, stamp, key = self._books[record.partition], from_millis(record.timestamp), record.key
        if key in (None, FENCE):
            return
        try:
            book.note(self._codec.decode(record.value), stamp)
        except NotDecodable as fault:
            where = {"partition": record.partition, "offset": record.offset, "reason": str(fault)}
            logger.warning("ledger.unreadable_entry", extra=where)
            book.give_up(key.decode(errors="replace"), stamp)
