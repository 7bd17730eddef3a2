"""Deliveries that wait for their turn at one destination: one at a time for each lead, the soonest first."""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from aiokafka import TopicPartition

from leads.records import FollowUpOutcome, Lead
from sinks.deliver.records import Delivery, Kind

Record = Lead | FollowUpOutcome | None


@dataclass(slots=True, eq=False)
class Item:
    """A delivery that is not settled: a record and its place, or an erasure.

    `last` is its entry in the book. It was due for the first time at `since`.
    """

    place: TopicPartition
    offset: int
    kind: Kind
    subject: str
    record: Record
    ready_at: datetime
    last: Delivery | None = None
    size: int = 0
    since: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.since = self.ready_at

    @property
    def lane(self) -> tuple[bool, str]:
        """An erasure follows the deliveries of its lead."""
        return self.kind == "outcome", self.subject


@dataclass(slots=True)
class _Lane:
    items: deque[Item] = field(default_factory=deque)
    running: bool = False


class Queue:
    """Says which delivery is next. Those of one lead keep their order: each waits until the one before is settled."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[bool, str], _Lane] = {}
        self._wakes: list[tuple[datetime, int, tuple[bool, str]]] = []
        self._order = count()

    def __len__(self) -> int:
        return sum(len(lane.items) for lane in self._lanes.values())

    def items(self) -> Iterator[Item]:
        return (item for lane in self._lanes.values() for item in lane.items)

    def add(self, item: Item) -> None:
        lane = self._lanes.setdefault(item.lane, _Lane())
        lane.items.append(item)
        if len(lane.items) == 1:
            self._wake(item)

    def take(self, now: datetime) -> Item | None:
        """The next delivery that is due; the caller then postpones or finishes it."""
        while self._wakes and self._wakes[0][0] <= now:
            _, _, key = heapq.heappop(self._wakes)
            lane = self._lanes.get(key)
            if lane is not None and not lane.running and lane.items[0].ready_at <= now:
                lane.running = True
                return lane.items[0]
        return None

    def postpone(self, item: Item, until: datetime) -> None:
        item.ready_at = until
        self._lanes[item.lane].running = False
        self._wake(item)

    def finish(self, item: Item) -> None:
        lane = self._lanes[item.lane]
        lane.running = False
        lane.items.popleft()
        if lane.items:
            self._wake(lane.items[0])
        else:
            del self._lanes[item.lane]

    def hasten(self, now: datetime) -> None:
        """Everything that waits is due now, the oldest first."""
        for lane in self._lanes.values():
            item = lane.items[0]
            if not lane.running and item.ready_at > item.since:
                item.ready_at = min(item.since, now)
                self._wake(item)

    def _wake(self, item: Item) -> None:
        heapq.heappush(self._wakes, (item.ready_at, next(self._order), item.lane))
