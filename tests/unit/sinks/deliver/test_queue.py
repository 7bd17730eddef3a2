"""The order of the deliveries to one destination."""

from datetime import timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition

from sinks.consume import Received
from sinks.deliver.destination import Destination
from sinks.deliver.ledger import Book
from sinks.deliver.next_step import DeliverLimits, Fortune
from sinks.deliver.outlet import Line, Outlet
from sinks.deliver.queue import Item, Queue
from tests.builders import NOON, a_lead
from tests.receiver import SECRET

PLACE = TopicPartition("leads", 0)
_SECOND = timedelta(seconds=1)


def an_item(lead_id: str, offset: int, after: int = 0) -> Item:
    return Item(PLACE, offset, "lead", lead_id, a_lead(lead_id=lead_id), NOON + after * _SECOND)


def test_a_lead_waits_for_its_earlier_revision_and_no_other_lead_does() -> None:
    queue = Queue()
    first, second, other = an_item("l1", 0), an_item("l1", 1), an_item("l2", 2)
    for item in (first, second, other):
        queue.add(item)

    assert [queue.take(NOON), queue.take(NOON), queue.take(NOON)] == [first, other, None]
    queue.postpone(first, NOON + _SECOND)
    assert queue.take(NOON) is None
    assert queue.take(NOON + _SECOND) is first
    queue.finish(first)

    assert queue.take(NOON + _SECOND) is second
    assert len(queue) == 2


def test_when_a_destination_is_back_the_oldest_come_first() -> None:
    queue = Queue()
    old, new = an_item("l1", 0), an_item("l2", 1, after=5)
    queue.add(old)
    assert queue.take(NOON) is old
    queue.postpone(old, NOON + 3600 * _SECOND)
    queue.add(new)

    queue.hasten(NOON + 10 * _SECOND)

    assert [queue.take(NOON + 10 * _SECOND) for _ in range(3)] == [old, new, None]


def test_an_erasure_follows_the_deliveries_of_its_lead_and_no_outcome() -> None:
    lead, erasure = an_item("l1", 0), Item(PLACE, -1, "erasure", "l1", None, NOON)

    assert lead.lane == erasure.lane
    assert Item(PLACE, 0, "outcome", "l1", None, NOON).lane != lead.lane


@pytest.mark.parametrize("limit", [{"held_per_partition": 2}, {"held_bytes": 2000}])
def test_a_destination_reads_on_once_it_holds_less_than_its_limits(limit: dict[str, Any]) -> None:
    limits = DeliverLimits(**limit)
    client: Any = None
    destination = Destination(name="crm", url="https://crm.test/", secrets=(SECRET,))
    outlet, line = Outlet(destination, client, limits, Fortune(limits, lambda: 0.5)), Line(PLACE, 0)
    outlet.lines[PLACE] = line
    for offset in range(2):
        assert outlet.has_room(line)
        lead = a_lead(lead_id=f"l{offset}", closed=True)
        outlet.feed(line, [Received(PLACE, offset, lead, 1000)], offset + 1, Book(), NOON)
    assert not outlet.has_room(line)

    item = outlet.queue.take(NOON)
    assert item is not None
    outlet.finish(item)

    assert outlet.has_room(line)
