"""Topics read without a group, so that no committed offset moves: up to their end of now, or on as they grow."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Protocol

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
    if not ends:
        # Assigned and at once stopped, a consumer may wait for minutes: its fetcher swallows that it is cancelled.
        return
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


class CatchUp(Protocol):
    """Gives the records since the last call without waiting for Kafka, or `to_end` all that Kafka has by now."""

    def __call__(self, *, to_end: bool = False) -> Awaitable[None]: ...


@asynccontextmanager
async def followed(
    broker: Cluster, topic: str, note: Callable[[bytes | None, bytes | None], None], *, client_id: str
) -> AsyncIterator[CatchUp]:
    """Give the key and value of every record that the topic holds to `note`, each partition in its order.

    Yields what gives the records since then. Raises `TopicMissing`, or `KafkaError` when Kafka does not answer.
    """
    counts = await partition_counts(broker, [topic])
    if topic not in counts:
        raise TopicMissing(f"the topic {topic} is missing: run `leadstream topics apply`")
    every = [TopicPartition(topic, number) for number in range(counts[topic])]
    # A broker answers the requests of a connection in their order: behind a fetch that waits for records, the question
    # for the end would wait half a second.
    async with (
        kafka.consumer(broker, group=None, client_id=client_id) as consumer,
        kafka.consumer(broker, group=None, client_id=client_id) as asking,
    ):
        consumer.assign(every)
        await consumer.seek_to_beginning(*every)
        catch_up = catching_up(consumer, partial(asking.end_offsets, every), note)
        await catch_up(to_end=True)
        yield catch_up


def catching_up(
    consumer: AIOKafkaConsumer,
    ask_ends: Callable[[], Awaitable[Mapping[TopicPartition, int]]],
    note: Callable[[bytes | None, bytes | None], None],
) -> CatchUp:
    """A function that gives `note` the records from the consumer's positions on; one task at a time reads."""
    reading = asyncio.Lock()

    async def catch_up(*, to_end: bool = False) -> None:
        async with reading:
            ends, patience = await ask_ends() if to_end else {}, 0
            # Not `read_until`, which leaves out what has come behind the ends.
            while True:
                for records in (await consumer.getmany(timeout_ms=patience)).values():
                    for record in records:
                        note(record.key, record.value)
                if not [place for place, end in ends.items() if await consumer.position(place) < end]:
                    return
                patience = _POLL["timeout_ms"]

    return catch_up
