"""Several partitions as one log."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.replay.merge import in_order_of_receipt

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class ARecord:
    topic: str
    partition: int
    offset: int
    timestamp: int
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class PartitionsInMemory:
    """A consumer that gives a few records of each partition at a time."""

    logs: dict[TopicPartition, list[ARecord]]
    at_once: int
    positions: dict[TopicPartition, int] = field(default_factory=dict)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.positions = dict.fromkeys(partitions, 0)

    def seek(self, one: TopicPartition, offset: int) -> None:
        self.positions[one] = offset

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[ARecord]]:
        found = {}
        for partition in partitions:
            records = [record for record in self.logs[partition] if record.offset >= self.positions[partition]][
                : self.at_once
            ]
            if records:
                found[partition] = records
            # As a real one does behind a gap at the end.
            self.positions[partition] = records[-1].offset + 1 if len(records) == self.at_once else 1_000
        return found

    async def position(self, one: TopicPartition) -> int:
        return self.positions[one]


logs = st.lists(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), max_size=12), min_size=1, max_size=4)


def the_logs(steps: list[list[tuple[int, int]]]) -> dict[TopicPartition, list[ARecord]]:
    """Partitions whose offsets have gaps and whose times never run backwards."""
    made: dict[TopicPartition, list[ARecord]] = {}
    for partition, pairs in enumerate(steps):
        offset, time, records = 0, 0, list[ARecord]()
        for gap, pause in pairs:
            offset, time = offset + gap, time + pause
            records.append(ARecord("raw", partition, offset, time))
        made[TopicPartition("raw", partition)] = records
    return made


@given(logs, st.integers(1, 4), st.integers(0, 20))
async def test_every_wanted_record_comes_once_and_in_the_order_of_receipt(
    steps: list[list[tuple[int, int]]], at_once: int, stop: int
) -> None:
    made = the_logs(steps)
    counted: list[int] = []
    runs = in_order_of_receipt(
        PartitionsInMemory(made, at_once),
        dict.fromkeys(made, range(stop)),
        counted.append,
        lambda record: record.offset % 5,
    )

    found = [record async for run in runs for record in run]

    inside = [record for record in chain(*made.values()) if record.offset < stop]
    assert sorted(found, key=lambda record: (record.partition, record.offset)) == [
        record for record in inside if record.offset % 5
    ]
    assert [record.timestamp for record in found] == sorted(record.timestamp for record in found)
    assert sum(counted) == len(inside)


async def test_a_log_whose_stamps_go_back_is_read_to_its_end() -> None:
    """A broker's clock jumped ahead and back."""
    log = [ARecord("raw", 0, offset, stamp) for offset, stamp in enumerate([5, 9_000_000, 6, 7, 8])]
    made = {TopicPartition("raw", 0): log}
    runs = in_order_of_receipt(PartitionsInMemory(made, 3), dict.fromkeys(made, range(5)), lambda _: None, bool)

    found = [record async for run in runs for record in run]

    assert sorted(record.offset for record in found) == [0, 1, 2, 3, 4]


async def test_a_record_comes_when_ingest_sent_it_if_the_broker_stamped_it_hours_later() -> None:
    raw, other = TopicPartition("raw", 0), TopicPartition("raw", 1)
    jumped = ARecord("raw", 0, 0, 9_000_000, headers=(("sent-at", b"4"),))
    made = {raw: [jumped, ARecord("raw", 0, 1, 6)], other: [ARecord("raw", 1, 0, 5)]}
    runs = in_order_of_receipt(PartitionsInMemory(made, 3), dict.fromkeys(made, range(2)), lambda _: None, bool)

    found = [(record.partition, record.offset) async for run in runs for record in run]

    assert found == [(0, 0), (1, 0), (0, 1)]
