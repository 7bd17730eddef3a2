"""The outcomes topic as the send ledger reads and writes it."""

from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
from datetime import datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.structs import RecordMetadata

from runtime.topic_reading import first_since, read_spans


class OutcomeLog:
    """The outcomes topic in Kafka. `reader` belongs to no group and is assigned as needed."""

    def __init__(self, topic: str, reader: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        self._topic, self._reader, self._producer = topic, reader, producer

    async def first_since(self, partitions: Collection[int], moment: datetime) -> Mapping[int, int]:
        """The first offset of each that the broker stamped no sooner than `moment`."""
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        return {place.partition: offset for place, offset in (await first_since(self._reader, places, moment)).items()}

    def read(self, spans: Mapping[int, range]) -> AsyncIterator[ConsumerRecord]:
        """The records of these offsets, by partition."""
        return read_spans(self._reader, {TopicPartition(self._topic, number): span for number, span in spans.items()})

    async def append(self, partition: int, key: bytes, value: bytes | None) -> Awaitable[RecordMetadata]:
        """Put a record behind those of earlier calls; the awaitable ends once it is durable."""
        acked: Awaitable[RecordMetadata] = await self._producer.send(self._topic, value, key=key, partition=partition)
        return acked
