"""The book of deliveries, kept in `lead-deliveries`: read back on assignment, written before each call."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from sinks.consume import Fenced
from sinks.deliver.records import OPEN, Delivery, DisabledReason, Entry, Position, Standing, encode, entry_of
from sinks.fenced_log import FencedLog

Ends = Callable[[Collection[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
# A settled delivery is forgotten this long after, once the destination's position has passed it.
_REMEMBERED = timedelta(days=1)
# Older settled deliveries are not kept while reading: where a position stands still for longer, they come again.
_READ_BACK = timedelta(days=14)


@dataclass(slots=True)
class Book:
    """One destination in one partition. `deliveries` has the last of each subject, by the key of its record.

    `position` is None while the destination has none.
    """

    position: Position | None = None
    standing: Standing | None = None
    deliveries: dict[bytes, Delivery] = field(default_factory=dict)

    @property
    def disabled(self) -> DisabledReason | None:
        return None if self.standing is None else self.standing.disabled

    def open(self) -> Iterator[Delivery]:
        """The deliveries that are not settled."""
        return (delivery for delivery in self.deliveries.values() if delivery.status in OPEN)

    def note(self, entry: Entry) -> None:
        match entry:
            case Position():
                self.position = entry
            case Standing():
                self.standing = entry
            case Delivery():
                # Put in again, so that the oldest stay first.
                self.deliveries.pop(entry.key, None)
                self.deliveries[entry.key] = entry

    def forget(self, before: datetime) -> None:
        """Forget what was settled before a time and is behind the position."""
        for key, delivery in list(self.deliveries.items()):
            if delivery.at >= before:
                break
            if delivery.status not in OPEN and self._is_passed(delivery):
                del self.deliveries[key]

    def _is_passed(self, delivery: Delivery) -> bool:
        if delivery.kind == "erasure":
            return True
        if self.position is None:
            return False
        position = self.position.leads if delivery.kind == "lead" else self.position.outcomes
        return position is not None and delivery.offset < position


class DeliveryLedger:
    """The books of the partitions that this process holds, by partition and destination.

    `open` is called first, and after each assignment and each `Fenced`; everything may then be called from several
    tasks of one event loop. `ends` gives the ends of partitions of the topic.
    """

    def __init__(self, log: FencedLog, ends: Ends, topic: str, clock: Callable[[], datetime]) -> None:
        self._log, self._ends, self._topic, self._clock = log, ends, topic, clock
        self._books: dict[int, defaultdict[str, Book]] = {}

    async def open(self, partitions: Collection[int], on_read: Callable[[int, int], None]) -> None:
        """Hold exactly these partitions, and read what is new in them; all of those that were not held.

        Raises `KafkaError`; then it must be called again.
        """
        self._books = {
            partition: self._books[partition] if self._log.holds(partition) else defaultdict(Book)
            for partition in partitions
        }
        await self._log.hold(partitions, None, self._note, on_read)

    def _note(self, record: ConsumerRecord) -> None:
        entry = entry_of(record)
        if entry is None:
            return
        book = self._books[record.partition][entry.destination]
        book.note(entry)
        if isinstance(entry, Delivery) and entry.status not in OPEN and entry.at < self._clock() - _READ_BACK:
            del book.deliveries[entry.key]

    def book(self, partition: int, destination: str) -> Book:
        """Raises `Fenced` where the partition is not held."""
        if not self._log.holds(partition):
            raise Fenced
        return self._books[partition][destination]

    def books_of(self, destination: str) -> list[tuple[int, Book]]:
        return [(partition, books[destination]) for partition, books in self._books.items()]

    async def append(self, partition: int, entry: Entry) -> None:
        """Write an entry; returns once it is durable and no other process wrote to the partition before it.

        Others see it at once. Raises `Fenced`, and `KafkaError` when it may or may not be durable.
        """
        ack = await self._log.put(partition, entry.key, encode(entry))
        self._books[partition][entry.destination].note(entry)
        await ack

    async def require_alone(self) -> None:
        """Raises `Fenced` where another has written to a partition: an operator, an erasure, or another holder.

        While Kafka does not answer nothing is known.
        """
        places = {TopicPartition(self._topic, partition): partition for partition in self._books}
        with suppress(KafkaError):
            for place, end in (await self._ends(list(places))).items():
                if self._log.is_behind(places[place], end):
                    raise Fenced

    def forget(self) -> None:
        """Forget what is settled and passed."""
        for books in self._books.values():
            for book in books.values():
                book.forget(self._clock() - _REMEMBERED)
