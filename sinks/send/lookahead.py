"""What lies in Kafka beyond what a sink has read so far: how much, and which commands are cancelled there."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from leads.records import SendFollowUp
from runtime.clock import to_millis
from runtime.topic_reading import read_spans
from schemas.codec import Codec, NotDecodable


class Ahead(Protocol):
    """A look at partitions that moves nobody's place in them."""

    async def ends(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offsets after the last record of each, as of now."""

    async def received_since(
        self, partitions: Collection[TopicPartition], moment: datetime
    ) -> Mapping[TopicPartition, int]:
        """The first offset of each that the broker stamped no sooner than `moment`; left out where there is none."""

    async def cancellations(self, partition: TopicPartition, span: range) -> Sequence[SendFollowUp]:
        """The commands with a `cancel_reason` at these offsets."""


class KafkaAhead:
    """Kafka as `Ahead`. `reader` belongs to no group and is assigned as needed."""

    def __init__(self, reader: AIOKafkaConsumer, codec: Codec[SendFollowUp]) -> None:
        self._reader, self._codec = reader, codec

    async def ends(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        ends: Mapping[TopicPartition, int] = await self._reader.end_offsets(partitions)
        return ends

    async def received_since(
        self, partitions: Collection[TopicPartition], moment: datetime
    ) -> Mapping[TopicPartition, int]:
        wanted = dict.fromkeys(partitions, max(to_millis(moment), 0))
        found = await self._reader.offsets_for_times(wanted) if wanted else {}
        return {one: first.offset for one, first in found.items() if first is not None}

    async def cancellations(self, partition: TopicPartition, span: range) -> Sequence[SendFollowUp]:
        commands = [self._decoded(record.value) async for record in read_spans(self._reader, {partition: span})]
        return [command for command in commands if command is not None and command.cancel_reason is not None]

    def _decoded(self, value: bytes | None) -> SendFollowUp | None:
        try:
            return self._codec.decode(value)
        except NotDecodable:
            # Whoever reads the topic in its turn makes a dead letter of it.
            return None
