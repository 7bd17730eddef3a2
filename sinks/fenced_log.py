"""The books of a sink: appended to by the holder of a partition alone, who notices any other writer."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from datetime import timedelta

from aiokafka import ConsumerRecord

from runtime.clock import from_millis
from sinks.consume import Fenced
from sinks.send.broker_clock import BrokerTime
from sinks.send.outcome_log import OutcomeLog

# The key of the record that announces a new holder of a partition. It has no value, so that readers skip it.
FENCE = b"fence"
_REPORT_EVERY = 10_000


class FencedLog:
    """Appends to the partitions of a topic that this process holds.

    Only the holder of a partition appends to it, so that an unexpected offset betrays another writer. A new holder
    writes a fence into the partition first: if two processes both believe to hold it, the former learns so from the
    ack of its next record. From then on the partition is not held, until `hold` has read the records of the other.

    `hold` is called first, after each assignment and each `Fenced`; all other methods from tasks of one event loop. The
    broker's stamps set `clock`.
    """

    def __init__(self, log: OutcomeLog, clock: BrokerTime) -> None:
        self._log, self._clock = log, clock
        self._next: dict[int, int] = {}
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    def holds(self, partition: int) -> bool:
        return partition in self._next

    def is_behind(self, partition: int, end: int) -> bool:
        """Whether a held partition ends behind all that we wrote and read: another has written."""
        return partition in self._next and end > self._next[partition]

    async def hold(
        self,
        partitions: Collection[int],
        remembered: timedelta | None,
        note: Callable[[ConsumerRecord], None],
        on_read: Callable[[int, int], None],
    ) -> None:
        """Hold exactly these partitions; `note` gets their records, of those that are held only the new ones.

        Of the others it gets what was written within `remembered`, None is ever. Waits for the acks of the fences and
        for the reading; `on_read` gets the count of records read, and of those to read. Afterwards all that was durable
        before the fences is known. Raises `KafkaError`; then `hold` must be called again.
        """
        held = {partition: self._next.pop(partition) for partition in partitions if partition in self._next}
        self._next.clear()
        fences = dict(zip(partitions, await asyncio.gather(*map(self._fence, partitions)), strict=True))
        new = [partition for partition in partitions if partition not in held]
        starts = dict.fromkeys(new, 0) if remembered is None else await self._first_since(new, remembered)
        spans = {number: range(held.get(number, starts.get(number, fence)), fence) for number, fence in fences.items()}
        read, records = 0, sum(map(len, spans.values()))
        async for record in self._log.read(spans):
            note(record)
            read += 1
            if not read % _REPORT_EVERY:
                on_read(read, records)
        self._next.update({partition: fence + 1 for partition, fence in fences.items()})

    async def reread(self, partitions: Collection[int], remembered: timedelta) -> AsyncIterator[ConsumerRecord]:
        """The records of held partitions that were written within `remembered`, once more."""
        starts = await self._first_since(partitions, remembered)
        async for record in self._log.read(
            {number: range(start, self._next[number]) for number, start in starts.items()}
        ):
            yield record

    async def _first_since(self, partitions: Collection[int], remembered: timedelta) -> dict[int, int]:
        return dict(await self._log.first_since(partitions, self._clock() - remembered))

    async def _fence(self, partition: int) -> int:
        asked_at = self._clock.own()
        acked = await (await self._log.append(partition, FENCE, None))
        self._clock.hear(from_millis(acked.timestamp), asked_at)
        return int(acked.offset)

    async def put(self, partition: int, key: bytes, value: bytes | None) -> Awaitable[None]:
        """Put a record behind those of earlier calls; the awaitable ends once it is durable.

        Either raises `Fenced` when another process wrote: both records stay. The awaitable raises `KafkaError` when
        the record may or may not be durable.
        """
        async with self._turns[partition]:
            if partition not in self._next:
                raise Fenced
            expected, asked_at = self._next[partition], self._clock.own()
            acked = await self._log.append(partition, key, value)
            self._next[partition] = expected + 1

        async def ack() -> None:
            record = await acked
            self._clock.hear(from_millis(record.timestamp), asked_at)
            if record.offset != expected:
                self._next.pop(partition, None)
                raise Fenced

        return ack()
