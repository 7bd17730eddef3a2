"""Leads and their stages → Conversions API → outcomes: Meta gets no conversion twice, and each gets an outcome."""

import asyncio
from collections.abc import Collection, Mapping, Sequence

from aiokafka import TopicPartition

from runtime.losses import Span
from sinks.consume import Fenced, Received, Unusable
from sinks.conversions.conversion import Conversion, Input, conversion_of
from sinks.conversions.courier import ConversionCourier
from sinks.conversions.lanes import Lane, Lanes, Pending
from sinks.conversions.next_step import Done, Drop
from sinks.record_faults import on_record


class ConversionSink:
    """A stage that settles each conversion once.

    It reads leads and their stages: both topics must give it the same partitions. `attempting` is durable before a
    call, and the result before the record's offset may be committed. No Page waits for another.
    """

    def __init__(self, courier: ConversionCourier) -> None:
        self._courier, self._limits = courier, courier.limits
        self._slots = asyncio.Semaphore(self._limits.concurrent_calls)
        self._lanes = Lanes()
        self._unread: dict[TopicPartition, int] = {}
        self._closing = False

    async def open(self, spans: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, int]:
        await self.close()
        self._lanes, self._closing = Lanes(), False
        partitions = {place.partition for place in spans}
        if 2 * len(partitions) != len(spans):
            raise Unusable("leads and stages are not co-partitioned: give both topics the same number of partitions")
        self._courier.hold(len(partitions))
        await self._courier.ledger.open(partitions)
        self._unread = {place: span.end for place, span in spans.items()}
        # Reading records again is safe: each conversion is settled in the ledger, or too old to be reported.
        starts = {place: span.start for place, span in spans.items()}
        await self._end_orphans(starts)
        return starts

    async def take(self, batch: Sequence[Received[Input]], positions: Mapping[TopicPartition, int]) -> None:
        await self._courier.catch_up()
        for received in batch:
            if received.record is not None:
                with on_record(received.partition, received.offset):
                    conversion = conversion_of(received.record, self._courier.pages)
                    self._add(received.partition, received.offset, conversion)
        await self._end_orphans(positions)

    def _add(self, place: TopicPartition, offset: int, conversion: Conversion | str) -> None:
        if not isinstance(conversion, Conversion):
            self._courier.metrics.items_ignored.labels(conversion).inc()
            return
        pending = Pending(place, offset, conversion, self._limits.events_per_call, self._courier.tracing.traceparent())
        match self._courier.step(pending):
            case Done():
                pass
            case Drop():
                self._courier.metrics.items_ignored.labels("erased").inc()
            case _:
                self._lanes.add(pending)

    async def _end_orphans(self, positions: Mapping[TopicPartition, int]) -> None:
        """All that is open without a pending record lies between the committed offsets and the ends at `open`."""
        partitions = {place.partition for place in self._unread}
        self._unread = {place: end for place, end in self._unread.items() if positions[place] < end}
        for partition in partitions - {place.partition for place in self._unread}:
            await self._courier.give_up(partition, self._lanes)

    async def tick(self) -> None:
        now = self._courier.clock()
        for lane in self._lanes:
            if lane.task is not None and lane.task.done():
                task, lane.task = lane.task, None
                task.result()
            if lane.task is None and lane.waiting:
                lane.ready_at = lane.ready_at or self._courier.turn(lane)
                if lane.ready_at <= now:
                    lane.task = asyncio.create_task(self._report(lane))

    async def _report(self, lane: Lane) -> None:
        async with self._slots:
            if self._closing:
                return
            lane.ready_at = None
            batch = lane.take()
            with on_record(batch[0].place, batch[0].offset):
                rest = await self._courier.report(lane, batch)
            lane.give_back(rest)
            self._lanes.finish(pending for pending in batch if pending not in rest)

    def unfinished(self) -> Mapping[TopicPartition, int]:
        return self._lanes.unfinished()

    def full(self) -> Collection[TopicPartition]:
        return self._lanes.full(self._limits.held_per_partition)

    async def close(self) -> None:
        self._closing = True
        tasks = [lane.task for lane in self._lanes if lane.task is not None]
        # A lane that was fenced is not held any more.
        for fault in await asyncio.gather(*tasks, return_exceptions=True):
            if fault is not None and not isinstance(fault, Fenced):
                raise fault
