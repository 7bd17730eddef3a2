"""A compacted topic held in memory: read whole at first, then followed."""

from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime import kafka
from runtime.cluster import Cluster
from runtime.topic_admin import partition_counts

_READ = {"timeout_ms": 200, "max_records": 5000}


class NotFollowed(Exception):
    """The topic is not there; the message says what to do."""


class TopicFollower:
    """Gives every record of a topic to `note`, each partition in its order.

    `start` ends when all that was there has been given; `catch_up` gives what has come since, without waiting for
    Kafka. It belongs to the loop that starts it.
    """

    def __init__(
        self, broker: Cluster, topic: str, note: Callable[[bytes | None, bytes | None], None], *, client_id: str
    ) -> None:
        self._broker, self._topic, self._note, self._client_id = broker, topic, note, client_id
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Raises `NotFollowed`, or `KafkaError` when Kafka does not answer."""
        found = await partition_counts(self._broker, [self._topic])
        if self._topic not in found:
            raise NotFollowed(f"the topic {self._topic} is missing: run `leadstream topics apply`")
        partitions = [TopicPartition(self._topic, number) for number in range(found[self._topic])]
        consumer = self._consumer = kafka.consumer(self._broker, group=None, client_id=self._client_id)
        await consumer.start()
        consumer.assign(partitions)
        ends = {one: end for one, end in (await consumer.end_offsets(partitions)).items() if end > 0}
        while ends := {one: end for one, end in ends.items() if await consumer.position(one) < end}:
            self._give(await consumer.getmany(*ends, **_READ))

    async def catch_up(self) -> None:
        if self._consumer is not None:
            self._give(await self._consumer.getmany(timeout_ms=0))

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    def _give(self, batches: dict[TopicPartition, list[object]]) -> None:
        for records in batches.values():
            for record in records:
                self._note(record.key, record.value)  # type: ignore[attr-defined] # aiokafka is untyped
