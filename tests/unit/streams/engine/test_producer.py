"""The records of one call: a batch and a future for each partition, in the order of the call."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from aiokafka.producer.message_accumulator import BatchBuilder

from runtime.batches import Outgoing
from runtime.kafka import partition_of
from runtime.tracing import OFF
from streams.engine.producer import DeliveryFailed, Producer

pytestmark = pytest.mark.anyio


class FakeKafka:
    """Acknowledges each batch of up to `size` bytes at once, or fails all with `error`."""

    def __init__(self, size: int = 16384, error: Exception | None = None) -> None:
        self.size, self.error = size, error
        self.batches: list[tuple[str, int, int]] = []

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self.size, 0)

    async def partitions_for(self, _topic: str) -> set[int]:
        return {0, 1}

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> "asyncio.Future[None]":
        self.batches.append((topic, partition, batch.record_count()))
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.error is None:
            sent.set_result(None)
        else:
            sent.set_exception(self.error)
        return sent


def producer_over(kafka: FakeKafka) -> Producer:
    producer: Any = object.__new__(Producer)
    producer.__dict__.update(_unacked=set(), _failure=None, request_timeout=1.0, _ensure_producer=lambda: kafka)
    producer.__dict__.update(app=SimpleNamespace(tracing=OFF))
    made: Producer = producer
    return made


def records(count: int, partition: int | None) -> list[Outgoing]:
    return [("t", b"k", b"%d" % number, None, partition) for number in range(count)]


async def test_each_partition_gets_one_batch_of_a_call() -> None:
    kafka = FakeKafka()

    await producer_over(kafka).send_all([*records(3, 0), *records(2, 1), *records(4, 0), *records(1, None)])

    of_key = partition_of(b"k", 2)
    assert sorted(kafka.batches) == [("t", 0, 7 + (of_key == 0)), ("t", 1, 2 + (of_key == 1))]


async def test_what_is_too_much_for_a_batch_goes_in_several() -> None:
    kafka = FakeKafka(size=200)

    await producer_over(kafka).send_all(records(50, 0))

    assert sum(count for _, _, count in kafka.batches) == 50
    assert len(kafka.batches) > 1


async def test_a_batch_that_fails_fails_all_that_comes_after_it() -> None:
    producer = producer_over(FakeKafka(error=KafkaTimeoutError()))

    with pytest.raises(DeliveryFailed):
        await producer.send_all(records(2, 0))
    with pytest.raises(DeliveryFailed):
        await producer.hand_over(records(1, 1))
