"""The newest records of a topic, whatever its size."""

from typing import TypeVar

from aiokafka import TopicPartition

from operations.deployment import Deployment
from runtime import kafka
from runtime.topic_admin import partition_counts
from runtime.topic_reading import read_spans
from schemas.codec import Codec, NotDecodable
from schemas.topics import Topic

# Of each partition.
_LAST = 500

T = TypeVar("T")


async def last_records(deployment: Deployment, topic: Topic, codec: Codec[T]) -> list[T]:
    """The newest record of each key among the last ones of each partition, without what is deleted or unreadable."""
    name, newest = deployment.topic(topic), dict[bytes | None, T]()
    count = (await partition_counts(deployment.broker, [name])).get(name, 0)
    partitions = [TopicPartition(name, number) for number in range(count)]
    async with kafka.consumer(deployment.broker, group=None, client_id="leadstream-doctor") as consumer:
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        spans = {at: range(max(begins[at], ends[at] - _LAST), ends[at]) for at in partitions}
        async for record in read_spans(consumer, spans):
            newest.pop(record.key, None)
            if record.value is not None:
                try:
                    newest[record.key] = codec.decode(record.value)
                except NotDecodable:
                    continue
    return list(newest.values())
