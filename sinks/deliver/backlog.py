"""The records that a destination has yet to read, where it is behind the others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime.topic_reading import first_since, read_spans
from schemas.codec import NotDecodable
from sinks.consume import Received
from sinks.deliver.queue import Record


@dataclass(frozen=True, slots=True)
class Backlog:
    """Reads partitions without moving the group's position: `reader` belongs to no group and is assigned as needed.

    `decoders` are by topic. A record that cannot be decoded is passed: the sink makes a dead letter of it.
    """

    reader: AIOKafkaConsumer
    decoders: Mapping[str, Callable[[Any], Record]]

    async def read(self, place: TopicPartition, span: range) -> list[Received[Record]]:
        """The records at these offsets, erased ones left out."""
        found = []
        async for record in read_spans(self.reader, {place: span}):
            try:
                if record.value is not None:
                    decoded = self.decoders[place.topic](record)
                    found.append(Received(place, record.offset, decoded, len(record.value)))
            except NotDecodable:
                continue
        return found

    async def first_since(self, place: TopicPartition, moment: datetime) -> int | None:
        """The first offset that the broker stamped no sooner than `moment`."""
        return (await first_since(self.reader, [place], moment)).get(place)
