"""Look ahead of our position: where each topic ends, and which cancellations wait there."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiokafka import AIOKafkaConsumer, TopicPartition

from leads.records import SendFollowUp
from runtime.topic_reading import first_since, read_spans
from schemas.codec import Codec, NotDecodable


@dataclass(frozen=True, slots=True)
class Horizon:
    """Where the topics ended, and how long ago: all that could cancel a command then lies before these."""

    age: Callable[[], timedelta]
    ends: Mapping[TopicPartition, int]

    def covers(self, partitions: Collection[TopicPartition], most: timedelta) -> bool:
        """Whether it has the ends of these partitions, seen no longer than `most` ago."""
        return self.age() <= most and self.ends.keys() >= set(partitions)


class Ahead:
    """Reads partitions without moving the group's position: `reader` belongs to no group and is assigned as needed."""

    def __init__(self, reader: AIOKafkaConsumer, codec: Codec[SendFollowUp]) -> None:
        self._reader, self._codec = reader, codec

    async def ends(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset after the last record of each, as of now."""
        ends: Mapping[TopicPartition, int] = await self._reader.end_offsets(partitions)
        return ends

    async def received_since(
        self, partitions: Collection[TopicPartition], moment: datetime
    ) -> Mapping[TopicPartition, int]:
        """The first offset of each that the broker stamped no sooner than `moment`; left out where there is none."""
        return await first_since(self._reader, partitions, moment)

    async def cancellations(self, partition: TopicPartition, span: range) -> Sequence[SendFollowUp]:
        """The commands with a `cancel_reason` at these offsets."""
        commands = [self._decoded(record.value) async for record in read_spans(self._reader, {partition: span})]
        return [command for command in commands if command is not None and command.cancel_reason is not None]

    def _decoded(self, value: bytes | None) -> SendFollowUp | None:
        try:
            return self._codec.decode(value)
        except NotDecodable:
            # It becomes a dead letter when the sink reads it in its turn.
            return None
