"""Records → warehouse rows, in batches that are stored together with their offsets."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Protocol

from aiokafka import TopicPartition

from runtime.losses import Losses, Span
from runtime.metrics import Metrics
from sinks.consume import Received, Unusable
from sinks.record_faults import AtRecord
from sinks.warehouse.removals import Kept, PersonForgotten, Removal
from sinks.warehouse.rows import RowRefused
from sinks.warehouse.tables import PROVENANCE, Row, Table, partition_of

logger = logging.getLogger(__name__)

Offsets = Mapping[TopicPartition, int]


class Warehouse(Protocol):
    """Stores rows and the offsets they came from in one transaction. Calls block; the sink makes one at a time."""

    def open(self, assigned: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Hold exactly these partitions; gives the stored next offset of each that has one."""

    def write(self, rows: Mapping[str, Sequence[Row]], offsets: Offsets) -> None:
        """Store the rows, by topic, with the next offsets of their partitions: all or nothing for each table.

        Offsets also move without rows, past records that make none. Rows below a stored offset are stored already and
        are left out. Raises `Fenced` when the stored offsets are not those that we opened or wrote last.
        """

    def forget(self, removals: Sequence[Removal]) -> None:
        """Delete these rows durably. May raise `Fenced`; a second call with the same removals does nothing."""

    def tidy(self) -> None:
        """Remove from the disk what was deleted or replaced a day ago. May raise `Fenced`."""

    def fold(self) -> None:
        """Bring the current tables up to date; called when idle and at the end. May raise `Fenced`."""

    def close(self) -> None: ...


# Faults that a row can cause; all others are the server's or the disk's.
_OF_A_ROW = (RowRefused, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_NEW_PLACE = (
    "--accept-loss cannot pass this, because the warehouse has rows at offsets that come again: point"
    " LEADSTREAM_WAREHOUSE at a new place and let it fill."
)


@dataclass(slots=True)
class _Buffer:
    rows: dict[str, list[Row]] = field(default_factory=dict)
    first: dict[TopicPartition, int] = field(default_factory=dict)
    removals: list[Removal] = field(default_factory=list)
    since: datetime | None = None

    def __len__(self) -> int:
        return sum(map(len, self.rows.values()))


@dataclass(slots=True)
class WarehouseSink:
    """A stage that writes when it has `flush_rows` rows, or when the oldest is `flush_after` old.

    `tables` are the tables by topic name. A record that is None makes no row; offsets that only such records moved are
    written every `mark_after`, so that Kafka's retention does not overtake them. A `Removal` deletes rows before the
    offsets move past it. `losses` accepts what retention took, and nothing else.
    """

    warehouse: Warehouse
    tables: Mapping[str, Table]
    _: KW_ONLY
    now: Callable[[], datetime]
    metrics: Metrics
    losses: Losses
    flush_rows: int = 5000
    flush_after: timedelta = timedelta(seconds=1)
    idle_after: timedelta = timedelta(seconds=3)
    mark_after: timedelta = timedelta(hours=1)
    tidy_after: timedelta = timedelta(hours=24)
    _buffer: _Buffer = field(init=False, default_factory=_Buffer)
    _positions: dict[TopicPartition, int] = field(init=False, default_factory=dict)
    _gone: list[PersonForgotten] = field(init=False, default_factory=list)
    _written_at: datetime | None = field(init=False, default=None)
    _marked_at: datetime = field(init=False)
    _tidied_at: datetime | None = field(init=False, default=None)

    async def open(self, spans: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, int]:
        self._buffer = _Buffer()
        self._positions.clear()
        self._written_at = self._marked_at = self.now()
        stored = await asyncio.to_thread(self.warehouse.open, set(spans))
        starts = {partition: span.first for partition, span in spans.items()}
        for partition, offset in stored.items():
            _require_same_log(partition, offset, spans[partition])
            held = replace(spans[partition], committed=offset)
            starts[partition] = self.losses.checked(partition.topic, partition.partition, held).start
        accepted = {partition: starts[partition] for partition in stored if starts[partition] != stored[partition]}
        if accepted:
            await asyncio.to_thread(self.warehouse.write, {}, accepted)
        return starts

    async def take(self, batch: Sequence[Received[Kept]], positions: Offsets) -> None:
        buffer = self._buffer
        for received in batch:
            if received.record is None or self._is_gone(received):
                continue
            buffer.first.setdefault(received.partition, received.offset)
            buffer.since = buffer.since or self.now()
            if isinstance(received.record, Removal):
                self._remove(received.record)
                continue
            where = {
                "_topic": received.partition.topic,
                "_partition": received.partition.partition,
                "_offset": received.offset,
            }
            buffer.rows.setdefault(received.partition.topic, []).append({**received.record, **where})
        self._positions.update(positions)

    def _is_gone(self, received: Received[Kept]) -> bool:
        """Whether it is a row of an erased person that another partition brings only now."""
        row, table = received.record, self.tables[received.partition.topic]
        if row is None or isinstance(row, Removal):
            return False
        return any(person.takes(table, row) for person in self._gone)

    def _remove(self, removal: Removal) -> None:
        if isinstance(removal, PersonForgotten):
            self._gone.append(removal)
        self._buffer.removals.append(removal)
        for topic, rows in self._buffer.rows.items():
            rows[:] = [row for row in rows if not removal.takes(self.tables[topic], row)]

    async def tick(self) -> None:
        now = self.now()
        since = self._buffer.since
        if since is not None and (len(self._buffer) >= self.flush_rows or now - since >= self.flush_after):
            await self._flush()
        elif now - self._marked_at >= self.mark_after:
            # The positions pass the rows that wait, too.
            await self._flush()
            await self._mark()
        elif self._written_at is not None and now - self._written_at >= self.idle_after:
            self._written_at = None
            await asyncio.to_thread(self.warehouse.fold)
        elif self._tidied_at is None or now - self._tidied_at >= self.tidy_after:
            self._tidied_at = now
            await asyncio.to_thread(self.warehouse.tidy)

    def unfinished(self) -> Mapping[TopicPartition, int]:
        return self._buffer.first

    def full(self) -> Collection[TopicPartition]:
        return ()

    async def close(self) -> None:
        await self._flush()
        await self._mark()
        await asyncio.to_thread(self.warehouse.fold)

    async def _flush(self) -> None:
        rows, removals = self._buffer.rows, self._buffer.removals
        if removals:
            # Before the offsets move: a kill in between reads the removals again.
            await asyncio.to_thread(self.warehouse.forget, removals)
        if rows:
            written = {self.tables[topic].events for topic in rows}
            offsets = {place: at for place, at in self._positions.items() if self.tables[place.topic].events in written}
            with self.metrics.warehouse_commit_seconds.time():
                await self._write(rows, offsets)
            for topic, of_topic in rows.items():
                self.metrics.warehouse_rows.labels(self.tables[topic].events).inc(len(of_topic))
            for place in offsets:
                del self._positions[place]
            self._written_at = self.now()
        self._buffer = _Buffer()

    async def _write(self, rows: Mapping[str, Sequence[Row]], offsets: Offsets) -> None:
        try:
            await asyncio.to_thread(self.warehouse.write, rows, offsets)
        except _OF_A_ROW as fault:
            ordered = sorted((row for of_topic in rows.values() for row in of_topic), key=itemgetter(*PROVENANCE))
            await self._write_in_parts(ordered, fault)
            await asyncio.to_thread(self.warehouse.write, {}, offsets)

    async def _write_in_parts(self, rows: Sequence[Row], fault: Exception) -> None:
        """Halve the refused rows until one is left. Raises `AtRecord` for the first that is refused alone."""
        if len(rows) == 1:
            raise AtRecord(partition_of(rows[0]), rows[0]["_offset"]) from fault
        for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            by_topic: dict[str, list[Row]] = {}
            for row in part:
                by_topic.setdefault(row["_topic"], []).append(row)
            ends = {partition_of(row): row["_offset"] + 1 for row in part}
            try:
                await asyncio.to_thread(self.warehouse.write, by_topic, ends)
            except _OF_A_ROW as refused:
                await self._write_in_parts(part, refused)

    async def _mark(self) -> None:
        self._marked_at = self.now()
        if self._positions:
            await asyncio.to_thread(self.warehouse.write, {}, self._positions)
            self._positions = {}


def _require_same_log(partition: TopicPartition, stored: int, span: Span) -> None:
    """Raises `Unusable` where offsets come again: a row is kept once for each offset, so new rows would be lost."""
    place = f"{partition.topic}/{partition.partition}"
    if span.is_anew:
        raise Unusable(
            f"the warehouse has {place} up to offset {stored}, but {partition.topic} was deleted and made anew, and its"
            f" offsets begin again. {_NEW_PLACE}"
        )
    if stored > span.end:
        raise Unusable(
            f"the warehouse has {place} up to offset {stored}, but Kafka ends at {span.end}: the topic was made anew or"
            f" lost records. {_NEW_PLACE}"
        )
