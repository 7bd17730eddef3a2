"""How far the join is, by the splitter's reports and the join's committed offsets."""

from collections.abc import Collection, Mapping
from datetime import timedelta

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from leads.facts import Progress
from sinks.send.join_progress import JoinProgress
from tests.unit.sinks.fakes import NOON, Clock

pytestmark = pytest.mark.anyio

PLACE = TopicPartition("messenger-events", 0)
SECOND = timedelta(seconds=1)


class Offsets:
    def __init__(self) -> None:
        self.offset: int | None = None

    async def __call__(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        if self.offset is None:
            raise KafkaError
        return dict.fromkeys(partitions, self.offset)


async def _progress(offsets: Offsets, *reports: Progress) -> JoinProgress:
    progress = JoinProgress(offsets, Clock())
    progress.hold([PLACE])
    for offset, report in enumerate(reports):
        progress.note(PLACE, offset, report)
    await progress.look()
    return progress


@pytest.mark.parametrize(("committed", "passed"), [(None, False), (0, False), (1, True), (9, True)])
async def test_a_report_counts_once_the_join_has_committed_it(committed: int | None, *, passed: bool) -> None:
    offsets = Offsets()
    offsets.offset = committed

    progress = await _progress(offsets, Progress(((3, NOON),)))

    assert progress.has_passed(PLACE, 3, NOON) is passed
    assert not progress.has_passed(PLACE, 3, NOON + SECOND)


async def test_the_report_of_another_raw_partition_says_nothing() -> None:
    offsets = Offsets()
    offsets.offset = 1

    progress = await _progress(offsets, Progress(((3, NOON),)))

    assert not progress.has_passed(PLACE, 4, NOON)


async def test_a_time_that_is_withdrawn_counts_no_more() -> None:
    offsets = Offsets()
    offsets.offset = 2

    progress = await _progress(offsets, Progress(((3, NOON + SECOND),)), Progress(((3, NOON),)))

    assert not progress.has_passed(PLACE, 3, NOON + SECOND)


async def test_what_was_known_stays_known_while_kafka_does_not_answer() -> None:
    offsets = Offsets()
    offsets.offset = 1
    progress = await _progress(offsets, Progress(((3, NOON),)))

    offsets.offset = None
    await progress.look()

    assert progress.has_passed(PLACE, 3, NOON)


async def test_a_new_assignment_forgets_what_was_known() -> None:
    offsets = Offsets()
    offsets.offset = 1
    progress = await _progress(offsets, Progress(((3, NOON),)))

    progress.hold([PLACE])

    assert not progress.has_passed(PLACE, 3, NOON)


async def test_a_look_is_due_twice_a_second_and_only_when_somebody_asks() -> None:
    clock = Clock()
    progress = JoinProgress(Offsets(), clock)
    progress.hold([PLACE])
    before = progress.is_due()
    progress.has_passed(PLACE, 0, NOON)
    asked = progress.is_due()
    await progress.look()
    progress.has_passed(PLACE, 0, NOON)
    at_once = progress.is_due()
    clock.advance(timedelta(milliseconds=500))

    assert (before, asked, at_once, progress.is_due()) == (False, True, False, True)
