"""Conversions that wait to be reported: those of each Page in its turn, and no Page waits for another."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from aiokafka import TopicPartition

from messenger.events import PageId
from sinks.conversions.conversion import Conversion


@dataclass(slots=True, eq=False)
class Pending:
    """A conversion that is not settled yet, and the record that gave it. A call has at most so many, less
    after Meta has refused a larger one. `trace` is the span in which it was read."""

    place: TopicPartition
    offset: int
    conversion: Conversion
    most: int
    trace: bytes | None = None


@dataclass(slots=True, eq=False)
class Lane:
    """The conversions of one Page in one partition, oldest first; one call at a time. None is due before `ready_at`;
    `failures` counts the failed calls in a row."""

    partition: int
    page_id: PageId
    waiting: deque[Pending] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    ready_at: datetime | None = None
    failures: int = 0

    @property
    def name(self) -> str:
        return f"{self.partition}/{self.page_id}"

    def take(self) -> list[Pending]:
        """As many as may be reported together."""
        taken: list[Pending] = []
        most = self.waiting[0].most
        while self.waiting and len(taken) < (most := min(most, self.waiting[0].most)):
            taken.append(self.waiting.popleft())
        return taken

    def give_back(self, rest: Sequence[Pending]) -> None:
        self.waiting.extendleft(reversed(rest))


class Lanes:
    """Every pending conversion, once each."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[int, PageId], Lane] = {}
        self._held: defaultdict[TopicPartition, set[int]] = defaultdict(set)
        self._ids: set[str] = set()

    def __contains__(self, conversion_id: object) -> bool:
        return conversion_id in self._ids

    def add(self, pending: Pending) -> None:
        """Let it wait behind the others of its Page, unless it waits already."""
        conversion = pending.conversion
        if conversion.conversion_id in self._ids:
            return
        key = pending.place.partition, conversion.event.page_id
        self._lanes.setdefault(key, Lane(*key)).waiting.append(pending)
        self._ids.add(conversion.conversion_id)
        self._held[pending.place].add(pending.offset)

    def finish(self, settled: Iterable[Pending]) -> None:
        for pending in settled:
            self._ids.discard(pending.conversion.conversion_id)
            self._held[pending.place].discard(pending.offset)

    def __iter__(self) -> Iterator[Lane]:
        """The lanes that have something to do."""
        for key, lane in list(self._lanes.items()):
            if lane.task is None and not lane.waiting:
                del self._lanes[key]
            else:
                yield lane

    def unfinished(self) -> dict[TopicPartition, int]:
        return {place: min(offsets) for place, offsets in self._held.items() if offsets}

    def full(self, most: int) -> list[TopicPartition]:
        return [place for place, offsets in self._held.items() if len(offsets) >= most]
