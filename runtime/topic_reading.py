"""Topics read without a group, so that no committed offset moves: up to their end of now, or on as they grow."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from runtime import kafka
from runtime.clock import to_millis
from runtime.cluster import Cluster
from runtime.mendable import Mendable
from runtime.topic_admin import partition_counts

_POLL = {"timeout_ms": 200, "max_records": 5000}


class TopicMissing(Mendable):
    """The topic does not exist; the message says what to do."""


async def read_until(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> AsyncIterator[Sequence[ConsumerRecord]]:
    """The records from the consumer's positions up to these offsets, in runs of one partition each."""
    unread = [partition for partition, end in ends.items() if end]
    # A position moves over gaps, which have no records.
    while unread := [partition for partition in unread if await consumer.position(partition) < ends[partition]]:
        for partition, records in (await consumer.getmany(*unread, **_POLL)).items():
            yield [record for record in records if record.offset < ends[partition]]


async def read_runs(
    consumer: AIOKafkaConsumer, spans: Mapping[TopicPartition, range]
) -> AsyncIterator[Sequence[ConsumerRecord]]:
    """The records at these offsets, in runs of one partition each. The consumer is assigned to the partitions."""
    ends = {partition: span.stop for partition, span in spans.items() if span}
    consumer.assign(list(ends))
    for partition in ends:
        consumer.seek(partition, spans[partition].start)
    async for records in read_until(consumer, ends):
        yield records


async def read_spans(
    consumer: AIOKafkaConsumer, spans: Mapping[TopicPartition, range]
) -> AsyncIterator[ConsumerRecord]:
    """The same, record by record."""
    async for records in read_runs(consumer, spans):
        for record in records:
            yield record


async def first_since(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], moment: datetime
) -> dict[TopicPartition, int]:
    """The first offset of each that the broker stamped no sooner than `moment`; left out where there is none."""
    times = dict.fromkeys(partitions, max(to_millis(moment), 0))
    firsts = await consumer.offsets_for_times(times) if times else {}
    return {partition: first.offset for partition, first in firsts.items() if first is not None}


async def whole_topic(
    consumer: AIOKafkaConsumer, topic: str, partitions: int
) -> AsyncIterator[Sequence[ConsumerRecord]]:
    """The records of a topic in runs of one partition each. The consumer is assigned to the topic."""
    every = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(every)
    await consumer.seek_to_beginning(*every)
    async for records in read_until(consumer, await consumer.end_offsets(every)):
        yield records


async def records_now(broker: Cluster, topics: Collection[str], *, client_id: str) -> AsyncIterator[Any]:
    """Every record of the topics, each partition in its order. A topic that does not exist has no records."""
    counts = await partition_counts(broker, topics)
    partitions = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
    if not partitions:
        return
    async with kafka.consumer(broker, group=None, client_id=client_id) as consumer:
        consumer.assign(partitions)
        async for records in read_until(consumer, await consumer.end_offsets(partitions)):
            for record in records:
                yield record


class TopicFollower:
    """Gives the key and value of every record of a topic to `note`, each partition in its order.

    `start` returns when it has given all that the topic held; `catch_up` gives the records since then without waiting
    for Kafka. Call all methods on one event loop.
    """

    def __init__(
        self, broker: Cluster, topic: str, note: Callable[[bytes | None, bytes | None], None], *, client_id: str
    ) -> None:
        self._broker, self._topic, self._note, self._client_id = broker, topic, note, client_id
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Raises `TopicMissing`, or `KafkaError` when Kafka does not answer."""
        counts = await partition_counts(self._broker, [self._topic])
        if self._topic not in counts:
            raise TopicMissing(f"the topic {self._topic} is missing: run `leadstream topics apply`")
        consumer = self._consumer = kafka.consumer(self._broker, group=None, client_id=self._client_id)
        await consumer.start()
        async for records in whole_topic(consumer, self._topic, counts[self._topic]):
            self._give(records)

    async def catch_up(self) -> None:
        if self._consumer is not None:
            for records in (await self._consumer.getmany(timeout_ms=0)).values():
                self._give(records)

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    def _give(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            self._note(record.key, record.value)
