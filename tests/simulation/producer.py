"""The part of aiokafka's idempotent producer that the product uses, over the simulated broker."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    RequestTimedOutError,
)
from aiokafka.structs import RecordMetadata

import runtime.kafka
from runtime.clock import now, to_millis
from runtime.cluster import Cluster
from runtime.kafka import partition_of
from tests.simulation.broker import Broker, Draft
from tests.simulation.loop import current_process

_AGAIN_AFTER = 0.1
# As aiokafka, which lets a batch expire that has no leader, but sooner.
_EXPIRES_AFTER = 6.0
_MOST_IN_BATCH = 500


async def _waits_for_all_replicas() -> bool:
    """Whether the product's producers do; aiokafka has no public way to ask."""
    producer = runtime.kafka.producer(Cluster("simulated:9092"), client_id="simulated")
    await producer.stop()
    return bool(producer._sender._acks == -1)


_ACKS_ALL = asyncio.run(_waits_for_all_replicas())


class Batch:
    """What `create_batch` gives."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []

    def append(self, *, timestamp: None, key: bytes | None, value: bytes | None, headers: Any) -> object | None:
        if len(self.drafts) >= _MOST_IN_BATCH:
            return None
        self.drafts.append(Draft(key, value, tuple(headers or ()), to_millis(now())))
        return self

    def close(self) -> None:
        """It is sent as it is."""


Waiting = tuple[list[Draft], list["asyncio.Future[RecordMetadata]"]]


class SimulatedProducer:
    """Sends what it is given, in order for each partition, until it is acknowledged; a send ends in an error only where
    the broker refuses its batch for good, which now and then it does, or where there is no leader for long.

    `may_write` is waited for before each request, and may raise `KafkaError`.
    """

    def __init__(
        self, broker: Broker, *, linger: float = 0.005, may_write: Callable[[], Awaitable[None]] | None = None
    ):
        self._broker, self._linger, self._may_write = broker, linger, may_write
        process = current_process()
        self._owner = process.name if process is not None else "outside"
        self._id = f"{self._owner} {int(broker.loop.dice.draw(f'producer {self._owner}') * 1e9)}"
        self._number = 0
        self._queues: defaultdict[TopicPartition, list[Waiting]] = defaultdict(list)
        self._senders: dict[TopicPartition, asyncio.Task[None]] = {}
        self._lost: set[TopicPartition] = set()
        self._unacked: dict[asyncio.Future[RecordMetadata], None] = {}
        self._closed = False
        # What `runtime.kafka.stop_within` asks of aiokafka.
        self._sender = SimpleNamespace(sender_task=None)
        self.client = SimpleNamespace(_sync_task=None, close=self._close)

    async def start(self) -> None:
        await self._broker.ask("connect", 0, lambda: None)

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(self._broker.partitions))

    def create_batch(self) -> Batch:
        return Batch()

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> "asyncio.Future[RecordMetadata]":
        number = partition_of(key or b"", self._broker.partitions) if partition is None else partition
        draft = Draft(key, value, tuple(headers or ()), to_millis(now()))
        return self._put(TopicPartition(topic, number), [draft], alone=False)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> "asyncio.Future[RecordMetadata]":
        return self._put(TopicPartition(topic, partition), batch.drafts, alone=True)

    async def send_and_wait(self, topic: str, value: bytes | None = None, **options: Any) -> RecordMetadata:
        return await (await self.send(topic, value, **options))

    async def flush(self) -> None:
        if self._unacked:
            await asyncio.wait(list(self._unacked))

    async def stop(self) -> None:
        await self.flush()
        await self._close()

    async def _close(self) -> None:
        self._closed = True
        for sender in self._senders.values():
            sender.cancel()

    def _put(self, place: TopicPartition, drafts: list[Draft], *, alone: bool) -> "asyncio.Future[RecordMetadata]":
        if self._closed:
            raise ProducerClosed
        acked: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        queue = self._queues[place]
        # Records that wait together share a batch, and so its error.
        if queue and not alone and len(queue[-1][0]) == len(queue[-1][1]) < _MOST_IN_BATCH:
            queue[-1][0].extend(drafts)
            queue[-1][1].append(acked)
        else:
            queue.append((list(drafts), [acked]))
        self._unacked[acked] = None
        acked.add_done_callback(lambda done: self._unacked.pop(done, None) and None)
        sender = self._senders.get(place)
        if sender is None or sender.done():
            self._senders[place] = asyncio.create_task(self._send_all(place))
        return acked

    async def _send_all(self, place: TopicPartition) -> None:
        queue = self._queues[place]
        await asyncio.sleep(self._linger)
        while queue:
            drafts, futures = queue.pop(0)
            try:
                offset, stamp = await self._deliver(place, drafts)
            except KafkaError as fault:
                for future in futures:
                    if not future.done():
                        future.set_exception(fault)
                continue
            for number, future in enumerate(futures):
                if not future.done():
                    future.set_result(
                        RecordMetadata(place.topic, place.partition, place, offset + number, stamp, 1, offset)
                    )

    async def _deliver(self, place: TopicPartition, drafts: list[Draft]) -> tuple[int, int]:
        self._number += 1
        batch, broker = (self._id, self._number), self._broker
        purpose = f"produce {place.topic}/{place.partition}"
        # A batch that is refused has used its number, so that none behind it is taken.
        luck = broker.loop.dice.draw(f"refusal {purpose} {self._owner}")
        expires_at = broker.loop.moment + _EXPIRES_AFTER
        while True:
            if self._may_write is not None:
                await self._may_write()
            if place in self._lost:
                raise OutOfOrderSequenceNumber
            try:
                placed = await broker.ask(
                    purpose,
                    place.partition,
                    lambda: broker.append(batch, place, drafts, acks_all=_ACKS_ALL),
                )
            except RequestTimedOutError:
                if broker.loop.moment < expires_at or broker.away_until[place.partition] <= broker.loop.moment:
                    await asyncio.sleep(_AGAIN_AFTER)
                    continue
                # It may be in the log after all; if it is not, none behind it is taken.
                if not broker.has(batch):
                    self._lost.add(place)
                raise KafkaTimeoutError from None
            if luck < 0.002:
                self._lost.add(place)
                raise OutOfOrderSequenceNumber
            return placed
