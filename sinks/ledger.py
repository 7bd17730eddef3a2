"""The send ledger: what was attempted and what became of it, kept in the outcomes topic itself."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from leads.records import FollowUpOutcome
from schemas.codec import Codec, NotDecodable
from sinks.consume import Fenced

logger = logging.getLogger(__name__)

_OPEN = ("attempting", "in_doubt")


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of the outcomes topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that was made or was about to be made, with no result."""

    number: int
    at: datetime


class OutcomeLog(Protocol):
    """The outcomes topic."""

    async def ends(self, partitions: Collection[int]) -> Mapping[int, int]:
        """The offset that the next record of each partition will get."""

    def read(self, spans: Mapping[int, range]) -> AsyncIterator[Entry]:
        """The records of these offsets, by partition."""

    async def append(self, partition: int, key: bytes, value: bytes) -> Awaitable[int]:
        """Put a record behind those of earlier calls; what comes back gives its offset once it is durable."""


@dataclass(slots=True)
class _Book:
    """What one partition says; `next` is the offset that our next record gets if nobody else writes."""

    next: int = 0
    attempts: dict[str, Attempt] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    mids: set[str] = field(default_factory=set)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def note(self, outcome: FollowUpOutcome) -> None:
        if outcome.status in _OPEN:
            self.attempts[outcome.command_id] = Attempt(outcome.attempt, outcome.occurred_at)
            return
        self.attempts.pop(outcome.command_id, None)
        self.settled.add(outcome.command_id)
        if outcome.mid is not None:
            self.mids.add(outcome.mid)


class Ledger:
    """The outcomes of the commands of some partitions; an outcome lies in the partition of its command.

    Nobody but the holder of a partition appends to it, so that offsets tell when another process does: of two that both
    believe to hold a partition, the one whose `attempting` comes second learns so before it sends. Every method raises
    `Fenced` from then on, until `open` has read what the other one wrote.
    """

    def __init__(self, log: OutcomeLog, codec: Codec[FollowUpOutcome]) -> None:
        self._log, self._codec = log, codec
        self._books: dict[int, _Book] = {}

    async def open(self, partitions: Collection[int]) -> None:
        """Hold these partitions and read them to their end, from where we left off in those that we hold already."""
        self._books = {partition: self._books.get(partition, _Book()) for partition in partitions}
        ends = await self._log.ends(partitions)
        spans = {partition: range(book.next, ends[partition]) for partition, book in self._books.items()}
        async for entry in self._log.read(spans):
            self._note(entry)
        for partition, book in self._books.items():
            book.next = ends[partition]

    def is_settled(self, partition: int, command_id: str) -> bool:
        return command_id in self._book(partition).settled

    def attempt(self, partition: int, command_id: str) -> Attempt | None:
        """The last attempt, while nothing more is known of it."""
        return self._book(partition).attempts.get(command_id)

    def knows_message(self, partition: int, mid: str) -> bool:
        """Whether an outcome names this message already."""
        return mid in self._book(partition).mids

    async def append(self, partition: int, outcome: FollowUpOutcome) -> None:
        """Returns once the outcome is durable and nobody else wrote to the partition before it.

        Raises `Fenced` when somebody did; the outcome stands all the same, and `open` reads theirs and ours.
        """
        book = self._book(partition)
        async with book.turn:
            expected = book.next
            acked = await self._log.append(partition, outcome.command_id.encode(), self._codec.encode(outcome))
            book.next += 1
        if await acked != expected:
            self._books.pop(partition, None)
            raise Fenced
        book.note(outcome)

    def _book(self, partition: int) -> _Book:
        book = self._books.get(partition)
        if book is None:
            raise Fenced
        return book

    def _note(self, entry: Entry) -> None:
        book = self._books[entry.partition]
        try:
            book.note(self._codec.decode(entry.value))
        except NotDecodable as fault:
            # Whatever it says, something was done about this command: never do it again.
            where = {"partition": entry.partition, "offset": entry.offset, "reason": str(fault)}
            logger.warning("ledger.unreadable_entry", extra=where)
            if entry.key is not None:
                book.settled.add(entry.key.decode(errors="replace"))


class KafkaOutcomeLog:
    """The outcomes topic in Kafka. `reader` belongs to no group and is assigned as needed."""

    def __init__(self, topic: str, reader: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        self._topic, self._reader, self._producer = topic, reader, producer

    async def ends(self, partitions: Collection[int]) -> Mapping[int, int]:
        ends = await self._reader.end_offsets([TopicPartition(self._topic, one) for one in partitions])
        return {one.partition: offset for one, offset in ends.items()}

    async def read(self, spans: Mapping[int, range]) -> AsyncIterator[Entry]:
        ends = {TopicPartition(self._topic, one): span.stop for one, span in spans.items() if span}
        self._reader.assign(list(ends))
        for one in ends:
            self._reader.seek(one, spans[one.partition].start)
        while ends:
            for records in (await self._reader.getmany(*ends, timeout_ms=200)).values():
                for record in records:
                    yield Entry(record.partition, record.offset, record.key, record.value)
            ends = {one: end for one, end in ends.items() if await self._reader.position(one) < end}

    async def append(self, partition: int, key: bytes, value: bytes) -> Awaitable[int]:
        sent = await self._producer.send(self._topic, value, key=key, partition=partition)
        return _offset(sent)


async def _offset(sent: Awaitable[Any]) -> int:
    return int((await sent).offset)
