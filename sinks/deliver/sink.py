"""Leads and outcomes → the endpoints of destinations.yaml: at least once, with the same id, in order within a lead."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from msgspec.structs import replace

from runtime.losses import Span
from runtime.metrics import Metrics
from sinks.consume import Fenced, Received, Unusable
from sinks.deliver.backlog import Backlog
from sinks.deliver.courier import Courier
from sinks.deliver.ledger import Book
from sinks.deliver.outlet import Line, Outlet
from sinks.deliver.queue import Item, Record
from sinks.deliver.records import Delivery, Position
from sinks.record_faults import on_record

_LOOK_EVERY = timedelta(seconds=2)
_KEEP_EVERY = timedelta(seconds=5)
_CALLS_END_WITHIN = 3.0
_READ_AT_ONCE = 500


class DeliverSink:
    """A stage that delivers each revision of a lead to each destination, and outcomes where they are asked for.

    A destination reads along with the group as long as it has room, and else goes on by itself from its own position,
    which lies in the ledger: a destination that is down, or disabled, holds up no other. Each delivery has an entry
    there before its first call. Operators and erasures write entries too; the sink looks for them, and opens again.
    `leads` is the topic of the leads.
    """

    def __init__(
        self,
        outlets: Sequence[Outlet],
        courier: Courier,
        backlog: Backlog,
        *,
        leads: str,
        metrics: Metrics,
        on_read: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        self._outlets, self._courier, self._backlog, self._leads = outlets, courier, backlog, leads
        self._ledger, self._clock, self._metrics = courier.ledger, courier.clock, metrics
        self._on_read = on_read
        self._read_to: dict[TopicPartition, int] = {}
        self._asked: deque[tuple[Outlet, Delivery, TopicPartition]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._filling: asyncio.Task[None] | None = None
        self._due: dict[timedelta, datetime] = {}

    async def open(self, spans: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, int]:
        await self._come_to_rest()
        by_topic = defaultdict(set)
        for place in spans:
            by_topic[place.topic].add(place.partition)
        if len({frozenset(numbers) for numbers in by_topic.values()}) > 1:
            raise Unusable("leads and outcomes are not co-partitioned: give both topics the same number of partitions")
        await self._ledger.open({place.partition for place in spans}, self._on_read)
        self._read_to = {place: span.end if span.committed is None else span.start for place, span in spans.items()}
        self._asked.clear()
        for outlet in self._outlets:
            outlet.reset()
            await self._open_outlet(outlet, spans)
        self._courier.closing = False
        return dict(self._read_to)

    async def _open_outlet(self, outlet: Outlet, spans: Mapping[TopicPartition, Span]) -> None:
        books, was_disabled = self._ledger.books_of(outlet.destination.name), outlet.disabled
        outlet.disabled = next((book.disabled for _, book in books if book.disabled), None)
        is_asked_for = any(delivery.status == "due" for _, book in books for delivery in book.open())
        if is_asked_for or (was_disabled and outlet.disabled is None):
            # An operator wants to know now.
            outlet.fortune.held_until = None
        for place, span in spans.items():
            if place.topic == self._leads or outlet.destination.outcomes:
                outlet.lines[place] = Line(place, await self._start(outlet, place, span))
        if outlet.fortune.failing_since is None:
            outlet.fortune.failing_since = _failing_since([book for _, book in books])
        await self._keep_positions(outlet)
        for partition, book in books:
            for delivery in list(book.open()):
                self._take_up(outlet, delivery, partition)

    async def _start(self, outlet: Outlet, place: TopicPartition, span: Span) -> int:
        """Where a destination goes on, or starts."""
        position = self._ledger.book(place.partition, outlet.destination.name).position
        known = None
        if position is not None:
            known = position.leads if place.topic == self._leads else position.outcomes
        if known is not None:
            return span.first if span.moved_to is not None or known > span.end else known
        match outlet.destination.start:
            case "now":
                return span.end
            case "beginning":
                return span.first
            case moment:
                since = await self._backlog.first_since(place, moment)
                return span.end if since is None else since

    def _take_up(self, outlet: Outlet, delivery: Delivery, partition: int) -> None:
        """An erasure is due at once; a record that the position has passed must be read for itself."""
        if delivery.kind == "erasure":
            place = TopicPartition(self._leads, partition)
            ready_at = delivery.next_at or self._clock()
            outlet.queue.add(Item(place, -1, "erasure", delivery.subject, None, ready_at, delivery))
            return
        for place, line in outlet.lines.items():
            is_its_topic = (place.topic == self._leads) == (delivery.kind == "lead")
            if place.partition == partition and is_its_topic and delivery.offset < line.read_to:
                self._asked.append((outlet, delivery, place))

    async def take(self, batch: Sequence[Received[Record]], positions: Mapping[TopicPartition, int]) -> None:
        by_place: dict[TopicPartition, list[Received[Record]]] = defaultdict(list)
        for received in batch:
            by_place[received.partition].append(received)
        for place, until in positions.items():
            before = self._read_to[place]
            for outlet in self._outlets:
                line = outlet.lines.get(place)
                if line is not None and line.read_to >= before and outlet.has_room(line):
                    self._feed(outlet, line, by_place[place], until)
            self._read_to[place] = until
        for outlet in self._outlets:
            self._pump(outlet)

    def _feed(self, outlet: Outlet, line: Line, records: Sequence[Received[Record]], until: int) -> None:
        book = self._ledger.book(line.place.partition, outlet.destination.name)
        outlet.feed(line, records, until, book, self._clock())

    async def tick(self) -> None:
        self._reap()
        if self._looking is None and self._is_due(_LOOK_EVERY):
            self._looking = asyncio.create_task(self._ledger.require_alone())
        if self._filling is None and (fill := self._next_fill()) is not None:
            self._filling = asyncio.create_task(fill)
        if self._is_due(_KEEP_EVERY):
            for outlet in self._outlets:
                await self._keep_positions(outlet)
            self._ledger.forget()
            self._show()
        for outlet in self._outlets:
            self._pump(outlet)

    def _is_due(self, every: timedelta) -> bool:
        now = self._clock()
        if now < self._due.get(every, now):
            return False
        self._due[every] = now + every
        return True

    def _reap(self) -> None:
        """Raise what background tasks raised."""
        for call in [call for call in self._calls if call.done()]:
            self._calls.discard(call)
            call.result()
        if self._looking is not None and self._looking.done():
            looking, self._looking = self._looking, None
            looking.result()
        if self._filling is not None and self._filling.done():
            filling, self._filling = self._filling, None
            # Kafka does not answer: it is read again.
            with suppress(KafkaError):
                filling.result()

    def _pump(self, outlet: Outlet) -> None:
        """Begin the calls that are due and have room."""
        now = self._clock()
        while not self._courier.closing and outlet.may_call(now):
            item = outlet.queue.take(now)
            if item is None:
                return
            outlet.under_way += 1
            self._calls.add(asyncio.create_task(self._call(outlet, item)))

    async def _call(self, outlet: Outlet, item: Item) -> None:
        queue = outlet.queue
        with nullcontext() if item.record is None else on_record(item.place, item.offset):
            again_at = await self._courier.carry_out(outlet, item)
        if queue is not outlet.queue:
            return
        outlet.under_way -= 1
        if again_at is None:
            outlet.finish(item)
        else:
            queue.postpone(item, again_at)
        self._pump(outlet)

    def _next_fill(self) -> Coroutine[Any, Any, None] | None:
        """Read on for a destination that is behind and has room, or a record that an operator asked for."""
        if self._asked:
            return self._read_again(*self._asked[0])
        behind = [
            (outlet, line)
            for outlet in self._outlets
            for place, line in outlet.lines.items()
            if line.read_to < self._read_to[place] and outlet.has_room(line)
        ]
        return self._fill(*min(behind, key=lambda pair: len(pair[1].held))) if behind else None

    async def _fill(self, outlet: Outlet, line: Line) -> None:
        until = min(line.read_to + _READ_AT_ONCE, self._read_to[line.place])
        records = await self._backlog.read(line.place, range(line.read_to, until))
        self._feed(outlet, line, records, until)
        self._pump(outlet)

    async def _read_again(self, outlet: Outlet, delivery: Delivery, place: TopicPartition) -> None:
        records = await self._backlog.read(place, range(delivery.offset, delivery.offset + 1))
        self._asked.popleft()
        book = self._ledger.book(place.partition, outlet.destination.name)
        item = outlet.item_of(records[0], book, self._clock()) if records else None
        if item is None:
            # A later record of its key took its place, and is delivered itself, or it is not for the destination.
            await self._ledger.append(place.partition, replace(delivery, status="skipped", at=self._clock()))
        else:
            outlet.queue.add(item)
            self._pump(outlet)

    async def _keep_positions(self, outlet: Outlet) -> None:
        name, moved = outlet.destination.name, []
        for partition, book in self._ledger.books_of(name):
            lines = [line for line in outlet.lines.values() if line.place.partition == partition]
            offsets = {line.place.topic == self._leads: line.position for line in lines}
            position = Position(destination=name, leads=offsets.get(True), outcomes=offsets.get(False))
            if position != book.position:
                moved.append(self._ledger.append(partition, position))
        await asyncio.gather(*moved)

    def _show(self) -> None:
        for outlet in self._outlets:
            name, since = outlet.destination.name, outlet.fortune.failing_since
            behind = sum(max(self._read_to[place] - line.read_to, 0) for place, line in outlet.lines.items())
            self._metrics.deliveries_waiting.labels(name).set(len(outlet.queue) + behind)
            self._metrics.destination_disabled.labels(name).set(outlet.disabled is not None)
            failing = since.timestamp() if since is not None and outlet.disabled != "operator" else 0
            self._metrics.destination_failing_since.labels(name).set(failing)

    def unfinished(self) -> Mapping[TopicPartition, int]:
        """Those that read along. A destination that is behind goes on by its own position."""
        lowest: dict[TopicPartition, int] = {}
        for outlet in self._outlets:
            for place, line in outlet.lines.items():
                if line.read_to >= self._read_to[place] and line.position < self._read_to[place]:
                    lowest[place] = min(line.position, lowest.get(place, line.position))
        return lowest

    def full(self) -> Collection[TopicPartition]:
        return ()

    async def close(self) -> None:
        await self._come_to_rest()
        for outlet in self._outlets:
            await self._keep_positions(outlet)

    async def _come_to_rest(self) -> None:
        """Calls under way may end for a moment; the others are made again by the next holder, with the same ids."""
        self._courier.closing = True
        if self._calls:
            await asyncio.wait(self._calls, timeout=_CALLS_END_WITHIN)
        tasks: list[asyncio.Task[Any]] = [*self._calls, *filter(None, (self._looking, self._filling))]
        self._calls, self._looking, self._filling = set(), None, None
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, Fenced):
                raise result


def _failing_since(books: Sequence[Book]) -> datetime | None:
    """The first failure since the last success, by the entries of a destination."""
    deliveries = [delivery for book in books for delivery in book.deliveries.values()]
    last = max((delivery.at for delivery in deliveries if delivery.status == "delivered"), default=None)
    firsts = [delivery.first_at for delivery in deliveries if delivery.attempts and delivery.first_at is not None]
    return min((first for first in firsts if last is None or first > last), default=None)
