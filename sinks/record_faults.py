"""Faults of a sink that one record has caused, told apart from those that no record has a part in."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError


class NotOfARecord(Exception):
    """A fault of a sink that says nothing of the record that was worked on."""


class AtRecord(Exception):
    """The work on one record raised what nobody foresaw, which is the cause of this."""

    def __init__(self, partition: TopicPartition, offset: int) -> None:
        super().__init__(f"{partition.topic}/{partition.partition}/{offset}")
        self.partition, self.offset = partition, offset


_NOT_OF_A_RECORD = (NotOfARecord, AtRecord, KafkaError, OSError, MemoryError)


@contextmanager
def on_record(partition: TopicPartition, offset: int) -> Iterator[None]:
    """Around the work on a record. Raises `AtRecord` in place of what the record may have caused."""
    try:
        yield
    except _NOT_OF_A_RECORD:
        raise
    except Exception as fault:
        raise AtRecord(partition, offset) from fault
