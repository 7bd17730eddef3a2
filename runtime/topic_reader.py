"""Whole topics, read once from their beginning to the end that they have now."""

from collections.abc import AsyncIterator, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

_READ = {"timeout_ms": 1000, "max_records": 5000}


async def whole_topic(
    consumer: AIOKafkaConsumer, topic: str, partitions: int
) -> AsyncIterator[Sequence[ConsumerRecord]]:
    """The records of a topic in runs of one partition each; the consumer is assigned to the topic for it."""
    unread = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(unread)
    await consumer.seek_to_beginning(*unread)
    ends = await consumer.end_offsets(unread)
    while unread := [one for one in unread if await consumer.position(one) < ends[one]]:
        for one, records in (await consumer.getmany(*unread, **_READ)).items():
            yield [record for record in records if record.offset < ends[one]]
