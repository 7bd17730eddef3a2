"""What lies in some topics at this moment, read without a group so that nobody's offsets move."""

from collections.abc import AsyncIterator, Collection
from typing import Any

from aiokafka import TopicPartition

from runtime import kafka
from runtime.cluster import Cluster
from runtime.topic_admin import partition_counts


async def records_now(broker: Cluster, topics: Collection[str], *, client_id: str) -> AsyncIterator[Any]:
    """Every record of the topics up to the ends that they have at the call, each partition in its order.

    A topic that does not exist has no records.
    """
    counts = await partition_counts(broker, topics)
    partitions = [TopicPartition(topic, one) for topic, count in counts.items() for one in range(count)]
    if not partitions:
        return
    reader = kafka.consumer(broker, group=None, client_id=client_id)
    await reader.start()
    try:
        reader.assign(partitions)
        left = {one: end for one, end in (await reader.end_offsets(partitions)).items() if end > 0}
        while left := {one: end for one, end in left.items() if await reader.position(one) < end}:
            for partition, records in (await reader.getmany(*left, timeout_ms=100)).items():
                for record in records:
                    if record.offset < left[partition]:
                        yield record
    finally:
        await reader.stop()
