"""Records that are handed over in batches."""

import asyncio
from dataclasses import dataclass, field

import pytest

from runtime.batches import Delivery, Outgoing, hand_over

pytestmark = pytest.mark.anyio


@dataclass
class _Batch:
    values: list[bytes | None] = field(default_factory=list)

    def append(self, *, value: bytes | None, **_: object) -> object:
        """None once two records are in it."""
        if len(self.values) == 2:
            return None
        self.values.append(value)
        return object()


@dataclass
class _Producer:
    sent: list[tuple[str, int, list[bytes | None]]] = field(default_factory=list)

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1, 2}

    def create_batch(self) -> _Batch:
        return _Batch()

    async def send_batch(self, batch: _Batch, topic: str, *, partition: int) -> Delivery:
        await asyncio.sleep(0)
        self.sent.append((topic, partition, batch.values))
        return asyncio.get_running_loop().create_future()


async def test_records_keep_their_order_in_a_partition_over_several_batches() -> None:
    producer, deliveries = _Producer(), list[Delivery]()
    records: list[Outgoing] = [("leads", None, b"%d" % number, None, number % 2) for number in range(10)]

    await hand_over(producer, records, deliveries.append)

    values = [[value for _, place, some in producer.sent if place == number for value in some] for number in (0, 1)]
    assert values == [[b"0", b"2", b"4", b"6", b"8"], [b"1", b"3", b"5", b"7", b"9"]]
    assert len(deliveries) == len(producer.sent) == 6


async def test_the_key_decides_where_no_partition_is_given() -> None:
    producer = _Producer()

    await hand_over(producer, [("leads", b"21", b"x", None, None), ("leads", b"21", b"y", None, None)], id)

    assert [values for _, _, values in producer.sent] == [[b"x", b"y"]]
