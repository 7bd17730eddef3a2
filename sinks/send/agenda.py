"""Commands that wait for their time: one at a time for each person, and nobody waits for somebody else."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from aiokafka import TopicPartition

from leads.records import SendFollowUp
from messenger.events import person_key


@dataclass(frozen=True, slots=True)
class Horizon:
    """Where the topics ended at a time by our own clock: what cancelled a command before it lies before these."""

    seen_at: datetime
    ends: Mapping[TopicPartition, int]

    def is_of(self, now: datetime, most: timedelta) -> bool:
        """Whether it was seen no longer than `most` ago."""
        return abs(now - self.seen_at) <= most


@dataclass(slots=True, eq=False)
class Pending:
    """A command that is not settled yet.

    `ready_at` is when to look at it next; `refuted` the last attempt that is known to have reached nobody; `failures`
    counts the calls in a row that failed; `paced` says that `ready_at` is a turn given by the rate limit; `recalled`
    that a webhook told news of it since it was begun; `cancelled_by` is the offset of the event that cancelled it;
    `horizon` is how far must be read before it is sent.
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
    horizon: Horizon | None = None

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
        self._offsets[pending.partition].begin(pending.offset)
        lane = self._lanes[pending.person]
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

    def cancel(self, by: SendFollowUp, now: datetime) -> bool:
        """Cancel the command that this record cancels, so that it is due at once; whether it waits here."""
        person, reason = person_key(by.page_id, by.psid), by.cancel_reason or ""
        return bool(self._cancel(person, lambda one: one.command.command_id == by.command_id, reason, now))

    def cancel_by(
        self, person: str, cancels: Callable[[SendFollowUp], str | None], *, offset: int, now: datetime
    ) -> None:
        """The event at `offset` may cancel what waits for a person: `cancels` gives the reason."""
        lane = self._lanes.get(person)
        for one in lane.all() if lane is not None else ():
            reason = cancels(one.command)
            if reason is not None and one.cancel_reason is None:
                one.cancelled_by = offset
                self._cancelled.add(one)
                self._cancel(person, one.__eq__, reason, now)

    def people_of(self, page_id: str, partition: int) -> list[str]:
        """The people of a Page for whom a command of this partition waits."""
        of_page = [(person, lane) for person, lane in self._lanes.items() if person.startswith(person_key(page_id, ""))]
        return [person for person, lane in of_page if any(one.partition == partition for one in lane.all())]

    def erase(self, person: str, until: datetime, reason: str, *, offset: int, now: datetime) -> None:
        """The event at `offset` ends all commands of the person up to a time, whatever they wait for."""
        lane = self._lanes.get(person)
        if lane is None:
            return
        for one in lane.all():
            if one.command.created_at <= until:
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

    def _cancel(self, person: str, meant: Callable[[Pending], bool], reason: str, now: datetime) -> list[Pending]:
        lane = self._lanes.get(person)
        cancelled = [one for one in lane.all() if meant(one)] if lane is not None else []
        for one in cancelled:
            one.cancel_reason, one.ready_at = one.cancel_reason or reason, min(one.ready_at, now)
        if lane is not None and cancelled:
            heapq.heapify(lane.waiting)
            self._wake(lane)
        return cancelled

    def _wake(self, lane: _Lane) -> None:
        pending = lane.next()
        if pending is not None and not lane.running:
            heapq.heappush(self._wakes, (pending.ready_at, next(self._order), pending.person))
