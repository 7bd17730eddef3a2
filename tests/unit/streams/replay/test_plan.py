"""The partitions that a replay reads."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndTimestamp

from messenger.events import PageId
from runtime.kafka import partition_of
from runtime.settings import Settings
from streams.replay.plan import Wanted, make_plan
from tests.builders import MINUTE, NOON

pytestmark = pytest.mark.anyio
SETTINGS = Settings(partitions=64)
PAGE, ALIAS, STRANGER = PageId("542998526103632"), PageId("1034"), PageId("77")


class ALog:
    async def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 9)

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        return dict.fromkeys(times, OffsetAndTimestamp(5, 0))


async def test_a_replay_of_a_page_reads_what_lies_under_its_other_ids_too() -> None:
    wanted = Wanted(begin=NOON, until=None, warm_up=timedelta(0), page_id=PAGE)
    aliases = {ALIAS: PAGE, STRANGER: PageId("78")}

    plan = await make_plan(cast(AIOKafkaConsumer, ALog()), SETTINGS, wanted, NOON + MINUTE, aliases)

    expected = {partition_of(page_id.encode(), 64) for page_id in (PAGE, ALIAS)}
    assert len(expected) == 2
    assert {partition.partition for partition in plan.spans} == expected
