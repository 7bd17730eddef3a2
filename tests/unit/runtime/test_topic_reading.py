"""Topics are read up to an end and no further, also where their last offsets are a gap."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from aiokafka import TopicPartition

from runtime.topic_reading import catching_up, read_spans, whole_topic

pytestmark = pytest.mark.anyio
FIRST, SECOND = TopicPartition("leads", 0), TopicPartition("leads", 1)


@dataclass(frozen=True)
class ARecord:
    partition: int
    offset: int

    @property
    def key(self) -> bytes:
        return b"%d/%d" % (self.partition, self.offset)

    value = None


@dataclass
class ALog:
    """A consumer of partitions with records at these offsets; an end may lie behind the last of them."""

    offsets: dict[TopicPartition, Sequence[int]]
    ends: dict[TopicPartition, int]
    positions: dict[TopicPartition, int] = field(default_factory=dict)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.positions = dict.fromkeys(partitions, 0)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        self.positions |= dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: self.ends[partition] for partition in partitions}

    async def position(self, partition: TopicPartition) -> int:
        return self.positions[partition]

    async def getmany(self, *partitions: TopicPartition, **_: Any) -> dict[TopicPartition, list[ARecord]]:
        """One poll gives all that the partitions have, also what was written after their ends were asked for."""
        runs = {
            partition: [
                ARecord(partition.partition, offset)
                for offset in self.offsets[partition]
                if offset >= self.positions[partition]
            ]
            for partition in partitions or self.offsets
        }
        for partition, offsets in self.offsets.items():
            self.positions[partition] = max(self.ends[partition], *(offset + 1 for offset in offsets), 0)
        return {partition: records for partition, records in runs.items() if records}


async def test_a_topic_is_read_up_to_the_end_that_it_had() -> None:
    log = ALog({FIRST: (0, 1, 2), SECOND: (0,)}, {FIRST: 2, SECOND: 1})

    runs = [list(run) async for run in whole_topic(log, "leads", 2)]

    assert runs == [[ARecord(0, 0), ARecord(0, 1)], [ARecord(1, 0)]]


async def test_a_gap_before_the_end_does_not_hold_a_reader_up() -> None:
    log = ALog({FIRST: (0,)}, {FIRST: 9})

    assert [list(run) async for run in whole_topic(log, "leads", 1)] == [[ARecord(0, 0)]]


async def test_an_empty_topic_has_no_records() -> None:
    log = ALog({FIRST: ()}, {FIRST: 0})

    assert [run async for run in whole_topic(log, "leads", 1)] == []


async def test_a_topic_that_is_followed_loses_nothing_that_comes_while_its_end_is_asked_for() -> None:
    log, noted = ALog({FIRST: (0, 1, 2), SECOND: (0,)}, {FIRST: 2, SECOND: 1}), list[bytes | None]()
    log.assign([FIRST, SECOND])
    catch_up = catching_up(log, partial(log.end_offsets, [FIRST, SECOND]), lambda key, _: noted.append(key))

    await catch_up(to_end=True)
    log.offsets[SECOND] = (0, 1)
    await catch_up()

    assert noted == [b"0/0", b"0/1", b"0/2", b"1/0", b"1/1"]


async def test_spans_are_read_from_their_first_offset_and_empty_ones_are_left_out() -> None:
    log = ALog({FIRST: (3, 4, 5, 6), SECOND: (0,)}, {FIRST: 7, SECOND: 1})

    records = [record async for record in read_spans(log, {FIRST: range(4, 6), SECOND: range(1, 1)})]

    assert records == [ARecord(0, 4), ARecord(0, 5)]
