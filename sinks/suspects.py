"""The records at which a sink has ended before, kept with the group's committed offsets."""

import asyncio
import logging
from collections.abc import Collection, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from runtime.kafka import note_suspect, suspects_of
from runtime.reach import Reach
from runtime.suspect import MOST_ENDS, RAISED, Place, Suspect, fault_of

logger = logging.getLogger(__name__)

_NOTE_SECONDS = 10


class Suspects:
    """The suspected records of the partitions that the sink `name` holds; records at `skips` are set aside too."""

    def __init__(self, consumer: AIOKafkaConsumer, name: str, skips: Collection[Place], reach: Reach) -> None:
        self._consumer, self._name, self._skips, self._reach = consumer, name, skips, reach
        self._held: dict[TopicPartition, Suspect] = {}

    async def read(self, partitions: Collection[TopicPartition]) -> None:
        """Read the suspects from the committed offsets of these partitions."""
        self._held = await suspects_of(self._consumer, partitions)

    def why_set_aside(self, partition: TopicPartition, offset: int) -> tuple[str, str] | None:
        """The fault and the reason of a dead letter that is written unread; None for a record to read."""
        if self._skips and (partition.topic, partition.partition, offset) in self._skips:
            return "Skipped", "skipped by an operator"
        suspect = self._held.get(partition)
        condemned = None if suspect is None else suspect.condemned.get(offset)
        if condemned is None:
            return None
        fault, _, place = condemned.partition(" at ")
        return fault, f"{RAISED} {place}"

    def forget_passed(self, finished: Mapping[TopicPartition, int]) -> None:
        """Drop the suspects that the finished offsets have passed."""
        held = {}
        for partition, suspect in self._held.items():
            passed = finished.get(partition, 0)
            counts = {offset: count for offset, count in suspect.counts.items() if offset >= passed}
            if counts:
                # The newest is last.
                offset, count = counts.popitem()
                held[partition] = Suspect(offset, offset, *count).beside(counts)
        self._held = held

    def metadata(self, partition: TopicPartition) -> str:
        """The metadata to commit with an offset of the partition."""
        return self._reach.note(self._held.get(partition))

    async def note_end(self, partition: TopicPartition, offset: int, fault: BaseException) -> None:
        """Count an end at a record, in the metadata of the committed offset, which stays where it is.

        Ends at other records in between do not matter: calls that run at the same time end in changing order.
        """
        last = self._held.get(partition)
        counts = {} if last is None else last.counts
        ends = counts.pop(offset).ends if offset in counts else 0
        suspect = Suspect(offset, offset, ends + 1, fault_of(fault)).beside(counts)
        where = {"topic": partition.topic, "partition": partition.partition, "offset": offset}
        seen = {"ends": suspect.ends, "most": MOST_ENDS, "fault": suspect.fault}
        logger.error("record.suspected", extra={"sink": self._name, **where, **seen})
        try:
            async with asyncio.timeout(_NOTE_SECONDS):
                await note_suspect(self._consumer, partition, self._reach.note(suspect))
        except (KafkaError, TimeoutError) as error:
            # Not counted: the next start tries once more than it would have.
            logger.warning("record.not_suspected", extra={"sink": self._name, "fault": type(error).__name__, **where})
