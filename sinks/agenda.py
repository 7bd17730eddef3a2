"""Commands that wait for their time: one at a time for each person, and nobody waits for somebody else."""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from leads.records import Cancellation, SendFollowUp
from messenger.events import person_key


@dataclass(slots=True, eq=False)
class Pending:
    """A command that is not settled yet.

    `ready_at` is when to look at it next; `refuted` the last attempt that is known to have reached nobody; `failures`
    counts the calls in a row that failed; `paced` says that `ready_at` is a turn given by the rate limit; `recalled`
    that a webhook told news of it since it was begun; `cancelled_by` is the offset of the event that cancelled it.
    """

    partition: int
    offset: int
    command: SendFollowUp
    ready_at: datetime
    cancel_reason: str | None = None
    refuted: int = 0
    failures: int = 0
    paced: bool = False
    recalled: bool = False
    cancelled_by: int | None = None

    @property
    def person(self) -> str:
        return person_key(self.command.page_id, self.command.psid)

    def __lt__(self, other: "Pending") -> bool:
        return (self.ready_at, self.offset) < (other.ready_at, other.offset)


@dataclass(slots=True)
class _Lane:
    """One person's commands. `current` was begun and keeps the others waiting until it is settled."""

    waiting: list[Pending] = field(default_factory=list)
    current: Pending | None = None
    running: bool = False

    def next(self) -> Pending | None:
        return self.current or (self.waiting[0] if self.waiting else None)

    def all(self) -> list[Pending]:
        return [*self.waiting, *filter(None, [self.current])]


class _Offsets:
    """Offsets begun and not finished, of one partition."""

    def __init__(self) -> None:
        self._begun: list[int] = []
        self._finished: set[int] = set()

    def __len__(self) -> int:
        return len(self._begun) - len(self._finished)

    def begin(self, offset: int) -> None:
        heapq.heappush(self._begun, offset)

    def finish(self, offset: int) -> None:
        self._finished.add(offset)
        while self._begun and self._begun[0] in self._finished:
            self._finished.discard(heapq.heappop(self._begun))

    def lowest(self) -> int | None:
        return self._begun[0] if self._begun else None


class Agenda:
    """Says which commands are due, at most one for each person at a time."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = defaultdict(_Lane)
        self._wakes: list[tuple[datetime, int, str]] = []
        self._order = count()
        self._offsets: dict[int, _Offsets] = defaultdict(_Offsets)
        self._cancelled: set[Pending] = set()

    def add(self, pending: Pending) -> None:
        """A command with a `cancel_reason` also cancels the same command where it waits, which is then due at once."""
        self._offsets[pending.partition].begin(pending.offset)
        lane = self._lanes[pending.person]
        if pending.cancel_reason is not None:
            self._cancel(lane, pending)
        heapq.heappush(lane.waiting, pending)
        self._wake(lane)

    def due(self, now: datetime) -> Iterator[Pending]:
        """The commands to look at now; each is then either postponed or finished."""
        while self._wakes and self._wakes[0][0] <= now:
            _, _, person = heapq.heappop(self._wakes)
            lane = self._lanes.get(person)
            pending = lane.next() if lane is not None and not lane.running else None
            if lane is None or pending is None or pending.ready_at > now:
                continue
            if lane.current is None:
                lane.current = heapq.heappop(lane.waiting)
            lane.running = True
            yield pending

    def postpone(self, pending: Pending, until: datetime) -> None:
        """Look at it again later; until then the person's other commands wait."""
        pending.ready_at = until
        lane = self._lanes[pending.person]
        lane.running = False
        self._wake(lane)

    def recall(self, person: str, now: datetime) -> None:
        """Look at once at what was begun for this person."""
        lane = self._lanes.get(person)
        if lane is not None and lane.current is not None:
            lane.current.recalled = True
            lane.current.ready_at = min(lane.current.ready_at, now)
            self._wake(lane)

    def cancel(self, person: str, reason: Cancellation, happened_at: datetime, *, offset: int, now: datetime) -> None:
        """The event at `offset` may cancel the person's commands from before it; those are then due at once."""
        lane = self._lanes.get(person)
        if lane is None:
            return
        for one in lane.all():
            if one.cancel_reason is None and reason in one.command.cancel_on and one.command.created_at <= happened_at:
                one.cancel_reason, one.cancelled_by, one.ready_at = reason, offset, min(one.ready_at, now)
                self._cancelled.add(one)
        heapq.heapify(lane.waiting)
        self._wake(lane)

    def finish(self, pending: Pending) -> None:
        self._cancelled.discard(pending)
        self._offsets[pending.partition].finish(pending.offset)
        lane = self._lanes[pending.person]
        lane.current, lane.running = None, False
        if lane.waiting:
            self._wake(lane)
        else:
            del self._lanes[pending.person]

    def unfinished(self) -> Mapping[int, int]:
        """The lowest offset that is not finished, by partition."""
        lowest = {partition: offsets.lowest() for partition, offsets in self._offsets.items()}
        return {partition: offset for partition, offset in lowest.items() if offset is not None}

    def unfinished_events(self) -> Mapping[int, int]:
        """The lowest offset, by partition, of an event that cancelled what is not finished."""
        lowest: dict[int, int] = {}
        for one in self._cancelled:
            if one.cancelled_by is not None:
                lowest[one.partition] = min(one.cancelled_by, lowest.get(one.partition, one.cancelled_by))
        return lowest

    def held(self, partition: int) -> int:
        return len(self._offsets[partition])

    def _cancel(self, lane: _Lane, by: Pending) -> None:
        for one in lane.all():
            if one.command.command_id == by.command.command_id:
                one.cancel_reason, one.ready_at = by.cancel_reason, min(one.ready_at, by.ready_at)
        heapq.heapify(lane.waiting)

    def _wake(self, lane: _Lane) -> None:
        pending = lane.next()
        if pending is not None and not lane.running:
            heapq.heappush(self._wakes, (pending.ready_at, next(self._order), pending.person))
