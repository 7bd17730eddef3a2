"""The faults of a sink that one record caused, and those that have nothing to do with a record."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError


class NotOfARecord(Exception):
    """A fault of a sink that its present record did not cause."""


class AtRecord(Exception):
    """The work on one record raised an unforeseen fault, the cause of this one."""

    def __init__(self, partition: TopicPartition, offset: int) -> None:
        super().__init__(f"{partition.topic}/{partition.partition}/{offset}")
        self.partition, self.offset = partition, offset


_NOT_OF_A_RECORD = (NotOfARecord, AtRecord, KafkaError, OSError, MemoryError)


@contextmanager
def on_record(partition: TopicPartition, offset: int) -> Iterator[None]:
    """Around the work on a record: raises `AtRecord` in place of a fault that the record may have caused."""
    try:
        yield
    except _NOT_OF_A_RECORD:
        raise
    except Exception as fault:
        raise AtRecord(partition, offset) from fault
